"""Google's answers: exchange, introspection, impersonation and what SDKs ask besides; one rule broken at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.unit.emulator.local_sts import (
    CLOUD_PLATFORM,
    DELEGATE,
    GCP_AUDIENCE,
    ISSUER,
    NOW,
    POOL,
    PRINCIPAL,
    PROVIDER,
    SERVICE_ACCOUNT,
    SUBJECT,
    LocalSts,
)
from wif.core.jws import sign, split_compact

BAD_TARGET = (
    'The target service indicated by the "audience" parameters is invalid. This might either be because the pool or '
    "provider is disabled or deleted or because it doesn't exist."
)
BAD_AUDIENCE = (
    'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See '
    "https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats."
)
UNREACHABLE = (400, "invalid_grant", "Error connecting to the given credential's issuer.")
BAD_SIGNATURE = (400, "invalid_grant", "Unable to verify the ID Token signature.")
REJECTED = (400, "unauthorized_client", "The given credential is rejected by the attribute condition.")


def stale(issued: str) -> tuple[int, str, str]:
    return 400, "invalid_grant", f"ID Token issued at {issued} is stale to sign-in."


def provider(sts: LocalSts) -> dict[str, Any]:
    document: dict[str, Any] = sts.trust["gcp"]["providers"][0]
    return document


# -- the exchange ----------------------------------------------------------------------------------------------


def test_success_document(sts: LocalSts) -> None:
    reply = sts.gcp()
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    token = reply.json["access_token"]
    assert token.startswith("ya29.wif-local-sts.")
    assert len(token) < 12288
    assert {name: value for name, value in reply.json.items() if name != "access_token"} == {
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 3599,
    }


def test_json_with_the_names_of_the_discovery_document(sts: LocalSts) -> None:
    body = {
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": GCP_AUDIENCE,
        "scope": CLOUD_PLATFORM,
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectToken": sts.mint(GCP_AUDIENCE),
        "subjectTokenType": "urn:ietf:params:oauth:token-type:id_token",
    }
    for host in ("sts.googleapis.com", "sts.europe-west3.rep.googleapis.com", "localhost:1"):
        assert sts.api("/v1/token", body, host=host).status == 200


def test_white_space_around_the_token_is_stripped(sts: LocalSts) -> None:
    assert sts.gcp(sts.mint(GCP_AUDIENCE) + "\n").status == 200


def test_the_default_audiences(sts: LocalSts) -> None:
    assert sts.gcp(sts.mint("https:" + GCP_AUDIENCE)).status == 200
    provider(sts)["oidc"]["allowedAudiences"] = ["shop"]
    sts._application = None
    assert sts.gcp(sts.mint("shop")).status == 200
    assert sts.gcp().gcp_error[2] == f"The audience in ID Token [{GCP_AUDIENCE}] does not match the expected audience."


TOKENS: list[tuple[str, dict[str, Any], tuple[int, str, str]]] = [
    (
        "no issuer",
        {"iss": None},
        (400, "invalid_grant", "The issuer in ID Token null does not match the expected one"),
    ),
    (
        "another issuer",
        {"iss": ISSUER + "/"},
        (400, "invalid_grant", f"The issuer in ID Token {ISSUER}/ does not match the expected one in config"),
    ),
    (
        "another audience",
        {"aud": ["other"]},
        (400, "invalid_grant", "The audience in ID Token [other] does not match the expected audience."),
    ),
    (
        "no audience",
        {"aud": None},
        (400, "invalid_grant", "The audience in ID Token [] does not match the expected audience."),
    ),
    (
        "past its exp",
        {"iat": int(NOW) - 3600, "exp": int(NOW) - 61},
        stale(f"{NOW - 3600:.0f}"),
    ),
    ("no exp", {"exp": None}, stale(f"{NOW:.0f}")),
    ("no iat", {"iat": None}, stale("null")),
    ("an iat ahead", {"iat": int(NOW) + 119}, stale(f"{NOW + 119:.0f}")),
    ("an iat of the day before", {"iat": int(NOW) - 86401}, stale(f"{NOW - 86401:.0f}")),
    ("a namespace that the condition does not name", {"kubernetes.io": {"namespace": "third"}}, REJECTED),
    (
        "a subject that is no string",
        {"sub": 5},
        (400, "unauthorized_client", "The mapped attribute 'google.subject' must be of type STRING."),
    ),
    (
        "a subject over 127 bytes",
        {"sub": "s" * 128},
        (
            400,
            "invalid_request",
            "The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute "
            "mapping or the incoming assertion to produce a mapped attribute that is less than 127 bytes.",
        ),
    ),
    (
        "a claim that the mapping needs is missing",
        {"kubernetes.io": {}},
        (
            400,
            "unauthorized_client",
            "The attribute mapping for 'attribute.namespace' could not be evaluated on the incoming assertion.",
        ),
    ),
    (
        "mapped attributes over 8 KB",
        {"kubernetes.io": {"namespace": "n" * 8200}},
        (400, "invalid_request", "The size of the entire mapped attributes exceeds the 8 KB limit."),
    ),
]


@pytest.mark.parametrize(("claims", "expected"), [row[1:] for row in TOKENS], ids=[row[0] for row in TOKENS])
def test_token_refused(sts: LocalSts, claims: dict[str, Any], expected: tuple[int, str, str]) -> None:
    assert sts.gcp(sts.mint(GCP_AUDIENCE, **claims)).gcp_error == expected


def test_an_error_in_the_condition_refuses(sts: LocalSts) -> None:
    provider(sts)["attributeCondition"] = "assertion.missing == 'x'"
    assert sts.gcp().gcp_error == REJECTED
    provider(sts)["attributeCondition"] = "assertion.missing != 'x'"
    sts._application = None
    assert sts.gcp().gcp_error == REJECTED


def test_a_token_without_subject_that_the_condition_needs(sts: LocalSts) -> None:
    provider(sts)["attributeMapping"] = {"google.subject": "assertion.iss"}
    provider(sts)["attributeCondition"] = f"assertion.sub == '{SUBJECT}'"
    assert sts.gcp().status == 200
    assert sts.gcp(sts.mint(GCP_AUDIENCE, sub=None)).gcp_error == REJECTED


REQUESTS: list[tuple[str, dict[str, Any], tuple[int, str, str]]] = [
    ("no audience", {"audience": None}, (400, "invalid_request", BAD_AUDIENCE)),
    ("a pool as audience", {"audience": f"//iam.googleapis.com/{POOL}"}, (400, "invalid_request", BAD_AUDIENCE)),
    (
        "a project id in the audience",
        {"audience": GCP_AUDIENCE.replace("123456789012", "shop-project")},
        (400, "invalid_request", BAD_AUDIENCE),
    ),
    ("a provider that is not there", {"audience": GCP_AUDIENCE + "2"}, (400, "invalid_target", BAD_TARGET)),
    (
        "a workforce provider",
        {"audience": "//iam.googleapis.com/locations/global/workforcePools/staff/providers/okta"},
        (400, "invalid_target", BAD_TARGET),
    ),
    ("no grant type", {"grant_type": None}, (400, "invalid_request", 'Missing required field "grant_type".')),
    (
        "another grant type",
        {"grant_type": "client_credentials"},
        (400, "unsupported_grant_type", 'Unsupported "grant_type": client_credentials'),
    ),
    ("no scope", {"scope": None}, (400, "invalid_request", 'Missing required field "scope".')),
    ("no token", {"subject_token": None}, (400, "invalid_request", 'Missing required field "subject_token".')),
    (
        "another token type wanted",
        {"requested_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        (400, "invalid_request", 'Invalid value for "requested_token_type".'),
    ),
    (
        "an AWS request as token",
        {"subject_token_type": "urn:ietf:params:aws:token-type:aws4_request"},
        (400, "invalid_request", 'Invalid value for "subject_token_type".'),
    ),
    (
        "an actor",
        {"actor_token": "x"},
        (400, "invalid_request", "The provider does not accept actor tokens."),
    ),
    ("no JWT", {"subject_token": "ya29.x"}, (400, "invalid_grant", "Unable to parse the ID Token.")),
    ("a token too long", {"subject_token": "x" * 20001}, (400, "invalid_grant", "Unable to parse the ID Token.")),
]


@pytest.mark.parametrize(("fields", "expected"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
def test_request_refused(sts: LocalSts, fields: dict[str, Any], expected: tuple[int, str, str]) -> None:
    assert sts.gcp(**fields).gcp_error == expected


@pytest.mark.parametrize("what", ["provider", "pool"])
@pytest.mark.parametrize("how", [{"disabled": True}, {"state": "DELETED"}])
def test_disabled_and_deleted(sts: LocalSts, what: str, how: dict[str, Any]) -> None:
    sts.trust["gcp"]["providers" if what == "provider" else "workloadIdentityPools"][0].update(how)
    assert sts.gcp().gcp_error == (400, "invalid_target", BAD_TARGET)


def test_an_empty_subject(sts: LocalSts) -> None:
    assert sts.gcp(sts.mint(GCP_AUDIENCE, sub="")).gcp_error == (
        400,
        "unauthorized_client",
        "The attribute mapping for 'google.subject' could not be evaluated on the incoming assertion.",
    )


def test_without_the_extra_for_cel_everything_is_refused_and_the_extra_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cel_expr_python'] = None\n"
        "from pathlib import Path\n"
        "from tests.unit.emulator.local_sts import ISSUER, LocalSts\n"
        "from wif.emulator import LocalCluster\n"
        "cluster = LocalCluster(issuer=ISSUER); cluster.write(Path(sys.argv[1]))\n"
        "sts = LocalSts(cluster, Path(sys.argv[1]))\n"
        "assert sts.aws().status == 200\n"
        "print(sts.gcp().gcp_error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(400, 'invalid_request'")
    assert "pip install 'wif[cel]'" in done.stdout


# -- lifetimes, as they were seen -----------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "expires_in"), [(7200, 3599), (3600, 3599), (600, 599), (3, 2), (-59, 58), (-60, 59)])
def test_expires_in(sts: LocalSts, left: int, expires_in: int) -> None:
    token = sts.mint(GCP_AUDIENCE, iat=int(NOW) - 600, exp=int(NOW) + left)
    assert sts.gcp(token).json["expires_in"] == expires_in


def test_two_seconds_left_lack_expires_in_and_one_fails(sts: LocalSts) -> None:
    two = sts.gcp(sts.mint(GCP_AUDIENCE, exp=int(NOW) + 2))
    assert two.status == 200
    assert "expires_in" not in two.json
    assert sts.gcp(sts.mint(GCP_AUDIENCE, exp=int(NOW) + 1)).status == 500


def test_an_iat_a_minute_ahead_and_a_life_of_years(sts: LocalSts) -> None:
    assert sts.gcp(sts.mint(GCP_AUDIENCE, iat=int(NOW) + 60)).status == 200
    assert sts.gcp(sts.mint(GCP_AUDIENCE, exp=int(NOW) + 11 * 365 * 86400)).status == 200


# -- keys --------------------------------------------------------------------------------------------------------


def test_keys(sts: LocalSts) -> None:
    forged = sts.mint(GCP_AUDIENCE, private_key=rsa.generate_private_key(65537, 2048))
    assert sts.gcp(forged).gcp_error == BAD_SIGNATURE
    claims = split_compact(sts.mint(GCP_AUDIENCE)).unverified_claims
    for kid in ("unknown", None):
        assert sts.gcp(sign(claims, sts.cluster.signing_key.private_key, kid)).gcp_error == UNREACHABLE


def test_algorithms(sts: LocalSts) -> None:
    kids = {key.algorithm: key.kid for key in sts.cluster.keys}
    assert sts.gcp(sts.mint(GCP_AUDIENCE, kid=kids["ES256"])).status == 200
    assert sts.gcp(sts.mint(GCP_AUDIENCE, kid=kids["ES384"])).gcp_error == BAD_SIGNATURE


def test_without_documents(sts: LocalSts) -> None:
    (sts.documents / ".well-known" / "openid-configuration").write_text("<html>")
    assert sts.gcp().gcp_error == UNREACHABLE


def test_uploaded_keys_need_no_documents(sts: LocalSts) -> None:
    keys = [key for key in sts.cluster.jwks["keys"] if key["kty"] == "RSA"]
    provider(sts)["oidc"]["jwksJson"] = json.dumps({"keys": keys})
    for path in sts.documents.rglob("*"):
        if path.is_file():
            path.unlink()
    assert sts.gcp().status == 200
    elliptic = next(key.kid for key in sts.cluster.keys if key.algorithm == "ES256")
    assert sts.gcp(sts.mint(GCP_AUDIENCE, kid=elliptic)).gcp_error == UNREACHABLE
    forged = sts.mint(GCP_AUDIENCE, private_key=rsa.generate_private_key(65537, 2048))
    assert sts.gcp(forged).gcp_error == BAD_SIGNATURE


def test_a_discovery_document_at_another_place(sts: LocalSts) -> None:
    provider(sts)["oidc"]["discoveryUri"] = f"{ISSUER}/.well-known/other"
    assert sts.gcp().status == 200  # a directory has one discovery document


# -- introspection -----------------------------------------------------------------------------------------------


def test_introspection(sts: LocalSts) -> None:
    token = sts.federated()
    basic = {"authorization": "Basic eDp5"}
    reply = sts.form("/v1/introspect", {"token": token}, host="sts.googleapis.com", headers=basic)
    assert reply.status == 200
    assert reply.json == {
        "active": True,
        "client_id": GCP_AUDIENCE,
        "exp": f"{NOW + 3599:.0f}",
        "iat": f"{NOW:.0f}",
        "iss": "https://sts.googleapis.invalid/",
        "scope": CLOUD_PLATFORM,
        "sub": SUBJECT,
        "username": PRINCIPAL,
    }
    sts.now += 3599
    assert sts.form("/v1/introspect", {"token": token}, host="sts.googleapis.com").json == {"active": False}


@pytest.mark.parametrize("token", ["", "x", "ya29.wif-local-sts.", "ya29.wif-local-sts.e30.x", "ya29.x"])
def test_introspection_of_anything_else(sts: LocalSts, token: str) -> None:
    assert sts.form("/v1/introspect", {"token": token}).json == {"active": False}


def test_a_changed_token_is_not_active(sts: LocalSts) -> None:
    token = sts.federated()
    for position in (25, 60, len(token) - 1):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        assert sts.form("/v1/introspect", {"token": changed}).json == {"active": False}


# -- service accounts ----------------------------------------------------------------------------------------------

ACCESS = f"/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:generateAccessToken"
IDENTITY = f"/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:generateIdToken"
DENIED = "Permission '{}' denied on resource (or it may not exist)."


def test_generate_access_token(sts: LocalSts) -> None:
    body = {"delegates": None, "scope": [CLOUD_PLATFORM], "lifetime": "1800s"}
    for path in (ACCESS, "/v1/projects/-/serviceAccounts/100000000000000000001:generateAccessToken"):
        reply = sts.api(path, body, token=sts.federated())
        assert reply.status == 200
        assert reply.json["accessToken"].startswith("ya29.wif-local-sts.")
        assert reply.json["expireTime"] == "2026-11-23T02:43:20Z"
    assert sts.form("/v1/introspect", {"token": reply.json["accessToken"]}).json == {"active": False}


def test_the_default_lifetime_and_the_empty_scope(sts: LocalSts) -> None:
    reply = sts.api(ACCESS, {"scope": [""]}, token=sts.federated())
    assert reply.json["expireTime"] == "2026-11-23T03:13:20Z"


def test_the_token_of_googles_own_scope_for_impersonation(sts: LocalSts) -> None:
    token = sts.federated(scope="https://www.googleapis.com/auth/iam")
    assert sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=token).status == 200
    narrow = sts.federated(scope="https://www.googleapis.com/auth/devstorage.read_only")
    reply = sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=narrow)
    assert reply.api_error == (403, "PERMISSION_DENIED", "Request had insufficient authentication scopes.")


def test_permission_denied(sts: LocalSts) -> None:
    other = sts.cluster.mint("other", "app", GCP_AUDIENCE, now=sts.now)
    token = sts.federated(token=other)
    permission = "iam.serviceAccounts.getAccessToken"
    reply = sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=token)
    assert reply.api_error == (403, "PERMISSION_DENIED", DENIED.format(permission))
    assert reply.json["error"]["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "IAM_PERMISSION_DENIED",
            "domain": "iam.googleapis.com",
            "metadata": {"permission": permission},
        }
    ]
    absent = ACCESS.replace("app@", "nobody@")
    assert sts.api(absent, {"scope": [CLOUD_PLATFORM]}, token=sts.federated()).api_error[2] == DENIED.format(permission)
    reply = sts.api(IDENTITY, {"audience": "x"}, token=token)
    assert reply.api_error[2] == DENIED.format("iam.serviceAccounts.getOpenIdToken")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"scope": [CLOUD_PLATFORM], "lifetime": "0s"}, "Lifetime of access token must be larger then zero."),
        (
            {"scope": [CLOUD_PLATFORM], "lifetime": "3601s"},
            f"The access token lifetime cannot exceed 1 hour: service account {SERVICE_ACCOUNT} can not have lifetimes "
            "of more than 1 hour. Use the Org Policy Constraint "
            "constraints/iam.allowServiceAccountCredentialLifetimeExtension to extend it.",
        ),
        (
            {"scope": [CLOUD_PLATFORM], "lifetime": 3600},
            "Invalid value at 'lifetime' (type.googleapis.com/google.protobuf.Duration)",
        ),
        ({"scope": ["bogus"]}, "Request contains an invalid argument."),
        ({"scope": []}, "Scope required."),
        ({}, "Scope required."),
        ({"scope": [CLOUD_PLATFORM], "delegates": "x"}, "Request contains an invalid argument."),
        ([], "Invalid JSON payload received."),
    ],
)
def test_generate_access_token_refused(sts: LocalSts, body: Any, message: str) -> None:
    assert sts.api(ACCESS, body, token=sts.federated()).api_error == (400, "INVALID_ARGUMENT", message)


def test_twelve_hours_where_the_organisation_allows_them(sts: LocalSts) -> None:
    sts.trust["gcp"]["serviceAccountsWithExtendedLifetime"] = [SERVICE_ACCOUNT]
    token = sts.federated()
    reply = sts.api(ACCESS, {"scope": [CLOUD_PLATFORM], "lifetime": "43200s"}, token=token)
    assert reply.json["expireTime"] == "2026-11-23T14:13:20Z"
    assert sts.api(ACCESS, {"scope": [CLOUD_PLATFORM], "lifetime": "43201s"}, token=token).status == 400


def test_delegates(sts: LocalSts) -> None:
    account = sts.trust["gcp"]["serviceAccounts"][0]
    account["iamPolicy"]["bindings"] = account["iamPolicy"]["bindings"][1:]  # only the delegate may act as it
    token = sts.federated()
    body = {"scope": [CLOUD_PLATFORM], "delegates": [f"projects/-/serviceAccounts/{DELEGATE}"]}
    assert sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=token).status == 403
    assert sts.api(ACCESS, body, token=token).status == 200
    assert sts.api(ACCESS, {**body, "delegates": [DELEGATE, SERVICE_ACCOUNT]}, token=token).status == 403
    assert sts.api(ACCESS, {**body, "delegates": ["nobody"]}, token=token).status == 403


def test_every_step_of_a_delegation_is_checked(sts: LocalSts) -> None:
    """The service account trusts the delegate, but the delegate does not trust the caller."""
    sts.trust["gcp"]["serviceAccounts"][1]["iamPolicy"]["bindings"] = []
    body = {"scope": [CLOUD_PLATFORM], "delegates": [DELEGATE]}
    reply = sts.api(ACCESS, body, token=sts.federated())
    assert reply.api_error == (403, "PERMISSION_DENIED", DENIED.format("iam.serviceAccounts.getAccessToken"))


def test_a_service_account_acts_as_another(sts: LocalSts) -> None:
    middle = f"/v1/projects/-/serviceAccounts/{DELEGATE}:generateAccessToken"
    first = sts.api(middle, {"scope": [CLOUD_PLATFORM]}, token=sts.federated()).json["accessToken"]
    assert sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=first).status == 200
    sts.now += 3600
    assert sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=first).api_error[:2] == (401, "UNAUTHENTICATED")


def test_generate_id_token(sts: LocalSts) -> None:
    reply = sts.api(IDENTITY, {"audience": "https://shop.example.com", "includeEmail": True}, token=sts.federated())
    (jwk,) = sts.api("/oauth2/v3/certs", host="www.googleapis.com").json["keys"]
    claims = jwt.decode(
        reply.json["token"],
        jwt.PyJWK(jwk),
        algorithms=["ES256"],
        audience="https://shop.example.com",
        issuer="https://accounts.google.invalid",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "aud": "https://shop.example.com",
        "azp": "100000000000000000001",
        "sub": "100000000000000000001",
        "iss": "https://accounts.google.invalid",
        "iat": NOW,
        "exp": NOW + 3600,
        "email": SERVICE_ACCOUNT,
        "email_verified": True,
    }
    assert jwt.get_unverified_header(reply.json["token"])["kid"] == jwk["kid"]


@pytest.mark.parametrize("body", [{}, {"audience": ""}, {"audience": 1}, {"audience": "x", "includeEmail": "yes"}])
def test_generate_id_token_refused(sts: LocalSts, body: dict[str, Any]) -> None:
    expected = (400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
    assert sts.api(IDENTITY, body, token=sts.federated()).api_error == expected


def test_an_account_without_unique_id_gets_one_that_stays(sts: LocalSts) -> None:
    path = f"/v1/projects/-/serviceAccounts/{DELEGATE}:generateIdToken"
    subjects = {
        jwt.decode(
            sts.api(path, {"audience": "x"}, token=sts.federated()).json["token"], options={"verify_signature": False}
        )["sub"]
        for _ in range(2)
    }
    assert len(subjects) == 1
    assert len(subjects.pop()) == 21


@pytest.mark.parametrize("header", [None, "Basic eDp5", "Bearer x", "Bearer ya29.wif-local-sts.e30.x", "Bearer"])
def test_unauthenticated(sts: LocalSts, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    reply = sts.send("POST", ACCESS, host="iamcredentials.googleapis.com", headers=headers, body=b"{}")
    assert reply.api_error[:2] == (401, "UNAUTHENTICATED")
    assert reply.headers["www-authenticate"].startswith("Bearer ")


def test_tokens_of_a_disabled_pool_stop_and_of_a_disabled_provider_go_on(sts: LocalSts) -> None:
    token = sts.federated()
    services = sts.services
    assert services is not None
    provider(sts)["disabled"] = True
    services.trust = type(services.trust).from_mapping(sts.trust)
    assert sts.gcp().gcp_error[1] == "invalid_target"
    assert sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=token).status == 200
    sts.trust["gcp"]["workloadIdentityPools"][0]["disabled"] = True
    services.trust = type(services.trust).from_mapping(sts.trust)
    assert sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=token).api_error[:2] == (401, "UNAUTHENTICATED")


def test_a_disabled_service_account(sts: LocalSts) -> None:
    sts.trust["gcp"]["serviceAccounts"][0]["disabled"] = True
    assert sts.api(ACCESS, {"scope": [CLOUD_PLATFORM]}, token=sts.federated()).api_error[:2] == (
        403,
        "PERMISSION_DENIED",
    )


# -- what SDKs ask besides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/{POOL}/allowedLocations",
        f"/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}/allowedLocations",
        "/v1/locations/global/workforcePools/staff/allowedLocations",
    ],
)
def test_allowed_locations(sts: LocalSts, path: str) -> None:
    reply = sts.api(path, token=sts.federated())
    assert reply.status == 200
    assert reply.json["encodedLocations"].startswith("0x")
    assert sts.api(path).status == 401


def test_the_project_of_a_number(sts: LocalSts) -> None:
    token = sts.federated()
    for name in ("123456789012", "shop-project"):
        reply = sts.api(f"/v1/projects/{name}", token=token, host="cloudresourcemanager.googleapis.com")
        assert (reply.json["projectId"], reply.json["projectNumber"]) == ("shop-project", "123456789012")
    reply = sts.api("/v1/projects/1", token=token, host="cloudresourcemanager.googleapis.com")
    assert reply.api_error == (403, "PERMISSION_DENIED", "The caller does not have permission")


@pytest.mark.parametrize(
    ("method", "path", "host"),
    [
        ("GET", "/v1/token", "sts.googleapis.com"),
        ("POST", "/v1/token", "iamcredentials.googleapis.com"),
        ("POST", ACCESS, "sts.googleapis.com"),
        ("POST", "/v1/projects/-/serviceAccounts/x:signBlob", "iamcredentials.googleapis.com"),
        ("GET", "/", "sts.googleapis.com"),
        ("POST", "/v1/token/more", "localhost"),
    ],
)
def test_no_such_operation(sts: LocalSts, method: str, path: str, host: str) -> None:
    assert sts.send(method, path, host=host).api_error[:2] == (404, "NOT_FOUND")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"grantType": 1}', b"\xff", b"[" * 100000, b'{"a": NaN}'])
def test_json_that_is_none_of_ours(sts: LocalSts, body: bytes) -> None:
    reply = sts.send("POST", "/v1/token", headers={"content-type": "application/json"}, body=body)
    assert reply.gcp_error[:2] == (400, "invalid_request")


def test_provider_in_path_is_whole(sts: LocalSts) -> None:
    assert sts.gcp(audience=f"{GCP_AUDIENCE}/x").gcp_error == (400, "invalid_request", BAD_AUDIENCE)
    assert PROVIDER in GCP_AUDIENCE
