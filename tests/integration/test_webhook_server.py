"""The webhook over real TLS and on the real API server: bad input, slow clients, tenants, Events, pods left out."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.documents_server import Authority, Wire, running
from tests.integration.server_processes import until
from tests.integration.webhooks import MUTATING, Client, WebhookProcess, configuration, listening
from tests.reviews import EKS, patch_of, pod, review
from wif.admission.accounts import ServiceAccount
from wif.config.webhook import WebhookSettings
from wif.edges.kube import KubeClient
from wif.emulator.apiserver import ApiServer
from wif.serve.httpd import HttpServer, Limits
from wif.serve.unmutated import UnmutatedPods
from wif.serve.webhook import MAX_BODY_BYTES, WebhookApp
from wif.serve.webhook_events import Notice

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

APP = ServiceAccount("shop", "app", "11111111-2222-3333-4444-555555555555", EKS)
MAX_IDLE_MIB = 48
BROKEN = {"cloud.google.com/workload-identity-provider": "nonsense"}


class One:
    """A cluster with one ServiceAccount."""

    def __init__(self, namespace: str = "shop") -> None:
        self._namespace = namespace

    def get(self, namespace: str, name: str) -> ServiceAccount | None:
        return APP if (namespace, name) == (self._namespace, "app") else None

    async def find(
        self, namespace: str, name: str, *, wait_seconds: float, remember: bool = True
    ) -> ServiceAccount | None:
        return self.get(namespace, name) if remember and wait_seconds else None

    def is_current(self, namespace: str) -> bool:
        return bool(namespace)

    def is_watched(self, namespace: str) -> bool:
        return bool(namespace)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def hook(authority: Authority) -> Iterator[HttpServer]:
    limits = Limits(body_bytes=MAX_BODY_BYTES, head_seconds=1.0, body_seconds=1.0, handshake_seconds=1.0)
    with running(WebhookApp(WebhookSettings(), One()), authority=authority, limits=limits) as server:
        yield server


def is_answered(hook: HttpServer, authority: Authority) -> bool:
    with Client(hook.port, authority.ca_file.read_text()) as client:
        status, answer = client.post(review(pod()))
    return status == 200 and bool(patch_of(answer))


# -- bad input over TLS ----------------------------------------------------------------------------------------------


def head(size: int, *more: str) -> tuple[str, ...]:
    return (
        *("POST /mutate?timeout=5s HTTP/1.1", "Host: localhost", "Content-Type: application/json"),
        f"Content-Length: {size}",
        *more,
    )


BAD = {
    "no json": b"{" * 50,
    "deep": b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":' + b'{"a":' * 200_000,
    "deep in the pod": review(5).replace(b'"object": 5', b'"object": ' + b"[" * 50_000 + b"]" * 50_000),
    "another version": review(pod(), version="admission.k8s.io/v3"),
    "zeros": bytes(5000),
    "a list": json.dumps([json.loads(review(pod()))] * 10).encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_answer_and_the_connection_goes_on(name: str, hook: HttpServer, authority: Authority) -> None:
    with Client(hook.port, authority.ca_file.read_text()) as client:
        status, answer = client.post(BAD[name])
        assert status in (200, 400)
        read = json.loads(answer)
        assert (read["kind"], read["response"]["allowed"]) == ("AdmissionReview", False)
        assert len(answer) < 2000
        status, answer = client.post(review(pod()))
        assert status == 200
        assert patch_of(answer)


def test_a_large_pod_is_answered(hook: HttpServer, authority: Authority) -> None:
    made = pod(annotations={f"a{number}": "x" * 1000 for number in range(2500)})
    with Client(hook.port, authority.ca_file.read_text()) as client:
        status, answer = client.post(review(made))
    assert status == 200
    assert patch_of(answer)


def test_a_huge_body_is_refused(hook: HttpServer, authority: Authority) -> None:
    with Wire(hook.port, authority) as wire:
        wire.send(*head(MAX_BODY_BYTES + 1))
        block = b" " * 65_536
        with contextlib.suppress(OSError):  # it may be cut off while it goes on sending
            for _ in range(MAX_BODY_BYTES // len(block) + 2):
                wire.socket.sendall(block)
        assert wire.reply().status == 413
    assert is_answered(hook, authority)


def test_a_body_without_end_is_refused(hook: HttpServer, authority: Authority) -> None:
    with Wire(hook.port, authority) as wire:
        lines = [line for line in head(0) if not line.startswith("Content-Length")]
        wire.send(*lines, "Transfer-Encoding: chunked")
        block = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        with contextlib.suppress(OSError):  # it may be cut off while it goes on sending
            for _ in range(MAX_BODY_BYTES // 65_536 + 2):
                wire.socket.sendall(block)
        assert wire.reply().status == 413


def test_slow_clients_are_ended_and_hold_nobody_up(hook: HttpServer, authority: Authority) -> None:
    body = review(pod())
    slow = [Wire(hook.port, authority) for _ in range(40)]
    for position, wire in enumerate(slow):
        wire.send(*head(len(body)), body=body[: 10 * position])
    for _ in range(20):
        assert is_answered(hook, authority)
    for wire in slow:
        assert wire.reply().status == 408
        assert wire.ended()
        wire.close()


def test_a_client_that_drips_its_head_is_ended(hook: HttpServer, authority: Authority) -> None:
    with Wire(hook.port, authority) as wire:
        with contextlib.suppress(OSError):  # it may be ended by then
            for letter in "POST /mutate HTTP/1.1\r\nHost: localhost\r\nX-Slow: 1234567":
                wire.socket.sendall(letter.encode())
                time.sleep(0.05)
        assert wire.reply().status == 408


def test_a_client_without_tls_is_ended(hook: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", hook.port), timeout=10) as plain:
        plain.sendall(b"POST /mutate HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in plain.recv(4096)


def test_many_at_once_are_each_answered(hook: HttpServer, authority: Authority) -> None:
    answers: list[bool] = []

    def ask() -> None:
        with Client(hook.port, authority.ca_file.read_text()) as client:
            for number in range(50):
                status, answer = client.post(review(pod(), uid=f"u-{number}"))
                answers.append(status == 200 and json.loads(answer)["response"]["uid"] == f"u-{number}")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 400


# -- the command on the real API server -------------------------------------------------------------------------------


class Cluster:
    """Namespaces of this test's own, and the webhook for them."""

    def __init__(self, server: ApiServer, authority: Authority) -> None:
        self.server = server
        self.authority = authority
        mark = uuid.uuid4().hex[:8]
        self.shop, self.other, self.system = f"shop-{mark}", f"other-{mark}", f"system-{mark}"
        self.registration = f"hook-{mark}"
        for namespace in (self.shop, self.other, self.system):
            server.create_namespace(namespace)

    def register(self, url: str, *, policy: str = "Ignore") -> None:
        made = configuration(
            self.registration,
            url,
            policy=policy,
            namespaces=[self.shop, self.other],
            bundle=self.authority.ca_file.read_bytes(),
        )
        self.server.create(MUTATING, made)

    def unregister(self) -> None:
        self.server.request("DELETE", f"{MUTATING}/{self.registration}")

    def arguments(self) -> list[str]:
        files = ("--tls-cert", str(self.authority.chain), "--tls-key", str(self.authority.key))
        return ["--kubeconfig", str(self.server.kubeconfig), *files]

    def pods(self, namespace: str) -> str:
        return f"/api/v1/namespaces/{namespace}/pods"

    def events(self, namespace: str) -> list[dict[str, Any]]:
        status, body = self.server.request("GET", f"/api/v1/namespaces/{namespace}/events")
        assert status == 200
        found: list[dict[str, Any]] = json.loads(body)["items"]
        return found


