"""The volumes of a plan, fitted into one pod."""

from __future__ import annotations

__all__ = ["VolumeFit", "fit_volumes", "hash_in_use", "missing_volume", "resolved"]

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wif.admission.documents import HASH_CHARACTERS, PodDocument, pod_hash
from wif.admission.findings import Finding
from wif.admission.injection import POD_HASH, Part, Volume
from wif.admission.patch import Op, add, encode_ops, replace
from wif.admission.readings import Plan
from wif.admission.sameness import is_same, serves_as


class VolumeFit(NamedTuple):
    """What becomes of a pod's volumes."""

    active: tuple[int, ...]
    """The parts that the pod can have."""
    chunk: bytes
    """The operations, encoded."""
    findings: tuple[Finding, ...] = ()


def resolved(volume: Volume, hashed: str) -> dict[str, Any]:
    """The volume as it stands in the pod."""
    return {**volume.content, "name": volume.name.replace(POD_HASH, hashed)}


def is_ours(found: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a volume of our name does what ours does, whoever put it there."""
    return is_same(found, ours) or serves_as(found, ours)


def hash_in_use(plan: Plan, document: PodDocument) -> str:
    """The pod's hash, or the one under which the pod has our volume already.

    Between two calls another webhook may have set ``metadata.name``; a second volume would be mounted on the same path
    (Azure#1744).
    """
    volumes = plan.unique_volumes(plan.all_parts)
    for prefix in plan.hash_prefixes:
        pattern = re.compile(rf"{re.escape(prefix)}([0-9a-f]{{{HASH_CHARACTERS}}})")
        for name, (_, found) in document.volumes().items():
            match = pattern.fullmatch(name)
            if match and any(
                volume.name == prefix + POD_HASH and is_ours(found, resolved(volume, match[1])) for volume in volumes
            ):
                return match[1]
    return pod_hash(document.pod.metadata)


def missing_volume(part: Part, document: PodDocument, hashed: str) -> str | None:
    """The name of the first volume of a part that the pod has not, or not as ours."""
    there = document.volumes()
    for volume in part.volumes:
        ours = resolved(volume, hashed)
        found = there.get(ours["name"])
        if found is None or not is_ours(found[1], ours):
            return str(ours["name"])
    return None


def fit_volumes(
    plan: Plan, active: tuple[int, ...], document: PodDocument, hashed: str | None, *, is_known: bool
) -> VolumeFit:
    """Fit the volumes of these parts; ``hashed`` is None where the pod has no volume with a name of ours.

    ``is_known`` says that the pod carries our record: what is there is then our own.
    """
    is_there = document.pod.spec.volumes is not None
    if hashed is None:
        key = ("volumes", is_there, active)
        chunk = plan.chunks.get(key)
        if chunk is None:
            chunk = plan.keep(key, _added(plan.unique_volumes(active), POD_HASH, is_there=is_there))
        return VolumeFit(active, chunk)
    return _meet(plan, active, document, hashed, is_known=is_known)


def _meet(plan: Plan, possible: tuple[int, ...], document: PodDocument, hashed: str, *, is_known: bool) -> VolumeFit:
    there = document.volumes()
    missing: dict[str, Volume] = {}
    foreign: dict[str, tuple[int, Volume]] = {}
    present: set[str] = set()
    for volume in plan.unique_volumes(possible):
        ours = resolved(volume, hashed)
        index, found = there.get(ours["name"], (-1, None))
        if found is None:
            missing[volume.name] = volume
        elif is_ours(found, ours):
            present.add(volume.name)
        else:
            foreign[volume.name] = index, volume
    taken = {name for name, (_, volume) in foreign.items() if volume.collision == "keep"}
    active = tuple(i for i in possible if not any(volume.name in taken for volume in plan.parts[i].volumes))
    findings = [_volume_taken(plan, plan.parts[i], taken) for i in possible if _names(plan.parts[i]) & taken]
    if not is_known:
        findings += [_injected_already(plan.parts[i]) for i in active if _names(plan.parts[i]) & present]
    wanted = {volume.name for volume in plan.unique_volumes(active)}
    ops = [
        replace(f"/spec/volumes/{index}", resolved(volume, hashed))
        for name, (index, volume) in foreign.items()
        if name in wanted
    ]
    added = _added([volume for name, volume in missing.items() if name in wanted], hashed, is_there=True)
    return VolumeFit(active, b",".join(chunk for chunk in (encode_ops(ops), added) if chunk), tuple(findings))


def _names(part: Part) -> set[str]:
    return {volume.name for volume in part.volumes}


def _added(volumes: Sequence[Volume], hashed: str, *, is_there: bool) -> bytes:
    first = [resolved(volume, hashed) for volume in volumes if volume.first]
    last = [resolved(volume, hashed) for volume in volumes if not volume.first]
    ops: list[Op]
    if is_there:
        ops = [add("/spec/volumes/0", volume) for volume in reversed(first)]
        ops += [add("/spec/volumes/-", volume) for volume in last]
    else:
        ops = [add("/spec/volumes", first + last)] if volumes else []
    return encode_ops(ops)


def _volume_taken(plan: Plan, part: Part, taken: set[str]) -> Finding:
    name = sorted(_names(part) & taken)[0].replace(POD_HASH, "…")
    return Finding(
        "volume-taken",
        plan.collision_level,
        f"the pod has a volume {name} of its own, where the one with the token for {part.cloud} belongs; "
        f"nothing is injected for {part.cloud}",
        "give that volume another name",
        part.dialect,
        part.cloud,
    )


def _injected_already(part: Part) -> Finding:
    return Finding(
        "injected-already",
        "warning",
        f"the token volume for {part.cloud} is there already: another webhook injects it too, or the pod brings it; "
        "only what is missing is added",
        "run one webhook for each cloud",
        part.dialect,
        part.cloud,
    )
