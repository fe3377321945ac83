"""Several real API servers of one cluster: one etcd, one authority, each with keys and flags of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from tests.integration.slices import ServerCluster, SliceProxy, api_servers
from tests.integration.test_apiserver import alive, fake_assets, gone, needs_proc
from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH, parse_jwks
from wif.core.jws import key_id, split_compact
from wif.edges.kube import KubeClient
from wif.emulator.apiserver import ApiServer, missing_assets
from wif.emulator.guarded import GuardedPrograms, Program
from wif.errors import UnavailableError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

OWN_AUDIENCE = "https://kubernetes.default.svc"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServerCluster]:
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with api_servers(2) as servers:
        yield servers


@pytest.fixture
def namespace(cluster: ServerCluster) -> str:
    name = f"peers-{uuid.uuid4().hex[:8]}"
    cluster.servers[0].create_namespace(name)
    cluster.servers[0].create_service_account(name, "app")
    return name


def kids(server: ApiServer) -> set[str]:
    return {str(key.key_id) for key in parse_jwks(server.documents()[JWKS_PATH]).keys}


def kid_of(path: Path) -> str:
    if path.suffix == ".pub":
        return key_id(load_pem_public_key(path.read_bytes()))  # type: ignore[arg-type]  # one that was made here
    return key_id(load_pem_private_key(path.read_bytes(), password=None).public_key())  # type: ignore[arg-type]


def accepted(server: ApiServer, token: str) -> bool:
    return server.request("GET", JWKS_PATH, token=token)[0] == 200


def test_peers_share_objects_and_keys(cluster: ServerCluster, namespace: str) -> None:
    first, second = cluster.servers
    assert first.url != second.url
    assert second.request("GET", f"/api/v1/namespaces/{namespace}")[0] == 200
    assert kids(first) == kids(second)
    assert first.documents() == second.documents()
    for signs, reads in ((first, second), (second, first)):
        assert accepted(reads, signs.request_token(namespace, "app", OWN_AUDIENCE))


def test_a_rotation_server_by_server(cluster: ServerCluster, namespace: str) -> None:
    """As operators do it: stage everywhere, then sign, then drop; each restart keeps port and objects."""
    first, second = cluster.servers
    old = first.flags.signing_key
    new = first.make_key("next", algorithm="ES256")
    assert kid_of(new) == kid_of(new.with_suffix(".pub"))
    ports, pids = (first.url, second.url), (first.pids, second.pids)
    early = first.request_token(namespace, "app", OWN_AUDIENCE)

    first.reconfigure(key_files=[old, new.with_suffix(".pub")])
    assert kids(first) == {kid_of(old), kid_of(new)}
    assert kids(second) == {kid_of(old)}, "in the middle of it the servers differ"
    second.reconfigure(key_files=[old, new])
    assert kids(second) == kids(first)

    second.reconfigure(signing_key=new)
    late = second.request_token(namespace, "app", OWN_AUDIENCE)
    assert split_compact(late).key_id == kid_of(new)
    assert split_compact(first.request_token(namespace, "app", OWN_AUDIENCE)).key_id == kid_of(old)
    for server in cluster.servers:
        assert accepted(server, early)
        assert accepted(server, late)

    first.reconfigure(signing_key=new, key_files=[new])
    assert not accepted(first, early)
    assert accepted(second, early)
    assert (first.url, second.url) == ports
    assert first.pids[0] == pids[0][0], "etcd has not been touched"
    assert first.pids[1] != pids[0][1]
    for server in cluster.servers:
        server.reconfigure(signing_key=old, key_files=[old])
    assert accepted(first, early)


def test_the_wrong_order_signs_with_what_others_do_not_know(cluster: ServerCluster, namespace: str) -> None:
    first, second = cluster.servers
    old, new = first.flags.signing_key, first.make_key("too-early")
    first.reconfigure(signing_key=new, key_files=[old, new])
    token = first.request_token(namespace, "app", OWN_AUDIENCE)
    assert accepted(first, token)
    assert not accepted(second, token)
    first.reconfigure(signing_key=old, key_files=[old])


def test_issuers_and_the_longest_lifetime_are_flags_too(cluster: ServerCluster, namespace: str) -> None:
    first, second = cluster.servers
    before = first.flags.issuers
    second.reconfigure(issuers=["https://new.example/a", *before], max_token_seconds=3600)
    assert second.issuer == "https://new.example/a"
    assert json.loads(second.documents()[DISCOVERY_PATH])["issuer"] == second.issuer
    assert accepted(second, first.request_token(namespace, "app", OWN_AUDIENCE)), "the former issuer is accepted"
    token = second.request_token(namespace, "app", OWN_AUDIENCE, expiration_seconds=7200)
    claims = split_compact(token).unverified_claims
    assert claims["iss"] == second.issuer
    assert claims["exp"] - claims["iat"] == 3600
    assert not accepted(first, token)
    second.reconfigure(issuers=before, max_token_seconds=0)
    assert second.flags == first.flags


def test_a_halted_server_comes_back(cluster: ServerCluster, namespace: str) -> None:
    first, second = cluster.servers
    for server, other in ((first, second), (second, first)):
        server.halt()
        server.halt()
        with pytest.raises(UnavailableError, match="no answer"):
            server.request("GET", "/readyz")
        assert other.request("GET", "/readyz")[0] == 200
        server.restart()
        assert server.request("GET", f"/api/v1/namespaces/{namespace}")[0] == 200


def test_flags_that_are_wrong_are_quoted_and_the_others_go_on(cluster: ServerCluster) -> None:
    first, second = cluster.servers
    before = second.flags.more
    with pytest.raises(UnavailableError, match="unknown flag: --no-such-flag"):
        second.reconfigure(arguments=["--no-such-flag"])
    assert first.request("GET", "/readyz")[0] == 200
    with pytest.raises(UnavailableError, match="no answer"):
        second.request("GET", "/readyz")
    second.reconfigure(arguments=before)
    assert second.request("GET", "/readyz")[0] == 200


def test_the_proxy_leads_to_what_it_knows_and_nowhere_else(cluster: ServerCluster) -> None:
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    unknown = client.at("192.0.2.99", 6443)
    with pytest.raises(UnavailableError, match="403"):
        unknown.get("/version")
    cluster.proxy.add("192.0.2.99", 1)
    with pytest.raises(UnavailableError, match="502"):
        unknown.get("/version")
    for each in (client, unknown):
        each.close()


def test_the_proxy_ends_with_its_block() -> None:
    with SliceProxy({}) as proxy:
        pass
    assert not any(thread.is_alive() for thread in proxy._threads)


# -- nothing is left running -------------------------------------------------------------------------------------------

CHILD = """
import os, signal
from wif.emulator.apiserver import ApiServer
first = ApiServer()
second = ApiServer(peer_of=first)
first.restart()
print(*first.pids, *second.pids, first.directory, flush=True)
os.kill(os.getpid(), signal.{signal})
"""


@needs_proc
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_no_peer_outlives_the_process(cluster: ServerCluster, number: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", CHILD.format(signal=number)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ,
    )
    *pids, directory = done.stdout.split()
    assert len(pids) == 3
    assert gone([int(pid) for pid in pids], Path(directory))


@needs_proc
def test_a_peer_ends_alone_and_all_end_with_the_first(cluster: ServerCluster) -> None:
    first = ApiServer()
    one, other = ApiServer(peer_of=first), ApiServer(peer_of=first)
    (pid,) = one.pids
    one.stop()
    one.stop()
    assert not alive(pid)
    assert not one.directory.exists()
    assert other.request("GET", "/readyz")[0] == 200
    pids = [*first.pids, *other.pids]
    first.stop()
    assert not any(map(alive, pids))
    other.stop()
    assert not first.directory.exists()
    with pytest.raises(UnavailableError, match="has been stopped"):
        first.restart()


def programs(directory: Path, *names: str) -> list[Program]:
    """Programs that write their names when they end, in a moment."""
    script = f"""
