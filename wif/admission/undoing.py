"""What an earlier call injected for another ServiceAccount, taken away again.

Another webhook may change ``spec.serviceAccountName`` between two calls. Then everything whose whole content equals
what is injected for the recorded ServiceAccount is removed, and nothing else: the record is a hint that anybody can
write. A container is ours as :func:`~wif.admission.init_containers.is_ours` says; one that is not stays with all that
it needs.
"""

from __future__ import annotations

__all__ = ["undo"]

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from wif.admission.containers import is_for, mount_entry, variable_entry
from wif.admission.documents import PodDocument
from wif.admission.init_containers import is_ours as is_our_container
from wif.admission.injection import POD_SECRET, Part
from wif.admission.patch import Op, escape, remove
from wif.admission.pod_secret import kept_secret
from wif.admission.readings import Plan
from wif.admission.record import Record
from wif.admission.sameness import is_same
from wif.admission.volumes import hash_in_use, is_ours, resolved

LISTS = ("containers", "initContainers")


def undo(plan: Plan, document: PodDocument, record: Record, record_key: str) -> list[Op]:
    """The operations that take away what the plan, the recorded ServiceAccount's, put into the pod."""
    hashed = hash_in_use(plan, document)
    there = document.volumes()
    secret = (kept_secret(plan, document) if plan.has_secret else None) or POD_SECRET
    parts = [part.of_pod(hashed, secret) for part in plan.parts if not _is_foreign(part, there, hashed)]
    equal = {
        volume["name"]
        for part in parts
        for volume in (resolved(each, hashed) for each in part.volumes)
        if volume["name"] in there and is_same(there[volume["name"]][1], volume)
    }
    spec = document.value["spec"]
    own = _own_containers(parts, spec)
    ops: list[Op] = []
    still: set[str] = set()
    for member in (*LISTS, "ephemeralContainers"):
        for index, container in enumerate(spec.get(member) or ()):
            if member == "initContainers" and index in own:
                continue
            name = str(container.get("name", ""))
            is_touched = member in LISTS and name not in plan.init_names
            for_it = [part for part in parts if is_touched and is_for(part, name)]
            ops += _container_ops(f"/spec/{member}/{index}", container, for_it, equal)
            still |= _names_mounted(container, _mounts(for_it, equal))
    ops += _list_ops("/spec/initContainers", spec.get("initContainers") or (), own)
    gone = equal - still
    ops += _list_ops("/spec/volumes", spec.get("volumes") or (), {there[name][0] for name in gone})
    read = set(there) - gone
    written = [part for part in parts if read.isdisjoint(resolved(each, hashed)["name"] for each in part.volumes)]
    return ops + _metadata_ops(document, written, record, record_key)


def _is_foreign(part: Part, there: Mapping[str, tuple[int, Mapping[str, Any]]], hashed: str) -> bool:
    """Whether the pod has a volume of its own under a name of the part, which then was never injected."""
    volumes = [resolved(volume, hashed) for volume in part.volumes]
    return any(volume["name"] in there and not is_ours(there[volume["name"]][1], volume) for volume in volumes)


def _own_containers(parts: Sequence[Part], spec: Mapping[str, Any]) -> set[int]:
    ours = {own.name: own for part in parts for own in part.init_containers}
    found = enumerate(spec.get("initContainers") or ())
    return {index for index, each in found if each.get("name") in ours and is_our_container(each, ours[each["name"]])}


def _names_mounted(container: Mapping[str, Any], ours: Collection[Mapping[str, Any]]) -> set[str]:
    """Volumes that a container mounts otherwise than we did: without them the pod would be refused."""
    mounts = container.get("volumeMounts") or ()
    return {str(mount.get("name", "")) for mount in mounts if not any(is_same(mount, entry) for entry in ours)}


def _mounts(parts: Sequence[Part], equal: Collection[str]) -> list[dict[str, Any]]:
    entries = [mount_entry(mount) for part in parts for mount in part.mounts]
    return [entry for entry in entries if entry["name"] in equal]


def _container_ops(
    path: str, container: Mapping[str, Any], parts: Sequence[Part], equal: Collection[str]
) -> Iterator[Op]:
    env = [variable_entry(variable) for part in parts for group in part.env for variable in group.variables]
    rows = (("env", env), ("volumeMounts", _mounts(parts, equal)))
    for member, ours in rows:
        entries = container.get(member) or ()
        gone = {index for index, entry in enumerate(entries) if any(is_same(entry, own) for own in ours)}
        yield from _list_ops(f"{path}/{member}", entries, gone)


def _list_ops(path: str, entries: Sequence[Any], gone: Collection[int]) -> list[Op]:
    """The last first, so that indices hold; a list of which nothing is left goes as a whole."""
    if gone and len(gone) == len(entries):
        return [remove(path)]
    return [remove(f"{path}/{index}") for index in sorted(gone, reverse=True)]


def _metadata_ops(document: PodDocument, parts: Sequence[Part], record: Record, record_key: str) -> list[Op]:
    metadata = document.value["metadata"]
    annotations = [
        *((key, value) for part in parts for key, value in part.annotations.items() if key not in record.kept)
    ]
    labels = [pair for part in parts for pair in part.labels.items()]
    ops: list[Op] = []
    rows = (("annotations", [*annotations, (record_key, metadata["annotations"][record_key])]), ("labels", labels))
    for member, ours in rows:
        there = metadata.get(member) or {}
        gone = dict.fromkeys(key for key, value in ours if there.get(key) == value)
        if gone and len(gone) == len(there):
            ops.append(remove(f"/metadata/{member}"))
        else:
            ops += [remove(f"/metadata/{member}/{escape(key)}") for key in gone]
    return ops
