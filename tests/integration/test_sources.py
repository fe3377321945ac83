"""TokenRequest against a real kube-apiserver, by kubeconfig and as a pod would; and against servers that misbehave."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hostile import HostileServer, Peer, answering, http_answer, raw, silent
from wif.core.token import read_token
from wif.edges.kube import KubeClient
from wif.edges.sources import TokenRequestSource
from wif.edges.token_request import BoundObject, TokenRequest
from wif.emulator.apiserver import ApiServer
from wif.errors import ConfigurationError, TokenError, UnavailableError

pytestmark = pytest.mark.integration

AUDIENCE = "sts.amazonaws.com"


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    name = f"sources-{uuid.uuid4().hex[:8]}"
    api_server.create_namespace(name)
    api_server.create_service_account(name, "app")
    return name


@pytest.fixture
def admin(api_server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient.from_kubeconfig(api_server.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def restricted(api_server: ApiServer, namespace: str, tmp_path: Path) -> str:
    """A kubeconfig of a ServiceAccount without any right: its token in place of the administrator's certificate."""
    api_server.create_service_account(namespace, "nobody")
    token = api_server.request_token(namespace, "nobody", "https://kubernetes.default.svc")
    path = tmp_path / "nobody"
    path.write_text(json.dumps(kubeconfig(api_server, {"token": token})))
    return str(path)


def kubeconfig(api_server: ApiServer, user: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": api_server.url,
                    "certificate-authority": str(api_server.directory / "ca.crt"),
                    **cluster,
                },
            }
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    parsed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return parsed


# -- tokens -------------------------------------------------------------------------------------------------------


def test_a_token_is_issued_with_audience_and_lifetime(api_server: ApiServer, namespace: str) -> None:
    source = TokenRequestSource(
        namespace=namespace,
        service_account="app",
        audience=AUDIENCE,
        expiration_seconds=1200,
        kubeconfig=api_server.kubeconfig,
    )
    token = read_token(source.read(), origin=source.origin, now=time.time(), audience=AUDIENCE)
    assert token.subject == f"system:serviceaccount:{namespace}:app"
    assert token.issuer == api_server.issuer
    assert 1150 < token.expires_at - time.time() <= 1200
    assert source.read() != token.raw


def test_several_audiences_are_all_in_the_token(admin: KubeClient, namespace: str) -> None:
    request = TokenRequest(namespace=namespace, service_account="app", audiences=(AUDIENCE, "api://other"))
    issued = admin.request_token(request)
    assert claims(issued.token)["aud"] == [AUDIENCE, "api://other"]
    assert 3500 < issued.expires_at.timestamp() - time.time() <= 3600


def test_without_an_audience_the_server_takes_its_own(admin: KubeClient, namespace: str) -> None:
    issued = admin.request_token(TokenRequest(namespace=namespace, service_account="app"))
    assert claims(issued.token)["aud"] == ["https://kubernetes.default.svc"]


def test_a_token_is_bound_to_a_pod(api_server: ApiServer, namespace: str) -> None:
    uid = api_server.create_pod(namespace, "app-0", "app")
    for bound in (BoundObject(kind="Pod", name="app-0"), BoundObject(kind="Pod", name="app-0", uid=uid)):
        source = TokenRequestSource(
            namespace=namespace,
            service_account="app",
            audience=AUDIENCE,
            bound_object=bound,
            kubeconfig=api_server.kubeconfig,
        )
        assert claims(source.read())["kubernetes.io"]["pod"] == {"name": "app-0", "uid": uid}


def test_a_token_is_bound_to_a_secret(api_server: ApiServer, admin: KubeClient, namespace: str) -> None:
    api_server.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "s"}})
    bound = BoundObject(kind="Secret", name="s")
    issued = admin.request_token(TokenRequest(namespace=namespace, service_account="app", bound_object=bound))
    assert claims(issued.token)["kubernetes.io"]["secret"]["name"] == "s"


def test_a_bound_object_of_another_uid_is_refused(api_server: ApiServer, admin: KubeClient, namespace: str) -> None:
    api_server.create_pod(namespace, "app-0", "app")
    bound = BoundObject(kind="Pod", name="app-0", uid=str(uuid.uuid4()))
    with pytest.raises(TokenError, match="409 Conflict") as caught:
        admin.request_token(TokenRequest(namespace=namespace, service_account="app", bound_object=bound))
    assert caught.value.code == "token-request-refused"
    assert "UID" in caught.value.message


# -- refusals -------------------------------------------------------------------------------------------------------


