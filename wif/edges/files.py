"""Files that hold secrets: read whole and bounded, written whole or not at all, in places nobody else can change.

Modes and owners are checked where the system has them; on Windows the folder's own access list is what counts.
"""

from __future__ import annotations

__all__ = [
    "NotRegular",
    "directory_locked",
    "locked",
    "private_directory",
    "read_bounded",
    "read_private",
    "remove_leftovers",
    "replace_file",
    "sync_directory",
    "try_lock",
    "write_atomically",
]

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from wif.errors import ConfigurationError

Path = str | os.PathLike[str]

_POSIX = os.name == "posix"
_EXTRA_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_LOCK_POLL_SECONDS = (0.01, 0.25)
"""Between two looks at a lock: at first, and at most. Two hundred that all look often keep the holder from working."""


class NotRegular(OSError):
    """The path names something that is no regular file."""


def read_bounded(path: Path, limit_bytes: int, *, follow_links: bool = True) -> bytes:
    """At most ``limit_bytes`` + 1 bytes of a regular file: one byte too many says that there is more.

    The file is opened once and looked at through its descriptor, so a symlink that is swapped meanwhile (as the
    kubelet does at each rotation) gives the old content or the new, never an error between the two. A FIFO or device
    is refused without waiting for it.

    Args:
        follow_links: False where somebody else may put a link there, which would have this process read what they
            cannot: it is ELOOP then.

    Raises:
        OSError: as ``open`` and ``read`` give it; EISDIR for a directory, :class:`NotRegular` for what is no file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _EXTRA_FLAGS
    descriptor = os.open(path, flags if follow_links else flags | _NOFOLLOW)
    try:
        _require_regular(os.fstat(descriptor), path)
        return _read(descriptor, limit_bytes)
    finally:
        os.close(descriptor)


def read_private(path: Path, limit_bytes: int) -> bytes | None:
    """As :func:`read_bounded`, of a file that only this user can have written; None where there is none.

    Raises:
        ConfigurationError: file-unusable where the path is a symlink or no regular file, belongs to somebody else,
            is open to others (any mode bit of group or world), or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NOFOLLOW | _EXTRA_FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        _unusable(path, error)
    try:
        status = os.fstat(descriptor)
        _require_regular(status, path)
        _require_private(status, path, "file", "0600")
        return _read(descriptor, limit_bytes)
    except OSError as error:
        _unusable(path, error)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a whole file or nothing: a temporary file beside it, fsynced and renamed over it.

    A reader sees the old content or the new. Whatever stood at the path is replaced, with its mode; a symlink is
    replaced too, not followed (resolve it first where its target is meant).

    Raises:
        ConfigurationError: file-unusable, and nothing has changed.
    """
    try:
        replace_file(path, data, mode=mode)
    except OSError as error:
        _unusable(path, error)


def replace_file(path: Path, data: bytes, *, mode: int, directory: int | None = None) -> None:
    """What :func:`write_atomically` does, with the system's own errors.

    The temporary file is called ``.NAME.`` and 12 hex digits; only a process that is killed leaves it behind.

    Args:
        directory: a directory's descriptor, below which a path that is a plain name then stands.

    Raises:
        OSError: and nothing has changed.
    """
    target = os.fspath(path)
    parent, name = os.path.split(target)
    temporary = os.path.join(parent, f".{name}.{os.urandom(6).hex()}")  # noqa: PTH118 - no pathlib at start
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _EXTRA_FLAGS
    try:
        descriptor = os.open(temporary, flags, mode, dir_fd=directory)
        try:
            if _POSIX:
                os.fchmod(descriptor, mode)  # whatever the umask says
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    if directory is not None:
        sync_directory(directory)
    elif _POSIX:
        _sync_named(parent or ".")


def remove_leftovers(path: Path, *, older_than_seconds: float) -> None:
    """Remove the temporary files that killed processes of this user have left beside a path.

    Args:
        older_than_seconds: since they were written to, by the file system's clock.
    """
    parent, name = os.path.split(os.fspath(path))
    is_temporary = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}").fullmatch
    with suppress(OSError), os.scandir(parent or ".") as entries:
        for entry in entries:
            if not is_temporary(entry.name):
                continue
            with suppress(OSError):  # another process removes them too
                status = entry.stat(follow_symlinks=False)
                is_ours = stat.S_ISREG(status.st_mode) and (not _POSIX or status.st_uid == os.geteuid())
                if is_ours and time.time() - status.st_mtime > older_than_seconds:
                    os.unlink(entry.path)  # noqa: PTH108  # no pathlib at start


def private_directory(path: Path) -> str:
    """Make a directory of mode 0700 where there is none, and refuse one that others could change.

    Returns:
        The path, as text.

    Raises:
        ConfigurationError: file-unusable where it is a symlink or no directory, belongs to somebody else, or is open
            to group or world.
    """
    target = os.fspath(path)
    try:
        os.makedirs(target, mode=0o700, exist_ok=True)  # noqa: PTH103
        status = os.lstat(target)
    except OSError as error:
        _unusable(path, error)
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{target} is a symlink or no directory", code="file-unusable")
    _require_private(status, path, "directory", "0700")
    return target


@contextmanager
def locked(path: Path, *, timeout_seconds: float = 10.0, directory: int | None = None) -> Iterator[None]:
    """Hold an advisory lock between processes and threads; the file stays behind, empty.

    Args:
        path: of the lock file.
        timeout_seconds: how long to wait for another holder.
        directory: a directory's descriptor, below which a path that is relative then stands.

    Raises:
        ConfigurationError: file-unusable where the lock file cannot be used, or is still held after the timeout.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW | _EXTRA_FLAGS, 0o600, dir_fd=directory)
    except OSError as error:
        _unusable(path, error)
    try:
        ends = time.monotonic() + timeout_seconds
        pause, longest = _LOCK_POLL_SECONDS
        while not try_lock(descriptor):
            if time.monotonic() >= ends:
                raise ConfigurationError(
                    f"the lock {os.fspath(path)} is still held by another process after {timeout_seconds:g} s",
                    code="file-unusable",
                    hint="look for a process that hangs; the lock ends with it",
                )
            time.sleep(pause)
            pause = min(longest, 2 * pause)
        yield
    finally:
        os.close(descriptor)  # which also unlocks


