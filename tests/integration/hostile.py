"""A raw server on loopback that answers as a test says: byte for byte, drop by drop, or not at all.

Over real TLS with an authority of its own (trustme). A behaviour is a function of a :class:`Peer`, called once for
each connection on a thread of its own; those that many tests need stand below.
"""

from __future__ import annotations

__all__ = [
    "HostileServer",
    "Peer",
    "Received",
    "answering",
    "answering_once",
    "connect_proxy",
    "drip",
    "flood",
    "http_answer",
    "raw",
    "silent",
]

import contextlib
import datetime
import select
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it arrived. Header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Gone(Exception):
    """The client has closed, or the server stops."""


class Peer:
    """One connection to the server."""

    def __init__(self, server: HostileServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self._stream = sock.makefile("rb")

    def read_request(self) -> Received:
        """The next request; raises Gone where there is none."""
        try:
            line = self._stream.readline().decode("latin-1").split()
            headers: dict[str, str] = {}
            while (raw_line := self._stream.readline().strip()) != b"":
                name, _, value = raw_line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
            body = self._stream.read(int(headers.get("content-length", "0")))
        except (OSError, ValueError) as error:
            raise Gone from error
        if len(line) < 2:
            raise Gone
        request = Received(method=line[0], target=line[1], headers=headers, body=body)
        self.server.received.append(request)
        return request

    def send(self, data: bytes) -> None:
        """All of it at once."""
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def wait(self, seconds: float) -> None:
        """Pause, unless the server stops."""
        if self.server.stopping.wait(seconds):
            raise Gone

    def close_abruptly(self) -> None:
        """End the connection without TLS' farewell."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


Behaviour = Callable[[Peer], None]


class HostileServer:
    """A server of one behaviour, as a context manager.

    Args:
        behaviour: what to do on each connection.
        names: what its certificate names.
        tls: False serves plain http.
        authority: who signs its certificate; None makes an authority of its own.
        valid: None for a good certificate, ``expired`` or ``future`` for one whose time is wrong.
        farewell: end connections with TLS' close_notify.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        tls: bool = True,
        authority: trustme.CA | None = None,
        valid: str | None = None,
        farewell: bool = False,
    ) -> None:
        self._behaviour = behaviour
        self._names = names
        self._tls = tls
        self._valid = valid
        self._farewell = farewell
        self.authority = authority or trustme.CA()
        self.received: list[Received] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="wif-test-")
        self.ca_file = Path(self._directory.name) / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca_file)
        self._context: ssl.SSLContext | None = None
        if self._tls:
            now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
            starts, ends = {None: (-day, day), "expired": (-2 * day, -day), "future": (day, 2 * day)}[self._valid]
            leaf = self.authority.issue_cert(*self._names, not_before=now + starts, not_after=now + ends)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            leaf.configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://localhost:{self.port}"
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._directory.cleanup()

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(30)
        with self._lock:
            self.connections += 1
            self._open.add(sock)
        try:
            if self._context is not None:
                plain = sock
                sock = self._context.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                    self._open.add(sock)
            peer = Peer(self, sock)
            with contextlib.suppress(Gone):
                self._behaviour(peer)
            peer._stream.close()
            if self._farewell and isinstance(sock, ssl.SSLSocket):
                sock.unwrap()
        except (OSError, ValueError):
            pass  # the client did not like the certificate, or left, or the server has been stopped
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()


def http_answer(
    body: bytes = b"{}", *, status: str = "200 OK", headers: Mapping[str, str] | None = None, length: bool = True
) -> bytes:
    """The bytes of an answer."""
    lines = {"Content-Type": "application/json", **(headers or {})}
    if length:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def answering(answer: bytes | None = None) -> Behaviour:
    """Keep-alive: the same answer to every request."""

    def behave(peer: Peer) -> None:
        while True:
            peer.read_request()
            peer.send(http_answer() if answer is None else answer)

    return behave


def answering_once(answer: bytes | None = None) -> Behaviour:
    """One answer, then the connection ends without a word."""

    def behave(peer: Peer) -> None:
        peer.read_request()
        peer.send(http_answer() if answer is None else answer)

    return behave


def raw(data: bytes) -> Behaviour:
    """These bytes after the first request, then the end."""
    return answering_once(data)


def silent(peer: Peer) -> None:
    """Take the request and say nothing."""
    peer.read_request()
    peer.wait(60)


def drip(prefix: bytes, drop: bytes, *, pause_seconds: float = 0.05) -> Behaviour:
    """A prefix, then one drop after the other for ever: never silent for long, never done."""

    def behave(peer: Peer) -> None:
        peer.read_request()
        peer.send(prefix)
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            peer.send(drop)
            peer.wait(pause_seconds)

    return behave


def flood(prefix: bytes, part: bytes) -> Behaviour:
    """A prefix, then parts for ever as fast as the client takes them (64 MiB at most)."""

    def behave(peer: Peer) -> None:
        peer.read_request()
        peer.send(prefix)
        block = part * max(1, 65_536 // len(part))
        for _ in range(1024):
            peer.send(block)

    return behave


def connect_proxy(to: tuple[str, int], *, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Behaviour:
    """A CONNECT proxy that leads every name to one address; any other answer than 200 ends there."""

    def behave(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)
        if b" 200 " not in answer[:16]:
            return
        with socket.create_connection(to, timeout=10) as onward:
            _join(peer.sock, onward)

    return behave


def _join(one: socket.socket, other: socket.socket) -> None:
    """Hand over what comes from each, until one of them ends. One thread: TLS' state is none that two may share."""
    onward = {one: other, other: one}
    with contextlib.suppress(OSError):
        while True:
            held = [each for each in onward if isinstance(each, ssl.SSLSocket) and each.pending()]
            ready = held or select.select([*onward], [], [], 30)[0]
            if not ready:
                return
            for source in ready:
                data = source.recv(65_536)
                if not data:
                    return
                onward[source].sendall(data)
