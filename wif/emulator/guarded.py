"""Programs that end with this process: a guard (:mod:`wif.emulator.guard`) and the commands to it."""

from __future__ import annotations

__all__ = ["GuardedPrograms", "Program", "last_lines"]

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wif.emulator import guard
from wif.errors import UnavailableError

_SPARE_SECONDS = 5.0
"""For the guard itself, beside what its programs may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and the file that takes its output."""

    argv: tuple[str, ...]
    log: str


class GuardedPrograms:
    """Programs under one guard. Safe for threads.

    Args:
        programs: those without which nothing makes sense, in the order of their start; stopped last, in reverse.
        grace_seconds: how long each may take to end before it is killed.
        remove: a directory that goes with them.
    """

    def __init__(self, programs: Sequence[Program], *, grace_seconds: float, remove: Path) -> None:
        task = {"programs": [asdict(each) for each in programs], "grace_seconds": grace_seconds, "remove": str(remove)}
        self._grace_seconds = grace_seconds
        self._running = len(programs)
        self._lock = threading.Lock()
        self._farewell: dict[str, Any] | None = None
        self._is_over = False
        self._guard: subprocess.Popen[str] = subprocess.Popen(  # noqa: S603 - our own script, by this interpreter
            [sys.executable, "-I", "-S", guard.__file__, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which then stops the guard in order
        )
        self.pids: tuple[int, ...] = tuple(self._read().get("pids", ()))
        """Process ids of the first programs."""

    @property
    def has_ended(self) -> bool:
        """Whether the guard has gone, and all programs with it."""
        return self._guard.poll() is not None

    def start(self, program: Program) -> int:
        """Run one more program, and return its process id.

        Raises:
            UnavailableError: cluster-unavailable where it cannot be run, or the guard has gone.
        """
        report = self._command({"start": asdict(program)})
        if "pid" not in report:
            raise UnavailableError(
                f"{program.argv[0]} cannot be run: {report.get('error', 'its guard has ended')}",
                code="cluster-unavailable",
            )
        self._running += 1
        return int(report["pid"])

    def stop(self, pid: int) -> None:
        """Stop one of the programs and wait until it has gone; afterwards nobody knows its process id any more."""
        self._command({"stop": pid})

    def last_words(self, pid: int) -> str:
        """What a program said at its end; empty while it runs."""
        report = self._command({"look": pid})
        if report.get("status") is None:
            return ""
        return f"ended with status {report['status']}: {last_lines(report['log'])}"

    def report(self) -> str:
        """What the guard wrote before it ended by itself."""
        with self._lock:
            while self._farewell is None and self._read():
                pass
        if self._farewell is None:
            return "its guard ended"
        said = self._farewell
        return f"{said['exited']} ended with status {said['status']}: {last_lines(said['log'])}"

    def end(self) -> None:
        """Stop all programs in order; nothing happens the second time."""
        if self._is_over:
            return
        self._is_over = True
        self._guard.terminate()
        try:
            self._guard.communicate(timeout=self._running * self._grace_seconds + _SPARE_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()  # the kernel then kills the programs, where it can
            self._guard.communicate()

    def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                assert self._guard.stdin is not None  # noqa: S101 - it is a pipe
                self._guard.stdin.write(json.dumps(command) + "\n")
                self._guard.stdin.flush()
            except (OSError, ValueError):  # it has gone
                return {}
            return self._read()

    def _read(self) -> dict[str, Any]:
        """The next line; empty where there is none any more."""
        if self._is_over or self._guard.stdout is None:
            return {}
        report: dict[str, Any] = json.loads(self._guard.stdout.readline() or "{}")
        if "exited" in report:  # comes unasked, as the last one
            self._farewell = report
            return {}
        return report


def last_lines(text: str) -> str:
    """The last two lines that are no mere information (klog marks those with an I)."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("I")]
    return " / ".join(lines[-2:])[:1000] or "none"
