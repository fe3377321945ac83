"""The webhook's own certificate on the real API server: several replicas, rotation, and what somebody else changes."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.server_processes import until
from tests.integration.webhooks import (
    MUTATING,
    WebhookProcess,
    authorities_in,
    bundle_of,
    configuration,
    listening,
    with_bundle,
)
from tests.reviews import EKS, pod
from wif.edges.kube import KubeClient
from wif.edges.stores import WriteConflict
from wif.emulator.apiserver import ApiServer
from wif.errors import ConfigurationError, RefusedError
from wif.serve.ca_bundle import Registrations
from wif.serve.certificate_authority import make_pair
from wif.serve.certificate_check import certificates_of
from wif.serve.certificate_secret import Timing, read_data
from wif.serve.self_managed import SelfManagedCertificate

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

QUICK = Timing(life_seconds=3600, check_seconds=0.1, staging_seconds=0.0, overlap_seconds=0.0)
NAME = "hook.test.svc"


class Place:
    """A namespace with an empty Secret, and a registration in which nobody is trusted."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.namespace = f"tls-{uuid.uuid4().hex[:8]}"
        self.registration = f"hook-{self.namespace}"
        server.create_namespace(self.namespace)
        server.create(f"/api/v1/namespaces/{self.namespace}/secrets", {"metadata": {"name": "tls"}})
        self.kube = KubeClient.from_kubeconfig(server.kubeconfig)
        self.register()

    def register(self) -> None:
        made = configuration(self.registration, "https://127.0.0.1:1", namespaces=[self.namespace])
        self.server.create(MUTATING, made)

    def replica(
        self,
        *,
        timing: Timing = QUICK,
        names: tuple[str, ...] = (NAME,),
        clock: Callable[[], float] = time.time,
    ) -> SelfManagedCertificate:
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        return SelfManagedCertificate(
            self.kube,
            secret=(self.namespace, "tls"),
            registrations=Registrations(self.kube, mutating=[self.registration]),
            names=names,
            directory=folder,
            timing=timing,
            clock=clock,
        )

    def secret(self) -> dict[str, str]:
        status, body = self.server.request("GET", f"/api/v1/namespaces/{self.namespace}/secrets/tls")
        assert status == 200
        found: dict[str, str] = json.loads(body).get("data", {})
        return found

    def spoil(self, **data: bytes) -> None:
        """Change members of the Secret; ``_`` stands for the dot and the dash."""
        names = {"tls_crt": "tls.crt", "tls_key": "tls.key", "ca_crt": "ca.crt"}
        changes = {names[name]: base64.b64encode(value).decode() for name, value in data.items()}
        path = f"/api/v1/namespaces/{self.namespace}/secrets/tls"
        self.kube.request_object("PATCH", path, {"data": changes}, content_type="application/merge-patch+json")

    @property
    def bundle(self) -> str:
        return bundle_of(self.server, self.registration)


@pytest.fixture
def place(api_server: ApiServer, tmp_path: Path) -> Iterator[Place]:
    made = Place(api_server, tmp_path)
    yield made
    api_server.request("DELETE", f"{MUTATING}/{made.registration}")
    made.kube.close()


