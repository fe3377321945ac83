"""Reading a subject token without verifying it: what it claims, and whether it is worth sending.

Only base64 and json: an exchange never loads a JWT library. The cloud verifies the signature; what is read here
is used for messages, for the cache's identity and to refuse early what the cloud would refuse anyway.
Claims: RFC 7519 section 4.1 and Kubernetes' ``kubernetes.io`` object.
"""

from __future__ import annotations

__all__ = ["SubjectIdentity", "TokenSource", "UnverifiedToken", "read_token"]

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol, runtime_checkable

from wif.core.freshness import LEEWAY_SECONDS, MAX_SUBJECT_TOKEN_BYTES
from wif.errors import TokenError


@runtime_checkable
class TokenSource(Protocol):
    """Where a subject token comes from. ``read`` is called anew for every exchange, from any thread."""

    @property
    def origin(self) -> str:
        """What messages call it: a path, ``TokenRequest default/app``, …"""
        ...

    def read(self) -> str:
        """The token of now, as it is; raises :class:`~wif.errors.WifError` where there is none."""
        ...


class SubjectIdentity(tuple[str, str, str]):
    """(issuer, subject, ServiceAccount uid or ""): who a token speaks for."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedToken:
    """A subject token's text and its claims, none of them verified. Times are unix seconds."""

    raw: str = field(repr=False)
    origin: str
    unverified_header: Mapping[str, Any] = field(repr=False)
    unverified_claims: Mapping[str, Any] = field(repr=False)
    issuer: str
    subject: str
    audience: tuple[str, ...]
    expires_at: float
    issued_at: float | None
    not_before: float | None
    jti: str | None
    namespace: str | None
    service_account: str | None
    service_account_uid: str | None
    pod: str | None

    @property
    def identity(self) -> SubjectIdentity:
        """Who this token speaks for."""
        return SubjectIdentity((self.issuer, self.subject, self.service_account_uid or ""))


def read_token(
    raw: str | bytes,
    *,
    origin: str,
    now: float,
    audience: str | None = None,
    leeway_seconds: float = LEEWAY_SECONDS,
    check_times: bool = True,
) -> UnverifiedToken:
    """Read a token and refuse what no cloud would accept.

    Args:
        raw: the text as it stands in the file; white space around it is stripped.
        origin: what messages call its source.
        now: unix seconds.
        audience: the expected ``aud``; None does not check it.
        check_times: False reads an expired token too, for showing it.

    Raises:
        TokenError: token-empty, token-too-large, token-malformed, token-claim, token-expired,
            token-not-yet-valid, token-audience.
    """
    text = _text(raw, origin)
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):
        _refuse(
            origin, "token-malformed", f"has {len(parts)} dot-separated part(s), expected the three of a signed JWT"
        )
    header = _object(parts[0], "header", origin)
    claims = _object(parts[1], "payload", origin)
    _decode(parts[2], "signature", origin)

    issuer = _string(claims, "iss", origin)
    subject = _string(claims, "sub", origin)
    expires_at = _time(claims, "exp", origin)
    if expires_at is None:
        _refuse(origin, "token-claim", "has no exp claim, expected unix seconds")
    not_before = _time(claims, "nbf", origin)
    issued_at = _time(claims, "iat", origin)
    aud = claims.get("aud")
    listed = [aud] if isinstance(aud, str) else aud
    if not isinstance(listed, list) or not listed or not all(isinstance(item, str) and item for item in listed):
        _refuse(origin, "token-claim", "has no usable aud claim, expected a string or a list of strings")
    audiences = tuple(listed)

    if check_times:
        _check_times(origin, expires_at, {"nbf": not_before, "iat": issued_at}, now, leeway_seconds)
    if audience is not None and audience not in audiences:
        _refuse(origin, "token-audience", f"has the audience {list(audiences)} (claim aud), expected {audience!r}")

    kubernetes = _mapping(claims.get("kubernetes.io"))
    account = _mapping(kubernetes.get("serviceaccount"))
    pod = _mapping(kubernetes.get("pod"))
    return UnverifiedToken(
        raw=text,
        origin=origin,
        unverified_header=header,
        unverified_claims=claims,
        issuer=issuer,
        subject=subject,
        audience=audiences,
        expires_at=expires_at,
        issued_at=issued_at,
        not_before=not_before,
        jti=_optional(claims.get("jti")),
        namespace=_optional(kubernetes.get("namespace")),
        service_account=_optional(account.get("name")),
        service_account_uid=_optional(account.get("uid")),
        pod=_optional(pod.get("name")),
    )


