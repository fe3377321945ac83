"""The chart's publisher and server of documents, held to the real API server: objects, rights and security."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.charts import (
    CHART,
    RELEASE,
    Cluster,
    cluster,
    helm,
    in_namespace,
    parse_command_line,
    pod_template,
    rendered,
    templated,
    with_crds,
)

__all__ = ["cluster", "with_crds"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

VALUES: Mapping[str, Any] = {
    "publisher": {
        "issuers": {
            "cluster-a": {
                "issuer": "https://oidc.example.com/cluster-a",
                "to": [{"url": "s3://oidc/cluster-a", "region": "eu-central-1"}, {"url": "configmap:elsewhere/oidc"}],
            }
        },
        "configMapTargets": [{"namespace": "elsewhere", "name": "oidc"}],
        "tokens": [{"name": "aws", "audience": "sts.amazonaws.com"}],
    }
}
EVERYTHING: Mapping[str, Any] = {
    **VALUES,
    "serve": {"enabled": True, "args": ["--issuer", "https://oidc.example.com/cluster-a"]},
    "certificate": {"enabled": True, "dnsNames": ["oidc.example.com"], "issuerRef": {"name": "public"}},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
}


def test_helm_finds_nothing_wrong(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(dict(EVERYTHING)))
    done = helm("lint", "--strict", str(CHART), "-f", str(file))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("values", [VALUES, EVERYTHING, {"publisher": {**VALUES["publisher"], "mode": "cronjob"}}])
def test_the_api_server_accepts_every_object(cluster: Cluster, tmp_path: Path, values: Mapping[str, Any]) -> None:
    objects = rendered(cluster.namespace, values, tmp_path)
    assert len(objects) > 10
    said = cluster.apply(in_namespace(objects, cluster.namespace), "--dry-run=server")
    assert said.count("serverside-applied (server dry run)") == len(objects)
    assert "Warning" not in said


@pytest.mark.parametrize("mode", ["watch", "cronjob"])
def test_every_pod_passes_where_restricted_is_enforced(cluster: Cluster, tmp_path: Path, mode: str) -> None:
    values = {**EVERYTHING, "publisher": {**VALUES["publisher"], "mode": mode}}
    if mode == "cronjob":
        values["serviceMonitor"] = values["prometheusRule"] = {"enabled": False}
    objects = rendered(cluster.namespace, values, tmp_path)
    cluster.apply([each for each in objects if each["kind"] == "ServiceAccount"], "-n", cluster.namespace)
    templates = [pod_template(each) for each in objects if each["kind"] in ("Deployment", "CronJob")]
    assert len(templates) == 2
    for number, template in enumerate(templates):
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
        pod["metadata"] = {"name": f"pod-{number}", "namespace": cluster.namespace}
        assert "serverside-applied" in cluster.apply([pod], "--dry-run=server")
        container = template["spec"]["containers"][0]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.fixture
def installed(cluster: Cluster, tmp_path: Path) -> Cluster:
    """The chart's objects for real; no controller is there, so no pod ever runs."""
    cluster.apply(in_namespace(rendered(cluster.namespace, VALUES, tmp_path), cluster.namespace))
    return cluster


def test_the_publisher_may_do_its_work_and_nothing_else(installed: Cluster) -> None:
    publisher = f"{RELEASE}-publisher"

    def may(verb: str, what: str, *more: str) -> bool:
        said = installed.kubectl("auth", "can-i", verb, what, *more, user=publisher, check=False)
        return said.strip().endswith("yes")

    own, elsewhere = ("-n", installed.namespace), ("-n", "elsewhere")
    assert may("get", "/openid/v1/jwks")
    assert may("get", "/.well-known/openid-configuration")
    assert may("list", "endpointslices.discovery.k8s.io", "-n", "default")
    assert may("update", "configmaps/wif-issuer-state", *own)
    assert may("update", "configmaps/oidc", *elsewhere)
    assert may("update", "leases.coordination.k8s.io/wif-issuer", *own)
    assert may("create", f"serviceaccounts/{publisher}", *own, "--subresource=token")
    assert may("create", "events", *own)
    for forbidden in (
        ("get", "secrets", *own),
        ("list", "configmaps", *own),
        ("create", "configmaps", *own),
        ("delete", "configmaps/wif-issuer-state", *own),
        ("update", "configmaps/other", *own),
        ("create", "serviceaccounts/default", "--subresource=token", *own),
        ("list", "endpointslices.discovery.k8s.io", *elsewhere),
        ("get", "/metrics"),
    ):
        assert not may(*forbidden), forbidden


