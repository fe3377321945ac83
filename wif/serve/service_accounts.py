"""The ServiceAccounts of the cluster, or of some namespaces, as the webhook looks them up.

A watch keeps them, one small value each. A pod that comes before its ServiceAccount has been seen waits for the watch
a moment, then the ServiceAccount is read: once, however many pods ask, and never remembered for long.
"""

from __future__ import annotations

__all__ = ["AccountCache"]

import asyncio
import contextlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from wif.admission.accounts import ServiceAccount, is_kept
from wif.edges.kube_objects import Resource
from wif.edges.watching import LIMITS, KubeObject, Watcher, WatchLimits, watch_all
from wif.errors import ConfigurationError, RefusedError, UnavailableError, WifError
from wif.serve.account_values import AccountValues

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient

LIVE_SECONDS = 2.0
"""For one read of an account that the watch has not brought: a webhook has five for all of it."""
LIVE_READS = 4
"""At once."""
MAX_SEARCHES = 1000
"""Accounts that are looked for at once; one more is refused."""
KNOWN_SECONDS = 5.0
"""An account that was read is good for so long, or until the watch tells of it."""
UNKNOWN_SECONDS = 1.0
"""The same for one that is not there."""
UNWATCHED_SECONDS = 0.25
"""For one that was read while the watch is broken: nobody would tell of a change. That one is not there is no good
for any time then: it may come at once, and its pods would be let in without anything."""
DOUBTED_SECONDS = 1.0
"""For one read of an account that was kept before the watch broke: then what is kept has to do."""
UNREACHABLE_SECONDS = 1.0
"""After such a read has failed, what is kept has to do at once."""
MAX_REMEMBERED = 1000

Key = tuple[str, str]
"""Namespace and name."""


class _Remembered(NamedTuple):
    until: float
    account: ServiceAccount | None


