"""The text that is random for each pod: found again in a pod that has one, so that a second call keeps it.

It stands in variables, so whoever may read the pod can read it. It keeps away requests that only pass by an
application (SSRF), not somebody who may read pods.
"""

from __future__ import annotations

__all__ = ["kept_secret", "secret_in"]

import re
from collections.abc import Mapping
from typing import Any

from wif.admission.documents import PodDocument
from wif.admission.injection import POD_SECRET, InitContainer
from wif.admission.readings import Plan

_SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
"""As it is made; another form was not made here."""


def kept_secret(plan: Plan, document: PodDocument) -> str | None:
    """The secret that the pod's container of our name has, whatever else others have done to it; None without one.

    The pod's other containers have the same: a new one would have to be put in its place everywhere.
    """
    there = {each.get("name"): each for each in document.value["spec"].get("initContainers") or ()}
    own = (each for each in plan.unique_init_containers(plan.all_parts) if each.name in there)
    found = (secret_in(there[each.name], each) for each in own)
    return next((secret for secret in found if secret != POD_SECRET), None)


def secret_in(found: Mapping[str, Any], own: InitContainer) -> str:
    """The secret in a container that stands where ours belongs; :data:`POD_SECRET` without one."""
    names = {entry["name"] for entry in own.content.get("env") or () if entry.get("value") == POD_SECRET}
    values = {entry.get("name"): entry.get("value") for entry in found.get("env") or ()}
    secrets = (values[name] for name in names if isinstance(values.get(name), str))
    return next((value for value in secrets if _SECRET.fullmatch(value)), POD_SECRET)
