"""A ConfigMap of a real API server as a target."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.integration.hostile import HostileServer, Peer, http_answer
from tests.integration.stores.contract import DISCOVERY, HEADERS, JWKS, OpenStore, StoreContract
from wif.edges.kube import KubeClient
from wif.edges.stores import ABSENT, MAX_DOCUMENT_BYTES, WriteConflict
from wif.edges.stores.configmap import ConfigMapStore
from wif.edges.stores.opening import open_store
from wif.emulator.apiserver import ApiServer
from wif.errors import ConfigurationError, RefusedError, UnavailableError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    name = f"configmap-{uuid.uuid4().hex[:8]}"
    api_server.create_namespace(name)
    return name


@pytest.fixture
def admin(api_server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient.from_kubeconfig(api_server.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def store(admin: KubeClient, namespace: str) -> ConfigMapStore:
    return ConfigMapStore(admin, namespace, "oidc")


def make(api_server: ApiServer, namespace: str, **members: Any) -> None:
    api_server.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "oidc"}, **members})


def standing(api_server: ApiServer, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(api_server.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/oidc")[1])
    return found


class TestConfigMap(StoreContract):
    odd_paths: ClassVar[tuple[str, ...]] = (DISCOVERY, "b.example-0123.json", "openid/v1/x_y")
    content_is_tag: ClassVar[bool] = True

    @pytest.fixture
    def open_store(self, api_server: ApiServer, namespace: str) -> Iterator[OpenStore]:
        clients: list[KubeClient] = []

        def open_one() -> ConfigMapStore:
            clients.append(KubeClient.from_kubeconfig(api_server.kubeconfig))
            return ConfigMapStore(clients[-1], namespace, "oidc")

        yield open_one
        for client in clients:
            client.close()


class TestEmptyConfigMapOfTheChart(TestConfigMap):
    """Made without data, because a right to create cannot be limited to a name."""

    writers: ClassVar[int] = 10

    @pytest.fixture(autouse=True)
    def _empty(self, api_server: ApiServer, namespace: str) -> None:
        make(api_server, namespace)


# -- what else is in it -----------------------------------------------------------------------------------------------


def test_other_entries_are_left_alone(api_server: ApiServer, namespace: str, store: ConfigMapStore) -> None:
    raw = base64.b64encode(b"\xff\x00").decode()
    make(api_server, namespace, data={"other": "1"}, binaryData={"raw": raw})
    tag = store.write(JWKS, b"{}", tag=ABSENT, **HEADERS)
    store.write(DISCOVERY, b"[]", tag=ABSENT, **HEADERS)
    store.delete(JWKS, tag=tag)
    found = standing(api_server, namespace)
    assert found["data"] == {"other": "1", "openid-configuration": "[]"}
    assert found["binaryData"] == {"raw": raw}


def test_an_entry_is_named_by_the_last_part_of_its_path(
    api_server: ApiServer, namespace: str, store: ConfigMapStore
) -> None:
    store.write(JWKS, b"keys", tag=ABSENT, **HEADERS)
    store.write(DISCOVERY, b"discovery", tag=ABSENT, **HEADERS)
    found = standing(api_server, namespace)
    assert found["data"] == {"jwks": "keys", "openid-configuration": "discovery"}
    assert found["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "wif"}


def test_a_change_of_another_entry_is_no_conflict(admin: KubeClient, namespace: str, store: ConfigMapStore) -> None:
    tag = store.write(JWKS, b"1", tag=ABSENT, **HEADERS)
    other = ConfigMapStore(admin, namespace, "oidc")
    other.write(DISCOVERY, b"1", tag=ABSENT, **HEADERS)
    store.write(JWKS, b"2", tag=tag, **HEADERS)
    found = store.read(DISCOVERY)
    assert found is not None
    assert found.body == b"1"


def test_the_same_content_on_an_old_tag_is_a_conflict(store: ConfigMapStore) -> None:
    """Only a write whose answer was lost is taken for one's own by its content."""
    store.write(JWKS, b"1", tag=ABSENT, **HEADERS)
    with pytest.raises(WriteConflict):
        store.write(JWKS, b"1", tag=ABSENT, **HEADERS)


def test_writers_of_many_entries_all_get_through(admin: KubeClient, namespace: str) -> None:
    """Each of them conflicts on the resourceVersion with all others, and on the document with nobody."""
    failures: list[Exception] = []

    def write(number: int) -> None:
        store = ConfigMapStore(admin, namespace, "oidc")
        try:
            tag = store.write(f"entry-{number}", b"1", tag=ABSENT, **HEADERS)
            store.write(f"entry-{number}", b"2", tag=tag, **HEADERS)
        except (UnavailableError, RefusedError) as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    store = ConfigMapStore(admin, namespace, "oidc")
    assert [getattr(store.read(f"entry-{number}"), "body", None) for number in range(20)] == [b"2"] * 20


