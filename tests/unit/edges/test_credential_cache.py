"""The disk cache: what is served, for how long, and whose files are refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.edges.credential_cache import (
    LONGEST_LIFE_SECONDS,
    MAX_ENTRY_BYTES,
    CacheUnusable,
    CredentialCache,
    encode_key,
    is_warm,
)
from wif.errors import ConfigurationError

NOW = 1_800_000_000.0
KEY = encode_key(("aws", "https://issuer.example", "system:serviceaccount:a:b"))
ANSWER = {"Version": 1, "AccessKeyId": "ASIAEXAMPLE"}


def put(cache: CredentialCache, *, key: str = KEY, now: float = NOW, life: float = 3600.0) -> None:
    cache.write(key, ANSWER, now=now, expires_at=now + life, lifetime_seconds=life)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def entry_of(folder: Path) -> Path:
    (found,) = [path for path in folder.iterdir() if path.suffix == ".json"]
    return found


def test_an_answer_comes_back_from_private_files(folder: Path) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        assert cache.read(KEY, NOW) is None
        put(cache)
        answer = cache.read(KEY, NOW + 1)
        assert answer is not None
        assert json.loads(answer) == ANSWER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry_of(folder).stat().st_mode) == 0o600
    cache.close()


@pytest.mark.parametrize(
    ("life", "age", "served"),
    [
        (3600, 2600, True),  # 1000 s left: more than botocore's window
        (3600, 2650, False),  # 950 s left: botocore would ask again at once
        (3600, 3700, False),
        (900, 700, True),  # a life too short for the window: the last fifth is not served
        (900, 730, False),
        (3600, -50, True),  # a clock that differs a little
        (3600, -70, False),  # a clock that went back
    ],
)
def test_how_long_an_answer_is_served(folder: Path, life: float, age: float, served: bool) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        put(cache, life=life)
        assert (cache.read(KEY, NOW + age) is not None) == served


def test_a_wrong_local_clock_cannot_lengthen_a_life(folder: Path) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        cache.write(KEY, ANSWER, now=NOW, expires_at=NOW + 7200, lifetime_seconds=1000)
        assert cache.read(KEY, NOW + 900) is None
        cache.write(KEY, ANSWER, now=NOW, expires_at=NOW + 1000, lifetime_seconds=7200)
        assert cache.read(KEY, NOW + 900) is None


def test_another_key_in_the_same_file_is_not_served(folder: Path) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        put(cache)
        entry = json.loads(entry_of(folder).read_text())
        entry["key"] += "x"
        entry_of(folder).write_text(json.dumps(entry))
        assert cache.read(KEY, NOW) is None


BROKEN = {
    "empty": b"",
    "cut": b'{"format": 1, "key"',
    "no object": b"[]",
    "binary": b"\xff\x00",
    "deep": b"[" * 60_000,
    "too large": b" " * (MAX_ENTRY_BYTES + 1),
    "another format": json.dumps({"format": 2, "key": KEY, "answer": {}}).encode(),
    "no answer": json.dumps(
        {"format": 1, "key": KEY, "answer": 1, "written_at": NOW, "expires_at": NOW + 3600, "lifetime_seconds": 3600}
    ).encode(),
    "no times": json.dumps({"format": 1, "key": KEY, "answer": {}}).encode(),
    "times of another type": json.dumps(
        {"format": 1, "key": KEY, "answer": {}, "written_at": True, "expires_at": "x", "lifetime_seconds": None}
    ).encode(),
    "times beyond all floats": json.dumps(
        {"format": 1, "key": KEY, "answer": {}, "written_at": NOW, "expires_at": 10**400, "lifetime_seconds": 10**400}
    ).encode(),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_entry_is_a_cold_one(folder: Path, data: bytes) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        put(cache)
        entry_of(folder).write_bytes(data)
        assert cache.read(KEY, NOW) is None
        put(cache)
        assert cache.read(KEY, NOW) is not None


def test_what_is_not_private_is_refused(folder: Path, tmp_path: Path) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        put(cache)
        entry = entry_of(folder)
        for mode in (0o640, 0o604, 0o620, 0o601):
            entry.chmod(mode)
            with pytest.raises(CacheUnusable, match="open to others"):
                cache.read(KEY, NOW)
        entry.chmod(0o600)
        entry.rename(tmp_path / "elsewhere")
        entry.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CacheUnusable, match="cannot be opened"):
            cache.read(KEY, NOW)
        entry.unlink()
        os.mkfifo(entry, 0o600)
        with pytest.raises(CacheUnusable, match="no regular file"):
            cache.read(KEY, NOW)


@pytest.mark.parametrize("create", [True, False])
def test_a_directory_that_is_not_private_is_refused(folder: Path, tmp_path: Path, create: bool) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o710)
    with pytest.raises(CacheUnusable):
        CredentialCache(str(folder), create=create)
    folder.chmod(0o700)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(CacheUnusable):
        CredentialCache(str(tmp_path / "link"), create=create)
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnusable):
        CredentialCache(str(tmp_path / "file"), create=create)


def test_a_directory_is_made_only_when_asked(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CredentialCache(str(folder))
    assert not folder.exists()
    with CredentialCache(str(folder), create=True):
        pass
    assert folder.is_dir()


def test_somebody_elses_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        put(cache)
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        with pytest.raises(CacheUnusable, match="belongs to user"):
            cache.read(KEY, NOW)
        with pytest.raises(CacheUnusable, match="belongs to user"):
            CredentialCache(str(folder))


def test_a_system_without_owners_has_no_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "geteuid")
    with pytest.raises(CacheUnusable, match="POSIX"):
        CredentialCache(str(folder))


def test_what_cannot_be_written_is_said(folder: Path) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        put(cache)
        entry = entry_of(folder)
        entry.unlink()
        entry.mkdir()
        with pytest.raises(CacheUnusable):
            put(cache)
        (entry / "x").write_text("")
        with pytest.raises(CacheUnusable, match="cannot be removed"):
            cache.clear()


def test_old_rubbish_goes_and_other_files_stay(folder: Path) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        put(cache, key=KEY + "old")
        old = entry_of(folder)
        os.utime(old, (NOW - LONGEST_LIFE_SECONDS - 1,) * 2)
        (folder / "notes.txt").write_text("mine")
        os.utime(folder / "notes.txt", (0, 0))
        put(cache)
        assert not old.exists()
        assert (folder / "notes.txt").exists()
        with cache.lock(KEY, timeout_seconds=1):
            pass
        assert cache.clear() == 1
        assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_held_lock_is_waited_for_and_not_for_ever(folder: Path) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        with cache.lock(KEY, timeout_seconds=1):
            with pytest.raises(ConfigurationError, match="held"), cache.lock(KEY, timeout_seconds=0.05):
                pass
            with cache.lock(KEY + "other", timeout_seconds=0.05):
                pass
        with cache.lock(KEY, timeout_seconds=0.05):
            pass


@given(st.lists(st.text()), st.lists(st.text()))
def test_two_keys_are_equal_only_if_their_parts_are(one: list[str], two: list[str]) -> None:
    assert (encode_key(one) == encode_key(two)) == (one == two)


def test_parts_cannot_be_shifted_into_each_other() -> None:
    assert encode_key(["a,b"]) != encode_key(["a", "b"])
    assert encode_key(["a,1:b", "c"]) != encode_key(["a", "b", "c"])
    assert encode_key(["", "ab"]) != encode_key(["a", "b"])


def test_any_code_point_of_a_claim_can_stand_in_a_key(folder: Path) -> None:
    with CredentialCache(str(folder), create=True) as cache:
        for odd in ("\ud800", "\udcff", "\0/..", "😀"):
            key = encode_key(("aws", odd))
            put(cache, key=key)
            assert cache.read(key, NOW) is not None
    assert all(path.name.isascii() for path in folder.iterdir())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(KEY),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from(["format", "key", "written_at", "expires_at", "lifetime_seconds", "answer"]),
        JSON | st.just(1) | st.just(NOW),
    )
)
def test_no_entry_is_warm_by_accident(entry: dict[str, Any]) -> None:
    if is_warm(entry, KEY, NOW):
        assert entry["key"] == KEY
        assert isinstance(entry["answer"], dict)
        assert entry["expires_at"] > NOW
