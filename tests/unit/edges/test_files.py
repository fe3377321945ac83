"""Reading bounded, writing whole or not at all, directories and locks of one user."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wif.edges.files import (
    NotRegular,
    directory_locked,
    locked,
    private_directory,
    read_bounded,
    read_private,
    remove_leftovers,
    write_atomically,
)
from wif.errors import ConfigurationError

posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX'")


def unusable(words: str) -> pytest.RaisesExc[ConfigurationError]:
    return pytest.RaisesExc(ConfigurationError, match=words, check=lambda error: error.code == "file-unusable")


def test_a_file_is_read_up_to_one_byte_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    assert read_bounded(path, 100) == b"x" * 100
    assert read_bounded(path, 50) == b"x" * 51
    assert read_bounded(str(path), 1000) == b"x" * 100


def test_an_endless_device_a_fifo_and_a_directory_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    started = time.monotonic()
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(NotRegular):
            read_bounded(path, 10)
    with pytest.raises(IsADirectoryError):
        read_bounded(tmp_path, 10)
    assert time.monotonic() - started < 1


def test_a_missing_file_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "no", 10)


def test_a_link_is_followed_unless_somebody_else_may_have_put_it_there(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to("target")
    assert read_bounded(tmp_path / "link", 10) == b"x"
    assert read_bounded(tmp_path / "target", 10, follow_links=False) == b"x"
    with pytest.raises(OSError, match="symbolic links"):
        read_bounded(tmp_path / "link", 10, follow_links=False)


def test_a_swapped_symlink_gives_the_old_content_or_the_new(tmp_path: Path) -> None:
    """As the kubelet's atomic writer swaps ``..data``."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(name * 1000)
    (tmp_path / "..data").symlink_to("a")
    (tmp_path / "token").symlink_to("..data/token")
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            (tmp_path / "..tmp").symlink_to("ab"[turn % 2])
            (tmp_path / "..tmp").replace(tmp_path / "..data")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = {read_bounded(tmp_path / "token", 2000) for _ in range(3000)}
    finally:
        stop.set()
        thread.join()
    assert seen == {b"a" * 1000, b"b" * 1000}


@posix
def test_a_written_file_has_its_mode_whatever_the_umask_says(tmp_path: Path) -> None:
    old = os.umask(0o777)
    try:
        write_atomically(tmp_path / "f", b"one")
        write_atomically(tmp_path / "g", b"two", mode=0o644)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o644
    assert (tmp_path / "f").read_bytes() == b"one"


@posix
def test_a_looser_file_is_replaced_by_a_tight_one(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symlink_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("target")
    write_atomically(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"kept"


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with unusable("is a directory"):
        write_atomically(tmp_path / "directory", b"x")
    with unusable("no such file"):
        write_atomically(tmp_path / "no" / "f", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["directory"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"a" * 100_000)
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for letter in (b"a", b"b"):
                write_atomically(path, letter * 100_000)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for _ in range(200):
            assert read_bounded(path, 200_000) in (b"a" * 100_000, b"b" * 100_000)
    finally:
        stop.set()
        thread.join()


def test_a_private_file_is_read_and_a_missing_one_is_none(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", b"secret")
    assert read_private(tmp_path / "f", 100) == b"secret"
    assert read_private(tmp_path / "no", 100) is None


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o660, 0o666])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    write_atomically(tmp_path / "f", b"secret", mode=mode)
    with unusable(f"mode {mode:04o}, expected 0600"):
        read_private(tmp_path / "f", 100)


@posix
def test_a_private_file_is_no_symlink_no_directory_and_no_fifo(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", b"secret")
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with unusable("symlink"):
        read_private(tmp_path / "link", 100)
    with unusable("directory"):
        read_private(tmp_path, 100)
    with unusable("not a regular file"):
        read_private(tmp_path / "fifo", 100)


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", b"secret")
    os.chown(tmp_path / "f", 12345, 12345)
    with unusable("belongs to user 12345"):
        read_private(tmp_path / "f", 100)
    (tmp_path / "d").mkdir(mode=0o700)
    os.chown(tmp_path / "d", 12345, 12345)
    with unusable("belongs to user 12345"):
        private_directory(tmp_path / "d")


@posix
def test_a_private_directory_is_made_and_checked(tmp_path: Path) -> None:
    made = private_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE(Path(made).stat().st_mode) == 0o700
    assert private_directory(made) == made
    Path(made).chmod(0o750)
    with unusable("mode 0750, expected 0700"):
        private_directory(made)
    (tmp_path / "link").symlink_to("a")
    with unusable("symlink"):
        private_directory(tmp_path / "link")
    (tmp_path / "file").write_bytes(b"")
    with unusable("file exists"):
        private_directory(tmp_path / "file")


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    inside = 0
    most = 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path / "lock", timeout_seconds=20):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_of_another_process_is_waited_for_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = (
        "import sys, time\nfrom wif.edges.files import locked\n"
        f"with locked({str(lock)!r}):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with unusable("still held"), locked(lock, timeout_seconds=0.2):
            pytest.fail("two hold one lock")
        holder.kill()
        with locked(lock, timeout_seconds=5):
            pass


@posix
def test_a_lock_is_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("elsewhere")
    with unusable("symlink"), locked(tmp_path / "lock"):
        pytest.fail("followed")
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_is_locked_by_one_at_a_time_and_nothing_stays_behind(tmp_path: Path) -> None:
    with directory_locked(tmp_path) as first:
        assert first
        with directory_locked(tmp_path, timeout_seconds=0.05) as second:
            assert not second, "who cannot have it goes on without"
    with directory_locked(tmp_path, timeout_seconds=0.05) as again:
        assert again
    with directory_locked(tmp_path / "nowhere") as nothing:
        assert not nothing
    assert not list(tmp_path.iterdir())


def test_only_old_temporary_files_of_this_path_are_removed(tmp_path: Path) -> None:
    names = [".f.0123456789ab", ".f.0123456789ac", ".f.0123456789abc", ".f.0123456789a", ".fx.0123456789ab", "f"]
    for name in names:
        (tmp_path / name).write_text("")
    for name in (name for name in names if name != ".f.0123456789ac"):
        os.utime(tmp_path / name, (1, 1))
    remove_leftovers(tmp_path / "f", older_than_seconds=60)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names[1:])
    remove_leftovers(tmp_path / "nowhere" / "f", older_than_seconds=60)