def test_what_is_no_text_is_kept_and_moves_between_the_members(
    api_server: ApiServer, namespace: str, store: ConfigMapStore
) -> None:
    """Somebody may have put anything there: it is read as it is, and replaced."""
    make(api_server, namespace, binaryData={"jwks": base64.b64encode(b"\xff").decode()})
    found = store.read(JWKS)
    assert found is not None
    assert found.body == b"\xff"
    tag = store.write(JWKS, b"text", tag=found.tag, **HEADERS)
    assert "binaryData" not in standing(api_server, namespace)
    store.write(JWKS, b"\xfe\x00", tag=tag, **HEADERS)
    assert "data" not in standing(api_server, namespace)
    found = store.read(JWKS)
    assert found is not None
    assert found.body == b"\xfe\x00"


def test_an_entry_without_content_is_no_document(api_server: ApiServer, namespace: str, store: ConfigMapStore) -> None:
    make(api_server, namespace, data={"jwks": ""})
    assert store.read(JWKS) is None
    store.write(JWKS, b"1", tag=ABSENT, **HEADERS)
    with pytest.raises(ConfigurationError):
        store.write(DISCOVERY, b"", tag=ABSENT, **HEADERS)


def test_the_config_map_itself_is_never_removed(api_server: ApiServer, namespace: str, store: ConfigMapStore) -> None:
    store.delete(JWKS, tag=store.write(JWKS, b"1", tag=ABSENT, **HEADERS))
    assert "data" not in standing(api_server, namespace)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_an_immutable_config_map_is_refused_clearly(
    api_server: ApiServer, namespace: str, store: ConfigMapStore
) -> None:
    make(api_server, namespace, data={"jwks": "1"}, immutable=True)
    found = store.read(JWKS)
    assert found is not None
    for attempt in (
        lambda: store.write(JWKS, b"2", tag=found.tag, **HEADERS),
        lambda: store.delete(JWKS, tag=found.tag),
        lambda: store.write(DISCOVERY, b"2", tag=ABSENT, **HEADERS),
    ):
        with pytest.raises(RefusedError, match="is immutable") as caught:
            attempt()
        assert caught.value.code == "target-refused"
        assert "immutable: true" in caught.value.hint


def test_more_than_fits_is_refused(api_server: ApiServer, namespace: str, store: ConfigMapStore) -> None:
    make(api_server, namespace, data={"other": "x" * (MAX_DOCUMENT_BYTES - 100)})
    with pytest.raises(RefusedError, match="Too long") as caught:
        store.write(JWKS, b"x" * 200, tag=ABSENT, **HEADERS)
    assert caught.value.code == "target-refused"
    store.write(JWKS, b"x" * 50, tag=ABSENT, **HEADERS)


def test_a_namespace_that_is_not_there_is_said(admin: KubeClient) -> None:
    store = ConfigMapStore(admin, "no-such-namespace", "oidc")
    assert store.read(JWKS) is None
    with pytest.raises(RefusedError, match="404 NotFound") as caught:
        store.write(JWKS, b"1", tag=ABSENT, **HEADERS)
    assert caught.value.code == "target-refused"
    assert "create the namespace" in caught.value.hint


