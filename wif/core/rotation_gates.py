"""Whether a step of a rotation is safe by what is seen now, and the state after it.

A gate never trusts a timer or the state alone: what could not be read closes it. The transitions only write what
was decided; the caller asks the gate first, and publishes after.
"""

from __future__ import annotations

__all__ = [
    "Gate",
    "abort",
    "adopt",
    "drained_at",
    "forget",
    "may_abort",
    "may_adopt",
    "may_forget",
    "may_remove",
    "may_retire",
    "remove",
    "retire",
    "retire_blockers",
]

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from wif.core.issuer_state import KeyRecord, RemovedHow, State, Tombstone
from wif.core.public_keys import IssuerKey
from wif.core.rotation_facts import (
    cache_seconds,
    drain_seconds,
    longest_token,
    missing_places,
    signers,
    unread_places,
)
from wif.core.rotation_values import Gate, Observation, Policy
from wif.errors import ConfigurationError

_KUBELET_RENEWS_AT = 0.8
"""Of a token's life, or after 24 hours: Kubernetes ``pkg/kubelet/token``."""

_DAY_SECONDS = 86_400

_SESSIONS = (
    ("AWS", 12, "sessions that roles already gave live on for up to 12 h (their maximum session duration)"),
    ("Google Cloud", 12, "access tokens live on for 1 h (up to 12 h where a service account's lifetime is extended)"),
    ("Entra ID", 24, "access tokens live on for 1 to 24 h"),
)
"""What a credential given against a token outlives it by; the clouds' own documents."""


# -- gates -----------------------------------------------------------------------------------------------------


def may_retire(
    state: State, kid: str, observation: Observation, policy: Policy, *, own_token_kid: str | None = None
) -> Gate:
    """Whether a key has outlived every token that it signed, by what is seen from outside now.

    Args:
        own_token_kid: the key of the token that this publisher itself writes with, where it has one.
    """
    record = state.keys.get(kid)
    if record is None:
        return _unknown(state, kid)
    reasons = [*retire_blockers(state, kid, record, observation, policy)]
    if own_token_kid == kid:
        reasons.append(
            "this publisher's own token is signed by it: it goes last, after a token of another key has written"
        )
    not_before = drained_at(record, observation, policy)
    if not_before is not None and observation.at < not_before:
        reasons.append(f"its tokens may live until {_time(not_before)}")
    return Gate(
        allowed=not reasons,
        reasons=tuple(reasons),
        consequences=(
            "clouds refuse every token of this key once their caches end; by what was seen, none is left",
            "API servers go on accepting it until it is out of --service-account-key-file: leave it there while tokens "
            "for the API server itself may live, up to a year where --service-account-extend-token-expiration is on",
        ),
        not_before=not_before,
    )


def retire_blockers(
    state: State, kid: str, record: KeyRecord, observation: Observation, policy: Policy
) -> tuple[str, ...]:
    """What stands against retiring a recorded key, besides time."""
    reasons = [*unread_places(observation), *_signing_reasons(kid, observation)]
    reasons += _successor_reasons(state, kid, observation)
    longest = longest_token(record, observation, policy)
    if longest.problem:
        reasons.append(longest.problem)
    if record.stopped_at is None and not reasons:
        reasons.append("only the state speaks of it: no observation has shown yet that it stopped signing")
    return tuple(reasons)


def drained_at(record: KeyRecord, observation: Observation, policy: Policy) -> datetime | None:
    """When the last token that a key may have signed has ended; None where that cannot be told."""
    longest = longest_token(record, observation, policy)
    if record.stopped_at is None or longest.seconds is None:
        return None
    return record.stopped_at + timedelta(seconds=drain_seconds(longest.seconds, policy))


def _signing_reasons(kid: str, observation: Observation) -> list[str]:
    servers = [server.name for server in observation.servers if server.signer == kid]
    return [f"the API server {name} signs with it" for name in servers]


