"""The mode ``sidecar`` on the real API server: what is stored, and what the stored pod can do.

There is no kubelet: what it would do with the stored pod is done by :mod:`tests.kubelet`. The sidecar runs with the
arguments, files and variables that the stored pod gives it, and so do the programs beside it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
import yaml

from tests.integration import children
from tests.integration.server_processes import until
from tests.integration.webhooks import Client, WebhookProcess
from tests.kubelet import Container, Kubelet
from tests.reviews import review
from wif.admission.accounts import ServiceAccount
from wif.admission.mutation import mutate
from wif.admission.readings import Readings
from wif.admission.review import pod_review
from wif.clouds.endpoint_variables import endpoint_variables, endpoints_of
from wif.config.sidecar import AwsIdentity, AzureIdentity, GcpIdentity, SidecarSettings, load_sidecar
from wif.config.webhook import WebhookSettings
from wif.emulator import Authority, Emulator, TrustStore
from wif.emulator.apiserver import ApiServer
from wif.emulator.pod import PodIdentity, trust_documents

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

NAMESPACE = "sidecars"
IDENTITY = PodIdentity(namespace=NAMESPACE)
WRITER = IDENTITY.role_arn.replace("/app", "/writer")
ANNOTATIONS = {
    "wif.internal/mode": "sidecar",
    "wif.internal/aws.role-arn": IDENTITY.role_arn,
    "wif.internal/aws.writer.role-arn": WRITER,
    "wif.internal/aws.region": IDENTITY.region,
    "wif.internal/gcp.provider": IDENTITY.provider,
    "wif.internal/gcp.service-account": IDENTITY.google_service_account,
    "wif.internal/azure.client-id": IDENTITY.client_id,
    "wif.internal/azure.tenant-id": IDENTITY.tenant_id,
}
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}

PROGRAM = """
import base64, json
import boto3, google.auth
from azure.identity import DefaultAzureCredential
from google.auth.transport.requests import Request

session = boto3.Session()
found = {"aws": session.client("sts").get_caller_identity()["Arn"], "method": session.get_credentials().method}
credentials, found["project"] = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(Request())
assert credentials.token
found["gcp"] = credentials.service_account_email
with DefaultAzureCredential() as credential:
    token = credential.get_token("https://management.azure.com/.default").token
payload = token.split(".")[1]
found["azure"] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["appid"]
print(json.dumps(found))
"""
CALLER = """
import boto3, json
print(json.dumps({"aws": boto3.client("sts").get_caller_identity()["Arn"]}))
"""


class World(NamedTuple):
    """Everything around the pods."""

    server: ApiServer
    webhook: WebhookProcess
    bundle: str
    emulator: Emulator
    ports: tuple[int, int]
    """Of the sidecar: credentials, health."""


@pytest.fixture(scope="module")
def world(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The local STS, and the webhook that is registered and guarded as ``wif webhook render`` says."""
    folder = tmp_path_factory.mktemp("sidecar-webhook")
    root = trustme.CA()
    root.cert_pem.write_to_path(str(folder / "ca.pem"))
    root.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.pem"))
    api_server.create_namespace(NAMESPACE, labels={"pod-security.kubernetes.io/enforce": "restricted"})
    api_server.create_service_account(NAMESPACE, "app", annotations=ANNOTATIONS)
    with _local_sts(api_server, folder) as emulator:
        ports = _free_ports()
        settings = [
            *("--sidecar-image", "registry.example/wif:1", "--sidecar-gce-metadata"),
            *("--sidecar-port", str(ports[0]), "--sidecar-health-port", str(ports[1])),
            *("--sidecar-env", json.dumps(dict(emulator.environment()))),
        ]
        arguments = ["--kubeconfig", str(api_server.kubeconfig), "--tls-cert", str(folder / "tls.pem"), *settings]
        with WebhookProcess(*arguments, folder=folder) as process:
            process.until_ready()
            given = ("--url", process.url, "--ca-file", str(folder / "ca.pem"), "--failure-policy", "Fail", "--enforce")
            registered = [_create(api_server, each) for each in _rendered(*given)]
            try:
                until(lambda: _label(api_server) == "true", what="the guards' label on the ServiceAccount")
                yield World(api_server, process, (folder / "ca.pem").read_text(), emulator, ports)
            finally:
                for path in registered:
                    api_server.request("DELETE", path)


