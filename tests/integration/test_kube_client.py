"""The API server as the publisher uses it: objects, each server of a cluster by its address, tokens that are probed."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.integration.hostile import HostileServer, answering, http_answer
from tests.integration.slices import ADDRESSES, PORT, ServerCluster, announce, api_servers, kubeconfig_through
from wif.core.discovery import parse_jwks
from wif.edges.kube import PROBE_AUDIENCE, KubeClient
from wif.edges.kube_answers import ServiceAccountName
from wif.edges.kube_objects import Objects, Resource, resource_version
from wif.edges.stores import WriteConflict
from wif.edges.token_request import TokenRequest
from wif.emulator.apiserver import ApiServer, missing_assets
from wif.errors import ConfigurationError, RefusedError, UnavailableError, WifError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

OWN_AUDIENCE = "https://kubernetes.default.svc"


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    name = f"kube-{uuid.uuid4().hex[:8]}"
    api_server.create_namespace(name)
    api_server.create_service_account(name, "app")
    return name


@pytest.fixture
def admin(api_server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient.from_kubeconfig(api_server.kubeconfig)
    yield client
    client.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServerCluster]:
    """Two API servers. A test that changes one puts it back."""
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with api_servers(2) as servers:
        yield servers


def pod(server: ApiServer, namespace: str, name: str, directory: Path) -> KubeClient:
    """A client as a pod has it: token, CA and namespace mounted."""
    (directory / "token").write_text(server.request_token(namespace, name, OWN_AUDIENCE))
    (directory / "ca.crt").write_bytes((server.shared_directory / "ca.crt").read_bytes())
    (directory / "namespace").write_text(namespace)
    host, _, port = server.url.removeprefix("https://").rpartition(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    return KubeClient.in_cluster(environ=environ, directory=directory)


def grant(server: ApiServer, namespace: str, name: str, rule: dict[str, Any]) -> None:
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    role = f"r-{uuid.uuid4().hex[:6]}"
    server.create(f"{rbac}/roles", {"metadata": {"name": role}, "rules": [rule]})
    server.create(
        f"{rbac}/rolebindings",
        {
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )


# -- objects ----------------------------------------------------------------------------------------------------------


def config_maps(client: KubeClient, namespace: str) -> Objects:
    return Objects(client, Resource(group="", plural="configmaps", namespace=namespace))


def test_an_object_is_made_read_replaced_changed_and_removed(admin: KubeClient, namespace: str) -> None:
    objects = config_maps(admin, namespace)
    assert objects.get("a") is None
    made = objects.create({"metadata": {"name": "a"}, "data": {"x": "1", "y": "2"}})
    assert objects.get("a") == made
    replaced = objects.replace({**made, "data": {"x": "3"}})
    assert replaced["data"] == {"x": "3"}
    changed = objects.change("a", {"data": {"y": "4", "x": None}})
    assert changed["data"] == {"y": "4"}
    assert objects.delete("a")
    assert not objects.delete("a")
    assert objects.get("a") is None


def test_a_write_on_another_version_than_the_one_there_is_a_conflict(admin: KubeClient, namespace: str) -> None:
    objects = config_maps(admin, namespace)
    first = objects.create({"metadata": {"name": "a"}, "data": {"x": "1"}})
    second = objects.replace({**first, "data": {"x": "2"}})
    old, uid = resource_version(first), first["metadata"]["uid"]
    attempts: dict[str, Callable[[], object]] = {
        "replace": lambda: objects.replace({**first, "data": {"x": "3"}}),
        "change": lambda: objects.change("a", {"data": {"x": "3"}}, version=old),
        "delete": lambda: objects.delete("a", version=old),
        "delete another": lambda: objects.delete("a", uid=str(uuid.uuid4())),
        "create": lambda: objects.create({"metadata": {"name": "a"}}),
    }
    for attempt in attempts.values():
        with pytest.raises(WriteConflict) as caught:
            attempt()
        assert caught.value.status == 409
        assert objects.get("a") == second
    assert objects.change("a", {"data": {"x": "3"}}, version=resource_version(second))["data"] == {"x": "3"}
    assert objects.delete("a", uid=uid)


def test_a_replacement_without_a_version_is_not_sent(admin: KubeClient, namespace: str) -> None:
    with pytest.raises(UnavailableError, match="resourceVersion"):
        config_maps(admin, namespace).replace({"metadata": {"name": "a"}})


@pytest.mark.parametrize("name", ["", "../a", "A", "a/b", "a?x", "-a", "a" * 254])
def test_a_name_that_is_none_never_becomes_a_url(admin: KubeClient, namespace: str, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config_maps(admin, namespace).get(name)
    assert caught.value.code == "config-invalid"
    with pytest.raises(ConfigurationError):
        Resource(group="", plural="configmaps", namespace=name)


@pytest.mark.parametrize("verb", ["get", "create", "update", "patch", "delete"])
def test_the_right_that_the_hint_names_is_the_one_that_lacks(
    api_server: ApiServer, admin: KubeClient, namespace: str, tmp_path: Path, verb: str
) -> None:
    there = config_maps(admin, namespace).create({"metadata": {"name": "a"}})
    client = pod(api_server, namespace, "app", tmp_path)
    objects = config_maps(client, namespace)
    actions: dict[str, Callable[[], object]] = {
        "get": lambda: objects.get("a"),
        "create": lambda: objects.create({"metadata": {"name": "b"}}),
        "update": lambda: objects.replace(there),
        "patch": lambda: objects.change("a", {"data": {"x": "1"}}),
        "delete": lambda: objects.delete("a"),
    }
    action = actions[verb]
    with pytest.raises(RefusedError) as caught:
        action()
    assert (caught.value.code, caught.value.status) == ("cluster-refused", 403)
    named = "" if verb == "create" else " named 'a'"
    assert f"{verb} on the resource configmaps of the API group ''{named} in the namespace {namespace!r}" in (
        caught.value.hint
    )
    names = {} if verb == "create" else {"resourceNames": ["a"]}
    grant(api_server, namespace, "app", {"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb], **names})
    ends = time.monotonic() + 10
    while True:
        try:
            action()
            break
        except RefusedError:
            assert time.monotonic() < ends, "the rule that the hint names is not enough"
            time.sleep(0.1)
    client.close()


def test_an_object_that_the_server_does_not_store_is_said(admin: KubeClient, namespace: str) -> None:
    with pytest.raises(RefusedError, match="422 Invalid") as caught:
        config_maps(admin, namespace).create({"metadata": {"name": "a"}, "data": {"not a key": "1"}})
    assert caught.value.status == 422
    with pytest.raises(RefusedError, match="404 NotFound") as caught:
        config_maps(admin, "no-such-namespace").create({"metadata": {"name": "a"}})
    assert "create the namespace" in caught.value.hint


def test_a_write_is_never_repeated_by_itself(tmp_path: Path) -> None:
    with HostileServer(answering(http_answer(b"", status="503 Busy"))) as server:
        (tmp_path / "token").write_text("t")
        (tmp_path / "ca.crt").write_bytes(server.ca_file.read_bytes())
        environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(server.port)}
        client = KubeClient.in_cluster(environ=environ, directory=tmp_path)
        objects = config_maps(client, "a")
        with pytest.raises(UnavailableError) as caught:
            objects.create({"metadata": {"name": "a"}})
        assert caught.value.retryable
        assert len(server.received) == 1
        with pytest.raises(UnavailableError):
            objects.get("a")
        assert len(server.received) == 3
        client.close()


# -- every API server ------------------------------------------------------------------------------------------------


def test_each_server_of_the_slices_is_asked_by_its_address(cluster: ServerCluster) -> None:
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    endpoints = client.api_server_endpoints()
    assert endpoints == tuple((address, PORT) for address in ADDRESSES[:2])
    first, second = cluster.servers
    new = first.make_key(f"new-{uuid.uuid4().hex[:6]}")
    before = second.flags
    second.reconfigure(signing_key=new, key_files=[new])
    try:
        keys = []
        for endpoint in endpoints:
            one = client.at(*endpoint)
            documents = one.issuer_documents()
            assert documents.max_age_seconds == 3600
            assert json.loads(documents.discovery)["issuer"] == first.issuer
            keys.append({key.key_id for key in parse_jwks(documents.jwks).keys})
            assert one.api_server_endpoints() == endpoints
            one.close()
        assert keys == [
            {key.key_id for key in parse_jwks(s.documents()["/openid/v1/jwks"]).keys} for s in cluster.servers
        ]
        assert not keys[0] & keys[1]
    finally:
        second.reconfigure(signing_key=before.signing_key, key_files=before.key_files)
    assert set(cluster.proxy.asked) >= {f"{address}:{PORT}" for address in ADDRESSES[:2]}
    client.close()


def test_slices_of_both_families_and_servers_that_are_not_ready(cluster: ServerCluster) -> None:
    first = cluster.servers[0]
    client = KubeClient.from_kubeconfig(first.kubeconfig)
    announce(first, ["2001:db8::11"], name="kubernetes-v6")
    announce(first, ADDRESSES[:1], not_ready=ADDRESSES[1:2])
    try:
        assert sorted(client.api_server_endpoints()) == [("192.0.2.11", PORT), ("2001:db8::11", PORT)]
        assert client.api_server_endpoints(ready=False) == (("192.0.2.12", PORT),)
        assert len(client.api_server_endpoints(ready=None)) == 3
    finally:
        announce(first, ADDRESSES[:2])
        first.request("DELETE", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes-v6")
    client.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.11", "2001:db8::11"])
def test_a_server_is_dialled_by_any_address_when_its_name_is_right(
    cluster: ServerCluster, address: str, tmp_path: Path
) -> None:
    """With IPv6 too, which a CONNECT proxy gets in brackets."""
    first = cluster.servers[0]
    cluster.proxy.add("2001:db8::11", int(first.url.rpartition(":")[2]))
    client = KubeClient.from_kubeconfig(kubeconfig_through(first, cluster.proxy.url, tmp_path / "config"))
    port = int(first.url.rpartition(":")[2]) if address == "127.0.0.1" else PORT
    one = client.at(address, port)
    assert one.issuer_documents().jwks == first.documents()["/openid/v1/jwks"]
    one.close()
    wrong = client.at(address, port, server_hostname="other.default.svc")
    with pytest.raises(UnavailableError, match="another name") as caught:
        wrong.issuer_documents()
    assert not caught.value.retryable
    wrong.close()


def test_the_environments_proxy_is_chosen_for_each_address(
    cluster: ServerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY names the address of the kubeconfig and one of the slices, not the other one."""
    for name, value in {**cluster.environment, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    before = len(cluster.proxy.asked)
    client = KubeClient.from_kubeconfig(cluster.servers[0].kubeconfig)
    client.get("/version")
    assert len(cluster.proxy.asked) == before
    one = client.at(ADDRESSES[1], PORT)
    one.get("/version")
    assert cluster.proxy.asked[before:] == [f"{ADDRESSES[1]}:{PORT}"]
    for each in (client, one):
        each.close()


def test_a_pod_dials_by_address_too(cluster: ServerCluster, tmp_path: Path) -> None:
    """Without a proxy and without the kubernetes package; the mounted CA and token are those of every server."""
    first, second = cluster.servers
    name = f"kube-{uuid.uuid4().hex[:8]}"
    first.create_namespace(name)
    first.create_service_account(name, "app")
    client = pod(first, name, "app", tmp_path)
    one = client.at("127.0.0.1", int(second.url.rpartition(":")[2]))
    assert one.server == second.url
    assert one.issuer_documents().jwks == second.documents()["/openid/v1/jwks"]
    with pytest.raises(RefusedError) as caught:
        one.api_server_endpoints()
    assert "list on the resource endpointslices of the API group 'discovery.k8s.io'" in caught.value.hint
    assert "in the namespace 'default'" in caught.value.hint
    wrong = client.at("127.0.0.1", int(second.url.rpartition(":")[2]), server_hostname="other")
    with pytest.raises(UnavailableError, match="another name"):
        wrong.issuer_documents()
    for each in (client, one, wrong):
        each.close()


def test_the_name_is_checked_where_another_server_has_a_good_certificate(tmp_path: Path) -> None:
    """The same authority signs for others too; kubernetes.default.svc is what an API server is known by."""
    authority = trustme.CA()
    with HostileServer(answering(), names=("localhost", "127.0.0.1"), authority=authority) as other:
        (tmp_path / "token").write_text("own-token")
        (tmp_path / "ca.crt").write_bytes(other.ca_file.read_bytes())
        environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(other.port)}
        client = KubeClient.in_cluster(environ=environ, directory=tmp_path)
        client.get("/")
        one = client.at("127.0.0.1", other.port)
        with pytest.raises(UnavailableError, match="another name"):
            one.get("/")
        assert len(other.received) == 1, "the token went to a server of another name"
        client.close()