@pytest.fixture
def cluster(api_server: ApiServer, authority: Authority) -> Iterator[Cluster]:
    made = Cluster(api_server, authority)
    yield made
    made.unregister()


def test_pods_are_injected_into_and_what_is_wrong_becomes_an_event(cluster: Cluster) -> None:
    server = cluster.server
    server.create_service_account(cluster.shop, "app", annotations=EKS)
    server.create_service_account(cluster.shop, "broken", annotations=BROKEN)
    with WebhookProcess(*cluster.arguments(), "--find-unmutated", "0") as hook:
        hook.until_ready()
        cluster.register(hook.url, policy="Fail")
        made = server.create(cluster.pods(cluster.shop), pod())
        assert made["spec"]["volumes"][0]["name"] == "aws-iam-token"
        status, body = server.request("POST", f"{cluster.pods(cluster.shop)}?dryRun=All", pod("dry", "broken"))
        assert status == 400, body
        time.sleep(1.0)
        assert cluster.events(cluster.shop) == [], "a dry run writes none"
        for number in range(3):
            status, body = server.request("POST", cluster.pods(cluster.shop), pod(f"p-{number}", "broken"))
            assert status == 400
            assert "workload-identity-provider" in body.decode()
        until(lambda: cluster.events(cluster.shop) != [], what="an Event")
        until(lambda: (hook.metric("wif_webhook_events_total") or 0) >= 3, what="three of a kind")
        about = [each["involvedObject"] for each in cluster.events(cluster.shop)]
        kinds = {(each["kind"], each["name"]) for each in about}
        assert kinds == {("ServiceAccount", "broken")}
        said = [each["message"] for each in cluster.events(cluster.shop)]
        assert len(said) == len(set(said)), "one Event for what happens again"
        _, text = hook.health("/metrics")
        assert 'wif_webhook_reviews_total{dialect="eks",outcome="injected",webhook="mutate"} 1.0' in text
        assert re.search(r'wif_webhook_reviews_total\{dialect="",outcome="dry-run",webhook="mutate"\} 1.0', text)
        assert hook.metric("wif_webhook_review_seconds_count") == 5
        assert cluster.shop not in text
        assert "broken" not in text
    audited = [entry for entry in hook.log if entry["logger"] == "wif.audit"]
    assert [entry["outcome"] for entry in audited] == ["injected", *["denied"] * 4]


