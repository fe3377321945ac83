"""What each cloud will say about a subject token: tables of small checks, none of which needs a key or a network.

Limits and conventions: AWS' STS model (WebIdentityToken, SubjectFromWebIdentityToken), Google's workload identity
federation and ``sts.v1``, Entra's federated identity credentials.
"""

from __future__ import annotations

__all__ = ["Finding", "inspect", "is_local_sts", "issuer_defect", "times"]

import ipaddress
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from wif.core.token import UnverifiedToken

AWS_SUBJECT_CHARACTERS = 255
GCP_SUBJECT_BYTES = 127
AZURE_SUBJECT_CHARACTERS = 600
DAY_SECONDS = 86_400
AZURE_LIFETIME_SECONDS = 90_000
"""25 hours: what AADSTS70023 names as the longest."""
LEEWAY_SECONDS = 60
LOCAL_STS_HOSTS = ("accounts.google.invalid", "sts.windows.invalid")
"""Issuers of the local STS' own tokens; RFC 6761 keeps these names from ever existing."""


class Finding(NamedTuple):
    """One thing that a cloud will say."""

    severity: str
    """``refused``, ``unusual`` or ``good``."""
    clause: str
    text: str


Check = Callable[[UnverifiedToken, float], Finding | None]


def inspect(token: UnverifiedToken, now: float) -> dict[str, list[Finding]]:
    """The findings of each cloud; a cloud that will find nothing wrong has one that says so.

    Args:
        now: unix seconds.
    """
    return {
        cloud: [found for check in checks if (found := check(token, now)) is not None]
        or [Finding("good", "token", "nothing in the token itself speaks against it")]
        for cloud, checks in _CHECKS.items()
    }


def times(token: UnverifiedToken, now: float) -> dict[str, int | None]:
    """Age, time left and whole life, in seconds; None where a claim is missing."""
    issued = token.issued_at
    return {
        "age_seconds": None if issued is None else round(now - issued),
        "seconds_left": round(token.expires_at - now),
        "lifetime_seconds": None if issued is None else round(token.expires_at - issued),
    }


def is_local_sts(token: UnverifiedToken) -> bool:
    """Whether the token says that the local STS made it, so that it opens no real cloud."""
    try:
        return urlsplit(token.issuer).hostname in LOCAL_STS_HOSTS
    except ValueError:
        return False


def _algorithm(*supported: str) -> Check:
    def check(token: UnverifiedToken, _: float) -> Finding | None:
        name = token.unverified_header.get("alg")
        if name in supported:
            return None
        shown = name if isinstance(name, str) and name.isprintable() else "none"
        return Finding("refused", "key", f"does not verify the algorithm {shown[:20]}, only {', '.join(supported)}")

    return check


def _key_id(token: UnverifiedToken, _: float) -> Finding | None:
    if isinstance(token.unverified_header.get("kid"), str):
        return None
    return Finding("refused", "key", "has no kid to choose a published key by")


def _expiry(leeway_seconds: int = 0) -> Check:
    def check(token: UnverifiedToken, now: float) -> Finding | None:
        over = now - token.expires_at
        if over < 0:
            return None
        if over < leeway_seconds:
            return Finding(
                "unusual", "expiry", f"expired {round(over)} s ago, which is forgiven for {leeway_seconds} s"
            )
        return Finding("refused", "expiry", f"expired {round(over)} s ago")

    return check


def _start(token: UnverifiedToken, now: float) -> Finding | None:
    start = max(token.not_before or 0.0, token.issued_at or 0.0)
    if start - now > LEEWAY_SECONDS:
        return Finding("refused", "clock", f"is valid only in {round(start - now)} s")
    return None


def _needs_issued_at(token: UnverifiedToken, _: float) -> Finding | None:
    return Finding("refused", "claim", "has no iat claim") if token.issued_at is None else None


def _age(longest_seconds: int, severity: str, whose: str) -> Check:
    def check(token: UnverifiedToken, now: float) -> Finding | None:
        if token.issued_at is not None and now - token.issued_at > longest_seconds:
            return Finding(severity, "lifetime", f"was issued more than {longest_seconds // 3600} h ago; {whose}")
        return None

    return check


