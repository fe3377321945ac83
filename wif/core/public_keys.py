"""Public keys of an issuer: read from PEM files and key sets, and written as Kubernetes writes them.

A key is its id and its material, which is compared by its RFC 7638 fingerprint. What stands in a source is read
strictly, what stands at a target is only observed. Private keys are refused before anything of them is parsed;
Kubernetes would let one contribute its public half, and so invite it onto the machine that publishes.
"""

from __future__ import annotations

__all__ = [
    "MAX_KEY_ID_LENGTH",
    "IssuerKey",
    "ObservedEntry",
    "ObservedKeys",
    "key_set_bytes",
    "observe_key_set",
    "read_key_set",
    "read_public_keys",
]

import hashlib
import json
import re
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from wif.core.discovery import encode_document
from wif.core.documents import parse_json, private_members
from wif.core.jws import PublicKey, algorithm_of, jwk_from_public_key, public_key_from_jwk
from wif.errors import ConfigurationError, WifError

MAX_KEY_ID_LENGTH = 1024
"""In characters; what Kubernetes takes from an external signer (KEP-740)."""

_ALL = ("aws", "gcp", "azure")

_CLOUDS: Mapping[str, tuple[str, ...]] = {
    "RS256": _ALL,
    "RS384": ("aws",),
    "RS512": ("aws",),
    "ES256": ("aws", "gcp"),
    "ES384": ("aws",),
    "ES512": ("aws",),
}
"""Who verifies which algorithm. Sources: botocore's ``sts`` model (WebIdentityToken), Google's reference of
workload identity pool providers, Entra's considerations for federated identity credentials."""

_MATERIAL: Mapping[str, tuple[str, ...]] = {
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "AKP": ("alg", "kty", "pub"),
}
"""What makes the fingerprint, in the order of RFC 7638 section 3.2."""

_ML_DSA_BYTES: Mapping[str, int] = {"ML-DSA-44": 1312, "ML-DSA-65": 1952, "ML-DSA-87": 2592}
"""Sizes of public keys, FIPS 204 table 2."""

_ML_DSA_LAST_ARC: Mapping[str, int] = {"ML-DSA-44": 17, "ML-DSA-65": 18, "ML-DSA-87": 19}
"""Below the object identifier 2.16.840.1.101.3.4.3 (RFC 9881)."""

