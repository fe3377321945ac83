"""Several publishers, removers and an attacker in any interleaving: the order of a round keeps what it promises.

Each publisher is a program of single reads and writes, and hypothesis chooses who moves next, who is killed, and
where an attacker writes. What stands between a reading of the state and its use may be long: that is the slow reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.unit.core.made_keys import rsa_key
from wif.core.issuer_state import State, decode_state, encode_state
from wif.core.public_keys import IssuerKey, observe_key_set
from wif.core.publication import (
    ObservedDocument,
    ObservedTarget,
    TargetPlan,
    decide,
    record_written,
    removed_in,
    write_ahead,
)
from wif.core.rotation import forget, remove

ISSUER = "https://issuer.example/one"
JWKS_URI = f"{ISSUER}/openid/v1/jwks"
T0 = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
POOL = tuple(rsa_key(number, f"key-{number}") for number in range(6))
EVIL = rsa_key(666, "evil")
VOUCHED = (POOL[0:3], POOL[1:5], (POOL[0], POOL[4], POOL[5]))
TARGETS = ("s3://one", "gs://two")
PUBLISHERS = range(len(VOUCHED))


class Conflict(Exception):
    """Another version stands there."""


@dataclass
class Place:
    """One document at a place with conditional writes."""

    body: bytes | None = None
    version: int = 0
    on_write: Callable[[bytes], None] = field(default=lambda body: None)

    def write(self, body: bytes, version: int) -> None:
        if version != self.version:
            raise Conflict
        self.force(body)

    def force(self, body: bytes) -> None:
        self.body, self.version = body, self.version + 1
        self.on_write(body)


@dataclass
class World:
    """Everything outside the publishers."""

    state: Place
    jwks: dict[str, Place]
    discovery: dict[str, Place]

    def read_state(self) -> State:
        return State.new(ISSUER) if self.state.body is None else decode_state(self.state.body, issuer=ISSUER)

    def observe(self, name: str) -> ObservedTarget:
        def document(place: Place) -> ObservedDocument | None:
            return None if place.body is None else ObservedDocument(body=place.body, tag=str(place.version))

        return ObservedTarget(
            name=name,
            jwks=document(self.jwks[name]),
            discovery=document(self.discovery[name]),
            keeps_headers=False,
        )

    def update_state(self, change: Callable[[State], State]) -> Iterator[None]:
        """Read, change, write on the tag, again after a conflict; every arrow is a place to be interrupted at."""
        while True:
            version, before = self.state.version, self.read_state()
            yield
            after = change(before)
            if after == before:
                return
            try:
                self.state.write(encode_state(after), version)
            except Conflict:
                yield
            else:
                return


def publish(world: World, vouched: tuple[IssuerKey, ...], *, order: str = "right") -> Iterator[None]:
    """One run of a publisher over all targets; a yield lets others move."""
    for name in TARGETS:
        while True:
            state = world.read_state()
            if order == "state-first":
                yield
            observed = world.observe(name)
            versions = world.jwks[name].version, world.discovery[name].version
            yield
            if order != "state-first":
                state = world.read_state()
                yield
            if order != "no-write-ahead":
                yield from world.update_state(lambda now: write_ahead(now, vouched, T0, jwks_uri=JWKS_URI))
            plan = decide(observed, write_ahead(state, vouched, T0), vouched, issuer=ISSUER, jwks_uri=JWKS_URI)
            yield
            try:
                if plan.jwks is not None:
                    world.jwks[name].write(plan.jwks, versions[0])
                    yield
                if plan.discovery is not None:
                    world.discovery[name].write(plan.discovery, versions[1])
                    yield
            except Conflict:
                yield
                continue
            if order != "no-second-look" and _must_start_over(world, plan):
                continue
            yield from world.update_state(lambda now, name=name, plan=plan: record_written(now, name, plan.holds))  # type: ignore[misc]  # bound at once
            break


def _must_start_over(world: World, plan: TargetPlan) -> bool:
    return plan.jwks is not None and bool(removed_in(plan.jwks, world.read_state()))


class Publishers(RuleBasedStateMachine):
    """The publishers as they should be; a subclass breaks one rule."""

    order = "right"

    @initialize()
    def start(self) -> None:
        self.world = World(
            state=Place(),
            jwks={name: Place(on_write=self._watch(name)) for name in TARGETS},
            discovery={name: Place() for name in TARGETS},
        )
        self.running: dict[int, Iterator[None]] = {}
        self.attacked: set[str] = set()
        self.kept_out: dict[str, set[str]] = {name: set() for name in TARGETS}

    def _watch(self, name: str) -> Callable[[bytes], None]:
        def on_write(body: bytes) -> None:
            there = set(kids(body))
            back = there & self.kept_out[name]
            assert not back, f"{back} came back to {name}"
            self.kept_out[name] |= set(self.world.read_state().removed) - there

        return on_write

    @rule(who=st.sampled_from(PUBLISHERS), steps=st.integers(1, 12))
    def move(self, who: int, steps: int) -> None:
        program = self.running.setdefault(who, publish(self.world, VOUCHED[who], order=self.order))
        for _ in range(steps):
            if next(program, "over") == "over":
                del self.running[who]
                return

    @rule(who=st.sampled_from(PUBLISHERS))
    def kill(self, who: int) -> None:
        self.running.pop(who, None)

    @rule(key=st.sampled_from(POOL))
    def remove(self, key: IssuerKey) -> None:
        self._change(lambda state: remove(state, key.key_id, T0, key=key))

    @rule(key=st.sampled_from(POOL))
    def forget(self, key: IssuerKey) -> None:
        """After the rules of ``may_forget``: no place shows it, and no publisher is under way with an old state."""
        shown = {kid for place in self.world.jwks.values() for kid in kids(place.body)}
        if key.key_id in self.world.read_state().removed and key.key_id not in shown and not self.running:
            self._change(lambda state: forget(state, key.key_id))
            for names in self.kept_out.values():
                names.discard(key.key_id)

    @rule(name=st.sampled_from(TARGETS))
    def attack(self, name: str) -> None:
        place = self.world.jwks[name]
        if place.body is not None and "evil" not in kids(place.body):
            place.force(place.body.replace(b"]}", b"," * bool(kids(place.body)) + encoded(EVIL) + b"]}"))
            self.attacked.add(name)

    def _change(self, change: Callable[[State], State]) -> None:
        run(self.world.update_state(change))

    @invariant()
    def every_key_came_from_a_source_by_way_of_the_state(self) -> None:
        state = self.world.read_state()
        recorded = state.keys.keys() | state.removed.keys()
        for name, place in self.world.jwks.items():
            for kid in kids(place.body):
                assert kid in recorded or (kid == "evil" and name in self.attacked)
        assert "evil" not in recorded

    @invariant()
    def no_discovery_document_without_a_key_set(self) -> None:
        for name in TARGETS:
            assert self.world.discovery[name].body is None or self.world.jwks[name].body is not None

    def teardown(self) -> None:
        """Let everybody finish, and run once more."""
        for program in self.running.values():
            run(program)
        for vouched in VOUCHED:
            run(publish(self.world, vouched, order=self.order))
        removed = self.world.read_state().removed.keys()
        expected = {key.key_id for vouched in VOUCHED for key in vouched} - removed
        for name, place in self.world.jwks.items():
            assert set(kids(place.body)) - {"evil"} == expected
            assert ("evil" in kids(place.body)) == (name in self.attacked)
            for entry in observe_key_set(place.body or b"").entries:
                assert entry.key in (*POOL, EVIL)


def kids(body: bytes | None) -> list[str]:
    return [entry.key_id or "" for entry in observe_key_set(body).entries] if body is not None else []


def encoded(key: IssuerKey) -> bytes:
    return ("{" + ",".join(f'"{name}":"{value}"' for name, value in key.jwk.items()) + "}").encode()


def test_no_key_is_lost_none_comes_back_and_none_spreads() -> None:
    run_state_machine_as_test(Publishers, settings=settings(max_examples=100, stateful_step_count=50))


def test_without_write_ahead_a_key_stands_at_a_target_that_no_state_knows() -> None:
    """The machine finds the break: else it would show nothing."""
    broken = type("Broken", (Publishers,), {"order": "no-write-ahead"})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            broken, settings=settings(max_examples=500, phases=[Phase.generate], print_blob=False)
        )


@pytest.mark.parametrize(("order", "comes_back"), [("right", False), ("state-first", True)])
def test_the_target_is_read_before_the_state(order: str, comes_back: bool) -> None:
    """A slow publisher reads, a key is removed and taken away, the slow one writes and is killed at once."""
    world = a_world()
    run(publish(world, POOL[:2]))
    slow = publish(world, POOL[:3], order=order)  # has a third key to write
    next(slow)
    run(world.update_state(lambda state: remove(state, "key-0", T0)))
    run(publish(world, POOL[:2]))
    assert kids(world.jwks[TARGETS[0]].body) == ["key-1"]
    written = world.jwks[TARGETS[0]].version
    while world.jwks[TARGETS[0]].version == written:
        next(slow)
    assert ("key-0" in kids(world.jwks[TARGETS[0]].body)) is comes_back


def a_world() -> World:
    return World(state=Place(), jwks={n: Place() for n in TARGETS}, discovery={n: Place() for n in TARGETS})


def run(program: Iterator[None]) -> None:
    for _ in program:
        pass


def test_a_publisher_that_looks_again_takes_out_what_was_removed_while_it_wrote() -> None:
    """The write was on a good tag and an old state: the second look at the state is what finds it."""
    for order, left in (("right", False), ("no-second-look", True)):
        world = a_world()
        program = publish(world, POOL[:2], order=order)
        while world.jwks[TARGETS[0]].body is None:
            next(program)
            state = world.read_state()
            if "key-0" in state.keys:
                body = encode_state(remove(state, "key-0", T0))
                world.state.force(body)
        run(program)
        assert ("key-0" in kids(world.jwks[TARGETS[0]].body)) is left
        assert "key-1" in kids(world.jwks[TARGETS[0]].body)


def test_a_write_on_the_tag_of_before_is_a_conflict() -> None:
    place = Place(body=b"a", version=3)
    with pytest.raises(Conflict):
        place.write(b"b", 2)
    assert place.body == b"a"
