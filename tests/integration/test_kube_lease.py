"""Leader election on the real API server: one holder at a time, whatever the clocks say; a paused leader learns it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hostile import HostileServer, Peer, http_answer
from tests.integration.server_processes import until
from wif.edges.kube import KubeClient
from wif.edges.kube_objects import Objects, Resource
from wif.edges.lease import DRIFT, Lease
from wif.emulator.apiserver import ApiServer
from wif.errors import RefusedError, UnavailableError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


class Clock:
    """A clock of one machine, moved by hand."""

    def __init__(self, start: float) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    name = f"lease-{uuid.uuid4().hex[:8]}"
    api_server.create_namespace(name)
    return name


@pytest.fixture
def admin(api_server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient.from_kubeconfig(api_server.kubeconfig)
    yield client
    client.close()


def leases(client: KubeClient, namespace: str) -> Objects:
    return Objects(client, Resource(group="coordination.k8s.io", plural="leases", namespace=namespace))


def spec(client: KubeClient, namespace: str, name: str = "l") -> dict[str, Any]:
    found = leases(client, namespace).get(name)
    assert found is not None
    return dict(found.get("spec") or {})


# -- who holds it -----------------------------------------------------------------------------------------------------


def test_an_absent_lease_is_made_and_held(admin: KubeClient, namespace: str) -> None:
    lease = Lease(admin, namespace, "l", identity="a")
    assert not lease.holds()
    assert lease.acquire()
    assert 14 < lease.remaining_seconds <= 15 * (1 - DRIFT)
    assert lease.holds(13)
    assert not lease.holds(15)
    said = spec(admin, namespace)
    assert (said["holderIdentity"], said["leaseDurationSeconds"], said["leaseTransitions"]) == ("a", 15, 0)
    assert said["acquireTime"] == said["renewTime"]
    assert lease.renew()
    assert spec(admin, namespace)["renewTime"] > said["renewTime"]
    assert spec(admin, namespace)["acquireTime"] == said["acquireTime"]


def test_an_empty_lease_of_the_chart_is_taken_over_and_nothing_else_in_it_is_lost(
    admin: KubeClient, namespace: str
) -> None:
    leases(admin, namespace).create({"metadata": {"name": "l", "labels": {"of": "the-chart"}}})
    lease = Lease(admin, namespace, "l")
    assert lease.acquire()
    found = leases(admin, namespace).get("l")
    assert found is not None
    assert found["metadata"]["labels"] == {"of": "the-chart"}
    assert found["spec"]["holderIdentity"] == lease.identity
    lease.release()
    found = leases(admin, namespace).get("l")
    assert found is not None
    assert found["metadata"]["labels"] == {"of": "the-chart"}


def test_two_contenders_have_two_identities(admin: KubeClient, namespace: str) -> None:
    assert Lease(admin, namespace, "l").identity != Lease(admin, namespace, "l").identity


def test_another_waits_for_the_lease_time_by_its_own_clock(admin: KubeClient, namespace: str) -> None:
    """The clocks differ by years, and nothing of it counts; a renewal that is seen starts the time anew."""
    first_clock, second_clock = Clock(5.0), Clock(1e9)
    first = Lease(admin, namespace, "l", identity="a", clock=first_clock)
    second = Lease(admin, namespace, "l", identity="b", clock=second_clock)
    assert first.acquire()
    assert not second.acquire()
    assert second.holder == "a"
    second_clock.now += 14.9
    assert not second.acquire()
    assert first.renew()
    second_clock.now += 0.2
    assert not second.acquire()
    second_clock.now += 15.0
    assert not second.acquire(), "exactly the lease time is not over yet"
    second_clock.now += 0.1
    assert second.acquire()
    assert spec(admin, namespace)["leaseTransitions"] == 1
    assert not first.renew()
    assert not first.holds()
    assert first.holder == "b"


@pytest.mark.parametrize("renewed", ["1970-01-01T00:00:00.000000Z", "2199-01-01T00:00:00.000000Z"])
def test_times_that_others_wrote_decide_nothing(admin: KubeClient, namespace: str, renewed: str) -> None:
    record = {"holderIdentity": "other", "leaseDurationSeconds": 3, "renewTime": renewed}
    leases(admin, namespace).create({"metadata": {"name": "l"}, "spec": record})
    clock = Clock(0.0)
    lease = Lease(admin, namespace, "l", clock=clock)
    assert not lease.acquire()
    clock.now = 2.9
    assert not lease.acquire()
    clock.now = 3.1
    assert lease.acquire()


def test_a_lease_time_without_end_is_not_believed(admin: KubeClient, namespace: str) -> None:
    record = {"holderIdentity": "other", "leaseDurationSeconds": 2_000_000_000}
    leases(admin, namespace).create({"metadata": {"name": "l"}, "spec": record})
    clock = Clock(0.0)
    lease = Lease(admin, namespace, "l", clock=clock)
    assert not lease.acquire()
    clock.now = 3601.0
    assert lease.acquire()


def test_the_holder_stops_before_the_others_may_begin(admin: KubeClient, namespace: str) -> None:
    clock = Clock(0.0)
    lease = Lease(admin, namespace, "l", clock=clock)
    assert lease.acquire()
    clock.now = 15 * (1 - DRIFT) - 0.01
    assert lease.holds()
    clock.now = 15 * (1 - DRIFT) + 0.01
    assert not lease.holds()
    assert lease.remaining_seconds == 0
    with pytest.raises(UnavailableError) as caught:
        lease.require()
    assert caught.value.code == "lease-lost"
    assert lease.renew(), "nobody else has had it"
    lease.require(10)


def test_the_time_counts_from_before_the_write_was_sent(tmp_path: Path) -> None:
    """A slow answer is a renewal of long ago: the others have seen it then."""
    clock = Clock(0.0)

    def slow(peer: Peer) -> None:
        while True:
            request = peer.read_request()
            if request.method == "GET":
                peer.send(http_answer(b'{"kind":"Status","reason":"NotFound"}', status="404 Not Found"))
            else:
                clock.now += 10
                peer.send(http_answer(request.body, status="201 Created"))

    with HostileServer(slow) as server:
        client = of_hostile(server, tmp_path)
        lease = Lease(client, "a", "l", identity="a", clock=clock)
        assert lease.acquire()
        assert lease.remaining_seconds == pytest.approx(15 * (1 - DRIFT) - 10)
        client.close()


def test_a_released_lease_is_free_at_once(admin: KubeClient, namespace: str) -> None:
    first, second = (Lease(admin, namespace, "l", identity=name) for name in "ab")
    assert first.acquire()
    assert not second.acquire()
    second.release()  # nothing: it is not its own
    assert not second.acquire()
    first.release()
    first.release()
    assert not first.holds()
    assert spec(admin, namespace)["holderIdentity"] == ""
    assert second.acquire()


def test_a_lost_lease_is_not_released(admin: KubeClient, namespace: str) -> None:
    first_clock, second_clock = Clock(0.0), Clock(0.0)
    first = Lease(admin, namespace, "l", identity="a", clock=first_clock)
    second = Lease(admin, namespace, "l", identity="b", clock=second_clock)
    assert first.acquire()
    assert not second.acquire()
    second_clock.now = 16
    assert second.acquire()
    first.release()
    assert spec(admin, namespace)["holderIdentity"] == "b"


def test_it_is_not_confirmed_when_another_one_has_had_it_meanwhile(admin: KubeClient, namespace: str) -> None:
    """Taken over and given back: what was decided before is no longer true, though the Lease is free again."""
    first_clock, second_clock = Clock(0.0), Clock(0.0)
    first = Lease(admin, namespace, "l", identity="a", clock=first_clock)
    second = Lease(admin, namespace, "l", identity="b", clock=second_clock)
    assert first.acquire()
    assert first.confirm(10)
    assert not second.acquire()
    second_clock.now = 16
    assert second.acquire()
    second.release()
    assert not first.confirm()
    assert not first.confirm(), "and it does not come back by asking again"
    assert spec(admin, namespace)["holderIdentity"] == ""
    assert first.acquire()
    assert first.confirm(10)


def test_it_is_not_confirmed_by_a_twin_of_the_same_name(admin: KubeClient, namespace: str) -> None:
    """A container that was started anew, or two who were given one name by mistake: the term tells them apart."""
    first, other, twin = (Lease(admin, namespace, "l", identity=name) for name in "aba")
    assert first.acquire()
    leases(admin, namespace).change("l", {"spec": {"holderIdentity": ""}})
    assert other.acquire()
    other.release()
    assert twin.acquire()
    assert not first.confirm()
    assert twin.confirm()


def test_a_removed_lease_is_lost(admin: KubeClient, namespace: str) -> None:
    lease = Lease(admin, namespace, "l", identity="a")
    assert lease.acquire()
    leases(admin, namespace).delete("l")
    assert not lease.confirm()
    assert leases(admin, namespace).get("l") is None
    assert lease.acquire()


def test_a_missing_right_is_said(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    api_server.create_service_account(namespace, "nobody")
    token = api_server.request_token(namespace, "nobody", "https://kubernetes.default.svc")
    (tmp_path / "token").write_text(token)
    (tmp_path / "ca.crt").write_bytes((api_server.directory / "ca.crt").read_bytes())
    host, _, port = api_server.url.removeprefix("https://").rpartition(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    client = KubeClient.in_cluster(environ=environ, directory=tmp_path)
    with pytest.raises(RefusedError) as caught:
        Lease(client, namespace, "l").wait(30)
    assert "get on the resource leases of the API group 'coordination.k8s.io' named 'l'" in caught.value.hint
    client.close()


# -- answers that do not come ----------------------------------------------------------------------------------------


def of_hostile(server: HostileServer, directory: Path) -> KubeClient:
    (directory / "token").write_text("t")
    (directory / "ca.crt").write_bytes(server.ca_file.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(server.port)}
    return KubeClient.in_cluster(environ=environ, directory=directory)


class OneLease:
    """A store of one Lease that can lose answers after it has written."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.loses_answers = False
        self.is_down = False
        self.changes_after_reading = 0

    def __call__(self, peer: Peer) -> None:
        while True:
            request = peer.read_request()
            if self.is_down:
                peer.send(http_answer(b"", status="503 Busy"))
                continue
            if request.method == "GET":
                if self.stored is None:
                    peer.send(http_answer(b'{"kind":"Status","reason":"NotFound"}', status="404 Not Found"))
                else:
                    peer.send(http_answer(json.dumps(self.stored).encode()))
                if self.changes_after_reading and self.stored is not None:
                    self.changes_after_reading -= 1
                    self.stored["metadata"]["resourceVersion"] += "0"
                continue
            body = json.loads(request.body)
            there = None if self.stored is None else self.stored["metadata"]["resourceVersion"]
            if body["metadata"].get("resourceVersion") != there:
                peer.send(http_answer(b'{"kind":"Status","reason":"Conflict"}', status="409 Conflict"))
                continue
            body["metadata"]["resourceVersion"] = str(int(there or 0) + 1)
            self.stored = body
            if self.loses_answers:
                return
            peer.send(http_answer(request.body))