@contextmanager
def _local_sts(server: ApiServer, folder: Path) -> Iterator[Emulator]:
    trust = trust_documents(server.issuer, IDENTITY)
    trust["gcp"]["providers"][0]["oidc"]["allowedAudiences"] = ["sts.googleapis.com"]
    trust["aws"]["Roles"].append(dict(trust["aws"]["Roles"][0], RoleName="writer", Arn=WRITER))
    documents = folder / "documents"
    server.write_documents(documents)
    with Authority() as authority:
        store = TrustStore.from_mapping(trust)
        issuers = {server.issuer: documents}
        with Emulator(trust=store, issuer_documents=issuers, authority=authority, proxy=True) as emulator:
            yield emulator


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


def _rendered(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wif", "webhook", "render", "--json", "--release", "sidecars", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    objects: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return objects


def _create(server: ApiServer, made: Mapping[str, Any]) -> str:
    kind = f"{made['kind'].lower()}s".replace("policys", "policies")
    path = f"/apis/{made['apiVersion']}/{kind}"
    server.create(path, made)
    return f"{path}/{made['metadata']['name']}"


def _label(server: ApiServer) -> str | None:
    """Written anew until the registration is in force."""
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/app"
    account = json.loads(server.request("GET", path)[1])
    account["metadata"].setdefault("annotations", {})["touched"] = os.urandom(4).hex()
    written = json.loads(server.request("PUT", path, account)[1])
    labels: dict[str, str] = written.get("metadata", {}).get("labels", {})
    return labels.get("wif.internal/inject")


def pod(world: World, name: str, **spec: Any) -> dict[str, Any]:
    """Two applications and an init container, with the way to the local STS as their own variables."""
    env = [{"name": key, "value": value} for key, value in world.emulator.environment().items()]

    def container(called: str) -> dict[str, Any]:
        return {"name": called, "image": "example.invalid/none", "env": env, "securityContext": RESTRICTED}

    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {"wif.internal/use.writer": "aws=writer"}},
        "spec": {
            "serviceAccountName": "app",
            "automountServiceAccountToken": False,
            "containers": [container("main"), container("writer")],
            "initContainers": [container("setup")],
            **spec,
        },
    }


@contextmanager
def running(world: World, folder: Path, sidecar: Container) -> Iterator[None]:
    """The sidecar as the kubelet runs it, until its startup probe has passed."""
    environment = {**sidecar.environment, "PATH": os.defpath, "HOME": str(folder)}
    log = folder / "sidecar.log"
    with log.open("w") as stream:
        child = subprocess.Popen(
            [sys.executable, "-m", "wif", *sidecar.arguments], env=environment, stdout=stream, stderr=stream, cwd=folder
        )
        try:
            until(lambda: _probe(world.ports[1]), what="the startup probe")
            yield
        except AssertionError:
            raise AssertionError(log.read_text()) from None
        finally:
            child.terminate()
            child.wait(30)


