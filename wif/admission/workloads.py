"""Pods and ServiceAccounts out of manifests: what a controller would send to the API server, without a cluster."""

from __future__ import annotations

__all__ = ["Manifests", "Workload", "common_namespace", "read_manifests"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from wif.admission.accounts import ServiceAccount
from wif.errors import ConfigurationError

_DEFAULT_NAMESPACE = "default"

_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}
"""Where the template of a pod stands; everywhere else it is ``spec.template``."""

_MAX_DEPTH = 4
"""Of lists in lists."""


class Workload(NamedTuple):
    """One pod to look at, and the object that has it."""

    kind: str
    name: str
    namespace: str
    pod: Mapping[str, Any]
    """As it would be created: with a name or a ``generateName``, and ``serviceAccountName``."""
    origin: str
    """File and line."""

    @property
    def account_name(self) -> str:
        """The ServiceAccount it runs as."""
        return str(self.pod["spec"]["serviceAccountName"])

    @property
    def text(self) -> str:
        """E.g. ``Deployment shop/web``."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """What stood in some files."""

    workloads: tuple[Workload, ...] = ()
    accounts: tuple[ServiceAccount, ...] = ()
    """With all their annotations."""
    config_maps: tuple[Mapping[str, Any], ...] = ()
    passed_over: tuple[str, ...] = ()
    """Objects that have no pod, by kind and name."""


def read_manifests(documents: Sequence[tuple[str, object]], *, namespace: str | None = None) -> Manifests:
    """Find the pods and ServiceAccounts of decoded documents.

    Args:
        documents: each with where it stands, as messages shall say it; empty documents are passed over.
        namespace: of objects that name none.

    Raises:
        ConfigurationError: config-invalid, where something is no Kubernetes object.
    """
    workloads: list[Workload] = []
    accounts: list[ServiceAccount] = []
    config_maps: list[Mapping[str, Any]] = []
    passed_over: list[str] = []
    for origin, document in documents:
        for made in _objects(document, origin):
            kind, name = str(made["kind"]), _name(made)
            own = _text(_mapping(made, "metadata", origin).get("namespace")) or namespace or _DEFAULT_NAMESPACE
            if kind == "ServiceAccount":
                accounts.append(_account(made, own, origin))
            elif kind == "ConfigMap":
                config_maps.append(made)
            elif (pod := _pod(made, kind, origin)) is not None:
                workloads.append(Workload(kind, name, own, _completed(pod, kind, name, own, origin), origin))
            else:
                passed_over.append(f"{kind} {name}")
    return Manifests(
        workloads=tuple(workloads),
        accounts=tuple(accounts),
        config_maps=tuple(config_maps),
        passed_over=tuple(passed_over),
    )


def common_namespace(documents: Sequence[tuple[str, object]]) -> str | None:
    """The one namespace that the objects name; None where they name none, or several.

    A pod and its ServiceAccount come from two files, of which often one alone says where they belong.

    Raises:
        ConfigurationError: config-invalid, where something is no Kubernetes object.
    """
    named = {
        _text(_mapping(made, "metadata", origin).get("namespace"))
        for origin, document in documents
        for made in _objects(document, origin)
    }
    named.discard("")
    return named.pop() if len(named) == 1 else None


def _objects(document: object, origin: str, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if document is None:
        return
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise ConfigurationError(
            f"{origin}: expected a Kubernetes object with apiVersion and kind, {_came(document)}",
            code="config-invalid",
            hint="pass the manifest of a pod, of what makes pods, or of a ServiceAccount",
        )
    if "items" not in document or not document["kind"].endswith("List"):
        yield document
        return
    items = document["items"] or []
    if not isinstance(items, list) or depth == _MAX_DEPTH:
        raise ConfigurationError(
            f"{origin}: items of a {document['kind']} is no list of objects", code="config-invalid"
        )
    for item in items:
        typed = item
        if isinstance(item, dict) and "kind" not in item:  # the API leaves it out of the items of a PodList
            typed = {**item, "kind": document["kind"].removesuffix("List")}
        yield from _objects(typed, origin, depth + 1)


def _pod(made: Mapping[str, Any], kind: str, origin: str) -> Mapping[str, Any] | None:
    """The pod or its template; None where the object has none."""
    if kind == "Pod":
        return made
    found: object = made
    for member in _TEMPLATES.get(kind, ("spec", "template")):
        found = found.get(member) if isinstance(found, dict) else None
    if isinstance(found, dict) and isinstance(found.get("spec"), dict) and "containers" in found["spec"]:
        return found
    if kind in _KNOWN:
        where = ".".join(_TEMPLATES.get(kind, ("spec", "template")))
        raise ConfigurationError(
            f"{origin}: {kind} {_name(made)} has no pod in {where}",
            code="config-invalid",
            hint=f"give {where}.spec its containers",
        )
    return None


_KNOWN = frozenset(
    {
        *("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"),
        *("Job", "CronJob", "PodTemplate"),
    }
)
"""Kinds that always have a pod; others are looked at all the same, e.g. an Argo Rollout."""


def _completed(pod: Mapping[str, Any], kind: str, name: str, namespace: str, origin: str) -> dict[str, Any]:
    """With what a controller and the API server fill in before a webhook sees it."""
    metadata, spec = _mapping(pod, "metadata", origin), _mapping(pod, "spec", origin)
    for member in ("containers", "initContainers"):
        listed = spec.get(member) or []
        if not isinstance(listed, list) or not all(isinstance(each, dict) and "name" in each for each in listed):
            raise ConfigurationError(
                f"{origin}: {kind} {name}: {member} is no list of containers with names", code="config-invalid"
            )
    named = {} if kind == "Pod" and (metadata.get("name") or metadata.get("generateName")) else _pod_name(kind, name)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        **{member: value for member, value in pod.items() if member not in ("apiVersion", "kind", "status")},
        "metadata": {**{key: value for key, value in metadata.items() if key != "name" or not named}, **named}
        | {"namespace": namespace},
        "spec": {**spec, "serviceAccountName": account},
    }


def _pod_name(kind: str, name: str) -> dict[str, str]:
    """Only a StatefulSet's pods have names that are known before."""
    return {"name": f"{name}-0"} if kind == "StatefulSet" else {"generateName": f"{name}-"}


def _account(made: Mapping[str, Any], namespace: str, origin: str) -> ServiceAccount:
    metadata = _mapping(made, "metadata", origin)
    annotations = _mapping(metadata, "annotations", origin)
    wrong = next((key for key, value in annotations.items() if not isinstance(value, str)), None)
    if wrong is not None:
        raise ConfigurationError(
            f"{origin}: ServiceAccount {_name(made)}: the annotation {wrong} is no text, {_came(annotations[wrong])}",
            code="config-invalid",
            hint="put quotes around the value",
        )
    return ServiceAccount(namespace, _name(made), _text(metadata.get("uid")), dict(annotations))


def _mapping(made: Mapping[str, Any], member: str, origin: str) -> Mapping[str, Any]:
    value = made.get(member)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(f"{origin}: {member} is no mapping, {_came(value)}", code="config-invalid")
    return value


def _name(made: Mapping[str, Any]) -> str:
    metadata = made.get("metadata")
    name = (metadata.get("name") or metadata.get("generateName")) if isinstance(metadata, dict) else None
    return _text(name) or "(without a name)"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _came(value: object) -> str:
    names = {"dict": "a mapping without kind", "list": "a list", "str": "a text", "bool": "true or false"}
    return f"got {names.get(type(value).__name__, f'a value of the type {type(value).__name__}')}"