def test_a_server_that_is_down_is_one_error(cluster: ServerCluster) -> None:
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    cluster.servers[1].halt()
    try:
        one = client.at(*client.api_server_endpoints()[1])
        with pytest.raises(UnavailableError) as caught:
            one.issuer_documents()
        assert caught.value.code == "cluster-unavailable"
        assert "192.0.2.12" in caught.value.message
        one.close()
    finally:
        cluster.servers[1].restart()
        client.close()


def test_a_named_url_is_asked_with_the_same_credentials(cluster: ServerCluster) -> None:
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    named = KubeClient.from_url(cluster.servers[1].url + "/", credentials_of=client)
    assert named.server == cluster.servers[1].url
    assert named.issuer_documents().jwks == cluster.servers[1].documents()["/openid/v1/jwks"]
    named.close()
    client.close()


def test_a_named_url_without_credentials_is_asked_as_nobody(api_server: ApiServer) -> None:
    nobody = KubeClient.from_url(api_server.url, environ={"SSL_CERT_FILE": str(api_server.directory / "ca.crt")})
    assert nobody.get("/version")["major"] == "1"
    with pytest.raises(WifError) as caught:
        nobody.issuer_documents()
    assert caught.value.status in (401, 403)
    nobody.close()


@pytest.mark.parametrize(
    "url", ["10.0.0.1:6443", "ftp://a", "https://user:hunter2@a", "https://a?x=1", "https://a#b", ""]
)
def test_what_is_no_url_of_a_server_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        KubeClient.from_url(url)
    assert caught.value.code == "config-invalid"
    assert "hunter2" not in str(caught.value)


