"""What a command of wif keys reports: its exit status, its sentences, its next step."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from wif.config.issuers import IssuerSettings
from wif.core.issuer_state import KeyRecord, State, Tombstone
from wif.core.public_keys import IssuerKey
from wif.core.rotation import Exposure, Observation, Policy, RotationStatus, Step
from wif.errors import UnavailableError
from wif.issuer.checks import Check
from wif.issuer.observation import Looked
from wif.issuer.report import PublishReport, TargetReport
from wif.issuer.rotate import policy_of
from wif.issuer.rotation_report import RotationReport, UnsafeStep, tampering_of, with_flags, written
from wif.issuer.sources import Vouched
from wif.issuer.verify import VerifyReport

ISSUER = "https://oidc.example.com"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def made(kid: str) -> IssuerKey:
    return IssuerKey.from_public_key(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), kid)


OURS, OTHER = made("ours"), made("other")
IMPOSTOR = IssuerKey.from_jwk({**OTHER.jwk, "kid": "ours"})
SEEN = Looked(observation=Observation(at=NOW, servers=(), servers_complete=True, targets={}))


def run(*targets: TargetReport) -> PublishReport:
    return PublishReport(name="", issuer=ISSUER, jwks_uri=f"{ISSUER}/jwks", dry_run=False, targets=targets)


def report(*, exposures: tuple[Exposure, ...] = (), step: Step | None = None, **changes: Any) -> RotationReport:
    status = RotationStatus(
        keys=(), exposures=exposures, notices=(), unread=(), next_step=step or Step(text="Wait.", command="x")
    )
    plain = RotationReport(issuer=ISSUER, state="a file", policy=Policy(), status=status, timeline=(), looked=SEEN)
    return replace(plain, **changes)


FAILED = TargetReport(name="s3://b", outcome="failed", error=UnavailableError("it is down", code="target-unavailable"))
WRITTEN = TargetReport(name="file:///a", outcome="written", added=("new",), removed=("old",))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (report(), 0),
        (report(publications=(run(WRITTEN),)), 0),
        (report(publications=(run(WRITTEN, FAILED),)), 1),
        (report(exposures=(Exposure(kid="k", since=None, until=NOW, message="m"),)), 3),
        (report(tampering=("somebody",), publications=(run(FAILED),)), 3),
        (report(state_missing=True), 3),
    ],
)
def test_the_exit_status(found: RotationReport, status: int) -> None:
    assert found.exit_status == status


def test_what_was_written_is_said() -> None:
    assert written(run(WRITTEN, FAILED, TargetReport(name="gs://c", outcome="unchanged"))) == (
        "file:///a is written: added new, took out old",
        "s3://b FAILED: it is down",
    )
    assert written(run(TargetReport(name="gs://c", outcome="written"))) == ("gs://c is written",)


def test_after_staging_the_flags_are_there_whatever_is_next() -> None:
    flags = with_flags(report()).next_step.flags
    assert flags[0] == "--service-account-key-file=OLD.pub"
    assert with_flags(report()).next_step.text.startswith("Wait. Then let every API server list both")
    own = report(step=Step(text="Do.", flags=("--x",)))
    assert with_flags(own).next_step.flags == ("--x",)


def state(*keys: IssuerKey, removed: str | None = None) -> State:
    records = {
        key.key_id: KeyRecord(jwk=key.jwk, fingerprint=key.fingerprint, origin="a test", added_at=NOW) for key in keys
    }
    stones = {removed: Tombstone(removed_at=NOW, how="removed")} if removed else {}
    return replace(State.new(ISSUER), keys=records, removed=stones)


def tampering(
    *found: IssuerKey, known: State | None = None, vouched: tuple[IssuerKey, ...] = (), **changes: Any
) -> tuple[str, ...]:
    given: dict[str, Any] = {"verification": None, "publications": ()} | changes
    said = Vouched(keys=vouched, origins={})
    return tampering_of(replace(SEEN, found={"file:///a": found}), known or state(OURS), said, **given)


def test_a_key_that_nobody_vouches_for_is_told() -> None:
    assert tampering(OURS) == ()
    assert tampering(OURS, OTHER) == ("file:///a shows the key other, for which nobody vouches",)
    assert tampering(OTHER, vouched=(OTHER,)) == ()
    assert tampering(OTHER, known=state(OURS, removed="other")) == (), "a removed key that is still there is drift"


def test_other_material_under_a_known_id_is_told() -> None:
    told = ("file:///a shows other material under the id ours",)
    assert tampering(IMPOSTOR) == told
    assert tampering(IMPOSTOR, known=state(), vouched=(OURS,)) == told


def test_what_the_publisher_and_the_public_address_have_met_is_told_once() -> None:
    target = TargetReport(name="s3://b", outcome="written", tampering=("t",), lost=("k",))
    checks = (
        Check(name="jwks-uri", ok=False, level="tampering", detail="another"),
        Check(name="slow", ok=False, level="warning", detail="slow"),
    )
    seen = VerifyReport(issuer=ISSUER, checks=checks)
    assert tampering(verification=seen, publications=(run(target), run(target))) == (
        "t",
        "s3://b has lost the key k, which the state records",
        "jwks-uri: another",
    )


def test_a_refusal_keeps_its_reasons_over_a_process() -> None:
    error = UnsafeStep.because("the key 'k' cannot be retired now", ["it signs", "time"])
    assert error.code == "unsafe-step"
    assert str(error.message) == "the key 'k' cannot be retired now: it signs; time"
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.what, again.reasons) == (error.message, error.what, ("it signs", "time"))


def test_what_the_settings_say_about_time() -> None:
    assert policy_of(IssuerSettings()) == Policy()
    settings = IssuerSettings(cache_seconds=1, skew_seconds=2, longest_token_seconds=3)
    assert policy_of(settings) == Policy(cache_seconds=1, skew_seconds=2, longest_token_seconds=3)