def test_a_pod_right_after_its_service_account_is_injected_into(cluster: Cluster) -> None:
    with WebhookProcess(*cluster.arguments(), "--find-unmutated", "0") as hook:
        hook.until_ready()
        cluster.register(hook.url, policy="Fail")
        for number in range(10):
            cluster.server.create_service_account(cluster.shop, f"app-{number}", annotations=EKS)
            made = cluster.server.create(cluster.pods(cluster.shop), pod(f"p-{number}", f"app-{number}"))
            assert made["spec"]["volumes"][0]["name"] == "aws-iam-token"


def test_pods_that_were_left_out_are_found_and_told_once(cluster: Cluster) -> None:
    server = cluster.server
    server.create_service_account(cluster.shop, "app", annotations=EKS)
    server.create_service_account(cluster.shop, "plain")
    for name, account in (("left-1", "app"), ("left-2", "app"), ("fine", "plain")):
        server.create(cluster.pods(cluster.shop), pod(name, account))
    lease = ("--lease", f"{cluster.system}/look", "--watch-namespace", cluster.shop, "--find-unmutated", "1s")
    with WebhookProcess(*cluster.arguments(), *lease) as one, WebhookProcess(*cluster.arguments(), *lease) as other:
        one.until_ready()
        other.until_ready()
        cluster.register(one.url)

        def leading() -> list[WebhookProcess]:
            return [each for each in (one, other) if each.metric("wif_webhook_unmutated_leader")]

        until(lambda: [each.metric("wif_webhook_unmutated_pods") for each in leading()] == [2.0], what="two found")
        made = server.create(cluster.pods(cluster.shop), pod("made-now"))
        assert made["spec"]["volumes"][0]["name"] == "aws-iam-token"
        until(lambda: len(cluster.events(cluster.shop)) == 2, what="two Events")
        server.request("DELETE", f"{cluster.pods(cluster.shop)}/left-1?gracePeriodSeconds=0")
        until(lambda: [each.metric("wif_webhook_unmutated_pods") for each in leading()] == [1.0], what="one is gone")
        found = {each["involvedObject"]["name"]: each for each in cluster.events(cluster.shop)}
        assert set(found) == {"left-1", "left-2"}
        assert {each["reason"] for each in found.values()} == {"NotInjected"}
        [leader] = leading()
        leader.end()
        successor = other if leader is one else one
        until(lambda: successor.metric("wif_webhook_unmutated_pods") == 1.0, what="the other looks")


