"""The rotation of an issuer's keys, judged by what is seen from outside: where each key stands, and what comes next.

Phases: **staged** (known), **published** (at every target), **verified** (through the public address as well),
**waiting** (in every API server's own key set as well; the clouds' caches run out), **signing**, **draining** (no API
server signs with it; its tokens still live), **retired** or **removed**. This is the face of the part: observation is
in :mod:`~wif.core.rotation_facts`, gates in :mod:`~wif.core.rotation_gates`, advice in
:mod:`~wif.core.rotation_advice`.
"""

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
    "abort",
    "adopt",
    "assess",
    "flags_for",
    "forget",
    "may_abort",
    "may_adopt",
    "may_forget",
    "may_remove",
    "may_retire",
    "migration_plan",
    "observe",
    "remove",
    "retire",
    "staging_step",
    "timeline",
]

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from wif.core.issuer_state import State
from wif.core.rotation_advice import Step, flags_for, migration_plan, staging_step
from wif.core.rotation_facts import (
    DEFAULT_CACHE_SECONDS,
    KUBELET_REFRESH_SECONDS,
    Observation,
    Policy,
    ServerObservation,
    observe,
)
from wif.core.rotation_gates import (
    Gate,
    abort,
    adopt,
    forget,
    may_abort,
    may_adopt,
    may_forget,
    may_remove,
    may_retire,
    remove,
    retire,
)

Phase = Literal["staged", "published", "verified", "waiting", "signing", "draining", "retired", "removed"]

PHASES: tuple[Phase, ...] = (
    "staged", "published", "verified", "waiting", "signing", "draining", "retired", "removed",
)  # fmt: skip
"""In the order in which a key passes through them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """Where one key stands."""

    kid: str
    phase: Phase
    since: datetime | None
    """When it entered the phase; None where nobody saw it."""
    until: datetime | None
    """When time alone lets it go on; None where something else is missing, or nothing is waited for."""
    blockers: tuple[str, ...] = ()
    """What must happen before the next phase, besides time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """An API server signs with a key that the clouds may not know yet: its tokens may be refused."""

    kid: str
    since: datetime | None
    """The last observation without it; None where there was none."""
    until: datetime
    """When the clouds' caches know it, if it stays published from now on."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something found that is no phase of a rotation."""

    rule: Literal["servers-disagree", "keys-replaced", "signer-unknown", "issuers-differ"]
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationStatus:
    """Everything that ``wif keys status`` says."""

    keys: tuple[KeyStatus, ...]
    """In the order of :data:`PHASES`, then by key id."""
    exposures: tuple[Exposure, ...]
    notices: tuple[Notice, ...]
    unread: tuple[str, ...]
    """What could not be observed; each closes every gate."""
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


def assess(state: State, observation: Observation, policy: Policy) -> RotationStatus:
    """Judge where each key stands.

    Args:
        state: after :func:`observe` has recorded this same observation.
    """
    ...


def timeline(state: State, observation: Observation, policy: Policy) -> tuple[TimelineRow, ...]:
    """The phases of every key, past, present and next, by time."""
    ...
