"""What a target should hold: a key set grows, a removed key never returns, and nobody else's key spreads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.made_keys import ec_key, ml_dsa_key, rsa_key
from wif.core.discovery import discovery_document, encode_document
from wif.core.issuer_state import KeyRecord, State, Tombstone
from wif.core.public_keys import IssuerKey, key_set_bytes, observe_key_set
from wif.core.publication import (
    DEFAULT_CACHE_CONTROL,
    DISCOVERY_CONTENT_TYPE,
    JWKS_CONTENT_TYPE,
    ObservedDocument,
    ObservedTarget,
    TargetPlan,
    decide,
    diff,
    record_unpublished,
    record_written,
    removed_in,
    require_state,
    write_ahead,
)
from wif.errors import DriftError

ISSUER = "https://issuer.example/one"
JWKS_URI = f"{ISSUER}/openid/v1/jwks"
T0 = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
A, B, C, D = (rsa_key(number, name) for number, name in enumerate("abcd"))
ALTERED_A = rsa_key(100, "a")
FOREIGN = rsa_key(200, "foreign")
EC = ec_key("ec")


def document(body: bytes, content_type: str = JWKS_CONTENT_TYPE) -> ObservedDocument:
    return ObservedDocument(body=body, tag="1", content_type=content_type, cache_control=DEFAULT_CACHE_CONTROL)


def discovery(algorithms: Iterable[str] = ("RS256",), **changes: Any) -> ObservedDocument:
    members = {**discovery_document(ISSUER, JWKS_URI, algorithms), **changes}
    return document(
        encode_document({name: value for name, value in members.items() if value is not ...}), DISCOVERY_CONTENT_TYPE
    )


def target(*keys: IssuerKey | Mapping[str, Any], **changes: Any) -> ObservedTarget:
    raw = [key.jwk if isinstance(key, IssuerKey) else key for key in keys]
    base = ObservedTarget(name="s3://bucket", jwks=document(encode_document({"keys": raw})), discovery=discovery())
    return replace(base, **changes)


def state(*keys: IssuerKey, removed: Iterable[IssuerKey] = (), at: Iterable[str] = ("s3://bucket",)) -> State:
    recorded = write_ahead(State.new(ISSUER), keys, T0, jwks_uri=JWKS_URI)
    for name in at:
        recorded = record_written(recorded, name, [key.key_id for key in keys])
    stones = {
        key.key_id: Tombstone(removed_at=T0, how="removed", jwk=key.jwk, fingerprint=key.fingerprint) for key in removed
    }
    return replace(recorded, removed=stones)


def plan(there: ObservedTarget, known: State, vouched: Sequence[IssuerKey], **options: Any) -> TargetPlan:
    return decide(there, known, vouched, issuer=ISSUER, jwks_uri=JWKS_URI, **options)


def kids(body: bytes | None) -> list[str | None]:
    assert body is not None
    return [entry.key_id for entry in observe_key_set(body).entries]


def after(there: ObservedTarget, decided: TargetPlan) -> ObservedTarget:
    """The target once the plan is carried out."""
    result = there
    if decided.jwks is not None:
        result = replace(result, jwks=document(decided.jwks))
    if decided.discovery is not None:
        result = replace(result, discovery=document(decided.discovery, DISCOVERY_CONTENT_TYPE))
    return result


def settled(there: ObservedTarget, known: State, vouched: Sequence[IssuerKey], **options: Any) -> ObservedTarget:
    """The target after the plan; deciding on it again must change nothing."""
    decided = plan(there, known, vouched, **options)
    reached = after(there, decided)
    again = plan(reached, known, vouched, **options)
    assert not again.writes, again
    assert again.holds == decided.holds
    return reached


# -- what is written -----------------------------------------------------------------------------------------------


def test_a_first_publish_writes_both_documents() -> None:
    empty = target(jwks=None, discovery=None)
    decided = plan(empty, state(A, B, at=()), [B, A])
    assert decided.jwks == key_set_bytes([A, B])
    assert decided.discovery == discovery().body
    assert decided.added == decided.holds == ("a", "b")
    assert decided.drift == ("the key set is missing", "the discovery document is missing")
    assert not decided.tampering
    assert settled(empty, state(A, B, at=()), [A, B]).jwks == document(key_set_bytes([A, B]))


def test_a_target_as_it_should_be_is_left_alone() -> None:
    decided = plan(target(A, B), state(A, B), [A, B])
    assert decided.is_clean
    assert (decided.jwks, decided.discovery, decided.holds) == (None, None, ("a", "b"))


def test_a_vouched_key_that_is_missing_is_drift_and_added() -> None:
    decided = plan(target(A), state(A, B), [A, B])
    assert kids(decided.jwks) == ["a", "b"]
    assert decided.added == ("b",)
    assert decided.drift == ("the key set lacks the key 'b'",)
    assert not decided.tampering


def test_a_key_that_nobody_vouches_for_any_more_stays_where_it_is_recorded_and_seen() -> None:
    """The published key set only grows on a normal run: one API server's answer removes nothing."""
    decided = plan(target(A, B), state(A, B), [B])
    assert decided.is_clean
    assert decided.holds == ("a", "b")