def _successor_reasons(state: State, kid: str, observation: Observation) -> list[str]:
    """What is missing at the keys that sign now: each must be recorded and seen everywhere."""
    reasons = []
    successors = sorted(signers(observation) - {kid})
    if not successors:
        reasons.append("no other key is seen to sign")
    for other in successors:
        if other not in state.keys:
            reasons.append(f"the key {_quoted(other)} signs now and is not recorded: run wif issuer publish")
            continue
        missing = missing_places(observation, other)
        places = (*missing.targets, *missing.public)
        if places:
            reasons.append(f"the key {_quoted(other)} signs now, but {places[0]}")
    return reasons


def may_abort(
    state: State, kid: str, observation: Observation, policy: Policy, *, own_token_kid: str | None = None
) -> Gate:
    """Whether a staged key can be given up: only one that no API server signs with or may have signed with.

    A key that may have signed, unseen, goes the way of :func:`may_retire`.
    """
    record = state.keys.get(kid)
    if record is None:
        return _unknown(state, kid)
    reasons = [*unread_places(observation), *_signing_reasons(kid, observation)]
    if record.last_seen_signing_at is not None:
        reasons.append(f"it was seen signing at {_time(record.last_seen_signing_at)}: retire it")
    elif record.adopted or record.stopped_at is not None:
        reasons.append("it may have signed while nobody looked: retire it, which waits for its tokens to end")
    elif state.observed_at is None or state.observed_at < record.added_at:
        reasons.append("all API servers have not been observed since it was added; look again")
    if own_token_kid == kid:
        reasons.append("this publisher's own token is signed by it")
    if not signers(observation) - {kid}:
        reasons.append("no other key is seen to sign")
    return Gate(
        allowed=not reasons,
        reasons=tuple(reasons),
        consequences=(
            "the key is taken away from every target and kept out until: wif keys forget",
            "take it out of --service-account-key-file of every API server, and destroy its private half",
            f"clouds may know it for {cache_seconds(observation, policy)} s more",
        ),
    )


def may_remove(
    state: State,
    kid: str,
    observation: Observation,
    policy: Policy,
    *,
    own_token_kid: str | None = None,
    second_way_in: bool = False,
) -> Gate:
    """Whether a key may be removed at once, whatever still uses it, and what that means.

    Args:
        second_way_in: every target can be written without a token of this issuer.
    """
    reasons = []
    if kid in state.removed:
        reasons.append("it is removed already; every publisher keeps it out")
    elif kid not in state.keys and kid not in _shown_anywhere(observation):
        reasons.append("no key of this id is recorded, vouched for or seen anywhere")
    if own_token_kid == kid and not second_way_in:
        reasons.append(
            "this publisher's own token is signed by it, so without it nothing could be repaired: let a token of "
            "another key write first, or use another way into the targets"
        )
    return Gate(
        allowed=not reasons, reasons=tuple(reasons), consequences=_removal_consequences(state, kid, observation, policy)
    )


def _removal_consequences(state: State, kid: str, observation: Observation, policy: Policy) -> tuple[str, ...]:
    seconds = cache_seconds(observation, policy)
    cached = observation.at + timedelta(seconds=seconds)
    texts = [
        f"no cloud says how long it caches a key set: take it that each goes on accepting tokens of this key for "
        f"{seconds} s, until {_time(cached)}; whoever has its private half can have credentials until then"
    ]
    for cloud, hours, text in _SESSIONS:
        texts.append(f"{cloud}: {text}, so the last may end at {_time(cached + timedelta(hours=hours))}")
    texts += [f"{place}: it may still show the key; run this again" for place in unread_places(observation)]
    signing = [server.name for server in observation.servers if server.signer == kid]
    if signing:
        texts.append(
            f"{', '.join(signing)} still sign with it: every token that they issue from now on is refused, until they "
            "sign with another published key (--service-account-signing-key-file)"
        )
    if not signers(observation) - {kid}:
        texts.append(
            "no other key is seen to sign: workloads have no way to any cloud until one is published and signs"
        )
    record = state.keys.get(kid)
    twins = [] if record is None else sorted(_twins(state, kid, record))
    if twins:
        texts.append(f"the same key goes under its other id(s) as well: {', '.join(_quoted(twin) for twin in twins)}")
    longest = None if record is None else longest_token(record, observation, policy).seconds
    renewal = int(min(_KUBELET_RENEWS_AT * (longest or _DAY_SECONDS), _DAY_SECONDS))
    texts.append(
        "all live tokens of this key in all pods fail together as the caches end; the kubelet does not notice, and "
        f"renews each within {renewal} s: restart the pods to have new tokens at once"
    )
    texts.append(
        "next: sign with another key, invalidate any CDN before the targets, take the key out of "
        "--service-account-key-file of every API server (they accept it until then), revoke the sessions in each "
        "cloud, and look in the clouds' logs for what was done with it"
    )
    return tuple(texts)


