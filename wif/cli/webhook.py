"""``wif webhook``: pods of an annotated ServiceAccount can act in the clouds, by an admission webhook."""

from __future__ import annotations

__all__ = ["webhook_command"]

from wif.cli.frame import LazyGroup

_HELP = """Give pods the identities that their ServiceAccounts name, in AWS, GCP and Azure at once.

Understands the annotations of the three single-cloud webhooks unchanged, and its own for what they cannot say.
"""

_COMMANDS = {
    "explain": ("wif.cli.webhook_explain", "Say what would be injected into a pod, and why not."),
    "render": ("wif.cli.webhook_render", "Print the registration and the policies that go with it, as YAML."),
    "serve": ("wif.cli.webhook_serve", "Answer the API server's reviews over HTTPS."),
}

webhook_command = LazyGroup(
    "webhook",
    lazy=_COMMANDS,
    help=_HELP,
    example="wif webhook explain --pod pod.yaml --service-account sa.yaml",
)
"""The group."""
