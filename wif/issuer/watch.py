"""The controller of a cluster's issuers: one replica leads, looks often, acts on change and on a period, and tells.

What is when is decided by :mod:`wif.issuer.schedule`, what a round does by :mod:`wif.issuer.watched`. This module
holds them together: the Lease, the threads, the log, the notices. A replica that does not lead only contends; the
Lease is asked for by a thread of its own, so that a slow target never costs the leadership.
"""

from __future__ import annotations

__all__ = ["Contender", "Controller", "ControllerStatus", "Notice"]

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

from wif.errors import UnavailableError, WifError
from wif.issuer.rota import Rota
from wif.issuer.schedule import Schedule, Timing
from wif.issuer.watched import Findings, IssuerStatus, Watched

_LOGGER = logging.getLogger("wif.watch")

THREADS = 4
"""Issuers at a time."""
_CONTEND_PART = 5
"""Of the lease time: how often it is asked for, as client-go does (2 s of 15)."""
_LOST_CONTACT_PARTS = 3
"""Lease times without an answer of the API server, after which a replica could not take over: not ready."""
STUCK_SECONDS = 1800.0
"""A round has bounds everywhere; one that takes longer hangs, and the process is to be started anew."""


_ACTIONS = {
    "LeaderElected": "Lead",
    "KeySignsTooEarly": "Observe",
    "TamperingFound": "Observe",
    "TamperingGone": "Observe",
    "VerificationFailed": "Verify",
    "Verified": "Verify",
}


class Contender(Protocol):
    """What the controller needs of a Lease; :class:`wif.edges.lease.Lease` is one."""

    @property
    def duration_seconds(self) -> float:
        """Of the lease."""

    @property
    def holder(self) -> str | None:
        """Who had it when it was last looked at."""

    def acquire(self) -> bool:
        """Take or renew it, where that is possible now."""

    def holds(self, for_seconds: float = 0.0) -> bool:
        """Whether it is held, by what is known."""

    def release(self) -> None:
        """Give it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened, to be told once: an Event, where there is a cluster."""

    kind: Literal["Normal", "Warning"]
    reason: str
    """UpperCamelCase, as Kubernetes' Events have it."""
    message: str
    issuer: str = ""

    @property
    def action(self) -> str:
        """What was being done, as an Event names it."""
        return _ACTIONS.get(self.reason, "Publish")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStatus:
    """What is so now, for metrics and probes."""

    is_leading: bool
    issuers: tuple[IssuerStatus, ...]
    """Of the leader; a follower knows nothing of now."""
    now: float
    """By the controller's clock, as all its times are."""


