"""Reviews and decisions."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.pods_under_review import RECORD, container, new_pod, token_volume
from wif.admission.accounts import ServiceAccount
from wif.admission.decision import Decision
from wif.admission.mutation import Readings, accounts_wanted, encode_decision, mutate
from wif.admission.patch import apply_patch
from wif.admission.review import Review, read_review
from wif.config.webhook import WebhookSettings

SETTINGS = WebhookSettings(azure_tenant_id="00000000-0000-0000-0000-00000000000a")
ROLE = "arn:aws:iam::111122223333:role/app"
AWS = {"eks.amazonaws.com/role-arn": ROLE}
GCP = {
    "cloud.google.com/workload-identity-provider": "projects/1/locations/global/workloadIdentityPools/p/providers/k8s",
    "cloud.google.com/service-account-email": "app@my-project.iam.gserviceaccount.com",
}
AZURE = {"azure.workload.identity/client-id": "00000000-0000-0000-0000-00000000000b"}
USE = {"azure.workload.identity/use": "true"}
Accounts = Mapping[tuple[str, str], ServiceAccount | None]


def review_of(pod: Any, *, old: Any = None, **more: Any) -> Review:
    request = {
        "uid": "u",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "namespace": "shop",
        "operation": "CREATE",
        "object": pod,
        "oldObject": old,
        **more,
    }
    return read_review(
        json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
    )


def account(annotations: Mapping[str, str], name: str = "app", uid: str = "uid-1") -> ServiceAccount:
    return ServiceAccount("shop", name, uid, annotations)


def of(*accounts: ServiceAccount) -> Accounts:
    return {(each.namespace, each.name): each for each in accounts}


def decide(pod: Any, accounts: Accounts, *, settings: WebhookSettings = SETTINGS, **more: Any) -> Decision:
    return mutate(review_of(pod, **more), accounts, settings, readings=Readings(), new_secret=str)


def patched(pod: dict[str, Any], decision: Decision) -> dict[str, Any]:
    assert decision.allowed
    done: dict[str, Any] = apply_patch(pod, decision.patch if decision.patch is not None else b"[]")
    return done


def rules(decision: Decision) -> list[str]:
    return [finding.rule for finding in decision.findings]


# -- whose ServiceAccount ----------------------------------------------------------------------------------------------


def test_the_account_of_the_pod_and_the_recorded_one() -> None:
    assert accounts_wanted(review_of(new_pod()), SETTINGS) == (("shop", "app"),)
    pod = new_pod()
    del pod["spec"]["serviceAccountName"]
    assert accounts_wanted(review_of(pod), SETTINGS) == (("shop", "default"),)
    for recorded, wanted in (("app", ()), ("other", (("shop", "other"),))):
        pod = new_pod(metadata={"annotations": {RECORD: json.dumps({"serviceAccount": recorded, "uid": "x"})}})
        assert accounts_wanted(review_of(pod), SETTINGS) == (("shop", "app"), *wanted)


def test_the_namespace_is_the_requests() -> None:
    pod = new_pod(metadata={"name": "p", "namespace": "forged"})
    assert accounts_wanted(review_of(pod), SETTINGS) == (("shop", "app"),)
    assert accounts_wanted(review_of(pod, namespace=""), SETTINGS) == (("forged", "app"),)
    assert accounts_wanted(review_of(new_pod(), namespace=""), SETTINGS) == (("default", "app"),)
    assert accounts_wanted(review_of(new_pod(metadata=None), namespace=""), SETTINGS) == (("default", "app"),)


@pytest.mark.parametrize(
    ("pod", "request_"),
    [
        (new_pod(metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}), {}),
        (new_pod(), {"operation": "UPDATE"}),
        (new_pod(), {"operation": "CONNECT"}),
        (None, {"operation": "DELETE"}),
        (new_pod(), {"operation": "UPDATE", "subResource": "status"}),
        (new_pod(), {"operation": "CREATE", "subResource": "ephemeralcontainers"}),
    ],
)
def test_what_is_none_of_our_business_is_allowed_untouched(pod: Any, request_: dict[str, str]) -> None:
    review = review_of(pod, **request_)
    assert accounts_wanted(review, SETTINGS) == ()
    assert mutate(review, of(account(AWS)), SETTINGS, readings=Readings(), new_secret=str) == Decision(allowed=True)


@pytest.mark.parametrize(
    ("pod", "kind", "word"),
    [
        ("metadata", "Pod", "not a Pod"),
        ({}, "Pod", "spec"),
        ({"spec": {"containers": 1}}, "Pod", "containers"),
        (new_pod(), "Deployment", "Deployment"),
        (new_pod(), "", "expected a Pod"),
    ],
)
def test_what_is_no_pod_is_refused_with_a_reason(pod: Any, kind: str, word: str) -> None:
    review = review_of(pod, kind={"kind": kind})
    assert accounts_wanted(review, SETTINGS) == ()
    decision = mutate(review, {}, SETTINGS, readings=Readings(), new_secret=str)
    assert (decision.allowed, decision.code) == (False, 400)
    assert word in decision.message
    said = json.loads(encode_decision(review, decision))["response"]
    assert (said["uid"], said["allowed"], said["status"]["code"]) == ("u", False, 400)


@pytest.mark.parametrize("accounts", [{}, {("shop", "app"): None}])
def test_an_account_that_is_nowhere(accounts: Accounts) -> None:
    decision = decide(new_pod(), accounts)
    assert (decision.allowed, decision.patch, rules(decision)) == (True, None, ["account-missing"])
    assert "shop/app" in decision.findings[0].message
    labelled = new_pod(metadata={"name": "p", "labels": USE})
    refused = decide(labelled, accounts)
    assert (refused.allowed, refused.code, refused.findings[0].dialect) == (False, 400, "azure")
    assert decide(labelled, accounts, settings=WebhookSettings(dialects=("native",))).allowed
    assert decide(new_pod(metadata=None), accounts).allowed
    assert decide(labelled, accounts, operation="UPDATE", subResource="ephemeralcontainers").allowed


# -- injection ---------------------------------------------------------------------------------------------------------


def test_three_clouds_at_once() -> None:
    pod = new_pod(container(), metadata={"name": "p", "labels": USE})
    decision = decide(pod, of(account({**AWS, **GCP, **AZURE})))
    assert decision.identities == (
        ("gcp", "app@my-project.iam.gserviceaccount.com"),
        ("aws", ROLE),
        ("azure", "00000000-0000-0000-0000-00000000000b"),
    )
    assert decision.dialects == ("pfn", "eks", "azure")
    done = patched(pod, decision)
    names = {entry["name"] for entry in done["spec"]["containers"][0]["env"]}
    assert {"AWS_ROLE_ARN", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_FEDERATED_TOKEN_FILE"} <= names
    said = json.loads(encode_decision(review_of(pod), decision))["response"]
    assert apply_patch(pod, base64.b64decode(said["patch"])) == done
    assert said["auditAnnotations"]["injected"].startswith("gcp=app@")


def test_an_account_without_annotations_changes_nothing() -> None:
    assert decide(new_pod(), of(account({}))) == Decision(allowed=True)


def test_a_malformed_annotation_refuses_the_pod() -> None:
    decision = decide(new_pod(), of(account({**GCP, "cloud.google.com/service-account-email": "a/../b?x"})))
    assert (decision.allowed, decision.code, decision.patch) == (False, 400, None)
    assert "cloud.google.com/service-account-email" in decision.message
    long = {f"cloud.google.com/{name}": "x" * 3000 for name in ("token-expiration", "injection-mode")}
    assert len(decide(new_pod(), of(account({**GCP, **long}))).message) <= 4000


def test_a_collision_refuses_where_the_settings_say_so() -> None:
    pod = new_pod(volumes=[{"name": "aws-iam-token", "emptyDir": {}}])
    assert rules(decide(pod, of(account(AWS)))) == ["volume-taken"]
    assert decide(pod, of(account({**AWS, **GCP}))).dialects == ("pfn",)
    refused = decide(pod, of(account(AWS)), settings=WebhookSettings(deny_collisions=True))
    assert not refused.allowed
    assert "aws-iam-token" in refused.message


def test_details_on_request() -> None:
    review = review_of(new_pod(container("a"), container("b")))
    decision = mutate(review, of(account(AWS)), SETTINGS, readings=Readings(), new_secret=str, detailed=True)
    assert [each.container for each in decision.container_outcomes] == ["a", "b"]
    assert mutate(review, of(account(AWS)), SETTINGS, readings=Readings(), new_secret=str).container_outcomes == ()


def test_no_operation_a_second_time() -> None:
    pod = new_pod(metadata={"name": "p", "labels": USE})
    accounts = of(account({**AWS, **GCP, **AZURE}))
    done = patched(pod, decide(pod, accounts))
    again = decide(done, accounts)
    assert again.patch is None
    assert again.findings == ()
    assert len(again.identities) == 3


def test_the_double_of_another_webhook_is_reported_and_injected_once() -> None:
    there = token_volume("aws-iam-token", "sts.amazonaws.com", 86400)
    pod = new_pod(container(), container("late"), volumes=[there])
    decision = decide(pod, of(account(AWS)))
    done = patched(pod, decision)
    assert rules(decision) == ["injected-already"]
    assert done["spec"]["volumes"] == [there]
    assert all("volumeMounts" in each for each in done["spec"]["containers"])


# -- another ServiceAccount than before --------------------------------------------------------------------------------


def moved(pod: dict[str, Any], before: ServiceAccount, *, name: str = "other") -> dict[str, Any]:
    """The pod, injected for one ServiceAccount and then given another."""
    done = patched(pod, decide(pod, of(before)))
    done["spec"]["serviceAccountName"] = name
    return done


@pytest.mark.parametrize("later", [{}, GCP, AZURE, {**AWS, **GCP}, {"eks.amazonaws.com/role-arn": ROLE + "2"}])
def test_a_pod_of_another_account_is_injected_anew(later: dict[str, str]) -> None:
    pod = new_pod(container("a", env={"OWN": "1"}), container("b"), metadata={"name": "p", "labels": USE})
    before, other = account({**AWS, **GCP, **AZURE}), account(later, "other", "uid-2")
    changed = moved(pod, before)
    assert accounts_wanted(review_of(changed), SETTINGS) == (("shop", "other"), ("shop", "app"))
    done = patched(changed, decide(changed, of(before, other)))
    fresh = {**pod, "spec": {**pod["spec"], "serviceAccountName": "other"}}
    assert done == patched(fresh, decide(fresh, of(other)))


def test_the_wish_of_the_pod_itself_is_no_leftover() -> None:
    wish = {"cloud.google.com/token-expiration": "4000"}
    pod = new_pod(metadata={"name": "p", "annotations": wish})
    longer = {**GCP, "cloud.google.com/token-expiration": "7200"}
    before, other = account(longer), account(longer, "other", "uid-2")
    changed = moved(pod, before)
    done = patched(changed, decide(changed, of(before, other)))
    assert done["metadata"]["annotations"]["cloud.google.com/token-expiration"] == "4000"
    plain = moved(new_pod(), before)
    shorter = account({**GCP, "cloud.google.com/token-expiration": "3700"}, "other", "uid-2")
    done = patched(plain, decide(plain, of(before, shorter)))
    assert done["metadata"]["annotations"]["cloud.google.com/token-expiration"] == "3700"


@pytest.mark.parametrize("known", [{}, of(account(AWS, uid="made-anew"))])
def test_an_account_that_is_gone_leaves_what_it_was_given(known: Accounts) -> None:
    changed = moved(new_pod(), account(AWS))
    decision = decide(changed, {**known, **of(account(GCP, "other", "uid-2"))})
    assert "record-stale" in rules(decision)
    done = patched(changed, decision)
    names = {entry["name"] for entry in done["spec"]["containers"][0]["env"]}
    assert {"AWS_ROLE_ARN", "GOOGLE_APPLICATION_CREDENTIALS"} <= names
    assert json.loads(done["metadata"]["annotations"][RECORD])["serviceAccount"] == "other"


def test_an_account_that_was_made_anew() -> None:
    pod = new_pod()
    injected = patched(pod, decide(pod, of(account(AWS))))
    decision = decide(injected, of(account(AWS, uid="uid-2")))
    assert rules(decision) == ["record-stale", "injected-already"]
    assert json.loads(patched(injected, decision)["metadata"]["annotations"][RECORD])["uid"] == "uid-2"


def test_a_forged_record_takes_nothing_of_the_pods_own() -> None:
    pod = new_pod(
        container(env={"AWS_ROLE_ARN": "own", "OWN": "1"}, mounts={"own": "/own"}),
        volumes=[{"name": "own", "emptyDir": {}}],
        metadata={"name": "p", "annotations": {RECORD: json.dumps({"serviceAccount": "other", "uid": "uid-2"})}},
    )
    decision = decide(pod, of(account({}), account({**AWS, **GCP}, "other", "uid-2")))
    assert patched(pod, decision)["spec"] == pod["spec"]


# -- ephemeral containers ----------------------------------------------------------------------------------------------

DEBUG: dict[str, Any] = {"operation": "UPDATE", "subResource": "ephemeralcontainers"}


def running(*names: str) -> dict[str, Any]:
    pod = new_pod()
    done = patched(pod, decide(pod, of(account(AWS))))
    done["spec"]["ephemeralContainers"] = [container(name) for name in names]
    return done


def test_a_debug_container_gets_variables_and_mounts() -> None:
    old, new = running("first"), running("second", "first")
    decision = decide(new, of(account(AWS)), old=old, **DEBUG)
    assert [op["path"] for op in json.loads(decision.patch or b"[]")] == [
        "/spec/ephemeralContainers/0/env",
        "/spec/ephemeralContainers/0/volumeMounts",
    ]
    assert decision.identities == (("aws", ROLE),)
    assert len(json.loads(decide(new, of(account(AWS)), **DEBUG).patch or b"[]")) == 4


def test_a_change_without_a_new_one_injects_nothing() -> None:
    decision = decide(running("first"), of(account(AWS)), old=running("first"), **DEBUG)
    assert (decision.patch, decision.identities) == (None, ())


def test_a_record_asks_for_no_second_account_of_a_running_pod() -> None:
    changed = running("first")
    changed["spec"]["serviceAccountName"] = "other"
    assert accounts_wanted(review_of(changed, **DEBUG), SETTINGS) == (("shop", "other"),)


def test_nobodys_debug_container_is_refused() -> None:
    wrong = account({**AWS, **GCP, "cloud.google.com/injection-mode": "x"})
    decision = decide(running("new"), of(wrong), old=running(), **DEBUG)
    assert decision.allowed
    assert decision.identities == (("aws", ROLE),)
    assert "injection-mode-malformed" in rules(decision)
    assert "deny" not in {finding.level for finding in decision.findings}
