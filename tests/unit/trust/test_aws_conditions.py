"""Every operator of a trust policy: what fits, what does not, what is missing, and what AWS leaves open."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.errors import ConfigurationError
from wif.trust.aws_conditions import FAILS, HOLDS, OPERATORS, UNDECIDED, Condition, compile_conditions, wildcard
from wif.trust.reading import Document

READ = Document(cloud="aws", name="statement 1 of the trust policy", members={})


def condition(operator: str, value: Any, key: str = "h:sub", *, has_variables: bool = True) -> Condition:
    (compiled,) = compile_conditions({operator: {key: value}}, has_variables=has_variables, read=READ)
    return compiled


def outcome(
    operator: str, value: Any, *came: str, has_variables: bool = True, others: Mapping[str, str] | None = None
) -> str:
    keys: dict[str, tuple[str, ...]] = {name: (text,) for name, text in (others or {}).items()}
    if came:
        keys["h:sub"] = came
    return condition(operator, value, has_variables=has_variables).evaluate(keys)


def refused(blocks: dict[str, Any], *, has_variables: bool = True) -> str:
    with pytest.raises(ConfigurationError) as caught:
        compile_conditions(blocks, has_variables=has_variables, read=READ)
    assert caught.value.code == "trust-invalid"
    assert caught.value.message.startswith("the statement 1 of the trust policy has ")
    return caught.value.message


ARN = "arn:aws:iam::111122223333:role/team/app"

# operator, value of the policy, what fits, what does not
TABLE: list[tuple[str, Any, list[str], list[str]]] = [
    ("StringEquals", "a:b", ["a:b"], ["A:b", "a:", "a:bc", ""]),
    ("StringEquals", ["a", "b"], ["a", "b"], ["c"]),
    ("StringEquals", "a*", ["a*"], ["ab"]),
    ("StringEquals", "a?", ["a?"], ["ab"]),
    ("StringEqualsIgnoreCase", "Straße", ["STRASSE", "straße"], ["strase"]),
    ("StringLike", "system:serviceaccount:ns:*", ["system:serviceaccount:ns:", "system:serviceaccount:ns:a"], ["x"]),
    ("StringLike", "*", ["", "a\nb"], []),
    ("StringLike", "a?c", ["abc", "a\nc"], ["ac", "abbc", "Abc"]),
    ("StringLike", "*a*b*", ["ab", "xaxbx", "aab"], ["ba", "a"]),
    ("StringLike", "a.c", ["a.c"], ["abc"]),
    ("ArnEquals", ARN, [ARN], [ARN + "x", "arn:aws:iam::111122223333:role/team", "x"]),
    ("ArnLike", "arn:aws:iam::*:role/*", [ARN], ["arn:aws:iam::1:user/a", "arn:aws:iam:eu:1:role/a", "arn:aws:iam"]),
    ("ArnLike", "arn:aws:*:*:*:role/a", ["arn:aws:iam:::role/a"], ["arn:aws:iam::1:x:role/a"]),
    ("ArnLike", "arn:aws:sns:*:*:topic:*", ["arn:aws:sns:eu:1:topic:a:b"], ["arn:aws:sns:eu:1:queue:a"]),
    ("NumericEquals", 5, ["5", "5.0", " 5"], ["6"]),
    ("NumericEquals", [5, "6"], ["5", "6"], ["7"]),
    ("NumericLessThan", "5", ["4.9", "-1"], ["5"]),
    ("NumericLessThanEquals", "5", ["5"], ["5.1"]),
    ("NumericGreaterThan", 5.5, ["6"], ["5.5", "5"]),
    ("NumericGreaterThanEquals", "5", ["5"], ["4"]),
    ("DateEquals", "2026-11-22T00:00:00Z", ["2026-11-22T00:00:00Z", "2026-11-22", "1795305600"], ["2026-11-23"]),
    ("DateLessThan", "2026-11-22T00:00:00Z", ["2026-11-21T23:59:59Z"], ["2026-11-22T00:00:00Z"]),
    ("DateLessThanEquals", 1795305600, ["2026-11-22T01:00:00+01:00"], ["2026-11-22T00:00:01Z"]),
    ("DateGreaterThan", "2026-11-22", ["2026-11-22T00:00:01Z"], ["2026-11-22"]),
    ("DateGreaterThanEquals", "2026-11-22", ["2026-11-22"], ["2026-11-21"]),
    ("Bool", "true", ["true", "TRUE"], ["false"]),
    ("Bool", False, ["false"], ["true"]),
    ("IpAddress", "203.0.113.0/24", ["203.0.113.9"], ["203.0.114.9", "2001:db8::1"]),
    ("IpAddress", "203.0.113.9", ["203.0.113.9"], ["203.0.113.8"]),
    ("IpAddress", ["10.0.0.0/8", "2001:db8::/32"], ["10.1.1.1", "2001:db8::1"], ["11.0.0.1"]),
]

NEGATION = {
    "StringEquals": "StringNotEquals",
    "StringEqualsIgnoreCase": "StringNotEqualsIgnoreCase",
    "StringLike": "StringNotLike",
    "ArnEquals": "ArnNotEquals",
    "ArnLike": "ArnNotLike",
    "NumericEquals": "NumericNotEquals",
    "DateEquals": "DateNotEquals",
    "IpAddress": "NotIpAddress",
}


@pytest.mark.parametrize(("operator", "value", "fits", "fails"), TABLE)
def test_an_operator_and_its_negation(operator: str, value: Any, fits: list[str], fails: list[str]) -> None:
    for came in fits + fails:
        expected = HOLDS if came in fits else FAILS
        assert outcome(operator, value, came) == expected, came
        if operator in NEGATION:
            assert outcome(NEGATION[operator], value, came) == (FAILS if expected == HOLDS else HOLDS), came


def test_the_table_above_holds_every_operator() -> None:
    assert {row[0] for row in TABLE} | set(NEGATION.values()) == set(OPERATORS)


def test_several_values_of_a_negated_operator_are_a_nor() -> None:
    assert outcome("StringNotEquals", ["a", "b"], "c") == HOLDS
    assert outcome("StringNotEquals", ["a", "b"], "b") == FAILS


# -- missing keys and sets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("StringEquals", FAILS),
        ("StringNotEquals", HOLDS),
        ("StringEqualsIfExists", HOLDS),
        ("StringNotEqualsIfExists", HOLDS),
        ("ForAnyValue:StringEquals", FAILS),
        ("ForAnyValue:StringNotEquals", FAILS),
        ("ForAnyValue:StringEqualsIfExists", HOLDS),
        ("ForAllValues:StringEquals", HOLDS),
        ("ForAllValues:StringNotEquals", HOLDS),
    ],
)
def test_a_missing_key(operator: str, expected: str) -> None:
    assert outcome(operator, "a") == expected
    assert condition(operator, "a").evaluate({"h:sub": ()}) == expected


@pytest.mark.parametrize(
    ("operator", "came", "expected"),
    [
        ("StringEqualsIfExists", ("b",), FAILS),
        ("ForAnyValue:StringEquals", ("b", "a"), HOLDS),
        ("ForAnyValue:StringEquals", ("b", "c"), FAILS),
        ("ForAllValues:StringEquals", ("a", "a"), HOLDS),
        ("ForAllValues:StringEquals", ("a", "b"), FAILS),
        ("ForAnyValue:StringNotEquals", ("a", "b"), HOLDS),
        ("ForAnyValue:StringNotEquals", ("a", "a"), FAILS),
        ("ForAllValues:StringNotEquals", ("c", "b"), HOLDS),
        ("ForAllValues:StringNotEquals", ("c", "a"), FAILS),
        ("ForAllValues:StringLikeIfExists", ("a", "ab"), FAILS),
    ],
)
def test_set_operators(operator: str, came: tuple[str, ...], expected: str) -> None:
    assert outcome(operator, "a", *came) == expected


@pytest.mark.parametrize("operator", ["StringEquals", "StringNotEquals", "StringEqualsIfExists", "StringLike"])
@pytest.mark.parametrize("came", [("a", "b"), ("b", "c"), ("a", "a")])
def test_several_values_without_a_set_operator_are_undecided(operator: str, came: tuple[str, ...]) -> None:
    assert outcome(operator, "a", *came) == UNDECIDED


@pytest.mark.parametrize(
    ("value", "came", "expected"),
    [
        ("true", (), HOLDS),
        ("true", ("x",), FAILS),
        ("false", (), FAILS),
        ("false", ("x",), HOLDS),
        (True, (), HOLDS),
        (["true", "FALSE"], ("x",), HOLDS),
    ],
)
def test_null(value: Any, came: tuple[str, ...], expected: str) -> None:
    assert outcome("Null", value, *came) == expected


def test_key_names_have_no_case_and_values_do() -> None:
    upper = condition("StringEquals", "a", key="H:SUB")
    assert upper.evaluate({"h:sub": ("a",)}) == HOLDS
    assert upper.evaluate({"h:sub": ("A",)}) == FAILS


def test_keys_and_operators_all_stand_in_the_result() -> None:
    blocks = {"StringEquals": {"h:sub": "a", "h:aud": "b"}, "Bool": {"aws:SecureTransport": "true"}}
    compiled = compile_conditions(blocks, has_variables=True, read=READ)
    assert [(item.operator, item.key) for item in compiled] == [
        ("StringEquals", "h:sub"),
        ("StringEquals", "h:aud"),
        ("Bool", "aws:SecureTransport"),
    ]


# -- values of the wrong form --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "value", "came"),
    [
        ("NumericEquals", 1, "x"),
        ("NumericNotEquals", 1, "NaN"),
        ("NumericLessThan", 1, "-Infinity"),
        ("DateEquals", "2026-11-22", "yesterday"),
        ("DateNotEquals", "2026-11-22", "999999999999"),
        ("Bool", "true", "yes"),
        ("IpAddress", "10.0.0.0/8", "localhost"),
        ("NotIpAddress", "10.0.0.0/8", ""),
    ],
)
def test_a_request_value_of_another_form_is_undecided(operator: str, value: Any, came: str) -> None:
    assert outcome(operator, value, came) == UNDECIDED


def test_what_is_sure_goes_before_what_is_undecided() -> None:
    values = ["${h:none}", "a"]
    assert outcome("StringEquals", values, "a") == HOLDS
    assert outcome("StringEquals", values, "b") == UNDECIDED
    assert outcome("StringNotEquals", values, "a") == FAILS
    assert outcome("StringNotEquals", values, "b") == UNDECIDED
    assert outcome("ForAnyValue:StringEquals", values, "b", "a") == HOLDS
    assert outcome("ForAllValues:StringNotEquals", values, "b", "a") == FAILS
    assert outcome("ForAllValues:StringNotEquals", values, "b", "c") == UNDECIDED


# -- policy variables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "value", "came", "keys", "expected"),
    [
        ("StringEquals", "x-${h:name}-y", "x-a-y", {"h:name": "a"}, HOLDS),
        ("StringEquals", "x-${h:name}-y", "x-b-y", {"h:name": "a"}, FAILS),
        ("StringEquals", "${ H:NAME }", "a", {"h:name": "a"}, HOLDS),
        ("StringEqualsIgnoreCase", "${h:name}", "A", {"h:name": "a"}, HOLDS),
        ("StringEquals", "${h:name, 'none'}", "none", {}, HOLDS),
        ("StringEquals", "${h:name, 'none'}", "a", {"h:name": "a"}, HOLDS),
        ("StringEquals", "${h:name, ''}", "", {}, HOLDS),
        ("StringEquals", "${h:name}", "a", {}, UNDECIDED),
        ("StringNotEquals", "${h:name}", "a", {}, UNDECIDED),
        ("StringLike", "${h:name}/*", "a/b", {"h:name": "a"}, HOLDS),
        ("StringLike", "${h:name}", "abc", {"h:name": "*"}, FAILS),
        ("StringLike", "${h:name}", "*", {"h:name": "*"}, HOLDS),
        ("StringLike", "a${*}*", "a*b", {}, HOLDS),
        ("StringLike", "a${*}", "ab", {}, FAILS),
        ("StringLike", "a${?}", "a?", {}, HOLDS),
        ("StringEquals", "${$}{x}", "${x}", {}, HOLDS),
        ("ArnLike", "arn:aws:iam::${h:acc}:role/*", "arn:aws:iam::1:role/a", {"h:acc": "1"}, HOLDS),
        ("ArnLike", "${h:arn}", "arn:aws:iam::1:role/a", {"h:arn": "arn:aws:iam::1:role/a"}, HOLDS),
        ("ArnLike", "${h:arn}", "arn:aws:iam::1:role/a", {"h:arn": "role/a"}, FAILS),
    ],
)
def test_policy_variables(operator: str, value: str, came: str, keys: dict[str, str], expected: str) -> None:
    assert outcome(operator, value, came, others=keys) == expected


def test_a_variable_with_several_values_is_undecided() -> None:
    several = condition("StringEquals", "${h:name,'x'}")
    assert several.evaluate({"h:sub": ("a",), "h:name": ("a", "b")}) == UNDECIDED


def test_variables_exist_in_the_newer_version_only() -> None:
    assert outcome("StringEquals", "${h:name}", "${h:name}", has_variables=False, others={"h:name": "a"}) == HOLDS
    assert outcome("StringEquals", "${h:name}", "a", has_variables=False, others={"h:name": "a"}) == FAILS
    assert outcome("StringEquals", "${", "${", has_variables=False) == HOLDS


@pytest.mark.parametrize("value", ["${", "a${h:sub", "${}", "${name}", "${h: sub}", "${*,'x'}", "${h:a,b}", "${h:$}"])
def test_a_variable_that_is_none_is_refused(value: str) -> None:
    assert "policy variables" in refused({"StringEquals": {"h:sub": value}})


def test_variables_do_not_stand_under_other_operators() -> None:
    refused({"NumericEquals": {"h:n": "${h:n}"}})
    refused({"IpAddress": {"aws:SourceIp": "${h:ip}"}})


# -- what is refused when read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ({"StringMatches": {"h:sub": "a"}}, "'StringMatches'"),
        ({"stringequals": {"h:sub": "a"}}, "not known"),
        ({"BinaryEquals": {"h:sub": "YQ=="}}, "not known"),
        ({"ForSomeValues:StringEquals": {"h:sub": "a"}}, "not known"),
        ({"ForAnyValue:": {"h:sub": "a"}}, "not known"),
        ({":StringEquals": {"h:sub": "a"}}, "not known"),
        ({"ForAnyValue:Null": {"h:sub": "true"}}, "not known"),
        ({"NullIfExists": {"h:sub": "true"}}, "not known"),
        ({"IfExists": {"h:sub": "a"}}, "not known"),
        ({"StringEquals": {}}, "without any key"),
        ({"StringEquals": "a"}, "without any key"),
        ({"StringEquals": {"sub": "a"}}, "'sub'"),
        ({"StringEquals": {"": "a"}}, "''"),
        ({"StringEquals": {"h:": "a"}}, "'h:'"),
        ({"StringEquals": {"h:sub": []}}, "without a value"),
        ({"StringEquals": {"h:sub": None}}, "not a string"),
        ({"StringEquals": {"h:sub": [{"a": 1}]}}, "not a string"),
        ({"Null": {"h:sub": "maybe"}}, "neither true nor false"),
        ({"NumericEquals": {"h:sub": "five"}}, "'five', which is not a number"),
        ({"NumericEquals": {"h:sub": "Infinity"}}, "a number"),
        ({"DateEquals": {"h:sub": "soon"}}, "a date"),
        ({"DateEquals": {"h:sub": "999999999999"}}, "a date"),
        ({"Bool": {"h:sub": "yes"}}, "true or false"),
        ({"IpAddress": {"aws:SourceIp": "everywhere"}}, "a CIDR block"),
        ({"ArnLike": {"aws:SourceArn": "*"}}, "an ARN of six parts"),
    ],
)
def test_what_is_not_known_is_refused(blocks: dict[str, Any], says: str) -> None:
    assert says in refused(blocks)


def test_a_tags_key_may_hold_spaces() -> None:
    spaced = condition("StringEquals", "a", key="aws:RequestTag/cost centre")
    assert spaced.evaluate({"aws:requesttag/cost centre": ("a",)}) == HOLDS


# -- wildcards and words -------------------------------------------------------------------------------------------


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_wildcards_match_as_those_of_the_shell(pattern: str, text: str) -> None:
    expected = re.compile(fnmatch.translate(pattern)).match(text) is not None
    assert (wildcard(pattern).fullmatch(text) is not None) == expected


@given(st.text(max_size=30))
def test_every_text_is_literal_outside_the_two_wildcards(text: str) -> None:
    plain = text.replace("*", "").replace("?", "")
    assert wildcard(plain).fullmatch(plain)
    assert wildcard(f"*{plain}*").fullmatch(f"<{plain}>")


def test_many_wildcards_cost_little() -> None:
    pattern = wildcard("a*" * 200 + "b")
    started = time.perf_counter()
    assert pattern.fullmatch("a" * 5000) is None
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("operator", "value", "came", "says"),
    [
        ("StringEquals", "a", ("b",), "StringEquals h:sub expects 'a', the request has 'b'"),
        ("StringEquals", "a", (), "the request has no such key"),
        ("StringEquals", "ns:*", ("ns:a",), "only StringLike reads * as a wildcard"),
        ("StringLike", "ns:*", ("x",), "StringLike h:sub expects 'ns:*', the request has 'x'"),
        ("StringEquals", "a", ("a", "b"), "write ForAnyValue: or ForAllValues:"),
        ("StringEquals", "${h:x}", ("a",), "is not documented"),
        ("Null", "true", ("a",), "Null h:sub expects 'true', the request has 'a'"),
        ("StringEquals", [str(n) for n in range(9)], ("x",), "'4' or 4 more"),
    ],
)
def test_what_failed_is_said(operator: str, value: Any, came: tuple[str, ...], says: str) -> None:
    text = condition(operator, value).explain({"h:sub": came})
    assert says in text


def test_a_set_operators_words_do_not_ask_for_one() -> None:
    assert "write ForAnyValue" not in condition("ForAllValues:StringEquals", "a").explain({"h:sub": ("a", "b")})
