"""What is observed of an issuer's keys from outside, and what follows from it without any judgement.

One :class:`Observation` is one look at every target, the public address and every API server. :func:`observe` records
it; what it missed closes gates, and never counts as seen.
"""

from __future__ import annotations

__all__ = [
    "DEFAULT_CACHE_SECONDS",
    "KUBELET_REFRESH_SECONDS",
    "LongestToken",
    "Observation",
    "Policy",
    "ServerObservation",
    "cache_seconds",
    "drain_seconds",
    "longest_token",
    "missing_places",
    "observe",
    "signers",
    "unread_places",
]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from wif.core.issuer_state import KeyRecord, State
from wif.core.public_keys import IssuerKey
from wif.errors import ConfigurationError

DEFAULT_CACHE_SECONDS = 86_400
"""How long a cloud may go on without reading the key set again. None documents it; Gardener waits as long, and
Microsoft's guidance to validators is 24 hours."""

KUBELET_REFRESH_SECONDS = 120
"""The kubelet looks after a pod's token once a minute: a token may reach the pod up to two looks after it was
signed. Kubernetes ``pkg/kubelet/token``, ``syncFrequency``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operators say about time.

    Raises:
        ConfigurationError: config-invalid for a negative time, or a longest lifetime of nothing.
    """

    cache_seconds: int = DEFAULT_CACHE_SECONDS
    """A cloud's cache of the key set; more where an API server announces more."""
    skew_seconds: int = 300
    longest_token_seconds: int | None = None
    """``--longest-token-lifetime``; None leaves it to what the API servers are seen to grant."""

    def __post_init__(self) -> None:
        for name in ("cache_seconds", "skew_seconds"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}, expected 0 or more", code="config-invalid")
        if self.longest_token_seconds is not None and self.longest_token_seconds <= 0:
            raise ConfigurationError(
                f"longest_token_seconds is {self.longest_token_seconds}, expected more than 0", code="config-invalid"
            )


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
    the recorded or vouched one.
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
    missing_servers: tuple[str, ...] = field(default=())
    """The names of those that did not answer, where known."""


class LongestToken(NamedTuple):
    """The longest life of a token that the key in question may have signed."""

    seconds: int | None
    """None: not known, or no limit."""
    problem: str
    """Why it is not known; empty where it is."""


# -- what follows ----------------------------------------------------------------------------------------------


def cache_seconds(observation: Observation, policy: Policy) -> int:
    """How long a cloud may go on with the key set that it read last: the policy's time, or the largest max-age."""
    ages = [server.max_age_seconds or 0 for server in observation.servers]
    return max(policy.cache_seconds, observation.public_max_age_seconds or 0, *ages)


def signers(observation: Observation) -> frozenset[str]:
    """The key ids that any API server was seen to sign with."""
    return frozenset(server.signer for server in observation.servers if server.signer is not None)


def unread_places(observation: Observation) -> tuple[str, ...]:
    """What this observation could not see; each closes every gate."""
    places = [f"the target {name} could not be read" for name, kids in observation.targets.items() if kids is None]
    if observation.public_known and observation.public is None:
        places.append("the public address could not be read")
    return (*places, *unread_servers(observation))


def unread_servers(observation: Observation) -> tuple[str, ...]:
    """The same of the API servers alone."""
    ...


def missing_places(observation: Observation, kid: str) -> tuple[str, ...]:
    """The places that were read and do not show this key: targets, the public address, API servers, in this order."""
    ...


def longest_token(record: KeyRecord | None, observation: Observation, policy: Policy) -> LongestToken:
    """The longest life of a token that this key may have signed, and why it is not known where it is not."""
    ...


def drain_seconds(longest_token_seconds: int, policy: Policy) -> int:
    """How long after the last signature a key must stay published."""
    return longest_token_seconds + KUBELET_REFRESH_SECONDS + policy.skew_seconds


# -- recorded --------------------------------------------------------------------------------------------------


def observe(state: State, observation: Observation, policy: Policy) -> State:
    """Record what an observation shows of the keys that the state has; it adds and removes none.

    Pure and total: an observation older than the last one changes nothing.
    """
    ...
