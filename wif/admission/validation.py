"""ServiceAccounts when they are written: malformed annotations are refused, and the label for the policies is set."""

from __future__ import annotations

__all__ = ["INJECT_LABEL", "review_account"]

from typing import TYPE_CHECKING

from wif.config.webhook import WebhookSettings

if TYPE_CHECKING:
    from wif.admission.mutation import Decision
    from wif.admission.platform import Platform
    from wif.admission.review import Review

INJECT_LABEL = "inject"
"""Behind the native prefix and its slash; ``"true"`` on every ServiceAccount with an annotation that gives an identity."""


def review_account(review: Review, settings: WebhookSettings, platform: Platform | None = None) -> Decision:
    """Decide on the CREATE or UPDATE of a ServiceAccount, and set or remove its label.

    Args:
        platform: its defaults count; its annotations do not, for they are not the ServiceAccount's.
    """
    raise NotImplementedError
