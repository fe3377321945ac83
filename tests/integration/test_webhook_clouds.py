"""From an annotated ServiceAccount to credentials of three clouds: the real API server, the webhook, the real SDKs.

There is no kubelet: what it would do with the stored pod is done by :mod:`tests.kubelet`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.integration import children
from tests.integration.server_processes import until
from tests.integration.webhooks import WebhookProcess
from tests.kubelet import Kubelet
from wif.emulator import Authority, Emulator, TrustStore
from wif.emulator.apiserver import ApiServer
from wif.emulator.pod import PodIdentity, trust_documents

pytestmark = pytest.mark.integration

IDENTITY = PodIdentity()
ROLE, PROVIDER, ACCOUNT = IDENTITY.role_arn, IDENTITY.provider, IDENTITY.google_service_account
TENANT, CLIENT = IDENTITY.tenant_id, IDENTITY.client_id
USE = {"azure.workload.identity/use": "true"}

NATIVE = {
    "wif.internal/aws.role-arn": ROLE,
    "wif.internal/aws.region": IDENTITY.region,
    "wif.internal/gcp.provider": PROVIDER,
    "wif.internal/gcp.service-account": ACCOUNT,
    "wif.internal/azure.client-id": CLIENT,
    "wif.internal/azure.tenant-id": TENANT,
}
PEERS = {
    "eks.amazonaws.com/role-arn": ROLE,
    "cloud.google.com/workload-identity-provider": PROVIDER,
    "cloud.google.com/service-account-email": ACCOUNT,
    "azure.workload.identity/client-id": CLIENT,
    "azure.workload.identity/tenant-id": TENANT,
}
SEVERAL = {
    **NATIVE,
    "wif.internal/aws.reader.role-arn": ROLE.replace("/app", "/reader"),
    "wif.internal/gcp.direct.provider": PROVIDER,
}

PROGRAM = """
import base64, json, sys
import boto3, google.auth
from azure.identity import WorkloadIdentityCredential
from google.auth.transport.requests import Request

found = {"aws": boto3.client("sts", region_name="eu-central-1").get_caller_identity()["Arn"]}
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(Request())
assert credentials.token
found["gcp"] = credentials.service_account_email
with WorkloadIdentityCredential() as credential:
    token = credential.get_token("https://management.azure.com/.default").token
payload = token.split(".")[1]
found["azure"] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["appid"]
print(json.dumps(found))
"""
LIBRARY = """
import json, wif
clouds = wif.from_env()
print(json.dumps({
    "aws": clouds.aws.credentials().access_key_id[:4],
    "gcp": bool(clouds.gcp.credentials().token),
    "azure": bool(clouds.azure.credentials(scope="https://management.azure.com/.default").token),
}))
"""
PROFILE = """
import json, boto3
session = boto3.Session(profile_name="reader", region_name="eu-central-1")
print(json.dumps({"aws": session.client("sts").get_caller_identity()["Arn"]}))
"""


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as made:
        yield made


@pytest.fixture(scope="module")
def webhook(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The webhook as a user installs it: served by one command, registered by what another prints."""
    folder = tmp_path_factory.mktemp("webhook")
    root = trustme.CA()
    root.cert_pem.write_to_path(str(folder / "ca.pem"))
    root.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.pem"))
    pair = ["--tls-cert", str(folder / "tls.pem")]
    settings = ["--azure-tenant-id", TENANT]
    with WebhookProcess("--kubeconfig", str(api_server.kubeconfig), *pair, *settings, folder=folder) as process:
        process.until_ready()
        rendered = _render("--url", process.url, "--ca-file", str(folder / "ca.pem"), "--failure-policy", "Fail")
        registered = [_create(api_server, each) for each in rendered]
        try:
            yield process.url
        finally:
            for path in registered:
                api_server.request("DELETE", path)


