"""A command of the settings, run without a shell: its output bounded, its time bounded, its children ended with it."""

from __future__ import annotations

__all__ = ["CommandFailed", "run_command"]

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

_PART_BYTES = 8192


class CommandFailed(Exception):
    """The command did not run to its end. Its text says why, without arguments or output."""


class Ran(NamedTuple):
    """What came of it."""

    status: int
    """As the system has it: negative for a signal."""
    output: bytes
    """What it printed first, at most as much as was allowed."""


async def run_command(
    words: Sequence[str],
    *,
    environ: Mapping[str, str],
    limit_bytes: int,
    timeout_seconds: float,
    with_stderr: bool = False,
) -> Ran:
    """Run a program without standard input, in a session of its own.

    Args:
        words: the program and its arguments.
        limit_bytes: of output to keep; what follows is read and dropped, so that nothing blocks.
        with_stderr: whether stderr counts as output; else it is this process' own.

    Raises:
        CommandFailed: it cannot be run, or has not ended in time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if with_stderr else None,
            env=dict(environ),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a zero byte in its arguments"
        raise CommandFailed(f"cannot be run: {reason}") from error
    printed = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            while process.stdout is not None and (part := await process.stdout.read(_PART_BYTES)):
                printed += part[: max(0, limit_bytes - len(printed))]
            return Ran(await process.wait(), bytes(printed))
    except TimeoutError:
        raise CommandFailed(f"did not end within {timeout_seconds:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: the group has its number
            await process.wait()
