"""The text that is random for each pod: found again in a pod that has one, so that a second call keeps it.

It stands in variables, so whoever may read the pod can read it. It keeps away requests that only pass by an
application (SSRF), not somebody who may read pods.
"""

from __future__ import annotations

__all__ = ["kept_secret"]

import re
from collections.abc import Iterator
from typing import Any

from wif.admission.documents import PodDocument
from wif.admission.injection import POD_SECRET, InitContainer
from wif.admission.readings import Plan
from wif.admission.sameness import covers

_SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
"""As it is made; another form was not made here."""


def kept_secret(plan: Plan, document: PodDocument) -> str | None:
    """The secret that the pod's own container of ours has, where that container is whole; else None."""
    there = {each.get("name"): each for each in document.value["spec"].get("initContainers") or ()}
    for own in plan.unique_init_containers(plan.all_parts):
        found = there.get(own.name)
        for secret in _secrets(own, found) if found is not None else ():
            if covers(found, _lasting(own.of_pod(secret))):
                return secret
    return None


def _lasting(own: InitContainer) -> dict[str, Any]:
    """What nobody in a cluster has a reason to change. Quantities are stored in another form than some write them, and
    images come from a mirror."""
    return {member: value for member, value in own.content.items() if member not in ("resources", "image")}


def _secrets(own: InitContainer, found: dict[str, Any]) -> Iterator[str]:
    names = {entry["name"] for entry in own.content.get("env") or () if entry.get("value") == POD_SECRET}
    for entry in found.get("env") or ():
        value = entry.get("value")
        if entry.get("name") in names and isinstance(value, str) and _SECRET.fullmatch(value):
            yield value
