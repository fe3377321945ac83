"""JSON Patch: what is written, and applying it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.admission.patch import Op, add, apply_patch, encode_ops, escape, remove, replace
from wif.errors import ProtocolError

DOCUMENT = {"a": [1, 2, 3], "b": {"c/d": 1, "e~f": 2}}


@pytest.mark.parametrize(
    ("ops", "done"),
    [
        ([add("/a/-", 4)], {"a": [1, 2, 3, 4], "b": {"c/d": 1, "e~f": 2}}),
        ([add("/a/0", 0)], {"a": [0, 1, 2, 3], "b": {"c/d": 1, "e~f": 2}}),
        ([add("/a/3", 4)], {"a": [1, 2, 3, 4], "b": {"c/d": 1, "e~f": 2}}),
        ([remove("/b"), add("/x", {"y": []}), add("/x/y/-", 1)], {"a": [1, 2, 3], "x": {"y": [1]}}),
        ([replace("/a/1", "two")], {"a": [1, "two", 3], "b": {"c/d": 1, "e~f": 2}}),
        ([remove("/a/2"), remove("/a/0")], {"a": [2], "b": {"c/d": 1, "e~f": 2}}),
        ([remove("/b/c~1d"), replace("/b/e~0f", None)], {"a": [1, 2, 3], "b": {"e~f": None}}),
        ([add("/b/c~1d", 9), remove("/a")], {"b": {"c/d": 9, "e~f": 2}}),
        ([add("", [1])], [1]),
        ([replace("", {"n": 1})], {"n": 1}),
        ([], DOCUMENT),
    ],
)
def test_operations_are_applied_in_order(ops: list[Op], done: Any) -> None:
    assert apply_patch(DOCUMENT, ops) == apply_patch(DOCUMENT, msgspec.json.encode(ops)) == done


@pytest.mark.parametrize(
    "ops",
    [
        [add("/a/5", 1)],
        [add("/a/01", 1)],
        [add("/a/x", 1)],
        [add("/a/¹", 1)],
        [add("/n/x", 1)],
        [add("/a/0/x", 1)],
        [replace("/x", 1)],
        [replace("/a/3", 1)],
        [replace("/a/-", 1)],
        [remove("/a/3")],
        [remove("/b/nothing")],
        [Op("move", "/a")],
        [Op("test", "/a", 1)],
    ],
)
def test_a_path_that_leads_nowhere_is_refused(ops: list[Op]) -> None:
    with pytest.raises(ProtocolError, match="cannot"):
        apply_patch(DOCUMENT, ops)


def test_the_document_given_stays_as_it_is() -> None:
    before = msgspec.json.encode(DOCUMENT)
    value: dict[str, Any] = {"x": 1}
    done = apply_patch(DOCUMENT, [add("/new", value), remove("/a/0")])
    value["x"] = 2
    assert done["new"] == {"x": 1}
    assert msgspec.json.encode(DOCUMENT) == before


@given(st.text())
def test_any_name_can_be_a_part_of_a_path(name: str) -> None:
    assert apply_patch({}, [add(f"/{escape(name)}", 1)]) == {name: 1}


def test_operations_are_written_without_brackets() -> None:
    assert encode_ops([]) == b""
    assert (
        encode_ops([add("/a", None), remove("/b")])
        == b'{"op":"add","path":"/a","value":null},{"op":"remove","path":"/b"}'
    )
