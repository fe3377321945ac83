"""The parts of a plan, fitted into one pod: a JSON patch of what is missing, and nothing else.

Most pods of a workload meet the injection without a collision. What is put into them depends on positions alone, so
the encoded operations are kept with the plan; only where a name or a path of ours is met, the pod's JSON is decoded as
a whole. Both ways go through the same functions.
"""

from __future__ import annotations

__all__ = ["Fitted", "fit", "fit_ephemeral"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from wif.admission.containers import ContainerPlace, Kind, collides, fit_container, is_for
from wif.admission.decision import Outcome
from wif.admission.documents import PodDocument, pod_hash
from wif.admission.findings import Finding
from wif.admission.init_containers import conflicts, fit_init_containers, possible_parts
from wif.admission.injection import POD_HASH, POD_SECRET, Part
from wif.admission.patch import Op, add, encode_ops, escape
from wif.admission.pod import Container
from wif.admission.pod_secret import kept_secret
from wif.admission.readings import Plan
from wif.admission.record import Record
from wif.admission.volumes import fit_volumes, hash_in_use, missing_volume


class Fitted(NamedTuple):
    """What is to be done to a pod, and what was met."""

    patch: bytes | None
    findings: tuple[Finding, ...]
    outcomes: tuple[Outcome, ...]
    active: tuple[int, ...]
    """The parts of the plan that the pod has afterwards."""


_HASH = POD_HASH.encode()


class _Work:
    """One pod in the making."""

    __slots__ = ("active", "chunks", "detailed", "document", "findings", "hash", "outcomes", "plan", "secret")

    def __init__(self, plan: Plan, document: PodDocument, *, detailed: bool) -> None:
        self.plan = plan
        self.document = document
        self.detailed = detailed
        self.active = plan.all_parts
        self.hash: str | None = None
        """The pod's, once it is known to matter."""
        self.secret = POD_SECRET
        """The pod's, where the plan has one."""
        self.chunks: list[bytes] = []
        self.findings: list[Finding] = []
        self.outcomes: list[Outcome] = []

    def finish(self) -> Fitted:
        """Everything together; the pod's hash and secret go into the kept pieces here."""
        chunks = [chunk for chunk in self.chunks if chunk]
        patch = b"[%b]" % b",".join(chunks) if chunks else None
        if patch is not None and self.plan.hash_texts:
            hashed = (self.hash or pod_hash(self.document.pod.metadata)).encode()
            for text in self.plan.hash_texts:
                patch = patch.replace(text, text.replace(_HASH, hashed))
        if patch is not None and self.plan.has_secret:
            patch = patch.replace(f'"{POD_SECRET}"'.encode(), f'"{self.secret}"'.encode())
        return Fitted(patch, tuple(self.findings), tuple(self.outcomes), self.active)


def fit(
    plan: Plan,
    document: PodDocument,
    record: Record | None,
    record_key: str,
    *,
    new_secret: Callable[[], str],
    detailed: bool,
) -> Fitted:
    """Fit a plan into a pod that is being created.

    Args:
        record: the one that the pod carries for this ServiceAccount.
        new_secret: makes a random text of letters that are safe in URLs.
    """
    work = _Work(plan, document, detailed=detailed)
    known: frozenset[str] = frozenset()
    if plan.init_names:
        known = _init_names(plan, record)
        possible = possible_parts(plan, document, known=known)
        work.active, work.findings = possible.active, list(possible.findings)
    if plan.has_secret:
        kept = kept_secret(plan, document) if known else None
        work.secret = new_secret() if kept is None else kept
    spec = document.pod.spec
    for volume in spec.volumes or ():
        if volume.name in plan.mount_names or volume.name.startswith(plan.hash_prefixes):
            work.hash = hash_in_use(plan, document)
            break
    volumes = fit_volumes(plan, work.active, document, work.hash, is_known=record is not None)
    work.active = volumes.active
    work.findings.extend(volumes.findings)
    for index, container in enumerate(spec.containers or ()):
        _fit_one(work, "containers", index, container)
    for index, container in enumerate(spec.init_containers or ()):
        _fit_one(work, "initContainers", index, container)
    if plan.init_names:
        work.findings.extend(conflicts(plan, work.active, document))
        work.chunks.append(encode_ops(fit_init_containers(plan, work.active, document, work.secret, known=known)))
    work.chunks.append(volumes.chunk)
    if work.active:
        work.chunks.append(_metadata(work, record, record_key))
    return work.finish()


def _init_names(plan: Plan, record: Record | None) -> frozenset[str]:
    """Of our init containers: those that an earlier call has put into the pod."""
    if record is None:
        return frozenset()
    parts = [part for part in plan.parts if part.cloud in record.clouds]
    return frozenset(own.name for part in parts for own in part.init_containers)


def fit_ephemeral(plan: Plan, document: PodDocument, old_names: frozenset[str], *, detailed: bool) -> Fitted:
    """Fit a plan into the ephemeral containers that are new: environment and mounts, of volumes that are there."""
    work = _Work(plan, document, detailed=detailed)
    work.hash = hash_in_use(plan, document)
    secret = kept_secret(plan, document) if plan.has_secret else None
    work.secret = secret or POD_SECRET
    active = []
    for index, part in enumerate(plan.parts):
        missing = missing_volume(part, document, work.hash)
        if missing is not None:
            work.findings.append(_volume_absent(part, missing))
        elif part.has_secret and secret is None:
            work.findings.append(_sidecar_absent(part))
        else:
            active.append(index)
    work.active = tuple(active)
    for index, container in enumerate(document.pod.spec.ephemeral_containers or ()):
        if container.name not in old_names:
            _fit_one(work, "ephemeralContainers", index, container)
    if not any(work.chunks):
        work.active = ()
    return work.finish()


def _volume_absent(part: Part, name: str) -> Finding:
    return Finding(
        "volume-absent",
        "note",
        f"the pod has no volume {name}, and a running pod cannot be given one; its ephemeral containers get nothing "
        f"for {part.cloud}",
        "create the pod anew",
        part.dialect,
        part.cloud,
    )


def _sidecar_absent(part: Part) -> Finding:
    return Finding(
        "sidecar-absent",
        "note",
        f"the pod has no sidecar as it would be injected now, and a running pod cannot be given one; its ephemeral "
        f"containers get nothing for {part.cloud}",
        "create the pod anew",
        part.dialect,
        part.cloud,
    )


# -- containers --------------------------------------------------------------------------------------------------------


def _fit_one(work: _Work, member: str, index: int, container: Container) -> None:
    plan, active = work.plan, work.active
    if not plan.is_plain:
        if container.name in plan.init_names:
            return  # ours: the others are led to it
        active = tuple([i for i in active if is_for(plan.parts[i], container.name)])
    if not active and not work.detailed:
        return
    if work.detailed or collides(container, plan):
        place = ContainerPlace(f"/spec/{member}/{index}", container.name, _kind(member, container))
        found: Mapping[str, Any] = work.document.value["spec"][member][index]
        if plan.hash_prefixes and work.hash is None:
            work.hash = pod_hash(work.document.pod.metadata)
        fitted = fit_container(plan, work.active, found, place, work.hash or "", secret=work.secret)
        work.chunks.append(encode_ops(fitted.ops))
        work.findings.extend(fitted.findings)
        if work.detailed:
            work.outcomes.extend(fitted.outcomes)
            if found.get("envFrom"):
                work.findings.append(_env_from(container.name))
        return
    key = (member, index, container.env is None, container.volume_mounts is None, active)
    chunk = plan.chunks.get(key)
    if chunk is None:
        # As for any container that collides with nothing: names and values do not matter, only whether lists are there.
        place = ContainerPlace(f"/spec/{member}/{index}", container.name, "container")
        empty: dict[str, object] = {
            "env": None if container.env is None else [],
            "volumeMounts": None if container.volume_mounts is None else [],
        }
        fitted = fit_container(plan, active, empty, place, POD_HASH)
        chunk = encode_ops(fitted.ops)
        if fitted.findings:  # two parts of the plan for one path
            work.findings.extend(fitted.findings)
        else:
            plan.keep(key, chunk)
    work.chunks.append(chunk)


def _env_from(container: str) -> Finding:
    return Finding(
        "env-from",
        "note",
        f"container {container} takes variables from a ConfigMap or a Secret (envFrom), which are not looked at; the "
        "injected ones win over them",
        container=container,
    )


def _kind(member: str, container: Container) -> Kind:
    if member == "ephemeralContainers":
        return "ephemeral"
    if member == "initContainers":
        return "sidecar" if container.restart_policy == "Always" else "init"
    return "container"


# -- annotations and labels --------------------------------------------------------------------------------------------


def _metadata(work: _Work, record: Record | None, record_key: str) -> bytes:
    plan, metadata = work.plan, work.document.pod.metadata
    annotations = metadata.annotations if metadata is not None else None
    labels = metadata.labels if metadata is not None else None
    written = plan.written
    if annotations and (record_key in annotations or not written.isdisjoint(annotations)):
        return encode_ops(_metadata_ops(work, record, record_key))
    if plan.has_labels and labels:
        return encode_ops(_metadata_ops(work, record, record_key))
    key = ("metadata", metadata is None, annotations is None, labels is None, work.active)
    chunk = plan.chunks.get(key)
    return plan.keep(key, encode_ops(_metadata_ops(work, record, record_key))) if chunk is None else chunk


def _metadata_ops(work: _Work, record: Record | None, record_key: str) -> list[Op]:
    metadata = work.document.pod.metadata
    parts = [work.plan.parts[index] for index in work.active]
    there = (metadata.annotations if metadata is not None else None) or {}
    annotations = {key: value for part in parts for key, value in part.annotations.items()}
    labels = {key: value for part in parts for key, value in part.labels.items()}
    kept = record.kept if record is not None else tuple(sorted(k for k, v in annotations.items() if there.get(k) == v))
    annotations[record_key] = _record(work.plan, parts, kept).encoded()
    if metadata is None:
        return [add("/metadata", {"annotations": annotations, **({"labels": labels} if labels else {})})]
    return [
        *_member_ops("/metadata/annotations", metadata.annotations, annotations),
        *_member_ops("/metadata/labels", metadata.labels, labels),
    ]


def _member_ops(path: str, there: Mapping[str, str] | None, wanted: Mapping[str, str]) -> list[Op]:
    if there is None:
        return [add(path, wanted)] if wanted else []
    return [add(f"{path}/{escape(key)}", value) for key, value in wanted.items() if there.get(key) != value]


def _record(plan: Plan, parts: Sequence[Part], kept: tuple[str, ...]) -> Record:
    clouds: dict[str, str] = {}
    for part in parts:
        clouds[part.cloud] = f"{clouds[part.cloud]} {part.identity}" if part.cloud in clouds else part.identity
    return Record(plan.account.name, plan.account.uid, clouds, kept)
