"""Reading AWS' XML answers without trusting them."""

from __future__ import annotations

__all__ = ["leaves"]

from collections.abc import Mapping
from typing import NoReturn

_MAX_DEPTH = 16
"""Elements inside each other; STS' documents have five."""


class _Refused(Exception):
    """Something in a document that no answer of AWS has."""


def leaves(body: bytes) -> Mapping[str, str] | None:
    """Every element's own text by its path of local names; None where the bytes are no such document.

    expat by hand: no tree, so nothing deep or wide costs memory, and a document type, which could define
    entities, ends the reading at once.
    """
    from xml.parsers import expat  # noqa: PLC0415  # 1 ms, wanted by AWS alone

    path: list[str] = []
    found: dict[str, str] = {}

    def start(name: str, _attributes: object) -> None:
        path.append(name.rpartition(" ")[2])
        if len(path) > _MAX_DEPTH:
            raise _Refused

    def end(_name: str) -> None:
        path.pop()

    def text(data: str) -> None:
        key = "/".join(path)
        found[key] = found.get(key, "") + data

    def refuse(*_: object) -> NoReturn:
        raise _Refused

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, _Refused, ValueError, LookupError):
        return None
    return {key: value.strip() for key, value in found.items()}
