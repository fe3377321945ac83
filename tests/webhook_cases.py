"""The 89 recorded answers of the three webhooks that exist, and where wif answers differently on purpose.

``tests/unit/admission/test_conformance.py`` puts each of them to the engine, ``tests/unit/serve/test_webhook_peers.py``
those two that are about HTTP. ``docs/reference/webhook-differences.md`` prints :data:`DIFFERENCES`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wif.admission.accounts import ServiceAccount
from wif.config.webhook import WebhookSettings, load_webhook

FILE = Path(__file__).parent / "data" / "webhooks" / "cases.json"
RECORD = "wif.internal/injected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to a webhook, and its answer."""

    name: str
    """The peer and the case: ``pfn P1-gcloud-default``."""
    settings: WebhookSettings
    """The peer's defaults and the case's flags."""
    review: Mapping[str, Any]
    """The AdmissionReview."""
    accounts: Mapping[tuple[str, str], ServiceAccount | None]
    config_map: str | None = None
    """The EKS webhook's own."""
    allowed: bool
    code: int | None = None
    """Of a refusal, where the peer says one."""
    message: str = ""
    after: Any = None
    """The pod afterwards; None for a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row of the page."""

    cases: tuple[str, ...]
    peer: str
    """What the peer does."""
    wif: str
    why: str


# -- the cases ---------------------------------------------------------------------------------------------------------


@cache
def cases() -> tuple[Case, ...]:
    """All of them."""
    found = json.loads(FILE.read_text())
    rows = [
        *map(_pfn, found["pfn"]),
        *map(_eks_fixture, found["eks_fixtures"]),
        *map(_eks_probe, found["eks_probes"]),
        *map(_azure, found["azure"]),
    ]
    return tuple(rows)


def by_name(name: str) -> Case:
    """One of them."""
    (found,) = (case for case in cases() if case.name == name)
    return found


def _pfn(row: Mapping[str, Any]) -> Case:
    flags = row["flags"]
    return _case(
        f"pfn {row['name']}",
        row,
        load_webhook(
            {
                "compat": "pfn",
                "token_mode": flags["token-default-mode"],
                "gcp_region": flags["gcp-default-region"] or None,
                "gcloud_resources": flags["setup-container-resources"] or None,
            }
        ),
        "default",
    )


def _azure(row: Mapping[str, Any]) -> Case:
    binding = {
        "annotation_suffix": "identity-binding",
        "audience": "api://AKSIdentityBinding",
        "token_proxy": "https://kubernetes.default.svc",
        "sni_name": "2183187515ff64fc2fff014fd0e749f92578a466dc345b",
        "ca_config_map": "kube-root-ca.crt",
    }
    config = row["config"]
    return _case(
        f"azure {row['name']}",
        row,
        load_webhook(
            {
                "compat": "azure",
                "azure_tenant_id": config["AZURE_TENANT_ID"],
                "azure_token_endpoint": binding if config["customTokenEndpoint"] else None,
            }
        ),
        "ns1",
    )


def _case(name: str, row: Mapping[str, Any], settings: WebhookSettings, namespace: str) -> Case:
    # An object that could not be decoded was a JSON string.
    pod: Any = "a string" if row["before"] is None else row["before"]
    annotations = row["serviceAccountAnnotations"]
    account_name = "sa" if row["before"] is None else pod["spec"].get("serviceAccountName", "default")
    account = None if annotations is None else ServiceAccount(namespace, account_name, "u-1", annotations)
    return Case(
        name=name,
        settings=settings,
        review=review(pod, namespace=namespace),
        accounts={(namespace, account_name): account},
        allowed=row["allowed"],
        code=None if row["allowed"] else row["result"]["code"],
        message=row["result"].get("message", ""),
        after=row.get("after", pod) if row["allowed"] else None,
    )


_FIXTURE_ANNOTATIONS = {
    "serviceAccount/roleArn": "role-arn",
    "serviceAccount/audience": "audience",
    "serviceAccount/sts-regional-endpoints": "sts-regional-endpoints",
    "serviceAccount/token-expiration": "token-expiration",
}
_FIXTURE_AGENT = {
    "containercredentials/uri": "full_uri",
    "containercredentials/audience": "audience",
    "containercredentials/mountPath": "mount_path",
    "containercredentials/volumeName": "volume_name",
    "containercredentials/tokenPath": "token_path",
}


