"""The trusted state: one form on the wire, read with nothing taken on trust."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.made_keys import ec_key, ml_dsa_key, rsa_key
from wif.core.issuer_state import (
    MAX_STATE_BYTES,
    KeyRecord,
    RemovedHow,
    State,
    Tombstone,
    decode_state,
    encode_state,
    is_worth_saving,
)
from wif.core.public_keys import IssuerKey
from wif.errors import ProtocolError

ISSUER = "https://issuer.example/one"
T0 = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
POOL = (rsa_key(1, "one"), rsa_key(2, "two"), ec_key("three"), ml_dsa_key("four"), rsa_key(5, "five <&>"))


def record(key: IssuerKey, **changes: Any) -> KeyRecord:
    base = KeyRecord(jwk=key.jwk, fingerprint=key.fingerprint, origin="file:one.pub", added_at=T0)
    return replace(base, **changes)


def stone(key: IssuerKey | None = None, how: RemovedHow = "removed") -> Tombstone:
    if key is None:
        return Tombstone(removed_at=T0, how=how)
    return Tombstone(removed_at=T0, how=how, reason="leaked", jwk=key.jwk, fingerprint=key.fingerprint)


STATE = State(
    issuer=ISSUER,
    jwks_uris=(f"{ISSUER}/openid/v1/jwks",),
    keys={"one": record(POOL[0], signing_since=T0, targets=frozenset({"s3://b", "file:///d"}))},
    removed={"two": stone(POOL[1]), "gone": stone()},
    observed_at=T0,
)


def refused(body: bytes, *, issuer: str = ISSUER) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode_state(body, issuer=issuer)
    assert caught.value.code == "state-invalid"
    return caught.value


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(encode_state(STATE))
    change(document)
    return json.dumps(document).encode()


# -- the form ------------------------------------------------------------------------------------------------------


def test_the_form_is_readable_sorted_and_ends_a_line() -> None:
    """A golden document: other versions of this program read it, and so do people."""
    state = State(
        issuer=ISSUER,
        jwks_uris=("https://b.example/jwks", "https://a.example/jwks"),
        removed={"kid": Tombstone(removed_at=T0, how="retired", reason="drained")},
        observed_at=T0 + timedelta(microseconds=5),
    )
    assert (
        encode_state(state).decode()
        == """{
  "issuer": "https://issuer.example/one",
  "jwks_uris": [
    "https://a.example/jwks",
    "https://b.example/jwks"
  ],
  "keys": {},
  "observed_at": "2026-01-31T12:00:00.000005Z",
  "removed": {
    "kid": {
      "fingerprint": null,
      "how": "retired",
      "jwk": null,
      "reason": "drained",
      "removed_at": "2026-01-31T12:00:00Z"
    }
  },
  "replaced_at": null,
  "version": 1
}
"""
    )


def test_times_are_written_in_utc_whatever_their_zone() -> None:
    elsewhere = replace(STATE, observed_at=T0.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert encode_state(elsewhere) == encode_state(STATE)
    assert b'"observed_at": "2026-01-31T12:00:00Z"' in encode_state(STATE)


MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
TIMES = st.none() | MOMENTS
RECORDS = st.builds(
    replace,
    st.sampled_from([record(key) for key in POOL]),
    origin=st.text("a/:\u00e9\U0001f511", max_size=20),
    added_at=MOMENTS,
    adopted=st.booleans(),
    published_at=TIMES,
    verified_at=TIMES,
    visible_since=TIMES,
    signing_since=TIMES,
    last_seen_signing_at=TIMES,
    stopped_at=TIMES,
    exposed_since=TIMES,
    longest_token_seconds=st.none() | st.integers(0, 2**32),
    served=st.booleans(),
    targets=st.frozensets(st.sampled_from(["s3://b/p", "file:///srv"])),
)


@given(st.lists(RECORDS, max_size=3), st.sets(st.sampled_from(POOL)), TIMES, TIMES)
def test_what_is_written_is_read_again(
    records: list[KeyRecord], gone: set[IssuerKey], observed: datetime | None, replaced: datetime | None
) -> None:
    removed = {key.key_id: stone(key) for key in gone}
    keys = {one.jwk["kid"]: one for one in records if one.jwk["kid"] not in removed}
    state = State(issuer=ISSUER, keys=keys, removed=removed, observed_at=observed, replaced_at=replaced)
    body = encode_state(state)
    assert decode_state(body, issuer=ISSUER) == state
    assert encode_state(decode_state(body, issuer=ISSUER)) == body


def test_two_writers_of_the_same_facts_write_the_same_bytes() -> None:
    one = State(issuer=ISSUER, keys={"one": record(POOL[0]), "two": record(POOL[1])}, jwks_uris=("a", "b"))
    other = State(issuer=ISSUER, keys={"two": record(POOL[1]), "one": record(POOL[0])}, jwks_uris=("b", "a"))
    assert encode_state(one) == encode_state(other)


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(version=2), "version 2, expected 1"),
        (lambda d: d.update(version=True), "version True"),
        (lambda d: d.update(version=1.0), "version float"),
        (lambda d: d.update(version="1"), "version '1'"),
        (lambda d: d.update(version=[]), "version list"),
        (lambda d: d.pop("version"), "version NoneType"),
        (lambda d: d.update(surprise=1), "unknown member surprise"),
        (lambda d: d.pop("keys"), "no member keys"),
        (lambda d: d.update(keys=[]), "list as keys, expected an object"),
        (lambda d: d.update(jwks_uris="x"), "'x' as jwks_uris, expected a list of texts"),
        (lambda d: d.update(jwks_uris=[1]), "jwks_uris"),
        (lambda d: d.update(observed_at="yesterday"), "observed_at, expected a time"),
        (lambda d: d.update(observed_at="2026-02-31T12:00:00Z"), "observed_at, expected a time"),
        (lambda d: d.update(observed_at="2026-01-31T12:00:00+00:00"), "observed_at, expected a time"),
        (lambda d: d.update(observed_at=5), "5 as observed_at"),
        (lambda d: d["keys"]["one"].pop("origin"), "no member keys.one.origin"),
        (lambda d: d["keys"]["one"].update(origin=None), "NoneType as keys.one.origin"),
        (lambda d: d["keys"]["one"].update(extra=1), "unknown member keys.one.extra"),
        (lambda d: d["keys"]["one"].update(added_at=None), "keys.one.added_at"),
        (lambda d: d["keys"]["one"].update(served=1), "keys.one.served, expected true or false"),
        (lambda d: d["keys"]["one"].update(longest_token_seconds=-1), "keys.one.longest_token_seconds"),
        (lambda d: d["keys"]["one"].update(longest_token_seconds=True), "keys.one.longest_token_seconds"),
        (lambda d: d["keys"]["one"].update(longest_token_seconds="1"), "keys.one.longest_token_seconds"),
        (lambda d: d["keys"].update(one=[]), "list as keys.one, expected an object"),
        (lambda d: d["removed"]["gone"].update(how="burnt"), "removed.gone.how 'burnt', expected one of retired"),
        (lambda d: d["removed"]["gone"].update(removed_at=None), "removed.gone.removed_at"),
        (lambda d: d["keys"].update(gone=d["keys"]["one"]), "id 'one', expected 'gone'"),
    ],
)
def test_what_is_not_of_the_form_is_refused_by_name(change: Callable[[dict[str, Any]], object], named: str) -> None:
    assert named in refused(changed(change)).message


def test_a_state_of_another_issuer_is_refused() -> None:
    error = refused(encode_state(STATE), issuer=f"{ISSUER}/")
    assert repr(ISSUER) in error.message
    assert repr(f"{ISSUER}/") in error.message


def test_a_newer_version_says_to_use_a_newer_program() -> None:
    assert "newer" in (refused(changed(lambda d: d.update(version=2))).hint or "")


@pytest.mark.parametrize("where", ["keys", "removed"])
def test_a_fingerprint_must_be_that_of_its_key(where: str) -> None:
    """Else a removed key's material could come back under cover of another's fingerprint."""
    name = {"keys": "one", "removed": "two"}[where]
    other = POOL[4].fingerprint
    assert f"{where}.{name}.fingerprint" in refused(changed(lambda d: d[where][name].update(fingerprint=other))).message


@pytest.mark.parametrize("where", ["keys", "removed"])
def test_a_key_must_be_a_usable_public_key_of_its_id(where: str) -> None:
    name = {"keys": "one", "removed": "two"}[where]
    assert f"{where}.{name}.jwk" in refused(changed(lambda d: d[where][name]["jwk"].update(n="AQAB"))).message
    assert f"{where}.{name}.jwk" in refused(changed(lambda d: d[where][name]["jwk"].update(kid="other"))).message
    private = refused(changed(lambda d: d[where][name]["jwk"].update(d="c2VjcmV0")))
    assert "c2VjcmV0" not in str(private)


def test_no_key_is_both_recorded_and_removed() -> None:
    both = replace(STATE, removed={"one": stone(POOL[0])})
    assert "among its keys and among the removed" in refused(encode_state(both)).message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"version":1,"version":1}', b"null"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    refused(body)


def test_a_state_is_read_only_up_to_the_size_of_a_configmap() -> None:
    assert str(MAX_STATE_BYTES) in refused(b" " * (MAX_STATE_BYTES + 1)).message


@given(st.binary(max_size=300) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_no_bytes_end_otherwise_than_refused(body: bytes) -> None:
    refused(body)


# -- what it answers -----------------------------------------------------------------------------------------------


def test_a_tombstone_stands_against_the_id_and_the_material() -> None:
    assert STATE.is_removed(POOL[1])
    assert STATE.is_removed(rsa_key(9, "gone"))
    assert STATE.is_removed(rsa_key(2, "another name"))
    assert not STATE.is_removed(POOL[0])
    assert STATE.removed_fingerprints == {POOL[1].fingerprint}


def test_a_state_that_records_no_key_is_empty() -> None:
    assert State.new(ISSUER).is_empty
    assert replace(State.new(ISSUER), jwks_uris=("https://a.example/jwks",)).is_empty
    assert not STATE.is_empty
    assert not replace(STATE, keys={}).is_empty


def test_a_record_gives_its_key_and_says_whether_it_signs() -> None:
    assert record(POOL[0]).key == POOL[0]
    assert not record(POOL[0]).is_signing
    assert record(POOL[0], signing_since=T0).is_signing
    assert not record(POOL[0], signing_since=T0, stopped_at=T0).is_signing


def test_only_a_passed_time_is_not_worth_saving_until_enough_has_passed() -> None:
    def at(seconds: int, **changes: Any) -> State:
        when = T0 + timedelta(seconds=seconds)
        keys = {"one": record(POOL[0], last_seen_signing_at=when, **changes)}
        return replace(STATE, keys=keys, observed_at=when)

    assert not is_worth_saving(at(0), at(599), every_seconds=600)
    assert is_worth_saving(at(0), at(600), every_seconds=600)
    assert is_worth_saving(at(0), at(1, visible_since=T0), every_seconds=600)
    assert is_worth_saving(replace(at(0), observed_at=None), at(1), every_seconds=600)
    assert not is_worth_saving(replace(at(0), observed_at=None), replace(at(0), observed_at=None), every_seconds=600)


def test_a_message_moves_no_cursor() -> None:
    for body in (
        changed(lambda d: d.update({"\x1b[2J": 1})),
        changed(lambda d: d["keys"].update({"\x1b[2J": 1})),
        changed(lambda d: d.update(issuer="\x1b[2J")),
        changed(lambda d: d["removed"]["gone"].update(how="\x1b[2J")),
        changed(lambda d: d.update(observed_at="\x1b[2J")),
    ):
        assert refused(body).message.isprintable()
