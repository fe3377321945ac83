"""What a measurement says, and how two programs are compared."""

from __future__ import annotations

__all__ = ["Outcome", "Row", "compare", "run_once"]

import json
import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

RUNS = 9
"""Counted runs of each program; one more warms the page cache and the compiled modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured figure beside its peer's, and its target."""

    name: str
    value: float | None
    """None where it could not be measured here; ``note`` says why."""
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    target: str
    met: bool | None
    note: str = ""

    def as_json(self) -> str:
        """The row as one JSON object."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run of a program."""

    seconds: float
    peak_mib: float


def run_once(command: Sequence[str], environment: Mapping[str, str]) -> Outcome:
    """Run a program to its end; wall time and peak memory by the operating system's account."""
    began = time.perf_counter()
    child = subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert child.stderr is not None
    complaint = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode != 0:
        raise RuntimeError(f"{command}: exit status {child.returncode}: {complaint.decode()[-2000:]}")
    return Outcome(seconds=seconds, peak_mib=usage.ru_maxrss / 1024)


def compare(
    ours: tuple[Sequence[str], Mapping[str, str]], peers: tuple[Sequence[str], Mapping[str, str]]
) -> tuple[Outcome, Outcome, float]:
    """Run two programs in turn and return the median of each, and the median of the ratios pair by pair."""
    mine: list[Outcome] = []
    theirs: list[Outcome] = []
    for number in range(RUNS + 1):
        pair = run_once(*ours), run_once(*peers)
        if number:
            mine.append(pair[0])
            theirs.append(pair[1])
    ratios = [a.seconds / b.seconds for a, b in zip(mine, theirs, strict=True)]
    return _median(mine), _median(theirs), statistics.median(ratios)


def _median(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        seconds=statistics.median(outcome.seconds for outcome in outcomes),
        peak_mib=statistics.median(outcome.peak_mib for outcome in outcomes),
    )
