"""Connections that know the deadline of the request they carry, and that another thread can shut down.

urllib3's timeouts bound one wait each, so an answer that comes drop by drop outlasts them all. Here every wait on a
socket (connect, proxy, headers, body) gets what is left of one deadline, and the number of bytes is bounded too.
A connection finds its request by the thread that uses it; without one it behaves as urllib3's own.
"""

from __future__ import annotations

__all__ = [
    "Call",
    "MalformedAnswer",
    "OversizedAnswer",
    "RedirectAnswer",
    "manager",
    "pool_of",
    "sending",
    "watch_pool",
]

import http.client
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from wif.core.freshness import Limits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from urllib3._base_connection import BaseHTTPConnection

    from wif.edges.proxies import Proxy

MAX_HEADER_BYTES = 65_536
"""All header lines of an answer, a proxy's answer and interim answers together."""

MAX_ENCODED_BYTES = 4 * 1024 * 1024
"""A body as it comes over the wire: 1 MiB, with room for chunk headers."""


class MalformedAnswer(Exception):
    """The answer breaks HTTP; the argument says how."""


class OversizedAnswer(Exception):
    """The answer is larger than any real one; the argument says what of it."""


class RedirectAnswer(Exception):
    """The answer is a redirect; the argument is where to."""


class Call:
    """One request under way: its deadline, the stage that it has reached, and its socket."""

    __slots__ = (
        "_allowed_bytes",
        "_body_bytes",
        "_handle",
        "_lock",
        "aborted",
        "connected",
        "deadline",
        "idle_seconds",
        "limits",
        "stage",
        "thread",
    )

    def __init__(
        self, *, deadline: float, limits: Limits, idle_seconds: float, body_bytes: int = MAX_ENCODED_BYTES
    ) -> None:
        self._body_bytes = body_bytes
        self.deadline = deadline
        self.idle_seconds = idle_seconds
        self.limits = limits
        self.stage = "starting"
        self.thread = threading.get_ident()
        self.connected = False
        """True once this call has opened a connection of its own."""
        self.aborted = False
        self._allowed_bytes = MAX_HEADER_BYTES
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None

    def allowance(self, most_seconds: float) -> float:
        """Seconds that the next wait may take; TimeoutError where nothing is left."""
        left = self.deadline - time.monotonic()
        if self.aborted or left <= 0:
            raise TimeoutError("the deadline has passed")
        return min(most_seconds, left)

    @property
    def over(self) -> bool:
        """True once the deadline has passed or another thread has aborted the call."""
        return self.aborted or time.monotonic() >= self.deadline

    def allow_body(self) -> None:
        """The header lines are read: from here on the body's bound counts."""
        self._allowed_bytes = self._body_bytes

    def count(self, received: int) -> None:
        """Count received bytes against the bound."""
        self._allowed_bytes -= received
        if self._allowed_bytes < 0:
            raise OversizedAnswer("its headers" if self.stage in ("tunnel", "headers") else "its body")

    def watch(self, sock: Any) -> None:
        """Hold a second handle of a socket, which stays valid while TLS takes the first one over."""
        handle = socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with self._lock:
            old, self._handle = self._handle, handle
        if old is not None:
            old.close()
        self.allowance(0.0)

    def abort(self) -> None:
        """Shut the socket down, from any thread: whatever waits on it wakes up and fails as a timeout."""
        with self._lock:
            self.aborted = True
            if self._handle is not None:
                with suppress(OSError):  # not connected yet, or gone already
                    self._handle.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """Give the handle back; the connection itself lives on in its pool."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None


_here = threading.local()


@contextmanager
def sending(call: Call) -> Iterator[Call]:
    """Within it, connections that this thread uses work for ``call``."""
    _here.call = call
    try:
        yield call
    finally:
        _here.call = None
        call.finish()


def _current() -> Call | None:
    call: Call | None = getattr(_here, "call", None)
    return call


class _Paced(io.RawIOBase):
    """A socket's stream on which each read gets what is left of the call's deadline."""

    def __init__(self, raw: io.RawIOBase, sock: Any, call: Call) -> None:
        self._raw, self._sock, self._call = raw, sock, call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        call = self._call
        self._sock.settimeout(call.allowance(call.limits.read_seconds))
        received: int | None = self._raw.readinto(buffer)
        call.count(received or 0)
        return received

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that is read at the call's pace, and refused where its framing leaves room for doubt."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._call = _current()
        if self._call is not None:
            if hasattr(sock, "suppress_ragged_eofs"):
                sock.suppress_ragged_eofs = False  # an end without TLS' own farewell is a cut, not an end
            self.fp = io.BufferedReader(_Paced(self.fp.detach(), sock, self._call))

    def begin(self) -> None:
        started = self.headers is not None
        super().begin()
        if self._call is not None and not started:
            self._check()
            self._call.stage = "body"
            self._call.allow_body()

    def _check(self) -> None:
        if self.status < 200:
            raise MalformedAnswer(f"the interim status {self.status} without a final one")
        if self.msg.defects:
            raise MalformedAnswer("header lines that are none")
        lengths = set(self.msg.get_all("content-length", ()))
        codings = [value.strip().lower() for value in self.msg.get_all("transfer-encoding", ())]
        if len(lengths) > 1 or any(not (value.isascii() and value.isdigit()) for value in lengths):
            raise MalformedAnswer("a Content-Length that is not one number")
        if codings not in ([], ["chunked"]):
            raise MalformedAnswer("a Transfer-Encoding other than chunked")
        if codings and lengths:
            raise MalformedAnswer("both Content-Length and Transfer-Encoding")


class _Watched(HTTPConnection):
    """A connection of urllib3 that keeps to the deadline of the call in whose thread it is used."""

    response_class = _Answer
    _used_at: float | None = None

    @property
    def is_connected(self) -> bool:
        call = _current()
        if call is not None and self._used_at is not None and time.monotonic() - self._used_at > call.idle_seconds:
            return False
        return super().is_connected

    def _new_conn(self) -> socket.socket:
        call = _current()
        if call is None:
            return super()._new_conn()
        call.connected = True
        sock = self._dial(call)
        sock.settimeout(call.allowance(call.limits.connect_seconds))
        call.stage = "proxy" if self.proxy is not None else "tls" if isinstance(self, HTTPSConnection) else "request"
        return sock

    def _dial(self, call: Call) -> socket.socket:
        call.stage = "name"
        try:
            found = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            reason = error if isinstance(error, socket.gaierror) else socket.gaierror("not a host name")
            raise NameResolutionError(self.host, self, reason) from error
        call.stage = "connect"
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in found:
            call.allowance(0.0)
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                if self.source_address:
                    sock.bind(self.source_address)
                sock.settimeout(call.allowance(call.limits.connect_seconds))
                call.watch(sock)
                sock.connect(address)
            except OSError as error:
                failure = error
                sock.close()
            else:
                return sock
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "connect") from failure
        raise NewConnectionError(self, failure.strerror or "no connection") from failure

    def _tunnel(self) -> None:
        call = _current()
        if call is not None:
            call.stage = "tunnel"
        super()._tunnel()
        if call is not None:
            call.stage = "tls"

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._used_at = time.monotonic()
        call = _current()
        if call is not None and self.sock is not None:
            if not call.connected:
                call.watch(self.sock)
            call.stage = "request"
        super().request(*args, **kwargs)
        if call is not None:
            call.stage = "headers"

    def send(self, data: Any) -> None:
        call = _current()
        if call is not None and self.sock is not None:
            self.sock.settimeout(call.allowance(call.limits.read_seconds))
        super().send(data)


class _WatchedTLS(_Watched, HTTPSConnection):
    """The same over TLS."""


_gate = threading.RLock()
"""Held around each use of a pool's queue, and while forking: a child never inherits a queue whose lock is taken."""


