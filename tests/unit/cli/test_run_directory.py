"""The directory of one run, and what killed ones have left behind."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from wif.cli.run_directory import run_directory
from wif.errors import ConfigurationError


def _left(place: Path, name: str, *, lock: bool = True, age_seconds: float = 0) -> Path:
    directory = place / name
    directory.mkdir()
    (directory / "authorization").write_text("secret")
    if lock:
        (directory / "lock").touch()
    at = directory.stat().st_mtime - age_seconds
    os.utime(directory, (at, at))
    return directory


def _run(place: Path) -> None:
    with run_directory({"XDG_RUNTIME_DIR": str(place)}):
        pass


def test_it_is_this_user_s_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    with run_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) as directory:
        assert stat.S_IMODE(Path(directory).stat().st_mode) == 0o700
        assert [str(each) for each in tmp_path.iterdir()] == [directory]
        (Path(directory) / "token").touch()
    assert not list(tmp_path.iterdir())


def test_the_system_s_place_where_there_is_none_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with run_directory({"XDG_RUNTIME_DIR": "/nowhere"}) as directory:
        assert Path(directory).parent == tmp_path


def test_a_place_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not-there"))
    with pytest.raises(ConfigurationError) as caught, run_directory({}):
        pass
    assert caught.value.code == "file-unusable"


def test_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    left = _left(tmp_path, "wif-run-killed")
    _run(tmp_path)
    assert not left.exists()


def test_what_a_living_one_has_stays_however_old(tmp_path: Path) -> None:
    left = _left(tmp_path, "wif-run-alive", age_seconds=1e6)
    with (left / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _run(tmp_path)
        assert (left / "authorization").exists()
    with run_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) as first:
        _run(tmp_path)
        assert Path(first).exists()


@pytest.mark.parametrize(("age_seconds", "stays"), [(10, True), (120, False)])
def test_without_a_lock_it_may_just_begin(tmp_path: Path, age_seconds: float, stays: bool) -> None:
    left = _left(tmp_path, "wif-run-new", lock=False, age_seconds=age_seconds)
    _run(tmp_path)
    assert left.exists() == stays


def test_other_things_stay(tmp_path: Path) -> None:
    other = _left(tmp_path, "other", age_seconds=1e6)
    (tmp_path / "wif-run-file").touch()
    (tmp_path / "wif-run-link").symlink_to(other)
    _run(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other", "wif-run-file", "wif-run-link"]
    assert (other / "authorization").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_user_s_stays(tmp_path: Path) -> None:
    left = _left(tmp_path, "wif-run-theirs", age_seconds=1e6)
    os.chown(left, 65534, 65534)
    _run(tmp_path)
    assert (left / "authorization").exists()
