"""Reading what every answer has: times, numbers, texts; and what a message may show of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.clouds.answering import DATE, NOW, token
from wif.clouds.answers import (
    Asked,
    Row,
    date_seconds,
    number,
    redacted,
    refusal,
    retry_after_seconds,
    shown,
    when,
)
from wif.core.flow import Response


def test_an_http_date() -> None:
    assert date_seconds(DATE) == NOW
    assert date_seconds(f" {DATE} ") == NOW


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "Fri, 15 Foo 2027 08:00:00 GMT",
        "Fri, 31 Feb 2027 08:00:00 GMT",
        "Fri, 15 Jan 2027 25:00:00 GMT",
        "Fri, 15 Jan 2027 08:00:00 CET",
        "Fri, 15 Jan 0000 08:00:00 GMT",
        "Friday, 15-Jan-27 08:00:00 GMT",
        "Fri, \u0661\u0665 Jan 2027 08:00:00 GMT",
    ],
)
def test_what_is_no_http_date(text: str) -> None:
    assert date_seconds(text) is None


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(9999, 1, 1)))  # noqa: DTZ001
def test_every_http_date_is_read(moment: datetime) -> None:
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    text = f"Mon, {whole.day:02d} {names[whole.month - 1]} {whole.year:04d} {whole:%H:%M:%S} GMT"
    assert date_seconds(text) == whole.timestamp()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": " 120 "}, 120.0),
        ({"retry-after": "999999999"}, 86_400.0),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": DATE.replace("08:00", "08:02")}, 120.0),
        ({"retry-after": DATE.replace("08:00", "07:00")}, 0.0),
        ({"retry-after": DATE.replace("08:00", "08:02"), "date": DATE.replace("08:00", "08:01")}, 60.0),
        ({"retry-after": "Fri, 15 Jan 2100 08:00:00 GMT"}, 86_400.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(Response(status=429, headers=headers), NOW) == seconds


@pytest.mark.parametrize(("value", "seconds"), [(1, 1.0), (1.5, 1.5), ("7", 7.0), (0, 0.0), ("0", 0.0), (10**12, 1e12)])
def test_a_number(value: object, seconds: float) -> None:
    assert number(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        -1,
        "-1",
        "1.5",
        "",
        " 1",
        "1\n",
        "\u0661",
        [],
        {},
        10**13,
        10**400,
        float("nan"),
        float("inf"),
    ],
)
def test_what_is_no_number(value: object) -> None:
    assert number(value) is None


@pytest.mark.parametrize(
    "value", [None, 1, "", "x", "2027-01-15", "2027-01-15T08:00:00", "2027-13-15T08:00:00Z", "2" * 50]
)
def test_what_is_no_time(value: object) -> None:
    assert when(value) is None


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_a_time(text: str) -> None:
    found = when(text)
    assert found is None or found.tzinfo is UTC


@given(st.text(max_size=800), st.integers(min_value=5, max_value=100))
def test_what_is_shown_is_one_short_printable_line(text: str, limit: int) -> None:
    line = shown(text, limit)
    assert len(line) <= limit
    assert line.isprintable()


def test_a_text_that_fits_is_shown_whole() -> None:
    assert shown("a  b\r\nc") == "a b c"
    assert shown("x" * 300) == "x" * 300
    assert shown("x" * 301) == "x" * 299 + "…"
    assert shown(" " * 900 + "x").endswith("…")
    assert shown("a\x00b\u202e") == "a?b?"


@pytest.mark.parametrize(
    "text",
    [
        "Invalid identity: https://oidc.eks.eu-west-1.amazonaws.com/id/ABCDEF0123456789ABCDEF0123456789",
        "https://docs.microsoft.com/en-us/azure/active-directory/develop/workload-identity-federation",
        "arn:aws:sts::111122223333:assumed-role/application/some-session-name-of-a-pod-7d9f",
        "system:serviceaccount:a-namespace-with-a-name:and-an-account-with-a-long-name-too",
        "01234567-89ab-cdef-0123-456789abcdef",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension",
    ],
)
def test_names_are_no_secrets(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        token().raw,
        token().raw[:40],
        "ya29.d.c0AY_VpZg",
        "AKIAIOSFODNN7EXAMPLE",
        "IQoJb3JpZ2luX2VjEJr0123456789aAbBcCdDeEfFgGhH+=",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ],
)
def test_what_looks_like_a_secret_goes(secret: str) -> None:
    assert redacted(f"sent '{secret}' here") == "sent '[redacted]' here"


@given(st.text(st.characters(codec="ascii"), min_size=4, max_size=80), st.text(max_size=50), st.text(max_size=50))
def test_a_known_secret_always_goes(secret: str, before: str, after: str) -> None:
    text = redacted(f"{before}{secret}{after}", (secret,)).replace("[redacted]", "")
    assert secret not in text or secret in before + after


def test_a_secret_cut_by_the_limit_goes_too() -> None:
    secret = "lower-case-letters-only"
    assert "lower" not in redacted("x " * 1995 + secret, (secret,))


def test_looking_for_secrets_takes_no_time() -> None:
    assert redacted("aA" * 500_000) == "aA" * 2000
    assert redacted("eyJ" * 300_000).startswith("[redacted]")


def test_a_hint_may_name_what_is_not_known() -> None:
    asked = Asked(cloud="aws", name="AWS", operation="X", identity="the {weird} role", now=NOW)
    row = Row("aws", "s", "C", "", "trust-denied", "look at {issuer} and {identity}")
    error = refusal(asked, Response(status=403), cloud_code="C", text="{issuer}", rows=(row,))
    assert error.hint == "look at ? and the {weird} role"
    assert "the {weird} role: C: {issuer} (HTTP 403)" in error.message


@pytest.mark.parametrize("header", [{}, {"kid": 1}, {"kid": "\x00key"}])
def test_a_key_id_is_shown_as_what_it_is(header: dict[str, object]) -> None:
    asked = Asked(cloud="aws", name="AWS", operation="X", identity="i", now=NOW, token=token(header=header))
    row = Row("aws", "s", "C", "", "trust-denied", "{kid}")
    hint = refusal(asked, Response(status=403), cloud_code="C", text="", rows=(row,)).hint
    assert hint == ("?key" if header.get("kid") == "\x00key" else "none")
