"""The certificate of a server: read from two files, and read again when they change, while connections go on.

A Kubernetes Secret that is mounted changes by a symlink swap, cert-manager and administrators by a rename or by two
writes one after the other; in between, the pair does not fit. So a new pair is loaded into a context of its own, and
only one that is whole and fits replaces the one in use. Every handshake is given the newest context, whatever name
the client asks for; connections that stand keep theirs.
"""

from __future__ import annotations

__all__ = ["Certificate"]

import hashlib
import logging
import os
import ssl
import time
from collections.abc import Callable
from typing import Any

from wif.edges.files import read_bounded
from wif.errors import ConfigurationError

_MAX_FILE_BYTES = 1024 * 1024
_LOGGER = logging.getLogger("wif.serve")

Path = str | os.PathLike[str]


class Certificate:
    """A certificate chain and its key, as files that may be replaced at any time. Safe for threads.

    Args:
        chain: PEM, the leaf first.
        key: PEM, without a passphrase; None takes it from ``chain``.
        clock: unix seconds, for :attr:`loaded_at`.

    Raises:
        ConfigurationError: file-unusable, where there is no usable pair at the start.
    """

    def __init__(self, chain: Path, key: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._chain = os.fspath(chain)
        self._key = os.fspath(key) if key is not None else None
        self._clock = clock
        self._stamp: tuple[object, ...] = ()
        self._digest = b""
        self._reported = b""
        self.failures = 0
        """How many different broken pairs were found since the start."""
        self.loaded_at = 0.0
        """When the pair in use was loaded, unix seconds."""
        problem = self._load()
        if problem:
            raise ConfigurationError(
                f"the certificate {self._chain} cannot be used: {problem}",
                code="file-unusable",
                hint="give a PEM chain with the leaf first, and the key that belongs to it",
            )

    def server_context(self) -> ssl.SSLContext:
        """The context to listen with. It hands every handshake over to the pair of that moment."""
        outer = _context()
        outer.load_cert_chain(self._chain, self._key, _no_passphrase)

        def choose(connection: Any, _name: str | None, _outer: ssl.SSLContext) -> None:
            connection.context = self._current

        outer.sni_callback = choose
        return outer

    @property
    def current(self) -> ssl.SSLContext:
        """The context of the pair in use, to look at."""
        return self._current

    def reload(self) -> bool:
        """Look at the files; True where another pair is in use now. A broken pair is logged once and not used."""
        if self._files_stamp() == self._stamp and not self._reported:
            return False
        before = self._digest
        problem = self._load()
        if not problem:
            if self._digest == before:
                return False
            _LOGGER.info("another certificate is in use", extra={"wif": {"chain": self._chain}})
            return True
        broken = self._content_digest()
        if broken != self._reported:
            self._reported = broken
            self.failures += 1
            _LOGGER.error(
                "the new certificate cannot be used: %s; the one loaded before stays",
                problem,
                extra={"wif": {"chain": self._chain}},
            )
        return False

    def _load(self) -> str:
        """Empty once the files' pair is in use, else what is wrong with it."""
        stamp, digest = self._files_stamp(), self._content_digest()
        if digest and digest == self._digest:
            self._stamp, self._reported = stamp, b""
            return ""
        context = _context()
        try:
            # OpenSSL itself checks that the key belongs to the certificate
            context.load_cert_chain(self._chain, self._key, _no_passphrase)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; what it says quotes no key
            return (
                f"it is no PEM pair that fits ({error.reason or 'unreadable'})"
                if isinstance(error, ssl.SSLError)
                else f"{getattr(error, 'strerror', None) or error}".lower()
            )
        self._current = context
        self._stamp, self._digest, self._reported = stamp, digest, b""
        self.loaded_at = self._clock()
        return ""

    def _files_stamp(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in (self._chain, self._key):
            if path is None:
                continue
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                found.append(error.errno)
            else:
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)

    def _content_digest(self) -> bytes:
        """Names the content of both files; two readings of a file that is being written differ."""
        sums = hashlib.sha256()
        for path in (self._chain, self._key):
            if path is None:
                continue
            try:
                content = read_bounded(path, _MAX_FILE_BYTES)
            except OSError as error:
                content = f"errno {error.errno}".encode()
            sums.update(hashlib.sha256(content).digest())
        return sums.digest()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_passphrase() -> str:
    """In place of OpenSSL's question on the terminal, which nobody would answer."""
    return ""
