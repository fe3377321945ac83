"""An API over TLS that wants a bearer token, keeps those that it saw, and rejects the ones that a test names."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from wif.emulator import Authority


class BearerService:
    """A real server on loopback.

    Args:
        authority: makes its certificate.
        challenge: the ``WWW-Authenticate`` header of a rejection.
    """

    def __init__(self, authority: Authority, *, challenge: str = "Bearer") -> None:
        self.seen: list[str] = []
        """The tokens, in the order in which they came."""
        self.headers: list[Mapping[str, str]] = []
        self.rejected: set[str] = set()
        """Tokens that are answered with 401."""
        self.reject_next = 0
        """How many tokens more become rejected ones as they come."""
        self.reject_all = False
        self.challenge = challenge
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.service = self
        context = authority.server_context()
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self.url = f"https://localhost:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def status_of(self, headers: Mapping[str, str]) -> int:
        """Judge a request by its headers (lower-case names), and remember it."""
        token = headers.get("authorization", "").removeprefix("Bearer ")
        with self._lock:
            self.seen.append(token)
            self.headers.append(headers)
            if self.reject_next and token not in self.rejected:
                self.reject_next -= 1
                self.rejected.add(token)
            return 401 if not token or self.reject_all or token in self.rejected else 200

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    service: BearerService

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that close in the middle of a handshake are none of the tests' business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    wbufsize = 1 << 16  # head and body in one packet, or Nagle waits 40 ms between them
    server: _Server

    def do_GET(self) -> None:
        status = self.server.service.status_of({name.lower(): value for name, value in self.headers.items()})
        body = b"{}"
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", self.server.service.challenge)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except (ssl.SSLError, ConnectionError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
