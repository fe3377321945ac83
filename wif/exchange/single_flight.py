"""One credential, one exchange at a time, whoever asks: threads, tasks, refresh ahead.

Every exchange runs on one short-lived daemon thread and ends in a future that is marked running at birth, so that
no waiter can cancel it for the others. Threads wait for the future, tasks for their event loop's notice of its end.
There is no timer: the first call after the refresh point starts the refresh, so an idle process owns no thread. A
deadline or the interpreter's exit shuts the exchange's socket down. ``docs/adr/0002`` has the measurements.
"""

from __future__ import annotations

__all__ = ["Cell", "Flight", "Standing"]

import atexit
import contextlib
import contextvars
import copy
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from wif.core.freshness import LIMITS, Lifetime, Limits, lifetime
from wif.errors import ConfigurationError, SubjectChanged, TokenError, TransportError, UnavailableError, WifError
from wif.exchange.clocks import SYSTEM, Clocks, chance

if TYPE_CHECKING:
    import asyncio

C = TypeVar("C")

_EXIT_JOIN_SECONDS = 1.0
_GRACE_SECONDS = 0.5  # what a waiter leaves an exchange beyond its deadline, to fail by itself with a better message


class Flight(Generic[C]):
    """One exchange under way: its deadline, its future, and what stops it."""

    __slots__ = (
        "__weakref__",
        "_aborts",
        "_ended",
        "_lock",
        "aborted",
        "after",
        "deadline",
        "future",
        "thread",
        "wake",
    )

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        """On the monotonic clock."""
        self.future: Future[C] = Future()
        self.future.set_running_or_notify_cancel()
        self.thread: threading.Thread | None = None
        self.wake = threading.Event()
        """Set when the exchange shall end: pauses between attempts wait on it."""
        self.after: list[Callable[[], None]] = []
        """Run on the exchange's thread when the waiters have their result: the caller's hooks."""
        self.aborted = False
        self._aborts: list[Callable[[], None]] = []
        self._ended: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}
        self._lock = threading.Lock()

    def ended(self) -> asyncio.Future[None]:
        """What the running event loop waits for, done when :attr:`future` is; never to be cancelled: all of the loop's
        tasks have it.

        It has no outcome: an error in it would be reported by a loop that ends before anybody has looked. Whatever
        hangs on :attr:`future` stays until the exchange ends, whoever has gone away meanwhile.
        """
        import asyncio  # noqa: PLC0415  # who awaits has loaded it; who does not, need not

        loop = asyncio.get_running_loop()
        ended = self._ended.get(loop)
        if ended is None:
            ended = self._ended[loop] = loop.create_future()
            self.future.add_done_callback(functools.partial(_tell, loop, ended))
        return ended

    def on_abort(self, stop: Callable[[], None]) -> None:
        """Register what interrupts the exchange's blocking work; called at once if it is already aborted."""
        with self._lock:
            self._aborts.append(stop)
            aborted = self.aborted
        if aborted:
            stop()

    def abort(self) -> None:
        """End the exchange: its pauses return, its sockets are shut down."""
        with self._lock:
            if self.aborted or self.future.done():
                return  # a thread that is done may be another exchange's by now
            self.aborted = True
            stops = list(self._aborts)
        self.wake.set()
        for stop in stops:
            stop()


class Standing(NamedTuple):
    """How a credential stands, for who keeps it fresh without using it."""

    value: Any
    """The credential while it is valid and nobody rejected it, else None."""
    due_seconds: float
    """Until the next call would start an exchange; 0 where it would now."""
    failure: WifError | None
    """Of the last exchange, where it failed."""
    under_way: bool
    """Whether an exchange is going on."""


