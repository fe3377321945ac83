"""A token is dropped for whoever was given it, and not again and again."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from wif.core.credentials import AccessToken
from wif.sdk.rejection import PAUSE_SECONDS, Rejections


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Dropping:
    def __init__(self) -> None:
        self.drops = 0

    def __call__(self) -> None:
        self.drops += 1


def _token(name: str) -> AccessToken:
    return AccessToken(token=name, expires_at=datetime(2030, 1, 1, tzinfo=UTC), lifetime_seconds=3600.0)


FIRST, SECOND = _token("first"), _token("second")


def _refresh(rejections: Rejections, current: AccessToken) -> bool:
    return rejections.rejected(rejections.held(), current)


def _in_thread(work: object) -> None:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]  # a lambda of any result
    thread.start()
    thread.join()


def test_who_was_given_the_token_drops_it() -> None:
    drop = Dropping()
    rejections = Rejections(drop)
    rejections.given(FIRST)
    assert _refresh(rejections, FIRST)
    assert drop.drops == 1


def test_who_was_given_none_merely_wants_one() -> None:
    drop = Dropping()
    rejections = Rejections(drop)
    assert not _refresh(rejections, FIRST)
    _in_thread(lambda: rejections.given(FIRST))
    assert not _refresh(rejections, FIRST), "another thread's token is not this one's"
    assert drop.drops == 0


def test_who_had_an_older_token_gets_the_newer_one() -> None:
    drop = Dropping()
    rejections = Rejections(drop)
    rejections.given(FIRST)
    assert not _refresh(rejections, SECOND)
    assert drop.drops == 0


def test_an_equal_token_of_a_later_exchange_is_another_one() -> None:
    rejections = Rejections(Dropping())
    rejections.given(FIRST)
    assert not _refresh(rejections, _token("first"))


def test_a_pause_between_two_drops() -> None:
    drop, clock = Dropping(), Clock()
    rejections = Rejections(drop, steady=clock)
    rejections.given(FIRST)
    assert _refresh(rejections, FIRST)
    rejections.given(SECOND)
    clock.now += PAUSE_SECONDS - 1
    assert not _refresh(rejections, SECOND)
    clock.now += 1
    assert _refresh(rejections, SECOND)
    assert drop.drops == 2


def test_what_was_held_counts_and_not_what_came_meanwhile() -> None:
    drop = Dropping()
    rejections = Rejections(drop)
    held = [rejections.held() for _ in range(64)]  # tasks of one thread that start together
    for before in held:
        assert not rejections.rejected(before, FIRST)
        rejections.given(FIRST)
    assert drop.drops == 0
