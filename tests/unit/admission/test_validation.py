"""ServiceAccounts when they are written: what is refused, what is told, and the label that policies select by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.admission.decision import Decision
from wif.admission.patch import apply_patch
from wif.admission.platform import read_platform
from wif.admission.review import GroupKind, Resource, Review, read_review
from wif.admission.validation import review_account
from wif.config.webhook import WebhookSettings
from wif.errors import ProtocolError

SETTINGS = WebhookSettings()
ROLE = "arn:aws:iam::111122223333:role/app"
LABEL = "wif.internal/inject"
NATIVE = {"wif.internal/aws.role-arn": ROLE}
MALFORMED = {"wif.internal/aws.role-arn": "x"}


def account(annotations: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None, **more: Any) -> Any:
    metadata = {"name": "app", "namespace": "team-a", "annotations": annotations, "labels": labels, **more}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {k: v for k, v in metadata.items() if v is not None},
    }


def review(new: Any, old: Any = None, operation: str | None = None) -> Review:
    return Review(
        uid="1",
        kind=GroupKind(version="v1", kind="ServiceAccount"),
        resource=Resource(version="v1", resource="serviceaccounts"),
        operation=operation or ("CREATE" if old is None else "UPDATE"),
        namespace="team-a",
        name="app",
        object=msgspec.Raw(json.dumps(new).encode()),
        old_object=msgspec.Raw(json.dumps(old).encode()),
    )


def decide(new: Any, old: Any = None, settings: WebhookSettings = SETTINGS, **more: Any) -> Decision:
    return review_account(review(new, old), settings, **more)


def labels(new: Any, old: Any = None, settings: WebhookSettings = SETTINGS) -> Any:
    """Those that are stored."""
    decision = decide(new, old, settings)
    assert decision.allowed
    assert decision.patch != b"[]"
    after = new if decision.patch is None else apply_patch(new, decision.patch)
    assert {**after["metadata"], "labels": None} == {**new["metadata"], "labels": None}
    again = decide(after, old, settings)
    assert again.patch is None
    return after["metadata"].get("labels")


def rules(decision: Decision) -> list[tuple[str, str]]:
    return [(finding.rule, finding.level) for finding in decision.findings]


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotations", "rule", "named"),
    [
        ({"wif.internal/aws.role-arn": "x"}, "role-arn-malformed", "wif.internal/aws.role-arn"),
        ({"wif.internal/gcp.provider": "x"}, "provider-malformed", "wif.internal/gcp.provider"),
        ({"wif.internal/azure.client-id": "a/b"}, "client-id-malformed", "wif.internal/azure.client-id"),
        ({"wif.internal/aws.role-arn": ROLE, "wif.internal/aws.audience": ""}, "audience-malformed", "aws.audience"),
        ({"cloud.google.com/workload-identity-provider": "x"}, None, "cloud.google.com/workload-identity-provider"),
        ({"azure.workload.identity/client-id": "a/b?c"}, None, "azure.workload.identity/client-id"),
    ],
)
def test_a_malformed_annotation_is_refused_in_every_dialect_that_refuses(
    annotations: Mapping[str, str], rule: str | None, named: str
) -> None:
    decision = decide(account(annotations))
    assert (decision.allowed, decision.code, decision.patch) == (False, 400, None)
    assert decision.message.startswith("ServiceAccount team-a/app has annotations that are refused: ")
    assert named in decision.message
    denied = [finding.rule for finding in decision.findings if finding.level == "deny"]
    assert denied == [rule] or (rule is None and denied)


def test_dialects_that_are_off_refuse_nothing() -> None:
    decision = decide(account(MALFORMED), settings=WebhookSettings(dialects=("eks",)))
    assert decision == Decision(allowed=True)


def test_a_role_of_the_eks_dialect_is_a_warning_only() -> None:
    decision = decide(account({"eks.amazonaws.com/role-arn": "not-an-arn"}))
    assert decision.allowed
    assert {level for _, level in rules(decision)} == {"warning"}
    assert decision.patch is not None


def test_the_platforms_defaults_count() -> None:
    new = account({"wif.internal/azure.client-id": "11111111-2222-3333-4444-555555555555"})
    assert rules(decide(new)) == [("setting-missing", "deny")]
    platform = read_platform({"config.yaml": "defaults: {azure_tenant_id: contoso.example}"}, SETTINGS)
    assert rules(decide(new, platform=platform)) == []


def test_an_update_is_refused_for_what_it_brings_alone() -> None:
    assert not decide(account(MALFORMED), account()).allowed
    assert not decide(account(MALFORMED | {"wif.internal/mode": "x"}), account(MALFORMED)).allowed
    assert not decide(account({"wif.internal/aws.role-arn": "y"}), account(MALFORMED)).allowed
    kept = decide(account(MALFORMED, {"team": "a"}), account(MALFORMED))
    assert kept.allowed
    assert rules(kept) == [("role-arn-malformed", "warning")]
    half = decide(account(MALFORMED | {"wif.internal/mode": "files"}), account(MALFORMED | {"wif.internal/mode": "x"}))
    assert half.allowed
    assert rules(half) == [("role-arn-malformed", "warning")]


def test_a_finalizer_can_be_taken_off_whatever_stands_there() -> None:
    old = account(MALFORMED, finalizers=["example.com/x"])
    assert decide(account(MALFORMED), old).allowed
    deleted = account(MALFORMED, deletionTimestamp="2026-01-01T00:00:00Z")
    assert decide(deleted, account()) == Decision(allowed=True)


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT", "connect"])
def test_other_operations_pass(operation: str) -> None:
    assert review_account(review(None, account(MALFORMED), operation), SETTINGS) == Decision(allowed=True)


def test_a_name_that_is_generated_is_that_of_the_request() -> None:
    new = account(MALFORMED)
    del new["metadata"]["name"]
    assert decide(new).message.startswith("ServiceAccount team-a/app has ")


def test_a_cloud_twice_is_a_warning_and_says_whose_is_injected() -> None:
    both = NATIVE | {"eks.amazonaws.com/role-arn": ROLE}
    decision = decide(account(both))
    assert rules(decision) == [("cloud-twice", "warning")]
    (finding,) = decision.findings
    assert (finding.dialect, finding.cloud) == ("eks", "aws")
    assert "native and eks both give an identity of aws: native's is injected" in finding.message
    one = decide(account(both), settings=WebhookSettings(dialects=("native", "pfn")))
    assert rules(one) == []
    assert rules(decide(account(NATIVE | {"eks.amazonaws.com/role-arn": ""})))[-1:] != [("cloud-twice", "warning")]


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"metadata": 5}',
        b'{"metadata":{"annotations":{"a":1}}}',
        b"\xff",
        b'{"x":' * 100_000,
    ],
)
def test_what_is_no_service_account_is_an_error_of_the_review(raw: bytes) -> None:
    whole = json.dumps(account()).encode()
    for member, pair in (("object", (raw, whole)), ("oldObject", (whole, raw))):
        asked = msgspec.structs.replace(review(None, {}), object=msgspec.Raw(pair[0]), old_object=msgspec.Raw(pair[1]))
        with pytest.raises(ProtocolError, match=f"the review's {member} is not a ServiceAccount") as caught:
            review_account(asked, SETTINGS)
        assert caught.value.code == "review-invalid"


# -- the label ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "annotations",
    [
        NATIVE,
        {"eks.amazonaws.com/role-arn": ROLE},
        {"eks.amazonaws.com/role-arn": ""},
        {"azure.workload.identity/client-id": "11111111-2222-3333-4444-555555555555"},
    ],
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {LABEL: "true"}),
        ({}, {LABEL: "true"}),
        ({"team": "a"}, {"team": "a", LABEL: "true"}),
        ({"team": "a", LABEL: "false"}, {"team": "a", LABEL: "true"}),
        ({LABEL: "true"}, {LABEL: "true"}),
    ],
)
def test_the_label_stands_where_an_annotation_gives_an_identity(
    annotations: Mapping[str, str], before: Mapping[str, str] | None, after: Mapping[str, str]
) -> None:
    assert labels(account(annotations, before)) == after
    assert labels(account(annotations, before), account(annotations, after)) == after


@pytest.mark.parametrize("annotations", [None, {}, {"example.com/x": "y"}, {"wif.internal/mode": "files"}])
@pytest.mark.parametrize(
    ("before", "after"), [(None, None), ({}, {}), ({LABEL: "true"}, {}), ({LABEL: "x", "team": "a"}, {"team": "a"})]
)
def test_the_label_goes_with_the_last_annotation(
    annotations: Mapping[str, str] | None, before: Mapping[str, str] | None, after: Mapping[str, str] | None
) -> None:
    assert labels(account(annotations, before), account(NATIVE, {LABEL: "true"})) == after


def test_the_label_has_the_native_prefix() -> None:
    settings = WebhookSettings(prefix="id.example.com", dialects=("eks",))
    assert labels(account({"eks.amazonaws.com/role-arn": ROLE}), settings=settings) == {"id.example.com/inject": "true"}


def test_a_review_of_the_api_server_is_answered() -> None:
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "operation": "CREATE",
            "namespace": "team-a",
            "name": "app",
            "kind": {"group": "", "version": "v1", "kind": "ServiceAccount"},
            "resource": {"group": "", "version": "v1", "resource": "serviceaccounts"},
            "object": account(NATIVE),
            "oldObject": None,
        },
    }
    decision = review_account(read_review(json.dumps(body).encode()), SETTINGS)
    assert decision.patch == b'[{"op":"add","path":"/metadata/labels","value":{"wif.internal/inject":"true"}}]'


# -- whatever somebody writes ------------------------------------------------------------------------------------------

_ANNOTATIONS = st.none() | st.dictionaries(
    st.sampled_from(
        [
            f"{prefix}/{name}"
            for prefix in ("wif.internal", "eks.amazonaws.com", "cloud.google.com", "azure.workload.identity", "x")
            for name in ("role-arn", "aws.role-arn", "audience", "client-id", "token-expiration", "mode", "y")
        ]
    ),
    st.sampled_from([ROLE, "", "x", "600"]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    max_size=5,
)
_LABELS = st.none() | st.dictionaries(st.sampled_from([LABEL, "team"]), st.sampled_from(["true", "x"]), max_size=2)


@given(_ANNOTATIONS, _LABELS, st.none() | st.tuples(_ANNOTATIONS, _LABELS))
def test_no_service_account_crashes_and_the_label_settles(
    annotations: dict[str, str] | None, of: dict[str, str] | None, was: tuple[Any, Any] | None
) -> None:
    new, old = account(annotations, of), None if was is None else account(*was)
    decision = decide(new, old)
    assert decision.allowed == all(finding.level != "deny" for finding in decision.findings)
    if decision.allowed:
        labels(new, old)
    assert decide(new, new).allowed