def test_plain_http_is_for_loopback_alone() -> None:
    client = KubeClient.from_url("http://api.example:8080")
    with pytest.raises(ConfigurationError) as caught:
        client.issuer_documents()
    assert caught.value.code == "host-not-allowed"


def test_no_documents_means_that_the_issuer_is_no_https_url(cluster: ServerCluster) -> None:
    first = cluster.servers[0]
    before = first.flags.issuers
    first.reconfigure(issuers=["kubernetes/serviceaccount"])
    client = KubeClient.from_kubeconfig(first.kubeconfig)
    try:
        with pytest.raises(ConfigurationError, match="the issuer is not a valid https URL") as caught:
            client.issuer_documents()
        assert caught.value.code == "issuer-invalid"
    finally:
        first.reconfigure(issuers=before)
        client.close()


def test_a_missing_right_to_the_documents_is_said(api_server: ApiServer, admin: KubeClient) -> None:
    """Every ServiceAccount may read them by default; a user of a certificate or of another group may not."""
    answer = http_answer(
        json.dumps({"kind": "Status", "reason": "Forbidden", "message": "no"}).encode(), status="403 Forbidden"
    )
    with HostileServer(answering(answer)) as server:
        client = KubeClient.from_url(server.url, environ={"SSL_CERT_FILE": str(server.ca_file)})
        with pytest.raises(RefusedError) as caught:
            client.issuer_documents()
        assert "get on the nonResourceURL /.well-known/openid-configuration" in caught.value.hint
        client.close()


