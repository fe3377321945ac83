"""Reviews for tests, as the API server sends them, and what an answer says."""

from __future__ import annotations

import base64
import json
from typing import Any

ROLE = "arn:aws:iam::111122223333:role/app"
EKS = {"eks.amazonaws.com/role-arn": ROLE}


def pod(name: str = "p", account: str = "app", *, generate: bool = False, **metadata: Any) -> dict[str, Any]:
    """A pod of one container, as somebody would write it."""
    named = {"generateName": f"{name}-"} if generate else {"name": name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**named, **metadata},
        "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "example.invalid/none"}]},
    }


def review(
    made: Any,
    *,
    namespace: str = "shop",
    version: str = "admission.k8s.io/v1",
    resource: str = "pods",
    kind: str = "Pod",
    operation: str = "CREATE",
    dry_run: bool = False,
    uid: str = "u-1",
) -> bytes:
    """The body of a request."""
    request = {
        "uid": uid,
        "kind": {"group": "", "version": "v1", "kind": kind},
        "resource": {"group": "", "version": "v1", "resource": resource},
        "operation": operation,
        "namespace": namespace,
        "dryRun": dry_run,
        "userInfo": {"username": "system:admin", "groups": ["system:masters"]},
        "object": made,
    }
    return json.dumps({"apiVersion": version, "kind": "AdmissionReview", "request": request}).encode()


def patch_of(answer: bytes) -> list[dict[str, Any]]:
    """The operations of an answer; empty where there are none."""
    response = json.loads(answer)["response"]
    operations: list[dict[str, Any]] = json.loads(base64.b64decode(response.get("patch", "") or "W10="))
    return operations
