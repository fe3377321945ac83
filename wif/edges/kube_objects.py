"""Objects of the Kubernetes API: read one, make it, replace or change the version that was read, remove it.

A write is sent once and never repeated here: an answer that was lost may hide a write that was done, and only the
caller can tell by reading again.
"""

from __future__ import annotations

__all__ = ["Objects", "Resource", "micro_time", "resource_version"]

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wif.edges.kube import REQUEST_SECONDS, KubeClient
from wif.errors import ConfigurationError, RefusedError, UnavailableError

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""A DNS subdomain of RFC 1123, as Kubernetes checks most names. A name becomes part of a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object, in a namespace."""

    group: str
    """Empty for the core group."""
    version: str = "v1"
    plural: str
    namespace: str

    def __post_init__(self) -> None:
        _check("namespace", self.namespace)

    def path(self, name: str | None = None) -> str:
        """The API's path of one object, or of all."""
        prefix = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        path = f"{prefix}/namespaces/{self.namespace}/{self.plural}"
        return path if name is None else f"{path}/{_check(self.plural, name)}"


class Objects:
    """The objects of one kind. Safe for threads.

    Errors of all methods: RefusedError ``cluster-refused`` (a right that is missing is named in the hint),
    UnavailableError ``cluster-unavailable``.

    Args:
        client: who asks.
        resource: for what.
        timeout_seconds: of each request.
    """

    def __init__(self, client: KubeClient, resource: Resource, *, timeout_seconds: float = REQUEST_SECONDS) -> None:
        self.resource = resource
        self._client = client
        self._timeout_seconds = timeout_seconds

    def get(self, name: str, *, timeout_seconds: float | None = None) -> Mapping[str, Any] | None:
        """The object of now; None where there is none."""
        try:
            return self._client.request_object(
                "GET",
                self.resource.path(name),
                repeat=timeout_seconds is None,
                timeout_seconds=timeout_seconds or self._timeout_seconds,
            )
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def create(self, body: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Mapping[str, Any]:
        """Make it.

        Raises:
            WriteConflict: one of that name is there.
        """
        return self._write("POST", self.resource.path(), body, timeout_seconds)

    def replace(self, body: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Mapping[str, Any]:
        """Replace the version that ``metadata.resourceVersion`` names by this whole object.

        Raises:
            WriteConflict: another version is there.
        """
        resource_version(body)  # without it the API server would replace whatever is there
        return self._write("PUT", self.resource.path(str(body["metadata"]["name"])), body, timeout_seconds)

    def change(
        self,
        name: str,
        changes: Mapping[str, Any],
        *,
        version: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Mapping[str, Any]:
        """Change some members and leave the others alone (a JSON merge patch: None takes a member out).

        Args:
            version: the resourceVersion that must be there; None takes any.

        Raises:
            WriteConflict: another version is there.
        """
        body = dict(changes)
        if version is not None:
            body["metadata"] = {**body.get("metadata", {}), "resourceVersion": version}
        return self._write(
            "PATCH", self.resource.path(name), body, timeout_seconds, content_type="application/merge-patch+json"
        )

    def delete(self, name: str, *, version: str | None = None, uid: str | None = None) -> bool:
        """Remove it; False where there is none.

        Args:
            version: the resourceVersion that must be there; None takes any.
            uid: that it must have; None takes any.

        Raises:
            WriteConflict: another version or another object of that name is there.
        """
        wanted = {key: value for key, value in (("resourceVersion", version), ("uid", uid)) if value is not None}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": wanted}
        try:
            self._write("DELETE", self.resource.path(name), options, None)
        except RefusedError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _write(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        timeout_seconds: float | None,
        *,
        content_type: str = "application/json",
    ) -> Mapping[str, Any]:
        return self._client.request_object(
            method,
            path,
            body,
            content_type=content_type,
            repeat=False,
            timeout_seconds=timeout_seconds or self._timeout_seconds,
        )


def resource_version(body: Mapping[str, Any]) -> str:
    """``metadata.resourceVersion`` of an object that the API server answered.

    Raises:
        UnavailableError: cluster-unavailable where it has none.
    """
    metadata = body.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version:
        raise UnavailableError("the object has no resourceVersion", code="cluster-unavailable")
    return version


def micro_time(now: datetime) -> str:
    """A time as Kubernetes' MicroTime has it: RFC 3339 in UTC, always six digits after the second."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _check(kind: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name[:80]!r} is not a name in Kubernetes ({kind})",
            code="config-invalid",
            hint="use lower-case letters, digits, '-' and '.'",
        )
    return name
