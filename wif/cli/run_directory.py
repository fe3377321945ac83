"""The directory of one ``wif run``, for AWS' secret and the token; and those that killed ones have left behind.

Its process holds a lock on a file in it as long as it lives, however it ends: what nobody has locked is nobody's.
"""

from __future__ import annotations

__all__ = ["run_directory"]

import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from wif.edges.files import try_lock
from wif.errors import ConfigurationError

_LOGGER = logging.getLogger("wif.run")

_PREFIX = "wif-run-"
_LOCK = "lock"
_UNLOCKED_SECONDS = 60.0
"""How old a directory without a lock file must be to be nobody's: one is made a moment after the directory."""
_ATTEMPTS = 10


@contextmanager
def run_directory(environ: Mapping[str, str]) -> Iterator[str]:
    """A directory of mode 0700, in memory where the system has such a place for this user; removed at the end.

    Args:
        environ: its ``XDG_RUNTIME_DIR`` is the place, else the system's for temporary files.

    Raises:
        ConfigurationError: file-unusable.
    """
    runtime = environ.get("XDG_RUNTIME_DIR")
    place = runtime if runtime and os.access(runtime, os.W_OK | os.X_OK) else tempfile.gettempdir()
    _remove_stale(place)
    try:
        directory, lock = _made(place)
    except OSError as error:
        raise ConfigurationError(
            f"no directory can be made in {place}: {error.strerror or error}",
            code="file-unusable",
            hint="have XDG_RUNTIME_DIR or TMPDIR name a directory that may be written to",
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _made(place: str) -> tuple[str, int]:
    for _ in range(_ATTEMPTS):
        directory = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
        path = f"{directory}/{_LOCK}"
        with suppress(FileNotFoundError):  # another one that begins took it for stale
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if try_lock(lock) and os.path.exists(path):  # noqa: PTH110
                return directory, lock
            os.close(lock)
    raise FileExistsError(f"every directory that was made below {place} was removed at once")


def _remove_stale(place: str) -> None:
    """Remove the directories of this user that no living process has locked."""
    try:
        with os.scandir(place) as entries:
            found = [entry.path for entry in entries if entry.name.startswith(_PREFIX)]
    except OSError:
        return
    for directory in found:
        with suppress(OSError):
            status = os.lstat(directory)
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove_if_stale(directory, time.time() - status.st_mtime)


def _remove_if_stale(directory: str, age_seconds: float) -> None:
    try:
        lock = os.open(f"{directory}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if age_seconds > _UNLOCKED_SECONDS:
            shutil.rmtree(directory, ignore_errors=True)
        return
    try:
        if try_lock(lock):
            shutil.rmtree(directory, ignore_errors=True)
            _LOGGER.info("%s is removed: the wif run that made it was killed", directory)
    finally:
        os.close(lock)
