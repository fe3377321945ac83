"""The program of ``wif run``: status, arguments, descriptors and signals are its own; nothing stays behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.led_pod import ROLE, LedPod, pod
from tests.integration.run_processes import TELLING, WAIT_SECONDS, Runner, runner, wif_run

__all__ = ["pod", "runner"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)]
)
def test_the_program_s_status_is_ours(runner: Runner, script: str, status: int) -> None:
    runner.run("--", "/bin/sh", "-c", script, status=status)


def test_a_program_that_cannot_be_run(runner: Runner) -> None:
    assert "'nowhere-to-be-found' is not there" in runner.run("--", "nowhere-to-be-found", status=127)[1]
    (runner.folder / "plain").write_text("text")
    assert "cannot be run" in runner.run("--", "./plain", status=126)[1]


def test_arguments_are_the_program_s_own(runner: Runner) -> None:
    program = "import sys; print(sys.argv[1:])"
    words = ["--json", "-h", "--", "--log-level", "a b", ""]
    assert runner.run("--", sys.executable, "-c", program, *words)[0] == f"{words}\n"
    assert runner.run(sys.executable, "-c", program, "--help")[0] == "['--help']\n", "without -- as well"


def test_stdin_stdout_and_stderr_are_the_program_s(runner: Runner) -> None:
    out, err = runner.run("--", "/bin/sh", "-c", "cat; echo told >&2", stdin="a\nb\n")
    assert out == "a\nb\n"
    assert err.endswith("told\n")


def test_the_program_has_the_descriptors_that_wif_was_given_and_none_of_wif_s(runner: Runner) -> None:
    """A shell's ``<(…)``, make's jobserver and systemd's sockets are descriptors by number."""
    program = """
import json, os
print(json.dumps([number for number in range(64) if os.path.exists(f"/dev/fd/{number}")]), os.read(9, 99).decode())
"""
    words = shlex.join([sys.executable, "-m", "wif", "run", "--", sys.executable, "-c", program])
    done = subprocess.run(
        ["/bin/bash", "-c", f"exec 9< <(echo handed on); {words}"],
        env=runner.environment(),
        cwd=runner.folder,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    open_ones, _, told = done.stdout.strip().partition("] ")
    assert told == "handed on"
    assert json.loads(f"{open_ones}]") == [0, 1, 2, 9], "nothing of wif's own"


def test_sockets_that_a_service_manager_has_bound_are_the_program_s(runner: Runner) -> None:
    """Whoever takes them must find its own number in LISTEN_PID."""
    program = "import os, socket, sys; print(os.environ['LISTEN_PID'] == str(os.getpid()), sys.argv[1:]);"
    program += "print(socket.socket(fileno=3).getsockname()[1], 'LISTEN_PIDFDID' in os.environ)"
    launcher = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_PIDFDID": "7"}
os.execv(sys.executable, [sys.executable, "-m", "wif", "run", "--", *sys.argv[2:]])
"""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        done = subprocess.run(
            [sys.executable, "-c", launcher, str(bound.fileno()), "python3", "-c", program, "a b", ""],
            env=runner.environment(),
            cwd=runner.folder,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
            pass_fds=[bound.fileno()],
        )
        assert done.stdout == f"True ['a b', '']\n{bound.getsockname()[1]} False\n", done.stderr


@pytest.mark.parametrize("status", [0, 7])
def test_the_status_is_right_where_the_parent_ignores_sigchld(pod: LedPod, runner: Runner, status: int) -> None:
    """Ignored signals outlast exec; a child's status would be nobody's, the token command's included."""
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", ignoring, *wif_run("--token-command", f"cat {pod.tokens / 'aws'}")]
    done = subprocess.run(
        [*command, "--aws-role-arn", ROLE, "--", "/bin/sh", "-c", f"exit {status}"],
        env=runner.environment(with_identities=False),
        cwd=runner.folder,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, "")


# -- signals -------------------------------------------------------------------------------------------------------


def lines(child: subprocess.Popen[str], number: int) -> list[str]:
    assert child.stdout is not None
    return [child.stdout.readline().strip() for _ in range(number)]


def test_signals_reach_the_program_once(runner: Runner) -> None:
    names = ["SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTSTP", "SIGCONT"]
    with runner.start("--", sys.executable, "-c", TELLING, start_new_session=True) as child:
        assert lines(child, 1) == ["ready"]
        for name in names:
            child.send_signal(getattr(signal, name))
            assert lines(child, 1) == [name]
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=WAIT_SECONDS)
        assert (out, child.returncode) == ("SIGTERM\n", 5)


