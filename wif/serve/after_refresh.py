"""What happens when a file has been written anew: a process gets a signal, or a command is run.

No shell, a bounded time, one at a time for each file; what a command prints goes to the log, with the credential
taken out of it.
"""

from __future__ import annotations

__all__ = ["Afterwards", "processes_named", "send_signal"]

import asyncio
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from wif.edges.files import read_bounded
from wif.serve.commands import CommandFailed, run_command

if TYPE_CHECKING:
    from wif.config.sidecar import AfterRefresh, FileOutput

_LOGGER = logging.getLogger("wif.serve")

COMMAND_SECONDS = 30.0
"""For one command: then it is ended with all that it started."""
_OUTPUT_BYTES = 4096
"""Of a command's output that the log shows."""
_COMM_BYTES = 15
"""As much of a program's name as the kernel keeps."""
_SECRET_VARIABLES = ("IDENTITY_HEADER",)


class Afterwards:
    """Begins what is asked for, and keeps two of the same file from running at once.

    Args:
        environ: of the commands, without the sidecar's own secrets.
    """

    def __init__(self, environ: Mapping[str, str], *, command_seconds: float = COMMAND_SECONDS) -> None:
        self._environ = {name: value for name, value in environ.items() if name not in _SECRET_VARIABLES}
        self._command_seconds = command_seconds
        self._tasks: dict[FileOutput, asyncio.Task[None]] = {}
        self._again: dict[FileOutput, tuple[str, ...]] = {}
        self.failures = 0
        """Commands that failed and signals that reached nobody."""

    def begin(self, file: FileOutput, secrets: tuple[str, ...]) -> None:
        """Do what the file asks for, on the running event loop.

        Args:
            file: it has been written.
            secrets: what it holds, to be kept out of the log.
        """
        if file.after is None:
            return
        if file in self._tasks:
            self._again[file] = secrets  # the command under way may have read the file before
            return
        self._tasks[file] = asyncio.get_running_loop().create_task(self._act(file, file.after, secrets))

    async def _act(self, file: FileOutput, after: AfterRefresh, secrets: tuple[str, ...]) -> None:
        try:
            if after.command:
                is_done = await self._run(file, after.command, secrets)
            else:
                is_done = await asyncio.to_thread(send_signal, after)
            self.failures += not is_done
        finally:
            del self._tasks[file]
        if file in self._again:
            self.begin(file, self._again.pop(file))

    async def _run(self, file: FileOutput, command: Sequence[str], secrets: tuple[str, ...]) -> bool:
        fields = {"identity": file.identity, "program": command[0]}
        longest = max(map(len, secrets), default=0)
        try:
            status, printed = await run_command(
                command,
                environ={**self._environ, "WIF_FILE": file.path, "WIF_IDENTITY": file.identity},
                limit_bytes=_OUTPUT_BYTES + longest,
                timeout_seconds=self._command_seconds,
                with_stderr=True,
            )
        except CommandFailed as error:
            _LOGGER.error("the command after a refresh %s", error, extra={"wif": fields})
            return False
        text = _redacted(printed.decode(errors="replace"), secrets)
        if len(printed) == _OUTPUT_BYTES + longest:
            text = text[: max(0, len(text) - longest)]  # the cut may have gone through a secret
        level = logging.INFO if status == 0 else logging.ERROR
        _LOGGER.log(
            level, "the command after a refresh ended", extra={"wif": fields | {"status": status, "output": text}}
        )
        return status == 0


def _redacted(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        for part in (secret, *secret.split(".")):
            if len(part) >= 8:
                text = text.replace(part, "(secret)")
    return "".join(c if c.isprintable() else " " for c in text).strip()


def send_signal(after: AfterRefresh) -> bool:
    """Send a signal as the settings say; False where it reached nobody. Blocks on files."""
    found = _named_by_file(after.pid_file) if after.pid_file is not None else processes_named(after.process or "")
    number, reached = signal.Signals[f"SIG{after.signal}"], 0
    for each in found:
        try:
            os.kill(each, number)
        except OSError as error:
            _LOGGER.error("process %d gets no signal: %s", each, error.strerror)
        else:
            reached += 1
    if not found:
        what = "the pid file names none" if after.pid_file is not None else "none of that name is seen from here"
        _LOGGER.warning("no process gets the signal %s: %s", number.name, what)
    return reached > 0


def _named_by_file(path: str) -> list[int]:
    try:
        text = read_bounded(path, 64).decode("ascii", "replace").strip()
    except OSError as error:
        _LOGGER.error("the pid file %s cannot be read: %s", path, error.strerror)
        return []
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    # 0 and below are groups, and a signal to this process itself would end it
    return [number] if number > 0 and number != os.getpid() else []


def processes_named(name: str, *, directory: str = "/proc") -> list[int]:
    """Numbers of the processes of a name that this one sees, itself left out: its own pod's where the pod shares its
    process namespace, else its own container's. Empty where the system has no ``/proc``."""
    found = []
    try:
        entries = os.listdir(directory)  # noqa: PTH208  # no pathlib in a small process
    except OSError:
        return []
    for entry in entries:
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with suppress(OSError):  # it has ended meanwhile
            if _is_named(f"{directory}/{entry}", name):
                found.append(int(entry))
    return sorted(found)


def _is_named(folder: str, name: str) -> bool:
    with open(f"{folder}/comm", "rb") as file:  # noqa: PTH123
        comm = file.read(64).rstrip(b"\n")
    if comm != os.fsencode(name)[:_COMM_BYTES]:
        return False
    if len(comm) < _COMM_BYTES:
        return True
    with open(f"{folder}/cmdline", "rb") as file:  # noqa: PTH123  # the kernel has cut the name: look at the words
        words = file.read(8192).split(b"\0")
    return any(os.path.basename(word) == os.fsencode(name) for word in words[:2])  # noqa: PTH119
