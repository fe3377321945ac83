"""``wif webhook explain``."""

from __future__ import annotations

__all__ = ["explain_command"]

from typing import Any

import click

from wif.cli.frame import command
from wif.cli.webhook_options import webhook_options, webhook_settings


@command("explain", example="wif webhook explain")
@webhook_options
@click.pass_context
def explain_command(context: click.Context, /, **_: Any) -> None:
    """Not there yet."""
    webhook_settings(context)
