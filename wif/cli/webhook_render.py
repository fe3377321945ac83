"""``wif webhook render``."""

from __future__ import annotations

__all__ = ["render_command"]

from typing import Any

import click

from wif.cli.frame import command
from wif.cli.webhook_options import webhook_options, webhook_settings


@command("render", example="wif webhook render")
@webhook_options
@click.pass_context
def render_command(context: click.Context, /, **_: Any) -> None:
    """Not there yet."""
    webhook_settings(context)
