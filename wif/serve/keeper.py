"""Keeps every identity's credential fresh without anybody asking, and knows and says which state each is in.

It sleeps until the next credential is due, asks its exchanger, and is woken when an exchange ends. How often a cloud
may be asked, how long a failure counts and what is served meanwhile is the exchangers' business.
"""

from __future__ import annotations

__all__ = ["Keeper", "Kept"]

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from wif.clouds.endpoint_answers import State, state_of
from wif.errors import WifError
from wif.exchange.single_flight import Standing
from wif.serve.sidecar_identities import AnyExchanger, AnyServed, Identities

_LOGGER = logging.getLogger("wif.serve")

_SHORTEST_SLEEP_SECONDS = 0.02
"""Whatever a clock says, the event loop belongs to the requests."""
_UNDER_WAY_SECONDS = 1.0
"""Between two questions about a refresh that is under way."""
_LONGEST_PAUSE_SECONDS = 30.0
"""After failures: an exchanger tries a token file that is not there each second, which is for who waits for it."""
_WORST_FIRST: tuple[State, ...] = ("refused", "outage", "pending", "ready")

ChangeHook = Callable[[AnyServed], None]


class Kept(NamedTuple):
    """What is known of one identity; where several scopes of it are kept, of the one that stands worst."""

    state: State
    code: str | None = None
    """Of the last failure, where there was none better since: also of a refresh that failed while ready."""
    expires_at: datetime | None = None
    """Of the credential, where there is a valid one."""


@dataclass(slots=True)
class _Watch:
    """What the keeper remembers of one credential."""

    value: Any = None
    """The last one that it saw."""
    failure: WifError | None = None
    """The last one that it saw on the exchanger's side."""
    error: WifError | None = None
    """What its own asking ended in."""
    failures: int = 0
    """In a row."""
    not_before: float = 0.0
    """On the loop's clock."""
    asking: asyncio.Task[None] | None = None


_Key = tuple[AnyExchanger, str | None]
_Told = tuple[AnyExchanger, State, str]
"""What the log says of an identity, by state and code; new settings are another exchanger."""


