"""Pods that should carry an injection and do not: made while the webhook did not answer, or before its registration.

With the failure policy Ignore such a pod starts, and runs as the node or as nobody. Whether it should carry one is
asked of the very code that injects: what would it add to the pod as it stands? One replica looks, by a Lease; the
number is a metric, and each pod gets an Event once.
"""

from __future__ import annotations

__all__ = ["UnmutatedPods", "UnmutatedStatus"]

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from wif.admission.mutation import accounts_wanted, mutate
from wif.admission.readings import Readings
from wif.admission.review import Review, pod_review
from wif.edges.events import ObjectReference
from wif.edges.kube_objects import Resource
from wif.errors import UnavailableError, WifError
from wif.serve.webhook_events import Notice

if TYPE_CHECKING:
    from wif.admission.accounts import ServiceAccount
    from wif.admission.decision import Decision
    from wif.admission.platform import Platform
    from wif.config.webhook import WebhookSettings
    from wif.edges.kube import KubeClient
    from wif.edges.lease import Lease
    from wif.serve.webhook import Accounts

_LOGGER = logging.getLogger("wif.serve")

PERIOD_SECONDS = 300.0
PAGE = 100
"""Pods of one answer; a page of a thousand would be as large as all ServiceAccounts together."""
_SMALLEST_PAGE = 1
PAUSE_SECONDS = 0.02
"""Between two pages, for the reviews that come meanwhile."""
REQUEST_SECONDS = 10.0
MAX_TOLD = 20_000
"""Pods whose Event is remembered; the rest would be told again."""
EVENTS_PER_LOOK = 50
"""More are in the metric alone, until the next look."""
_RETRY_SECONDS = 5.0
"""Between tries for the Lease, and after a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmutatedStatus:
    """What is so now: a value that is replaced whole."""

    leads: bool = False
    """Whether this replica is the one that looks."""
    pods: int = 0
    """How many were found."""
    looked_at: float = 0.0
    """When all pods had been looked at last, unix seconds; 0 where this replica never did."""
    failures: int = 0


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    deletion_timestamp: str | None = None


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    status: _Status = _Status()


class _Operation(msgspec.Struct, frozen=True):
    op: str
    path: str


class _ListMetadata(msgspec.Struct, frozen=True):
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, frozen=True):
    metadata: _ListMetadata = _ListMetadata()
    items: tuple[msgspec.Raw, ...] | None = None


_POD = msgspec.json.Decoder(_Pod).decode
_PAGE = msgspec.json.Decoder(_Page).decode
_OPERATIONS = msgspec.json.Decoder(tuple[_Operation, ...]).decode


class UnmutatedPods:
    """Looks through the pods; :meth:`run` is a worker of :func:`wif.serve.httpd.run`.

    Rights: ``list`` on ``pods``; those of the Lease.

    Args:
        client: who asks.
        accounts: the cache; a ServiceAccount that is not in it has no identity to give.
        settings, platform: as the webhook's.
        lease: who looks, of several replicas; None: this one.
        namespaces: these alone; none: the whole cluster.
        excluded: namespaces that the registration leaves out: what is not asked about is not missing either.
        tell: called with an Event to write.
        ready: whether the accounts are known by now.
        page: pods of one answer.
        clock: unix seconds.
    """

    def __init__(
        self,
        client: KubeClient,
        accounts: Accounts,
        settings: WebhookSettings,
        *,
        platform: Callable[[], Platform | None] = lambda: None,
        lease: Lease | None = None,
        namespaces: Sequence[str] = (),
        excluded: Sequence[str] = (),
        tell: Callable[[Notice], None] = lambda _: None,
        ready: Callable[[], bool] = lambda: True,
        period_seconds: float = PERIOD_SECONDS,
        page: int = PAGE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.status = UnmutatedStatus()
        self._client = client
        self._accounts = accounts
        self._settings = settings
        self._platform = platform
        self._lease = lease
        self._paths = [
            Resource(group="", plural="pods", namespace=each).path() for each in dict.fromkeys(namespaces)
        ] or ["/api/v1/pods"]
        self._excluded = frozenset(excluded)
        self._tell = tell
        self._ready = ready
        self._period_seconds = period_seconds
        self._page = page
        self._clock = clock
        self._readings = Readings()
        self._told: dict[str, None] = {}
        self._reported = ""

    def run(self, stopping: threading.Event) -> None:
        """Lead, and look every period, until told to stop."""
        while not stopping.is_set():
            try:
                if self._lease is not None and not self._lease.acquire():
                    stopping.wait(_RETRY_SECONDS)
                    continue
                with self._lease.kept() if self._lease is not None else nullcontext():
                    self._lead(stopping)
            except WifError as error:
                self._failed(error)
                stopping.wait(_RETRY_SECONDS)

    def _lead(self, stopping: threading.Event) -> None:
        self.status = replace(self.status, leads=True)
        try:
            while not stopping.is_set() and self._leads():
                if not self._ready():
                    stopping.wait(1.0)
                    continue
                try:
                    self.look(stopping)
                    pause = self._period_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, no secret
                except WifError as error:
                    self._failed(error)
                    pause = min(_RETRY_SECONDS, self._period_seconds)
                ends = time.monotonic() + pause
                while not stopping.is_set() and self._leads() and time.monotonic() < ends:
                    stopping.wait(min(1.0, pause))
        finally:
            self.status = replace(self.status, leads=False, pods=0, looked_at=0.0)

    def _leads(self) -> bool:
        return self._lease is None or self._lease.holds()

    def _failed(self, error: WifError) -> None:
        self.status = replace(self.status, failures=self.status.failures + 1)
        if error.message != self._reported:
            self._reported = error.message
            _LOGGER.warning("pods are not looked through: %s; %s", error.message, error.hint)

    # -- one look ----------------------------------------------------------------------------------------------

    def look(self, stopping: threading.Event | None = None) -> int:
        """Look through all pods once; how many should carry an injection and do not.

        Raises:
            RefusedError: cluster-refused, the missing right named.
            UnavailableError: cluster-unavailable.
        """
        found, told = 0, 0
        known: dict[str, None] = {}
        for raw in self._pods(stopping):
            pod = self._unmutated(raw)
            if pod is None:
                continue
            found += 1
            uid = pod.metadata.uid
            if uid in self._told or told < EVENTS_PER_LOOK:
                if uid not in self._told:
                    told += 1
                    self._tell(_notice(pod))
                if len(known) < MAX_TOLD:
                    known[uid] = None
        if stopping is None or not stopping.is_set():
            self._told, self._reported = known, ""
            self.status = replace(self.status, pods=found, looked_at=self._clock())
            if told:
                _LOGGER.warning("%d pod(s) run without what their ServiceAccount would give them", found)
        return found

    def _pods(self, stopping: threading.Event | None) -> Iterator[bytes]:
        for path in self._paths:
            limit, token = self._page, ""
            while stopping is None or not stopping.is_set():
                query = {"limit": str(limit)} | ({"continue": token} if token else {})
                try:
                    page = _PAGE(self._client.get_raw(f"{path}?{urlencode(query)}"))
                except (UnavailableError, msgspec.MsgspecError):
                    if limit == _SMALLEST_PAGE:
                        raise
                    limit = max(_SMALLEST_PAGE, limit // 10)  # pods as large as they may be fill an answer
                    continue
                yield from map(bytes, page.items or ())
                token = page.metadata.continue_
                if not token or not self._leads():
                    break
                time.sleep(PAUSE_SECONDS)

    def _unmutated(self, raw: bytes) -> _Pod | None:
        """The pod, where it should carry an injection and does not."""
        try:
            pod = _POD(raw)
        except msgspec.MsgspecError:
            return None
        if pod.metadata.namespace in self._excluded:
            return None
        if pod.metadata.deletion_timestamp or pod.status.phase not in ("Pending", "Running", ""):
            return None
        review = pod_review(raw, namespace=pod.metadata.namespace)
        wanted = accounts_wanted(review, self._settings)
        if not wanted:
            return None
        accounts = {key: self._accounts.get(*key) for key in wanted}
        if accounts[wanted[0]] is None:
            return None
        decision = self._decided(review, accounts)
        return pod if adds_volumes(decision) else None

    def _decided(self, review: Review, accounts: Mapping[tuple[str, str], ServiceAccount | None]) -> Decision:
        platform = self._platform()
        # nothing is injected here, so no secret is needed
        return mutate(review, accounts, self._settings, platform, readings=self._readings, new_secret=str)


def adds_volumes(decision: Decision) -> bool:
    """Whether a decision about a pod that runs already shows that it lacks the volumes of its identities."""
    if not decision.allowed or not decision.identities or decision.patch is None:
        return False
    return any(each.op == "add" and each.path.startswith("/spec/volumes") for each in _OPERATIONS(decision.patch))


def _notice(pod: _Pod) -> Notice:
    about = ObjectReference(kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid)
    return Notice(
        about,
        "Warning",
        "NotInjected",
        "the pod was made without what its ServiceAccount gives: the webhook was not asked or did not answer, or the"
        " ServiceAccount was annotated later; make the pod anew",
        "Look",
    )
