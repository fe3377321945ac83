"""Who the publisher is at a target: a federated credential handed in from above, else the cloud's standard chain.

A credential is asked for before every request and kept until shortly before it ends. What was used is named in the
log, never shown.
"""

from __future__ import annotations

__all__ = [
    "AZURE_STORAGE_SCOPE",
    "GOOGLE_SCOPES",
    "LOCKED_OUT",
    "STANDARD_CHAIN",
    "Chain",
    "Federated",
    "Identities",
    "Identity",
    "identity_of",
]

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from wif.core.credentials import AccessToken, AwsCredentials
from wif.errors import ConfigurationError, WifError

_log = logging.getLogger("wif.stores")

AZURE_STORAGE_SCOPE: Final = "https://storage.azure.com/.default"
"""The scope of a token for Blob storage, in every cloud of Azure."""

GOOGLE_SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "gs": ("https://www.googleapis.com/auth/devstorage.read_write",),
    "gcp-provider": ("https://www.googleapis.com/auth/cloud-platform",),
    "gke-fleet": ("https://www.googleapis.com/auth/cloud-platform",),
}
"""The scopes of a token, by the scheme of the target."""

STANDARD_CHAIN: Final = "standard-chain"
"""The value of ``second_way_in`` that lets the cloud's standard chain take the place of the federated credential."""

LOCKED_OUT: Final = ("key-not-published", "signature-invalid", "trust-denied")
"""Codes, with all that begin with ``issuer-``: what a cloud says whose view of this issuer is broken."""

MARGIN = timedelta(seconds=60)
"""A credential that ends sooner is not begun with; a request takes less than that."""

RESIDENCE = timedelta(seconds=60)
"""A chain that renews by itself is asked again after this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One credential as a store uses it."""

    origin: str
    """Where it came from, for messages: ``the federated credential``, ``AWS_ACCESS_KEY_ID``."""
    secrets: Mapping[str, str] = field(repr=False)
    """``access_key_id``, ``secret_access_key``, ``token`` (AWS); ``token`` (GCP); ``token``, ``access_key`` or
    ``sas_token`` (Azure)."""
    expires_at: datetime | None = None
    """Aware; None where it is not known, or never."""
    from_instance: bool = False
    """Whether a metadata address gave it: the identity of the machine, which nobody may have meant."""


class Federated(Protocol):
    """What the caller hands in: the exchanged credential of a cloud."""

    def __call__(self, cloud: str, *, rejected: bool = False) -> AwsCredentials | AccessToken | None:
        """The credential of ``aws``, ``gcp`` or ``azure`` (a token of :data:`AZURE_STORAGE_SCOPE`).

        Args:
            cloud: whose.
            rejected: the cloud has just refused the one given before: make a new one.

        Returns:
            None where no federated identity is configured for this cloud.
        """


Chain = Callable[[bool], Identity]
"""A standard chain; the argument says that the credential given before was refused, so all is read anew."""


def identity_of(credential: AwsCredentials | AccessToken) -> Identity:
    """An exchanged credential as a store uses it."""
    if isinstance(credential, AwsCredentials):
        secrets = {
            "access_key_id": credential.access_key_id,
            "secret_access_key": credential.secret_access_key,
            "token": credential.session_token,
        }
    else:
        secrets = {"token": credential.token}
    return Identity(origin="the federated credential", secrets=secrets, expires_at=credential.expires_at)


class Identities:
    """The credential of one target, now and after it has been renewed. Safe for threads.

    Args:
        cloud: ``aws``, ``gcp`` or ``azure``.
        target: the target's name, for messages.
        chain: the standard chain of the cloud.
        federated: asked first.
        second_way_in: :data:`STANDARD_CHAIN` lets the chain take over where the cloud's view of the issuer is broken;
            any other text is the operator's note of a way that nothing here can take.
    """

    def __init__(
        self,
        cloud: str,
        *,
        target: str,
        chain: Chain,
        federated: Federated | None = None,
        second_way_in: str | None = None,
    ) -> None:
        self._cloud = cloud
        self._target = target
        self._chain = chain
        self._federated = federated
        self._second_way_in = second_way_in
        self._lock = threading.Lock()
        self._kept: Identity | None = None
        self._until = datetime.min.replace(tzinfo=UTC)
        self._told = ""

    @property
    def origin(self) -> str:
        """Where the credential used last came from."""
        return self._told or "no credential"

    def current(self) -> Identity:
        """The credential to use now.

        Raises:
            WifError: as the exchange or the chain has it; never with a secret.
        """
        with self._lock:
            if self._kept is None or datetime.now(UTC) >= self._until:
                self._renew(rejected=False)
            assert self._kept is not None  # noqa: S101 - _renew has set it or raised
            return self._kept

    def renew(self, refused: Identity) -> None:
        """Drop a credential that the target has refused, unless another thread has done so already."""
        with self._lock:
            if self._kept is refused:
                self._renew(rejected=True)

    def _renew(self, *, rejected: bool) -> None:
        identity = self._obtain(rejected=rejected)
        now = datetime.now(UTC)
        if identity.expires_at is not None and identity.expires_at <= now:
            raise ConfigurationError(
                f"{self._target}: {identity.origin} ended at {identity.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                code="credentials-rejected",
                cloud=self._cloud,
                hint="obtain a new one, and check the clock of this machine",
            )
        until = now + RESIDENCE
        if identity.expires_at is not None:
            until = min(until, identity.expires_at - MARGIN)
        self._kept, self._until = identity, until
        if identity.origin != self._told:
            self._told = identity.origin
            level = logging.WARNING if identity.from_instance else logging.INFO
            _log.log(level, "%s: written with %s", self._target, identity.origin)

    def _obtain(self, *, rejected: bool) -> Identity:
        if self._federated is None:
            return self._chain(rejected)
        try:
            credential = self._federated(self._cloud, rejected=rejected)
        except WifError as error:
            locked_out = error.code in LOCKED_OUT or error.code.startswith("issuer-")
            if not locked_out or self._second_way_in != STANDARD_CHAIN:
                raise
            _log.warning(
                "%s: the federated credential is refused (%s): the second way in, the standard chain, takes its place",
                self._target,
                error.code,
            )
            return self._chain(rejected)
        return self._chain(rejected) if credential is None else identity_of(credential)
