"""Who is called, and who is not: the rules that keep a cluster startable while the webhook is down."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.admission.annotation_keys import clouds_given
from wif.admission.registration import RegistrationSettings, identity_patterns, namespace_selector, registration
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError


def objects(settings: WebhookSettings | None = None, **where: Any) -> list[dict[str, Any]]:
    return registration(settings or WebhookSettings(), RegistrationSettings(**where))


def webhooks(settings: WebhookSettings | None = None, **where: Any) -> list[dict[str, Any]]:
    return [each for made in objects(settings, **where) for each in made["webhooks"]]


def test_the_defaults_keep_a_cluster_startable() -> None:
    found = webhooks()
    assert len(found) == 4
    for each in found:
        assert (each["failurePolicy"], each["timeoutSeconds"], each["sideEffects"]) == ("Ignore", 5, "NoneOnDryRun")
        assert each["admissionReviewVersions"] == ["v1"]
        assert each["matchPolicy"] == "Equivalent"
        assert each["namespaceSelector"] == {
            "matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "wif-system"]}
            ]
        }
    assert [each["reinvocationPolicy"] for each in found[:3]] == ["IfNeeded"] * 3
    assert "reinvocationPolicy" not in found[3]


def test_pods_ephemeral_containers_and_service_accounts_are_sent() -> None:
    rows = [(each["rules"][0]["operations"], each["rules"][0]["resources"]) for each in webhooks()]
    assert rows == [
        (["CREATE"], ["pods"]),
        (["UPDATE"], ["pods/ephemeralcontainers"]),
        (["CREATE", "UPDATE"], ["serviceaccounts"]),
        (["CREATE", "UPDATE"], ["serviceaccounts"]),
    ]
    assert [each["clientConfig"]["service"]["path"] for each in webhooks()] == ["/mutate"] * 3 + ["/validate"]


def test_mirror_pods_are_exempt_and_no_other_user_is() -> None:
    pods, ephemeral, *_ = webhooks()
    assert [row["name"] for row in pods["matchConditions"]] == ["not-a-mirror-pod"]
    every = " ".join(row["expression"] for each in webhooks() for row in each["matchConditions"])
    assert every.count("userInfo") == 2  # of that one condition
    assert "wif.internal/injected" in ephemeral["matchConditions"][0]["expression"]
    assert "objectSelector" not in pods


def test_the_azure_dialect_alone_asks_by_its_label() -> None:
    pods = webhooks(WebhookSettings(dialects=("azure",)), object_selector={"matchLabels": {"team": "a"}})[0]
    assert pods["objectSelector"] == {"matchLabels": {"team": "a", "azure.workload.identity/use": "true"}}
    assert "objectSelector" not in webhooks(WebhookSettings(dialects=("azure", "native")))[0]


def test_only_the_named_namespaces_are_watched() -> None:
    where = RegistrationSettings(watch_namespaces=("b", "a", "b"), namespace_selector={"matchLabels": {"env": "x"}})
    assert namespace_selector(where) == {
        "matchLabels": {"env": "x"},
        "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["b", "a"]}],
    }


def test_exclusions_can_be_chosen() -> None:
    assert RegistrationSettings(excluded_namespaces=("a", "a", "b")).excluded == ("a", "b")
    assert RegistrationSettings(watch_namespaces=("wif-system",)).excluded == ("kube-system",)
    more = {"matchExpressions": [{"key": "x", "operator": "Exists"}]}
    assert namespace_selector(RegistrationSettings(excluded_namespaces=(), namespace_selector=more)) == more
    assert namespace_selector(RegistrationSettings(excluded_namespaces=())) == {}


@pytest.mark.parametrize(
    "where",
    [
        {"excluded_namespaces": ()},
        {"excluded_namespaces": ("kube-system",)},
        {"watch_namespaces": ("team", "wif-system")},
        {"watch_namespaces": ("kube-system",)},
    ],
)
def test_fail_never_holds_up_what_the_webhook_needs_to_start(where: dict[str, Any]) -> None:
    RegistrationSettings(**where)
    with pytest.raises(ConfigurationError, match="needs some of those itself") as caught:
        RegistrationSettings(failure_policy="Fail", **where)
    assert caught.value.code == "config-conflict"


def test_fail_is_allowed_elsewhere() -> None:
    assert RegistrationSettings(failure_policy="Fail").excluded == ("kube-system", "wif-system")
    assert webhooks(failure_policy="Fail", watch_namespaces=("team",))[0]["failurePolicy"] == "Fail"


@pytest.mark.parametrize("where", [{"timeout_seconds": 0}, {"timeout_seconds": 31}, {"url": "http://x"}])
def test_what_the_api_server_would_refuse_is_refused(where: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RegistrationSettings(**where)


def test_where_the_webhook_is() -> None:
    (client, *_) = (each["clientConfig"] for each in webhooks(url="https://127.0.0.1:9/", ca_bundle="PEM"))
    assert client == {"url": "https://127.0.0.1:9/mutate", "caBundle": base64.b64encode(b"PEM").decode()}
    (client, *_) = (each["clientConfig"] for each in webhooks(release="blue", namespace="ns", port=8443))
    service = {"namespace": "ns", "name": "blue-webhook", "path": "/mutate", "port": 8443}
    assert client == {"service": service}
    (client, *_) = (each["clientConfig"] for each in webhooks(service="other"))
    assert client["service"]["name"] == "other"


def test_every_name_carries_namespace_and_release() -> None:
    for each in objects(release="blue", namespace="tenant", labels={"team": "a"}):
        assert each["metadata"]["name"] == "tenant-blue-webhook"
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "blue"
        assert each["metadata"]["labels"]["team"] == "a"
        assert "annotations" not in each["metadata"]
        for webhook in each["webhooks"]:
            assert webhook["name"].endswith(".blue-webhook.wif.internal")


def test_cert_manager_is_told_which_certificate() -> None:
    for each in objects(cert_manager="ns/cert"):
        assert each["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": "ns/cert"}


def test_validation_can_be_left_out() -> None:
    assert [each["kind"] for each in objects(with_validation=False)] == ["MutatingWebhookConfiguration"]


KEYS = st.one_of(
    st.sampled_from(
        [
            "aws.role-arn", "aws.x.role-arn", "aws.role-arnx", "aws..role-arn", "gcp.direct", "gcp.a-b.provider",
            "gcp.service-account", "azure.client-id", "azure.tenant-id", "client-id", "tenant-id", "role-arn",
            "workload-identity-provider", "service-account-email", "audience", "mode", "inject",
        ]
    ),
    st.from_regex(r"(aws|gcp|azure)(\.[a-z0-9-]{0,34})?\.(role-arn|provider|client-id|region)", fullmatch=True),
)  # fmt: skip


@given(
    prefix=st.sampled_from(
        ["wif.internal", "wifxinternal", "cloud.google.com", "eks.amazonaws.com", "azure.workload.identity", "a.b"]
    ),
    key=KEYS,
    dialects=st.sets(st.sampled_from(["native", "pfn", "eks", "azure"]), min_size=1),
)
def test_the_policies_know_the_same_identities_as_the_webhook(prefix: str, key: str, dialects: set[Any]) -> None:
    settings = WebhookSettings(dialects=tuple(dialects))
    annotation = f"{prefix}/{key}"
    fits = any(re.fullmatch(pattern, annotation) for pattern in identity_patterns(settings))
    assert fits == bool(clouds_given({annotation: "x"}, settings))
