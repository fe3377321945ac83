"""What is served after each reading, and when a source is read again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.unit.serve.asking import Clock
from wif.core.public_keys import IssuerKey
from wif.errors import ProtocolError, UnavailableError, WifError
from wif.serve.discovery import Freshness, ServedIssuer
from wif.serve.refresh import Job, Reading, Refresher, Seen, rendered, united

ISSUER = "https://oidc.example.com"


def _rsa() -> IssuerKey:
    return IssuerKey.from_public_key(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key())


OLD, NEW, THIRD = _rsa(), _rsa(), IssuerKey.from_public_key(ec.generate_private_key(ec.SECP384R1()).public_key())


class Source:
    """Gives what it was told to give, one after the other; the last for ever."""

    name = "source"

    def __init__(self, *readings: Reading | WifError) -> None:
        self.readings = list(readings)
        self.reads = 0

    def read(self) -> Reading:
        self.reads += 1
        found = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(found, WifError):
            raise found
        return found


def job(*readings: Reading | WifError, stale: float = 100.0, clouds: Sequence[str] = ("aws", "gcp", "azure")) -> Job:
    issuer = ServedIssuer(ISSUER, freshness=Freshness(max_age_seconds=50, stale_seconds=stale))
    return Job(issuer, Source(*readings), clouds=clouds)


def shown(made: Job) -> set[str]:
    version = made.issuer.key_set.current
    assert version is not None
    return {key["kid"] for key in json.loads(version.body["body"])["keys"]}


def ids(*keys: IssuerKey) -> set[str]:
    return {key.key_id for key in keys}


# -- which keys --------------------------------------------------------------------------------------------------


def test_a_key_that_is_no_longer_named_stays_for_the_stale_window() -> None:
    seen = united({}, Reading(keys=(OLD, NEW)), at=0.0, keep_seconds=100.0)
    seen = united(seen, Reading(keys=(NEW,)), at=60.0, keep_seconds=100.0)
    assert set(seen) == ids(OLD, NEW)
    assert set(united(seen, Reading(keys=(NEW,)), at=100.0, keep_seconds=100.0)) == ids(OLD, NEW)
    assert set(united(seen, Reading(keys=(NEW,)), at=100.1, keep_seconds=100.0)) == ids(NEW)


def test_a_key_that_comes_back_in_time_was_never_gone() -> None:
    seen = united({}, Reading(keys=(OLD, NEW)), at=0.0, keep_seconds=100.0)
    seen = united(seen, Reading(keys=(OLD,)), at=90.0, keep_seconds=100.0)
    seen = united(seen, Reading(keys=(NEW,)), at=99.0, keep_seconds=100.0)
    assert set(united(seen, Reading(keys=(NEW,)), at=150.0, keep_seconds=100.0)) == ids(OLD, NEW)


def test_where_a_publisher_writes_an_absence_is_meant() -> None:
    seen = united({}, Reading(keys=(OLD, NEW)), at=0.0, keep_seconds=100.0)
    assert set(united(seen, Reading(keys=(NEW,), is_final=True), at=1.0, keep_seconds=100.0)) == ids(NEW)


def test_a_removed_key_goes_at_once_also_where_it_is_still_vouched_for() -> None:
    seen = {OLD.key_id: Seen(key=OLD, at=0.0)}
    reading = Reading(keys=(OLD, NEW), removed=lambda key: key.fingerprint == OLD.fingerprint)
    assert set(united(seen, reading, at=1.0, keep_seconds=100.0)) == ids(NEW)


def test_other_material_under_an_id_is_what_the_source_says_now() -> None:
    other = IssuerKey.from_public_key(NEW.public_key, key_id=OLD.key_id)  # type: ignore[arg-type]  # it has one
    seen = united({}, Reading(keys=(OLD,)), at=0.0, keep_seconds=100.0)
    assert united(seen, Reading(keys=(other,)), at=1.0, keep_seconds=100.0)[OLD.key_id].key is other


def test_documents_are_rendered_as_kubernetes_writes_them() -> None:
    discovery, key_set = rendered(ISSUER, f"{ISSUER}/openid/v1/jwks", [OLD, THIRD])
    assert json.loads(discovery) == {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES384", "RS256"],
    }
    assert {key["kid"] for key in json.loads(key_set)["keys"]} == ids(OLD, THIRD)
    assert b" " not in discovery + key_set


def test_no_key_is_no_document() -> None:
    with pytest.raises(ProtocolError):
        rendered(ISSUER, f"{ISSUER}/jwks", [])


def test_keys_that_no_reader_verifies_are_left_out() -> None:
    made = job(Reading(keys=(OLD, THIRD)), clouds=("azure",))
    assert made.refresh(0.0)
    assert shown(made) == ids(OLD)
    assert not job(Reading(keys=(THIRD,)), clouds=("gcp",)).refresh(0.0)


# -- one reading ---------------------------------------------------------------------------------------------------


def test_a_failed_reading_leaves_what_was_read_and_its_age() -> None:
    made = job(Reading(keys=(OLD,)), UnavailableError("away", code="cluster-unavailable"))
    assert made.refresh(10.0)
    assert not made.refresh(20.0)
    assert not made.refresh(30.0)
    assert shown(made) == ids(OLD)
    assert made.issuer.read_at == 10.0
    assert (made.failures, made.failures_total) == (2, 2)


def test_failures_are_counted_in_a_row() -> None:
    away = UnavailableError("away", code="cluster-unavailable")
    made = job(away, away, Reading(keys=(OLD,)), away)
    for now in range(3):
        made.refresh(float(now))
    assert (made.failures, made.failures_total) == (0, 2)
    made.refresh(3.0)
    assert (made.failures, made.failures_total) == (1, 3)


def test_a_reading_that_removes_every_key_is_a_failure() -> None:
    made = job(Reading(keys=(OLD,)), Reading(keys=(OLD,), removed=lambda _: True))
    assert made.refresh(0.0)
    assert not made.refresh(1.0)
    assert shown(made) == ids(OLD)


def test_the_age_counts_from_before_the_reading_and_the_source_may_shorten_it() -> None:
    made = job(Reading(keys=(OLD,), max_age_seconds=7))
    made.refresh(5.0)
    version = made.issuer.key_set.current
    assert version is not None
    assert version.renew(6.0)
    assert (b"cache-control", b"public, max-age=6") in version.start["headers"]


def test_a_complaint_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    away = UnavailableError("the API server is away", code="cluster-unavailable")
    made = job(away, away, Reading(keys=(OLD,)), Reading(keys=(OLD,)))
    with caplog.at_level("INFO", logger="wif.serve"):
        for now in range(4):
            made.refresh(float(now))
    assert [record.message for record in caplog.records] == [
        "the API server is away",
        "other keys are served",
        "the source is read without complaint again",
    ]


# -- when -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [(0, 0.0, 27.0), (0, 0.5, 30.0), (0, 1.0, 33.0), (1, 1.0, 1.0), (1, 0.0, 0.5), (3, 1.0, 4.0), (99, 1.0, 30.0)],
)
def test_the_next_reading(failures: int, chance: float, seconds: float) -> None:
    made = job(Reading(keys=(OLD,)))
    made.failures = failures
    assert made.next_in(every_seconds=30.0, chance=chance) == pytest.approx(seconds)


def test_the_refresher_notes_when_a_client_may_come_back() -> None:
    clock = Clock(100.0)
    made = job(UnavailableError("away", code="cluster-unavailable"))
    refresher = Refresher([made], every_seconds=30.0, clock=clock, chance=lambda: 1.0)
    assert refresher.refresh(made) == made.issuer.next_read_at == 101.0


def test_one_broken_issuer_does_not_take_the_others_out_of_service() -> None:
    clock = Clock(0.0)
    away = UnavailableError("away", code="cluster-unavailable")
    good, broken = job(Reading(keys=(OLD,)), away, stale=100.0), job(away)
    refresher = Refresher([good, broken], clock=clock, chance=lambda: 0.5)
    assert len(refresher.unready()) == 2
    refresher.refresh(good)
    assert refresher.unready() == (f"the documents of {ISSUER} are being read",)
    refresher.refresh(broken)
    assert refresher.unready() == ()
    clock.now = 101.0
    assert refresher.unready() == (f"no documents for {ISSUER}",) * 2


def test_many_jobs_are_each_read_again_and_again_by_one_thread_at_a_time() -> None:
    class Slow(Source):
        def __init__(self) -> None:
            super().__init__(Reading(keys=(OLD,)))
            self.inside = 0
            self.overlaps = 0

        def read(self) -> Reading:
            self.inside += 1
            self.overlaps += self.inside > 1
            time.sleep(0.002)
            self.inside -= 1
            return super().read()

    sources = [Slow() for _ in range(20)]
    jobs = [Job(ServedIssuer(f"{ISSUER}/{number}"), source) for number, source in enumerate(sources)]
    refresher = Refresher(jobs, every_seconds=0.01, threads=8)
    stop = threading.Event()
    thread = threading.Thread(target=refresher.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 10.0
    while min(source.reads for source in sources) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(5.0)
    assert not thread.is_alive()
    assert min(source.reads for source in sources) >= 5
    assert sum(source.overlaps for source in sources) == 0