def _lifetime(longest_seconds: int) -> Check:
    def check(token: UnverifiedToken, _: float) -> Finding | None:
        if token.issued_at is not None and token.expires_at - token.issued_at > longest_seconds:
            return Finding("refused", "lifetime", f"lives longer than {longest_seconds // 3600} h")
        return None

    return check


def _subject(longest: int, unit: str) -> Check:
    def check(token: UnverifiedToken, _: float) -> Finding | None:
        size = len(token.subject.encode()) if unit == "bytes" else len(token.subject)
        if size > longest:
            return Finding("refused", "subject", f"the subject has {size} {unit}, at most {longest} are accepted")
        return None

    return check


def _audience(convention: str, fits: Callable[[str], bool]) -> Check:
    def check(token: UnverifiedToken, _: float) -> Finding | None:
        if any(map(fits, token.audience)):
            return None
        shown = ", ".join(audience[:120] for audience in token.audience[:5])
        return Finding("unusual", "audience", f"by convention it is {convention}; this token has {shown}")

    return check


def _one_audience(token: UnverifiedToken, _: float) -> Finding | None:
    if len(token.audience) == 1:
        return None
    return Finding("unusual", "audience", f"how {len(token.audience)} audiences are matched is not documented")


def _issuer(token: UnverifiedToken, _: float) -> Finding | None:
    reason = issuer_defect(token.issuer)
    return None if reason is None else Finding("refused", "issuer", f"the issuer {reason}")


def issuer_defect(issuer: str) -> str | None:
    """Why no cloud fetches the documents of this issuer, or None."""
    try:
        parts = urlsplit(issuer)
        host = parts.hostname or ""
    except ValueError:
        return "is not a URL"
    if parts.scheme != "https":
        return "is not an https URL"
    if parts.query or parts.fragment or "@" in parts.netloc:
        return "has a query, a fragment or user information"
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".svc")) or "." not in host:
        return f"names the host {host[:100]!r}, which nobody outside can reach"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if address.is_global else f"names the address {host}, which nobody outside can reach"


def _google_issuer(token: UnverifiedToken, _: float) -> Finding | None:
    """Google can be given the keys themselves, so an issuer out of reach is not the end there."""
    reason = issuer_defect(token.issuer)
    if reason is None:
        return None
    if not token.issuer.startswith("https://"):
        return Finding("refused", "issuer", f"the issuer {reason}")
    return Finding("unusual", "issuer", f"the issuer {reason}: the provider needs its keys uploaded (jwksJson)")


def _is_provider(audience: str) -> bool:
    return audience.removeprefix("https:").startswith("//iam.googleapis.com/projects/")


_CHECKS: Mapping[str, tuple[Check, ...]] = {
    "aws": (
        _algorithm("RS256", "RS384", "RS512", "ES256", "ES384", "ES512"),
        _key_id,
        _expiry(),
        _start,
        _needs_issued_at,
        _age(DAY_SECONDS, "unusual", "AWS refuses old tokens without saying from when on"),
        _subject(AWS_SUBJECT_CHARACTERS, "characters"),
        _issuer,
        _audience("sts.amazonaws.com", lambda audience: audience == "sts.amazonaws.com"),
    ),
    "gcp": (
        _algorithm("RS256", "ES256"),
        _key_id,
        _expiry(LEEWAY_SECONDS),
        _start,
        _needs_issued_at,
        _age(DAY_SECONDS, "refused", "Google takes no older ones"),
        _subject(GCP_SUBJECT_BYTES, "bytes"),
        _google_issuer,
        _audience("the provider's name, //iam.googleapis.com/projects/…/providers/…", _is_provider),
    ),
    "azure": (
        _algorithm("RS256"),
        _key_id,
        _expiry(),
        _start,
        _needs_issued_at,
        _lifetime(AZURE_LIFETIME_SECONDS),
        _subject(AZURE_SUBJECT_CHARACTERS, "characters"),
        _issuer,
        _audience("api://AzureADTokenExchange", lambda audience: audience.startswith("api://AzureADTokenExchange")),
        _one_audience,
    ),
}
