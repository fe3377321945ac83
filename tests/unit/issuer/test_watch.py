"""The controller with issuers, a Lease and a clock that are handed in: what is done when, by whom, and what is told."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest

from wif.core.issuer_lint import recognise_managed
from wif.errors import RefusedError, UnavailableError, WifError
from wif.issuer.checks import Check, Level
from wif.issuer.report import PublishReport, TargetReport
from wif.issuer.schedule import Timing
from wif.issuer.verify import VerifyReport
from wif.issuer.watch import STUCK_SECONDS, Controller, Notice, notices
from wif.issuer.watched import Findings, IssuerStatus, TargetStatus, found

AWAY = UnavailableError("away", code="cluster-unavailable")
CONFLICT = UnavailableError("others write", code="write-conflict")
TIMING = Timing(period_seconds=300.0, poll_seconds=15.0, first_retry_seconds=5.0)
GOOD = Findings(targets=(TargetStatus(name="file:///a", keys=2),), verified=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeIssuer:
    """Shows ``seen`` and finds ``findings``; both may be set between steps."""

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.issuer = f"https://{name}.example.com"
        self.seen: Hashable | WifError = "one"
        self.findings = GOOD
        self.looks = 0
        self.runs: list[bool] = []
        self.closed = False

    def look(self) -> Hashable:
        self.looks += 1
        if isinstance(self.seen, WifError):
            raise self.seen
        return self.seen

    def run(self, *, restore: bool) -> Findings:
        self.runs.append(restore)
        return self.findings

    def close(self) -> None:
        self.closed = True


class FakeLease:
    duration_seconds = 15.0
    holder: str | None = "somebody"

    def __init__(self) -> None:
        self.held = False
        self.failure: WifError | None = None
        self.released = False

    def acquire(self) -> bool:
        if self.failure is not None:
            raise self.failure
        return self.held

    def holds(self, for_seconds: float = 0.0) -> bool:
        return self.held

    def release(self) -> None:
        self.released = True
        self.held = False


class World:
    def __init__(self, *, lease: bool = True, restore: bool = False) -> None:
        self.clock = Clock()
        self.issuer = FakeIssuer()
        self.lease = FakeLease() if lease else None
        self.told: list[Notice] = []
        self.controller = Controller(
            [self.issuer],
            clock=self.clock,
            lease=self.lease,
            timing=TIMING,
            restore=restore,
            chance=lambda: 0.5,
            tell=self.told.append,
        )

    def lead(self) -> None:
        if self.lease is not None:
            self.lease.held = True
        self.controller.contend()

    def step(self, at: float | None = None) -> float:
        """One step at seconds after the beginning; seconds until the next."""
        if at is not None:
            self.clock.now = 1000.0 + at
        return self.controller.step(0) - 1000.0

    @property
    def reasons(self) -> list[str]:
        return [notice.reason for notice in self.told]


# -- who acts ---------------------------------------------------------------------------------------------------


def test_a_follower_looks_at_nothing_and_shows_nothing() -> None:
    world = World()
    world.controller.contend()
    assert world.step() == math.inf
    assert (world.issuer.looks, world.issuer.runs) == (0, [])
    assert not world.controller.status.is_leading
    assert world.controller.status.issuers == ()
    assert world.controller.unready() == ()


def test_a_leader_begins_with_a_round_and_rests_until_the_next_poll() -> None:
    world = World()
    world.lead()
    assert world.step(0.0) == 15.0
    assert world.issuer.runs == [False]
    assert world.reasons == ["LeaderElected"]
    [status] = world.controller.status.issuers
    assert (status.rounds, status.failures, status.verified_at) == (1, 0, 1000.0)


def test_a_leader_that_never_verified_is_dated_from_its_beginning() -> None:
    world = World()
    world.clock.now = 2000.0
    world.lead()
    [status] = world.controller.status.issuers
    assert (status.verified_at, status.rounds) == (2000.0, 0)


def test_without_a_lease_this_one_leads() -> None:
    world = World(lease=False)
    world.lead()
    world.step(0.0)
    assert world.issuer.runs == [False]
    assert world.told == []
    assert world.controller.unready() == ()


def test_a_lease_that_is_over_stops_the_next_step_before_anybody_noticed() -> None:
    world = World()
    world.lead()
    world.step(0.0)
    assert world.lease is not None
    world.lease.held = False
    assert world.step(15.0) == math.inf
    assert world.issuer.looks == 1
    assert not world.controller.status.is_leading
    world.controller.contend()
    world.lead()
    world.step(20.0)
    assert len(world.issuer.runs) == 2, "a new leadership begins with a round"


def test_a_replica_that_hears_nothing_of_the_lease_could_not_take_over() -> None:
    world = World()
    assert world.lease is not None
    world.controller.contend()
    world.lease.failure = AWAY
    world.clock.now += 46.0
    world.controller.contend()
    assert "46 s" in world.controller.unready()[0]
    world.lease.failure = None
    world.controller.contend()
    assert world.controller.unready() == ()


def test_restore_is_handed_on() -> None:
    world = World(restore=True)
    world.lead()
    world.step(0.0)
    assert world.issuer.runs == [True]


# -- when -------------------------------------------------------------------------------------------------------


def test_polls_without_a_change_do_nothing_more() -> None:
    world = World()
    world.lead()
    world.step(0.0)
    for at in (15.0, 30.0, 45.0):
        assert world.step(at) == at + 15.0
    assert (world.issuer.looks, len(world.issuer.runs)) == (4, 1)


def test_a_change_is_acted_upon_by_the_poll_that_sees_it() -> None:
    world = World()
    world.lead()
    world.step(0.0)
    world.issuer.seen = "two"
    world.step(15.0)
    assert len(world.issuer.runs) == 2
    world.step(30.0)
    assert len(world.issuer.runs) == 2


def test_a_poll_that_cannot_look_waits_for_the_next_and_complains_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.lead()
    world.step(0.0)
    world.issuer.seen = AWAY
    with caplog.at_level("WARNING", logger="wif.watch"):
        world.step(15.0)
        world.step(30.0)
    assert len(world.issuer.runs) == 1
    assert len(caplog.records) == 1


def test_a_round_goes_on_where_the_look_before_it_failed() -> None:
    world = World()
    world.issuer.seen = AWAY
    world.lead()
    world.step(0.0)
    assert len(world.issuer.runs) == 1


def test_a_failed_round_comes_again_soon_and_then_less_often() -> None:
    world = World()
    world.issuer.findings = Findings(error=AWAY)
    world.lead()
    waits: list[float] = []
    at = 0.0
    for _ in range(4):
        due = world.step(at)
        while len(world.issuer.runs) == len(waits):
            due = world.step(due)
        waits.append(round(world.controller._schedules[0]._round_at - world.clock.now, 2))
        at = world.controller._schedules[0]._round_at - 1000.0
    assert waits == [3.75, 7.5, 15.0, 30.0]


# -- what is told ---------------------------------------------------------------------------------------------------


def target(**more: object) -> TargetStatus:
    return replace(TargetStatus(name="s3://b", keys=2), **more)  # type: ignore[arg-type]  # of a test's table


@pytest.mark.parametrize(
    ("before", "now", "reasons"),
    [
        (Findings(), GOOD, []),
        (Findings(), Findings(targets=(target(written=True),)), ["Published"]),
        (Findings(), Findings(error=AWAY), ["PublishFailed"]),
        (Findings(error=AWAY), Findings(error=AWAY), []),
        (Findings(error=CONFLICT), Findings(error=AWAY), ["PublishFailed"]),
        (Findings(), Findings(targets=(target(error=AWAY),)), ["TargetFailed"]),
        (Findings(targets=(target(error=AWAY),)), Findings(targets=(target(error=AWAY),)), []),
        (Findings(targets=(target(error=AWAY),)), Findings(targets=(target(error=CONFLICT),)), ["TargetFailed"]),
        (Findings(), Findings(tampering=("x",)), ["TamperingFound"]),
        (Findings(tampering=("x",)), Findings(tampering=("x",)), []),
        (Findings(tampering=("x",)), Findings(tampering=("x", "y")), ["TamperingFound"]),
        (Findings(tampering=("x",)), GOOD, ["TamperingGone"]),
        (Findings(tampering=("x",)), Findings(error=AWAY), ["PublishFailed"]),
        (GOOD, Findings(verified=False, failed_checks=("tls: no", "issuer: no")), ["VerificationFailed"] * 2),
        (Findings(verified=False, failed_checks=("a",)), Findings(verified=False, failed_checks=("a",)), []),
        (Findings(verified=False, failed_checks=("a",)), GOOD, ["Verified"]),
        (Findings(), Findings(exposures=("k",)), ["KeySignsTooEarly"]),
        (Findings(exposures=("k",)), Findings(exposures=("k",)), []),
    ],
)
def test_what_is_new_is_told_once(before: Findings, now: Findings, reasons: list[str]) -> None:
    told = notices("https://a.example.com", before, now)
    assert [notice.reason for notice in told] == reasons
    warns = {"PublishFailed", "TargetFailed", "TamperingFound", "VerificationFailed", "KeySignsTooEarly"}
    assert all((notice.kind == "Warning") == (notice.reason in warns) for notice in told)
    assert all(notice.action.isalpha() for notice in told)


def test_the_controller_tells_what_a_round_found() -> None:
    world = World()
    world.lead()
    world.issuer.findings = Findings(targets=(target(written=True, drift=("a key was missing",)),), tampering=("x",))
    world.step(0.0)
    assert world.reasons == ["LeaderElected", "Published", "TamperingFound"]
    assert "a key was missing" in world.told[1].message
    [status] = world.controller.status.issuers
    assert (status.repaired, status.tampering_rounds) == (1, 1)


# -- what a run of the publisher says, in the controller's words --------------------------------------------------


def report(*targets: TargetReport, checks: tuple[Check, ...] = (), **more: Any) -> PublishReport:
    verification = VerifyReport(issuer="https://i", checks=checks) if checks else None
    return PublishReport(
        name="a",
        issuer="https://i",
        jwks_uri="https://i/jwks",
        dry_run=False,
        targets=targets,
        verification=verification,
        **more,
    )


def check(name: str, level: Level, ok: bool = False) -> Check:
    return Check(name=name, ok=ok, level=level, detail=f"{name} is wrong")


def test_tampering_at_a_target_and_at_the_public_address() -> None:
    foreign = TargetReport(name="s3://b", outcome="unchanged", keys=("k",), foreign=("x",), tampering=("nobody: x",))
    seen = found(report(foreign, checks=(check("unknown-keys", "tampering"), check("jwks-uri", "tampering"))))
    assert seen.tampering == ("nobody: x", "unknown-keys is wrong", "jwks-uri is wrong")
    assert (seen.verified, seen.ok) == (False, False)
    assert seen.targets[0].tampering == ("nobody: x",)


@pytest.mark.parametrize("field", ["foreign", "altered", "lost"])
def test_what_a_report_only_lists_is_tampering_too(field: str) -> None:
    listed: dict[str, Any] = {field: ("x",)}
    seen = found(report(TargetReport(name="s3://b", outcome="unchanged", **listed)))
    assert len(seen.tampering) == 1
    assert "x" in seen.tampering[0]


def test_what_only_may_break_fails_nothing() -> None:
    seen = found(report(checks=(check("cache", "warning"), check("tls", "error", ok=True))))
    assert (seen.verified, seen.failed_checks, seen.ok) == (True, (), True)
    seen = found(report(checks=(check("keys", "drift"), check("cache", "warning"), check("note", "info"))))
    assert (seen.verified, seen.failed_checks) == (False, ("keys: keys is wrong",))
    assert found(report()).verified is None


def test_a_run_that_ended_early_and_targets_that_failed() -> None:
    assert found(report(error=AWAY)).error is AWAY
    seen = found(report(TargetReport(name="s3://b", outcome="failed", error=CONFLICT)))
    assert (seen.targets[0].error, seen.ok) == (CONFLICT, False)


def test_an_issuer_that_its_provider_publishes_is_said_to_be_so() -> None:
    managed = recognise_managed("https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF")
    seen = found(report(managed=managed))
    assert "itself" in seen.warnings[0]
    assert seen.ok


def test_warnings_and_the_next_step_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.issuer.findings = replace(GOOD, warnings=("a thing",), next_step="wait")
    world.lead()
    with caplog.at_level("INFO", logger="wif.watch"):
        world.step(0.0)
        world.issuer.seen = "two"
        world.step(15.0)
    messages = [record.message for record in caplog.records]
    assert messages.count("a thing") == 1
    assert messages.count("next step of the rotation: wait") == 1
    assert messages.count("round done") == 2


# -- the status ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("findings", "ok"),
    [
        (GOOD, True),
        (Findings(), True),
        (Findings(error=AWAY), False),
        (Findings(targets=(target(), target(error=AWAY))), False),
        (Findings(verified=False), False),
        (Findings(verified=True, tampering=("x",)), False),
        (Findings(verified=True, exposures=("x",)), True),
    ],
)
def test_what_makes_a_round_come_again_sooner(findings: Findings, ok: bool) -> None:
    assert findings.ok is ok


def test_errors_are_counted_by_target_and_code() -> None:
    status = IssuerStatus(name="a", issuer="i")
    status = status.after(Findings(targets=(target(error=AWAY),)), 1.0)
    status = status.after(Findings(targets=(target(error=AWAY),)), 2.0)
    status = status.after(Findings(error=CONFLICT), 3.0)
    assert status.errors == {("s3://b", "cluster-unavailable"): 2, ("", "write-conflict"): 1}
    assert (status.rounds, status.failures, status.failures_in_a_row, status.round_at) == (3, 3, 3, 3.0)
    assert status.after(GOOD, 4.0).failures_in_a_row == 0


def test_verification_is_dated_and_a_failed_one_does_not_renew_it() -> None:
    status = IssuerStatus(name="a", issuer="i").after(GOOD, 5.0)
    assert status.verified_at == 5.0
    assert status.after(Findings(verified=False), 9.0).verified_at == 5.0
    assert status.after(Findings(), 9.0).verified_at == 5.0


def test_tampering_that_was_repaired_is_shown_for_a_while() -> None:
    status = IssuerStatus(name="a", issuer="i")
    assert status.tampering_within(900.0, 0.0) == 0
    status = status.after(Findings(tampering=("x", "y")), 10.0).after(GOOD, 15.0)
    assert status.tampering_within(900.0, 910.0) == 2
    assert status.tampering_within(900.0, 910.1) == 0


# -- its threads ---------------------------------------------------------------------------------------------------


def _run(world: World) -> tuple[threading.Thread, threading.Event, list[WifError]]:
    stop, raised = threading.Event(), list[WifError]()

    def run() -> None:
        try:
            world.controller.run(stop)
        except WifError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, stop, raised


def test_at_the_end_the_lease_is_given_back_and_connections_are_closed() -> None:
    world = World()
    assert world.lease is not None
    world.lease.held = True
    thread, stop, raised = _run(world)
    deadline = time.monotonic() + 10.0
    while not world.issuer.runs and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert (world.issuer.runs, world.lease.released, world.issuer.closed, raised) == ([False], True, True, [])


def test_the_first_round_comes_with_the_lease_however_late() -> None:
    world = World()
    assert world.lease is not None
    world.lease.duration_seconds = 0.1
    thread, stop, _ = _run(world)
    time.sleep(0.3)
    assert world.issuer.runs == []
    world.lease.held = True
    deadline = time.monotonic() + 10.0
    while not world.issuer.runs and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(10.0)
    assert world.issuer.runs == [False]


def test_a_lease_that_may_not_be_used_ends_the_controller() -> None:
    world = World()
    assert world.lease is not None
    world.lease.failure = RefusedError("no right", code="cluster-refused")
    thread, stop, raised = _run(world)
    thread.join(10.0)
    assert not thread.is_alive()
    assert stop.is_set()
    assert [error.code for error in raised] == ["cluster-refused"]


def test_a_round_that_hangs_is_seen_from_outside() -> None:
    world = World(lease=False)
    inside, go_on = threading.Event(), threading.Event()

    class Hanging(FakeIssuer):
        def run(self, *, restore: bool) -> Findings:
            inside.set()
            assert go_on.wait(10.0)
            return GOOD

    controller = Controller([Hanging()], clock=world.clock, timing=TIMING)
    controller.contend()
    thread = threading.Thread(target=controller.step, args=(0,))
    thread.start()
    assert inside.wait(10.0)
    assert controller.unhealthy() == ()
    world.clock.now += STUCK_SECONDS + 1
    assert "has not ended" in controller.unhealthy()[0]
    go_on.set()
    thread.join(10.0)
    assert controller.unhealthy() == ()
