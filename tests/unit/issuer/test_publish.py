"""The publisher's round: the order of its steps, what it refuses, what it reports. Targets are in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.publishing import DISCOVERY, ISSUER, JWKS, KeyFile, MemoryPlace, key_files, kids_at, publisher, settings
from wif.config.issuers import TargetSettings
from wif.core.issuer_state import State, Tombstone, encode_state
from wif.edges.stores import WriteConflict
from wif.edges.stores.directory import DirectoryStore
from wif.errors import ConfigurationError, DriftError, RefusedError, UnavailableError
from wif.issuer.state_store import StateStore

ONE, TWO = "file:///one", "file:///two"


@pytest.fixture
def keys(tmp_path: Path) -> list[KeyFile]:
    return key_files(tmp_path, 3)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state" / "issuer.json"


def state_store(path: Path) -> StateStore:
    return StateStore(DirectoryStore(path.parent, public=False), path=path.name, issuer=ISSUER)


def tombstone(path: Path, kid: str, now: Any) -> None:
    """Remove a key as ``wif keys remove`` does: in the state, before any target."""

    def remove(known: State) -> State:
        record = known.keys[kid]
        kept = {other: value for other, value in known.keys.items() if other != kid}
        stone = Tombstone(removed_at=now, how="removed", jwk=record.jwk, fingerprint=record.fingerprint)
        return State(issuer=known.issuer, jwks_uris=known.jwks_uris, keys=kept, removed={**known.removed, kid: stone})

    state_store(path).update(remove)


@pytest.fixture
def now() -> Any:
    from datetime import UTC, datetime

    return datetime(2026, 1, 1, tzinfo=UTC)


def test_the_first_publish_writes_state_then_keys_then_discovery(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    seen: list[tuple[str, bool]] = []
    place.on_write = lambda path: seen.append((path, keys[0].kid in state.read_text()))
    report = publisher(settings(keys[:1], ONE, state=state), [place]).run()
    assert seen == [(JWKS, True), (DISCOVERY, True)]
    assert kids_at(place.documents[JWKS].body) == [keys[0].kid]
    document = json.loads(place.documents[DISCOVERY].body)
    assert (document["issuer"], document["jwks_uri"]) == (ISSUER, f"{ISSUER}/openid/v1/jwks")
    assert place.documents[JWKS].content_type == "application/jwk-set+json"
    assert place.documents[DISCOVERY].content_type == "application/json"
    assert {found.cache_control for found in place.documents.values()} == {"public, max-age=300"}
    [target] = report.targets
    assert (report.exit_status, target.outcome, target.added) == (0, "written", (keys[0].kid,))
    assert place.closed == 1


def test_a_second_run_writes_nothing(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    run = publisher(settings(keys, ONE, state=state), [place])
    run.run()
    before, text = len(place.writes), state.read_text()
    report = run.run()
    assert (report.exit_status, report.targets[0].outcome) == (0, "unchanged")
    assert (len(place.writes), state.read_text()) == (before, text)


def test_a_target_only_grows(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    publisher(settings(keys[:2], ONE, state=state), [place]).run()
    report = publisher(settings(keys[2:], ONE, state=state), [place]).run()
    assert sorted(kids_at(place.documents[JWKS].body)) == sorted(key.kid for key in keys)
    assert report.targets[0].added == (keys[2].kid,)


def test_a_dry_run_writes_nothing_and_says_what(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    report = publisher(settings(keys[:1], ONE, state=state), [place]).run(dry_run=True)
    assert (report.exit_status, report.targets[0].outcome) == (3, "would-write")
    assert f'+      "kid": "{keys[0].kid}"' in report.targets[0].diff
    assert not place.writes
    assert not state.exists()
    publisher(settings(keys[:1], ONE, state=state), [place]).run()
    assert publisher(settings(keys[:1], ONE, state=state), [place]).run(dry_run=True).exit_status == 0


def test_an_unknown_key_stays_where_it_is_and_goes_nowhere_else(keys: list[KeyFile], state: Path) -> None:
    one, two = MemoryPlace("one"), MemoryPlace("two")
    given = settings(keys[:1], ONE, TWO, state=state)
    publisher(given, [one, two]).run()
    document = json.loads(one.documents[JWKS].body)
    document["keys"].append(dict(keys[2].key.jwk, kid="attacker"))
    one.put(JWKS, json.dumps(document).encode())
    report = publisher(given, [one, two]).run()
    assert report.exit_status == 3
    assert [target.foreign for target in report.targets] == [("attacker",), ()]
    assert "attacker" in kids_at(one.documents[JWKS].body)
    assert kids_at(two.documents[JWKS].body) == [keys[0].kid]
    assert "attacker" not in state.read_text()
    report = publisher(given, [one, two]).run(restore=True)
    assert report.exit_status == 3  # it was there: somebody must find out who wrote it
    assert kids_at(one.documents[JWKS].body) == [keys[0].kid]
    assert publisher(given, [one, two]).run().exit_status == 0


def test_a_removed_key_does_not_come_back_from_a_publisher_that_still_vouches(
    keys: list[KeyFile], state: Path, now: Any
) -> None:
    place = MemoryPlace()
    given = settings(keys[:2], ONE, state=state)
    publisher(given, [place]).run()
    tombstone(state, keys[0].kid, now)
    report = publisher(given, [place]).run()
    assert kids_at(place.documents[JWKS].body) == [keys[1].kid]
    assert report.targets[0].removed == (keys[0].kid,)
    assert any("wif keys forget" in warning for warning in report.targets[0].warnings)


def test_a_slower_publisher_takes_out_what_was_removed_while_it_wrote(
    keys: list[KeyFile], state: Path, now: Any
) -> None:
    """Its decision is older than the tombstone and its tag fits: only the state read after the write can tell."""
    place = MemoryPlace()
    publisher(settings(keys[1:2], ONE, state=state), [place]).run()
    slow = publisher(settings(keys[:2], ONE, state=state), [place])

    def remove(path: str) -> None:
        place.on_write = lambda path: None
        tombstone(state, keys[0].kid, now)

    place.on_write = remove
    report = slow.run()
    assert kids_at(place.documents[JWKS].body) == [keys[1].kid]
    assert report.targets[0].removed == (keys[0].kid,)


def test_a_write_whose_answer_was_lost_is_found_done(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()

    def lose(path: str) -> None:
        place.after_write = lambda path: None
        raise WriteConflict("the first try of this very write has won")

    place.after_write = lose
    report = publisher(settings(keys[:1], ONE, state=state), [place]).run()
    assert report.exit_status == 0
    assert place.writes == [JWKS, DISCOVERY]


def test_a_conflict_is_read_and_decided_anew(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    given = settings(keys[:1], ONE, state=state)

    def overtake(path: str) -> None:
        place.on_write = lambda path: None
        publisher(settings(keys[1:2], ONE, state=state), [place]).run()

    place.on_write = overtake
    report = publisher(given, [place]).run()
    assert report.exit_status == 0
    assert report.targets[0].rounds > 2
    assert sorted(kids_at(place.documents[JWKS].body)) == sorted(key.kid for key in keys[:2])


def test_one_target_that_fails_stops_no_other(keys: list[KeyFile], state: Path) -> None:
    def broken(path: str) -> None:
        raise UnavailableError("one: no answer", code="target-unavailable")

    for moment in ("on_read", "on_write"):
        one, two = MemoryPlace("one"), MemoryPlace("two")
        setattr(one, moment, broken)
        report = publisher(settings(keys[:1], ONE, TWO, state=state.with_name(moment)), [one, two]).run()
        assert report.exit_status == 1
        assert [target.outcome for target in report.targets] == ["failed", "written"]
        error = report.targets[0].error
        assert error is not None
        assert error.code == "target-unavailable"
        assert DISCOVERY in two.documents


def test_tampering_weighs_more_than_a_failure(keys: list[KeyFile], state: Path) -> None:
    one, two = MemoryPlace("one"), MemoryPlace("two")
    given = settings(keys[:1], ONE, TWO, state=state)
    publisher(given, [one, two]).run()
    one.put(JWKS, json.dumps({"keys": [dict(keys[1].key.jwk)]}).encode())

    def broken(path: str) -> None:
        raise RefusedError("two: no", code="target-refused")

    two.on_read = broken
    assert publisher(given, [one, two]).run().exit_status == 3


def test_documents_without_a_state_are_no_first_publish(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    given = settings(keys[:1], ONE, state=state)
    publisher(given, [place]).run()
    before = dict(place.documents)
    for body in (None, b"", encode_state(State.new(ISSUER))):
        state.unlink()
        if body is not None:
            state.write_bytes(body)
            state.chmod(0o600)
        for dry_run in (True, False):
            with pytest.raises(DriftError) as caught:
                publisher(given, [place]).run(dry_run=dry_run)
            assert caught.value.code == "state-missing"
        state.touch()
    assert place.documents == before


def test_a_state_that_is_present_and_empty_is_filled_where_no_target_holds_anything(
    keys: list[KeyFile], state: Path
) -> None:
    state.parent.mkdir(mode=0o700)
    state.write_bytes(b"")
    place = MemoryPlace()
    assert publisher(settings(keys[:1], ONE, state=state), [place]).run().exit_status == 0
    assert keys[0].kid in state.read_text()


def test_a_state_that_vanishes_in_the_middle_stops_the_target(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    place.after_write = lambda path: state.unlink(missing_ok=True)
    report = publisher(settings(keys[:1], ONE, state=state), [place]).run()
    for error in (report.targets[0].error, report.error):
        assert error is not None
        assert error.code == "state-missing"
    assert report.exit_status == 3
    assert not state.exists()  # and nothing is made anew in silence


def test_a_broken_rule_stops_before_the_first_write(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    with pytest.raises(ConfigurationError) as caught:
        publisher(
            settings(keys[:1], ONE, state=state, issuer="https://kubernetes.default.svc.cluster.local"), [place]
        ).run()
    assert caught.value.code == "issuer-unsuitable"
    assert not place.writes
    assert not state.exists()


def test_a_target_that_keeps_nothing_as_written_is_given_up(keys: list[KeyFile], state: Path) -> None:
    place = MemoryPlace()
    write = place.put

    def spoil(path: str, body: bytes, content_type: str | None = None, cache_control: str | None = None) -> None:
        write(path, body, "application/octet-stream", cache_control)

    place.put = spoil  # type: ignore[method-assign]
    report = publisher(settings(keys[:1], ONE, state=state), [place]).run()
    error = report.targets[0].error
    assert error is not None
    assert "does not keep" in error.message
    assert len(place.writes) < 30


def test_a_target_named_twice_is_refused(keys: list[KeyFile], state: Path, tmp_path: Path) -> None:
    given = settings(keys[:1], f"file://{tmp_path}/out", f"file://{tmp_path}/out/", state=state)
    with pytest.raises(ConfigurationError) as caught:
        publisher(given).run()
    assert caught.value.code == "config-conflict"


def test_a_target_is_no_source(keys: list[KeyFile], state: Path, tmp_path: Path) -> None:
    publisher(settings(keys[:1], f"file://{tmp_path}/out", state=state)).run()
    given = settings([], f"file://{tmp_path}/out", state=state, jwks=(f"{tmp_path}/out/{JWKS}",))
    with pytest.raises(ConfigurationError) as caught:
        publisher(given).run()
    assert caught.value.code == "source-is-target"


def test_no_target_and_no_key_are_no_run(keys: list[KeyFile], state: Path) -> None:
    with pytest.raises(ConfigurationError, match="no target"):
        publisher(settings(keys[:1], state=state)).run()
    with pytest.raises(ConfigurationError, match="vouches for any key"):
        publisher(settings([], ONE, state=state, use_kubernetes=False), [MemoryPlace()]).run()


def test_a_key_that_no_reader_verifies_is_left_out(keys: list[KeyFile], state: Path) -> None:
    one, two = MemoryPlace("one"), MemoryPlace("two")
    given = settings(
        keys[:1], TargetSettings(url=ONE, clouds=("azure",)), TargetSettings(url=TWO, clouds=("aws",)), state=state
    )
    report = publisher(given, [one, two]).run()
    assert [target.filtered for target in report.targets] == [(keys[0].kid,), ()]
    assert JWKS not in one.documents
    assert kids_at(two.documents[JWKS].body) == [keys[0].kid]


def test_a_managed_issuer_is_only_shown(keys: list[KeyFile], state: Path) -> None:
    issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
    place = MemoryPlace()
    report = publisher(settings(keys[:1], ONE, state=state, issuer=issuer), [place]).run()
    assert report.managed is not None
    assert (report.managed.provider, report.exit_status, place.writes) == ("eks", 0, [])
