"""Entra ID's trust: exact, case-sensitive, one audience, and each refusal with the number that Entra ID gives it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.errors import ConfigurationError
from wif.trust.azure import Application, FederatedIdentityCredential, Tenant, match

APP = "6d1c2b3a-0000-4000-8000-00000000000A"
TENANT = "72F988BF-86F1-41AF-91AB-2D7CD011DB47"
ISSUER = "https://issuer.example/one"
SUBJECT = "system:serviceaccount:ns:app"
AUDIENCE = "api://AzureADTokenExchange"


def credential(**changes: Any) -> dict[str, Any]:
    base = {"id": "1", "name": "cluster-one", "issuer": ISSUER, "subject": SUBJECT, "audiences": [AUDIENCE]}
    return {**base, "description": None, "@odata.type": "#x", **changes}


def application(*credentials: dict[str, Any], **changes: Any) -> Application:
    base = {"appId": APP, "displayName": "app", "federatedIdentityCredentials": list(credentials), "tags": []}
    return Application.from_mapping({**base, **changes})


def refused(call: Any, document: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call(document)
    assert (caught.value.code, caught.value.cloud) == ("trust-invalid", "azure")
    return str(caught.value)


# -- documents -----------------------------------------------------------------------------------------------------


def test_a_credential_as_graph_answers_it() -> None:
    read = FederatedIdentityCredential.from_mapping(credential(description="x", claimsMatchingExpression=None))
    assert (read.name, read.issuer, read.subject, read.audience) == ("cluster-one", ISSUER, SUBJECT, AUDIENCE)
    assert (read.description, read.real_cloud_refuses) == ("x", ())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ""}, "no name"),
        ({"name": "ab"}, "3 to 120"),
        ({"name": "a" * 121}, "3 to 120"),
        ({"name": "a b c"}, "3 to 120"),
        ({"audiences": []}, "0 audiences"),
        ({"audiences": ["a", "b"]}, "2 audiences"),
        ({"audiences": AUDIENCE}, "not a list"),
        ({"audiences": ["a" * 601]}, "601 characters"),
        ({"issuer": None}, "no issuer"),
        ({"issuer": "h" * 601}, "601 characters"),
        ({"subject": None}, "no subject"),
        ({"subject": "s" * 601}, "601 characters"),
        ({"description": "d" * 601}, "601 characters"),
        ({"description": 1}, "not a string"),
        ({"audience": "x"}, "unknown member 'audience'"),
    ],
)
def test_another_credential_is_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refused(FederatedIdentityCredential.from_mapping, credential(**changes))


def test_a_flexible_credential_is_refused_with_the_reason() -> None:
    flexible = credential(claimsMatchingExpression={"value": "claims['sub'] matches 'system:*'", "languageVersion": 1})
    message = refused(FederatedIdentityCredential.from_mapping, flexible)
    assert "Kubernetes" in message
    assert "one credential with an exact subject for each ServiceAccount" in message


@pytest.mark.parametrize(
    ("issuer", "says"),
    [
        ("http://issuer.example", "not https"),
        ("https://localhost:8443", "loopback"),
        ("https://127.0.0.2", "loopback"),
        ("https://[::1]:8443", "loopback"),
        ("https://issuer.example?x", "query"),
        ("https://issuer.example/#", "fragment"),
        (" https://issuer.example", "white space"),
        ("https://[", "not a URL"),
        ("issuer", "not https"),
    ],
)
def test_an_issuer_that_entra_id_would_not_take_is_said(issuer: str, says: str) -> None:
    read = FederatedIdentityCredential.from_mapping(credential(issuer=issuer))
    assert any(says in problem for problem in read.real_cloud_refuses)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"appId": "app"}, "GUID"),
        ({}, "no appId"),
        ({"appId": APP, "federatedIdentityCredentials": {}}, "not a list"),
        ({"appId": APP, "federatedIdentityCredentials": ["x"]}, "not an object"),
        (
            {
                "appId": APP,
                "federatedIdentityCredentials": [credential(name=f"n-{n}", subject=str(n)) for n in range(21)],
            },
            "at most 20",
        ),
        (
            {"appId": APP, "federatedIdentityCredentials": [credential(), credential(subject="x")]},
            "named 'cluster-one'",
        ),
        ({"appId": APP, "federatedIdentityCredentials": [credential(), credential(name="two")]}, "issuer and subject"),
        ({"appId": APP, "displayName": 1}, "displayName"),
    ],
)
def test_another_application_is_refused(document: dict[str, Any], says: str) -> None:
    assert says in refused(Application.from_mapping, document)


def test_a_tenant_answers_to_its_id_and_domains() -> None:
    tenant = Tenant.from_mapping(
        {
            "tenantId": TENANT,
            "domains": ["Contoso.onmicrosoft.com", "xn--bcher-kva.example"],
            "applications": [{"appId": APP}],
            "resources": ["https://management.azure.com/"],
        }
    )
    assert tenant.answers_to(TENANT.lower())
    assert tenant.answers_to(TENANT)
    assert tenant.answers_to("CONTOSO.onmicrosoft.com")
    assert not tenant.answers_to("common")
    assert tenant.resources == ("https://management.azure.com/",)
    found = tenant.application(APP.upper())
    assert found is not None
    assert found.app_id == APP.lower()
    assert tenant.application(TENANT) is None


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"tenantId": "contoso"}, "GUID"),
        ({"tenantId": "00000000-0000-0000-0000-000000000000"}, "GUID"),
        ({"tenantId": TENANT, "domains": ["localhost"]}, "'localhost'"),
        ({"tenantId": TENANT, "domains": ["a.example/x"]}, "domain name"),
        ({"tenantId": TENANT, "domains": ["a" * 250 + ".example"]}, "domain name"),
        ({"tenantId": TENANT, "domains": [1]}, "domains"),
        ({"tenantId": TENANT, "applications": [{"appId": APP}, {"appId": APP.upper()}]}, "two applications"),
        ({"tenantId": TENANT, "resources": ""}, "resources"),
        ({"tenantId": TENANT, "apps": []}, "unknown member 'apps'"),
    ],
)
def test_another_tenant_is_refused(document: dict[str, Any], says: str) -> None:
    assert says in refused(Tenant.from_mapping, document)


# -- matching ------------------------------------------------------------------------------------------------------

TWO = application(credential(), credential(name="cluster-two", issuer="https://issuer.example/two", audiences=["x"]))


def test_the_token_of_a_credential_is_accepted() -> None:
    decision = match(TWO, ISSUER, SUBJECT, [AUDIENCE])
    assert decision.allowed
    assert (decision.cloud_code, "'cluster-one'" in decision.reason) == ("", True)


@pytest.mark.parametrize(
    ("app", "issuer", "subject", "audiences", "code", "clause", "says"),
    [
        (application(), ISSUER, SUBJECT, [AUDIENCE], "AADSTS70025", "trust", "no federated identity credential"),
        (TWO, ISSUER + "/", SUBJECT, [AUDIENCE], "AADSTS700211", "issuer", f"'{ISSUER}/'"),
        (TWO, ISSUER.upper(), SUBJECT, [AUDIENCE], "AADSTS700211", "issuer", "they have 'https://issuer.example/one'"),
        (TWO, ISSUER, "system:serviceaccount:ns:b", [AUDIENCE], "AADSTS700213", "subject", f"they have '{SUBJECT}'"),
        (TWO, ISSUER, SUBJECT.upper(), [AUDIENCE], "AADSTS7002138", "subject", "only by case"),
        (TWO, ISSUER, "*", [AUDIENCE], "AADSTS700213", "subject", "'*'"),
        (TWO, ISSUER, SUBJECT, ["sts.amazonaws.com"], "AADSTS700212", "audience", f"'{AUDIENCE}'"),
        (TWO, ISSUER, SUBJECT, [AUDIENCE.lower()], "AADSTS700212", "audience", "the token is for"),
        (TWO, ISSUER, SUBJECT, ["x"], "AADSTS700212", "audience", "'cluster-one'"),
        (TWO, ISSUER, SUBJECT, [], "AADSTS700212", "audience", "the token is for nothing"),
        (TWO, ISSUER, SUBJECT, [AUDIENCE, "x"], "AADSTS700212", "audience", "not documented"),
    ],
)
def test_each_refusal_has_its_number(
    app: Application, issuer: str, subject: str, audiences: list[str], code: str, clause: str, says: str
) -> None:
    decision = match(app, issuer, subject, audiences)
    assert not decision
    assert (decision.cloud_code, decision.clause) == (code, clause)
    assert says in decision.reason


def test_issuer_goes_before_subject_and_subject_before_audience() -> None:
    assert match(TWO, "https://x", "x", ["x"]).cloud_code == "AADSTS700211"
    assert match(TWO, ISSUER, "x", ["x"]).cloud_code == "AADSTS700213"


def test_only_credentials_of_the_issuer_count_for_the_subject() -> None:
    other = application(credential(subject="other"), credential(name="two", issuer="https://issuer.example/two"))
    assert match(other, ISSUER, SUBJECT, [AUDIENCE]).cloud_code == "AADSTS700213"


@given(st.text(max_size=40), st.text(max_size=40), st.lists(st.text(max_size=20), max_size=2))
def test_nothing_but_the_three_is_let_in(issuer: str, subject: str, audiences: list[str]) -> None:
    expected = (issuer, subject, audiences) == (ISSUER, SUBJECT, [AUDIENCE])
    assert bool(match(TWO, issuer, subject, audiences)) == expected
