"""What the documents that are served come from: an issuer's own sources, or a place that a publisher writes.

Neither is copied. Keys are read strictly and rendered anew; what a place says about issuer and ``jwks_uri`` is held
against what is served.
"""

from __future__ import annotations

__all__ = ["SettingsSource", "StoreSource", "described"]

import logging
from typing import TYPE_CHECKING, NamedTuple

from wif.core.discovery import DISCOVERY_PATH, parse_discovery
from wif.core.documents import parse_json
from wif.core.public_keys import read_key_set
from wif.errors import ConfigurationError, ProtocolError, WifError
from wif.issuer.addresses import document_paths
from wif.serve.refresh import Reading

if TYPE_CHECKING:
    from wif.core.issuer_state import State
    from wif.edges.stores import Store
    from wif.issuer.session import Session

_LOGGER = logging.getLogger("wif.serve")


class SettingsSource:
    """API servers, PEM files and key sets, as the settings of an issuer name them.

    A key that the trusted state records as removed is not served, whoever still vouches for it. A state that was read
    once is remembered where it cannot be read for a while; one that the settings name must be there.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._state: State | None = None
        self._states_refused = False

    @property
    def name(self) -> str:
        """The issuer's name in ``wif.yaml``, or the issuer."""
        return self._session.name or self._session.issuer

    def read(self) -> Reading:
        """Ask every source, then the state: a tombstone that is set meanwhile is seen."""
        vouched = self._session.sources.read()
        ages = [server.max_age_seconds for server in vouched.servers if server.max_age_seconds is not None]
        state, problem = self._read_state()
        return Reading(
            keys=vouched.keys,
            max_age_seconds=min(ages, default=None),
            is_final=not vouched.servers,
            removed=state.is_removed if state is not None else lambda _: False,
            problems=(*vouched.problems, *problem),
        )

    def _read_state(self) -> tuple[State | None, tuple[str, ...]]:
        try:
            found, _ = self._session.states.read()
        except WifError as error:
            if self._state is None and self._session.settings.state is not None:
                raise
            return self._state, (f"the state cannot be read, so removals in it are not seen: {error.message}",)
        self._state = found if found is not None else self._state
        return self._state, ()


class StoreSource:
    """A directory or bucket that holds both documents of one issuer, each at its path below the issuer.

    Args:
        issuer: byte for byte what the discovery document there must say.
        jwks_uri: the same.
    """

    def __init__(self, store: Store, *, issuer: str, jwks_uri: str) -> None:
        self._store = store
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        self._discovery_path, self._jwks_path = document_paths(issuer, jwks_uri)

    @property
    def name(self) -> str:
        """The store's."""
        return self._store.name

    def read(self) -> Reading:
        """Read both documents; the discovery document is checked, and only the keys are taken."""
        discovery = parse_discovery(_body(self._store, self._discovery_path), issuer=self._issuer)
        if discovery.jwks_uri != self._jwks_uri:
            raise ProtocolError(
                f"the discovery document in {self.name} names the jwks_uri {discovery.jwks_uri[:256]!r}, "
                f"expected {self._jwks_uri!r}",
                code="document-invalid",
                hint="find out who changed it; start the server anew if that is meant",
            )
        keys = read_key_set(_body(self._store, self._jwks_path), origin=f"{self.name}/{self._jwks_path}")
        return Reading(keys=keys, is_final=True)


class Described(NamedTuple):
    """What a place says about itself."""

    issuer: str
    jwks_uri: str


def described(store: Store, *, issuer: str | None = None) -> Described:
    """The issuer and ``jwks_uri`` of the documents at a place.

    Args:
        issuer: what it must be; None takes the place's word.

    Raises:
        ConfigurationError: document-invalid, issuer-mismatch.
    """
    body = _body(store, DISCOVERY_PATH.removeprefix("/"))
    try:
        document = parse_json(body)
        named = document.get("issuer") if isinstance(document, dict) else None
        found = parse_discovery(body, issuer=issuer or str(named))
    except (ValueError, ProtocolError) as error:
        raise ConfigurationError(
            f"{store.name} holds no discovery document that can be served: {getattr(error, 'message', error)}",
            code=error.code if isinstance(error, ProtocolError) else "document-invalid",
            hint="publish to it with: wif issuer publish --to URL",
        ) from error
    return Described(found.issuer, found.jwks_uri)


def _body(store: Store, path: str) -> bytes:
    found = store.read(path)
    if found is None:
        raise ConfigurationError(
            f"{store.name} has no {path}",
            code="document-invalid",
            hint="publish to it with: wif issuer publish --to URL",
        )
    return found.body
