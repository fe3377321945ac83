"""What an exchange yields: values that hold secrets and never show them."""

from __future__ import annotations

__all__ = ["AccessToken", "AwsCredentials"]

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsCredentials:
    """Temporary AWS keys, as AssumeRoleWithWebIdentity and AssumeRole return them.

    ``expires_at`` is an aware UTC datetime by AWS' clock. ``lifetime_seconds`` is what was left of it when the
    answer was written, by the same clock.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime
    lifetime_seconds: float
    assumed_role_arn: str = ""
    """``arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION``."""
    account_id: str = ""
    region: str | None = None
    """The region whose endpoint answered; None for the global one."""
    local_sts: bool = False
    """True where the answer carried the mark of the local STS: these keys open no real cloud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A bearer token of GCP or Azure: an access token, or Google's ID token.

    ``expires_at`` is an aware UTC datetime. ``lifetime_seconds`` is what was left when the request was sent;
    ``refresh_in_seconds`` is when the issuer wants it renewed, where it says so (Azure).
    """

    token: str = field(repr=False)
    expires_at: datetime
    lifetime_seconds: float
    scopes: tuple[str, ...] = ()
    refresh_in_seconds: float | None = None
    local_sts: bool = False
    """True where the answer carried the mark of the local STS: this token opens no real cloud."""
