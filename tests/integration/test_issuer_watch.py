"""``wif issuer watch`` with a real API server: two replicas, drift, an attacker's key, a leader that is killed."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.documents_server import ServeProcess
from tests.integration.rotating import Site
from tests.integration.server_processes import until
from tests.publishing import key_files
from wif.core.public_keys import IssuerKey
from wif.emulator.apiserver import ApiServer, missing_assets
from wif.emulator.authority import Authority

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("issuer_watch")]

NAMESPACE, LEASE = "wif-system", "wif-issuer"
JWKS = "openid/v1/jwks"
DISCOVERY = ".well-known/openid-configuration"
TAKEOVER_SECONDS = 40.0
"""The lease time is 15 s, and a follower looks every three."""


class Cluster:
    """An API server whose issuer is a site on loopback, published to the site's directory."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.site = Site(authority)
        self.issuer = self.site.issuer
        self.documents = folder / "site"
        self.site.directory = self.documents
        self.authority = authority
        self.server = ApiServer(issuer=self.issuer)
        self.server.create_namespace(NAMESPACE)
        self.server.create_service_account(NAMESPACE, "default")
        self._stack = contextlib.ExitStack()

    def watch(self, identity: str, *more: str) -> Replica:
        arguments = [
            *("--kubeconfig", str(self.server.kubeconfig), "--api-server", self.server.url),
            *("--to", f"file://{self.documents}?clouds=azure", "--namespace", NAMESPACE, "--allow-private"),
            *("--state", f"configmap:{NAMESPACE}/wif-issuer-state", "--lease", f"{NAMESPACE}/{LEASE}"),
            *("--identity", identity, "--ca-file", str(self.authority.ca_file), "--health-port", "0"),
            *("--period", "20", "--poll", "1", *more),
        ]
        replica = Replica(*arguments, command="watch", folder=self.folder)
        self._stack.callback(replica.end)  # in order: the Lease is given back
        return replica

    def end_replicas(self) -> None:
        self._stack.close()

    def stop(self) -> None:
        self.end_replicas()
        self.server.stop()
        self.site.stop()

    # -- what is there ------------------------------------------------------------------------------------------

    def kids(self) -> set[str]:
        file = self.documents / JWKS
        return {key["kid"] for key in json.loads(file.read_bytes())["keys"]} if file.exists() else set()

    def own_kids(self) -> set[str]:
        return {key["kid"] for key in json.loads(self.server.documents()["/" + JWKS])["keys"]}

    def events(self, reason: str) -> list[dict[str, Any]]:
        _, body = self.server.request("GET", f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")
        return [event for event in json.loads(body)["items"] if event["reason"] == reason]

    def holder(self) -> str:
        _, body = self.server.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}")
        return str(json.loads(body)["spec"].get("holderIdentity") or "")

    def put_foreign_key(self) -> str:
        """As somebody with write access to the place would."""
        key = IssuerKey.from_public_key(
            rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), key_id="attacker"
        )
        document = json.loads((self.documents / JWKS).read_bytes())
        document["keys"].append(dict(key.jwk))
        (self.documents / JWKS).write_text(json.dumps(document))
        return key.key_id


class Replica(ServeProcess):
    @property
    def leads(self) -> bool:
        return self.metric("wif_leader") == 1.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with Authority() as authority:
        cluster = Cluster(tmp_path_factory.mktemp("watch"), authority)
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def replicas(cluster: Cluster) -> Iterator[tuple[Replica, Replica]]:
    """A leader that has finished its first round, and a follower."""
    leader = cluster.watch("one")
    until(lambda: leader.leads, what="one leads", seconds=TAKEOVER_SECONDS)
    follower = cluster.watch("two")
    until(lambda: leader.metric("wif_issuer_verified") == 1.0, what="published and verified", seconds=60.0)
    yield leader, follower
    cluster.end_replicas()


def test_one_publishes_and_verifies_and_the_other_is_ready(cluster: Cluster, replicas: tuple[Replica, Replica]) -> None:
    leader, follower = replicas
    assert cluster.kids() == cluster.own_kids()
    assert json.loads((cluster.documents / DISCOVERY).read_bytes())["issuer"] == cluster.issuer
    assert (leader.leads, follower.leads) == (True, False)
    for replica in replicas:
        assert replica.health("/readyz") == (200, "ok\n")
        assert replica.health("/healthz") == (200, "ok\n")
    assert follower.metric("wif_issuer_published_keys") is None, "a follower knows nothing of now"
    assert leader.metric("wif_issuer_published_keys") == 1.0
    assert leader.metric("wif_issuer_tampering") == 0.0
    since = leader.metric("wif_issuer_seconds_since_verified")
    assert since is not None
    assert 0.0 <= since < 60.0
    text = leader.health("/metrics")[1]
    assert not any(kid in text for kid in cluster.own_kids())
    until(lambda: cluster.events("LeaderElected") and cluster.events("Published"), what="Events")
    assert {event["regarding"]["kind"] for event in cluster.events("Published")} == {"Lease"}
    assert any(entry.get("message") == "round done" and entry["verified"] is True for entry in leader.log)
    assert all({"time", "level", "logger", "message"} <= set(entry) for entry in leader.log)


