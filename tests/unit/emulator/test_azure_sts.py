"""Entra ID's answers: tokens, documents, and every number that a request can provoke, one rule broken at a time."""

from __future__ import annotations

import json
import re
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.unit.emulator.local_sts import (
    AZURE_AUDIENCE,
    CLIENT,
    EMPTY_CLIENT,
    FOREIGN_CLIENT,
    ISSUER,
    MANAGED_CLIENT,
    NOW,
    OTHER_TENANT,
    SUBJECT,
    TENANT,
    LocalSts,
)
from wif.core.jws import sign, split_compact
from wif.emulator.azure import error_document

CHECK = (
    " Check your federated identity credential Subject, Audience and Issuer against the presented assertion. "
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)
NO_MATCH = "No matching federated identity record found for presented assertion "


def credential(sts: LocalSts) -> dict[str, Any]:
    document: dict[str, Any] = sts.trust["azure"]["tenants"][0]["applications"][0]["federatedIdentityCredentials"][0]
    return document


# -- success ---------------------------------------------------------------------------------------------------


def verified(sts: LocalSts, token: str, audience: str) -> dict[str, Any]:
    """The claims of a token, checked by PyJWT with the published keys."""
    (jwk,) = sts.send("GET", f"/{TENANT}/discovery/v2.0/keys", host="login.microsoftonline.com").json["keys"]
    assert jwt.get_unverified_header(token)["kid"] == jwk["kid"]
    claims: dict[str, Any] = jwt.decode(
        token,
        jwt.PyJWK(jwk),
        algorithms=["ES256"],
        audience=audience,
        issuer=f"https://sts.windows.invalid/{TENANT}/",
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    return claims


def test_success_document(sts: LocalSts) -> None:
    reply = sts.azure()
    assert reply.status == 200
    assert {name: value for name, value in reply.json.items() if name != "access_token"} == {
        "token_type": "Bearer",
        "expires_in": 3599,
        "ext_expires_in": 3599,
    }
    claims = verified(sts, reply.json["access_token"], "https://management.azure.com")
    assert claims["appid"] == CLIENT
    assert claims["tid"] == TENANT
    assert claims["oid"] == claims["sub"]
    assert claims["exp"] == NOW + 3600
    assert claims["ver"] == "1.0"


def test_managed_identities_get_a_day(sts: LocalSts) -> None:
    document = sts.azure(client_id=MANAGED_CLIENT).json
    assert document["expires_in"] == 86399
    assert document["refresh_in"] == 43199


def test_tenant_by_domain_and_client_in_capitals(sts: LocalSts) -> None:
    assert sts.azure(tenant="Shop.Example.com", client_id=CLIENT.upper()).status == 200


def test_the_tenants_own_resources(sts: LocalSts) -> None:
    reply = sts.azure(scope="api://shop/.default")
    assert verified(sts, reply.json["access_token"], "api://shop")["aud"] == "api://shop"
    assert sts.azure(scope="https://vault.azure.net//.default openid").status == 200


def test_white_space_around_the_token_and_a_claims_challenge(sts: LocalSts) -> None:
    claims = '{"access_token":{"xms_cc":{"values":["CP1"]}}}'
    assert sts.azure(sts.mint(AZURE_AUDIENCE) + "\n", claims=claims).status == 200


def test_the_endpoint_of_version_1(sts: LocalSts) -> None:
    fields = {
        "client_assertion": sts.mint(AZURE_AUDIENCE),
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_id": CLIENT,
        "grant_type": "client_credentials",
        "resource": "https://management.azure.com/",
    }
    document = sts.form(f"/{TENANT}/oauth2/token", fields).json
    assert document["resource"] == "https://management.azure.com/"
    assert document["expires_in"] == "3599"
    assert document["expires_on"] == f"{NOW + 3600:.0f}"
    reply = sts.form(f"/{TENANT}/oauth2/token", {**fields, "resource": None})
    assert reply.azure_error == (400, "invalid_request", 900144)


# -- the token --------------------------------------------------------------------------------------------------

TOKENS: list[tuple[str, dict[str, Any], tuple[int, str, int], str]] = [
    (
        "another issuer",
        {"iss": ISSUER + "/"},
        (401, "invalid_client", 700211),
        f"{NO_MATCH}issuer '{ISSUER}/'.{CHECK}",
    ),
    (
        "another audience",
        {"aud": ["api://AKSIdentityBinding"]},
        (401, "invalid_client", 700212),
        f"{NO_MATCH}audience 'api://AKSIdentityBinding'.{CHECK}",
    ),
    (
        "another subject",
        {"sub": "system:serviceaccount:other:app"},
        (401, "invalid_client", 700213),
        f"{NO_MATCH}subject 'system:serviceaccount:other:app'.{CHECK}",
    ),
    (
        "a subject in other letters",
        {"sub": SUBJECT.upper()},
        (401, "invalid_client", 7002138),
        f"{NO_MATCH}subject '{SUBJECT.upper()}'. The subject differs only by case: the comparison is case-sensitive."
        f"{CHECK}",
    ),
    (
        "a life over 25 hours",
        {"iat": int(NOW), "exp": int(NOW) + 90001},
        (400, "invalid_request", 70023),
        "External OIDC Provider token must have a lifetime of less than or equal to 1.01:00:00. Token issued at "
        "11/23/2026 2:13:20 AM. Token expires on 11/24/2026 3:13:21 AM.",
    ),
    (
        "no iat",
        {"iat": None},
        (400, "invalid_request", 70023),
        "External OIDC Provider token must have a lifetime of less than or equal to 1.01:00:00. Token issued at "
        "1/1/1970 12:00:00 AM. Token expires on 11/23/2026 3:13:20 AM.",
    ),
    (
        "past its exp",
        {"iat": int(NOW) - 3600, "nbf": int(NOW) - 3600, "exp": int(NOW) - 300},
        (401, "invalid_client", 700024),
        "Client assertion is not within its valid time range. Current time: 2026-11-23T02:13:20.0000000Z, assertion "
        "valid from 2026-11-23T01:13:20.0000000Z, expiry time of assertion 2026-11-23T02:08:20.0000000Z. Review the "
        "documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
    ),
    (
        "one of Entra ID's own",
        {"iss": f"https://sts.windows.net/{TENANT}/"},
        (400, "invalid_request", 700222),
        "AAD-issued tokens may not be used for federated identity flows.",
    ),
    ("no subject", {"sub": None}, (400, "invalid_request", 50027), "JWT token is invalid or malformed."),
    ("no issuer", {"iss": None}, (400, "invalid_request", 50027), "JWT token is invalid or malformed."),
    ("no audience", {"aud": None}, (400, "invalid_request", 50027), "JWT token is invalid or malformed."),
    ("no exp", {"exp": None}, (400, "invalid_request", 50027), "JWT token is invalid or malformed."),
    ("an exp that is a text", {"exp": "1"}, (400, "invalid_request", 50027), "JWT token is invalid or malformed."),
]


@pytest.mark.parametrize(("claims", "expected", "text"), [row[1:] for row in TOKENS], ids=[row[0] for row in TOKENS])
def test_token_refused(sts: LocalSts, claims: dict[str, Any], expected: tuple[int, str, int], text: str) -> None:
    reply = sts.azure(sts.mint(AZURE_AUDIENCE, **claims))
    assert reply.azure_error == expected
    assert reply.azure_text == text


def test_the_form_of_an_error(sts: LocalSts) -> None:
    request_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    reply = sts.form(f"/{TENANT}/oauth2/v2.0/token", {}, headers={"client-request-id": request_id})
    document = reply.json
    assert sorted(document) == sorted(
        ["error", "error_description", "error_codes", "timestamp", "trace_id", "correlation_id", "error_uri"]
    )
    assert document["timestamp"] == "2026-11-23 02:13:20Z"
    assert document["correlation_id"] == request_id
    assert document["error_uri"] == "https://login.microsoftonline.com/error?code=900144"
    assert document["error_description"] == (
        "AADSTS900144: The request body must contain the following parameter: 'grant_type'. Trace ID: "
        f"{document['trace_id']} Correlation ID: {request_id} Timestamp: 2026-11-23 02:13:20Z"
    )
    assert reply.headers["x-ms-request-id"] == document["trace_id"]
    assert reply.headers["client-request-id"] == request_id


def test_within_the_leeway_times_are_forgiven(sts: LocalSts) -> None:
    assert sts.azure(sts.mint(AZURE_AUDIENCE, exp=int(NOW) - 299)).status == 200
    assert sts.azure(sts.mint(AZURE_AUDIENCE, nbf=int(NOW) + 300)).status == 200
    assert sts.azure(sts.mint(AZURE_AUDIENCE, nbf=int(NOW) + 301)).azure_error[2] == 700024
    assert sts.azure(sts.mint(AZURE_AUDIENCE, exp=int(NOW) + 90000)).status == 200


@pytest.mark.parametrize("token", ["x", "a.b.c", "e30.e30.e30", "ö.ö.ö", "x" * 20001])
def test_what_is_no_jwt(sts: LocalSts, token: str) -> None:
    assert sts.azure(token).azure_error == (400, "invalid_request", 50027)


def test_a_critical_header(sts: LocalSts) -> None:
    token = sts.mint(AZURE_AUDIENCE, headers={"crit": ["exp"]})
    assert sts.azure(token).azure_error == (400, "invalid_request", 5002726)


# -- keys --------------------------------------------------------------------------------------------------------


def test_another_key_under_the_same_id(sts: LocalSts) -> None:
    forged = sts.mint(AZURE_AUDIENCE, private_key=rsa.generate_private_key(65537, 2048))
    assert sts.azure(forged).azure_error == (401, "invalid_client", 700027)


def test_an_unknown_key_id(sts: LocalSts) -> None:
    claims = split_compact(sts.mint(AZURE_AUDIENCE)).unverified_claims
    reply = sts.azure(sign(claims, sts.cluster.signing_key.private_key, "unknown"))
    assert reply.azure_error == (401, "invalid_client", 7000272)
    assert reply.azure_text == (
        "The certificate with identifier unknown used to sign the federated credential could not be found in the "
        f"metadata of identity provider {ISSUER}. Please validate that your Identity Provider's metadata exposes the "
        "key used to sign the incoming token."
    )


@pytest.mark.parametrize("algorithm", ["ES256", "ES384"])
def test_only_rs256_is_verified(sts: LocalSts, algorithm: str) -> None:
    kid = next(key.kid for key in sts.cluster.keys if key.algorithm == algorithm)
    reply = sts.azure(sts.mint(AZURE_AUDIENCE, kid=kid))
    assert reply.azure_error == (400, "invalid_request", 5002730)


def test_rs512_is_not_verified(sts: LocalSts) -> None:
    key = sts.cluster.signing_key
    token = sign(split_compact(sts.mint(AZURE_AUDIENCE)).unverified_claims, key.private_key, key.kid, alg="RS512")
    assert sts.azure(token).azure_error[2] == 5002730


def test_documents_that_cannot_be_had(sts: LocalSts) -> None:
    path = sts.documents / ".well-known" / "openid-configuration"
    good = path.read_text()
    path.unlink()
    reply = sts.azure()
    assert reply.azure_error == (400, "invalid_request", 50166)
    assert reply.azure_text == "Request to External OIDC endpoint failed."
    path.write_text("<html>")
    assert sts.azure().azure_error == (400, "invalid_request", 501661)
    path.write_text(good.replace(f'"issuer":"{ISSUER}"', '"issuer":"https://other.example.com"'))
    reply = sts.azure()
    assert reply.azure_error == (400, "invalid_request", 700221)
    assert reply.azure_text == (
        f"Issuer from the provided JWT '{ISSUER}' does not match the issuer published in the OIDC discovery metadata "
        "('https://other.example.com') registered for this federated credential."
    )
    path.write_text(good)
    assert sts.azure().status == 200


def test_an_issuer_that_entra_id_would_not_take(sts: LocalSts) -> None:
    sts.allow_local_issuers = False
    credential(sts)["issuer"] = "http://localhost:8080"
    reply = sts.azure(sts.mint(AZURE_AUDIENCE, iss="http://localhost:8080"))
    assert reply.azure_error == (400, "invalid_request", 70022)
    assert reply.azure_text == (
        "Federated Identity Credential issuer must use HTTPS scheme, must not be loopback address, and may not include "
        "a query-string or fragment. Token issuer: http://localhost:8080."
    )


# -- the request ---------------------------------------------------------------------------------------------------

REQUESTS: list[tuple[str, dict[str, Any], tuple[int, str, int], str]] = [
    (
        "no credential at the application",
        {"client_id": EMPTY_CLIENT},
        (401, "invalid_client", 70025),
        f"The client '{EMPTY_CLIENT}'(empty) has no configured federated identity credentials.",
    ),
    (
        "an application that is not there",
        {"client_id": "nobody"},
        (400, "unauthorized_client", 700016),
        f"Application with identifier 'nobody' was not found in the directory '{TENANT}'. This can happen if the "
        "application has not been installed by the administrator of the tenant or consented to by any user in the "
        "tenant. You may have sent your authentication request to the wrong tenant.",
    ),
    (
        "an application of another tenant",
        {"client_id": FOREIGN_CLIENT},
        (401, "invalid_client", 7000229),
        f"The client application {FOREIGN_CLIENT} is missing service principal in the tenant {TENANT}. See "
        "instructions here: https://go.microsoft.com/fwlink/?linkid=2225119",
    ),
    (
        "a tenant that is not there",
        {"tenant": "99999999-2222-3333-4444-555555555555"},
        (400, "invalid_request", 90002),
        "Tenant '99999999-2222-3333-4444-555555555555' not found. Check to make sure you have the correct tenant ID "
        "and are signing into the correct cloud. Check with your subscription administrator, this may happen if there "
        "are no active subscriptions for the tenant.",
    ),
    (
        "the empty tenant",
        {"tenant": "00000000-0000-0000-0000-000000000000"},
        (400, "invalid_request", 900021),
        "Requested tenant identifier '00000000-0000-0000-0000-000000000000' is not valid. Tenant identifiers may not "
        "be an empty GUID.",
    ),
    (
        "no tenant's name",
        {"tenant": "shop"},
        (400, "invalid_request", 900023),
        "Specified tenant identifier 'shop' is neither a valid DNS name, nor a valid external domain.",
    ),
    (
        "the common tenant",
        {"tenant": "common"},
        (400, "invalid_request", 50059),
        "No tenant-identifying information found in either the request or its path.",
    ),
    (
        "a resource that is not there",
        {"scope": "https://shop.example.com/.default"},
        (400, "invalid_resource", 500011),
        f"The resource principal named https://shop.example.com was not found in the tenant named {TENANT}. This can "
        "happen if the application has not been installed by the administrator of the tenant or consented to by any "
        "user in the tenant. You might have sent your authentication request to the wrong tenant.",
    ),
    (
        "a scope without /.default",
        {"scope": "https://management.azure.com/user_impersonation"},
        (400, "invalid_scope", 1002012),
        "The provided value for scope https://management.azure.com/user_impersonation is not valid. Client credential "
        "flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
    ),
    (
        "two scopes",
        {"scope": "https://management.azure.com/.default https://vault.azure.net/.default"},
        (400, "invalid_scope", 70011),
        "The provided request must include a 'scope' input parameter. The provided value for the input parameter "
        "'scope' is not valid. The scope https://management.azure.com/.default https://vault.azure.net/.default is not "
        "valid.",
    ),
    (
        "no scope",
        {"scope": None},
        (400, "invalid_request", 900144),
        "The request body must contain the following parameter: 'scope'.",
    ),
    (
        "no client id",
        {"client_id": None},
        (400, "invalid_request", 900144),
        "The request body must contain the following parameter: 'client_id'.",
    ),
    (
        "no assertion's type",
        {"client_assertion_type": None},
        (400, "invalid_request", 900144),
        "The request body must contain the following parameter: 'client_assertion_type'.",
    ),
    (
        "another assertion's type",
        {"client_assertion_type": "saml"},
        (400, "invalid_request", 9002313),
        "Invalid request. Request is malformed or invalid.",
    ),
    (
        "no assertion",
        {"client_assertion": None},
        (401, "invalid_client", 7000218),
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
    (
        "no authentication at all",
        {"client_assertion": None, "client_assertion_type": None},
        (401, "invalid_client", 7000216),
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
    ),
    (
        "a client secret",
        {"client_assertion": None, "client_assertion_type": None, "client_secret": "x"},
        (401, "invalid_client", 7000215),
        "Invalid client secret provided.",
    ),
    (
        "another grant",
        {"grant_type": "password"},
        (400, "unsupported_grant_type", 70003),
        "The app requested an unsupported grant type 'password'.",
    ),
    (
        "claims that are no JSON",
        {"claims": "{"},
        (400, "invalid_request", 9002313),
        "Invalid request. Request is malformed or invalid.",
    ),
]


@pytest.mark.parametrize(
    ("fields", "expected", "text"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
def test_request_refused(sts: LocalSts, fields: dict[str, Any], expected: tuple[int, str, int], text: str) -> None:
    reply = sts.azure(**fields)
    assert reply.azure_error == expected
    assert reply.azure_text == text


def test_other_methods_and_bodies(sts: LocalSts) -> None:
    path = f"/{TENANT}/oauth2/v2.0/token"
    assert sts.send("GET", path).azure_error == (400, "invalid_request", 900561)
    assert sts.send("POST", path, body=b"\xff%ff").azure_error == (400, "invalid_request", 9002313)
    assert sts.send("GET", "/nothing").azure_error == (400, "invalid_request", 9002313)


def test_values_with_braces_are_no_gaps(sts: LocalSts) -> None:
    assert "{app} {0}" in sts.azure(client_id="{app} {0}").azure_text


@pytest.mark.parametrize("number", [90033, 900610, 50166])
def test_numbers_for_faults(number: int) -> None:
    document = json.loads(error_document(number, now=NOW).body)
    assert document["error_codes"] == [number]
    assert re.match(rf"AADSTS{number}: .+ Trace ID: [0-9a-f-]{{36}} Correlation ID: ", document["error_description"])


# -- documents ------------------------------------------------------------------------------------------------------

LOGIN = "login.microsoftonline.com"


def test_discovery_documents(sts: LocalSts) -> None:
    second = sts.send("GET", f"/{TENANT}/v2.0/.well-known/openid-configuration", host=LOGIN).json
    assert second["token_endpoint"] == f"https://{LOGIN}/{TENANT}/oauth2/v2.0/token"
    assert second["authorization_endpoint"].startswith(f"https://{LOGIN}/{TENANT}/")
    assert second["issuer"] == f"https://{LOGIN}/{TENANT}/v2.0"  # MSAL for Go wants the host that it asked
    first = sts.send("GET", "/shop.example.com/.well-known/openid-configuration", host=LOGIN).json
    assert first["issuer"] == f"https://sts.windows.invalid/{TENANT}/"
    assert first["jwks_uri"] == f"https://{LOGIN}/{TENANT}/discovery/keys"
    keys = sts.send("GET", first["jwks_uri"].removeprefix(f"https://{LOGIN}"), host=LOGIN).json["keys"]
    assert [key["alg"] for key in keys] == ["ES256"]
    common = sts.send("GET", "/common/v2.0/.well-known/openid-configuration", host=LOGIN).json
    assert common["issuer"] == f"https://{LOGIN}/common/v2.0"


def test_documents_of_no_tenant(sts: LocalSts) -> None:
    for path in ("v2.0/.well-known/openid-configuration", "discovery/v2.0/keys"):
        assert sts.send("GET", f"/nobody.example.com/{path}", host=LOGIN).azure_error[2] == 90002


def test_instance_discovery(sts: LocalSts) -> None:
    query = f"api-version=1.1&authorization_endpoint=https%3A%2F%2F{LOGIN}%2F{TENANT}%2Foauth2%2Fv2.0%2Fauthorize"
    document = sts.send("GET", "/common/discovery/instance", host=LOGIN, query=query).json
    assert document["tenant_discovery_endpoint"] == f"https://{LOGIN}/{TENANT}/v2.0/.well-known/openid-configuration"
    assert document["api-version"] == "1.1"
    assert LOGIN in document["metadata"][0]["aliases"]
    local = sts.send("GET", "/common/discovery/instance", host="localhost:8443").json
    assert local["metadata"][-1]["aliases"] == ["localhost:8443"]
    assert sts.send("GET", "/common/discovery/instance", query="%ff").azure_error[2] == 9002313


# -- what command lines ask of Azure Resource Manager ------------------------------------------------------------


def test_subscriptions_and_tenants(sts: LocalSts) -> None:
    token = sts.azure().json["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    query = "api-version=2022-12-01"
    (subscription,) = sts.send("GET", "/subscriptions", host="management.azure.com", query=query, headers=headers).json[
        "value"
    ]
    assert subscription["tenantId"] == TENANT
    assert subscription["state"] == "Enabled"
    (tenant,) = sts.send("GET", "/tenants", host="management.azure.com", headers=headers).json["value"]
    assert tenant["tenantId"] == TENANT
    sts.now += 3601
    assert sts.send("GET", "/subscriptions", host="management.azure.com", headers=headers).status == 401


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer x", "Basic eDp5"])
def test_resource_manager_wants_a_token(sts: LocalSts, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    reply = sts.send("GET", "/subscriptions", host="management.azure.com", headers=headers)
    assert reply.status == 401
    assert reply.json["error"]["code"] == "AuthenticationFailed"


def test_a_clusters_token_is_none_of_ours(sts: LocalSts) -> None:
    headers = {"authorization": f"Bearer {sts.mint(AZURE_AUDIENCE, tid=TENANT)}"}
    assert sts.send("GET", "/subscriptions", host="management.azure.com", headers=headers).status == 401


def test_metadata_endpoints(sts: LocalSts) -> None:
    document = sts.send("GET", "/metadata/endpoints", host="localhost:8443", query="api-version=2022-09-01").json
    assert document["authentication"]["loginEndpoint"] == "https://localhost:8443/"
    assert document["microsoftGraphResourceId"] == "https://graph.microsoft.com/"


def test_other_tenants_do_not_share_applications(sts: LocalSts) -> None:
    assert sts.azure(tenant=OTHER_TENANT).azure_error == (401, "invalid_client", 7000229)