class Cell(Generic[C]):
    """One key's credential.

    Args:
        work: makes the exchange; gets the flight; returns the credential.
        life: seconds until the credential ends, and until it is to be renewed at the latest (or None).
        name: what messages call the credential.
        total_seconds: wall time of one exchange; default ``limits.total_seconds``.
    """

    def __init__(
        self,
        work: Callable[[Flight[C]], C],
        *,
        life: Callable[[C], tuple[float, float | None]],
        name: str,
        limits: Limits = LIMITS,
        clocks: Clocks = SYSTEM,
        total_seconds: float | None = None,
    ) -> None:
        self._work = work
        self._life = life
        self._name = name
        self._limits = limits
        self._clocks = clocks
        self._total = limits.total_seconds if total_seconds is None else total_seconds
        self._lock = threading.Lock()
        self._entry: tuple[C, Lifetime] | None = None  # one object, so that readers without the lock see a pair
        self._rejected = False
        self._flight: Flight[C] | None = None
        self._failure: WifError | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._started: deque[float] = deque(maxlen=limits.exchanges_per_minute)
        _cells.add(self)

    # -- reading ---------------------------------------------------------------------------------------

    def fresh(self) -> C | None:
        """The credential if nothing needs to be done, else None. Takes no lock."""
        entry = self._entry
        if entry is not None and entry[1].fresh(self._clocks.steady(), self._clocks.wall()):
            return entry[0]
        return None

    def lifetime(self, value: C) -> Lifetime | None:
        """When a credential that it gave ends; None where another one has replaced it. Takes no lock."""
        entry = self._entry
        return entry[1] if entry is not None and entry[0] is value else None

    def get(self, timeout: float | None = None) -> C:
        """The credential, from the cache or by an exchange that all callers share.

        Args:
            timeout: seconds that this caller waits; the exchange goes on for the others.

        Raises:
            WifError: the exchange's error, the same for every waiter.
        """
        value, flight = self._enter()
        if flight is None:
            return value  # type: ignore[return-value]  # a value stands wherever no flight does
        wait = self._wait_seconds(flight, timeout)
        try:
            return flight.future.result(wait)
        except TimeoutError:
            return self._timed_out(flight, timeout)
        except WifError as error:
            return self._after_failure(error)

    def standing(self) -> Standing:
        """How the credential stands; starts nothing."""
        with self._lock:
            steady, wall = self._clocks.steady(), self._clocks.wall()
            value, plan = self._entry or (None, None)
            due = 0.0
            if plan is None or self._rejected or not plan.valid(steady, wall):
                value = None
            elif plan.fresh(steady, wall):
                due = min(plan.refresh_steady - steady, plan.refresh_wall - wall)
            refusal = self._refusal(steady)
            if refusal is not None and refusal.code == "rate-limited":
                due = max(due, refusal.retry_after_seconds or 0.0)
            elif refusal is not None:  # its Retry-After counts from the failure, not from now
                due = max(due, self._retry_at - steady)
            return Standing(value, due, self._failure, self._flight is not None)

    async def aget(self, timeout: float | None = None) -> C:
        """As :meth:`get`, for a task; the event loop is never blocked."""
        import asyncio  # noqa: PLC0415  # who awaits has loaded it; who does not, need not

        value, flight = self._enter(may_block=False)
        if flight is None:
            return value  # type: ignore[return-value]  # a value stands wherever no flight does
        # unlike shield, it leaves nothing at what others still wait for
        done, _ = await asyncio.wait((flight.ended(),), timeout=self._wait_seconds(flight, timeout))
        if not done:
            return self._timed_out(flight, timeout)
        try:
            return flight.future.result()
        except WifError as error:
            return self._after_failure(error)

    def inline(self, outer: Flight[Any]) -> C:
        """As :meth:`get`, from within another exchange: works on its thread and ends with it."""
        value, flight = self._enter(outer=outer)
        if flight is None:
            return value  # type: ignore[return-value]  # a value stands wherever no flight does
        try:
            return flight.future.result(self._wait_seconds(flight, max(0.0, outer.deadline - self._clocks.monotonic())))
        except TimeoutError:
            return self._timed_out(flight, None)
        except WifError as error:
            return self._after_failure(error)

    # -- changing --------------------------------------------------------------------------------------

    def take_place_of(self, other: Cell[Any]) -> None:
        """Count another's exchanges of the last minute as this one's, if they gave nothing: else two that are refused,
        and take a place from each other, would be tried again at every call."""
        with other._lock:
            started = tuple(other._started) if other._entry is None else ()
        with self._lock:
            self._started.extend(started)

    def invalidate(self) -> None:
        """The credential was rejected: exchange anew at the next call, within the budget."""
        with self._lock:
            if self._entry is not None:
                value, plan = self._entry
                self._entry = value, plan._replace(refresh_steady=float("-inf"))
                self._rejected = True
            self._failure = None

    def clear(self) -> None:
        """Forget the credential altogether."""
        with self._lock:
            self._entry = None
            self._rejected = False

    def close(self) -> None:
        """Forget the credential and end an exchange under way."""
        self.clear()
        flight = self._flight
        if flight is not None:
            flight.abort()

    # -- inside ----------------------------------------------------------------------------------------

    def _enter(self, outer: Flight[Any] | None = None, *, may_block: bool = True) -> tuple[C | None, Flight[C] | None]:
        """Either a value to serve, or a flight to wait for.

        Args:
            may_block: whether the caller's thread may do the exchange's work where no other one can be had.
        """
        own: Flight[C] | None = None
        with self._lock:
            steady, wall = self._clocks.steady(), self._clocks.wall()
            value, plan = self._entry or (None, None)
            usable = plan is not None and not self._rejected and plan.usable(steady, wall)
            if usable and plan is not None and plan.fresh(steady, wall):
                return value, None
            flight = self._flight
            if flight is None:
                refusal = self._refusal(steady)
                if refusal is not None:
                    # Stale is better than an error. A rejected one is not, unless the budget is used up: then the
                    # rejection is the answer that the caller shall see.
                    servable = not self._rejected or refusal.code == "rate-limited"
                    if servable and plan is not None and plan.valid(steady, wall):
                        return value, None
                    raise refusal
                flight = own = self._flight = Flight(
                    min(self._clocks.monotonic() + self._total, float("inf") if outer is None else outer.deadline)
                )
                self._started.append(steady)
            elif self._clocks.monotonic() > flight.deadline:
                flight.abort()  # nobody waits for a refresh ahead; who passes by ends the one that hangs
        if own is not None:
            self._launch(own, outer, may_block=may_block)
        return (value, None) if usable else (None, flight)

    def _refusal(self, steady: float) -> WifError | None:
        """Why no exchange may start now, or None. Called with the lock held."""
        if self._failure is not None and steady < self._retry_at:
            return _again(self._failure)
        full = len(self._started) == self._started.maxlen
        if full and steady - self._started[0] < 60.0:
            wait = 60.0 - (steady - self._started[0])
            return UnavailableError(
                f"{self._name}: {len(self._started)} exchanges in the last minute, no more until {wait:.0f} s from now",
                code="rate-limited",
                retry_after_seconds=wait,
            )
        return None

    def _launch(self, flight: Flight[C], outer: Flight[Any] | None, *, may_block: bool) -> None:
        if outer is not None:
            outer.on_abort(flight.abort)
            self._run(flight)
            return
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run, flight), name=f"wif {self._name}", daemon=True
        )
        flight.thread = thread
        _flights.add(flight)
        try:
            thread.start()
        except RuntimeError as error:  # no new thread while the interpreter shuts down, or at a limit of the system
            flight.thread = None
            if may_block:
                self._run(flight)
            else:
                self._fail(flight, _no_thread(self._name, error))

    def _run(self, flight: Flight[C]) -> None:
        steady, wall = self._clocks.steady(), self._clocks.wall()
        try:
            value = self._work(flight)
        except BaseException as error:  # noqa: BLE001  # handed to every waiter; without this they would wait forever
            self._fail(flight, error)
        else:
            life, renew = self._life(value)
            plan = lifetime(life, renew_seconds=renew, steady=steady, wall=wall, chance=chance(), limits=self._limits)
            self._landed(flight, (value, plan), None)
            flight.future.set_result(value)
        for hook in flight.after:
            hook()

    def _fail(self, flight: Flight[C], error: BaseException) -> None:
        self._landed(flight, None, error)
        flight.future.set_exception(error)

    def _landed(self, flight: Flight[C], result: tuple[C, Lifetime] | None, error: BaseException | None) -> None:
        with self._lock:
            if self._flight is flight:
                self._flight = None
            if result is not None:
                self._entry = result
                self._rejected = False
                self._failure = None
                self._failures = 0
            elif isinstance(error, WifError):
                self._note_failure(error)
            _flights.discard(flight)

    def _note_failure(self, error: WifError) -> None:
        """Decide for how long this failure answers for others. Called with the lock held."""
        if isinstance(error, TokenError | ConfigurationError):
            self._failures = 1
            if self._started:
                self._started.pop()  # no exchange was made, so none is counted
        else:
            self._failures += 1
        pause = self._limits.failure_backoff_seconds * 2.0 ** min(self._failures - 1, 16)
        pause = min(pause, self._limits.failure_backoff_max_seconds)
        self._failure = error
        asked = min(error.retry_after_seconds or 0.0, self._limits.retry_after_max_seconds)
        self._retry_at = self._clocks.steady() + max(pause, asked)
        if isinstance(error, SubjectChanged):
            self._entry = None

    def _wait_seconds(self, flight: Flight[C], timeout: float | None) -> float:
        left = max(0.0, flight.deadline - self._clocks.monotonic()) + _GRACE_SECONDS
        return left if timeout is None else min(left, max(0.0, timeout))

    def _timed_out(self, flight: Flight[C], timeout: float | None) -> C:
        if self._clocks.monotonic() >= flight.deadline:
            flight.abort()
            with self._lock:
                if self._flight is flight:
                    self._flight = None  # a thread that cannot be woken shall not hold up the next exchange
            what = f"no whole answer within {self._total:.0f} s"
        else:
            what = f"no answer within this caller's {timeout:.1f} s; the exchange goes on"
        return self._after_failure(TransportError(f"{self._name}: {what}", code="timeout"))

    def _after_failure(self, error: WifError) -> C:
        """Serve what is still valid in spite of a failed refresh, else raise."""
        with self._lock:
            entry = None if self._rejected else self._entry
        if entry is not None and entry[1].valid(self._clocks.steady(), self._clocks.wall()):
            return entry[0]
        raise _again(error) from error.__cause__

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._flight = None


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None], _: Future[Any]) -> None:
    """Let an event loop know from an exchange's thread; one that is closed need not."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(ended.set_result, None)


def _no_thread(name: str, error: RuntimeError) -> WifError:
    return TransportError(
        f"{name}: no thread for the exchange: {error}",
        code="connection-failed",
        hint="raise the limit of processes and threads (a pod's pids limit, ulimit -u), or run fewer of them",
    )


def _again(error: WifError) -> WifError:
    """A copy, so that each waiter's traceback is its own."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    twin.__suppress_context__ = error.__suppress_context__
    return twin


_cells: weakref.WeakSet[Cell[Any]] = weakref.WeakSet()
_flights: set[Flight[Any]] = set()


def _at_exit() -> None:
    flights = list(_flights)
    for flight in flights:
        flight.abort()
    left = _EXIT_JOIN_SECONDS
    for flight in flights:
        if flight.thread is not None and left > 0:
            before = SYSTEM.monotonic()
            flight.thread.join(left)
            left -= SYSTEM.monotonic() - before


def _in_child() -> None:
    _flights.clear()
    for cell in list(_cells):
        cell._after_fork()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
