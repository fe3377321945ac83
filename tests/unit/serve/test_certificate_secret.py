"""The steps of a certificate's life, and the Secret that several replicas read them from."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from wif.serve.certificate_authority import MadePair, make_pair
from wif.serve.certificate_secret import Generation, Stored, Timing, next_step, read_data, written_data

TIMING = Timing(life_seconds=900, staging_seconds=30, overlap_seconds=60)
NOW = 1_000_000.0


@pytest.fixture(scope="module")
def pairs() -> list[Generation]:
    made = [make_pair(["a.example"], life_seconds=900) for _ in range(3)]
    return [Generation(each.chain, each.key, each.authority) for each in made]


def step(stored: Stored, **changes: Any) -> str:
    facts: dict[str, Any] = {
        "now": NOW,
        "timing": TIMING,
        "usable_until": NOW + 900,
        "successor_usable": True,
        "is_registered": True,
        "fits_names": True,
    }
    return next_step(stored, **{**facts, **changes})


def test_nothing_usable_is_made_at_once(pairs: list[Generation]) -> None:
    assert step(Stored()) == "make"
    present = Stored(current=pairs[0])
    assert step(present, usable_until=0.0) == "make"
    assert step(present, usable_until=NOW) == "make"
    assert step(present, usable_until=NOW + 0.1) != "make"


def test_a_successor_is_made_at_two_thirds_of_life(pairs: list[Generation]) -> None:
    present = Stored(current=pairs[0])
    assert step(present, usable_until=NOW + 301) == "none"
    assert step(present, usable_until=NOW + 300) == "stage"


def test_other_names_are_a_reason_too(pairs: list[Generation]) -> None:
    assert step(Stored(current=pairs[0]), fits_names=False) == "stage"


def test_a_successor_is_served_once_it_has_been_trusted_for_a_while(pairs: list[Generation]) -> None:
    staged = Stored(current=pairs[0], successor=pairs[1], staged_at=NOW - 30)
    late = {"usable_until": NOW + 200}
    assert step(staged, **late) == "promote"
    assert step(staged, **late, is_registered=False) == "none"
    assert step(replace(staged, staged_at=NOW - 29), **late) == "none"
    assert step(replace(staged, staged_at=NOW + 29), **late) == "none"
    assert step(replace(staged, staged_at=NOW + 1e9), **late) == "promote", "a clock that was wrong holds nothing up"


def test_a_successor_that_cannot_be_used_is_made_anew(pairs: list[Generation]) -> None:
    staged = Stored(current=pairs[0], successor=pairs[1], staged_at=NOW - 30)
    assert step(staged, successor_usable=False) == "stage"


def test_the_former_authority_is_forgotten_after_the_overlap(pairs: list[Generation]) -> None:
    promoted = Stored(current=pairs[0], successor=pairs[1]).promoted(NOW - 60)
    assert step(promoted) == "forget"
    assert step(replace(promoted, promoted_at=NOW - 59)) == "none"
    assert step(replace(promoted, promoted_at=NOW + 1e9)) == "forget"
    assert step(promoted.forgotten()) == "none"


def test_what_is_trusted_at_each_step(pairs: list[Generation]) -> None:
    first, second, third = pairs
    assert Stored().authorities == ()
    present = Stored(current=first)
    assert present.authorities == (first.authority,)
    staged = present.staged(second, NOW)
    assert staged.authorities == (first.authority, second.authority)
    promoted = staged.promoted(NOW)
    assert promoted.current == second
    assert promoted.authorities == (second.authority, first.authority)
    assert promoted.forgotten().authorities == (second.authority,)
    remade = staged.made(third, NOW)
    assert remade.authorities == (third.authority, first.authority, second.authority), "a replica may serve either"


def test_former_authorities_have_a_bound() -> None:
    stored = Stored()
    for _ in range(8):
        made = make_pair(["a"], life_seconds=900)
        stored = stored.made(Generation(made.chain, made.key, made.authority), NOW)
    assert len(stored.authorities) == 5


def test_the_secret_says_what_was_written(pairs: list[Generation]) -> None:
    for stored in (
        Stored(),
        Stored(current=pairs[0]),
        Stored(current=pairs[0], successor=pairs[1], staged_at=NOW, previous=(pairs[2].authority,), promoted_at=1.5),
    ):
        assert read_data(written_data(stored)) == stored


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"tls.crt": 5, "tls.key": None},
        {"tls.crt": "no base64!", "tls.key": "x"},
        {"tls.crt": encoded("ä"), "tls.key": encoded("k"), "ca.crt": encoded("c")},
        {"tls.crt": encoded("c"), "tls.key": encoded("k"), "ca.crt": encoded("no certificate")},
        {"rotation.json": encoded("[1]")},
        {"rotation.json": encoded("{")},
        {"rotation.json": encoded("[" * 100_000)},
        {"rotation.json": encoded('{"staged_at": "soon", "promoted_at": true}')},
        {"rotation.json": encoded('{"staged_at": NaN, "promoted_at": Infinity}')},
        {"previous-ca.crt": encoded("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----")},
    ],
    ids=lambda data: str(data)[:60],
)
def test_what_cannot_be_read_is_not_there(data: Any) -> None:
    assert read_data(data) == Stored()


def test_no_repr_shows_a_key(pairs: list[Generation]) -> None:
    made = MadePair("authority", "chain", "s3cret", 1.0)
    for value in (pairs[0], Stored(current=pairs[0], successor=pairs[1]), made):
        assert "PRIVATE KEY" not in f"{value!r} {value}"
        assert "s3cret" not in f"{value!r} {value}"
    assert "PRIVATE KEY" in json.dumps(written_data(Stored(current=pairs[0]))) or pairs[0].key.startswith("-----BEGIN")


def test_short_lives_have_short_pauses() -> None:
    assert Timing.of_life(90 * 86_400) == Timing()
    short = Timing.of_life(60)
    assert (short.check_seconds, short.staging_seconds, short.overlap_seconds) == (0.6, 3.0, 10.0)
    assert Timing.of_life(2).check_seconds == 0.5
