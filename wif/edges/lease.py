"""Leader election by a Lease (``coordination.k8s.io/v1``), written on its resourceVersion.

The rules are client-go's, because other programs may read the same Lease. Clocks of different machines are never
compared: who does not hold the Lease measures with its own clock how long the record has not changed, and takes it
over after the lease time that the record names. Who holds it counts from before its last renewal was sent. So two
holders are possible only where one clock runs faster than the other by more than :data:`DRIFT`.
"""

from __future__ import annotations

__all__ = ["Lease", "elapsed_seconds"]

import logging
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from wif.edges.kube_objects import Objects, Resource, micro_time
from wif.edges.stores import WriteConflict
from wif.errors import UnavailableError, WifError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient

_log = logging.getLogger("wif.lease")

DURATION_SECONDS = 15
"""How long a record holds without being renewed; client-go's default for controllers."""

DRIFT = 0.05
"""By how much one clock may run faster than another; the holder gives up that much of the lease time early."""

_TRIES = 3
"""Where the Lease moves between reading and writing it."""

_RENEW_PART = 5
_MAX_REQUEST_PART = 3
"""Of the lease time: how often it is renewed (client-go: 2 s of 15), and the most that one request may take."""

_MAX_DURATION_SECONDS = 3600
"""A record that says more is not believed: somebody wrote it to keep the others out."""


class _Record(NamedTuple):
    """What a Lease says, as far as it decides."""

    holder: str
    duration_seconds: float
    renewed: str
    transitions: int


