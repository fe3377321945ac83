"""One request, sent once: to an allowed host, under a total deadline, never redirected, with a bounded answer.

Retries, caches and the meaning of an answer are not here: ``exchange`` owns them. What went wrong on the way is a
:class:`~wif.errors.TransportError` that names the operation and the host, never a secret.
"""

from __future__ import annotations

__all__ = ["MAX_BODY_BYTES", "Transport", "shared_transport"]

import logging
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

from urllib3 import Timeout

from wif.core.flow import Request, Response
from wif.core.freshness import LIMITS, Limits
from wif.edges import connections
from wif.edges.connections import Call, MalformedAnswer, OversizedAnswer, RedirectAnswer
from wif.edges.failures import CAUGHT, translate
from wif.edges.proxies import Proxy, proxy_for
from wif.edges.redaction import describe_request, describe_response
from wif.edges.tls import Authorities, authorities
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager

    from wif.core.hosts import AllowedHosts

T = TypeVar("T")

_log = logging.getLogger("wif.transport")

MAX_BODY_BYTES = 1024 * 1024
"""The largest answer that is read; real ones have a few kilobytes."""

IDLE_SECONDS = 20.0
"""Load balancers and NAT forget a resting connection after a minute or more, without a word to either side."""

_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9.])?|[0-9a-f:.]*:[0-9a-f:.]*")
"""A host name or an IPv6 address, in lower case. Anything else might be read in two ways."""

_TARGET = re.compile(r"/[!-~]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")

_MAX_MANAGERS = 8
"""Settings of authorities and proxy whose connections are kept; a process has one or two."""


