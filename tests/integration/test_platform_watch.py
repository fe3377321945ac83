"""The platform's ConfigMap on the real API server: taken up as it changes, the last good kept, gone when removed."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wif.admission.accounts import ServiceAccount
from wif.config.webhook import WebhookSettings
from wif.edges.kube import KubeClient
from wif.edges.watching import LIMITS
from wif.emulator.apiserver import ApiServer
from wif.errors import ConfigurationError
from wif.serve.platform_watch import PlatformWatch

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

SETTINGS = WebhookSettings()
QUICK = LIMITS._replace(pause_seconds=0.05, max_pause_seconds=0.2)
CLIENT_ID = "wif.internal/azure.client-id"
BAD = ("serviceAccounts: 5", "defaults: {no_such_setting: 1}", "{", "serviceAccounts: [{namespace: a}]")


def content(client_id: str) -> str:
    return (
        "defaults: {azure_tenant_id: 11111111-2222-3333-4444-555555555555}\n"
        "serviceAccounts:\n"
        "- namespace: team-*\n"
        '  serviceAccount: "*"\n'
        "  enforce: true\n"
        f"  annotations: {{{CLIENT_ID}: {client_id}}}\n"
    )


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    name = f"platform-{uuid.uuid4().hex[:8]}"
    api_server.create_namespace(name)
    return name


def write(api_server: ApiServer, namespace: str, text: str, *, is_new: bool = False, name: str = "platform") -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body: Mapping[str, Any] = {"metadata": {"name": name}, "data": {"config.yaml": text}}
    if is_new:
        api_server.create(path, body)
    else:
        assert api_server.request("PUT", f"{path}/{name}", body)[0] == 200


def until(true: Callable[[], object], *, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it has not come to be"
        time.sleep(0.005)


@contextmanager
def watching(kube: KubeClient, namespace: str) -> Iterator[PlatformWatch]:
    watch, stopping = PlatformWatch(kube, namespace, "platform", SETTINGS, limits=QUICK), threading.Event()
    thread = threading.Thread(target=watch.run, args=(stopping,), daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stopping.set()
        began = time.monotonic()
        thread.join(10)
        kube.close()
    assert time.monotonic() - began < 1.0


def client_id(watch: PlatformWatch) -> str | None:
    """What the platform says of one account."""
    if watch.platform is None:
        return None
    account, settings = watch.platform.effective(ServiceAccount("team-a", "app", "uid"), SETTINGS)
    assert settings.azure_tenant_id == "11111111-2222-3333-4444-555555555555"
    return account.annotations.get(CLIENT_ID)


ONE, TWO, THREE = (f"{number}0000000-0000-4000-8000-000000000000" for number in (1, 2, 3))


def test_it_is_taken_up_changed_refused_removed_and_made_again(
    api_server: ApiServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(api_server, namespace, content(ONE), is_new=True)
    write(api_server, namespace, content(THREE), is_new=True, name="another")
    with watching(KubeClient.from_kubeconfig(api_server.kubeconfig), namespace) as watch:
        until(lambda: watch.synced)
        assert (client_id(watch), watch.problem, watch.unready()) == (ONE, "", [])
        write(api_server, namespace, content(TWO))
        until(lambda: client_id(watch) == TWO)
        write(api_server, namespace, content(ONE), name="another")
        for number, bad in enumerate(BAD):
            write(api_server, namespace, bad)
            until(lambda number=number: watch.refused == number + 1)  # type: ignore[misc]
            assert client_id(watch) == TWO
            assert watch.problem.startswith(f"the ConfigMap {namespace}/platform is refused: ")
            assert watch.unready() == []
        assert "what it said before stays in force" in caplog.text
        write(api_server, namespace, content(THREE))
        until(lambda: client_id(watch) == THREE)
        assert watch.problem == ""
        path = f"/api/v1/namespaces/{namespace}/configmaps/platform"
        assert api_server.request("DELETE", path)[0] == 200
        until(lambda: watch.platform is None)
        assert watch.problem == f"the ConfigMap {namespace}/platform is not there"
        assert "has been removed" in caplog.text
        write(api_server, namespace, content(ONE), is_new=True)
        until(lambda: client_id(watch) == ONE)
        assert (watch.problem, watch.unready()) == ("", [])


def test_one_that_was_never_right_keeps_it_from_being_ready(api_server: ApiServer, namespace: str) -> None:
    """What the platform enforces would not be in force."""
    write(api_server, namespace, BAD[0], is_new=True)
    with watching(KubeClient.from_kubeconfig(api_server.kubeconfig), namespace) as watch:
        assert watch.unready()
        until(lambda: watch.synced)
        assert watch.unready() == [watch.problem]
        assert "is refused" in watch.problem
        write(api_server, namespace, content(ONE))
        until(lambda: client_id(watch) == ONE)
        assert watch.unready() == []


def test_one_that_is_not_there_is_said_and_hinders_nothing(api_server: ApiServer, namespace: str) -> None:
    with watching(KubeClient.from_kubeconfig(api_server.kubeconfig), namespace) as watch:
        until(lambda: watch.synced)
        assert (watch.platform, watch.unready()) == (None, [])
        assert watch.problem == f"the ConfigMap {namespace}/platform is not there"


def test_a_right_to_that_one_name_is_enough(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    api_server.create_service_account(namespace, "wif")
    (tmp_path / "token").write_text(api_server.request_token(namespace, "wif", "https://kubernetes.default.svc"))
    (tmp_path / "ca.crt").write_bytes((api_server.shared_directory / "ca.crt").read_bytes())
    host, _, port = api_server.url.removeprefix("https://").rpartition(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    with watching(KubeClient.in_cluster(environ=environ, directory=tmp_path), namespace) as watch:
        until(lambda: watch.problem)
        assert "403 Forbidden" in watch.unready()[0]
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        right = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["platform"]}
        rule = {**right, "verbs": ["list", "watch"]}
        api_server.create(f"{rbac}/roles", {"metadata": {"name": "platform"}, "rules": [rule]})
        api_server.create(
            f"{rbac}/rolebindings",
            {
                "metadata": {"name": "platform"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "platform"},
                "subjects": [{"kind": "ServiceAccount", "name": "wif", "namespace": namespace}],
            },
        )
        until(lambda: watch.synced)
        write(api_server, namespace, content(ONE), is_new=True)
        until(lambda: client_id(watch) == ONE)


@pytest.mark.parametrize(("namespace", "name"), [("a/b", "c"), ("a", "b?c"), ("", "c"), ("a", "")])
def test_a_name_that_is_none_is_refused_at_once(api_server: ApiServer, namespace: str, name: str) -> None:
    with pytest.raises(ConfigurationError):
        PlatformWatch(KubeClient.from_kubeconfig(api_server.kubeconfig), namespace, name, SETTINGS)
