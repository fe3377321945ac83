"""Google's trust: documents within Google's limits, mapping and condition of a token, and what IAM gives to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.errors import ConfigurationError
from wif.trust.gcp import (
    GET_ACCESS_TOKEN,
    GET_OPEN_ID_TOKEN,
    IMPLICIT_DELEGATION,
    FederatedPrincipal,
    MappedAttributes,
    MappingRefused,
    Pool,
    Provider,
    ServiceAccount,
    accepts_audience,
    condition_holds,
    map_attributes,
    may_impersonate,
)

POOL = "projects/123456789/locations/global/workloadIdentityPools/clusters"
NAME = f"{POOL}/providers/cluster-one"
DEFAULT = f"//iam.googleapis.com/{NAME}"
CLAIMS: dict[str, Any] = {
    "sub": "system:serviceaccount:ns:app",
    "aud": ["a", "b"],
    "n": 1,
    "kubernetes.io": {"namespace": "ns"},
}
KEY = {"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB", "use": "sig", "alg": "RS256"}


def provider(inner: dict[str, Any] | None = None, **changes: Any) -> Provider:
    base = {
        "name": NAME,
        "state": "ACTIVE",
        "attributeMapping": {"google.subject": "assertion.sub"},
        "oidc": {"issuerUri": "https://issuer.example", **(inner or {})},
    }
    return Provider.from_mapping({**base, **changes})


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call(*args, **kwargs)
    assert (caught.value.code, caught.value.cloud) == ("trust-invalid", "gcp")
    return str(caught.value)


# -- pool ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "disabled"),
    [
        ({}, False),
        ({"state": "ACTIVE", "mode": "FEDERATION_ONLY", "displayName": "x"}, False),
        ({"disabled": True}, True),
        ({"state": "DELETED"}, True),
    ],
)
def test_a_pool_as_iam_answers_it(changes: dict[str, Any], disabled: bool) -> None:
    assert Pool.from_mapping({"name": POOL, **changes}) == Pool(name=POOL, disabled=disabled)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": None}, "no name"),
        ({"name": POOL.replace("123456789", "my-project")}, "number, not its id"),
        ({"name": POOL + "/"}, "is not projects/NUMBER"),
        ({"name": POOL.replace("global", "eu")}, "is not projects/NUMBER"),
        ({"state": "GONE"}, "'GONE'"),
        ({"disabled": "yes"}, "disabled"),
        ({"mode": "TRUST_DOMAIN"}, "'TRUST_DOMAIN'"),
        ({"providers": []}, "unknown member 'providers'"),
    ],
)
def test_another_pool_is_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refused(Pool.from_mapping, {"name": POOL, **changes})


# -- provider ------------------------------------------------------------------------------------------------------


def test_a_provider_as_iam_answers_it() -> None:
    read = provider(
        {
            "allowedAudiences": ["x"],
            "jwksJson": json.dumps({"keys": [KEY]}),
            "discoveryUri": "https://issuer.example/.well-known/other",
        },
        attributeCondition="true",
        disabled=False,
    )
    assert (read.pool, read.audience, read.audiences) == (POOL, DEFAULT, ("x",))
    assert (read.issuer, read.attribute_condition, read.disabled) == ("https://issuer.example", "true", False)
    assert read.jwks is not None
    assert read.jwks["keys"] == [KEY]
    assert read.discovery_uri == "https://issuer.example/.well-known/other"
    assert read.real_cloud_refuses == ()


def test_a_provider_may_be_off() -> None:
    assert provider(disabled=True).disabled
    assert provider(state="DELETED").disabled


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda: provider({"issuerUri": "http://issuer.example"}), "not https"),
        (lambda: provider(name=NAME.replace("cluster-one", "k")), "'k' is not 4 to 32"),
        (lambda: provider(name=NAME.replace("clusters", "gcp-pool")), "'gcp-pool'"),
        (lambda: provider({"jwksJson": json.dumps({"keys": [{"kty": "EC", "crv": "P-384", "kid": "z"}]})}), "'z'"),
        (lambda: provider({"jwksJson": json.dumps({"keys": [{"kty": "OKP", "crv": "P-256"}]})}), "None"),
    ],
)
def test_what_google_would_not_store_is_said(read: Any, says: str) -> None:
    (problem,) = read().real_cloud_refuses
    assert says in problem


@pytest.mark.parametrize(
    ("oidc", "changes", "says"),
    [
        ({}, {"name": POOL}, "/providers/PROVIDER"),
        ({}, {"name": f"{POOL}/providers/A"}, "/providers/PROVIDER"),
        ({}, {"name": NAME.replace("123456789", "my-project")}, "number"),
        ({}, {"oidc": None}, "no oidc"),
        ({}, {"oidc": "x"}, "oidc that is not an object"),
        ({}, {"aws": {"accountId": "1"}}, "unknown member 'aws'"),
        ({"issuer": "x"}, {}, "unknown member 'issuer'"),
        ({"issuerUri": ""}, {}, "no issuerUri"),
        ({"allowedAudiences": ["x"] * 11}, {}, "11 allowedAudiences"),
        ({"allowedAudiences": ["x" * 257]}, {}, "257 characters"),
        ({"allowedAudiences": [""]}, {}, "empty"),
        ({"jwksJson": "{"}, {}, "not JSON"),
        ({"jwksJson": "[]"}, {}, "not a JSON object"),
        ({"jwksJson": '{"keys":[]}'}, {}, "without keys"),
        ({"jwksJson": '{"keys":["x"]}'}, {}, "not an object"),
        ({"jwksJson": '{"keys":[],"keys":[]}'}, {}, "twice"),
        ({"jwksJson": json.dumps({"keys": [KEY | {"d": "AQAB"}]})}, {}, "private members"),
        ({"jwksJson": {"keys": [KEY]}}, {}, "not a string"),
        ({"discoveryUri": "https://other.example/.well-known/x"}, {}, "own scheme, host and port"),
        ({"discoveryUri": "http://issuer.example/x"}, {}, "own scheme, host and port"),
        ({"discoveryUri": "https://["}, {}, "own scheme, host and port"),
        ({"discoveryUri": "https://issuer.example/" + "x" * 2000}, {}, "at most 2000"),
        ({}, {"attributeCondition": "x" * 4097}, "4097 characters"),
        ({}, {"attributeMapping": None}, "does not map google.subject"),
        ({}, {"attributeMapping": {"attribute.a": "assertion.sub"}}, "does not map google.subject"),
        ({}, {"attributeMapping": {"google.subject": ""}}, "no google.subject"),
        ({}, {"attributeMapping": {"google.subject": 1}}, "not a string"),
        ({}, {"attributeMapping": {"google.subject": "x" * 2049}}, "2049 characters"),
        ({}, {"attributeMapping": {"google.subject": "'a'", "google.display_name": "'b'"}}, "google.display_name"),
        ({}, {"attributeMapping": {"google.subject": "'a'", "attribute.Name": "'b'"}}, "attribute.Name"),
        ({}, {"attributeMapping": {"google.subject": "'a'", "attribute." + "n" * 101: "'b'"}}, "attribute.NAME"),
        (
            {},
            {"attributeMapping": {"google.subject": "'a'", **{f"attribute.a{n}": "'b'" for n in range(51)}}},
            "51 custom",
        ),
    ],
)
def test_another_provider_is_refused(oidc: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    assert says in refused(provider, oidc, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"attributeMapping": {"google.subject": "assertion."}},
        {"attributeMapping": {"google.subject": "assertion.sub", "attribute.a": "google.subject"}},
        {"attributeCondition": "'text'"},
    ],
)
def test_expressions_are_compiled_on_request(changes: dict[str, Any]) -> None:
    provider().compile()
    provider(attributeCondition="true").compile()
    refused(provider(**changes).compile)


# -- audience ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "audiences", "accepted"),
    [
        ([], [DEFAULT], True),
        ([], [f"https:{DEFAULT}"], True),
        ([], [f"http:{DEFAULT}"], False),
        ([], [NAME], False),
        ([], ["x"], False),
        ([], [], False),
        ([], [DEFAULT, "x"], False),
        (["x", "y"], ["y"], True),
        (["x"], ["X"], False),
        (["x"], [DEFAULT], False),
        (["x"], ["x", "x"], False),
    ],
)
def test_the_audience(allowed: list[str], audiences: list[str], accepted: bool) -> None:
    decision = accepts_audience(provider({"allowedAudiences": allowed}), audiences)
    assert (bool(decision), decision.clause) == (accepted, "audience")
    assert decision.cloud_code == ("" if accepted else "invalid_grant")
    assert ("not documented" in decision.reason) == (len(audiences) > 1)


# -- mapping -------------------------------------------------------------------------------------------------------


def mapped(claims: Any = None, **mapping: str) -> MappedAttributes:
    names = {name.replace("__", "."): expression for name, expression in mapping.items()}
    return map_attributes(
        provider(attributeMapping={"google.subject": "assertion.sub", **names}), CLAIMS if claims is None else claims
    )


def test_a_token_is_mapped() -> None:
    result = mapped(google__groups="assertion.aud", attribute__ns="assertion['kubernetes.io']['namespace']")
    assert (result.subject, result.groups, dict(result.attributes)) == (CLAIMS["sub"], ("a", "b"), {"ns": "ns"})
    assert mapped().groups is None


@pytest.mark.parametrize(
    ("claims", "mapping", "attribute", "problem", "cloud_code"),
    [
        ({}, {}, "google.subject", "error", "invalid_grant"),
        ({"sub": 1}, {}, "google.subject", "type", "unauthorized_client"),
        ({"sub": None}, {}, "google.subject", "type", "unauthorized_client"),
        ({"sub": ""}, {}, "google.subject", "empty", "invalid_grant"),
        ({"sub": "x" * 128}, {}, "google.subject", "size", "invalid_request"),
        ({"sub": "é" * 64}, {}, "google.subject", "size", "invalid_request"),
        ({"sub": "x"}, {"google__groups": "assertion.sub"}, "google.groups", "type", "unauthorized_client"),
        ({"sub": "x"}, {"google__groups": "assertion.groups"}, "google.groups", "error", "invalid_grant"),
        ({"sub": "x", "n": 1}, {"attribute__n": "assertion.n"}, "attribute.n", "type", "unauthorized_client"),
        ({"sub": "x", "long": "y" * 8192}, {"attribute__l": "assertion.long"}, "", "size", "invalid_request"),
        ({"sub": "x", "g": ["y" * 4096] * 2}, {"google__groups": "assertion.g"}, "", "size", "invalid_request"),
    ],
)
def test_a_mapping_that_fails_refuses(
    claims: dict[str, Any], mapping: dict[str, str], attribute: str, problem: str, cloud_code: str
) -> None:
    with pytest.raises(MappingRefused) as caught:
        mapped(claims, **mapping)
    error = caught.value
    assert (error.attribute, error.problem, error.cloud_code, error.cloud) == (attribute, problem, cloud_code, "gcp")
    assert error.code == "subject-invalid"


def test_sizes_at_their_limits_pass() -> None:
    assert len(mapped({"sub": "x" * 127}).subject) == 127
    assert mapped({"sub": "x", "long": "y" * 8191}, attribute__l="assertion.long").attributes


# -- condition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "holds", "says"),
    [
        ("", True, "no condition"),
        ("assertion['kubernetes.io']['namespace'] == 'ns'", True, "is true"),
        ("google.subject.startsWith('system:') && attribute.ns == 'ns' && 'a' in google.groups", True, "is true"),
        ("assertion['kubernetes.io']['namespace'] == 'other'", False, "is false: assertion["),
        ("assertion.missing == 'x'", False, "Key not found"),
        ("assertion.sub", False, "yields STRING"),
        ("attribute.other == 'x'", False, "Key not found"),
    ],
)
def test_the_condition(condition: str, holds: bool, says: str) -> None:
    result = MappedAttributes(subject=CLAIMS["sub"], groups=("a",), attributes={"ns": "ns"})
    decision = condition_holds(provider(attributeCondition=condition), CLAIMS, result)
    assert (bool(decision), decision.clause) == (holds, "trust")
    assert says in decision.reason
    assert decision.cloud_code == ("" if holds else "unauthorized_client")


def test_groups_that_are_not_mapped_are_not_there() -> None:
    without = MappedAttributes(subject="x")
    assert condition_holds(provider(attributeCondition="!has(google.groups)"), CLAIMS, without)
    assert not condition_holds(provider(attributeCondition="'a' in google.groups"), CLAIMS, without)


# -- principals ----------------------------------------------------------------------------------------------------

PRINCIPAL = FederatedPrincipal(
    pool=POOL, mapped=MappedAttributes(subject="system:ns:app", groups=("g",), attributes={"ns": "a/b"})
)
ONE = f"principal://iam.googleapis.com/{POOL}/subject/system:ns:app"
SET = f"principalSet://iam.googleapis.com/{POOL}"


def test_a_principal_and_the_sets_it_is_in() -> None:
    assert PRINCIPAL.uri == ONE
    assert PRINCIPAL.members == {ONE, f"{SET}/*", f"{SET}/group/g", f"{SET}/attribute.ns/a/b"}
    assert FederatedPrincipal(pool=POOL, mapped=MappedAttributes(subject="s")).members == {
        f"principal://iam.googleapis.com/{POOL}/subject/s",
        f"{SET}/*",
    }


# -- service accounts ----------------------------------------------------------------------------------------------

EMAIL = "app@project.iam.gserviceaccount.com"
USER = "roles/iam.workloadIdentityUser"
CREATOR = "roles/iam.serviceAccountTokenCreator"
ID_CREATOR = "roles/iam.serviceAccountOpenIdTokenCreator"


def account(*bindings: Any, **changes: Any) -> ServiceAccount:
    policy = {"version": 1, "etag": "x", "bindings": list(bindings)}
    return ServiceAccount.from_mapping({"email": EMAIL, "iamPolicy": policy, **changes})


def test_a_service_account_as_iam_answers_it() -> None:
    read = account(uniqueId="108", projectId="project", displayName="x", oauth2ClientId="1", etag="y")
    assert (read.email, read.unique_id, read.project_id, read.disabled) == (EMAIL, "108", "project", False)
    assert read.member == f"serviceAccount:{EMAIL}"
    assert ServiceAccount.from_mapping({"email": EMAIL}).bindings == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"email": "app"}, "not an address"),
        ({"email": "a/../b@c"}, "not an address"),
        ({"email": "a@b?x"}, "not an address"),
        ({"uniqueId": 108}, "uniqueId"),
        ({"disabled": 1}, "disabled"),
        ({"iamPolicy": []}, "iamPolicy"),
        ({"iamPolicy": {"binding": []}}, "unknown member 'binding'"),
        ({"iamPolicy": {"bindings": {}}}, "not a list"),
        ({"policy": {}}, "unknown member 'policy'"),
    ],
)
def test_another_service_account_is_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refused(account, **changes)


@pytest.mark.parametrize(
    ("binding", "says"),
    [
        ("x", "not an object"),
        ({"members": []}, "no role"),
        ({"role": USER, "members": "x"}, "not a list"),
        ({"role": USER, "members": ["x"]}, "kind:name"),
        ({"role": USER, "members": [1]}, "not a string"),
        ({"role": USER, "member": "x"}, "unknown member 'member'"),
        ({"role": USER, "members": [], "condition": "x"}, "not an object"),
        ({"role": USER, "members": [], "condition": {}}, "no expression"),
        ({"role": USER, "members": [ONE.replace("123456789", "my-project")]}, "never by its id"),
        ({"role": USER, "members": [ONE.replace("subject", "sub")]}, "names nobody"),
        ({"role": USER, "members": [ONE.replace("principal:", "principalSet:")]}, "names nobody"),
        ({"role": USER, "members": [f"{SET}/attribute.Ns/x"]}, "names nobody"),
        ({"role": USER, "members": [f"{SET}/group/"]}, "names nobody"),
        ({"role": USER, "members": [f"{SET}/*x"]}, "names nobody"),
        ({"role": USER, "members": [SET]}, "names nobody"),
        ({"role": USER, "members": ["principal:x"]}, "names nobody"),
    ],
)
def test_a_binding_that_can_name_nobody_is_refused(binding: Any, says: str) -> None:
    assert says in refused(account, binding)


@pytest.mark.parametrize(
    "member",
    [
        "user:a@b.example",
        "group:a@b.example",
        "serviceAccount:a@b.example",
        "deleted:serviceAccount:a@b.example?uid=1",
        "allUsers",
        "principal://iam.googleapis.com/locations/global/workforcePools/p/subject/s",
        "principalSet://goog/group/x",
    ],
)
def test_members_of_other_kinds_are_left_alone(member: str) -> None:
    assert not may_impersonate(account({"role": USER, "members": [member]}), PRINCIPAL)


@pytest.mark.parametrize("member", [ONE, f"{SET}/*", f"{SET}/group/g", f"{SET}/attribute.ns/a/b"])
def test_every_name_of_the_principal_grants(member: str) -> None:
    decision = may_impersonate(account({"role": USER, "members": ["user:a@b.c", member]}), PRINCIPAL)
    assert (decision.allowed, decision.clause) == (True, "permission")
    assert USER in decision.reason


@pytest.mark.parametrize(
    "member",
    [
        ONE.replace("app", "other"),
        ONE.replace("app", "App"),
        ONE + "x",
        ONE.replace("clusters", "others"),
        ONE.replace("123456789", "987654321"),
        f"{SET}/group/h",
        f"{SET}/attribute.ns/a",
        f"{SET}/attribute.other/a/b",
    ],
)
def test_other_names_do_not(member: str) -> None:
    decision = may_impersonate(account({"role": USER, "members": [member]}), PRINCIPAL)
    assert (decision.allowed, decision.cloud_code) == (False, "PERMISSION_DENIED")
    assert ONE in decision.reason
    assert GET_ACCESS_TOKEN in decision.reason


@pytest.mark.parametrize(
    ("role", "permissions"),
    [
        (USER, {GET_ACCESS_TOKEN, GET_OPEN_ID_TOKEN}),
        (CREATOR, {GET_ACCESS_TOKEN, GET_OPEN_ID_TOKEN, IMPLICIT_DELEGATION}),
        (ID_CREATOR, {GET_OPEN_ID_TOKEN}),
        ("roles/iam.serviceAccountUser", set()),
        ("roles/owner", set()),
    ],
)
def test_each_role_grants_its_permissions_only(role: str, permissions: set[str]) -> None:
    bound = account({"role": role, "members": [ONE]})
    for permission in (GET_ACCESS_TOKEN, GET_OPEN_ID_TOKEN, IMPLICIT_DELEGATION):
        assert bool(may_impersonate(bound, PRINCIPAL, permission)) == (permission in permissions)


@pytest.mark.parametrize(
    ("binding", "says"),
    [
        ({"role": USER, "members": [ONE], "condition": {"expression": "true", "title": "x"}}, "under a condition"),
        ({"role": "projects/p/roles/custom", "members": [ONE]}, "is not known here"),
        ({"role": ID_CREATOR, "members": [ONE]}, "does not grant that"),
        ({"role": USER, "members": ["allAuthenticatedUsers"]}, "everybody"),
        ({"role": USER, "members": ["allUsers"]}, "everybody"),
    ],
)
def test_what_nearly_grants_is_said(binding: dict[str, Any], says: str) -> None:
    decision = may_impersonate(account(binding), PRINCIPAL)
    assert not decision
    assert says in decision.reason


def test_a_later_binding_may_grant_what_an_earlier_does_not() -> None:
    conditional = {"role": USER, "members": [ONE], "condition": {"expression": "true"}}
    assert may_impersonate(account(conditional, {"role": USER, "members": [f"{SET}/*"]}), PRINCIPAL)


def test_a_disabled_service_account_grants_nothing() -> None:
    decision = may_impersonate(account({"role": USER, "members": [ONE]}, disabled=True), PRINCIPAL)
    assert not decision
    assert "is disabled" in decision.reason


def test_a_service_account_may_delegate_to_another() -> None:
    first = ServiceAccount(email="first@p.iam.gserviceaccount.com")
    last = account({"role": CREATOR, "members": [first.member]})
    assert may_impersonate(last, first, IMPLICIT_DELEGATION)
    assert not may_impersonate(last, ServiceAccount(email="other@p.iam.gserviceaccount.com"))
    assert not may_impersonate(last, PRINCIPAL)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_only_the_very_subject_is_granted(bound: str, subject: str) -> None:
    granted = account({"role": USER, "members": [f"principal://iam.googleapis.com/{POOL}/subject/{bound}"]})
    principal = FederatedPrincipal(pool=POOL, mapped=MappedAttributes(subject=subject))
    assert bool(may_impersonate(granted, principal)) == (bound == subject)
