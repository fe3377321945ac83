"""``wif demo``: tells the story that :mod:`wif.demo` plays."""

from __future__ import annotations

__all__ = ["demo_command"]

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from wif.cli.frame import command, wants_json
from wif.cli.output import print_json

_PARTS = {"library": "this library", "sdk": "the cloud's own SDK", "refused": "a stranger"}


@command("demo", example="wif demo --keep demo")
@click.option(
    "--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the public documents and the config files."
)
@click.option("--keep-keys", is_flag=True, help="Keep the private keys too, mode 0600; with --keep.")
@click.option("--cluster", is_flag=True, help="Take the token from a Kubernetes API server (KUBEBUILDER_ASSETS).")
@click.option("--kubeconfig", metavar="PATH", help="The API server of --cluster.")
@click.pass_context
def demo_command(
    context: click.Context, /, keep: Path | None, keep_keys: bool, cluster: bool, kubeconfig: str | None
) -> None:
    """Show the whole way on this machine: an issuer, its tokens, three clouds' STS, the real SDKs, a refusal each.

    No cloud account and no cluster is needed. Exit status 1 if a part does not end as it must.
    """
    if keep_keys and keep is None:
        raise click.UsageError("--keep-keys needs --keep DIR")
    from wif import demo  # noqa: PLC0415  # only for this command

    narrator: demo.Narrator
    if wants_json(context):
        narrator = _Silent()
    elif sys.stdout.isatty():
        narrator = _Drawn()
    else:
        narrator = _Plain()
    outcome = demo.run(narrator, keep=keep, keep_keys=keep_keys, cluster=cluster, kubeconfig=kubeconfig)
    if wants_json(context):
        print_json(outcome)
    if isinstance(narrator, _Drawn):
        narrator.end(outcome)
    context.exit(0 if outcome["ok"] else 1)


class _Silent:
    """For ``--json``: the object at the end says it all."""

    def step(self, text: str) -> None:
        """Nothing."""

    def fact(self, text: str) -> None:
        """Nothing."""

    def result(self, cloud: str, part: str, outcome: Mapping[str, Any]) -> None:
        """Nothing."""


class _Plain:
    """Lines, where nothing can be drawn."""

    def step(self, text: str) -> None:
        """A heading."""
        click.echo(f"== {text}")

    def fact(self, text: str) -> None:
        """A line."""
        click.echo(f"   {text}")

    def result(self, cloud: str, part: str, outcome: Mapping[str, Any]) -> None:
        """A line with its verdict."""
        click.echo(f"   {'ok' if outcome['ok'] else 'FAILED'} {cloud} {part}: {outcome['detail']}")
        if "reason" in outcome:
            click.echo(f"      {outcome['reason']}")


class _Drawn:
    """A progress display while it happens, a table at the end."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  # only when something is drawn
        from rich.status import Status  # noqa: PLC0415  # only when something is drawn

        self._console = Console(highlight=False)
        self._status = Status("", console=self._console)
        self._status.start()

    def step(self, text: str) -> None:
        """The former step is done; this one turns."""
        self._console.print(text, style="bold", markup=False)
        self._status.update(text)

    def fact(self, text: str) -> None:
        """A line above the display."""
        self._console.print(f"  {text}", markup=False)

    def result(self, cloud: str, part: str, outcome: Mapping[str, Any]) -> None:
        """A line with its verdict."""
        mark, colour = ("✓", "green") if outcome["ok"] else ("✗", "red")
        self._console.print(f"  {mark} {cloud} {part}", style=colour, markup=False)

    def end(self, outcome: Mapping[str, Any]) -> None:
        """The table."""
        from rich.table import Table  # noqa: PLC0415  # only when something is drawn
        from rich.text import Text  # noqa: PLC0415  # only when something is drawn

        self._status.stop()
        table = Table("", "who", "what the local STS confirmed", title="One token, three clouds", show_lines=False)
        table.columns[2].overflow = "fold"
        for cloud, parts in outcome["clouds"].items():
            for number, part in enumerate(_PARTS):
                shown = parts[part]
                mark, colour = ("✓", "green") if shown["ok"] else ("✗", "red")
                cell = Text(f"{mark} ", style=colour).append(shown["detail"], style="default")
                if "reason" in shown:
                    cell.append(f"\n{shown['reason']}", style="dim")
                table.add_row(
                    Text(cloud if number == 0 else "", style="bold"),
                    _PARTS[part],
                    cell,
                    end_section=number == len(_PARTS) - 1,
                )
        self._console.print(table)
