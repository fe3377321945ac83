"""Issuers that a provider of clusters publishes itself: there is nothing to publish, and nobody else could.

Sources: EKS "fetch signing keys", GKE and AKS OIDC issuers; the forms are those of the addresses in use.
"""

from __future__ import annotations

__all__ = ["Managed", "Provider", "recognise_managed"]

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from wif.core.discovery import discovery_url

Provider = Literal["eks", "gke", "aks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """Where a managed cluster's documents are, for everybody to read."""

    provider: Provider
    issuer: str
    discovery_url: str
    jwks_uri: str


class _Form(NamedTuple):
    pattern: re.Pattern[str]
    jwks_path: str
    """Below the issuer."""


_REGION = r"[a-z]{2,}(-[a-z]+)+-[0-9]+"

_FORMS: Mapping[Provider, _Form] = {
    "eks": _Form(
        re.compile(
            rf"https://(oidc\.eks\.{_REGION}\.amazonaws\.com(\.cn)?|oidc-eks\.{_REGION}\.api\.aws)/id/[A-Z0-9]{{16,64}}"
        ),
        "/keys",
    ),
    "gke": _Form(
        re.compile(
            r"https://container\.googleapis\.com/v1/projects/[a-z0-9:.-]+/(locations|zones)/[a-z0-9-]+/clusters/[a-z0-9-]+"
        ),
        "/jwks",
    ),
    # the slash at the end is part of the issuer
    "aks": _Form(
        re.compile(r"https://[a-z0-9-]+\.oic\.prod-aks\.azure\.(com|us|cn)/[0-9a-f-]{36}/[0-9a-f-]{36}/"),
        "/openid/v1/jwks",
    ),
}


def recognise_managed(issuer: str) -> Managed | None:
    """The provider that publishes this issuer; None for every other one.

    The whole text must have the form: what merely resembles a provider's address is somebody else's.
    """
    for provider, form in _FORMS.items():
        if form.pattern.fullmatch(issuer):
            return Managed(
                provider=provider,
                issuer=issuer,
                discovery_url=discovery_url(issuer),
                jwks_uri=issuer.removesuffix("/") + form.jwks_path,
            )
    return None
