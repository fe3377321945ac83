"""What one target should hold, decided from what it holds, the trusted state and what the sources vouch for.

The rules are those of the security of the whole: a key set only grows, a removed key never comes back, a key that
nobody vouches for is copied nowhere and adopted never, and a key known from the state alone goes to no new place.
"""

from __future__ import annotations

__all__ = [
    "DEFAULT_CACHE_CONTROL",
    "DISCOVERY_CONTENT_TYPE",
    "JWKS_CONTENT_TYPE",
    "ObservedDocument",
    "ObservedTarget",
    "TargetPlan",
    "decide",
    "diff",
    "record_unpublished",
    "record_written",
    "removed_in",
    "require_state",
    "write_ahead",
]

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from wif.core.discovery import discovery_document, encode_document
from wif.core.documents import parse_json, private_members
from wif.core.issuer_state import KeyRecord, State
from wif.core.public_keys import IssuerKey, ObservedKeys, key_set_bytes, observe_key_set
from wif.core.publication_keys import (
    WantedKeys,
    agreed_keys,
    label,
    lost_keys,
    sort_keys,
    wanted_keys,
)
from wif.errors import DriftError

JWKS_CONTENT_TYPE = "application/jwk-set+json"
DISCOVERY_CONTENT_TYPE = "application/json"

