"""``wif sidecar serve`` in a process of its own, led to the local STS, and a client as rude as is needed."""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration.led_pod import ACCOUNT, CLIENT, PROVIDER, ROLE, TENANT, LedPod
from tests.integration.server_processes import SCHEMAS, WAIT_SECONDS, ServerProcess, port_of, until

SCHEMA = json.loads((SCHEMAS / "sidecar-serve.json").read_text())

IDENTITY_HEADER = "the-header-of-a-test"
_MARKS = itertools.count()


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


class SidecarProcess(ServerProcess):
    """``wif sidecar serve`` with its settings in ``wif.yaml`` of the folder; ports are free ones."""

    def __init__(
        self,
        pod: LedPod,
        folder: Path,
        settings: Mapping[str, Any] | None,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        log_level: str = "info",
        launcher: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.secret_file = folder / "secret" / "authorization"
        self.secret_file.parent.mkdir(exist_ok=True)
        words = ["sidecar", "serve", "--log-level", log_level, "--grace", "5", "--secret-file", str(self.secret_file)]
        if "--listen" not in arguments:
            words += ["--listen", "127.0.0.1:0"]
        if settings is not None:
            self.write(settings)
            words += ["--config-file", str(folder / "wif.yaml")]
        super().__init__(
            [*words, "--health-address", "127.0.0.1:0", *arguments],
            schema="sidecar-serve.json",
            told="urls",
            environment={**led(pod), **(environment or {})},
            folder=folder,
            launcher=launcher,
        )
        self.url = str(self.place["urls"][0])
        self.port = port_of(self.url)

    def write(self, settings: Mapping[str, Any]) -> None:
        """Replace the section, as an editor does: by a rename."""
        made = self.folder / "wif.yaml.new"
        made.write_text(json.dumps({"sidecar": settings}))
        made.replace(self.folder / "wif.yaml")

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

    def whole_log(self) -> list[dict[str, Any]]:
        """The log with every answer so far, where it has a line for each: it is read a moment after they were given."""
        mark = f"/mark-{next(_MARKS)}"
        self.ask(mark)
        until(lambda: any(entry.get("path") == mark for entry in list(self.log)), what="the log of the last answer")
        return list(self.log)

    def keys(self, path: str = "/aws") -> tuple[int, dict[str, Any]]:
        """Ask for AWS keys as an SDK does: status and JSON."""
        status, text = self.ask(path, {"Authorization": self.secret, "Accept": "application/json"})
        document: dict[str, Any] = json.loads(text)
        return status, document