def test_each_pod_is_told_once_and_all_pages_are_read(cluster: Cluster) -> None:
    server = cluster.server
    server.create_service_account(cluster.shop, "app", annotations=EKS)
    for number in range(7):
        server.create(cluster.pods(cluster.shop), pod(f"p-{number}"))
    told: list[Notice] = []
    kube = KubeClient.from_kubeconfig(server.kubeconfig)
    look = UnmutatedPods(kube, One(), WebhookSettings(), namespaces=[cluster.shop], tell=told.append, page=2)
    assert look.look() == 0, "no ServiceAccount of theirs is known"
    look = UnmutatedPods(
        kube, One(cluster.shop), WebhookSettings(), namespaces=[cluster.shop], tell=told.append, page=2
    )
    assert look.look() == look.look() == 7
    assert sorted(each.about.name for each in told) == [f"p-{number}" for number in range(7)]
    assert {each.about.namespace for each in told} == {cluster.shop}
    server.request("DELETE", f"{cluster.pods(cluster.shop)}/p-3?gracePeriodSeconds=0")
    server.create(cluster.pods(cluster.shop), pod("p-3"))
    assert look.look() == 7
    assert len(told) == 8, "a pod that was made anew is another one"
    look = UnmutatedPods(
        kube, One(cluster.shop), WebhookSettings(), namespaces=[cluster.shop], excluded=["kube-system", cluster.shop]
    )
    assert look.look() == 0, "the registration leaves them out"
    kube.close()


# -- in a cluster, with the rights of its own and nothing else ---------------------------------------------------------

RULES: Mapping[str, list[dict[str, Any]]] = {
    "tenant": [
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ],
    "own": [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["tls"], "verbs": ["get", "update"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["look"],
            "verbs": ["get", "update"],
        },
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]},
    ],
}


def grant(cluster: Cluster, namespace: str, name: str) -> None:
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    cluster.server.create(f"{rbac}/roles", {"metadata": {"name": name}, "rules": RULES[name]})
    bind(cluster, f"{rbac}/rolebindings", name, "Role")


def bind(cluster: Cluster, path: str, name: str, kind: str) -> None:
    subject = {"kind": "ServiceAccount", "name": "webhook", "namespace": cluster.system}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    cluster.server.create(path, {"metadata": {"name": name}, "subjects": [subject], "roleRef": role})


IN_CLUSTER = """
import json, os, sys, threading, time, urllib.request
from wif.cli import webhook_serve
from wif.edges.kube import KubeClient
from wif.serve.webhook_service import WebhookService
from wif.cli.webhook_options import webhook_settings
context = webhook_serve.serve_command.make_context("serve", sys.argv[1:])
webhook_serve.set_up_log("json")
options = dict(context.params)
kube = KubeClient.in_cluster(directory=os.environ["DIRECTORY"])
service = WebhookService(kube, webhook_settings(context), webhook_serve._service_options(options))
def report():
    sys.stdin.readline()
    status = open("/proc/self/status").read()
    names = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps({"modules": names, "rss_kib": int(status.split("VmRSS:")[1].split()[0])}), flush=True)
threading.Thread(target=report, daemon=True).start()
webhook_serve._serve(context, service, kube, 2, options)
"""