DEFAULT_CACHE_CONTROL = "public, max-age=300"
"""For rotation; Google's storage would otherwise say an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedDocument:
    """A document as it was read at a target."""

    body: bytes = field(repr=False)
    tag: str
    content_type: str | None = None
    cache_control: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedTarget:
    """One target as it was read; None for a document that is not there."""

    name: str
    jwks: ObservedDocument | None
    discovery: ObservedDocument | None
    holds_discovery: bool = True
    """Whether it is a place for a discovery document; the Google control planes take the key set alone."""
    keeps_headers: bool = True
    """Whether it keeps Content-Type and Cache-Control, which then can drift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlan:
    """What to do at one target. Key ids are sorted; an entry without one is called ``(no kid)``."""

    target: str
    jwks: bytes | None = field(repr=False)
    """To be written; None leaves what is there."""
    discovery: bytes | None = field(repr=False)
    holds: tuple[str, ...]
    """The key ids of ours that the target has after the plan."""
    cache_control: str
    """To be written with either document."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Taken away, because a tombstone stands against them."""
    foreign: tuple[str, ...] = ()
    """Nobody vouches for them and the state does not record them: kept as they are, or dropped by ``restore``."""
    altered: tuple[str, ...] = ()
    """Found with other material than ours."""
    lost: tuple[str, ...] = ()
    """Recorded, not vouched for by this run, and not found here: not added from the state alone."""
    filtered: tuple[str, ...] = ()
    """Left out, because none of the clouds that read this target verifies its algorithm."""
    drift: tuple[str, ...] = ()
    """What differs and is written by a normal run, in sentences."""
    tampering: tuple[str, ...] = ()
    """What somebody else must have done, in sentences; also where this plan repairs it."""
    warnings: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether anything is to be written."""
        return self.jwks is not None or self.discovery is not None

    @property
    def is_clean(self) -> bool:
        """Whether the target is as it should be: nothing to write, nothing lost, nothing that somebody else did."""
        return not (self.writes or self.lost or self.drift or self.tampering)


# -- decided ---------------------------------------------------------------------------------------------------


def decide(
    target: ObservedTarget,
    state: State,
    vouched: Sequence[IssuerKey],
    *,
    issuer: str,
    jwks_uri: str,
    clouds: Collection[str] = ("aws", "gcp", "azure"),
    restore: bool = False,
    cache_control: str = DEFAULT_CACHE_CONTROL,
) -> TargetPlan:
    """What one target should hold, and what is wrong with what it holds.

    Args:
        state: read after the target, or after write-ahead.
        vouched: the keys that the sources of this run vouch for, each with its material.
        clouds: those that read this target.
        restore: also repair what only somebody else can have done.
    """
    wish = _Wish(issuer=issuer, jwks_uri=jwks_uri, restore=restore, cache_control=cache_control)
    observed = ObservedKeys() if target.jwks is None else observe_key_set(target.jwks.body)
    discovery = _judge_discovery(target, state, wish)
    wanted = wanted_keys(vouched, state, clouds)
    found = sort_keys(observed.entries, state, wanted, clouds)
    # Another issuer's place: our keys beside its own would let our tokens pass for its.
    withheld = discovery.is_of_another and not restore
    ours = {
        kid: key for kid, key in wanted.keys.items() if not withheld or kid in found.seen | found.altered
    } | found.recorded
    # A document holds an id once: beside the good copy of a recorded key, an altered one goes.
    kept = [] if restore else [raw for kid, raw in found.kept if kid not in found.recorded]
    understood = observed.problem is None or restore
    plan = TargetPlan(
        target=target.name,
        jwks=None,
        discovery=None,
        holds=tuple(sorted(ours)) if understood else (),
        cache_control=cache_control,
        added=tuple(sorted(set(ours) - found.seen - found.altered - set(found.recorded))) if understood else (),
        removed=tuple(sorted(found.removed)),
        foreign=tuple(sorted(found.foreign)),
        altered=tuple(sorted(found.altered)),
        lost=lost_keys(state, wanted, found, clouds) if understood else (),
        filtered=tuple(sorted({*wanted.filtered, *found.filtered})),
    )
    jwks = _plan_jwks(target, plan, wish, key_set_bytes(ours.values(), kept), observed.problem)
    if withheld and not (plan.removed or plan.altered):
        jwks = _Document()
    document = _plan_discovery(target, plan, wish, discovery.tampering, {key.algorithm for key in ours.values()})
    return replace(
        plan,
        jwks=jwks.body,
        discovery=document.body,
        drift=(*jwks.drift, *document.drift),
        tampering=(*jwks.tampering, *document.tampering, *_tampering(plan, wanted)),
        warnings=_warnings(plan, wanted, clouds, withheld=withheld, any_vouched=bool(vouched)),
    )


class _Wish(NamedTuple):
    """What is the same for every document of a target."""

    issuer: str
    jwks_uri: str
    restore: bool
    cache_control: str


class _Document(NamedTuple):
    """The plan of one document."""

    body: bytes | None = None
    """To be written; None leaves what is there."""
    drift: tuple[str, ...] = ()
    tampering: tuple[str, ...] = ()


def _plan_jwks(target: ObservedTarget, plan: TargetPlan, wish: _Wish, desired: bytes, problem: str | None) -> _Document:
    there = target.jwks
    if there is None:
        return _Document(desired, ("the key set is missing",)) if plan.holds else _Document()
    if problem is not None:
        return _Document(desired if wish.restore else None, (), (problem,))
    drift = []
    if plan.added:
        drift.append(f"the key set lacks {_listed(plan.added)}")
    if plan.removed:
        drift.append(f"the key set still has {_listed(plan.removed)}, which must be gone")
    headers = _header_drift(target, there, JWKS_CONTENT_TYPE, wish)
    if there.body != desired and not (plan.added or plan.removed or plan.altered or plan.foreign):
        drift.append("the key set is written differently")
    drift.extend(f"the key set {difference}" for difference in headers)
    return _Document(desired if headers or there.body != desired else None, tuple(drift))


class _Judgement(NamedTuple):
    """What is wrong with a discovery document that only somebody else can have done."""

    tampering: tuple[str, ...] = ()
    is_of_another: bool = False
    """It names another issuer."""


def _judge_discovery(target: ObservedTarget, state: State, wish: _Wish) -> _Judgement:
    if target.discovery is None or not target.holds_discovery:
        return _Judgement()
    try:
        document = parse_json(target.discovery.body)
    except ValueError as error:
        return _Judgement((f"the discovery document is not JSON: {error}",))
    if not isinstance(document, dict):
        return _Judgement(("the discovery document is not a JSON object",))
    issuer, jwks_uri = document.get("issuer"), document.get("jwks_uri")
    if issuer != wish.issuer:
        return _Judgement(
            (f"the discovery document names the issuer {_shown(issuer)}, expected {wish.issuer!r}",), True
        )
    if jwks_uri != wish.jwks_uri and jwks_uri not in state.jwks_uris:
        return _Judgement(
            (f"the discovery document names the jwks_uri {_shown(jwks_uri)}, expected {wish.jwks_uri!r}",)
        )
    return _Judgement()


def _plan_discovery(
    target: ObservedTarget, plan: TargetPlan, wish: _Wish, tampering: tuple[str, ...], algorithms: set[str]
) -> _Document:
    if not target.holds_discovery:
        return _Document()
    there = target.discovery
    desired = encode_document(discovery_document(wish.issuer, wish.jwks_uri, algorithms or {"RS256"}))
    if tampering:
        # Never a discovery document without a key set: not even to restore one.
        repaired = wish.restore and bool(plan.holds or target.jwks is not None)
        return _Document(desired if repaired else None, (), tampering)
    if not plan.holds:
        # Nor one that is derived from a key set that is empty or was not understood.
        return _Document()
    if there is None:
        return _Document(desired, ("the discovery document is missing",))
    drift = [f"the discovery document {text}" for text in _header_drift(target, there, DISCOVERY_CONTENT_TYPE, wish)]
    if there.body != desired:
        drift.insert(0, "the discovery document is written differently")
    return _Document(desired if drift else None, tuple(drift))


def _header_drift(target: ObservedTarget, there: ObservedDocument, content_type: str, wish: _Wish) -> tuple[str, ...]:
    if not target.keeps_headers:
        return ()
    rows = (
        ("Content-Type", there.content_type, content_type),
        ("Cache-Control", there.cache_control, wish.cache_control),
    )
    return tuple(
        f"has the {name} {_shown(found)}, expected {expected!r}"
        for name, found, expected in rows
        if found is None or _plain_header(found) != _plain_header(expected)
    )


def _plain_header(value: str) -> str:
    return "".join(value.split()).lower()


# -- in words --------------------------------------------------------------------------------------------------


def _tampering(plan: TargetPlan, wanted: WantedKeys) -> tuple[str, ...]:
    rows = (
        (plan.foreign, "nobody vouches for {}, and the state does not record it"),
        (plan.altered, "the key set has other material than ours under {}"),
        (wanted.contradictory, "the sources do not agree with the state or each other about the material of {}"),
    )
    return tuple(text.format(_listed(kids)) for kids, text in rows if kids)


def _warnings(
    plan: TargetPlan, wanted: WantedKeys, clouds: Collection[str], *, withheld: bool, any_vouched: bool
) -> tuple[str, ...]:
    texts = []
    for kid in wanted.removed:
        texts.append(
            f"the sources still vouch for the removed key {_quoted(kid)}: take it out of --service-account-key-file, "
            "or bring it back with: wif keys forget"
        )
    for kid, key in (wanted.keys | wanted.filtered).items():
        refusing = sorted(set(clouds).difference(key.clouds))
        if refusing:
            left_out = ", so it is left out" if kid in wanted.filtered else ""
            texts.append(f"{', '.join(refusing)} will refuse tokens of {_quoted(kid)} ({key.algorithm}){left_out}")
    if plan.lost:
        texts.append(
            f"{_listed(plan.lost)} is recorded but not here, and no source of this run vouches for it: nothing is "
            "added from the state alone; vouch for it with --public-key, or retire it"
        )
    if withheld:
        texts.append("the place has another issuer's discovery document, so no key is added to it")
    if not any_vouched:
        texts.append("the sources of this run vouch for no key")
    return tuple(texts)


def _listed(kids: Sequence[str]) -> str:
    more = f" and {len(kids) - 8} more" if len(kids) > 8 else ""
    return f"the key{'s' if len(kids) > 1 else ''} {', '.join(_quoted(kid) for kid in kids[:8])}{more}"


def _quoted(kid: str) -> str:
    return ascii(kid[:64])


def _shown(value: object) -> str:
    return ascii(value[:256]) if isinstance(value, str) else "nothing" if value is None else type(value).__name__


# -- the state around a write ----------------------------------------------------------------------------------


def require_state(state: State | None, targets: Iterable[ObservedTarget]) -> None:
    """Refuse to take a missing or empty state for that of a new issuer while a target holds documents.

    Raises:
        DriftError: state-missing.
    """
    if state is not None and not state.is_empty:
        return
    holding = sorted(target.name for target in targets if target.jwks is not None or target.discovery is not None)
    if holding:
        what = "is empty" if state is not None else "does not exist"
        raise DriftError(
            f"the trusted state {what}, but documents are published at {', '.join(holding)}", code="state-missing"
        )


def write_ahead(
    state: State,
    vouched: Sequence[IssuerKey],
    now: datetime,
    *,
    jwks_uri: str | None = None,
    origins: Mapping[str, str] | None = None,
) -> State:
    """The state with the keys that the sources vouch for now, to be written before any target is.

    A removed key is not added; a key whose id is recorded with other material, or for which the sources give two
    materials, is left out and any record kept. Nothing new gives back the same state.

    Args:
        jwks_uri: about to be published.
        origins: what vouched, by key id.
    """
    added = {
        kid: KeyRecord(
            jwk=dict(key.jwk), fingerprint=key.fingerprint, origin=(origins or {}).get(kid, ""), added_at=now
        )
        for kid, key in agreed_keys(vouched, state).items()
        if key is not None and kid not in state.keys and not state.is_removed(key)
    }
    uris = state.jwks_uris if jwks_uri is None else tuple(sorted({*state.jwks_uris, jwks_uri}))
    if not added and uris == state.jwks_uris:
        return state
    return replace(state, keys={**state.keys, **added}, jwks_uris=uris)


def record_written(state: State, target: str, kids: Collection[str]) -> State:
    """The state after a target was seen to hold these keys. A place is forgotten only by unpublishing there."""
    changed = {
        kid: replace(record, targets=record.targets | {target})
        for kid, record in state.keys.items()
        if kid in kids and target not in record.targets
    }
    return replace(state, keys={**state.keys, **changed}) if changed else state


def record_unpublished(state: State, target: str) -> State:
    """The state after the documents were taken away from a target: nothing is missed there any more."""
    changed = {
        kid: replace(record, targets=record.targets - {target})
        for kid, record in state.keys.items()
        if target in record.targets
    }
    return replace(state, keys={**state.keys, **changed}) if changed else state


def removed_in(body: bytes, state: State) -> tuple[str, ...]:
    """The key ids of a key set that the state has removed: what was written meanwhile must then be written again."""
    stones = state.removed_fingerprints
    return tuple(
        sorted(
            label(entry.key_id)
            for entry in observe_key_set(body).entries
            if entry.key_id in state.removed or (entry.key is not None and entry.key.fingerprint in stones)
        )
    )


# -- the difference --------------------------------------------------------------------------------------------


def diff(target: ObservedTarget, plan: TargetPlan) -> str:
    """A unified diff of a target's documents, pretty-printed, for ``--dry-run``; empty where nothing is written.

    Private members that somebody published are not shown, and nothing in it moves a terminal's cursor.
    """
    from difflib import unified_diff  # noqa: PLC0415  # only for --dry-run: a publish starts without it

    rows = (
        ("key set", target.jwks, plan.jwks, JWKS_CONTENT_TYPE),
        ("discovery document", target.discovery, plan.discovery, DISCOVERY_CONTENT_TYPE),
    )
    lines: list[str] = []
    for name, there, body, content_type in rows:
        if body is None:
            continue
        before = [] if there is None else _pretty(there.body)
        after = _pretty(body)
        if target.keeps_headers:
            if there is not None:
                before = [*_headers(there.content_type, there.cache_control), *before]
            after = [*_headers(content_type, plan.cache_control), *after]
        label_before = "nothing" if there is None else f"{target.name} ({name}, now)"
        # Six lines of context: the kid of a key of which another member changes is in sight.
        lines += unified_diff(before, after, label_before, f"{target.name} ({name})", n=6, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _headers(content_type: str | None, cache_control: str | None) -> list[str]:
    return [f"Content-Type: {_shown(content_type)}", f"Cache-Control: {_shown(cache_control)}"]


def _pretty(body: bytes) -> list[str]:
    """A document to be looked at: a member to a line, ASCII only. One that is no JSON is named by its digest."""
    try:
        document = parse_json(body)
        if isinstance(document, dict) and isinstance(document.get("keys"), list):
            document = {**document, "keys": [_without_secrets(entry) for entry in document["keys"]]}
        return json.dumps(document, indent=2, ensure_ascii=True).splitlines()
    except (ValueError, RecursionError):
        return [f"({len(body)} bytes that are not JSON, SHA-256 {sha256(body).hexdigest()})"]


def _without_secrets(entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    return entry | dict.fromkeys(private_members(entry), "(private, not shown)")
