"""Reads a mapping into a struct member by member, so that everything that is wrong in it is found at once."""

from __future__ import annotations

__all__ = ["Problems", "shown"]

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

Reader = Callable[[object, str], Any]
"""Reads the value of one member at a place; what it finds wrong it adds to the problems, and returns None."""

_MAX_SHOWN = 50
"""Problems in one message: who has more has another kind of file."""


class Problems:
    """What is wrong so far: sentences that begin with the place.

    Args:
        words: what a pattern asks for, in words; a regular expression helps nobody.
    """

    __slots__ = ("_words", "found")

    def __init__(self, words: Mapping[str, str]) -> None:
        self.found: list[str] = []
        self._words = words

    def add(self, place: str, what: str) -> None:
        """Note one."""
        self.found.append(f"{place} {what}" if place else what)

    def __str__(self) -> str:
        """One line, numbered where there are several."""
        if len(self.found) == 1:
            return self.found[0]
        head, *each = self.lines()
        return f"{head} {'; '.join(each)}"

    def lines(self) -> tuple[str, ...]:
        """The same as a list: how many, then each with its number; empty where there is one, or none."""
        if len(self.found) < 2:
            return ()
        some = [f"({number}) {each}" for number, each in enumerate(self.found[:_MAX_SHOWN], 1)]
        more = len(self.found) - len(some)
        return (f"{len(self.found)} things are wrong:", *some, *([f"and {more} more"] if more else []))

    def names(self, values: object, place: str) -> Mapping[str, object] | None:
        """The value where it is a mapping of names."""
        if isinstance(values, dict) and all(isinstance(name, str) for name in values):
            return values
        self.add(place, f"is {shown(values)}, expected a mapping of names")
        return None

    def members(
        self, kind: type[S], values: object, place: str, readers: Mapping[str, Reader] | None = None
    ) -> dict[str, Any] | None:
        """What the members hold that are right; None where the value is no mapping.

        Args:
            readers: for members that are read in parts themselves.
        """
        given = self.names(values, place)
        if given is None:
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name in given:
            if name not in fields:
                self.add(_below(place, shown(name)[1:-1]), "is not known")
        right: dict[str, Any] = {}
        for name, field in fields.items():
            where = _below(place, name)
            if name in given:
                reader = (readers or {}).get(name)
                value = self.value(field.type, given[name], where) if reader is None else reader(given[name], where)
                if value is not None:
                    right[name] = value
            elif field.required:
                self.add(where, "is missing")
        return right

    def struct(
        self, kind: type[S], values: object, place: str, readers: Mapping[str, Reader] | None = None
    ) -> S | None:
        """The struct, or None where anything in it is wrong."""
        before = len(self.found)
        right = self.members(kind, values, place, readers)
        return kind(**right) if right is not None and len(self.found) == before else None

    def value(self, kind: Any, value: object, place: str) -> Any:
        """A value of a type that is read as a whole; None where it is wrong, and where it is None."""
        try:
            read = msgspec.convert(value, kind, strict=True)
            msgspec.json.encode(read)
        except msgspec.ValidationError as error:
            what, _, path = str(error).partition(" - at `")
            if path and isinstance(value, list | tuple):  # it ends at the first item that is wrong
                for position, item in enumerate(value):
                    self.value(_item(kind), item, f"{place}[{position}]")
            else:
                self.add(place, f"is wrong: {self._in_words(what, kind)}")
        except UnicodeEncodeError:
            self.add(place, "has half a surrogate pair in it")
        else:
            return read
        return None

    def _in_words(self, what: str, kind: Any) -> str:
        pattern = re.search(r"""matching regex (['"])(.*)\1$""", what, re.DOTALL)
        if pattern:
            text = pattern[2].replace("\\\\", "\\")
            return f"expected {self._words.get(text, f'a text of the form {text}')}"
        if what.startswith("Invalid enum value"):
            return f"expected {' or '.join(str(each) for each in _choices(kind))}"
        for name, word in _KINDS.items():
            what = what.replace(f"`{name}`", word)
        return what[:1].lower() + what[1:256]


_KINDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def _choices(kind: Any) -> tuple[object, ...]:
    """The values of the first Literal in a type."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return next((found for part in get_args(kind) if (found := _choices(part))), ())


def _item(kind: Any) -> Any:
    """The type of the items of ``tuple[X, ...]``, also within Annotated."""
    first = get_args(kind)[0]
    return first if get_origin(kind) is tuple else _item(first)


def shown(value: object) -> str:
    """A value for a message: short texts and numbers as they are, of anything else its kind."""
    if isinstance(value, str):
        return ascii(value[:64])
    if value is None:
        return "null"
    if isinstance(value, bool | int | float) and abs(value) < 1e12:
        return repr(value)
    return "a mapping" if isinstance(value, dict) else f"of the type {type(value).__name__}"


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