def test_while_the_server_is_down_what_was_acquired_runs_out(tmp_path: Path) -> None:
    store, clock = OneLease(), Clock(0.0)
    with HostileServer(store) as server:
        client = of_hostile(server, tmp_path)
        lease = Lease(client, "a", "l", identity="a", clock=clock)
        assert lease.acquire()
        store.is_down = True
        clock.now = 10
        with pytest.raises(UnavailableError):
            lease.renew()
        assert lease.holds(4)
        clock.now = 14.5
        assert not lease.holds()
        client.close()


def test_a_write_whose_answer_was_lost_is_found_to_be_ones_own(tmp_path: Path) -> None:
    store = OneLease()
    with HostileServer(store) as server:
        client = of_hostile(server, tmp_path)
        lease = Lease(client, "a", "l", identity="a")
        store.loses_answers = True
        with pytest.raises(UnavailableError):
            lease.acquire()
        assert not lease.holds()
        store.loses_answers = False
        assert lease.acquire()
        store.loses_answers = True
        with pytest.raises(UnavailableError):
            lease.renew()
        assert lease.holds(), "what was acquired before still stands"
        store.loses_answers = False
        assert lease.renew()
        client.close()


@pytest.mark.parametrize(("changes", "is_held"), [(1, True), (2, True), (3, False)])
def test_a_change_of_something_else_between_reading_and_writing_is_looked_at_again(
    tmp_path: Path, changes: int, is_held: bool
) -> None:
    store = OneLease()
    store.stored = {"metadata": {"name": "l", "resourceVersion": "1"}}
    store.changes_after_reading = changes
    with HostileServer(store) as server:
        client = of_hostile(server, tmp_path)
        assert Lease(client, "a", "l").acquire() is is_held
        client.close()


