"""Files that are kept: written, rewritten ahead, kept when nothing new comes, and never wrong in between."""

from __future__ import annotations

import asyncio
import configparser
import itertools
import logging
import os
import stat
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.exchange.canned import (
    NOW,
    Answer,
    Canned,
    aws_error,
    aws_keys,
    entra_token,
    google_token,
    subject_token,
)
from tests.unit.serve.thread_limit import LimitedThreads
from wif.config.sidecar import (
    AfterRefresh,
    AwsIdentity,
    AzureIdentity,
    FileOutput,
    GcpIdentity,
    Identity,
    SidecarSettings,
)
from wif.core.flow import Request, Response
from wif.core.freshness import Limits
from wif.errors import ConfigurationError, UnavailableError, WifError
from wif.exchange.clocks import Clocks
from wif.serve.first_credentials import first_credentials
from wif.serve.keeper import Keeper
from wif.serve.sidecar_files import SidecarFiles
from wif.serve.sidecar_identities import Identities

LIMITS = Limits(exchanges_per_minute=1000, attempts=1, failure_backoff_seconds=0.05, failure_backoff_max_seconds=0.1)
GCP = "projects/1/locations/global/workloadIdentityPools/p/providers/k"
TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
SCOPE = "https://vault.azure.net/.default"
WAIT_SECONDS = 10.0
DOWN = UnavailableError("the cloud is down", code="cloud-unavailable")


class Shifted:
    """A wall clock that stands at the tests' time and can be moved."""

    def __init__(self) -> None:
        self.ahead = NOW - time.time()
        self.wrong = 0.0
        """How far the wall clock alone was set wrong."""

    def clocks(self) -> Clocks:
        return Clocks(
            steady=lambda: time.monotonic() + self.ahead,
            wall=lambda: time.time() + self.ahead + self.wrong,
            monotonic=time.monotonic,
        )


class Bench:
    """Identities with prepared answers, and a directory for the files."""

    def __init__(self, folder: Path, answers: dict[str, Sequence[Answer]] | None = None) -> None:
        self.folder = folder
        self.clock = Shifted()
        self.sender = Canned(
            {
                "AssumeRoleWithWebIdentity": [aws_keys(serial) for serial in range(1, 9)],
                "token": [google_token(serial, life_seconds=3600) for serial in range(1, 9)],
                **(answers or {}),
            }
        )
        self.entra = Canned({"token": [entra_token(1)]})
        self.token = folder / "token"
        self.token.write_text(subject_token())

    def transport(self, cloud: str) -> Canned:
        return self.entra if cloud == "azure" else self.sender

    def file(self, kind: Any, name: str = "file", **changes: Any) -> FileOutput:
        identity = {"aws-credentials": "aws", "gcp-access-token": "gcp", "azure-token": "azure"}.get(kind, "gcp")
        if kind == "azure-token":
            changes.setdefault("scope", SCOPE)
        return FileOutput(**{"identity": identity, "kind": kind, "path": str(self.folder / name)} | changes)

    def settings(self, *files: FileOutput) -> SidecarSettings:
        every: dict[str, Identity] = {
            "aws": AwsIdentity(role_arn="arn:aws:iam::111122223333:role/app"),
            "other": AwsIdentity(role_arn="arn:aws:iam::111122223333:role/other"),
            "gcp": GcpIdentity(provider=GCP),
            "azure": AzureIdentity(tenant_id=TENANT, client_id=CLIENT),
        }
        used = {file.identity for file in files} or {"gcp"}
        identities = {name: identity for name, identity in every.items() if name in used}
        return SidecarSettings(
            identities=identities, token_file=str(self.token), files=files, aws_container=False, app_service=False
        )

    def run(
        self, *files: FileOutput, scenario: Callable[[SidecarFiles], Awaitable[None]], look_seconds: float = 0.05
    ) -> None:
        """Keep the files while a scenario goes on."""

        async def keep() -> None:
            identities = Identities(
                self.settings(*files),
                environ={},
                limits=LIMITS,
                clocks=self.clock.clocks(),
                transport=self.transport,
            )
            keeper = Keeper(identities, longest_sleep_seconds=0.05)
            try:
                kept = SidecarFiles(
                    identities, keeper, environ=dict(os.environ), clocks=self.clock.clocks(), look_seconds=look_seconds
                )
                keeper.start()
                kept.start()
                await asyncio.wait_for(scenario(kept), 3 * WAIT_SECONDS)
            finally:
                await keeper.stop()
                identities.close()

        asyncio.run(keep())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def until(condition: Callable[[], object], what: str = "") -> None:
    ends = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < ends, what or "waited for too long"
        await asyncio.sleep(0.01)


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("kind", "content"),
    [("gcp-access-token", "ya29.federated-1"), ("azure-token", "eyJ.entra.1"), ("federated-token", subject_token())],
)
def test_a_token_is_the_whole_file(bench: Bench, kind: str, content: str) -> None:
    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        assert (bench.folder / "file").read_bytes() == content.encode(), "no newline at the end"

    bench.run(bench.file(kind, mode=0o640), scenario=scenario)
    assert stat.S_IMODE((bench.folder / "file").stat().st_mode) == 0o640


