"""Annotations as values: fields, lifetimes and what is said about them."""

from __future__ import annotations

import pytest

from wif.admission.dialects.values import (
    Field,
    Place,
    audience,
    is_denied,
    lifetime,
    unknown_keys,
    values_of,
    whole_number,
    without_effect,
)

PLACE = Place("eks", "aws", "ServiceAccount shop/app")
POD = PLACE._replace(object="the pod")
TABLE = (
    Field("number", "number-malformed", "deny", "a number", whole_number, "write digits"),
    Field("word", "word-long", "deny", "a short word", lambda text: text if len(text) < 200 else None),
    Field("word", "word-loud", "warning", "lower case", lambda text: text if text.islower() else None),
)


def test_values_of_those_that_are_there() -> None:
    assert values_of(TABLE, {"p.io/number": "7", "p.io/other": "x", "q.io/word": "x"}, "p.io", PLACE) == (
        {"number": 7},
        [],
    )


def test_a_malformed_one_is_named_with_its_object_what_was_expected_and_what_came() -> None:
    values, findings = values_of(TABLE, {"p.io/number": "x" * 300}, "p.io", PLACE)
    assert values == {}
    assert findings == [
        (
            "number-malformed",
            "deny",
            f"ServiceAccount shop/app: annotation p.io/number is {'x' * 119 + '…'!r}, expected a number",
            "write digits",
            "eks",
            "aws",
            "",
        )
    ]
    assert is_denied(findings)


def test_a_doubtful_one_is_reported_and_used() -> None:
    values, findings = values_of(TABLE, {"p.io/word": "LOUD"}, "p.io", PLACE)
    assert values == {"word": "LOUD"}
    assert [finding.rule for finding in findings] == ["word-loud"]
    assert not is_denied(findings)


def test_the_first_row_that_fails_ends_the_rows_of_its_key() -> None:
    values, findings = values_of(TABLE, {"p.io/word": "L" * 200}, "p.io", PLACE)
    assert values == {}
    assert [finding.rule for finding in findings] == ["word-long"]


def test_how_without_who_has_no_effect() -> None:
    (said,) = without_effect(TABLE, {"p.io/word": "x", "p.io/number": "1"}, "p.io", PLACE, "p.io/who")
    assert (said.rule, said.level) == ("annotation-without-effect", "warning")
    assert "p.io/number, p.io/word without p.io/who" in said.message
    assert without_effect(TABLE, {"q.io/word": "x"}, "p.io", PLACE, "p.io/who") == ()


def test_an_unknown_key_of_the_prefix_is_reported_with_those_that_are_read() -> None:
    said = unknown_keys(TABLE, {"p.io/wrod": "x", "p.io/word": "x", "p.iox/y": "x"}, "p.io", PLACE)
    assert [(finding.rule, finding.hint) for finding in said] == [
        ("annotation-unknown", "the dialect eks reads p.io/number, p.io/word")
    ]
    assert "p.io/wrod" in said[0].message


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3600", 3600),
        ("-1", -1),
        ("+5", 5),
        ("007", 7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("1" * 31, None),
        ("", None),
        ("3600s", None),
        ("1_000", None),
        (" 1", None),
        ("1\n", None),
        ("٣", None),
    ],
)
def test_whole_number(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "a\nb", "x" * 257])
def test_no_audience(text: str) -> None:
    assert audience(text) is None


@pytest.mark.parametrize("text", ["sts.amazonaws.com", "api://AzureADTokenExchange", "x" * 256])
def test_audience(text: str) -> None:
    assert audience(text) == text


@pytest.mark.parametrize(
    ("pod", "account", "default", "maximum", "seconds", "said"),
    [
        (None, None, 3600, 86400, 3600, ""),
        (None, None, 60, 86400, 600, ""),  # the operator's own bounds are no warning
        (None, None, 90000, 86400, 86400, ""),
        (None, 7200, 3600, 86400, 7200, ""),
        (None, 999999, 3600, 86400, 999999, ""),  # the account's word is a ceiling of its own
        (None, 2**33, 3600, 86400, 2**32, "ServiceAccount shop/app"),
        (None, 1, 3600, 86400, 600, "ServiceAccount shop/app"),
        (86400, None, 3600, 86400, 86400, ""),  # a default is no ceiling
        (86401, None, 3600, 86400, 86400, "the pod"),
        (900, 7200, 3600, 86400, 900, ""),
        (7201, 7200, 3600, 86400, 7200, "the pod"),
        (-5, 7200, 3600, 86400, 600, "the pod"),
        (5, 5, 3600, 86400, 600, "the pod"),
    ],
)
def test_lifetime(pod: int | None, account: int | None, default: int, maximum: int, seconds: int, said: str) -> None:
    found, findings = lifetime(
        (POD, "p.io/seconds", pod),
        (PLACE, "p.io/seconds", account),
        default,
        floor_seconds=600,
        max_seconds=maximum,
    )
    assert found == seconds
    assert [finding.level for finding in findings] == (["warning"] if said else [])
    for finding in findings:
        assert finding.rule == "token-expiration-clamped"
        assert finding.message.startswith(f"{said}: annotation p.io/seconds is ")
        assert finding.message.endswith(
            f"expected at {'least' if seconds == 600 else 'most'} {seconds} s, which the token gets"
        )
