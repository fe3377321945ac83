"""The answer with a token is made once, and anew as soon as anything of it would be another."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from wif.clouds.endpoint_answers import Answer
from wif.core.credentials import AccessToken
from wif.serve.asked_keys import Clients

BEGIN = 1_800_000_000.0
TOKEN = AccessToken(token="one", expires_at=datetime.fromtimestamp(BEGIN + 3600, UTC), lifetime_seconds=3600.0)


class _Maker:
    def __init__(self) -> None:
        self.made: list[float] = []

    def __call__(self, now: float) -> Answer:
        self.made.append(now)
        return Answer(200, b"%d" % len(self.made))


def _clients(now: list[float]) -> Clients:
    return Clients(clock=lambda: now[0])


def test_the_same_question_in_the_same_second_has_the_same_answer() -> None:
    now, make = [BEGIN + 0.1], _Maker()
    clients = _clients(now)
    first = clients.answer(("a",), "kind", TOKEN, make)
    now[0] += 0.8
    assert clients.answer(("a",), "kind", TOKEN, make) is first
    assert make.made == [BEGIN + 0.1]


@pytest.mark.parametrize("what", ["second", "key", "token", "equal token"])
def test_anything_else_is_answered_anew(what: str) -> None:
    now, make = [BEGIN + 0.5], _Maker()
    clients = _clients(now)
    clients.answer(("a",), "kind", TOKEN, make)
    now[0] += 1.0 if what == "second" else 0.0
    key = ("b",) if what == "key" else ("a",)
    token = {"token": dataclasses.replace(TOKEN, token="two"), "equal token": dataclasses.replace(TOKEN)}.get(what)
    assert clients.answer(key, "kind", token or TOKEN, make).body == b"2"
    assert clients.answer(key, "kind", token or TOKEN, make).body == b"2"
