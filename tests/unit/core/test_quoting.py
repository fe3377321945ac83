"""A value comes back out of shell, HCL and INI text as it went in, or is refused."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.core.quoting import env_file, hcl_block, hcl_string, ini_value, shell_exports, shell_word
from wif.errors import ConfigurationError

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(TEXT)
def test_a_shell_word_is_one_word_with_the_same_value(value: str) -> None:
    assert shlex.split(shell_word(value)) == [value]


@pytest.mark.parametrize("value", ["$(touch x)", "`id`", "a b", "'", "\\", "\n", "", "!x", "~", "*"])
def test_nothing_in_a_shell_word_is_run(value: str) -> None:
    assert shell_word(value).startswith(("'", '"'))


def test_a_nul_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        shell_word("a\0b")


def test_exports_first_drop_what_would_win() -> None:
    assert shell_exports({"B": "2", "A": "a b"}, unset=["C", "A", "D"]) == "unset C D\nexport B=2\nexport A='a b'\n"
    assert shell_exports({}) == ""


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A;id"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        shell_exports({name: "x"})


def test_an_environment_file_means_the_same_to_every_reader() -> None:
    assert env_file({"A": "https://x/", "B": "a=b"}) == "A=https://x/\nB=a=b\n"
    for value in ("a b", "'a'", "$HOME", "a\nb", ""):
        with pytest.raises(ConfigurationError):
            env_file({"A": value})


@given(st.text(st.sampled_from('$%{}"\\ab\n')) | TEXT)
def test_an_hcl_string_is_the_same_value_to_its_reader(value: str) -> None:
    text = hcl_string(value)
    bare = text.replace("$${", "|").replace("%%{", "|")
    assert "${" not in bare
    assert "%{" not in bare
    assert json.loads(text.replace("$${", "${").replace("%%{", "%{")) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('a"b', r'"a\"b"'),
        ("${file}", '"$${file}"'),
        ("%{if}", '"%%{if}"'),
        ("a\\b\n", r'"a\\b\u000a"'),
        ("é", '"é"'),
        ("\b", r'"\u0008"'),
        ("😀", '"😀"'),
    ],
)
def test_hcl_strings(value: str, text: str) -> None:
    assert hcl_string(value) == text


def test_a_block_is_formatted() -> None:
    assert hcl_block("x", [{"a": "1", "long": True, "none": None}, {"gone": None}, "y {\n\n  b = 2\n}\n"]) == (
        'x {\n  a    = "1"\n  long = true\n\n  y {\n\n    b = 2\n  }\n}\n'
    )


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "a\rb", "a #b", "a ;b", "#a", ";a", "a\tb", "a\u2028b"])
def test_an_ini_value_that_readers_disagree_about_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError):
        ini_value("x", value)


def test_other_ini_values_are_written_as_they_are() -> None:
    assert ini_value("x", "/a b/c#d=%(x)s") == "/a b/c#d=%(x)s"
