"""Faults that a test asks the local STS to make: delays, error answers, cut connections, a wrong clock.

::

    faults = Faults()
    faults.inject(cloud="aws", status=503, times=2)
    faults.inject(cloud="gcp", operation="generateAccessToken", cut="body")
    with faults.inject(clock_offset_seconds=-600):
        ...

The server asks :meth:`Faults.take` once per request. Injections are looked at in the order in which they were
made, and one answer can join several (a wrong clock and a delay); one that would set what an earlier one has
already set waits for the next request, so that two answers with ``times=1`` come one after the other.
"""

from __future__ import annotations

__all__ = ["CutPoint", "Fault", "Faults", "Injection"]

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, get_args

from wif.errors import ConfigurationError

CutPoint = Literal["before-answer", "headers", "body"]
"""Where the connection ends: before a byte of the answer, within its headers, within its body."""

MAX_DELAY_SECONDS = 600.0
"""A longer delay is a slip of the unit: no client waits so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one request. A field that is None or zero leaves that part as it is."""

    delay_seconds: float = 0.0
    """Pause before anything of the answer is sent."""
    status: int | None = None
    """Answered in place of the real answer, with ``body``, ``content_type`` and ``headers``."""
    body: bytes = field(default=b"", repr=False)
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: CutPoint | None = None
    """The connection is closed there. Without ``status`` it is the real answer that is cut."""
    clock_offset_seconds: float = 0.0
    """Added to the local STS's clock while it judges this request."""


class Injection:
    """One fault, whom it hits and how often. As a context manager it ends with the block."""

    def __init__(self, owner: Faults, fault: Fault, cloud: str | None, operation: str | None, times: int | None):
        self._owner = owner
        self.fault = fault
        self.cloud = cloud
        self.operation = operation
        self.remaining = times
        """How often it will still be taken; None is always."""
        self.taken = 0
        """How often it was taken."""

    def remove(self) -> None:
        """End it; nothing happens where it has ended already."""
        self._owner._remove(self)

    def __enter__(self) -> Injection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"Injection({self.fault!r}, cloud={self.cloud!r}, operation={self.operation!r}, taken={self.taken})"


class Faults:
    """The faults of one local STS. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._injections: list[Injection] = []

    def inject(
        self,
        *,
        cloud: str | None = None,
        operation: str | None = None,
        times: int | None = None,
        delay_seconds: float = 0.0,
        status: int | None = None,
        body: bytes = b"",
        content_type: str = "text/plain; charset=utf-8",
        headers: Mapping[str, str] | None = None,
        cut: CutPoint | None = None,
        clock_offset_seconds: float = 0.0,
    ) -> Injection:
        """Make a fault.

        Args:
            cloud: ``aws``, ``gcp``, ``azure``; ``issuer`` for the documents of a
                :class:`~wif.emulator.cluster.LocalCluster`. None hits all.
            operation: the API's own name, e.g. ``AssumeRoleWithWebIdentity``; None hits all.
            times: how many requests it hits; None hits all until it is removed.

        The other arguments are the fields of :class:`Fault`.
        """
        _check(times, delay_seconds, status, cut, body)
        fault = Fault(
            delay_seconds=delay_seconds,
            status=status,
            body=body,
            content_type=content_type,
            headers=dict(headers or {}),
            cut=cut,
            clock_offset_seconds=clock_offset_seconds,
        )
        if not _fields(fault):
            _refuse("sets nothing: expected a delay, a status, a cut or a clock offset")
        injection = Injection(self, fault, cloud, operation, times)
        with self._lock:
            self._injections.append(injection)
        return injection

    def take(self, cloud: str, operation: str) -> Fault | None:
        """What goes wrong with this request, or None; counts it. The server calls this once per request."""
        if not self._injections:  # the usual case costs no lock
            return None
        joined: dict[str, Any] = {}
        with self._lock:
            for injection in list(self._injections):
                if injection.cloud not in (None, cloud) or injection.operation not in (None, operation):
                    continue
                fields = _fields(injection.fault)
                if joined.keys() & fields.keys():
                    continue
                joined |= fields
                injection.taken += 1
                if injection.remaining is not None:
                    injection.remaining -= 1
                    if injection.remaining == 0:
                        self._injections.remove(injection)
        return Fault(**joined) if joined else None

    def clear(self) -> None:
        """End all faults."""
        with self._lock:
            self._injections.clear()

    def _remove(self, injection: Injection) -> None:
        with self._lock:
            if injection in self._injections:
                self._injections.remove(injection)


_ANSWER = ("status", "body", "content_type", "headers", "cut")


def _fields(fault: Fault) -> dict[str, Any]:
    """The fields that a fault sets. What shapes the answer counts as one, so that two answers never mix."""
    result: dict[str, Any] = {}
    if fault.delay_seconds:
        result["delay_seconds"] = fault.delay_seconds
    if fault.clock_offset_seconds:
        result["clock_offset_seconds"] = fault.clock_offset_seconds
    if fault.status is not None or fault.cut is not None:
        result |= {name: getattr(fault, name) for name in _ANSWER}
    return result


def _check(times: int | None, delay_seconds: float, status: int | None, cut: str | None, body: bytes) -> None:
    if times is not None and times < 1:
        _refuse(f"has times={times}: expected at least 1, or None for always")
    if not 0.0 <= delay_seconds <= MAX_DELAY_SECONDS:
        _refuse(f"has delay_seconds={delay_seconds}: expected 0 to {MAX_DELAY_SECONDS:.0f}")
    if status is not None and not 200 <= status <= 599:
        _refuse(f"has status={status}: expected 200 to 599")
    if status is None and body:
        _refuse("has a body and no status: expected both")
    if cut is not None and cut not in get_args(CutPoint):
        _refuse(f"has cut={cut!r}: expected one of {', '.join(get_args(CutPoint))}")


def _refuse(what: str) -> None:
    raise ConfigurationError(f"the fault {what}", code="config-invalid", hint="see wif.emulator.faults.Faults.inject")
