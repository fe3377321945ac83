"""Which annotation speaks of which cloud, and which of them gives an identity: one table for all dialects.

The platform's ConfigMap, the validation of ServiceAccounts and the rendered policies all ask here, so that a
ServiceAccount that is labelled for one of them is labelled for all.
"""

from __future__ import annotations

__all__ = ["CLOUDS", "IDENTITY_NAME", "NATIVE_TRIGGERS", "clouds_given", "cloud_of", "identity_patterns"]

import re
from collections.abc import Mapping
from functools import lru_cache

from wif.config.webhook import WebhookSettings

CLOUDS = ("aws", "gcp", "azure")
"""In the order of variables, files and records."""

IDENTITY_NAME = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
"""Of the native dialect's identities; it stands in annotations, paths and profiles."""

NATIVE_TRIGGERS: Mapping[str, tuple[str, ...]] = {
    "aws": ("role-arn",),
    "gcp": ("provider", "service-account", "direct"),
    "azure": ("client-id",),
}
"""The fields that make an identity of the native dialect."""

_PEERS = {
    "pfn": ("gcp", ("workload-identity-provider", "service-account-email")),
    "eks": ("aws", ("role-arn",)),
    "azure": ("azure", ("client-id", "tenant-id")),
}


def cloud_of(key: str, settings: WebhookSettings) -> str | None:
    """The cloud that an annotation of a ServiceAccount speaks of; None for one that speaks of none, or of all."""
    prefix, _, name = key.partition("/")
    if prefix == settings.prefix and "native" in settings.dialects:
        cloud, dot, _ = name.partition(".")
        return cloud if dot and cloud in CLOUDS else None
    for dialect, (cloud, _) in _PEERS.items():
        if prefix == _prefix(dialect, settings) and dialect in settings.dialects:
            return cloud
    return None


def clouds_given(annotations: Mapping[str, str], settings: WebhookSettings) -> frozenset[str]:
    """The clouds of which annotations of a ServiceAccount give an identity. An empty value gives none."""
    pattern = _compiled(identity_patterns(settings))
    clouds = (cloud_of(key, settings) for key, value in annotations.items() if value and pattern.fullmatch(key))
    return frozenset(cloud for cloud in clouds if cloud is not None)


@lru_cache(maxsize=16)
def identity_patterns(settings: WebhookSettings) -> tuple[str, ...]:
    """Regular expressions (RE2, for the whole key) of the annotations that give an identity to a ServiceAccount."""
    patterns = []
    if "native" in settings.dialects:
        fields = "|".join(
            f"{cloud}(\\.{IDENTITY_NAME})?\\.({'|'.join(names)})" for cloud, names in NATIVE_TRIGGERS.items()
        )
        patterns.append(f"{re.escape(settings.prefix)}/({fields})")
    for dialect, (_, names) in _PEERS.items():
        if dialect in settings.dialects:
            patterns.append(f"{re.escape(_prefix(dialect, settings))}/({'|'.join(names)})")
    return tuple(patterns)


@lru_cache(maxsize=16)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


def _prefix(dialect: str, settings: WebhookSettings) -> str:
    return {"pfn": settings.gcp_prefix, "eks": settings.aws_prefix, "azure": settings.azure_prefix}[dialect]