trap 'sleep 0.2; echo ${{0##*/}} >> {directory}/order; exit' TERM
echo $$ >> {directory}/started
while :; do sleep 0.05; done"""
    assets = fake_assets(directory, script)
    for name in names:
        if not (assets / name).exists():
            (assets / name).write_bytes((assets / "etcd").read_bytes())
            (assets / name).chmod(0o755)
    return [Program(argv=(str(assets / name),), log=str(directory / f"{name}.log")) for name in names]


def wait_for_lines(path: Path, number: int) -> None:
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        if path.exists() and len(path.read_text().split()) >= number:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} has not {number} lines")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_was_started_later_is_stopped_first(tmp_path: Path, end: str) -> None:
    """Peers and restarted servers before etcd, also when the parent's end of the pipe closes."""
    etcd, api, peer, again = programs(tmp_path, "etcd", "kube-apiserver", "peer", "again")
    removed = tmp_path / "removed"
    removed.mkdir()
    group = GuardedPrograms([etcd, api], grace_seconds=5, remove=removed)
    group.start(peer)
    wait_for_lines(tmp_path / "started", 3)
    group.stop(group.pids[1])
    group.start(again)
    wait_for_lines(tmp_path / "started", 4)
    if end == "kill":
        assert group._guard.stdin is not None
        group._guard.stdin.close()
        group._guard.wait(20)
        assert group._guard.stdout is not None
        group._guard.stdout.close()
    else:
        group.end()
        group.end()
    assert (tmp_path / "order").read_text().split() == ["kube-apiserver", "again", "peer", "etcd"]
    assert not removed.exists()


def test_a_program_that_cannot_be_run_or_is_not_there_is_said(tmp_path: Path) -> None:
    (etcd,) = programs(tmp_path, "etcd")
    group = GuardedPrograms([etcd], grace_seconds=5, remove=tmp_path / "none")
    try:
        with pytest.raises(UnavailableError, match="cannot be run"):
            group.start(Program(argv=("/no/such/program",), log=str(tmp_path / "log")))
        group.stop(1)  # not one of its own: nothing happens
        assert group.last_words(group.pids[0]) == ""
        assert not group.has_ended
    finally:
        group.end()
    with pytest.raises(UnavailableError, match="guard has ended"):
        group.start(etcd)


def test_one_that_was_started_later_may_end_and_says_why(tmp_path: Path) -> None:
    (etcd,) = programs(tmp_path, "etcd")
    (tmp_path / "fails").write_text("#!/bin/sh\necho 'I fine'\necho 'E broken'\nexit 3\n")
    (tmp_path / "fails").chmod(0o755)
    group = GuardedPrograms([etcd], grace_seconds=5, remove=tmp_path / "none")
    try:
        pid = group.start(Program(argv=(str(tmp_path / "fails"),), log=str(tmp_path / "fails.log")))
        ends = time.monotonic() + 10
        while not group.last_words(pid) and time.monotonic() < ends:
            time.sleep(0.02)
        assert group.last_words(pid) == "ended with status 3: E broken"
        assert not group.has_ended
        os.kill(group.pids[0], signal.SIGKILL)
        group._guard.wait(20)
        assert group.report().startswith("etcd ended with status -9")
    finally:
        group.end()
