"""A program as a child: what its number is good for once it has ended."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from wif.serve.child import Child

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

WAIT_SECONDS = 30.0


def _ended(folder: Path) -> tuple[Child, int]:
    """Start one, and block the event loop until it has ended and whoever waits for it has had the time to."""
    child = Child(["/bin/sh", "-c", f"echo $$ > {folder}/pid; exit 7"], environ=os.environ)
    child.start()
    ends = time.monotonic() + WAIT_SECONDS
    while not (text := _read(folder / "pid")) and time.monotonic() < ends:
        time.sleep(0.01)
    time.sleep(0.3)
    return child, int(text)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_its_number_is_its_own_as_long_as_signals_may_be_sent(tmp_path: Path) -> None:
    async def run() -> int:
        child, pid = _ended(tmp_path)
        os.kill(pid, 0)  # a process that nobody has waited for: the system gives its number to no other
        child.send(signal.SIGTERM)
        return await child.wait()

    assert asyncio.run(run()) == 7


def test_an_end_that_somebody_else_has_waited_for_is_no_success(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> int:
        child, pid = _ended(tmp_path)
        os.waitpid(pid, 0)
        return await child.wait()

    with caplog.at_level(logging.ERROR, "wif.run"):
        assert asyncio.run(run()) == 1
    assert "how the program ended is not known" in caplog.text
