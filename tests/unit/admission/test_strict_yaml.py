"""YAML of a ConfigMap: what could hide something or grow is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.admission.strict_yaml import load_yaml
from wif.errors import ConfigurationError


def refused(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_yaml(text, "the file")
    assert caught.value.code == "config-invalid"
    assert caught.value.hint
    assert caught.value.message.startswith("the file cannot be read: ")
    return caught.value.message


def test_plain_documents_are_read() -> None:
    assert load_yaml("a: {b: [1, x]}\nc: '2'", "the file") == {"a": {"b": [1, "x"]}, "c": "2"}
    assert load_yaml("", "the file") is None
    assert load_yaml("[[[[[[[[[[1]]]]]]]]]]", "the file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", "it has an alias; write out what it stands for in line 2"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "it has an alias; write out what it stands for in line 3"),
        ("a: 1\nb: 2\na: 3", "the name 'a' is there twice in line 3"),
        ("a: {b: 1, b: 1}", "the name 'b' is there twice in line 1"),
        ("x: 1\na: " + "[" * 500, "it is nested more than 20 deep in line 2"),
        ("- " * 22 + "x", "it is nested more than 20 deep"),
        ("a: [", "in line 1"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: 1\n---\nb: 1", "but found another document in line 2"),
        ("? [a]\n: b", "a name is not a text in line 1"),
        ("? {a: b}\n: b", "a name is not a text in line 1"),
        ("a: 2001-13-45", "month must be in 1..12"),
        ('a: "\\udc00"', "it has half a surrogate pair in line 1"),
        ("a: \x00", "special characters are not allowed"),
        ("a: !!set {b, b}", "the name 'b' is there twice"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, message: str) -> None:
    said = refused(text)
    assert message in said
    assert len(said) < 300


@given(st.text(alphabet="ab:-{}[]&*!|>'\"\n #?,0.~<=", max_size=60))
def test_no_text_crashes(text: str) -> None:
    try:
        load_yaml(text, "the file")
    except ConfigurationError as error:
        assert error.code == "config-invalid"  # noqa: PT017 - most texts are refused, some are not
