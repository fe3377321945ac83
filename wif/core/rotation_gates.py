"""Whether a step of a rotation is safe by what is seen now, and the state after it.

A gate never trusts a timer or the state alone: what could not be read closes it. The transitions only write what
was decided; the caller asks the gate first, and publishes after.
"""

from __future__ import annotations

__all__ = [
    "Gate",
    "abort",
    "adopt",
    "forget",
    "may_abort",
    "may_adopt",
    "may_forget",
    "may_remove",
    "may_retire",
    "remove",
    "retire",
]

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from wif.core.issuer_state import State
from wif.core.public_keys import IssuerKey
from wif.core.rotation_facts import Observation, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The answer to a step that was asked for."""

    allowed: bool
    reasons: tuple[str, ...] = ()
    """Why not; empty where it is allowed."""
    consequences: tuple[str, ...] = ()
    """What follows from it and what to do next, in whole sentences, to print before it is done."""
    not_before: datetime | None = None
    """When the last reason ends, where time alone is missing."""


def may_retire(
    state: State, kid: str, observation: Observation, policy: Policy, *, own_token_kid: str | None = None
) -> Gate:
    """Whether a key has outlived every token that it signed, by what is seen from outside now.

    Args:
        own_token_kid: the key of the token that this publisher itself writes with, where it has one.
    """
    ...


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
    ...


def may_abort(
    state: State, kid: str, observation: Observation, policy: Policy, *, own_token_kid: str | None = None
) -> Gate:
    """Whether a staged key can be given up: only one that no API server signs with or may have signed with."""
    ...


def may_forget(
    state: State, kid: str, observation: Observation, *, vouched: Collection[str] = (), force: bool = False
) -> Gate:
    """Whether a removed key's tombstone may go: not while a source or a place still shows the key.

    Args:
        vouched: the key ids that the sources of this run vouch for.
        force: allow it all the same; the reasons become consequences.
    """
    ...


def may_adopt(state: State, kid: str, found: Sequence[IssuerKey], observation: Observation) -> Gate:
    """Whether a foreign key may be taken over as one that drains.

    Args:
        found: the key of this id at each place that has one.
    """
    ...


def retire(state: State, kid: str, now: datetime, *, reason: str = "") -> State:
    """The state with the key retired. Raises ConfigurationError key-unknown, as the other transitions do."""
    ...


def remove(state: State, kid: str, now: datetime, *, reason: str = "", key: IssuerKey | None = None) -> State:
    """The state with the key removed in an emergency.

    Args:
        key: the key, where the state does not record it: a foreign or merely vouched one. None: its id alone.
    """
    ...


def abort(state: State, kid: str, now: datetime, *, reason: str = "") -> State:
    """The state with the staged key given up."""
    ...


def forget(state: State, kid: str) -> State:
    """The state without the tombstone: a source that vouches for the key brings it back."""
    ...


def adopt(state: State, key: IssuerKey, now: datetime, *, reason: str = "") -> State:
    """The state with a foreign key recorded; it stays where it is, and is added nowhere."""
    ...