def _twins(state: State, kid: str, record: KeyRecord) -> set[str]:
    """The other ids under which the state records the material of a key."""
    return {other for other, one in state.keys.items() if other != kid and one.fingerprint == record.fingerprint}


def _shown_anywhere(observation: Observation) -> frozenset[str]:
    served = {kid for server in observation.servers for kid in server.key_ids}
    published = {kid for kids in observation.targets.values() for kid in kids or ()}
    return frozenset(served | published | (observation.public or frozenset()))


def may_forget(
    state: State, kid: str, observation: Observation, *, vouched: Collection[str] = (), force: bool = False
) -> Gate:
    """Whether a removed key's tombstone may go: not while a source or a place still shows the key.

    Args:
        vouched: the key ids that the sources of this run vouch for.
        force: allow it all the same; the reasons become consequences.
    """
    if kid not in state.removed:
        return Gate(allowed=False, reasons=("no removed key has this id",))
    reasons = [*unread_places(observation)]
    if kid in vouched:
        reasons.append("a source of this run vouches for it, so it would be published again")
    for server in observation.servers:
        if kid in server.key_ids:
            reasons.append(f"the API server {server.name} lists it: take it out of --service-account-key-file")
    for name, kids in observation.targets.items():
        if kid in (kids or ()):
            reasons.append(f"the target {name} still shows it")
    if kid in (observation.public or ()):
        reasons.append("the public address still shows it")
    return Gate(
        allowed=force or not reasons,
        reasons=() if force else tuple(reasons),
        consequences=(
            "a source that vouches for this key publishes it again from then on",
            *(reasons if force else ()),
        ),
    )


def may_adopt(state: State, kid: str, found: Sequence[IssuerKey], observation: Observation) -> Gate:
    """Whether a foreign key may be taken over as one that drains.

    Args:
        found: the key of this id at each place that has one.
    """
    reasons = [*unread_places(observation)]
    if kid in state.keys:
        reasons.append("it is recorded already")
    elif any(_is_recorded(state, key) for key in found):
        reasons.append("its material is that of a recorded key under another id, so it is no key of its own")
    if kid in state.removed or any(state.is_removed(key) for key in found):
        reasons.append("it was removed: wif keys forget lets it come back")
    if not found:
        reasons.append("no target shows a usable key of this id")
    if len({key.fingerprint for key in found}) > 1:
        reasons.append("the targets show different keys under this id: restore them first")
    if any(kid in server.key_ids for server in observation.servers):
        reasons.append("an API server vouches for it, so it needs no adoption: run wif issuer publish")
    return Gate(
        allowed=not reasons,
        reasons=tuple(reasons),
        consequences=(
            "whoever has the private half of this key can be every ServiceAccount of the cluster in every cloud: adopt "
            "it only if you know it as the cluster's own former key",
            "it stays where it is found, is added to no other target, and drains from now on, as if it had signed "
            "until now",
        ),
    )


def _unknown(state: State, kid: str) -> Gate:
    stone = state.removed.get(kid)
    reason = "no key of this id is recorded" if stone is None else f"it is {stone.how} already"
    return Gate(allowed=False, reasons=(reason,))


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _quoted(kid: str) -> str:
    return ascii(kid[:64])


# -- transitions -----------------------------------------------------------------------------------------------