def test_the_state_is_changed_by_the_publisher_and_named_administrators_alone(installed: Cluster) -> None:
    state = ("patch", "configmap", "wif-issuer-state", "-n", installed.namespace, "-p", '{"data":{"state":"x"}}')
    installed.server.create_service_account(installed.namespace, "editor")
    within = ("-n", installed.namespace)
    installed.kubectl("create", "role", "editor", *within, "--verb=*", "--resource=configmaps")
    editor = f"--serviceaccount={installed.namespace}:editor"
    installed.kubectl("create", "rolebinding", "editor", *within, "--role=editor", editor)
    said = _until_denied(installed, state)
    assert "only the publisher and its administrators" in said
    delete = ("delete", "configmap", "wif-issuer-state", "-n", installed.namespace)
    assert "only the publisher" in installed.kubectl(*delete, user="editor", check=False)
    other = ("create", "configmap", "another", "-n", installed.namespace)
    assert "created" in installed.kubectl(*other, user="editor")

    body = json.loads(installed.kubectl("get", *state[1:5], "-o", "json"))
    assert "data" not in body, "made empty: the first publish takes it so"
    path = f"/api/v1/namespaces/{installed.namespace}/configmaps/wif-issuer-state"
    token = installed.server.request_token(
        installed.namespace, f"{RELEASE}-publisher", "https://kubernetes.default.svc"
    )
    status, answer = installed.server.request("PUT", path, {**body, "data": {"state": "{}"}}, token=token)
    assert status == 200, answer
    assert "patched" in installed.kubectl(*state), "system:masters is an administrator"


def _until_denied(installed: Cluster, command: Sequence[str]) -> str:
    """A policy takes effect after a second or three."""
    for _ in range(40):
        said = installed.kubectl(*command, "--dry-run=server", user="editor", check=False)
        if "denied" in said:
            return said
    raise AssertionError(f"never denied: {said}")


def test_an_upgrade_leaves_the_state_and_the_lease_alone(tmp_path: Path) -> None:
    first = rendered("ns", VALUES, tmp_path)
    second = rendered("ns", {**VALUES, "image": {"tag": "9.9.9"}}, tmp_path)
    kept = [each for each in first if "helm.sh/resource-policy" in each["metadata"].get("annotations", {})]
    assert {each["metadata"]["name"] for each in kept} == {"wif-issuer-state", "oidc"}
    for each in (*kept, *(each for each in first if each["kind"] == "Lease")):
        assert each in second
        assert "data" not in each
        assert "spec" not in each


def test_several_issuers_have_a_state_each(tmp_path: Path) -> None:
    issuer = VALUES["publisher"]["issuers"]["cluster-a"]
    values = {"publisher": {"issuers": {"a": issuer, "b": {**issuer, "state": "configmap:x/y"}, "c": issuer}}}
    objects = rendered("ns", values, tmp_path)
    [config] = [each for each in objects if each["metadata"]["name"].endswith("-config")]
    issuers = yaml.safe_load(config["data"]["wif.yaml"])["issuers"]
    assert {name: each["state"] for name, each in issuers.items()} == {
        "a": "configmap:ns/wif-issuer-state-a",
        "b": "configmap:x/y",
        "c": "configmap:ns/wif-issuer-state-c",
    }
    made = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    assert made == {f"{RELEASE}-publisher-config", "wif-issuer-state-a", "wif-issuer-state-c"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "publisher.issuers names no issuer"),
        ({**VALUES, "publisher": {**VALUES["publisher"], "replica": 3}}, "'replica' not allowed"),
        ({**VALUES, "publisher": {**VALUES["publisher"], "mode": "once"}}, "publisher/mode"),
        ({**VALUES, "serve": {"enabled": True}}, "serve.args is empty"),
        ({**EVERYTHING, "certificate": {"enabled": True, "dnsNames": ["a.example.com"]}}, "certificate.issuerRef"),
        ({**VALUES, "image": {"digest": "sha256:abc"}}, "image/digest"),
    ],
)
def test_wrong_values_are_refused_with_their_name(tmp_path: Path, values: Mapping[str, Any], said: str) -> None:
    done = templated("ns", values, tmp_path)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize("values", [EVERYTHING, {"publisher": {**VALUES["publisher"], "mode": "cronjob"}}])
def test_the_command_lines_in_the_chart_are_ones_that_exist(
    tmp_path: Path, values: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for each in rendered("ns", values, tmp_path):
        if each["kind"] not in ("Deployment", "CronJob"):
            continue
        parse_command_line(pod_template(each)["spec"]["containers"][0]["args"])


def test_the_alerts_ask_for_metrics_that_the_controller_tells(tmp_path: Path) -> None:
    from wif.issuer.watch import ControllerStatus
    from wif.serve.metrics import WatchMetrics

    told = set()
    for family in WatchMetrics(lambda: ControllerStatus(is_leading=True, now=0.0, issuers=())).collect():
        told.add(f"{family.name}_total" if family.type == "counter" else family.name)
    [rule] = [each for each in rendered("ns", EVERYTHING, tmp_path) if each["kind"] == "PrometheusRule"]
    asked = {name for alert in rule["spec"]["groups"][0]["rules"] for name in re.findall(r"wif_\w+", alert["expr"])}
    assert len(asked) > 4
    assert asked <= told
