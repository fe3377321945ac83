"""``wif webhook serve``: the admission webhook."""

from __future__ import annotations

__all__ = ["serve_command"]

from typing import Any

import click

from wif.cli.frame import command
from wif.cli.webhook_options import webhook_options, webhook_settings


@command("serve", example="wif webhook serve --tls-cert tls.crt --tls-key tls.key", log_level="info")
@webhook_options
@click.pass_context
def serve_command(context: click.Context, /, **_: Any) -> None:
    """Answer the API server's reviews until SIGINT or SIGTERM."""
    webhook_settings(context)
