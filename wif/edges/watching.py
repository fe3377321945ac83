"""Lists and watches of the Kubernetes API: what a collection holds, told to a receiver from now on.

A list in pages, then a watch from its version; the watch ends and is taken up again for as long as the process runs.
What is handed over is decoded one object at a time, straight from the bytes. What a receiver has been told stays
good while the API server is away.
"""

from __future__ import annotations

__all__ = ["LIMITS", "KubeObject", "Metadata", "Receiver", "TooLarge", "WatchLimits", "Watcher", "lines", "watch_all"]

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from wif.errors import ConfigurationError, RefusedError, TransportError, UnavailableError, WifError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient
    from wif.edges.transport import Incoming

_LOGGER = logging.getLogger("wif.watch")


class WatchLimits(NamedTuple):
    """The numbers of a watcher."""

    page: int = 500
    """Objects in one answer of a list."""
    page_bytes: int = 4 * 1024 * 1024
    """One answer; where it would be larger, fewer objects are asked for."""
    object_bytes: int = 16 * 1024 * 1024
    """One object. etcd takes 1.5 MiB; JSON writes one byte of it as up to six."""
    page_seconds: float = 30.0
    silence_seconds: float = 150.0
    """The longest that a watch says nothing: the API server sends a bookmark every minute."""
    life_seconds: float = 300.0
    """How long a watch is asked to live: this, and up to twice this by chance."""
    pause_seconds: float = 0.5
    """After a failure; doubled with each further one, half of it by chance."""
    max_pause_seconds: float = 30.0
    """Also what a Retry-After is cut to."""


LIMITS = WatchLimits()

_HEAD_SECONDS = 10.0
"""For a watch to be answered at all."""
_FAREWELL_SECONDS = 30.0
"""For a watch to end by itself when its life is over."""
_DOUBTED_SECONDS = 1.0
"""After a watch is taken up again: what happened meanwhile comes behind the head of its answer, and so does the word
that the API server knows of it no longer."""
_SHORT_SECONDS = 1.0
"""A watch that ends sooner is not taken up again at once."""
_SHRINK = 8
"""A page that is too large is asked for again with this part of its objects."""
_POLL_SECONDS = 0.5
"""How often is looked whether a watcher has failed."""

_METADATA_ONLY = "application/json;as={};g=meta.k8s.io;v=v1,application/json"


class Metadata(msgspec.Struct, gc=False, rename="camel"):
    """What is read of an object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class KubeObject(msgspec.Struct, gc=False):
    """What every object has; a kind with more is a subclass."""

    metadata: Metadata


T = TypeVar("T", bound=KubeObject)
T_contra = TypeVar("T_contra", bound=KubeObject, contravariant=True)


class Receiver(Protocol[T_contra]):
    """Is told what a collection holds, by the watcher's thread."""

    def list_begins(self) -> None:
        """All that is there is put from now on. What was put before stays good until the list ends."""

    def put(self, item: T_contra) -> None:
        """It is there, new or changed or as before."""

    def remove(self, item: T_contra) -> None:
        """It is gone."""

    def list_ends(self) -> None:
        """What was not put since the list began is gone."""


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    next_token: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = "Unknown"
    message: str = "no message"


_PAGE = msgspec.json.Decoder(_Page)
_EVENT = msgspec.json.Decoder(_Event)
_STATUS = msgspec.json.Decoder(_Status)


class TooLarge(Exception):
    """An answer, or a line of it, is larger than its bound."""


