"""``wif sidecar serve`` in a process of its own, led to the local STS, and a client as rude as is needed."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from tests.integration.documents_server import SCHEMAS, WAIT_SECONDS, NotStarted, until
from tests.integration.led_pod import ACCOUNT, CLIENT, PROVIDER, ROLE, TENANT, LedPod

SCHEMA = json.loads((SCHEMAS / "sidecar-serve.json").read_text())

IDENTITY_HEADER = "the-header-of-a-test"


def aws(pod: LedPod, **changes: Any) -> dict[str, Any]:
    """The pod's role."""
    return {"cloud": "aws", "role_arn": ROLE, "token_file": str(pod.tokens / "aws"), "region": "eu-west-1", **changes}


def gcp(pod: LedPod, **changes: Any) -> dict[str, Any]:
    """The pod's Google service account."""
    file = str(pod.tokens / "gcp")
    return {"cloud": "gcp", "provider": PROVIDER, "service_account": ACCOUNT, "token_file": file, **changes}


def azure(pod: LedPod, **changes: Any) -> dict[str, Any]:
    """The pod's Entra application."""
    file = str(pod.tokens / "azure")
    return {"cloud": "azure", "tenant_id": TENANT, "client_id": CLIENT, "token_file": file, **changes}


def led(pod: LedPod) -> dict[str, str]:
    """The way to the local STS, without any identity."""
    kept = ("HOME", "PATH", "PYTHONWARNINGS", *pod.emulator.environment())
    return {name: pod.environment[name] for name in kept if name in pod.environment}


class SidecarProcess:
    """The command with its settings in ``wif.yaml`` of the folder; ports are free ones."""

    def __init__(
        self,
        pod: LedPod,
        folder: Path,
        settings: Mapping[str, Any] | None,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        log_level: str = "info",
    ) -> None:
        self.folder = folder
        self.secret_file = folder / "secret" / "authorization"
        self.secret_file.parent.mkdir(exist_ok=True)
        program = [sys.executable, "-m", "wif", "sidecar", "serve", "--json", "--log-format", "json"]
        program += ["--log-level", log_level, "--grace", "5", "--secret-file", str(self.secret_file)]
        if "--listen" not in arguments:
            program += ["--listen", "127.0.0.1:0"]
        if settings is not None:
            self.write(settings)
            program += ["--config-file", str(folder / "wif.yaml")]
        self.child = subprocess.Popen(
            [*program, "--health-address", "127.0.0.1:0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**led(pod), **(environment or {})},
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
        if "urls" not in self.place:
            status = self.end(0)
            error = self.place.get("error", {})
            raise NotStarted(status, str(error.get("code")), [str(error.get("message")), *self.messages()])
        jsonschema.validate(self.place, SCHEMA, cls=jsonschema.Draft202012Validator)
        self.url = str(self.place["urls"][0])
        self.port = int(self.url.rpartition(":")[2])

    def write(self, settings: Mapping[str, Any]) -> None:
        """Replace the section, as an editor does: by a rename."""
        made = self.folder / "wif.yaml.new"
        made.write_text(json.dumps({"sidecar": settings}))
        made.replace(self.folder / "wif.yaml")

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.log.append(json.loads(line) if line.startswith("{") else {"message": line.rstrip()})

    def messages(self) -> list[str]:
        """What it has logged."""
        return [str(entry["message"]) for entry in self.log]

    def until_logged(self, words: str) -> str:
        """Wait for a message with these words."""
        until(lambda: any(words in each for each in self.messages()), what=f"{words!r} in {self.messages()[-5:]}")
        return next(each for each in self.messages() if words in each)

    @property
    def secret(self) -> str:
        """What the Authorization header must be."""
        return self.secret_file.read_text()

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        host: str | None = None,
        body: bytes | None = None,
        timeout: float = WAIT_SECONDS,
    ) -> tuple[int, str]:
        """One request on a connection of its own: status and text; header names in lower case in ``answered``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host if host is not None else f"127.0.0.1:{self.port}")
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            self.answered = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def keys(self, path: str = "/aws") -> tuple[int, dict[str, Any]]:
        """Ask for AWS keys as an SDK does: status and JSON."""
        status, text = self.ask(path, {"Authorization": self.secret, "Accept": "application/json"})
        document: dict[str, Any] = json.loads(text)
        return status, document

    def health(self, path: str) -> tuple[int, str]:
        """Status and text of ``/readyz`` and so on."""
        try:
            with urllib.request.urlopen(f"{self.place['health_url']}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float | None:
        """The sum of a metric over what has these labels; None where it is not shown."""
        _, text = self.health("/metrics")
        lines = re.findall(rf"^{re.escape(name)}(\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        found = [
            float(value) for shown, value in lines if all(f'{key}="{each}"' in shown for key, each in labels.items())
        ]
        return sum(found) if found else None

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

    def __enter__(self) -> SidecarProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