@contextmanager
def directory_locked(path: Path, *, timeout_seconds: float = 2.0) -> Iterator[bool]:
    """Hold an advisory lock on a directory itself, where it can be had: no file stays behind, any user may take it.

    For who writes a file together with others and would put a lost line back: without the lock it goes on.

    Returns:
        Whether it is held.
    """
    descriptor = None
    try:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | _EXTRA_FLAGS)
        yield descriptor is not None and _locked_in_time(descriptor, timeout_seconds)
    finally:
        if descriptor is not None:
            os.close(descriptor)  # which also unlocks


def _locked_in_time(descriptor: int, timeout_seconds: float) -> bool:
    ends = time.monotonic() + timeout_seconds
    pause, longest = _LOCK_POLL_SECONDS
    try:
        while not try_lock(descriptor):
            if time.monotonic() >= ends:
                return False
            time.sleep(pause)
            pause = min(longest, 2 * pause)
    except OSError:  # a file system without locks
        return False
    return True


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Take an advisory lock that ends with the descriptor; False where another one has it."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Take an advisory lock that ends with the descriptor; False where another one has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _read(descriptor: int, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = limit_bytes + 1
    while left > 0 and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _require_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular(errno.EINVAL, "not a regular file", os.fspath(path))


def _require_private(status: os.stat_result, path: Path, kind: str, mode: str) -> None:
    if not _POSIX:
        return
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            f"the {kind} {os.fspath(path)} belongs to user {status.st_uid}, expected {os.geteuid()}",
            code="file-unusable",
        )
    if status.st_mode & 0o077:
        raise ConfigurationError(
            f"the {kind} {os.fspath(path)} has the mode {stat.S_IMODE(status.st_mode):04o}, expected {mode}: "
            "others could read or change it",
            code="file-unusable",
            hint=f"chmod {mode} it if its content is yours, else remove it",
        )


def _sync_named(directory: str) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY | _EXTRA_FLAGS)
    except OSError:
        return  # a directory that may be written but not read: the rename stands, only its durability is not forced
    try:
        sync_directory(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(descriptor: int) -> None:
    """Force the names in an open directory to the disk, where its file system can."""
    with suppress(OSError):  # some file systems refuse it
        os.fsync(descriptor)


def _unusable(path: Path, error: OSError) -> NoReturn:
    reason = "it is a symlink" if error.errno == errno.ELOOP else (error.strerror or type(error).__name__).lower()
    raise ConfigurationError(f"{os.fspath(path)} cannot be used: {reason}", code="file-unusable") from error
