"""The injection as MutatingAdmissionPolicies: nothing to run, no certificate, no outage."""

from __future__ import annotations

__all__ = ["mutating_policy"]

from typing import Any

from wif.admission.registration import RegistrationSettings
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError


def mutating_policy(settings: WebhookSettings, registration: RegistrationSettings) -> list[dict[str, Any]]:
    """The policies that inject and that label ServiceAccounts, each followed by its binding.

    Raises:
        ConfigurationError: policy-unsupported, with the setting that CEL cannot follow.
    """
    raise ConfigurationError("not there yet", code="policy-unsupported")
