"""A program as a child of this process, as if it had been started by itself: signals, terminal, exit status.

The child stays in this process' group, so that it may read the terminal, and pipelines of a shell stay one job. What
a terminal sends (SIGINT, SIGQUIT, SIGTSTP) reaches the whole group, the child included; only what was sent to this
process alone is handed on. A shell that stops or continues the job meets both.
"""

from __future__ import annotations

__all__ = ["Child", "ProgramNotFound", "ProgramNotRunnable", "expect_children"]

import asyncio
import ctypes
import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from wif.errors import ConfigurationError

_LOGGER = logging.getLogger("wif.run")

_FORWARDED = (
    "SIGTERM",
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGUSR1",
    "SIGUSR2",
    "SIGWINCH",
    "SIGTSTP",
    "SIGCONT",
    "SIGALRM",
)
_BY_TERMINAL = ("SIGINT", "SIGQUIT", "SIGWINCH", "SIGTSTP", "SIGCONT")
"""What a terminal, or its shell, sends to every process of the group in its foreground.

A second SIGCONT would come late, and undo a stop by the next key.
"""
_BY_READING = (signal.SIGTTIN, signal.SIGTTOU)
"""What the system sends to every process of a group that uses the terminal from the background."""
_CONTINUED_SECONDS = 0.02
"""For who continues a whole group to have reached each process of it."""
_PR_GET_CHILD_SUBREAPER = 37
_REAP_SECONDS = 0.5
_SETTLE_SECONDS = 0.05
"""For who waits for a process of its own to do so."""


class ProgramNotFound(ConfigurationError):
    """There is no such program: 127 to a shell."""

    exit_status = 127


class ProgramNotRunnable(ConfigurationError):
    """The program is there and cannot be run: 126 to a shell."""

    exit_status = 126


def expect_children() -> None:
    """Have the system tell how children end, also where this process' parent ignored SIGCHLD, which exec keeps.

    Else every child ends unseen, and its status is nobody's.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Child:
    """One program.

    Args:
        command: the program, looked for in ``PATH`` of ``environ``, and its arguments.
        environ: all of its variables.
        kill_after_seconds: how long after SIGTERM it is ended by force; None is never.
    """

    def __init__(
        self, command: Sequence[str], *, environ: Mapping[str, str], kill_after_seconds: float | None = None
    ) -> None:
        self._command = list(command)
        self._environ = dict(environ)
        self._kill_after = kill_after_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._status: asyncio.Future[int] | None = None
        self._reaper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run it, on the running event loop of the main thread; from now on signals are handed on.

        It has every descriptor that this process was given: a shell's ``<(…)``, make's jobserver, sockets of systemd.
        Those of this process' own are kept from it by PEP 446.

        Raises:
            ProgramNotFound, ProgramNotRunnable: config-invalid.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._status = loop.create_future()
        expect_children()
        for name in _FORWARDED:  # before it runs: what comes meanwhile waits for the loop's next turn
            number = getattr(signal, name, None)
            # what is ignored, as nohup and shells' background jobs have it, is ignored by the child as well
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number)
        try:
            command, environ = _activated(self._command, self._environ)
            self._process = subprocess.Popen(command, env=environ, close_fds=False)  # noqa: S603  # what was typed
        except (OSError, ValueError) as error:
            raise _not_run(self._command[0], error) from error
        threading.Thread(target=self._watch, args=(self._process.pid,), name="wif-child", daemon=True).start()
        if _adopts_orphans():
            self._reaper = loop.create_task(self._reap(self._process.pid))

    @property
    def is_started(self) -> bool:
        """Whether it runs, or has run."""
        return self._process is not None

    async def wait(self) -> int:
        """Its exit status; 128 and the number of the signal that ended it."""
        assert self._status is not None  # noqa: S101  # start() was called
        try:
            while True:
                try:
                    return await asyncio.shield(self._status)
                except asyncio.CancelledError:
                    self.send(signal.SIGINT)  # it came while the program was started: it is the program's now
        finally:
            if self._reaper is not None:
                self._reaper.cancel()

    # -- signals -----------------------------------------------------------------------------------------------

    def _on_signal(self, number: signal.Signals) -> None:
        if number.name in _BY_TERMINAL and _is_foreground():
            return  # it was sent to the child as well; whether by the terminal, no portable call tells
        self.send(number)
        if number == signal.SIGTERM and self._kill_after is not None and self._loop is not None:
            self._loop.call_later(self._kill_after, self.send, signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, where it still runs."""
        if self._process is None or self._status is None or self._status.done():
            return  # its number may be another process' by now
        with suppress(ProcessLookupError, PermissionError):  # it may have become another user
            os.kill(self._process.pid, number)

    def _watch(self, pid: int) -> None:
        """Wait for its end, in a thread; stop with it where a shell waits for the job to stop."""
        seen = _Seen()
        while not seen.is_over:
            seen = _stop_or_end(pid)
            if seen.stopped_by is None:
                continue
            # one that used the terminal from the background was stopped with its whole group, this process included:
            # who reads this has been continued
            if seen.stopped_by in _BY_READING or not _is_foreground():
                _is_still_stopped(pid)
                continue
            time.sleep(_CONTINUED_SECONDS)
            if _is_still_stopped(pid):
                os.kill(os.getpid(), signal.SIGSTOP)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                self._loop.call_soon_threadsafe(self._tell, pid, seen.status)

    def _tell(self, pid: int, status: int | None) -> None:
        if self._status is not None and self._process is not None and not self._status.done():
            # waited for here, where signals are sent: until now its number is its own
            self._process.returncode = status = _exit_status(pid, status)
            self._status.set_result(status)

    # -- orphans -----------------------------------------------------------------------------------------------

    async def _reap(self, pid: int) -> None:
        """Wait for processes that are given to this one when their parents end, as the first of a container has it."""
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            while (zombie := _a_zombie()) not in (None, pid):
                await asyncio.sleep(_SETTLE_SECONDS)
                if _a_zombie() == zombie:  # nobody here waits for it
                    with suppress(ChildProcessError):
                        os.waitpid(zombie, os.WNOHANG)


