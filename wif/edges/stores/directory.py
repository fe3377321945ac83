"""A local directory as a target: ``file:///dir``, for a web server, a volume or a Git checkout to serve.

Every write holds one lock (``.wif-publish.lock`` in the directory itself), compares what stands there with the tag,
and renames a finished file over it, so publishers on one machine never undo each other and a reader sees the old
document or the new. Below the root no symlink is followed: paths are walked by descriptors.
"""

from __future__ import annotations

__all__ = ["LOCK_NAME", "DirectoryStore"]

import errno
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn
from urllib.parse import quote, unquote, urlsplit

from wif.edges.files import locked, replace_file, sync_directory
from wif.edges.stores import ABSENT, MAX_DOCUMENT_BYTES, StoredDocument, WriteConflict
from wif.errors import ConfigurationError, RefusedError, UnavailableError, WifError

_log = logging.getLogger("wif.stores")

LOCK_NAME: Final = ".wif-publish.lock"
"""Empty, mode 0600, in the root of the target; it stays behind."""

LOCK_SECONDS = 60.0
"""How long a write waits for its turn: 200 publishers at 10 ms each, with room for a slow disk."""

LEFTOVER_SECONDS = 600.0
"""A temporary file of this age belongs to a writer that was killed: none lives longer than its lock is waited for."""

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_PRIVATE_FILE_MODE = 0o600
_PRIVATE_DIRECTORY_MODE = 0o700
_OPEN_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_OPEN_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | _NOFOLLOW

_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
_NOT_AS_EXPECTED = (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO)


class DirectoryStore:
    """Documents as files below one directory.

    The directory is made at the first write, with its parents. What is made here is 0755 and 0644 whatever the umask;
    directories that exist keep their mode, and :meth:`warnings` names those that others cannot enter. The root may be
    a symlink. Another symlink, or anything that is no regular file where a document belongs, is refused.

    Args:
        root: the directory's absolute path.
        name: the target's name, where its URL is spelt in another way.
        public: False for documents that no web server shows, such as the trusted state: 0700 and 0600.
        lock_seconds: how long a write waits for other writers.
    """

    is_conditional = True
    holds_discovery = True
    keeps_headers = False

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        name: str | None = None,
        public: bool = True,
        lock_seconds: float = LOCK_SECONDS,
    ) -> None:
        if os.open not in os.supports_dir_fd:
            raise ConfigurationError("a directory is a target on POSIX systems only", code="config-invalid", hint="")
        self._root = _checked_root(os.fspath(root))
        self._public = public
        self._lock_seconds = lock_seconds
        self.name = "file://" + quote(self._root) if name is None else name

    @classmethod
    def from_url(cls, url: str, *, lock_seconds: float = LOCK_SECONDS) -> DirectoryStore:
        """The directory of a URL: ``file:///dir``, percent-encoded where it must be.

        Raises:
            ConfigurationError: config-invalid.
        """
        return cls(_path_of(url), lock_seconds=lock_seconds)

    @property
    def root(self) -> str:
        """The directory's absolute path."""
        return self._root

    def read(self, path: str) -> StoredDocument | None:
        """See :class:`~wif.edges.stores.Store`. The tag is a digest of the content."""
        *folders, name = _parts(path)
        with self._translated(path), _closing() as opened:
            try:
                directory = _walk(self._root, folders, opened)
            except FileNotFoundError:
                return None
            body = _content(name, directory)
        return None if body is None else StoredDocument(body=body, tag=_tag(body))

    def write(self, path: str, body: bytes, *, tag: str, content_type: str, cache_control: str) -> str:  # noqa: ARG002
        """See :class:`~wif.edges.stores.Store`. A directory keeps no headers: they are the web server's business."""
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ConfigurationError(
                f"{self.name}: {path} would have {len(body)} bytes, expected at most {MAX_DOCUMENT_BYTES}",
                code="document-invalid",
            )
        *folders, name = _parts(path)
        with self._translated(path), _closing() as opened:
            mode = _DIRECTORY_MODE if self._public else _PRIVATE_DIRECTORY_MODE
            _make_root(self._root, mode)
            root = _walk(self._root, (), opened)
            with locked(LOCK_NAME, timeout_seconds=self._lock_seconds, directory=root):
                directory = _walk_making(root, folders, opened, mode)
                self._require(_content(name, directory), tag, path)
                _sweep(name, directory)
                replace_file(name, body, mode=_FILE_MODE if self._public else _PRIVATE_FILE_MODE, directory=directory)
        for warning in self.warnings(path):
            _log.warning("%s", warning)
        return _tag(body)

    def delete(self, path: str, *, tag: str) -> None:
        """See :class:`~wif.edges.stores.Store`. Directories stay."""
        *folders, name = _parts(path)
        with self._translated(path), _closing() as opened:
            try:
                root = _walk(self._root, (), opened)
                with locked(LOCK_NAME, timeout_seconds=self._lock_seconds, directory=root):
                    directory = _walk(None, folders, opened)
                    body = _content(name, directory)
                    if body is None:
                        return
                    self._require(body, tag, path)
                    os.unlink(name, dir_fd=directory)
                    _sweep(name, directory)
                    sync_directory(directory)
            except FileNotFoundError:
                return

    def warnings(self, path: str) -> tuple[str, ...]:
        """What keeps a web server of another user from serving a document: directories of modes that exclude others.

        The directories above the root do not count: a web server may see the root by another way.
        """
        if not self._public:
            return ()
        found = []
        where = self._root
        for folder in ("", *_parts(path)[:-1]):
            where = os.path.join(where, folder) if folder else where  # noqa: PTH118
            with suppress(OSError):
                mode = stat.S_IMODE(os.stat(where).st_mode)  # noqa: PTH116
                if not mode & stat.S_IXOTH:
                    found.append(
                        f"{where} has the mode {mode:04o}: a web server of another user cannot serve what is in it"
                        f" (chmod o+x {where})"
                    )
        return tuple(found)

    def close(self) -> None:
        """Nothing is held between calls."""

    def __repr__(self) -> str:
        return f"DirectoryStore({self.name!r})"

    def _require(self, body: bytes | None, tag: str, path: str) -> None:
        if (ABSENT if body is None else _tag(body)) != tag:
            what = "is not there any more" if body is None else "has changed" if tag else "exists already"
            raise WriteConflict(f"{self.name}: {path} {what}")

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._fail(path, error)
        except ConfigurationError as error:
            if error.code != "file-unusable":
                raise
            if isinstance(error.__cause__, OSError):
                self._fail(LOCK_NAME, error.__cause__)
            raise UnavailableError(f"{self.name}: {error.message}", code="target-unavailable") from error

    def _fail(self, path: str, error: OSError) -> NoReturn:
        if error.errno in _NOT_AS_EXPECTED:
            raise RefusedError(
                f"{self.name}: {path} is not a plain file in plain directories ({_reason(error)})",
                code="target-refused",
                hint="look at what stands there; only the root of the target may be a symlink, nothing below it",
            ) from error
        kind: type[WifError] = UnavailableError
        code, hint = "target-unavailable", "check the disk and its free space; run it again"
        if error.errno in _NO_RIGHT:
            kind, code = RefusedError, "target-refused"
            hint = f"let the publisher's user (uid {os.geteuid()}) write to {self._root}"
        raise kind(f"{self.name}: {path} cannot be used: {_reason(error)}", code=code, hint=hint) from error


