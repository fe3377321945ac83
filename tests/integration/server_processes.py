"""A ``wif … serve`` in a process of its own: what it says when it is up, its log, its health, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jsonschema

WAIT_SECONDS = 20.0
SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


def until(true: Callable[..., object], *, what: str = "", seconds: float = WAIT_SECONDS) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


class NotStarted(Exception):
    """The command ended before it was ready: its exit status, the code of its error, what it said on stderr."""


class ServerProcess:
    """The command ``wif`` with these words and ``--json``; made, it has said where it serves.

    Args:
        words: the command and its options.
        schema: what it says when it is up, of the JSON reference.
        told: the member that only a server that is up says.
        environment: the whole of it; default this process's.
        folder: where it runs.
        handed: file descriptors that it inherits.
        launcher: a command that runs the one that follows it.

    Raises:
        NotStarted: it ended instead.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        schema: str,
        told: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        handed: Sequence[int] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        self.child = subprocess.Popen(
            [*launcher, sys.executable, "-m", "wif", *words, "--json", "--log-format", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            pass_fds=handed,
            env=os.environ if environment is None else environment,
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
        if told not in self.place:
            status = self.end(0)
            raise NotStarted(status, str(self.place.get("error", {}).get("code")), self.messages())
        jsonschema.validate(self.place, json.loads((SCHEMAS / schema).read_text()), cls=jsonschema.Draft202012Validator)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def port_of(url: str) -> int:
    """The port of a URL that is a host and a port."""
    return int(url.rpartition(":")[2])
