"""One target brought to what it should hold: read, decide, write, and read again until nothing is left to do.

The order is what keeps a slow publisher from bringing a removed key back: the target is read with its tag, *then* the
state; the write is on that tag; and the round after it reads both again, so a key that was removed meanwhile is taken
out by the very publisher that put it there.
"""

from __future__ import annotations

__all__ = ["Desired", "Leadership", "OpenTarget", "observe", "preview", "settle"]

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wif.core.publication import (
    DISCOVERY_CONTENT_TYPE,
    JWKS_CONTENT_TYPE,
    ObservedDocument,
    ObservedTarget,
    TargetPlan,
    decide,
    diff,
    require_state,
)
from wif.edges.stores import ABSENT, Store, StoredDocument, WriteConflict
from wif.errors import ConfigurationError, UnavailableError
from wif.issuer.pauses import MAX_TRIES, pause
from wif.issuer.report import TargetReport

if TYPE_CHECKING:
    from wif.config.issuers import TargetSettings
    from wif.core.issuer_state import State
    from wif.core.public_keys import IssuerKey
    from wif.issuer.state_store import StateStore

_MAX_WRITES = 12
"""Successful writes of one run to one target: a place that changes what is written to it would be written for ever."""

WRITE_SECONDS = 30.0
"""The longest that one write with its repeats may take; so much of a Lease must be left before it."""


class Leadership(Protocol):
    """The right to be the only writer, for places that have no conditional writes."""

    @property
    def duration_seconds(self) -> float:
        """How long after its last renewal somebody else may take over."""

    def holds(self, for_seconds: float) -> bool:
        """Whether it is still ours, asked anew, and for at least so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What all targets of an issuer should come to."""

    issuer: str
    jwks_uri: str
    discovery_path: str
    jwks_path: str
    vouched: Sequence[IssuerKey]
    cache_control: str
    restore: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTarget:
    """A target and the way to it."""

    settings: TargetSettings
    store: Store

    @property
    def name(self) -> str:
        """Its canonical URL."""
        return self.store.name


def observe(target: OpenTarget, desired: Desired) -> ObservedTarget:
    """Read both documents with their tags.

    Raises:
        WifError: target-unavailable, target-refused.
    """
    store = target.store
    # the key set last: what is decided about keys rests on the youngest reading
    discovery = _observed(store.read(desired.discovery_path)) if store.holds_discovery else None
    return ObservedTarget(
        name=store.name,
        jwks=_observed(store.read(desired.jwks_path)),
        discovery=discovery,
        holds_discovery=store.holds_discovery,
        keeps_headers=store.keeps_headers,
    )


def preview(target: OpenTarget, desired: Desired, observed: ObservedTarget, state: State) -> TargetReport:
    """What :func:`settle` would do; nothing is written."""
    plan = _decide(target, desired, observed, state)
    findings = _Findings()
    findings.take(plan)
    return findings.report(
        target, plan, outcome="would-write" if plan.writes else "unchanged", diff=diff(observed, plan), rounds=1
    )


def settle(
    target: OpenTarget,
    desired: Desired,
    observed: ObservedTarget,
    state: State,
    states: StateStore,
    *,
    leadership: Leadership | None = None,
) -> TargetReport:
    """Write a target until two readings in a row leave nothing to do.

    Args:
        observed: read before ``state`` was.
        state: with the keys that are vouched for now already in it.
        states: where the state is read again.
        leadership: held by the caller; needed where the target is not conditional and has other writers.

    Raises:
        WifError: target-unavailable, target-refused, write-conflict, precondition-missing, lease-lost.
    """
    _require_single_writer(target, leadership)
    findings = _Findings()
    writes = 0
    for attempt in range(MAX_TRIES):
        if attempt:
            observed = observe(target, desired)
            found = states.read()[0]
            require_state(found, [observed])  # a state that vanishes in the middle is not an empty one
            state = found or state
        plan = _decide(target, desired, observed, state)
        findings.take(plan)
        if not plan.writes:
            if writes and leadership is not None and not target.store.is_conditional:
                # A leader that was paused before us may write late: look once more when its Lease is over for sure.
                time.sleep(leadership.duration_seconds)
                leadership, writes = None, 0
                continue
            outcome = "written" if findings.wrote else "unchanged"
            return findings.report(target, plan, outcome=outcome, diff="", rounds=attempt + 1)
        if writes == _MAX_WRITES:
            raise UnavailableError(
                f"{target.name} does not keep what is written to it: {'; '.join(plan.drift)[:300]}",
                code="target-unavailable",
                hint="look for another publisher with other settings, and for a proxy that changes what is stored",
            )
        try:
            _write(target, desired, observed, plan, leadership)
        except WriteConflict:
            pause(attempt)
        else:
            writes += 1
            findings.wrote = True
    raise WriteConflict(f"{target.name} was changed by others before each of {MAX_TRIES} writes")


def _decide(target: OpenTarget, desired: Desired, observed: ObservedTarget, state: State) -> TargetPlan:
    return decide(
        observed,
        state,
        desired.vouched,
        issuer=desired.issuer,
        jwks_uri=desired.jwks_uri,
        clouds=target.settings.clouds,
        restore=desired.restore,
        cache_control=desired.cache_control,
    )


def _write(
    target: OpenTarget, desired: Desired, observed: ObservedTarget, plan: TargetPlan, leadership: Leadership | None
) -> None:
    """The key set first: a discovery document that is there without its keys would be believed."""
    for path, body, seen, content_type in (
        (desired.jwks_path, plan.jwks, observed.jwks, JWKS_CONTENT_TYPE),
        (desired.discovery_path, plan.discovery, observed.discovery, DISCOVERY_CONTENT_TYPE),
    ):
        if body is None:
            continue
        if not target.store.is_conditional and leadership is not None and not leadership.holds(WRITE_SECONDS):
            raise UnavailableError("the Lease is no longer held, so nothing more is written", code="lease-lost")
        target.store.write(
            path,
            body,
            tag=ABSENT if seen is None else seen.tag,
            content_type=content_type,
            cache_control=desired.cache_control,
        )


def _require_single_writer(target: OpenTarget, leadership: Leadership | None) -> None:
    if not target.store.is_conditional and leadership is None and not target.settings.single_writer:
        raise ConfigurationError(
            f"{target.name} has no conditional writes: two publishers could undo each other",
            code="precondition-missing",
        )


def _observed(found: StoredDocument | None) -> ObservedDocument | None:
    if found is None:
        return None
    return ObservedDocument(
        body=found.body, tag=found.tag, content_type=found.content_type, cache_control=found.cache_control
    )


class _Findings:
    """What all rounds together found: what was repaired in the first must still be told."""

    _KINDS = ("added", "removed", "foreign", "altered", "drift", "tampering", "warnings")

    def __init__(self) -> None:
        self.wrote = False
        self._found: Mapping[str, dict[str, None]] = {kind: {} for kind in self._KINDS}

    def take(self, plan: TargetPlan) -> None:
        for kind in self._KINDS:
            self._found[kind].update(dict.fromkeys(getattr(plan, kind)))

    def report(self, target: OpenTarget, plan: TargetPlan, *, outcome: str, diff: str, rounds: int) -> TargetReport:
        return TargetReport(
            name=target.name,
            outcome=outcome,  # type: ignore[arg-type]  # one of the words of Outcome, by both callers
            keys=plan.holds,
            lost=plan.lost,
            filtered=plan.filtered,
            diff=diff,
            rounds=rounds,
            **{kind: tuple(found) for kind, found in self._found.items()},
        )
