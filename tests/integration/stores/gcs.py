"""A small fake of Google Cloud Storage's XML API: what a publisher sends, with preconditions that are enforced.

Written from https://cloud.google.com/storage/docs/xml-api (objects, ``x-goog-if-generation-match``) and from what
obstore sends. Tokens are checked; a generation is never used twice, so an object that was deleted and made again has
another one.
"""

from __future__ import annotations

__all__ = ["TOKEN", "GcsServer", "StoredObject"]

import email.utils
import hashlib
import itertools
import re
import ssl
import threading
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


class GcsServer:
    """A context manager. ``endpoint`` is what a target's ``endpoint`` says.

    Args:
        context: serve TLS by it, as ``localhost``.
        enforces: False: preconditions are ignored, as other emulators of GCS do.
    """

    def __init__(self, context: ssl.SSLContext | None = None, *, enforces: bool = True) -> None:
        self.environ: dict[str, str] = {}
        self.buckets: dict[str, dict[str, StoredObject]] = {}
        self.tokens = {TOKEN}
        self.seen_tokens: list[str] = []
        self.lock = threading.Lock()
        self._enforces = enforces
        self._generations = itertools.count(1_700_000_000_000_000)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"gcs": self}))
        port = self._server.server_port
        if context is None:
            self.endpoint = f"http://127.0.0.1:{port}"
        else:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.endpoint = f"https://localhost:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> GcsServer:
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

    def put(self, bucket: str, key: str, body: bytes, headers: Any) -> StoredObject | None:
        """One critical section: compare the generation, write. None where it is another one."""
        wanted = headers.get("x-goog-if-generation-match")
        with self.lock:
            objects = self.buckets[bucket]
            standing = objects.get(key)
            if self._enforces and wanted is not None and int(wanted) != (standing.generation if standing else 0):
                return None
            stored = StoredObject(body, next(self._generations), headers["content-type"], headers.get("cache-control"))
            objects[key] = stored
            return stored


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

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # a partial upload is none
            self.close_connection = True
            return
        # %2F separates the parts of an object's name, never bucket and object
        _, bucket, key = urlsplit(self.path).path.split("/", 2)
        bucket, key = unquote(bucket), unquote(key)
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.gcs.seen_tokens.append(token)
        if token not in self.gcs.tokens:
            self._error(401, "AuthenticationRequired")
        elif bucket not in self.gcs.buckets:
            self._error(404, "NoSuchBucket")
        elif self.command == "PUT":
            stored = self.gcs.put(bucket, key, body, self.headers)
            if stored is None:
                self._error(412, "PreconditionFailed")
            else:
                self._send(200, b"", _tags(stored))
        else:
            self._get_or_delete(bucket, key)

    do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815 - as the base class wants them

    def _get_or_delete(self, bucket: str, key: str) -> None:
        stored = self.gcs.buckets[bucket].get(key)
        if stored is None:
            self._error(404, "NoSuchKey")
        elif self.command == "DELETE":
            del self.gcs.buckets[bucket][key]
            self._send(204, b"", {})
        else:
            headers = _tags(stored) | {"Content-Type": stored.content_type}
            if stored.cache_control is not None:
                headers["Cache-Control"] = stored.cache_control
            self._send_range(stored.body, headers)

    def _send_range(self, body: bytes, headers: dict[str, str]) -> None:
        """obstore asks for the rest of a broken answer, on the ETag of what it has."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if self.headers.get("if-match", headers["ETag"]) != headers["ETag"]:
            self._error(412, "PreconditionFailed")
        elif wanted is None:
            self._send(200, body, headers)
        else:
            first, last = int(wanted.group(1)), min(int(wanted.group(2) or len(body)), len(body) - 1)
            content_range = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
            self._send(206, body[first : last + 1], headers | content_range)

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
            self.wfile.write(body)
        self.wfile.flush()


def _tags(stored: StoredObject) -> dict[str, str]:
    return {
        "ETag": f'"{hashlib.md5(stored.body).hexdigest()}"',
        "Last-Modified": email.utils.formatdate(usegmt=True),
        "x-goog-generation": str(stored.generation),
    }