class Watcher(Generic[T]):
    """Keeps a receiver up to date about one collection. Its methods and properties are safe for threads.

    Args:
        kube: who asks. Rights: ``list`` and ``watch`` of the collection.
        path: the collection's, e.g. ``/api/v1/serviceaccounts``.
        kind: what is read of an object.
        receiver: who is told.
        name: what messages call the collection.
        field_selector: e.g. ``metadata.name=NAME``, for which a right to that name is enough.
        is_metadata_only: ask for the metadata alone, where the API server can leave out the rest.
        clock: seconds that never go back.
        chance: 0 to 1.
    """

    def __init__(
        self,
        kube: KubeClient,
        path: str,
        kind: type[T],
        receiver: Receiver[T],
        *,
        name: str,
        field_selector: str = "",
        is_metadata_only: bool = False,
        limits: WatchLimits = LIMITS,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.is_synced = False
        """Whether a whole list has been received; stays so."""
        self.problem = ""
        """What went wrong last; empty while all is well."""
        self.lists = 0
        self.failures = 0
        """Lists and watches that ended as they should not."""
        self.events = 0
        self._kube = kube
        self._path = path
        self._decode = msgspec.json.Decoder(kind).decode
        self._receiver = receiver
        self._selector = {"fieldSelector": field_selector} if field_selector else {}
        self._is_metadata_only = is_metadata_only
        self._limits = limits
        self._clock = clock
        self._chance = chance
        self._alive_at: float | None = None
        self._doubted_until = -math.inf
        self._version = ""
        self._failures_in_a_row = 0
        self._thread = 0

    def age_seconds(self) -> float | None:
        """Since the API server was last heard of; None where it never was."""
        return None if self._alive_at is None else max(0.0, self._clock() - self._alive_at)

    @property
    def is_current(self) -> bool:
        """Whether changes are told as they happen; while all is not well, and for a moment after, they are not."""
        return not self.problem and self._clock() >= self._doubted_until

    def run(self, stopping: threading.Event) -> None:
        """List and watch until the event is set; see :meth:`interrupt`."""
        self._thread = threading.get_ident()
        while not stopping.is_set():
            began = self._clock()
            try:
                if not self._version:
                    self._list(stopping)
                if self._version and not stopping.is_set():
                    self._watch()
                pause = 0.0 if self._clock() - began >= _SHORT_SECONDS else self._limits.pause_seconds
            except WifError as error:
                if stopping.is_set():
                    break
                pause = self._failed(error)
            if pause and stopping.wait(pause):
                break

    def interrupt(self) -> None:
        """End what waits for the API server now; from another thread, after the event has been set."""
        if self._thread:
            self._kube.abort(self._thread)

    # -- lists -----------------------------------------------------------------------------------------------------

    def _list(self, stopping: threading.Event) -> None:
        limits, receiver, decode = self._limits, self._receiver, self._decode
        receiver.list_begins()
        token, version, count = "", "", limits.page
        while not stopping.is_set():
            try:
                body = self._read_page(token, count)
            except TooLarge as error:
                if count == 1:
                    raise self._unreadable("an object larger than the API server can hold") from error
                count = max(1, count // _SHRINK)
                continue
            try:
                page = _PAGE.decode(body)
                for raw in page.items or ():
                    receiver.put(decode(raw))
            except (msgspec.DecodeError, RecursionError) as error:
                raise self._unreadable("no list of objects") from error
            self._alive_at = self._clock()
            version = version or page.metadata.resource_version
            token = page.metadata.next_token
            if not token:
                if not version:
                    raise self._unreadable("a list without a version")
                receiver.list_ends()
                self._version = version
                self.lists += 1
                self.is_synced = True
                return
            count = min(limits.page, count * 2)

    def _read_page(self, token: str, count: int) -> bytearray:
        query = {**self._selector, "limit": str(count)} | ({"continue": token} if token else {})
        most = self._limits.object_bytes if count == 1 else self._limits.page_bytes

        def read(answer: Incoming) -> bytearray:
            body = bytearray()
            for chunk in answer.chunks():
                body += chunk
                if len(body) > most:
                    raise TooLarge
            return body

        return self._kube.stream(
            f"{self._path}?{urlencode(query)}",
            read,
            accept=self._accept("PartialObjectMetadataList"),
            timeout_seconds=self._limits.page_seconds,
        )

    # -- watches ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        life = self._limits.life_seconds * (1.0 + self._chance())
        query = {
            **self._selector,
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(life))),
        }

        is_open = False

        def read(answer: Incoming) -> None:
            nonlocal is_open
            is_open = True
            answer.keep_until(time.monotonic() + life + _FAREWELL_SECONDS)
            self._alive_at = self._clock()
            self._is_well()
            for line in lines(answer.chunks(), self._limits.object_bytes):
                self._alive_at = self._clock()
                self._take(line)

        try:
            self._kube.stream(
                f"{self._path}?{urlencode(query)}",
                read,
                accept=self._accept("PartialObjectMetadata"),
                timeout_seconds=_HEAD_SECONDS,
                silence_seconds=self._limits.silence_seconds,
            )
        except TooLarge as error:
            raise self._unreadable("an event larger than the API server can hold") from error
        except UnavailableError as error:
            if is_open and isinstance(error.__cause__, TransportError) and error.__cause__.code == "timeout":
                # a version that the API server does not know yet, after its store was restored from a backup, is
                # answered with 200 and silence for ever
                self._version = ""
            raise
        self._failures_in_a_row = 0

    def _take(self, line: bytes | bytearray) -> None:
        try:
            event = _EVENT.decode(line)
            if event.type == "ERROR":
                raise self._told(_STATUS.decode(event.object))
            item = self._decode(event.object)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unreadable("no event") from error
        if event.type in ("ADDED", "MODIFIED"):
            self._receiver.put(item)
        elif event.type == "DELETED":
            self._receiver.remove(item)
        elif event.type != "BOOKMARK":
            raise self._unreadable(f"an event of the type {event.type[:40]!r}")
        self.events += event.type != "BOOKMARK"
        self._version = item.metadata.resource_version
        self._failures_in_a_row = 0

    def _told(self, status: _Status) -> WifError:
        what = f"the watch of {self.name} ended: {status.code} {status.reason[:80]}: {status.message[:300]}"
        if status.code == 410:
            return RefusedError(what, code="cluster-refused", hint="nothing: it is listed anew", status=410)
        return UnavailableError(what, code="cluster-unavailable", status=status.code, retryable=True)

    def _unreadable(self, what: str) -> WifError:
        return UnavailableError(f"{self.name}: the API server answered {what}", code="cluster-unavailable")

    # -- failures --------------------------------------------------------------------------------------------------

    def _failed(self, error: WifError) -> float:
        """Note it, and say how long to pause."""
        self.failures += 1
        self._failures_in_a_row += 1
        if not _can_go_on(error):
            self._version = ""
        if error.message != self.problem:
            self.problem = error.message
            level = logging.INFO if error.status == 410 else logging.WARNING
            _LOGGER.log(level, "%s", error.message, extra={"wif": {"collection": self.name, "hint": error.hint}})
        longest = self._limits.max_pause_seconds
        pause = min(longest, self._limits.pause_seconds * 2.0 ** min(self._failures_in_a_row - 1, 16))
        return max(pause * (0.5 + 0.5 * self._chance()), min(longest, error.retry_after_seconds or 0.0))

    def _is_well(self) -> None:
        if self.problem:
            self._doubted_until = self._clock() + _DOUBTED_SECONDS
            _LOGGER.info("%s are watched again", self.name, extra={"wif": {"collection": self.name}})
        self.problem = ""

    def _accept(self, kind: str) -> str:
        return _METADATA_ONLY.format(kind) if self._is_metadata_only else "application/json"