def test_a_missing_right_is_said_with_the_rule_that_is_missing(
    api_server: ApiServer, namespace: str, restricted: str
) -> None:
    source = TokenRequestSource(namespace=namespace, service_account="app", audience=AUDIENCE, kubeconfig=restricted)
    with pytest.raises(TokenError) as caught:
        source.read()
    error = caught.value
    assert error.code == "token-request-refused"
    assert (error.status, error.cloud_code, error.retryable) == (403, "Forbidden", False)
    assert f"system:serviceaccount:{namespace}:nobody" in error.message
    assert "create on the resource serviceaccounts/token" in error.hint
    assert repr(namespace) in error.hint
    # and with exactly this rule it works
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"], "resourceNames": ["app"]}
    api_server.create(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": [rule]})
    api_server.create(
        f"{rbac}/rolebindings",
        {
            "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": namespace}],
        },
    )
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            assert claims(source.read())["sub"].endswith(":app")
            return
        except TokenError:
            time.sleep(0.1)
    pytest.fail("the rule that the hint names is not enough")


def test_a_service_account_that_is_not_there_is_said(admin: KubeClient, namespace: str) -> None:
    with pytest.raises(TokenError, match="404 NotFound") as caught:
        admin.request_token(TokenRequest(namespace=namespace, service_account="absent"))
    assert caught.value.code == "token-request-refused"
    assert "absent" in caught.value.message