# -- names ---------------------------------------------------------------------------------------------------------


def _path_of(url: str) -> str:
    """The path of a ``file:`` URL; what it must look like is checked with it."""
    try:
        parts = urlsplit(url)
        path = unquote(parts.path, errors="strict")
    except ValueError:
        return ""
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{url!r} is not the URL of a directory, expected file:///absolute/path",
            code="config-invalid",
            hint="write three slashes and the whole path; percent-encode '?', '#' and '%'",
        )
    return path


def _checked_root(path: str) -> str:
    if not path.startswith("/") or "\0" in path or {".", ".."} & set(path.split("/")):
        raise ConfigurationError(
            f"the directory {path!r} is not an absolute path without '.' and '..'",
            code="config-invalid",
            hint="write the whole path: file:///srv/oidc",
        )
    return "/" + "/".join(part for part in path.split("/") if part)


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts) or parts[-1] == LOCK_NAME:
        raise ConfigurationError(
            f"{path!r} is not the path of a document below a directory", code="config-invalid", hint=""
        )
    return parts


def _tag(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


# -- descriptors ---------------------------------------------------------------------------------------------------


@contextmanager
def _closing() -> Iterator[list[int]]:
    """A list of descriptors; they are closed at the end."""
    opened: list[int] = []
    try:
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _walk(root: str | None, folders: list[str] | tuple[str, ...], opened: list[int]) -> int:
    """The descriptor of a directory below the root (None: the last one opened), no symlink followed on the way."""
    if root is not None:
        opened.append(os.open(root, _OPEN_DIRECTORY))
    for folder in folders:
        opened.append(os.open(folder, _OPEN_DIRECTORY | _NOFOLLOW, dir_fd=opened[-1]))
    return opened[-1]


def _walk_making(root: int, folders: list[str], opened: list[int], mode: int) -> int:
    directory = root
    for folder in folders:
        made = False
        try:
            os.mkdir(folder, mode, dir_fd=directory)
            made = True
        except FileExistsError:
            pass
        opened.append(os.open(folder, _OPEN_DIRECTORY | _NOFOLLOW, dir_fd=directory))
        if made:
            _widen(opened[-1], mode)
            sync_directory(directory)
        directory = opened[-1]
    return directory


def _make_root(root: str, mode: int) -> None:
    """The root and its parents, where they are not there yet."""
    root = os.path.realpath(root)  # a symlink whose end is missing is made at its end
    missing = []
    while not os.path.isdir(root):  # noqa: PTH112
        missing.append(root)
        root = os.path.dirname(root)  # noqa: PTH120
    for path in reversed(missing):
        try:
            os.mkdir(path, mode)  # noqa: PTH102
        except FileExistsError:
            continue  # another publisher's, or a file: then opening it says so
        with _closing() as opened:
            _widen(_walk(path, (), opened), mode)
            sync_directory(_walk(os.path.dirname(path), (), opened))  # noqa: PTH120


def _widen(directory: int, mode: int) -> None:
    """What the umask took away; a set-group-id bit that was inherited stays."""
    os.fchmod(directory, stat.S_IMODE(os.fstat(directory).st_mode) | mode)


def _content(name: str, directory: int) -> bytes | None:
    try:
        descriptor = os.open(name, _OPEN_FILE, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EISDIR, "it is not a regular file", name)
        body = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(body) > MAX_DOCUMENT_BYTES:
        raise OSError(errno.EISDIR, f"it has more than {MAX_DOCUMENT_BYTES} bytes", name)
    return body


def _sweep(name: str, directory: int) -> None:
    """Remove what killed writers of this document left behind. The lock is held: nobody else here is writing."""
    leftover = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}")
    oldest = time.time() - LEFTOVER_SECONDS
    for entry in os.listdir(directory):
        if leftover.fullmatch(entry):
            with suppress(OSError):
                if os.stat(entry, dir_fd=directory, follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry, dir_fd=directory)