def _after_fork() -> None:
    global _gate  # noqa: PLW0603
    _gate = threading.RLock()
    _here.call = None


def _before_fork() -> None:
    _gate.acquire()


def _after_fork_in_parent() -> None:
    _gate.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched

    def _get_conn(self, timeout: float | None = None) -> BaseHTTPConnection:
        with _gate:
            return super()._get_conn(timeout)

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        with _gate:
            if conn is not None and self.pool is not None and self.pool.full():
                conn.close()  # without urllib3's warning: more threads than places is no fault
            else:
                super()._put_conn(conn)


class _TLSPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


def manager(context: ssl.SSLContext, proxy: Proxy | None, *, server_hostname: str | None = None) -> PoolManager:
    """Pools of watched connections, over a CONNECT proxy where there is one.

    ``server_hostname`` is the name that the certificates must have, whatever host or address is dialled.
    """
    settings: dict[str, Any] = {"num_pools": 16, "maxsize": 8, "retries": False, "ssl_context": context}
    if server_hostname is not None:
        # without assert_hostname, which would take the check of the name away from OpenSSL
        settings["server_hostname"] = server_hostname
    if proxy is None:
        pools = PoolManager(**settings)
    else:
        headers: Mapping[str, str] = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
        pools = ProxyManager(proxy.url, proxy_headers=headers, proxy_ssl_context=context, **settings)
    pools.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
    return pools


def pool_of(pools: PoolManager, scheme: str, host: str, port: int) -> HTTPConnectionPool:
    """The pool of one host."""
    with _gate:
        return pools.connection_from_host(host, port, scheme)


def watch_pool(pool: HTTPConnectionPool) -> None:
    """Let a pool that the caller configured make watched connections from now on."""
    made: Any = pool.ConnectionCls
    if not issubclass(made, _Watched):
        pool.ConnectionCls = type(f"Watched{made.__name__}", (_Watched, made), {})
