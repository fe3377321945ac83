"""The values of a rotation: what is said about time, what is observed, and what is judged."""

from __future__ import annotations

__all__ = [
    "DEFAULT_CACHE_SECONDS",
    "KUBELET_REFRESH_SECONDS",
    "PHASES",
    "Exposure",
    "Gate",
    "KeyStatus",
    "Notice",
    "Observation",
    "Phase",
    "Policy",
    "RotationStatus",
    "ServerObservation",
    "Step",
    "TimelineRow",
]

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from wif.core.public_keys import IssuerKey
from wif.errors import ConfigurationError

DEFAULT_CACHE_SECONDS = 86_400
"""How long a cloud may go on without reading the key set again. None documents it; Gardener waits as long, and
Microsoft's guidance to validators is 24 hours."""

KUBELET_REFRESH_SECONDS = 120
"""The kubelet looks after a pod's volumes once a minute (``syncFrequency``): a token may reach the pod up to two
looks after it was signed."""

Phase = Literal["staged", "published", "verified", "waiting", "signing", "draining", "retired", "removed"]

PHASES: tuple[Phase, ...] = ("staged", "published", "verified", "waiting", "signing", "draining", "retired", "removed")
"""In the order in which a key passes through them."""


# -- said and observed -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operators say about time.

    Raises:
        ConfigurationError: config-invalid for a negative time, or a longest lifetime of nothing.
    """

    cache_seconds: int = DEFAULT_CACHE_SECONDS
    """A cloud's cache of the key set; more where a larger max-age is seen."""
    skew_seconds: int = 300
    longest_token_seconds: int | None = None
    """``--longest-token-lifetime``; None leaves it to what the API servers are seen to grant."""

    def __post_init__(self) -> None:
        longest = self.longest_token_seconds
        for name, value, least in (
            ("cache_seconds", self.cache_seconds, 0),
            ("skew_seconds", self.skew_seconds, 0),
            ("longest_token_seconds", 1 if longest is None else longest, 1),
        ):
            if value < least:
                raise ConfigurationError(f"{name} is {value}, expected {least} or more", code="config-invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerObservation:
    """One API server that answered."""

    name: str
    keys: tuple[IssuerKey, ...]
    """Its own key set."""
    signer: str | None
    """The key id of a live token of it; None where none could be had."""
    max_age_seconds: int | None = None
    """How long its key set may be cached."""
    longest_token_seconds: int | None = None
    """The longest lifetime that it grants; 0 is no limit, None is not seen."""
    issuer: str | None = None
    """Its tokens' ``iss``; None is not seen."""

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of its key set."""
        return frozenset(key.key_id for key in self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at everything.

    Key ids stand for keys: the observer leaves out of ``targets`` and ``public`` an id whose material there is not
    the recorded or vouched one. Foreign ids stay in.
    """

    at: datetime
    servers: tuple[ServerObservation, ...]
    servers_complete: bool
    """Whether every API server that is known of answered."""
    targets: Mapping[str, frozenset[str] | None]
    """The key ids at each target, by its name; None where it could not be read. Nothing published yet: empty."""
    public: frozenset[str] | None = None
    """The key ids at the public address."""
    public_known: bool = True
    """Whether there is a public address; if so, ``public`` None says that it could not be read."""
    public_max_age_seconds: int | None = None
    """How long the public key set may be cached, as its own headers say."""
    missing_servers: tuple[str, ...] = ()
    """The names of those that did not answer, where known."""


# -- judged ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The answer to a step that was asked for."""

    allowed: bool
    reasons: tuple[str, ...] = ()
    """Why not; empty where it is allowed."""
    consequences: tuple[str, ...] = ()
    """What follows from it and what to do next, in whole sentences, to print before it is done."""
    not_before: datetime | None = None
    """When the time that it waits for is over, where that can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """Where one key stands."""

    kid: str
    phase: Phase
    since: datetime | None
    """When it entered the phase; None where nobody saw it."""
    until: datetime | None
    """When time lets it go on; None where that cannot be told, or nothing is waited for. May be past."""
    blockers: tuple[str, ...] = ()
    """What must happen before the next phase, besides time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """An API server signs with a key that the clouds may not know: its tokens may be refused."""

    kid: str
    since: datetime | None
    """The last observation without it; None where there was none."""
    until: datetime | None
    """When the clouds' caches know it, if it stays published from now on; None where they never will."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something found that is no phase of a rotation."""

    rule: Literal["keys-replaced", "servers-disagree", "issuers-differ"]
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step for the operators."""

    text: str
    """What to do and why, one or more sentences."""
    flags: tuple[str, ...] = ()
    """The flags of kube-apiserver to have afterwards, all of each kind and in their order; files by placeholders."""
    command: str | None = None
    """The command of wif that does it or watches it, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationStatus:
    """Everything that ``wif keys status`` says."""

    keys: tuple[KeyStatus, ...]
    """In the order of :data:`PHASES`, then by key id."""
    exposures: tuple[Exposure, ...]
    notices: tuple[Notice, ...]
    unread: tuple[str, ...]
    """What could not be observed; each closes the gates."""
    next_step: Step


class TimelineRow(NamedTuple):
    """One phase of one key."""

    kid: str
    phase: Phase
    since: datetime | None
    until: datetime | None
    """None: it lasts, and nobody can say until when."""
    waits_for: str
    """Empty for a phase that is over."""
