"""Annotations as values: tables of fields, read the same way when a pod is made and when an account is written.

A dialect has one table for the annotations of its ServiceAccounts. ``read`` and ``check`` go through it with
:func:`values_of`, so what is refused at the one is refused at the other.
"""

from __future__ import annotations

__all__ = [
    "MAX_TOKEN_SECONDS",
    "Field",
    "Place",
    "audience",
    "is_denied",
    "lifetime",
    "unknown_keys",
    "values_of",
    "whole_number",
    "without_effect",
]

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wif.admission.findings import Finding, Level
from wif.clouds.answers import shown

MAX_TOKEN_SECONDS = 2**32
"""The API server refuses longer ones in a pod."""
_MAX_AUDIENCE = 256
_SHOWN = 120
"""Letters of a value in a message."""


class Place(NamedTuple):
    """Whose annotations are read, for the messages."""

    dialect: str
    cloud: str
    object: str
    """``ServiceAccount shop/app`` or ``the pod``."""

    def finding(self, rule: str, level: Level, message: str, hint: str = "") -> Finding:
        """What is to be said of this object."""
        return Finding(rule, level, f"{self.object}: {message}", hint, self.dialect, self.cloud)


class Field(NamedTuple):
    """One annotation and how it is read.

    Rows of one key stand in order: the first that fails is reported and ends the key's rows, and the key has the value
    of the row before it. So a value can be doubtful (a warning, and used) or no value at all.
    """

    key: str
    """Without its prefix."""
    rule: str
    level: Level
    expected: str
    read: Callable[[str], Any]
    """The value, or None where the text is none."""
    hint: str = ""


def values_of(
    table: Sequence[Field], annotations: Mapping[str, str], prefix: str, place: Place
) -> tuple[dict[str, Any], list[Finding]]:
    """The values of those annotations that are there, by key, and what is wrong with the others."""
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    failed: set[str] = set()
    for row in table:
        text = annotations.get(f"{prefix}/{row.key}")
        if text is None or row.key in failed:
            continue
        value = row.read(text)
        if value is None:
            failed.add(row.key)
            findings.append(
                place.finding(
                    row.rule,
                    row.level,
                    f"annotation {prefix}/{row.key} is {shown(text, _SHOWN)!r}, expected {row.expected}",
                    row.hint,
                )
            )
        else:
            values[row.key] = value
    return values, findings


def is_denied(findings: Iterable[Finding]) -> bool:
    """Whether one of them refuses the object."""
    return any(finding.level == "deny" for finding in findings)


def without_effect(
    table: Sequence[Field], annotations: Mapping[str, str], prefix: str, place: Place, missing: str
) -> tuple[Finding, ...]:
    """A warning for annotations that would say how, where nothing says who."""
    keys = {row.key: None for row in table if f"{prefix}/{row.key}" in annotations}
    if not keys:
        return ()
    named = ", ".join(f"{prefix}/{key}" for key in keys)
    return (
        place.finding(
            "annotation-without-effect",
            "warning",
            f"{named} without {missing}: nothing is injected",
            "set it, or remove the rest",
        ),
    )


def unknown_keys(table: Sequence[Field], annotations: Mapping[str, str], prefix: str, place: Place) -> list[Finding]:
    """A warning for each annotation of the prefix that is not in the table."""
    known = {f"{prefix}/{row.key}": None for row in table}
    return [
        place.finding(
            "annotation-unknown",
            "warning",
            f"annotation {shown(key, _SHOWN)} is not read on a ServiceAccount",
            f"the dialect {place.dialect} reads {', '.join(known)}",
        )
        for key in annotations
        if key.startswith(f"{prefix}/") and key not in known
    ]


def whole_number(text: str) -> int | None:
    """A decimal number of 64 bits as Go's ParseInt reads it, sign allowed; None for anything else."""
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def audience(text: str) -> str | None:
    """The audience of a token as it is; None where it is empty, too long or not printable.

    An empty one would give a token for the API server itself, which must never be sent to a cloud.
    """
    return text if 0 < len(text) <= _MAX_AUDIENCE and text.isprintable() else None


def lifetime(
    pod: tuple[Place, str, int | None],
    account: tuple[Place, str, int | None],
    default_seconds: int,
    *,
    floor_seconds: int,
    max_seconds: int,
) -> tuple[int, tuple[Finding, ...]]:
    """Seconds that a token lives: the pod's wish, else the account's, else the default, within bounds.

    The account's word is the ceiling for its pods; where it says none, ``max_seconds`` is. A wish is a place, the
    annotation's whole name and its value.
    """
    ceiling = min(MAX_TOKEN_SECONDS, max(floor_seconds, max_seconds if account[2] is None else account[2]))
    for place, key, wish in (pod, account):
        if wish is None:
            continue
        seconds = min(max(wish, floor_seconds), ceiling)
        if seconds == wish:
            return seconds, ()
        bound = "at least" if seconds > wish else "at most"
        said = place.finding(
            "token-expiration-clamped",
            "warning",
            f"annotation {key} is {wish}, expected {bound} {seconds} s, which the token gets",
        )
        return seconds, (said,)
    return min(max(default_seconds, floor_seconds), ceiling), ()
