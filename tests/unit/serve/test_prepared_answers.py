"""The answer with a token is made once, and anew as soon as anything of it would be another."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from wif.clouds.endpoint_answers import Answer
from wif.core.credentials import AccessToken
from wif.core.freshness import Lifetime, lifetime
from wif.exchange.clocks import SYSTEM
from wif.serve.asked_keys import Clients

BEGIN = 1_800_000_000.0
TOKEN = AccessToken(token="one", expires_at=datetime.fromtimestamp(BEGIN + 3600, UTC), lifetime_seconds=3600.0)


class _Maker:
    def __init__(self) -> None:
        self.made: list[float] = []
        self.ends: list[datetime] = []

    def __call__(self, token: AccessToken, now: float) -> Answer:
        self.made.append(now)
        self.ends.append(token.expires_at)
        return Answer(200, b"%d" % len(self.made))


def _clients(now: list[float]) -> Clients:
    return Clients(SYSTEM._replace(steady=lambda: now[0] - BEGIN, wall=lambda: now[0]))


def _life(token: AccessToken) -> Lifetime:
    return lifetime(token.lifetime_seconds, steady=0.0, wall=BEGIN, chance=0.5)


def test_the_same_question_in_the_same_second_has_the_same_answer() -> None:
    now, make = [BEGIN + 0.1], _Maker()
    clients = _clients(now)
    first = clients.answer(("a",), "kind", TOKEN, _life, make)
    now[0] += 0.8
    assert clients.answer(("a",), "kind", TOKEN, _life, make) is first
    assert make.made == [BEGIN + 0.1]


@pytest.mark.parametrize("what", ["second", "key", "token", "equal token"])
def test_anything_else_is_answered_anew(what: str) -> None:
    now, make = [BEGIN + 0.5], _Maker()
    clients = _clients(now)
    clients.answer(("a",), "kind", TOKEN, _life, make)
    now[0] += 1.0 if what == "second" else 0.0
    key = ("b",) if what == "key" else ("a",)
    token = {"token": dataclasses.replace(TOKEN, token="two"), "equal token": dataclasses.replace(TOKEN)}.get(what)
    assert clients.answer(key, "kind", token or TOKEN, _life, make).body == b"2"
    assert clients.answer(key, "kind", token or TOKEN, _life, make).body == b"2"


def test_the_end_is_told_by_the_clock_of_now_though_it_was_another_one_when_the_token_came() -> None:
    wall, steady, make = [BEGIN], [0.0], _Maker()
    clients = Clients(SYSTEM._replace(steady=lambda: steady[0], wall=lambda: wall[0]))
    clients.answer(("a",), "kind", TOKEN, _life, make)
    wall[0], steady[0] = BEGIN - 1800.0 + 2700.0, 2700.0  # half an hour fast, then set right; 45 minutes go by
    clients.answer(("a",), "kind", TOKEN, _life, make)
    assert [end.timestamp() for end in make.ends] == [BEGIN + 3600.0, wall[0] + 900.0]


def test_a_clock_that_is_set_while_as_much_is_left_is_another_answer() -> None:
    wall, make = [BEGIN - 30.0], _Maker()
    clients = Clients(SYSTEM._replace(steady=lambda: 0.0, wall=lambda: wall[0]))
    for at in (BEGIN - 30.0, BEGIN, BEGIN):
        wall[0] = at
        clients.answer(("a",), "kind", TOKEN, _life, make)
    assert [end.timestamp() for end in make.ends] == [BEGIN + 3570.0, BEGIN + 3600.0]
