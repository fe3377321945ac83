"""A proxy in front of a store's server that breaks chosen requests: in their middle, or in place of the answer."""

from __future__ import annotations

__all__ = ["Fault", "FaultyProxy", "Hook"]

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit


class Fault(NamedTuple):
    """What happens to one request."""

    kind: Literal["answer", "cut-request", "lose-answer", "cut-answer", "delay"]
    """``answer``: with ``status`` and ``code``, and the server never sees the request. ``cut-request``: the server gets
    the headers and half of the body, then the connection ends. ``lose-answer``: the server does it, the client hears
    nothing. ``cut-answer``: the client gets half of the answer's body. ``delay``: the answer comes after ``seconds``.
    """
    status: int = 0
    code: str = ""
    text: str = ""
    """What else the answer says."""
    seconds: float = 0.0
    """Before an answer is lost or sent."""


Hook = Callable[[str, str, int], Fault | None]
"""Method, path with query, number of the request (from 0)."""


class FaultyProxy:
    """A context manager. ``endpoint`` stands for the server's own.

    Args:
        upstream: the server's endpoint, plain http.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.hook: Hook = lambda _method, _path, _number: None
        self.requests: list[tuple[str, str]] = []
        self.headers: Mapping[str, str] = {}
        """Of the request that the hook is asked about; names in lower case."""
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}{parts.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def count(self, method: str) -> int:
        """How many requests of a method came."""
        return sum(1 for seen, _ in self.requests if seen == method)

    def always(self, method: str, fault: Fault) -> None:
        """Break every request of a method."""
        self.hook = lambda seen, _path, _number: fault if seen == method else None

    def once(self, method: str, fault: Fault) -> None:
        """Break the next request of a method, and no other."""
        left = [fault]
        self.hook = lambda seen, _path, _number: left.pop() if seen == method and left else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536
    timeout = 30
    proxy: FaultyProxy

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        with self.proxy.lock:
            number = len(self.proxy.requests)
            self.proxy.requests.append((self.command, self.path))
            self.proxy.headers = {name.lower(): value for name, value in self.headers.items()}
            fault = self.proxy.hook(self.command, self.path, number)
        if fault is not None and fault.kind == "cut-request":
            self._send_half()
            self._hang_up()
            return
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if fault is not None and fault.kind == "answer":
            time.sleep(fault.seconds)
            content = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code>{fault.text}</Error>".encode()
            self._answer(fault.status, [("Content-Type", "application/xml")], content, cut=False)
            return
        connection = http.client.HTTPConnection(*self.proxy.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        time.sleep(fault.seconds if fault is not None else 0)
        if fault is not None and fault.kind == "lose-answer":
            self._hang_up()
            return
        self._answer(
            response.status, response.getheaders(), content, cut=fault is not None and fault.kind == "cut-answer"
        )

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - as the base class wants them

    def _send_half(self) -> None:
        """To the server: all of the headers and half of the body."""
        length = int(self.headers.get("content-length") or 0)
        half = self.rfile.read(length // 2)
        connection = http.client.HTTPConnection(*self.proxy.upstream, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(half)
            time.sleep(0.05)
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool) -> None:
        self.send_response_only(status)
        has_length = False
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "keep-alive"):
                has_length |= name.lower() == "content-length"
                self.send_header(name, value)
        if not has_length and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.wfile.flush()
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)
