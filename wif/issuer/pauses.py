"""How long to wait after a conflict: at random, growing, with an end."""

from __future__ import annotations

__all__ = ["MAX_TRIES", "pause"]

import random
import time

MAX_TRIES = 60
"""Conflicts grow with the square of the writers; two hundred on one document need thirty."""

_FIRST_SECONDS = 0.01
_GROWTH = 1.3
_LONGEST_SECONDS = 2.0


def pause(attempt: int) -> None:
    """Sleep after the failed try ``attempt``, counted from 0: any time up to a bound that grows with it."""
    bound = min(_LONGEST_SECONDS, _FIRST_SECONDS * _GROWTH ** min(attempt, 100))
    time.sleep(random.uniform(0.0, bound))  # noqa: S311 - jitter, no secret
