"""Which annotation of a ServiceAccount speaks of which cloud, and which of them gives an identity, in all dialects."""

from __future__ import annotations

__all__ = ["CLOUDS", "IDENTITY_NAME", "NATIVE_TRIGGERS", "cloud_of", "clouds_given", "names_identity"]

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from wif.config.webhook import WebhookSettings

CLOUDS = ("aws", "gcp", "azure")
"""In the order of files, parts and records."""

IDENTITY_NAME = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
"""Of the native dialect's identities; it stands in annotations, paths and profiles."""

NATIVE_TRIGGERS: Mapping[str, tuple[str, ...]] = {
    "aws": ("role-arn",),
    "gcp": ("provider", "service-account", "direct"),
    "azure": ("client-id",),
}
"""The fields that make an identity of the native dialect."""


class _Peer(NamedTuple):
    cloud: str
    triggers: tuple[str, ...]


_PEERS = {
    "pfn": _Peer("gcp", ("workload-identity-provider", "service-account-email")),
    "eks": _Peer("aws", ("role-arn",)),
    "azure": _Peer("azure", ("client-id", "tenant-id")),
}


def cloud_of(key: str, settings: WebhookSettings) -> str | None:
    """The cloud that an annotation of a ServiceAccount speaks of; None for one that speaks of none, or of all."""
    prefix, _, name = key.partition("/")
    dialect = _dialects_by_prefix(settings).get(prefix)
    if dialect == "native":
        cloud, dot, _ = name.partition(".")
        return cloud if dot and cloud in CLOUDS else None
    return None if dialect is None else _PEERS[dialect].cloud


def clouds_given(annotations: Mapping[str, str], settings: WebhookSettings) -> frozenset[str]:
    """The clouds of which the annotations of a ServiceAccount give an identity. An empty value gives none."""
    whole = _identity_keys(settings)
    clouds = {cloud_of(key, settings) for key, value in annotations.items() if value and whole.fullmatch(key)}
    return frozenset(cloud for cloud in CLOUDS if cloud in clouds)


def names_identity(annotations: Iterable[str], settings: WebhookSettings) -> bool:
    """Whether one of the annotations would give an identity, whatever its value: the label follows from this."""
    whole = _identity_keys(settings)
    return any(whole.fullmatch(key) for key in annotations)


def _identity_keys(settings: WebhookSettings) -> re.Pattern[str]:
    rows = _dialects_by_prefix(settings).items()
    return _compiled("|".join(f"{re.escape(prefix)}/{_triggers(dialect)}" for prefix, dialect in rows))


def _dialects_by_prefix(settings: WebhookSettings) -> Mapping[str, str]:
    """Those that are on. Where two have one prefix, the first one in their order has it."""
    rows = (
        (settings.prefix, "native"),
        (settings.gcp_prefix, "pfn"),
        (settings.aws_prefix, "eks"),
        (settings.azure_prefix, "azure"),
    )
    return {prefix: name for prefix, name in reversed(rows) if name in settings.dialects}


def _triggers(dialect: str) -> str:
    if dialect != "native":
        return f"({'|'.join(_PEERS[dialect].triggers)})"
    of_clouds = (f"{cloud}(\\.{IDENTITY_NAME})?\\.({'|'.join(names)})" for cloud, names in NATIVE_TRIGGERS.items())
    return f"({'|'.join(of_clouds)})"


@lru_cache(maxsize=16)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
