"""Which tokens an identity's clients ask for: a bounded number of kinds, each of which costs exchanges and a cache."""

from __future__ import annotations

__all__ = ["FALLOW_SECONDS", "MAX_KEYS", "AskedKeys", "Clients"]

import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from wif.clouds.endpoint_answers import Answer
from wif.core.credentials import AccessToken
from wif.core.freshness import Lifetime
from wif.exchange.clocks import SYSTEM, Clocks
from wif.serve.waiting import WaitingRoom

MAX_KEYS = 32
"""Kinds of tokens of one identity: sets of scopes, audiences, resources. Half of what an exchanger caches."""
FALLOW_SECONDS = 60.0
"""A kind that gives no token gives its place away after this time to another one, however often it is asked for."""


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
        if key in until:
            return True
        if len(until) >= MAX_KEYS:
            first = min(until, key=until.__getitem__)
            if until[first] > now:
                return False
            del until[first]
        until[key] = now + FALLOW_SECONDS
        return True

    def given(self, key: Hashable, valid_seconds: float) -> None:
        """Note that this kind has given a token, and how long it is valid."""
        if key in self._until:
            self._until[key] = self._clock() + max(valid_seconds, FALLOW_SECONDS)


class _Last(NamedTuple):
    """An answer, and what it is the answer to."""

    asked: Hashable
    credential: AccessToken
    plan: Lifetime
    left: int
    ends: float
    """By the wall clock, which may be set while as much is left."""
    answer: Answer


class Clients:
    """Who asks one interface for one identity's tokens.

    Args:
        clocks: those of the identity's exchanger.
    """

    __slots__ = ("_clocks", "_last", "keys", "room")

    def __init__(self, clocks: Clocks = SYSTEM) -> None:
        self._clocks = clocks
        self._last: _Last | None = None
        self.keys = AskedKeys()
        """What they ask for."""
        self.room = WaitingRoom()
        """Who of them waits."""

    def answer(
        self,
        asked: Hashable,
        kind: Hashable,
        credential: AccessToken,
        life: Callable[[AccessToken], Lifetime],
        make: Callable[[AccessToken, float], Answer],
    ) -> Answer:
        """The answer that holds a token: the last one, where it would be the same again.

        Args:
            asked: what was asked for, in the words that the answer repeats.
            kind: of token, as :attr:`keys` knows it.
            life: when the token ends, as the exchanger that gave it knows.
            make: makes it of the token, its end told by the wall clock of now, at a Unix time.
        """
        last = self._last
        if last is not None and last.credential is credential:
            plan = last.plan
        else:
            last, plan = None, life(credential)
        now = self._clocks.wall()
        left = plan.left(self._clocks.steady(), now)
        ends = now + left
        if last is not None and last.left == int(left) and abs(last.ends - ends) < 1.0 and last.asked == asked:
            return last.answer
        made = make(replace(credential, expires_at=datetime.fromtimestamp(ends, UTC)), now)
        self.keys.given(kind, left)
        self._last = _Last(asked, credential, plan, int(left), ends, made)
        return made
