"""The chart's webhook: registered as ``wif webhook render`` prints it, held to the real API server, run as it says."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from tests.integration.charts import (
    CHART,
    RELEASE,
    ROOT,
    Cluster,
    cluster,
    helm,
    in_namespace,
    new_cluster,
    parse_command_line,
    pod_template,
    rendered,
    templated,
    with_crds,
)
from tests.integration.server_processes import until
from tests.integration.webhooks import WebhookProcess
from wif.admission.platform import read_platform
from wif.cli.root import cli
from wif.config.webhook import load_webhook
from wif.emulator.apiserver import ApiServer

__all__ = ["cluster", "with_crds"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def _values(**webhook: Any) -> dict[str, Any]:
    return {"publisher": {"enabled": False}, "webhook": {"enabled": True, **webhook}}


# -- registration and guards -------------------------------------------------------------------------------------------

Case = tuple[Mapping[str, Any], Sequence[str]]
"""Values below ``webhook``, and the flags of ``wif webhook render`` for the same."""

CASES: Mapping[str, Case] = {
    "default": ({}, ()),
    "enforced": ({"guards": {"enforce": True}}, ("--enforce",)),
    "tenant": (
        {"watchNamespaces": ["team-a", "team-b"]},
        ("--watch-namespace=team-a", "--watch-namespace=team-b"),
    ),
    "compat eks": (
        {"settings": {"compat": "eks", "dialects": ["eks"], "aws_prefix": "irsa.example.com"}},
        ("--compat=eks", "--dialect=eks", "--aws-prefix=irsa.example.com"),
    ),
    "azure alone": (
        {
            "settings": {
                "dialects": ["azure"],
                "azure_token_endpoint": {"annotation_suffix": "p", "audience": "api://p"},
            },
            "registration": {"objectSelector": {"matchLabels": {"team": "a"}}, "failurePolicy": "Fail"},
        },
        (
            "--dialect=azure",
            '--azure-token-endpoint={"annotation_suffix":"p","audience":"api://p"}',
            '--object-selector={"matchLabels":{"team":"a"}}',
            "--failure-policy=Fail",
        ),
    ),
    "cert-manager": (
        {"tls": {"source": "cert-manager"}},
        ("--cert-manager=NAMESPACE/docs-webhook",),
    ),
    "own files": ({"tls": {"source": "secret", "caBundle": PEM}}, ("--ca-file=FOLDER/ca.pem",)),
    "everything else": (
        {
            "settings": {
                "prefix": "ids.example.com",
                "gcp_provider": "projects/1/locations/global/workloadIdentityPools/p/providers/k",
                "gcp_audience": "it's \\ here",
                "aws_audience": "aws",
                "aws_container_credentials": {"identities": [["a", "b"]], "audience": "agent"},
            },
            "registration": {
                "timeoutSeconds": 9,
                "reinvocationPolicy": "Never",
                "matchPolicy": "Exact",
                "excludedNamespaces": ["kube-public", "NAMESPACE"],
                "namespaceSelector": {
                    "matchLabels": {"injected": "yes"},
                    "matchExpressions": [{"key": "quiet", "operator": "DoesNotExist"}],
                },
                "validation": False,
            },
        },
        (
            "--prefix=ids.example.com",
            "--gcp-provider=projects/1/locations/global/workloadIdentityPools/p/providers/k",
            "--gcp-audience=it's \\ here",
            "--aws-audience=aws",
            '--aws-container-credentials={"identities":[["a","b"]],"audience":"agent"}',
            "--timeout=9",
            "--reinvocation-policy=Never",
            "--match-policy=Exact",
            "--exclude-namespace=kube-public",
            "--exclude-namespace=NAMESPACE",
            '--namespace-selector={"matchLabels":{"injected":"yes"},'
            '"matchExpressions":[{"key":"quiet","operator":"DoesNotExist"}]}',
            "--no-validation",
        ),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_registration_and_guards_are_what_render_prints(tmp_path: Path, case: Case) -> None:
    values, flags = case
    _assert_equal(values, flags, tmp_path)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_guards_are_what_render_prints_for_every_set_of_dialects(tmp_path: Path, number: int) -> None:
    for dialects in itertools.combinations(("native", "pfn", "eks", "azure"), number):
        _assert_equal({"settings": {"dialects": list(dialects)}}, [f"--dialect={each}" for each in dialects], tmp_path)


def _assert_equal(values: Mapping[str, Any], flags: Sequence[str], folder: Path) -> None:
    text = json.dumps(_values(**values)).replace("NAMESPACE", "ns")
    made = [each for each in rendered("ns", json.loads(text), folder) if "admissionregistration" in each["apiVersion"]]
    printed = _render([each.replace("NAMESPACE", "ns") for each in flags], folder)
    assert len(made) == len(printed) > 6
    ours, theirs = (
        dict(_leaves({f"{each['kind']} {each['metadata']['name']}": each for each in objects}))
        for objects in (made, printed)
    )
    assert {path: value for path, value in ours.items() if theirs.get(path) != value} == {}
    assert ours.keys() == theirs.keys()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each scalar with its path: a difference is shown as that and no more."""
    if value in ({}, []) or not isinstance(value, dict | list):
        yield path, value
        return
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(member, f"{path}/{name}")


