"""New settings while others write to the same directories, or use up the threads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.exchange.canned import Canned, aws_keys, subject_token
from tests.unit.serve.thread_limit import LimitedThreads
from wif.config.sidecar import SidecarSettings, load_sidecar
from wif.errors import ConfigurationError
from wif.serve.sidecar_files import SidecarFiles
from wif.serve.sidecar_service import SidecarService

WAIT_SECONDS = 20.0


def settings(folder: Path, *names: str, files: Mapping[str, str]) -> SidecarSettings:
    """Roles, and files of the first one by kind."""
    (folder / "token").write_text(subject_token())
    role = "arn:aws:iam::111122223333:role"
    return load_sidecar(
        {
            "identities": {name: {"cloud": "aws", "role_arn": f"{role}/{name}"} for name in names},
            "default": {"aws": names[0]},
            "token_file": str(folder / "token"),
            "secret_file": str(folder / "authorization"),
            "listen": ["127.0.0.1:0"],
            "files": [{"identity": names[0], "kind": kind, "path": str(folder / at)} for at, kind in files.items()],
        }
    )


def service_of(given: SidecarSettings, **more: Any) -> SidecarService:
    sender = Canned({"AssumeRoleWithWebIdentity": [aws_keys()]})
    return SidecarService(given, environ={}, transport=lambda _: sender, **more)


async def until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < ends, "waited for too long"
        await asyncio.sleep(0.01)


def test_what_is_put_where_files_are_kept_keeps_no_change_from_coming_into_force(tmp_path: Path) -> None:
    files = {"shared": "aws-credentials", "linked": "aws-credentials", "raw": "federated-token"}
    service = service_of(settings(tmp_path, "app", "admin", files=files))
    service.parts.append(SidecarFiles(service.identities, service.keeper, environ={}))
    try:
        (tmp_path / "shared").write_text("[default]\naws_access_key_id = AKIA\n")
        (tmp_path / "linked").symlink_to(tmp_path / "token")
        (tmp_path / "raw").mkdir()
        with pytest.raises(ConfigurationError, match="is not there"):
            service.apply(settings(tmp_path, "app", files={**files, "nowhere/new": "federated-token"}))
        assert "admin" in service.identities.aws
        service.apply(settings(tmp_path, "app", files=files))
        assert list(service.identities.aws) == ["app"]
    finally:
        service.close()


def test_settings_are_taken_up_once_there_are_threads_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = service_of(
        settings(tmp_path, "app", "admin", files={}),
        load=lambda: settings(tmp_path, "app", files={}),
        watched=[tmp_path / "wif.yaml"],
    )

    def logged(words: str) -> int:
        return sum(words in record.getMessage() for record in caplog.records)

    async def scenario() -> None:
        limited = LimitedThreads()
        asyncio.get_running_loop().set_default_executor(limited)
        service.start()
        try:
            await until(lambda: limited.refused == 2)
            assert logged("cannot be read anew") == 1, "not for each time that it is tried"
            limited.is_reached = False
            await until(lambda: service.reloads)
            assert logged("the settings are read again") == 1
        finally:
            service.stop()
            await service.keeper.stop()

    try:
        with caplog.at_level(logging.INFO):
            asyncio.run(scenario())
        assert list(service.identities.aws) == ["app"]
    finally:
        service.close()
