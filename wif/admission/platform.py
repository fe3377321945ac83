"""The platform's ConfigMap: defaults of the whole cluster, and annotations for ServiceAccounts by namespace and name.

Its key ``config.yaml``::

    defaults:
      azure_tenant_id: 11111111-2222-3333-4444-555555555555
    serviceAccounts:
      - namespace: team-*
        serviceAccount: "*"
        enforce: true
        annotations:
          wif.internal/aws.role-arn: arn:aws:iam::111122223333:role/team

or ``config``: the JSON map of the EKS webhook, unchanged. The first entry that fits a ServiceAccount counts.
"""

from __future__ import annotations

__all__ = ["Platform", "PlatformEntry", "read_platform"]

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, NamedTuple, NoReturn

import msgspec
from msgspec import Meta

from wif.admission.accounts import ServiceAccount
from wif.admission.annotation_keys import cloud_of, clouds_given
from wif.config.webhook import WebhookSettings, load_webhook
from wif.errors import ConfigurationError


class PlatformEntry(NamedTuple):
    """What the platform says of some ServiceAccounts."""

    namespace: str
    """As it is, or with ``*`` for any letters."""
    service_account: str
    enforce: bool
    """It stands in place of what the ServiceAccount says of the same clouds; else it fills what that leaves out."""
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A ConfigMap that was read. Two are equal where content and settings below it were."""

    generation: str
    """Differs wherever a reading may differ: a key for caches."""
    settings: WebhookSettings = field(compare=False)
    """With the platform's defaults."""
    entries: tuple[PlatformEntry, ...] = field(compare=False)

    def effective(self, account: ServiceAccount, settings: WebhookSettings) -> tuple[ServiceAccount, WebhookSettings]:
        """A ServiceAccount and settings as the platform wants them.

        Args:
            settings: those that the ConfigMap was read with.
        """
        return account, settings


def read_platform(data: Mapping[str, str], settings: WebhookSettings) -> Platform:
    """Read a ConfigMap's ``data``.

    Raises:
        ConfigurationError: config-invalid, naming key and member.
    """
    return Platform(generation="", settings=settings, entries=())
