"""From an AdmissionReview and the ServiceAccounts it needs to a decision."""

from __future__ import annotations

__all__ = ["Decision", "EffectiveSettings", "Outcome", "Readings", "accounts_wanted", "encode_decision", "mutate"]

from collections.abc import Mapping

from wif.admission.accounts import ServiceAccount
from wif.admission.decision import Decision, Outcome, encode_decision
from wif.admission.readings import EffectiveSettings, Readings
from wif.admission.review import Review
from wif.config.webhook import WebhookSettings


def accounts_wanted(review: Review, settings: WebhookSettings) -> tuple[tuple[str, str], ...]:
    """Namespace and name of the ServiceAccounts that :func:`mutate` needs.

    The pod's own first, then the one that an earlier call recorded, where it is another: a hint, not worth a wait.
    Empty where there is nothing to do (mirror pods, other operations) and where the object cannot be read.
    """
    raise NotImplementedError


def mutate(
    review: Review,
    accounts: Mapping[tuple[str, str], ServiceAccount | None],
    settings: WebhookSettings,
    platform: EffectiveSettings | None = None,
    *,
    readings: Readings,
    detailed: bool = False,
) -> Decision:
    """Decide about a pod; ``accounts`` are those of :func:`accounts_wanted`, None for one that is nowhere.

    ``detailed`` also gives the outcome of every part in every container.
    """
    raise NotImplementedError
