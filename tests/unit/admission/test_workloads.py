"""Pods and ServiceAccounts out of manifests."""

from __future__ import annotations

from typing import Any

import pytest

from wif.admission.workloads import Manifests, common_namespace, read_manifests
from wif.errors import ConfigurationError

SPEC: dict[str, Any] = {"containers": [{"name": "app", "image": "x"}]}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": SPEC}


def made(kind: str, **members: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "web", "namespace": "shop"}, **members}


def read(*documents: object, namespace: str | None = None) -> Manifests:
    return read_manifests([(f"f.yaml:{n}", each) for n, each in enumerate(documents, 1)], namespace=namespace)


def refused(*documents: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read(*documents)
    assert caught.value.code == "config-invalid"
    return caught.value


@pytest.mark.parametrize(
    ("kind", "members", "named"),
    [
        ("Deployment", {"spec": {"template": TEMPLATE}}, {"generateName": "web-"}),
        ("ReplicaSet", {"spec": {"template": TEMPLATE}}, {"generateName": "web-"}),
        ("ReplicationController", {"spec": {"template": TEMPLATE}}, {"generateName": "web-"}),
        ("DaemonSet", {"spec": {"template": TEMPLATE}}, {"generateName": "web-"}),
        ("Job", {"spec": {"template": TEMPLATE}}, {"generateName": "web-"}),
        ("StatefulSet", {"spec": {"template": TEMPLATE}}, {"name": "web-0"}),
        ("CronJob", {"spec": {"jobTemplate": {"spec": {"template": TEMPLATE}}}}, {"generateName": "web-"}),
        ("PodTemplate", {"template": TEMPLATE}, {"generateName": "web-"}),
        ("Rollout", {"spec": {"template": TEMPLATE}}, {"generateName": "web-"}),
    ],
)
def test_every_kind_with_a_template(kind: str, members: dict[str, Any], named: dict[str, str]) -> None:
    (found,) = read(made(kind, **members)).workloads
    assert found.pod == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": {"app": "web"}, **named, "namespace": "shop"},
        "spec": {**SPEC, "serviceAccountName": "default"},
    }
    assert (found.text, found.account_name, found.origin) == (f"{kind} shop/web", "default", "f.yaml:1")


def test_a_templates_own_name_is_not_the_pods() -> None:
    template = {"metadata": {"name": "ignored"}, "spec": SPEC}
    (found,) = read(made("Deployment", spec={"template": template})).workloads
    assert found.pod["metadata"] == {"generateName": "web-", "namespace": "shop"}


def test_a_pod_keeps_its_name_and_loses_its_status() -> None:
    (found,) = read(made("Pod", spec={**SPEC, "future": 1}, status={"phase": "Running"})).workloads
    assert found.pod == made("Pod", spec={**SPEC, "future": 1, "serviceAccountName": "default"})


def test_a_pod_may_have_a_prefix_or_no_name_at_all() -> None:
    (prefix,) = read({"kind": "Pod", "metadata": {"generateName": "run-"}, "spec": SPEC}).workloads
    assert (prefix.name, prefix.pod["metadata"]) == ("run-", {"generateName": "run-", "namespace": "default"})
    (bare,) = read({"kind": "Pod", "spec": SPEC}).workloads
    assert bare.name == "(without a name)"


@pytest.mark.parametrize(
    ("spec", "account"),
    [
        ({"serviceAccountName": "web"}, "web"),
        ({"serviceAccount": "old"}, "old"),
        ({"serviceAccountName": "web", "serviceAccount": "old"}, "web"),
        ({}, "default"),
    ],
)
def test_the_account_is_what_the_api_server_makes_of_it(spec: dict[str, Any], account: str) -> None:
    assert read(made("Pod", spec={**SPEC, **spec})).workloads[0].account_name == account


