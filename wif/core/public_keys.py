"""Public keys of an issuer: read from PEM files and key sets, and written as Kubernetes writes them."""