def _eks_fixture(row: Mapping[str, Any]) -> Case:
    said = row["test_settings"]
    values: dict[str, Any] = {"compat": "eks", "aws_regional_sts": said.get("handler/injectSTS") == "true"}
    if "handler/region" in said:
        values["aws_region"] = said["handler/region"]
    if "handler/expiration" in said:
        values["aws_token_expiration"] = int(said["handler/expiration"])
    agent = {_FIXTURE_AGENT[key]: text for key, text in said.items() if key in _FIXTURE_AGENT}
    if agent:
        values["aws_container_credentials"] = {**agent, "identities": [["default", "default"]]}
    annotations = {
        f"eks.amazonaws.com/{_FIXTURE_ANNOTATIONS[key]}": text
        for key, text in said.items()
        if key in _FIXTURE_ANNOTATIONS
    }
    return Case(
        name=f"eks {row['file'].removesuffix('.pod.yaml')}",
        settings=load_webhook(values),
        review=review(row["before"], namespace="default"),
        accounts={("default", "default"): ServiceAccount("default", "default", "u-1", annotations)},
        allowed=True,
        after=row["after"],
    )


_PROBE_FLAGS: Mapping[str, Mapping[str, Any]] = {
    "K3-container-creds-existing-labels": {
        "aws_region": "us-west-2",
        "aws_container_credentials": {"identities": [["default", "default"]]},
    },
    "K23-envFrom-not-considered": {"aws_region": "r1"},
}


def _eks_probe(row: Mapping[str, Any]) -> Case:
    asked = row["request"]["request"]
    annotations = row["serviceAccountAnnotations"]
    if annotations is None and row["configmap"] is not None:
        annotations = {}  # a pod that the API server lets through has one
    account = None if annotations is None else ServiceAccount("default", "default", "u-1", annotations)
    answered = row.get("review") or {"allowed": False}
    return Case(
        name=f"eks {row['name']}",
        settings=load_webhook({"compat": "eks", **_PROBE_FLAGS.get(row["name"], {})}),
        review=review(
            asked["object"],
            namespace=asked["namespace"],
            operation=asked["operation"],
            version=row["request"]["apiVersion"],
            uid=asked["uid"],
        ),
        accounts={("default", "default"): account},
        config_map=row["configmap"],
        allowed=answered["allowed"],
        code=row["http"] if row["http"] != 200 else None,
        message=((answered.get("status") or {}).get("message")) or row.get("body", ""),
        after=row.get("after", asked["object"]) if answered["allowed"] else None,
    )


def review(
    pod: Any,
    *,
    namespace: str,
    operation: str = "CREATE",
    version: str = "admission.k8s.io/v1",
    uid: str = "705ab4f5-6393-11e8-b7cc-42010a800002",
) -> dict[str, Any]:
    """An AdmissionReview as the API server sends it."""
    return {
        "apiVersion": version,
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": operation,
            "namespace": namespace,
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "oldObject": None,
            "dryRun": False,
        },
    }


# -- what is compared --------------------------------------------------------------------------------------------------


def comparable(pod: Any, namespace: str) -> Any:
    """A pod without what says nothing: our record, and what the API server itself fills in or leaves out.

    The peers decode and encode the whole pod, so they write a namespace, empty resources, nulls and empty values.
    """
    if not isinstance(pod, dict):
        return pod
    metadata = {key: value for key, value in pod["metadata"].items() if (key, value) != ("namespace", namespace)}
    annotations = {key: text for key, text in metadata.pop("annotations", {}).items() if key != RECORD}
    return _meaningful({**pod, "metadata": {**metadata, "annotations": annotations or None}})


_NOTHING: tuple[tuple[str, Any], ...] = (("resources", {}), ("value", ""))


def _meaningful(value: Any) -> Any:
    if isinstance(value, dict):
        rows = [(key, _meaningful(member)) for key, member in value.items()]
        return {key: member for key, member in rows if member is not None and (key, member) not in _NOTHING}
    return [_meaningful(entry) for entry in value] if isinstance(value, list) else value


# -- the differences ---------------------------------------------------------------------------------------------------

_TAKEN_PATH = "It adds a second mount on the path, and the API server refuses the pod."
_OWN_PATH = (
    "The pod starts as its author wrote it. That container gets no identity from wif, and a warning says which "
    "mount is in the way."
)
_ONE_PATH = "A pod is not to fail because an identity was added to it; `--deny-collisions` refuses it with the reason."
_FOREIGN_VOLUME = Difference(
    cases=("rawPodHasVolumeMount", "containercredentials/rawPodWithConflictingVolumeMount"),
    peer="Takes any volume of its own volume's name for its own: the variables lead to a file that is not there.",
    wif="Injects nothing for AWS where the volume is not the token's, and warns.",
    why="Variables without a token make the SDK fail where it worked before; the volume may even hold a file of "
    "somebody else's making.",
)

