"""What goes to stdout and stderr: JSON, names and values, warnings."""

from __future__ import annotations

__all__ = ["print_json", "print_json_line", "print_rows", "warn"]

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click


def print_json(value: Mapping[str, Any]) -> None:
    """One object."""
    click.echo(json.dumps(value, indent=2))


def print_json_line(value: Mapping[str, Any]) -> None:
    """One object in one line, where there are many."""
    click.echo(json.dumps(value, separators=(",", ":")))


def print_rows(title: str, rows: Sequence[tuple[str, str]], styles: Mapping[str, str] | None = None) -> None:
    """Names and values: a table on a terminal, plain lines elsewhere.

    Args:
        styles: colours of values by their first letter; rich leaves them out where ``NO_COLOR`` is set.
    """
    if not sys.stdout.isatty():
        for name, value in rows:
            click.echo(f"{name}: {value}")
        return
    from rich.console import Console  # noqa: PLC0415  # only when something is drawn
    from rich.table import Table  # noqa: PLC0415  # only when something is drawn
    from rich.text import Text  # noqa: PLC0415  # only when something is drawn

    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:  # as Text: a claim may hold what looks like rich's markup
        table.add_row(Text(name), Text(value, style=(styles or {}).get(value[:1], "")))
    Console().print(table)


def warn(message: str) -> None:
    """One line on stderr."""
    click.echo(f"warning: {message}", err=True)