def test_a_file_is_private_where_nobody_says_otherwise(bench: Bench) -> None:
    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())

    bench.run(bench.file("gcp-access-token"), scenario=scenario)
    assert stat.S_IMODE((bench.folder / "file").stat().st_mode) == 0o600


def test_two_roles_share_a_credentials_file(bench: Bench) -> None:
    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        parser = configparser.RawConfigParser()
        parser.read(bench.folder / "file")
        assert {parser.get(name, "aws_access_key_id") for name in ("default", "second")} == {
            "ASIA000000000001",
            "ASIA000000000002",
        }

    shared = (bench.file("aws-credentials"), bench.file("aws-credentials", identity="other", profile="second"))
    bench.run(*shared, scenario=scenario)


def test_one_role_that_is_refused_does_not_keep_the_other_from_the_file(tmp_path: Path) -> None:
    def first_only(request: Any) -> Any:
        return aws_error("AccessDenied", "no", 403) if b"other" in request.body else aws_keys(1)

    bench = Bench(tmp_path, {"AssumeRoleWithWebIdentity": [first_only]})

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: "ASIA" in text(bench.folder / "file"))
        await until(lambda: "1 of 2" in " ".join(files.problems()) and "pending" not in files.problems()[0])
        assert "other" not in files.problems()[0], "no names of identities"

    bench.run(
        bench.file("aws-credentials"),
        bench.file("aws-credentials", identity="other", profile="second"),
        scenario=scenario,
    )


def test_a_file_is_rewritten_before_what_it_holds_expires(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"token": [google_token(serial, life_seconds=2) for serial in range(1, 30)]})
    path = bench.folder / "file"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        seen: dict[str, float] = {}
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            seen.setdefault(path.read_text(), time.monotonic())
            await asyncio.sleep(0.01)
        moments = list(seen.values())
        assert len(moments) >= 3
        assert all(later - earlier < 2.0 for earlier, later in itertools.pairwise(moments)), "never expired"
        assert files.counts() == {"valid": 1, "expired": 0, "nothing": 0}

    # the keeper's word is enough: nobody waits for the next look
    bench.run(bench.file("gcp-access-token"), scenario=scenario, look_seconds=60)


def test_what_has_expired_is_kept_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path, {"token": [google_token(1, life_seconds=1), *([DOWN] * 1000)]})
    path = bench.folder / "file"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: files.counts()["expired"] == 1)
        assert path.read_text() == "ya29.federated-1"
        await until(lambda: "1 of 1 files hold no valid credential: cloud-unavailable" in files.problems())
        metrics = CollectorRegistry()
        files.register_metrics(metrics)
        assert metrics.get_sample_value("wif_sidecar_files", {"holds": "expired"}) == 1
        assert metrics.get_sample_value("wif_sidecar_file_failures_total") == 1, "each reason once, not each look"
        bench.sender.answers = {"token": [google_token(7)]}
        await until(lambda: not files.problems())
        assert path.read_text() == "ya29.federated-7", "it recovers by itself"

    with caplog.at_level(logging.INFO):
        bench.run(bench.file("gcp-access-token"), scenario=scenario)
    assert "holds what has expired" in caplog.text
    assert "ya29" not in caplog.text


