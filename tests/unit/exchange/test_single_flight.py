"""One exchange for all who ask, its freshness, its budget, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from wif.core.freshness import Limits
from wif.errors import RefusedError, SubjectChanged, TokenError, TransportError, UnavailableError, WifError
from wif.exchange.clocks import Clocks
from wif.exchange.single_flight import Cell, Flight


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.steady = 1000.0
        self.wall = 1_700_000_000.0

    @property
    def clocks(self) -> Clocks:
        return Clocks(steady=lambda: self.steady, wall=lambda: self.wall, monotonic=time.monotonic)

    def pass_(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds


class Work:
    """Exchanges that count themselves; each yields its own number."""

    def __init__(self, life_seconds: float = 3600.0) -> None:
        self.count = 0
        self.life_seconds = life_seconds
        self.failure: WifError | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, flight: Flight[int]) -> int:
        self.count += 1
        number = self.count
        self.gate.wait(5)
        if self.failure is not None:
            raise self.failure
        return number

    def cell(self, at: Time | None = None, limits: Limits | None = None) -> Cell[int]:
        return Cell(
            self,
            life=lambda _: (self.life_seconds, None),
            name="test",
            limits=limits or Limits(refresh_jitter=0.0),
            clocks=(at or Time()).clocks,
        )


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


def refused() -> WifError:
    return RefusedError("no", code="trust-denied")


def in_threads(count: int, call: Callable[[], object]) -> list[object]:
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except WifError as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return results


class TestSingleFlight:
    def test_64_threads_on_a_cold_cell_make_one_exchange(self) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()
        threading.Timer(0.1, work.gate.set).start()
        assert in_threads(64, cell.get) == [1] * 64
        assert work.count == 1

    def test_64_tasks_on_a_cold_cell_make_one_exchange(self) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()
        threading.Timer(0.1, work.gate.set).start()

        async def main() -> list[int]:
            return await asyncio.gather(*(cell.aget() for _ in range(64)))

        assert asyncio.run(main()) == [1] * 64
        assert work.count == 1

    def test_a_cancelled_task_cancels_nobody_else(self) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()

        async def main() -> int:
            first, second = asyncio.create_task(cell.aget()), asyncio.create_task(cell.aget())
            await asyncio.sleep(0.05)
            first.cancel()
            work.gate.set()
            return await second

        assert asyncio.run(main()) == 1

    def test_a_failure_reaches_all_waiters_once_and_is_not_repeated_by_each(self) -> None:
        work = Work()
        work.failure = refused()
        work.gate.clear()
        cell = work.cell()
        threading.Timer(0.1, work.gate.set).start()
        errors = in_threads(16, cell.get)
        assert [type(error) for error in errors] == [RefusedError] * 16
        assert len({id(error) for error in errors}) == 16, "each waiter gets an exception of its own"
        with pytest.raises(RefusedError):
            cell.get()
        assert work.count == 1, "backed off"

    def test_the_backoff_grows_and_ends(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        work.failure = refused()
        for expected, pause in ((1, 0.0), (1, 0.5), (2, 0.6), (2, 1.5), (3, 0.6)):
            at.pass_(pause)
            with pytest.raises(RefusedError):
                cell.get()
            assert work.count == expected
        work.failure = None
        at.pass_(60)
        assert cell.get() == 4

    def test_retry_after_is_obeyed(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        work.failure = UnavailableError("slow down", code="throttled", retry_after_seconds=30.0)
        with pytest.raises(UnavailableError):
            cell.get()
        at.pass_(29)
        with pytest.raises(UnavailableError):
            cell.get()
        assert work.count == 1

    def test_a_retry_after_of_a_day_is_obeyed_for_five_minutes(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        work.failure = UnavailableError("maintenance", code="cloud-unavailable", retry_after_seconds=86_400.0)
        with pytest.raises(UnavailableError) as caught:
            cell.get()
        assert caught.value.retry_after_seconds == 86_400, "what the cloud said is told as it said it"
        assert cell.standing().due_seconds == 300
        work.failure = None
        at.pass_(299)
        with pytest.raises(UnavailableError):
            cell.get()
        at.pass_(1)
        assert cell.get() == 2

    def test_a_caller_who_cannot_wait_leaves_the_exchange_to_the_others(self) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()
        with pytest.raises(TransportError, match="this caller's") as caught:
            cell.get(timeout=0.05)
        assert caught.value.code == "timeout"
        work.gate.set()
        assert cell.get() == 1
        assert work.count == 1

    def test_a_task_that_cannot_wait_leaves_the_exchange_to_the_others(self) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()

        async def main() -> int:
            with pytest.raises(TransportError, match="this caller's"):
                await cell.aget(timeout=0.05)
            work.gate.set()
            return await cell.aget()

        assert asyncio.run(main()) == 1
        assert work.count == 1

    def test_tasks_that_have_gone_leave_nothing_at_an_exchange_that_hangs(self) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()

        async def ask(timeout: float) -> None:
            with pytest.raises(TransportError):
                await cell.aget(timeout)

        def futures() -> int:
            gc.collect()
            return sum(isinstance(each, asyncio.Future | Future) for each in gc.get_objects())

        async def main() -> int:
            await ask(0.0)
            before = futures()
            for _ in range(100):
                await ask(0.0)
            await asyncio.gather(*(ask(0.01) for _ in range(100)))
            gone = asyncio.create_task(cell.aget())
            await asyncio.sleep(0.01)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            del gone
            added = futures() - before
            work.gate.set()
            assert await cell.aget() == 1
            return added

        assert asyncio.run(main()) < 10

    def test_an_event_loop_that_ends_as_an_exchange_fails_reports_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()

        async def leave(cell: Cell[int]) -> None:
            with pytest.raises(TransportError, match="this caller's"):
                await cell.aget(timeout=0.0)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave(cell))
        flight = cell._flight
        assert flight is not None
        work.failure = refused()
        work.gate.set()
        until(flight.future.done)
        assert flight.thread is not None
        flight.thread.join(5)
        loop.call_soon(loop.stop)
        loop.run_forever()  # takes up what the exchange left, and not what follows from that
        loop.close()
        del flight, loop, cell, work
        gc.collect()
        assert caplog.text == ""

    def test_tasks_of_several_event_loops_share_an_exchange(self) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()
        threading.Timer(0.1, work.gate.set).start()
        assert in_threads(4, lambda: asyncio.run(cell.aget())) == [1] * 4

    def test_the_callers_context_goes_along(self) -> None:
        request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
        seen: list[str] = []

        def work(_: Flight[int]) -> int:
            seen.append(request.get())
            return 1

        request.set("r-1")
        Cell(work, life=lambda _: (60.0, None), name="test").get()
        assert seen == ["r-1"]

    def test_an_unforeseen_exception_reaches_the_waiter(self) -> None:
        def work(_: Flight[int]) -> int:
            raise ZeroDivisionError("bug")

        with pytest.raises(ZeroDivisionError, match="bug"):
            Cell(work, life=lambda _: (60.0, None), name="test").get()

    def test_hooks_run_when_the_waiters_have_their_result(self) -> None:
        ran = threading.Event()
        release = threading.Event()

        def hook() -> None:
            release.wait(5)
            ran.set()

        def work(flight: Flight[int]) -> int:
            flight.after.append(hook)
            return 7

        assert Cell(work, life=lambda _: (60.0, None), name="test").get() == 7
        assert not ran.is_set()
        release.set()
        assert ran.wait(5)

    def test_a_cell_within_an_exchange_works_on_its_thread(self) -> None:
        threads: list[str] = []

        def inner_work(_: Flight[int]) -> int:
            threads.append(threading.current_thread().name)
            return 1

        inner = Cell(inner_work, life=lambda _: (60.0, None), name="inner")

        def outer_work(flight: Flight[int]) -> int:
            threads.append(threading.current_thread().name)
            return inner.inline(flight) + inner.inline(flight)

        assert Cell(outer_work, life=lambda _: (60.0, None), name="outer").get() == 2
        assert threads == ["wif outer", "wif outer"]

    def test_the_failure_of_an_inner_cell_is_the_outer_ones(self) -> None:
        def inner_work(_: Flight[int]) -> int:
            raise refused()

        inner = Cell(inner_work, life=lambda _: (60.0, None), name="inner")
        outer: Cell[int] = Cell(inner.inline, life=lambda _: (60.0, None), name="outer")
        with pytest.raises(RefusedError):
            outer.get()


@pytest.mark.skipif(sys.platform != "linux", reason="threads of this size are refused by Linux")
class TestNoThread:
    """At the system's limit of threads: the kubelet's of a pod's."""

    @pytest.fixture(autouse=True)
    def limit(self) -> Iterator[None]:
        before = threading.stack_size(1 << 47)  # as large as all addresses of a process
        try:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                threading.Thread(target=print).start()
            yield
        finally:
            threading.stack_size(before)

    def test_a_thread_that_asks_works_itself(self) -> None:
        assert Work().cell().get() == 1

    def test_the_event_loop_does_no_exchange_and_may_try_again(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        with pytest.raises(TransportError, match="no thread for the exchange: can't start new thread") as caught:
            asyncio.run(cell.aget())
        assert (caught.value.code, caught.value.retryable) == ("connection-failed", True)
        assert "pids limit" in caught.value.hint
        assert work.count == 0
        threading.stack_size(0)
        at.pass_(1)
        assert asyncio.run(cell.aget()) == 1

    def test_what_is_still_valid_is_served_on_the_event_loop(self) -> None:
        at, work = Time(), Work(3600.0)
        cell = work.cell(at)
        cell.get()
        for seconds in (0.81 * 3600, 0.19 * 3600 - 30):  # a refresh ahead is due; the last margin
            at.pass_(seconds)
            assert asyncio.run(cell.aget()) == 1
        assert work.count == 1


class TestFreshness:
    def test_a_fresh_credential_is_served_without_an_exchange(self) -> None:
        at, work = Time(), Work(3600.0)
        cell = work.cell(at)
        assert cell.get() == 1
        at.pass_(0.79 * 3600)
        assert cell.fresh() == 1
        assert cell.get() == 1
        assert work.count == 1

    def test_past_the_refresh_point_the_old_one_is_served_and_one_refresh_runs(self) -> None:
        at, work = Time(), Work(3600.0)
        cell = work.cell(at)
        cell.get()
        at.pass_(0.81 * 3600)
        work.gate.clear()
        assert cell.fresh() is None
        assert [cell.get() for _ in range(100)] == [1] * 100
        until(lambda: work.count == 2)
        work.gate.set()
        until(lambda: cell.get() == 2)
        assert work.count == 2

    def test_inside_the_margin_the_caller_waits_for_the_new_one(self) -> None:
        at, work = Time(), Work(3600.0)
        cell = work.cell(at)
        cell.get()
        at.pass_(3600 - 59)
        assert cell.get() == 2

    def test_while_a_refresh_fails_the_old_one_is_served_as_long_as_it_is_valid(self) -> None:
        at, work = Time(), Work(3600.0)
        cell = work.cell(at)
        cell.get()
        work.failure = UnavailableError("down", code="cloud-unavailable")
        at.pass_(3600 - 59)
        assert cell.get() == 1, "inside the margin, after a failed try"
        assert cell.get() == 1, "inside the margin, backed off"
        at.pass_(60)
        with pytest.raises(UnavailableError, match="down"):
            cell.get()

    def test_the_issuers_own_wish_comes_earlier(self) -> None:
        at = Time()
        count = 0

        def work(_: Flight[int]) -> int:
            nonlocal count
            count += 1
            return count

        cell = Cell(work, life=lambda _: (3600.0, 600.0), name="test", clocks=at.clocks)
        cell.get()
        at.pass_(599)
        assert cell.fresh() == 1
        at.pass_(2)
        assert cell.fresh() is None

    @pytest.mark.parametrize("life_seconds", [3600.0, 900.0, 299.0, 200.0, 61.0])
    def test_a_thousand_calls_in_one_life_make_two_exchanges_at_most(self, life_seconds: float) -> None:
        at, work = Time(), Work(life_seconds)
        cell = work.cell(at)
        for _ in range(1000):
            cell.get()
            at.pass_(life_seconds / 1001)
        assert work.count <= 2

    @pytest.mark.parametrize("life_seconds", [0.0, 1.0, 5.0, 10.0])
    def test_a_short_life_never_turns_into_a_storm(self, life_seconds: float) -> None:
        at, work = Time(), Work(life_seconds)
        cell = work.cell(at)
        for _ in range(600):  # one minute
            with contextlib.suppress(UnavailableError):
                cell.get()
            at.pass_(0.1)
        assert 1 <= work.count <= 7

    def test_a_wall_clock_that_jumps_back_serves_nothing_longer(self) -> None:
        at, work = Time(), Work(3600.0)
        cell = work.cell(at)
        cell.get()
        at.wall -= 7200
        at.steady += 3601
        assert cell.get() == 2

    def test_a_wall_clock_that_jumps_forward_costs_one_exchange(self) -> None:
        at, work = Time(), Work(3600.0)
        cell = work.cell(at)
        cell.get()
        at.wall += 7200
        assert cell.get() == 2
        assert [cell.get() for _ in range(100)] == [2] * 100

    def test_after_a_suspension_that_only_the_wall_clock_saw_nothing_old_is_served(self) -> None:
        at, work = Time(), Work(900.0)
        cell = work.cell(at)
        cell.get()
        at.wall += 3600
        assert cell.get() == 2


class TestBudget:
    def test_the_exchanges_of_a_minute_are_bounded_whatever_callers_do(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        for _ in range(500):
            cell.invalidate()
            cell.get()
            at.pass_(0.1)
        assert work.count == 6

    def test_the_budget_comes_back(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        for _ in range(10):
            cell.invalidate()
            cell.get()
        at.pass_(60)
        cell.invalidate()
        cell.get()
        assert work.count == 7

    def test_without_anything_to_serve_the_error_says_when(self) -> None:
        work = Work()
        cell = work.cell()
        for _ in range(6):
            cell.clear()
            cell.get()
        cell.clear()
        with pytest.raises(UnavailableError) as caught:
            cell.get()
        assert caught.value.code == "rate-limited"
        assert caught.value.retry_after_seconds == pytest.approx(60)

    def test_a_token_that_was_never_sent_costs_nothing(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        work.failure = TokenError("not there yet", code="token-missing")
        for _ in range(20):
            with pytest.raises(TokenError):
                cell.get()
            at.pass_(1.1)
        work.failure = None
        assert cell.get() == 21


class TestRejected:
    def test_an_invalidated_credential_is_exchanged_anew_once(self) -> None:
        work = Work()
        cell = work.cell()
        cell.get()
        cell.invalidate()
        assert cell.get() == 2
        assert cell.get() == 2

    def test_it_is_not_served_when_the_exchange_fails(self) -> None:
        work = Work()
        cell = work.cell()
        cell.get()
        cell.invalidate()
        work.failure = refused()
        for _ in range(3):
            with pytest.raises(RefusedError):
                cell.get()

    def test_invalidating_nothing_is_nothing(self) -> None:
        work = Work()
        cell = work.cell()
        cell.invalidate()
        assert cell.get() == 1
        assert work.count == 1

    def test_another_subject_ends_all_service(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        cell.get()
        at.pass_(0.81 * 3600)
        work.failure = SubjectChanged("another one")
        cell.get()  # starts the refresh ahead
        until(lambda: cell.fresh() is None and work.count == 2)

        def fails() -> bool:
            try:
                cell.get()
            except SubjectChanged:
                return True
            return False

        until(fails)


class TestEnd:
    def test_the_deadline_aborts_the_work_and_frees_the_cell(self) -> None:
        aborted = threading.Event()

        def work(flight: Flight[int]) -> int:
            flight.on_abort(aborted.set)
            aborted.wait(5)
            time.sleep(0.2)
            return 1

        cell = Cell(work, life=lambda _: (60.0, None), name="test", total_seconds=0.1)
        began = time.monotonic()
        with pytest.raises(TransportError) as caught:
            cell.get()
        assert caught.value.code == "timeout"
        assert time.monotonic() - began < 2
        assert aborted.is_set()

    def test_close_ends_an_exchange_under_way(self) -> None:
        stopped = threading.Event()

        def work(flight: Flight[int]) -> int:
            if flight.wake.wait(5):
                stopped.set()
            raise TransportError("stopped", code="timeout")

        cell = Cell(work, life=lambda _: (60.0, None), name="test")
        threading.Timer(0.1, cell.close).start()
        with pytest.raises(TransportError):
            cell.get()
        assert stopped.is_set()

    def test_a_late_abort_handler_runs_at_once(self) -> None:
        flight: Flight[int] = Flight(0.0)
        flight.abort()
        flight.abort()
        ran: list[int] = []
        flight.on_abort(lambda: ran.append(1))
        assert ran == [1]

    def test_no_thread_is_left_when_nothing_is_under_way(self) -> None:
        before = threading.active_count()
        Work().cell().get()
        until(lambda: threading.active_count() == before)

    def test_the_interpreter_exits_while_an_exchange_hangs(self) -> None:
        program = """
            import threading, time
            from wif.exchange.single_flight import Cell
            cell = Cell(lambda flight: time.sleep(60), life=lambda _: (60.0, None), name="test")
            threading.Thread(target=cell.get, daemon=True).start()
            time.sleep(0.2)
            print("leaving")
        """
        began = time.monotonic()
        done = _python(program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")
        assert time.monotonic() - began < 5

    def test_an_exchange_at_the_interpreters_exit_still_works(self) -> None:
        program = """
            import atexit
            from wif.exchange.single_flight import Cell
            cell = Cell(lambda flight: 5, life=lambda _: (60.0, None), name="test")
            atexit.register(lambda: print(cell.get()))
        """
        done = _python(program)
        assert (done.stdout, done.stderr) == ("5\n", "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_forked_child_has_locks_and_exchanges_of_its_own(self) -> None:
        program = """
            import os, threading, time
            from wif.exchange.single_flight import Cell
            parent = os.getpid()
            def work(flight):
                if os.getpid() == parent:
                    time.sleep(1)
                return os.getpid()
            cell = Cell(work, life=lambda _: (60.0, None), name="test")
            waiter = threading.Thread(target=cell.get)
            waiter.start()
            time.sleep(0.2)
            cell._lock.acquire()
            child = os.fork()
            if child == 0:
                os._exit(0 if cell.get(timeout=5) == os.getpid() else 1)
            cell._lock.release()
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            waiter.join()
        """
        done = _python(program)
        assert done.stdout == "0\n", done.stderr


def _python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class TestStanding:
    """What who keeps a credential fresh sees of it, without starting anything."""

    def test_nothing_is_due_now_and_after_an_exchange_at_the_refresh_point(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        assert cell.standing() == (None, 0.0, None, False)
        assert work.count == 0
        assert cell.get() == 1
        assert cell.standing() == (1, 0.8 * 3600, None, False)
        at.wall += 1000.0  # whichever clock says later wins
        assert cell.standing().due_seconds == 0.8 * 3600 - 1000.0
        at.steady += 2000.0
        assert cell.standing().due_seconds == 0.8 * 3600 - 2000.0
        at.pass_(1000.0)
        assert cell.standing() == (1, 0.0, None, False)
        at.pass_(3600.0)
        assert cell.standing() == (None, 0.0, None, False)

    def test_a_failure_is_shown_and_due_when_it_ends(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at)
        work.failure = UnavailableError("busy", code="throttled", retry_after_seconds=30.0)
        with pytest.raises(UnavailableError):
            cell.get()
        at.pass_(20.0)  # Retry-After counts from the failure
        assert cell.standing() == (None, 10.0, work.failure, False)
        work.failure = None
        at.pass_(10.0)
        assert cell.standing().due_seconds == 0.0
        assert cell.get() == 2
        assert cell.standing().failure is None

    def test_a_rejected_credential_is_none(self) -> None:
        cell = Work().cell()
        cell.get()
        cell.invalidate()
        assert cell.standing() == (None, 0.0, None, False)

    def test_a_used_up_budget_says_when_it_has_room_again(self) -> None:
        at, work = Time(), Work()
        cell = work.cell(at, Limits(exchanges_per_minute=1, refresh_jitter=0.0))
        cell.get()
        at.pass_(15.0)
        cell.invalidate()
        assert cell.standing() == (None, 45.0, None, False)

    def test_an_exchange_under_way_is_seen(self) -> None:
        work = Work()
        work.gate.clear()
        cell = work.cell()
        with pytest.raises(TransportError):
            cell.get(0.0)
        assert cell.standing() == (None, 0.0, None, True)
        work.gate.set()
        until(lambda: not cell.standing().under_way)
        assert cell.standing().value == 1