def test_a_caller_whom_the_server_does_not_know_is_said(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(json.dumps(kubeconfig(api_server, {"token": "wrong"})))
    with pytest.raises(TokenError, match="401 Unauthorized") as caught:
        TokenRequestSource(namespace=namespace, service_account="app", kubeconfig=path).read()
    assert "does not know this caller" in caught.value.hint


# -- a pod's own way -----------------------------------------------------------------------------------------------


def mounted(api_server: ApiServer, namespace: str, directory: Path, token: str) -> dict[str, str]:
    """What the kubelet mounts, and the variables it sets."""
    (directory / "token").write_text(token + "\n")
    (directory / "ca.crt").write_bytes((api_server.directory / "ca.crt").read_bytes())
    (directory / "namespace").write_text(namespace)
    host, _, port = api_server.url.removeprefix("https://").rpartition(":")
    return {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}


def test_a_pod_asks_as_its_service_account_and_reads_its_token_anew(
    api_server: ApiServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # a pod's proxy is for the internet
    own = api_server.request_token(namespace, "app", "https://kubernetes.default.svc")
    client = KubeClient.in_cluster(environ=mounted(api_server, namespace, tmp_path, own), directory=tmp_path)
    with pytest.raises(TokenError, match="403 Forbidden"):
        client.request_token(TokenRequest(namespace=namespace, service_account="app"))
    (tmp_path / "token").write_text("wrong")
    with pytest.raises(TokenError, match="401 Unauthorized"):
        client.request_token(TokenRequest(namespace=namespace, service_account="app"))
    client.close()


def test_a_pods_way_needs_no_package_of_kubernetes(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    own = api_server.request_token(namespace, "app", "https://kubernetes.default.svc")
    environ = mounted(api_server, namespace, tmp_path, own)
    script = f"""
import os, sys
sys.modules["kubernetes"] = None
from wif.edges.kube import KubeClient
client = KubeClient.in_cluster(environ={environ!r}, directory={str(tmp_path)!r})
print(client.get("/version")["major"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"


def test_outside_a_cluster_the_missing_variables_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST") as caught:
        KubeClient.in_cluster(environ={}, directory=tmp_path)
    assert caught.value.code == "config-missing"
    with pytest.raises(ConfigurationError, match="is not mounted"):
        KubeClient.in_cluster(
            environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}, directory=tmp_path
        )


def test_an_ipv6_cluster_has_brackets_in_its_address(api_server: ApiServer, tmp_path: Path) -> None:
    mounted(api_server, "a", tmp_path, "t")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert KubeClient.in_cluster(environ=environ, directory=tmp_path).server == "https://[fd00::1]:6443"


# -- kubeconfigs ----------------------------------------------------------------------------------------------------


def test_the_discovery_documents_are_read(api_server: ApiServer, admin: KubeClient) -> None:
    assert admin.get("/.well-known/openid-configuration")["issuer"] == api_server.issuer
    assert admin.get_raw("/openid/v1/jwks") == api_server.documents()["/openid/v1/jwks"]
    with pytest.raises(UnavailableError, match="404") as caught:
        admin.get_raw("/no/such/path")
    assert caught.value.code == "cluster-unavailable"


def test_a_kubeconfig_is_found_by_its_variable(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    script = f"""
from wif.edges.sources import TokenRequestSource
print(TokenRequestSource(namespace={namespace!r}, service_account="app").read().count("."))
"""
    done = subprocess.run(  # the package reads KUBECONFIG at its import
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    assert done.stdout.strip() == "2", done.stderr


def test_an_exec_plugin_is_run(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    token = api_server.request_token(namespace, "app", "https://kubernetes.default.svc")
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    plugin.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(kubeconfig(api_server, user)))
    with pytest.raises(TokenError, match=f"system:serviceaccount:{namespace}:app"):
        TokenRequestSource(namespace=namespace, service_account="app", kubeconfig=path).read()


@pytest.mark.parametrize(
    ("content", "context", "code"),
    [
        (None, None, "config-missing"),
        ("", None, "config-invalid"),
        ("[]", None, "config-invalid"),
        ("{", None, "config-invalid"),
        ("clusters: 1", None, "config-invalid"),
        ("\x00", None, "config-invalid"),
        ("whole", "no-such-context", "config-invalid"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_one_error(
    api_server: ApiServer, tmp_path: Path, content: str | None, context: str | None, code: str
) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(json.dumps(kubeconfig(api_server, {})) if content == "whole" else content)
    with pytest.raises(ConfigurationError) as caught:
        KubeClient.from_kubeconfig(path, context)
    assert caught.value.code == code
    assert str(path) in caught.value.message


def test_without_the_package_the_extra_is_named(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["kubernetes"] = None
from wif.edges.kube import KubeClient
from wif.errors import ConfigurationError
try:
    KubeClient.from_kubeconfig("x")
except ConfigurationError as error:
    print(error.code, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("extra-missing pip install 'wif[kubernetes]'"), done.stderr


# -- API servers that misbehave ----------------------------------------------------------------------------------------

REQUEST = TokenRequest(namespace="a", service_account="b")
TOKEN_ANSWER = http_answer(
    json.dumps({"status": {"token": "a.b.c", "expirationTimestamp": "2099-01-01T00:00:00Z"}}).encode(),
    status="201 Created",
)


def pod_of(server: HostileServer, directory: Path) -> KubeClient:
    (directory / "token").write_text("own-token")
    (directory / "ca.crt").write_bytes(server.ca_file.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(server.port)}
    return KubeClient.in_cluster(environ=environ, directory=directory)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        http_answer(b"<html>proxy</html>"),
        http_answer(b"{}"),
        http_answer(b"", status="302 Found", headers={"Location": "https://evil.example/"}),
        http_answer(b"x", status="200 OK", headers={"Content-Encoding": "gzip"}),
    ],
    ids=["garbage", "html", "no token", "redirect", "compressed"],
)
def test_an_answer_that_is_none_is_one_error(answer: bytes, tmp_path: Path) -> None:
    with HostileServer(answering(answer), farewell=True) as server:
        client = pod_of(server, tmp_path)
        with pytest.raises(UnavailableError) as caught:
            client.request_token(REQUEST)
        client.close()
    assert caught.value.code == "cluster-unavailable"
    assert "own-token" not in str(caught.value)
    assert len(server.received) == 1


def test_a_server_that_is_busy_is_asked_once_more(tmp_path: Path) -> None:
    def busy_then_fine(peer: Peer) -> None:
        for answer in (http_answer(b"", status="503 Busy", headers={"Retry-After": "0"}), TOKEN_ANSWER):
            peer.read_request()
            peer.send(answer)

    with HostileServer(busy_then_fine) as server:
        client = pod_of(server, tmp_path)
        assert client.request_token(REQUEST).token == "a.b.c"
        client.close()
    assert [request.headers["authorization"] for request in server.received] == ["Bearer own-token"] * 2


def test_a_server_that_stays_busy_is_asked_twice_and_no_more(tmp_path: Path) -> None:
    status = json.dumps({"kind": "Status", "reason": "TooManyRequests", "message": "later\r\nplease"}).encode()
    with HostileServer(answering(http_answer(status, status="429 Slow down"))) as server:
        client = pod_of(server, tmp_path)
        with pytest.raises(UnavailableError, match="429 TooManyRequests: later  please") as caught:
            client.request_token(REQUEST)
        client.close()
    assert caught.value.retryable
    assert len(server.received) == 2


def test_a_connection_that_is_cut_is_tried_once_more(tmp_path: Path) -> None:
    with HostileServer(raw(b"")) as server:
        client = pod_of(server, tmp_path)
        with pytest.raises(UnavailableError, match="ended the connection") as caught:
            client.request_token(REQUEST)
    assert caught.value.retryable
    assert len(server.received) == 2


def test_a_wrong_authority_is_not_tried_again(tmp_path: Path) -> None:
    with HostileServer(silent) as server, HostileServer(silent) as other:
        client = pod_of(server, tmp_path)
        (tmp_path / "ca.crt").write_bytes(other.ca_file.read_bytes())
        with pytest.raises(UnavailableError, match="not trusted") as caught:
            client.request_token(REQUEST)
    assert not caught.value.retryable
    assert server.connections == 1
