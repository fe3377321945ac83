"""What ``wif webhook render`` prints, on the real API server: who is called, what the guards deny, and that a
MutatingAdmissionPolicy makes the same pod as the webhook does.
"""

from __future__ import annotations

import base64
import copy
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from wif.admission.accounts import ServiceAccount
from wif.admission.guards import guards
from wif.admission.mutating_policy import mutating_policy
from wif.admission.mutation import mutate
from wif.admission.patch import apply_patch
from wif.admission.readings import Readings
from wif.admission.registration import API_VERSION, RegistrationSettings, registration
from wif.admission.review import pod_review
from wif.admission.sameness import bare
from wif.config.webhook import WebhookSettings, load_webhook
from wif.emulator.apiserver import ASSETS_VARIABLE, ApiServer

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

EFFECT_SECONDS = 20.0
"""A new policy takes effect after one to three."""
GROUP = f"/apis/{API_VERSION}"
PLURALS = {
    "MutatingWebhookConfiguration": "mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
    "MutatingAdmissionPolicy": "mutatingadmissionpolicies",
    "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
ROLE = "arn:aws:iam::111122223333:role/app"
PROVIDER = "projects/1234/locations/global/workloadIdentityPools/pool/providers/cluster"
MAIL = "app@my-project.iam.gserviceaccount.com"
COMPUTE = "1-compute@developer.gserviceaccount.com"
CLIENT, TENANT = "00000000-1111-2222-3333-444444444444", "11111111-2222-3333-4444-555555555555"


class Cluster(NamedTuple):
    """The API server, with names of one run."""

    server: ApiServer
    run: str

    def namespace(self, name: str) -> str:
        """A namespace of this run."""
        return f"{name}-{self.run}"

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """The answer to one object."""
        status, answer = self.server.request("POST", path, body)
        return status, json.loads(answer)

    def pod(self, namespace: str, pod: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """What becomes of a pod, without keeping it."""
        return self.post(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)

    def kubectl(self, *words: str, given: Mapping[str, Any] | None = None) -> tuple[int, str]:
        """Exit status, and everything that is said, warnings included."""
        program = Path(os.environ[ASSETS_VARIABLE]) / "kubectl"
        done = subprocess.run(
            [str(program), "--kubeconfig", str(self.server.kubeconfig), *words],
            input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def pod_of(account: str, *containers: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A pod with these containers; ``annotations`` and ``labels`` go to its metadata, the rest to its spec."""
    metadata: dict[str, Any] = {"name": "app"}
    metadata |= {key: more.pop(key) for key in ("annotations", "labels") if key in more}
    spec = {"serviceAccountName": account, "containers": list(containers) or [container("main")], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "example.invalid/none", **more}


def token(name: str, audience: str) -> dict[str, Any]:
    source = {"serviceAccountToken": {"audience": audience, "path": "token", "expirationSeconds": 3600}}
    return {"name": name, "projected": {"sources": [source]}}


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer) -> Cluster:
    return Cluster(api_server, uuid.uuid4().hex[:6])


@pytest.fixture(scope="module")
def applied(cluster: Cluster) -> Iterator[list[str]]:
    """Paths of the cluster-wide objects that tests made; all of them go at the end, for others use this server."""
    made: list[str] = []
    yield made
    for path in reversed(made):
        cluster.server.request("DELETE", path)


def apply(cluster: Cluster, applied: list[str], objects: list[dict[str, Any]]) -> None:
    """Make objects; the server takes every field of them."""
    for each in objects:
        path = f"{GROUP}/{PLURALS[each['kind']]}"
        status, answer = cluster.post(f"{path}?fieldValidation=Strict", each)
        assert status == 201, answer
        applied.append(f"{path}/{each['metadata']['name']}")


def until_effective(check: Any) -> None:
    """Wait until a policy takes effect."""
    deadline = time.monotonic() + EFFECT_SECONDS
    while not check():
        assert time.monotonic() < deadline, "no policy took effect"
        time.sleep(0.2)


# -- who is called ----------------------------------------------------------------------------------------------------


class Recorder(http.server.BaseHTTPRequestHandler):
    """A webhook that lets everything through and notes what it was asked."""

    asked: list[tuple[str, str, str, str]]

    def do_POST(self) -> None:
        """Answer one review."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        resource = "/".join(filter(None, (request["resource"]["resource"], request.get("subResource"))))
        self.asked.append(
            (self.path.partition("?")[0], request["operation"], resource, request["userInfo"]["username"])
        )
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        body = json.dumps({**review, "response": {"uid": request["uid"], "allowed": True}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def asked(cluster: Cluster, applied: list[str]) -> Iterator[list[tuple[str, str, str, str]]]:
    """What a registered webhook is asked in the namespaces ``called`` and ``excluded``."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    notes: list[tuple[str, str, str, str]] = []
    handler = type("Noting", (Recorder,), {"asked": notes})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("called", "excluded"):
            cluster.server.create_namespace(cluster.namespace(name))
            cluster.server.create_service_account(cluster.namespace(name), "app")
        where = RegistrationSettings(
            release=f"c{cluster.run}",
            namespace=cluster.namespace("excluded"),
            url=f"https://127.0.0.1:{server.server_address[1]}",
            ca_bundle=authority.cert_pem.bytes().decode(),
        )
        before = len(applied)
        apply(cluster, applied, registration(WebhookSettings(), where))
        pod = pod_of("app")
        until_effective(lambda: cluster.pod(cluster.namespace("called"), pod)[0] == 201 and notes)
        yield notes
        for path in applied[before:]:
            cluster.server.request("DELETE", path)
        server.shutdown()


def noted(asked: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str]]:
    found = [row[:3] for row in asked]
    asked.clear()
    return found


def test_controllers_of_kube_system_are_users_like_others(cluster: Cluster, asked: list[Any]) -> None:
    """They create the pods of Deployments: exempt them, and nothing is injected into any."""
    user = "system:serviceaccount:kube-system:replicaset-controller"
    words = ("create", "--as", user, "--dry-run=server", "-n", cluster.namespace("called"), "-f", "-")
    asked.clear()
    status, said = cluster.kubectl(*words, given=pod_of("app"))
    assert status == 0, said
    assert asked == [("/mutate", "CREATE", "pods", user)]


def test_mirror_pods_are_not_sent(cluster: Cluster, asked: list[Any]) -> None:
    name = f"nodes-{cluster.run}"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    assert cluster.post(path, {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]})[0] == 201
    try:
        mirror = pod_of("", annotations={"kubernetes.io/config.mirror": "x"}, nodeName="n1")
        words = ("create", "--as", "system:node:n1", "--as-group", "system:nodes", "--dry-run=server")
        asked.clear()
        status, said = cluster.kubectl(*words, "-n", cluster.namespace("called"), "-f", "-", given=mirror)
        assert status == 0, said
        assert asked == []
    finally:
        cluster.server.request("DELETE", f"{path}/{name}")


def test_kube_system_and_the_webhooks_own_namespace_are_left_out(cluster: Cluster, asked: list[Any]) -> None:
    asked.clear()
    assert cluster.pod(cluster.namespace("excluded"), pod_of("app"))[0] == 201
    account = {"metadata": {"generateName": "x-", "annotations": {"wif.internal/aws.role-arn": ROLE}}}
    assert cluster.post("/api/v1/namespaces/kube-system/serviceaccounts?dryRun=All", account)[0] == 201
    assert asked == []


def test_ephemeral_containers_are_sent_where_something_was_injected(cluster: Cluster, asked: list[Any]) -> None:
    namespace = cluster.namespace("called")
    for name, said in (("plain", {}), ("done", {"wif.internal/injected": "{}"})):
        pod = pod_of("app", annotations=said)
        pod["metadata"]["name"] = name
        status, made = cluster.post(f"/api/v1/namespaces/{namespace}/pods", pod)
        assert status == 201, made
        asked.clear()
        made["spec"]["ephemeralContainers"] = [container("debug")]
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/ephemeralcontainers"
        status, answer = cluster.server.request("PUT", path, made)
        assert status == 200, answer
        assert noted(asked) == ([("/mutate", "UPDATE", "pods/ephemeralcontainers")] if said else [])


def test_service_accounts_are_sent_where_an_annotation_stands_or_stood(cluster: Cluster, asked: list[Any]) -> None:
    path = f"/api/v1/namespaces/{cluster.namespace('called')}/serviceaccounts"
    both = {("/mutate", "CREATE", "serviceaccounts"), ("/validate", "CREATE", "serviceaccounts")}
    asked.clear()
    assert cluster.post(path, {"metadata": {"name": "plain"}})[0] == 201
    assert noted(asked) == []
    status, made = cluster.post(
        path, {"metadata": {"name": "said", "annotations": {"eks.amazonaws.com/role-arn": ROLE}}}
    )
    assert status == 201
    assert set(noted(asked)) == both
    made["metadata"]["annotations"] = {}
    assert cluster.server.request("PUT", f"{path}/said", made)[0] == 200
    assert noted(asked) == [("/mutate", "UPDATE", "serviceaccounts")]  # the label may have to go
    assert cluster.post(path, {"metadata": {"name": "marked", "labels": {"wif.internal/inject": "true"}}})[0] == 201
    assert noted(asked) == [("/mutate", "CREATE", "serviceaccounts")]


# -- guards -----------------------------------------------------------------------------------------------------------

LABEL = {"wif.internal/inject": "true"}
GUARDED = {
    "aws": {"eks.amazonaws.com/role-arn": ROLE},
    "aws-own": {"eks.amazonaws.com/role-arn": ROLE, "eks.amazonaws.com/audience": "mine"},
    "native": {"wif.internal/gcp.reader.provider": PROVIDER},
    "azure": {"azure.workload.identity/client-id": CLIENT},
    "plain": {},
}


@pytest.fixture(scope="module")
def guarded(cluster: Cluster, applied: list[str]) -> Cluster:
    """Guards that deny in the namespace ``deny``, and warn in ``warn``."""
    for name in ("deny", "warn"):
        namespace = cluster.namespace(name)
        cluster.server.create_namespace(namespace)
        for account, said in GUARDED.items():
            labels = LABEL if said else {}
            cluster.server.create_service_account(namespace, account, annotations=said, labels=labels)
        where = RegistrationSettings(release=name, watch_namespaces=(namespace,), enforce=name == "deny")
        apply(cluster, applied, guards(WebhookSettings(), where))
    bad = {"metadata": {"name": "x", "annotations": GUARDED["aws"]}}
    path = f"/api/v1/namespaces/{cluster.namespace('deny')}/serviceaccounts?dryRun=All"
    until_effective(lambda: cluster.post(path, bad)[0] == 403)
    until_effective(lambda: cluster.pod(cluster.namespace("deny"), pod_of("aws"))[0] == 403)
    return cluster


AWS_TOKEN = {"volumes": [token("any", "sts.amazonaws.com")]}
TWO = (container("a"), container("b"))
USE = {"azure.workload.identity/use": "true"}
SKIPS = "eks.amazonaws.com/skip-containers"


@pytest.mark.parametrize(
    ("pod", "denied"),
    [
        (pod_of("aws"), "AWS"),
        (pod_of("aws", **AWS_TOKEN), ""),
        (pod_of("aws", volumes=[token("any", "vault")]), "AWS"),
        (pod_of("aws", volumes=[{"name": "wif", "emptyDir": {}}]), "AWS"),
        (pod_of("aws-own", volumes=[token("any", "mine")]), ""),
        (pod_of("aws-own", volumes=[token("any", "theirs")]), "AWS"),
        (pod_of("aws", labels={"eks.amazonaws.com/skip-pod-identity-webhook": ""}), ""),
        (pod_of("aws", *TWO, annotations={SKIPS: "a,b"}), ""),
        (pod_of("aws", *TWO, annotations={SKIPS: "a"}), "AWS"),
        (pod_of("aws", initContainers=[container("i")], annotations={SKIPS: "main"}), "AWS"),
        (pod_of("native"), "GCP"),
        (pod_of("native", volumes=[token("any", "sts.googleapis.com")]), ""),
        (pod_of("native", annotations={"wif.internal/use": "aws=x, gcp=none"}), ""),
        (pod_of("native", annotations={"wif.internal/use": "gcp=reader"}), "GCP"),
        (pod_of("azure"), ""),
        (pod_of("azure", labels=USE), "Azure"),
        (pod_of("azure", labels=USE, volumes=[token("any", "api://AzureADTokenExchange")]), ""),
        (pod_of("plain"), ""),
    ],
)
def test_an_annotated_pod_carries_a_token_of_each_cloud(guarded: Cluster, pod: dict[str, Any], denied: str) -> None:
    status, answer = guarded.pod(guarded.namespace("deny"), pod)
    assert status == (403 if denied else 201), answer
    if denied:
        account = pod["spec"]["serviceAccountName"]
        assert (
            f"the ServiceAccount {account} is annotated for {denied}, but this pod carries no token"
            in answer["message"]
        )


def test_what_is_not_enforced_is_a_warning(guarded: Cluster) -> None:
    words = ("create", "--dry-run=server", "-n", guarded.namespace("warn"), "-f", "-")
    until_effective(lambda: "Warning: " in guarded.kubectl(*words, given=pod_of("aws"))[1])
    status, said = guarded.kubectl(*words, given=pod_of("aws"))
    assert status == 0
    assert "the ServiceAccount aws is annotated for AWS" in said
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "annotations": GUARDED["aws"]}}
    status, said = guarded.kubectl(*words, given=account)
    assert status == 0
    assert "Warning: " in said
    assert 'needs the label wif.internal/inject: "true"' in said


@pytest.mark.parametrize(
    ("annotations", "labels", "denied"),
    [
        ({"eks.amazonaws.com/role-arn": ROLE}, {}, True),
        ({"eks.amazonaws.com/role-arn": ROLE}, {"wif.internal/inject": "false"}, True),
        ({"eks.amazonaws.com/role-arn": ROLE}, LABEL, False),
        ({"eks.amazonaws.com/role-arn": ""}, {}, False),
        ({"eks.amazonaws.com/audience": "x"}, {}, False),
        ({"wif.internal/azure.blob.client-id": CLIENT}, {}, True),
        ({"cloud.google.com/service-account-email": MAIL}, {}, True),
        ({"example.com/role-arn": ROLE}, {}, False),
        ({}, {}, False),
    ],
)
def test_leaving_the_label_off_does_not_evade(
    guarded: Cluster, annotations: dict[str, str], labels: dict[str, str], denied: bool
) -> None:
    path = f"/api/v1/namespaces/{guarded.namespace('deny')}/serviceaccounts?dryRun=All"
    status, answer = guarded.post(path, {"metadata": {"name": "x", "annotations": annotations, "labels": labels}})
    assert status == (403 if denied else 201), answer


def test_the_label_cannot_be_taken_off_but_finalizers_can(guarded: Cluster) -> None:
    path = f"/api/v1/namespaces/{guarded.namespace('deny')}/serviceaccounts"
    metadata = {"name": "held", "annotations": GUARDED["aws"], "labels": LABEL, "finalizers": ["example.com/x"]}
    _, made = guarded.post(path, {"metadata": metadata})
    bare_of_labels = copy.deepcopy(made)
    bare_of_labels["metadata"]["labels"] = {}
    assert guarded.server.request("PUT", f"{path}/held", bare_of_labels)[0] == 403
    _, deleted = guarded.server.request("DELETE", f"{path}/held")
    leaving = json.loads(deleted)
    leaving["metadata"] |= {"labels": {}, "finalizers": []}
    assert guarded.server.request("PUT", f"{path}/held", leaving)[0] == 200


FILE, PFN_FILE = "wif.internal/file.gcp", "cloud.google.com/external-credentials-json"


@pytest.fixture(scope="module")
def running(guarded: Cluster) -> str:
    """The path of a pod, made in a namespace that no other guard looks at."""
    namespace = guarded.namespace("elsewhere")
    guarded.server.create_namespace(namespace)
    guarded.server.create_service_account(namespace, "app")
    pod = pod_of("app", annotations={FILE: "{}", PFN_FILE: "{}", "example.com/x": "1"})
    status, answer = guarded.post(f"/api/v1/namespaces/{namespace}/pods", pod)
    assert status == 201, answer
    path = f"/api/v1/namespaces/{namespace}/pods/app"
    until_effective(lambda: changed(guarded, path, {FILE: "probe"}) == 403)
    return path


def changed(cluster: Cluster, path: str, annotations: Mapping[str, str | None], subresource: str = "") -> int:
    """The answer to an update of a pod with other annotations; None takes one away."""
    found = json.loads(cluster.server.request("GET", path)[1])
    for key, value in annotations.items():
        if value is None:
            del found["metadata"]["annotations"][key]
        else:
            found["metadata"]["annotations"][key] = value
    return cluster.server.request("PUT", path + subresource, found)[0]


@pytest.mark.parametrize("subresource", ["", "/status"])
@pytest.mark.parametrize(
    ("annotations", "status"),
    [
        ({FILE: '{"token_url": "https://evil.example"}'}, 403),
        ({FILE: None}, 403),
        ({"wif.internal/use": "aws=admin"}, 403),
        ({PFN_FILE: "{ }"}, 403),
        ({PFN_FILE: None}, 403),
        ({"example.com/x": "2"}, 200),
        ({"example.com/y": "1"}, 200),
        ({"wif.internalx/y": "1"}, 200),
        ({"cloud.google.com/other": "1"}, 200),
    ],
)
def test_what_feeds_a_credential_file_is_fixed(
    guarded: Cluster, running: str, subresource: str, annotations: dict[str, str | None], status: int
) -> None:
    assert changed(guarded, running, annotations, subresource) == status


@pytest.mark.parametrize("subresource", ["/ephemeralcontainers", "/resize"])
def test_other_ways_to_write_a_pod_change_no_annotation(guarded: Cluster, running: str, subresource: str) -> None:
    assert changed(guarded, running, {FILE: "evil"}, subresource) == 200
    found = json.loads(guarded.server.request("GET", running)[1])
    assert found["metadata"]["annotations"][FILE] == "{}"


@pytest.mark.parametrize("way", ["/bindings", "/pods/app/binding"])
@pytest.mark.parametrize("key", [FILE, PFN_FILE])
def test_a_binding_brings_no_annotation_of_ours(guarded: Cluster, running: str, way: str, key: str) -> None:
    """Its annotations are written into the pod that it binds."""
    path = running.removesuffix("/pods/app") + way
    target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    binding = {"apiVersion": "v1", "kind": "Binding", "target": target}
    status, answer = guarded.post(path, {**binding, "metadata": {"name": "app", "annotations": {key: "evil"}}})
    assert status == 403, answer
    status, answer = guarded.post(
        f"{path}?dryRun=All", {**binding, "metadata": {"name": "app", "annotations": {"x": "y"}}}
    )
    assert status == 201, answer


def test_they_are_fixed_in_kube_system_too(guarded: Cluster, running: str) -> None:
    guarded.server.create_service_account("kube-system", f"app-{guarded.run}")
    pod = pod_of(f"app-{guarded.run}", annotations={FILE: "{}"})
    pod["metadata"]["name"] = f"app-{guarded.run}"
    path = "/api/v1/namespaces/kube-system/pods"
    assert guarded.post(path, pod)[0] == 201
    path = f"{path}/app-{guarded.run}"
    try:
        assert changed(guarded, path, {FILE: "evil"}) == 403
    finally:
        guarded.server.request("DELETE", f"{path}?gracePeriodSeconds=0")


# -- the injection as a policy ----------------------------------------------------------------------------------------

SETTINGS = {
    "usual": load_webhook({"azure_layout": "v1.5"}),
    "other": load_webhook(
        {
            "compat": "pfn", "gcp_mode": "direct", "azure_layout": "v1.5", "azure_tenant_id": TENANT,
            "gcp_provider": PROVIDER, "gcp_region": "europe-west3", "aws_region": "eu-central-1",
            "aws_account_id": "999988887777", "aws_regional_sts": False, "max_token_expiration": 7200,
            "aws_audience": "it's \"mine\"", "azure_token_expiration": 7200,
        }
    ),
}  # fmt: skip
LONG = "a-service-account-with-a-name-that-is-longer-than-a-session-can-be.example.com"
N = "wif.internal"
ACCOUNTS: Mapping[str, dict[str, str]] = {
    "native-three": {
        f"{N}/aws.role-arn": ROLE, f"{N}/aws.region": "eu-central-1", f"{N}/aws.session-name": "me",
        f"{N}/gcp.provider": PROVIDER, f"{N}/gcp.service-account": MAIL,
        f"{N}/azure.client-id": CLIENT, f"{N}/azure.tenant-id": TENANT,
    },
    "native-least": {f"{N}/aws.role-arn": ROLE, f"{N}/gcp.provider": f"//iam.googleapis.com/{PROVIDER}"},
    "native-more": {
        f"{N}/gcp.provider": f"https://iam.googleapis.com/{PROVIDER}", f"{N}/gcp.region": "europe-west3",
        f"{N}/gcp.project": "other-project", f"{N}/gcp.audience": "gcp-audience", f"{N}/token-expiration": "1800",
        f"{N}/azure.client-id": CLIENT, f"{N}/azure.tenant-id": TENANT, f"{N}/azure.audience": "azure-audience",
        f"{N}/azure.token-expiration": "60", f"{N}/aws.role-arn": ROLE, f"{N}/aws.audience": "aws-audience",
    },
    "native-mail": {f"{N}/gcp.provider": PROVIDER, f"{N}/gcp.service-account": COMPUTE},
    LONG: {f"{N}/aws.role-arn": ROLE},
    "eks": {"eks.amazonaws.com/role-arn": ROLE},
    "eks-more": {
        "eks.amazonaws.com/role-arn": ROLE, "eks.amazonaws.com/audience": "aws-audience",
        "eks.amazonaws.com/sts-regional-endpoints": "t", "eks.amazonaws.com/token-expiration": "43200",
    },
    "eks-global": {"eks.amazonaws.com/role-arn": ROLE, "eks.amazonaws.com/sts-regional-endpoints": "False"},
    "pfn": {
        "cloud.google.com/workload-identity-provider": PROVIDER, "cloud.google.com/service-account-email": MAIL,
        "cloud.google.com/injection-mode": "direct",
    },
    "pfn-more": {
        "cloud.google.com/workload-identity-provider": PROVIDER, "cloud.google.com/audience": "gcp-audience",
        "cloud.google.com/service-account-email": COMPUTE,
        "cloud.google.com/token-expiration": "1800",
    },
    "azure": {"azure.workload.identity/client-id": CLIENT},
    "azure-more": {
        "azure.workload.identity/client-id": CLIENT, "azure.workload.identity/tenant-id": TENANT,
        "azure.workload.identity/service-account-token-expiration": "86400",
    },
    "peers": {
        "eks.amazonaws.com/role-arn": ROLE, "cloud.google.com/workload-identity-provider": PROVIDER,
        "cloud.google.com/service-account-email": MAIL, "azure.workload.identity/client-id": CLIENT,
    },
    "twice": {f"{N}/aws.role-arn": ROLE, "eks.amazonaws.com/role-arn": f"{ROLE}-other"},
    "settings": {f"{N}/aws.role-arn": "team/short", f"{N}/gcp.direct": "true", f"{N}/azure.client-id": CLIENT},
    "short": {"eks.amazonaws.com/role-arn": "short"},
    "none": {},
}  # fmt: skip
NEEDS_SETTINGS = ("settings", "short")

NAME = {"fieldRef": {"fieldPath": "metadata.name"}}
ENV = [{"name": name, "value": "own"} for name in ("AWS_ROLE_ARN", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_TENANT_ID")]
ALONE = [{"name": name, "value": "own"} for name in ("AWS_ROLE_ARN", "AWS_REGION", "AWS_STS_REGIONAL_ENDPOINTS")]
FOREIGN = ("wif", "aws-iam-token", "gcp-iam-token", "external-credential-config", "azure-identity-token")
PATHS = (
    "/var/run/secrets/wif", "/var/run/secrets/eks.amazonaws.com/serviceaccount", "/var/run/secrets/azure/tokens/",
    "/var/run/secrets/sts.googleapis.com/serviceaccount",
)  # fmt: skip
SKIP = {f"{prefix}/skip-containers": "b,i" for prefix in (N, "eks.amazonaws.com", "cloud.google.com")} | {
    "azure.workload.identity/skip-containers": "b; i"
}
WISH = {
    f"{N}/token-expiration": "100000", "eks.amazonaws.com/token-expiration": "10",
    "cloud.google.com/token-expiration": "4000", "azure.workload.identity/service-account-token-expiration": "3700",
}  # fmt: skip
PODS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "without-volumes": {"automountServiceAccountToken": False, "labels": USE},
    "many": {
        "labels": USE,
        "annotations": {"example.com/x": "y"},
        "containers": [container("a", env=[{"name": "X", "value": "1"}]), container("b"), container("c", env=ENV)],
        "initContainers": [container("i"), container("side", restartPolicy="Always", env=ALONE)],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "securityContext": {"fsGroup": 1000},
    },
    "skipping": {
        "labels": USE,
        "annotations": SKIP,
        "containers": [container("a"), container("b")],
        "initContainers": [container("i")],
    },
    "wishing": {"labels": USE, "annotations": WISH},
    "windows": {"labels": USE, "os": {"name": "windows"}},
    "windows-nodes": {"labels": USE, "nodeSelector": {"kubernetes.io/os": "windows"}},
    "foreign-volumes": {"labels": USE, "volumes": [{"name": name, "emptyDir": {}} for name in FOREIGN]},
    "taken-paths": {
        "labels": USE,
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [
            container("a", volumeMounts=[{"name": "data", "mountPath": path} for path in PATHS]),
            container("b"),
        ],
    },
    "values-from": {
        "labels": USE,
        "containers": [
            container("a", env=[{"name": "GOOGLE_APPLICATION_CREDENTIALS", "valueFrom": NAME}])
        ],
    },
    "skipped-by-label": {"labels": {**USE, "eks.amazonaws.com/skip-pod-identity-webhook": "x"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def injecting(cluster: Cluster, applied: list[str]) -> Cluster:
    """A namespace with policies for each of the settings, and ``without`` that none of them looks at."""
    for name in (*SETTINGS, "without"):
        namespace = cluster.namespace(name)
        cluster.server.create_namespace(namespace)
        if name in SETTINGS:
            where = RegistrationSettings(release=f"map-{name}", watch_namespaces=(namespace,))
            apply(cluster, applied, mutating_policy(SETTINGS[name], where))
    for name in SETTINGS:
        path = f"/api/v1/namespaces/{cluster.namespace(name)}/serviceaccounts"
        probe = {"metadata": {"name": "probe", "annotations": ACCOUNTS["eks"]}}

        def labelled(path: str = path, probe: dict[str, Any] = probe) -> bool:
            return bool(cluster.post(f"{path}?dryRun=All", probe)[1]["metadata"].get("labels"))

        until_effective(labelled)
    for name in (*SETTINGS, "without"):
        for account, said in ACCOUNTS.items():
            cluster.server.create_service_account(cluster.namespace(name), account, annotations=said)

        def injected(namespace: str = cluster.namespace(name)) -> bool:
            return "aws-iam-token" in json.dumps(cluster.pod(namespace, pod_of("eks"))[1])

        if name in SETTINGS:
            until_effective(injected)
    return cluster


def account_in(cluster: Cluster, namespace: str, name: str) -> ServiceAccount:
    found = json.loads(cluster.server.request("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")[1])
    metadata = found["metadata"]
    return ServiceAccount(namespace, name, metadata["uid"], metadata.get("annotations", {}))


def by_webhook(
    cluster: Cluster, settings: WebhookSettings, namespace: str, pod: dict[str, Any]
) -> dict[str, Any] | str:
    """What the webhook makes of the pod as the API server sends it; a text where it refuses."""
    status, sent = cluster.pod(cluster.namespace("without"), pod)
    assert status == 201, sent
    sent["metadata"]["namespace"] = namespace
    name = pod["spec"]["serviceAccountName"]
    accounts = {(namespace, name): account_in(cluster, namespace, name)}
    review = pod_review(json.dumps(sent).encode(), namespace=namespace)
    decision = mutate(review, accounts, settings, readings=Readings(), new_secret=str)
    if not decision.allowed:
        return decision.message
    patched: dict[str, Any] = apply_patch(sent, decision.patch) if decision.patch else sent
    return patched


def shape(pod: dict[str, Any]) -> dict[str, Any]:
    """What is compared: everything but names that are drawn, and the order of members."""
    text = re.sub("kube-api-access-[a-z0-9]{5}", "kube-api-access", json.dumps(pod))
    read = json.loads(text)
    annotations = {
        key: json.loads(value) if value.startswith("{") else value
        for key, value in read["metadata"].get("annotations", {}).items()
    }
    # what a later call of the webhook must not take away; a policy takes nothing away
    annotations.get(f"{N}/injected", {}).pop("kept", None)
    return {"annotations": annotations, "labels": read["metadata"].get("labels", {}), "spec": bare(read["spec"])}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_policy_makes_the_same_pod_as_the_webhook(injecting: Cluster, settings: str, account: str) -> None:
    if account in NEEDS_SETTINGS and settings != "other":
        account = "none"
    namespace = injecting.namespace(settings)
    for name, more in PODS.items():
        if account == "none":  # the policy knows of no ServiceAccount without its label
            more = {key: value for key, value in more.items() if key != "labels"}
        pod = pod_of(account, **copy.deepcopy({key: value for key, value in more.items() if key != "containers"}))
        if "containers" in more:
            pod["spec"]["containers"] = copy.deepcopy(more["containers"])
        status, made = injecting.pod(namespace, pod)
        wanted = by_webhook(injecting, SETTINGS[settings], namespace, pod)
        assert status == 201, (name, made["message"], wanted)
        assert isinstance(wanted, dict), (name, wanted)
        assert shape(made) == shape(wanted), name
        again = {"apiVersion": "v1", "kind": "Pod", "metadata": made["metadata"], "spec": made["spec"]}
        for member in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
            again["metadata"].pop(member, None)
        status, twice = injecting.pod(namespace, again)
        assert status == 201, (name, twice)
        assert shape(twice) == shape(made), f"{name}, a second time"


def test_the_label_is_set(injecting: Cluster) -> None:
    for account, said in ACCOUNTS.items():
        path = f"/api/v1/namespaces/{injecting.namespace('usual')}/serviceaccounts/{account}"
        found = json.loads(injecting.server.request("GET", path)[1])
        assert found["metadata"].get("labels", {}) == (LABEL if said else {})


REFUSED: Mapping[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "named": ({f"{N}/aws.reader.role-arn": ROLE}, {}, "one identity of a cloud"),
    "several": ({f"{N}/aws.role-arn": ROLE, f"{N}/aws.reader.role-arn": ROLE}, {}, "one identity of a cloud"),
    "containers": ({f"{N}/aws.role-arn": ROLE, f"{N}/aws.containers": "a"}, {}, "one identity of a cloud"),
    "use": ({f"{N}/aws.role-arn": ROLE}, {"annotations": {f"{N}/use": "aws=default"}}, f"{N}/use"),
    "use-of": ({f"{N}/aws.role-arn": ROLE}, {"annotations": {f"{N}/use.main": "aws=none"}}, f"{N}/use"),
    "sidecar": ({f"{N}/aws.role-arn": ROLE, f"{N}/mode": "sidecar"}, {}, "the sidecar needs the webhook"),
    "pod-sidecar": (
        {f"{N}/aws.role-arn": ROLE},
        {"annotations": {f"{N}/mode": "sidecar"}},
        "the sidecar needs the webhook",
    ),
    "role": ({f"{N}/aws.role-arn": "not-an-arn"}, {}, "aws.role-arn on the ServiceAccount"),
    "eks-role": ({"eks.amazonaws.com/role-arn": "not-an-arn"}, {}, "role-arn on the ServiceAccount"),
    "dollar": ({"eks.amazonaws.com/role-arn": f"{ROLE}$(X)"}, {}, "role-arn on the ServiceAccount"),
    "mail": (
        {f"{N}/gcp.provider": PROVIDER, f"{N}/gcp.service-account": "a/b:generate?@x.iam.gserviceaccount.com"},
        {},
        "gcp.service-account on the ServiceAccount",
    ),
    "quote": ({f"{N}/gcp.provider": f'{PROVIDER}","token_url":"https://evil'}, {}, "gcp.provider on"),
    "direct": ({f"{N}/gcp.provider": PROVIDER, f"{N}/gcp.direct": "yes"}, {}, "gcp.direct is not true"),
    "both": (
        {f"{N}/gcp.provider": PROVIDER, f"{N}/gcp.direct": "true", f"{N}/gcp.service-account": MAIL},
        {},
        "gcp.direct contradicts",
    ),
    "no-provider": ({f"{N}/gcp.service-account": MAIL}, {}, "gcp.provider is missing"),
    "no-tenant": ({f"{N}/azure.client-id": CLIENT}, {}, "azure.tenant-id is missing"),
    "tenants": ({f"{N}/azure.client-id": CLIENT, f"{N}/azure.tenant-id": "Common"}, {}, "azure.tenant-id"),
    "half": ({"cloud.google.com/workload-identity-provider": PROVIDER}, {}, "is missing"),
    "gcloud": ({**ACCOUNTS["pfn"], "cloud.google.com/injection-mode": "gcloud"}, {}, "is not direct"),
    "seconds": ({f"{N}/aws.role-arn": ROLE}, {"annotations": {f"{N}/token-expiration": "1h"}}, "on the pod"),
    "azure-seconds": (
        ACCOUNTS["azure"],
        {"labels": USE, "annotations": {"azure.workload.identity/service-account-token-expiration": "60"}},
        "on the pod",
    ),
    "proxy": (
        ACCOUNTS["azure"],
        {"labels": USE, "annotations": {"azure.workload.identity/inject-proxy-sidecar": "true"}},
        "there is no proxy",
    ),
    "client": ({"azure.workload.identity/client-id": "a b"}, {"labels": USE}, "client-id on the ServiceAccount"),
    "csv": (ACCOUNTS["eks"], {"annotations": {SKIPS: 'a, "b"'}}, "commas alone"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_policy_cannot_do_is_denied_with_a_reason(injecting: Cluster, name: str) -> None:
    annotations, more, reason = REFUSED[name]
    namespace = injecting.namespace("usual")
    injecting.server.create_service_account(namespace, f"refused-{name}", annotations=annotations)
    deadline = time.monotonic() + EFFECT_SECONDS  # a policy sees its parameters by a watch

    def refused() -> bool:
        return injecting.pod(namespace, pod_of(f"refused-{name}", **copy.deepcopy(more)))[0] == 403

    while not refused() and time.monotonic() < deadline:
        time.sleep(0.05)
    status, answer = injecting.pod(namespace, pod_of(f"refused-{name}", **copy.deepcopy(more)))
    assert status == 403, answer
    assert f"the ServiceAccount refused-{name}: " in answer["message"]
    assert reason in answer["message"]


def test_a_registration_with_everything_is_accepted(cluster: Cluster) -> None:
    where = RegistrationSettings(
        release=f"e{cluster.run}",
        ca_bundle=trustme.CA().cert_pem.bytes().decode(),
        cert_manager="a/b",
        failure_policy="Fail",
        object_selector={"matchLabels": {"a": "b"}},
        namespace_selector={"matchExpressions": [{"key": "x", "operator": "Exists"}]},
    )
    settings = WebhookSettings(dialects=("azure",), prefix="id.example.com")
    for each in [*registration(settings, where), *guards(settings, where)]:
        status, answer = cluster.post(f"{GROUP}/{PLURALS[each['kind']]}?dryRun=All&fieldValidation=Strict", each)
        assert status == 201, answer
        if "webhooks" in each:
            assert base64.b64decode(answer["webhooks"][0]["clientConfig"]["caBundle"]).startswith(b"-----BEGIN")
