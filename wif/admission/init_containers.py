"""The init containers of a plan, fitted into one pod."""

from __future__ import annotations

__all__ = ["PossibleParts", "conflicts", "fit_init_containers", "is_ours", "possible_parts"]

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wif.admission.documents import PodDocument
from wif.admission.findings import Finding
from wif.admission.injection import InitContainer, Part
from wif.admission.patch import Op, add, replace
from wif.admission.pod_secret import secret_in
from wif.admission.readings import Plan
from wif.admission.sameness import covers

_OTHERS_WRITE = frozenset({"image", "imagePullPolicy", "resources", "startupProbe", "securityContext"})
"""Mirrors of registries, autoscalers, meshes and policies put their own there, and the container serves as before."""


def is_ours(found: Mapping[str, Any], own: InitContainer) -> bool:
    """Whether a container of our name is ours, whatever others have done to it: it runs what ours runs, and has the
    variables and mounts that ours needs."""
    content = own.of_pod(secret_in(found, own)).content
    lasting = {member: value for member, value in content.items() if member not in _OTHERS_WRITE}
    return covers(found, {"command": [], "args": [], **lasting})


class PossibleParts(NamedTuple):
    """The parts whose init containers a pod can have."""

    active: tuple[int, ...]
    findings: tuple[Finding, ...]
    """About the others."""


def possible_parts(plan: Plan, document: PodDocument, *, known: Collection[str]) -> PossibleParts:
    """See which parts have to do without: where the pod's own container stands in place of theirs.

    Args:
        known: names of those of our init containers that an earlier call has put there.
    """
    taken = _taken(plan, document, known)
    if not taken:
        return PossibleParts(plan.all_parts, ())
    out = {index: name for index in plan.all_parts for name in sorted(_names(plan.parts[index]) & taken)[:1]}
    findings = [_container_taken(plan, plan.parts[index], name) for index, name in out.items()]
    return PossibleParts(tuple(index for index in plan.all_parts if index not in out), tuple(findings))


def _taken(plan: Plan, document: PodDocument, known: Collection[str]) -> frozenset[str]:
    """Names of ours that containers of the pod have. One beside the init containers would be refused with ours."""
    spec = document.pod.spec
    taken = {container.name for container in spec.containers or ()} & plan.init_names
    own = {each.name: each for each in plan.unique_init_containers(plan.all_parts) if each.collision == "keep"}
    for index, container in enumerate(spec.init_containers or ()):
        name = container.name
        if name in own and name not in known:
            found = document.value["spec"]["initContainers"][index]
            taken |= set() if is_ours(found, own[name]) else {name}
    return frozenset(taken)


def _names(part: Part) -> set[str]:
    return {own.name for own in part.init_containers}


def _container_taken(plan: Plan, part: Part, name: str) -> Finding:
    return Finding(
        "container-taken",
        plan.collision_level,
        f"the pod's own container {name} stands where ours belongs; nothing is injected for {part.cloud}",
        "give that container another name, or do without one of the two",
        part.dialect,
        part.cloud,
        name,
    )


def conflicts(plan: Plan, active: Sequence[int], document: PodDocument) -> Iterator[Finding]:
    """What the pod's own containers do that ours cannot have beside it: use its ports, mount what it alone mounts."""
    own = plan.unique_init_containers(active)
    ports = {port: each.name for each in own for port in each.ports}
    if not ports:
        return
    mounted = {mount["name"]: each.name for each in own for mount in each.content.get("volumeMounts") or ()}
    shared = {mount.volume for part in plan.parts for mount in part.mounts}
    spec = document.value["spec"]
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        if container.get("name") in plan.init_names:
            continue
        for entry in container.get("ports") or ():
            port = entry.get("containerPort")
            if port in ports and entry.get("protocol", "TCP") == "TCP":
                yield _port_taken(plan, container["name"], port, ports[port])
        for volume in sorted({str(mount.get("name")) for mount in container.get("volumeMounts") or ()} - shared):
            if volume in mounted:
                yield _tokens_mounted(container["name"], volume, mounted[volume])


def _port_taken(plan: Plan, container: str, port: int, ours: str) -> Finding:
    return Finding(
        "sidecar-port-taken",
        plan.collision_level,
        f"container {container} has the port {port}, on which {ours} listens: the later one of the two does not start",
        "give the container another port, or have the operator set sidecar_port or sidecar_health_port",
        container=container,
    )


def _tokens_mounted(container: str, volume: str, ours: str) -> Finding:
    return Finding(
        "sidecar-tokens-mounted",
        "warning",
        f"container {container} mounts the volume {volume}, which is for {ours} alone: it holds the tokens itself",
        "leave the mount out",
        container=container,
    )


def fit_init_containers(
    plan: Plan, active: Sequence[int], document: PodDocument, secret: str, *, known: Collection[str]
) -> list[Op]:
    """The operations that put them before the pod's own.

    Args:
        secret: the pod's.
        known: names of those that an earlier call has put there. They stay as others have left them.
    """
    own = [(each, each.of_pod(secret).content) for each in plan.unique_init_containers(active)]
    there = document.pod.spec.init_containers
    if there is None:
        return [add("/spec/initContainers", [content for _, content in own])] if own else []
    indices = {container.name: index for index, container in enumerate(there)}
    ops: list[Op] = []
    missing: list[Mapping[str, Any]] = []
    for each, content in own:
        index = indices.get(each.name)
        if index is None:
            missing.append(content)
            continue
        found = document.value["spec"]["initContainers"][index]
        if not (is_ours(found, each) if each.name in known else covers(found, content)):
            ops.append(replace(f"/spec/initContainers/{index}", content))
    return ops + [add("/spec/initContainers/0", content) for content in reversed(missing)]