# -- tokens that are probed --------------------------------------------------------------------------------------------


def test_a_token_of_a_clouds_audience_is_refused_and_an_own_one_is_not(
    api_server: ApiServer, admin: KubeClient, namespace: str
) -> None:
    """Though the client itself is known by a certificate: only the token counts."""
    for audience, accepted in ((OWN_AUDIENCE, True), ("sts.amazonaws.com", False)):
        issued = admin.request_token(TokenRequest(namespace=namespace, service_account="app", audiences=(audience,)))
        assert admin.accepts_token(issued.token) is accepted
        assert admin.refuses_token(issued.token) is not accepted
    assert admin.refuses_token("not.a.token")


def test_a_pods_own_token_does_not_help_another_token(
    api_server: ApiServer, namespace: str, admin: KubeClient, tmp_path: Path
) -> None:
    client = pod(api_server, namespace, "app", tmp_path)
    token = api_server.request_token(namespace, "app", "sts.amazonaws.com")
    assert client.refuses_token(token)
    client.close()


def test_an_answer_that_decides_nothing_is_no_verdict(tmp_path: Path) -> None:
    with HostileServer(answering(http_answer(b"", status="500 Oops"))) as server:
        client = KubeClient.from_url(server.url, environ={"SSL_CERT_FILE": str(server.ca_file)})
        with pytest.raises(UnavailableError) as caught:
            client.refuses_token("a.b.c")
        assert "a.b.c" not in str(caught.value)
        client.close()


