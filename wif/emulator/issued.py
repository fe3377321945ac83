"""What the local STS hands out: opaque credentials that it can read back, and ES256 tokens that others can verify.

Nothing issued is remembered. An opaque credential carries its own content under a MAC of a key that lives as long
as this process, so ten million of them take no memory and none is ever forgotten too early. They are no secrets to
their holder and worthless everywhere else; each begins with a plain mark.
"""

from __future__ import annotations

__all__ = ["AWS_KEY_ID_PREFIX", "GOOGLE_ISSUER", "MARK", "Seal", "TokenSigner", "azure_issuer"]

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from wif.core.jws import jwk_from_public_key
from wif.emulator.wire import encode_json

MARK = "wif-local-sts"
"""Stands in every opaque credential, where anybody can read it."""

AWS_KEY_ID_PREFIX = "ASIAWIFLOCAL"
"""Access key ids of session credentials begin with ASIA; the rest of the prefix is the mark."""

GOOGLE_ISSUER = "https://accounts.google.invalid"
"""``iss`` of Google ID tokens made here; its keys are at ``/oauth2/v3/certs``."""

_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" * 8
_MAC_BYTES = 16
_MAX_SEALED_CHARACTERS = 64 * 1024


def azure_issuer(tenant_id: str) -> str:
    """``iss`` of Azure tokens made here; its keys are at ``/{tenant}/discovery/v2.0/keys``."""
    return f"https://sts.windows.invalid/{tenant_id}/"


class Seal:
    """Makes opaque credentials and opens its own, and only its own."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def seal(self, kind: str, content: Mapping[str, Any]) -> str:
        """An opaque text of a kind that :meth:`open` turns back."""
        body = base64.urlsafe_b64encode(encode_json(content)).rstrip(b"=")
        return f"{body.decode('ascii')}.{self._mac(kind, body)}"

    def open(self, kind: str, text: str) -> Mapping[str, Any] | None:
        """The content, or None for anything that this process has not sealed as this kind."""
        body, dot, mac = text.rpartition(".")
        if not dot or len(text) > _MAX_SEALED_CHARACTERS or not text.isascii():
            return None
        if not hmac.compare_digest(self._mac(kind, body.encode("ascii")), mac):
            return None
        try:
            content: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (binascii.Error, ValueError):  # pragma: no cover - nobody but this class can have made the MAC
            return None
        return content

    def aws_key_id(self) -> str:
        """A fresh access key id: 20 characters of the alphabet that AWS uses."""
        return AWS_KEY_ID_PREFIX + secrets.token_bytes(8).translate(_BASE32).decode("ascii")

    def aws_secret(self, key_id: str) -> str:
        """The 40 characters of the secret access key that belongs to a key id."""
        digest = blake2b(key_id.encode(), key=self._key, digest_size=30, person=b"aws-secret").digest()
        return base64.b64encode(digest).decode("ascii")

    def _mac(self, kind: str, body: bytes) -> str:
        # keyed BLAKE2b: a MAC by itself, and a third of the time of OpenSSL's HMAC on texts of this size
        digest = blake2b(body, key=self._key, digest_size=_MAC_BYTES, person=kind.encode("ascii")).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


class TokenSigner:
    """An ES256 key of this process and the documents that let others verify what it signs."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public_key = self._key.public_key()
        numbers = self.public_key.public_numbers()
        self.kid = f"{MARK}-{name}-{hashlib.sha256(b'%x' % numbers.x).hexdigest()[:12]}"
        self.jwks: Mapping[str, Any] = {"keys": [dict(jwk_from_public_key(self.public_key, kid=self.kid, alg="ES256"))]}
        """The key set to publish."""

        self._header = _base64url(encode_json({"alg": "ES256", "kid": self.kid, "typ": "JWT"})) + b"."

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A compact JWS with ``typ: JWT``. The key is called directly: this is half of an exchange's time."""
        signing_input = self._header + _base64url(encode_json(claims))
        r, s = decode_dss_signature(self._key.sign(signing_input, _ECDSA_SHA256))
        return (signing_input + b"." + _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode("ascii")


_ECDSA_SHA256 = ec.ECDSA(SHA256())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
