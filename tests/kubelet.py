"""What the kubelet does with a stored pod, as far as identity goes: volumes made on disk, variables of a container.

The root of all mounts is a folder of the test, so every path that begins there is rewritten: in mounts, in variables
and in the files that a downward API volume makes.
"""

from __future__ import annotations

__all__ = ["Container", "Kubelet"]

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wif.emulator.apiserver import ApiServer

_ANNOTATION = re.compile(r"metadata\.annotations\['(?P<key>[^']+)'\]")
_FIELDS = {"status.podIP": "10.0.0.7", "status.hostIP": "192.0.2.7"}
_REFERENCE = re.compile(r"\$\((?P<name>[A-Za-z_][A-Za-z0-9_]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container, ready to run a program in."""

    environment: Mapping[str, str]
    arguments: tuple[str, ...]
    """``args`` of its manifest."""
    root: Path
    """Where ``/`` of its mounts is."""


class Kubelet:
    """Prepares containers of pods that an API server has stored."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def prepare(self, namespace: str, pod_name: str, container_name: str, folder: Path) -> Container:
        """Read the pod back, make the container's volumes under ``folder`` and resolve its variables."""
        status, body = self._server.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod_name}")
        assert status == 200, body
        pod = json.loads(body)
        spec = pod["spec"]
        every = [*spec.get("initContainers", []), *spec["containers"], *spec.get("ephemeralContainers", [])]
        [container] = [each for each in every if each["name"] == container_name]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        # the token for the API server itself is of no interest here
        mounts = [each for each in container.get("volumeMounts", []) if "kubernetes.io" not in each["mountPath"]]
        roots = sorted({mount["mountPath"] for mount in mounts}, key=len, reverse=True)

        def moved(text: str) -> str:
            for path in roots:
                text = re.sub(rf"(?<![\w/.-]){re.escape(path)}(?=[/\"\s]|$)", f"{folder}{path}", text)
            return text

        for mount in mounts:
            place = folder / mount["mountPath"].lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            for name, content in self._files(pod, volumes[mount["name"]]).items():
                file = place / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(moved(content))
        arguments = tuple(moved(each) for each in container.get("args", ()))
        return Container(environment=_variables(container, moved), arguments=arguments, root=folder)

    def _files(self, pod: Mapping[str, Any], volume: Mapping[str, Any]) -> dict[str, str]:
        if "emptyDir" in volume:
            return {}
        if "downwardAPI" in volume:
            return _downward(pod, volume["downwardAPI"])
        files: dict[str, str] = {}
        for source in volume["projected"]["sources"]:
            [(kind, value)] = source.items()
            if kind == "serviceAccountToken":
                files[value["path"]] = self._token(pod, value)
            elif kind == "downwardAPI":
                files |= _downward(pod, value)
            else:
                raise AssertionError(f"this kubelet makes no {kind}")
        return files

    def _token(self, pod: Mapping[str, Any], source: Mapping[str, Any]) -> str:
        metadata, spec = pod["metadata"], pod["spec"]
        return self._server.request_token(
            metadata["namespace"],
            spec["serviceAccountName"],
            source["audience"],
            expiration_seconds=source["expirationSeconds"],
            pod=(metadata["name"], metadata["uid"]),
        )


def _downward(pod: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, str]:
    files = {}
    for item in value["items"]:
        found = _ANNOTATION.fullmatch(item["fieldRef"]["fieldPath"])
        assert found is not None, item
        files[item["path"]] = pod["metadata"]["annotations"][found["key"]]
    return files


def _variables(container: Mapping[str, Any], moved: Any) -> dict[str, str]:
    """In order: a reference to an earlier variable is resolved, as Kubernetes does."""
    variables: dict[str, str] = {}
    for variable in container.get("env", []):
        if "valueFrom" in variable:
            value = _FIELDS[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            value = moved(variable.get("value", ""))
        variables[variable["name"]] = _REFERENCE.sub(lambda it: variables.get(it["name"], it[0]), value)
    return variables