class Lease:
    """One contender for one Lease. Safe for threads.

    Rights: ``get`` and ``update`` on this Lease by name; ``create`` only where it is not there yet.

    Args:
        client: who asks.
        namespace: of the Lease.
        name: of the Lease; an empty one that somebody has made is taken over.
        identity: names this contender; no two may have the same. None takes the host's name (in a pod, the pod's)
            and a random part.
        duration_seconds: how long the others wait for a renewal, in whole seconds.
        clock: seconds that never go back, also counting while the machine sleeps.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        *,
        identity: str | None = None,
        duration_seconds: int = DURATION_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        request_seconds = duration_seconds / _MAX_REQUEST_PART
        resource = Resource(group="coordination.k8s.io", plural="leases", namespace=namespace)
        resource.path(name)  # checks the name
        self._objects = Objects(client, resource, timeout_seconds=request_seconds)
        self._name = name
        self._clock = elapsed_seconds if clock is None else clock
        self._lock = threading.RLock()
        self._observed: _Record | None = None
        self._observed_at = 0.0
        self._held_until: float | None = None
        self._term: int | None = None
        self.identity = identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"
        self.duration_seconds = duration_seconds
        self.shown = f"{namespace}/{name}"
        """For messages."""

    # -- what is known without asking ------------------------------------------------------------------------------

    @property
    def holder(self) -> str | None:
        """Who held it when it was last looked at; None where nobody did, or nobody looked."""
        return (self._observed.holder or None) if self._observed is not None else None

    @property
    def remaining_seconds(self) -> float:
        """How long this contender may still act; 0 where it does not hold the Lease."""
        until = self._held_until
        return 0.0 if until is None else max(0.0, until - self._clock())

    def holds(self, for_seconds: float = 0.0) -> bool:
        """Whether this contender holds it for more than so many seconds from now, by what it knows. Sends nothing."""
        return self.remaining_seconds > for_seconds

    def require(self, for_seconds: float = 0.0) -> None:
        """As :meth:`holds`, as an error.

        Raises:
            UnavailableError: lease-lost.
        """
        if not self.holds(for_seconds):
            raise UnavailableError(
                f"{self.identity} does not hold the Lease {self.shown} for {for_seconds:g} s more"
                + (f"; its holder is {self.holder}" if self.holder not in (None, self.identity) else ""),
                code="lease-lost",
            )

    # -- asking ----------------------------------------------------------------------------------------------------

    def acquire(self) -> bool:
        """Take the Lease where it is free or over, renew it where it is held; False where another one holds it.

        Nothing is waited for. A Lease of another holder is over when this contender has itself seen no change of it
        for its lease time, so the first call never takes it over unless its holder has released it.

        Raises:
            RefusedError: cluster-refused, the missing right named.
            UnavailableError: cluster-unavailable; what is left of a Lease that is held stays valid.
        """
        return self._attempt(same_term=False)

    def renew(self) -> bool:
        """Renew it where nobody else has had it since it was acquired, else False: then it is not taken again.

        Raises:
            WifError: as :meth:`acquire`.
        """
        return self._attempt(same_term=True)

    def confirm(self, for_seconds: float = 0.0) -> bool:
        """Ask the API server and renew: whether it has been held all the time, and for so many seconds from now.

        Right before a write that no precondition guards: a process that was paused learns here that it has lost.

        Raises:
            WifError: as :meth:`acquire`.
        """
        return self.renew() and self.holds(for_seconds)

    def _attempt(self, *, same_term: bool) -> bool:
        with self._lock:
            for _ in range(_TRIES):
                found = self._objects.get(self._name, timeout_seconds=self.duration_seconds / _MAX_REQUEST_PART)
                record = _record(found, self.duration_seconds)
                self._observe(record)
                is_mine = record.holder == self.identity and record.transitions == self._term
                is_free = record.holder in ("", self.identity) or self._is_over(record)
                if not is_mine and (same_term or not is_free):
                    self._held_until = self._term = None
                    return False
                asked_at = self._clock()
                try:
                    written = _record(self._write(found, record), self.duration_seconds)
                except WriteConflict:
                    continue  # somebody else has moved it, or our own write whose answer was lost: look again
                self._observe(written)
                self._term = written.transitions
                self._held_until = asked_at + self.duration_seconds * (1 - DRIFT)
                return self.holds()
            return False

    def wait(self, timeout_seconds: float, *, stop: threading.Event | None = None) -> bool:
        """Try to acquire it again and again; False after the time, or once ``stop`` is set.

        Raises:
            RefusedError: cluster-refused. While the API server cannot be used it is tried further.
        """
        ends = self._clock() + timeout_seconds
        stopping = threading.Event() if stop is None else stop
        while not stopping.is_set():
            try:
                if self.acquire():
                    return True
            except UnavailableError as error:
                _log.warning("the Lease %s: %s", self.shown, error.message)
            left = ends - self._clock()
            if left <= 0 or stopping.wait(min(left, self._pause())):
                return False
        return False

    def release(self) -> None:
        """Give it back, so that another one need not wait; nothing happens where it is not held.

        Raises:
            WifError: as :meth:`acquire`; it then runs out by itself.
        """
        with self._lock:
            held, self._held_until = self._held_until, None
            if held is None or self._clock() >= held:
                return
            found = self._objects.get(self._name, timeout_seconds=self.duration_seconds / _MAX_REQUEST_PART)
            if found is None or _record(found, 0.0).holder != self.identity:
                return
            spec = {**_spec(found), "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            with suppress(WriteConflict):  # somebody else has it already
                self._objects.replace({**found, "spec": spec})

    @contextmanager
    def kept(self) -> Iterator[Lease]:
        """Renew it on a thread of its own for the length of the block, and release it at its end.

        It is never acquired anew after it was lost: then :meth:`holds` stays False until the block ends.
        """
        stop = threading.Event()
        thread = threading.Thread(target=self._keep, args=(stop,), name=f"lease {self.shown}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join(self.duration_seconds)  # more than its requests can take
            with suppress(WifError):
                self.release()

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(self._pause()):
            try:
                if not self.renew():
                    _log.warning("the Lease %s is lost; its holder is %s", self.shown, self.holder)
                    return
            except WifError as error:
                _log.warning("the Lease %s is not renewed: %s", self.shown, error.message)

    def _pause(self) -> float:
        return self.duration_seconds / _RENEW_PART * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret

    def _observe(self, record: _Record) -> None:
        if record != self._observed:
            self._observed, self._observed_at = record, self._clock()

    def _is_over(self, record: _Record) -> bool:
        return self._clock() - self._observed_at > record.duration_seconds

    def _write(self, found: Mapping[str, Any] | None, record: _Record) -> Mapping[str, Any]:
        now = _now()
        spec = {**_spec(found), "holderIdentity": self.identity, "renewTime": now}
        spec["leaseDurationSeconds"] = self.duration_seconds
        if record.holder != self.identity:
            spec |= {"acquireTime": now, "leaseTransitions": record.transitions + (found is not None)}
        if found is None:
            return self._objects.create({"metadata": {"name": self._name}, "spec": spec})
        return self._objects.replace({**found, "spec": spec})


def elapsed_seconds() -> float:
    """Seconds that never go back; where the system can say so (Linux), also those for which it was suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _now() -> str:
    return micro_time(datetime.now(UTC))  # for people: nobody decides by it


def _spec(found: Mapping[str, Any] | None) -> dict[str, Any]:
    spec = (found or {}).get("spec")
    return dict(spec) if isinstance(spec, dict) else {}


def _record(found: Mapping[str, Any] | None, default_seconds: float) -> _Record:
    spec = _spec(found)
    duration = spec.get("leaseDurationSeconds")
    seconds = float(duration) if isinstance(duration, int) and duration > 0 else default_seconds
    transitions = spec.get("leaseTransitions")
    return _Record(
        holder=str(spec.get("holderIdentity") or ""),
        duration_seconds=min(seconds, _MAX_DURATION_SECONDS),
        renewed=str(spec.get("renewTime") or ""),
        transitions=transitions if isinstance(transitions, int) else 0,
    )
