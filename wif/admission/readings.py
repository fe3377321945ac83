"""What the dialects say of one ServiceAccount and one kind of pod, put together and kept."""

from __future__ import annotations

__all__ = ["EffectiveSettings", "Readings"]

from typing import Protocol

from wif.admission.accounts import ServiceAccount
from wif.config.webhook import WebhookSettings


class EffectiveSettings(Protocol):
    """The platform's ConfigMap, decoded."""

    def effective(
        self, account: ServiceAccount, settings: WebhookSettings
    ) -> tuple[ServiceAccount, WebhookSettings]:
        """The ServiceAccount with the annotations that hold for it, and the settings with the platform's defaults."""
        ...


class Readings:
    """A bounded store of what was read, for one generation of settings and platform; others empty it."""

    def __init__(self, entries_max: int = 256) -> None:
        self._entries_max = entries_max
