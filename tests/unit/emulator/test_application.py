"""Routing, marks, faults, and input of every malformed kind: an error document of that cloud, never a traceback."""

from __future__ import annotations

import asyncio
import gc
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.emulator.local_sts import (
    AZURE_AUDIENCE,
    CLIENT,
    GCP_AUDIENCE,
    ISSUER,
    ROLE,
    SERVICE_ACCOUNT,
    TENANT,
    LocalSts,
)
from wif.emulator import LocalCluster
from wif.emulator.hosts import cloud_of_host, is_cloud_host, region_of_sts_host
from wif.emulator.wire import MAX_BODY_BYTES

ACCOUNT_PATH = f"/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}"

# -- routing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("sts.amazonaws.com", "aws"),
        ("sts.eu-central-1.amazonaws.com", "aws"),
        ("sts-fips.us-east-1.amazonaws.com", "aws"),
        ("sts.us-gov-west-1.amazonaws.com", "aws"),
        ("sts.cn-north-1.amazonaws.com.cn", "aws"),
        ("sts.eusc-de-east-1.amazonaws.eu", "aws"),
        ("sts.us-iso-east-1.c2s.ic.gov", "aws"),
        ("sts.us-isob-east-1.sc2s.sgov.gov", "aws"),
        ("sts.eu-isoe-west-1.cloud.adc-e.uk", "aws"),
        ("sts.us-isof-south-1.csp.hci.ic.gov", "aws"),
        ("sts.googleapis.com", "gcp"),
        ("sts.europe-west3.rep.googleapis.com", "gcp"),
        ("iamcredentials.googleapis.com", "gcp"),
        ("cloudresourcemanager.googleapis.com", "gcp"),
        ("login.microsoftonline.com", "azure"),
        ("login.microsoftonline.us", "azure"),
        ("login.partner.microsoftonline.cn", "azure"),
        ("westus2.login.microsoft.com", "azure"),
        ("management.azure.com", "azure"),
        ("sts.amazonaws.com.evil.example", None),
        ("evil-sts.amazonaws.com", None),
        ("x.execute-api.us-east-1.amazonaws.com", None),
        ("sts.us-east-1.amazonaws.com.cn", None),
        ("sts.x.execute-api.us-east-1.amazonaws.com", None),
        ("sts.cn-north-1.amazonaws.com", None),
        ("s3.amazonaws.com", None),
        ("sts.googleapis.com.evil.example", None),
        ("storage.googleapis.com", None),
        ("xlogin.microsoftonline.com", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_hosts(host: str, cloud: str | None) -> None:
    assert cloud_of_host(host) == cloud
    assert is_cloud_host(host) is (cloud is not None)


def test_regions() -> None:
    assert region_of_sts_host("sts.amazonaws.com") == "us-east-1"
    assert region_of_sts_host("sts.cn-north-1.amazonaws.com.cn") == "cn-north-1"
    assert region_of_sts_host("sts-fips.us-east-2.amazonaws.com") == "us-east-2"
    assert region_of_sts_host("localhost") is None


@pytest.mark.parametrize("host", ["STS.AmazonAWS.com", "sts.amazonaws.com:443", "sts.amazonaws.com."])
def test_a_host_in_other_letters(sts: LocalSts, host: str) -> None:
    assert sts.aws(host=host).status == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8443", "127.0.0.1:1", "[::1]:8443", "[::1]"])
def test_on_loopback_the_paths_decide(sts: LocalSts, host: str) -> None:
    assert sts.aws(host=host).status == 200
    assert sts.gcp(host=host).status == 200
    assert sts.send("GET", f"/{TENANT}/discovery/v2.0/keys", host=host).status == 200


@pytest.mark.parametrize("host", ["", "evil.example", "sts.amazonaws.com.evil.example", "10.0.0.1", "localhost.evil"])
def test_a_foreign_host_is_refused(sts: LocalSts, host: str) -> None:
    reply = sts.aws(host=host)
    assert reply.status == 421
    assert b"<" not in reply.body


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Forwarded-Host"])
def test_a_forwarded_request_is_refused(sts: LocalSts, header: str) -> None:
    reply = sts.api("/oauth2/v3/certs", host="www.googleapis.com")
    assert reply.status == 200
    reply = sts.send("GET", "/oauth2/v3/certs", host="www.googleapis.com", headers={header: "10.0.0.1"})
    assert reply.status == 400
    assert reply.body == b"the local STS answers no forwarded requests\n"


def test_a_named_host_of_another_universe(sts: LocalSts) -> None:
    sts.hosts = {"STS.example.goog": "gcp"}
    assert sts.gcp(host="sts.example.goog").status == 200


def test_a_body_too_large(sts: LocalSts) -> None:
    assert sts.send(host="sts.amazonaws.com", body=b"x" * (MAX_BODY_BYTES + 1)).status == 413


def test_a_body_in_pieces(sts: LocalSts) -> None:
    async def run(pieces: list[bytes]) -> list[Any]:
        sent: list[Any] = []
        left = list(pieces)

        async def receive() -> dict[str, Any]:
            piece = left.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(left)}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", b"sts.amazonaws.com"), (b"x-a", b"1"), (b"x-a", b"2")],
        }
        await sts.application(scope, receive, send)
        return sent

    assert asyncio.run(run([b"Action=", b"Nothing", b"&Version=2011-06-15"]))[0]["status"] == 400
    assert asyncio.run(run([b"x" * MAX_BODY_BYTES, b"x", b"x"]))[0]["status"] == 413