def _probe(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def header(container: Mapping[str, Any]) -> list[str]:
    return [each["value"] for each in container.get("env", ()) if each["name"] == "IDENTITY_HEADER"]


def test_the_stored_pod(world: World) -> None:
    """Under enforced "restricted", past guards that deny, as it was injected: a second call changes nothing."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    status, body = world.server.request("POST", f"{path}?dryRun=All", pod(world, "stored"))
    assert status == 201, body
    stored = world.server.create(path, pod(world, "stored"))
    sidecar, setup = stored["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"], setup["name"]) == ("wif-sidecar", "Always", "setup")
    assert sidecar["image"] == "registry.example/wif:1"
    apps = [setup, *stored["spec"]["containers"]]
    [secret] = {value for each in [sidecar, *apps] for value in header(each)}
    assert all(header(each) == [secret] for each in [sidecar, *apps])
    assert len(secret) >= 43
    assert secret not in [value for each in json.loads(body)["spec"]["containers"] for value in header(each)]
    for each in apps:
        mounts = [mount["name"] for mount in each["volumeMounts"]]
        assert mounts == ["wif-sidecar"]
        assert each["volumeMounts"][0]["readOnly"] is True
        names = {entry["name"] for entry in each["env"]}
        assert not names & {"AWS_WEB_IDENTITY_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS"}
        assert "AZURE_FEDERATED_TOKEN_FILE" not in names
    with Client(world.webhook.port, world.bundle) as client:
        status, answered = client.post(review(stored, namespace=NAMESPACE))
    assert status == 200
    response = json.loads(answered)["response"]
    assert response["allowed"]
    assert "patch" not in response
    assert not response.get("warnings")


def test_a_pod_with_resources_as_a_whole_has_room_for_the_sidecar(world: World) -> None:
    """All of them are its application's: a request of the sidecar beside it would be refused."""
    whole = {"cpu": "100m", "memory": "100Mi"}
    made = pod(world, "bounded", resources={"requests": whole, "limits": whole}, initContainers=[])
    made["spec"]["containers"][0]["resources"] = {"requests": whole}
    status, body = world.server.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", made)
    assert status == 201, body
    assert not json.loads(body)["spec"]["initContainers"][0]["resources"]


def test_a_pod_that_skips_all_its_containers_has_no_sidecar(world: World) -> None:
    """And passes the guards, which ask for no token then."""
    made = pod(world, "skipping")
    made["metadata"]["annotations"] = {"wif.internal/skip-containers": "main,writer,setup"}
    status, body = world.server.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", made)
    assert status == 201, body
    assert [each["name"] for each in json.loads(body)["spec"]["initContainers"]] == ["setup"]


MOVING = """
object.spec.?initContainers.orValue([]).exists(c, c.name == 'wif-sidecar') && object.spec.serviceAccountName == 'app'
? [JSONPatch{op: "replace", path: "/spec/serviceAccountName", value: "moved"}] : []
"""
"""Only what was evaluated in the first round is evaluated in the second, so it is no condition of the policy."""


@pytest.fixture
def moved(world: World) -> Iterator[str]:
    """Another ServiceAccount, to which a policy moves the pod that has our sidecar: after the webhook's first call."""
    role = {"wif.internal/aws.role-arn": WRITER}
    world.server.create_service_account(NAMESPACE, "moved", annotations=role)
    named = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "move"}}
    spec = {
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
            ],
        },
        "matchConditions": [{"name": "moving", "expression": "object.metadata.name == 'moving'"}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": MOVING}}],
    }
    paths = []
    for kind, content in (
        ("MutatingAdmissionPolicy", spec),
        ("MutatingAdmissionPolicyBinding", {"policyName": "move"}),
    ):
        paths.append(_create(world.server, {**named, "kind": kind, "spec": content}))
    try:
        yield "moved"
    finally:
        for path in reversed(paths):
            world.server.request("DELETE", path)


