"""What one target should hold, decided from what it holds, the trusted state and what the sources vouch for.

The rules are those of the security of the whole: a key set only grows, a removed key never comes back, a key that
nobody vouches for is copied nowhere and adopted never, and a key known from the state alone goes to no new place.
"""

from __future__ import annotations

__all__ = [
    "JWKS_CONTENT_TYPE",
    "DISCOVERY_CONTENT_TYPE",
    "ObservedDocument",
    "ObservedTarget",
    "TargetPlan",
    "decide",
    "diff",
    "record_written",
    "removed_in",
    "require_state",
    "write_ahead",
]

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from wif.core.issuer_state import State
from wif.core.public_keys import IssuerKey

JWKS_CONTENT_TYPE = "application/jwk-set+json"
DISCOVERY_CONTENT_TYPE = "application/json"

DEFAULT_CACHE_CONTROL = "public, max-age=300"
"""For rotation; Google's storage would otherwise say an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedDocument:
    """A document as it was read at a target."""

    body: bytes = field(repr=False)
    tag: str
    content_type: str | None = None
    cache_control: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedTarget:
    """One target as it was read; None for a document that is not there."""

    name: str
    jwks: ObservedDocument | None
    discovery: ObservedDocument | None
    holds_discovery: bool = True
    """Whether it is a place for a discovery document; the Google control planes take the key set alone."""
    keeps_headers: bool = True
    """Whether it keeps Content-Type and Cache-Control, which then can drift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlan:
    """What to do at one target. Key ids are sorted; an entry without one is called ``(no kid)``."""

    target: str
    jwks: bytes | None = field(repr=False)
    """To be written; None leaves what is there."""
    discovery: bytes | None = field(repr=False)
    holds: tuple[str, ...]
    """The key ids of ours that the target has after the plan."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Taken away, because a tombstone stands against them."""
    foreign: tuple[str, ...] = ()
    """Nobody vouches for them and the state does not record them: kept as they are, or dropped by ``restore``."""
    altered: tuple[str, ...] = ()
    """Found with other material than ours."""
    lost: tuple[str, ...] = ()
    """Recorded, not vouched for by this run, and not found here: not added from the state alone."""
    filtered: tuple[str, ...] = ()
    """Left out, because none of the clouds that read this target verifies its algorithm."""
    drift: tuple[str, ...] = ()
    """What differs and is written by a normal run, in sentences."""
    tampering: tuple[str, ...] = ()
    """What somebody else must have done, in sentences; also where this plan repairs it."""
    warnings: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether anything is to be written."""
        return self.jwks is not None or self.discovery is not None

    @property
    def is_clean(self) -> bool:
        """Whether the target is as it should be: nothing to write, nothing that somebody else did."""
        return not (self.writes or self.drift or self.tampering)


def decide(
    target: ObservedTarget,
    state: State,
    vouched: Sequence[IssuerKey],
    *,
    issuer: str,
    jwks_uri: str,
    clouds: Collection[str] = ("aws", "gcp", "azure"),
    restore: bool = False,
    cache_control: str = DEFAULT_CACHE_CONTROL,
) -> TargetPlan:
    """What one target should hold, and what is wrong with what it holds.

    Args:
        state: read after the target, or after write-ahead.
        vouched: the keys that the sources of this run vouch for, each with its material.
        clouds: those that read this target.
        restore: also repair what only somebody else can have done.
    """
    ...


def require_state(state: State | None, targets: Iterable[ObservedTarget]) -> None:
    """Refuse to take a missing or empty state for that of a new issuer while a target holds documents.

    Raises:
        DriftError: state-missing.
    """
    ...


def write_ahead(
    state: State,
    vouched: Sequence[IssuerKey],
    now: datetime,
    *,
    jwks_uri: str | None = None,
    origins: Mapping[str, str] | None = None,
) -> State:
    """The state with the keys that the sources vouch for now, to be written before any target is.

    A removed key is not added; a key whose id is recorded with other material is left out and the record kept.

    Args:
        jwks_uri: about to be published.
        origins: what vouched, by key id.
    """
    ...


def record_written(state: State, target: str, kids: Collection[str]) -> State:
    """The state after a target was written: these keys, and no others, stand there."""
    ...


def removed_in(body: bytes, state: State) -> tuple[str, ...]:
    """The key ids of a key set that the state has removed: what was written meanwhile must then be written again."""
    ...


def diff(target: ObservedTarget, plan: TargetPlan) -> str:
    """A unified diff of a target's documents, pretty-printed, for ``--dry-run``; empty where nothing is written.

    Private members that somebody published are not shown, and nothing in it moves a terminal's cursor.
    """
    ...
