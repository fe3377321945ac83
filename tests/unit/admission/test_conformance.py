"""What the webhooks of PFN, EKS and Azure answer, wif answers: 89 cases, or a row of a table that says why not."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.webhook_cases import DIFFERENCES, Case, by_name, cases, comparable, different
from wif.admission.accounts import ServiceAccount
from wif.admission.mutation import Readings, accounts_wanted, encode_decision, mutate
from wif.admission.patch import apply_patch
from wif.admission.platform import read_platform
from wif.admission.review import read_review
from wif.config.webhook import WebhookSettings, load_webhook

CASES = cases()
OVER_HTTP = ("pfn S3-get-error", "eks K19-content-type-charset")
"""About a look-up and a header: see tests/unit/serve/test_webhook_peers.py."""
PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "webhook-differences.md").read_text()
DIFFERENT = dict(different())


class Answered(NamedTuple):
    """What wif says to a case."""

    response: dict[str, Any]
    pod: Any
    """Afterwards; None for a refusal."""


def answered(case: Case, pod: Any = None) -> Answered:
    asked = json.loads(json.dumps(case.review))
    if pod is not None:
        asked["request"]["object"] = pod
    review = read_review(json.dumps(asked).encode())
    readings = Readings()
    wanted = accounts_wanted(review, case.settings)
    assert set(wanted) <= set(case.accounts)
    platform = None if case.config_map is None else read_platform({"config": case.config_map}, case.settings)
    decision = mutate(review, case.accounts, case.settings, platform, readings=readings, new_secret=str)
    response = json.loads(encode_decision(review, decision))
    patch = response["response"].get("patch")
    before = asked["request"]["object"]
    if not decision.allowed:
        return Answered(response, None)
    return Answered(response, before if patch is None else apply_patch(before, base64.b64decode(patch)))


def is_equal(case: Case, said: Answered) -> bool:
    body = said.response["response"]
    if body["allowed"] != case.allowed:
        return False
    if not case.allowed:
        return case.code is None or body["status"]["code"] == case.code
    namespace = case.review["request"]["namespace"]
    return bool(comparable(said.pod, namespace) == comparable(case.after, namespace))


def test_there_are_89_cases_of_different_names() -> None:
    assert len(CASES) == len({case.name for case in CASES}) == 89
    assert {name for name, _ in different()} <= {case.name for case in CASES}
    assert len(DIFFERENT) == len(list(different()))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name not in {*DIFFERENT, *OVER_HTTP}], ids=lambda case: case.name
)
def test_equal(case: Case) -> None:
    said = answered(case)
    namespace = case.review["request"]["namespace"]
    assert said.response["apiVersion"] == case.review["apiVersion"]
    assert said.response["response"]["uid"] == case.review["request"]["uid"]
    assert said.response["response"]["allowed"] == case.allowed, said.response
    assert comparable(said.pod, namespace) == comparable(case.after, namespace)
    assert is_equal(case, said)
    if case.allowed:
        assert "patch" not in answered(case, said.pod).response["response"], "a second call changes nothing"


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name in DIFFERENT and case.name not in OVER_HTTP],
    ids=lambda case: case.name,
)
def test_different_as_the_table_says(case: Case) -> None:
    said = answered(case)
    assert not is_equal(case, said), "take the case out of the table and the page"
    if said.pod is not None:
        assert "patch" not in answered(case, said.pod).response["response"], "a second call changes nothing"


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.allowed and case.name not in DIFFERENT], ids=lambda case: case.name
)
def test_what_the_peer_has_injected_is_not_injected_again(case: Case) -> None:
    """Both run for a while when a cluster changes over."""
    namespace = case.review["request"]["namespace"]
    assert comparable(answered(case, case.after).pod, namespace) == comparable(case.after, namespace)


@pytest.mark.parametrize(
    ("name", "annotation"),
    [
        ("pfn E1-only-provider", "cloud.google.com/service-account-email"),
        ("pfn E2-bad-provider", "cloud.google.com/workload-identity-provider"),
        ("pfn E3-bad-sa-expiration", "cloud.google.com/token-expiration"),
        ("pfn E4-bad-pod-expiration", "cloud.google.com/token-expiration"),
        ("pfn E5-bad-mode", "cloud.google.com/injection-mode"),
        ("pfn E6-empty-mode", "cloud.google.com/injection-mode"),
        ("pfn E7-bad-runas", "cloud.google.com/gcloud-run-as-user"),
        ("azure E4-expiry-100", "azure.workload.identity/service-account-token-expiration"),
        ("azure E5-expiry-86401-pod", "azure.workload.identity/service-account-token-expiration"),
        ("azure E6-expiry-invalid", "azure.workload.identity/service-account-token-expiration"),
    ],
)
def test_a_refusal_names_the_annotation_that_is_wrong(name: str, annotation: str) -> None:
    """The first one of PFN names another; two of Azure name none."""
    case = by_name(name)
    status = answered(case).response["response"]["status"]
    assert status["code"] == case.code == 400
    (named,) = re.findall(r"annotation (\S+) is", status["message"])
    assert named == annotation
    of_pod = "pod" in name
    assert status["message"].startswith(
        "the pod" if of_pod else f"ServiceAccount {'ns1' if 'azure' in name else 'default'}/sa"
    )


def test_a_name_that_another_webhook_sets_in_between_changes_nothing() -> None:
    """Azure's own second call then mounts a second volume on the same path."""
    case = by_name("azure A6-generateName-default-sa-no-client-id")
    first = answered(case).pod
    first["metadata"]["name"] = "web-7d9c-abcde"
    second = answered(case, first)
    assert second.pod["spec"] == first["spec"]


