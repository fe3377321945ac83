"""What ``wif keys`` prints: a table of keys, their life drawn to scale, what was found, and the next step."""

from __future__ import annotations

__all__ = ["document_of", "plan_document", "print_plan", "print_report"]

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from wif.cli.keys_timeline import Bar, Span, draw, legend
from wif.cli.output import print_json, warn
from wif.core.rotation import flags_for

if TYPE_CHECKING:
    from wif.core.rotation import KeyStatus, Step
    from wif.issuer.rotation_report import RotationReport

_HEAD = ("key", "phase", "since", "until", "waiting for")
_STYLES = {"signing": "green", "draining": "magenta", "waiting": "yellow", "removed": "red"}
_NARROW, _WIDE = 40, 100
"""Columns of the drawn scale: at least, at most."""


def print_report(report: RotationReport, *, as_json: bool) -> None:
    """The whole of it to stdout; warnings to stderr."""
    for warning in report.warnings:
        warn(warning)
    if as_json:
        print_json(document_of(report))
        return
    click.echo(f"issuer: {report.issuer}\nstate: {report.state}")
    for sentence in report.done:
        click.echo(f"done: {sentence}")
    for consequence in report.consequences:
        click.echo(f"consequence: {consequence}")
    if report.state_missing:
        click.echo(
            "STATE MISSING: a target holds documents, but there is no state; nothing was recorded\n"
            "  look at what is there, then make it anew: wif keys status --rebuild"
        )
        for place, keys in report.looked.found.items():
            click.echo(f"  {place}: {', '.join(key.key_id for key in keys) or 'no key'}")
    rows = [_row(key) for key in report.status.keys]
    if sys.stdout.isatty():
        _draw(report, rows)
    else:
        _write(report, rows)
    for exposure in report.status.exposures:
        click.echo(f"EXPOSED: {exposure.kid}\n  {exposure.message}")
        ends = _stamp(exposure.until) or "another key signs"
        click.echo(f"  from {_stamp(exposure.since) or 'an unknown time'} until {ends}")
    for sentence in report.tampering:
        click.echo(f"TAMPERING: {sentence}")
    for notice in report.status.notices:
        click.echo(f"notice: {notice.message}\n  {notice.hint}")
    for place in report.status.unread:
        click.echo(f"not seen: {place}")
    _print_step("next", report.next_step)


def print_plan(steps: Sequence[Step], *, as_json: bool) -> None:
    """The steps of a migration, in their order."""
    if as_json:
        print_json(plan_document(steps))
        return
    for number, step in enumerate(steps, 1):
        _print_step(str(number), step)


def document_of(report: RotationReport) -> dict[str, Any]:
    """The report as JSON: the schema ``keys`` of the reference."""
    status, observation = report.status, report.looked.observation
    return {
        "issuer": report.issuer,
        "state": report.state,
        "state_missing": report.state_missing,
        "observed_at": _stamp(observation.at),
        "policy": {
            "cache_seconds": report.policy.cache_seconds,
            "skew_seconds": report.policy.skew_seconds,
            "longest_token_seconds": report.policy.longest_token_seconds,
        },
        "keys": [
            {
                "kid": key.kid,
                "phase": key.phase,
                "since": _stamp(key.since),
                "until": _stamp(key.until),
                "waiting_for": list(key.blockers),
            }
            for key in status.keys
        ],
        "timeline": [
            {
                "kid": row.kid,
                "phase": row.phase,
                "since": _stamp(row.since),
                "until": _stamp(row.until),
                "waits_for": row.waits_for,
            }
            for row in report.timeline
        ],
        "api_servers": [
            {
                "name": server.name,
                "issuer": server.issuer,
                "kids": sorted(server.key_ids),
                "signer": server.signer,
                "longest_token_seconds": server.longest_token_seconds,
            }
            for server in observation.servers
        ],
        "api_servers_complete": observation.servers_complete,
        "targets": [
            {"name": name, "kids": None if kids is None else sorted(kids)} for name, kids in observation.targets.items()
        ],
        "public_known": observation.public_known,
        "public_kids": None if observation.public is None else sorted(observation.public),
        "exposures": [
            {"kid": one.kid, "since": _stamp(one.since), "until": _stamp(one.until), "message": one.message}
            for one in status.exposures
        ],
        "tampering": list(report.tampering),
        "notices": [{"rule": one.rule, "message": one.message, "hint": one.hint} for one in status.notices],
        "unread": list(status.unread),
        "done": list(report.done),
        "consequences": list(report.consequences),
        "warnings": list(report.warnings),
        "next_step": _step_document(report.next_step),
    }


def plan_document(steps: Sequence[Step]) -> dict[str, Any]:
    """The plan as JSON: the schema ``keys-plan`` of the reference."""
    return {"steps": [_step_document(step) for step in steps]}


def _step_document(step: Step) -> Mapping[str, Any]:
    return {"text": step.text, "flags": list(step.flags), "command": step.command}


# -- tables and drawings ---------------------------------------------------------------------------------------------


def _row(key: KeyStatus) -> tuple[str, str, str, str, str]:
    waits = "; ".join(key.blockers)
    if not waits and key.until is not None:
        waits = "time"
    return key.kid, key.phase, _stamp(key.since) or "-", _stamp(key.until) or "-", waits or "-"


def _write(report: RotationReport, rows: Sequence[tuple[str, ...]]) -> None:
    """For a log or another program: one line for each key, and the life of keys in ASCII."""
    widths = [max(len(row[column]) for row in (_HEAD, *rows)) for column in range(len(_HEAD) - 1)]
    for row in (_HEAD, *rows) if rows else ():
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]))
    bars = tuple(_bars(report))
    for line in draw(bars, now=report.looked.observation.at):
        click.echo("".join(text for text, _ in line).rstrip())
    if bars:
        click.echo(legend(bars))


def _draw(report: RotationReport, rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console  # noqa: PLC0415  # only when something is drawn
    from rich.table import Table  # noqa: PLC0415  # only when something is drawn
    from rich.text import Text  # noqa: PLC0415  # only when something is drawn

    console = Console()
    table = Table(title_justify="left")
    for name in _HEAD:
        table.add_column(name, overflow="fold")
    for row in rows:  # as Text: a key id may hold what looks like rich's markup
        style = _STYLES.get(row[1], "")
        table.add_row(Text(row[0], style="bold"), Text(row[1], style=style), *map(Text, row[2:]))
    if rows:
        console.print(table)
    bars = tuple(_bars(report))
    width = min(_WIDE, max(_NARROW, shutil.get_terminal_size().columns - 16))
    for line in draw(bars, now=report.looked.observation.at, width=width, blocks=True):
        console.print(Text.assemble(*line), no_wrap=True, crop=False)
    if bars:
        console.print(Text(legend(bars, blocks=True), style="dim"))


def _bars(report: RotationReport) -> Iterator[Bar]:
    """The timeline as bars; a row whose beginning nobody saw is not drawn."""
    spans: dict[str, list[Span]] = {key.kid: [] for key in report.status.keys}
    for row in report.timeline:
        if row.since is not None:
            spans.setdefault(row.kid, []).append(Span(row.phase, row.since, row.until))
    yield from (Bar(kid, tuple(found)) for kid, found in spans.items() if found)


def _print_step(name: str, step: Step) -> None:
    click.echo(f"{name}: {step.text}")
    if step.flags:
        click.echo("  the flags of kube-apiserver, on every control plane node, one after the other:")
        click.echo(flags_for(step), nl=False)
    if step.command is not None:
        click.echo(f"  then: {step.command}")


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
