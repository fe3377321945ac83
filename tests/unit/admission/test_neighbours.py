"""The order of registrations, their names and what is shown of them."""

from __future__ import annotations

from typing import Any

import pytest

from wif.admission.matching import Labels, RequestFacts
from wif.admission.neighbours import KINDS, neighbours, order_note

REQUEST = RequestFacts(namespace=Labels({"kubernetes.io/metadata.name": "shop"}))
PODS = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
SECRETS = {**PODS, "resources": ["secrets"]}


def webhooks(name: str, *parts: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "webhooks": list(parts)}


def webhook(name: str, **members: Any) -> dict[str, Any]:
    service = {"service": {"namespace": "ops", "name": "hook", "path": "/m"}}
    return {"name": name, "rules": [PODS], "clientConfig": service, "failurePolicy": "Fail", **members}


def policy(name: str, rule: dict[str, Any] = PODS) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"failurePolicy": "Ignore", "matchConstraints": {"resourceRules": [rule]}},
    }


def binding(name: str, of: str, **members: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"policyName": of, **members}}


def test_the_order_is_the_api_servers() -> None:
    found = {
        "validatingwebhookconfigurations": [webhooks("a", webhook("v1"))],
        "validatingadmissionpolicies": [policy("a")],
        "validatingadmissionpolicybindings": [binding("a", "a")],
        "mutatingwebhookconfigurations": [webhooks("z", webhook("m2"), webhook("m1")), webhooks("b", webhook("m9"))],
        "mutatingadmissionpolicies": [policy("z"), policy("m")],
        "mutatingadmissionpolicybindings": [binding("2", "z"), binding("3", "m"), binding("1", "z")],
    }
    assert [(each.name, each.part) for each in neighbours(found, REQUEST)] == [
        *(("m", "3"), ("z", "1"), ("z", "2")),
        *(("b", "m9"), ("z", "m2"), ("z", "m1")),
        ("a", "a"),
        ("a", "v1"),
    ]
    assert all(each.may_be_called for each in neighbours(found, REQUEST))


def test_each_kind_says_when_it_is_called() -> None:
    assert len({order_note(kind.name) for kind in KINDS}) == 4
    assert [kind.is_mutating for kind in KINDS] == [True, True, False, False]


def test_what_does_not_match_is_there_with_its_reason() -> None:
    found = {"mutatingwebhookconfigurations": [webhooks("a", webhook("m", rules=[SECRETS]))]}
    (only,) = neighbours(found, REQUEST)
    assert not only.may_be_called
    assert only.verdict.clause == "rules"


def test_a_policy_without_a_binding_does_nothing() -> None:
    found = {
        "validatingadmissionpolicies": [policy("p")],
        "validatingadmissionpolicybindings": [binding("b", "other"), {"metadata": {"name": "empty"}}],
    }
    (only,) = neighbours(found, REQUEST)
    assert (only.part, only.verdict.answer, only.verdict.clause) == ("", "no", "binding")


def test_what_matters_of_a_registration_is_shown() -> None:
    found = {
        "mutatingwebhookconfigurations": [
            webhooks("a", webhook("m", timeoutSeconds=5, reinvocationPolicy="Never", sideEffects="None"))
        ],
        "validatingadmissionpolicies": [policy("p")],
        "validatingadmissionpolicybindings": [binding("b", "p", validationActions=["Deny", "Audit"])],
    }
    hook, bound = neighbours(found, REQUEST)
    assert hook.details == (
        ("failurePolicy", "Fail"),
        ("timeoutSeconds", "5"),
        ("reinvocationPolicy", "Never"),
        ("calls", "service ops/hook/m"),
    )
    assert bound.details == (("failurePolicy", "Ignore"), ("validationActions", "Deny, Audit"))


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        ({"url": "https://user:secret@hooks.example.com:8443/m?token=secret"}, "host hooks.example.com"),
        ({}, "host unknown"),
        (None, "host unknown"),
    ],
)
def test_of_a_url_only_the_host_is_shown(client: object, shown: str) -> None:
    found = {"mutatingwebhookconfigurations": [webhooks("a", webhook("m", clientConfig=client))]}
    assert ("calls", shown) in neighbours(found, REQUEST)[0].details


def known(name: str, part: str, *, service: str = "hook", labels: dict[str, str] | None = None) -> str:
    client = {"service": {"namespace": "ops", "name": service}}
    made = webhooks(name, webhook(part, clientConfig=client), labels=labels)
    return neighbours({"mutatingwebhookconfigurations": [made]}, REQUEST)[0].known_as


def test_known_webhooks_are_told_by_their_names() -> None:
    assert known("anything", "pods.x", labels={"app.kubernetes.io/part-of": "wif"}) == "wif"
    assert known("pod-identity-webhook", "pod-identity-webhook.amazonaws.com") == "eks"
    assert known("vpc", "iam-for-pods.amazonaws.com") == "eks"
    assert known("pod-identity-webhook", "mine") == "eks"
    assert known("azure-wi-webhook-mutating-webhook-configuration", "mutation.azure-workload-identity.io") == "azure"
    assert known("renamed", "mutation.azure-workload-identity.io") == "azure"
    assert known("gcp-wif-webhook-mutating-webhook-configuration", "mpod.kb.io") == "pfn"
    assert known("x", "mpod.kb.io", service="gcp-workload-identity-federation-webhook-webhook-service") == "pfn"


def test_a_name_that_every_kubebuilder_project_has_says_nothing() -> None:
    assert known("some-mutating-webhook-configuration", "mpod.kb.io") == ""
    assert known("gcp-wif-webhook", "other") == ""


def test_objects_without_what_they_must_have_do_no_harm() -> None:
    found: dict[str, Any] = {
        "mutatingwebhookconfigurations": [{}, {"metadata": None, "webhooks": [{}]}],
        "mutatingadmissionpolicies": [{"spec": None}],
    }
    assert [each.verdict.answer for each in neighbours(found, REQUEST)] == ["no", "no"]