def test_a_file_that_only_a_wrong_clock_called_expired_is_valid_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"token": [google_token(1, life_seconds=3600), *([DOWN] * 1000)]})

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: files.counts()["valid"] == 1)
        bench.clock.wrong = 7200.0
        await until(lambda: files.counts()["expired"] == 1)
        bench.clock.wrong = 0.0
        await until(lambda: files.counts()["valid"] == 1)
        assert files.writes == 1, "and nothing new was needed"

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


def test_a_file_that_only_a_wrong_clock_called_valid_has_expired(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"token": [google_token(1, life_seconds=2), *([DOWN] * 1000)]})
    bench.clock.wrong = 1800.0

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: files.counts()["valid"] == 1)
        bench.clock.wrong = 0.0
        await until(lambda: files.counts()["expired"] == 1)

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


def test_a_federated_token_follows_the_projected_file(bench: Bench) -> None:
    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        new = bench.folder / "new"
        new.write_text(subject_token(serial=2) + "\n")
        new.replace(bench.token)
        await until(lambda: text(bench.folder / "file") == subject_token(serial=2))

    bench.run(bench.file("federated-token"), scenario=scenario)


def test_a_projected_file_that_is_broken_for_a_moment_changes_nothing(bench: Bench) -> None:
    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        bench.token.write_text("")
        await until(lambda: files.failures == 1)
        assert text(bench.folder / "file") == subject_token()
        assert not files.problems(), "what it holds is still valid"

    bench.run(bench.file("federated-token"), scenario=scenario)


def test_a_file_that_somebody_removed_comes_back(bench: Bench) -> None:
    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        (bench.folder / "file").unlink()
        await until(lambda: text(bench.folder / "file"))

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


def _touch(path: Path) -> None:
    path.write_text("")


def _change_mode(path: Path) -> None:
    path.chmod(0o644)


def _replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("kind", ["gcp-access-token", "aws-credentials"])
@pytest.mark.parametrize("damage", [_touch, _change_mode, _replace_by_link])
def test_a_file_that_somebody_changed_is_written_again(bench: Bench, damage: Callable[[Path], None], kind: str) -> None:
    path = bench.folder / "file"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        before = path.read_text()
        damage(path)
        await until(lambda: stat.S_IMODE(path.lstat().st_mode) == 0o600 and path.read_text() == before)
        assert not path.is_symlink()
        await until(lambda: not files.problems())

    if kind == "aws-credentials" and damage is _replace_by_link:
        return  # it is refused there
    bench.run(bench.file(kind), scenario=scenario)


def test_a_link_in_the_place_of_a_shared_file_is_told_and_nothing_it_leads_to_is_shown(bench: Bench) -> None:
    path = bench.folder / "file"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        path.unlink()
        path.symlink_to(bench.token)
        await until(files.problems)
        assert files.problems() == ["1 of 1 files hold no valid credential: file-unusable"]
        await asyncio.sleep(0.2)
        assert path.is_symlink()
        path.unlink()
        await until(lambda: not files.problems())
        assert bench.token.read_text() not in path.read_text()

    bench.run(bench.file("aws-credentials"), scenario=scenario)


def test_files_are_kept_again_once_there_are_threads_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    file, second = bench.folder / "file", bench.folder / "second"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        limited = LimitedThreads()
        asyncio.get_running_loop().set_default_executor(limited)
        file.unlink()
        files.replace(bench.settings(bench.file("gcp-access-token"), bench.file("federated-token", "second")))
        await until(lambda: limited.refused > 5)
        assert files.problems() == ["1 of 2 files hold no valid credential: file-unusable"]
        assert caplog.text.count("can't start new thread") == files.failures == 2, "once for each, not for each look"
        with pytest.raises(ConfigurationError, match="second cannot be looked at"):
            await files.write_all()
        bench.clock.wrong = 7200.0
        await until(lambda: files.counts()["expired"] == 1)
        bench.clock.wrong = 0.0
        limited.is_reached = False
        await until(lambda: not files.problems() and text(file) and text(second))

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


@pytest.mark.parametrize("kind", ["gcp-access-token", "aws-credentials"])
def test_a_file_that_is_not_there_holds_nothing_valid(bench: Bench, kind: str) -> None:
    path = bench.folder / "file"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        path.unlink()
        path.mkdir()
        await until(files.problems, "a directory in its place")
        assert files.problems() == ["1 of 1 files hold no valid credential: file-unusable"]
        assert files.counts() == {"valid": 0, "expired": 0, "nothing": 1}
        path.rmdir()
        await until(lambda: not files.problems())
        assert path.is_file()

    bench.run(bench.file(kind), scenario=scenario)


