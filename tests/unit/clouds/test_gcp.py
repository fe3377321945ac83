"""Google: what is asked, what is read, and what is refused before it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.clouds.answering import DATE, ISSUER, NOW, SUBJECT, answered, ask, jwt, refused, said, token
from wif.clouds import gcp
from wif.core.credentials import AccessToken
from wif.core.flow import Flow, Response
from wif.errors import ConfigurationError, TokenError, WifError

NAME = "projects/123456789012/locations/global/workloadIdentityPools/on-prem/providers/cluster-a"
PROVIDER = gcp.ProviderName.parse(NAME)
ACCOUNT = "app@my-project.iam.gserviceaccount.com"
IAM = "https://iamcredentials.googleapis.com"
FEDERATED = AccessToken(
    token="ya29.d.federated-token", expires_at=datetime(2027, 1, 15, 9, tzinfo=UTC), lifetime_seconds=1
)
TOKEN_URL = "https://sts.googleapis.com/v1/token"
EXPIRE_TIME = "2027-01-15T09:00:00Z"


def exchange(*, now: float = NOW, scopes: tuple[str, ...] = ("a:b", "c"), **more: Any) -> Flow[AccessToken]:
    return gcp.exchange_token(PROVIDER, token(), scopes=scopes, token_url=TOKEN_URL, now=now, **more)


def impersonate(**more: Any) -> Flow[AccessToken]:
    settings: dict[str, Any] = {"service_account": ACCOUNT, "scopes": ("s",), "iam_url": IAM, "provider": PROVIDER}
    return gcp.generate_access_token(FEDERATED, token(), **(settings | {"now": NOW} | more))


def sign(**more: Any) -> Flow[AccessToken]:
    settings: dict[str, Any] = {"service_account": ACCOUNT, "audience": "https://run.example", "iam_url": IAM}
    return gcp.generate_id_token(FEDERATED, token(), **(settings | {"now": NOW} | more))


def introspection() -> Flow[gcp.Introspection]:
    return gcp.introspect(FEDERATED, url=gcp.introspect_url(TOKEN_URL), now=NOW)


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "//iam.googleapis.com/", "https://iam.googleapis.com/"])
def test_a_provider_is_read_in_all_its_ways_to_write(before: str) -> None:
    found = gcp.ProviderName.parse(before + NAME)
    assert found == gcp.ProviderName(
        project_number="123456789012", location="global", pool="on-prem", provider="cluster-a"
    )
    assert found.audience == "//iam.googleapis.com/" + NAME
    assert found.principal("a:b") == (
        "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/on-prem/subject/a:b"
    )


def test_a_workforce_provider() -> None:
    name = "//iam.googleapis.com/locations/global/workforcePools/staff/providers/idp"
    found = gcp.ProviderName.parse(name)
    assert found.audience == name
    assert found.project_number is None
    assert found.principal("x") == "principal://iam.googleapis.com/locations/global/workforcePools/staff/subject/x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        NAME + "/",
        NAME + "\n",
        "x" + NAME,
        "//iam.example.com/" + NAME,
        "http://iam.googleapis.com/" + NAME,
        NAME.replace("/providers/cluster-a", ""),
        NAME.replace("cluster-a", "a?b"),
        NAME.replace("global", "../x"),
        "locations/global/workloadIdentityPools/p/providers/k",
    ],
)
def test_what_is_no_provider_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not the full name of a provider"):
        gcp.ProviderName.parse(text)


@pytest.mark.parametrize("project", ["my-project", "\u0661\u0662"])
def test_a_project_must_be_named_by_its_number(project: str) -> None:
    with pytest.raises(ConfigurationError, match="expected its number"):
        gcp.ProviderName.parse(NAME.replace("123456789012", project))


def test_the_endpoints() -> None:
    assert gcp.token_url() == TOKEN_URL
    assert gcp.token_url("europe-west3") == "https://sts.europe-west3.rep.googleapis.com/v1/token"
    assert gcp.token_url(universe_domain="example.goog") == "https://sts.example.goog/v1/token"
    assert gcp.token_url("us-central1", "example.goog") == "https://sts.us-central1.rep.example.goog/v1/token"
    assert gcp.iam_credentials_url() == IAM
    assert gcp.iam_credentials_url("example.goog") == "https://iamcredentials.example.goog"
    assert gcp.introspect_url("https://localhost:8443/v1/token/") == "https://localhost:8443/v1/introspect"


@pytest.mark.parametrize(
    "region", ["", "europe", "europe-west3.evil.example", "evil/us-central1", "us-central1\n", "US-CENTRAL1"]
)
def test_what_is_no_region_is_refused(region: str) -> None:
    with pytest.raises(ConfigurationError, match="not a region"):
        gcp.token_url(region)


@pytest.mark.parametrize(
    "universe", ["", "googleapis", "a..b", "evil.example/x", "x@y.example", "-a.example", "A.example", "a.b:1"]
)
def test_what_is_no_universe_is_refused(universe: str) -> None:
    with pytest.raises(ConfigurationError, match="not a universe domain"):
        gcp.token_url(universe_domain=universe)
    with pytest.raises(ConfigurationError, match="not a universe domain"):
        gcp.iam_credentials_url(universe)


@pytest.mark.parametrize(
    "host", ["sts.googleapis.com", "iamcredentials.googleapis.com", "sts.europe-west3.rep.googleapis.com"]
)
def test_googles_own_hosts(host: str) -> None:
    assert gcp.is_google_host(host)
    assert not gcp.is_google_host(host, "example.goog")
    assert gcp.is_google_host(host.replace("googleapis.com", "example.goog"), "example.goog")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "googleapis.com",
        "storage.googleapis.com",
        "sts.googleapis.com.evil.example",
        "evilsts.googleapis.com",
        "sts.evil.rep.googleapis.com",
        "sts.us-central1.evil.rep.googleapis.com",
        "evil.us-central1.rep.googleapis.com",
        "sts.us-central1.repXgoogleapis.com",
        "stsXus-central1.rep.googleapis.com",
    ],
)
def test_a_host_that_only_looks_right_is_none(host: str) -> None:
    assert not gcp.is_google_host(host)


@pytest.mark.parametrize(
    "text",
    [
        ACCOUNT,
        "123456789012345678901",
        "1-compute@developer.gserviceaccount.com",
        "a@p.example.com.iam.gserviceaccount.com",
    ],
)
def test_service_accounts(text: str) -> None:
    assert gcp.validate_service_account(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app",
        "a/b@p.iam",
        "a@p.iam?x",
        "a@p.iam#x",
        'a@p.iam"',
        "a:b@p.iam",
        "a@p:x",
        "a%2f@p.iam",
        "a@b@c",
        "a @b",
        "a@b\n",
        "../a@b",
    ],
)
def test_what_would_rewrite_the_url_is_no_service_account(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not the e-mail address"):
        gcp.validate_service_account(text)


@pytest.mark.parametrize("seconds", [None, 1, 3600, 43_200])
def test_allowed_lifetimes(seconds: int | None) -> None:
    assert gcp.validate_lifetime(seconds) == seconds


@pytest.mark.parametrize("seconds", [0, -1, 43_201])
def test_other_lifetimes_are_refused(seconds: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        gcp.validate_lifetime(seconds)
    assert "allowServiceAccountCredentialLifetimeExtension" in str(caught.value)


# -- token exchange --------------------------------------------------------------------------------------------


def test_the_exchange_is_one_post_of_rfc_8693() -> None:
    request = ask(exchange())
    assert (request.method, request.url, request.operation) == ("POST", TOKEN_URL, "token")
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Authorization" not in request.headers
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "audience": ["//iam.googleapis.com/" + NAME],
        "scope": ["a:b c"],
        "requested_token_type": ["urn:ietf:params:oauth:token-type:access_token"],
        "subject_token": [token().raw],
        "subject_token_type": ["urn:ietf:params:oauth:token-type:jwt"],
    }


def test_a_workforce_identity_names_its_project() -> None:
    sent = parse_qs(ask(exchange(user_project="my-project", subject_token_type="t")).body.decode())
    assert json.loads(unquote(sent["options"][0])) == {"userProject": "my-project"}
    assert sent["subject_token_type"] == ["t"]


@pytest.mark.parametrize("expires_in", [3599, "3599", 3599.0])
def test_the_answer_becomes_a_token(expires_in: object) -> None:
    found = answered(exchange(), said({"access_token": "ya29.x", "expires_in": expires_in}, 200, x_wif_local_sts="1"))
    assert found == AccessToken(
        token="ya29.x",
        expires_at=datetime(2027, 1, 15, 8, 59, 59, tzinfo=UTC),
        lifetime_seconds=3599.0,
        scopes=("a:b", "c"),
        local_sts=True,
    )


@pytest.mark.parametrize("answer", [{}, {"expires_in": None}, {"expires_in": 0}])
def test_a_token_without_a_life_means_that_the_subject_token_is_at_its_end(answer: dict[str, Any]) -> None:
    error = refused(exchange(now=NOW + 3600 - 62), said({"access_token": "ya29.x"} | answer, 200))
    assert isinstance(error, TokenError)
    assert (error.code, error.clause, error.retryable, error.cloud, error.status) == (
        "token-expired",
        "expiry",
        True,
        "gcp",
        200,
    )


def test_a_token_without_a_life_is_malformed_while_the_subject_token_has_time() -> None:
    assert refused(exchange(now=NOW + 3600 - 63), said({"access_token": "ya29.x"}, 200)).code == "response-malformed"


SANE = {"access_token": "ya29.x", "expires_in": 3599}
BAD_TOKENS: tuple[object, ...] = (None, "", 1, [], {"a": 1}, "a b", "a\nb", "\u00e9", "\x00")
BAD_LIVES: tuple[object, ...] = (True, -1, "", "x", "1.5", [], {}, 10**400, 1e300, "9" * 5000, 4e7, "\u0661")
BAD = [{**SANE, "access_token": value} for value in BAD_TOKENS] + [{**SANE, "expires_in": value} for value in BAD_LIVES]


@pytest.mark.parametrize("answer", [*BAD, [], "text", 1, None, True])
def test_an_answer_of_the_wrong_types_is_said_so(answer: object) -> None:
    error = refused(exchange(), said(answer, 200))
    assert error.code == "response-malformed"
    assert "(HTTP 200, content type application/json)" in error.message


WRONG_BYTES = {
    "empty": b"",
    "html": b"<!doctype html><title>Error 502</title>",
    "nan": b'{"access_token": "x", "expires_in": NaN}',
    "nan where nobody looks": b'{"access_token": "x", "expires_in": 1, "other": NaN}',
    "infinity": b'{"access_token": "x", "expires_in": Infinity}',
    "cut": b'{"access_token": "x", ',
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a number too long": b'{"access_token": "x", "expires_in": ' + b"9" * 100_000 + b"}",
    "utf-16": '{"access_token": "x", "expires_in": 1}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", WRONG_BYTES.values(), ids=WRONG_BYTES.keys())
def test_bytes_that_are_no_answer_are_said_so(body: bytes) -> None:
    assert refused(exchange(), Response(status=200, body=body)).code == "response-malformed"


@pytest.mark.parametrize("scopes", [("a b",), ("",), ("\ud800",), ("a\n",)])
def test_what_is_no_scope_is_refused(scopes: tuple[str, ...]) -> None:
    for flow in (exchange(scopes=scopes), impersonate(scopes=scopes)):
        with pytest.raises(ConfigurationError, match="not a scope"):
            next(flow)


def test_a_scope_there_must_be() -> None:
    for flow in (exchange(scopes=()), impersonate(scopes=())):
        with pytest.raises(ConfigurationError, match="without a scope"):
            next(flow)


# -- impersonation ------------------------------------------------------------------------------------------------


def test_a_service_account_is_asked_for_with_the_federated_token() -> None:
    request = ask(
        impersonate(
            lifetime_seconds=1800, delegates=("a@p.iam.gserviceaccount.com", "projects/-/serviceAccounts/b@p.x")
        )
    )
    assert request.url == f"{IAM}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
    assert request.headers["Authorization"] == "Bearer ya29.d.federated-token"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {
        "scope": ["s"],
        "lifetime": "1800s",
        "delegates": ["projects/-/serviceAccounts/a@p.iam.gserviceaccount.com", "projects/-/serviceAccounts/b@p.x"],
    }
    assert "ya29" not in repr(request)


def test_what_is_not_asked_for_is_not_sent() -> None:
    assert json.loads(ask(impersonate()).body) == {"scope": ["s"]}


@pytest.mark.parametrize("time", [EXPIRE_TIME, "2027-01-15T09:00:00.123456789Z", "2027-01-15T09:00:00+00:00"])
def test_the_life_is_counted_by_googles_own_clock(time: str) -> None:
    answer = said({"accessToken": "ya29.y", "expireTime": time}, 200, date=DATE)
    found = answered(impersonate(now=NOW + 5000), answer)
    assert int(found.lifetime_seconds) == 3600
    assert found.expires_at.replace(microsecond=0) == datetime(2027, 1, 15, 9, tzinfo=UTC)
    assert found.scopes == ("s",)


@pytest.mark.parametrize(
    "answer",
    [
        {"accessToken": "ya29.y"},
        {"expireTime": EXPIRE_TIME},
        {"accessToken": 1, "expireTime": EXPIRE_TIME},
        {"accessToken": "y", "expireTime": 1},
        {"accessToken": "y", "expireTime": "2027-01-15T09:00:00"},
        {"accessToken": "y", "expireTime": "9999-12-31T23:59:59-14:00"},
        {"accessToken": "y", "expireTime": "x" * 100},
        [],
    ],
)
def test_an_impersonation_of_the_wrong_types_is_said_so(answer: object) -> None:
    assert refused(impersonate(), said(answer, 200)).code == "response-malformed"


def test_an_impersonation_that_has_ended_is_a_wrong_clock() -> None:
    answer = said({"accessToken": "y", "expireTime": EXPIRE_TIME}, 200)
    assert refused(impersonate(now=NOW + 9999), answer).code == "clock-skew"


@pytest.mark.parametrize(
    "wrong",
    [{"service_account": "a/b@c"}, {"delegates": ("a?b@c",)}, {"lifetime_seconds": 0}, {"lifetime_seconds": 43_201}],
)
def test_a_wrong_value_is_refused_before_the_request(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        next(impersonate(**wrong))


def test_a_message_can_do_without_knowing_the_subject_token() -> None:
    flow = gcp.generate_access_token(
        FEDERATED, service_account=ACCOUNT, scopes=("s",), iam_url=IAM, provider=PROVIDER, now=NOW
    )
    error = refused(flow, said({"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}, 403))
    assert error.hint is not None
    assert "/subject/SUBJECT" in error.hint
    assert "the token of" not in error.message


# -- ID tokens ---------------------------------------------------------------------------------------------------

ID_TOKEN = jwt(
    {"iss": "https://accounts.google.com", "sub": "1", "aud": "https://run.example", "iat": NOW, "exp": NOW + 3600}
)


def test_an_id_token_is_asked_for() -> None:
    request = ask(sign(include_email=False, delegates=("a@b.c",)))
    assert request.url == f"{IAM}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateIdToken"
    assert json.loads(request.body) == {
        "audience": "https://run.example",
        "includeEmail": False,
        "delegates": ["projects/-/serviceAccounts/a@b.c"],
    }
    assert json.loads(ask(sign()).body) == {"audience": "https://run.example", "includeEmail": True}


def test_an_id_token_ends_as_it_says() -> None:
    found = answered(sign(), said({"token": ID_TOKEN}, 200))
    assert (found.token, found.lifetime_seconds) == (ID_TOKEN, 3600.0)
    assert found.expires_at == datetime(2027, 1, 15, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"token": "a.b.c"},
        {"token": jwt({"iss": "i", "sub": "s", "aud": "a"})},
        {"token": jwt({"iss": "i", "sub": "s", "aud": "a", "exp": 0})},
        {"token": jwt({"iss": "i", "sub": "s", "aud": "a", "exp": 9e11})},
    ],
)
def test_an_id_token_that_is_none_is_said_so(answer: object) -> None:
    assert refused(sign(), said(answer, 200)).code == "response-malformed"


@pytest.mark.parametrize("audience", ["", " "])
def test_an_id_token_needs_an_audience(audience: str) -> None:
    with pytest.raises(ConfigurationError, match="without an audience"):
        next(sign(audience=audience))


# -- introspection ------------------------------------------------------------------------------------------------


def test_whose_token_this_is() -> None:
    request = ask(introspection())
    assert request.url == "https://sts.googleapis.com/v1/introspect"
    assert parse_qs(request.body.decode()) == {
        "token": [FEDERATED.token],
        "token_type_hint": ["urn:ietf:params:oauth:token-type:access_token"],
    }
    answer = {"active": True, "username": "principal://x", "client_id": "c", "scope": "s", "exp": "1"}
    assert answered(introspection(), said(answer, 200)) == gcp.Introspection(True, "principal://x", "c", "s", False)
    assert answered(introspection(), said({"active": False}, 200)) == gcp.Introspection(False, "")


@pytest.mark.parametrize("answer", [{}, {"active": "true"}, {"active": 1}])
def test_an_introspection_of_the_wrong_types_is_said_so(answer: object) -> None:
    assert refused(introspection(), said(answer, 200)).code == "response-malformed"


@pytest.mark.parametrize("status", [400, 401, 404])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "invalid_client"}'])
def test_an_introspection_that_is_not_served_is_one_code(status: int, body: bytes) -> None:
    error = refused(introspection(), Response(status=status, body=body))
    assert (error.code, error.status, error.retryable) == ("exchange-refused", status, False)


def test_an_introspection_that_fails_may_be_repeated() -> None:
    error = refused(introspection(), said({"error": "internal"}, 500))
    assert (error.code, error.retryable) == ("cloud-unavailable", True)


# -- whatever comes ------------------------------------------------------------------------------------------------

FLOWS: list[Callable[[], Flow[Any]]] = [exchange, impersonate, sign, introspection]
NAMES = (
    *("access_token", "expires_in", "accessToken", "expireTime", "token", "active", "username"),
    *("error", "error_description", "status", "message"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=10,
)


@pytest.mark.parametrize("flow", FLOWS)
@given(
    body=st.one_of(st.binary(max_size=300), JSON.map(lambda value: json.dumps(value).encode())),
    status=st.integers(200, 599),
)
def test_no_bytes_do_more_harm_than_one_error(flow: Callable[[], Flow[Any]], body: bytes, status: int) -> None:
    running = flow()
    next(running)
    with pytest.raises((WifError, StopIteration)) as caught:
        running.send(Response(status=status, body=body))
    if isinstance(caught.value, WifError):
        assert token().raw not in str(caught.value)


def test_the_message_says_whose_token_it_was() -> None:
    error = refused(exchange(), said({"error": "invalid_grant", "error_description": "no"}, 400))
    for part in (
        "//iam.googleapis.com/" + NAME,
        ISSUER,
        SUBJECT,
        "sts.example",
        "invalid_grant: no",
        "HTTP 400",
        "/var/run/token",
    ):
        assert part in error.message
