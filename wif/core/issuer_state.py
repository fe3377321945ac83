"""The trusted state of an issuer: which keys it has, what was seen of them, and which must never come back.

Public keys and times only, no secret; but whoever can write it can let a removed key come back, so it never stands
in a public target. Readable JSON, versioned and sorted, so that two writers of the same facts write the same bytes.
"""

from __future__ import annotations

__all__ = [
    "MAX_STATE_BYTES",
    "VERSION",
    "KeyRecord",
    "RemovedHow",
    "State",
    "Tombstone",
    "decode_state",
    "encode_state",
    "is_worth_saving",
]

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NoReturn, TypeVar, cast, get_args

from wif.core.documents import parse_json
from wif.core.public_keys import IssuerKey
from wif.errors import ConfigurationError, ProtocolError

VERSION: Final = 1
"""Of the form of the state. A state of another version is refused, never guessed at."""

MAX_STATE_BYTES = 1024 * 1024
"""What a ConfigMap holds; 100 RSA keys and 500 tombstones have less than half of it."""

RemovedHow = Literal["retired", "removed", "aborted"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key, and what observation has shown of it. Times are aware and UTC; None is "never seen"."""

    jwk: Mapping[str, str]
    fingerprint: str
    """RFC 7638, of the material."""
    origin: str
    """What vouched for it first: an API server, a file, ``adopted``."""
    added_at: datetime
    adopted: bool = False
    """Taken over by ``wif keys adopt``: no source of ours ever vouched for it, and it may have signed before."""
    published_at: datetime | None = None
    """First seen at every target."""
    verified_at: datetime | None = None
    """Since when it has been seen at every target and at the public address, without a miss."""
    visible_since: datetime | None = None
    """As ``verified_at``, and in every API server's own key set. Any observation that misses it resets it."""
    signing_since: datetime | None = None
    """First seen on a live token."""
    last_seen_signing_at: datetime | None = None
    stopped_at: datetime | None = None
    """The first observation of all API servers in which none signs with it, where it has signed or may have."""
    longest_token_seconds: int | None = None
    """The largest lifetime that an API server was seen to grant while it signed with this key; 0 is no limit."""
    exposed_since: datetime | None = None
    """Since when tokens of this key may have been refused, because it signs and was not visible for long enough."""
    served: bool = False
    """Whether an API server listed it when all were last read."""
    targets: frozenset[str] = frozenset()
    """Where it was last seen, by name."""

    @property
    def key(self) -> IssuerKey:
        """The key itself."""
        return IssuerKey.from_jwk(self.jwk)

    @property
    def is_signing(self) -> bool:
        """Whether it signed when last seen, and nothing has shown since that it stopped."""
        return self.signing_since is not None and self.stopped_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """A key that no publisher publishes again, until ``wif keys forget``."""

    removed_at: datetime
    how: RemovedHow
    reason: str = ""
    jwk: Mapping[str, str] | None = None
    """The key, where it was known: its material stays out under any other id as well."""
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that is recorded of one issuer."""

    issuer: str
    jwks_uris: tuple[str, ...] = ()
    """Every ``jwks_uri`` that was ever published, sorted."""
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)
    """By key id."""
    removed: Mapping[str, Tombstone] = field(default_factory=dict)
    """By key id. No id is in both."""
    observed_at: datetime | None = None
    """The last observation in which every API server answered."""
    replaced_at: datetime | None = None
    """When the API servers were found to list none of the keys that they had listed before."""

    @classmethod
    def new(cls, issuer: str) -> State:
        """The state of an issuer of which nothing was published yet."""
        return cls(issuer=issuer)

    @property
    def is_empty(self) -> bool:
        """Whether it records nothing: no state at all, for the rule that a missing state is not an empty one."""
        return not self.keys and not self.removed

    @property
    def removed_fingerprints(self) -> frozenset[str]:
        """The material of all removed keys that is known."""
        return frozenset(stone.fingerprint for stone in self.removed.values() if stone.fingerprint is not None)

    def is_removed(self, key: IssuerKey) -> bool:
        """Whether a tombstone stands against this key: against its id, or its material under whatever id."""
        return key.key_id in self.removed or key.fingerprint in self.removed_fingerprints


def is_worth_saving(before: State, after: State, *, every_seconds: float) -> bool:
    """Whether ``after`` says more than that some time has passed.

    A controller observes every few minutes; only ``observed_at`` and ``last_seen_signing_at`` move then, and what is
    older there is on the safe side.
    """
    if before.observed_at is None or after.observed_at is None:
        return before != after
    if after.observed_at - before.observed_at >= timedelta(seconds=every_seconds):
        return True
    return _without_clocks(before) != _without_clocks(after)


def _without_clocks(state: State) -> State:
    keys = {kid: replace(record, last_seen_signing_at=None) for kid, record in state.keys.items()}
    return replace(state, keys=keys, observed_at=None)


# -- written ---------------------------------------------------------------------------------------------------


def encode_state(state: State) -> bytes:
    """The bytes of a state: indented JSON with sorted members, a line end at its end."""
    document = {
        "version": VERSION,
        "issuer": state.issuer,
        "jwks_uris": sorted(state.jwks_uris),
        "keys": {kid: _plain(record) for kid, record in state.keys.items()},
        "removed": {kid: _plain(stone) for kid, stone in state.removed.items()},
        "observed_at": _plain_value(state.observed_at),
        "replaced_at": _plain_value(state.replaced_at),
    }
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode("ascii")


def _plain(value: KeyRecord | Tombstone) -> dict[str, Any]:
    return {item.name: _plain_value(getattr(value, item.name)) for item in fields(value)}


def _plain_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, frozenset):
        return sorted(value)
    return dict(value) if isinstance(value, Mapping) else value


# -- read ------------------------------------------------------------------------------------------------------


def decode_state(body: bytes, *, issuer: str) -> State:
    """Read a state strictly: every member is known, of its type, and every fingerprint that of its key.

    Args:
        issuer: whose state it must be, byte for byte.

    Raises:
        ProtocolError: state-invalid, naming the member.
    """
    if len(body) > MAX_STATE_BYTES:
        _invalid(f"has {len(body)} bytes, expected at most {MAX_STATE_BYTES}")
    try:
        document = parse_json(body)
    except ValueError as error:
        _invalid(f"is not JSON: {error}")
    if not isinstance(document, dict):
        _invalid("is not a JSON object")
    version = document.pop("version", None)
    if type(version) is not int or version != VERSION:
        _invalid(
            f"has the version {_shown(version)}, expected {VERSION}",
            hint="use the version of wif that wrote it, or a newer one",
        )
    _known(document, "", _STATE)
    named = _member(document, "", "issuer", _text)
    if named != issuer:
        _invalid(
            f"is that of the issuer {named[:256]!r}, expected {issuer!r}",
            hint="give each issuer a state of its own: check --state and --issuer",
        )
    keys = _member(document, "", "keys", _object)
    removed = _member(document, "", "removed", _object)
    state = State(
        issuer=named,
        jwks_uris=tuple(sorted(_member(document, "", "jwks_uris", _texts))),
        keys={kid: _record(f"keys.{_name(kid)}", kid, value) for kid, value in keys.items()},
        removed={kid: _tombstone(f"removed.{_name(kid)}", kid, value) for kid, value in removed.items()},
        observed_at=_optional(document, "", "observed_at", _time),
        replaced_at=_optional(document, "", "replaced_at", _time),
    )
    for kid in state.keys:
        if kid in state.removed:
            _invalid(f"has the key {kid[:64]!r} among its keys and among the removed ones")
    return state


_STATE = frozenset({"issuer", "jwks_uris", "keys", "removed", "observed_at", "replaced_at"})
_RECORD = frozenset(item.name for item in fields(KeyRecord))
_TOMBSTONE = frozenset(item.name for item in fields(Tombstone))
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def _record(place: str, kid: str, value: object) -> KeyRecord:
    document = _object(value, place)
    _known(document, place, _RECORD)
    jwk, fingerprint = _jwk(document, place, kid)
    if _member(document, place, "fingerprint", _text) != fingerprint:
        _invalid(f"has a {place}.fingerprint that is not the one of {place}.jwk")

    def time(name: str) -> datetime | None:
        return _optional(document, place, name, _time)

    return KeyRecord(
        jwk=jwk,
        fingerprint=fingerprint,
        origin=_member(document, place, "origin", _text),
        added_at=_member(document, place, "added_at", _time),
        adopted=_member(document, place, "adopted", _boolean),
        published_at=time("published_at"),
        verified_at=time("verified_at"),
        visible_since=time("visible_since"),
        signing_since=time("signing_since"),
        last_seen_signing_at=time("last_seen_signing_at"),
        stopped_at=time("stopped_at"),
        longest_token_seconds=_optional(document, place, "longest_token_seconds", _seconds),
        exposed_since=time("exposed_since"),
        served=_member(document, place, "served", _boolean),
        targets=frozenset(_member(document, place, "targets", _texts)),
    )


def _tombstone(place: str, kid: str, value: object) -> Tombstone:
    document = _object(value, place)
    _known(document, place, _TOMBSTONE)
    how = _member(document, place, "how", _text)
    if how not in get_args(RemovedHow):
        _invalid(f"has the {place}.how {how[:32]!r}, expected one of {', '.join(get_args(RemovedHow))}")
    jwk: Mapping[str, str] | None = None
    fingerprint = _optional(document, place, "fingerprint", _text)
    if document.get("jwk") is not None:
        jwk, computed = _jwk(document, place, kid)
        if fingerprint != computed:
            _invalid(f"has a {place}.fingerprint that is not the one of {place}.jwk")
    return Tombstone(
        removed_at=_member(document, place, "removed_at", _time),
        how=cast("RemovedHow", how),
        reason=_member(document, place, "reason", _text),
        jwk=jwk,
        fingerprint=fingerprint,
    )


def _jwk(document: Mapping[str, Any], place: str, kid: str) -> tuple[Mapping[str, str], str]:
    jwk = _member(document, place, "jwk", _object)
    try:
        key = IssuerKey.from_jwk(jwk)
    except ConfigurationError as error:
        _invalid(f"has a {place}.jwk that cannot be used: {error.message}")
    if key.key_id != kid:
        _invalid(f"has a {place}.jwk of the id {key.key_id[:64]!r}, expected {kid[:64]!r}")
    return dict(key.jwk), key.fingerprint


def _known(document: Mapping[str, Any], place: str, names: frozenset[str]) -> None:
    unknown = sorted(set(document) - names)
    if unknown:
        _invalid(
            f"has the unknown member {_joined(place, _name(unknown[0]))}",
            hint="use the version of wif that wrote it, or a newer one",
        )


def _member(document: Mapping[str, Any], place: str, name: str, read: Callable[[object, str], _T]) -> _T:
    if name not in document:
        _invalid(f"has no member {_joined(place, name)}")
    return read(document[name], _joined(place, name))


def _optional(document: Mapping[str, Any], place: str, name: str, read: Callable[[object, str], _T]) -> _T | None:
    return None if document.get(name) is None else read(document[name], _joined(place, name))


def _text(value: object, place: str) -> str:
    return value if isinstance(value, str) else _unexpected(place, "a text", value)


def _boolean(value: object, place: str) -> bool:
    return value if isinstance(value, bool) else _unexpected(place, "true or false", value)


def _seconds(value: object, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _unexpected(place, "a number of seconds", value)
    return value


def _texts(value: object, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        _unexpected(place, "a list of texts", value)
    return value


def _object(value: object, place: str) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _unexpected(place, "an object", value)


def _time(value: object, place: str) -> datetime:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    return _unexpected(place, "a time such as 2026-01-31T12:00:00Z", value)


def _name(member: str) -> str:
    """The name of a member, fit for a terminal."""
    return ascii(member[:64])[1:-1]


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(value: object) -> str:
    return (
        repr(value[:64]) if isinstance(value, str) else str(value) if isinstance(value, int) else type(value).__name__
    )


def _unexpected(place: str, expected: str, value: object) -> NoReturn:
    _invalid(f"has {_shown(value)} as {place}, expected {expected}")


def _invalid(what: str, *, hint: str | None = None) -> NoReturn:
    raise ProtocolError(f"the state {what}", code="state-invalid", hint=hint)