def served(replica: SelfManagedCertificate) -> bytes:
    """The leaf that a client is shown, in DER."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = replica.certificate.current.wrap_bio(to_server, to_client, server_side=True)
    ours = client.wrap_bio(to_client, to_server)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours.getpeercert(True) or b""


# -- the first start -------------------------------------------------------------------------------------------------


def test_a_first_start_makes_stores_and_registers_a_pair(place: Place) -> None:
    replica = place.replica()
    replica.prepare()
    assert replica.status.problem == ""
    assert replica.status.not_after == pytest.approx(time.time() + 3600, abs=60)
    stored = read_data(place.secret())
    assert stored.current is not None
    assert place.bundle == stored.current.authority
    assert "PRIVATE KEY" in stored.current.key
    [folder] = place.folder.iterdir()
    assert [(each.name, each.stat().st_mode & 0o777) for each in folder.iterdir()] == [("serving.pem", 0o600)]


def test_replicas_that_start_at_once_agree(place: Place) -> None:
    replicas = [place.replica() for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda each: each.prepare(), replicas))
    for each in replicas:
        each.check()
    assert len({served(each) for each in replicas}) == 1
    assert authorities_in(place.bundle) == 1
    assert [each.status.problem for each in replicas] == [""] * 4


def test_a_restart_serves_what_is_stored(place: Place) -> None:
    first, second = place.replica(), place.replica()
    first.prepare()
    before = place.secret()
    second.prepare()
    assert served(first) == served(second)
    assert place.secret() == before


def test_a_secret_that_is_not_there_is_made(place: Place) -> None:
    place.server.request("DELETE", f"/api/v1/namespaces/{place.namespace}/secrets/tls")
    replica = place.replica()
    replica.prepare()
    assert replica.status.problem == ""


# -- what somebody else does -----------------------------------------------------------------------------------------


def test_a_foreign_bundle_is_repaired_and_counted(place: Place) -> None:
    replica = place.replica()
    replica.prepare()
    right = place.bundle
    foreign = make_pair(["evil"], life_seconds=600).authority
    for bundle in (foreign, right + foreign, ""):
        repaired = replica.status.repairs
        with_bundle(place.server, place.registration, bundle)
        replica.check()
        assert place.bundle == right
        assert replica.status.repairs == repaired + 1
        assert replica.status.problem == ""


def test_a_registration_that_is_gone_is_said_and_filled_when_it_is_back(place: Place) -> None:
    replica = place.replica()
    replica.prepare()
    place.server.request("DELETE", f"{MUTATING}/{place.registration}")
    replica.check()
    assert "is not in the cluster" in replica.status.problem
    place.register()
    replica.check()
    assert replica.status.problem == ""
    assert authorities_in(place.bundle) == 1


def test_without_a_registration_it_starts_and_says_so(place: Place) -> None:
    place.server.request("DELETE", f"{MUTATING}/{place.registration}")
    replica = place.replica()
    replica.prepare()
    assert "is not in the cluster" in replica.status.problem


def test_a_pair_that_does_not_fit_is_replaced_without_a_gap(place: Place) -> None:
    first, second = place.replica(timing=Timing(overlap_seconds=600.0)), place.replica()
    first.prepare()
    second.prepare()
    former = served(first)
    place.spoil(tls_key=make_pair([NAME], life_seconds=600).key.encode())
    first.check()
    assert served(first) != former
    assert first.status.problem == ""
    assert served(second) == former
    assert authorities_in(place.bundle) == 2, "the other replica's is trusted on"
    second.check()
    assert served(second) == served(first)


@pytest.mark.parametrize("what", ["tls_crt", "tls_key", "ca_crt"])
def test_nonsense_in_the_secret_is_replaced(place: Place, what: str) -> None:
    replica = place.replica()
    place.spoil(tls_crt=b"c", tls_key=b"k", ca_crt=b"a")
    replica.prepare()
    place.spoil(**{what: b"nonsense"})
    replica.check()
    assert replica.status.problem == ""
    fresh = place.replica()
    fresh.prepare()
    assert served(fresh) == served(replica)


def test_an_expired_pair_is_replaced(place: Place) -> None:
    short = make_pair([NAME], life_seconds=2)
    place.spoil(tls_crt=short.chain.encode(), tls_key=short.key.encode(), ca_crt=short.authority.encode())
    until(lambda: time.time() > short.not_after + 0.5)
    replica = place.replica()
    replica.prepare()
    assert replica.status.problem == ""
    assert replica.status.not_after > short.not_after + 600


def test_other_names_are_a_rotation(place: Place) -> None:
    first = place.replica()
    first.prepare()
    renamed = place.replica(names=("other.test.svc", NAME))
    renamed.prepare()
    for _ in range(4):
        renamed.check()
        first.check()
    assert renamed.status.problem == ""
    assert first.status.problem == "", "the new pair has the former name too"


# -- rotation --------------------------------------------------------------------------------------------------------


def test_the_successor_is_trusted_before_it_is_served_and_the_former_after(place: Place) -> None:
    began, later = time.time(), 0.0
    due = Timing(life_seconds=3600, staging_seconds=60, overlap_seconds=60)
    first, second = (place.replica(timing=due, clock=lambda: began + later) for _ in range(2))
    short = make_pair([NAME], life_seconds=1000)  # a third of the life that is wanted: due at once
    place.spoil(tls_crt=short.chain.encode(), tls_key=short.key.encode(), ca_crt=short.authority.encode())
    first.prepare()
    second.prepare()
    former = served(first)
    stored = read_data(place.secret())
    assert stored.successor is not None
    assert certificates_of(place.bundle) == (short.authority, stored.successor.authority)
    first.check()
    assert served(first) == former, "its authority has not been trusted for long enough"
    later = 61.0
    first.check()
    assert served(first) != former
    assert (first.status.rotations, second.status.rotations) == (1, 0)
    assert served(second) == former
    assert authorities_in(place.bundle) == 2, "both replicas are trusted"
    second.check()
    assert served(second) == served(first)
    later = 120.0
    second.check()
    assert authorities_in(place.bundle) == 2, "a third replica may not have looked yet"
    later = 122.0
    second.check()
    assert certificates_of(place.bundle) == (stored.successor.authority,)
    assert (first.status.problem, second.status.problem) == ("", "")


def test_what_is_not_registered_is_not_served(place: Place) -> None:
    due = Timing(life_seconds=3600, check_seconds=0.1, staging_seconds=0.0, overlap_seconds=0.0)
    replica = place.replica(timing=due)
    short = make_pair([NAME], life_seconds=1000)
    place.spoil(tls_crt=short.chain.encode(), tls_key=short.key.encode(), ca_crt=short.authority.encode())
    place.server.request("DELETE", f"{MUTATING}/{place.registration}")
    replica.prepare()
    former = served(replica)
    for _ in range(3):
        replica.check()
    assert served(replica) == former
    assert replica.status.rotations == 0
    place.register()
    for _ in range(3):
        replica.check()
    assert replica.status.rotations == 1
    assert replica.status.problem == ""


def test_a_pair_is_not_served_before_every_registration_trusts_it(place: Place) -> None:
    replica = place.replica()
    replica.prepare()
    former = served(replica)
    place.server.request("DELETE", f"{MUTATING}/{place.registration}")
    made = make_pair([NAME], life_seconds=3600)
    place.spoil(tls_crt=made.chain.encode(), tls_key=made.key.encode(), ca_crt=made.authority.encode())
    replica.check()
    assert served(replica) == former
    place.register()
    replica.check()
    assert served(replica) != former
    assert replica.status.problem == ""


def test_a_secret_that_somebody_empties_is_filled_without_a_gap(place: Place) -> None:
    first, second = (place.replica(timing=Timing(overlap_seconds=600.0)) for _ in range(2))
    first.prepare()
    second.prepare()
    former, bundle = served(second), place.bundle
    path = f"/api/v1/namespaces/{place.namespace}/secrets/tls"
    place.kube.request_object("PATCH", path, {"data": None}, content_type="application/merge-patch+json")
    first.check()
    assert served(first) != former
    assert bundle in place.bundle, "the other replica's is trusted on"
    second.check()
    assert served(second) == served(first)


def test_a_registration_that_has_changed_is_not_written_over(place: Place) -> None:
    registrations = Registrations(place.kube, mutating=[place.registration])
    [seen] = registrations.read()
    made = make_pair([NAME], life_seconds=600).authority
    with_bundle(place.server, place.registration, made)
    with pytest.raises(WriteConflict):
        registrations.put(seen, (make_pair([NAME], life_seconds=600).authority,))
    assert place.bundle == made


def test_a_replica_that_cannot_ask_goes_on(api_server: ApiServer, tmp_path: Path) -> None:
    with ApiServer(peer_of=api_server) as peer:
        place = Place(peer, tmp_path)
        replica = place.replica()
        replica.prepare()
        before = served(replica)
        peer.halt()
        replica.check()
        assert replica.status.failures == 1
        assert replica.status.problem == "", "what was trusted a moment ago still is"
        assert served(replica) == before
        place.kube.close()
    api_server.request("DELETE", f"{MUTATING}/{place.registration}")


def test_a_missing_right_is_named(place: Place) -> None:
    place.server.create_service_account(place.namespace, "nobody")
    token = place.server.request_token(place.namespace, "nobody", "https://kubernetes.default.svc")
    folder = place.folder / "nobody"
    folder.mkdir()
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes((place.server.shared_directory / "ca.crt").read_bytes())
    host, port = place.server.url.removeprefix("https://").split(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    kube = KubeClient.in_cluster(environ=environ, directory=folder)
    managed = SelfManagedCertificate(
        kube,
        secret=(place.namespace, "tls"),
        registrations=Registrations(kube, mutating=[place.registration]),
        names=[NAME],
        directory=folder,
    )
    with pytest.raises(RefusedError) as caught:
        managed.prepare()
    kube.close()
    assert "mutatingwebhookconfigurations" in str(caught.value.hint)


def test_settings_that_cannot_be(place: Place) -> None:
    with pytest.raises(ConfigurationError):
        Registrations(place.kube)
    with pytest.raises(ConfigurationError):
        Registrations(place.kube, mutating=["../pods"])


def test_a_loop_that_is_told_to_stop(place: Place) -> None:
    replica = place.replica()
    replica.prepare()
    stopping = threading.Event()
    thread = threading.Thread(target=replica.run, args=(stopping,))
    thread.start()
    foreign = make_pair(["evil"], life_seconds=600).authority
    right = place.bundle
    with_bundle(place.server, place.registration, foreign)
    until(lambda: place.bundle == right)
    stopping.set()
    thread.join(10)
    assert not thread.is_alive()


# -- in processes ----------------------------------------------------------------------------------------------------


def test_a_rotation_under_load_refuses_no_call(place: Place) -> None:
    """Two processes on one port, certificates of 20 s, failure policy Fail: every pod is let in and injected into."""
    server = place.server
    server.create_service_account(place.namespace, "app", annotations=EKS)
    server.request("DELETE", f"{MUTATING}/{place.registration}")
    with listening() as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        made = configuration(place.registration, url, policy="Fail", namespaces=[place.namespace])
        server.create(MUTATING, made)
        arguments = [
            *("--kubeconfig", str(server.kubeconfig), "--self-managed", f"{place.namespace}/tls"),
            *("--tls-name", "127.0.0.1", "--mutating-configuration", place.registration),
            *("--certificate-life", "20s", "--find-unmutated", "0"),
        ]
        with (
            WebhookProcess(*arguments, listener=listener) as one,
            WebhookProcess(*arguments, listener=listener) as other,
        ):
            one.until_ready()
            other.until_ready()
            first = place.bundle
            ends, number = time.monotonic() + 45, 0
            while time.monotonic() < ends:
                path = f"/api/v1/namespaces/{place.namespace}/pods?dryRun=All"
                status, body = server.request("POST", path, pod(f"p-{number}"))
                assert status == 201, body
                assert "aws-iam-token" in body.decode()
                number += 1
                if number % 20 == 0:
                    rotations = [each.metric("wif_webhook_certificate_rotations_total") for each in (one, other)]
                    if all(rotations) and place.bundle != first and authorities_in(place.bundle) == 1:
                        break
            else:
                raise AssertionError("no rotation was seen")
            assert [each.health("/readyz")[0] for each in (one, other)] == [200, 200]
            assert first not in place.bundle
            logs = json.dumps([one.log, other.log])
    assert number > 50
    assert "PRIVATE KEY" not in logs
