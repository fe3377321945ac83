"""When a controller looks and when it acts, without a clock of its own: times are arguments, chance is an argument.

A *poll* is a cheap look at what a round depends on; a *round* publishes, verifies and records. A round is due at
once where leadership begins and where a poll sees a change, after a period otherwise, and sooner, backing off, where
the last one failed.
"""

from __future__ import annotations

__all__ = ["Schedule", "Timing"]

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How often, in seconds."""

    period_seconds: float = 300.0
    """Between two rounds where nothing changes: drift at a public address that no poll sees is found by then."""
    poll_seconds: float = 15.0
    """Between two polls: a new key is published within that time."""
    first_retry_seconds: float = 5.0
    """After a failed round; doubled with each further one, up to the period."""
    jitter: float = 0.1
    """Of the period, to both sides: many controllers do not come to one bucket at once."""


class Schedule:
    """What is due for one issuer.

    Args:
        timing: how often.
    """

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.failures = 0
        """Rounds that failed in a row."""
        self._round_at = math.inf
        self._poll_at = math.inf
        self._seen: Hashable = None

    @property
    def is_leading(self) -> bool:
        """Whether anything is due at any time."""
        return self._round_at < math.inf

    def lead(self, now: float) -> None:
        """Leadership begins: whatever the last leader did, look at everything now."""
        if not self.is_leading:
            self.failures, self._seen = 0, None
            self._round_at = self._poll_at = now

    def follow(self) -> None:
        """Leadership is over: nothing is due."""
        self._round_at = self._poll_at = math.inf

    def due(self, now: float) -> Literal["round", "poll"] | None:
        """What to do now. A round includes what a poll does."""
        if now >= self._round_at:
            return "round"
        return "poll" if now >= self._poll_at else None

    def next_at(self) -> float:
        """When something is due next; infinite while following."""
        return min(self._round_at, self._poll_at)

    def polled(self, now: float, seen: Hashable) -> bool:
        """Note a look; True where it differs from the one before, and a round is due now.

        Args:
            seen: what was seen; None where it could not be looked at, which is no change.
        """
        if not self.is_leading:
            return False
        self._poll_at = now + self.timing.poll_seconds
        if seen is None or seen == self._seen:
            return False
        self._round_at = now
        return True

    def ran(self, now: float, *, seen: Hashable, ok: bool, chance: float) -> None:
        """Note a round.

        Args:
            seen: what the look *before* the round saw: what changed during it, by others or by the round itself, so
                makes one more round due, which then finds nothing to do.
            ok: whether everything was reached and is right.
            chance: 0 to 1.
        """
        self.failures = 0 if ok else self.failures + 1
        if not self.is_leading:
            return
        self._seen = seen
        timing = self.timing
        if ok:
            wait = timing.period_seconds * (1.0 + timing.jitter * (2.0 * chance - 1.0))
        else:
            grown = min(timing.period_seconds, timing.first_retry_seconds * 2.0 ** min(self.failures - 1, 32))
            wait = grown * (0.5 + 0.5 * chance)
        self._round_at = now + wait
        self._poll_at = now + min(timing.poll_seconds, wait)
