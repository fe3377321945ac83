"""What ``wif issuer`` prints for people: a block for each target, what was found, what a cloud would see.

Words first, colour only on a terminal: ``ok``, ``warning`` and ``ALERT`` read the same in a log.
"""

from __future__ import annotations

__all__ = ["show_outside", "show_publish", "show_unpublish"]

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from wif.errors import WifError

if TYPE_CHECKING:
    from wif.core.issuer_lint import Finding
    from wif.issuer.outside import OutsideReport
    from wif.issuer.report import PublishReport, TargetReport, UnpublishReport
    from wif.issuer.verify import VerifyReport

_COLOURS = {"ok": "green", "warning": "yellow", "ALERT": "red", "FAILED": "red", "hint": "cyan"}

_OUTCOMES = {
    "unchanged": "nothing to change",
    "written": "written",
    "would-write": "would be written",
    "failed": "not brought up to date",
}

_KEYS = (
    ("added", "", "key added"),
    ("removed", "", "key removed"),
    ("filtered", "", "key left out for its algorithm"),
    ("lost", "ALERT", "recorded key that is not here"),
)
"""Lists of key ids, the verdict on each, and what it is called; unknown and altered keys have sentences."""


class _Line(NamedTuple):
    indent: int
    text: str
    word: str = ""
    """A verdict in front of the text."""


def show_publish(report: PublishReport) -> None:
    """One run for one issuer."""
    _print(_publish_lines(report))
    for target in report.targets:
        if target.diff:
            click.echo()
            for line in target.diff.splitlines():
                _print_diff_line(line)


def show_outside(report: OutsideReport) -> None:
    """What is seen at the public address, and at the places that have none."""
    _print(_outside_lines(report))


def show_unpublish(report: UnpublishReport) -> None:
    """What was taken away, or why it was not, and what is to be done in which order."""
    _print(_unpublish_lines(report))


def _publish_lines(report: PublishReport) -> Iterator[_Line]:
    name = f" ({report.name})" if report.name else ""
    yield _Line(0, f"issuer {report.issuer}{name}")
    if report.managed is not None:
        yield _Line(1, f"{report.managed.provider.upper()} publishes this issuer itself: nothing to do", "ok")
        yield _Line(1, f"discovery document: {report.managed.discovery_url}")
        if report.managed.jwks_uri:
            yield _Line(1, f"key set: {report.managed.jwks_uri}")
        return
    yield _Line(1, f"keys vouched for: {', '.join(report.keys) or 'none'}")
    if report.servers:
        yield _Line(1, f"API servers: {', '.join(report.servers)}")
    yield _Line(1, f"state: {report.state}")
    yield from _findings(report.findings)
    for warning in report.warnings:
        yield _Line(1, warning, "warning")
    for target in report.targets:
        yield from _target_lines(target)
    if report.verification is not None:
        yield _Line(0, "seen from outside")
        # what is published now may be seen a while later: of this run nothing has failed
        yield from _verify_lines(report.verification, failed="warning")
    if report.error is not None:
        yield _Line(0, f"what was written is not recorded: {report.error.message}", "FAILED")
    if report.has_tampering:
        yield _Line(0, "find out who wrote what nobody vouches for; wif issuer publish --restore repairs it", "hint")


def _outside_lines(report: OutsideReport) -> Iterator[_Line]:
    yield _Line(0, f"issuer {report.issuer}")
    for warning in report.warnings:
        yield _Line(1, warning, "warning")
    if report.public is not None:
        yield from _verify_lines(report.public)
    for name, found in report.places.items():
        yield _Line(0, name)
        if isinstance(found, WifError):
            yield _Line(1, found.message, "FAILED")
            yield _Line(1, found.hint, "hint")
        else:
            yield from _verify_lines(found)


def _findings(findings: Iterable[Finding]) -> Iterator[_Line]:
    for finding in findings:
        yield _Line(1, f"{finding.message} ({finding.rule})", "warning" if finding.level == "warning" else "FAILED")
        if finding.hint:
            yield _Line(2, finding.hint, "hint")


def _target_lines(target: TargetReport) -> Iterator[_Line]:
    verdict = "FAILED" if target.outcome == "failed" else "ALERT" if target.has_tampering else "ok"
    yield _Line(0, f"{target.name}: {_OUTCOMES[target.outcome]}", verdict)
    for member, word, text in _KEYS:
        for kid in getattr(target, member):
            yield _Line(1, f"{text} {kid}", word)
    for sentence in target.tampering:
        yield _Line(1, sentence, "ALERT")
    for sentence in target.drift:
        yield _Line(1, f"before: {sentence}" if target.outcome == "written" else sentence)
    for sentence in target.warnings:
        yield _Line(1, sentence, "warning")
    if target.error is not None:
        yield _Line(1, target.error.message)
        if target.error.hint:
            yield _Line(1, target.error.hint, "hint")


def _verify_lines(report: VerifyReport, *, failed: str = "FAILED") -> Iterator[_Line]:
    for check in report.checks:
        word = "ok" if check.ok else {"tampering": "ALERT", "warning": "warning", "info": "ok"}.get(check.level, failed)
        took = "" if check.seconds is None else f" ({check.seconds:.2f} s)"
        yield _Line(1, f"{check.name}: {check.detail}{took}", word)


def _unpublish_lines(report: UnpublishReport) -> Iterator[_Line]:
    yield _Line(0, f"issuer {report.issuer}")
    for blocker in report.blockers:
        yield _Line(1, blocker, "FAILED")
    for number, step in enumerate(report.steps, 1):
        yield _Line(1, f"{number}. {step}")
    for target in report.targets:
        yield from _target_lines(target)


def _print(lines: Iterable[_Line]) -> None:
    for line in lines:
        word = f"{_styled(line.word)} " if line.word else ""
        click.echo("  " * line.indent + word + _plain(line.text))


def _print_diff_line(line: str) -> None:
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    click.echo(click.style(line, fg=colour) if colour and _colours() else line)


def _styled(word: str) -> str:
    return click.style(word, fg=_COLOURS.get(word), bold=True) if _colours() else word


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _plain(text: str) -> str:
    """Nothing that would act on a terminal: what a target holds may have been written by an attacker."""
    return "".join(character if character.isprintable() else " " for character in text)
