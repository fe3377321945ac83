"""Commands of the settings as real processes: what they print, what they leave behind, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wif.serve.commands import CommandFailed, Ran, run_command

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

WAIT_SECONDS = 10.0


def run(*words: str, seconds: float = WAIT_SECONDS, limit_bytes: int = 1000) -> Ran:
    return asyncio.run(
        run_command(words, environ=os.environ, limit_bytes=limit_bytes, timeout_seconds=seconds, with_stderr=True)
    )


def until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < ends, "waited for too long"
        time.sleep(0.02)


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def is_running(pid_file: Path) -> bool:
    """Whether the process is there; one that has ended and waits for its parent is not."""
    try:
        return Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_status_and_output() -> None:
    assert run("/bin/sh", "-c", "echo one; echo two >&2; exit 3") == (3, b"one\ntwo\n")
    assert run("/bin/sh", "-c", "kill -KILL $$") == (-9, b"")


def test_output_that_nobody_wants_blocks_nothing() -> None:
    assert run("/bin/sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' a", limit_bytes=5) == (0, b"aaaaa")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_what_a_command_leaves_in_the_background_keeps_nobody_waiting_and_ends_with_it(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = run("/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; echo token")
    assert ran == (0, b"token\n")
    assert time.monotonic() - began < 5, "the program has ended: nothing more is waited for"
    until(lambda: not is_running(tmp_path / "pid"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_command_that_hangs_ends_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"did not end within 0\.5 s"):
        run("/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait", seconds=0.5)
    until(lambda: not is_running(tmp_path / "pid"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("script", ["sleep 60 & echo token", "sleep 60", "echo token", "setsid sleep 3 & sleep 0.1"])
def test_no_descriptor_stays_open(script: str) -> None:
    async def some() -> tuple[int, int]:
        counts = []
        for _ in range(2):
            with contextlib.suppress(CommandFailed):
                await run_command(["/bin/sh", "-c", script], environ=os.environ, limit_bytes=100, timeout_seconds=0.3)
            await asyncio.sleep(0.05)
            counts.append(descriptors())
        return counts[0], counts[-1]

    first, last = asyncio.run(some())
    assert first == last


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("words", [["/nowhere/at-all"], ["echo", "a\0b"]])
def test_what_cannot_be_run_leaves_no_descriptor(words: list[str]) -> None:
    async def try_it() -> None:
        before = descriptors()
        with pytest.raises(CommandFailed, match="cannot be run"):
            await run_command(words, environ=os.environ, limit_bytes=100, timeout_seconds=1)
        await asyncio.sleep(0.05)
        assert descriptors() == before

    asyncio.run(try_it())


_FIRST_PROCESS = """
import asyncio, ctypes, os, pathlib
from wif.serve.commands import run_command

def children():
    stats = (each.read_text().rpartition(")")[2].split() for each in pathlib.Path("/proc").glob("[0-9]*/stat"))
    return [fields[0] for fields in stats if int(fields[1]) == os.getpid()]

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
words = ["/bin/sh", "-c", "sleep 60 & sleep 60 & echo token"]
print(asyncio.run(run_command(words, environ=os.environ, limit_bytes=100, timeout_seconds=10)), children())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="becomes who inherits processes, as a container's first one")
def test_a_container_s_first_process_keeps_no_zombies_of_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_PROCESS], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "Ran(status=0, output=b'token\\n') []\n"