def test_a_pod_that_is_moved_to_another_account_loses_the_sidecar(world: World, moved: str) -> None:
    """The ServiceAccount plugin has mounted the API server's token into it in between."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"

    def made(name: str) -> dict[str, Any]:
        return {**pod(world, name, automountServiceAccountToken=True), "metadata": {"name": name}}

    def attempt(name: str) -> dict[str, Any]:
        status, body = world.server.request("POST", f"{path}?dryRun=All", made(name))
        assert status == 201, body
        stored: dict[str, Any] = json.loads(body)
        return stored

    until(lambda: attempt("moving")["spec"]["serviceAccountName"] == moved, what="the policy")
    left = attempt("staying")["spec"]["initContainers"][0]
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in [each["mountPath"] for each in left["volumeMounts"]]
    stored = world.server.create(path, made("moving"))
    assert [each["name"] for each in stored["spec"]["initContainers"]] == ["setup"]
    names = [each["name"] for each in stored["spec"]["volumes"] if not each["name"].startswith("kube-api-access")]
    assert names == ["wif"]
    assert "wif.internal/file.sidecar" not in stored["metadata"]["annotations"]
    [main, _] = stored["spec"]["containers"]
    env = {each["name"]: each.get("value") for each in main["env"]}
    assert env["AWS_ROLE_ARN"] == WRITER
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in env


def test_the_sdks_of_three_clouds_find_the_sidecar(world: World, tmp_path: Path) -> None:
    stored = world.server.create(f"/api/v1/namespaces/{NAMESPACE}/pods", pod(world, "led"))
    assert stored["metadata"]["annotations"]["wif.internal/file.sidecar"]
    kubelet = Kubelet(world.server)
    sidecar = kubelet.prepare(NAMESPACE, "led", "wif-sidecar", tmp_path)
    led = {
        name: {
            **kubelet.prepare(NAMESPACE, "led", name, tmp_path).environment,
            "HOME": str(tmp_path / "home"),
            "PATH": os.defpath,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for name in ("setup", "main", "writer")
    }
    assert led["main"]["NO_PROXY"] == led["main"]["no_proxy"]
    with running(world, tmp_path, sidecar):
        found = children.run(led["main"], PROGRAM)
        assert found["aws"].startswith(f"arn:aws:sts::{IDENTITY.account_id}:assumed-role/app/{NAMESPACE}.app")
        assert (found["method"], found["gcp"], found["azure"]) == (
            *("container-role", IDENTITY.google_service_account),
            IDENTITY.client_id,
        )
        assert found["project"]
        assert "assumed-role/writer/" in children.run(led["writer"], CALLER)["aws"]
        assert "assumed-role/app/" in children.run(led["setup"], CALLER)["aws"]
        secret = tmp_path / "var" / "run" / "wif-sidecar" / "authorization"
        assert secret.stat().st_mode & 0o777 == 0o444
        assert children.run(led["main"], CALLER)["aws"].startswith("arn:")


def test_the_manifest_of_the_docs_is_the_pod_that_the_webhook_makes(api_server: ApiServer) -> None:
    """Without the webhook: taken under enforced "restricted", and in nothing weaker than what is injected."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "run-the-sidecar.md").read_text()
    [text] = [
        each.replace("namespace: shop", "namespace: sidecar-docs")
        for each in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        if "kind: Pod" in each
    ]
    account, settings, made = yaml.safe_load_all(text)
    api_server.create_namespace("sidecar-docs", labels={"pod-security.kubernetes.io/enforce": "restricted"})
    path = "/api/v1/namespaces/sidecar-docs"
    api_server.create(f"{path}/serviceaccounts", account)
    api_server.create(f"{path}/configmaps", settings)
    status, body = api_server.request("POST", f"{path}/pods?dryRun=All", made)
    assert status == 201, body

    found = load_sidecar(yaml.safe_load(settings["data"]["wif.yaml"])["sidecar"])
    [written] = made["spec"]["initContainers"]
    identities = {f"wif.internal/{key}": value for key, value in _annotations(found).items()}
    review = pod_review(json.dumps({**made, "spec": {**made["spec"], "initContainers": []}}).encode(), namespace="shop")
    owner = ServiceAccount("shop", "app", "u-1", {"wif.internal/mode": "sidecar", **identities})
    options = WebhookSettings(sidecar_image=written["image"], sidecar_gce_metadata=True)
    decision = mutate(review, {("shop", "app"): owner}, options, readings=Readings(), new_secret=lambda: "x" * 43)
    ours = next(
        op["value"] for op in json.loads(decision.patch or b"") if op["path"].startswith("/spec/initContainers")
    )
    assert written["securityContext"] == ours["securityContext"]
    assert written["resources"] == ours["resources"]
    assert {each["name"] for each in written["env"]} == {each["name"] for each in ours["env"]}
    [app] = made["spec"]["containers"]
    endpoints = endpoints_of(found, url=f"http://{found.listen[0]}", identity_header="h")
    variables = endpoint_variables(endpoints, {}).variables
    assert {each["name"] for each in app["env"]} == set(variables)
    for each in app["env"]:
        if each["name"] not in ("IDENTITY_HEADER", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
            assert each["value"] == variables[each["name"]]
    assert [mount["name"] for mount in app["volumeMounts"]] == ["wif-sidecar"]


def _annotations(settings: SidecarSettings) -> dict[str, str]:
    said: dict[str, str] = {}
    for each in settings.identities.values():
        match each:
            case AwsIdentity():
                said |= {"aws.role-arn": each.role_arn}
            case GcpIdentity():
                said |= {"gcp.provider": each.provider}
            case AzureIdentity():
                said |= {"azure.client-id": each.client_id, "azure.tenant-id": each.tenant_id}
    return said


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("network", {"hostNetwork": True}, "hostNetwork"),
        ("windows", {"os": {"name": "windows"}}, "Linux"),
    ],
)
def test_a_pod_that_cannot_have_a_sidecar_is_refused(world: World, name: str, more: dict[str, Any], said: str) -> None:
    status, body = world.server.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod(world, name, **more))
    assert status == 400, body
    assert said in json.loads(body)["message"]


def test_what_is_replaced_or_doubtful_is_shown_to_whoever_creates_the_pod(world: World) -> None:
    made = pod(world, "doubtful", shareProcessNamespace=True)
    made["spec"]["containers"][0]["env"] = [{"name": "IDENTITY_HEADER", "value": "mine"}]
    with Client(world.webhook.port, world.bundle) as client:
        _, answered = client.post(review(made, namespace=NAMESPACE))
    said = " ".join(json.loads(answered)["response"]["warnings"])
    assert "shareProcessNamespace" in said
    assert "its own IDENTITY_HEADER" in said
    assert "mine" not in said
