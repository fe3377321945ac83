"""The webhook for tests: registrations, the command in a process of its own, and a client of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from tests.integration.documents_server import SCHEMAS, WAIT_SECONDS, NotStarted, until
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


SCHEMA = json.loads((SCHEMAS / "webhook-serve.json").read_text())
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


class WebhookProcess:
    """``wif webhook serve`` in a process of its own, with health; ``listener`` is handed down."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        listener: socket.socket | None = None,
        folder: Path | None = None,
        log_level: str = "info",
    ) -> None:
        handed = () if listener is None else (listener.fileno(),)
        where = ["--fd", str(handed[0])] if handed else ["--host", "127.0.0.1", "--port", "0"]
        program = [sys.executable, "-m", "wif", "webhook", "serve", "--json", "--log-format", "json"]
        # the API server keeps its connections: without a short grace each stop waits for the next review
        program += [
            "--grace",
            "3",
            "--log-level",
            log_level,
            "--health-port",
            "0",
            "--health-host",
            "127.0.0.1",
            *where,
            *arguments,
        ]
        self.child = subprocess.Popen(
            program,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            pass_fds=handed,
            env={**os.environ, **(environment or {})},
        )
        self.log: list[dict[str, Any]] = []
        assert self.child.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.child.stderr,), daemon=True)
        self._reader.start()
        lines: list[str] = []
        assert self.child.stdout is not None
        for line in self.child.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        self.place: dict[str, Any] = json.loads("".join(lines) or "{}")
        if "url" not in self.place:
            status = self.end(0)
            raise NotStarted(status, str(self.place.get("error", {}).get("code")), self.messages())
        jsonschema.validate(self.place, SCHEMA, cls=jsonschema.Draft202012Validator)
        self.url = str(self.place["url"])
        self.port = int(self.url.rpartition(":")[2])

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.log.append(json.loads(line) if line.startswith("{") else {"message": line.rstrip()})

    def messages(self) -> list[str]:
        """What it has logged."""
        return [str(entry["message"]) for entry in self.log]

    def health(self, path: str) -> tuple[int, str]:
        """Status and text of ``/readyz`` and so on."""
        try:
            with urllib.request.urlopen(f"{self.place['health_url']}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float | None:
        """The sum of a metric over its labels; None where it is not shown."""
        _, text = self.health("/metrics")
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found)) if found else None

    def until_ready(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait for readiness."""
        until(lambda: self.health("/readyz")[0] == 200, what=f"ready: {self.messages()[-5:]}", seconds=seconds)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            status = self.child.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise
        self._reader.join(WAIT_SECONDS)
        for stream in (self.child.stdout, self.child.stderr):
            if stream is not None:
                stream.close()
        return status

    def __enter__(self) -> WebhookProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


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
