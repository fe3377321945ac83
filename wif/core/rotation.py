"""The rotation of an issuer's keys, judged by what is seen from outside: where each key stands, and what comes next.

Phases: **staged** (known), **published** (at every target), **verified** (through the public address as well),
**waiting** (in every API server's own key set as well; the clouds' caches run out), **signing**, **draining** (no API
server signs with it; its tokens still live), **retired** or **removed**. This is the face of the part: values are in
:mod:`~wif.core.rotation_values`, what is recorded in :mod:`~wif.core.rotation_facts`, gates in
:mod:`~wif.core.rotation_gates`, advice in :mod:`~wif.core.rotation_advice`.
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

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from wif.core.issuer_state import KeyRecord, State
from wif.core.rotation_advice import Situation, flags_for, migration_plan, next_step, staging_step
from wif.core.rotation_facts import (
    cache_seconds,
    missing_places,
    observe,
    signers,
    unanswered_servers,
    unread_places,
    unread_public,
    unread_targets,
)
from wif.core.rotation_gates import (
    abort,
    adopt,
    drained_at,
    forget,
    may_abort,
    may_adopt,
    may_forget,
    may_remove,
    may_retire,
    remove,
    retire,
    retire_blockers,
)
from wif.core.rotation_values import (
    DEFAULT_CACHE_SECONDS,
    KUBELET_REFRESH_SECONDS,
    PHASES,
    Exposure,
    Gate,
    KeyStatus,
    Notice,
    Observation,
    Phase,
    Policy,
    RotationStatus,
    ServerObservation,
    Step,
    TimelineRow,
)


def assess(state: State, observation: Observation, policy: Policy) -> RotationStatus:
    """Judge where each key stands.

    Args:
        state: after :func:`observe` has recorded this same observation.
    """
    keys = sorted(
        (
            *(_judge(state, kid, observation, policy) for kid in state.keys),
            *(
                KeyStatus(
                    kid=kid,
                    phase="retired" if stone.how == "retired" else "removed",
                    since=stone.removed_at,
                    until=None,
                )
                for kid, stone in state.removed.items()
            ),
        ),
        key=lambda key: (PHASES.index(key.phase), key.kid),
    )
    situation = Situation(
        at=observation.at,
        keys=tuple(keys),
        exposures=tuple(_exposures(state, observation, policy)),
        notices=tuple(_notices(state, observation)),
        unread=unread_places(observation),
        signing=signers(observation),
        served=frozenset(kid for server in observation.servers for kid in server.key_ids),
        may_have_signed=frozenset(
            kid for kid, record in state.keys.items() if record.signing_since is None and record.stopped_at is not None
        ),
    )
    return RotationStatus(
        keys=situation.keys,
        exposures=situation.exposures,
        notices=situation.notices,
        unread=situation.unread,
        next_step=next_step(situation),
    )


# -- phases ----------------------------------------------------------------------------------------------------


def _judge(state: State, kid: str, observation: Observation, policy: Policy) -> KeyStatus:
    record = state.keys[kid]
    missing = missing_places(observation, kid)
    if record.is_signing:
        blockers = (*missing.targets, *missing.public, *missing.servers)
        return KeyStatus(kid=kid, phase="signing", since=record.signing_since, until=None, blockers=blockers)
    if record.signing_since is not None or record.adopted or (record.stopped_at is not None and not record.served):
        blockers = retire_blockers(state, kid, record, observation, policy)
        until = drained_at(record, observation, policy)
        return KeyStatus(kid=kid, phase="draining", since=record.stopped_at, until=until, blockers=blockers)
    rows: tuple[tuple[Phase, datetime | None, tuple[str, ...]], ...] = (
        ("staged", record.added_at, (*missing.targets, *unread_targets(observation))),
        ("published", record.published_at, (*missing.public, *unread_public(observation))),
        ("verified", record.verified_at, (*missing.servers, *unanswered_servers(observation))),
    )
    for phase, since, blockers in rows:
        if blockers:
            return KeyStatus(kid=kid, phase=phase, since=since, until=None, blockers=blockers)
    return KeyStatus(
        kid=kid, phase="waiting", since=record.visible_since, until=_cached_at(record, observation, policy)
    )


def _cached_at(record: KeyRecord, observation: Observation, policy: Policy) -> datetime:
    """When the clouds' caches know a key, if it stays visible."""
    return (record.visible_since or observation.at) + timedelta(seconds=cache_seconds(observation, policy))


