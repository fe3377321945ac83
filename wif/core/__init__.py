"""Values and rules of tokens and issuers. Pure: no file, socket, clock, environment or randomness."""