def test_a_key_known_from_the_state_alone_is_added_nowhere_and_reported_lost() -> None:
    """Who can write the state alone must not be able to publish a key by it."""
    decided = plan(target(B), state(A, B), [B])
    assert decided.jwks is None
    assert decided.lost == ("a",)
    assert not decided.is_clean
    assert any("--public-key" in text for text in decided.warnings)
    assert plan(target(B), state(A, B), [A, B]).lost == ()


def test_a_key_that_was_published_nowhere_yet_is_not_lost_but_on_its_way() -> None:
    """Another publisher has written it ahead into the state."""
    known = write_ahead(state(B), [A], T0)
    decided = plan(target(B), known, [B])
    assert decided.lost == ()
    assert decided.is_clean


def test_no_key_to_publish_writes_nothing() -> None:
    decided = plan(target(jwks=None, discovery=None), State.new(ISSUER), [])
    assert not decided.writes
    assert decided.warnings == ("the sources of this run vouch for no key",)


def test_the_algorithms_of_the_discovery_document_are_those_of_the_keys() -> None:
    decided = plan(target(A), state(A, EC), [A, EC])
    assert decided.discovery == discovery(["RS256", "ES256"]).body
    settled(target(A), state(A, EC), [A, EC])


# -- what is not ours ----------------------------------------------------------------------------------------------


def test_a_foreign_key_is_kept_reported_and_copied_nowhere() -> None:
    extra = {**FOREIGN.jwk, "x5t": "kept as it stands"}
    found = target(A, extra)
    decided = plan(found, state(A, B), [A, B])
    assert decided.foreign == ("foreign",)
    assert any("nobody vouches for the key 'foreign'" in text for text in decided.tampering)
    assert json.loads(decided.jwks or b"")["keys"] == [A.jwk, B.jwk, extra]
    assert "foreign" not in decided.holds
    assert "foreign" not in kids(plan(target(A), state(A, B), [A, B]).jwks)
    settled(found, state(A, B), [A, B])


def test_a_foreign_key_alone_is_nothing_to_write_but_not_clean() -> None:
    decided = plan(target(A, FOREIGN), state(A), [A])
    assert not decided.writes
    assert not decided.is_clean


def test_restore_takes_a_foreign_key_away_and_still_reports_it() -> None:
    found = target(A, FOREIGN)
    decided = plan(found, state(A), [A], restore=True)
    assert kids(decided.jwks) == ["a"]
    assert decided.foreign == ("foreign",)
    assert decided.tampering
    assert plan(after(found, decided), state(A), [A], restore=True).is_clean


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"kid": 5, "kty": "RSA"},
        {"kid": None},
        {"kid": "x", "kty": "oct", "k": "c2VjcmV0"},
        {"kid": "\x1b[2J"},
        {"kty": "RSA", "n": "AQAB"},
        {name: value for name, value in A.jwk.items() if name != "kid"},
        {**A.jwk, "kid": "a "},
    ],
)
def test_an_entry_that_is_no_key_of_ours_is_foreign_whatever_it_is(entry: Mapping[str, Any]) -> None:
    decided = plan(target(A, entry), state(A, B), [A, B])
    assert len(decided.foreign) == 1
    assert json.loads(decided.jwks or b"")["keys"][2] == entry
    assert all(text.isprintable() for text in (*decided.tampering, *decided.drift, *decided.warnings))