def test_drift_is_repaired_when_it_is_seen(cluster: Cluster, replicas: tuple[Replica, Replica]) -> None:
    leader, _ = replicas
    sound = (cluster.documents / JWKS).read_bytes()
    spoilings: list[Callable[[], object]] = [
        lambda: (cluster.documents / JWKS).unlink(),
        lambda: (cluster.documents / JWKS).write_bytes(json.dumps(json.loads(sound), indent=2).encode()),
        lambda: (cluster.documents / DISCOVERY).unlink(),
    ]
    for spoil in spoilings:
        spoil()
        until(
            lambda: (
                (cluster.documents / DISCOVERY).exists()
                and (cluster.documents / JWKS).exists()
                and (cluster.documents / JWKS).read_bytes() == sound
            ),
            what="repaired",
        )
    until(lambda: (leader.metric("wif_issuer_repaired_total") or 0) >= 1, what="counted")


def test_an_attackers_key_is_told_and_left_and_repaired_where_that_is_asked(
    cluster: Cluster, replicas: tuple[Replica, Replica]
) -> None:
    leader, _ = replicas
    attacker = cluster.put_foreign_key()
    until(lambda: (leader.metric("wif_issuer_tampering") or 0) > 0, what="the metric")
    until(lambda: any("attacker" in event["note"] for event in cluster.events("TamperingFound")), what="the Event")
    [*_, said] = [entry for entry in leader.log if entry.get("reason") == "TamperingFound"]
    assert (said["level"], "attacker" in said["message"]) == ("warning", True)
    assert attacker in cluster.kids(), "it is evidence until somebody says otherwise"
    cluster.end_replicas()

    repairing = cluster.watch("three", "--restore")
    until(lambda: cluster.kids() == cluster.own_kids(), what="repaired", seconds=TAKEOVER_SECONDS)
    until(lambda: (repairing.metric("wif_issuer_tampering_found_total") or 0) >= 1, what="told all the same")
    assert (repairing.metric("wif_issuer_tampering") or 0) > 0, "shown for a while after the repair"


def test_a_leader_that_is_killed_is_followed(cluster: Cluster, replicas: tuple[Replica, Replica]) -> None:
    leader, follower = replicas
    leader.end(signal.SIGKILL)
    (cluster.documents / JWKS).unlink()
    until(lambda: follower.leads, what="taken over", seconds=TAKEOVER_SECONDS)
    until(lambda: cluster.kids() == cluster.own_kids(), what="repaired by the new leader")


def test_a_leader_that_is_stopped_gives_the_lease_back(cluster: Cluster, replicas: tuple[Replica, Replica]) -> None:
    leader, follower = replicas
    assert leader.end(signal.SIGTERM) == 0
    assert not cluster.holder().startswith("one")
    until(lambda: follower.leads, what="taken over without waiting for the lease time", seconds=8.0)


def test_a_new_key_of_the_api_server_is_published_at_once(cluster: Cluster, replicas: tuple[Replica, Replica]) -> None:
    leader, _ = replicas
    before = cluster.own_kids()
    staged = cluster.server.make_key("staged")
    cluster.server.reconfigure(key_files=[*cluster.server.flags.key_files, staged])
    assert len(cluster.own_kids()) == len(before) + 1
    until(lambda: cluster.kids() == cluster.own_kids(), what="published")
    until(lambda: leader.metric("wif_issuer_verified") == 1.0, what="verified")


def test_an_api_server_that_is_away_makes_a_replica_unready_and_nothing_worse(
    cluster: Cluster, replicas: tuple[Replica, Replica]
) -> None:
    leader, follower = replicas
    published = (cluster.documents / JWKS).read_bytes()
    cluster.server.halt()
    try:
        until(lambda: not leader.leads, what="leads no more", seconds=TAKEOVER_SECONDS)
        until(lambda: follower.health("/readyz")[0] == 503, what="not ready", seconds=90.0)
        assert follower.health("/healthz")[0] == 200
        assert (cluster.documents / JWKS).read_bytes() == published
    finally:
        cluster.server.restart()
    until(lambda: leader.leads or follower.leads, what="one leads again", seconds=TAKEOVER_SECONDS)
    until(lambda: follower.health("/readyz")[0] == 200, what="ready again")


def test_a_lease_that_may_not_be_used_ends_it_with_the_missing_right(cluster: Cluster) -> None:
    cluster.server.create_service_account(NAMESPACE, "nobody")
    token = cluster.server.request_token(NAMESPACE, "nobody", "https://kubernetes.default.svc")
    config = json.loads(cluster.server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = cluster.folder / "nobody.json"
    kubeconfig.write_text(json.dumps(config))
    replica = cluster.watch("nobody", "--kubeconfig", str(kubeconfig))
    assert replica.child.wait(30.0) == 1
    replica.end()
    assert any("leases" in message for message in replica.messages())


def test_the_example_of_the_help_runs_without_a_cluster(tmp_path: Path) -> None:
    key_file = Path(key_files(tmp_path, 1)[0].path).rename(tmp_path / "sa.pub")
    command = [sys.executable, "-m", "wif", "issuer", "watch", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    example = text.rstrip().splitlines()[-1].replace("file:///srv/issuer", f"file://{tmp_path}/out")
    words = shlex.split(example)
    assert words[:3] == ["wif", "issuer", "watch"]
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    with Replica(*words[3:], "--no-verify", command="watch", folder=tmp_path, environment=environment) as replica:
        until(lambda: (tmp_path / "out" / DISCOVERY).exists(), what="published")
        assert replica.place["lease"] is None
    assert key_file.exists()
