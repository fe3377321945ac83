"""What is compiled, and what is refused with a reason; that it injects the same is shown on the real API server."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from wif.admission import cel_identities
from wif.admission.accounts import ServiceAccount
from wif.admission.cel_identities import sources
from wif.admission.cel_parts import part_of
from wif.admission.dialects import PodFacts, dialects
from wif.admission.mutating_policy import mutating_policy
from wif.admission.registration import RegistrationSettings
from wif.config.webhook import AzureTokenEndpoint, ContainerCredentials, WebhookSettings
from wif.errors import ConfigurationError

TENANT = "11111111-2222-3333-4444-555555555555"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/p/providers/k"


def settings(**more: Any) -> WebhookSettings:
    return WebhookSettings(**{"azure_layout": "v1.5", **more})


def made(given: WebhookSettings | None = None, **where: Any) -> list[dict[str, Any]]:
    return (
        _made() if given is None and not where else mutating_policy(given or settings(), RegistrationSettings(**where))
    )


@functools.cache
def _made() -> list[dict[str, Any]]:
    return mutating_policy(settings(), RegistrationSettings())


def spec(kind: str, end: str, given: WebhookSettings | None = None, **where: Any) -> dict[str, Any]:
    (found,) = (
        each["spec"] for each in made(given, **where) if each["kind"] == kind and each["metadata"]["name"].endswith(end)
    )
    assert isinstance(found, dict)
    return found


def test_three_policies_and_their_bindings() -> None:
    assert [(each["kind"], each["metadata"]["name"]) for each in made(release="r", namespace="n")] == [
        ("MutatingAdmissionPolicy", "n-r-webhook-set-label"),
        ("MutatingAdmissionPolicyBinding", "n-r-webhook-set-label"),
        ("MutatingAdmissionPolicy", "n-r-webhook-inject"),
        ("MutatingAdmissionPolicyBinding", "n-r-webhook-inject"),
        ("ValidatingAdmissionPolicy", "n-r-webhook-supported"),
        ("ValidatingAdmissionPolicyBinding", "n-r-webhook-supported"),
    ]


def test_service_accounts_are_parameters_by_their_label() -> None:
    for kind, end in (
        ("MutatingAdmissionPolicyBinding", "-inject"),
        ("ValidatingAdmissionPolicyBinding", "-supported"),
    ):
        assert spec(kind, end)["paramRef"] == {
            "selector": {"matchLabels": {"wif.internal/inject": "true"}},
            "parameterNotFoundAction": "Allow",
        }


def test_the_registration_decides_where_and_how() -> None:
    where: dict[str, Any] = {
        "watch_namespaces": ("a",),
        "object_selector": {"matchLabels": {"x": "y"}},
        "failure_policy": "Fail",
        "reinvocation_policy": "Never",
    }
    objects = made(**where)
    for kind, end in (("MutatingAdmissionPolicy", "-inject"), ("ValidatingAdmissionPolicy", "-supported")):
        (found,) = (each["spec"] for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(end))
        assert found["failurePolicy"] == "Fail"
        assert found["matchConstraints"]["objectSelector"] == {"matchLabels": {"x": "y"}}
        assert found["matchConstraints"]["namespaceSelector"]["matchExpressions"][0]["values"] == ["a"]
        assert [row["name"] for row in found["matchConditions"]] == ["not-a-mirror-pod", "its-service-account"]
        assert found.get("reinvocationPolicy", "Never") == "Never"
    assert "objectSelector" not in spec("MutatingAdmissionPolicy", "-inject")["matchConstraints"]


def test_what_cannot_be_followed_is_denied_and_not_half_done() -> None:
    assert spec("ValidatingAdmissionPolicyBinding", "-supported")["validationActions"] == ["Deny", "Audit"]
    rows = {row["name"]: row["expression"] for row in spec("MutatingAdmissionPolicy", "-inject")["variables"]}
    for name, expression in rows.items():
        if name.endswith("Active"):
            assert "variables.problems.size() == 0" in expression


def test_a_variable_stands_before_what_uses_it() -> None:
    for kind, end in (("MutatingAdmissionPolicy", "-inject"), ("ValidatingAdmissionPolicy", "-supported")):
        known: set[str] = set()
        for row in spec(kind, end)["variables"]:
            assert set(re.findall(r"variables\.([A-Za-z0-9]+)", row["expression"])) <= known
            assert row["name"] not in known
            known.add(row["name"])


def test_types_of_kubernetes_stand_in_mutations_alone() -> None:
    found = spec("MutatingAdmissionPolicy", "-inject")
    assert not any("Object." in row["expression"] or "JSONPatch" in row["expression"] for row in found["variables"])
    assert len(found["mutations"]) == 1  # variables are evaluated anew for each


@pytest.mark.parametrize(
    ("given", "reason", "hint"),
    [
        (WebhookSettings(), "CEL has no hashes", "--azure-layout v1.5"),
        (settings(azure_layout="hashed"), "CEL has no hashes", "--dialect"),
        (settings(gcp_mode="gcloud"), "a container that runs first", "--gcp-mode direct"),
        (
            settings(aws_container_credentials=ContainerCredentials(identities=(("a", "b"),))),
            "associations",
            "aws_container_credentials",
        ),
        (
            settings(azure_token_endpoint=AzureTokenEndpoint(annotation_suffix="x", audience="y")),
            "token endpoint",
            "azure_token_endpoint",
        ),
        (settings(deny_collisions=True), "cannot refuse", "deny_collisions"),
    ],
)
def test_settings_that_cel_cannot_follow_are_refused_with_a_reason(
    given: WebhookSettings, reason: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        made(given)
    assert caught.value.code == "policy-unsupported"
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    "given",
    [
        settings(dialects=("native", "pfn", "eks")),
        WebhookSettings(dialects=("native", "eks"), gcp_mode="gcloud"),
        WebhookSettings(dialects=("eks",), azure_layout="hashed", deny_collisions=False),
        WebhookSettings(dialects=("pfn",), compat="pfn", token_mode=0o440),
        settings(gcp_provider=PROVIDER, azure_tenant_id=TENANT, aws_region="eu-central-1", aws_account_id="1" * 12),
        settings(aws_regional_sts=False),
    ],
)
def test_a_limit_of_a_dialect_that_is_off_does_not_count(given: WebhookSettings) -> None:
    assert len(made(given)) == 6


def test_no_placeholder_is_left_over() -> None:
    for each in (
        settings(),
        settings(gcp_provider=PROVIDER, azure_tenant_id=TENANT, aws_account_id="1" * 12, compat="pfn"),
    ):
        text = str(made(each))
        for placeholder in ("wif-symbol", "wifsymbol", "4096", "700700700700"):
            assert placeholder not in text


def test_the_label_is_set_where_an_annotation_gives_an_identity() -> None:
    found = spec("MutatingAdmissionPolicy", "-set-label")
    assert found["matchConstraints"]["resourceRules"][0]["operations"] == ["CREATE", "UPDATE"]
    assert "paramKind" not in found
    assert "role-arn" in found["matchConditions"][0]["expression"]


@pytest.mark.parametrize("given", [settings(), settings(gcp_provider=PROVIDER, azure_tenant_id=TENANT)])
def test_answers_of_one_source_have_one_shape(given: WebhookSettings) -> None:
    """What is taken from the first answer is the same in all: mounts, names of volumes and keys of annotations."""
    for source in sources(given):
        part = part_of(source, given)
        assert part.volumes
        assert {token.volume for token in part.tokens} <= {volume.name for volume in part.volumes}
        assert {mount.volume for mount in part.mounts} == {volume.name for volume in part.volumes}


# -- patterns: what a policy lets through, its dialect takes as it is -----------------------------------------

ROLE = {"wif.internal/aws.role-arn": "arn:aws:iam::111122223333:role/a"}
POOL = {"wif.internal/gcp.provider": PROVIDER}
MAIL = "a@my-project.iam.gserviceaccount.com"
_N, _G, _A = "wif.internal", "cloud.google.com", "azure.workload.identity"
ROWS = [
    ("native", f"{_N}/aws.role-arn", cel_identities.ROLE, {}),
    ("native", f"{_N}/aws.region", cel_identities.AWS_REGION, ROLE),
    ("native", f"{_N}/aws.session-name", cel_identities.SESSION, ROLE),
    ("native", f"{_N}/aws.audience", cel_identities.AUDIENCE, ROLE),
    ("native", f"{_N}/aws.token-expiration", cel_identities.SECONDS, ROLE),
    ("native", f"{_N}/gcp.provider", cel_identities.PROVIDER, {}),
    ("native", f"{_N}/gcp.service-account", cel_identities.EMAIL, POOL),
    ("native", f"{_N}/gcp.project", cel_identities.PROJECT, POOL),
    ("native", f"{_N}/gcp.region", cel_identities.GCP_REGION, POOL),
    ("native", f"{_N}/azure.client-id", cel_identities.CLIENT, {f"{_N}/azure.tenant-id": TENANT}),
    ("native", f"{_N}/azure.tenant-id", cel_identities.TENANT, {f"{_N}/azure.client-id": "c"}),
    ("pfn", f"{_G}/workload-identity-provider", cel_identities.PFN_PROVIDER, {f"{_G}/service-account-email": MAIL}),
    ("pfn", f"{_G}/service-account-email", cel_identities.EMAIL, {f"{_G}/workload-identity-provider": PROVIDER}),
    ("eks", "eks.amazonaws.com/role-arn", cel_identities.ROLE, {}),
    ("azure", f"{_A}/client-id", cel_identities.CLIENT, {}),
    ("azure", f"{_A}/tenant-id", cel_identities.TENANT, {f"{_A}/client-id": "c"}),
    ("azure", f"{_A}/service-account-token-expiration", cel_identities.AZURE_SECONDS, {f"{_A}/client-id": "c"}),
]
MANY_TENANTS = ("common", "organizations", "consumers")


@hypothesis.settings(max_examples=20)
@hypothesis.given(data=st.data())
@pytest.mark.parametrize(("dialect", "key", "pattern", "more"), ROWS, ids=[row[1] for row in ROWS])
def test_what_a_pattern_lets_through_the_dialect_takes(
    dialect: str, key: str, pattern: str, more: dict[str, str], data: st.DataObject
) -> None:
    value = data.draw(st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True))
    if value.lower() in MANY_TENANTS or "\n" in value:
        return
    given = settings(dialects=(dialect,))
    account = ServiceAccount("ns", "app", "u", {**more, key: value})
    facts = PodFacts(labels=(("azure.workload.identity/use", "true"),))
    reading = dict(dialects(given))[dialect].read(account, facts, given)
    assert len(reading.parts) == 1, reading.findings
    assert all(finding.rule == "token-expiration-clamped" for finding in reading.findings), reading.findings


HOSTILE = {
    cel_identities.EMAIL: (
        *("a@b.example", "a/b@c-project.iam.gserviceaccount.com", "a@c-project.iam.gserviceaccount.com:x"),
        *("a?@b", '"@x', ""),
    ),
    cel_identities.PROVIDER: ("projects/x/locations/global", f"{PROVIDER}/", f'{PROVIDER}"', ""),
    cel_identities.ROLE: ("not-an-arn", "arn:aws:iam::1:role/x", "arn:aws:iam::111122223333:role/$(X)", ""),
    cel_identities.CLIENT: ("a b", 'x"', "$(X)", ""),
    cel_identities.AZURE_SECONDS: ("3599", "86401", "1e4", "-3600", "03600"),
    cel_identities.SECONDS: ("", "-1", "1.5", "12345678901"),
}


@pytest.mark.parametrize(("pattern", "value"), [(key, value) for key, row in HOSTILE.items() for value in row])
def test_what_would_rewrite_an_url_or_a_file_fits_no_pattern(pattern: str, value: str) -> None:
    assert re.fullmatch(pattern, value, re.ASCII) is None


@pytest.mark.parametrize(
    "value", ["3600", "3601", "9999", "10000", "79999", "80000", "85999", "86000", "86399", "86400", ""]
)
def test_azures_seconds(value: str) -> None:
    assert re.fullmatch(cel_identities.AZURE_SECONDS, value)


def test_placeholders_do_not_hide_in_each_other() -> None:
    for source in sources(settings()):
        for one, other in itertools.permutations(source.texts, 2):
            assert one not in other or source.texts[other] != source.texts[one] or one == "wif-symbol-owner"
