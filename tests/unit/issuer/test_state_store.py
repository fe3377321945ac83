"""The trusted state at its place: on its tag, never in a target, never silently made anew."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.publishing import ISSUER, MemoryPlace
from wif.config.issuers import IssuerSettings, TargetSettings
from wif.core.issuer_state import State, encode_state
from wif.edges.stores import ABSENT, WriteConflict
from wif.errors import ConfigurationError, DriftError, ProtocolError
from wif.issuer.state_store import StateStore, default_state_file, state_entry

WITH_URI = State(issuer=ISSUER, jwks_uris=("https://issuer.example.com/x",))


@pytest.fixture
def place() -> MemoryPlace:
    return MemoryPlace()


@pytest.fixture
def states(place: MemoryPlace) -> StateStore:
    return StateStore(place, path="state.json", issuer=ISSUER)


def uri(name: str) -> Any:
    return lambda known: replace(known, jwks_uris=tuple(sorted({*known.jwks_uris, f"https://x.example.com/{name}"})))


def test_absent_and_empty_are_none(place: MemoryPlace, states: StateStore) -> None:
    assert states.read() == (None, ABSENT)
    place.put("state.json", b" \n")
    found, tag = states.read()
    assert found is None
    assert tag != ABSENT


def test_another_issuers_state_is_refused(place: MemoryPlace, states: StateStore) -> None:
    place.put("state.json", encode_state(State.new("https://other.example.com")))
    with pytest.raises(ProtocolError) as caught:
        states.read()
    assert caught.value.code == "state-invalid"


def test_a_change_is_made_on_what_stands_there_at_last(place: MemoryPlace, states: StateStore) -> None:
    def overtake(path: str) -> None:
        place.on_write = lambda path: None
        states.update(uri("other"))

    place.on_write = overtake
    assert states.update(uri("mine")).jwks_uris == ("https://x.example.com/mine", "https://x.example.com/other")
    assert states.read()[0] == states.update(lambda known: known)


def test_what_does_not_change_is_not_written(place: MemoryPlace, states: StateStore) -> None:
    states.update(uri("one"))
    before = len(place.writes)
    states.update(lambda known: replace(known))
    assert len(place.writes) == before


def test_our_own_write_whose_answer_was_lost_is_done(place: MemoryPlace, states: StateStore) -> None:
    def lose(path: str) -> None:
        raise WriteConflict("this very write has won already")

    def once(known: State) -> State:
        assert not known.jwks_uris, "what is done must not be decided again: a removal would find nothing to remove"
        changed: State = uri("one")(known)
        return changed

    place.after_write = lose
    assert states.update(once).jwks_uris
    assert len(place.writes) == 1


def test_conflicts_have_an_end(place: MemoryPlace, states: StateStore) -> None:
    def always(path: str) -> None:
        raise WriteConflict("somebody else")

    place.on_write = always
    with pytest.raises(WriteConflict, match="each of 3 writes"):
        states.update(uri("one"), tries=3)


def test_a_state_that_must_be_there_is_not_made_anew(place: MemoryPlace, states: StateStore) -> None:
    with pytest.raises(DriftError) as caught:
        states.update(uri("one"), must_exist=True)
    assert caught.value.code == "state-missing"
    assert not place.writes


def test_a_rebuilt_state_replaces_what_cannot_be_read(place: MemoryPlace, states: StateStore) -> None:
    place.put("state.json", b"\xff rubbish")
    states.rebuild(WITH_URI)
    assert states.read()[0] == WITH_URI


def settings(state: str | None, *targets: str) -> IssuerSettings:
    return IssuerSettings(issuer=ISSUER, state=state, to=tuple(TargetSettings(url=url) for url in targets))


@pytest.mark.parametrize(
    ("state", "target"),
    [
        ("{folder}/out/state.json", "file://{folder}/out"),
        ("{folder}/out/deep/er/state.json", "file://{folder}/out/"),
        ("{folder}/link/state.json", "file://{folder}/out"),
        ("configmap:ns/documents", "configmap:ns/documents"),
        ("configmap:ns/documents", "configmap://ns/documents"),
    ],
)
def test_a_state_in_a_target_is_refused(tmp_path: Path, state: str, target: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    given = settings(state.format(folder=tmp_path), target.format(folder=tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        StateStore.open(given, issuer=ISSUER, kube=None)
    assert caught.value.code == "config-conflict"


def test_a_state_beside_a_target_is_private(tmp_path: Path) -> None:
    given = settings(f"{tmp_path}/state/issuer.json", f"file://{tmp_path}/out")
    opened = StateStore.open(given, issuer=ISSUER, kube=None)
    opened.update(uri("one"))
    file = tmp_path / "state" / "issuer.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_config_map_needs_a_cluster() -> None:
    with pytest.raises(ConfigurationError) as caught:
        StateStore.open(settings("configmap:ns/state"), issuer=ISSUER, kube=None)
    assert caught.value.code == "config-missing"


def test_the_default_is_this_users_own_file(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path), "HOME": "/home/somebody"}
    opened = StateStore.open(settings(None), issuer=ISSUER, kube=None, environ=environ)
    opened.update(uri("one"))
    assert Path(default_state_file(ISSUER, environ)).is_file()
    home = "/home/somebody/.local/state/wif/issuers/"
    assert default_state_file(ISSUER, {"HOME": "/home/somebody"}) == home + state_entry(ISSUER)
    # a relative XDG_STATE_HOME is ignored
    assert default_state_file(ISSUER, {"HOME": "/home/somebody", "XDG_STATE_HOME": "x"}).startswith(home)


def test_no_two_issuers_have_one_entry() -> None:
    issuers = ["https://a.example.com", "https://a.example.com/", "https://A.example.com", "https://a.example.com/a"]
    entries = {state_entry(issuer) for issuer in issuers}
    assert len(entries) == len(issuers)
    assert all(entry.startswith("a.example.com-") and entry.endswith(".json") for entry in entries)
    assert state_entry("https://xn--!/..").count("/") == 0