def test_an_altered_key_is_tampering_and_replaced_by_the_vouched_one() -> None:
    decided = plan(target(ALTERED_A, B), state(A, B), [A, B])
    assert decided.altered == ("a",)
    assert decided.added == ()
    assert any("other material than ours under the key 'a'" in text for text in decided.tampering)
    assert decided.jwks == key_set_bytes([A, B])
    settled(target(ALTERED_A, B), state(A, B), [A, B])


def test_an_altered_entry_beside_the_good_one_is_taken_away() -> None:
    """A document holds an id once: a cloud that takes the last of two would take the attacker's."""
    for vouched in ([A, B], [B]):
        decided = plan(target(A, ALTERED_A, B), state(A, B), vouched)
        assert decided.jwks == key_set_bytes([A, B])
        assert decided.altered == ("a",)


def test_the_state_alone_never_replaces_what_stands_at_a_target() -> None:
    """Else a writer of the state could publish a key in place of one that drains."""
    found = target(B, ALTERED_A)
    decided = plan(found, state(A, B), [B])
    assert not decided.writes
    assert (decided.altered, decided.lost) == (("a",), ("a",))
    assert decided.tampering
    restored = plan(found, state(A, B), [B], restore=True)
    assert kids(restored.jwks) == ["b"]
    assert restored.lost == ("a",)


def test_an_entry_of_ours_with_private_members_is_altered() -> None:
    decided = plan(target({**A.jwk, "d": "c2VjcmV0"}), state(A), [A])
    assert decided.altered == ("a",)
    assert decided.jwks == key_set_bytes([A])
    assert "c2VjcmV0" not in repr(decided)


def test_sources_that_contradict_the_state_or_each_other_publish_nothing_of_it() -> None:
    for known, vouched in ((state(A, B), [ALTERED_A, B]), (state(B), [A, ALTERED_A, B]), (state(A, B), [A, ALTERED_A])):
        decided = plan(target(B), known, vouched)
        assert decided.jwks is None
        assert any("do not agree" in text and "'a'" in text for text in decided.tampering)
    # what is recorded and stands there, stays
    assert plan(target(A, B), state(A, B), [ALTERED_A, B]).holds == ("a", "b")


# -- what is removed -----------------------------------------------------------------------------------------------


def test_a_removed_key_is_taken_away_everywhere_also_while_a_source_vouches_for_it() -> None:
    for vouched in ([A, B], [B]):
        decided = plan(target(A, B), state(B, removed=[A]), vouched)
        assert kids(decided.jwks) == ["b"]
        assert decided.removed == ("a",)
        assert decided.drift == ("the key set still has the key 'a', which must be gone",)
        assert not decided.tampering
    assert any(
        "still vouch for the removed key 'a'" in text
        for text in plan(target(B), state(B, removed=[A]), [A, B]).warnings
    )


def test_a_removed_key_does_not_come_back_under_another_id() -> None:
    """A leaked key stays leaked whatever it is called."""
    renamed = rsa_key(0, "renamed")
    decided = plan(target(B), state(B, removed=[A]), [renamed, B])
    assert decided.is_clean
    assert any("'renamed'" in text for text in decided.warnings)
    decided = plan(target(B, renamed), state(B, removed=[A]), [B])
    assert decided.removed == ("renamed",)
    assert kids(decided.jwks) == ["b"]


def test_a_removed_id_keeps_any_material_out() -> None:
    gone = replace(state(B), removed={"a": Tombstone(removed_at=T0, how="removed")})
    for there in (A, ALTERED_A, {"kid": "a"}):
        assert plan(target(there, B), gone, [A, B]).removed == ("a",)


def test_removing_the_last_key_empties_the_key_set_and_keeps_the_discovery_document() -> None:
    found = target(A)
    decided = plan(found, state(removed=[A]), [A])
    assert decided.jwks == b'{"keys":[]}'
    assert decided.discovery is None
    settled(found, state(removed=[A]), [A])


# -- which clouds read it ------------------------------------------------------------------------------------------


def test_a_key_that_no_reading_cloud_verifies_is_left_out_and_said() -> None:
    ml_dsa = ml_dsa_key("ml")
    decided = plan(target(A), state(A, ml_dsa), [A, ml_dsa])
    assert not decided.writes
    assert decided.filtered == ("ml",)
    assert decided.warnings == ("aws, azure, gcp will refuse tokens of 'ml' (ML-DSA-44), so it is left out",)
    assert plan(target(A), state(A, EC), [A, EC], clouds=["azure"]).filtered == ("ec",)
    assert plan(target(A), state(A, ml_dsa), [A]).lost == ()