def test_the_longest_token_is_observed(cluster: ServerCluster) -> None:
    first, second = cluster.servers
    name = f"kube-{uuid.uuid4().hex[:8]}"
    first.create_namespace(name)
    first.create_service_account(name, "app")
    second.reconfigure(max_token_seconds=86_400)
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    try:
        each = [client.at(*endpoint) for endpoint in client.api_server_endpoints()]
        assert [one.longest_token_seconds(name, "app") for one in each] == [0, 86_400]
        asked = TokenRequest(
            namespace=name, service_account="app", audiences=(PROBE_AUDIENCE,), expiration_seconds=1 << 32
        )
        unlimited, limited = (one.request_token(asked) for one in each)
        assert (unlimited.unverified_lifetime_seconds, unlimited.warnings) == (1 << 32, ())
        assert limited.unverified_lifetime_seconds == 86_400
        assert len(limited.warnings) == 1
        assert "86400" in limited.warnings[0]
        for one in each:
            one.close()
    finally:
        second.reconfigure(max_token_seconds=0)
        client.close()


def test_a_client_knows_who_it_is(api_server: ApiServer, admin: KubeClient, namespace: str, tmp_path: Path) -> None:
    client = pod(api_server, namespace, "app", tmp_path)
    assert client.service_account() == ServiceAccountName(namespace, "app")
    assert client.namespace == namespace
    assert admin.service_account() is None, "a certificate is no ServiceAccount"
    (tmp_path / "token").write_text("opaque")
    assert client.service_account() is None
    (tmp_path / "namespace").unlink()
    assert (
        KubeClient.in_cluster(
            environ={"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": "1"}, directory=tmp_path
        ).namespace
        is None
    )
    client.close()


def test_a_kubeconfig_names_its_namespace_and_what_it_does_not_verify(api_server: ApiServer, tmp_path: Path) -> None:
    document = json.loads(api_server.kubeconfig.read_text())
    document["contexts"][0]["context"]["namespace"] = "team-a"
    document["contexts"].append(
        {"name": "other", "context": {**document["contexts"][0]["context"], "namespace": "team-b"}}
    )
    path = tmp_path / "config"
    path.write_text(json.dumps(document))
    client = KubeClient.from_kubeconfig(path)
    assert (client.namespace, client.is_verified) == ("team-a", True)
    assert KubeClient.from_kubeconfig(path, "other").namespace == "team-b"
    cluster = document["clusters"][0]["cluster"]
    del cluster["certificate-authority"]
    cluster["insecure-skip-tls-verify"] = True
    path.write_text(json.dumps(document))
    unverified = KubeClient.from_kubeconfig(path)
    assert not unverified.is_verified
    one = unverified.at("127.0.0.1", int(api_server.url.rpartition(":")[2]))
    assert not one.is_verified
    assert client.at("127.0.0.1", 1).is_verified


def test_a_large_object_is_read_whole(admin: KubeClient, namespace: str) -> None:
    """1 MiB in a ConfigMap is more as JSON: quotes and line breaks are escaped."""
    text = '"\n' * 500_000
    objects = config_maps(admin, namespace)
    objects.create({"metadata": {"name": "large"}, "data": {"x": text}})
    found = objects.get("large")
    assert found is not None
    assert found["data"]["x"] == text


def test_no_token_is_shown(admin: KubeClient, namespace: str) -> None:
    issued = admin.request_token(TokenRequest(namespace=namespace, service_account="app"))
    assert issued.token not in repr(issued)
    assert base64.b64encode(b"{")[:2].decode() not in repr(admin)
