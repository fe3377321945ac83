"""One path that is kept: what is there is compared with what should be, and put right.

Somebody else may write there as well: other profiles of a shared credentials file, which stay, or the file itself. So
it is looked at closely whenever it is no longer what was left there, and a quarrel about it is not led at full speed.
Nor is a link followed that they put there: what this process can read, others may not.
"""

from __future__ import annotations

__all__ = ["MAX_SHARED_BYTES", "Content", "FilePlace", "require_place"]

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from wif.clouds.aws_credentials_file import foreign_profiles, secrets_in, with_profiles
from wif.edges.files import NotRegular, directory_locked, read_bounded, remove_leftovers, replace_file
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.core.credentials import AwsCredentials
    from wif.core.freshness import Lifetime
    from wif.exchange.clocks import Clocks

_LOGGER = logging.getLogger("wif.serve")

MAX_SHARED_BYTES = 1024 * 1024
"""Of a credentials file that others write as well."""
_LEFTOVER_SECONDS = 60.0
"""Nobody writes for so long: a temporary file of that age is nobody's."""
_FREE_REPAIRS = 3
"""In a row, at once; then with pauses, so that two that each want the file for themselves do not write all day."""
_REPAIR_SECONDS = (4.0, 60.0)
"""Such a pause, at first and at most; a repair that lasted for twice that long is the last of its row."""
_HINT = "mount a memory-backed emptyDir there, and have its group be this process' (fsGroup)"
_LINK_HINT = "remove the link, or name the file that it leads to"


class Content(NamedTuple):
    """What belongs into a file, or into one profile of it."""

    text: str
    """A token; for AWS' shared credentials what tells two credentials apart. A secret."""
    expires_at: float
    """Unix seconds."""
    keys: AwsCredentials | None = None
    plan: Lifetime | None = None
    """When it ends by two clocks, where the exchanger knows."""

    def is_over(self, clocks: Clocks) -> bool:
        """Whether it has expired."""
        wall = clocks.wall()
        return wall >= self.expires_at if self.plan is None else not self.plan.valid(clocks.steady(), wall)

    def secrets(self) -> tuple[str, ...]:
        """What no log may show."""
        return (self.text,) if self.keys is None else (self.keys.secret_access_key, self.keys.session_token)


class _Stamp(NamedTuple):
    """What tells a file from what somebody else has made of it."""

    inode: int
    size: int
    modified_ns: int
    mode: int


