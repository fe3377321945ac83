"""``wif sidecar``: credentials for programs that know nothing of federation."""

from __future__ import annotations

__all__ = ["sidecar_command"]

from wif.cli.frame import LazyGroup

_HELP = """Keep the credentials of any number of identities fresh, and serve them as unmodified SDKs look for them.

Of AWS, GCP and Azure at once, on the loopback address of a pod.
"""

_COMMANDS = {
    "serve": ("wif.cli.sidecar_serve", "Serve credentials on loopback, beside the application."),
}

sidecar_command = LazyGroup(
    "sidecar",
    lazy=_COMMANDS,
    help=_HELP,
    example="wif sidecar serve --help",
)
"""The group."""
