"""A small fake of Google Cloud Storage's XML API: what a publisher sends, with preconditions that are enforced.

Written from https://cloud.google.com/storage/docs/xml-api (objects, ``x-goog-if-generation-match``) and from what
obstore sends. Tokens are checked; an object's generation grows with each write, across deletions too.
"""

from __future__ import annotations

__all__ = ["Fault", "GcsServer", "StoredObject"]

import email.utils
import hashlib
import itertools
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

TOKEN = "ya29.good"


class StoredObject(NamedTuple):
    """An object with what its writer said of it."""

    body: bytes
    generation: int
    content_type: str
    cache_control: str | None


class Fault(NamedTuple):
    """What happens to one request instead of, or after, its being served."""

    status: int = 0
    code: str = ""
    seconds: float = 0.0
    """Wait so long before the answer."""
    commits: bool = False
    """The request is carried out, and its answer then lost: the connection is cut in place of it."""
    cuts: str = ""
    """``request``: hang up before the body is read; ``answer``: in the middle of the answer's body."""


Hook = Callable[[str, str, int], Fault | None]
"""Method, object's path, and how many requests came before this one."""


class GcsServer:
    """A context manager; ``endpoint`` is the ``base_url``.

    Args:
        context: serve TLS by it.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.buckets: dict[str, dict[str, StoredObject]] = {}
        self.tokens = {TOKEN}
        self.hook: Hook = lambda _method, _path, _number: None
        self.enforces = True
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        self._generations = itertools.count(1_700_000_000_000_000)
        self._counted = itertools.count()
        handler = type("Handler", (_Handler,), {"gcs": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        scheme = "http"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        host = "localhost" if context is not None else "127.0.0.1"
        self.endpoint = f"{scheme}://{host}:{self._server.server_port}"

    def __enter__(self) -> GcsServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"bucket-{len(self.buckets) + 1}"
        self.buckets[name] = {}
        return name

    def number(self) -> int:
        """Counts requests."""
        return next(self._counted)

    def put(self, bucket: str, key: str, body: bytes, headers: Any) -> tuple[int, StoredObject | None]:
        """One critical section: compare the generation, write. 412 and None where it is another one."""
        wanted = headers.get("x-goog-if-generation-match")
        with self.lock:
            objects = self.buckets[bucket]
            standing = objects.get(key)
            if self.enforces and wanted is not None and int(wanted) != (standing.generation if standing else 0):
                return 412, None
            objects[key] = StoredObject(
                body, next(self._generations), headers["content-type"], headers.get("cache-control")
            )
            return 200, objects[key]


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
    gcs: GcsServer

    def setup(self) -> None:
        super().setup()
        self._fault = Fault()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 - as the base class wants them

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.gcs.requests.append((self.command, path))
        self._fault = self.gcs.hook(self.command, path, self.gcs.number()) or Fault()
        if self._fault.cuts == "request":
            self.rfile.read(min(3, int(self.headers.get("content-length") or 0)))
            self._hang_up()
            return
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self._fault.commits:
            self._answer(path, body, silent=True)
            time.sleep(self._fault.seconds)
            self._hang_up()
            return
        if self._fault.seconds:
            time.sleep(self._fault.seconds)
        if self._fault.status:
            self._error(self._fault.status, self._fault.code)
            return
        self._answer(path, body)

    def _answer(self, path: str, body: bytes, *, silent: bool = False) -> None:
        _, bucket, key = path.split("/", 2)
        if self.headers.get("authorization", "").removeprefix("Bearer ") not in self.gcs.tokens:
            self._error(401, "AuthenticationRequired")
            return
        if bucket not in self.gcs.buckets:
            self._error(404, "NoSuchBucket")
            return
        if self.command == "PUT":
            status, stored = self.gcs.put(bucket, key, body, self.headers)
            if silent:
                return
            if stored is None:
                self._error(status, "PreconditionFailed")
            else:
                self._send(200, b"", _tags(stored))
            return
        stored = self.gcs.buckets[bucket].get(key)
        if stored is None:
            self._error(404, "NoSuchKey")
        elif self.command == "DELETE":
            del self.gcs.buckets[bucket][key]
            if not silent:
                self._send(204, b"", {})
        else:
            headers = _tags(stored) | {"Content-Type": stored.content_type}
            if stored.cache_control is not None:
                headers["Cache-Control"] = stored.cache_control
            self._send(200, stored.body, headers)

    def _error(self, status: int, code: str) -> None:
        self._send(status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            if self._fault.cuts == "answer":
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self._hang_up()
                return
            self.wfile.write(body)
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)


def _tags(stored: StoredObject) -> dict[str, str]:
    return {
        "ETag": f'"{hashlib.md5(stored.body).hexdigest()}"',
        "Last-Modified": email.utils.formatdate(usegmt=True),
        "x-goog-generation": str(stored.generation),
    }
