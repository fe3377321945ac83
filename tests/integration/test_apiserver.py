"""The real API server: its tokens verify through its own documents, the local cluster's are alike, nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH, encode_document, parse_discovery, parse_jwks
from wif.core.jws import VerifiedJws, key_id, split_compact, verify
from wif.core.token import read_token
from wif.emulator.apiserver import ASSETS_VARIABLE, ApiServer, assets_from_env, missing_assets
from wif.emulator.cluster import LocalCluster
from wif.errors import ConfigurationError, TokenError, UnavailableError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

AUDIENCE = "sts.amazonaws.com"


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    name = f"team-{uuid.uuid4().hex[:8]}"
    api_server.create_namespace(name)
    api_server.create_service_account(name, "app")
    return name


def verified(token: str, documents: Mapping[str, bytes], issuer: str) -> VerifiedJws:
    """As a relying party does it: discovery, key set, key id, signature."""
    discovery = parse_discovery(documents[DISCOVERY_PATH], issuer=issuer)
    jws = split_compact(token)
    (key,) = parse_jwks(documents[JWKS_PATH]).candidates(jws.key_id)
    assert jws.algorithm in discovery.algorithms
    return verify(jws, key.key, jws.algorithm)


def shape(value: Any) -> Any:
    """The names and types of a JSON value, in their order."""
    if isinstance(value, dict):
        return [(name, shape(item)) for name, item in value.items()]
    return [shape(item) for item in value] if isinstance(value, list) else type(value).__name__


# -- tokens ------------------------------------------------------------------------------------------------


def test_a_requested_token_verifies_through_the_servers_own_documents(api_server: ApiServer, namespace: str) -> None:
    token = api_server.request_token(namespace, "app", AUDIENCE)
    jws = verified(token, api_server.documents(), api_server.issuer)
    assert jws.claims["iss"] == api_server.issuer
    assert jws.claims["sub"] == f"system:serviceaccount:{namespace}:app"
    assert jws.claims["aud"] == [AUDIENCE]
    read = read_token(token, origin="TokenRequest", now=time.time(), audience=AUDIENCE)
    assert (read.namespace, read.service_account) == (namespace, "app")


def test_another_clusters_key_does_not_verify_it(api_server: ApiServer, namespace: str) -> None:
    jws = split_compact(api_server.request_token(namespace, "app", AUDIENCE))
    other = LocalCluster(api_server.issuer).signing_key.private_key.public_key()
    with pytest.raises(TokenError) as caught:
        verify(jws, other, jws.algorithm)
    assert caught.value.code == "signature-invalid"


@pytest.mark.parametrize("audiences", [[AUDIENCE], ["b", "a"]])
def test_the_local_clusters_token_is_the_servers(api_server: ApiServer, namespace: str, audiences: list[str]) -> None:
    """Same header, same claims, same order, same types; only the values are its own."""
    theirs = split_compact(api_server.request_token(namespace, "app", audiences))
    local = LocalCluster(api_server.issuer)
    ours = split_compact(local.mint(namespace, "app", audiences))
    assert shape(ours.unverified_header) == shape(theirs.unverified_header)
    assert shape(ours.unverified_claims) == shape(theirs.unverified_claims)
    for name in ("aud", "iss", "sub"):
        assert ours.unverified_claims[name] == theirs.unverified_claims[name]
    for claims in (ours.unverified_claims, theirs.unverified_claims):
        assert claims["exp"] - claims["iat"] == 3600
        assert claims["nbf"] == claims["iat"]
        assert uuid.UUID(claims["jti"]).version == 4
        assert uuid.UUID(claims["kubernetes.io"]["serviceaccount"]["uid"]).version == 4


def test_a_bound_token_names_pod_and_node_alike(api_server: ApiServer, namespace: str) -> None:
    node = f"node-{namespace}"
    api_server.create_node(node)
    pod_uid = api_server.create_pod(namespace, "web-0", "app", node=node)
    theirs = split_compact(api_server.request_token(namespace, "app", AUDIENCE, pod=("web-0", pod_uid)))
    ours = split_compact(LocalCluster(api_server.issuer).mint(namespace, "app", AUDIENCE, pod="web-0", node=node))
    assert shape(ours.unverified_claims) == shape(theirs.unverified_claims)
    bound = theirs.unverified_claims["kubernetes.io"]
    assert (bound["pod"], bound["node"]["name"]) == ({"name": "web-0", "uid": pod_uid}, node)


def test_the_local_clusters_documents_are_the_servers(api_server: ApiServer) -> None:
    """Byte for byte, when it holds the server's key."""
    key = load_pem_private_key((api_server.directory / "sa.key").read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    local = LocalCluster(api_server.issuer, key=key)
    served = api_server.documents()
    assert encode_document(local.discovery_document) == served[DISCOVERY_PATH]
    assert encode_document(local.jwks) == served[JWKS_PATH]


def test_the_server_accepts_what_the_local_cluster_signs_with_its_key(api_server: ApiServer, namespace: str) -> None:
    """The strongest likeness: the API server takes the token for its own."""
    key = load_pem_private_key((api_server.directory / "sa.key").read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    uid = api_server.create_service_account(namespace, "twin")
    local = LocalCluster(api_server.issuer, key=key)
    account = {"namespace": namespace, "serviceaccount": {"name": "twin", "uid": uid}}
    token = local.mint(namespace, "twin", "https://kubernetes.default.svc", claims={"kubernetes.io": account})
    assert api_server.request("GET", JWKS_PATH, token=token)[0] == 200
    wrong_audience = local.mint(namespace, "twin", AUDIENCE, claims={"kubernetes.io": account})
    assert api_server.request("GET", JWKS_PATH, token=wrong_audience)[0] == 401
    other_uid = local.mint(namespace, "twin", "https://kubernetes.default.svc")
    assert api_server.request("GET", JWKS_PATH, token=other_uid)[0] == 401


def test_written_documents_are_those_that_are_served(api_server: ApiServer, tmp_path: Path) -> None:
    api_server.write_documents(tmp_path / "documents")
    for path, body in api_server.documents().items():
        assert (tmp_path / "documents" / path.lstrip("/")).read_bytes() == body


# -- the server itself ---------------------------------------------------------------------------------------


def test_the_kubeconfig_is_an_administrators_and_private(api_server: ApiServer) -> None:
    assert stat.S_IMODE(api_server.kubeconfig.stat().st_mode) == 0o600
    assert stat.S_IMODE(api_server.directory.stat().st_mode) == 0o700
    kubectl = Path(os.environ[ASSETS_VARIABLE]) / "kubectl"
    if not kubectl.exists():
        kubectl = Path(shutil.which("kubectl") or pytest.skip("there is no kubectl"))
    said = subprocess.run(
        [kubectl, "--kubeconfig", api_server.kubeconfig, "auth", "can-i", "*", "*"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.stdout == "yes\n"


def test_the_kubernetes_package_reads_the_kubeconfig(api_server: ApiServer, namespace: str) -> None:
    kubernetes = pytest.importorskip("kubernetes", reason="the extra wif[kubernetes] is not installed")
    with kubernetes.config.new_client_from_config(str(api_server.kubeconfig)) as client:
        accounts = kubernetes.client.CoreV1Api(client).list_namespaced_service_account(namespace)
    assert [account.metadata.name for account in accounts.items] == ["app"]


def test_a_refusal_of_the_server_is_told(api_server: ApiServer, namespace: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        api_server.create_service_account(namespace, "app")
    assert (caught.value.code, caught.value.status) == ("cluster-unavailable", 409)
    assert "already exists" in caught.value.message
    with pytest.raises(UnavailableError) as caught:
        api_server.request_token(namespace, "app", AUDIENCE, expiration_seconds=60)
    assert "may not specify a duration less than 10 minutes" in caught.value.message


def test_other_flags_and_keys_of_other_kinds(tmp_path: Path, api_server: ApiServer) -> None:
    """A second server on its own ports, with a key staged: two algorithms in both documents."""
    local = LocalCluster("https://oidc.example.com/b", algorithm="ES256")
    staged = local.signing_key.private_key
    assert isinstance(staged, ec.EllipticCurvePrivateKey)
    pem = staged.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "next.pub").write_bytes(pem)
    flags = [
        "--service-account-key-file",
        str(tmp_path / "next.pub"),
        "--service-account-issuer",
        "https://old.example",
    ]
    with ApiServer(issuer="https://oidc.example.com/b", arguments=flags) as other:
        assert other.url != api_server.url
        documents = other.documents()
        signing = load_pem_private_key((other.directory / "sa.key").read_bytes(), password=None)
    assert isinstance(signing, rsa.RSAPrivateKey)
    local.stage_key(signing)
    assert encode_document(local.discovery_document) == documents[DISCOVERY_PATH]
    published = {key.key_id for key in parse_jwks(documents[JWKS_PATH]).keys}
    assert published == {key_id(signing.public_key()), key_id(staged.public_key())}
    ours = {jwk["kid"]: jwk for jwk in local.jwks["keys"]}
    assert ours == {jwk["kid"]: jwk for jwk in json.loads(documents[JWKS_PATH])["keys"]}
    assert [list(jwk) for jwk in sorted(local.jwks["keys"], key=lambda jwk: str(jwk["kty"]))] == [
        list(jwk) for jwk in sorted(json.loads(documents[JWKS_PATH])["keys"], key=lambda jwk: str(jwk["kty"]))
    ]
    private = signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert private not in (tmp_path / "next.pub").read_bytes()


# -- nothing is left running -------------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from wif.emulator.apiserver import ApiServer
server = ApiServer()
print(*server.pids, server.directory, flush=True)
{end}
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent to collect it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: list[int], directory: Path | None, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(map(alive, pids)) and (directory is None or not directory.exists()):
            return True
        time.sleep(0.1)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@needs_proc
@pytest.mark.parametrize(
    "end",
    [
        pytest.param("", id="forgotten"),
        pytest.param("raise RuntimeError('a test fails')", id="exception"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", id="killed"),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", id="terminated"),
    ],
)
def test_nothing_outlives_the_process(api_server: ApiServer, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", CHILD.format(end=end)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ,
    )
    etcd, api, directory = done.stdout.split()
    assert gone([int(etcd), int(api)], Path(directory))


@needs_proc
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_nothing_outlives_the_guard(api_server: ApiServer) -> None:
    with ApiServer() as server:
        stat_line = Path(f"/proc/{server.pids[0]}/stat").read_text()
        os.kill(int(stat_line.rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
        assert gone(list(server.pids), None)
    assert not server.directory.exists()


def test_after_stop_nobody_answers(api_server: ApiServer) -> None:
    server = ApiServer()
    server.stop()
    server.stop()
    with pytest.raises(UnavailableError, match="no answer"):
        server.request("GET", "/readyz")


# -- what cannot start ---------------------------------------------------------------------------------------------


def fake_assets(directory: Path, script: str) -> Path:
    for name in ("etcd", "kube-apiserver"):
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "KUBEBUILDER_ASSETS is not set"),
        ({ASSETS_VARIABLE: ""}, "KUBEBUILDER_ASSETS is not set"),
        ({ASSETS_VARIABLE: "/nowhere"}, "/nowhere, which has no program etcd and no kube-apiserver"),
    ],
)
def test_missing_programs_are_named(environ: dict[str, str], said: str) -> None:
    assert said in missing_assets(environ)
    with pytest.raises(ConfigurationError) as caught:
        assets_from_env(environ)
    assert caught.value.code == "config-missing"
    assert said in caught.value.message
    assert "setup-envtest" in str(caught.value.hint)


def test_a_program_that_fails_is_quoted_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assets = fake_assets(tmp_path, "echo I an information; echo 'E disk is full' >&2; exit 7")
    with pytest.raises(UnavailableError) as caught:
        ApiServer(assets=assets)
    assert caught.value.code == "cluster-unavailable"
    assert "ended with status 7: E disk is full" in caught.value.message
    assert list(temporary.iterdir()) == []


def test_a_server_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="the time is over"):
        ApiServer(assets=fake_assets(tmp_path, "exec sleep 600"), start_seconds=0.5)
    assert time.monotonic() - start < 10


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = f"trap '' TERM; echo $$ >> {tmp_path}/pids; while :; do sleep 1; done"
    with pytest.raises(UnavailableError, match="the time is over"):
        ApiServer(assets=fake_assets(tmp_path, script), start_seconds=1, grace_seconds=0.5)
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert gone(pids, None, 1.0)


def test_the_api_server_is_stopped_before_its_etcd(tmp_path: Path) -> None:
    """A kube-apiserver whose etcd went first may ignore SIGTERM for good."""
    script = f"""
trap 'sleep 0.3; echo ${{0##*/}} >> {tmp_path}/order; exit' TERM
while :; do sleep 0.05; done"""
    with pytest.raises(UnavailableError, match="the time is over"):
        ApiServer(assets=fake_assets(tmp_path, script), start_seconds=1)
    assert (tmp_path / "order").read_text().split() == ["kube-apiserver", "etcd"]
