"""Jobs on threads: each at its time, none twice at once, none lost in silence."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import pytest

from wif.issuer.rota import Rota


def running(rota: Rota) -> tuple[threading.Thread, threading.Event, list[BaseException]]:
    stop, raised = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            rota.run(stop)
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, stop, raised


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_job_that_is_never_due_again_rests_until_it_is_woken() -> None:
    runs: list[int] = []

    def job() -> float:
        runs.append(1)
        return math.inf

    rota = Rota([job], clock=time.monotonic, threads=2)
    thread, stop, _ = running(rota)
    until(lambda: len(runs) == 1)
    time.sleep(0.05)
    assert len(runs) == 1
    rota.wake()
    until(lambda: len(runs) == 2)
    stop.set()
    thread.join(5.0)
    assert not thread.is_alive()


def test_a_job_that_is_woken_while_it_runs_runs_once_more() -> None:
    inside, go_on = threading.Event(), threading.Event()
    runs: list[int] = []

    def job() -> float:
        runs.append(1)
        inside.set()
        assert go_on.wait(10.0)
        return math.inf

    rota = Rota([job], clock=time.monotonic, threads=2)
    thread, stop, _ = running(rota)
    assert inside.wait(10.0)
    rota.wake()
    go_on.set()
    until(lambda: len(runs) == 2)
    stop.set()
    thread.join(5.0)


def test_a_job_that_fails_ends_the_rota_and_is_heard() -> None:
    def broken() -> float:
        raise ValueError("broken")

    thread, stop, raised = running(Rota([broken, lambda: math.inf], clock=time.monotonic, threads=2))
    thread.join(10.0)
    assert not thread.is_alive()
    assert stop.is_set()
    assert [str(error) for error in raised] == ["broken"]


@pytest.mark.parametrize("threads", [1, 4])
def test_every_job_has_its_turn(threads: int) -> None:
    counts = [0] * 8

    def job(number: int) -> Callable[[], float]:
        def run() -> float:
            counts[number] += 1
            return time.monotonic() + 0.001

        return run

    thread, stop, _ = running(Rota([job(n) for n in range(8)], clock=time.monotonic, threads=threads))
    until(lambda: min(counts) >= 5)
    stop.set()
    thread.join(5.0)
