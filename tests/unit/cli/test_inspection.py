"""What each cloud will say about a token: one rule broken at a time."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.cli.inspection import inspect, is_local_sts, issuer_defect, times
from wif.core.token import UnverifiedToken, read_token

NOW = 1_800_000_000
GOOD: dict[str, Any] = {
    "iss": "https://oidc.example.com/cluster",
    "sub": "system:serviceaccount:shop:app",
    "aud": ["sts.amazonaws.com"],
    "iat": NOW - 10,
    "nbf": NOW - 10,
    "exp": NOW + 3590,
}
AUDIENCES = {
    "aws": "sts.amazonaws.com",
    "gcp": "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
    "azure": "api://AzureADTokenExchange",
}


def token(header: dict[str, Any] | None = None, **changes: Any) -> UnverifiedToken:
    head = {"alg": "RS256", "kid": "k"} if header is None else header
    claims = {name: value for name, value in (GOOD | changes).items() if value is not None}
    parts = [json.dumps(part).encode() for part in (head, claims)]
    raw = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in [*parts, b"s"])
    return read_token(raw, origin="test", now=NOW, check_times=False)


def said(cloud: str, broken: UnverifiedToken) -> set[tuple[str, str]]:
    """Severity and clause of each finding, without those of the convention for audiences."""
    return {(found.severity, found.clause) for found in inspect(broken, NOW)[cloud]}


@pytest.mark.parametrize("cloud", AUDIENCES)
def test_nothing_speaks_against_a_good_token(cloud: str) -> None:
    assert said(cloud, token(aud=[AUDIENCES[cloud]])) == {("good", "token")}


CASES: list[tuple[str, dict[str, Any] | None, dict[str, Any], dict[str, tuple[str, str] | None]]] = [
    ("RS512", {"alg": "RS512", "kid": "k"}, {}, {"aws": None, "gcp": ("refused", "key"), "azure": ("refused", "key")}),
    ("ES256", {"alg": "ES256", "kid": "k"}, {}, {"aws": None, "gcp": None, "azure": ("refused", "key")}),
    ("HS256", {"alg": "HS256", "kid": "k"}, {}, dict.fromkeys(AUDIENCES, ("refused", "key"))),
    ("no algorithm", {"kid": "k"}, {}, dict.fromkeys(AUDIENCES, ("refused", "key"))),
    ("an algorithm of another type", {"alg": ["RS256"], "kid": "k"}, {}, dict.fromkeys(AUDIENCES, ("refused", "key"))),
    ("no kid", {"alg": "RS256"}, {}, dict.fromkeys(AUDIENCES, ("refused", "key"))),
    ("expired long ago", None, {"exp": NOW - 100}, dict.fromkeys(AUDIENCES, ("refused", "expiry"))),
    (
        "expired just now",
        None,
        {"exp": NOW - 30},
        {"aws": ("refused", "expiry"), "gcp": ("unusual", "expiry"), "azure": ("refused", "expiry")},
    ),
    ("from tomorrow on", None, {"nbf": NOW + 3600}, dict.fromkeys(AUDIENCES, ("refused", "clock"))),
    ("issued tomorrow", None, {"iat": NOW + 3600}, dict.fromkeys(AUDIENCES, ("refused", "clock"))),
    ("issued in a minute", None, {"iat": NOW + 50}, dict.fromkeys(AUDIENCES)),
    ("without iat", None, {"iat": None}, dict.fromkeys(AUDIENCES, ("refused", "claim"))),
    (
        "issued two days ago, for a day",
        None,
        {"iat": NOW - 172_800, "nbf": NOW - 172_800, "exp": NOW + 10 - 172_800 + 90_000},
        {"aws": ("unusual", "lifetime"), "gcp": ("refused", "lifetime")},
    ),
    (
        "for a year",
        None,
        {"exp": NOW + 31_536_000},
        {"aws": None, "gcp": None, "azure": ("refused", "lifetime")},
    ),
    ("a subject of 128", None, {"sub": "s" * 128}, {"aws": None, "gcp": ("refused", "subject"), "azure": None}),
    ("a subject of 127", None, {"sub": "s" * 127}, dict.fromkeys(AUDIENCES)),
    ("a subject of 64 é", None, {"sub": "é" * 64}, {"aws": None, "gcp": ("refused", "subject"), "azure": None}),
    ("a subject of 256", None, {"sub": "s" * 256}, {"aws": ("refused", "subject"), "azure": None}),
    ("a subject of 601", None, {"sub": "s" * 601}, dict.fromkeys(AUDIENCES, ("refused", "subject"))),
    ("plain http", None, {"iss": "http://oidc.example.com"}, dict.fromkeys(AUDIENCES, ("refused", "issuer"))),
    (
        "on loopback",
        None,
        {"iss": "https://localhost:8443"},
        {"aws": ("refused", "issuer"), "gcp": ("unusual", "issuer"), "azure": ("refused", "issuer")},
    ),
]


@pytest.mark.parametrize(
    ("header", "changes", "cloud", "expected"),
    [
        pytest.param(header, changes, cloud, finding, id=f"{name}-{cloud}")
        for name, header, changes, findings in CASES
        for cloud, finding in findings.items()
    ],
)
def test_each_rule(
    header: dict[str, Any] | None, changes: dict[str, Any], cloud: str, expected: tuple[str, str] | None
) -> None:
    found = said(cloud, token(header, aud=[AUDIENCES[cloud]], **changes))
    if expected is None:
        assert found == {("good", "token")}
    else:
        assert expected in found


@pytest.mark.parametrize("cloud", AUDIENCES)
def test_another_audience_is_unusual_and_not_wrong(cloud: str) -> None:
    assert said(cloud, token(aud=["https://kubernetes.default.svc"])) == {("unusual", "audience")}


def test_azure_says_nothing_about_several_audiences() -> None:
    assert said("azure", token(aud=[AUDIENCES["azure"], "x"])) == {("unusual", "audience")}
    assert said("azure", token(aud=["api://AzureADTokenExchangeUSGov"])) == {("good", "token")}


@pytest.mark.parametrize(
    "issuer",
    [
        "oidc.example.com",
        "http://oidc.example.com",
        "https://oidc.example.com/?a=b",
        "https://oidc.example.com/#a",
        "https://me@oidc.example.com",
        "https://kubernetes.default.svc",
        "https://kubernetes.default.svc.cluster.local",
        "https://localhost",
        "https://api",
        "https://127.0.0.1",
        "https://10.0.0.1:6443",
        "https://[::1]",
        "https://[fe80::1",
        "https://",
    ],
)
def test_issuers_that_no_cloud_reaches(issuer: str) -> None:
    assert issuer_defect(issuer)


@pytest.mark.parametrize("issuer", ["https://oidc.example.com", "https://8.8.8.8/x", "https://s3.amazonaws.com/b/c"])
def test_issuers_that_a_cloud_may_reach(issuer: str) -> None:
    assert issuer_defect(issuer) is None


def test_the_local_sts_is_told_apart_from_a_cluster() -> None:
    assert is_local_sts(token(iss="https://sts.windows.invalid/tenant/"))
    assert is_local_sts(token(iss="https://accounts.google.invalid"))
    assert not is_local_sts(token(iss="https://cluster.invalid"))
    assert not is_local_sts(token(iss="https://sts.windows.net/tenant/"))
    assert not is_local_sts(token(iss="https://[x"))


def test_times() -> None:
    assert times(token(), NOW) == {"age_seconds": 10, "seconds_left": 3590, "lifetime_seconds": 3600}
    assert times(token(iat=None), NOW) == {"age_seconds": None, "seconds_left": 3590, "lifetime_seconds": None}


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ"]), st.none() | st.text() | st.lists(st.integers())),
    st.text(min_size=1),
    st.lists(st.text(min_size=1), min_size=1),
    st.floats(-1e11, 1e11),
)
def test_any_readable_token_can_be_judged(
    header: dict[str, Any], text: str, audience: list[str], moment: float
) -> None:
    judged = token(header, iss=text, sub=text, aud=audience, exp=moment)
    found = inspect(judged, NOW)
    assert set(found) == set(AUDIENCES)
    assert all(findings for findings in found.values())
    times(judged, NOW)
    is_local_sts(judged)
