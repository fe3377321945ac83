"""A token is dropped when it was used and rejected, and not again and again."""

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


def test_a_token_that_went_into_a_request_is_dropped() -> None:
    drop = Dropping()
    rejections = Rejections(drop)
    rejections.used(FIRST)
    assert rejections.rejected(FIRST)
    assert drop.drops == 1


def test_a_token_that_was_never_used_was_not_rejected() -> None:
    drop = Dropping()
    rejections = Rejections(drop)
    assert not any(rejections.rejected(FIRST) for _ in range(64))
    assert drop.drops == 0


def test_on_whichever_thread_it_was_used() -> None:
    rejections = Rejections(Dropping())
    thread = threading.Thread(target=rejections.used, args=(FIRST,))
    thread.start()
    thread.join()
    assert rejections.rejected(FIRST)


def test_who_used_an_older_token_gets_the_newer_one() -> None:
    drop = Dropping()
    rejections = Rejections(drop)
    rejections.used(FIRST)
    assert not rejections.rejected(SECOND)
    assert drop.drops == 0


def test_an_equal_token_of_a_later_exchange_is_another_one() -> None:
    rejections = Rejections(Dropping())
    rejections.used(FIRST)
    assert not rejections.rejected(_token("first"))


def test_a_pause_between_two_drops() -> None:
    drop, clock = Dropping(), Clock()
    rejections = Rejections(drop, steady=clock)
    rejections.used(FIRST)
    assert rejections.rejected(FIRST)
    rejections.used(SECOND)
    clock.now += PAUSE_SECONDS - 1
    assert not rejections.rejected(SECOND)
    clock.now += 1
    assert rejections.rejected(SECOND)
    assert drop.drops == 2
