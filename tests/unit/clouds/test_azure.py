"""Azure: what is asked, what is read, and what is refused before it is asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import msal.authority  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.clouds.answering import DATE, NOW, answered, ask, refused, said, token
from wif.clouds import azure
from wif.core.credentials import AccessToken
from wif.core.flow import Flow, Response
from wif.errors import ConfigurationError, WifError

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SCOPE = "https://management.azure.com/.default"
CORRELATION = "01234567-89ab-cdef-0123-456789abcdef"


def request(**more: Any) -> Flow[AccessToken]:
    settings: dict[str, Any] = {
        "tenant_id": TENANT,
        "client_id": CLIENT,
        "authority": azure.authority_url(None),
        "scope": SCOPE,
        "now": NOW,
    }
    return azure.request_token(token(), **(settings | more))


def test_the_exchange_is_one_post_with_a_client_assertion() -> None:
    sent = ask(request())
    assert (sent.method, sent.url) == ("POST", f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token")
    assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qs(sent.body.decode()) == {
        "client_assertion": [token().raw],
        "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"],
        "client_id": [CLIENT],
        "grant_type": ["client_credentials"],
        "scope": [SCOPE],
    }


def test_a_claims_challenge_is_passed_on() -> None:
    claims = '{"access_token":{"xms_cc":{"values":["CP1"]}}}'
    assert parse_qs(ask(request(claims=claims)).body.decode())["claims"] == [claims]


def test_the_answer_becomes_a_token() -> None:
    answer = {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "eyJ.a.b"}
    assert answered(request(), said(answer, 200, x_wif_local_sts="1")) == AccessToken(
        token="eyJ.a.b",
        expires_at=datetime(2027, 1, 15, 8, 59, 59, tzinfo=UTC),
        lifetime_seconds=3599.0,
        scopes=(SCOPE,),
        local_sts=True,
    )


def test_numbers_may_be_texts_and_a_managed_identity_says_when_to_renew() -> None:
    answer = {"expires_in": "86399", "refresh_in": "43199", "access_token": "t"}
    found = answered(request(), said(answer, 200))
    assert (found.lifetime_seconds, found.refresh_in_seconds) == (86_399.0, 43_199.0)


def test_an_end_by_the_calendar_is_counted_by_entras_own_clock() -> None:
    answer = {"expires_on": str(int(NOW) + 3600), "access_token": "t"}
    found = answered(request(now=NOW + 1800), said(answer, 200, date=DATE))
    assert found.lifetime_seconds == 3600.0
    assert answered(request(now=NOW + 1800), said(answer, 200)).lifetime_seconds == 1800.0
    assert refused(request(now=NOW + 3600), said(answer, 200)).code == "clock-skew"


BAD_TOKENS: tuple[object, ...] = (None, "", 1, ["x"], "a b", "a\r\nb", "\u00e9")
BAD_LIVES: tuple[object, ...] = (0, -5, True, "x", [], 10**400, 1e300, 4e7)
NAMES = ("access_token", "expires_in", "expires_on", "error", "error_description", "error_codes", "correlation_id")
SANE = {"access_token": "t", "expires_in": 3599}


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "x",
        None,
        {},
        {"access_token": "t"},
        {"access_token": "t", "expires_on": 1e12},
        {"access_token": "t", "expires_on": "soon"},
        *({**SANE, "access_token": value} for value in BAD_TOKENS),
        *({**SANE, "expires_in": value} for value in BAD_LIVES),
    ],
)
def test_an_answer_of_the_wrong_types_is_said_so(answer: object) -> None:
    error = refused(request(), said(answer, 200))
    assert error.code == "response-malformed"
    assert "(HTTP 200, content type application/json)" in error.message


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"access_token": "t", "expires_in": NaN}', b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_answer_are_said_so(body: bytes) -> None:
    assert refused(request(), Response(status=200, body=body)).code == "response-malformed"


@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.dictionaries(
            st.sampled_from(NAMES),
            st.none() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers(), max_size=2),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    status=st.integers(200, 599),
)
def test_no_bytes_do_more_harm_than_one_error(body: bytes, status: int) -> None:
    flow = request()
    next(flow)
    with pytest.raises((WifError, StopIteration)):
        flow.send(Response(status=status, body=body))


# -- authorities and tenants -----------------------------------------------------------------------------------


def test_the_authorities_are_known_to_msal() -> None:
    assert set(azure.AUTHORITY_HOSTS) <= set(msal.authority.WELL_KNOWN_AUTHORITY_HOSTS)
    assert set(azure.AUTHORITY_HOSTS) >= {
        value for name, value in vars(msal.authority).items() if "AZURE_" in name and isinstance(value, str)
    }


@pytest.mark.parametrize(
    "host", ["", "evil.example", "login.microsoftonline.com.evil.example", "x.login.microsoftonline.com"]
)
def test_a_host_that_only_looks_right_is_none(host: str) -> None:
    assert not azure.is_authority_host(host)
    assert azure.is_authority_host("login.microsoftonline.us")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "https://login.microsoftonline.com"),
        ("", "https://login.microsoftonline.com"),
        (" ", "https://login.microsoftonline.com"),
        ("login.microsoftonline.us", "https://login.microsoftonline.us"),
        ("https://login.partner.microsoftonline.cn/", "https://login.partner.microsoftonline.cn"),
        ("https://localhost:8443/prefix/", "https://localhost:8443/prefix"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
    ],
)
def test_an_authority_is_a_host_or_a_url(given: str | None, url: str) -> None:
    assert azure.authority_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "ftp://x",
        "https://",
        "https://u@x",
        "https://x/?a",
        "https://x/#a",
        "https://x:port",
        "https://[::1",
        "a b",
        "a\nb",
        "https://x/a b",
    ],
)
def test_what_is_no_authority_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match="not a host or an https URL"):
        azure.authority_url(given)


@pytest.mark.parametrize("tenant", [TENANT, "contoso.onmicrosoft.com", "contoso.com"])
def test_tenants(tenant: str) -> None:
    assert azure.validate_tenant_id(tenant) == tenant


@pytest.mark.parametrize(
    "tenant", ["", ".", "..", "a..b", "a/b", "a?b", "a#b", "a b", "a%2fb", ".a", "a.", "a\n", "é", "x" * 254]
)
def test_what_would_rewrite_the_url_is_no_tenant(tenant: str) -> None:
    for act in (lambda: azure.validate_tenant_id(tenant), lambda: next(request(tenant_id=tenant))):
        with pytest.raises(ConfigurationError, match="not a tenant"):
            act()


@pytest.mark.parametrize("tenant", ["common", "Organizations", "consumers"])
def test_a_workload_belongs_to_one_tenant(tenant: str) -> None:
    with pytest.raises(ConfigurationError, match="stands for many"):
        azure.validate_tenant_id(tenant)


@pytest.mark.parametrize("client", ["", "a b", "a&b=c", "x" * 129, "a\n"])
def test_what_is_no_client_id_is_refused(client: str) -> None:
    with pytest.raises(ConfigurationError, match="not a client id"):
        next(request(client_id=client))
    assert azure.validate_client_id(CLIENT) == CLIENT


@pytest.mark.parametrize("scope", ["", "a b", "\ud800", "a\n"])
def test_what_is_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(ConfigurationError, match="not a scope"):
        next(request(scope=scope))


def test_a_scope_of_another_form_is_entras_to_judge() -> None:
    assert parse_qs(ask(request(scope="https://vault.azure.net")).body.decode())["scope"] == ["https://vault.azure.net"]


def test_claims_are_json_in_ascii() -> None:
    with pytest.raises(ConfigurationError, match="not the JSON"):
        next(request(claims="\ud800"))


@pytest.mark.parametrize(
    ("authority", "audience"),
    [
        ("https://login.microsoftonline.com", "api://AzureADTokenExchange"),
        ("https://login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina"),
        ("https://login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"),
        ("https://localhost:8443", "api://AzureADTokenExchange"),
    ],
)
def test_the_audience_that_a_cloud_recommends(authority: str, audience: str) -> None:
    assert azure.expected_audience(authority) == audience


# -- refusals ----------------------------------------------------------------------------------------------------


def error_body(number: int, text: str = "Some text.", **more: Any) -> dict[str, Any]:
    return {
        "error": "invalid_client",
        "error_description": f"AADSTS{number}: {text}\r\nTrace ID: x\r\nCorrelation ID: {CORRELATION}\r\nTimestamp: y",
        "error_codes": [number],
        "correlation_id": CORRELATION,
    } | more


def test_a_refusal_names_number_text_and_correlation_id_on_one_line() -> None:
    error = refused(request(), said(error_body(700213), 401))
    assert error.cloud_code == "AADSTS700213"
    assert f"AADSTS700213: Some text. [correlation id {CORRELATION}] (HTTP 401)" in error.message
    assert "Trace ID" not in error.message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error_codes": [700213]}, "AADSTS700213"),
        ({"error_codes": ["700213"], "error": "invalid_client"}, "invalid_client"),
        ({"error_codes": [], "error": "invalid_client"}, "invalid_client"),
        ({"error_codes": [10**30], "error": "invalid_client"}, "invalid_client"),
        ({"error_codes": 7, "error": "invalid_client"}, "invalid_client"),
        ({"error": "invalid_client", "correlation_id": "not a guid"}, "invalid_client"),
        ({"error": "a b"}, None),
        ({"error_description": "only a text"}, None),
    ],
)
def test_the_code_comes_from_where_it_stands(body: dict[str, Any], code: str | None) -> None:
    error = refused(request(), said(body, 401))
    assert error.cloud_code == code
    assert "not a guid" not in error.message


def test_which_refusals_may_be_a_matter_of_minutes() -> None:
    numbers = (70021, 700211, 700212, 700213, 7002131, 7002137, 7002138)
    assert {f"AADSTS{number}" for number in numbers} == azure.PROPAGATION_CODES
    for number in numbers:
        error = refused(request(), said(error_body(number), 401))
        assert error.cloud_code in azure.PROPAGATION_CODES
        assert not error.retryable


def test_the_audience_of_the_cloud_in_question_is_named() -> None:
    flow = request(authority="https://login.partner.microsoftonline.cn")
    error = refused(flow, said(error_body(700212), 401))
    assert error.hint is not None
    assert "api://AzureADTokenExchangeChina" in error.hint
    assert "sts.example" in error.hint
