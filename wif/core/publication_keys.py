"""Whose a key at a target is: vouched for, recorded, removed, or somebody else's.

Keys are compared by id and material together. Nothing here writes; :mod:`wif.core.publication` decides.
"""

from __future__ import annotations

__all__ = [
    "SortedKeys",
    "WantedKeys",
    "agreed_keys",
    "is_verified_by",
    "label",
    "lost_keys",
    "sort_keys",
    "wanted_keys",
]

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wif.core.issuer_state import State
from wif.core.public_keys import IssuerKey, ObservedEntry


class WantedKeys(NamedTuple):
    """What the sources vouch for, by key id, sorted into what a target should have of it and why not."""

    keys: dict[str, IssuerKey]
    filtered: dict[str, IssuerKey]
    """None of the clouds that read the target verifies them."""
    removed: tuple[str, ...]
    """Vouched for although a tombstone stands against them."""
    contradictory: tuple[str, ...]
    """Vouched for with other material than the recorded one, or with two materials."""


class SortedKeys(NamedTuple):
    """The entries of a target's key set, by what they are. Key ids; an entry without one is ``(no kid)``."""

    seen: set[str]
    """Wanted, and here with our material."""
    recorded: dict[str, IssuerKey]
    """Known from the state, and here with the recorded material."""
    altered: set[str]
    """Wanted or recorded, and here with other material."""
    removed: set[str]
    foreign: set[str]
    filtered: set[str]
    """Ours and here, for clouds that do not verify them."""
    kept: list[tuple[str | None, Mapping[str, Any]]]
    """Not ours, and not ours to take away without ``restore``: the entries as they stand."""


def agreed_keys(vouched: Iterable[IssuerKey], state: State) -> dict[str, IssuerKey | None]:
    """The vouched keys by id, sorted; None where the sources contradict each other or the state."""
    found: dict[str, dict[str, IssuerKey]] = {}
    for key in vouched:
        found.setdefault(key.key_id, {})[key.fingerprint] = key
    agreed: dict[str, IssuerKey | None] = {}
    for kid, materials in sorted(found.items()):
        record = state.keys.get(kid)
        known = materials.keys() if record is None else materials.keys() | {record.fingerprint}
        agreed[kid] = next(iter(materials.values())) if len(known) == 1 else None
    return agreed


def is_verified_by(key: IssuerKey, clouds: Collection[str]) -> bool:
    """Whether any of these clouds verifies tokens of a key."""
    return not set(clouds).isdisjoint(key.clouds)


def wanted_keys(vouched: Sequence[IssuerKey], state: State, clouds: Collection[str]) -> WantedKeys:
    """What a target that these clouds read should have of the vouched keys."""
    keys: dict[str, IssuerKey] = {}
    filtered: dict[str, IssuerKey] = {}
    removed: list[str] = []
    contradictory: list[str] = []
    for kid, key in agreed_keys(vouched, state).items():
        if kid in state.removed:
            removed.append(kid)
        elif key is None:
            contradictory.append(kid)
        elif state.is_removed(key):  # the removed material, under another id
            removed.append(kid)
        else:
            (keys if is_verified_by(key, clouds) else filtered)[kid] = key
    return WantedKeys(keys, filtered, tuple(removed), tuple(contradictory))


def sort_keys(
    entries: Iterable[ObservedEntry], state: State, wanted: WantedKeys, clouds: Collection[str]
) -> SortedKeys:
    """Sort the entries of a target's key set."""
    result = SortedKeys(set(), {}, set(), set(), set(), set(), [])
    stones = state.removed_fingerprints
    for entry in entries:
        kid, key = entry.key_id, entry.key
        fingerprint = None if key is None else key.fingerprint
        record = None if kid is None else state.keys.get(kid)
        ours = None if kid is None else wanted.keys.get(kid) or wanted.filtered.get(kid)
        if kid in state.removed or fingerprint in stones:
            result.removed.add(label(kid))
        elif kid is not None and ours is not None:
            place = result.seen if kid in wanted.keys else result.filtered
            (place if fingerprint == ours.fingerprint else result.altered).add(kid)
        elif kid is None or record is None:
            result.foreign.add(label(kid))
            result.kept.append((kid, entry.raw))
        elif key is None or fingerprint != record.fingerprint:
            # The state alone puts no key anywhere, so what stands here in its place stays, as a foreign key does.
            result.altered.add(kid)
            result.kept.append((kid, entry.raw))
        elif is_verified_by(record.key, clouds):
            result.recorded[kid] = record.key
        else:
            result.filtered.add(kid)
    return result


def lost_keys(state: State, wanted: WantedKeys, found: SortedKeys, clouds: Collection[str]) -> tuple[str, ...]:
    """Recorded keys that a target should have, has not, and is not given: nobody vouches for them in this run."""
    here = {*wanted.keys, *wanted.filtered, *found.recorded, *found.filtered}
    return tuple(
        kid
        for kid, record in sorted(state.keys.items())
        # One that was published nowhere yet: another publisher, who vouches for it, is on its way.
        if kid not in here and record.targets and is_verified_by(record.key, clouds)
    )


def label(kid: str | None) -> str:
    """What an entry is called in lists."""
    return "(no kid)" if kid is None else kid
