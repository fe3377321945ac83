"""Answers of ``credential_process`` kept on disk, for programs that start anew for every call.

Plain text, so it is off unless asked for. An entry holds credentials and the key that they were asked with, never a
subject token. Nothing is followed or trusted by name: the directory is opened once, must be the caller's own and
closed to all others, and every file is reached through its descriptor.

This module stands on the path of a warm answer and imports ``os`` and ``json`` alone (``typing`` costs 6 ms,
``dataclasses`` 20). POSIX only: elsewhere the cache calls itself unusable.
"""

from __future__ import annotations

__all__ = ["CacheUnusable", "CredentialCache", "encode_key", "is_warm"]

import binascii
import json
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any, Self

MAX_ENTRY_BYTES = 65_536
"""A session token has at most 4 KiB, a key with an inline policy 3 KiB."""

LONGEST_LIFE_SECONDS = 43_200
"""No session of AWS lives longer, so an older file is rubbish."""

_FORMAT = 1
_CLIENT_WINDOW_SECONDS = 960.0
"""botocore begins to refresh at 900 s left: an answer with less would be asked for again at once."""
_SHARE = 0.2
"""Of lives too short for that window: then the last fifth is not served."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class CacheUnusable(OSError):
    """The cache cannot be used as it must be; the caller says so and exchanges without it."""


def encode_key(parts: Sequence[str]) -> str:
    """A tuple as one text from which no other tuple can come: each part has its length in front."""
    return "".join(f"{len(part)}:{part}," for part in parts)


def is_warm(entry: Mapping[str, Any], key: str, now: float) -> bool:
    """Whether an entry answers this key at this time (unix seconds).

    A clock that went back says nothing about what is left, so an entry from the future is not served.
    """
    times: list[Any] = [entry.get(name) for name in ("written_at", "expires_at", "lifetime_seconds")]
    if entry.get("format") != _FORMAT or entry.get("key") != key or not isinstance(entry.get("answer"), dict):
        return False
    if not all(isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 for value in times):
        return False
    written_at, expires_at, life = times
    needed = _CLIENT_WINDOW_SECONDS if life >= 2 * _CLIENT_WINDOW_SECONDS else _SHARE * life
    return bool(written_at - 60.0 <= now and min(expires_at, written_at + life) - now > needed)


class CredentialCache:
    """One directory of entries, opened and checked.

    Args:
        path: the directory; made, mode 0700, where it is not there and ``create`` is true.

    Raises:
        CacheUnusable: it is a symlink, no directory, somebody else's, open to others, or cannot be made.
        FileNotFoundError: it is not there, and ``create`` is false.
    """

    def __init__(self, path: str, *, create: bool = False) -> None:
        if not hasattr(os, "geteuid") or os.open not in os.supports_dir_fd:
            raise CacheUnusable("a credential cache needs a POSIX system")
        self.path = path
        if create:
            _make(path)
        try:
            self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CacheUnusable(f"{path} is no directory of its own: {error.strerror}") from error
        try:
            _check(os.fstat(self._directory), path)
        except CacheUnusable:
            os.close(self._directory)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def read(self, key: str, now: float) -> str | None:
        """The answer of a warm entry, as JSON text; None where there is none.

        Raises:
            CacheUnusable: the entry is a symlink, no file, somebody else's or open to others.
        """
        name = _name(key)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _NOFOLLOW, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheUnusable(f"{self.path}/{name} cannot be opened: {error.strerror}") from error
        try:
            found = os.fstat(descriptor)
            _check(found, f"{self.path}/{name}", regular=True)
            data = os.read(descriptor, MAX_ENTRY_BYTES) if found.st_size <= MAX_ENTRY_BYTES else b""
        finally:
            os.close(descriptor)
        try:
            entry = json.loads(data)
        except (ValueError, RecursionError):
            return None
        return json.dumps(entry["answer"]) if isinstance(entry, dict) and is_warm(entry, key, now) else None

    def write(
        self, key: str, answer: Mapping[str, Any], *, now: float, expires_at: float, lifetime_seconds: float
    ) -> None:
        """Keep an answer: whole, mode 0600, in the place of the former one; old rubbish goes.

        Raises:
            CacheUnusable: it cannot be written.
        """
        from wif.edges.files import write_atomically  # noqa: PLC0415  # not on the path of a warm answer
        from wif.errors import ConfigurationError  # noqa: PLC0415  # not on the path of a warm answer

        entry = {
            "format": _FORMAT,
            "key": key,
            "written_at": now,
            "expires_at": expires_at,
            "lifetime_seconds": lifetime_seconds,
            "answer": answer,
        }
        try:
            self._sweep(now)
            write_atomically(f"{self.path}/{_name(key)}", json.dumps(entry).encode())
        except ConfigurationError as error:
            raise CacheUnusable(error.message) from error

    def lock(self, key: str, *, timeout_seconds: float) -> AbstractContextManager[None]:
        """A lock between processes for one key; ``with`` holds it, and the kernel lets go when its holder dies.

        Raises:
            ConfigurationError: file-unusable, on entering: after ``timeout_seconds``, or where no lock can be made.
        """
        from wif.edges.files import locked  # noqa: PLC0415  # not on the path of a warm answer

        return locked(f"{self.path}/{_name(key)}.lock", timeout_seconds=timeout_seconds)

    def clear(self) -> int:
        """Remove every entry; the number of those removed. Other files stay.

        Raises:
            CacheUnusable: an entry cannot be removed.
        """
        removed = 0
        for name in self._own_names():
            try:
                os.unlink(name, dir_fd=self._directory)
            except FileNotFoundError:  # another process cleared it
                continue
            except OSError as error:
                raise CacheUnusable(f"{self.path}/{name} cannot be removed: {error.strerror}") from error
            removed += name.endswith(".json") and not name.startswith(".")
        return removed

    def _own_names(self) -> Iterator[str]:
        for name in os.listdir(self._directory):  # noqa: PTH208  # of a descriptor
            if name.startswith(("aws-", ".aws-")):
                yield name

    def _sweep(self, now: float) -> None:
        for name in self._own_names():
            try:
                if os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_mtime < now - LONGEST_LIFE_SECONDS:
                    os.unlink(name, dir_fd=self._directory)
            except OSError:  # another process swept it, or it is no file: rubbish may stay, the answer is what counts
                continue


def _make(path: str) -> None:
    from wif.edges.files import private_directory  # noqa: PLC0415  # not on the path of a warm answer
    from wif.errors import ConfigurationError  # noqa: PLC0415  # not on the path of a warm answer

    try:
        private_directory(path)
    except ConfigurationError as error:
        raise CacheUnusable(error.message) from error


def _name(key: str) -> str:
    """A file's name for a key. Two keys may share it: the entry holds its whole key, and the later one stays."""
    data = key.encode("utf-8", "surrogatepass")  # a claim or a variable may hold any code point
    return f"aws-{binascii.crc32(data):08x}{binascii.crc32(data[::-1]):08x}.json"


def _check(found: os.stat_result, path: str, *, regular: bool = False) -> None:
    if regular and not stat.S_ISREG(found.st_mode):
        raise CacheUnusable(f"{path} is no regular file")
    if found.st_uid != os.geteuid():
        raise CacheUnusable(f"{path} belongs to user {found.st_uid}, not to this one ({os.geteuid()})")
    if found.st_mode & 0o077:
        raise CacheUnusable(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})")
