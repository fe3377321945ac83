"""Pods, parts and ServiceAccounts for the tests of the admission engine, without a dialect."""

from __future__ import annotations

__all__ = [
    "ACCOUNT",
    "SECRET",
    "after",
    "container",
    "document",
    "fitted",
    "new_pod",
    "part",
    "plan_of",
    "token_volume",
]

import json
from collections.abc import Mapping, Sequence
from typing import Any

from wif.admission.accounts import ServiceAccount
from wif.admission.documents import PodDocument
from wif.admission.findings import Finding
from wif.admission.injection import EnvGroup, EnvRule, Mount, Part, Variable, Volume
from wif.admission.merging import Fitted, fit
from wif.admission.patch import apply_patch
from wif.admission.readings import Plan
from wif.admission.record import Record

ACCOUNT = ServiceAccount("shop", "app", "uid-1", {})
RECORD = "wif.internal/injected"
SECRET = "s" * 43


def token_volume(name: str, audience: str = "sts.example", seconds: int = 3600) -> dict[str, Any]:
    """A projected volume with one token."""
    token = {"audience": audience, "expirationSeconds": seconds, "path": "token"}
    return {"name": name, "projected": {"sources": [{"serviceAccountToken": token}]}}


def part(
    cloud: str = "aws",
    *,
    identity: str = "role",
    env: Mapping[str, str] | Sequence[EnvGroup] | None = None,
    rule: EnvRule = "absent",
    volume: Mapping[str, Any] | None = None,
    path: str | None = None,
    **more: Any,
) -> Part:
    """A part with one volume, mounted at ``/var/run/CLOUD``, and one variable unless others are given."""
    content = token_volume(f"{cloud}-token") if volume is None else volume
    if env is None:
        env = {f"{cloud.upper()}_ID": identity}
    groups = (
        (EnvGroup(rule, tuple(Variable(name, value) for name, value in env.items())),)
        if isinstance(env, Mapping)
        else tuple(env)
    )
    said: dict[str, Any] = {
        "volumes": (Volume(content),),
        "mounts": (Mount(content["name"], path or f"/var/run/{cloud}"),),
        **more,
    }
    return Part(dialect="eks", cloud=cloud, identity=identity, env=groups, **said)


def plan_of(*parts: Part, findings: tuple[Finding, ...] = (), deny_collisions: bool = False) -> Plan:
    """The plan of these parts."""
    return Plan(ACCOUNT, parts, findings, deny_collisions)


def container(name: str = "main", *, env: Any = None, mounts: Any = None, **more: Any) -> dict[str, Any]:
    """A container; ``env`` and ``mounts`` are lists of entries, or mappings of their two members."""
    made: dict[str, Any] = {"name": name, "image": "registry.example/app:1", **more}
    if env is not None:
        made["env"] = [{"name": k, "value": v} for k, v in env.items()] if isinstance(env, Mapping) else env
    if mounts is not None:
        is_short = isinstance(mounts, Mapping)
        made["volumeMounts"] = [{"name": k, "mountPath": v} for k, v in mounts.items()] if is_short else mounts
    return made


def new_pod(*containers: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod called ``pod`` of the ServiceAccount ``app``."""
    metadata = spec.pop("metadata", {"name": "pod"})
    listed = list(containers) or [container()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"serviceAccountName": "app", "containers": listed, **spec},
    }


def document(pod: Mapping[str, Any]) -> PodDocument:
    """As it is under review."""
    return PodDocument(json.dumps(pod).encode())


def fitted(
    plan: Plan,
    pod: Mapping[str, Any],
    record: Record | None = None,
    *,
    detailed: bool = False,
    secret: str = SECRET,
) -> Fitted:
    """The plan in the pod; ``secret`` is what a pod without one gets."""
    return fit(plan, document(pod), record, RECORD, new_secret=lambda: secret, detailed=detailed)


def after(plan: Plan, pod: Mapping[str, Any], record: Record | None = None, *, secret: str = SECRET) -> dict[str, Any]:
    """The pod after the patch."""
    patch = fitted(plan, pod, record, secret=secret).patch
    done: dict[str, Any] = apply_patch(pod, patch if patch is not None else b"[]")
    return done
