"""The life of an issuer's keys drawn to scale: one line for each key, one column for each slice of time."""

from __future__ import annotations

__all__ = ["Bar", "Span", "draw", "legend"]

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from wif.cli.durations import show_duration


class Span(NamedTuple):
    """A key was in one phase from one moment to another."""

    phase: str
    since: datetime
    until: datetime | None
    """None: it still is, and nobody knows until when."""


class Bar(NamedTuple):
    """The life of one key."""

    key_id: str
    spans: Sequence[Span]


class _Look(NamedTuple):
    plain: str
    block: str
    style: str


_LOOKS: Mapping[str, _Look] = {
    "staged": _Look(".", "░", "dim"),
    "published": _Look("-", "▒", "cyan"),
    "verified": _Look("-", "▒", "cyan"),
    "waiting": _Look("~", "▒", "yellow"),
    "signing": _Look("#", "█", "green"),
    "draining": _Look("=", "▓", "magenta"),
    "retired": _Look("x", "·", "dim"),
    "removed": _Look("x", "·", "red"),
}
_UNKNOWN = _Look("?", "?", "")
_NOW = "|"
_SHOWN_KEY = 12
"""Letters of a key id at the start of its line; the table above has it whole."""


def draw(
    bars: Sequence[Bar], *, now: datetime, width: int = 60, blocks: bool = False
) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Lines of (text, style); nothing where no key has a past.

    Args:
        width: columns of the scale, without the key ids.
        blocks: draw with block characters; else with ASCII, which every log shows.
    """
    starts = [span.since for bar in bars for span in bar.spans]
    if not starts:
        return ()
    ends = [span.until for bar in bars for span in bar.spans if span.until is not None]
    first, last = min([*starts, now]), max([*ends, now])
    length = max((last - first).total_seconds(), 1.0)
    last = first + timedelta(seconds=length)
    scale = _Scale(first=first, seconds=length, width=width)
    label = max(min(_SHOWN_KEY, len(bar.key_id)) for bar in bars)
    return (
        *(((f"{bar.key_id[:_SHOWN_KEY]:<{label}} ", "bold"), *_cells(bar, scale, now, blocks)) for bar in bars),
        ((" " * (label + 1) + _ruler(scale, now), ""),),
        ((" " * (label + 1) + _ends(first, now, last, width), "dim"),),
    )


def legend(bars: Iterable[Bar], *, blocks: bool = False) -> str:
    """What the characters of these bars mean."""
    phases = dict.fromkeys(span.phase for bar in bars for span in bar.spans)
    shown: dict[str, list[str]] = {}
    for phase in phases:
        look = _LOOKS.get(phase, _UNKNOWN)
        shown.setdefault(look.block if blocks else look.plain, []).append(phase)
    return "   ".join(f"{character} {'/'.join(names)}" for character, names in shown.items())


class _Scale(NamedTuple):
    first: datetime
    seconds: float
    width: int

    def column(self, moment: datetime) -> int:
        share = (moment - self.first).total_seconds() / self.seconds
        return min(self.width - 1, max(0, int(share * self.width)))


def _cells(bar: Bar, scale: _Scale, now: datetime, blocks: bool) -> list[tuple[str, str]]:
    cells = [(" ", "")] * scale.width
    for span in bar.spans:  # in order of time: where two share a column, the later one shows
        look = _LOOKS.get(span.phase, _UNKNOWN)
        start = scale.column(span.since)
        end = scale.column(span.until) if span.until is not None else scale.column(now)
        for column in range(start, max(end, start) + 1):
            cells[column] = (look.block if blocks else look.plain, look.style)
    return _joined(cells)


def _joined(cells: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbours of one style as one text."""
    parts: list[tuple[str, str]] = []
    for text, style in cells:
        if parts and parts[-1][1] == style:
            parts[-1] = (parts[-1][0] + text, style)
        else:
            parts.append((text, style))
    return parts


def _ruler(scale: _Scale, now: datetime) -> str:
    column = scale.column(now)
    return " " * column + _NOW


def _ends(first: datetime, now: datetime, last: datetime, width: int) -> str:
    past, future = (now - first).total_seconds(), (last - now).total_seconds()
    left = f"{show_duration(past)} ago" if past >= 1 else "now"
    right = f"in {show_duration(future)}" if future >= 1 else "now"
    return left + right.rjust(max(1, width - len(left)))
