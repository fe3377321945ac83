"""Not yet."""

from __future__ import annotations

__all__ = ["check", "read"]

from collections.abc import Mapping, Sequence

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts, Reading
from wif.admission.findings import Finding
from wif.config.webhook import WebhookSettings


def read(account: ServiceAccount, facts: PodFacts, settings: WebhookSettings) -> Reading:  # noqa: ARG001
    """Say what a pod is given."""
    return Reading()


def check(annotations: Mapping[str, str], settings: WebhookSettings) -> Sequence[Finding]:  # noqa: ARG001
    """Say what is wrong with a ServiceAccount's annotations."""
    return ()
