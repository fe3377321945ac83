"""One decision, explained: what by whose word, and why not more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from wif.admission.accounts import ServiceAccount
from wif.admission.explanation import MADE_AT_ADMISSION, Explanation, SilentDialect, explain
from wif.admission.platform import read_platform
from wif.admission.workloads import Workload, read_manifests
from wif.config.webhook import ContainerCredentials, WebhookSettings
from wif.errors import ConfigurationError

ROLE = "arn:aws:iam::111122223333:role/web"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
EMAIL = "web@my-project.iam.gserviceaccount.com"
GUID = "11111111-2222-3333-4444-555555555555"
THREE = {
    "wif.internal/gcp.provider": PROVIDER,
    "wif.internal/gcp.service-account": EMAIL,
    "eks.amazonaws.com/role-arn": ROLE,
    "azure.workload.identity/client-id": GUID,
    "azure.workload.identity/tenant-id": GUID,
}
USE = {"azure.workload.identity/use": "true"}
SETTINGS = WebhookSettings()
KEY = ("shop", "web")


def workload(**changes: Any) -> Workload:
    spec = {"serviceAccountName": "web", "containers": [{"name": "app"}, {"name": "proxy"}], **changes.pop("spec", {})}
    made = {"kind": "Pod", "metadata": {"name": "web", "namespace": "shop", **changes}, "spec": spec}
    return read_manifests([("pod.yaml:1", made)]).workloads[0]


def told(
    annotations: dict[str, str] | None = None,
    pod: Workload | None = None,
    settings: WebhookSettings = SETTINGS,
    platform: str | None = None,
) -> Explanation:
    read = None if platform is None else read_platform({"config.yaml": platform}, settings)
    account = ServiceAccount(*KEY, "uid", annotations or {})
    return explain(pod or workload(), {KEY: account}, settings, read)


def test_each_identity_is_said_with_dialect_and_annotation() -> None:
    found = told(THREE, workload(labels=USE))
    assert found.allowed
    assert [(each.cloud, each.identity, each.dialect, each.source) for each in found.identities] == [
        ("gcp", EMAIL, "native", "ServiceAccount"),
        ("aws", ROLE, "eks", "ServiceAccount"),
        ("azure", GUID, "azure", "ServiceAccount"),
    ]
    gcp, aws, azure = (each.annotations for each in found.identities)
    assert gcp == ("wif.internal/gcp.service-account",)
    assert aws == ("eks.amazonaws.com/role-arn",)
    assert "azure.workload.identity/client-id" in azure
    assert {token.audience for token in found.changes.tokens} == {
        "sts.amazonaws.com",
        "sts.googleapis.com",
        "api://AzureADTokenExchange",
    }
    assert [each.name for each in found.changes.containers] == ["app", "proxy"]
    assert found.patch
    assert [each.dialect for each in found.silent] == ["pfn"]


def test_a_direct_identity_is_said_by_the_annotations_that_make_it() -> None:
    (gcp,) = told({"wif.internal/gcp.provider": PROVIDER}).identities
    assert gcp.annotations == ("wif.internal/gcp.provider",)


def test_a_secret_that_the_pod_has_is_not_in_it_and_its_sidecar_is_left_out_of_nothing() -> None:
    secret = "s" * 43
    settings = WebhookSettings(sidecar_image="registry.example/wif:1")
    said = {f"wif.internal/azure.{name}": GUID for name in ("client-id", "tenant-id")} | {
        "wif.internal/mode": "sidecar"
    }
    made = msgspec.json.encode(told(said, workload(), settings).after).replace(
        MADE_AT_ADMISSION.encode(), secret.encode()
    )
    pod = msgspec.json.decode(made)
    pod["spec"]["containers"].append({"name": "late"})
    pod["spec"]["initContainers"][0]["args"] = ["put right"]
    found = told(said, read_manifests([("pod.yaml:1", pod)]).workloads[0], settings)
    assert secret not in str(found)
    late = next(each for each in found.changes.containers if each.name == "late")
    assert dict(late.variables)["IDENTITY_HEADER"] == "(the pod's own)"
    assert found.left_out == ()


def test_the_platforms_word_is_told_apart() -> None:
    text = f"""
    serviceAccounts:
      - {{namespace: shop, serviceAccount: "*", annotations: {{wif.internal/aws.role-arn: "{ROLE}"}}}}
    """
    (aws,) = told({}, platform=text).identities
    assert (aws.source, aws.annotations) == ("platform", ("wif.internal/aws.role-arn",))


def test_the_settings_word_is_told_apart() -> None:
    settings = WebhookSettings(aws_container_credentials=ContainerCredentials(identities=(KEY,)))
    (aws,) = told({}, settings=settings).identities
    assert (aws.source, aws.annotations) == ("settings", ())


def test_a_label_of_the_pod_alone_is_told_apart() -> None:
    (azure,) = told({}, workload(labels=USE)).identities
    assert (azure.source, azure.annotations) == ("pod", ("azure.workload.identity/use",))


def test_a_skipped_container_is_named_with_the_annotation_that_skips_it() -> None:
    pod = workload(annotations={"eks.amazonaws.com/skip-containers": "proxy"})
    (left,) = told({"eks.amazonaws.com/role-arn": ROLE}, pod).left_out
    assert (left.container, left.cloud, left.result) == ("proxy", "aws", "skipped")
    assert left.reason == "by eks.amazonaws.com/skip-containers on the pod"


def test_a_choice_for_one_container_is_named() -> None:
    pod = workload(annotations={"wif.internal/use.proxy": "aws=none"})
    (left,) = told({"wif.internal/aws.role-arn": ROLE}, pod).left_out
    assert (left.container, left.reason) == ("proxy", "by wif.internal/use.proxy on the pod")


def test_an_identitys_own_list_of_containers_is_told() -> None:
    pod = workload(annotations={"wif.internal/skip-containers": "another"})
    account = {"wif.internal/aws.role-arn": ROLE, "wif.internal/aws.containers": "app"}
    (left,) = told(account, pod).left_out
    assert (left.container, left.result) == ("proxy", "skipped")
    assert "list of containers" in left.reason


def test_a_container_whose_path_is_taken_is_told() -> None:
    path = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
    spec = {
        "containers": [{"name": "app", "volumeMounts": [{"name": "mine", "mountPath": path}]}],
        "volumes": [{"name": "mine", "emptyDir": {}}],
    }
    (left,) = told({"eks.amazonaws.com/role-arn": ROLE}, workload(spec=spec)).left_out
    assert (left.result, left.reason) == ("mount-taken", "another volume is mounted where ours would be")


def test_a_refusal_has_its_reasons_first_and_no_patch() -> None:
    found = told({"cloud.google.com/workload-identity-provider": "x", "eks.amazonaws.com/role-arn": "odd"})
    assert not found.allowed
    assert found.code == 400
    assert found.findings[0].level == "deny"
    assert [each.level for each in found.findings] == sorted((each.level for each in found.findings), key="dwn".find)
    assert found.patch == ()
    assert found.changes.volumes == ()


def reasons(found: Explanation) -> dict[str, str]:
    return {each.dialect: each.reason for each in found.silent}


def test_a_silent_dialect_says_why_and_what_would_make_it_speak() -> None:
    found = told({"eks.amazonaws.com/audience": "x", "cloud.google.com/nothing": "x"})
    assert reasons(found) == {
        "native": "no annotation wif.internal/…",
        "pfn": "cloud.google.com/nothing gives this pod no identity",
        "eks": "see annotation-without-effect",
        "azure": "no annotation azure.workload.identity/…",
    }
    assert found.silent[0] == SilentDialect(
        "native",
        "no annotation wif.internal/…",
        "wif.internal/aws.role-arn, wif.internal/gcp.provider or wif.internal/azure.client-id",
    )
    assert all(each.trigger for each in found.silent)


def test_dialects_that_are_off_are_not_spoken_of() -> None:
    found = told({}, settings=WebhookSettings(dialects=("eks",), aws_prefix="aws.example.com"))
    assert [(each.dialect, each.trigger) for each in found.silent] == [("eks", "aws.example.com/role-arn")]


def test_an_account_that_nobody_passed_is_unknown() -> None:
    found = explain(workload(), {}, SETTINGS)
    assert found.account_state == "unknown"
    assert found.allowed
    assert set(reasons(found).values()) == {"not known"}
    assert not any(finding.rule == "account-missing" for finding in found.findings)


def test_the_platform_may_speak_for_an_account_that_is_unknown() -> None:
    text = f"""
    serviceAccounts:
      - {{namespace: shop, serviceAccount: web, annotations: {{wif.internal/aws.role-arn: "{ROLE}"}}}}
    """
    found = explain(workload(), {}, SETTINGS, read_platform({"config.yaml": text}, SETTINGS))
    assert (found.account_state, found.identities[0].source) == ("unknown", "platform")


def test_an_account_that_is_not_there_is_absent() -> None:
    found = explain(workload(), {KEY: None}, SETTINGS)
    assert found.account_state == "absent"
    assert [finding.rule for finding in found.findings] == ["account-missing"]
    assert set(reasons(found).values()) == {"there is no such ServiceAccount"}


def test_a_mirror_pod_is_untouched_also_where_its_account_is_unknown() -> None:
    found = explain(workload(annotations={"kubernetes.io/config.mirror": "x"}), {}, SETTINGS)
    assert (found.allowed, found.patch, found.identities) == (True, (), ())


def test_a_misspelt_annotation_of_the_account_is_told() -> None:
    found = told({"eks.amazonaws.com/role-arm": ROLE})
    assert [(each.rule, each.dialect) for each in found.account_findings] == [("annotation-unknown", "eks")]
    assert reasons(found)["eks"] == "eks.amazonaws.com/role-arm gives this pod no identity"


def test_what_the_pods_findings_say_is_not_said_twice() -> None:
    found = told({"eks.amazonaws.com/role-arn": "odd"})
    assert [each.rule for each in found.findings] == ["role-arn-malformed"]
    assert found.account_findings == ()


@pytest.mark.parametrize("env", [["x"], [{"name": "x", None: 1}]])
def test_a_pod_that_cannot_be_read_is_refused_with_its_place(env: list[Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        told({}, workload(spec={"containers": [{"name": "app", "env": env}]}))
    assert caught.value.message.startswith("pod.yaml:1: Pod shop/web cannot be read: ")
    assert caught.value.hint


def test_the_pods_own_values_are_nowhere() -> None:
    spec = {"containers": [{"name": "app", "env": [{"name": "PASSWORD", "value": "hunter2"}]}]}
    found = told({"eks.amazonaws.com/role-arn": ROLE}, workload(spec=spec))
    shown = (found.before, found.after, found.patch, found.changes, found.findings, found.left_out)
    assert "hunter2" not in str(shown)
    assert ROLE in str(found.after)


def test_a_pod_that_has_it_all_needs_no_patch() -> None:
    first = told({"eks.amazonaws.com/role-arn": ROLE})
    again = told({"eks.amazonaws.com/role-arn": ROLE}, workload()._replace(pod=first.after))
    assert again.patch == ()
    assert [each.identity for each in again.identities] == [ROLE]
    assert again.record == "wif.internal/injected"
