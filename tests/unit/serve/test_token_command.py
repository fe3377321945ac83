"""A subject token that a command prints: renewed before its end, and told when that fails."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path

import pytest

from tests.unit.exchange.canned import subject_token
from wif.errors import TokenError
from wif.serve.token_command import TokenCommand

WAIT_SECONDS = 10.0


def command(folder: Path) -> TokenCommand:
    words = ["/bin/sh", "-c", f"echo x >> {folder}/count; cat {folder}/printed"]
    return TokenCommand(words, str(folder / "token"), environ=os.environ)


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
