"""A command of the settings, run without a shell: its output bounded, its time bounded, its group ended with it."""

from __future__ import annotations

__all__ = ["CommandFailed", "run_command"]

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

_PART_BYTES = 8192
_REST_SECONDS = 1.0
"""For what is still on its way when the program has ended: something that it left behind may hold its output open."""


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
    """Run a program without standard input, in a session of its own; what it leaves in that group ends with it.

    Args:
        words: the program and its arguments.
        limit_bytes: of output to keep; what follows is read and dropped, so that nothing blocks.
        with_stderr: whether stderr counts as output; else it is this process' own.

    Raises:
        CommandFailed: it cannot be run, or has not ended in time.
    """
    async with _pipe() as (reader, writing_end):
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing_end,
                stderr=asyncio.subprocess.STDOUT if with_stderr else None,
                env=dict(environ),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "a zero byte in its arguments"
            raise CommandFailed(f"cannot be run: {reason}") from error
        finally:
            os.close(writing_end)
        printed = bytearray()
        reading = asyncio.ensure_future(_read(reader, printed, limit_bytes))
        try:
            async with asyncio.timeout(timeout_seconds):
                status = await process.wait()
            await asyncio.wait([reading], timeout=_REST_SECONDS)
            return Ran(status, bytes(printed))
        except TimeoutError:
            raise CommandFailed(f"did not end within {timeout_seconds:g} s") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: the group has its number
            reading.cancel()
            await process.wait()
            await _buried(process.pid)


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """What the program prints, and the descriptor to print to, which is the caller's to close.

    Not asyncio's own pipe of a process: some Pythons take a process for running until that one is closed.
    """
    reading_end, writing_end = os.pipe()
    reader = asyncio.StreamReader()
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader),
            open(reading_end, "rb", buffering=0),  # noqa: PTH123, SIM115
        )
    except BaseException:
        os.close(writing_end)
        raise
    try:
        yield reader, writing_end
    finally:
        transport.close()


async def _buried(group: int) -> None:
    """Wait for the processes of an ended group, where they have become ours: a container's first process inherits them,
    and without this they stay as zombies until it ends."""
    ends = asyncio.get_running_loop().time() + _REST_SECONDS
    with suppress(ChildProcessError):  # there are none
        while asyncio.get_running_loop().time() < ends:
            if os.waitpid(-group, os.WNOHANG) == (0, 0):
                await asyncio.sleep(0.01)


async def _read(reader: asyncio.StreamReader, printed: bytearray, limit_bytes: int) -> None:
    while part := await reader.read(_PART_BYTES):
        printed += part[: max(0, limit_bytes - len(printed))]