def test_other_kinds_of_scope_are_left_alone(sts: LocalSts) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError("not called")

    asyncio.run(sts.application({"type": "lifespan"}, never, never))


# -- faults -------------------------------------------------------------------------------------------------------


def test_a_fault_answers_in_place(sts: LocalSts) -> None:
    sts.faults.inject(
        cloud="aws",
        operation="AssumeRoleWithWebIdentity",
        status=503,
        body=b"<x/>",
        content_type="text/xml",
        headers={"Retry-After": "3"},
        times=1,
    )
    assert sts.gcp().status == 200
    reply = sts.aws()
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (503, b"<x/>", "3")
    assert sts.aws().status == 200


@pytest.mark.parametrize(
    ("operation", "send"),
    [
        ("AssumeRoleWithWebIdentity", lambda sts: sts.aws()),
        ("token", lambda sts: sts.gcp()),
        ("token", lambda sts: sts.azure()),
        ("introspect", lambda sts: sts.form("/v1/introspect", {"token": "x"})),
        ("generateAccessToken", lambda sts: sts.api(f"{ACCOUNT_PATH}:generateAccessToken", {})),
        ("generateIdToken", lambda sts: sts.api(f"{ACCOUNT_PATH}:generateIdToken", {})),
        ("getAllowedLocations", lambda sts: sts.api(f"{ACCOUNT_PATH}/allowedLocations")),
        ("projects.get", lambda sts: sts.api("/v1/projects/1", host="cloudresourcemanager.googleapis.com")),
        ("certs", lambda sts: sts.api("/oauth2/v3/certs", host="www.googleapis.com")),
        ("keys", lambda sts: sts.send("GET", f"/{TENANT}/discovery/v2.0/keys")),
        ("openid-configuration", lambda sts: sts.send("GET", f"/{TENANT}/v2.0/.well-known/openid-configuration")),
        ("discovery/instance", lambda sts: sts.send("GET", "/common/discovery/instance")),
        ("unknown", lambda sts: sts.send("GET", "/nothing")),
    ],
)
def test_operations_have_the_apis_own_names(sts: LocalSts, operation: str, send: Any) -> None:
    injection = sts.faults.inject(operation=operation, status=599)
    assert send(sts).status == 599
    assert injection.taken == 1


def test_a_clock_offset_moves_judgement_and_date(sts: LocalSts) -> None:
    token = sts.mint("sts.amazonaws.com")
    sts.faults.inject(clock_offset_seconds=7200, times=1)
    reply = sts.aws(token)
    assert reply.xml("Code") == "ExpiredTokenException"
    assert reply.headers["date"] == "Mon, 23 Nov 2026 04:13:20 GMT"
    assert sts.aws(token).status == 200


def test_a_delay_passes(sts: LocalSts) -> None:
    sts.faults.inject(delay_seconds=0.01, times=1)
    assert sts.aws().status == 200