class FilePlace:
    """What is known of one path. One thread at a time uses it.

    Args:
        know: gets what the log may not show, before anybody can read it in the file.
    """

    def __init__(
        self, path: str, *, know: Callable[[Iterable[str]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._know = know
        self._clock = clock
        self._left: tuple[_Stamp, int] | None = None
        """The file as it was left, and the mode that was wanted."""
        self._cleared = False
        self._repairs = 0
        self._repaired_at = 0.0
        self.in_place = False
        """Whether the last look found what belongs there."""

    def settle(self, wanted: Mapping[str, Content], *, mode: int, is_new: bool, secrets: Iterable[str] = ()) -> bool:
        """Have the file hold this; whether it was written.

        Args:
            wanted: by profile; a file that is no shared one has one content.
            is_new: whether it is to be written whatever is there.
            secrets: what the log may not show besides that: what the file has held before.

        Raises:
            ConfigurationError: file-unusable, config-foreign. What was there is there still.
        """
        if not self._cleared:
            remove_leftovers(self._path, older_than_seconds=_LEFTOVER_SECONDS)
            self._cleared = True
        self.in_place = self._left is not None and self._left == (_stamp(self._path), mode)
        if self.in_place and not is_new:
            return False
        held = [secret for each in wanted.values() for secret in each.secrets()]
        shared = {profile: each.keys for profile, each in wanted.items() if each.keys is not None}
        if shared:
            with directory_locked(os.path.dirname(self._path)):  # noqa: PTH120  # no pathlib in a small process
                text = _shared_text(self._path)
                self._know((*secrets, *secrets_in(text), *held))
                return self._write(with_profiles(text, shared).encode(), mode=mode, is_new=is_new)
        (content,) = wanted.values()
        self._know((*secrets, *held))
        return self._write(content.text.encode("ascii"), mode=mode, is_new=is_new)  # most readers send it as it is

    def _write(self, data: bytes, *, mode: int, is_new: bool) -> bool:
        is_repair = not is_new and (self._left is None or self._left[1] == mode)
        if not is_new and self._says(data, mode):
            return False
        if is_repair and _stamp(self._path) is not None and not self._may_repair():
            return False
        try:
            replace_file(self._path, data, mode=mode)
        except OSError as error:
            raise ConfigurationError(
                f"{self._path} cannot be written: {error.strerror}", code="file-unusable", hint=_HINT
            ) from error
        stamp = _stamp(self._path)
        self._left = None if stamp is None else (stamp, mode)
        self.in_place = stamp is not None
        if is_repair:
            _LOGGER.warning("%s was changed or removed by somebody else: it is written again", self._path)
        return True

    def _says(self, data: bytes, mode: int) -> bool:
        """Whether the file says this already: others have written, but nothing of ours has changed."""
        stamp = _stamp(self._path)
        if stamp is None:
            return False
        # where a file system knows no modes, the one that is there is as good as it gets
        modes = {mode} if self._left is None or self._left[1] != mode else {mode, stat.S_IMODE(self._left[0].mode)}
        with suppress(OSError):
            if stat.S_IMODE(stamp.mode) in modes and read_bounded(self._path, len(data), follow_links=False) == data:
                self._left, self.in_place = (stamp, mode), True
        return self.in_place

    def _may_repair(self) -> bool:
        """Whether what somebody else has written may be replaced now."""
        first, longest = _REPAIR_SECONDS
        pause = 0.0 if self._repairs < _FREE_REPAIRS else min(first * 2.0 ** (self._repairs - _FREE_REPAIRS), longest)
        now = self._clock()
        passed = now - self._repaired_at
        if self._repairs and passed < pause:
            return False
        self._repairs = self._repairs + 1 if self._repairs and passed < 2 * max(pause, first) else 1
        self._repaired_at = now
        return True


def require_place(path: str, profiles: Iterable[str]) -> None:
    """Look at a path that is to be kept, before anything is asked of a cloud.

    Args:
        profiles: those of a shared credentials file; none for another one.

    Raises:
        ConfigurationError: file-unusable, config-foreign.
    """
    directory = os.path.dirname(path)  # noqa: PTH120  # no pathlib in a small process
    if not os.path.isdir(directory):  # noqa: PTH112
        what = "is not there or is no directory"
    elif not os.access(directory, os.W_OK | os.X_OK):
        what = "may not be written to by this user"
    elif os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
        raise ConfigurationError(f"{path} is a directory, expected a file or nothing", code="file-unusable")
    else:
        names = tuple(profiles)
        foreign = foreign_profiles(_shared_text(path), names) if names else ()
        if foreign:
            raise ConfigurationError(
                f"{path} already has a profile {foreign[0]!r} that this program did not write",
                code="config-foreign",
                hint="choose another profile or another file: those keys would be lost",
            )
        return
    raise ConfigurationError(f"the directory of {path} {what}", code="file-unusable", hint=_HINT)


def _stamp(path: str) -> _Stamp | None:
    """None where there is no regular file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


def _shared_text(path: str) -> str:
    """What a credentials file says now; empty where there is none.

    Raises:
        ConfigurationError: file-unusable.
    """
    try:
        data = read_bounded(path, MAX_SHARED_BYTES, follow_links=False)
    except FileNotFoundError:
        return ""
    except NotRegular as error:
        raise ConfigurationError(f"{path} is no regular file", code="file-unusable") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigurationError(
                f"{path} is a symbolic link, which is not followed", code="file-unusable", hint=_LINK_HINT
            ) from error
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code="file-unusable") from error
    if len(data) > MAX_SHARED_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_SHARED_BYTES} bytes", code="file-unusable")
    try:
        return data.decode()
    except UnicodeDecodeError:  # not chained: its text would show bytes of the file
        raise ConfigurationError(f"{path} is no text in UTF-8", code="file-unusable") from None