def test_a_key_that_some_reading_cloud_refuses_is_published_with_a_warning() -> None:
    decided = plan(target(A), state(A, EC), [A, EC])
    assert decided.added == ("ec",)
    assert decided.warnings == ("azure will refuse tokens of 'ec' (ES256)",)
    assert plan(target(A), state(A, EC), [A, EC], clouds=["aws", "gcp"]).warnings == ()


def test_a_filtered_key_that_stands_there_is_taken_away_also_when_only_recorded() -> None:
    for vouched in ([A, EC], [A]):
        decided = plan(target(A, EC), state(A, EC), vouched, clouds=["azure"])
        assert kids(decided.jwks) == ["a"]
        assert decided.filtered == ("ec",)
        assert "the key set is written differently" in decided.drift
        settled(target(A, EC), state(A, EC), vouched, clouds=["azure"])


def test_another_material_under_the_id_of_a_filtered_key_is_altered() -> None:
    decided = plan(target(A, rsa_key(7, "ec")), state(A, EC), [A, EC], clouds=["azure"])
    assert decided.altered == ("ec",)
    assert kids(decided.jwks) == ["a"]


# -- how it is written ---------------------------------------------------------------------------------------------


def test_another_rendering_is_drift_and_no_tampering() -> None:
    pretty = json.dumps({"keys": [{"kty": "RSA", **B.jwk}, A.jwk], "extra": 1}, indent=1).encode()
    for body in (pretty, encode_document({"keys": [B.jwk, A.jwk]}), encode_document({"keys": [A.jwk, A.jwk, B.jwk]})):
        decided = plan(target(jwks=document(body)), state(A, B), [A, B])
        assert decided.jwks == key_set_bytes([A, B])
        assert decided.drift == ("the key set is written differently",)
        assert not decided.tampering


@pytest.mark.parametrize("name", ["jwks", "discovery"])
def test_other_headers_are_drift_where_a_target_keeps_them(name: str) -> None:
    there: ObservedDocument = getattr(target(A), name)
    for headers in ({"content_type": "text/html"}, {"content_type": None}, {"cache_control": "max-age=3600"}):
        found = target(A, **{name: replace(there, **headers)})
        decided = plan(found, state(A), [A])
        assert getattr(decided, name) == there.body
        assert len(decided.drift) == 1
        assert plan(replace(found, keeps_headers=False), state(A), [A]).is_clean
    spelled = replace(there, content_type=(there.content_type or "").upper(), cache_control="Public,max-age=300")
    assert plan(target(A, **{name: spelled}), state(A), [A]).is_clean


def test_cache_control_is_what_was_asked_for() -> None:
    decided = plan(target(A), state(A), [A], cache_control="public, max-age=60")
    assert decided.jwks is not None
    assert decided.discovery is not None
    assert decided.cache_control == "public, max-age=60"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"keys":{}}', b'{"keys":[1]}', b"\xff", b'{"keys":[],"keys":[]}'])
def test_a_key_set_that_cannot_be_read_is_tampering_and_left_without_restore(body: bytes) -> None:
    found = target(jwks=document(body))
    decided = plan(found, state(A), [A])
    assert not decided.writes
    assert decided.tampering
    assert (decided.holds, decided.added, decided.lost) == ((), (), ())
    restored = plan(found, state(A), [A], restore=True)
    assert restored.jwks == key_set_bytes([A])
    assert restored.tampering
    assert plan(after(found, restored), state(A), [A]).is_clean


def test_no_discovery_document_is_made_beside_a_key_set_that_was_not_understood() -> None:
    decided = plan(target(jwks=document(b"{"), discovery=None), state(A), [A])
    assert decided.discovery is None