def _render(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wif", "webhook", "render", "--json", "--release", "clouds", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    objects: list[dict[str, Any]] = answer["items"]
    return objects


def _create(server: ApiServer, made: Mapping[str, Any]) -> str:
    group = str(made["apiVersion"])
    kind = f"{made['kind'].lower()}s".replace("policys", "policies")
    path = f"/apis/{group}/{kind}"
    server.create(path, made)
    return f"{path}/{made['metadata']['name']}"


def _pod(**more: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "example.invalid/none"}
    return {"metadata": {"name": "app-0", **more}, "spec": {"serviceAccountName": "app", "containers": [container]}}


@pytest.mark.parametrize(
    ("name", "annotations", "labels"),
    [("native", NATIVE, {}), ("peers", PEERS, USE), ("several", SEVERAL, {}), ("mixed", PEERS | NATIVE, USE)],
)
@pytest.mark.usefixtures("webhook")
def test_the_sdks_of_three_clouds_find_their_credentials_in_one_pod(
    api_server: ApiServer,
    authority: Authority,
    tmp_path: Path,
    name: str,
    annotations: dict[str, str],
    labels: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    namespace = f"clouds-{name}"
    identity = PodIdentity(namespace=namespace)
    api_server.create_namespace(namespace)
    api_server.create_service_account(namespace, "app", annotations=annotations)
    api_server.create(f"/api/v1/namespaces/{namespace}/pods", _pod(labels=labels))
    container = Kubelet(api_server).prepare(namespace, "app-0", "main", tmp_path)
    request.addfinalizer(  # to a webhook with other settings, that another test starts, it would lack something
        lambda: api_server.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/app-0?gracePeriodSeconds=0")
    )

    trust = trust_documents(api_server.issuer, identity)
    trust["gcp"]["providers"][0]["oidc"]["allowedAudiences"] = ["sts.googleapis.com"]
    reader = dict(trust["aws"]["Roles"][0], RoleName="reader", Arn=ROLE.replace("/app", "/reader"))
    trust["aws"]["Roles"].append(reader)
    documents = tmp_path / "documents"
    api_server.write_documents(documents)
    with Emulator(
        trust=TrustStore.from_mapping(trust),
        issuer_documents={api_server.issuer: documents},
        authority=authority,
        proxy=True,
    ) as emulator:
        environment = {
            **emulator.environment(),
            **container.environment,
            "HOME": str(tmp_path),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        found = children.run(environment, PROGRAM)
        assert found["aws"].startswith(f"arn:aws:sts::{identity.account_id}:assumed-role/app/")
        assert (found["gcp"], found["azure"]) == (ACCOUNT, CLIENT)
        assert children.run(environment, LIBRARY) == {"aws": "ASIA", "gcp": True, "azure": True}
        if name == "several":
            arn = children.run(environment, PROFILE)["aws"]
            assert arn.startswith(f"arn:aws:sts::{identity.account_id}:assumed-role/reader/")


@pytest.mark.usefixtures("webhook")
def test_a_pod_made_right_after_its_service_account_is_injected_into(api_server: ApiServer) -> None:
    api_server.create_namespace("clouds-race")
    for number in range(20):
        name = f"app-{number}"
        api_server.create_service_account("clouds-race", name, annotations=NATIVE)
        made = _pod(name=name)
        made["spec"]["serviceAccountName"] = name
        stored = api_server.create("/api/v1/namespaces/clouds-race/pods", made)
        assert "wif.internal/injected" in stored["metadata"]["annotations"]


@pytest.mark.usefixtures("webhook")
def test_the_label_is_set_and_a_malformed_annotation_is_refused(api_server: ApiServer) -> None:
    api_server.create_namespace("clouds-write")
    path = "/api/v1/namespaces/clouds-write/serviceaccounts"

    def labelled() -> bool:
        made = {"metadata": {"generateName": "app-", "annotations": NATIVE}}
        labels = api_server.create(path, made)["metadata"].get("labels", {})
        return bool(labels.get("wif.internal/inject") == "true")

    until(labelled, what="the label")
    broken = {"metadata": {"name": "broken", "annotations": {**NATIVE, "wif.internal/aws.role-arn": "nobody"}}}
    status, body = api_server.request("POST", path, broken)
    assert status in (400, 403, 422), body
    assert b"wif.internal/aws.role-arn" in body