class Keeper:
    """One asyncio task for all identities that are served; a credential that is asked for has another one for so long.

    Args:
        identities: whom to keep; what is replaced in them is seen.
        longest_sleep_seconds: after which it looks again whatever it was waiting for: a clock may have jumped, the
            machine may have been suspended.
    """

    def __init__(self, identities: Identities, *, longest_sleep_seconds: float = 5.0) -> None:
        self._identities = identities
        self._longest_sleep = longest_sleep_seconds
        self._watches: dict[_Key, _Watch] = {}
        self._hooks: list[ChangeHook] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._told: dict[str, _Told] = {}
        """Of those identities that are in trouble, by name."""
        self.looks = 0
        """How often it has looked at all identities."""
        identities.listen(lambda _name, _record: self.wake())

    def on_change(self, hook: ChangeHook) -> None:
        """Register what is called on the event loop when an identity has a new credential. It must not block."""
        self._hooks.append(hook)

    def start(self) -> None:
        """Begin, on the running event loop; once."""
        if self._task is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(self._loop), name="wif keeper")

    async def stop(self) -> None:
        """End; exchanges under way go on until the identities are closed."""
        self._loop = None
        tasks = [watch.asking for watch in self._watches.values()] + [self._task]
        ending = [task for task in tasks if task is not None]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def wake(self) -> None:
        """Look at everything again now: the identities were replaced. Any thread may call it."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # an exchange may outlive the loop that waited for it
                loop.call_soon_threadsafe(self._woken.set)

    # -- what is known -----------------------------------------------------------------------------------

    @property
    def states(self) -> Mapping[str, Kept]:
        """Of the identities that are served, by name; nobody keeps the others."""
        return {each.name: self._kept(each) for each in self._served()}

    def ready(self) -> bool:
        """Whether every identity that is served has a valid credential, whatever goes on besides."""
        return all(served.standing(scope).value is not None for served, scope in self._scopes())

    def _served(self) -> Iterator[AnyServed]:
        names = self._identities.settings.served
        return (served for served in self._identities if served.name in names)

    def _scopes(self) -> Iterator[tuple[AnyServed, str | None]]:
        return ((served, scope) for served in self._served() for scope in served.scopes)

    def _kept(self, served: AnyServed) -> Kept:
        return self._kept_and_failure(served)[0]

    def _kept_and_failure(self, served: AnyServed) -> tuple[Kept, WifError | None]:
        """How an identity stands, and the failure that its code is of."""
        each = [self._kept_scope(served, scope) for scope in served.scopes]
        worst, failure = min(each, key=lambda pair: _WORST_FIRST.index(pair[0].state))
        if worst.state != "ready":
            return worst, failure
        ends = [kept.expires_at for kept, _ in each if kept.expires_at is not None]
        failure = next((failure for _, failure in each if failure is not None), None)
        return Kept("ready", None if failure is None else failure.code, min(ends)), failure

    def _kept_scope(self, served: AnyServed, scope: str | None) -> tuple[Kept, WifError | None]:
        standing = served.standing(scope)
        watch = self._watches.get((served.exchanger, scope))
        failure = standing.failure or (None if watch is None else watch.error)
        code = None if failure is None else failure.code
        if standing.value is not None:
            return Kept("ready", code, standing.value.expires_at), failure
        return Kept("pending" if failure is None else state_of(failure), code), failure

    # -- the task ----------------------------------------------------------------------------------------

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            self._woken.clear()
            # a timer and not wait_for, which before Python 3.12 loses a cancellation that comes together with the event
            timer = loop.call_later(self._look(loop), self._woken.set)
            try:
                await self._woken.wait()
            finally:
                timer.cancel()

    def _look(self, loop: asyncio.AbstractEventLoop) -> float:
        """Ask for what is due; the seconds until something is due next."""
        pause = self._longest_sleep
        watches: dict[_Key, _Watch] = {}
        for served, scope in self._scopes():
            key = (served.exchanger, scope)
            watch = watches[key] = self._watches.get(key) or _Watch()
            standing = served.standing(scope)
            self._note(watch, standing, served, loop)
            if watch.asking is not None:
                continue  # its end wakes
            due = max(standing.due_seconds, watch.not_before - loop.time())
            if due <= 0:
                watch.asking = loop.create_task(self._ask(served, scope, watch), name=f"wif keeper {served.name}")
            else:
                pause = min(pause, due)
        self._watches = watches
        self.looks += 1
        self._tell()
        return max(pause, _SHORTEST_SLEEP_SECONDS)

    def _note(self, watch: _Watch, standing: Standing, served: AnyServed, loop: asyncio.AbstractEventLoop) -> None:
        if standing.failure is not watch.failure:
            watch.failure = standing.failure
            watch.failures = 0 if standing.failure is None else watch.failures + 1
            pause = 0.0 if standing.failure is None else min(2.0 ** (watch.failures - 1), _LONGEST_PAUSE_SECONDS)
            watch.not_before = loop.time() + pause
        if standing.value is not None and standing.value is not watch.value:
            watch.value, watch.error, watch.not_before = standing.value, None, 0.0
            for hook in self._hooks:
                loop.call_soon(hook, served)  # what it raises is the loop's business, and does not end the keeping

    def _tell(self) -> None:
        """Say what has changed for the worse, and what is well again; retries that change nothing are not repeated."""
        served_now = {served.name: served for served in self._served()}
        self._told = {name: told for name, told in self._told.items() if name in served_now}
        for name, served in served_now.items():
            kept, failure = self._kept_and_failure(served)
            before = self._told.get(name)
            cloud = served.settings.cloud
            if failure is not None:
                told = self._told[name] = (served.exchanger, kept.state, failure.code)
                if told == before:
                    continue
                what = "is not renewed" if kept.state == "ready" else f"has no credential ({kept.state})"
                fields = {"identity": name, "cloud": cloud, "state": kept.state, "code": failure.code}
                _LOGGER.warning(
                    "the identity %s (%s) %s: %s; %s",
                    name,
                    cloud,
                    what,
                    failure.message,
                    failure.hint,
                    extra={"wif": fields},
                )
            elif before is not None and kept.state == "ready":
                del self._told[name]
                what = "is renewed again" if before[1] == "ready" else "has a credential again"
                _LOGGER.info("the identity %s %s", name, what, extra={"wif": {"identity": name, "cloud": cloud}})

    async def _ask(self, served: AnyServed, scope: str | None, watch: _Watch) -> None:
        try:
            await served.exchanger.kept(scope)
        except WifError as error:
            watch.error = error
        finally:
            watch.asking = None
            # A refresh ahead goes on when this has its answer. Its end wakes; one that hangs needs to be passed by.
            watch.not_before = max(watch.not_before, asyncio.get_running_loop().time() + _UNDER_WAY_SECONDS)
            self._woken.set()
