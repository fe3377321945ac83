"""What happens after a file was written: signals to real processes, commands that fail, hang and talk too much."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serve.thread_limit import LimitedThreads
from wif.config.sidecar import AfterRefresh, FileOutput
from wif.serve.after_refresh import Afterwards, processes_named, send_signal

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

SECRET = "eyJhbGciOiJub25lIn0.c2VjcmV0LXBheWxvYWQ.c2lnbmF0dXJl"
WAIT_SECONDS = 10.0
_LISTENER = """
import signal, sys, time
signal.signal(signal.SIGHUP, lambda *_: (print("hung up", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(30)
"""


def output(folder: Path, **after: Any) -> FileOutput:
    return FileOutput(identity="app", kind="federated-token", path=str(folder / "token"), after=AfterRefresh(**after))


def act(*files: FileOutput, environ: dict[str, str] | None = None, seconds: float = 5.0, times: int = 1) -> Afterwards:
    """Begin for each file, and wait for everything to end."""

    async def begin() -> Afterwards:
        afterwards = Afterwards(os.environ if environ is None else environ, command_seconds=seconds)
        for _ in range(times):
            for file in files:
                afterwards.know(file.path, [SECRET])
                afterwards.begin(file)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)
        return afterwards

    return asyncio.run(begin())


@contextmanager
def listener(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that ends well when it gets SIGHUP."""
    with subprocess.Popen(
        [*(command or (sys.executable,)), "-c", _LISTENER], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def test_a_signal_by_pid_file(tmp_path: Path) -> None:
    with listener() as child:
        (tmp_path / "pid").write_text(f"{child.pid}\n")
        done = act(output(tmp_path, signal="HUP", pid_file=str(tmp_path / "pid")))
        assert child.wait(WAIT_SECONDS) == 0
        assert done.failures == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names of processes are read from /proc")
@pytest.mark.parametrize("by_descriptor", [True, False])
def test_a_pid_file_whose_number_is_another_program_s_by_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, by_descriptor: bool
) -> None:
    if not by_descriptor:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    (tmp_path / "wif-named").symlink_to(os.path.realpath(sys.executable))
    with listener(str(tmp_path / "wif-named")) as child:
        (tmp_path / "pid").write_text(str(child.pid))
        stale = output(tmp_path, signal="HUP", pid_file=str(tmp_path / "pid"), process="wif-other")
        assert act(stale).failures == 1
        assert f"process {child.pid} gets no signal: it is not called wif-other" in caplog.text
        assert child.poll() is None
        right = output(tmp_path, signal="HUP", pid_file=str(tmp_path / "pid"), process="wif-named")
        assert act(right).failures == 0
        assert child.wait(WAIT_SECONDS) == 0


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only where a descriptor can mean a process")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_sandbox_that_refuses_descriptors_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with listener() as child:
        (tmp_path / "pid").write_text(str(child.pid))
        assert send_signal(AfterRefresh(signal="HUP", pid_file=str(tmp_path / "pid")))
        assert child.wait(WAIT_SECONDS) == 0


@pytest.mark.parametrize("content", ["", "0", "-1", "no number", "self"])
def test_a_pid_file_that_names_nobody_of_ours(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(str(os.getpid()) if content == "self" else content)
    assert act(output(tmp_path, signal="HUP", pid_file=str(tmp_path / "pid"))).failures == 1
    assert act(output(tmp_path, signal="HUP", pid_file=str(tmp_path / "nowhere"))).failures == 1


def test_a_signal_to_a_process_that_has_ended(tmp_path: Path) -> None:
    with listener() as child:
        child.kill()
        child.wait()
    (tmp_path / "pid").write_text(str(child.pid))
    assert not send_signal(AfterRefresh(signal="HUP", pid_file=str(tmp_path / "pid")))


@pytest.mark.skipif(sys.platform != "linux", reason="names of processes are read from /proc")
@pytest.mark.parametrize("name", ["wif-short", "wif-longer-than-what-the-kernel-keeps"])
def test_a_signal_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(os.path.realpath(sys.executable))
    assert processes_named(name) == []
    with listener(str(tmp_path / name)) as child:
        assert processes_named(name) == [child.pid]
        assert processes_named("wif-longer-than-another") == [], "the kernel's name alone does not decide"
        act(output(tmp_path, signal="HUP", process=name))
        assert child.wait(WAIT_SECONDS) == 0


def test_names_without_proc() -> None:
    assert processes_named("anything", directory="/nowhere") == []


def test_a_command_knows_its_file_and_not_our_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ("/bin/sh", "-c", 'echo "$WIF_FILE $WIF_IDENTITY [$IDENTITY_HEADER]"')
    with caplog.at_level(logging.INFO):
        done = act(output(tmp_path, command=words), environ={"IDENTITY_HEADER": "hidden"})
    assert done.failures == 0
    fields = caplog.records[-1].wif  # type: ignore[attr-defined]  # extra=
    assert fields == {"identity": "app", "program": "/bin/sh", "status": 0, "output": f"{tmp_path / 'token'} app []"}


def test_what_a_command_prints_is_cut_and_redacted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = f"import sys; print('x' * 4070 + {SECRET!r} + 'y' * 100_000); print({SECRET!r}, file=sys.stderr)"
    with caplog.at_level(logging.INFO):
        act(output(tmp_path, command=(sys.executable, "-c", program)))
        for ahead in range(0, len(SECRET), 7):
            act(output(tmp_path, command=(sys.executable, "-c", f"print('z' * {ahead} + {SECRET!r} * 200)")))
        act(output(tmp_path, command=(sys.executable, "-c", f"print({SECRET.split('.')[1]!r})")))
    logged = " ".join(str(record.__dict__.get("wif")) for record in caplog.records)
    for start in range(len(SECRET) - 12):
        assert SECRET[start : start + 12] not in logged
    assert len(logged) < 50_000


def test_what_the_file_held_before_holds_meanwhile_and_holds_for_others_is_redacted_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"{name}-of-an-identity" for name in ("previous", "present", "neighbour", "coming")]
    words = ("/bin/sh", "-c", f"touch {tmp_path}/began; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo $0")
    file = output(tmp_path, command=(*words, " ".join([*texts, "forgotten-by-now", "and no secret"])))

    async def rewrite_meanwhile() -> None:
        afterwards = Afterwards(os.environ, command_seconds=WAIT_SECONDS)
        afterwards.know(file.path, [texts[0]])
        afterwards.know(file.path, texts[1:3])
        afterwards.begin(file)
        while not (tmp_path / "began").exists():
            await asyncio.sleep(0.01)
        afterwards.know(file.path, texts[2:])
        (tmp_path / "go").touch()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    with caplog.at_level(logging.INFO):
        asyncio.run(rewrite_meanwhile())
    printed = caplog.records[-1].wif["output"]  # type: ignore[attr-defined]  # extra=
    assert printed == "(secret) (secret) (secret) (secret) forgotten-by-now and no secret"


@pytest.mark.parametrize(
    "held",
    [
        [[f"secret-{number}" for number in range(100_000)]],
        [["." * 1_000_000]],
        [[".".join(f"part-{number}" for number in range(10_000))]],
        [[f"{name}-secret-{number}" for number in range(1000)] for name in ("one", "other")],
    ],
    ids=["many", "large", "parts", "together"],
)
def test_what_would_take_long_to_redact_is_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, held: list[list[str]]
) -> None:
    """Other programs may write to a shared file."""

    async def begin() -> None:
        afterwards = Afterwards(os.environ, command_seconds=WAIT_SECONDS)
        for secrets in held:
            afterwards.know(file.path, secrets)
        afterwards.begin(file)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    file = output(tmp_path, command=("echo", "one-secret-1 and no secret"))
    with caplog.at_level(logging.INFO):
        asyncio.run(begin())
    fields = caplog.records[-1].wif  # type: ignore[attr-defined]  # extra=
    assert fields["status"] == 0
    assert fields["output"] == "(not shown: the file has, or had, too many secrets to look for)"


def test_a_signal_that_no_thread_can_send_has_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def begin() -> Afterwards:
        asyncio.get_running_loop().set_default_executor(LimitedThreads())
        afterwards = Afterwards(os.environ)
        afterwards.begin(output(tmp_path, signal="HUP", process="nobody-of-this-name"))
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)
        return afterwards

    assert asyncio.run(begin()).failures == 1
    assert caplog.messages[-1] == "the signal HUP is not sent: can't start new thread"


def test_what_no_command_can_have_read_any_more_is_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ("forgotten-by-now", "credential-before", "credential-of-now")
    file = output(tmp_path, command=("echo", *words))

    async def hold_one_after_another() -> None:
        afterwards = Afterwards(os.environ, command_seconds=1.0)
        afterwards.know(file.path, words[:1])
        afterwards.know(file.path, words[1:2])
        await asyncio.sleep(2.1)
        afterwards.know(file.path, words[2:])
        afterwards.begin(file)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    with caplog.at_level(logging.INFO):
        asyncio.run(hold_one_after_another())
    printed = caplog.records[-1].wif["output"]  # type: ignore[attr-defined]  # extra=
    assert printed == "forgotten-by-now (secret) (secret)"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("/bin/sh", "-c", "exit 3"), "ended"),
        (("/nowhere/at-all",), "cannot be run: No such file"),
        (("/bin/sh", "-c", "sleep 30"), "did not end within 0.3 s"),
        (("/bin/sh", "-c", "sleep 30 & wait"), "did not end within 0.3 s"),
    ],
)
def test_a_command_that_fails_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: tuple[str, ...], told: str
) -> None:
    began = time.monotonic()
    assert act(output(tmp_path, command=words), seconds=0.3).failures == 1
    assert told in caplog.text
    assert time.monotonic() - began < WAIT_SECONDS


def test_one_at_a_time_and_once_more_for_what_came_meanwhile(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = ("/bin/sh", "-c", f"echo begin >> {log}; sleep 0.2; echo end >> {log}")
    act(output(tmp_path, command=words), times=5)
    assert log.read_text().split() == ["begin", "end", "begin", "end"]


def test_nothing_to_do(tmp_path: Path) -> None:
    file = FileOutput(identity="app", kind="federated-token", path=str(tmp_path / "token"))
    assert act(file).failures == 0