def test_a_tenants_install_needs_no_more_than_its_roles_and_knows_of_nobody_else(
    cluster: Cluster, tmp_path: Path
) -> None:
    server = cluster.server
    server.create_service_account(cluster.system, "webhook")
    server.create_service_account(cluster.shop, "app", annotations=EKS)
    server.create_service_account(cluster.other, "stranger", annotations=BROKEN)
    server.create(cluster.pods(cluster.other), pod("unseen", "stranger"))
    secrets = f"/api/v1/namespaces/{cluster.system}/secrets"
    server.create(secrets, {"metadata": {"name": "tls"}})
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{cluster.system}/leases"
    server.create(leases, {"metadata": {"name": "look"}})
    grant(cluster, cluster.shop, "tenant")
    grant(cluster, cluster.system, "own")
    rule = {
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["mutatingwebhookconfigurations"],
        "resourceNames": [cluster.registration],
        "verbs": ["get", "patch"],
    }
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    server.create(f"{rbac}/clusterroles", {"metadata": {"name": cluster.registration}, "rules": [rule]})
    bind(cluster, f"{rbac}/clusterrolebindings", cluster.registration, "ClusterRole")
    token = server.request_token(cluster.system, "webhook", "https://kubernetes.default.svc")
    (tmp_path / "token").write_text(token)
    (tmp_path / "ca.crt").write_bytes((server.shared_directory / "ca.crt").read_bytes())
    host, port = server.url.removeprefix("https://").split(":")
    with listening() as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        cluster.register(url, policy="Fail")
        words = [
            *("--fd", str(listener.fileno()), "--self-managed", f"{cluster.system}/tls", "--tls-name", "127.0.0.1"),
            *("--mutating-configuration", cluster.registration, "--watch-namespace", cluster.shop),
            *("--platform-config", f"{cluster.system}/none", "--lease", f"{cluster.system}/look", "--json"),
            *("--find-unmutated", "1s", "--health-port", "0", "--health-host", "127.0.0.1", "--log-level", "debug"),
        ]
        environment = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "DIRECTORY": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(tmp_path),
        }
        child = subprocess.Popen(
            [sys.executable, "-c", IN_CLUSTER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            pass_fds=[listener.fileno()],
        )
        try:
            hook = _Child(child)
            until(lambda: hook.get("/readyz")[0] == 200, what="ready")
            made = server.create(cluster.pods(cluster.shop), pod())
            assert made["spec"]["volumes"][0]["name"] == "aws-iam-token"
            foreign = server.create(cluster.pods(cluster.other), pod("seen", "stranger"))
            assert "aws-iam-token" not in json.dumps(foreign)
            until(lambda: "wif_webhook_unmutated_pods 0.0" in hook.get("/metrics")[1], what="a look")
            metrics = hook.get("/metrics")[1]
            report, log = hook.finish()
        finally:
            child.kill()
            child.wait(20)
    for name in (cluster.other, "stranger", "unseen"):
        assert name not in metrics
        assert name not in log
    assert cluster.events(cluster.other) == []
    assert "BEGIN" not in log
    assert token not in log
    assert {"cryptography", "requests", "rich", "jwt", "kubernetes", "boto3", "google", "azure"}.isdisjoint(
        report["modules"]
    ), report["modules"]
    assert report["rss_kib"] < MAX_IDLE_MIB * 1024


class _Child:
    """The webhook in a child that tells what it has loaded when it is asked."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        lines: list[str] = []
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        if not lines:
            assert child.stderr is not None
            raise AssertionError(child.stderr.read())
        self.health = str(json.loads("".join(lines))["health_url"])

    def get(self, path: str) -> tuple[int, str]:
        with socket.create_connection(("127.0.0.1", int(self.health.rpartition(":")[2])), timeout=10) as plain:
            plain.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            text = b"".join(iter(lambda: plain.recv(65536), b"")).decode()
        return int(text.split(" ")[1]), text

    def finish(self) -> tuple[dict[str, Any], str]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        report: dict[str, Any] = json.loads(self.child.stdout.readline())
        self.child.send_signal(signal.SIGTERM)
        _, err = self.child.communicate(timeout=30)
        assert self.child.returncode == 0, err
        return report, err
