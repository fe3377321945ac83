"""A small process that runs servers for another one and ends them in order, however that one ends.

Started as a script with nothing but the standard library. It starts the programs in their order, prints one JSON
line with their process ids, and waits: for its standard input to close (the parent has gone, even by SIGKILL),
for a signal, or for one of these programs to end by itself. Then it stops the rest in reverse order, each with
SIGTERM and after the grace time SIGKILL, and removes the directory it was given. A kube-apiserver whose etcd goes
first may ignore SIGTERM for good, hence the order. Where Linux offers it, the programs are killed if this process is.

Meanwhile it obeys commands, one JSON object a line on its standard input, each answered by one line:
``{"start": PROGRAM}`` with ``pid`` (or ``error``), ``{"stop": PID}`` and ``{"look": PID}`` with ``status`` (None while
it runs) and ``log``. What was started so is stopped before what was there from the beginning, and may end by itself.
"""

from __future__ import annotations

__all__ = ["main"]

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

_PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""
_LOG_BYTES = 16 * 1024
"""How much of a log a report holds; under the 64 KiB that a pipe takes without a reader."""
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    log: str
    is_vital: bool
    """Everything ends with it."""


def main(task: dict[str, Any]) -> None:
    """Run a task: ``programs`` (``argv``, ``log``), ``grace_seconds`` and ``remove``, a directory or None."""
    wakes, woken = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_STOP_SIGNALS):
        signal.signal(number, _ignore)
    children: list[_Child] = []
    try:
        for program in task["programs"]:
            children.append(_start(program, is_vital=True))
        _say({"pids": [child.process.pid for child in children]})
        ended = _serve(children, wakes, task["grace_seconds"])
        if ended is not None:
            name = os.path.basename(str(ended.process.args[0]))  # type: ignore[index]  # noqa: PTH119 - see _start
            _say({"exited": name, **_report(ended)})
    finally:
        for child in reversed(children):
            _stop(child.process, task["grace_seconds"])
        if task["remove"]:
            shutil.rmtree(task["remove"], ignore_errors=True)


def _serve(children: list[_Child], wakes: socket.socket, grace_seconds: float) -> _Child | None:
    """Obey until the end, and return which vital program ended by itself, if one did."""
    unread = b""
    while True:
        readable, _, _ = select.select([sys.stdin, wakes], [], [])
        if sys.stdin in readable:
            data = os.read(sys.stdin.fileno(), 65_536)
            if not data:
                return None
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                _say(_obey(json.loads(line), children, grace_seconds))
        if wakes in readable and set(wakes.recv(4096)) & set(_STOP_SIGNALS):
            return None
        for child in children:
            if child.is_vital and child.process.poll() is not None:
                return child


def _obey(command: dict[str, Any], children: list[_Child], grace_seconds: float) -> dict[str, Any]:
    if "start" in command:
        try:
            children.append(_start(command["start"], is_vital=False))
        except OSError as error:
            return {"error": str(error)}
        return {"pid": children[-1].process.pid}
    pid = command["stop"] if "stop" in command else command["look"]
    child = next((child for child in children if child.process.pid == pid), None)
    if child is None:
        return {"error": "no such program"}
    if "stop" in command:
        children.remove(child)
        _stop(child.process, grace_seconds)
    return _report(child)


def _report(child: _Child) -> dict[str, Any]:
    return {"status": child.process.poll(), "log": _tail(child.log)}


def _start(program: dict[str, Any], *, is_vital: bool) -> _Child:
    with open(program["log"], "ab") as log:  # noqa: PTH123 - starts faster without pathlib
        process = subprocess.Popen(  # noqa: S603 - what it runs is what its parent says
            program["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - this process has one thread
        )
    return _Child(process, program["log"], is_vital)


def _say(report: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        print(json.dumps(report), flush=True)  # noqa: T201 - this is how the parent hears


def _tail(log: str) -> str:
    with open(log, "rb") as file:  # noqa: PTH123 - see _start
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOG_BYTES))
        return file.read().decode(errors="replace")


def _stop(child: subprocess.Popen[bytes], grace_seconds: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        child.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _die_with_parent() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _ignore(number: int, frame: object) -> None:
    """The wake-up byte is what counts; without a handler of Python's own none is written."""


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