# -- the discovery document ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (discovery(issuer="https://evil.example"), "names the issuer 'https://evil.example'"),
        (discovery(issuer=f"{ISSUER}/"), "names the issuer"),
        (discovery(issuer=...), "names the issuer nothing"),
        (discovery(issuer=5), "names the issuer int"),
        (discovery(jwks_uri="https://evil.example/jwks"), "names the jwks_uri 'https://evil.example/jwks'"),
        (discovery(jwks_uri=...), "names the jwks_uri nothing"),
        (discovery(jwks_uri=[JWKS_URI]), "names the jwks_uri list"),
        (document(b"{", DISCOVERY_CONTENT_TYPE), "is not JSON"),
        (document(b"[]", DISCOVERY_CONTENT_TYPE), "is not a JSON object"),
        (document(b"", DISCOVERY_CONTENT_TYPE), "is not JSON"),
    ],
)
def test_a_discovery_document_that_only_another_can_have_written_is_tampering(found: Any, named: str) -> None:
    there = target(A, discovery=found)
    decided = plan(there, state(A), [A])
    assert decided.discovery is None
    assert len(decided.tampering) == 1
    assert named in decided.tampering[0]
    restored = plan(there, state(A), [A], restore=True)
    assert restored.discovery == discovery().body
    assert restored.tampering == decided.tampering
    assert plan(after(there, restored), state(A), [A]).is_clean


def test_a_jwks_uri_that_was_ever_published_is_drift() -> None:
    found = target(A, discovery=discovery(jwks_uri="https://old.example/jwks"))
    known = write_ahead(state(A), [], T0, jwks_uri="https://old.example/jwks")
    decided = plan(found, known, [A])
    assert decided.discovery == discovery().body
    assert decided.drift == ("the discovery document is written differently",)
    assert not decided.tampering


@pytest.mark.parametrize("changes", [{"extra": 1}, {"response_types_supported": ["code"]}])
def test_other_members_of_the_discovery_document_are_drift(changes: Any) -> None:
    decided = plan(target(A, discovery=discovery(**changes)), state(A), [A])
    assert decided.discovery == discovery().body
    assert not decided.tampering


def test_nothing_is_added_to_a_place_of_another_issuer() -> None:
    """Our keys beside another issuer's would let our tokens pass for its; a slip in a prefix must not do that."""
    theirs = discovery(issuer="https://other.example")
    pretty = document(json.dumps({"keys": [FOREIGN.jwk]}).encode())
    found = target(jwks=pretty, discovery=theirs)
    decided = plan(found, state(A), [A])
    assert not decided.writes
    assert (decided.holds, decided.added) == ((), ())
    assert any("another issuer's discovery document" in text for text in decided.warnings)
    assert not plan(target(jwks=None, discovery=theirs), state(A), [A]).writes
    restored = plan(found, state(A), [A], restore=True)
    assert restored.jwks == key_set_bytes([A])


def test_what_an_attacker_writes_as_issuer_does_not_stop_a_removal_or_a_repair() -> None:
    theirs = discovery(issuer="https://other.example")
    decided = plan(target(A, B, discovery=theirs), state(B, removed=[A]), [B, C])
    assert kids(decided.jwks) == ["b"]
    assert kids(plan(target(ALTERED_A, discovery=theirs), state(A), [A]).jwks) == ["a"]


def test_a_discovery_document_is_never_restored_to_a_place_without_a_key_set() -> None:
    found = target(jwks=None, discovery=discovery(issuer="https://other.example"))
    assert plan(found, State.new(ISSUER), [], restore=True).discovery is None
    assert plan(found, state(A), [A], restore=True).discovery == discovery().body
    emptied = target(discovery=discovery(jwks_uri="https://evil.example"))
    assert plan(emptied, State.new(ISSUER), [], restore=True).discovery == discovery().body


def test_a_target_without_a_discovery_document_takes_the_key_set_alone() -> None:
    found = target(jwks=None, discovery=None, holds_discovery=False, keeps_headers=False)
    decided = plan(found, state(A, at=()), [A])
    assert (decided.jwks, decided.discovery) == (key_set_bytes([A]), None)
    ignored = target(A, holds_discovery=False, discovery=discovery(issuer="https://other.example"))
    assert plan(ignored, state(A), [A]).is_clean


# -- the state around a write --------------------------------------------------------------------------------------


def test_a_missing_or_empty_state_is_refused_while_a_target_holds_documents() -> None:
    for lost in (None, State.new(ISSUER)):
        for found in (target(A), target(A, discovery=None), target(jwks=None)):
            with pytest.raises(DriftError) as caught:
                require_state(lost, [target(jwks=None, discovery=None), found])
            assert caught.value.code == "state-missing"
            assert "s3://bucket" in caught.value.message
        require_state(lost, [target(jwks=None, discovery=None)])
    require_state(state(A), [target(A)])