def retire(state: State, kid: str, now: datetime, *, reason: str = "") -> State:
    """The state with the key retired.

    Raises:
        ConfigurationError: key-unknown where the state does not record it.
    """
    return _bury(state, _recorded(state, kid), now, "retired", reason)


def abort(state: State, kid: str, now: datetime, *, reason: str = "") -> State:
    """The state with the staged key given up.

    Raises:
        ConfigurationError: key-unknown where the state does not record it.
    """
    return _bury(state, _recorded(state, kid), now, "aborted", reason)


def _recorded(state: State, kid: str) -> IssuerKey:
    record = state.keys.get(kid)
    if record is None:
        raise ConfigurationError(f"the state records no key {_quoted(kid)}", code="key-unknown")
    return record.key


def _bury(state: State, key: IssuerKey, now: datetime, how: RemovedHow, reason: str) -> State:
    keys = {kid: record for kid, record in state.keys.items() if kid != key.key_id}
    # Where the same material goes on under another id, only this id is kept out.
    goes_on = any(record.fingerprint == key.fingerprint for record in keys.values())
    stone = Tombstone(
        removed_at=now,
        how=how,
        reason=reason,
        jwk=None if goes_on else dict(key.jwk),
        fingerprint=None if goes_on else key.fingerprint,
    )
    return replace(state, keys=keys, removed={**state.removed, key.key_id: stone})


def remove(state: State, kid: str, now: datetime, *, reason: str = "", key: IssuerKey | None = None) -> State:
    """The state with the key removed in an emergency: its id, and its material under whatever id.

    A foreign entry never takes a recorded key with it: who puts the material of a good key under an id of his own
    would else have it removed by the very repair. Its id alone is kept out then.

    Args:
        key: the key, where the state does not record it: a foreign or merely vouched one. None: its id alone.

    Raises:
        ConfigurationError: key-unknown where ``key`` has another id.
    """
    if key is not None and key.key_id != kid:
        raise ConfigurationError(f"the key {_quoted(key.key_id)} is not the key {_quoted(kid)}", code="key-unknown")
    if kid in state.removed:
        return state
    record = state.keys.get(kid)
    known = record.key if record is not None else None if key is None or _is_recorded(state, key) else key
    fingerprint = None if known is None else known.fingerprint
    stone = Tombstone(
        removed_at=now,
        how="removed",
        reason=reason,
        jwk=None if known is None else dict(known.jwk),
        fingerprint=fingerprint,
    )
    removed = {**state.removed, kid: stone}
    keys: dict[str, KeyRecord] = {}
    for other, other_record in state.keys.items():
        if fingerprint is not None and other_record.fingerprint == fingerprint:
            removed[other] = replace(stone, jwk=dict(other_record.jwk))
        else:
            keys[other] = other_record
    return replace(state, keys=keys, removed=removed)


def _is_recorded(state: State, key: IssuerKey) -> bool:
    """Whether the material of a key is recorded, under whatever id."""
    return any(record.fingerprint == key.fingerprint for record in state.keys.values())


def forget(state: State, kid: str) -> State:
    """The state without the tombstone: a source that vouches for the key brings it back.

    Raises:
        ConfigurationError: key-unknown where no tombstone has this id.
    """
    if kid not in state.removed:
        raise ConfigurationError(f"the state has no removed key {_quoted(kid)}", code="key-unknown")
    return replace(state, removed={other: stone for other, stone in state.removed.items() if other != kid})


def adopt(state: State, key: IssuerKey, now: datetime, *, reason: str = "") -> State:
    """The state with a foreign key recorded; it stays where it is, and is added nowhere.

    Raises:
        ConfigurationError: unsafe-step where it is recorded already or was removed.
    """
    if key.key_id in state.keys or _is_recorded(state, key) or state.is_removed(key):
        raise ConfigurationError(f"the key {_quoted(key.key_id)} is recorded or removed already", code="unsafe-step")
    record = KeyRecord(
        jwk=dict(key.jwk),
        fingerprint=key.fingerprint,
        origin=f"adopted: {reason}" if reason else "adopted",
        added_at=now,
        adopted=True,
    )
    return replace(state, keys={**state.keys, key.key_id: record})
