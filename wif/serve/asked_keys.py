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
FALLOW_SECONDS = 60.0
"""A kind that gave no token gives its place away when nobody has asked for it in this time."""


class AskedKeys:
    """Remembers what clients asked for of one identity.

    An exchanger bounds its exchanges by the key. Whoever asks for something else each time would not be bounded, and
    use up a quota that the whole account shares. A kind whose token is valid keeps its place, whoever else asks.

    Args:
        clock: the monotonic one.
    """

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._until: dict[Hashable, float] = {}
        self._clock = clock

    def admits(self, key: Hashable) -> bool:
        """Note that this was asked for; False where it is one kind too many."""
        now, until = self._clock(), self._until
        if key not in until and len(until) >= MAX_KEYS:
            first = min(until, key=until.__getitem__)
            if until[first] > now:
                return False
            del until[first]
        until[key] = max(until.get(key, 0.0), now + FALLOW_SECONDS)
        return True

    def given(self, key: Hashable, valid_seconds: float) -> None:
        """Note that this kind has given a token, and how long it is valid."""
        if key in self._until:
            self._until[key] = self._clock() + max(valid_seconds, FALLOW_SECONDS)


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

    def answer(
        self, asked: Hashable, kind: Hashable, credential: AccessToken, make: Callable[[float], Answer]
    ) -> Answer:
        """The answer that holds a token: the last one, where it would be the same again.

        Args:
            asked: what was asked for, in the words that the answer repeats.
            kind: of token, as :attr:`keys` knows it.
            make: makes it at a Unix time.
        """
        now = self._clock()
        left = seconds_left(credential, now)
        last = self._last
        if last is not None and last[1] is credential and last[2] == left and last[0] == asked:
            return last[3]
        made = make(now)
        self.keys.given(kind, left)
        self._last = (asked, credential, left, made)
        return made
