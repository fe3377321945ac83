"""``wif webhook explain --live`` beside a real API server: accounts, pods that run, and who else is called."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
import yaml

from tests.integration.explaining import (
    ROLE,
    SIDECAR,
    SIDECAR_IMAGE,
    SPEC,
    TEMPLATE,
    THREE,
    Explain,
    account,
    controller,
    with_sidecar,
)
from tests.integration.server_processes import until
from wif.admission.guards import guards
from wif.admission.patch import apply_patch
from wif.admission.registration import RegistrationSettings, registration
from wif.admission.workloads import read_manifests
from wif.cli.webhook_cluster import Cluster
from wif.cli.webhook_explain_text import show_cluster
from wif.config.webhook import WebhookSettings
from wif.edges.kube import KubeClient
from wif.emulator.apiserver import ApiServer, missing_assets

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
PODS = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}


@pytest.fixture
def explain(tmp_path: Path) -> Explain:
    return Explain(tmp_path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    """Its registrations are of this module alone: none of them answers."""
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with ApiServer() as server:
        server.create_namespace("shop", labels={"team": "a"})
        body = account(THREE)
        server.create("/api/v1/namespaces/shop/serviceaccounts", body)
        for made in registrations():
            server.create(f"{ADMISSION}/{plural(made['kind'])}", made)
        yield server


def plural(kind: str) -> str:
    return f"{kind.lower().removesuffix('y')}{'ies' if kind.endswith('y') else 's'}"


def webhook(name: str, part: str, *, kind: str = "Mutating", **members: Any) -> dict[str, Any]:
    service = {"service": {"namespace": "ops", "name": name, "path": "/mutate"}}
    entry = {
        "name": part,
        "clientConfig": service,
        "rules": [PODS],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        **members,
    }
    return {"kind": f"{kind}WebhookConfiguration", "metadata": {"name": name}, "webhooks": [entry]}


def policy(name: str, resource: str, **spec: Any) -> list[dict[str, Any]]:
    rules = {"resourceRules": [{**PODS, "resources": [resource]}]}
    validations = [{"expression": "false", "message": f"seen by {name}"}]
    return [
        {
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {"matchConstraints": rules, "validations": validations, **spec},
        },
        {
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Warn"]},
        },
    ]


def registrations() -> list[dict[str, Any]]:
    settings, where = WebhookSettings(), RegistrationSettings()
    return [
        *registration(settings, where),
        *guards(settings, where),
        webhook("pod-identity-webhook", "pod-identity-webhook.amazonaws.com"),
        webhook(
            "azure-wi-webhook-mutating-webhook-configuration",
            "mutation.azure-workload-identity.io",
            objectSelector={"matchLabels": {"azure.workload.identity/use": "true"}},
        ),
        webhook("gcp-wif-webhook-mutating-webhook-configuration", "mpod.kb.io"),
        webhook("team-b", "b.example.com", namespaceSelector={"matchLabels": {"team": "b"}}),
        webhook(
            "conditional",
            "c.example.com",
            matchConditions=[{"name": "not-nodes", "expression": "!('system:nodes' in request.userInfo.groups)"}],
        ),
        webhook("checks", "v.example.com", kind="Validating"),
        *policy("every", "*"),
        *policy("with-sub-resources", "pods/*"),
        *policy("of-secrets", "secrets"),
    ]


def kubeconfig(cluster: ApiServer, folder: Path, name: str) -> str:
    """Of a ServiceAccount without any right but those that the test grants."""
    document = json.loads(cluster.kubeconfig.read_text())
    document["users"] = [{"name": "admin", "user": {"token": cluster.request_token("shop", name, API_AUDIENCE)}}]
    (folder / "limited").write_text(json.dumps(document))
    return str(folder / "limited")


API_AUDIENCE = "https://kubernetes.default.svc"


def create_pod(cluster: ApiServer, name: str, patch: list[dict[str, Any]] | None = None) -> None:
    """A pod with a patch applied."""
    made: dict[str, Any] = {"metadata": {**TEMPLATE["metadata"], "name": name}, "spec": SPEC}
    made = apply_patch(made, json.dumps(patch or []).encode())
    cluster.create("/api/v1/namespaces/shop/pods", made)


def live(cluster: ApiServer) -> list[str]:
    return ["--live", "--kubeconfig", str(cluster.kubeconfig)]


def test_the_account_comes_from_the_cluster(cluster: ApiServer, explain: Explain) -> None:
    explain.write("pod.yaml", controller())
    (found,) = explain.json("--pod", "pod.yaml", *live(cluster))["pods"]
    assert found["service_account_state"] == "known"
    assert {row["cloud"] for row in found["identities"]} == {"aws", "gcp", "azure"}
    assert found["running"] is None
    uid = json.loads(found["annotations"]["wif.internal/injected"])["uid"]
    assert re.fullmatch(r"[0-9a-f-]{36}", uid)
    assert found["cluster"]["gaps"] == []


def test_an_account_that_is_not_in_the_cluster_is_absent(cluster: ApiServer, explain: Explain) -> None:
    explain.write("pod.yaml", {"kind": "Pod", "metadata": {"name": "x"}, "spec": {**SPEC, "serviceAccountName": "no"}})
    (found,) = explain.json("--pod", "pod.yaml", "--namespace", "shop", *live(cluster))["pods"]
    assert found["service_account_state"] == "absent"
    assert [each["rule"] for each in found["findings"]] == ["account-missing"]


def test_everything_registered_is_listed_in_the_api_servers_order(cluster: ApiServer, explain: Explain) -> None:
    explain.write("pod.yaml", controller())
    (found,) = explain.json("--pod", "pod.yaml", *live(cluster))["pods"]
    rows = found["cluster"]["registrations"]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    assert kinds == ["MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingWebhookConfiguration"]
    by_name = {row["name"]: row for row in rows if not row["name"].startswith("wif-system")}
    assert {name: row["matches"] for name, row in by_name.items()} == {
        "pod-identity-webhook": "yes",
        "azure-wi-webhook-mutating-webhook-configuration": "yes",
        "gcp-wif-webhook-mutating-webhook-configuration": "yes",
        "team-b": "no",
        "conditional": "undecided",
        "checks": "yes",
        "every": "yes",
        "with-sub-resources": "yes",
        "of-secrets": "no",
    }
    assert {row["known_as"] for row in rows} == {"eks", "azure", "pfn", "wif", None}
    assert by_name["team-b"]["clause"] == "namespaceSelector"
    assert by_name["of-secrets"]["clause"] == "matchConstraints.resourceRules"
    assert by_name["conditional"]["conditions"][0]["name"] == "not-nodes"
    own = [row for row in rows if row["known_as"] == "wif"]
    assert {row["kind"] for row in own} == set(kinds)
    assert next(row for row in own if row["part"].startswith("pods."))["matches"] == "undecided"
    out = explain.run("--pod", "pod.yaml", *live(cluster))[0]
    assert "called by the API server for this pod, in this order" in out
    assert "pod-identity-webhook / pod-identity-webhook.amazonaws.com = the EKS webhook" in out
    assert "more do not match" in out


def test_matching_says_what_the_api_server_does(cluster: ApiServer, explain: Explain) -> None:
    """A policy that always fails warns exactly where it is said to match."""
    policies = [made["metadata"] for made in registrations() if made["kind"] == "ValidatingAdmissionPolicy"]
    explain.write("pod.yaml", {"kind": "Pod", "metadata": {"name": "probe", "namespace": "shop"}, "spec": SPEC})
    (found,) = explain.json("--pod", "pod.yaml", *live(cluster))["pods"]
    said = {row["name"] for row in found["cluster"]["registrations"] if row["matches"] == "yes"}
    assert said & {row["name"] for row in policies} == {"every", "with-sub-resources"}

    def warned() -> set[str]:
        answer = requests.post(
            f"{cluster.url}/api/v1/namespaces/shop/pods?dryRun=All",
            json={"metadata": {"name": "probe"}, "spec": SPEC},
            cert=(str(cluster.directory / "admin.crt"), str(cluster.directory / "admin.key")),
            verify=str(cluster.directory / "ca.crt"),
            timeout=30,
        )
        assert answer.status_code == 201, answer.text
        return set(re.findall("seen by ([a-z-]+)", answer.headers.get("Warning", "")))

    until(lambda: warned() == {"every", "with-sub-resources"}, what="the policies in force")


def test_a_pod_that_runs_is_compared(cluster: ApiServer, explain: Explain) -> None:
    metadata = {"namespace": "shop", "name": "right", **TEMPLATE["metadata"]}
    explain.write("pod.yaml", {"kind": "Pod", "metadata": metadata, "spec": SPEC})
    (planned,) = explain.json("--pod", "pod.yaml", *live(cluster))["pods"]
    create_pod(cluster, "right", planned["patch"])
    create_pod(cluster, "bare")
    (right,) = explain.json("--pod", "shop/right", *live(cluster))["pods"]
    assert right["running"]["as_it_should_be"], right["running"]
    assert right["patch"] == []
    out = explain.run("--pod", "shop/right", *live(cluster))[0]
    assert re.search(r"ok +(\d+) of \1 things", out)
    (bare,) = explain.json("--pod", "shop/bare", *live(cluster))["pods"]
    assert {row["state"] for row in bare["running"]["things"]} == {"missing"}
    changed = account({**THREE, "eks.amazonaws.com/role-arn": f"{ROLE}-2"})
    status, answer = cluster.request("PUT", "/api/v1/namespaces/shop/serviceaccounts/web", changed)
    assert status == 200, answer
    try:
        (later,) = explain.json("--pod", "shop/right", *live(cluster))["pods"]
        out = explain.run("--pod", "shop/right", *live(cluster))[0]
    finally:
        cluster.request("PUT", "/api/v1/namespaces/shop/serviceaccounts/web", account(THREE))
    odd = [row for row in later["running"]["things"] if row["state"] != "as-it-should-be"]
    assert {(row["container"], row["name"], row["state"]) for row in odd} == {
        ("app", "AWS_ROLE_ARN", "differs"),
        ("proxy", "AWS_ROLE_ARN", "differs"),
    }
    assert later["running"]["notes"] == [f"aws has changed since: was {ROLE}, would be {ROLE}-2 now"]
    assert "note" in out


def test_the_secret_of_a_pod_that_runs_is_in_no_output(cluster: ApiServer, explain: Explain) -> None:
    status, answer = cluster.request("PUT", "/api/v1/namespaces/shop/serviceaccounts/web", account(SIDECAR))
    assert status == 200, answer
    try:
        cluster.create("/api/v1/namespaces/shop/pods", with_sidecar(explain, *live(cluster)))
        for words in ([], ["--show", "patch"], ["--show", "pod"], ["--show", "diff"], ["--json"]):
            out, _ = explain.run("--pod", "shop/led", *live(cluster), *SIDECAR_IMAGE, *words)
            assert "IDENTITY_HEADER" in out
    finally:
        cluster.request("PUT", "/api/v1/namespaces/shop/serviceaccounts/web", account(THREE))


def test_a_pod_that_is_not_there(cluster: ApiServer, explain: Explain) -> None:
    assert "there is no pod shop/nothing" in explain.run("--pod", "shop/nothing", *live(cluster), status=2)[1]


def test_the_platforms_config_map_is_read(cluster: ApiServer, explain: Explain) -> None:
    entry = {
        "namespace": "shop",
        "serviceAccount": "web",
        "enforce": True,
        "annotations": {"eks.amazonaws.com/role-arn": f"{ROLE}-platform"},
    }
    data = {"config.yaml": yaml.safe_dump({"serviceAccounts": [entry]})}
    cluster.create("/api/v1/namespaces/shop/configmaps", {"metadata": {"name": "platform"}, "data": data})
    explain.write("pod.yaml", controller())
    words = ["--pod", "pod.yaml", *live(cluster), "--platform-config"]
    (found,) = explain.json(*words, "shop/platform")["pods"]
    assert f"{ROLE}-platform" in [row["identity"] for row in found["identities"]]
    (found,) = explain.json(*words, "shop/none")["pods"]
    assert found["cluster"]["gaps"][0]["message"].startswith("there is no ConfigMap shop/none")


def test_missing_rights_are_named_and_the_rest_goes_on(cluster: ApiServer, explain: Explain) -> None:
    cluster.create_service_account("shop", "limited")
    explain.write("pod.yaml", controller())
    words = ["--pod", "pod.yaml", "--live", "--kubeconfig", kubeconfig(cluster, explain.folder, "limited")]
    (found,) = explain.json(*words)["pods"]
    assert found["service_account_state"] == "unknown"
    hints = " ".join(gap["hint"] for gap in found["cluster"]["gaps"])
    for right in (
        "the verb get on the resource serviceaccounts of the API group '' named 'web' in the namespace 'shop'",
        "the verb get on the resource namespaces",
        "the verb list on the resource mutatingwebhookconfigurations",
        "the verb list on the resource validatingadmissionpolicybindings",
    ):
        assert right in hints
    out = explain.run(*words)[0]
    assert "not known" in out
    assert "no registration of wif" not in out  # nobody could look
    assert "unread" in out
    err = explain.run("--pod", "shop/x", *words[2:], status=1)[1]
    assert "the verb get on the resource pods" in err


def test_a_long_list_is_read_to_its_end(cluster: ApiServer, explain: Explain) -> None:
    rules = [{**PODS, "resources": ["secrets"]}]
    names = [f"many-{number:02}" for number in range(60)]  # more than one page
    for name in names:
        made = webhook(name, f"{name}.example.com", kind="Validating", rules=rules)
        cluster.create(f"{ADMISSION}/validatingwebhookconfigurations", made)
    explain.write("pod.yaml", controller())
    (found,) = explain.json("--pod", "pod.yaml", *live(cluster))["pods"]
    assert set(names) <= {row["name"] for row in found["cluster"]["registrations"]}


# -- an API server of another kind -------------------------------------------------------------------------------------


class Older(http.server.BaseHTTPRequestHandler):
    """Answers like an API server that has policies as a beta alone, and no mutating ones."""

    objects: ClassVar[Mapping[str, Any]] = {
        "/api/v1/namespaces/shop": {"metadata": {"labels": {"team": "a"}}},
        f"{ADMISSION}/mutatingwebhookconfigurations": {"items": []},
        f"{ADMISSION}/validatingwebhookconfigurations": {"items": []},
        f"{ADMISSION}beta1/validatingadmissionpolicies": {"items": [policy("beta", "pods")[0]]},
        f"{ADMISSION}beta1/validatingadmissionpolicybindings": {"items": [policy("beta", "pods")[1]]},
    }

    def do_GET(self) -> None:
        found = self.objects.get(self.path.partition("?")[0])
        status = {"kind": "Status", "reason": "NotFound", "message": "not here"} if found is None else found
        body = json.dumps(status).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def older() -> Iterator[KubeClient]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Older) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = KubeClient.from_url(f"http://127.0.0.1:{server.server_port}")
        yield client
        client.close()
        server.shutdown()


def test_an_older_cluster_is_asked_for_what_it_has(older: KubeClient) -> None:
    cluster = Cluster(older)
    cluster.read_account("shop", "web")
    cluster.read_account("shop", "web")
    assert cluster.accounts == {("shop", "web"): None}
    (workload,) = read_manifests([("f", controller())]).workloads
    facts = cluster.facts(workload)
    assert [(each.name, each.verdict.answer) for each in facts.neighbours] == [("beta", "yes")]
    assert facts.gaps == ()
    assert facts.has_all_mutating
    assert cluster.facts(workload) == facts


def test_no_registration_is_said(older: KubeClient, capsys: pytest.CaptureFixture[str]) -> None:
    (workload,) = read_manifests([("f", controller())]).workloads
    show_cluster(Cluster(older).facts(workload))
    assert "no registration of wif matches this pod" in capsys.readouterr().out
