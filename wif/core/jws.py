"""Signed tokens and keys: compact JWS (RFC 7515), JWK (RFC 7517, 7518) and Kubernetes' key ids.

Only signing, verifying and the forms of keys; whose key it is and what the claims mean is for the caller.
Everything doubtful is refused: a member given twice, base64url that is not the one canonical form, ``crit``,
algorithms other than RS* and ES*, private or weak keys, keys that say they are for something else.
An exchange never imports this module: cryptography costs 98 ms and 10 MiB.
"""

from __future__ import annotations

__all__ = [
    "ALGORITHMS",
    "MIN_RSA_BITS",
    "PrivateKey",
    "PublicKey",
    "UnverifiedJws",
    "VerifiedJws",
    "algorithm_of",
    "jwk_from_public_key",
    "key_id",
    "parse_json",
    "private_members",
    "public_key_from_jwk",
    "sign",
    "split_compact",
    "verify",
]

import hashlib
import json
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wif.core.documents import parse_json, private_members
from wif.errors import ConfigurationError, TokenError

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
"""A key that can verify here."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
"""A key that can sign here."""

MIN_RSA_BITS = 2048
"""RFC 7518 section 3.3."""

_MAX_RSA_BITS = 16384
"""OpenSSL's own limit; a longer modulus only costs time."""

_MAX_RSA_EXPONENT = 2**31 - 1
"""What Go's crypto/rsa, and with it Kubernetes, accepts; a longer exponent only costs time."""


class _Algorithm(NamedTuple):
    digest: HashAlgorithm
    curve: str
    """Name of the curve in a JWK, empty for RSA."""
    field_bytes: int


_ALGORITHMS: Mapping[str, _Algorithm] = {
    "RS256": _Algorithm(SHA256(), "", 0),
    "RS384": _Algorithm(SHA384(), "", 0),
    "RS512": _Algorithm(SHA512(), "", 0),
    "ES256": _Algorithm(SHA256(), "P-256", 32),
    "ES384": _Algorithm(SHA384(), "P-384", 48),
    "ES512": _Algorithm(SHA512(), "P-521", 66),
}

ALGORITHMS = frozenset(_ALGORITHMS)
"""What AWS verifies, and Kubernetes signs with RSA and EC keys; GCP and Azure verify fewer."""


class _Curve(NamedTuple):
    curve: ec.EllipticCurve
    algorithm: str
    field_bytes: int


_CURVES: Mapping[str, _Curve] = {
    "P-256": _Curve(ec.SECP256R1(), "ES256", 32),
    "P-384": _Curve(ec.SECP384R1(), "ES384", 48),
    "P-521": _Curve(ec.SECP521R1(), "ES512", 66),
}

_CURVE_NAMES = {row.curve.name: name for name, row in _CURVES.items()}

_PADDING = PKCS1v15()

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedJws:
    """A compact JWS taken apart; nothing of it is verified."""

    unverified_header: Mapping[str, Any]
    unverified_claims: Mapping[str, Any] = field(repr=False)
    payload: bytes = field(repr=False)
    """The bytes that ``unverified_claims`` were read from."""
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    algorithm: str
    """The header's ``alg``."""
    key_id: str | None
    """The header's ``kid``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedJws:
    """What a key has signed. The times, issuer and audience in it are not checked yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    algorithm: str
    key_id: str | None


# -- tokens ----------------------------------------------------------------------------------------------------


def split_compact(token: str | bytes) -> UnverifiedJws:
    """Take a compact JWS with a JSON object as payload apart, without verifying it.

    The token must be given exactly: white space around it, padding and any other spelling of the same bytes are
    refused. How large it may be is for the caller to check before.

    Raises:
        TokenError: token-malformed.
    """
    try:
        raw = token.encode("ascii") if isinstance(token, str) else token
    except UnicodeEncodeError:
        _malformed("holds letters outside ASCII")
    parts = raw.split(b".")
    if len(parts) != 3:
        _malformed(f"has {len(parts)} dot-separated part(s), expected the three of a compact JWS")
    header_part, payload_part, signature_part = parts
    header = _json_object(_from_base64url(header_part, "header"), "header")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        _malformed("has no alg in its header")
    if kid is not None and not isinstance(kid, str):
        _malformed("has a kid in its header that is not a string")
    for name in ("crit", "b64"):  # RFC 7515 section 4.1.11: not understood, so not accepted
        if name in header:
            _malformed(f"has the member {name} in its header, which is not supported")
    payload = _from_base64url(payload_part, "payload")
    return UnverifiedJws(
        unverified_header=header,
        unverified_claims=_json_object(payload, "payload"),
        payload=payload,
        signing_input=raw[: len(header_part) + 1 + len(payload_part)],
        signature=_from_base64url(signature_part, "signature"),
        algorithm=algorithm,
        key_id=kid,
    )


