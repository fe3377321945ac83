"""Google's CEL: only a true boolean allows, and every error refuses, because the library gives errors as values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.errors import ConfigurationError
from wif.trust import cel
from wif.trust.cel import CelError, bind, compile_condition, compile_mapping, extract

CLAIMS: dict[str, Any] = {
    "sub": "system:serviceaccount:ns:app",
    "aud": ["a", "b"],
    "n": 5,
    "nothing": None,
    "mixed": ["a", 1],
    "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "app"}},
    "many": list(range(200)),
    "odd": 2**70,
}
SAFE = {name: value for name, value in CLAIMS.items() if name != "odd"}
MAPPED: dict[str, dict[str, Any]] = {"google": {"subject": "x", "groups": ["g"]}, "attribute": {"ns": "ns"}}


def holds(source: str, claims: Any = None, mapped: Any = None) -> bool:
    return compile_condition(source).boolean(
        bind(SAFE if claims is None else claims, MAPPED if mapped is None else mapped)
    )


@pytest.mark.parametrize(
    "source",
    [
        "true",
        "google.subject == 'x'",
        "'g' in google.groups",
        "attribute.ns == assertion['kubernetes.io'].namespace",
        "assertion['kubernetes.io']['namespace'] in ['ns', 'other']",
        "has(assertion.sub) && 'sub' in assertion",
        "!has(assertion.missing)",
        "assertion.sub.startsWith('system:') && assertion.sub.endsWith(':app') && assertion.sub.contains(':ns:')",
        "assertion.sub.matches('^system:serviceaccount:[a-z]+:app$')",
        "assertion.sub.split(':')[2] == 'ns'",
        "assertion.sub.extract('serviceaccount:{ns}:') == 'ns'",
        "assertion.aud.exists(a, a == 'b') && assertion.aud.all(a, size(a) == 1)",
        "int('5') == assertion.n && string(assertion.n) == '5'",
        "assertion.n == 5 ? true : false",
        "assertion.sub.lowerAscii() == assertion.sub",
        "assertion.missing == 'x' || true",
    ],
)
def test_a_condition_that_is_true(source: str) -> None:
    assert holds(source) is True


@pytest.mark.parametrize("source", ["false", "1 == 2", "google.subject == 'y'", "assertion.missing == 'x' && false"])
def test_a_condition_that_is_false(source: str) -> None:
    assert holds(source) is False


@pytest.mark.parametrize(
    "source",
    [
        "assertion.missing == 'x'",
        "assertion.missing",
        "assertion.sub.foo",
        "has(assertion.sub.foo)",
        "assertion.n + 'x' == ''",
        "1/0 == 1",
        "assertion.aud[5] == 'x'",
        "assertion.sub.matches('(')",
        "assertion.sub",
        "assertion.n",
        "assertion.nothing",
        "assertion.aud",
        "google.subjct == 'x'",
        "attribute.other == 'x'",
        "assertion.sub.extract('nothing') == ''",
        "assertion.many.all(a, assertion.many.all(b, true))",
    ],
)
def test_whatever_is_neither_true_nor_false_refuses(source: str) -> None:
    with pytest.raises(CelError):
        holds(source)


@pytest.mark.parametrize(
    "claims", [CLAIMS, {1: 2}, ["x"], {"a": object()}, {"sub": "\ud800"}, None, {"sub": ("a", "b")}]
)
def test_claims_that_cel_cannot_hold_refuse(claims: Any) -> None:
    program = compile_condition("assertion.sub != ''")
    with pytest.raises(CelError):
        program.boolean(bind(claims, MAPPED))


def test_variables_that_are_not_there_refuse() -> None:
    with pytest.raises(CelError):
        compile_condition("google.subject == 'x'").boolean(bind(SAFE))


def test_an_attribute_that_is_no_string_refuses() -> None:
    with pytest.raises(CelError):
        holds("attribute.n == '1'", mapped={"google": {}, "attribute": {"n": 1}})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("assertion.sub ==", "does not compile"),
        ("undeclared == 1", "undeclared"),
        ("'a' == 1", "does not compile"),
        ("has(assertion['sub'])", "has()"),
        ("'text'", "yields STRING"),
        ("1 + 1", "yields INT"),
        ("+".join("1" * 100), "does not compile"),
    ],
)
def test_a_condition_that_cannot_be_one_is_refused_before_any_token(source: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compile_condition(source)
    assert caught.value.code == "trust-invalid"
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_a_mapping_sees_the_token_only() -> None:
    for source in ("google.subject", "attribute.ns"):
        with pytest.raises(ConfigurationError):
            compile_mapping(source)


def test_strings_and_lists_of_strings() -> None:
    bindings = bind(SAFE)
    assert compile_mapping("'ns/' + assertion['kubernetes.io'].namespace").string(bindings) == "ns/ns"
    assert compile_mapping("assertion.aud").strings(bindings) == ("a", "b")
    assert compile_mapping("assertion.aud.map(a, a + '!')").strings(bindings) == ("a!", "b!")
    assert compile_mapping("assertion.aud.filter(a, a == 'z')").strings(bindings) == ()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("assertion.missing", "condition-denied"),
        ("assertion.n", "subject-invalid"),
        ("assertion.nothing", "subject-invalid"),
        ("assertion.mixed", "subject-invalid"),
        ("assertion['kubernetes.io']", "subject-invalid"),
        ("true", "subject-invalid"),
    ],
)
def test_an_error_never_becomes_a_text(source: str, code: str) -> None:
    program = compile_mapping(source)
    for read in (program.string, program.strings):
        with pytest.raises(CelError) as caught:
            read(bind(SAFE))
        assert caught.value.code == code


def test_one_binding_serves_many_programs_and_one_program_many_tokens() -> None:
    program = compile_mapping("assertion.sub")
    assert compile_mapping("assertion.sub") is program
    assert [program.string(bind({"sub": name})) for name in ("a", "b", "a")] == ["a", "b", "a"]


# -- extract -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "template", "expected"),
    [
        ("arn:aws:sts::1:assumed-role/app/session", "{account_arn}assumed-role/", "arn:aws:sts::1:"),
        ("arn:aws:sts::1:assumed-role/app/session", "assumed-role/{role_name}/", "app"),
        ("a/b/c", "a/{rest}", "b/c"),
        ("a/b/c", "{all}", "a/b/c"),
        ("a/b/c", "x/{rest}", ""),
        ("a/b/c", "a/{rest}x", ""),
        ("a/b/a/c", "a/{rest}/", "b"),
        ("", "{x}", ""),
    ],
)
def test_extract_takes_what_stands_between(value: str, template: str, expected: str) -> None:
    assert extract(value, template) == expected
    assert compile_mapping(f"assertion.v.extract('{template}')").string(bind({"v": value})) == expected


@pytest.mark.parametrize("template", ["", "abc", "a{b", "a}b"])
def test_extract_needs_a_placeholder(template: str) -> None:
    with pytest.raises(ValueError, match="placeholder"):
        extract("a", template)


@given(st.text("ab/", max_size=6), st.text("ab/", max_size=6), st.text("ab/", max_size=6))
def test_extract_finds_what_was_put_in(before: str, middle: str, after: str) -> None:
    found = extract(before + middle + after, before + "{x}" + after)
    assert middle.startswith(found)
    assert (before + found + after) in (before + middle + after)


# -- the extra -----------------------------------------------------------------------------------------------------


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interpreter as it is where the extra is not installed."""
    for cached in (cel._dialect, cel._compile):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    yield
    for cached in (cel._dialect, cel._compile):
        cached.cache_clear()


@pytest.mark.usefixtures("without_extra")
@pytest.mark.parametrize(
    "call", [lambda: compile_condition("true"), lambda: compile_mapping("assertion.sub"), lambda: bind({})]
)
def test_without_the_extra_the_message_names_it(call: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert caught.value.code == "extra-missing"
    assert "pip install 'wif[cel]'" in str(caught.value)
