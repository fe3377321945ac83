"""Which certificate authorities a request trusts: the variables of each cloud's SDK, then the system's store.

Order (the SDKs' own, so that one setting serves SDK and library): AWS ``AWS_CA_BUNDLE``, ``REQUESTS_CA_BUNDLE``;
GCP and Azure ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``; then for all ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, the
system's store, certifi. A bundle that a variable names replaces the others, as it does for the SDKs.
"""

from __future__ import annotations

__all__ = ["CA_VARIABLES", "Authorities", "authorities"]

import os
import re
import ssl
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from urllib3.util.ssl_ import create_urllib3_context

from wif.errors import ConfigurationError

CA_VARIABLES: Mapping[str | None, tuple[str, ...]] = {
    "aws": ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    "gcp": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "azure": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    None: (),
}
"""The bundle variables of each cloud, strongest first; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` follow for all."""

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""A certificate's name in a directory that OpenSSL can search: the hash of its subject and a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """One setting of trusted authorities: equal settings share connections and one SSL context."""

    origin: str
    """What messages call it: the variable with its path, or where the store was found."""
    cafile: str | None = None
    capath: str | None = None
    stamp: tuple[int, ...] = ()
    """Modification time, inode and size of what is named: a bundle that was replaced is read anew."""
    rest: str | None = None
    """A file that holds the same store as ``capath``, and takes long to read; see :meth:`complete`."""

    def complete(self) -> Authorities | None:
        """The same store read as a whole, where only its directory was searched; None where nothing is left out."""
        if self.rest is None:
            return None
        return Authorities(origin=self.origin, cafile=self.rest, capath=self.capath, stamp=self.stamp)

    def context(self) -> ssl.SSLContext:
        """A client context: TLS 1.2 or newer, names checked, with the flags that urllib3 sets for this Python.

        Raises:
            ConfigurationError: file-unusable where a bundle cannot be read, config-missing where the store is empty.
        """
        context = create_urllib3_context()
        if self.cafile is None and self.capath is None:
            context.load_default_certs()  # Windows, whose store is no file
            return context
        try:
            context.load_verify_locations(self.cafile, self.capath)
        except (OSError, ssl.SSLError) as error:  # SSLError is an OSError too: no certificate in the file
            reason = "holds no certificates in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigurationError(
                f"the CA bundle of {self.origin} cannot be used: {reason}",
                code="file-unusable",
                hint="name a readable file of PEM certificates, or unset the variable",
            ) from error
        return context


def authorities(cloud: str | None, environ: Mapping[str, str]) -> Authorities:
    """The authorities that requests to a cloud trust, by its variables.

    Args:
        cloud: ``aws``, ``gcp``, ``azure`` or None.
        environ: the environment to read.

    Raises:
        ConfigurationError: file-unusable where a variable names a path that is not there or cannot be read;
            config-missing where there is no authority at all.
    """
    for name in CA_VARIABLES[cloud]:
        if path := environ.get(name):
            return _named(((name, path),))
    named = tuple((name, path) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if (path := environ.get(name)))
    if named:
        return _named(named)
    return _system()


def _named(settings: tuple[tuple[str, str], ...]) -> Authorities:
    cafile = capath = None
    stamp: tuple[int, ...] = ()
    for name, path in settings:
        try:
            status = os.stat(path)  # noqa: PTH116 - plain os keeps pathlib out of a process start
            is_directory = stat.S_ISDIR(status.st_mode)
            if is_directory:
                os.scandir(path).close()
            else:
                os.close(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
        except OSError as error:
            raise ConfigurationError(
                f"{name} names the CA bundle {path!r}, which cannot be read: {error.strerror}",
                code="file-unusable",
                hint=f"correct {name}, or unset it to trust the system's store",
            ) from error
        stamp += (status.st_mtime_ns, status.st_ino, status.st_size)
        if is_directory:
            capath = path
        else:
            cafile = path
    origin = ", ".join(f"{name}={path}" for name, path in settings)
    if cafile is not None and capath is not None and _is_searchable(capath):
        return Authorities(origin=origin, capath=capath, stamp=stamp, rest=cafile)
    return Authorities(origin=origin, cafile=cafile, capath=capath, stamp=stamp)


def _system() -> Authorities:
    origin = "the system's store"
    if sys.platform == "win32":
        return Authorities(origin=origin)
    paths = ssl.get_default_verify_paths()
    bundle = paths.openssl_cafile if _stamp(paths.openssl_cafile)[2:] not in ((), (0,)) else None
    if _is_searchable(paths.openssl_capath):
        # Reading the whole store takes 37 ms (144 authorities, OpenSSL 3.0), searching its directory 0.2 ms.
        capath = paths.openssl_capath
        return Authorities(origin=origin, capath=capath, stamp=_stamp(capath), rest=bundle)
    if bundle is not None:
        return Authorities(origin=origin, cafile=bundle, stamp=_stamp(bundle))
    return _certifi()


def _certifi() -> Authorities:
    try:
        import certifi  # noqa: PLC0415  # optional, and wanted only where the system has no store
    except ImportError:
        raise ConfigurationError(
            "there are no certificate authorities to trust: the system's store is empty and certifi is not installed",
            code="config-missing",
            hint="install the system's ca-certificates package or certifi, or name a bundle in SSL_CERT_FILE",
        ) from None
    where = certifi.where()
    return Authorities(origin="certifi", cafile=where, stamp=_stamp(where))


def _stamp(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)  # noqa: PTH116 - plain os keeps pathlib out of a process start
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_ino, status.st_size)


def _is_searchable(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(_HASHED.fullmatch(entry.name) for entry in entries)
    except OSError:
        return False
