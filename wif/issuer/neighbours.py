"""The issuers of one ``wif.yaml``, so that what two of them share is found before either is published.

Two clusters with one issuer, one key or one place for their documents can mint each other's identities. With a
thousand issuers in the file each is compared only with those that have something in common with it.
"""

from __future__ import annotations

__all__ = ["Neighbours"]

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from wif.core.issuer_lint import Finding, IssuerUse, lint_issuers
from wif.core.public_keys import read_key_set
from wif.edges.stores.opening import parse_target
from wif.errors import WifError
from wif.issuer.session import desired_jwks_uri
from wif.issuer.sources import read_key_file, read_source_file

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings
    from wif.core.public_keys import IssuerKey
    from wif.issuer.session import Session


class Neighbours:
    """All issuers of a file. Safe for threads.

    Args:
        issuers: by name. Their keys are read where they stand in files; those of clusters are known once published.
    """

    def __init__(self, issuers: Mapping[str, IssuerSettings]) -> None:
        self._issuers = issuers
        self._uses: dict[str, IssuerUse] = {}
        self._having: dict[str, set[str]] = {}
        self._is_indexed = False
        self._lock = threading.Lock()

    def findings(self, session: Session, keys: Collection[IssuerKey], clouds: Collection[str]) -> tuple[Finding, ...]:
        """What the issuer of this session shares with others of the file, and must not."""
        own = IssuerUse(
            name=session.name or "this one",
            issuer=session.issuer,
            jwks_uri=session.jwks_uri,
            keys=tuple(keys),
            targets=tuple(target.name for target in session.targets),
            former=session.settings.former_issuer,
        )
        with self._lock:
            if not self._is_indexed:
                self._is_indexed = True
                for name, settings in self._issuers.items():
                    self._learn(_use_of(name, settings))
            related = {name for mark in _marks(own) for name in self._having.get(mark, ())} - {session.name}
            uses = [self._uses[name] for name in sorted(related)]
            if session.name in self._issuers:
                self._learn(own)
        return lint_issuers([own, *uses], clouds) if uses else ()

    def _learn(self, use: IssuerUse) -> None:
        self._uses[use.name] = use
        for mark in _marks(use):
            self._having.setdefault(mark, set()).add(use.name)


def _marks(use: IssuerUse) -> Iterator[str]:
    """What no other issuer may have. Coarser than the rules, which then decide."""
    if use.issuer:
        yield f"issuer {use.issuer.rstrip('/').lower()}"
        yield f"jwks {use.jwks_uri}"
    yield from (f"key {key.fingerprint}" for key in use.keys)
    yield from (f"target {target}" for target in use.targets)


def _use_of(name: str, settings: IssuerSettings) -> IssuerUse:
    issuer = settings.issuer or ""
    return IssuerUse(
        name=name,
        issuer=issuer,
        jwks_uri=desired_jwks_uri(settings, issuer),
        keys=tuple(_keys_in_files(settings)),
        targets=tuple(_names(target.url for target in settings.to)),
        former=settings.former_issuer,
    )


def _keys_in_files(settings: IssuerSettings) -> Iterator[IssuerKey]:
    for path in settings.public_keys:
        try:
            yield from read_key_file(path)
        except WifError:
            continue  # the run for that issuer says what is wrong with it
    for place in settings.jwks:
        if "://" not in place:
            try:
                yield from read_key_set(read_source_file(place), origin=place)
            except WifError:
                continue


def _names(urls: Iterable[str]) -> Iterator[str]:
    for url in urls:
        try:
            yield parse_target(url).name
        except WifError:
            continue
