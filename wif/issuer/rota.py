"""Several jobs, each at its own time, on a few threads; one job is never run by two threads at once."""

from __future__ import annotations

__all__ = ["Rota"]

import heapq
import threading
from collections.abc import Callable, Sequence

_LONGEST_WAIT_SECONDS = 3600.0
"""A wait is looked at again after so long at the latest: a condition takes no infinite time."""


class Rota:
    """Calls each job when it is due. A job returns the time at which it is due again.

    Args:
        jobs: they translate their own failures; one that raises ends :meth:`run`, which raises that.
        clock: of the times that the jobs return. All are due at the start.
        threads: at most so many jobs at a time.
    """

    def __init__(self, jobs: Sequence[Callable[[], float]], *, clock: Callable[[], float], threads: int) -> None:
        self._jobs = tuple(jobs)
        self._clock = clock
        self._threads = min(threads, max(1, len(self._jobs)))
        self._due: list[tuple[float, int]] = [(float("-inf"), number) for number in range(len(self._jobs))]
        self._woken: set[int] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._failure: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        """Work until the event is set; a job under way then is left to its own end, for ``grace`` of the caller."""
        threads = [
            threading.Thread(target=self._work, args=(stop,), name=f"wif-rota-{number}", daemon=True)
            for number in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in threads:
            thread.join(_JOIN_SECONDS)
        if self._failure is not None:
            raise self._failure

    def wake(self) -> None:
        """Let every job be due now; one under way is due again right after."""
        with self._changed:
            self._woken = set(range(len(self._jobs))) - {number for _, number in self._due}
            self._due = [(float("-inf"), number) for _, number in self._due]
            heapq.heapify(self._due)
            self._changed.notify_all()

    def _work(self, stop: threading.Event) -> None:
        while (number := self._take()) is not None:
            try:
                due = self._jobs[number]()
            except BaseException as error:  # noqa: BLE001 - raised by run: a job lost in silence would never be missed
                self._failure = error
                stop.set()
                return
            with self._changed:
                if number in self._woken:
                    self._woken.discard(number)
                    due = float("-inf")
                heapq.heappush(self._due, (due, number))
                self._changed.notify()

    def _take(self) -> int | None:
        with self._changed:
            while not self._stopping:
                wait = self._due[0][0] - self._clock() if self._due else _LONGEST_WAIT_SECONDS
                if wait <= 0:
                    return heapq.heappop(self._due)[1]
                self._changed.wait(min(wait, _LONGEST_WAIT_SECONDS))
            return None


_JOIN_SECONDS = 5.0
"""For jobs under way when the end comes; the threads are daemons and do not hold up the process."""
