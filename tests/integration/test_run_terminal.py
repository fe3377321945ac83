"""``wif run`` on a terminal: keys count once, and a shell stops its jobs and continues them."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import sys
import time
from collections.abc import Sequence

import pytest

from tests.integration.led_pod import pod
from tests.integration.run_processes import TELLING, WAIT_SECONDS, Runner, runner, wif_run

__all__ = ["pod", "runner"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


class Terminal:
    """A program on a terminal of its own, typed at."""

    def __init__(self, runner: Runner, command: Sequence[str]) -> None:
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.chdir(runner.folder)
            os.execve(command[0], list(command), runner.environment())
        self.shown = ""

    def until(self, words: str) -> str:
        """Read on; what was shown before these words."""
        ends = time.monotonic() + WAIT_SECONDS
        while words not in self.shown:
            assert time.monotonic() < ends, self.shown
            if select.select([self.screen], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.screen, 4096).decode()
                except OSError as error:  # everybody has let go of it
                    raise AssertionError(f"it has ended: {self.shown}") from error
        before, _, self.shown = self.shown.partition(words)
        return before

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def end(self) -> int:
        ends = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < ends:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.screen)
                return os.waitstatus_to_exitcode(status)
            if select.select([self.screen], [], [], 0.05)[0]:
                try:
                    self.shown += os.read(self.screen, 4096).decode()
                except OSError:  # it has hung up
                    time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f"it did not end: {self.shown}")


def test_a_terminal_is_the_program_s_and_its_keys_count_once(runner: Runner) -> None:
    terminal = Terminal(runner, wif_run("--", sys.executable, "-c", TELLING))
    terminal.until("ready")
    terminal.type("\x03")
    terminal.until("SIGINT")
    time.sleep(0.3)
    terminal.type("\x1c")
    assert "SIGINT" not in terminal.until("SIGQUIT"), "the terminal has sent it to the whole group already"
    time.sleep(0.3)
    os.kill(terminal.pid, signal.SIGTERM)
    assert "SIGQUIT" not in terminal.until("SIGTERM")
    assert terminal.end() == 5


def test_a_program_reads_the_terminal(runner: Runner) -> None:
    terminal = Terminal(
        runner, wif_run("--", sys.executable, "-c", "print('is', __import__('sys').stdin.isatty(), input('? '))")
    )
    terminal.until("? ")
    terminal.type("typed\n")
    terminal.until("is True typed")
    assert terminal.end() == 0


def test_a_shell_stops_and_continues_the_job(runner: Runner) -> None:
    """The program stops itself, as an editor does on its key: the shell must get its prompt back."""
    program = """
import os, signal, time
print("working", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
print("continued", flush=True)
"""
    (runner.folder / "program.py").write_text(program)
    words = " ".join(wif_run("--log-level", "error", "--", sys.executable, "program.py"))
    terminal = Terminal(runner, ["/bin/bash", "--norc", "--noprofile", "-i"])
    terminal.type("PS1='prompt> '\n")
    terminal.until("\nprompt> ")
    terminal.type(f"{words}\n")
    terminal.until("working")
    terminal.until("prompt> ")
    terminal.type("fg\n")
    terminal.until("continued")
    terminal.until("prompt> ")
    terminal.type("exit 0\n")
    assert terminal.end() == 0


class Job(Terminal):
    """``wif run`` as a job of an interactive shell."""

    def __init__(self, runner: Runner, *program: str) -> None:
        super().__init__(runner, ["/bin/bash", "--norc", "--noprofile", "-i"])
        self.words = shlex.join(wif_run("--log-level", "error", "--", *program))
        self.type("PS1='prompt> '\n")
        self.until("\nprompt> ")

    def to_foreground(self) -> None:
        self.type("fg\n")
        self.until("\n")
        self.until("\n")  # the shell has named the job that it continues

    def leave(self) -> None:
        self.type("exit 0\n")
        assert self.end() == 0


@pytest.mark.parametrize("attempt", range(4))
def test_a_job_that_reads_from_the_background_goes_on_in_the_foreground(runner: Runner, attempt: int) -> None:
    """The system stops the whole group by SIGTTIN; ``fg`` continues it, and nothing of ours stops it again."""
    job = Job(runner, "/bin/sh", "-c", "echo read''ing; read line; echo it is \"$line\"")
    job.type(f"{job.words} &\n")
    job.until("reading")
    job.type("while jobs | grep -q Running; do sleep 0.05; done; echo has stop''ped\n")
    job.until("has stopped")
    job.until("prompt> ")
    job.type("fg\n")
    job.until("echo it is")  # the shell names the job that it continues
    job.until("\n")
    time.sleep(0.1 * attempt)
    job.type("typed\n")
    job.until("it is typed")
    job.until("prompt> ")
    job.leave()


def test_a_key_stops_the_job_and_it_goes_on_in_the_foreground(runner: Runner) -> None:
    job = Job(runner, "/bin/sh", "-c", "echo read''ing; while read line; do echo it is \"$line\"; done")
    job.type(f"{job.words}\n")
    job.until("reading")
    for number in range(3):
        job.type("\x1a")
        job.until("Stopped")
        job.until("prompt> ")
        job.to_foreground()
        job.type(f"number {number}\n")
        job.until(f"it is number {number}")
    job.type("\x04")
    job.until("prompt> ")
    job.leave()


def test_a_job_that_was_stopped_as_a_whole_goes_on_in_the_foreground(runner: Runner) -> None:
    job = Job(runner, "/bin/sh", "-c", "sleep 0.5; echo read''ing; read line; echo it is \"$line\"")
    job.type(f"{job.words} & sleep 2; kill -STOP %1; echo has stop''ped\n")
    job.until("has stopped")
    job.until("prompt> ")
    job.to_foreground()
    job.type("typed\n")
    job.until("it is typed")
    job.until("prompt> ")
    job.leave()
