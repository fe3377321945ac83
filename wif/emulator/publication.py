"""The two documents of an issuer, served over HTTPS on loopback in a thread of this process.

A blocking server of the standard library is enough: clouds read these documents once per cache life. The TLS
handshake happens in the thread of its connection, so a client that never finishes one holds up nobody else.
"""

from __future__ import annotations

__all__ = ["Document", "Publication", "PublishedRequest", "write_documents"]

import http
import http.server
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wif.edges.files import write_atomically
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.emulator.faults import Fault, Faults

READ_SECONDS = 10.0
"""Longest silence of a client within handshake, request or keep-alive."""

MAX_REQUESTS_REMEMBERED = 10_000
"""Enough for a test that counts them; a bench does not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document as it is served. ``operation`` is its name for faults and for the record of requests."""

    operation: str
    body: bytes
    content_type: str
    cache_control: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRequest:
    """One request that arrived."""

    method: str
    path: str
    status: int


def write_documents(directory: Path, documents: Mapping[str, bytes]) -> None:
    """Write documents under a directory, at the paths where a web server would serve them.

    Raises:
        ConfigurationError: file-unusable.
    """
    for path, body in documents.items():
        target = directory / path.lstrip("/")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{target.parent} cannot be made: {error.strerror}", code="file-unusable"
            ) from error
        write_atomically(target, body, mode=0o644)  # public documents


class Publication:
    """A running server. ``find`` maps a path to its document of now, or to None for 404."""

    def __init__(
        self, context: ssl.SSLContext, find: Callable[[str], Document | None], *, faults: Faults | None = None
    ) -> None:
        self._requests: deque[PublishedRequest] = deque(maxlen=MAX_REQUESTS_REMEMBERED)
        self._server = _Server(context, find, faults, self._requests)
        self.url = f"https://localhost:{self._server.server_address[1]}"
        """Where it listens."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="wif-publication", daemon=True
        )
        self._thread.start()

    @property
    def requests(self) -> Sequence[PublishedRequest]:
        """The requests so far, oldest first."""
        return tuple(self._requests)

    def stop(self) -> None:
        """Stop listening and wait for the accepting thread; open connections end by themselves."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5.0)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an idle keep-alive connection must not hold up stop()
    request_queue_size = 128

    def __init__(
        self,
        context: ssl.SSLContext,
        find: Callable[[str], Document | None],
        faults: Faults | None,
        requests: deque[PublishedRequest],
    ) -> None:
        self.context = context
        self.find = find
        self.faults = faults
        self.requests = requests
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        plain.settimeout(READ_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away or does not trust the certificate is no event worth a traceback."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "wif-local-cluster"
    sys_version = ""

    def handle(self) -> None:
        self.connection.do_handshake()  # an SSLSocket, see get_request
        super().handle()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        document = self.server.find(self.path)
        operation = document.operation if document else "not-found"
        fault = self.server.faults.take("issuer", operation) if self.server.faults else None
        status = 200 if document else 404
        body = document.body if document else b"404 page not found\n"
        content_type = document.content_type if document else "text/plain; charset=utf-8"
        headers = {"Cache-Control": document.cache_control} if document else {}
        if fault is not None:
            if fault.delay_seconds:
                time.sleep(fault.delay_seconds)
            if fault.status is not None:
                status, body, content_type = fault.status, fault.body, fault.content_type
                headers = dict(fault.headers)
        self.server.requests.append(PublishedRequest(method=self.command, path=self.path, status=status))
        lines = [f"HTTP/1.1 {status} {_reason(status)}", f"Content-Type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "X-Wif-Local-STS: 1", "\r\n"]).encode("latin-1")
        self._send(head, body if with_body else b"", fault)

    def _send(self, head: bytes, body: bytes, fault: Fault | None) -> None:
        cut = fault.cut if fault else None
        if cut is not None:
            self.close_connection = True
            whole = {"before-answer": b"", "headers": head[: len(head) // 2], "body": head + body[: len(body) // 2]}[
                cut
            ]
        else:
            whole = head + body
        self.wfile.write(whole)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are remembered, not printed."""


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
