"""One target brought to what it should hold: read, decide, write, and read again until nothing is left to do.

The order is what keeps a slow publisher from bringing a removed key back: the target is read with its tag, *then* the
state; the write is on that tag; and the round after it reads both again, so a key that was removed meanwhile is taken
out by the very publisher that put it there.
"""

from __future__ import annotations

__all__ = ["Desired", "OpenTarget", "observe", "preview", "settle"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
from wif.errors import UnavailableError, WifError
from wif.issuer.pauses import MAX_TRIES, pause
from wif.issuer.report import Outcome, TargetReport

if TYPE_CHECKING:
    from wif.config.issuers import TargetSettings
    from wif.core.issuer_state import State
    from wif.core.public_keys import IssuerKey
    from wif.issuer.state_store import StateStore

_MAX_WRITES = 12
"""Successful writes of one run to one target: a place that changes what is written to it would be written for ever."""


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


def observe(target: OpenTarget, discovery_path: str, jwks_path: str) -> ObservedTarget:
    """Read both documents with their tags.

    Raises:
        WifError: target-unavailable, target-refused.
    """
    store = target.store
    # the key set last: what is decided about keys rests on the youngest reading
    discovery = _observed(store.read(discovery_path)) if store.holds_discovery else None
    return ObservedTarget(
        name=store.name,
        jwks=_observed(store.read(jwks_path)),
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
) -> TargetReport:
    """Write a target until two readings in a row leave nothing to do.

    Args:
        observed: read before ``state`` was.
        state: with the keys that are vouched for now already in it.
        states: where the state is read again.

    Returns:
        What was found and done; a failure is in it, with what was found before.
    """
    findings = _Findings()
    try:
        return _settle(target, desired, observed, state, states=states, findings=findings)
    except WifError as error:
        return findings.failure(target, error)


def _settle(
    target: OpenTarget,
    desired: Desired,
    observed: ObservedTarget,
    state: State,
    *,
    states: StateStore,
    findings: _Findings,
) -> TargetReport:
    writes = 0
    for attempt in range(MAX_TRIES):
        if attempt:
            observed = observe(target, desired.discovery_path, desired.jwks_path)
            found = states.read()[0]
            require_state(found, [observed])  # a state that vanishes in the middle is not an empty one
            state = found or state
        plan = _decide(target, desired, observed, state)
        findings.take(plan)
        if not plan.writes:
            outcome: Outcome = "written" if findings.wrote else "unchanged"
            return findings.report(target, plan, outcome=outcome, rounds=attempt + 1)
        if writes == _MAX_WRITES:
            raise UnavailableError(
                f"{target.name} does not keep what is written to it: {'; '.join(plan.drift)[:300]}",
                code="target-unavailable",
                hint="look for another publisher with other settings, and for a proxy that changes what is stored",
            )
        try:
            _write(target, desired, observed, plan)
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


def _write(target: OpenTarget, desired: Desired, observed: ObservedTarget, plan: TargetPlan) -> None:
    """The key set first: a discovery document that is there without its keys would be believed."""
    for path, body, seen, content_type in (
        (desired.jwks_path, plan.jwks, observed.jwks, JWKS_CONTENT_TYPE),
        (desired.discovery_path, plan.discovery, observed.discovery, DISCOVERY_CONTENT_TYPE),
    ):
        if body is None:
            continue
        target.store.write(
            path,
            body,
            tag=ABSENT if seen is None else seen.tag,
            content_type=content_type,
            cache_control=desired.cache_control,
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

    def report(
        self, target: OpenTarget, plan: TargetPlan, *, outcome: Outcome, rounds: int, diff: str = ""
    ) -> TargetReport:
        return replace(
            self.failure(target, None),
            outcome=outcome,
            keys=plan.holds,
            lost=plan.lost,
            filtered=plan.filtered,
            diff=diff,
            rounds=rounds,
        )

    def failure(self, target: OpenTarget, error: WifError | None) -> TargetReport:
        return TargetReport(
            name=target.name,
            outcome="failed",
            error=error,
            added=tuple(self._found["added"]),
            removed=tuple(self._found["removed"]),
            foreign=tuple(self._found["foreign"]),
            altered=tuple(self._found["altered"]),
            drift=tuple(self._found["drift"]),
            tampering=tuple(self._found["tampering"]),
            warnings=tuple(self._found["warnings"]),
        )
