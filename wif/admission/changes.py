"""What differs between a pod and the pod after the patch, without any value that was the pod's own.

The pod's own environment may hold secrets: :func:`masked` is the only form in which a pod leaves this package to be
shown.
"""

from __future__ import annotations

__all__ = [
    "HIDDEN",
    "Changes",
    "ContainerChange",
    "Token",
    "VolumeChange",
    "changes",
    "containers_of",
    "masked",
    "value_of",
]

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

HIDDEN = "(not shown)"
"""In place of a value that is the pod's own."""

_LISTS = (("initContainers", "init"), ("containers", "container"), ("ephemeralContainers", "ephemeral"))
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Holds the whole manifest, environment and all."""

ContainerKind = Literal["container", "init", "sidecar", "ephemeral"]


class Token(NamedTuple):
    """A ServiceAccount token that the kubelet puts into the pod."""

    volume: str
    audience: str
    """Empty: the API server's own."""
    seconds: int
    path: str
    """Below the volume's mount."""


class VolumeChange(NamedTuple):
    """A volume that is added, or put in place of another."""

    name: str
    is_new: bool
    tokens: tuple[Token, ...]
    files: tuple[str, ...]
    """What else is in it, e.g. ``gcp/credentials.json from the annotation wif.internal/file.gcp``."""
    mode: str
    """Of its files, in octal; empty where it says none."""


class ContainerChange(NamedTuple):
    """What one container gets."""

    name: str
    kind: ContainerKind
    is_new: bool
    variables: tuple[tuple[str, str], ...]
    """Names and values of those that are added or replaced."""
    mounts: tuple[tuple[str, str], ...]
    """Volumes and paths, likewise."""


class Changes(NamedTuple):
    """Everything that the patch does, as values."""

    volumes: tuple[VolumeChange, ...]
    containers: tuple[ContainerChange, ...]
    """Every container of the pod afterwards; one that gets nothing has empty rows."""
    annotations: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]
    removed: tuple[str, ...]
    """What was injected for another ServiceAccount before, e.g. ``volume aws-iam-token``."""

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Of all its volumes."""
        return tuple(token for volume in self.volumes for token in volume.tokens)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Compare two pods."""
    had, has = _by_name(before.get("spec", {}).get("volumes")), _by_name(after["spec"].get("volumes"))
    was = {key: container for key, _, container in containers_of(before)}
    left = {key for key, _, _ in containers_of(after)}
    metadata_before, metadata = before.get("metadata") or {}, after.get("metadata") or {}
    removed = [f"volume {name}" for name in had if name not in has]
    removed += [f"container {name}" for member, name in was if (member, name) not in left]
    for key, _, container in containers_of(after):
        removed += _removed(key[1], was.get(key, {}), container)
    return Changes(
        volumes=tuple(_volume(name, each, had) for name, each in has.items() if had.get(name) != each),
        containers=tuple(_container(key[1], kind, was.get(key), each) for key, kind, each in containers_of(after)),
        annotations=_changed(metadata_before.get("annotations"), metadata.get("annotations")),
        labels=_changed(metadata_before.get("labels"), metadata.get("labels")),
        removed=tuple(removed),
    )


def value_of(entry: Mapping[str, Any]) -> str:
    """The value of a variable, or where it comes from."""
    field = ((entry.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath")
    return str(entry.get("value") or "") if field is None else f"(from {field})"


def containers_of(pod: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], ContainerKind, Mapping[str, Any]]]:
    """All containers: list and name, what kind it is, and the object."""
    spec = pod.get("spec") or {}
    kind: ContainerKind
    for member, kind in _LISTS:  # type: ignore[assignment]  # the table's literals
        for container in spec.get(member) or ():
            is_sidecar = kind == "init" and container.get("restartPolicy") == "Always"
            yield (member, str(container.get("name", ""))), "sidecar" if is_sidecar else kind, container


