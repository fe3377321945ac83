"""An issuer's two documents: written exactly as Kubernetes writes them, and read with nothing taken on trust.

Sources: kubernetes ``pkg/serviceaccount/openidmetadata.go``; OpenID Connect Discovery 1.0 sections 3 and 4;
RFC 7517 section 5. Fetching, and how large an answer may be, is for the caller.
"""

from __future__ import annotations

__all__ = [
    "DISCOVERY_PATH",
    "JWKS_PATH",
    "DiscoveryDocument",
    "KeySet",
    "PublishedKey",
    "SkippedKey",
    "check_issuer",
    "discovery_document",
    "discovery_url",
    "encode_document",
    "jwks_document",
    "jwks_of",
    "parse_discovery",
    "parse_jwks",
]

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlsplit

from wif.core.documents import parse_json, private_members
from wif.core.jws import PublicKey, jwk_from_public_key, public_key_from_jwk
from wif.errors import ConfigurationError, ProtocolError

DISCOVERY_PATH = "/.well-known/openid-configuration"
"""Appended to the issuer."""

JWKS_PATH = "/openid/v1/jwks"
"""Where Kubernetes serves its key set."""


# -- written ---------------------------------------------------------------------------------------------------


def discovery_document(issuer: str, jwks_uri: str, algorithms: Iterable[str] = ("RS256",)) -> dict[str, Any]:
    """Kubernetes' discovery document: five members in its order.

    Args:
        algorithms: those of all published keys, in any order and number.
    """
    return {
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted(set(algorithms)),
    }


def jwks_document(keys: Iterable[PublicKey]) -> dict[str, Any]:
    """Kubernetes' key set of these keys, in their order."""
    return {"keys": [jwk_from_public_key(key) for key in keys]}


def encode_document(document: Mapping[str, Any]) -> bytes:
    """The bytes of a document as Go's encoder writes them: compact, with ``<``, ``>`` and ``&`` escaped."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8")


def discovery_url(issuer: str) -> str:
    """Where an issuer's discovery document is; a slash at the issuer's end is not doubled."""
    return issuer.removesuffix("/") + DISCOVERY_PATH


# -- read ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryDocument:
    """A discovery document whose issuer is the one that was asked for."""

    issuer: str
    jwks_uri: str
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """One usable key of a key set."""

    key_id: str | None
    algorithm: str | None
    """The JWK's ``alg``; None leaves every algorithm of this kind of key open."""
    key: PublicKey = field(repr=False)
    jwk: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedKey:
    """One key of a key set that cannot verify here, and why."""

    key_id: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """A published key set: at least one usable key, and those that were left out."""

    keys: tuple[PublishedKey, ...]
    skipped: tuple[SkippedKey, ...] = ()

    def candidates(self, key_id: str | None) -> tuple[PublishedKey, ...]:
        """The keys of this id; more than one where an issuer used an id twice, none for None."""
        return tuple(key for key in self.keys if key_id is not None and key.key_id == key_id)


def check_issuer(issuer: str) -> None:
    """Refuse an issuer for which an API server would not serve discovery: https, no query, no fragment.

    Raises:
        ConfigurationError: issuer-invalid.
    """
    problem = _url_problem(issuer, ("https",))
    if problem:
        raise ConfigurationError(f"the issuer {issuer[:256]!r} {problem}", code="issuer-invalid")


def parse_discovery(body: bytes, *, issuer: str, allow_http: bool = False) -> DiscoveryDocument:
    """Read a fetched discovery document.

    Args:
        issuer: what was asked for; the document must name it byte for byte.
        allow_http: the caller permits a ``jwks_uri`` over plain http, e.g. on loopback.

    Raises:
        ProtocolError: document-invalid, issuer-mismatch.
    """
    document = _object(body, "discovery document")
    named = document.get("issuer")
    if not isinstance(named, str):
        _invalid("the discovery document has no issuer")
    if named != issuer:
        raise ProtocolError(
            f"the discovery document names the issuer {named[:256]!r}, expected {issuer!r}", code="issuer-mismatch"
        )
    jwks_uri = document.get("jwks_uri")
    if not isinstance(jwks_uri, str):
        _invalid("the discovery document has no jwks_uri")
    problem = _url_problem(jwks_uri, ("https", "http") if allow_http else ("https",), query=True)
    if problem:
        _invalid(f"the jwks_uri {jwks_uri[:256]!r} of the discovery document {problem}")
    algorithms = document.get("id_token_signing_alg_values_supported", [])
    if not isinstance(algorithms, list) or not all(isinstance(item, str) for item in algorithms):
        _invalid("the discovery document has an id_token_signing_alg_values_supported that is not a list of names")
    return DiscoveryDocument(issuer=named, jwks_uri=jwks_uri, algorithms=tuple(algorithms))


def parse_jwks(body: bytes) -> KeySet:
    """Read a fetched key set.

    A key of an unknown kind is left out and named in ``skipped``; a set with any private member, or without one
    usable key, is refused as a whole.

    Raises:
        ProtocolError: document-invalid.
    """
    return jwks_of(_object(body, "key set"))


def jwks_of(document: Mapping[str, Any]) -> KeySet:
    """The same for a key set that is parsed already."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        _invalid("the key set has no list 'keys'")
    keys: list[PublishedKey] = []
    skipped: list[SkippedKey] = []
    for position, jwk in enumerate(listed):
        if not isinstance(jwk, dict):
            _invalid(f"the key set's entry {position} is not an object")
        kid, algorithm = jwk.get("kid"), jwk.get("alg")
        kid = kid if isinstance(kid, str) else None
        private = private_members(jwk)
        if private:
            _invalid(
                f"the key set publishes private members ({', '.join(private)}) of the key {kid!r}",
                hint="treat that key as lost: rotate it, then publish public keys only",
            )
        try:
            key = public_key_from_jwk(jwk)
        except ConfigurationError as error:
            skipped.append(SkippedKey(key_id=kid, reason=error.message))
        else:
            keys.append(PublishedKey(key_id=kid, algorithm=algorithm, key=key, jwk=jwk))
    if not keys:
        reasons = "; ".join(f"{key.key_id!r}: {key.reason}" for key in skipped[:4])
        _invalid("the key set has no usable key" + (f" ({reasons})" if reasons else ""))
    return KeySet(keys=tuple(keys), skipped=tuple(skipped))


def _object(body: bytes, name: str) -> Mapping[str, Any]:
    try:
        document = parse_json(body)
    except ValueError as error:
        _invalid(f"the {name} is not JSON: {error}")
    if not isinstance(document, dict):
        _invalid(f"the {name} is not a JSON object")
    return document


def _url_problem(url: str, schemes: tuple[str, ...], *, query: bool = False) -> str:
    """What is wrong with a URL, as the end of a sentence; empty where nothing is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in schemes:
        return f"is not an {schemes[0]} URL"
    if not host or "@" in parts.netloc or url != url.strip() or not url.isprintable():
        return "is not a plain URL with a host"
    if "#" in url or ("?" in url and not query):
        return "has a query or fragment"
    return ""


def _invalid(what: str, hint: str | None = None) -> NoReturn:
    raise ProtocolError(what, code="document-invalid", hint=hint)