def _activated(command: list[str], environ: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Hand on what a service manager has bound: ``LISTEN_PID`` must be the number of who takes it (sd_listen_fds(3)).

    Only the new process knows its number, so a shell names it and becomes the program.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return command, environ
    found = shutil.which(command[0], path=environ.get("PATH"))
    if found is None:
        return command, environ  # fails with the right words
    kept = {name: value for name, value in environ.items() if name != "LISTEN_PIDFDID"}  # the same, of newer systemd
    return ["/bin/sh", "-c", 'LISTEN_PID=$$; export LISTEN_PID; exec "$0" "$@"', found, *command[1:]], kept


class _Seen(NamedTuple):
    """What the system says of a child."""

    stopped_by: int | None = None
    """The signal."""
    is_over: bool = False
    status: int | None = None
    """As waitpid has it; None: nobody has waited for its end yet."""


def _stop_or_end(pid: int) -> _Seen:
    """Wait for either, without taking it."""
    try:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            _, status = os.waitpid(pid, os.WUNTRACED)
            return _Seen(os.WSTOPSIG(status)) if os.WIFSTOPPED(status) else _Seen(is_over=True, status=status)
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
    except ChildProcessError:
        return _Seen(is_over=True)
    return _Seen(found.si_status) if found is not None and found.si_code == os.CLD_STOPPED else _Seen(is_over=True)


def _is_still_stopped(pid: int) -> bool:
    """Take note of a stop; False where the child was continued since, or has ended."""
    if not hasattr(os, "waitid"):
        return True
    try:
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None
    except ChildProcessError:
        return False


def _exit_status(pid: int, status: int | None) -> int:
    """Of what has ended, as a shell says it."""
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1] if status is None else status)
    except ChildProcessError:
        _LOGGER.error("how the program ended is not known: it was waited for by somebody else")
        return 1
    return code if code >= 0 else 128 - code


def _a_zombie() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _adopts_orphans() -> bool:
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    found = ctypes.c_int(0)
    return ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0 and found.value == 1


def _is_foreground() -> bool:
    """Whether this process' group is the one that the terminal talks to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False  # there is none
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _not_run(program: str, error: OSError | ValueError) -> ConfigurationError:
    if isinstance(error, FileNotFoundError):
        return ProgramNotFound(
            f"the program {program!r} is not there",
            code="config-invalid",
            hint="write its path, or a name that PATH leads to",
        )
    reason = (error.strerror or "unusable") if isinstance(error, OSError) else "a zero byte in its arguments"
    hint = "a script needs its interpreter in the first line" if getattr(error, "errno", 0) == errno.ENOEXEC else None
    return ProgramNotRunnable(
        f"the program {program!r} cannot be run: {reason}", code="config-invalid", hint=hint or "look at its mode"
    )
