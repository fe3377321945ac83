"""Whether what stands in a pod is what would be put there.

Between two calls the API server decodes the pod, fills in its defaults and leaves out what is empty. So two values are
compared without both.
"""

from __future__ import annotations

__all__ = ["bare", "covers", "is_same", "serves_as"]

from collections.abc import Iterator, Mapping
from typing import Any

DEFAULTS: Mapping[str, tuple[object, ...]] = {
    "defaultMode": (420,),
    "apiVersion": ("v1",),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "imagePullPolicy": ("Always", "IfNotPresent"),
    "protocol": ("TCP",),
}
"""Members that the API server adds, with the values that it gives them."""


def bare(value: Any) -> Any:
    """A JSON value without empty members and without the API server's defaults."""
    if isinstance(value, Mapping):
        rows = ((key, bare(member)) for key, member in value.items() if member not in DEFAULTS.get(key, ()))
        return {key: member for key, member in rows if not _is_empty(member)}
    if isinstance(value, list | tuple):
        return [bare(entry) for entry in value]
    return value


def _is_empty(value: object) -> bool:
    return value is None or value is False or value in ("", {}, [])


def is_same(found: Any, ours: Any) -> bool:
    """Whether the whole content is equal."""
    return bool(found == ours or bare(found) == bare(ours))


def covers(found: Any, ours: Any) -> bool:
    """Whether all of ours is there; members, and entries of lists of objects, that others have added are allowed."""
    if isinstance(ours, Mapping):
        there = found if isinstance(found, Mapping) else {}
        return all(_covers_member(there.get(key), member, DEFAULTS.get(key, ())) for key, member in ours.items())
    if isinstance(ours, list | tuple) and all(isinstance(entry, Mapping) for entry in ours):
        entries = found if isinstance(found, list) else []
        return all(any(covers(entry, own) for entry in entries) for own in ours)
    return is_same(found, ours)


def _covers_member(found: Any, ours: Any, defaults: tuple[object, ...]) -> bool:
    if _is_empty(bare(ours)):  # what is left empty is said, too: allowPrivilegeEscalation: false
        return _is_empty(bare(found))
    return covers(found, ours) or (found is None and ours in defaults)


def serves_as(found: Any, ours: Any) -> bool:
    """Whether a volume gives all the files of ours: each token of the same audience at the same path, and the rest.

    Lifetimes and modes may differ. This is what another webhook for the same cloud has injected.
    """
    wanted = list(_files(ours))
    given = list(_files(found))
    return bool(wanted) and all(file in given for file in wanted)


def _files(volume: Any) -> Iterator[tuple[str, Any]]:
    projected = volume.get("projected") if isinstance(volume, dict) else None
    sources = projected.get("sources") if isinstance(projected, dict) else None
    for source in sources if isinstance(sources, list | tuple) else ():
        for kind, content in source.items() if isinstance(source, dict) else ():
            members = bare(content) if isinstance(content, dict) else content
            if kind == "serviceAccountToken" and isinstance(members, dict):
                members.pop("expirationSeconds", None)
            items = members.pop("items", None) if isinstance(members, dict) else None
            if isinstance(items, list):
                for item in items:
                    yield kind, (members, item)
            else:
                yield kind, members