_MAX_DEPTH = 8
"""A JWK nests two deep; what nests deeper could be read and not be written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerKey:
    """A key that an issuer signs with, as it is published."""

    key_id: str
    algorithm: str
    jwk: Mapping[str, str] = field(repr=False, hash=False)
    """The members that Kubernetes writes, in its order, and nothing else."""
    fingerprint: str
    """RFC 7638, SHA-256: equal for equal material, whatever the id."""
    public_key: PublicKey | None = field(default=None, repr=False, compare=False)
    """None for ML-DSA, which is published and cannot be verified with here."""

    @classmethod
    def from_public_key(cls, key: PublicKey, key_id: str | None = None) -> IssuerKey:
        """The key as Kubernetes publishes it.

        Args:
            key_id: the ``kid``; None computes Kubernetes' own.

        Raises:
            ConfigurationError: key-invalid.
        """
        return cls.from_jwk(jwk_from_public_key(key, key_id))

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> IssuerKey:
        """The key of a JWK; members that Kubernetes does not write are left out.

        Raises:
            ConfigurationError: key-private, key-invalid.
        """
        kid, kty = jwk.get("kid"), jwk.get("kty")
        private = private_members(jwk)
        if private:
            raise ConfigurationError(
                f"the key {_shown(kid)} carries the private member(s) {', '.join(private)}",
                code="key-private",
                hint="take the private key away from this machine and treat it as lost: rotate it",
            )
        if not isinstance(kid, str) or not kid or len(kid) > MAX_KEY_ID_LENGTH or not kid.isprintable():
            _invalid(f"the key {_shown(kid)} has no kid that is 1 to {MAX_KEY_ID_LENGTH} printable characters")
        if kty == "AKP":
            return cls._from_ml_dsa(jwk, kid)
        try:
            key = public_key_from_jwk(jwk)
        except ConfigurationError as error:
            _invalid(f"{_shown(kid)}: {error.message}")
        plain = jwk_from_public_key(key, kid, jwk.get("alg") or algorithm_of(key))
        return cls(key_id=kid, algorithm=plain["alg"], jwk=plain, fingerprint=_fingerprint(plain), public_key=key)

    @classmethod
    def _from_ml_dsa(cls, jwk: Mapping[str, Any], kid: str) -> IssuerKey:
        algorithm, pub = jwk.get("alg"), jwk.get("pub")
        size = _ML_DSA_BYTES.get(algorithm) if isinstance(algorithm, str) else None
        if size is None:
            _invalid(f"the key {_shown(kid)} of the kty 'AKP' has an alg other than {', '.join(_ML_DSA_BYTES)}")
        if jwk.get("use", "sig") != "sig":
            _invalid(f"the key {_shown(kid)} has a use other than 'sig'")
        if not isinstance(pub, str) or not _is_canonical(pub, size):
            _invalid(f"the key {_shown(kid)} has no member pub that is canonical base64url of {size} bytes")
        plain = {"use": "sig", "kty": "AKP", "kid": kid, "alg": str(algorithm), "pub": pub}
        return cls(key_id=kid, algorithm=plain["alg"], jwk=plain, fingerprint=_fingerprint(plain))

    @property
    def clouds(self) -> tuple[str, ...]:
        """The clouds that verify tokens of this key: of ``aws``, ``gcp``, ``azure``."""
        return _CLOUDS.get(self.algorithm, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedEntry:
    """One entry of a key set that somebody may have written."""

    key_id: str | None
    """None where there is no ``kid`` that is a text."""
    key: IssuerKey | None
    """None where the entry is no key that an issuer could publish; ``problem`` says why."""
    raw: Mapping[str, Any] = field(repr=False)
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedKeys:
    """A key set as it stands at a target."""

    entries: tuple[ObservedEntry, ...] = ()
    problem: str | None = None
    """Why the document is not readable at all; there are no entries then."""


# -- key sets --------------------------------------------------------------------------------------------------


def read_key_set(body: bytes, *, origin: str) -> tuple[IssuerKey, ...]:
    """Read the key set of a source: one that vouches for every key in it. Key ids are kept as they are.

    Args:
        origin: path or URL, for messages.

    Raises:
        ConfigurationError: key-private, key-invalid (an entry cannot be used, has no id, or an id stands twice),
            document-invalid (it is not a key set, or an empty one).
    """
    observed = observe_key_set(body)
    if observed.problem is not None:
        raise ConfigurationError(f"{origin}: {observed.problem}", code="document-invalid")
    if not observed.entries:
        raise ConfigurationError(f"{origin}: the key set is empty", code="document-invalid")
    keys: dict[str, IssuerKey] = {}
    for position, entry in enumerate(observed.entries):
        where = f"{origin}: entry {position}"
        if entry.key is None:
            if private_members(entry.raw):
                raise ConfigurationError(
                    f"{where}: {entry.problem}",
                    code="key-private",
                    hint="take the private key away from this machine and treat it as lost: rotate it",
                )
            _invalid(f"{where}: {entry.problem}")
        if keys.setdefault(entry.key.key_id, entry.key) != entry.key:
            _invalid(f"{where}: the kid {_shown(entry.key_id)} stands twice, with different keys")
    return tuple(keys.values())


def observe_key_set(body: bytes) -> ObservedKeys:
    """Read the key set of a target, whatever stands there."""
    try:
        document = parse_json(body)
    except ValueError as error:
        return ObservedKeys(problem=f"the key set is not JSON: {error}")
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        return ObservedKeys(problem="the key set is not a JSON object with a list 'keys'")
    entries = []
    for position, raw in enumerate(document["keys"]):
        if not isinstance(raw, dict) or _is_deep(raw):
            return ObservedKeys(problem=f"the key set's entry {position} is not a key")
        entries.append(_observe(raw))
    return ObservedKeys(entries=tuple(entries))


def _observe(raw: Mapping[str, Any]) -> ObservedEntry:
    kid = raw.get("kid")
    key_id = kid if isinstance(kid, str) else None
    try:
        key = IssuerKey.from_jwk(raw)
    except WifError as error:
        return ObservedEntry(key_id=key_id, key=None, raw=raw, problem=error.message)
    return ObservedEntry(key_id=key_id, key=key, raw=raw)


def key_set_bytes(keys: Iterable[IssuerKey], kept: Iterable[Mapping[str, Any]] = ()) -> bytes:
    """The bytes of a key set: our keys by their ids, then the entries that stay as they were found."""
    ours = sorted(keys, key=lambda key: key.key_id)
    return encode_document({"keys": [dict(key.jwk) for key in ours] + [dict(raw) for raw in kept]})


# -- PEM -------------------------------------------------------------------------------------------------------

_PRIVATE = re.compile(rb"-[ \t]{0,8}BEGIN[^\r\n]{0,64}PRIVATE KEY", re.IGNORECASE)
"""Bounded, so that no file takes long; a label beyond the bounds is an unknown one and is not parsed either."""
_BEGIN = re.compile(rb"-----BEGIN ([^\r\n]*?)-----")


def read_public_keys(pem: bytes, *, origin: str) -> tuple[IssuerKey, ...]:
    """Read the public keys of a PEM file (RFC 7468), with the ids that Kubernetes computes.

    PKIX and PKCS#1 public keys and certificates, several in one file; text around them is passed over.

    Args:
        origin: the file's path, for messages.

    Raises:
        ConfigurationError: key-private, before anything is parsed; key-invalid, naming the block.
    """
    if _PRIVATE.search(pem):
        raise ConfigurationError(f"{origin} holds a private key, expected public keys only", code="key-private")
    keys: dict[str, IssuerKey] = {}
    position = number = 0
    while (begin := _BEGIN.search(pem, position)) is not None:
        number += 1
        where = f"{origin}: block {number}"
        label = begin[1].decode("ascii", "backslashreplace")
        end = pem.find(b"-----END " + begin[1] + b"-----", begin.end())
        following = _BEGIN.search(pem, begin.end())
        if end < 0 or (following is not None and following.start() < end):
            _invalid(f"{where}: has no end: the file is cut short")
        key = _key_of_block(label, pem[begin.end() : end], where)
        keys.setdefault(key.key_id, key)
        position = end + 1
    if not number:
        _invalid(f"{origin} holds no PEM block", hint=_no_block_hint(pem))
    return tuple(keys.values())


def _key_of_block(label: str, content: bytes, where: str) -> IssuerKey:
    if label not in ("PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"):
        _invalid(f"{where}: is {_shown(label)}, expected PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE")
    try:
        der = b64decode(b"".join(content.split()), validate=True)
    except ValueError:
        _invalid(f"{where}: is not base64 from its first to its last line")
    ml_dsa = _ml_dsa_jwk(der)
    if ml_dsa is not None:
        return IssuerKey.from_jwk(ml_dsa)
    try:
        key = _certified(der) if label == "CERTIFICATE" else load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):  # the library's words may quote what it read
        _invalid(f"{where}: cannot be read as a {label}")
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        _invalid(f"{where}: is neither an RSA nor an EC key")
    try:
        return IssuerKey.from_public_key(key)
    except ConfigurationError as error:
        _invalid(f"{where}: {error.message}")


def _certified(der: bytes) -> object:
    """The public key of a certificate."""
    from cryptography.x509 import InvalidVersion, load_der_x509_certificate  # noqa: PLC0415  # rare, a third of the import

    try:
        return load_der_x509_certificate(der).public_key()
    except InvalidVersion:  # which is no ValueError
        raise ValueError("not a version of X.509") from None


def _no_block_hint(pem: bytes) -> str:
    if pem.lstrip().startswith(b"{"):
        return "a key set is read with --jwks"
    return "write public keys in PEM: openssl pkey -pubin -in FILE -inform DER"


def _ml_dsa_jwk(der: bytes) -> Mapping[str, str] | None:
    """The JWK of an ML-DSA SubjectPublicKeyInfo: its sizes are fixed, so its beginning is a constant."""
    for algorithm, size in _ML_DSA_BYTES.items():
        bits = b"\x03\x82" + (size + 1).to_bytes(2, "big") + b"\x00"
        identifier = bytes((0x30, 0x0B, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03))
        inner = identifier + bytes((_ML_DSA_LAST_ARC[algorithm],)) + bits
        start = b"\x30\x82" + (len(inner) + size).to_bytes(2, "big") + inner
        if der.startswith(start) and len(der) == len(start) + size:
            kid = _to_base64url(hashlib.sha256(der).digest())
            return {"kty": "AKP", "kid": kid, "alg": algorithm, "pub": _to_base64url(der[len(start) :])}
    return None


# -- small parts -----------------------------------------------------------------------------------------------


def _fingerprint(jwk: Mapping[str, str]) -> str:
    members = {name: jwk[name] for name in _MATERIAL[jwk["kty"]]}
    return _to_base64url(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode("ascii")).digest())


def _to_base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _is_canonical(text: str, size: int) -> bool:
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:  # foreign letters, UnicodeEncodeError among them
        return False
    return len(data) == size and _to_base64url(data) == text


def _is_deep(raw: object) -> bool:
    """Whether a value nests deeper than any JWK, found without recursion."""
    layer = [raw]
    for _ in range(_MAX_DEPTH):
        layer = [
            inner
            for value in layer
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not layer:
            return False
    return True


def _shown(value: object) -> str:
    return repr(value[:64]) if isinstance(value, str) else "without a kid" if value is None else type(value).__name__


def _invalid(what: str, *, hint: str | None = None) -> NoReturn:
    raise ConfigurationError(what, code="key-invalid", hint=hint)