def _text(raw: str | bytes, origin: str) -> str:
    if len(raw) > MAX_SUBJECT_TOKEN_BYTES + 1024:  # before any work on it; white space is cut below
        _refuse(origin, "token-too-large", f"has {len(raw)} bytes, expected at most {MAX_SUBJECT_TOKEN_BYTES}")
    if isinstance(raw, bytes):
        try:
            raw = raw.decode("ascii")
        except UnicodeDecodeError:
            _refuse(origin, "token-malformed", "holds binary data, expected a JWT of ASCII letters")
    text = raw.strip()
    if not text:
        _refuse(origin, "token-empty", "is empty, expected a JWT")
    if not text.isascii():
        _refuse(origin, "token-malformed", "holds letters outside ASCII, expected a JWT")
    if len(text) > MAX_SUBJECT_TOKEN_BYTES:
        _refuse(origin, "token-too-large", f"has {len(text)} bytes, expected at most {MAX_SUBJECT_TOKEN_BYTES}")
    return text


def _check_times(
    origin: str, expires_at: float, starts: Mapping[str, float | None], now: float, leeway_seconds: float
) -> None:
    if expires_at + leeway_seconds <= now:
        _refuse(origin, "token-expired", f"expired at {_stamp(expires_at)} (claim exp); now is {_stamp(now)}")
    for name, value in starts.items():
        if value is not None and value - leeway_seconds > now:
            _refuse(
                origin, "token-not-yet-valid", f"is valid from {_stamp(value)} (claim {name}); now is {_stamp(now)}"
            )


def _refuse(origin: str, code: str, what: str) -> NoReturn:
    raise TokenError(f"the subject token of {origin} {what}", code=code)


def _decode(part: str, name: str, origin: str) -> bytes:
    if "=" in part or "+" in part or "/" in part:
        _refuse(
            origin, "token-malformed", f"has a {name} in base64 with padding, expected base64url without (RFC 7515)"
        )
    try:
        return base64.b64decode(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4), validate=True)
    except (binascii.Error, ValueError):
        _refuse(origin, "token-malformed", f"has a {name} that is not base64url")


def _object(part: str, name: str, origin: str) -> Mapping[str, Any]:
    try:
        value = json.loads(_decode(part, name, origin), object_pairs_hook=_unique, parse_constant=_no_constant)
    except TokenError:
        raise
    except _DuplicateMember as error:
        _refuse(origin, "token-malformed", f"has a {name} with the member {error.args[0]!r} twice")
    except (ValueError, RecursionError):
        _refuse(origin, "token-malformed", f"has a {name} that is not JSON")
    if not isinstance(value, dict):
        _refuse(origin, "token-malformed", f"has a {name} that is not a JSON object")
    return value


class _DuplicateMember(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise _DuplicateMember(name[:64])
        result[name] = value
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _string(claims: Mapping[str, Any], name: str, origin: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        came = (
            "nothing" if value is None else f"a value of type {type(value).__name__}" if value != "" else "an empty one"
        )
        _refuse(origin, "token-claim", f"has no usable {name} claim: expected a string, came {came}")
    return value


def _time(claims: Mapping[str, Any], name: str, origin: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        _refuse(origin, "token-claim", f"has a claim {name} that is not a time in unix seconds")
    return float(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _optional(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _stamp(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"