class Target(NamedTuple):
    """Where a request goes."""

    scheme: str
    host: str
    port: int
    path: str
    """Path and query."""

    @property
    def shown(self) -> str:
        """``host:port`` for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Incoming:
    """An answer whose body is still coming; see :meth:`Transport.stream`. Header names are lower case."""

    def __init__(self, answer: BaseHTTPResponse, call: Call) -> None:
        self.status = answer.status
        self.headers = _checked_headers(answer)
        self._answer = answer
        self._call = call

    def keep_until(self, deadline: float) -> None:
        """The end of the body, by ``time.monotonic()``, in place of the deadline of the whole request."""
        self._call.deadline = deadline

    def chunks(self, most_bytes: int = 65_536) -> Iterator[bytes]:
        """What has come, as soon as it comes. The caller bounds the whole."""
        while chunk := self._answer.read1(most_bytes):
            yield chunk
        if self._call.over:  # what looks like the end of the body may be our own shutdown
            raise TimeoutError("no whole answer before the deadline")


class Transport:
    """Sends requests of one cloud. Safe for threads and after a fork.

    Args:
        cloud: ``aws``, ``gcp``, ``azure`` or None: decides which CA variables are read, and is named in errors.
        pool_manager: a configured :class:`urllib3.PoolManager`; its proxies and authorities replace the environment's.
        limits: connect and read timeouts.
        environ: where proxy and CA variables are read, at every request.
        idle_seconds: a connection that rested longer is not used again.
        server_hostname: the name that certificates must have, and that is asked for by SNI, where the URL holds an
            address that they do not name; not together with ``pool_manager``.
        max_body_bytes: the largest answer that is read; at most 4 MiB come over the wire.
    """

    def __init__(
        self,
        cloud: str | None = None,
        *,
        pool_manager: PoolManager | None = None,
        limits: Limits = LIMITS,
        environ: Mapping[str, str] = os.environ,
        idle_seconds: float = IDLE_SECONDS,
        server_hostname: str | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self.cloud = cloud
        self._server_hostname = server_hostname
        self._max_body_bytes = max_body_bytes
        self._idle_seconds = idle_seconds
        self._given = pool_manager
        self._limits = limits
        self._environ = environ
        self._start()
        _transports.add(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._managers: dict[tuple[Authorities, Proxy | None], PoolManager] = {}

    def _after_fork(self) -> None:
        """The parent's connections are the parent's: a child that wrote to one would break both."""
        inherited = list(self._managers.values())
        self._start()
        for manager in inherited:
            manager.clear()
        if self._given is not None:
            self._given.pools = type(self._given.pools)(maxsize=16)

    def send(self, request: Request, *, deadline: float, hosts: AllowedHosts) -> Response:
        """Send one request, once, and read its whole answer.

        Args:
            request: what to send.
            deadline: by ``time.monotonic()``; connecting, headers and body must be done by then.
            hosts: the hosts that may see it.

        Raises:
            ConfigurationError: host-not-allowed, or a CA or proxy variable that cannot be used.
            TransportError: connection-failed, tls-failed, proxy-failed, timeout, redirect-refused,
                response-too-large, response-malformed.
        """
        started = time.monotonic()
        call = Call(deadline=deadline, limits=self._limits, idle_seconds=self._idle_seconds)
        response = self._send(request, hosts, call, lambda answer: _read(answer, call, self._max_body_bytes))
        if _log.isEnabledFor(logging.DEBUG):
            elapsed = time.monotonic() - started
            _log.debug("%s: after %.3f s %s", request.operation, elapsed, describe_response(response))
        return response

    def stream(
        self,
        request: Request,
        *,
        deadline: float,
        silence_seconds: float,
        hosts: AllowedHosts,
        read: Callable[[Incoming], T],
    ) -> T:
        """Send one request, once, and let a function take its answer as it comes, e.g. the events of a watch.

        Args:
            request: what to send.
            deadline: as of :meth:`send`, until the function says otherwise.
            silence_seconds: the longest that nothing comes.
            hosts: the hosts that may see it.
            read: called once the headers are there; the connection ends with it. Errors of its own come through, but
                for those of reading.

        Raises:
            ConfigurationError, TransportError: as :meth:`send`; ``timeout`` for silence too.
        """
        call = Call(
            deadline=deadline,
            limits=self._limits._replace(read_seconds=silence_seconds),
            idle_seconds=self._idle_seconds,
            body_bytes=sys.maxsize,
        )
        return self._send(request, hosts, call, lambda answer: read(Incoming(answer, call)))

    def _send(self, request: Request, hosts: AllowedHosts, call: Call, read: Callable[[BaseHTTPResponse], T]) -> T:
        hosts.check(request.url)
        target = _target(request)
        headers = _headers(request)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s", describe_request(request))
        with self._lock:
            self._calls.add(call)
        try:
            with connections.sending(call):
                return self._exchange(request, target, headers, call=call, read=read)
        finally:
            with self._lock:
                self._calls.discard(call)

    def abort(self, thread: int | None = None) -> None:
        """Shut down the sockets of requests under way, from another thread; their senders get ``timeout``.

        Args:
            thread: only the request that this thread (``threading.get_ident()``) is sending; None for all.
        """
        with self._lock:
            calls = [call for call in self._calls if thread is None or call.thread == thread]
        for call in calls:
            call.abort()

    def close(self) -> None:
        """Close the idle connections. A later request opens new ones."""
        with self._lock:
            managers = list(self._managers.values())
            self._managers.clear()
        for manager in managers:
            manager.clear()

    def _exchange(
        self,
        request: Request,
        target: Target,
        headers: dict[str, str],
        *,
        call: Call,
        read: Callable[[BaseHTTPResponse], T],
    ) -> T:
        trust = proxy = None
        if self._given is None:
            trust = authorities(self.cloud, self._environ)
            # plain http goes to loopback alone: a proxy would see the token
            proxy = proxy_for(target.host, target.port, self._environ) if target.scheme == "https" else None
        while True:
            try:
                pool = connections.pool_of(self._manager(trust, proxy), target.scheme, target.host, target.port)
                answer = self._open(pool, request, target, headers=headers, call=call)
                try:
                    return read(answer)
                finally:
                    answer.close()  # a whole answer's connection is back in its pool already
            except CAUGHT as error:
                failure = translate(
                    error,
                    call=call,
                    cloud=self.cloud,
                    operation=request.operation,
                    where=target.shown,
                    proxy=proxy,
                    trust=trust,
                )
                complete = trust.complete() if trust is not None else None
                if failure.code != "tls-failed" or call.stage not in ("proxy", "tls") or complete is None:
                    raise failure from error
                trust = complete  # for an authority that the searched directory lacks; nothing has been sent yet

    def _open(
        self, pool: HTTPConnectionPool, request: Request, target: Target, *, headers: dict[str, str], call: Call
    ) -> BaseHTTPResponse:
        forwarded = pool.proxy is not None and target.scheme == "http"  # only where the caller configured it so
        if self._given is not None:
            connections.watch_pool(pool)
        return pool.urlopen(
            request.method,
            request.url if forwarded else target.path,
            body=request.body or None,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(
                connect=call.allowance(call.limits.connect_seconds), read=call.allowance(call.limits.read_seconds)
            ),
            preload_content=False,
            decode_content=False,
        )

    def _manager(self, trust: Authorities | None, proxy: Proxy | None) -> PoolManager:
        if self._given is not None or trust is None:
            assert self._given is not None  # noqa: S101 - trust is None for a given manager only
            return self._given
        key = (trust, proxy)
        with self._lock:
            manager = self._managers.get(key)
            if manager is None:
                while len(self._managers) >= _MAX_MANAGERS:
                    self._managers.pop(next(iter(self._managers))).clear()
                manager = self._managers[key] = connections.manager(
                    trust.context(), proxy, server_hostname=self._server_hostname
                )
        return manager


def _target(request: Request) -> Target:
    parts = urlsplit(request.url)
    host = (parts.hostname or "").lower()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _HOST.fullmatch(host) or not _TARGET.fullmatch(path):
        raise ConfigurationError(
            f"{request.operation}: the endpoint's URL holds characters that no URL may hold", code="host-not-allowed"
        )
    return Target(parts.scheme, host, parts.port or (443 if parts.scheme == "https" else 80), path)


def _headers(request: Request) -> dict[str, str]:
    for name, value in request.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            # checked here, because http.client's own error would show the value
            raise ConfigurationError(
                f"{request.operation}: the header {name!r} holds characters that no header may hold",
                code="config-invalid",
                hint="look at where the value comes from: a stray line break is the usual cause",
            )
    # http.client then asks for "identity" itself: a compressed answer could grow beyond its bound
    headers = {name: value for name, value in request.headers.items() if name.lower() != "accept-encoding"}
    if not any(name.lower() == "user-agent" for name in headers):
        headers["user-agent"] = "wif"
    return headers


def _checked_headers(answer: BaseHTTPResponse) -> Mapping[str, str]:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    if answer.status in (301, 302, 303, 307, 308):
        raise RedirectAnswer(headers.get("location", ""))
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise MalformedAnswer("a compressed body, which was not asked for")
    return headers


def _read(answer: BaseHTTPResponse, call: Call, max_body_bytes: int) -> Response:
    headers = _checked_headers(answer)
    if int(headers.get("content-length") or 0) > max_body_bytes:
        raise OversizedAnswer("its body")
    chunks: list[bytes] = []
    size = 0
    while chunk := answer.read(65_536):
        size += len(chunk)
        if size > max_body_bytes:
            raise OversizedAnswer("its body")
        chunks.append(chunk)
    if call.over:  # what looks like the end of the body may be our own shutdown
        raise TimeoutError("no whole answer before the deadline")
    return Response(status=answer.status, headers=headers, body=b"".join(chunks))


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()
_shared: dict[str | None, Transport] = {}
_shared_lock = threading.Lock()


def shared_transport(cloud: str | None) -> Transport:
    """The one transport of this process for a cloud: exchangers share its connections."""
    with _shared_lock:
        transport = _shared.get(cloud)
        if transport is None:
            transport = _shared[cloud] = Transport(cloud)
        return transport


def _after_fork() -> None:
    global _shared_lock  # noqa: PLW0603
    _shared_lock = threading.Lock()
    for transport in list(_transports):
        transport._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