def test_a_key_enters_the_state_before_any_target() -> None:
    before = state(A)
    ahead = write_ahead(before, [A, B], T0, jwks_uri=JWKS_URI, origins={"b": "https://10.0.0.1:6443"})
    assert ahead.keys["a"] == before.keys["a"]
    assert ahead.keys["b"] == KeyRecord(
        jwk=B.jwk, fingerprint=B.fingerprint, origin="https://10.0.0.1:6443", added_at=T0
    )
    assert write_ahead(ahead, [A, B], T0, jwks_uri=JWKS_URI) is ahead
    assert write_ahead(ahead, [], T0, jwks_uri="https://a.example/jwks").jwks_uris == (
        "https://a.example/jwks",
        JWKS_URI,
    )


def test_neither_a_removed_nor_a_contradicted_key_enters_the_state() -> None:
    known = state(B, removed=[A])
    assert write_ahead(known, [A, rsa_key(0, "renamed")], T0) is known
    assert write_ahead(known, [rsa_key(9, "b")], T0) is known
    assert write_ahead(known, [C, rsa_key(9, "c")], T0) is known


def test_where_a_key_stood_is_recorded_until_it_is_unpublished_there() -> None:
    known = state(A, B, at=())
    written = record_written(known, "s3://bucket", ["a", "unknown"])
    assert written.keys["a"].targets == {"s3://bucket"}
    assert written.keys["b"].targets == set()
    assert record_written(written, "s3://bucket", ["a"]) is written
    assert record_written(written, "s3://bucket", []) is written
    gone = record_unpublished(written, "s3://bucket")
    assert gone.keys["a"].targets == set()
    assert record_unpublished(gone, "s3://bucket") is gone


def test_what_was_removed_while_it_was_written_is_found() -> None:
    known = state(B, removed=[A])
    assert removed_in(key_set_bytes([A, B]), known) == ("a",)
    assert removed_in(key_set_bytes([rsa_key(0, "renamed")]), known) == ("renamed",)
    assert removed_in(key_set_bytes([B], [{"kid": "a"}, {}]), known) == ("a",)
    assert removed_in(b"{", known) == ()


# -- the difference ------------------------------------------------------------------------------------------------


def test_the_difference_shows_kids_and_headers() -> None:
    found = target(A, FOREIGN, jwks=replace(target(A, FOREIGN).jwks or document(b""), content_type=None))
    shown = diff(found, plan(found, state(A, B), [A, B], restore=True))
    assert shown.startswith("--- s3://bucket (key set, now)\n+++ s3://bucket (key set)\n")
    assert "-Content-Type: nothing\n+Content-Type: 'application/jwk-set+json'\n" in shown
    assert '-      "kid": "foreign",\n' in shown
    assert '+      "kid": "b",\n' in shown


def test_the_difference_of_another_material_has_its_kid_in_sight() -> None:
    found = target(ALTERED_A)
    lines = diff(found, plan(found, state(A), [A])).splitlines()
    assert '       "kid": "a",' in lines
    assert [line[:10] for line in lines if line.startswith(("-  ", "+  "))] == ['-      "n"', '+      "n"']


@pytest.mark.parametrize("keeps_headers", [False, True])
def test_the_difference_of_a_first_publish_adds_both_documents(keeps_headers: bool) -> None:
    found = target(jwks=None, discovery=None, keeps_headers=keeps_headers)
    shown = diff(found, plan(found, state(A, at=()), [A]))
    assert shown.count("--- nothing\n") == 2
    assert not [line for line in shown.splitlines() if line.startswith("-") and line != "--- nothing"]
    assert f'+  "issuer": "{ISSUER}",\n' in shown


def test_no_difference_where_nothing_is_written() -> None:
    assert diff(target(A), plan(target(A), state(A), [A])) == ""


def test_the_difference_of_what_is_no_json_names_its_digest() -> None:
    found = target(jwks=document(b"\x1b[2J{"))
    shown = diff(found, plan(found, state(A), [A], restore=True))
    assert "-(5 bytes that are not JSON, SHA-256 " in shown
    deep = b'{"keys":' + b"[" * 900 + b"]" * 900 + b"}"
    assert diff(target(jwks=document(deep)), plan(target(jwks=document(deep)), state(A), [A], restore=True))


