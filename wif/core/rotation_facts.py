"""What follows from a look at an issuer's keys, and how the state records it, without any judgement.

What an observation missed never counts as seen: a place that could not be read neither makes a key visible nor hides
it, and an API server that did not answer may sign with any key.
"""

from __future__ import annotations

__all__ = [
    "LongestToken",
    "MissingPlaces",
    "cache_seconds",
    "drain_seconds",
    "longest_token",
    "missing_places",
    "observe",
    "signers",
    "unanswered_servers",
    "unread_places",
    "unread_public",
    "unread_servers",
    "unread_targets",
]

from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from wif.core.issuer_state import KeyRecord, State
from wif.core.rotation_values import KUBELET_REFRESH_SECONDS, Observation, Policy


class MissingPlaces(NamedTuple):
    """The places that were read and do not show a key, in words."""

    targets: tuple[str, ...]
    public: tuple[str, ...]
    servers: tuple[str, ...]


class LongestToken(NamedTuple):
    """The longest life of a token that a key may have signed."""

    seconds: int | None
    """None: not known, or no limit."""
    problem: str
    """Why it is not known; empty where it is."""


def cache_seconds(observation: Observation, policy: Policy) -> int:
    """How long a cloud may go on with the key set that it read last: the policy's time, or the largest max-age."""
    ages = [server.max_age_seconds or 0 for server in observation.servers]
    return max(policy.cache_seconds, observation.public_max_age_seconds or 0, *ages)


def drain_seconds(longest_token_seconds: int, policy: Policy) -> int:
    """How long after the last signature a key must stay published."""
    return longest_token_seconds + KUBELET_REFRESH_SECONDS + policy.skew_seconds


def signers(observation: Observation) -> frozenset[str]:
    """The key ids that any API server was seen to sign with."""
    return frozenset(server.signer for server in observation.servers if server.signer is not None)


def unread_places(observation: Observation) -> tuple[str, ...]:
    """What an observation could not see, in words; each closes the gates."""
    return (*unread_targets(observation), *unread_public(observation), *unread_servers(observation))


def unread_servers(observation: Observation) -> tuple[str, ...]:
    """What it could not see of the API servers: those that did not answer, and those of which no token was had."""
    unread = [*unanswered_servers(observation)]
    for server in observation.servers:
        if server.signer is None:
            unread.append(f"the key that the API server {server.name} signs with is not known")
    return tuple(unread)


def unread_targets(observation: Observation) -> tuple[str, ...]:
    """The targets that could not be read, in words."""
    return tuple(f"the target {name} could not be read" for name, kids in observation.targets.items() if kids is None)


def unread_public(observation: Observation) -> tuple[str, ...]:
    """The public address, where there is one that could not be read."""
    is_unread = observation.public_known and observation.public is None
    return ("the public address could not be read",) if is_unread else ()


def unanswered_servers(observation: Observation) -> tuple[str, ...]:
    """The API servers that did not answer, in words; one where there are none at all."""
    if observation.missing_servers:
        return tuple(f"the API server {name} did not answer" for name in observation.missing_servers)
    if not observation.servers:
        return ("no API server answered",)
    return () if observation.servers_complete else ("not every API server answered",)


def missing_places(observation: Observation, kid: str) -> MissingPlaces:
    """The places that were read and do not show this key."""
    if observation.targets:
        rows = observation.targets.items()
        targets = tuple(
            f"the target {name} does not show it" for name, kids in rows if kids is not None and kid not in kids
        )
    else:
        targets = ("nothing is published yet",)
    is_public = observation.public is None or kid in observation.public
    return MissingPlaces(
        targets=targets,
        public=() if is_public else ("the public address does not show it",),
        servers=tuple(
            f"the API server {server.name} does not list it"
            for server in observation.servers
            if kid not in server.key_ids
        ),
    )


def longest_token(record: KeyRecord, observation: Observation, policy: Policy) -> LongestToken:
    """The longest life of a token that a key may have signed.

    A limit counts only if it was seen while the key signed: one that is set later does not shorten older tokens.
    """
    if policy.longest_token_seconds is not None:
        return LongestToken(policy.longest_token_seconds, "")
    say = "say the longest lifetime of a token for a cloud with --longest-token-lifetime"
    flag = "limit them with --service-account-max-token-expiration"
    seen = [record.longest_token_seconds]
    if seen == [None]:
        return LongestToken(None, f"no limit of the tokens' lifetime was seen while it signed; {say}")
    if seen == [0]:
        return LongestToken(None, f"while it signed, an API server granted tokens of any lifetime; {flag}, and {say}")
    for server in observation.servers:
        if server.longest_token_seconds is None:
            return LongestToken(None, f"the longest lifetime that {server.name} grants is not seen; {say}")
        if server.longest_token_seconds == 0:
            return LongestToken(None, f"the API server {server.name} grants tokens of any lifetime; {flag}, or {say}")
        seen.append(server.longest_token_seconds)
    return LongestToken(max(seconds for seconds in seen if seconds), "")


