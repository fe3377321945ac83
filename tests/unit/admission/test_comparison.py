"""A pod that runs, beside what it would be given now."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from wif.admission.accounts import ServiceAccount
from wif.admission.comparison import Comparison, compare
from wif.admission.explanation import MADE_AT_ADMISSION, explain
from wif.admission.workloads import Workload, read_manifests
from wif.config.webhook import WebhookSettings

ROLE = "arn:aws:iam::111122223333:role/web"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
EMAIL = "web@my-project.iam.gserviceaccount.com"
GUID = "11111111-2222-3333-4444-555555555555"
EKS = {"eks.amazonaws.com/role-arn": ROLE}
KEY = ("shop", "web")
RECORD = "wif.internal/injected"
SETTINGS = WebhookSettings()


def account(annotations: dict[str, str], uid: str = "uid") -> dict[tuple[str, str], ServiceAccount | None]:
    return {KEY: ServiceAccount(*KEY, uid, annotations)}


def workload(pod: dict[str, Any]) -> Workload:
    return read_manifests([("the pod shop/web", pod)]).workloads[0]


def bare(**metadata: Any) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", **metadata},
        "spec": {
            "serviceAccountName": "web",
            "containers": [{"name": "app", "env": [{"name": "OWN", "value": "x"}]}, {"name": "proxy"}],
            "initContainers": [{"name": "setup", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }


def running(annotations: dict[str, str], settings: WebhookSettings = SETTINGS, **metadata: Any) -> dict[str, Any]:
    """A pod as the webhook left it."""
    found = explain(workload(bare(**metadata)), account(annotations), settings)
    assert found.patch
    pod: dict[str, Any] = copy.deepcopy(dict(found.after))
    pod["spec"]["containers"][0]["env"][0]["value"] = "x"
    return pod


def compared(pod: dict[str, Any], annotations: dict[str, str], settings: WebhookSettings = SETTINGS) -> Comparison:
    return compare(workload(pod), account(annotations), settings)


def odd(found: Comparison) -> list[tuple[str, str, str, str]]:
    return [
        (each.what, each.container, each.name, each.state) for each in found.rows if each.state != "as-it-should-be"
    ]


ALL = {
    "wif.internal/gcp.provider": PROVIDER,
    "wif.internal/gcp.service-account": EMAIL,
    **EKS,
    "azure.workload.identity/client-id": GUID,
    "azure.workload.identity/tenant-id": GUID,
}
PFN = {"cloud.google.com/workload-identity-provider": PROVIDER, "cloud.google.com/service-account-email": EMAIL}


@pytest.mark.parametrize(
    ("annotations", "settings"),
    [
        (EKS, SETTINGS),
        (ALL, SETTINGS),
        (PFN, SETTINGS),
        (PFN, WebhookSettings(gcp_mode="gcloud")),
    ],
)
def test_a_pod_just_injected_is_as_it_should_be(annotations: dict[str, str], settings: WebhookSettings) -> None:
    pod = running(annotations, settings, labels={"azure.workload.identity/use": "true"})
    found = compared(pod, annotations, settings)
    assert odd(found) == []
    assert found.notes == ()
    assert found.is_as_it_should_be
    assert {row.what for row in found.rows} >= {"volume", "variable", "mount"}


def test_a_volume_named_by_the_prefix_is_found_under_the_name_that_was_made_of_it() -> None:
    labels = {"azure.workload.identity/use": "true"}
    pod = running(ALL, generateName="web-", name="", labels=labels)
    pod["metadata"]["name"] = "web-x7k2p"
    assert compared(pod, ALL).is_as_it_should_be


def test_what_the_api_server_fills_in_is_no_difference() -> None:
    pod = running(EKS)
    (ours,) = [each for each in pod["spec"]["volumes"] if each["name"] == "aws-iam-token"]
    ours["projected"]["defaultMode"] = 420
    assert compared(pod, EKS).is_as_it_should_be


def test_a_pod_that_was_not_injected_lacks_everything() -> None:
    found = compared(bare(), EKS)
    assert {state for *_, state in odd(found)} == {"missing"}
    assert len(odd(found)) == len(found.rows)
    assert found.notes == (f"it has no annotation {RECORD}: this webhook did not inject into it",)
    assert not found.is_as_it_should_be


def test_a_pod_of_app_containers_alone_is_compared_too() -> None:
    pod = running(EKS)
    del pod["spec"]["initContainers"]
    assert compared(pod, EKS).is_as_it_should_be


def test_a_pod_that_gets_nothing_has_nothing_to_compare() -> None:
    found = compared(bare(), {})
    assert found.rows == ()
    assert found.is_as_it_should_be


def test_one_thing_that_is_gone_is_named() -> None:
    pod = running(EKS)
    proxy = pod["spec"]["containers"][1]
    proxy["env"] = [each for each in proxy["env"] if each["name"] != "AWS_ROLE_ARN"]
    proxy["volumeMounts"] = []
    path = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
    assert odd(compared(pod, EKS)) == [
        ("variable", "proxy", "AWS_ROLE_ARN", "missing"),
        ("mount", "proxy", path, "missing"),
    ]


def test_a_role_that_has_changed_since_is_told_by_variable_and_record() -> None:
    now = {"eks.amazonaws.com/role-arn": ROLE + "-2"}
    found = compared(running(EKS), now)
    assert {(what, name) for what, _, name, state in odd(found) if state == "differs"} == {("variable", "AWS_ROLE_ARN")}
    assert found.notes == (f"aws has changed since: was {ROLE}, would be {ROLE}-2 now",)
    assert "hunter2" not in str(found)


def test_a_cloud_that_has_gone_and_one_that_has_come_are_told() -> None:
    now = {"wif.internal/gcp.provider": PROVIDER, "wif.internal/gcp.service-account": EMAIL}
    found = compared(running(EKS), now)
    assert f"aws has changed since: was {ROLE}, would be nothing now" in found.notes
    assert f"gcp has changed since: was nothing, would be {EMAIL} now" in found.notes
    assert compared(running(EKS), {}).notes == (f"aws has changed since: was {ROLE}, would be nothing now",)


@pytest.mark.parametrize(
    ("member", "value", "note"),
    [
        ("expirationSeconds", 7200, "the same tokens and files; lifetime or mode differ"),
        ("audience", "other", "other tokens or files"),
    ],
)
def test_a_volume_of_another_content_is_told(member: str, value: object, note: str) -> None:
    pod = running(EKS)
    (ours,) = [each for each in pod["spec"]["volumes"] if each["name"] == "aws-iam-token"]
    ours["projected"]["sources"][0]["serviceAccountToken"][member] = value
    (row,) = [row for row in compared(pod, EKS).rows if row.state == "differs"]
    assert (row.what, row.name, row.note) == ("volume", "aws-iam-token", note)


def test_a_mount_of_another_volume_is_told() -> None:
    pod = running(EKS)
    mount = pod["spec"]["containers"][0]["volumeMounts"][0]
    mount["name"] = "data"
    (row,) = [row for row in compared(pod, EKS).rows if row.state == "differs"]
    assert (row.what, row.note) == ("mount", "the volume data stands there")


def test_an_annotation_that_feeds_a_file_is_compared() -> None:
    native = {"wif.internal/gcp.provider": PROVIDER, "wif.internal/gcp.service-account": EMAIL}
    pod = running(native)
    pod["metadata"]["annotations"]["wif.internal/file.gcp"] = "{}"
    assert odd(compared(pod, native)) == [("annotation", "", "wif.internal/file.gcp", "differs")]
    del pod["metadata"]["annotations"]["wif.internal/file.gcp"]
    assert odd(compared(pod, native)) == [("annotation", "", "wif.internal/file.gcp", "missing")]


@pytest.mark.parametrize(
    ("record", "note"),
    [
        ({"serviceAccount": "web", "uid": "before"}, "its ServiceAccount was deleted and made anew since"),
        ({"serviceAccount": "other", "uid": "u"}, "it was injected for the ServiceAccount other, and has web now"),
    ],
)
def test_another_account_in_the_record_is_told(record: dict[str, str], note: str) -> None:
    pod = running(EKS)
    pod["metadata"]["annotations"][RECORD] = json.dumps({**record, "clouds": {"aws": ROLE}})
    assert compared(pod, EKS).notes == (note,)


def test_a_record_that_cannot_be_read_is_told() -> None:
    pod = running(EKS)
    pod["metadata"]["annotations"][RECORD] = "{"
    assert compared(pod, EKS).notes == (f"the annotation {RECORD} cannot be read: somebody else wrote it",)


def test_a_pod_older_than_its_account_is_told() -> None:
    pod = bare(creationTimestamp="2026-01-01T10:00:00Z")
    for created, count in (("2026-01-01T10:00:01Z", 2), ("2026-01-01T09:59:59Z", 1), ("", 1)):
        notes = compare(workload(pod), account(EKS), SETTINGS, account_created=created).notes
        assert len(notes) == count
    assert (
        "before its ServiceAccount"
        in compare(workload(pod), account(EKS), SETTINGS, account_created="2026-01-01T10:00:01Z").notes[1]
    )


def test_an_account_that_is_gone_or_unknown_leaves_the_record_to_speak() -> None:
    pod = running(EKS)
    for accounts in ({}, {KEY: None}):
        found = compare(workload(pod), accounts, SETTINGS)
        assert found.rows == ()
        assert found.notes == (f"aws has changed since: was {ROLE}, would be nothing now",)


# -- the sidecar -------------------------------------------------------------------------------------------------------

SIDECAR = {
    "wif.internal/mode": "sidecar",
    "wif.internal/aws.role-arn": ROLE,
    "wif.internal/azure.client-id": GUID,
    "wif.internal/azure.tenant-id": GUID,
}
WITH_IMAGE = WebhookSettings(sidecar_image="registry.example/wif:1")


def with_secret(pod: dict[str, Any], secret: str = "s" * 43) -> dict[str, Any]:
    text = json.dumps(pod)
    assert MADE_AT_ADMISSION in text
    found: dict[str, Any] = json.loads(text.replace(MADE_AT_ADMISSION, secret))
    return found


def test_a_sidecar_as_it_was_injected() -> None:
    pod = with_secret(running(SIDECAR, WITH_IMAGE))
    found = compared(pod, SIDECAR, WITH_IMAGE)
    assert found.is_as_it_should_be, odd(found)
    assert {row.container for row in found.rows if row.name == "IDENTITY_HEADER"} == {
        *("app", "proxy", "setup", "wif-sidecar")
    }


def test_a_proxy_list_that_was_completed_is_no_difference() -> None:
    pod = bare()
    pod["spec"]["containers"][0]["env"].append({"name": "NO_PROXY", "value": "own.example"})
    made = explain(workload(pod), account(SIDECAR), WITH_IMAGE)
    done = with_secret(json.loads(json.dumps(made.after)))
    assert {"name": "NO_PROXY", "value": "own.example,127.0.0.1,localhost"} in done["spec"]["containers"][0]["env"]
    assert compared(done, SIDECAR, WITH_IMAGE).is_as_it_should_be


def test_two_secrets_in_one_pod_are_seen() -> None:
    pod = with_secret(running(SIDECAR, WITH_IMAGE))
    (entry,) = [each for each in pod["spec"]["containers"][1]["env"] if each["name"] == "IDENTITY_HEADER"]
    entry["value"] = "another"
    found = odd(compared(pod, SIDECAR, WITH_IMAGE))
    assert ("variable", "proxy", "IDENTITY_HEADER", "differs") in found


def test_a_pod_without_its_sidecar_is_seen() -> None:
    pod = with_secret(running(SIDECAR, WITH_IMAGE))
    pod["spec"]["initContainers"] = []
    found = odd(compared(pod, SIDECAR, WITH_IMAGE))
    assert ("mount", "wif-sidecar", "/var/run/secrets/wif", "missing") in found
