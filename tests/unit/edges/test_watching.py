"""The lines of a stream, however it is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.edges.watching import TooLarge, lines


@given(st.lists(st.binary(max_size=20)))
def test_lines_do_not_depend_on_where_the_stream_is_cut(chunks: list[bytes]) -> None:
    whole = b"".join(chunks).split(b"\n")[:-1]
    assert [bytes(line) for line in lines(chunks, 10_000)] == [line for line in whole if line]


def test_a_line_without_end_is_refused() -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(10_000):
            yield b"x" * 1000

    with pytest.raises(TooLarge):
        list(lines(chunks(), 50_000))


def test_what_follows_the_last_line_break_is_no_line() -> None:
    assert list(lines([b'{"a":1}\n{"b"', b":2}"], 100)) == [b'{"a":1}']