# -- recorded --------------------------------------------------------------------------------------------------


class _Look(NamedTuple):
    """What is the same for every key of one observation."""

    observation: Observation
    previous: datetime | None
    """When all was seen before."""
    all_answered: bool
    all_known: bool
    """And the signer of each is known."""
    signing: frozenset[str]
    served: frozenset[str]
    new_hands: bool
    """Other keys sign than when all was seen before: in between any other key may have signed for a while."""
    cache: timedelta


def observe(state: State, observation: Observation, policy: Policy) -> State:
    """Record what an observation shows of the keys that the state has; it adds and removes none.

    An observation older than the last one changes nothing.
    """
    if state.observed_at is not None and observation.at < state.observed_at:
        return state
    signing = signers(observation)
    look = _Look(
        observation=observation,
        previous=state.observed_at,
        all_answered=not unanswered_servers(observation),
        all_known=not unread_servers(observation),
        signing=signing,
        served=frozenset(kid for server in observation.servers for kid in server.key_ids),
        new_hands=signing != {kid for kid, record in state.keys.items() if record.is_signing},
        cache=timedelta(seconds=cache_seconds(observation, policy)),
    )
    keys = {kid: _observe_key(kid, record, look) for kid, record in state.keys.items()}
    return replace(
        state,
        keys=keys,
        observed_at=observation.at if look.all_known else state.observed_at,
        replaced_at=_replaced_at(state, keys, look),
    )


def _replaced_at(state: State, after: dict[str, KeyRecord], look: _Look) -> datetime | None:
    before = {kid for kid, record in state.keys.items() if record.served}
    if look.all_answered and look.served and before and before.isdisjoint(look.served):
        return look.observation.at
    return None if all(record.served for record in after.values()) else state.replaced_at


def _observe_key(kid: str, record: KeyRecord, look: _Look) -> KeyRecord:
    seen = _observe_places(kid, record, look)
    used = _observe_use(kid, seen, look)
    return replace(used, exposed_since=_exposed_since(kid, record, used, look))


def _observe_places(kid: str, record: KeyRecord, look: _Look) -> KeyRecord:
    observation = look.observation
    missing = missing_places(observation, kid)
    unread = (*unread_targets(observation), *unread_public(observation))
    at = observation.at

    def since(earlier: datetime | None, is_missing: bool, is_read: bool) -> datetime | None:
        if is_missing:
            return None
        return earlier or (at if is_read else None)

    is_outside = bool(missing.targets or missing.public)
    everywhere = not missing.targets and not unread_targets(observation)
    return replace(
        record,
        published_at=record.published_at or (at if everywhere else None),
        verified_at=since(record.verified_at, is_outside, not unread),
        visible_since=since(
            record.visible_since, is_outside or bool(missing.servers), not unread and look.all_answered
        ),
        served=kid in look.served or (record.served and not look.all_answered),
        targets=record.targets
        | {name for name, kids in observation.targets.items() if kids is not None and kid in kids},
    )


def _observe_use(kid: str, record: KeyRecord, look: _Look) -> KeyRecord:
    at = look.observation.at
    if kid in look.signing:
        limits = [server.longest_token_seconds for server in look.observation.servers if server.signer == kid]
        known = [limit for limit in (record.longest_token_seconds, *limits) if limit is not None]
        return replace(
            record,
            signing_since=record.signing_since if record.is_signing else at,
            last_seen_signing_at=at,
            stopped_at=None,
            longest_token_seconds=0 if 0 in known else max(known, default=None),
        )
    may_have_signed = record.last_seen_signing_at is not None or record.adopted or look.new_hands
    if look.all_known and record.stopped_at is None and may_have_signed:
        return replace(record, stopped_at=at)
    return record


def _exposed_since(kid: str, before: KeyRecord, after: KeyRecord, look: _Look) -> datetime | None:
    at = look.observation.at
    if after.visible_since is not None and at - after.visible_since >= look.cache:
        return None
    if kid not in look.signing or before.exposed_since is not None:
        return before.exposed_since
    if before.published_at is None and _is_nothing_published(look.observation):
        return None
    is_hidden = any(missing_places(look.observation, kid))
    if look.previous is None:
        # The first look: what is visible then may have been so for long, and nothing says otherwise.
        return before.added_at if is_hidden else None
    return look.previous if is_hidden or not before.is_signing else None


def _is_nothing_published(observation: Observation) -> bool:
    """Whether no place has any key: the issuer is new then, and no cloud trusts it yet."""
    return not observation.public and not any(kids is None or kids for kids in observation.targets.values())
