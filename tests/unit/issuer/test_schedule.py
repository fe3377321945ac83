"""When a controller acts: a schedule driven by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.issuer.schedule import Schedule, Timing

TIMING = Timing(period_seconds=300.0, poll_seconds=15.0, first_retry_seconds=5.0, jitter=0.1)


def leading(now: float = 0.0) -> Schedule:
    made = Schedule(TIMING)
    made.lead(now)
    return made


def test_a_follower_has_nothing_to_do() -> None:
    made = Schedule(TIMING)
    assert made.due(1e9) is None
    assert made.next_at() == math.inf
    assert not made.polled(0.0, "seen")
    assert made.next_at() == math.inf


def test_leadership_begins_with_a_round_whatever_was_done_before() -> None:
    made = leading(7.0)
    assert made.due(7.0) == "round"
    made.ran(8.0, seen="a", ok=True, chance=0.5)
    made.follow()
    assert made.due(1e9) is None
    made.ran(9.0, seen="a", ok=True, chance=0.5)  # a round that outlasted the leadership
    assert made.next_at() == math.inf
    made.lead(20.0)
    assert made.due(20.0) == "round"


def test_to_lead_on_changes_nothing() -> None:
    made = leading()
    made.ran(1.0, seen="a", ok=True, chance=0.5)
    made.lead(2.0)
    assert made.due(2.0) is None


def test_polls_come_between_rounds() -> None:
    made = leading()
    made.ran(0.0, seen="a", ok=True, chance=0.5)
    assert made.next_at() == 15.0
    assert made.due(14.9) is None
    assert made.due(15.0) == "poll"
    assert not made.polled(15.0, "a")
    assert made.next_at() == 30.0
    assert made.due(300.0) == "round"


def test_a_change_is_acted_upon_at_once() -> None:
    made = leading()
    made.ran(0.0, seen="a", ok=True, chance=0.5)
    assert made.polled(15.0, "b")
    assert made.due(15.0) == "round"


def test_what_changed_during_a_round_makes_one_more() -> None:
    made = leading()
    made.ran(0.0, seen="before", ok=True, chance=0.5)
    assert made.polled(15.0, "after")
    made.ran(16.0, seen="after", ok=True, chance=0.5)
    assert not made.polled(31.0, "after")


def test_what_cannot_be_seen_is_no_change() -> None:
    made = leading()
    made.ran(0.0, seen="a", ok=True, chance=0.5)
    assert not made.polled(15.0, None)
    assert not made.polled(30.0, "a")
    assert made.polled(45.0, "b")


def test_failures_back_off_up_to_the_period_and_a_success_forgets_them() -> None:
    made = leading()
    waits = []
    for _ in range(9):
        made.ran(0.0, seen="a", ok=False, chance=1.0)
        waits.append(made._round_at)
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    made.ran(0.0, seen="a", ok=True, chance=0.0)
    assert made._round_at == pytest.approx(270.0)
    made.ran(0.0, seen="a", ok=False, chance=0.0)
    assert made._round_at == 2.5


def test_a_change_is_acted_upon_while_backing_off() -> None:
    made = leading()
    for _ in range(8):
        made.ran(0.0, seen="a", ok=False, chance=1.0)
    assert made.due(15.0) == "poll"
    assert made.polled(15.0, "b")
    assert made.due(15.0) == "round"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 3)), max_size=60))
def test_a_leader_always_has_something_due_within_the_period_and_its_jitter(
    rounds: list[tuple[bool, float, int]],
) -> None:
    made = leading()
    now = 0.0
    for ok, chance, seen in rounds:
        now = max(now, made.next_at())
        if made.due(now) == "poll":
            made.polled(now, seen)
        else:
            made.ran(now, seen=seen, ok=ok, chance=chance)
        assert now <= made.next_at() <= now + TIMING.poll_seconds
        assert made._round_at <= now + TIMING.period_seconds * (1 + TIMING.jitter)
