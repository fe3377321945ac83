"""What is wrong with an issuer, its keys or its neighbours, found before anything is written.

One table, :data:`RULES`; each finding says which of the clouds that read the documents breaks, and how.
"""

from __future__ import annotations

__all__ = [
    "ALL_CLOUDS",
    "RULES",
    "Finding",
    "IssuerUse",
    "Level",
    "Managed",
    "lint_issuer",
    "lint_issuers",
    "lint_key_set",
    "lint_keys",
    "recognise_managed",
]

from collections.abc import Collection, Iterable
from typing import Any

from wif.core.discovery import JWKS_PATH
from wif.core.issuer_key_rules import KEY_RULES, NEIGHBOUR_RULES, IssuerUse, Keys
from wif.core.issuer_url_rules import ISSUER_RULES, Addresses
from wif.core.lint_rules import ALL_CLOUDS, Finding, Level, Rule, apply_rules
from wif.core.managed_issuers import Managed, recognise_managed
from wif.core.public_keys import IssuerKey, ObservedEntry, observe_key_set

RULES: tuple[Rule[Any], ...] = (*ISSUER_RULES, *KEY_RULES, *NEIGHBOUR_RULES)
"""Every rule; the names are unique."""


def lint_issuer(
    issuer: str,
    jwks_uri: str | None = None,
    *,
    clouds: Collection[str] = ALL_CLOUDS,
    server_issuers: Iterable[str] = (),
    fetched: bool = True,
    allow_private: bool = False,
) -> tuple[Finding, ...]:
    """What is wrong with the two addresses of an issuer.

    Args:
        jwks_uri: None for Kubernetes' path below the issuer.
        clouds: those that read the documents.
        server_issuers: what the API servers write into new tokens; none for a former issuer.
        fetched: False where the keys are uploaded to every cloud that reads them (``gcp-provider``, ``gke-fleet``),
            and nobody reads them at the public address.
        allow_private: the readers that count are in the issuer's own network; what keeps the clouds out is a warning.
    """
    jwks_uri = issuer.removesuffix("/") + JWKS_PATH if jwks_uri is None else jwks_uri
    subject = Addresses(issuer, jwks_uri, tuple(server_issuers))
    return apply_rules(ISSUER_RULES, subject, clouds=clouds, fetched=fetched, allow_private=allow_private)


def lint_keys(keys: Iterable[IssuerKey], clouds: Collection[str] = ALL_CLOUDS) -> tuple[Finding, ...]:
    """What is wrong with the keys that are to be published together."""
    entries = tuple(ObservedEntry(key_id=key.key_id, key=key, raw=key.jwk) for key in keys)
    return apply_rules(KEY_RULES, Keys(entries, tuple(clouds)), clouds=clouds)


def lint_key_set(body: bytes, clouds: Collection[str] = ALL_CLOUDS) -> tuple[Finding, ...]:
    """What is wrong with a key set that somebody has published."""
    observed = observe_key_set(body)
    return apply_rules(KEY_RULES, Keys(observed.entries, tuple(clouds), observed.problem), clouds=clouds)


def lint_issuers(issuers: Iterable[IssuerUse], clouds: Collection[str] = ALL_CLOUDS) -> tuple[Finding, ...]:
    """What issuers share that no two may share."""
    return apply_rules(NEIGHBOUR_RULES, tuple(issuers), clouds=clouds)
