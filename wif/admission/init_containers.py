"""The init containers of a plan, fitted into one pod."""

from __future__ import annotations

__all__ = ["fit_init_containers", "is_ours"]

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wif.admission.documents import PodDocument
from wif.admission.injection import InitContainer
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
