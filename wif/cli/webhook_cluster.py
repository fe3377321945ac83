"""What ``wif webhook explain --live`` reads from a cluster; a right that is missing is noted and the rest goes on."""

from __future__ import annotations

__all__ = ["Cluster", "ClusterFacts", "Gap"]

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from wif.admission.accounts import ServiceAccount
from wif.admission.matching import Labels, RequestFacts
from wif.admission.neighbours import KINDS, Neighbour, neighbours
from wif.admission.workloads import Workload, read_manifests
from wif.edges.kube import KubeClient
from wif.edges.kube_objects import Resource
from wif.errors import ConfigurationError, RefusedError, UnavailableError

_GROUP = "admissionregistration.k8s.io"
_VERSIONS = ("v1", "v1beta1")
"""Policies came later than webhooks: an older cluster may have them as a beta."""
_PAGE = 50
"""Registrations in one answer; each may hold a certificate or a long expression, and an answer has at most 1 MiB."""
_MAX_PAGES = 100


class Gap(NamedTuple):
    """Something that could not be read."""

    message: str
    hint: str


class ClusterFacts(NamedTuple):
    """What the cluster says about one pod."""

    neighbours: tuple[Neighbour, ...]
    gaps: tuple[Gap, ...]
    has_all_mutating: bool
    """Whether everything that can change a pod could be read."""


class Cluster:
    """One API server, asked for the objects that decide about pods; each is asked for once."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self.gaps: list[Gap] = []
        self.created: dict[tuple[str, str], str] = {}
        """``creationTimestamp`` of the ServiceAccounts that were read."""
        self._accounts: dict[tuple[str, str], ServiceAccount | None] = {}
        self._asked: set[tuple[str, str]] = set()
        self._namespaces: dict[str, Labels] = {}
        self._not_served: set[str] = set()
        self._registrations: dict[str, Sequence[Mapping[str, Any]]] | None = None

    @property
    def accounts(self) -> Mapping[tuple[str, str], ServiceAccount | None]:
        """Those that were read; None for one that is not there."""
        return self._accounts

    def read_account(self, namespace: str, name: str) -> None:
        """Read a ServiceAccount."""
        key = (namespace, name)
        if key in self._asked:
            return
        self._asked.add(key)
        found = self._read(Resource(group="", plural="serviceaccounts", namespace=namespace).path(name))
        if found is None:
            return
        if not found:
            self._accounts[key] = None
            return
        metadata = found.get("metadata") or {}
        self.created[key] = str(metadata.get("creationTimestamp") or "")
        annotations = metadata.get("annotations") or {}
        self._accounts[key] = ServiceAccount(namespace, name, str(metadata.get("uid") or ""), annotations)

    def pod(self, namespace: str, name: str) -> Workload:
        """A pod that runs.

        Raises:
            ConfigurationError: config-missing, where there is none.
            RefusedError: cluster-refused.
        """
        path = Resource(group="", plural="pods", namespace=namespace).path(name)
        try:
            found = self._client.get(path)
        except UnavailableError as error:
            if error.status != 404:
                raise
            raise ConfigurationError(
                f"there is no pod {namespace}/{name} in the cluster",
                code="config-missing",
                hint=f"look at what is there: kubectl get pods --namespace {namespace}",
            ) from error
        (workload,) = read_manifests([(f"the pod {namespace}/{name}", {**found, "kind": "Pod"})]).workloads
        return workload

    def config_map(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The platform's ConfigMap; None where it is not there, or could not be read, which is a gap then."""
        found = self._read(Resource(group="", plural="configmaps", namespace=namespace).path(name))
        if found is not None and not found:
            self._gap(f"there is no ConfigMap {namespace}/{name}: nothing of the platform counts", "check its name")
        return found or None

    def facts(self, workload: Workload) -> ClusterFacts:
        """What else is called when this pod is created."""
        labels = (workload.pod.get("metadata") or {}).get("labels") or {}
        name = (workload.pod.get("metadata") or {}).get("name") or ""
        request = RequestFacts(namespace=self._labels(workload.namespace), labels=labels, name=name)
        if self._registrations is None:
            self._registrations = self._read_registrations()
        has_all = all(
            plural in self._registrations or plural in self._not_served
            for kind in KINDS
            for plural in (kind.plural, kind.bindings)
            if plural and kind.is_mutating
        )
        return ClusterFacts(neighbours(self._registrations, request), tuple(self.gaps), has_all)

    def _labels(self, namespace: str) -> Labels:
        if namespace not in self._namespaces:
            Resource(group="", plural="namespaces", namespace=namespace)  # checks the name, which becomes a path
            found = self._read(f"/api/v1/namespaces/{namespace}")
            known = (found.get("metadata") or {}).get("labels") if found else None
            self._namespaces[namespace] = Labels.of_unread_namespace(namespace) if known is None else Labels(known)
        return self._namespaces[namespace]

    def _read_registrations(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        found = {}
        for kind in KINDS:
            for plural in (kind.plural, kind.bindings):
                listed = self._list(plural) if plural else None
                if listed is not None:
                    found[plural] = listed
        return found

    def _list(self, plural: str) -> Sequence[Mapping[str, Any]] | None:
        for version in _VERSIONS:
            items: list[Mapping[str, Any]] = []
            more = ""
            for _ in range(_MAX_PAGES):
                query = f"?limit={_PAGE}" + (f"&continue={quote(more, safe='')}" if more else "")
                page = self._read(f"/apis/{_GROUP}/{version}/{plural}{query}")
                if page is None:
                    return None
                items += page.get("items") or ()
                more = str((page.get("metadata") or {}).get("continue") or "")
                if not more:
                    break
            if page:
                return items
        self._not_served.add(plural)  # an older version of Kubernetes: nothing is missing
        return None

    def _read(self, path: str) -> Mapping[str, Any] | None:
        """An object; empty where there is none; None where it may not be read, which is a gap then."""
        try:
            return self._client.get(path)
        except RefusedError as error:
            self._gap(error.message, error.hint)
            return None
        except UnavailableError as error:
            if error.status != 404:
                raise
            return {}

    def _gap(self, message: str, hint: str) -> None:
        gap = Gap(message, hint)
        if gap not in self.gaps:
            self.gaps.append(gap)
