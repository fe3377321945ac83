"""``wif issuer``: the discovery documents of a cluster's issuer, where the clouds can read them."""

from __future__ import annotations

__all__ = ["issuer_command"]

from wif.cli.frame import LazyGroup

_HELP = """Publish, verify, serve and guard an issuer's discovery documents.

Who can write the key set can be every ServiceAccount of the cluster, in every cloud that trusts the issuer.
"""

_COMMANDS = {
    "publish": ("wif.cli.issuer_publish", "Write the documents to every target, and look at them from outside."),
    "serve": ("wif.cli.issuer_serve", "Serve the documents over HTTPS, for one or many issuers."),
    "unpublish": ("wif.cli.issuer_unpublish", "Take the documents away, last of all."),
    "watch": ("wif.cli.issuer_watch", "Keep the documents right for good: a controller for the cluster."),
    "verify": ("wif.cli.issuer_verify", "Look at the documents from outside, as a cloud does."),
}

issuer_command = LazyGroup(
    "issuer",
    lazy=_COMMANDS,
    help=_HELP,
    example="wif issuer publish --issuer https://issuer.example.com --public-key sa.pub --to file:///srv/issuer",
)
"""The group."""