def verify(jws: UnverifiedJws, key: PublicKey, algorithm: str) -> VerifiedJws:
    """Verify the signature with this key and this algorithm, which the token's header must name too.

    Args:
        algorithm: what the caller accepts from this key, never simply what the token says. The header's own
            ``alg`` is fine only after the caller has found it in its own list.

    Raises:
        TokenError: algorithm-unsupported, signature-invalid.
    """
    row = _ALGORITHMS.get(algorithm)
    if row is None or jws.algorithm != algorithm:
        raise TokenError(
            f"the token is signed with {jws.algorithm[:32]!r}, expected {algorithm!r}", code="algorithm-unsupported"
        )
    _check_key(key, algorithm, row)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(jws.signature, jws.signing_input, _PADDING, row.digest)
        else:
            size = row.field_bytes
            if len(jws.signature) != 2 * size:
                raise InvalidSignature
            r, s = int.from_bytes(jws.signature[:size], "big"), int.from_bytes(jws.signature[size:], "big")
            key.verify(encode_dss_signature(r, s), jws.signing_input, ec.ECDSA(row.digest))
    except InvalidSignature:
        raise TokenError("the signature of the token does not fit the key", code="signature-invalid") from None
    return VerifiedJws(
        header=jws.unverified_header, claims=jws.unverified_claims, algorithm=algorithm, key_id=jws.key_id
    )


def sign(
    claims: Mapping[str, Any],
    private_key: PrivateKey,
    kid: str | None,
    alg: str = "RS256",
    headers: Mapping[str, Any] | None = None,
) -> str:
    """Sign claims as a compact JWS. ECDSA is deterministic (RFC 6979): the same input gives the same token.

    Args:
        kid: None leaves it out.
        headers: further header members, after ``alg`` and ``kid``; they may not replace these.
    """
    row = _ALGORITHMS.get(alg)
    if row is None:
        _unusable_key(f"cannot sign with the algorithm {alg!r}, expected one of {sorted(ALGORITHMS)}")
    _check_key(private_key.public_key(), alg, row)
    header = {"alg": alg} | ({} if kid is None else {"kid": kid})
    header = {**header, **{name: value for name, value in (headers or {}).items() if name not in ("alg", "kid")}}
    signing_input = _to_base64url(_encode_json(header)) + b"." + _to_base64url(_encode_json(claims))
    if isinstance(private_key, rsa.RSAPrivateKey):
        signature = private_key.sign(signing_input, _PADDING, row.digest)
    else:
        der = private_key.sign(signing_input, ec.ECDSA(row.digest, deterministic_signing=True))
        r, s = decode_dss_signature(der)
        signature = r.to_bytes(row.field_bytes, "big") + s.to_bytes(row.field_bytes, "big")
    return (signing_input + b"." + _to_base64url(signature)).decode("ascii")


def _check_key(key: PublicKey, algorithm: str, row: _Algorithm) -> None:
    """Refuse a key of another kind than the algorithm: the two are confused in half of all JWT accidents."""
    if isinstance(key, rsa.RSAPublicKey):
        if row.curve:
            raise TokenError(f"the key is RSA, which cannot verify {algorithm}", code="algorithm-unsupported")
    elif _CURVE_NAMES.get(key.curve.name) != row.curve:
        raise TokenError(
            f"the key is EC {key.curve.name}, which cannot verify {algorithm}", code="algorithm-unsupported"
        )


# -- keys ------------------------------------------------------------------------------------------------------


def key_id(public_key: PublicKey) -> str:
    """Kubernetes' ``kid``: base64url without padding of SHA-256 of the DER SubjectPublicKeyInfo.

    Not RFC 7638. Compute it for a key from a PEM file; never require it of a served key set, where an external
    signer or a managed cluster chooses freely.
    """
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _to_base64url(hashlib.sha256(der).digest()).decode("ascii")


