"""Telling "my token was rejected" from "give me a token", where an SDK has one method for both.

google-auth calls ``refresh()`` when a service answers 401, and so do programs that merely want a token, sixty-four
threads of them at the start, or a downscoped credential at every use. Dropping the cached token each time would
turn that into a storm of exchanges; never dropping it would keep a revoked token until it expires. So a token is
dropped when it was handed out before (by ``apply`` or ``token``), and at most once in a while. Who asked does not
matter: a session may apply a token on one thread and refresh it on another.
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
    """Which token was last handed out, and when one was last dropped.

    Args:
        drop: forgets the cached token: the exchanger's ``invalidate``.
        steady: the clock, seconds; tests hand in their own.
    """

    def __init__(self, drop: Callable[[], None], *, steady: Callable[[], float] = time.monotonic) -> None:
        self._drop = drop
        self._steady = steady
        self._lock = threading.Lock()
        self._used: AccessToken | None = None
        self._dropped_at: float | None = None

    def used(self, token: AccessToken) -> None:
        """This token was handed out, so that it may be in a request."""
        self._used = token

    def rejected(self, current: AccessToken) -> bool:
        """Drop the current token if it was used; True where that was done.

        Args:
            current: what the exchanger serves now. Another one than was used means that somebody else was faster,
                and nothing is dropped.
        """
        with self._lock:
            if self._used is not current:
                return False
            now = self._steady()
            if self._dropped_at is not None and now - self._dropped_at < PAUSE_SECONDS:
                return False
            self._dropped_at = now
        self._drop()
        return True
