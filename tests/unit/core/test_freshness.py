"""The plan of a credential's life, and the pauses between attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.core.freshness import LIMITS, lifetime, retry_delay

lives = st.floats(min_value=0, max_value=1e6)
chances = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_an_hour() -> None:
    plan = lifetime(3600, steady=100, wall=1000, chance=0.5)
    assert plan.refresh_steady == 100 + 2880
    assert plan.stop_wall == 1000 + 3540
    assert plan.end_steady == 3700


@given(life=lives, chance=chances)
def test_refresh_comes_before_the_margin_and_the_margin_before_the_end(life: float, chance: float) -> None:
    plan = lifetime(life, steady=0, wall=0, chance=chance)
    assert 0 <= plan.refresh_steady <= plan.stop_steady <= plan.end_steady == life
    assert plan.end_steady - plan.stop_steady <= LIMITS.margin_seconds + 1e-6


@given(chance=chances)
def test_replicas_refresh_at_different_times_but_near_80_percent(chance: float) -> None:
    assert lifetime(1000, steady=0, wall=0, chance=chance).refresh_steady == pytest.approx(750 + 100 * chance)


def test_the_issuers_wish_only_brings_it_forward() -> None:
    assert lifetime(1000, steady=0, wall=0, chance=0.5, renew_seconds=500).refresh_steady == 500
    assert lifetime(1000, steady=0, wall=0, chance=0.5, renew_seconds=900).refresh_steady == 800
    assert lifetime(1000, steady=0, wall=0, chance=0.5, renew_seconds=0).refresh_steady == 800


def test_either_clock_ends_it() -> None:
    plan = lifetime(1000, steady=0, wall=0, chance=0.5)
    for check, point in ((plan.fresh, 800), (plan.usable, 940), (plan.valid, 1000)):
        assert check(point - 1, point - 1)
        assert not check(point, 0)
        assert not check(0, point)


def test_what_is_left_is_told_by_the_clock_that_says_less() -> None:
    plan = lifetime(1000, steady=100, wall=5000, chance=0.5)
    assert plan.left(200, 5300) == 700
    assert plan.left(500, 5000 - 1800) == 600
    assert plan.left(1200, 5900) == -100


def test_what_is_over_is_over() -> None:
    plan = lifetime(-5, steady=10, wall=10, chance=0.5)
    assert not plan.valid(10, 10)


@given(attempt=st.integers(1, 50), chance=chances)
def test_pauses_grow_and_are_bounded(attempt: int, chance: float) -> None:
    assert LIMITS.backoff_seconds / 2 <= retry_delay(attempt, chance=chance) <= LIMITS.backoff_max_seconds


def test_retry_after_is_the_least_that_is_waited() -> None:
    assert retry_delay(1, chance=0.0, retry_after_seconds=20) == 20
    assert retry_delay(1, chance=0.0, retry_after_seconds=0) == 0.25
