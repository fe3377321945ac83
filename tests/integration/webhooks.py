"""The webhook for tests: registrations, the command in a process of its own, and a client of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration.server_processes import WAIT_SECONDS, ServerProcess, port_of
from wif.emulator.apiserver import ApiServer


def configuration(
    name: str, url: str, *, policy: str = "Ignore", namespaces: Sequence[str] = (), bundle: bytes = b""
) -> dict[str, Any]:
    """A MutatingWebhookConfiguration for pods, at a URL on loopback."""
    selector = (
        {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}]}
        if namespaces
        else {}
    )
    client = {"url": f"{url}/mutate"} | ({"caBundle": base64.b64encode(bundle).decode()} if bundle else {})
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": "pods.wif.internal",
                "clientConfig": client,
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "admissionReviewVersions": ["v1"],
                "sideEffects": "NoneOnDryRun",
                "failurePolicy": policy,
                "timeoutSeconds": 5,
                "reinvocationPolicy": "IfNeeded",
                "namespaceSelector": selector,
            }
        ],
    }


MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


def bundle_of(api_server: ApiServer, name: str) -> str:
    """The authorities of a registration, PEM."""
    status, body = api_server.request("GET", f"{MUTATING}/{name}")
    assert status == 200, body
    return base64.b64decode(json.loads(body)["webhooks"][0]["clientConfig"].get("caBundle", "")).decode()


def with_bundle(api_server: ApiServer, name: str, pem: str) -> None:
    """Put other authorities into a registration, as somebody else would."""
    status, body = api_server.request("GET", f"{MUTATING}/{name}")
    found = json.loads(body)
    found["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(pem.encode()).decode()
    status, body = api_server.request("PUT", f"{MUTATING}/{name}", found)
    assert status == 200, body


def authorities_in(pem: str) -> int:
    """How many certificates a PEM text has."""
    return pem.count("BEGIN CERTIFICATE")


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """A listening socket on loopback, to hand down or to have a port by."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener


class WebhookProcess(ServerProcess):
    """``wif webhook serve``, with health; ``listener`` is handed down."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        listener: socket.socket | None = None,
        folder: Path | None = None,
        log_level: str = "info",
    ) -> None:
        handed = () if listener is None else (listener.fileno(),)
        where = ("--fd", str(handed[0])) if handed else ("--host", "127.0.0.1", "--port", "0")
        health = ("--health-host", "127.0.0.1", "--health-port", "0")
        # the API server keeps its connections: without a short grace each stop waits for the next review
        super().__init__(
            ("webhook", "serve", "--grace", "3", "--log-level", log_level, *health, *where, *arguments),
            schema="webhook-serve.json",
            told="url",
            environment={**os.environ, **(environment or {})},
            folder=folder,
            handed=handed,
        )
        self.url = str(self.place["url"])
        self.port = port_of(self.url)


class Client:
    """A keep-alive client that trusts what the API server would."""

    def __init__(self, port: int, bundle: str, *, name: str = "localhost") -> None:
        context = ssl.create_default_context(cadata=bundle)
        plain = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self.socket = context.wrap_socket(plain, server_hostname=name)
        self._rest = b""

    def post(self, body: bytes, path: str = "/mutate?timeout=5s") -> tuple[int, bytes]:
        """Status and body of the answer."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.socket.sendall(head.encode() + body)
        while b"\r\n\r\n" not in self._rest:
            self._more()
        text, _, self._rest = self._rest.partition(b"\r\n\r\n")
        size = int(re.search(rb"content-length: (\d+)", text, re.IGNORECASE)[1])  # type: ignore[index]  # always there
        while len(self._rest) < size:
            self._more()
        answer, self._rest = self._rest[:size], self._rest[size:]
        return int(text.split(b" ")[1]), answer

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self._rest += data

    def close(self) -> None:
        """Let go."""
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(seconds: float) -> None:
    """A pause that a test needs: something must not happen within it."""
    time.sleep(seconds)
