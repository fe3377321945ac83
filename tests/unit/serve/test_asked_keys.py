"""How many kinds of tokens clients may ask for."""

from __future__ import annotations

from wif.serve.asked_keys import FALLOW_SECONDS, MAX_KEYS, AskedKeys


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_kind_too_many_is_refused_and_the_others_are_not() -> None:
    keys = AskedKeys(Time())
    assert all(keys.admits(number) for number in range(MAX_KEYS))
    assert not keys.admits("new")
    assert all(keys.admits(number) for number in range(MAX_KEYS))


def test_a_kind_that_gave_nothing_gives_its_place_away_after_a_minute() -> None:
    time = Time()
    keys = AskedKeys(time)
    for number in range(MAX_KEYS):
        keys.admits(number)
    time.now = FALLOW_SECONDS - 1
    assert not keys.admits("new")
    time.now = FALLOW_SECONDS
    assert keys.admits("new")  # in the place of 0
    assert keys.admits(1)
    assert keys.admits(0)  # in the place of 1


def test_kinds_that_give_nothing_keep_nobody_out_though_they_are_asked_for_without_end() -> None:
    time = Time()
    keys = AskedKeys(time)
    admitted = []
    for time.now in range(0, 1000, 50):
        for number in range(MAX_KEYS):
            keys.admits(number)
        admitted.append(keys.admits("honest"))
        keys.given("honest", 3600.0)
    assert admitted == [False, False] + [True] * 18


def test_a_kind_whose_token_is_valid_keeps_its_place_though_its_client_asks_once_an_hour() -> None:
    time = Time()
    keys = AskedKeys(time)
    assert keys.admits("mine")
    keys.given("mine", 3600.0)
    for time.now in range(0, 3600, 10):
        for number in range(2 * MAX_KEYS):
            keys.admits(f"{time.now} {number}")
    time.now = 3599.0
    assert keys.admits("mine")
    time.now = 3599.0 + FALLOW_SECONDS
    assert all(keys.admits(number) for number in range(MAX_KEYS)), "it is over, and nobody asked again"
