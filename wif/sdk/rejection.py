"""Telling "my token was rejected" from "give me a token", where an SDK has one method for both.

google-auth calls ``refresh()`` when a service answers 401, and so do programs that merely want a token, sixty-four
threads of them at the start, or a downscoped credential at every use. Dropping the cached token each time would
turn that into a storm of exchanges; never dropping it would keep a revoked token until it expires. So a token is
dropped when the asking thread was given that very token before, and at most once in a while.

The thread and not the task is the asker: the session of google.auth.aio runs each step of one request in a task of
its own (``asyncio.wait_for`` does, before Python 3.12), and lets only one of many tasks refresh after a 401.
"""

from __future__ import annotations

__all__ = ["PAUSE_SECONDS", "Rejections"]

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wif.core.credentials import AccessToken

PAUSE_SECONDS = 60.0
"""A token exchanged anew because of a rejection is not dropped for another within this time: a service that rejects
a new-born token will reject the next one too, and google-auth repeats a request twice."""


class Rejections:
    """Which thread was given which token, and when one was last dropped.

    Args:
        drop: forgets the cached token: the exchanger's ``invalidate``.
        steady: the clock, seconds; tests hand in their own.
    """

    def __init__(self, drop: Callable[[], None], *, steady: Callable[[], float] = time.monotonic) -> None:
        self._drop = drop
        self._steady = steady
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._dropped_at: float | None = None

    def given(self, token: AccessToken) -> None:
        """This thread has this token now."""
        self._threads.token = token

    def held(self) -> AccessToken | None:
        """The token that this thread has; ask before the exchanger is asked, which may give it another."""
        token: AccessToken | None = getattr(self._threads, "token", None)
        return token

    def rejected(self, held: AccessToken | None, current: AccessToken) -> bool:
        """Drop the current token if it is the one that was held; True where that was done.

        Args:
            held: of :meth:`held`.
            current: what the exchanger serves now. Another one than was held means that somebody else was faster,
                and nothing is dropped.
        """
        if held is not current:
            return False
        with self._lock:
            now = self._steady()
            if self._dropped_at is not None and now - self._dropped_at < PAUSE_SECONDS:
                return False
            self._dropped_at = now
        self._drop()
        return True
