"""JSON of strangers: one meaning or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.core.documents import parse_json, private_members

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_what_json_writes_is_read(value: Any, ensure_ascii: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ensure_ascii).encode()) == value


@given(st.binary(max_size=60))
def test_noise_is_a_value_error_or_json(noise: bytes) -> None:
    try:
        value = parse_json(noise)
    except ValueError:
        return
    assert value == json.loads(noise)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'[{"a":{"b":1,"b":2}}]',
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b"-1e999",
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"",
        b"{} {}",
        b"{'a':1}",
        b"[1,]",
        '"\\ud800"'.encode("utf-16"),
        b"9" * 5000,
        b"[" * 500_000,
    ],
)
def test_what_two_programs_may_read_differently_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (every reason is one)
        parse_json(text)
    assert len(str(caught.value)) < 200


def test_private_members_are_named() -> None:
    assert private_members({"kty": "RSA", "q": "", "d": ""}) == ("d", "q")
    assert private_members({"kty": "EC", "x": "", "y": ""}) == ()
