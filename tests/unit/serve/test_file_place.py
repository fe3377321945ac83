"""One path: two that write it together, and two that each want it for themselves."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wif.clouds.aws_credentials_file import secrets_in
from wif.core.credentials import AwsCredentials
from wif.errors import ConfigurationError
from wif.serve.file_place import Content, FilePlace, require_place


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def place(path: Path, clock: Clock | None = None) -> FilePlace:
    return FilePlace(str(path), know=lambda _: None, clock=clock or Clock())


def keys(serial: int) -> Content:
    made = AwsCredentials(
        access_key_id=f"ASIA{serial}",
        secret_access_key=f"secret-{serial}",
        session_token=f"token-{serial}",
        expires_at=datetime(2026, 11, 23, tzinfo=UTC),
        lifetime_seconds=3600,
    )
    return Content(str(serial), 0.0, made)


def test_two_that_share_a_credentials_file_lose_no_profile_of_each_other(tmp_path: Path) -> None:
    path, lost = tmp_path / "file", []

    def write(profile: str) -> None:
        mine = place(path)
        for serial in range(100):
            mine.settle({profile: keys(serial)}, mode=0o600, is_new=True)
            if f"[{profile}]" not in path.read_text():
                lost.append(serial)

    names = ("a", "b", "c")
    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost
    assert [f"[{name}]" in path.read_text() for name in names] == [True, True, True]
    assert [each.name for each in tmp_path.iterdir()] == ["file"], "no lock stays behind"


def test_two_that_want_a_profile_for_themselves_do_not_write_all_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    two = [(place(tmp_path / "file", clock), {"default": keys(serial)}) for serial in (1, 2)]
    writes = [each.settle(wanted, mode=0o600, is_new=True) for each, wanted in two]
    for _ in range(1800):  # an hour of looks
        clock.now += 2
        writes += [each.settle(wanted, mode=0o600, is_new=False) for each, wanted in two]
    assert 10 < sum(writes) < 150
    assert [each.in_place for each, _ in two].count(False) == 1, "the one that has lost says so"
    assert "by somebody else" in caplog.text


def test_who_wants_another_mode_does_not_write_all_day_either(tmp_path: Path) -> None:
    clock = Clock()
    two = [(place(tmp_path / "file", clock), {str(mode): keys(mode)}, mode) for mode in (0o600, 0o640)]
    writes = [each.settle(wanted, mode=mode, is_new=True) for each, wanted, mode in two]
    for _ in range(1800):
        clock.now += 2
        writes += [each.settle(wanted, mode=mode, is_new=False) for each, wanted, mode in two]
    assert sum(writes) < 150


def test_what_is_removed_comes_back_at_once_however_often(tmp_path: Path) -> None:
    path, token = tmp_path / "file", {"default": Content("a-token", 0.0)}
    mine = place(path)
    assert mine.settle(token, mode=0o600, is_new=True)
    for _ in range(20):
        path.unlink()
        assert mine.settle(token, mode=0o600, is_new=False)
        assert mine.in_place


def test_a_profile_that_somebody_took_meanwhile_is_not_taken_back(tmp_path: Path) -> None:
    path, mine = tmp_path / "file", place(tmp_path / "file")
    mine.settle({"default": keys(1)}, mode=0o600, is_new=True)
    path.write_text("[default]\naws_access_key_id = AKIA\n")
    with pytest.raises(ConfigurationError) as caught:
        mine.settle({"default": keys(1)}, mode=0o600, is_new=False)
    assert caught.value.code == "config-foreign"
    assert not mine.in_place


@pytest.mark.parametrize("is_own", [True, False], ids=["repair", "new"])
@pytest.mark.parametrize("target", ["/proc/self/environ", "token", "loop"])
def test_a_link_to_what_only_this_process_may_read_is_not_followed(tmp_path: Path, target: str, is_own: bool) -> None:
    """What stands in a shared file stays in it: followed, a link would have a secret written into it for everybody."""
    folder = tmp_path / "shared"
    folder.mkdir()
    (tmp_path / "token").write_text("a-subject-token")
    path, mine = folder / "loop", place(folder / "loop")
    if is_own:
        mine.settle({"default": keys(1)}, mode=0o600, is_new=True)
        path.unlink()
    path.symlink_to(tmp_path / target if target == "token" else target)
    for refused in (
        lambda: mine.settle({"default": keys(1)}, mode=0o600, is_new=not is_own),
        lambda: require_place(str(path), ["default"]),
    ):
        with pytest.raises(ConfigurationError, match="is a symbolic link, which is not followed") as caught:
            refused()
        assert caught.value.code == "file-unusable"
        assert "remove the link" in caught.value.hint
    assert path.is_symlink()
    assert [each.name for each in folder.iterdir()] == ["loop"], "nothing is written"
    path.unlink()
    assert mine.settle({"default": keys(1)}, mode=0o600, is_new=not is_own)
    assert mine.in_place


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="is no regular file"):
        place(tmp_path / "file").settle({"default": keys(1)}, mode=0o600, is_new=True)


def test_a_link_to_a_directory_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "file"
    path.symlink_to("folder")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        require_place(str(path), ["default"])
    require_place(str(path), ())
    assert place(path).settle({"": Content("a-token", 0.0)}, mode=0o600, is_new=True)
    assert (path.is_symlink(), list((tmp_path / "folder").iterdir())) == (False, [])


def test_a_failure_to_write_leaves_what_is_there_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    mine = place(folder / "file")
    mine.settle({"": Content("a-token", 0.0)}, mode=0o600, is_new=True)
    (folder / "file").rename(tmp_path / "kept")
    (folder / "file").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        mine.settle({"": Content("another", 0.0)}, mode=0o600, is_new=True)
    assert not mine.in_place
    (folder / "file").rmdir()
    (tmp_path / "kept").rename(folder / "file")
    assert not mine.settle({"": Content("a-token", 0.0)}, mode=0o600, is_new=False)
    assert mine.in_place


def test_secrets_are_known_before_they_can_be_read(tmp_path: Path) -> None:
    path, seen = tmp_path / "file", list[tuple[set[str], set[str]]]()

    def know(secrets: Iterable[str]) -> None:
        seen.append((set(secrets), set(secrets_in(path.read_text()) if path.exists() else ())))

    mine = FilePlace(str(path), know=know)
    path.write_text("[other]\naws_secret_access_key = foreign\n")
    mine.settle({"default": keys(1)}, mode=0o600, is_new=True)
    mine.settle({"default": keys(2)}, mode=0o600, is_new=True, secrets=["secret-1"])
    assert seen == [
        ({"foreign", "secret-1", "token-1"}, {"foreign"}),
        ({"foreign", "secret-1", "token-1", "secret-2", "token-2"}, {"foreign", "secret-1", "token-1"}),
    ]