@pytest.mark.parametrize("answered", [0, 1])
def test_no_request_outlasts_a_third_of_the_lease(tmp_path: Path, answered: int) -> None:
    def never(peer: Peer) -> None:
        for _ in range(answered):
            peer.read_request()
            peer.send(http_answer(b'{"kind":"Status","reason":"NotFound"}', status="404 Not Found"))
        peer.read_request()
        peer.wait(30)

    with HostileServer(never) as server:
        client = of_hostile(server, tmp_path)
        start = time.monotonic()
        with pytest.raises(UnavailableError):
            Lease(client, "a", "l", duration_seconds=3).acquire()
        assert time.monotonic() - start < 2
        client.close()


# -- in time ----------------------------------------------------------------------------------------------------------


def test_it_is_kept_for_the_length_of_a_block_and_given_back(admin: KubeClient, namespace: str) -> None:
    lease = Lease(admin, namespace, "l", duration_seconds=2)
    other = Lease(admin, namespace, "l", duration_seconds=2)
    assert lease.acquire()
    ends = time.monotonic() + 5
    with lease.kept():
        while time.monotonic() < ends:
            assert lease.holds()
            assert not other.acquire()
            time.sleep(0.1)
    assert not lease.holds()
    assert other.acquire()
    assert spec(admin, namespace)["leaseTransitions"] == 1


