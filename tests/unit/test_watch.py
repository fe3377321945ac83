"""The audit hook bites, and only where it should."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.watch import OutsideTouchedError, Watch


@pytest.fixture
def planted(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[], object]]:
    """A function of a module that looks like the package's own."""
    monkeypatch.setattr(watch, "_package", str(tmp_path.resolve()))
    monkeypatch.syspath_prepend(tmp_path)

    def plant(body: str) -> Callable[[], object]:
        name = f"planted_{abs(hash(body))}"
        (tmp_path / f"{name}.py").write_text(f"def touch():\n    {body}\n")
        touch: Callable[[], object] = __import__(name).touch
        return touch

    return plant


@pytest.mark.parametrize(
    "body",
    [
        "return open(__file__)",
        "import pathlib; return pathlib.Path(__file__).read_bytes()",
        "import socket; return socket.socket()",
        "import os; return os.listdir('/')",
        "import subprocess, sys; return subprocess.run([sys.executable, '-c', ''])",
        "import tempfile; return tempfile.mkdtemp()",
    ],
)
def test_pure_code_that_touches_the_outside_fails(
    planted: Callable[[str], Callable[[], object]], watch: Watch, body: str
) -> None:
    touch = planted(body)
    watch.hold("pure")
    with pytest.raises(OutsideTouchedError):
        touch()
    assert watch.release()


def test_a_swallowed_failure_is_seen_all_the_same(planted: Callable[[str], Callable[[], object]], watch: Watch) -> None:
    touch = planted("import contextlib\n    with contextlib.suppress(BaseException):\n        open(__file__)")
    watch.hold("pure")
    touch()
    assert watch.release()


def test_pure_code_may_import(planted: Callable[[str], Callable[[], object]], watch: Watch) -> None:
    sys.modules.pop("this", None)
    touch = planted("import colorsys; return colorsys")
    sys.modules.pop("colorsys", None)
    watch.hold("pure")
    touch()
    assert not watch.release()


def test_the_test_itself_may_read_its_golden_files(watch: Watch) -> None:
    watch.hold("pure")
    Path(__file__).read_bytes()
    assert not watch.release()


def test_no_unit_test_reaches_the_network(watch: Watch) -> None:
    watch.hold("no-network")
    with socket.socket() as connection, pytest.raises(OutsideTouchedError):
        connection.connect(("127.0.0.1", 9))
    with pytest.raises(OutsideTouchedError):
        socket.getaddrinfo("localhost", 9)
    assert len(watch.release()) == 2


def test_an_event_loop_runs_without_a_network(watch: Watch) -> None:
    watch.hold("no-network")
    asyncio.run(asyncio.sleep(0))
    assert not watch.release()