def _can_go_on(error: WifError) -> bool:
    """Whether a watch can be taken up where it ended; else all is listed anew."""
    if error.status is not None:
        return error.status in (401, 403, 429) or error.status >= 500
    return isinstance(error, ConfigurationError) or isinstance(error.__cause__, TransportError)


def lines(chunks: Iterable[bytes], most_bytes: int) -> Iterator[bytes | bytearray]:
    """The lines of a stream, without empty ones; what follows the last line break is not one.

    Raises:
        TooLarge: a line has more bytes.
    """
    rest = bytearray()
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            if rest:
                rest += line
                yield rest
                rest = bytearray()
            elif line:
                yield line
        rest += last
        if len(rest) > most_bytes:
            raise TooLarge


def watch_all(watchers: Sequence[Watcher[T]], stopping: threading.Event) -> None:
    """Run watchers, each in a thread, until the event is set; returns soon after it is.

    An error that is none of the API server's ends them all and is raised here.
    """
    ending = threading.Event()
    failures: list[BaseException] = []

    def work(watcher: Watcher[T]) -> None:
        try:
            watcher.run(ending)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=work, args=(each,), name="wif-watch", daemon=True) for each in watchers]
    for thread in threads:
        thread.start()
    while not stopping.wait(_POLL_SECONDS) and not failures:
        pass
    ending.set()
    for watcher, thread in zip(watchers, threads, strict=True):
        for _ in range(10):  # a request that was about to begin is seen by the next look
            watcher.interrupt()
            thread.join(0.1)
            if not thread.is_alive():
                break
    if failures:
        raise failures[0]
