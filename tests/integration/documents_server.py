"""Servers of documents for tests: in a thread of this process, or as the command in its own; raw clients."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.integration.server_processes import WAIT_SECONDS, ServerProcess, port_of
from wif.core.discovery import encode_document
from wif.serve.certificates import Certificate
from wif.serve.httpd import Address, App, HttpServer, Limits, run


class Authority:
    """A CA, and certificates of it as a pair of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(str(self.ca_file))
        self.chain, self.key = folder / "tls.crt", folder / "tls.key"
        self.issue()

    def pair(self, *names: str) -> tuple[bytes, bytes]:
        made = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")), key_type=trustme.KeyType.ECDSA)
        return b"".join(pem.bytes() for pem in made.cert_chain_pems), made.private_key_pem.bytes()

    def issue(self, *names: str) -> bytes:
        """Replace both files as a careful writer does, and return the new leaf in DER."""
        chain, key = self.pair(*names)
        for path, content in ((self.chain, chain), (self.key, key)):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.rename(path)
        return ssl.PEM_cert_to_DER_cert(chain.decode())

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))


@contextlib.contextmanager
def running(
    app: App, *, authority: Authority | None = None, limits: Limits | None = None, host: str = "127.0.0.1"
) -> Iterator[HttpServer]:
    """A server in a thread of this process."""
    server = HttpServer(
        app,
        address=Address(host=host, port=0),
        certificate=Certificate(authority.chain, authority.key) if authority is not None else None,
        limits=limits,
    )
    ready, leave = threading.Event(), threading.Event()

    def until_told(stop: threading.Event) -> None:
        leave.wait()

    thread = threading.Thread(
        target=run, args=([server],), kwargs={"workers": [until_told], "grace_seconds": 1.0, "on_ready": ready.set}
    )
    thread.start()
    try:
        assert ready.wait(WAIT_SECONDS)
        yield server
    finally:
        leave.set()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


class ServeProcess(ServerProcess):
    """``wif issuer serve`` (or ``watch``)."""

    def __init__(
        self,
        *arguments: str,
        command: str = "serve",
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(
            ("issuer", command, *arguments),
            schema=f"issuer-{command}.json",
            told="issuers",
            environment={**os.environ, **(environment or {})},
            folder=folder,
        )
        if "url" in self.place:
            self.port = port_of(self.place["url"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection on which a test writes what it likes."""

    def __init__(self, port: int, authority: Authority | None = None, *, host: str = "127.0.0.1") -> None:
        plain = socket.create_connection((host, port), timeout=WAIT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = plain
        if authority is not None:
            try:
                self.socket = authority.client_context().wrap_socket(plain, server_hostname="localhost")
            except OSError:
                plain.close()
                raise
        self._rest = b""

    def send(self, *lines: str, body: bytes = b"") -> None:
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def get(self, path: str, *headers: str, method: str = "GET", host: str = "localhost") -> Reply:
        self.send(f"{method} {path} HTTP/1.1", f"Host: {host}", *headers)
        return self.reply(head_only=method == "HEAD")

    def reply(self, *, head_only: bool = False) -> Reply:
        """The next answer; EOFError where the connection ends first."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(headers) == len(lines)
        size = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._rest) < size:
            self._more()
        body, self._rest = self._rest[:size], self._rest[size:]
        return Reply(status=int(first.split(" ")[1]), headers=headers, body=body)

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self._rest += data

    def ended(self) -> bool:
        """Whether the server has ended it, with nothing unread."""
        try:
            return not self._rest and self.socket.recv(65536) == b""
        except (ConnectionResetError, ssl.SSLError):
            return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_documents(folder: Path, issuer: str, keys: Sequence[dict[str, Any]], *, jwks_uri: str | None = None) -> None:
    """A directory as a publisher leaves it, key set first."""
    discovery = {
        "issuer": issuer,
        "jwks_uri": jwks_uri or f"{issuer}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    documents: dict[str, dict[str, Any]] = {
        "openid/v1/jwks": {"keys": list(keys)},
        ".well-known/openid-configuration": discovery,
    }
    for path, document in documents.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_suffix(".new")
        new.write_bytes(encode_document(document))
        new.rename(target)