def test_the_difference_shows_no_private_member_and_moves_no_cursor() -> None:
    found = target({**FOREIGN.jwk, "d": "c2VjcmV0", "note": "\x1b[2J\u202e"})
    shown = diff(found, plan(found, state(A), [A], restore=True))
    assert "c2VjcmV0" not in shown
    assert "(private, not shown)" in shown
    assert all(line.isprintable() for line in shown.splitlines())
    odd = target(jwks=document(b'{"keys":{"d":1}}'))
    assert diff(odd, plan(odd, state(A), [A], restore=True))
    number = target(jwks=document(b'{"keys":[5]}'))
    assert "-    5" in diff(number, plan(number, state(A), [A], restore=True))


# -- for all inputs ------------------------------------------------------------------------------------------------

POOL = (A, B, C, D, EC, ml_dsa_key("ml"))
IMPOSTORS = (FOREIGN, ALTERED_A, rsa_key(201, "b"), rsa_key(0, "renamed a"), rsa_key(202, "ec"))
ENTRIES = st.lists(st.sampled_from((*POOL, *IMPOSTORS)), max_size=8)
SUBSETS = st.lists(st.sampled_from(POOL), unique_by=lambda key: key.key_id)
CLOUDS = st.sets(st.sampled_from(["aws", "gcp", "azure"]), min_size=1)


@st.composite
def situations(draw: st.DrawFn) -> tuple[ObservedTarget, State, list[IssuerKey], set[str], bool]:
    vouched = draw(SUBSETS)
    removed = draw(SUBSETS)
    gone = {key.key_id for key in removed}
    recorded = [key for key in draw(SUBSETS) if key.key_id not in gone]
    known = state(*recorded, removed=removed, at=draw(st.sampled_from([(), ("s3://bucket",)])))
    known = write_ahead(known, vouched, T0)
    entries = draw(st.none() | ENTRIES)
    there = target(
        *(entries or ()), discovery=draw(st.sampled_from([None, discovery(), discovery(jwks_uri="https://x")]))
    )
    return replace(there, jwks=None) if entries is None else there, known, vouched, draw(CLOUDS), draw(st.booleans())


@given(situations())
def test_whatever_stands_there_the_rules_hold(
    case: tuple[ObservedTarget, State, list[IssuerKey], set[str], bool],
) -> None:
    there, known, vouched, clouds, restore = case
    decided = plan(there, known, vouched, clouds=clouds, restore=restore)
    reached = after(there, decided)
    before = observe_key_set(there.jwks.body).entries if there.jwks else ()
    entries = observe_key_set(reached.jwks.body).entries if reached.jwks else ()
    materials = {(entry.key_id, entry.key.fingerprint) for entry in entries if entry.key}

    # no vouched key that its clouds accept is missing
    for key in vouched:
        if not known.is_removed(key) and clouds & set(key.clouds):
            assert (key.key_id, key.fingerprint) in materials
    # no removed key is there, whatever it is called
    assert not [entry for entry in entries if entry.key and known.is_removed(entry.key)]
    # what is new is vouched for
    ours = {(key.key_id, key.fingerprint) for key in vouched}
    assert materials - {(entry.key_id, entry.key.fingerprint) for entry in before if entry.key} <= ours
    # what stays and is not ours is what stood there, and only without restore
    foreign = [entry.raw for entry in entries if entry.key and entry.key_id not in decided.holds]
    assert not (restore and foreign)
    assert all(raw in [entry.raw for entry in before] for raw in foreign)
    # a recorded key that stood there stands there still
    for entry in before:
        record = known.keys.get(entry.key_id or "")
        if entry.key and record and record.fingerprint == entry.key.fingerprint and clouds & set(entry.key.clouds):
            assert entry.key_id in decided.holds or known.is_removed(entry.key)
    # our ids stand once, first and sorted
    names = [entry.key_id for entry in entries]
    assert names[: len(decided.holds)] == list(decided.holds) == sorted(decided.holds)
    assert not set(names[len(decided.holds) :]) & set(decided.holds)
    # deciding again changes nothing, and says the same of what is still there
    again = plan(reached, known, vouched, clouds=clouds, restore=restore)
    assert not again.writes
    assert again.holds == decided.holds
    # a discovery document never stands there alone
    assert reached.jwks is not None or reached.discovery is None or there.discovery is not None


@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_no_bytes_at_a_target_end_in_an_error(jwks: bytes, config: bytes, restore: bool) -> None:
    there = target(jwks=document(jwks), discovery=document(config, DISCOVERY_CONTENT_TYPE))
    decided = plan(there, state(A), [A, B], restore=restore)
    assert decided.tampering
    diff(there, decided)