def test_a_file_that_is_removed_while_its_token_is_broken_comes_back(bench: Bench) -> None:
    path = bench.folder / "file"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        bench.token.write_text("")
        await until(lambda: files.failures == 1)
        path.unlink()
        await until(lambda: text(path) == subject_token(), "what it held is still valid")
        await until(lambda: not files.problems(), "a thread has written the file a moment before")

    bench.run(bench.file("federated-token"), scenario=scenario)


def test_another_profile_in_the_file_is_no_reason_to_write(bench: Bench) -> None:
    path = bench.folder / "file"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        for serial in range(3):
            ours, whole = path.stat().st_ino, path.read_text()
            changed = bench.folder / "changed"
            changed.write_text(f"{whole}[other-{serial}]\naws_access_key_id = AKIA\n")
            changed.chmod(0o600)
            theirs = changed.stat().st_ino
            changed.replace(path)
            await asyncio.sleep(0.3)
            assert path.stat().st_ino == theirs != ours
        assert (files.writes, files.problems()) == (1, [])

    bench.run(bench.file("aws-credentials"), scenario=scenario)


def test_who_takes_the_file_again_and_again_has_it_and_it_is_told(bench: Bench) -> None:
    path = bench.folder / "file"

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        ends = time.monotonic() + WAIT_SECONDS
        while not files.problems() and time.monotonic() < ends:
            path.write_text("somebody else's")
            await asyncio.sleep(0.1)
        assert files.problems() == ["1 of 1 files hold no valid credential: displaced"]
        assert 2 <= files.writes <= 5

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


def test_looks_at_the_same_time_write_once(bench: Bench) -> None:
    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        files.replace(bench.settings())
        files.replace(bench.settings(bench.file("gcp-access-token", "second")))
        await asyncio.gather(*(files.write_all() for _ in range(5)))
        assert files.writes == 2

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


def test_what_killed_processes_left_beside_a_file_is_removed_at_the_start(bench: Bench) -> None:
    old, young = bench.folder / ".file.0123456789ab", bench.folder / ".file.ba9876543210"
    foreign = [bench.folder / name for name in (".file.0123456789abc", ".other.0123456789ab", ".file.0123456789aX")]
    folder = bench.folder / ".file.0000000000ab"
    folder.mkdir()
    for path in (old, young, *foreign):
        path.write_text("left")
    for path in (old, folder, *foreign):
        os.utime(path, (time.time() - 100, time.time() - 100))

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        assert not old.exists()
        assert all(path.exists() for path in (young, folder, *foreign))

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


def test_a_symlink_is_replaced_and_not_followed(bench: Bench) -> None:
    elsewhere = bench.folder / "elsewhere"
    elsewhere.write_text("untouched")
    (bench.folder / "file").symlink_to(elsewhere)

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        assert elsewhere.read_text() == "untouched"
        assert not (bench.folder / "file").is_symlink()

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


def test_a_reader_never_sees_a_part(bench: Bench) -> None:
    seen: set[str] = set()

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        for serial in range(2, 30):
            bench.token.write_text(subject_token(serial=serial))
            for _ in range(10):
                seen.add(text(bench.folder / "file"))
                await asyncio.sleep(0.003)

    bench.run(bench.file("federated-token"), scenario=scenario)
    assert seen <= {subject_token(serial=serial) for serial in range(30)}


def _refused(bench: Bench, *files: FileOutput) -> ConfigurationError:
    settings = bench.settings(*files)
    identities = Identities(settings, environ={}, transport=bench.transport)
    try:
        (error,) = SidecarFiles(identities, Keeper(identities), environ={}).check(settings)
    finally:
        identities.close()
    assert not bench.sender.requests, "nothing is asked of a cloud"
    return error


def test_a_directory_that_is_not_there_is_refused_at_start(bench: Bench) -> None:
    error = _refused(bench, bench.file("gcp-access-token", "nowhere/file"))
    assert (error.code, "is not there" in error.message) == ("file-unusable", True)