def algorithm_of(public_key: PublicKey) -> str:
    """The algorithm with which Kubernetes signs by a key of this kind: RS256, ES256, ES384 or ES512."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return "RS256"
    name = _CURVE_NAMES.get(public_key.curve.name)
    if name is None:
        _unusable_key(f"is on the curve {public_key.curve.name}, expected one of {sorted(_CURVES)}")
    return _CURVES[name].algorithm


def jwk_from_public_key(key: PublicKey, kid: str | None = None, alg: str | None = None) -> dict[str, str]:
    """The JWK of a key, with the members and in the order of Kubernetes' own key set.

    ``kid`` and ``alg`` default to what Kubernetes writes.
    """
    default = algorithm_of(key)
    kid = key_id(key) if kid is None else kid
    alg = default if alg is None else alg
    if isinstance(key, rsa.RSAPublicKey):
        rsa_numbers = key.public_numbers()
        return {
            "use": "sig",
            "kty": "RSA",
            "kid": kid,
            "alg": alg,
            "n": _integer(rsa_numbers.n),
            "e": _integer(rsa_numbers.e),
        }
    numbers = key.public_numbers()
    curve = _CURVE_NAMES[key.curve.name]
    size = _CURVES[curve].field_bytes
    return {
        "use": "sig",
        "kty": "EC",
        "kid": kid,
        "crv": curve,
        "alg": alg,
        "x": _integer(numbers.x, size),
        "y": _integer(numbers.y, size),
    }


def public_key_from_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """The key of a JWK that is there to verify signatures.

    Refused: private members, ``use`` other than sig, ``key_ops`` without verify, an ``alg`` that contradicts the
    kind of key, RSA under 2048 bits, points off the curve, base64url that is not canonical.

    Raises:
        ConfigurationError: key-invalid.
    """
    private = private_members(jwk)
    if private:
        _unusable_key(f"carries the private member(s) {', '.join(private)}")
    if jwk.get("use", "sig") != "sig":
        _unusable_key("has a use other than 'sig'")
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        _unusable_key("has key_ops without 'verify'")
    kind = jwk.get("kty")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        _unusable_key(f"has the kty {_shown(kind)}, expected one of {sorted(_READERS)}")
    key = reader(jwk)
    algorithm = jwk.get("alg")
    if algorithm is not None:
        row = _ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
        if row is None or row.curve != ("" if isinstance(key, rsa.RSAPublicKey) else jwk["crv"]):
            _unusable_key(f"has the alg {_shown(algorithm)}, which is not one of a key of this kind")
    return key


def _rsa_key(jwk: Mapping[str, Any]) -> PublicKey:
    n, e = _number(jwk, "n"), _number(jwk, "e")
    if not MIN_RSA_BITS <= n.bit_length() <= _MAX_RSA_BITS:
        _unusable_key(f"has an RSA modulus of {n.bit_length()} bits, expected {MIN_RSA_BITS} to {_MAX_RSA_BITS}")
    if not 3 <= e <= _MAX_RSA_EXPONENT or e % 2 == 0 or n % 2 == 0:
        _unusable_key("has RSA numbers that make no key")
    return rsa.RSAPublicNumbers(e, n).public_key()


def _ec_key(jwk: Mapping[str, Any]) -> PublicKey:
    name = jwk.get("crv")
    row = _CURVES.get(name) if isinstance(name, str) else None
    if row is None:
        _unusable_key(f"has the crv {_shown(name)}, expected one of {sorted(_CURVES)}")
    x, y = _number(jwk, "x", row.field_bytes), _number(jwk, "y", row.field_bytes)
    try:
        return ec.EllipticCurvePublicNumbers(x, y, row.curve).public_key()
    except ValueError:
        _unusable_key(f"has a point that is not on {name}")


_READERS: Mapping[str, Callable[[Mapping[str, Any]], PublicKey]] = {"EC": _ec_key, "RSA": _rsa_key}


def _number(jwk: Mapping[str, Any], name: str, size: int | None = None) -> int:
    value = jwk.get(name)
    if not isinstance(value, str) or not value.isascii():
        _unusable_key(f"has no usable member {name}")
    decoded = _canonical(value.encode("ascii"))
    if not decoded or (size is not None and len(decoded) != size):
        _unusable_key(f"has a member {name} that is not canonical base64url" + (f" of {size} bytes" if size else ""))
    return int.from_bytes(decoded, "big")


def _integer(value: int, size: int | None = None) -> str:
    data = value.to_bytes((value.bit_length() + 7) // 8 if size is None else size, "big")
    return _to_base64url(data).decode("ascii")


def _unusable_key(what: str) -> NoReturn:
    raise ConfigurationError(f"the key {what}", code="key-invalid")


def _shown(value: object) -> str:
    return repr(value[:32]) if isinstance(value, str) else "nothing" if value is None else type(value).__name__


# -- base64url and JSON ------------------------------------------------------------------------------------------


def _to_base64url(data: bytes) -> bytes:
    return b2a_base64(data, newline=False).translate(_TO_URLSAFE).rstrip(b"=")


def _canonical(part: bytes) -> bytes | None:
    """The bytes, or None where ``part`` is not their one canonical spelling."""
    try:
        data = a2b_base64(part.translate(_TO_STANDARD) + b"=" * (-len(part) % 4))
    except Base64Error:
        return None
    # There and back: refuses foreign letters, padding, '+' and '/', and stray bits in the last letter.
    return data if _to_base64url(data) == part else None


def _from_base64url(part: bytes, name: str) -> bytes:
    data = _canonical(part)
    if data is None:
        _malformed(f"has a {name} that is not canonical base64url")
    return data


def _encode_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def _json_object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except ValueError as error:
        _malformed(f"has a {name} that is not JSON: {error}")
    if not isinstance(value, dict):
        _malformed(f"has a {name} that is not a JSON object")
    return value


def _malformed(what: str) -> NoReturn:
    raise TokenError(f"the token {what}", code="token-malformed")