def masked(pod: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, Any]:
    """A pod in which the values of all variables are hidden that it has from ``original``.

    Args:
        pod: as it is, or after the patch.
        original: the pod as it came; its own values are the hidden ones.
    """
    own = {key: _by_name(container.get("env")) for key, _, container in containers_of(original)}
    spec = dict(pod.get("spec") or {})
    for member, _ in _LISTS:
        if spec.get(member):
            spec[member] = [
                _masked_container(each, own.get((member, str(each.get("name", ""))))) for each in spec[member]
            ]
    metadata = dict(pod.get("metadata") or {})
    if _LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {**metadata["annotations"], _LAST_APPLIED: HIDDEN}
    return {**pod, "metadata": metadata, "spec": spec}


def _masked_container(container: Mapping[str, Any], own: Mapping[str, Any] | None) -> dict[str, Any]:
    if not own or not container.get("env"):
        return dict(container)
    env = [
        {**each, "value": HIDDEN} if "value" in each and own.get(str(each.get("name", ""))) == each else each
        for each in container["env"]
    ]
    return {**container, "env": env}


def _volume(name: str, volume: Mapping[str, Any], had: Mapping[str, Any]) -> VolumeChange:
    tokens: list[Token] = []
    files: list[str] = []
    source: Mapping[str, Any] = next((volume[kind] for kind in ("projected", "downwardAPI") if kind in volume), {})
    for part in [*(source.get("sources") or ()), *([volume] if "downwardAPI" in volume else [])]:
        token = part.get("serviceAccountToken")
        if token:
            seconds = int(token.get("expirationSeconds", 3600))
            tokens.append(Token(name, str(token.get("audience", "")), seconds, str(token.get("path", ""))))
        files += _files(part)
    if "emptyDir" in volume:
        files.append("an empty folder in memory" if (volume["emptyDir"] or {}).get("medium") else "an empty folder")
    mode = source.get("defaultMode")
    return VolumeChange(name, name not in had, tuple(tokens), tuple(files), "" if mode is None else f"{mode:04o}")


def _files(source: Mapping[str, Any]) -> Iterator[str]:
    for item in (source.get("downwardAPI") or {}).get("items") or ():
        field = str((item.get("fieldRef") or {}).get("fieldPath", ""))
        annotation = field.removeprefix("metadata.annotations['").removesuffix("']")
        yield f"{item.get('path')} from {'the annotation ' if annotation != field else ''}{annotation}"
    if "configMap" in source:
        yield f"files of the ConfigMap {source['configMap'].get('name')}"
    if "clusterTrustBundle" in source:
        yield f"{source['clusterTrustBundle'].get('path')} from a ClusterTrustBundle"


def _container(
    name: str, kind: ContainerKind, before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> ContainerChange:
    own = before or {}
    had, mounted = _by_name(own.get("env")), list(own.get("volumeMounts") or ())
    variables = [(key, value_of(each)) for key, each in _by_name(after.get("env")).items() if had.get(key) != each]
    mounts = [
        (str(each.get("name", "")), str(each.get("mountPath", "")))
        for each in after.get("volumeMounts") or ()
        if each not in mounted
    ]
    return ContainerChange(name, kind, before is None, tuple(variables), tuple(mounts))


def _removed(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    kept = _by_name(after.get("env"))
    for key in _by_name(before.get("env")):
        if key not in kept:
            yield f"variable {key} of the container {name}"
    paths = {each.get("mountPath") for each in after.get("volumeMounts") or ()}
    for each in before.get("volumeMounts") or ():
        if each.get("mountPath") not in paths:
            yield f"mount {each.get('mountPath')} of the container {name}"


def _by_name(entries: Any) -> dict[str, Any]:
    return {str(each.get("name", "")): each for each in entries or ()}


def _changed(before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    had = before or {}
    return tuple((key, str(value)) for key, value in (after or {}).items() if had.get(key) != value)
