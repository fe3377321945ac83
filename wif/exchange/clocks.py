"""The clocks that an exchanger reads, as one value that a test can replace."""

from __future__ import annotations

__all__ = ["SYSTEM", "Clocks", "chance"]

import functools
import os
import time
from collections.abc import Callable
from typing import NamedTuple


class Clocks(NamedTuple):
    """Three clocks, each a function that returns seconds."""

    steady: Callable[[], float]
    """Never jumps, and goes on while the machine is suspended where the system has such a clock (Linux)."""
    wall: Callable[[], float]
    """Unix time."""
    monotonic: Callable[[], float]
    """For deadlines of requests."""


SYSTEM = Clocks(
    steady=functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic,
    wall=time.time,
    monotonic=time.monotonic,
)


def chance() -> float:
    """A random number of [0, 1), different in every process of a fork."""
    return int.from_bytes(os.urandom(4), "big") / 2.0**32
