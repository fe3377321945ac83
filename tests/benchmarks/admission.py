"""The pure handling of an AdmissionReview: decode, decide, encode. Prints rows.

The pod has four containers and comes in a review of about 6 KB, as a ReplicaSet's controller sends it; its
ServiceAccount is decoded anew for each review, as it comes out of the cache.
"""

from __future__ import annotations

import json
import time
import timeit
from collections.abc import Iterator, Mapping
from typing import Any

from tests.benchmarks.rows import Row
from wif.admission.accounts import ServiceAccount, packed, unpacked
from wif.admission.mutation import Readings, accounts_wanted, encode_decision, mutate
from wif.admission.review import read_review
from wif.config.webhook import WebhookSettings

ONE_CLOUD_US_MAX = 60.0

CLOUDS: Mapping[str, Mapping[str, str]] = {
    "aws": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/application"},
    "gcp": {
        "cloud.google.com/workload-identity-provider": (
            "projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/cluster"
        ),
        "cloud.google.com/service-account-email": "application@my-project.iam.gserviceaccount.com",
    },
    "azure": {"azure.workload.identity/client-id": "00000000-0000-0000-0000-00000000000b"},
}
SETTINGS = WebhookSettings(azure_tenant_id="00000000-0000-0000-0000-00000000000a")


def review() -> bytes:
    """The request."""
    api_access = {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        ],
        "defaultMode": 420,
    }
    pod = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "application-6d4cf56db6-",
            "namespace": "shop",
            "labels": {"app": "application", "azure.workload.identity/use": "true", "pod-template-hash": "6d4cf56db6"},
            "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "application-6d4cf56db6"}],
        },
        "spec": {
            "volumes": [
                {"name": "settings", "configMap": {"name": "application", "defaultMode": 420}},
                {"name": "kube-api-access-x7x7x", "projected": api_access},
            ],
            "containers": [_container(number) for number in range(4)],
            "restartPolicy": "Always",
            "serviceAccountName": "application",
            "securityContext": {},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        },
        "status": {},
    }
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
        },
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    document = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    return json.dumps(document, separators=(",", ":")).encode()


def _container(number: int) -> dict[str, Any]:
    return {
        "name": f"container-{number}",
        "image": "registry.example.com/shop/application:1.2.3",
        "ports": [{"containerPort": 8080 + number, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{each}", "value": f"the value of setting number {each}"} for each in range(9)],
        "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/application"},
            {
                "name": "kube-api-access-x7x7x",
                "readOnly": True,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            },
        ],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def measure() -> Iterator[Row]:
    """Rows of one cloud each, and of all three at once."""
    body = review()
    for cloud, said in CLOUDS.items():
        value = _microseconds(body, said)
        yield _row(f"webhook, pure handling of a review, {cloud}", value, body, ONE_CLOUD_US_MAX)
    together = {key: value for said in CLOUDS.values() for key, value in said.items()}
    yield _row("webhook, pure handling of a review, three clouds", _microseconds(body, together), body, None)


def _microseconds(body: bytes, annotations: Mapping[str, str]) -> float:
    readings = Readings()
    kept = packed(ServiceAccount("shop", "application", "uid", annotations))

    def handle() -> bytes:
        asked = read_review(body)
        (wanted,) = accounts_wanted(asked, SETTINGS)
        return encode_decision(
            asked, mutate(asked, {wanted: unpacked(kept)}, SETTINGS, readings=readings, new_secret=str)
        )

    assert b'"patchType":"JSONPatch"' in handle()
    rounds = 3000
    # The processor's time, the least of several: what else the machine does is no part of it.
    return min(timeit.repeat(handle, number=rounds, repeat=9, timer=time.process_time)) / rounds * 1e6


def _row(name: str, value: float, body: bytes, most: float | None) -> Row:
    return Row(
        name=name,
        value=round(value, 1),
        unit="µs",
        target="-" if most is None else f"at most {most:g} µs",
        met=None if most is None else value <= most,
        note=f"{len(body)} bytes, four containers",
    )


if __name__ == "__main__":
    for row in measure():
        print(row.as_json())
