"""Reading a cloud's JSON document: each member is checked, an unknown one is reported, a message names the object."""

from __future__ import annotations

__all__ = ["Document", "listed", "strings"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from wif.errors import ConfigurationError

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One JSON object of a cloud's API. Every reader raises ``trust-invalid`` where the member is not as it must be.

    Args:
        cloud: aws, gcp or azure.
        name: what messages call the object, e.g. ``role 'arn:…'``.
        members: the parsed object.
    """

    cloud: str
    name: str
    members: Mapping[str, Any] = field(repr=False)

    @classmethod
    def named_by(cls, cloud: str, kind: str, members: Mapping[str, Any], member: str) -> Document:
        """The document that one of its own members names."""
        value = members.get(member)
        shown = f"{kind} {value[:128]!r}" if isinstance(value, str) else f"{kind} without a {member}"
        return cls(cloud=cloud, name=shown, members=members)

    def part(self, members: Mapping[str, Any]) -> Document:
        """An object inside this one; messages name the outer."""
        return Document(cloud=self.cloud, name=self.name, members=members)

    def known(self, names: Iterable[str], *, prefix: str | None = None) -> None:
        """Report any other member; those that begin with ``prefix`` are annotations and are left alone."""
        unknown = sorted(set(self.members).difference(names))
        for name in unknown:
            if prefix is None or not name.startswith(prefix):
                self.refuse(f"has the unknown member {name[:64]!r}")

    def text(self, name: str, *, at_most: int | None = None) -> str:
        """A string that is there and not empty."""
        value = self.optional(name, at_most=at_most)
        if not value:
            self.refuse(f"has no {name}")
        return value

    def optional(self, name: str, *, at_most: int | None = None) -> str:
        """A string; empty where it is not there."""
        value = self.members.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.refuse(f"has {name} that is not a string")
        if at_most is not None and len(value) > at_most:
            self.refuse(f"has {name} of {len(value)} characters, at most {at_most} are allowed")
        return value

    def flag(self, name: str) -> bool:
        """true or false; false where it is not there."""
        value = self.members.get(name, False)
        if not isinstance(value, bool):
            self.refuse(f"has {name} that is neither true nor false")
        return value

    def texts(self, name: str, *, at_most: int | None = None, characters: int | None = None) -> tuple[str, ...]:
        """A list of strings that are not empty; empty where it is not there."""
        values = self._list(name, at_most)
        for value in values:
            if not isinstance(value, str) or not value:
                self.refuse(f"has {name} with an entry that is not a string, or an empty one")
            if characters is not None and len(value) > characters:
                self.refuse(f"has {name} with an entry of {len(value)} characters, at most {characters} are allowed")
        return tuple(values)

    def objects(self, name: str, *, at_most: int | None = None) -> tuple[Mapping[str, Any], ...]:
        """A list of objects; empty where it is not there."""
        values = self._list(name, at_most)
        for value in values:
            if not isinstance(value, dict):
                self.refuse(f"has {name} with an entry that is not an object")
        return tuple(values)

    def object(self, name: str) -> Mapping[str, Any] | None:
        """An object; None where it is not there."""
        value = self.members.get(name)
        if value is not None and not isinstance(value, dict):
            self.refuse(f"has {name} that is not an object")
        return value

    def unique(self, values: Iterable[str], what: str) -> None:
        """Report a value that comes twice."""
        seen: set[str] = set()
        for value in values:
            if value in seen:
                self.refuse(f"has two {what} {value!r}")
            seen.add(value)

    def refuse(self, what: str, hint: str | None = None) -> NoReturn:
        """Raise trust-invalid: ``the <name> <what>``."""
        raise ConfigurationError(f"the {self.name} {what}", code="trust-invalid", hint=hint, cloud=self.cloud)

    def _list(self, name: str, at_most: int | None) -> list[Any]:
        values = self.members.get(name)
        if values is None:
            return []
        if not isinstance(values, list):
            self.refuse(f"has {name} that is not a list")
        if at_most is not None and len(values) > at_most:
            self.refuse(f"has {len(values)} {name}, at most {at_most} are allowed")
        return values


def strings(value: object) -> tuple[str, ...]:
    """A string, or a list of strings, as a tuple; empty for anything else."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return ()


def listed(values: Sequence[str]) -> str:
    """Some values for a message; ``nothing`` for none."""
    more = f" or {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return " or ".join(repr(value) for value in values[:_SHOWN]) + more if values else "nothing"