def test_a_cut_without_a_server_that_can(sts: LocalSts, caplog: pytest.LogCaptureFixture) -> None:
    sts.faults.inject(cut="before-answer", times=1)
    with pytest.raises(IndexError):
        sts.aws()
    assert "cannot cut" in caplog.text


# -- notes ----------------------------------------------------------------------------------------------------------


def test_what_a_real_cloud_would_refuse_is_noted_each_time(sts: LocalSts, tmp_path: Path) -> None:
    local = "http://localhost:8080/cluster"
    provider = sts.trust["aws"]["OpenIDConnectProviders"][0]
    arn = provider["Arn"].replace(ISSUER.removeprefix("https://"), "localhost:8080/cluster")
    provider.update(Arn=arn, Url=local)
    role = sts.trust["aws"]["Roles"][0]
    statement = role["AssumeRolePolicyDocument"]["Statement"][0]
    statement.update(Principal={"Federated": arn}, Condition={})
    cluster = LocalCluster(issuer=local)
    cluster.write(tmp_path / "local")
    sts.application  # noqa: B018 - made before its sources are replaced
    assert sts.services is not None
    sts.services.keys._sources[local] = str(tmp_path / "local")
    token = cluster.mint("default", "app", "sts.amazonaws.com", now=sts.now)
    for expected in (3, 6):
        assert sts.aws(token).status == 200
        assert sts.services.notes.count == expected
    assert [note.text for note in list(sts.services.notes.recent)[:3]] == [
        f"AWS itself would have refused: the issuer {local} is plain http",
        f"AWS itself would have refused: the issuer {local} is at a private or loopback address",
        f"AWS itself would have refused: the issuer {local} has a port",
    ]
    sts.services.allow_local_issuers = False
    assert sts.aws(token).aws_error[1] == "InvalidIdentityToken"


def test_refusals_are_logged_with_the_clause_and_without_the_token(
    sts: LocalSts, caplog: pytest.LogCaptureFixture
) -> None:
    token = sts.mint("other")
    with caplog.at_level("INFO", logger="wif.emulator"):
        sts.aws(token)
        sts.gcp(token)
        sts.azure(token)
    assert "aws refused AssumeRoleWithWebIdentity: InvalidIdentityToken: the OIDC provider" in caplog.text
    assert "gcp refused token: invalid_grant: the provider" in caplog.text
    assert "azure refused token: AADSTS700212: the federated identity credential" in caplog.text
    assert token not in caplog.text
    assert token.split(".")[1] not in caplog.text


def test_exchanges_leave_nothing_behind(sts: LocalSts) -> None:
    def several() -> int:
        for _ in range(50):
            assert {sts.aws().status, sts.gcp().status, sts.azure().status} == {200}
        gc.collect()
        return len(gc.get_objects())

    several()
    before = several()
    assert several() - before < 50


# -- fuzz -----------------------------------------------------------------------------------------------------------

HOSTS = (
    "sts.amazonaws.com",
    "sts.googleapis.com",
    "iamcredentials.googleapis.com",
    "login.microsoftonline.com",
    "management.azure.com",
    "localhost:8443",
)
PATHS = (
    "/",
    "/v1/token",
    "/v1/introspect",
    f"{ACCOUNT_PATH}:generateAccessToken",
    f"{ACCOUNT_PATH}:generateIdToken",
    f"/{TENANT}/oauth2/v2.0/token",
    f"/{TENANT}/oauth2/token",
    "/common/discovery/instance",
    "/subscriptions",
)
NAMES = [
    "Action",
    "Version",
    "RoleArn",
    "RoleSessionName",
    "WebIdentityToken",
    "DurationSeconds",
    "Policy",
    "PolicyArns.member.1.arn",
    "Tags.member.1.Key",
    "ExternalId",
    "grant_type",
    "audience",
    "scope",
    "requested_token_type",
    "subject_token",
    "subject_token_type",
    "token",
    "options",
    "actor_token",
    "client_id",
    "client_assertion",
    "client_assertion_type",
    "resource",
    "claims",
    "delegates",
    "lifetime",
    "includeEmail",
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Algorithm",
    "X-Amz-SignedHeaders",
]
VALUES = (
    "AssumeRoleWithWebIdentity",
    "AssumeRole",
    "GetCallerIdentity",
    "2011-06-15",
    ROLE,
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "urn:ietf:params:oauth:token-type:access_token",
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    "client_credentials",
    GCP_AUDIENCE,
    CLIENT,
    "https://management.azure.com/.default",
    "AWS4-HMAC-SHA256",
    "{token}",
    "{broken}",
    "999999999999999999999",
    "-1",
    "",
)

