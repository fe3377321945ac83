"""No value of a setting ends the literal that it stands in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.admission.cel_text import literal, string_list
from wif.errors import ConfigurationError

_ESCAPE = re.compile(r"\\(u[0-9a-f]{4}|U[0-9a-f]{8}|['\\])|([^\\'])", re.ASCII)


def decoded(text: str) -> str:
    """What CEL reads, by its grammar: a quoted string of plain letters and escapes."""
    assert text[0] == text[-1] == "'"
    position, out = 1, []
    while position < len(text) - 1:
        found = _ESCAPE.match(text, position)
        assert found is not None, text[position:]
        escape, plain = found.groups()
        out.append(plain or (escape if escape in "'\\" else chr(int(escape[1:], 16))))
        position = found.end()
    return "".join(out)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_literal_has_exactly_its_value(text: str) -> None:
    encoded = literal(text)
    assert decoded(encoded) == text
    assert encoded.isascii()
    assert encoded.isprintable()


@pytest.mark.parametrize("text", ["' || true || '", "\\' || true", "\n- x: y", "\u2028", "${{ x }}", "*/", "\\", "'"])
def test_hostile_values_stay_inside(text: str) -> None:
    assert decoded(literal(text)) == text


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"U\+D800"):
        literal("\ud800")


def test_a_list() -> None:
    assert string_list(("a", "b'")) == r"['a', 'b\'']"
    assert string_list(()) == "[]"
