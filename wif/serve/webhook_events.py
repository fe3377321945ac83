"""Kubernetes Events of the webhook's decisions: what an operator sees who asks why a pod has no credentials.

A pod has no name of its own yet when it is reviewed, so the Event is about what makes it (its controller), where
somebody will look; without one it is about the ServiceAccount. The review never waits for an Event: there is a queue
with an end, and what does not go in is counted.
"""

from __future__ import annotations

__all__ = ["EventWriter", "Notice", "notices_of"]

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from wif.edges.events import EventRecorder, ObjectReference
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient
    from wif.serve.webhook import Told

_LOGGER = logging.getLogger("wif.serve")

MAX_QUEUED = 256
MAX_OBJECTS = 512
"""Whose Events are remembered, to count repetitions; the oldest are forgotten first."""
EVENTS_PER_MINUTE = 60
"""Of all objects together; more are dropped, and counted."""
_POLL_SECONDS = 0.5
_MAX_NAME = 253


class _Owner(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    owner_references: tuple[_Owner, ...] | None = None


class _Object(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


_DECODE = msgspec.json.Decoder(_Object).decode


class Notice(NamedTuple):
    """One Event to write."""

    about: ObjectReference
    kind: Literal["Normal", "Warning"]
    reason: str
    note: str
    action: str = "Inject"


def notices_of(told: Told) -> list[Notice]:
    """The Events of one decision: one for each thing that was refused or warned about; none on a dry run."""
    review, decision, account = told
    if review.dry_run or not review.namespace:
        return []
    if review.resource.resource == "serviceaccounts":
        return []  # whoever writes it is told, and it is not stored where it is refused
    about = _controller(review.namespace, review.object)
    if about is None and account is not None:
        about = ObjectReference(kind="ServiceAccount", namespace=review.namespace, name=account.name, uid=account.uid)
    if about is None:
        return []
    found = []
    for finding in decision.findings:
        if finding.level == "note":
            continue
        reason = "InjectionDenied" if finding.level == "deny" else "InjectionWarning"
        found.append(Notice(about, "Warning", reason, f"{finding.text} ({finding.rule})"))
    return found


def _controller(namespace: str, pod: msgspec.Raw) -> ObjectReference | None:
    try:
        owners = _DECODE(pod).metadata.owner_references or ()
    except msgspec.MsgspecError:
        return None
    for owner in owners:
        if owner.controller and owner.kind and owner.name and len(owner.name) <= _MAX_NAME:
            return ObjectReference(
                api_version=owner.api_version, kind=owner.kind, namespace=namespace, name=owner.name, uid=owner.uid
            )
    return None


class EventWriter:
    """Writes Events from a queue; :meth:`run` is a worker of :func:`wif.serve.httpd.run`.

    Rights: ``create`` and ``patch`` on ``events`` of ``events.k8s.io``.

    Args:
        client: who asks.
        instance: ``reportingInstance``.
        clock: seconds that never go back.
    """

    def __init__(
        self, client: KubeClient, *, instance: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.dropped = 0
        """Events that were not written: the queue was full, or there were too many."""
        self.written = 0
        """Events that were written or counted."""
        self._client = client
        self._instance = instance
        self._clock = clock
        self._queue: queue.Queue[Notice | Told] = queue.Queue(MAX_QUEUED)
        self._recorders: OrderedDict[ObjectReference, EventRecorder] = OrderedDict()
        self._room = float(EVENTS_PER_MINUTE)
        self._refilled_at = clock()
        self._reported = ""

    def tell(self, said: Told | Notice) -> None:
        """Have it written; returns at once."""
        try:
            self._queue.put_nowait(said)
        except queue.Full:
            self.dropped += 1

    def run(self, stopping: threading.Event) -> None:
        """Write until told to stop, then what is left, without waiting for more."""
        while True:
            try:
                said = self._queue.get(timeout=_POLL_SECONDS) if not stopping.is_set() else self._queue.get_nowait()
            except queue.Empty:
                if stopping.is_set():
                    return
                continue
            for notice in [said] if isinstance(said, Notice) else notices_of(said):
                self._write(notice)

    def _write(self, notice: Notice) -> None:
        if not self._has_room():
            self.dropped += 1
            return
        try:
            problem = self._recorder(notice.about).record(notice.kind, notice.reason, notice.note, action=notice.action)
        except WifError as error:  # a namespace or a name that Kubernetes could not have
            problem = error.message
        if not problem:
            self.written += 1
            return
        self.dropped += 1
        if problem != self._reported:
            self._reported = problem
            _LOGGER.warning("no Event: %s", problem)

    def _has_room(self) -> bool:
        now = self._clock()
        self._room = min(EVENTS_PER_MINUTE, self._room + (now - self._refilled_at) * EVENTS_PER_MINUTE / 60)
        self._refilled_at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _recorder(self, about: ObjectReference) -> EventRecorder:
        found = self._recorders.get(about)
        if found is None:
            found = self._recorders[about] = EventRecorder(self._client, about, instance=self._instance)
            while len(self._recorders) > MAX_OBJECTS:
                self._recorders.popitem(last=False)
        self._recorders.move_to_end(about)
        return found

    @property
    def waiting(self) -> int:
        """How many are in the queue."""
        return self._queue.qsize()
