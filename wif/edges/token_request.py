"""Kubernetes' TokenRequest as values: what is asked, and the JSON of both directions.

API: ``POST /api/v1/namespaces/NAMESPACE/serviceaccounts/NAME/token``, ``authentication.k8s.io/v1``.
"""

from __future__ import annotations

__all__ = ["BoundObject", "IssuedToken", "TokenRequest"]

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from wif.core.token import read_token
from wif.errors import ConfigurationError, TokenError, UnavailableError

MIN_EXPIRATION_SECONDS = 600
MAX_EXPIRATION_SECONDS = 1 << 32
"""The API server's own limits for ``spec.expirationSeconds``."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""A DNS subdomain of RFC 1123, as Kubernetes checks the names of namespaces and ServiceAccounts."""

_KINDS = ("Pod", "Secret", "Node")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundObject:
    """An object with which a token ends: when it is deleted, the API server accepts the token no longer."""

    kind: str
    """``Pod``, ``Secret`` or ``Node``."""
    name: str
    uid: str | None = None
    """None takes the object that has the name just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What is asked for. Names are checked, because they become part of a URL."""

    namespace: str
    service_account: str
    audiences: tuple[str, ...] = ()
    """Empty leaves it to the API server: its first ``--api-audiences``."""
    expiration_seconds: int = 3600
    bound_object: BoundObject | None = None

    def __post_init__(self) -> None:
        names = {"namespace": self.namespace, "ServiceAccount": self.service_account}
        if self.bound_object is not None:
            names["bound object"] = self.bound_object.name
            if self.bound_object.kind not in _KINDS:
                _refuse(f"a token cannot be bound to the kind {self.bound_object.kind!r}, expected {', '.join(_KINDS)}")
        for kind, name in names.items():
            if not _NAME.fullmatch(name):
                _refuse(f"{name!r} is not the name of a {kind}")
        if any(not audience for audience in self.audiences):
            _refuse("an audience of the token to request is empty")
        if not MIN_EXPIRATION_SECONDS <= self.expiration_seconds <= MAX_EXPIRATION_SECONDS:
            _refuse(
                f"expiration_seconds is {self.expiration_seconds}, expected {MIN_EXPIRATION_SECONDS} to "
                f"{MAX_EXPIRATION_SECONDS}: the API server grants no other"
            )

    @property
    def path(self) -> str:
        """The API's path."""
        return f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.service_account}/token"

    def body(self) -> bytes:
        """The request's JSON."""
        spec: dict[str, object] = {"audiences": list(self.audiences), "expirationSeconds": self.expiration_seconds}
        bound = self.bound_object
        if bound is not None:
            reference = {"apiVersion": "v1", "kind": bound.kind, "name": bound.name}
            spec["boundObjectRef"] = reference | ({"uid": bound.uid} if bound.uid else {})
        return json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """What the API server issued. ``expires_at`` is an aware UTC datetime."""

    token: str = field(repr=False)
    expires_at: datetime
    warnings: tuple[str, ...] = ()
    """What the API server remarked, e.g. that it shortened the lifetime."""

    @property
    def unverified_lifetime_seconds(self) -> int:
        """From ``iat`` to ``exp``, both by the API server's clock.

        Raises:
            TokenError: where the token has no such claims.
        """
        read = read_token(self.token, origin="TokenRequest", now=0.0, check_times=False)
        if read.issued_at is None:
            raise TokenError("the token of TokenRequest has no iat claim", code="token-claim")
        return int(read.expires_at - read.issued_at)

    @classmethod
    def from_answer(cls, body: bytes, *, warnings: tuple[str, ...] = ()) -> IssuedToken:
        """Read the answer's JSON.

        Raises:
            UnavailableError: cluster-unavailable where it is none.
        """
        try:
            status = json.loads(body)["status"]
            token, expires = status["token"], datetime.fromisoformat(status["expirationTimestamp"])
        except (ValueError, RecursionError, TypeError, KeyError):
            token, expires = None, None
        if not isinstance(token, str) or not token or expires is None or expires.tzinfo is None:
            raise UnavailableError("the API server's answer to TokenRequest holds no token", code="cluster-unavailable")
        return cls(token=token, expires_at=expires.astimezone(UTC), warnings=warnings)


def _refuse(what: str) -> None:
    raise ConfigurationError(what, code="config-invalid")
