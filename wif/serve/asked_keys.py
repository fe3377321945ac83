"""Which tokens an identity's clients ask for: a bounded number of kinds, each of which costs exchanges and a cache."""

from __future__ import annotations

__all__ = ["FALLOW_SECONDS", "MAX_KEYS", "AskedKeys", "Clients"]

import time
from collections.abc import Callable, Hashable

from wif.clouds.endpoint_answers import Answer
from wif.clouds.endpoint_requests import seconds_left
from wif.core.credentials import AccessToken
from wif.serve.waiting import WaitingRoom

MAX_KEYS = 32
"""Kinds of tokens of one identity: sets of scopes, audiences, resources. Half of what an exchanger caches."""
FALLOW_SECONDS = 600.0
"""A kind that nobody has asked for in this time gives its place away."""


class AskedKeys:
    """Remembers what clients asked for of one identity.

    An exchanger bounds its exchanges by the key. Whoever asks for something else each time would not be bounded, and
    use up a quota that the whole account shares.
    """

    __slots__ = ("_asked", "_clock")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._asked: dict[Hashable, float] = {}
        self._clock = clock

    def admits(self, key: Hashable) -> bool:
        """Note that this was asked for; False where it is one kind too many."""
        now = self._clock()
        asked = self._asked
        if key in asked:
            del asked[key]  # to the end: the first is who was not asked for longest
        elif len(asked) >= MAX_KEYS:
            oldest = next(iter(asked))
            if now - asked[oldest] < FALLOW_SECONDS:
                return False
            del asked[oldest]
        asked[key] = now
        return True


class Clients:
    """Who asks one interface for one identity's tokens."""

    __slots__ = ("_clock", "_last", "keys", "room")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._last: tuple[Hashable, AccessToken, int, Answer] | None = None
        self.keys = AskedKeys()
        """What they ask for."""
        self.room = WaitingRoom()
        """Who of them waits."""

    def answer(self, key: Hashable, credential: AccessToken, make: Callable[[float], Answer]) -> Answer:
        """The answer that holds a token: the last one, where it would be the same again.

        Args:
            key: what was asked for.
            make: makes it at a Unix time.
        """
        now = self._clock()
        left = seconds_left(credential, now)
        last = self._last
        if last is not None and last[1] is credential and last[2] == left and last[0] == key:
            return last[3]
        made = make(now)
        self._last = (key, credential, left, made)
        return made
