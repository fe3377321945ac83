"""The webhook's parts together: why it is not ready, what runs beside it, and what its metrics show."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest

from tests.reviews import ROLE, pod, review
from wif.admission.decision import Decision
from wif.admission.review import read_review
from wif.config.webhook import WebhookSettings
from wif.edges.events import ObjectReference
from wif.edges.kube import KubeClient
from wif.serve.certificate_authority import make_pair
from wif.serve.certificate_watch import WatchedCertificate
from wif.serve.certificates import Certificate
from wif.serve.self_managed import CertificateStatus
from wif.serve.unmutated import adds_volumes
from wif.serve.webhook import Told
from wif.serve.webhook_events import EVENTS_PER_MINUTE, MAX_QUEUED, EventWriter, Notice
from wif.serve.webhook_service import ServiceOptions, WebhookService


class Care:
    """A certificate that somebody looks after."""

    def __init__(self) -> None:
        self.status = CertificateStatus(problem="certificate has expired")

    def run(self, stopping: threading.Event) -> None:
        stopping.wait()


def service(**options: object) -> WebhookService:
    kube = KubeClient.from_url("https://127.0.0.1:1", environ={})
    made = WebhookService(kube, WebhookSettings(), ServiceOptions(**options))  # type: ignore[arg-type]  # by name
    made.certificate = Care()
    return made


def test_every_reason_is_named() -> None:
    made = service(platform_config=("system", "platform"))
    listed, platform, certificate = made.unready()
    assert "ServiceAccounts" in listed
    assert "system/platform" in platform
    assert certificate == "the certificate would be refused: certificate has expired"


def test_what_runs_beside_it_is_what_was_asked_for() -> None:
    assert len(service(platform_config=("system", "platform"), lease=("system", "look")).workers) == 5
    assert len(service(with_events=False, unmutated_seconds=0).workers) == 2


def test_a_certificate_of_files_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "pair.pem"

    def write(life_seconds: int) -> float:
        made = make_pair(["a.example"], life_seconds=life_seconds)
        file.write_text(made.chain + made.key)
        return made.not_after

    ends = write(2)
    certificate = Certificate(file)
    watched = WatchedCertificate(certificate)
    assert (watched.status.problem, watched.status.not_after) == ("", ends)
    while time.time() < ends + 1:
        time.sleep(0.1)
    watched.check()
    assert watched.status.problem == "certificate has expired"
    assert watched.status.not_after == ends, "when it ended"
    ends = write(600)
    assert certificate.reload()
    watched.check()
    assert (watched.status.problem, watched.status.not_after, watched.status.rotations) == ("", ends, 1)


@pytest.mark.parametrize(
    ("patch", "lacks"),
    [
        (None, False),
        ([], False),
        ([{"op": "add", "path": "/spec/containers/0/env/-", "value": {}}], False),
        ([{"op": "replace", "path": "/spec/volumes/0", "value": {}}], False),
        ([{"op": "add", "path": "/spec/volumes", "value": []}], True),
        ([{"op": "add", "path": "/spec/volumes/0", "value": {}}], True),
    ],
    ids=str,
)
def test_a_pod_lacks_its_identity_where_a_volume_is_missing(patch: object, lacks: bool) -> None:
    encoded = None if patch is None else msgspec.json.encode(patch)
    made = Decision(allowed=True, patch=encoded, identities=(("aws", ROLE),))
    assert adds_volumes(made) is lacks
    assert not adds_volumes(msgspec.structs.replace(made, identities=()))
    assert not adds_volumes(msgspec.structs.replace(made, allowed=False))


# -- Events ----------------------------------------------------------------------------------------------------------

ABOUT = ObjectReference(kind="Pod", namespace="shop", name="p")


def test_a_full_queue_never_waits() -> None:
    writer = EventWriter(KubeClient.from_url("https://127.0.0.1:1", environ={}))
    for number in range(MAX_QUEUED + 5):
        writer.tell(Notice(ABOUT, "Warning", "A", f"note {number}"))
    assert (writer.waiting, writer.dropped) == (MAX_QUEUED, 5)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_events_have_a_rate() -> None:
    clock = Clock()
    writer = EventWriter(KubeClient.from_url("https://127.0.0.1:1", environ={}), clock=clock)
    assert sum(writer._has_room() for _ in range(1000)) == EVENTS_PER_MINUTE
    clock.now += 2.0
    assert sum(writer._has_room() for _ in range(1000)) == 2


def test_an_object_with_no_name_that_could_be_is_dropped() -> None:
    writer = EventWriter(KubeClient.from_url("https://127.0.0.1:1", environ={}))
    writer.tell(Notice(ObjectReference(kind="Pod", namespace="../x", name="p"), "Warning", "A", "note"))
    asked = read_review(review(pod(), namespace="../x"))
    writer.tell(Told(asked, Decision(allowed=True), None))
    stopping = threading.Event()
    stopping.set()
    writer.run(stopping)
    assert (writer.written, writer.dropped, writer.waiting) == (0, 1, 0)
