"""Files that hold secrets: read whole and bounded, written whole or not at all, in places nobody else can change."""

from __future__ import annotations

__all__ = ["read_bounded"]

import errno
import os
import stat


class NotRegular(OSError):
    """The path names something that is no regular file."""


def read_bounded(path: str | os.PathLike[str], limit_bytes: int) -> bytes:
    """At most ``limit_bytes`` + 1 bytes of a regular file: one byte too many says that there is more.

    The file is opened once and looked at through its descriptor, so a symlink that is swapped meanwhile (as the
    kubelet does at each rotation) gives the old content or the new, never an error between the two. A FIFO or device
    is refused without waiting for it.

    Raises:
        OSError: as ``open`` and ``read`` give it; EISDIR for a directory, :class:`NotRegular` for what is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise NotRegular(errno.EINVAL, "not a regular file", os.fspath(path))
        parts: list[bytes] = []
        left = limit_bytes + 1
        while left > 0 and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