def test_the_namespace_is_the_objects_own_then_the_callers_then_default() -> None:
    bare = {"kind": "Pod", "metadata": {"name": "web"}, "spec": SPEC}
    assert read(made("Pod", spec=SPEC), namespace="other").workloads[0].namespace == "shop"
    assert read(bare, namespace="other").workloads[0].pod["metadata"]["namespace"] == "other"
    assert read(bare).workloads[0].namespace == "default"


def test_what_names_no_namespace_may_belong_where_the_others_do() -> None:
    bare = ("f", {"kind": "Pod", "metadata": {"name": "web"}, "spec": SPEC})
    shop, other = ("f", made("ServiceAccount")), ("f", {"kind": "ServiceAccount", "metadata": {"namespace": "other"}})
    assert common_namespace([bare, shop, shop]) == "shop"
    assert common_namespace([bare]) is None
    assert common_namespace([bare, shop, other]) is None


def test_accounts_maps_and_others_are_told_apart() -> None:
    account = made("ServiceAccount")
    account["metadata"] |= {"annotations": {"a/b": "c"}, "uid": "u"}
    found = read(account, None, made("ConfigMap", data={}), made("Service", spec={"ports": []}), made("ServiceAccount"))
    assert [(each.namespace, each.name, each.uid, each.annotations) for each in found.accounts] == [
        ("shop", "web", "u", {"a/b": "c"}),
        ("shop", "web", "", {}),
    ]
    assert [each["kind"] for each in found.config_maps] == ["ConfigMap"]
    assert found.passed_over == ("Service web",)


def test_lists_hold_objects_of_any_kind() -> None:
    pod = made("Pod", spec=SPEC)
    untyped = {name: value for name, value in pod.items() if name != "kind"}
    whole = {"kind": "List", "items": [pod, {"kind": "PodList", "items": [untyped]}, {"kind": "List", "items": None}]}
    assert [each.kind for each in read(whole).workloads] == ["Pod", "Pod"]


def test_a_list_of_nothing_or_without_an_end_is_refused() -> None:
    assert "no list of objects" in refused({"kind": "List", "items": "x"}).message
    nested: dict[str, Any] = {"kind": "List", "items": []}
    for _ in range(5):
        nested = {"kind": "List", "items": [nested]}
    assert "no list of objects" in refused(nested).message


@pytest.mark.parametrize(
    ("document", "came"),
    [
        ({"spec": SPEC}, "got a mapping without kind"),
        ([], "got a list"),
        ("text", "got a text"),
        (7, "got a value of the type int"),
        ({"kind": 1}, "got a mapping without kind"),
    ],
)
def test_what_is_no_object_is_refused_with_its_place(document: object, came: str) -> None:
    error = refused(None, document)
    assert error.message.startswith("f.yaml:2: expected a Kubernetes object")
    assert came in error.message
    assert error.hint


@pytest.mark.parametrize("spec", [{}, {"template": {"spec": {}}}, {"template": {"spec": []}}, {"template": []}, None])
def test_a_controller_without_a_pod_is_refused(spec: object) -> None:
    assert "f.yaml:1: Deployment web has no pod in spec.template" in refused(made("Deployment", spec=spec)).message


@pytest.mark.parametrize("containers", ["x", ["x"], [{"image": "x"}]])
@pytest.mark.parametrize("member", ["containers", "initContainers"])
def test_containers_must_be_some(member: str, containers: object) -> None:
    assert f"{member} is no list of containers" in refused(made("Pod", spec={**SPEC, member: containers})).message


def test_metadata_must_be_a_mapping_and_annotations_text() -> None:
    assert "metadata is no mapping, got a list" in refused({"kind": "Pod", "metadata": [], "spec": SPEC}).message
    assert "spec is no mapping, got a text" in refused({"kind": "Pod", "spec": "x"}).message
    account = made("ServiceAccount")
    account["metadata"]["annotations"] = {"a/expiration": 3600}
    error = refused(account)
    assert "annotation a/expiration is no text, got a value of the type int" in error.message
    assert "quotes" in error.hint
    account["metadata"]["annotations"] = {"a/on": True}
    assert "got true or false" in refused(account).message
