"""The local STS's certificate authority: made anew at every start, kept in a temporary folder, installed nowhere.

The authority's key never leaves the memory of the process. Its certificate is written for the clients
(``REQUESTS_CA_BUNDLE`` and its like want a path); leaf keys touch the disk only while OpenSSL loads them,
because the ssl module takes no bytes. The names of organisation and unit are "wif local STS", so that nobody
takes a certificate for a cloud's.
"""

from __future__ import annotations

__all__ = ["CA_NAME", "LOOPBACK_NAMES", "Authority"]

import os
import shutil
import ssl
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from wif.errors import ConfigurationError

if TYPE_CHECKING:
    import trustme

CA_NAME = "wif local STS"
"""Organisation and unit of every certificate made here."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""What a leaf names besides the clouds' hosts, and what a client without SNI (an IP address) is shown."""

MAX_CONTEXTS = 256
"""Leaves kept per listener; a client that asks for more regions than this makes old ones to be minted again."""

LEAF_VALID = timedelta(days=397)
"""Longest life of a server certificate that macOS' and browsers' verifiers accept."""


def _trustme_ca() -> trustme.CA:
    try:
        import trustme  # noqa: PLC0415 - an extra, loaded when a local STS starts
    except ImportError as error:
        raise ConfigurationError(
            "the local STS needs trustme to make its certificates",
            code="extra-missing",
            hint="pip install 'wif[emulator]'",
        ) from error
    return trustme.CA(organization_name=CA_NAME, organization_unit_name=CA_NAME)


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not take the folder from under its parent
        shutil.rmtree(directory, ignore_errors=True)


class Authority:
    """A certificate authority of this process, with the temporary folder (0700) that holds its certificate.

    Args:
        directory: where the temporary folder is made; None is the system's place for such.
    """

    def __init__(self, *, directory: Path | None = None) -> None:
        self._ca = _trustme_ca()
        self._lock = threading.Lock()
        folder = tempfile.mkdtemp(prefix="wif-local-sts-", dir=directory)
        self._finalizer = weakref.finalize(self, _remove, folder, os.getpid())
        self.directory = Path(folder)
        """The temporary folder; gone after :meth:`close` and at the end of the process."""
        self.ca_file = self.directory / "ca.pem"
        """The authority's certificate, PEM: what clients are told to trust."""
        self.ca_file.write_bytes(self.ca_pem)

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate, PEM."""
        return self._ca.cert_pem.bytes()

    def bundle(self, *others: Path) -> Path:
        """Write a file that holds this authority and the certificates of other PEM files, and return its path.

        For programs that talk to this listener and to the outside at once: most CA variables replace the
        trust store, they do not add to it.
        """
        parts = [self.ca_pem]
        for other in others:
            try:
                parts.append(other.read_bytes().strip() + b"\n")
            except OSError as error:
                raise ConfigurationError(
                    f"the CA bundle {other} cannot be read: {error.strerror}", code="file-unusable"
                ) from error
        path = self.directory / "bundle.pem"
        path.write_bytes(b"".join(parts))
        return path

    def server_context(
        self,
        names: Sequence[str] = LOOPBACK_NAMES,
        *,
        admitted: Callable[[str], bool] | None = None,
    ) -> ssl.SSLContext:
        """A TLS context for a listener.

        Args:
            names: host names and addresses of the leaf that is there from the start; also shown to clients
                that send no SNI.
            admitted: for which other lower-case SNI names a leaf is minted on demand (2 to 3 ms, once).
                None mints none. Every other name ends the handshake with the alert ``unrecognized_name``.
        """
        own = frozenset(name.lower() for name in names)
        default = self._leaf_context(tuple(names))
        minted: OrderedDict[str, ssl.SSLContext] = OrderedDict()

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
            host = (name or "").lower().removesuffix(".")
            if not host or host in own:
                return None
            if admitted is None or not admitted(host):
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            with self._lock:
                context = minted.get(host)
                if context is None:
                    context = minted[host] = self._leaf_context((host,))
                    if len(minted) > MAX_CONTEXTS:
                        minted.popitem(last=False)
                else:
                    minted.move_to_end(host)
            connection.context = context
            return None

        # The stubs know SSLObject only; a blocking server's callback gets an SSLSocket.
        default.sni_callback = choose
        return default

    def client_context(self) -> ssl.SSLContext:
        """A TLS context for a client that trusts this authority and nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.ca_pem.decode("ascii"))
        return context

    def _leaf_context(self, names: Sequence[str]) -> ssl.SSLContext:
        now = datetime.now(UTC)
        leaf = self._ca.issue_cert(
            *names,
            organization_name=CA_NAME,
            organization_unit_name=CA_NAME,
            not_before=now - timedelta(days=2),  # clients with a wrong clock are what a local STS is for
            not_after=now + LEAF_VALID - timedelta(days=2),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        with leaf.private_key_and_cert_chain_pem.tempfile(dir=str(self.directory)) as path:
            context.load_cert_chain(path)
        return context

    def close(self) -> None:
        """Remove the temporary folder. Contexts made before go on working."""
        self._finalizer()

    def __enter__(self) -> Authority:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