def test_a_directory_in_the_file_s_place_is_refused_at_start(bench: Bench) -> None:
    (bench.folder / "file").mkdir()
    assert "is a directory" in _refused(bench, bench.file("gcp-access-token")).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused_at_start(bench: Bench) -> None:
    (bench.folder / "closed").mkdir(mode=0o500)
    assert "may not be written to" in _refused(bench, bench.file("gcp-access-token", "closed/file")).message


def test_a_profile_of_somebody_else_is_refused_at_start(bench: Bench) -> None:
    path = bench.folder / "file"
    path.write_text("[default]\naws_access_key_id = AKIAMINE\n")
    assert _refused(bench, bench.file("aws-credentials")).code == "config-foreign"
    assert "AKIAMINE" in path.read_text()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * (1024 * 1024 + 1)])
def test_a_credentials_file_that_is_none_is_refused_at_start(bench: Bench, content: bytes) -> None:
    (bench.folder / "file").write_bytes(content)
    assert _refused(bench, bench.file("aws-credentials")).code == "file-unusable"


def test_only_places_that_are_new_are_looked_at_for_other_settings(bench: Bench) -> None:
    """Who may write there could else keep every change from coming into force."""

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        for name in ("file", "second"):
            (bench.folder / name).write_text("[default]\naws_access_key_id = AKIA\n")
        kept = bench.settings(bench.file("aws-credentials", mode=0o640))
        assert not files.check(kept)
        (error,) = files.check(bench.settings(*kept.files, bench.file("aws-credentials", "second")))
        assert (error.code, "second" in error.message) == ("config-foreign", True)
        files.replace(kept)
        await until(lambda: "config-foreign" in str(files.problems()))

    bench.run(bench.file("aws-credentials"), scenario=scenario)


def test_profiles_beside_ours_stay(bench: Bench) -> None:
    path = bench.folder / "file"
    path.write_text("[mine]\naws_access_key_id = AKIAMINE\n")

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        assert path.read_text().startswith("[mine]\naws_access_key_id = AKIAMINE\n[default]\n")

    bench.run(bench.file("aws-credentials"), scenario=scenario)


