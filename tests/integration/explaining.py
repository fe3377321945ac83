"""``wif webhook explain`` as it is typed, and the objects that its tests explain."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import jsonschema
import yaml

from wif.admission.explanation import MADE_AT_ADMISSION
from wif.admission.patch import apply_patch
from wif.cli.root import run

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/schemas/webhook-explain.json").read_text())
ROLE = "arn:aws:iam::111122223333:role/web"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
EMAIL = "web@my-project.iam.gserviceaccount.com"
GUID = "11111111-2222-3333-4444-555555555555"
THREE = {
    "wif.internal/gcp.provider": PROVIDER,
    "wif.internal/gcp.service-account": EMAIL,
    "eks.amazonaws.com/role-arn": ROLE,
    "azure.workload.identity/client-id": GUID,
    "azure.workload.identity/tenant-id": GUID,
}
SECRET = "hunter2-of-the-pod-in-the-form-of-a-secret-of-ours"
"""Never in an output."""
SIDECAR = {
    "wif.internal/mode": "sidecar",
    "wif.internal/aws.role-arn": ROLE,
    "wif.internal/azure.client-id": GUID,
    "wif.internal/azure.tenant-id": GUID,
}
SIDECAR_IMAGE = ("--sidecar-image", "registry.example/wif:1")
SPEC: dict[str, Any] = {
    "serviceAccountName": "web",
    "containers": [
        {"name": "app", "image": "example.invalid/app", "env": [{"name": "PASSWORD", "value": SECRET}]},
        {"name": "proxy", "image": "example.invalid/proxy"},
    ],
}
TEMPLATE = {"metadata": {"labels": {"azure.workload.identity/use": "true"}}, "spec": SPEC}


def account(annotations: Mapping[str, str], namespace: str = "shop") -> dict[str, Any]:
    metadata = {"name": "web", "namespace": namespace, "annotations": dict(annotations)}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def controller(kind: str = "Deployment", **spec: Any) -> dict[str, Any]:
    made = {"template": TEMPLATE, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "shop"}, "spec": made}


@contextlib.contextmanager
def redirected(stdin: TextIO) -> Iterator[None]:
    """Another stdin, as contextlib has it for stdout."""
    kept, sys.stdin = sys.stdin, stdin
    try:
        yield
    finally:
        sys.stdin = kept


def with_sidecar(explain: Explain, *words: str) -> dict[str, Any]:
    """A pod that has the sidecar, whose secret is :data:`SECRET`, and a container of somebody else's that came later
    and is to get it, too."""
    metadata = {"name": "led", "namespace": "shop"}
    spec = {**SPEC, "initContainers": [{"name": "setup", "image": "example.invalid/setup"}]}
    led: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    explain.write("new.yaml", *([] if "--live" in words else [account(SIDECAR)]), led)
    (planned,) = explain.json("--pod", "new.yaml", *SIDECAR_IMAGE, *words)["pods"]
    text = json.dumps(apply_patch(led, json.dumps(planned["patch"]).encode()))
    assert MADE_AT_ADMISSION in text
    done: dict[str, Any] = json.loads(text.replace(MADE_AT_ADMISSION, SECRET))
    done["spec"]["containers"].append({"name": "late", "image": "example.invalid/late"})
    return done


class Explain:
    """The command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, *documents: Any) -> str:
        (self.folder / name).write_text("---\n".join(yaml.safe_dump(each) for each in documents))
        return name

    def run(self, *words: str, status: int = 0, stdin: str = "") -> tuple[str, str]:
        """In this process: a process of its own for each costs more than everything else here."""
        out, err = io.StringIO(), io.StringIO()
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        with contextlib.chdir(self.folder), redirected(given), redirect_stdout(out), redirect_stderr(err):
            returned = run(["webhook", "explain", *words])
        assert returned == status, f"{words}: {returned}\n{out.getvalue()}\n{err.getvalue()}"
        assert SECRET not in out.getvalue() + err.getvalue()
        return out.getvalue(), err.getvalue()

    def json(self, *words: str, status: int = 0, stdin: str = "") -> Any:
        found = json.loads(self.run(*words, "--json", status=status, stdin=stdin)[0])
        jsonschema.validate(found, SCHEMA, cls=jsonschema.Draft202012Validator)
        return found