def test_a_program_without_handlers_ends_by_the_signal(runner: Runner) -> None:
    with runner.start("--", "/bin/sh", "-c", "echo ready; exec sleep 30") as child:
        assert lines(child, 1) == ["ready"]
        child.send_signal(signal.SIGTERM)
        assert child.wait(WAIT_SECONDS) == 128 + signal.SIGTERM


def test_a_program_that_ignores_sigterm_goes_on(runner: Runner) -> None:
    with runner.start("--", sys.executable, "-c", TELLING, "deaf") as child:
        assert lines(child, 1) == ["ready"]
        child.send_signal(signal.SIGTERM)
        assert lines(child, 1) == ["SIGTERM"]
        time.sleep(0.5)
        assert child.poll() is None, "as without wif: who sent the signal decides"
        child.kill()
        _end_orphans(runner)


def test_a_program_that_ignores_sigterm_is_ended_after_a_while(runner: Runner) -> None:
    with runner.start("--kill-after", "1s", "--", sys.executable, "-c", TELLING, "deaf") as child:
        assert lines(child, 1) == ["ready"]
        child.send_signal(signal.SIGTERM)
        assert child.wait(WAIT_SECONDS) == 128 + signal.SIGKILL


def test_what_is_ignored_stays_ignored(runner: Runner) -> None:
    """As ``nohup`` has it: a handler of ours would undo it for the program."""
    program = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    command = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-m", "wif", "run", "--"]
    done = subprocess.run(
        [*command, sys.executable, "-c", program],
        env=runner.environment(),
        cwd=runner.folder,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_while_waiting_for_the_cloud(pod: LedPod, runner: Runner, name: str) -> None:
    with pod.emulator.faults.inject(cloud="aws", delay_seconds=20) as slow, runner.start("--", "true") as child:
        ends = time.monotonic() + WAIT_SECONDS
        while not slow.taken and time.monotonic() < ends:
            time.sleep(0.01)
        child.send_signal(getattr(signal, name))
        assert child.wait(WAIT_SECONDS) == 128 + getattr(signal, name)
    assert not list(runner.runtime.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are given to another process than init on Linux only")
def test_orphans_are_waited_for_as_the_first_process_of_a_container_must(runner: Runner) -> None:
    program = """
import os, subprocess, time
for _ in range(5):
    subprocess.run(["/bin/sh", "-c", "sleep 0.2 & exit 0"])
ends = time.monotonic() + 15
while time.monotonic() < ends:
    time.sleep(0.1)
    status = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                status.append(file.read().rpartition(")")[2].split()[:2])
        except OSError:
            pass
    zombies = [1 for state, parent in status if int(parent) == os.getppid() and state == "Z"]
    if not zombies and time.monotonic() > ends - 13:
        print("clean"); break
"""
    launcher = (
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); "  # PR_SET_CHILD_SUBREAPER, kept by exec
        "os.execv(sys.executable, [sys.executable, '-m', 'wif', 'run', '--', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher, sys.executable, "-c", program],
        env=runner.environment(),
        cwd=runner.folder,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("clean\n", 0), done.stderr


# -- what a killed one leaves behind -------------------------------------------------------------------------------


def _end_orphans(runner: Runner) -> None:
    """End what a killed ``wif run`` left behind: known by the directory in its environment."""
    mark = f"XDG_RUNTIME_DIR={runner.runtime}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue


def test_what_a_killed_run_left_behind_goes_with_the_next_and_a_living_one_s_stays(pod: LedPod, runner: Runner) -> None:
    words = ("--token-command", f"cat {pod.tokens / 'aws'}", "--aws-role-arn", ROLE)
    script = "echo $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; exec sleep 30"
    environ = runner.environment(with_identities=False)
    with (
        runner.start(*words, "--", "/bin/sh", "-c", script, environ=environ) as killed,
        runner.start(*words, "--", "/bin/sh", "-c", script, environ=environ) as living,
    ):
        left, kept = (Path(lines(each, 1)[0]).parent for each in (killed, living))
        killed.kill()
        killed.wait(WAIT_SECONDS)
        assert (left / "token").exists()
        with runner.start(*words, "--", "true", environ=environ) as other:
            assert other.wait(WAIT_SECONDS) == 0
        assert list(runner.runtime.iterdir()) == [kept]
        living.terminate()
        living.wait(WAIT_SECONDS)
        _end_orphans(runner)
    assert not list(runner.runtime.iterdir())