class Controller:
    """Watches issuers. :meth:`run` is a worker of :func:`wif.serve.httpd.run`.

    Args:
        issuers: what is watched.
        lease: the leadership; None leads always, for one process outside a cluster.
        timing: how often.
        restore: whether what only somebody else can have done is repaired.
        clock: seconds that never go back.
        chance: 0 to 1.
        tell: takes notices; called by several threads, must not fail.
    """

    def __init__(
        self,
        issuers: Sequence[Watched],
        *,
        clock: Callable[[], float],
        lease: Contender | None = None,
        timing: Timing | None = None,
        restore: bool = False,
        chance: Callable[[], float] = random.random,
        tell: Callable[[Notice], None] = lambda _: None,
    ) -> None:
        self._issuers = tuple(issuers)
        self._lease = lease
        self._restore = restore
        self._clock = clock
        self._chance = chance
        self._tell = tell
        self._schedules = [Schedule(timing or Timing()) for _ in self._issuers]
        self._statuses = [IssuerStatus(name=each.name, issuer=each.issuer) for each in self._issuers]
        self._complaints: list[tuple[str, ...]] = [() for _ in self._issuers]
        self._began: list[float | None] = [None] * len(self._issuers)
        self._is_leading = False
        self._contact_at = clock()
        self._rota = Rota(
            [partial(self.step, number) for number in range(len(self._issuers))], clock=clock, threads=THREADS
        )

    # -- what is so now --------------------------------------------------------------------------------------------

    @property
    def status(self) -> ControllerStatus:
        """What is known now."""
        leading = self._may_act()
        return ControllerStatus(is_leading=leading, issuers=tuple(self._statuses) if leading else (), now=self._clock())

    def unready(self) -> tuple[str, ...]:
        """Why this replica could not take over or go on; empty where it could."""
        if self._lease is None:
            return ()
        silence = self._clock() - self._contact_at
        if silence <= _LOST_CONTACT_PARTS * self._lease.duration_seconds:
            return ()
        return (f"the Lease could not be asked for since {silence:.0f} s",)

    def unhealthy(self) -> tuple[str, ...]:
        """Why this process is to be started anew; empty where nothing hangs."""
        now = self._clock()
        return tuple(
            f"the round of {issuer.name} has not ended for {now - began:.0f} s"
            for issuer, began in zip(self._issuers, self._began, strict=True)
            if began is not None and now - began > STUCK_SECONDS
        )

    # -- the threads -----------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Work until the event is set, then give the Lease back.

        Raises:
            WifError: the Lease may not be used; nothing else ends it.
        """
        failure: list[WifError] = []
        released = threading.Event()

        def contend() -> None:
            try:
                while not released.is_set():
                    self.contend()
                    released.wait(self._contend_seconds())
            except WifError as error:
                failure.append(error)
                stop.set()

        thread = threading.Thread(target=contend, name="wif-lease", daemon=True)
        thread.start()
        try:
            self._rota.run(stop)
        finally:
            released.set()
            thread.join(self._contend_seconds() * _CONTEND_PART)
            self._give_back()
            for each in self._issuers:
                each.close()
        if failure:
            raise failure[0]

    def contend(self) -> None:
        """Ask for the Lease once, and note what that changes.

        Raises:
            WifError: the Lease may not be used at all. An API server that does not answer is waited for.
        """
        if self._lease is not None:
            try:
                self._lease.acquire()
                self._contact_at = self._clock()
            except UnavailableError as error:
                _LOGGER.warning("the Lease cannot be asked for: %s", error.message)
        leading = self._may_act()
        if leading == self._is_leading:
            return
        self._is_leading = leading
        if leading:
            now = self._clock()
            # a leader that never gets as far as a verification is one that has not verified since now
            self._statuses = [replace(each, verified_at=now) for each in self._statuses]
            _LOGGER.info("this replica leads")
            if self._lease is not None:
                self._tell(Notice(kind="Normal", reason="LeaderElected", message="this replica leads now"))
            self._rota.wake()
        else:
            holder = self._lease.holder if self._lease is not None else None
            _LOGGER.warning("this replica leads no more", extra={"wif": {"holder": holder}})

    def _contend_seconds(self) -> float:
        duration = self._lease.duration_seconds if self._lease is not None else 15.0
        return duration / _CONTEND_PART * (0.8 + 0.4 * self._chance())

    def _may_act(self) -> bool:
        return self._lease is None or self._lease.holds()

    def _give_back(self) -> None:
        if self._lease is None:
            return
        try:
            self._lease.release()
        except WifError as error:
            _LOGGER.warning("the Lease is not given back, so it runs out by itself: %s", error.message)

    # -- one issuer ------------------------------------------------------------------------------------------------

    def step(self, number: int) -> float:
        """Do what is due for one issuer; when something is due next."""
        schedule, issuer = self._schedules[number], self._issuers[number]
        if not (self._is_leading and self._may_act()):
            schedule.follow()
            return schedule.next_at()
        now = self._clock()
        schedule.lead(now)
        due = schedule.due(now)
        if due is None:
            return schedule.next_at()
        self._began[number] = now
        try:
            seen = self._look(number, issuer)
            if due == "poll" and not schedule.polled(now, seen):
                return schedule.next_at()
            findings = issuer.run(restore=self._restore)
        finally:
            self._began[number] = None
        now = self._clock()
        before = self._statuses[number]
        self._statuses[number] = replace(before.after(findings, now), issuer=issuer.issuer)
        schedule.ran(now, seen=seen, ok=findings.ok, chance=self._chance())
        self._report(issuer.issuer, before.last, findings, schedule.next_at() - now)
        return schedule.next_at()

    def _look(self, number: int, issuer: Watched) -> object:
        """What a poll sees; None where it cannot be seen, which is said once."""
        try:
            seen = issuer.look()
        except WifError as error:
            self._complain(number, (f"the sources, the state or the targets cannot be read: {error.message}",))
            return None
        self._complain(number, ())
        return seen

    def _complain(self, number: int, sentences: tuple[str, ...]) -> None:
        if sentences == self._complaints[number]:
            return
        self._complaints[number] = sentences
        for sentence in sentences:
            _LOGGER.warning("%s", sentence, extra={"wif": {"issuer": self._issuers[number].issuer}})

    def _report(self, issuer: str, before: Findings, now: Findings, next_in: float) -> None:
        """Log every round; tell what is new."""
        fields = {
            "issuer": issuer,
            "targets": len(now.targets),
            "written": sum(1 for target in now.targets if target.written),
            "failed": sum(1 for target in now.targets if target.error is not None),
            "verified": now.verified,
            "tampering": len(now.tampering),
            "next_seconds": round(next_in, 1),
        }
        _LOGGER.log(logging.INFO if now.ok else logging.WARNING, "round done", extra={"wif": fields})
        for text in now.warnings:
            if text not in before.warnings:
                _LOGGER.warning("%s", text, extra={"wif": {"issuer": issuer}})
        if now.next_step != before.next_step:
            _LOGGER.info("next step of the rotation: %s", now.next_step or "none", extra={"wif": {"issuer": issuer}})
        for notice in notices(issuer, before, now):
            level = logging.INFO if notice.kind == "Normal" else logging.WARNING
            _LOGGER.log(level, "%s", notice.message, extra={"wif": {"issuer": issuer, "reason": notice.reason}})
            self._tell(notice)


def notices(issuer: str, before: Findings, now: Findings) -> tuple[Notice, ...]:
    """What a round has to tell that the one before has not told already."""
    told = {
        *((target.name, target.error.code) for target in before.targets if target.error is not None),
        *([("", before.error.code)] if before.error is not None else []),
    }
    found: list[tuple[Literal["Normal", "Warning"], str, str]] = []
    if now.error is not None and ("", now.error.code) not in told:
        found.append(("Warning", "PublishFailed", now.error.message))
    for target in now.targets:
        if target.error is not None:
            if (target.name, target.error.code) not in told:
                found.append(("Warning", "TargetFailed", f"{target.name}: {target.error.message}"))
        elif target.written:
            why = f": {'; '.join(target.drift)}" if target.drift else ""
            found.append(("Normal", "Published", f"{target.name} was written with {target.keys} key(s){why}"))
    found += [("Warning", "TamperingFound", text) for text in now.tampering if text not in before.tampering]
    if before.tampering and not now.tampering and now.error is None:
        found.append(("Normal", "TamperingGone", "what nobody vouched for is no longer there"))
    if now.verified is False:
        new = [text for text in now.failed_checks if text not in before.failed_checks]
        found += [("Warning", "VerificationFailed", text) for text in new]
    elif now.verified and before.verified is False:
        found.append(("Normal", "Verified", "the documents are right as the outside sees them"))
    found += [("Warning", "KeySignsTooEarly", text) for text in now.exposures if text not in before.exposures]
    return tuple(Notice(kind=kind, reason=reason, message=message, issuer=issuer) for kind, reason, message in found)