def test_no_secret_of_a_shared_file_comes_into_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A command that shows the whole file shows the profiles of others as well, and what it held before."""
    made: list[Bench] = []

    def distinct(request: Request) -> Response:
        serial = made[0].sender.count("AssumeRoleWithWebIdentity")
        answer = aws_keys(serial, life_seconds=2 if b"other" in request.body else 3600)
        for name in (b"sec/ret", b"session-token"):
            answer = replace(answer, body=answer.body.replace(name, b"%s-%d" % (name, serial)))
        return answer

    bench = Bench(tmp_path, {"AssumeRoleWithWebIdentity": [distinct]})
    made.append(bench)
    path = bench.folder / "file"
    path.write_text("[mine]\naws_access_key_id = AKIAMINE\naws_secret_access_key = foreign-secret\n")
    show = AfterRefresh(command=("/bin/sh", "-c", 'cat "$WIF_FILE"; sleep 0.5; cat "$WIF_FILE"'))

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: bench.sender.count("AssumeRoleWithWebIdentity") >= 5)
        await until(lambda: caplog.text.count("the command after a refresh ended") >= 3)

    with caplog.at_level(logging.INFO):
        bench.run(
            bench.file("aws-credentials", after=show),
            bench.file("aws-credentials", identity="other", profile="second", after=show),
            scenario=scenario,
        )
    fields: list[dict[str, Any]] = [getattr(record, "wif", {}) for record in caplog.records]
    printed = [each["output"] for each in fields if "output" in each]
    assert printed
    assert "(secret)" in "".join(printed)
    assert not [each for each in printed if "sec/ret" in each or "session-token" in each or "foreign-secret" in each]


def test_other_files_are_kept_after_a_reload(bench: Bench) -> None:
    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        files.replace(bench.settings(bench.file("gcp-access-token", "second")))
        await until(lambda: text(bench.folder / "second"))
        assert text(bench.folder / "file"), "nothing is removed"

    bench.run(bench.file("gcp-access-token"), scenario=scenario)


def test_a_reload_that_changes_only_how_a_file_is_kept_loses_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    path, done = bench.folder / "file", bench.folder / "done"
    after = AfterRefresh(command=("touch", str(done)))

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        assert files.writes == 1
        bench.sender.answers = {"token": [DOWN]}
        files.replace(bench.settings(bench.file("gcp-access-token", after=after)))
        assert not files.problems()
        await asyncio.sleep(0.3)
        assert (files.writes, done.exists()) == (1, False), "nothing was written, so nothing is done after it"
        files.replace(bench.settings(bench.file("gcp-access-token", after=after, mode=0o640)))
        await until(lambda: stat.S_IMODE(path.stat().st_mode) == 0o640)
        assert not files.problems()
        files.replace(bench.settings(bench.file("gcp-access-token", "second")))
        files.replace(bench.settings())

    with caplog.at_level(logging.WARNING):
        bench.run(bench.file("gcp-access-token"), scenario=scenario)
    gone = [record.getMessage() for record in caplog.records if "not kept any more" in record.getMessage()]
    assert [message.split()[0] for message in gone] == [str(path), str(bench.folder / "second")]
    assert "somebody else" not in caplog.text


def test_a_directory_that_goes_away_is_told_and_survived(bench: Bench) -> None:
    folder = bench.folder / "volume"
    folder.mkdir()

    async def scenario(files: SidecarFiles) -> None:
        await until(lambda: not files.problems())
        folder.rename(bench.folder / "away")
        await until(lambda: files.failures == 1)
        (bench.folder / "away").rename(folder)
        (folder / "file").unlink()
        await until(lambda: text(folder / "file"))

    bench.run(bench.file("gcp-access-token", "volume/file"), scenario=scenario)


def test_writing_once_raises_what_is_wrong(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"token": [google_token()]})

    async def once() -> None:
        identities = Identities(
            bench.settings(bench.file("gcp-access-token"), bench.file("federated-token", "raw")),
            environ={},
            limits=LIMITS,
            clocks=bench.clock.clocks(),
            transport=bench.transport,
        )
        try:
            files = SidecarFiles(identities, Keeper(identities), environ={}, clocks=bench.clock.clocks())
            await first_credentials(identities, wait_seconds=5)
            bench.token.write_text("")
            with pytest.raises(WifError) as caught:
                await files.write_all()
            assert caught.value.code == "token-empty"
            assert text(bench.folder / "file") == "ya29.federated-1", "the others are written"
        finally:
            identities.close()

    asyncio.run(once())


def test_writing_once_raises_for_what_holds_nothing_for_whatever_reason(bench: Bench) -> None:
    async def once() -> None:
        identities = Identities(bench.settings(bench.file("gcp-access-token")), environ={}, transport=bench.transport)
        try:
            files = SidecarFiles(identities, Keeper(identities), environ={}, clocks=bench.clock.clocks())
            with pytest.raises(WifError, match="holds no valid credential of the identity 'gcp' yet"):
                await files.write_all()  # nobody has asked for it
        finally:
            identities.close()

    asyncio.run(once())


def test_first_credentials_wait_out_an_outage_and_not_a_refusal(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"token": [DOWN, DOWN, google_token()]})

    async def wait(*files: FileOutput, seconds: float = 10) -> None:
        identities = Identities(
            bench.settings(*files),
            environ={},
            limits=LIMITS,
            clocks=bench.clock.clocks(),
            transport=bench.transport,
        )
        try:
            await first_credentials(identities, wait_seconds=seconds)
        finally:
            identities.close()

    asyncio.run(wait(bench.file("gcp-access-token")))
    bench.sender.answers = {
        "AssumeRoleWithWebIdentity": [aws_error("AccessDenied", "no", 403)],
        "token": [bench.sender.hang],
    }
    began = time.monotonic()
    with pytest.raises(WifError) as refused:
        asyncio.run(wait(bench.file("gcp-access-token"), bench.file("aws-credentials", "aws")))
    assert refused.value.cloud == "aws"
    assert time.monotonic() - began < 5, "a refusal ends the wait though another cloud has not answered"
    bench.sender.answers = {"token": [DOWN]}
    with pytest.raises(WifError, match="the cloud is down"):
        asyncio.run(wait(bench.file("gcp-access-token"), seconds=0.3))
    bench.sender.aborted.clear()
    bench.sender.answers = {"token": [bench.sender.hang]}
    with pytest.raises(WifError) as late:
        asyncio.run(wait(bench.file("gcp-access-token"), seconds=0.3))
    assert late.value.code == "timeout"
