"""Public keys without private halves, made by counting: thousands of them cost nothing."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from wif.core.public_keys import IssuerKey


def rsa_key(number: int, kid: str | None = None, alg: str | None = None) -> IssuerKey:
    """The RSA key of a number; another number is other material."""
    public = rsa.RSAPublicNumbers(65537, (1 << 2047) + 2 * number + 1).public_key()
    key = IssuerKey.from_public_key(public, kid)
    return key if alg is None else IssuerKey.from_jwk({**key.jwk, "alg": alg})


def ec_key(kid: str | None = None) -> IssuerKey:
    """A P-256 key: AWS and Google verify it, Entra does not."""
    return IssuerKey.from_public_key(ec.derive_private_key(7, ec.SECP256R1()).public_key(), kid)


def ml_dsa_key(kid: str) -> IssuerKey:
    """A key that no cloud verifies."""
    return IssuerKey.from_jwk({"use": "sig", "kty": "AKP", "kid": kid, "alg": "ML-DSA-44", "pub": "A" * 1750})
