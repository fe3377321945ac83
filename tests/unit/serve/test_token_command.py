"""A subject token that a command prints: renewed before its end, and told when that fails."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.exchange.canned import subject_token
from tests.unit.serve.thread_limit import LimitedThreads
from wif.errors import TokenError
from wif.exchange.clocks import SYSTEM
from wif.serve.token_command import TokenCommand

WAIT_SECONDS = 10.0


def command(folder: Path, **options: Any) -> TokenCommand:
    words = ["/bin/sh", "-c", f"echo x >> {folder}/count; cat {folder}/printed"]
    return TokenCommand(words, str(folder / "token"), environ=os.environ, **options)


def prints(folder: Path, serial: int, life_seconds: float) -> str:
    now = time.time()
    token = subject_token(serial=serial, iat=now - 1, nbf=now - 1, exp=now + life_seconds)
    (folder / "printed").write_text(f"{token}\n")
    return token


def test_it_is_renewed_before_its_end_and_survives_failures(tmp_path: Path) -> None:
    async def keep() -> None:
        first, kept = prints(tmp_path, 1, 2.0), command(tmp_path)
        await kept.renew()
        assert (tmp_path / "token").read_text() == first, "without white space"
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
        (tmp_path / "printed").write_text("no token")
        kept.start()
        ends = time.monotonic() + WAIT_SECONDS
        while not kept.problems() and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        assert kept.problems() == ["no subject token: token-malformed"]
        assert (tmp_path / "token").read_text() == first
        second = prints(tmp_path, 2, 3600)
        while kept.problems() and time.monotonic() < ends + WAIT_SECONDS:  # a thread writes the file a moment before
            await asyncio.sleep(0.02)
        assert not kept.problems()
        assert (tmp_path / "token").read_text() == second
        assert (tmp_path / "count").read_text().count("x") < 10, "it pauses between tries"

    asyncio.run(keep())


def test_it_is_renewed_once_there_are_threads_again(tmp_path: Path) -> None:
    async def keep() -> None:
        limited, kept = LimitedThreads(), command(tmp_path)
        asyncio.get_running_loop().set_default_executor(limited)
        token = prints(tmp_path, 1, 3600)
        with pytest.raises(TokenError, match="can't start new thread") as caught:
            await kept.renew()
        assert caught.value.code == "token-source-failed"
        kept.start()
        ends = time.monotonic() + WAIT_SECONDS
        while limited.refused < 2 and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        assert kept.problems() == ["no subject token: token-source-failed"]
        limited.is_reached = False
        while kept.problems() and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        assert not kept.problems()
        assert (tmp_path / "token").read_text() == token

    asyncio.run(keep())


@pytest.mark.parametrize("clock", ["wall", "steady"])
def test_it_is_renewed_after_a_suspend(tmp_path: Path, clock: str) -> None:
    """The event loop's clock stands still meanwhile."""
    jumps = {"wall": 0.0, "steady": 0.0}
    clocks = SYSTEM._replace(
        wall=lambda: time.time() + jumps["wall"], steady=lambda: time.monotonic() + jumps["steady"]
    )

    async def keep() -> None:
        prints(tmp_path, 1, 3600)
        kept = command(tmp_path, clocks=clocks, longest_sleep_seconds=0.05)
        await kept.renew()
        kept.start()
        await asyncio.sleep(0.2)
        assert (tmp_path / "count").read_text().count("x") == 1, "nothing is due"
        second = prints(tmp_path, 2, 7200)
        jumps[clock] = 3000.0
        ends = time.monotonic() + WAIT_SECONDS
        while (tmp_path / "token").read_text() != second:
            assert time.monotonic() < ends
            await asyncio.sleep(0.02)

    asyncio.run(keep())


def test_an_end_that_nobody_expected_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> float:
        raise ArithmeticError

    async def keep() -> None:
        prints(tmp_path, 1, 3600)
        kept = command(tmp_path, clocks=SYSTEM._replace(steady=broken))
        await kept.renew()
        assert not kept.problems()
        kept.start()
        await asyncio.sleep(0.1)
        assert kept.problems() == ["the subject token is not renewed any more"]

    asyncio.run(keep())
    assert "not renewed any more: an unexpected ArithmeticError" in caplog.text


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["/bin/sh", "-c", "exit 1"], "token-source-failed"),
        (["/nowhere"], "token-source-failed"),
        (["echo"], "token-empty"),
        (["/bin/sh", "-c", "head -c 30000 /dev/zero | tr '\\0' a"], "token-too-large"),
    ],
)
def test_a_command_that_gives_none(tmp_path: Path, words: list[str], code: str) -> None:
    with pytest.raises(TokenError) as caught:
        asyncio.run(TokenCommand(words, str(tmp_path / "token"), environ=os.environ).renew())
    assert caught.value.code == code
    assert not (tmp_path / "token").exists()
