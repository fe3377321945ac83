"""What happens when a file has been written anew: a process gets a signal, or a command is run.

No shell, a bounded time, one at a time for each file; what a command prints goes to the log, without the credentials
that the file has held since the command began or just before.
"""

from __future__ import annotations

__all__ = ["Afterwards", "processes_named", "send_signal"]

import asyncio
import errno
import functools
import itertools
import logging
import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from wif.core.freshness import MAX_SUBJECT_TOKEN_BYTES
from wif.edges.files import read_bounded
from wif.serve.commands import CommandFailed, run_command
from wif.serve.threads import NoThread, in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wif.config.sidecar import AfterRefresh, FileOutput

_LOGGER = logging.getLogger("wif.serve")

COMMAND_SECONDS = 30.0
"""For one command: then it is ended with all that it started."""
_OUTPUT_BYTES = 4096
"""Of a command's output that the log shows."""
_MARGIN_BYTES = MAX_SUBJECT_TOKEN_BYTES
"""Read beyond it, so that a secret at the cut is seen as a whole."""
_SHORTEST_SECRET = 8
"""Of a part between dots: what is shorter is found everywhere."""
_COMM_BYTES = 15
"""As much of a program's name as the kernel keeps."""
_MAX_SECRETS_BYTES = 128 * 1024
"""Of all secrets that are looked for in an output. Who may write to a shared file says how many there are."""
_PART_BYTES = 64
"""That each part of them between dots counts for beside its length."""
_SECRET_VARIABLES = ("IDENTITY_HEADER",)


class _Held(NamedTuple):
    """What a file held for a while."""

    since: float
    """On the monotonic clock."""
    secrets: tuple[str, ...] | None
    """None: too many to keep."""


class Afterwards:
    """Begins what is asked for, and keeps two of the same file from running at once.

    Args:
        environ: of the commands, without the sidecar's own secrets.
    """

    def __init__(self, environ: Mapping[str, str], *, command_seconds: float = COMMAND_SECONDS) -> None:
        self._environ = {name: value for name, value in environ.items() if name not in _SECRET_VARIABLES}
        self._command_seconds = command_seconds
        self._tasks: dict[FileOutput, asyncio.Task[None]] = {}
        self._again: set[FileOutput] = set()
        self._held: dict[str, tuple[_Held, ...]] = {}
        self.failures = 0
        """Commands that failed and signals that reached nobody."""

    def know(self, path: str, secrets: Iterable[str]) -> None:
        """Keep what a file is about to hold out of the log. One thread at a time for each path.

        What it held before stays known for as long as a command may run that has read it, and twice that.
        """
        found = tuple(secrets)
        now = _Held(time.monotonic(), found if _size(found) <= _MAX_SECRETS_BYTES else None)
        oldest = now.since - 2 * self._command_seconds
        held = (*self._held.get(path, ()), now)
        self._held[path] = (*(each for each, later in itertools.pairwise(held) if later.since > oldest), now)

    def begin(self, file: FileOutput) -> None:
        """Do what a file asks for that has been written, on the running event loop."""
        if file.after is None:
            return
        if file in self._tasks:
            self._again.add(file)  # the command under way may have read the file before
            return
        self._tasks[file] = asyncio.get_running_loop().create_task(self._act(file, file.after))

    async def _act(self, file: FileOutput, after: AfterRefresh) -> None:
        try:
            if after.command:
                is_done = await self._run(file, after.command)
            else:
                is_done = await _send(after)
            self.failures += not is_done
        finally:
            del self._tasks[file]
        if file in self._again:
            self._again.remove(file)
            self.begin(file)

    async def _run(self, file: FileOutput, command: Sequence[str]) -> bool:
        fields = {"identity": file.identity, "program": command[0]}
        limit = _OUTPUT_BYTES + _MARGIN_BYTES
        try:
            status, printed = await run_command(
                command,
                environ={**self._environ, "WIF_FILE": file.path, "WIF_IDENTITY": file.identity},
                limit_bytes=limit,
                timeout_seconds=self._command_seconds,
                with_stderr=True,
            )
        except CommandFailed as error:
            _LOGGER.error("the command after a refresh %s", error, extra={"wif": fields})
            return False
        text = _redacted(printed, self._held.get(file.path, ()), is_cut=len(printed) == limit)
        level = logging.INFO if status == 0 else logging.ERROR
        _LOGGER.log(
            level, "the command after a refresh ended", extra={"wif": fields | {"status": status, "output": text}}
        )
        return status == 0


def _size(secrets: Collection[str]) -> int:
    return sum(len(each) + _PART_BYTES * (each.count(".") + 1) for each in secrets)


def _redacted(printed: bytes, held: Sequence[_Held], *, is_cut: bool) -> str:
    secrets = {secret for each in held for secret in each.secrets or ()}
    if any(each.secrets is None for each in held) or _size(secrets) > _MAX_SECRETS_BYTES:
        return "(not shown: the file has, or had, too many secrets to look for)"
    parts = {part for secret in secrets for part in (secret, *secret.split(".")) if len(part) >= _SHORTEST_SECRET}
    text = printed.decode(errors="replace")
    for part in sorted(parts, key=len, reverse=True):  # what contains another goes first
        text = text.replace(part, "(secret)")
    if is_cut:  # perhaps through a secret
        text = text[: max(0, len(text) - max(map(len, secrets), default=0))]
    return "".join(c if c.isprintable() else " " for c in text[:_OUTPUT_BYTES]).strip()


async def _send(after: AfterRefresh) -> bool:
    try:
        return await in_thread(functools.partial(send_signal, after))
    except NoThread as error:
        _LOGGER.error("the signal %s is not sent: %s", after.signal, error)
        return False


def send_signal(after: AfterRefresh) -> bool:
    """Send a signal as the settings say; False where it reached nobody. Blocks on files."""
    found = _named_by_file(after.pid_file) if after.pid_file is not None else processes_named(after.process or "")
    number, reached = signal.Signals[f"SIG{after.signal}"], 0
    for each in found:
        try:
            with _held_fast(each) as descriptor:
                _require_name(each, after.process)
                if descriptor is not None:
                    signal.pidfd_send_signal(descriptor, number)  # type: ignore[attr-defined,unused-ignore]  # Linux
                else:
                    os.kill(each, number)
        except OSError as error:
            _LOGGER.error("process %d gets no signal: %s", each, error.strerror)
        else:
            reached += 1
    if not found:
        what = "the pid file names none" if after.pid_file is not None else "none of that name is seen from here"
        _LOGGER.warning("no process gets the signal %s: %s", number.name, what)
    return reached > 0


@contextmanager
def _held_fast(number: int) -> Iterator[int | None]:
    """A descriptor that means the process which has this number now, also when another one has it later; None where
    the system has none."""
    descriptor: int | None = None
    if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
        try:
            descriptor = os.pidfd_open(number)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # an old kernel, a sandbox that does not know the call
                raise
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _require_name(number: int, name: str | None) -> None:
    """Raises OSError where the process has another name than the settings say."""
    if name is not None and not _is_named(f"/proc/{number}", name):
        raise OSError(errno.ESRCH, f"it is not called {name}")


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