DIFFERENCES: Mapping[str, tuple[Difference, ...]] = {
    "pfn": (
        Difference(
            cases=("E8-bad-expiration-without-other-annotations",),
            peer="Refuses every pod of a ServiceAccount that has nothing but a malformed `token-expiration`.",
            wif="Lets the pod through as it is, with a warning.",
            why="The ServiceAccount asks for no Google identity, so nothing of the pod depends on the value.",
        ),
        Difference(
            cases=("S3-get-error",),
            peer="Refuses the pod with code 500 when the ServiceAccount cannot be looked up.",
            wif="Answers with HTTP 503, so that the registration's failure policy decides: `Ignore` lets the pod "
            "through, `Fail` has it created again later.",
            why="`Ignore` should hold for this failure as for any other; the guard reports or refuses the pod that "
            "lacks its token.",
        ),
    ),
    "eks": (
        _FOREIGN_VOLUME,
        Difference(
            cases=("K24-mountpath-conflict",),
            peer=_TAKEN_PATH,
            wif=_OWN_PATH,
            why=_ONE_PATH,
        ),
        Difference(
            cases=("K6-cm-without-audience",),
            peer="Asks for a token without an audience when the ConfigMap's entry has none.",
            wif="Uses the default audience (`--aws-audience`, `sts.amazonaws.com`).",
            why="A token without an audience is good for the Kubernetes API itself, and would be sent to AWS.",
        ),
        Difference(
            cases=("K8-cm-glob-ns-def-star",),
            peer="Reads `*` in a namespace of its ConfigMap only where it stands alone; its README shows `test-*/sa`.",
            wif="Reads it as the README says: any letters.",
            why="An entry that was written by the README should do what it says.",
        ),
        Difference(
            cases=("K9-cm-expiration-10-not-clamped",),
            peer="Passes a `TokenExpiration` below 600 of the ConfigMap on, and the API server refuses the pod.",
            wif="Raises it to 600, as the annotation's, and warns.",
            why="The same bounds hold wherever the value comes from.",
        ),
        Difference(
            cases=("K17-no-sa-name",),
            peer="Leaves a pod without `serviceAccountName` as it is.",
            wif="Takes the ServiceAccount `default`, which is what the pod runs as. Mirror pods are left as they are.",
            why="The API server fills the name in before it asks a webhook, so a cluster shows the same with both.",
        ),
        Difference(
            cases=("K19-content-type-charset",),
            peer="Refuses `Content-Type: application/json; charset=utf-8` with HTTP 415.",
            wif="Answers it.",
            why="It is the same content; some proxies add the parameter.",
        ),
        Difference(
            cases=("K21-unknown-field-roundtrip",),
            peer="Loses fields of a container that its Kubernetes library does not know.",
            wif="Changes nothing but what it adds.",
            why="That loss took `restartPolicy: Always` from native sidecars, and will take what comes next.",
        ),
        Difference(
            cases=("K25-windows-spec-os-name",),
            peer="Knows a Windows pod by its node selector alone.",
            wif="By `spec.os.name`, too: the variable has the path with `C:`.",
            why="`spec.os.name` is where Kubernetes says it.",
        ),
        Difference(
            cases=("K28-update-op-ignored-by-handler?",),
            peer="Answers an UPDATE of a pod with the patch of a CREATE.",
            wif="Leaves pods alone once they are created, but for new ephemeral containers.",
            why="The volumes of a running pod cannot be changed: the API server would refuse the update.",
        ),
    ),
    "azure": (
        Difference(
            cases=("A2-proxy-native", "A3-proxy-classic", "E8-port-0-and-70000"),
            peer="Adds the proxy and its init container for the annotation `inject-proxy-sidecar`.",
            wif="Injects the token, the variables and the mount, but no proxy, and warns.",
            why="The init container is privileged and its image is another project's; every current Azure SDK reads "
            "`AZURE_FEDERATED_TOKEN_FILE` without it.",
        ),
        Difference(
            cases=("E2-hostnetwork-proxy", "E3-bad-port"),
            peer="Refuses a pod whose proxy could not work: on the host's network, or with a malformed port.",
            wif="Lets it through with the token and the warning that there is no proxy.",
            why="Without a proxy neither matters.",
        ),
        Difference(
            cases=("A8-no-label-still-mutated-by-handler",),
            peer='Leaves the label `azure.workload.identity/use: "true"` to the selector of its registration; its '
            "handler mutates every pod that arrives.",
            wif="Looks at the label itself.",
            why="One registration serves all dialects, so pods without the label arrive here, too. In a cluster both "
            "do the same.",
        ),
        Difference(
            cases=("A10-mountpath-conflict",),
            peer=_TAKEN_PATH,
            wif=_OWN_PATH,
            why=_ONE_PATH,
        ),
    ),
}
"""By peer. The page has them in this order, word for word."""


def different() -> Iterator[tuple[str, Difference]]:
    """Each case that differs, by its name, with its row."""
    for peer, rows in DIFFERENCES.items():
        for row in rows:
            for case in row.cases:
                yield f"{peer} {case}", row