class AccountCache:
    """ServiceAccounts by namespace and name; :meth:`run` is a worker of :func:`wif.serve.httpd.run`.

    The watch's thread writes; one event loop reads.

    Args:
        kube: who asks. Rights on ``serviceaccounts``: ``list``, ``watch`` and ``get``.
        prefixes: of the annotations that are kept; see :attr:`wif.config.webhook.WebhookSettings.prefixes`.
        namespaces: these alone, each with a watch of its own, for which Roles are enough; none: the whole cluster.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        kube: KubeClient,
        *,
        prefixes: tuple[str, ...],
        namespaces: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        limits: WatchLimits = LIMITS,
    ) -> None:
        self.namespaces = tuple(dict.fromkeys(namespaces))
        self.live_reads = 0
        """Accounts read: the watch had not brought them, or is broken, or they are too large to be kept."""
        self.misses = 0
        """Look-ups of such accounts."""
        self._kube = kube
        self._prefixes = prefixes
        self._clock = clock
        self._values = AccountValues(prefixes)
        self._accounts: dict[str, dict[str, bytes]] = {}
        self._remembered: OrderedDict[Key, _Remembered] = OrderedDict()
        self._searches: dict[Key, asyncio.Task[ServiceAccount | None]] = {}
        self._unreachable_until = -math.inf
        self._waiting: dict[Key, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self._executor = ThreadPoolExecutor(LIVE_READS, thread_name_prefix="wif-live-read")
        self._by_namespace = {each: self._watcher(each, limits) for each in self.namespaces or ("",)}
        self._watchers = tuple(self._by_namespace.values())

    def _watcher(self, namespace: str, limits: WatchLimits) -> Watcher[KubeObject]:
        path, name = "/api/v1/serviceaccounts", "the ServiceAccounts"
        if namespace:
            path = Resource(group="", plural="serviceaccounts", namespace=namespace).path()
            name = f"the ServiceAccounts of {namespace}"
        return Watcher(
            self._kube,
            path,
            KubeObject,
            _Receiver(self, namespace),
            name=name,
            is_metadata_only=True,
            limits=limits,
            clock=self._clock,
        )

    # -- what is there ---------------------------------------------------------------------------------------------

    def get(self, namespace: str, name: str) -> ServiceAccount | None:
        """What the watch has brought; None where it has brought nothing of that name, or too much to keep it."""
        names = self._accounts.get(namespace)
        value = None if names is None else names.get(name)
        return None if value is None else self._values.read(namespace, name, value)

    def packed(self, namespace: str, name: str) -> bytes | None:
        """The same as an opaque value: equal for as long as the account is, and never that of another account."""
        names = self._accounts.get(namespace)
        return None if names is None else names.get(name)

    def is_watched(self, namespace: str) -> bool:
        """Whether the accounts of a namespace are kept here at all."""
        return not self.namespaces or namespace in self.namespaces

    def is_current(self, namespace: str) -> bool:
        """Whether the watch would have told of a change; while it is broken, :meth:`find` reads what is kept anew."""
        watcher = self._by_namespace.get("") or self._by_namespace.get(namespace)
        return watcher is None or watcher.is_current

    async def find(
        self, namespace: str, name: str, *, wait_seconds: float, remember: bool = True
    ) -> ServiceAccount | None:
        """As :meth:`get`, and where nothing is there, wait for the watch, then read.

        What is there is given without a switch to another task, unless the watch is broken: then it is read anew, and
        only where that cannot be done soon is what was kept given.

        Args:
            wait_seconds: how long the watch may take to bring it.
            remember: False leaves no trace of a read, as a dry run must not.

        Returns:
            None where there is no such account, and where its namespace is not watched.

        Raises:
            RefusedError: cluster-refused, the missing right named.
            UnavailableError: cluster-unavailable, where it cannot be known just now.
        """
        account = self.get(namespace, name)
        if account is not None and self.is_current(namespace):
            return account
        if not self.is_watched(namespace) or not _is_name(namespace, name):
            return account
        self.misses += 1
        key = (namespace, name)
        known = self._remembered.get(key)
        if known is not None and self._clock() < known.until:
            return known.account
        search = self._searches.get(key)
        if search is None:
            if len(self._searches) >= MAX_SEARCHES:
                raise UnavailableError(
                    f"{MAX_SEARCHES} ServiceAccounts are being looked for; no more at a time",
                    code="cluster-unavailable",
                    retryable=True,
                )
            search = asyncio.create_task(self._search(key, wait_seconds, remember=remember))
            self._searches[key] = search
            search.add_done_callback(lambda done: self._searched(key, done))
        return await asyncio.shield(search)

    # -- what is not there yet -------------------------------------------------------------------------------------

    async def _search(self, key: Key, wait_seconds: float, *, remember: bool) -> ServiceAccount | None:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        if self.is_current(key[0]) and self.packed(*key) is None:
            self._waiting[key] = (loop, arrived)
            try:
                if self.packed(*key) is None:  # it may have come before it was waited for
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(arrived.wait(), wait_seconds)
            finally:
                del self._waiting[key]
        kept, account = self.packed(*key), self.get(*key)
        if account is not None and (self.is_current(key[0]) or self._clock() < self._unreachable_until):
            return account
        self.live_reads += 1
        reading = loop.run_in_executor(self._executor, self._read, *key)
        try:
            read = await asyncio.wait_for(reading, None if account is None else DOUBTED_SECONDS)
        except (WifError, TimeoutError):
            if account is None:
                raise
            self._unreachable_until = self._clock() + UNREACHABLE_SECONDS
            return account
        if self.packed(*key) != kept:  # what the watch has brought meanwhile is newer
            return self.get(*key)
        is_current = self.is_current(key[0])
        if remember and (kept is None if is_current else read is not None):
            lasts = UNKNOWN_SECONDS if read is None else KNOWN_SECONDS if is_current else UNWATCHED_SECONDS
            self._remembered[key] = _Remembered(self._clock() + lasts, read)
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return read

    def _searched(self, key: Key, done: asyncio.Task[ServiceAccount | None]) -> None:
        del self._searches[key]
        if not done.cancelled():
            done.exception()  # told to those who wait, if anybody still does

    def _read(self, namespace: str, name: str) -> ServiceAccount | None:
        path = Resource(group="", plural="serviceaccounts", namespace=namespace).path(name)
        try:
            found = self._kube.request_object("GET", path, repeat=False, timeout_seconds=LIVE_SECONDS)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        metadata = found["metadata"]
        return self._account(namespace, name, metadata.get("uid", ""), metadata.get("annotations"))

    # -- told by the watch -----------------------------------------------------------------------------------------

    def _account(self, namespace: str, name: str, uid: str, annotations: dict[str, str] | None) -> ServiceAccount:
        kept = {key: value for key, value in (annotations or {}).items() if is_kept(key, self._prefixes)}
        return ServiceAccount(namespace, name, uid, kept)

    def _put(self, item: KubeObject) -> None:
        told = item.metadata
        account = self._account(told.namespace, told.name, told.uid, told.annotations)
        names = self._accounts.get(told.namespace)
        if names is None:
            names = self._accounts[told.namespace] = {}
        names[told.name] = self._values.make(account)
        self._tell((told.namespace, told.name))

    def _drop(self, namespace: str, name: str) -> None:
        names = self._accounts.get(namespace, {})
        if names.pop(name, None) is not None and not names:
            del self._accounts[namespace]
        self._tell((namespace, name))

    def _tell(self, key: Key) -> None:
        self._remembered.pop(key, None)
        waiting = self._waiting.get(key)
        if waiting is not None:
            loop, arrived = waiting
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(arrived.set)

    def run(self, stopping: threading.Event) -> None:
        """Watch until the event is set."""
        try:
            watch_all(self._watchers, stopping)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    # -- how it is -------------------------------------------------------------------------------------------------

    @property
    def synced(self) -> bool:
        """Whether all that was there has been received; stays so."""
        return all(each.is_synced for each in self._watchers)

    @property
    def size(self) -> int:
        """ServiceAccounts that are kept."""
        return sum(len(names) for names in list(self._accounts.values()))

    @property
    def lists(self) -> int:
        """Whole lists received."""
        return sum(each.lists for each in self._watchers)

    @property
    def watch_failures(self) -> int:
        """Lists and watches that ended as they should not."""
        return sum(each.failures for each in self._watchers)

    @property
    def problem(self) -> str:
        """What keeps a watch from being up to date; empty where nothing does."""
        return next((each.problem for each in self._watchers if each.problem), "")

    def age_seconds(self) -> float:
        """Since the API server was last heard of, by the watch that has waited longest; infinite before all have.

        Up to a minute is nothing: that is how often it speaks where nothing happens.
        """
        return max(math.inf if (age := each.age_seconds()) is None else age for each in self._watchers)

    def unready(self) -> Sequence[str]:
        """Why nothing can be answered yet. Once all has been received it can, however old it grows."""
        return [
            f"{each.name} are being listed" + (f": {each.problem}" if each.problem else "")
            for each in self._watchers
            if not each.is_synced
        ]


class _Receiver:
    """Passes what one watch tells to the cache, and finds out what a list no longer has."""

    def __init__(self, cache: AccountCache, namespace: str) -> None:
        self._cache = cache
        self._namespace = namespace
        self._seen: dict[str, set[str]] | None = None

    def list_begins(self) -> None:
        self._seen = {}

    def put(self, item: KubeObject) -> None:
        self._cache._put(item)
        if self._seen is not None:
            self._seen.setdefault(item.metadata.namespace, set()).add(item.metadata.name)

    def remove(self, item: KubeObject) -> None:
        self._cache._drop(item.metadata.namespace, item.metadata.name)

    def list_ends(self) -> None:
        seen, self._seen = self._seen or {}, None
        for namespace in [self._namespace] if self._namespace else list(self._cache._accounts):
            there = self._cache._accounts.get(namespace, {})
            for name in there.keys() - seen.get(namespace, set()):
                self._cache._drop(namespace, name)


def _is_name(namespace: str, name: str) -> bool:
    """Whether Kubernetes could have such an account; the pod that names it has not been checked yet."""
    try:
        Resource(group="", plural="serviceaccounts", namespace=namespace).path(name)
    except ConfigurationError:
        return False
    return True
