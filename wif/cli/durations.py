"""Lengths of time as they are typed and shown: seconds, or ``1h30m`` as Kubernetes' flags write them."""

from __future__ import annotations

__all__ = ["Duration", "parse_duration", "show_duration"]

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _ParamType = click.ParamType[int]  # generic since click 8.3
else:
    _ParamType = click.ParamType

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_FORM = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,8})h)?(?:(\d{1,9})m)?(?:(\d{1,11})s)?")
MAX_SECONDS = 1 << 32
"""As long as a ServiceAccount token can live."""


def parse_duration(text: str) -> int:
    """Whole seconds of ``86400``, ``24h``, ``1h30m`` or ``1d``.

    Raises:
        ValueError: it is none of these, or longer than 2^32 s.
    """
    found = _FORM.fullmatch(text)
    if text.isascii() and text.isdigit() and len(text) <= 11:
        seconds = int(text)
    elif text.isascii() and found is not None and text:
        seconds = sum(int(part) * unit for part, unit in zip(found.groups("0"), _UNITS.values(), strict=True))
    else:
        raise ValueError(f"{text!r} is no length of time; write seconds, or hours and minutes as in 24h or 1h30m")
    if seconds > MAX_SECONDS:
        raise ValueError(f"{text!r} is longer than any token lives (2^32 seconds)")
    return seconds


def show_duration(seconds: float) -> str:
    """The two largest units of a length of time: ``1d 2h``, ``1h 30m``, ``12s``."""
    rest = max(0, round(seconds))
    parts = []
    for unit, size in _UNITS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


class Duration(_ParamType):
    """An option's value in seconds, typed as :func:`parse_duration` reads it."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it, or say how it is written."""
        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
