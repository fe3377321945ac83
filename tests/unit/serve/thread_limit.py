"""An executor for the event loop of a process that may start no more threads, as in a pod whose limit is reached."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class LimitedThreads(ThreadPoolExecutor):
    """As CPython's own at such a limit: what it is given stays in its queue, and its next thread does it."""

    is_reached = True

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0
        self._left: list[Callable[[], object]] = []

    def submit(self, function: Callable[_P, _T], /, *words: _P.args, **named: _P.kwargs) -> Future[_T]:
        """Raises RuntimeError as long as the limit is reached."""
        if self.is_reached:
            self.refused += 1
            self._left.append(lambda: function(*words, **named))
            raise RuntimeError("can't start new thread")
        while self._left:
            super().submit(self._left.pop(0))
        return super().submit(function, *words, **named)
