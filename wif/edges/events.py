"""Kubernetes Events (``events.k8s.io/v1``) about one object: what operators see with ``kubectl describe``.

An Event is a remark. Writing it never fails the caller, and what happens again and again becomes one Event with a
growing count: the cluster's store is not a log.
"""

from __future__ import annotations

__all__ = ["EventRecorder", "ObjectReference"]

import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from wif.edges.kube_objects import Objects, Resource, micro_time
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient

SERIES_SECONDS = 360.0
"""A repetition within this time belongs to the same series (client-go: 6 minutes), later it is a new Event."""
UPDATE_SECONDS = 60.0
"""A series is written at most so often; what comes between is counted."""
MAX_NEW_EVENTS = 30
NEW_EVENTS_SECONDS = 600.0
"""So many new Events in so long; more are dropped, and said so to the caller."""
MAX_SERIES = 64
"""That are remembered; the oldest is forgotten first."""
REQUEST_SECONDS = 5.0

MAX_NOTE_BYTES = 1024
_MAX_WORD = 128
"""The API's own limits."""

CONTROLLER = "wif"
"""``reportingController``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReference:
    """What an Event is about."""

    api_version: str = "v1"
    kind: str
    namespace: str
    name: str
    uid: str = ""
    """Empty where it is not known; ``kubectl describe`` finds the Event by kind and name then."""


class _Series:
    """One Event that has been made, and what has come since."""

    def __init__(self, name: str, at: float) -> None:
        self.name = name
        self.count = 1
        self.seen_at = self.written_at = at


class EventRecorder:
    """Records Events about one object. Safe for threads.

    Rights: ``create`` and ``patch`` on ``events`` of ``events.k8s.io`` in the object's namespace.

    Args:
        client: who asks.
        regarding: the object.
        instance: ``reportingInstance``; None takes the host's name, which in a pod is the pod's.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        client: KubeClient,
        regarding: ObjectReference,
        *,
        instance: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        resource = Resource(group="events.k8s.io", plural="events", namespace=regarding.namespace)
        self._objects = Objects(client, resource, timeout_seconds=REQUEST_SECONDS)
        self._regarding = regarding
        self._instance = (instance or socket.gethostname())[:_MAX_WORD]
        self._clock = clock
        self._lock = threading.Lock()
        self._series: OrderedDict[tuple[str, str, str, str], _Series] = OrderedDict()
        self._made_at: list[float] = []

    def normal(self, reason: str, note: str, *, action: str) -> str:
        """Record that something has gone as it should; see :meth:`record`."""
        return self.record("Normal", reason, note, action=action)

    def warning(self, reason: str, note: str, *, action: str) -> str:
        """Record that somebody should look; see :meth:`record`."""
        return self.record("Warning", reason, note, action=action)

    def record(self, kind: Literal["Normal", "Warning"], reason: str, note: str, *, action: str) -> str:
        """Record an Event, or count it where it is the same as one of the last minutes.

        Args:
            reason: why, in one CamelCase word, e.g. ``KeyUnknown``.
            note: for people; cut at 1,024 bytes. Never a secret.
            action: what was being done, in one CamelCase word, e.g. ``Publish``.

        Returns:
            Empty where it is recorded or counted, else what kept it from being so.
        """
        key = (kind, reason[:_MAX_WORD], action[:_MAX_WORD], _cut(note))
        with self._lock:
            now = self._clock()
            series = self._series.get(key)
            try:
                if series is not None and now - series.seen_at <= SERIES_SECONDS:
                    return self._count(series, now)
                return self._make(key, now)
            except WifError as error:
                if error.status == 404:  # the Event has been removed: the next one is made anew
                    self._series.pop(key, None)
                return error.message

    def _count(self, series: _Series, now: float) -> str:
        series.count += 1
        series.seen_at = now
        if now - series.written_at >= UPDATE_SECONDS:
            seen = {"count": series.count, "lastObservedTime": micro_time(datetime.now(UTC))}
            self._objects.change(series.name, {"series": seen})
            series.written_at = now
        return ""

    def _make(self, key: tuple[str, str, str, str], now: float) -> str:
        self._made_at = [at for at in self._made_at if now - at < NEW_EVENTS_SECONDS]
        if len(self._made_at) >= MAX_NEW_EVENTS:
            return f"{MAX_NEW_EVENTS} Events have been made within {NEW_EVENTS_SECONDS:g} s; this one is left out"
        self._made_at.append(now)
        name = f"{self._regarding.name[:200].rstrip('.-')}.{uuid.uuid4().hex[:16]}"
        self._objects.create(self._event(name, key))
        self._series[key] = _Series(name, now)
        self._series.move_to_end(key)
        while len(self._series) > MAX_SERIES:
            self._series.popitem(last=False)
        return ""

    def _event(self, name: str, key: tuple[str, str, str, str]) -> dict[str, Any]:
        kind, reason, action, note = key
        about = self._regarding
        regarding = {"apiVersion": about.api_version, "kind": about.kind, "namespace": about.namespace}
        regarding |= {"name": about.name} | ({"uid": about.uid} if about.uid else {})
        return {
            "metadata": {"name": name, "namespace": about.namespace},
            "eventTime": micro_time(datetime.now(UTC)),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "regarding": regarding,
            "note": note,
            "type": kind,
        }


def _cut(note: str) -> str:
    """At most so many bytes, no letter cut in two."""
    raw = note.encode(errors="replace")
    return note if len(raw) <= MAX_NOTE_BYTES else raw[: MAX_NOTE_BYTES - 3].decode(errors="ignore") + "…"