def _render(flags: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    (folder / "ca.pem").write_text(PEM)
    words = ["webhook", "render", "--json", f"--release={RELEASE}", "--namespace=ns"]
    words += ["--label=app.kubernetes.io/managed-by=Helm", *(each.replace("FOLDER", str(folder)) for each in flags)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items


# -- every object ------------------------------------------------------------------------------------------------------

MONITORED = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}
PLATFORM: dict[str, Any] = {
    "defaults": {"azure_tenant_id": "11111111-2222-3333-4444-555555555555"},
    "serviceAccounts": [
        {
            "namespace": "team-a-*",
            "serviceAccount": "*",
            "enforce": True,
            "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/team-a"},
        }
    ],
}
SETS: Mapping[str, Mapping[str, Any]] = {
    "default": _values(),
    "everything": {**_values(platform=PLATFORM, priorityClassName="system-cluster-critical"), **MONITORED},
    "tenant": _values(watchNamespaces=["elsewhere"]),
    "cert-manager": _values(tls={"source": "cert-manager"}),
    "issuer": _values(tls={"source": "cert-manager", "issuerRef": {"name": "all", "kind": "ClusterIssuer"}}),
    "own files": _values(tls={"source": "secret", "secretName": "mine", "caBundle": PEM}),
    "by others": _values(registration={"enabled": False}, guards={"enabled": False}, platformConfigMap="theirs"),
}


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(dict(SETS[name])))
    done = helm("lint", "--strict", str(CHART), "-f", str(file))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SETS)
def test_the_api_server_accepts_every_object(cluster: Cluster, tmp_path: Path, name: str) -> None:
    objects = rendered(cluster.namespace, SETS[name], tmp_path)
    for each in objects:  # an authority that is one: the API server looks
        for webhook in each.get("webhooks", ()):
            if "caBundle" in webhook["clientConfig"]:
                authority = (cluster.server.directory / "ca.crt").read_bytes()
                webhook["clientConfig"]["caBundle"] = base64.b64encode(authority).decode()
    said = cluster.apply(in_namespace(objects, cluster.namespace), "--dry-run=server")
    assert said.count("serverside-applied (server dry run)") == len(objects) > 7
    assert "Warning" not in said


