"""The first credentials of all identities: how long they are waited for, and what is said when there are none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.exchange.canned import NOW, Answer, Canned, aws_error, google_token, subject_token
from wif.config.sidecar import AwsIdentity, GcpIdentity, Identity, SidecarSettings
from wif.core.freshness import Limits
from wif.errors import UnavailableError, WifError
from wif.exchange.clocks import SYSTEM
from wif.serve.first_credentials import first_credentials, prepare_files
from wif.serve.sidecar_identities import Identities

DOWN = UnavailableError("the cloud is down", code="cloud-unavailable")
PROVIDER = "projects/1/locations/global/workloadIdentityPools/p/providers/k"
ONCE = Limits(attempts=1)
OFTEN = Limits(attempts=100, backoff_seconds=0.02, backoff_max_seconds=0.02)


def settings(folder: Path, **changes: Any) -> SidecarSettings:
    identities: dict[str, Identity] = {"gcp": GcpIdentity(provider=PROVIDER)}
    (folder / "token").write_text(subject_token())
    values: dict[str, Any] = {
        "identities": identities,
        "token_file": str(folder / "token"),
        "gce_metadata": True,
    } | changes
    return SidecarSettings(**values)


class World:
    """Identities with prepared answers, at the tests' time."""

    def __init__(self, folder: Path, limits: Limits, answers: dict[str, Sequence[Answer]], **changes: Any) -> None:
        self.sender = Canned(answers)
        clocks = SYSTEM._replace(wall=lambda: NOW)
        self.identities = Identities(
            settings(folder, **changes), environ={}, limits=limits, clocks=clocks, transport=lambda _: self.sender
        )

    def wait(self, seconds: float) -> None:
        """Wait, and close."""
        try:
            asyncio.run(first_credentials(self.identities, wait_seconds=seconds))
        finally:
            self.identities.close()


def test_without_a_wait_each_is_asked_once(tmp_path: Path) -> None:
    there = World(tmp_path, ONCE, {"token": [google_token()]})
    there.wait(0)
    assert there.sender.count("token") == 1
    down = World(tmp_path, ONCE, {"token": [DOWN, google_token()]})
    with pytest.raises(WifError, match="the cloud is down"):
        down.wait(0)
    assert down.sender.count("token") == 1


def test_a_cloud_that_answers_and_gives_nothing_is_not_called_silent(tmp_path: Path) -> None:
    world = World(tmp_path, OFTEN, {"token": [DOWN]})
    with pytest.raises(WifError, match=r"'gcp' has no credential yet: \d+ requests to its cloud have brought"):
        world.wait(0.3)  # its first exchange is not over
    world = World(tmp_path, ONCE, {"token": [DOWN]})
    with pytest.raises(WifError, match="the cloud is down"):
        world.wait(0.3)
    world = World(tmp_path, ONCE, {})
    world.sender.answers = {"token": [world.sender.hang]}
    with pytest.raises(WifError, match="its cloud has not answered in time"):
        world.wait(0.3)


def test_who_is_cancelled_while_it_ends_is_cancelled(tmp_path: Path) -> None:
    both: dict[str, Identity] = {
        "aws": AwsIdentity(role_arn="arn:aws:iam::111122223333:role/app"),
        "gcp": GcpIdentity(provider=PROVIDER),
    }
    refused = aws_error("AccessDenied", "no", 403)
    world = World(tmp_path, ONCE, {"AssumeRoleWithWebIdentity": [refused]}, identities=both)
    world.sender.answers = {**world.sender.answers, "token": [world.sender.hang]}

    async def cancel_at_the_end() -> None:
        outer = asyncio.ensure_future(first_credentials(world.identities, wait_seconds=10))
        ends = time.monotonic() + 10
        while not any(task.cancelling() for task in asyncio.all_tasks()):  # the refusal has come
            assert time.monotonic() < ends
            await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    try:
        asyncio.run(cancel_at_the_end())
    finally:
        world.identities.close()


def test_settings_without_files_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nothing = settings(tmp_path, gce_metadata=False)
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(prepare_files(nothing, environ={}, wait_seconds=0.1)) == 0
    assert "the settings name no files: nothing is written" in caplog.text