@pytest.mark.parametrize("layout", ["v1.5", "v1.6", "hashed"])
def test_the_variable_leads_to_the_token_in_every_layout_of_azure(layout: str) -> None:
    case = by_name("azure A1-basic")
    case = replace(case, settings=load_webhook({"azure_layout": layout, "azure_tenant_id": "tenantID"}))
    said = answered(case)
    spec = said.pod["spec"]
    (volume,) = spec["volumes"]
    (source,) = volume["projected"]["sources"]
    for container in (*spec["containers"], *spec["initContainers"]):
        (mount,) = container["volumeMounts"]
        (file,) = [row["value"] for row in container["env"] if row["name"] == "AZURE_FEDERATED_TOKEN_FILE"]
        assert mount["name"] == volume["name"]
        assert file == f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
        assert ("425c89ed5bb78a7623fae60fd8a6f6" in mount["mountPath"]) is (layout == "hashed")
    assert "{" not in json.dumps(spec["volumes"][0]["name"])
    assert "patch" not in answered(case, said.pod).response["response"]


@pytest.mark.parametrize("layout", ["v1.5", "v1.6", "hashed"])
def test_another_account_takes_the_place_of_the_first_in_every_layout_of_azure(layout: str) -> None:
    case = by_name("azure A1-basic")
    other = ServiceAccount("ns1", "other", "u-2", {"azure.workload.identity/client-id": "otherID"})
    settings = load_webhook({"azure_layout": layout, "azure_tenant_id": "tenantID"})
    case = replace(case, settings=settings, accounts={**case.accounts, ("ns1", "other"): other})
    first = answered(case).pod
    first["spec"]["serviceAccountName"] = "other"
    spec = answered(case, first).pod["spec"]
    assert len(spec["volumes"]) == 1
    for container in (*spec["containers"], *spec["initContainers"]):
        assert len(container["volumeMounts"]) == 1
        assert [row["value"] for row in container["env"] if row["name"] == "AZURE_CLIENT_ID"] == ["otherID"]
        assert len(container["env"]) == 4


def test_the_label_of_eks_is_read_under_another_prefix_of_annotations() -> None:
    case = by_name("eks K1-v1-basic")
    role = "arn:aws:iam::111122223333:role/s3-reader"
    account = ServiceAccount("default", "default", "u-1", {"iam.example.com/role-arn": role})
    case = replace(
        case, settings=WebhookSettings(aws_prefix="iam.example.com"), accounts={("default", "default"): account}
    )
    pod = case.review["request"]["object"]
    assert "patch" in answered(case, pod).response["response"]
    labels = {"eks.amazonaws.com/skip-pod-identity-webhook": "x"}
    skipped = {**pod, "metadata": {**pod["metadata"], "labels": labels}}
    assert "patch" not in answered(case, skipped).response["response"]


PEERS = {"pfn": "PFN (`--compat pfn`)", "eks": "EKS (`--compat eks`)", "azure": "Azure (`--compat azure`)"}


@pytest.mark.parametrize("peer", PEERS)
def test_the_page_has_the_table_word_for_word(peer: str) -> None:
    section = PAGE.split(f"\n## {PEERS[peer]}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| {', '.join(f'`{case}`' for case in row.cases)} | {row.peer} | {row.wif} | {row.why} |"
        for row in DIFFERENCES[peer]
    ]