@pytest.mark.parametrize("name", ["everything", "own files"])
def test_the_pod_passes_where_restricted_is_enforced(cluster: Cluster, tmp_path: Path, name: str) -> None:
    objects = rendered(cluster.namespace, SETS[name], tmp_path)
    cluster.apply([each for each in objects if each["kind"] == "ServiceAccount"], "-n", cluster.namespace)
    [template] = [pod_template(each) for each in objects if each["kind"] == "Deployment"]
    metadata = {**template["metadata"], "name": "webhook", "namespace": cluster.namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    assert "serverside-applied" in cluster.apply([pod], "--dry-run=server")
    [container] = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert [volumes[each] for each in writable] == [
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    ]


def test_a_replica_stops_within_its_time_and_never_both(tmp_path: Path) -> None:
    objects = {each["kind"]: each for each in rendered("ns", _values(terminationGracePeriodSeconds=60), tmp_path)}
    spec = objects["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    [grace] = [int(each.removeprefix("--grace=")) for each in arguments if each.startswith("--grace=")]
    [delay] = [int(each.removeprefix("--drain-delay=")) for each in arguments if each.startswith("--drain-delay=")]
    assert delay < grace < pod["terminationGracePeriodSeconds"] == 60
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    selector = spec["selector"]["matchLabels"]
    for each in pod["topologySpreadConstraints"]:
        assert each["labelSelector"]["matchLabels"] == selector
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == selector
    assert objects["Service"]["spec"]["selector"] == selector


def test_new_settings_start_new_pods_and_the_platforms_word_does_not(tmp_path: Path) -> None:
    def pod(**webhook: Any) -> dict[str, Any]:
        [found] = [
            pod_template(each) for each in rendered("ns", _values(**webhook), tmp_path) if "Deployment" in each["kind"]
        ]
        return found

    assert pod(settings={"aws_region": "eu-west-1"}) != pod(settings={"aws_region": "eu-central-1"})
    assert pod(platform=PLATFORM) == pod(platform={**PLATFORM, "defaults": {}})


@pytest.mark.parametrize("name", SETS)
def test_the_command_line_in_the_chart_is_one_that_exists(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    [pod] = [pod_template(each) for each in rendered("ns", SETS[name], tmp_path) if each["kind"] == "Deployment"]
    parse_command_line(pod["spec"]["containers"][0]["args"])


def test_the_servers_own_code_reads_what_the_chart_hands_it(tmp_path: Path) -> None:
    settings = {
        "compat": "pfn",
        "max_token_expiration": 2**32,
        "token_mode": 0o440,
        "gcp_audience": "it's \" all: here #",
        "aws_container_credentials": {"identities": [["a", "b"]]},
    }
    objects = rendered("ns", _values(settings=settings, platform=PLATFORM), tmp_path)
    data = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    read = load_webhook(yaml.safe_load(data[f"{RELEASE}-webhook-config"]["wif.yaml"])["webhook"])
    [pod] = [pod_template(each) for each in objects if each["kind"] == "Deployment"]
    [server] = pod["spec"]["containers"]
    of_release = {"sidecar_image": server["image"], "sidecar_pull_policy": server["imagePullPolicy"]}
    assert read == load_webhook(settings | of_release)
    platform = read_platform(data[f"{RELEASE}-webhook-platform"], read)
    assert platform.settings.azure_tenant_id == PLATFORM["defaults"]["azure_tenant_id"]
    [entry] = platform.entries
    assert (entry.namespace, entry.enforce) == ("team-a-*", True)


@pytest.mark.parametrize("image", ["registry.example/wif@sha256:0", None])
def test_sidecars_are_of_another_image_or_of_none_where_the_settings_say_so(image: str | None, tmp_path: Path) -> None:
    objects = rendered("ns", _values(settings={"sidecar_image": image}), tmp_path)
    [data] = [each["data"] for each in objects if each["metadata"]["name"] == f"{RELEASE}-webhook-config"]
    read = load_webhook(yaml.safe_load(data["wif.yaml"])["webhook"])
    assert (read.sidecar_image, read.sidecar_pull_policy) == (image, None)


# -- rights ------------------------------------------------------------------------------------------------------------


def _install(cluster: Cluster, values: Mapping[str, Any], folder: Path) -> None:
    """The chart's objects for real, without what would reach other tests. No controller is there: no pod ever runs."""
    objects = rendered(cluster.namespace, values, folder)
    kept = [each for each in objects if "admissionregistration" not in each["apiVersion"]]
    cluster.apply(in_namespace(kept, cluster.namespace))


def _may(cluster: Cluster) -> Callable[..., bool]:
    """Whether the webhook's ServiceAccount has a right: verb, GROUP/RESOURCE, namespace (empty: all), name."""

    def may(verb: str, what: str, namespace: str = "", name: str = "") -> bool:
        group, _, resource = what.rpartition("/")
        resource, _, part = resource.partition(".")
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": part}
        attributes |= {"namespace": namespace, "name": name}
        user = f"system:serviceaccount:{cluster.namespace}:{RELEASE}-webhook"
        asked = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        spec = {"user": user, "resourceAttributes": attributes}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        status, answer = cluster.server.request("POST", path, {**asked, "spec": spec})
        assert status == 201, answer
        return bool(json.loads(answer)["status"]["allowed"])

    return may


EVENTS, LEASES = "events.k8s.io/events", "coordination.k8s.io/leases"
MUTATING, VALIDATING = (
    f"admissionregistration.k8s.io/{kind}webhookconfigurations" for kind in ("mutating", "validating")
)


def test_the_webhook_may_do_its_work_and_nothing_else(cluster: Cluster, tmp_path: Path) -> None:
    _install(cluster, _values(platform=PLATFORM), tmp_path)
    may, own, secret = _may(cluster), cluster.namespace, f"{RELEASE}-webhook-tls"
    registered = f"{cluster.namespace}-{RELEASE}-webhook"
    for allowed in (
        ("get", "serviceaccounts", "elsewhere", "any"),
        ("list", "serviceaccounts"),
        ("watch", "serviceaccounts"),
        ("list", "pods"),
        ("create", EVENTS, "elsewhere"),
        ("patch", EVENTS, "elsewhere"),
        ("get", "secrets", own, secret),
        ("update", "secrets", own, secret),
        ("list", "configmaps", own, f"{RELEASE}-webhook-platform"),
        ("watch", "configmaps", own, f"{RELEASE}-webhook-platform"),
        ("get", LEASES, own, f"{RELEASE}-webhook"),
        ("update", LEASES, own, f"{RELEASE}-webhook"),
        ("get", MUTATING, "", registered),
        ("patch", MUTATING, "", registered),
        ("patch", VALIDATING, "", registered),
    ):
        assert may(*allowed), allowed
    for forbidden in (
        ("list", "secrets", own),
        ("get", "secrets", own, "other"),
        ("get", "secrets", "elsewhere", secret),
        ("create", "secrets", own),
        ("delete", "secrets", own, secret),
        ("list", "configmaps", own),
        ("get", "configmaps", own, f"{RELEASE}-webhook-config"),
        ("update", "configmaps", own, f"{RELEASE}-webhook-platform"),
        ("create", "serviceaccounts.token", own, f"{RELEASE}-webhook"),
        ("update", "serviceaccounts", "elsewhere"),
        ("get", "pods", "elsewhere"),
        ("watch", "pods"),
        ("create", "pods", own),
        ("delete", "pods", "elsewhere"),
        ("list", EVENTS, own),
        ("create", LEASES, own),
        ("create", MUTATING),
        ("list", MUTATING),
        ("delete", MUTATING, "", registered),
        ("patch", MUTATING, "", "other"),
        ("patch", "admissionregistration.k8s.io/validatingadmissionpolicies", "", f"{registered}-token-volume"),
    ):
        assert not may(*forbidden), forbidden


def test_a_tenants_webhook_sees_its_namespaces_alone(cluster: Cluster, tmp_path: Path) -> None:
    values = _values(watchNamespaces=["elsewhere"], tls={"source": "cert-manager"})
    _install(cluster, values, tmp_path)
    may = _may(cluster)
    for allowed in (("watch", "serviceaccounts"), ("list", "pods"), ("create", EVENTS)):
        assert may(*allowed, "elsewhere"), allowed
    for forbidden in (
        ("list", "serviceaccounts"),
        ("list", "serviceaccounts", "default"),
        ("list", "pods", "default"),
        ("create", EVENTS, "default"),
        ("get", "secrets", cluster.namespace, f"{RELEASE}-webhook-tls"),
        ("get", MUTATING, "", f"{cluster.namespace}-{RELEASE}-webhook"),
    ):
        assert not may(*forbidden), forbidden
    kinds = {each["kind"] for each in rendered(cluster.namespace, values, tmp_path)}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}


def test_two_releases_share_no_name(tmp_path: Path) -> None:
    wide: list[tuple[str, str]] = []
    for namespace in ("one", "two"):
        for each in rendered(namespace, _values(watchNamespaces=["team"]), tmp_path):
            where = each["metadata"].get("namespace")
            if where == "team" or each["kind"].startswith(("ClusterRole", "Validating", "Mutating")):
                wide.append((each["kind"], each["metadata"]["name"]))
    assert len(wide) == len(set(wide)) > 15


# -- install, upgrade, remove ------------------------------------------------------------------------------------------


def test_an_upgrade_keeps_what_the_webhook_has_written_and_all_of_it_goes(cluster: Cluster, tmp_path: Path) -> None:
    values = _values(settings={"prefix": f"{cluster.namespace}.example.com"}, watchNamespaces=[cluster.namespace])
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    where = ("-n", cluster.namespace, "--kubeconfig", str(cluster.server.kubeconfig))
    done = helm("install", RELEASE, str(CHART), "-f", str(file), *where)
    assert done.returncode == 0, done.stderr
    secret = ("secret", f"{RELEASE}-webhook-tls", "-n", cluster.namespace)
    registered = ("mutatingwebhookconfiguration", f"{cluster.namespace}-{RELEASE}-webhook")
    bundle = base64.b64encode((cluster.server.directory / "ca.crt").read_bytes()).decode()
    assert "data" not in json.loads(cluster.kubectl("get", *secret, "-o", "json"))
    cluster.kubectl("patch", *secret, "-p", json.dumps({"data": {"tls.crt": "eA=="}}))
    add = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}
    cluster.kubectl("patch", *registered, "--type=json", "-p", json.dumps([add]))

    done = helm(
        "upgrade", RELEASE, str(CHART), "-f", str(file), "--set", "webhook.registration.timeoutSeconds=7", *where
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(cluster.kubectl("get", *secret, "-o", "json"))["data"] == {"tls.crt": "eA=="}
    pods = json.loads(cluster.kubectl("get", *registered, "-o", "json"))["webhooks"][0]
    assert pods["timeoutSeconds"] == 7
    assert pods["clientConfig"]["caBundle"] == bundle

    # the registration first, and only then what it calls
    done = helm("upgrade", RELEASE, str(CHART), "-f", str(file), "--set", "webhook.registration.enabled=false", *where)
    assert done.returncode == 0, done.stderr
    assert "NotFound" in cluster.kubectl("get", *registered, check=False)
    assert f"{RELEASE}-webhook" in cluster.kubectl("get", "deployments", "-n", cluster.namespace)
    done = helm("uninstall", RELEASE, *where)
    assert done.returncode == 0, done.stderr
    for each in (
        secret,
        ("validatingadmissionpolicy", f"{registered[1]}-token-volume"),
        ("clusterrole", registered[1]),
    ):
        assert "NotFound" in cluster.kubectl("get", *each, check=False)


# -- run as it is installed --------------------------------------------------------------------------------------------

LOCAL = ("--config-file", "--host", "--port", "--health-port", "--log-format", "--grace", "--drain-delay")
"""Flags that a test outside a pod gives values of its own."""


class Replica(NamedTuple):
    """One that runs, and where it is installed."""

    cluster: Cluster
    process: WebhookProcess


@pytest.fixture(scope="module")
def replica(with_crds: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """The chart's command line with the chart's rights, as its pod would run it."""
    cluster, tmp_path = new_cluster(with_crds), tmp_path_factory.mktemp("replica")
    values = {**_values(settings={"prefix": f"{cluster.namespace}.example.com"}, platform=PLATFORM), **MONITORED}
    objects = rendered(cluster.namespace, values, tmp_path)
    wide = [each for each in objects if "admissionregistration" in each["apiVersion"]]
    cluster.apply(in_namespace(objects, cluster.namespace))
    [pod] = [pod_template(each) for each in objects if each["kind"] == "Deployment"]
    [text] = [each["data"]["wif.yaml"] for each in objects if each["metadata"]["name"].endswith("-webhook-config")]
    (tmp_path / "wif.yaml").write_text(text)
    given = [each for each in pod["spec"]["containers"][0]["args"][2:] if not each.startswith(LOCAL)]
    given += [f"--config-file={tmp_path / 'wif.yaml'}", f"--kubeconfig={_kubeconfig(cluster, tmp_path)}"]
    try:
        with WebhookProcess(*given, folder=tmp_path) as process:
            process.until_ready()
            until(lambda: process.metric("wif_webhook_unmutated_pods") is not None, what="a look at all pods")
            yield Replica(cluster, process)
    finally:
        cluster.kubectl("delete", "-f", "-", given="\n---\n".join(map(json.dumps, wide)))


def _kubeconfig(cluster: Cluster, folder: Path) -> Path:
    token = cluster.server.request_token(cluster.namespace, f"{RELEASE}-webhook", "https://kubernetes.default.svc")
    authority = str(cluster.server.directory / "ca.crt")
    file = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pod",
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
        "clusters": [{"name": "pod", "cluster": {"server": cluster.server.url, "certificate-authority": authority}}],
        "users": [{"name": "pod", "user": {"token": token}}],
    }
    file.write_text(json.dumps(content))
    return file


def test_a_replica_works_with_the_charts_flags_and_rights(replica: Replica) -> None:
    cluster, process = replica
    name = f"{cluster.namespace}-{RELEASE}-webhook"
    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        for each in json.loads(cluster.kubectl("get", kind, name, "-o", "json"))["webhooks"]:
            assert "caBundle" in each["clientConfig"]
    secret = json.loads(
        cluster.kubectl("get", "secret", f"{RELEASE}-webhook-tls", "-n", cluster.namespace, "-o", "json")
    )
    assert {"tls.crt", "tls.key", "ca.crt"} <= secret["data"].keys()
    lease = json.loads(cluster.kubectl("get", "lease", f"{RELEASE}-webhook", "-n", cluster.namespace, "-o", "json"))
    assert lease["spec"]["holderIdentity"]
    assert process.metric("wif_webhook_platform_in_force") == 1
    assert not [each for each in process.log if each.get("level") in ("warning", "error")]


def test_the_page_has_every_metric_and_every_alert(replica: Replica, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "webhook.md").read_text()
    [part] = [part for part in page.split("\n## ") if part.startswith("Metrics\n")]
    _, text = replica.process.health("/metrics")
    told = set(re.findall(r"^# HELP (wif_\w+)", text, re.MULTILINE))
    assert {name.partition("{")[0] for name in re.findall(r"`(wif_\w+)", part)} == told
    [rule] = [each for each in rendered("ns", {**_values(), **MONITORED}, tmp_path) if each["kind"] == "PrometheusRule"]
    alerts = [each["alert"] for each in rule["spec"]["groups"][0]["rules"]]
    assert re.findall(r"`(Wif\w+)`", part) == alerts


def test_the_alerts_and_the_dashboard_ask_for_metrics_that_the_server_tells(replica: Replica, tmp_path: Path) -> None:
    _, text = replica.process.health("/metrics")
    told = set(re.findall(r"^# HELP (\w+)", text, re.MULTILINE)) | set(
        re.findall(r"^(\w+_bucket)\{", text, re.MULTILINE)
    )
    objects = {each["kind"]: each for each in rendered("ns", {**_values(), **MONITORED}, tmp_path)}
    [board] = [
        each["data"] for each in rendered("ns", {**_values(), **MONITORED}, tmp_path) if "dashboard" in str(each)
    ]
    panels = json.loads(board["wif-webhook.json"])["panels"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    alerts = [alert["expr"] for alert in objects["PrometheusRule"]["spec"]["groups"][0]["rules"]]
    for expression in (*shown, *alerts):
        asked = re.findall(r"\b(?:wif|process)_\w+", expression)
        assert asked, expression
        assert set(asked) <= told, expression
        assert expression.count('{namespace="ns",service="docs-webhook"}') == len(asked), "one release's series alone"


# -- values that are wrong, and what is asked for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (_values(settings={"aws_regoin": "x"}), "'aws_regoin' not allowed"),
        (_values(settings={"prefix": "Wif"}), "webhook/settings/prefix"),
        (_values(settings={"gcp_audience": "a\nb"}), "webhook/settings/gcp_audience"),
        (_values(settings={"gcp_audience": "\u00e9"}), "printable ASCII"),
        (_values(tls={"source": "secret"}), "webhook.tls.caBundle is empty"),
        (_values(tls={"source": "secret", "caBundle": "-----BEGIN PRIVATE KEY-----"}), "webhook/tls/caBundle"),
        (_values(platform=PLATFORM, platformConfigMap="theirs"), "set one of them"),
        (_values(watchNamespaces=["Team"]), "webhook/watchNamespaces/0"),
        (_values(registration={"timeoutSeconds": 31}), "webhook/registration/timeoutSeconds"),
        (
            _values(registration={"failurePolicy": "Fail", "excludedNamespaces": ["kube-system"]}),
            "pods of ns would wait for the webhook",
        ),
        (
            _values(registration={"failurePolicy": "Fail"}, watchNamespaces=["a", "kube-system"]),
            "pods of kube-system would wait for the webhook",
        ),
    ],
)
def test_wrong_values_are_refused_with_their_name(tmp_path: Path, values: Mapping[str, Any], said: str) -> None:
    done = templated("ns", values, tmp_path)
    assert done.returncode != 0
    assert said in done.stderr