def test_get_and_update_by_name_are_all_the_rights_it_needs(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    make(api_server, namespace)
    api_server.create_service_account(namespace, "publisher")
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["oidc"], "verbs": ["get", "update"]}
    api_server.create(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": [rule]})
    api_server.create(
        f"{rbac}/rolebindings",
        {
            "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "publisher", "namespace": namespace}],
        },
    )
    token = api_server.request_token(namespace, "publisher", "https://kubernetes.default.svc")
    client = of_token(api_server, tmp_path, token)
    store = ConfigMapStore(client, namespace, "oidc")
    for _ in range(100):  # the API server takes a moment to know of the rule
        try:
            assert store.read(JWKS) is None
            break
        except RefusedError:
            threading.Event().wait(0.1)
    tag = store.write(JWKS, b"1", tag=ABSENT, **HEADERS)
    store.delete(JWKS, tag=store.write(JWKS, b"2", tag=tag, **HEADERS))
    with pytest.raises(RefusedError) as caught:
        ConfigMapStore(client, namespace, "other").read(JWKS)
    assert caught.value.code == "target-refused"
    assert "get on the resource configmaps of the API group '' named 'other'" in caught.value.hint
    (tmp_path / "token").write_text("wrong")
    with pytest.raises(RefusedError, match="401 Unauthorized") as caught:
        store.read(JWKS)
    assert caught.value.code == "target-refused"
    client.close()


def of_token(api_server: ApiServer, directory: Path, token: str) -> KubeClient:
    (directory / "token").write_text(token)
    (directory / "ca.crt").write_bytes((api_server.directory / "ca.crt").read_bytes())
    host, _, port = api_server.url.removeprefix("https://").rpartition(":")
    return KubeClient.in_cluster(
        environ={"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}, directory=directory
    )


@pytest.mark.parametrize("path", ["", "a/", "a/..", "a/.", "jwks?x", "jwks é", "a" * 254])
def test_what_is_no_name_of_an_entry_is_refused(store: ConfigMapStore, path: str) -> None:
    for attempt in (
        lambda: store.read(path),
        lambda: store.write(path, b"1", tag=ABSENT, **HEADERS),
        lambda: store.delete(path, tag="sha256:x"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        assert caught.value.code == "config-invalid"


# -- answers that do not come -----------------------------------------------------------------------------------------


class OneConfigMap:
    """A store of one ConfigMap that can fail before it writes, or lose its answer after."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {"metadata": {"name": "oidc", "resourceVersion": "1"}, "data": {"jwks": "1"}}
        self.failures: list[str] = []
        self.writes = 0

    def __call__(self, peer: Peer) -> None:
        while True:
            request = peer.read_request()
            if request.method == "GET":
                peer.send(http_answer(json.dumps(self.stored).encode()))
                continue
            failure = self.failures.pop(0) if self.failures else ""
            if failure.isdigit():
                peer.send(http_answer(b"", status=f"{failure} No"))
                continue
            self.writes += 1
            body = json.loads(request.body)
            assert body["metadata"]["resourceVersion"] == self.stored["metadata"]["resourceVersion"]
            body["metadata"]["resourceVersion"] += "1"
            self.stored = body
            if failure == "other":  # and somebody else writes right after
                self.stored["data"]["jwks"] = "theirs"
            if failure:
                return
            peer.send(http_answer(request.body))


def hostile_store(
    server: HostileServer, directory: Path, *, write_seconds: float = 45.0
) -> tuple[ConfigMapStore, KubeClient]:
    (directory / "token").write_text("t")
    (directory / "ca.crt").write_bytes(server.ca_file.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(server.port)}
    client = KubeClient.in_cluster(environ=environ, directory=directory)
    return ConfigMapStore(client, "a", "oidc", write_seconds=write_seconds), client


@pytest.mark.parametrize("failures", [["503"], ["429", "500", "504"], ["lost"], ["503", "lost"]])
def test_a_write_is_done_once_however_often_it_is_tried(tmp_path: Path, failures: list[str]) -> None:
    one = OneConfigMap()
    one.failures = list(failures)
    with HostileServer(one) as server:
        store, client = hostile_store(server, tmp_path)
        found = store.read(JWKS)
        assert found is not None
        tag = store.write(JWKS, b"2", tag=found.tag, **HEADERS)
        again = store.read(JWKS)
        assert again is not None
        assert (again.body, again.tag) == (b"2", tag)
        assert one.writes == 1
        client.close()


def test_a_write_that_was_lost_and_overwritten_is_a_conflict(tmp_path: Path) -> None:
    one = OneConfigMap()
    one.failures = ["other"]
    with HostileServer(one) as server:
        store, client = hostile_store(server, tmp_path)
        found = store.read(JWKS)
        assert found is not None
        with pytest.raises(WriteConflict):
            store.write(JWKS, b"2", tag=found.tag, **HEADERS)
        client.close()


def test_a_server_that_stays_down_is_given_up(tmp_path: Path) -> None:
    one = OneConfigMap()
    one.failures = ["503"] * 1000
    with HostileServer(one) as server:
        store, client = hostile_store(server, tmp_path, write_seconds=1.0)
        found = store.read(JWKS)
        assert found is not None
        start = time.monotonic()
        with pytest.raises(UnavailableError, match=r"configmap:a/oidc: .*503") as caught:
            store.write(JWKS, b"2", tag=found.tag, **HEADERS)
        assert (caught.value.code, caught.value.retryable, caught.value.status) == ("target-unavailable", True, 503)
        assert one.writes == 0
        assert time.monotonic() - start < 5
        client.close()


# -- by its URL -------------------------------------------------------------------------------------------------------


def test_the_url_names_it(admin: KubeClient) -> None:
    assert ConfigMapStore.from_url("configmap:a/b", client=admin).name == "configmap:a/b"
    assert ConfigMapStore.from_url("configmap://a/b", client=admin).name == "configmap:a/b"
    for url in ("configmap:a", "configmap:/b", "file:///a/b", "configmap:a/b/c", "configmap:A/b"):
        with pytest.raises(ConfigurationError):
            ConfigMapStore.from_url(url, client=admin)


def test_a_target_is_opened_with_the_client_of_the_cluster(admin: KubeClient) -> None:
    class Settings:
        url = "configmap:a/b"
        endpoint = region = ca_file = second_way_in = None
        single_writer = allow_http = False

    assert open_store(Settings(), kube=admin).name == "configmap:a/b"
    with pytest.raises(ConfigurationError, match="no cluster is named"):
        open_store(Settings())
