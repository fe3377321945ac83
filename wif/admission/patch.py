"""JSON Patch (RFC 6902), of which three operations are used, and JSON Pointer (RFC 6901)."""

from __future__ import annotations

__all__ = ["Op", "add", "apply_patch", "encode_ops", "escape", "remove", "replace"]

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from wif.errors import ProtocolError


class Op(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation."""

    op: str
    path: str
    value: Any = msgspec.UNSET


_ENCODE = msgspec.json.Encoder().encode


def add(path: str, value: object) -> Op:
    """Put a member, or an entry before this index; ``-`` is the end."""
    return Op("add", path, value)


def replace(path: str, value: object) -> Op:
    """Put in place of what is there."""
    return Op("replace", path, value)


def remove(path: str) -> Op:
    """Take away."""
    return Op("remove", path)


def escape(key: str) -> str:
    """One member's name as part of a pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def encode_ops(ops: Sequence[Op]) -> bytes:
    """The operations as JSON, comma between them, without the brackets of the array."""
    return _ENCODE(ops)[1:-1]


def apply_patch(document: object, ops: Iterable[Op] | bytes) -> Any:
    """The document after the operations; the one given stays as it is. ``ops`` may be the JSON array.

    Raises:
        ProtocolError: review-invalid: an operation is none of the three, or its path leads nowhere.
    """
    if isinstance(ops, bytes):
        ops = msgspec.json.decode(ops, type=list[Op])
    holder = {"": copy.deepcopy(document)}
    for op in ops:
        _apply(holder, op)
    return holder[""]


def _apply(holder: dict[str, Any], op: Op) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in ("" + op.path).split("/")]
    place: Any = holder
    for part in parents:
        place = _step(place, part, op)
    if op.op == "add" and isinstance(place, list):
        place.insert(len(place) if last == "-" else _index(place, last, op, len(place)), copy.deepcopy(op.value))
    elif op.op == "add" and isinstance(place, dict):
        place[last] = copy.deepcopy(op.value)
    elif op.op in {"replace", "remove"}:
        _step(place, last, op)
        key = _index(place, last, op, len(place) - 1) if isinstance(place, list) else last
        if op.op == "remove":
            del place[key]
        else:
            place[key] = copy.deepcopy(op.value)
    else:
        raise _nowhere(op)


def _step(place: Any, part: str, op: Op) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, op, len(place) - 1)]
    if isinstance(place, dict) and part in place:
        return place[part]
    raise _nowhere(op)


def _index(place: list[Any], part: str, op: Op, last: int) -> int:  # noqa: ARG001
    if part.isascii() and part.isdigit() and (part == "0" or part[0] != "0") and int(part) <= last:
        return int(part)
    raise _nowhere(op)


def _nowhere(op: Op) -> ProtocolError:
    return ProtocolError(f"cannot {op.op[:20]} at {op.path[:200]!r} of this document", code="review-invalid")