def test_of_many_contenders_one_acts_at_a_time(admin: KubeClient, namespace: str) -> None:
    acting: list[str] = []
    turns: list[str] = []
    overlaps: list[list[str]] = []
    stop = threading.Event()

    def contend(name: str) -> None:
        lease = Lease(admin, namespace, "l", identity=name, duration_seconds=1)
        while not stop.is_set():
            if lease.wait(10, stop=stop):
                acting.append(name)
                turns.append(name)
                if len(acting) > 1:
                    overlaps.append(list(acting))
                time.sleep(0.05)
                acting.remove(name)
                if len(turns) % 3:
                    lease.release()  # else it is left to run out

    threads = [threading.Thread(target=contend, args=(f"c{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(6)
        until(lambda: len(set(turns)) >= 2, what="another one's turn", seconds=30.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert overlaps == []
    assert len(turns) >= 4
    assert len(set(turns)) >= 2


LEADER = """
import sys
from wif.edges.kube import KubeClient
from wif.edges.lease import Lease
client = KubeClient.from_kubeconfig(sys.argv[1])
lease = Lease(client, sys.argv[2], "l", identity="paused", duration_seconds=2)
assert lease.acquire()
with lease.kept():
    print("holds", lease.holds(), flush=True)
    sys.stdin.readline()
    print("holds", lease.holds(), "confirms", lease.confirm(), flush=True)
    sys.stdin.readline()
print("ended", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process cannot be stopped here")
def test_a_leader_that_was_paused_notices_that_it_has_lost(
    api_server: ApiServer, admin: KubeClient, namespace: str
) -> None:
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER, str(api_server.kubeconfig), namespace],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert leader.stdin is not None
        assert leader.stdout is not None
        assert leader.stdout.readline() == "holds True\n"
        os.kill(leader.pid, signal.SIGSTOP)
        other = Lease(admin, namespace, "l", identity="other", duration_seconds=2)
        start = time.monotonic()
        assert not other.acquire()
        assert other.wait(20)
        assert 1.9 < time.monotonic() - start < 10
        leader.stdin.write("\n")
        leader.stdin.flush()
        os.kill(leader.pid, signal.SIGCONT)
        assert leader.stdout.readline() == "holds False confirms False\n"
        assert spec(admin, namespace)["holderIdentity"] == "other"
        assert leader.communicate("\n", timeout=30)[0] == "ended\n"
        assert spec(admin, namespace)["holderIdentity"] == "other", "its end takes nothing from the new leader"
    finally:
        leader.kill()
        leader.communicate()
