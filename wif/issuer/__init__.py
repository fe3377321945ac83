"""Publishing an issuer's documents: gather the keys, write every target, verify from outside, rotate, watch."""
