"""Reading a subject token: what is refused before any request, and what the message says."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.core.freshness import LEEWAY_SECONDS, MAX_SUBJECT_TOKEN_BYTES
from wif.core.token import TokenSource, read_token
from wif.errors import TokenError

NOW = 1_790_000_000.0
CLAIMS: dict[str, Any] = {
    "iss": "https://oidc.example.com/cluster-a",
    "sub": "system:serviceaccount:shop:cart",
    "aud": ["sts.amazonaws.com", "other"],
    "iat": NOW - 10,
    "nbf": NOW - 10,
    "exp": NOW + 3600,
    "jti": "j-1",
    "kubernetes.io": {
        "namespace": "shop",
        "serviceaccount": {"name": "cart", "uid": "u-1"},
        "pod": {"name": "cart-0", "uid": "p-1"},
    },
}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(**changes: Any) -> str:
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not ...}
    return compact(json.dumps(claims).encode())


def compact(payload: bytes, header: bytes = b'{"alg":"RS256"}') -> str:
    return f"{b64(header)}.{b64(payload)}.{b64(b'signature')}"


def refused(raw: str | bytes, audience: str | None = None) -> TokenError:
    with pytest.raises(TokenError) as caught:
        read_token(raw, origin="/var/run/token", now=NOW, audience=audience)
    assert "/var/run/token" in caught.value.message
    assert b64(b"signature") not in str(caught.value)
    return caught.value


def test_claims_of_kubernetes_are_read() -> None:
    read = read_token(token(), origin="o", now=NOW)
    assert read.issuer == "https://oidc.example.com/cluster-a"
    assert read.subject == "system:serviceaccount:shop:cart"
    assert read.audience == ("sts.amazonaws.com", "other")
    assert (read.namespace, read.service_account, read.service_account_uid) == ("shop", "cart", "u-1")
    assert (read.pod, read.jti, read.expires_at) == ("cart-0", "j-1", NOW + 3600)
    assert read.identity == ("https://oidc.example.com/cluster-a", "system:serviceaccount:shop:cart", "u-1")


def test_a_token_of_another_issuer_has_no_kubernetes_claims() -> None:
    read = read_token(
        token(**{"kubernetes.io": ..., "aud": "one", "nbf": ..., "iat": ..., "jti": 5}), origin="o", now=NOW
    )
    assert (read.namespace, read.pod, read.jti, read.issued_at) == (None, None, None, None)
    assert read.audience == ("one",)
    assert read.identity[2] == ""


@pytest.mark.parametrize("odd", ["x", 3, [], {"serviceaccount": "x", "pod": [], "namespace": ""}])
def test_odd_kubernetes_claims_are_none(odd: object) -> None:
    read = read_token(token(**{"kubernetes.io": odd}), origin="o", now=NOW)
    assert (read.namespace, read.service_account, read.pod) == (None, None, None)


@pytest.mark.parametrize("form", [str, lambda text: text.encode(), lambda text: f"\n {text}\r\n"])
def test_white_space_is_stripped_and_bytes_are_read(form: Any) -> None:
    assert read_token(form(token()), origin="o", now=NOW).raw == token()


def test_neither_token_nor_claims_are_shown() -> None:
    shown = repr(read_token(token(), origin="o", now=NOW))
    assert token() not in shown
    assert b64(b"signature") not in shown


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("", "token-empty"),
        (b"", "token-empty"),
        (" \n", "token-empty"),
        (b"\xff\xfe", "token-malformed"),
        ("é.a.b", "token-malformed"),
        ("a.b", "token-malformed"),
        ("a..c", "token-malformed"),
        ("a.b.c.d", "token-malformed"),
        (token()[:-1] + "!", "token-malformed"),
        (token() + "=", "token-malformed"),
        ("a" * (MAX_SUBJECT_TOKEN_BYTES + 1), "token-too-large"),
        (b"a" * 10_000_000, "token-too-large"),
        (compact(b"[]"), "token-malformed"),
        (compact(b"{"), "token-malformed"),
        (compact(b'"x"'), "token-malformed"),
        (compact(b"{}", header=b"nothing"), "token-malformed"),
        (compact(b'{"iss":"a","iss":"b"}'), "token-malformed"),
        (compact(b'{"a":{"x":1,"x":2}}'), "token-malformed"),
        (compact(b'{"exp":NaN}'), "token-malformed"),
        (compact(b"[" * 7000), "token-malformed"),
        (compact(b'{"exp":' + b"9" * 5000 + b"}"), "token-malformed"),
        (compact(b"\xff{}"), "token-malformed"),
    ],
)
def test_what_is_not_a_token(raw: str | bytes, code: str) -> None:
    assert refused(raw).code == code


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"iss": ...}, "iss"),
        ({"iss": 5}, "int"),
        ({"iss": ""}, "empty"),
        ({"sub": ...}, "sub"),
        ({"sub": ["x"]}, "list"),
        ({"exp": ...}, "exp"),
        ({"exp": "1795420442"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": 1e13}, "exp"),
        ({"nbf": "x"}, "nbf"),
        ({"iat": [1]}, "iat"),
        ({"aud": ...}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ""}, "aud"),
        ({"aud": [1]}, "aud"),
        ({"aud": {"a": "b"}}, "aud"),
    ],
)
def test_claims_of_the_wrong_kind_are_named(changes: dict[str, Any], word: str) -> None:
    error = refused(token(**changes))
    assert error.code == "token-claim"
    assert word in error.message


class TestTimes:
    def test_expiry_has_its_leeway(self) -> None:
        read_token(token(exp=NOW - LEEWAY_SECONDS + 1), origin="o", now=NOW)
        error = refused(token(exp=NOW - LEEWAY_SECONDS))
        assert (error.code, error.clause) == ("token-expired", "expiry")
        assert "2026-09-21T14:12:20Z" in error.message, "what came"
        assert "2026-09-21T14:13:20Z" in error.message, "what was expected: now"

    @pytest.mark.parametrize("claim", ["nbf", "iat"])
    def test_the_start_has_its_leeway(self, claim: str) -> None:
        read_token(token(**{claim: NOW + LEEWAY_SECONDS}), origin="o", now=NOW)
        error = refused(token(**{claim: NOW + LEEWAY_SECONDS + 1}))
        assert (error.code, error.clause) == ("token-not-yet-valid", "clock")
        assert claim in error.message

    def test_an_expired_token_can_be_shown(self) -> None:
        assert read_token(token(exp=5), origin="o", now=NOW, check_times=False).expires_at == 5

    def test_a_year_out_of_range_is_shown_as_a_number(self) -> None:
        assert "-999999999999" in refused(token(exp=-999999999999)).message


class TestAudience:
    def test_it_is_checked_only_when_it_is_given(self) -> None:
        read_token(token(aud="whatever"), origin="o", now=NOW)
        read_token(token(), origin="o", now=NOW, audience="other")
        error = refused(token(), audience="api://AzureADTokenExchange")
        assert (error.code, error.clause) == ("token-audience", "audience")
        assert "sts.amazonaws.com" in error.message
        assert "api://AzureADTokenExchange" in error.message


def test_the_protocol_of_a_source() -> None:
    class Source:
        origin = "here"

        def read(self) -> str:
            return "t"

    assert isinstance(Source(), TokenSource)
    assert Source().read() == "t"
    assert not isinstance(object(), TokenSource)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200), st.binary(max_size=100).map(compact)))
def test_anything_is_read_or_refused(raw: str | bytes) -> None:
    with pytest.raises(TokenError):
        read_token(raw, origin="o", now=NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*CLAIMS]), json_values))
def test_odd_claims_never_crash(changes: dict[str, Any]) -> None:
    try:
        read = read_token(compact(json.dumps(CLAIMS | changes).encode()), origin="o", now=NOW)
    except TokenError as error:
        assert error.message.startswith("the subject token of o")  # noqa: PT017
    else:
        assert read.issuer
        assert read.audience
