"""``wif run`` in a process of its own, in an empty directory, and a program for it that tells its signals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.led_pod import LedPod

WAIT_SECONDS = 30.0

TELLING = """
import os, signal, sys, time
def told(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")  # print() may be under way
    if number == signal.SIGTERM and "deaf" not in sys.argv:
        sys.exit(5)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTSTP", "SIGCONT"):
    signal.signal(getattr(signal, name), told)
os.write(1, b"ready\\n")
while True:
    time.sleep(0.05)
"""
"""A program that names each signal on stdout; with "deaf" as its argument it goes on after SIGTERM."""


def wif_run(*words: str) -> list[str]:
    """The command, with these words."""
    return [sys.executable, "-m", "wif", "run", *words]


class Runner:
    """Runs ``wif run`` in an empty directory."""

    def __init__(self, pod: LedPod, folder: Path) -> None:
        self.pod, self.folder = pod, folder
        self.runtime = folder / "runtime"
        self.runtime.mkdir()

    def environment(self, *, with_identities: bool = True) -> dict[str, str]:
        kept = {"PATH", "HOME", "PYTHONWARNINGS", *self.pod.emulator.environment()}
        every = self.pod.environment
        chosen = every if with_identities else {name: value for name, value in every.items() if name in kept}
        return {**chosen, "XDG_RUNTIME_DIR": str(self.runtime)}

    def start(self, *words: str, environ: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            wif_run(*words),
            cwd=self.folder,
            env=self.environment() if environ is None else environ,
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def run(
        self, *words: str, status: int = 0, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> tuple[str, str]:
        child = self.start(*words, environ=environ, stdin=subprocess.PIPE)
        out, err = child.communicate(stdin, timeout=WAIT_SECONDS)
        assert child.returncode == status, f"{child.returncode}\n{out}\n{err}"
        assert not list(self.runtime.iterdir()), "nothing stays behind"
        return out, err

    def python(self, *words: str, program: str, environ: Mapping[str, str] | None = None) -> Any:
        out, _ = self.run(*words, "--", sys.executable, "-c", program, environ=environ)
        return json.loads(out.splitlines()[-1])


@pytest.fixture
def runner(pod: LedPod, tmp_path: Path) -> Runner:
    """One for each test."""
    return Runner(pod, tmp_path)
