"""A lint as a table: rules that look at one subject, and findings that say which clouds break and how."""

from __future__ import annotations

__all__ = ["ALL_CLOUDS", "Finding", "Found", "Level", "Rule", "apply_rules", "shown"]

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T")

Level = Literal["error", "warning"]
"""An error is never written; a warning is written and told."""

ALL_CLOUDS = ("aws", "gcp", "azure")

_MAX_FINDINGS = 20
"""Of one rule; what somebody else has written can break it without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that is broken."""

    rule: str
    """A stable slug."""
    level: Level
    clouds: tuple[str, ...]
    """Those of the readers that break; empty where it is not a matter of one cloud."""
    message: str
    """What is wrong, and how the clouds break."""
    hint: str


class Found(NamedTuple):
    """What a check has seen."""

    message: str
    clouds: tuple[str, ...] | None = None
    """Where the check knows it better than its rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Generic[T]):
    """One line of a table."""

    name: str
    level: Level
    clouds: tuple[str, ...] = ALL_CLOUDS
    """Those that break; empty where it is no matter of one cloud, and the rule then holds for every reader."""
    check: Callable[[T], Iterator[Found]]
    hint: str
    when: Literal["always", "read-by-url", "uploaded"] = "always"
    """Some rules are for readers at the public address, others for key sets that are uploaded to the clouds alone."""
    is_reach: bool = False
    """Whether it only keeps out readers who are not in the issuer's own network."""


def apply_rules(
    rules: Sequence[Rule[T]],
    subject: T,
    *,
    clouds: Collection[str] = ALL_CLOUDS,
    fetched: bool = True,
    allow_private: bool = False,
) -> tuple[Finding, ...]:
    """The findings of a table, in its order.

    Args:
        clouds: those that read; a rule that breaks only others is no finding.
        fetched: whether any of them reads at the public address; else the keys are uploaded to all of them.
        allow_private: the caller has readers in its own network: what keeps the clouds out is a warning.
    """
    if not rules or not clouds:
        raise AssertionError("a lint without rules or readers finds nothing")
    findings = []
    for rule in rules:
        if rule.when == ("uploaded" if fetched else "read-by-url"):
            continue
        level: Level = "warning" if rule.is_reach and allow_private else rule.level
        for found in islice(rule.check(subject), _MAX_FINDINGS):
            named = rule.clouds if found.clouds is None else found.clouds
            broken = tuple(cloud for cloud in ALL_CLOUDS if cloud in named and cloud in clouds)
            if broken or not named:
                findings.append(
                    Finding(rule=rule.name, level=level, clouds=broken, message=found.message, hint=rule.hint)
                )
    return tuple(findings)


def shown(text: str) -> str:
    """A text as it is quoted in a finding: escaped and cut."""
    return repr(text if len(text) <= 256 else f"{text[:256]}…")