def _exposures(state: State, observation: Observation, policy: Policy) -> Iterator[Exposure]:
    for kid, record in sorted(state.keys.items()):
        if record.exposed_since is None:
            continue
        until = _cached_at(record, observation, policy)
        missing = missing_places(observation, kid)
        places = "; ".join((*missing.targets, *missing.public, *missing.servers))
        end = "if it is published everywhere now" if places else "at the latest"
        how = f"and {places}" if places else "although it has not been visible everywhere for as long as clouds cache"
        yield Exposure(
            kid=kid,
            since=record.exposed_since,
            until=until,
            message=(
                f"API servers sign with the key {kid[:64]!a}, {how}: clouds may refuse its tokens, since "
                f"{_time(record.exposed_since)} at the earliest and until {_time(until)} {end}"
            ),
        )
    for kid in sorted(signers(observation) - state.keys.keys()):
        if kid in state.removed:
            what = "which is removed: clouds refuse its tokens until another key signs"
            yield Exposure(
                kid=kid,
                since=state.removed[kid].removed_at,
                until=None,
                message=f"API servers sign with the key {kid[:64]!a}, {what}",
            )
        else:
            until = observation.at + timedelta(seconds=cache_seconds(observation, policy))
            yield Exposure(
                kid=kid,
                since=state.observed_at,
                until=until,
                message=(
                    f"API servers sign with the key {kid[:64]!a}, which was never published: clouds may refuse "
                    f"its tokens until {_time(until)} if it is published everywhere now"
                ),
            )


# -- notices ---------------------------------------------------------------------------------------------------


def _notices(state: State, observation: Observation) -> Iterator[Notice]:
    served = {kid for server in observation.servers for kid in server.key_ids}
    is_foreign = bool(served and state.keys) and served.isdisjoint(state.keys) and served.isdisjoint(state.removed)
    if state.replaced_at is not None or is_foreign:
        since = "now" if state.replaced_at is None else f"since {_time(state.replaced_at)}"
        former = sorted(kid for kid, record in state.keys.items() if kid not in served)
        yield Notice(
            rule="keys-replaced",
            message=(
                f"the API servers list none of the keys that they listed before ({since}): the cluster was restored or "
                f"started with other signing keys, or files were replaced instead of added; without a source is "
                f"{', '.join(ascii(kid[:64]) for kid in former)}"
            ),
            hint=(
                "publish the keys of now at once (NEW); if the former files are still there, list them again (OLD), "
                "else vouch for them with --public-key until their tokens have ended, and restart the pods"
            ),
        )
    issuers = sorted({server.issuer for server in observation.servers if server.issuer is not None})
    if len(issuers) > 1:
        yield Notice(
            rule="issuers-differ",
            message=f"API servers write different issuers: {', '.join(ascii(issuer[:256]) for issuer in issuers)}",
            hint="trust and publish both until all API servers write the same, and the tokens of the other have ended",
        )
    refusals = [
        f"{other.name} does not accept tokens of {server.name} ({server.signer[:64]!a})"
        for server in observation.servers
        for other in observation.servers
        if server.signer is not None and server.signer not in other.key_ids
    ]
    if refusals:
        yield Notice(
            rule="servers-disagree",
            message="; ".join(refusals[:8]),
            hint="list both keys in --service-account-key-file of every API server",
        )


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


# -- timeline --------------------------------------------------------------------------------------------------


def timeline(state: State, observation: Observation, policy: Policy) -> tuple[TimelineRow, ...]:
    """The phases of every key, past and present, by time; what nobody saw has no row.

    Args:
        state: after :func:`observe` has recorded this same observation.
    """
    rows: list[TimelineRow] = []
    for status in assess(state, observation, policy).keys:
        past = _past(state.keys.get(status.kid), status)
        begins = [*(since for _, since in past), status.since]
        rows.extend(
            TimelineRow(status.kid, phase, since, end, "") for (phase, since), end in zip(past, begins[1:], strict=True)
        )
        rows.append(TimelineRow(status.kid, status.phase, status.since, status.until, _waits_for(status)))
    return tuple(sorted(rows, key=lambda row: (row.since is None, row.since or observation.at, row.kid)))


def _past(record: KeyRecord | None, status: KeyStatus) -> list[tuple[Phase, datetime]]:
    """The phases that are over, each with its beginning; none that began after a later one did."""
    if record is None:
        return []
    begun: tuple[tuple[Phase, datetime | None], ...] = (
        ("staged", record.added_at),
        ("published", record.published_at),
        ("verified", record.verified_at),
        ("waiting", record.visible_since),
        ("signing", record.signing_since),
    )
    past: list[tuple[Phase, datetime]] = []
    end = status.since
    for phase, since in reversed(begun):
        is_earlier = PHASES.index(phase) < PHASES.index(status.phase)
        if since is not None and is_earlier and (end is None or since <= end):
            past.insert(0, (phase, since))
            end = since
    return past


_WAITS: Mapping[Phase, str] = {
    "waiting": "the clouds' caches",
    "signing": "",
    "draining": "the last of its tokens",
}


def _waits_for(status: KeyStatus) -> str:
    return "; ".join(status.blockers) or _WAITS.get(status.phase, "")
