"""The guards as objects; what they let through and deny is shown on the real API server."""

from __future__ import annotations

from typing import Any

import pytest

from wif.admission.guards import EKS_SKIP_LABEL, guards
from wif.admission.registration import RegistrationSettings
from wif.config.webhook import AzureTokenEndpoint, ContainerCredentials, WebhookSettings


def made(settings: WebhookSettings | None = None, **where: Any) -> dict[str, dict[str, Any]]:
    """Specs by the end of their names; bindings with ``+``."""
    registration = RegistrationSettings(**where)
    return {
        each["metadata"]["name"].removeprefix(registration.name) + ("+" if "Binding" in each["kind"] else ""): each[
            "spec"
        ]
        for each in guards(settings or WebhookSettings(), registration)
    }


def variables(spec: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["expression"] for row in spec["variables"]}


def test_three_policies_and_their_bindings() -> None:
    found = made()
    assert list(found) == [
        "-token-volume", "-token-volume+", "-label", "-label+", "-fixed-annotations", "-fixed-annotations+",
    ]  # fmt: skip
    for name, spec in found.items():
        if name.endswith("+"):
            assert spec["policyName"] == f"wif-system-wif-webhook{name[:-1]}"


def test_parameters_are_chosen_by_label_and_may_be_none() -> None:
    assert made()["-token-volume+"]["paramRef"] == {
        "selector": {"matchLabels": {"wif.internal/inject": "true"}},
        "parameterNotFoundAction": "Allow",
    }


@pytest.mark.parametrize(("enforce", "actions", "failure"), [(False, "Warn", "Ignore"), (True, "Deny", "Fail")])
def test_guards_warn_or_deny(enforce: bool, actions: str, failure: str) -> None:
    found = made(enforce=enforce)
    for name in ("-token-volume", "-label"):
        assert found[f"{name}+"]["validationActions"] == [actions, "Audit"]
        assert found[name]["failurePolicy"] == failure


@pytest.mark.parametrize("enforce", [False, True])
def test_fixed_annotations_always_deny_everywhere(enforce: bool) -> None:
    found = made(enforce=enforce, watch_namespaces=("a",))
    spec = found["-fixed-annotations"]
    assert spec["failurePolicy"] == "Fail"
    assert found["-fixed-annotations+"] == {
        "policyName": "wif-system-wif-webhook-fixed-annotations",
        "validationActions": ["Deny", "Audit"],
    }
    assert "namespaceSelector" not in spec["matchConstraints"]
    assert "matchConditions" not in spec
    resources = [row["resources"] for row in spec["matchConstraints"]["resourceRules"]]
    assert resources == [["pods", "pods/status"], ["bindings", "pods/binding"]]


def test_the_others_hold_where_the_webhook_is_called() -> None:
    for name in ("-token-volume", "-label"):
        selector = made(watch_namespaces=("a",))[name]["matchConstraints"]["namespaceSelector"]
        assert selector["matchExpressions"][0]["values"] == ["a"]


def test_nobody_is_exempt_but_mirror_pods() -> None:
    conditions = made()["-token-volume"]["matchConditions"]
    assert [row["name"] for row in conditions] == ["not-a-mirror-pod", "its-service-account"]
    assert [row["name"] for row in made()["-label"]["matchConditions"]] == ["gives-an-identity", "not-being-deleted"]


@pytest.mark.parametrize(
    ("dialects", "clouds"),
    [
        (("native",), ["AWS", "GCP", "Azure"]),
        (("eks",), ["AWS"]),
        (("pfn",), ["GCP"]),
        (("azure",), ["Azure"]),
        (("pfn", "azure"), ["GCP", "Azure"]),
    ],
)
def test_a_cloud_that_no_dialect_speaks_of_is_not_asked_for(dialects: Any, clouds: list[str]) -> None:
    spec = made(WebhookSettings(dialects=dialects))["-token-volume"]
    assert [row["message"].split(" for ")[1].split(",")[0] for row in spec["validations"]] == clouds


def test_the_audiences_are_those_of_the_settings() -> None:
    settings = WebhookSettings(
        aws_audience="aws'aud",
        aws_container_credentials=ContainerCredentials(identities=(("a", "b"),)),
        azure_token_endpoint=AzureTokenEndpoint(annotation_suffix="x", audience="endpoint"),
    )
    found = variables(made(settings)["-token-volume"])
    assert found["awsAudiences"].startswith(r"['aws\'aud', 'pods.eks.amazonaws.com'] + ")
    assert found["azureAudiences"].startswith("['api://AzureADTokenExchange', 'endpoint'] + ")
    assert "k == 'eks.amazonaws.com/audience'" in found["awsAudiences"]
    assert "/audience'" not in found["azureAudiences"]
    assert EKS_SKIP_LABEL in found["awsAsked"]


def test_a_provider_of_the_settings_makes_an_email_an_identity() -> None:
    assert ".service-account'" not in variables(made()["-token-volume"])["gcpAsked"]
    settings = WebhookSettings(gcp_provider="projects/1/locations/global/workloadIdentityPools/p/providers/k")
    assert ".service-account'" in variables(made(settings)["-token-volume"])["gcpAsked"]


def test_prefixes_are_those_of_the_settings() -> None:
    settings = WebhookSettings(prefix="id.example", gcp_prefix="g.example")
    found = made(settings)
    assert "wif.internal" not in str(found)
    assert "k == 'g.example/external-credentials-json'" in found["-fixed-annotations"]["validations"][0]["expression"]
    assert found["-token-volume+"]["paramRef"]["selector"]["matchLabels"] == {"id.example/inject": "true"}
