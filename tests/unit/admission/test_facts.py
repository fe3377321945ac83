"""What dialects may know of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pods_under_review import container, document, new_pod
from wif.admission.dialects import SIDECAR, PodFacts
from wif.admission.facts import Vocabulary, pod_facts
from wif.config.webhook import WebhookSettings


def facts(pod: dict[str, Any], settings: WebhookSettings | None = None) -> PodFacts:
    return pod_facts(document(pod).pod, Vocabulary.of(settings or WebhookSettings()))


def of_metadata(**metadata: Any) -> PodFacts:
    return facts(new_pod(metadata={"name": "p", **metadata}))


def test_only_the_annotations_of_dialects_sorted() -> None:
    said = of_metadata(
        annotations={
            "eks.amazonaws.com/token-expiration": "1",
            "cloud.google.com/skip-containers": "a",
            "kubectl.kubernetes.io/restartedAt": "now",
            "wif.internal/use": "aws=none",
        },
        labels={"azure.workload.identity/use": "true", "app": "x"},
    )
    assert [key for key, _ in said.annotations] == [
        "cloud.google.com/skip-containers",
        "eks.amazonaws.com/token-expiration",
        "wif.internal/use",
    ]
    assert said.labels == (("azure.workload.identity/use", "true"),)


@pytest.mark.parametrize(
    "key",
    [
        "wif.internal/injected",
        "wif.internal/file.gcp",
        "wif.internal/file.gcp.bq",
        "cloud.google.com/workload-identity-provider",
        "cloud.google.com/service-account-email",
        "cloud.google.com/audience",
        "cloud.google.com/external-credentials-json",
        "eks.amazonaws.com/pod-identity",
    ],
)
def test_what_the_webhook_writes_is_not_read_back(key: str) -> None:
    assert of_metadata(annotations={key: "x"}, labels={key: "x"}) == PodFacts()
    assert of_metadata(annotations={f"{key}x": "x"}).annotations or ".gcp" in key


def test_a_dialect_that_is_off_is_not_read() -> None:
    pod = new_pod(metadata={"annotations": {"eks.amazonaws.com/skip-containers": "a"}})
    assert facts(pod, WebhookSettings(dialects=("native",))) == PodFacts()
    assert facts(new_pod(metadata=None)) == PodFacts()


@pytest.mark.parametrize(
    ("spec", "is_windows"),
    [
        ({}, False),
        ({"os": {"name": "windows"}}, True),
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, True),
        ({"nodeSelector": {"beta.kubernetes.io/os": "windows"}}, True),
        ({"nodeSelector": {"kubernetes.io/os": "linux"}}, False),
        ({"nodeSelector": {}}, False),
        ({"os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "windows"}}, False),
        ({"os": {}, "nodeSelector": {"kubernetes.io/os": "windows"}}, True),
    ],
)
def test_windows(spec: dict[str, Any], is_windows: bool) -> None:
    assert facts(new_pod(**spec)).is_windows is is_windows


def test_group_and_network() -> None:
    assert facts(new_pod(securityContext={"fsGroup": 0})).has_fs_group
    assert not facts(new_pod(securityContext={})).has_fs_group
    assert facts(new_pod(hostNetwork=True)).host_network
    assert not facts(new_pod(hostNetwork=False)).host_network


@pytest.mark.parametrize(
    ("value", "skips"),
    [("main,setup", True), (" setup ,main,x", True), ("main", False), ("wif-sidecar", False), ("", False)],
)
def test_whether_a_pod_skips_all_its_containers(value: str, skips: bool) -> None:
    """The sidecar of an earlier call is none of its own."""
    lists = {"initContainers": [container(SIDECAR), container("setup")]}
    pod = new_pod(metadata={"annotations": {"wif.internal/skip-containers": value}}, **lists)
    assert facts(pod).skips_all is skips
    assert not facts(new_pod(metadata={"annotations": {"wif.internal/use": "aws=none"}})).skips_all


def test_who_the_containers_run_as_without_the_sidecar() -> None:
    def of(user: int, name: str = "main") -> dict[str, Any]:
        return container(name, securityContext={"runAsUser": user})

    assert facts(new_pod()).users == ()
    assert facts(new_pod(container(securityContext={}))).users == ()
    pod = new_pod(of(7), of(5), securityContext={"runAsUser": 9}, initContainers=[of(3, "i"), of(64829, SIDECAR)])
    assert (facts(pod).users, facts(pod).pod_user) == ((3, 5, 7, 9), 9)
    assert facts(new_pod(of(7))).pod_user is None
    assert facts(new_pod(securityContext={"fsGroup": 9})).users == ()


@pytest.mark.parametrize("value", [True, False, None])
def test_whether_containers_share_their_processes(value: bool | None) -> None:
    assert facts(new_pod(shareProcessNamespace=value)).shares_processes is bool(value)
    assert facts(new_pod(hostPID=value)).shares_processes is bool(value)


def test_resources_of_the_pod_as_a_whole() -> None:
    assert facts(new_pod(resources={"limits": {"cpu": "1"}})).has_resources
    assert not facts(new_pod(resources={})).has_resources
    assert not facts(new_pod(container(resources={"limits": {"cpu": "1"}}))).has_resources