text = st.text(max_size=60)
value = st.one_of(st.sampled_from(VALUES), text)
json_value: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=80)
claims = st.dictionaries(
    st.one_of(
        st.sampled_from(
            ["iss", "sub", "aud", "exp", "iat", "nbf", "azp", "kubernetes.io", "https://aws.amazon.com/tags"]
        ),
        text,
    ),
    json_value,
    max_size=5,
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body and its content type: a form, JSON, or bytes."""
    kind = draw(st.sampled_from(["form", "json", "bytes"]))
    if kind == "form":
        pairs = draw(st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), text), value), max_size=10))
        encoded = "&".join(f"{_quoted(name)}={_quoted(content)}" for name, content in pairs)
        return encoded.encode("utf-8"), "application/x-www-form-urlencoded"
    if kind == "json":
        document = draw(
            st.one_of(json_value, st.dictionaries(st.sampled_from(NAMES), st.one_of(value, json_value), max_size=8))
        )
        return json.dumps(document).encode("utf-8"), "application/json"
    return draw(st.binary(max_size=200)), draw(header_text)


def _quoted(content: str) -> str:
    return quote_plus(content.encode("utf-8", "surrogatepass"))


@given(
    host=st.sampled_from(HOSTS),
    path=st.one_of(st.sampled_from(PATHS), text.map(lambda item: "/" + item)),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS"]),
    query=st.one_of(st.just(""), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80)),
    body=bodies(),
    authorization=st.one_of(st.none(), header_text, st.sampled_from(["Bearer x", "Bearer {google}", "Bearer {azure}"])),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_request_gets_an_answer(
    sts: LocalSts,
    *,
    host: str,
    path: str,
    method: str,
    query: str,
    body: tuple[bytes, str],
    authorization: str | None,
) -> None:
    headers: dict[str, str] = {"content-type": body[1]}
    if authorization is not None:
        if authorization == "Bearer {google}":
            authorization = f"Bearer {sts.federated()}"
        elif authorization == "Bearer {azure}":
            authorization = f"Bearer {sts.azure().json['access_token']}"
        headers["authorization"] = authorization
    content = body[0].replace(quote_plus("{token}").encode(), sts.mint(AZURE_AUDIENCE).encode())
    _is_clean(sts.send(method, path, host=host, query=query, headers=headers, body=content))


@given(
    claims=claims, header=st.dictionaries(st.sampled_from(["kid", "alg", "typ", "crit", "x"]), json_value, max_size=3)
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_signed_token_gets_an_answer(sts: LocalSts, claims: dict[str, Any], header: dict[str, Any]) -> None:
    """Claims of every shape in a token whose signature is right, so that they reach the innermost checks."""
    from wif.core.jws import sign

    key = sts.cluster.signing_key
    for audience, exchange in (
        ("sts.amazonaws.com", sts.aws),
        (GCP_AUDIENCE, sts.gcp),
        (AZURE_AUDIENCE, sts.azure),
    ):
        basis = {
            "iss": ISSUER,
            "sub": "system:serviceaccount:default:app",
            "aud": [audience],
            "iat": int(sts.now),
            "exp": int(sts.now) + 600,
            "kubernetes.io": {"namespace": "default"},
        }
        token = sign({**basis, **claims}, key.private_key, key.kid, headers=header)
        _is_clean(exchange(token))


def _is_clean(reply: Any) -> None:
    """Some document of a cloud, and no server error of ours."""
    assert reply.status < 500 or reply.json.get("error") == "internal_failure"
    kind = reply.headers["content-type"]
    if kind.startswith("text/xml"):
        ET.fromstring(reply.body)
    elif kind.startswith("application/json"):
        document: Mapping[str, Any] = json.loads(reply.body)
        assert isinstance(document, dict)
    assert b"Traceback" not in reply.body
