"""The registration of the webhook: Mutating- and ValidatingWebhookConfiguration as plain objects.

Who is called, and who is not, is decided here, and each choice keeps a cluster startable while the webhook is down
(the bootstrap deadlock: pods that the webhook needs wait for the webhook):

- ``failurePolicy: Ignore``: no answer admits the pod as it is; the guard of :mod:`wif.admission.guards` then finds it.
- ``kube-system`` and the webhook's own namespace are excluded by their name, a label that the API server itself sets:
  DNS, the network and the webhook start whatever becomes of the webhook, also under ``Fail``.
- Mirror pods are exempt: a kubelet reports static pods, the API server among them, that run already.
- No other user is: Deployments, Jobs and StatefulSets create their pods as ``system:serviceaccount:kube-system:…``.
- 5 seconds at most, for each call.
"""

from __future__ import annotations

__all__ = [
    "API_VERSION",
    "NOT_A_MIRROR_POD",
    "FailurePolicy",
    "MatchPolicy",
    "RegistrationSettings",
    "ReinvocationPolicy",
    "annotated",
    "gives_identity",
    "identity_patterns",
    "inject_label",
    "namespace_selector",
    "registration",
]

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from wif.admission.annotation_keys import IDENTITY_NAME, NATIVE_TRIGGERS
from wif.admission.cel_text import literal
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError

API_VERSION = "admissionregistration.k8s.io/v1"
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label with a namespace's own name; the API server sets it, and nobody can set another value."""
INJECT_LABEL = "inject"
"""Behind the prefix: the label of ServiceAccounts by which policies choose their parameters. The webhook and a policy
set it."""
MUTATE_PATH = "/mutate"
VALIDATE_PATH = "/validate"
NOT_A_MIRROR_POD: Mapping[str, str] = {
    "name": "not-a-mirror-pod",
    "expression": "!has(request.userInfo.groups) || !('system:nodes' in request.userInfo.groups)",
}
"""Nodes may create mirror pods and no others (the admission plugin NodeRestriction)."""

FailurePolicy = Literal["Ignore", "Fail"]
ReinvocationPolicy = Literal["IfNeeded", "Never"]
MatchPolicy = Literal["Equivalent", "Exact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationSettings:
    """Where the webhook is, and when it is called.

    Raises:
        ConfigurationError: config-conflict, where the webhook would have to be up for its own pods to start.
    """

    release: str = "wif"
    """In every name, so that several installs stand side by side."""
    namespace: str = "wif-system"
    """The webhook's own."""
    service: str | None = None
    """None: ``RELEASE-webhook``."""
    port: int = 443
    url: str | None = None
    """``https://HOST[:PORT]`` in place of the service, for a webhook outside the cluster."""
    ca_bundle: str = ""
    """PEM certificates that the API server trusts; empty where cert-manager or the webhook itself writes them."""
    cert_manager: str | None = None
    """``NAMESPACE/NAME`` of a Certificate whose authority cert-manager writes into the configurations."""
    failure_policy: FailurePolicy = "Ignore"
    timeout_seconds: int = 5
    reinvocation_policy: ReinvocationPolicy = "IfNeeded"
    match_policy: MatchPolicy = "Equivalent"
    excluded_namespaces: tuple[str, ...] | None = None
    """None: kube-system and the webhook's own. One that is in ``watch_namespaces`` is not excluded."""
    watch_namespaces: tuple[str, ...] = ()
    """These and no others; empty: all."""
    namespace_selector: Mapping[str, Any] = field(default_factory=dict)
    """A LabelSelector that holds as well."""
    object_selector: Mapping[str, Any] = field(default_factory=dict)
    """A LabelSelector of pods. Whoever can set a pod's labels can leave the webhook out by it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the objects made, beside those that name the release."""
    with_validation: bool = True
    """Also have ServiceAccounts' annotations checked when they are written."""
    enforce: bool = False
    """Guards deny, in place of warn."""

    def __post_init__(self) -> None:
        needed = [name for name in self._needed if self._reaches(name)]
        if self.failure_policy == "Fail" and needed:
            raise ConfigurationError(
                f"with the failure policy Fail the webhook would have to answer before pods of {needed[0]} start,"
                " and it needs some of those itself",
                code="config-conflict",
                hint=f"exclude the namespace {needed[0]}, or use the failure policy Ignore",
            )
        if not 1 <= self.timeout_seconds <= 30:
            raise ConfigurationError(
                f"a timeout of {self.timeout_seconds} s: the API server takes 1 to 30", code="config-invalid"
            )
        if self.url is not None and not self.url.startswith("https://"):
            raise ConfigurationError(
                f"the webhook's URL {self.url!r} does not begin with https://: the API server speaks TLS only",
                code="config-invalid",
            )

    @property
    def name(self) -> str:
        """Of everything that is made here: namespace and release are in it, for the objects have no namespace."""
        return f"{self.namespace}-{self.release}-webhook"

    @property
    def excluded(self) -> tuple[str, ...]:
        """The namespaces that are left out."""
        chosen = self._needed if self.excluded_namespaces is None else self.excluded_namespaces
        return tuple(name for name in dict.fromkeys(chosen) if name not in self.watch_namespaces)

    @property
    def _needed(self) -> tuple[str, ...]:
        return ("kube-system", self.namespace)

    def _reaches(self, namespace: str) -> bool:
        return namespace in self.watch_namespaces if self.watch_namespaces else namespace not in self.excluded

    def metadata(self, suffix: str = "", *, annotations: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
        """Name, labels and annotations of one object."""
        labels = {
            "app.kubernetes.io/name": "wif",
            "app.kubernetes.io/instance": self.release,
            "app.kubernetes.io/component": "webhook",
            "app.kubernetes.io/part-of": "wif",
            **self.labels,
        }
        return {
            "name": f"{self.name}{suffix}",
            "labels": labels,
            **({"annotations": dict(annotations)} if annotations else {}),
        }


def registration(settings: WebhookSettings, registration: RegistrationSettings) -> list[dict[str, Any]]:
    """The MutatingWebhookConfiguration and, unless switched off, the ValidatingWebhookConfiguration."""
    certificate = registration.cert_manager
    annotations = {"cert-manager.io/inject-ca-from": certificate} if certificate else {}
    mutating = {
        "apiVersion": API_VERSION,
        "kind": "MutatingWebhookConfiguration",
        "metadata": registration.metadata(annotations=annotations),
        "webhooks": [
            _pods(settings, registration),
            _ephemeral_containers(settings, registration),
            {
                **_webhook("serviceaccounts", MUTATE_PATH, settings, registration),
                **_rule(["CREATE", "UPDATE"], "serviceaccounts"),
                "reinvocationPolicy": registration.reinvocation_policy,
                "matchConditions": [{"name": "annotated-or-labelled", "expression": _label_may_change(settings)}],
            },
        ],
    }
    if not registration.with_validation:
        return [mutating]
    validating = {
        "apiVersion": API_VERSION,
        "kind": "ValidatingWebhookConfiguration",
        "metadata": registration.metadata(annotations=annotations),
        "webhooks": [
            {
                **_webhook("serviceaccounts", VALIDATE_PATH, settings, registration),
                **_rule(["CREATE", "UPDATE"], "serviceaccounts"),
                "matchConditions": [{"name": "annotated", "expression": annotated("object", settings)}],
            }
        ],
    }
    return [mutating, validating]


def _pods(settings: WebhookSettings, registration: RegistrationSettings) -> dict[str, Any]:
    """Called for every new pod: what its ServiceAccount says is not in the request."""
    selector = dict(registration.object_selector)
    if settings.dialects == ("azure",):  # the one dialect that has a mark on the pod
        selector["matchLabels"] = {**selector.get("matchLabels", {}), f"{settings.azure_prefix}/use": "true"}
    return {
        **_webhook("pods", MUTATE_PATH, settings, registration),
        **_rule(["CREATE"], "pods"),
        "reinvocationPolicy": registration.reinvocation_policy,
        **({"objectSelector": selector} if selector else {}),
        "matchConditions": [dict(NOT_A_MIRROR_POD)],
    }


def _ephemeral_containers(settings: WebhookSettings, registration: RegistrationSettings) -> dict[str, Any]:
    """Called where a pod has been injected into: an ephemeral container cannot bring a volume."""
    record = literal(f"{settings.prefix}/injected")
    return {
        **_webhook("ephemeralcontainers", MUTATE_PATH, settings, registration),
        **_rule(["UPDATE"], "pods/ephemeralcontainers"),
        "reinvocationPolicy": registration.reinvocation_policy,
        "matchConditions": [
            {
                "name": "injected",
                "expression": f"has(object.metadata.annotations) && {record} in object.metadata.annotations",
            }
        ],
    }


def _webhook(name: str, path: str, settings: WebhookSettings, registration: RegistrationSettings) -> dict[str, Any]:
    return {
        "name": f"{name}.{registration.release}-webhook.{settings.prefix}",
        "clientConfig": _client(path, registration),
        "admissionReviewVersions": ["v1"],
        "sideEffects": "NoneOnDryRun",
        "failurePolicy": registration.failure_policy,
        "matchPolicy": registration.match_policy,
        "timeoutSeconds": registration.timeout_seconds,
        "namespaceSelector": namespace_selector(registration),
    }


def _client(path: str, registration: RegistrationSettings) -> dict[str, Any]:
    where: dict[str, Any] = {
        "service": {
            "namespace": registration.namespace,
            "name": registration.service or f"{registration.release}-webhook",
            "path": path,
            "port": registration.port,
        }
    }
    if registration.url is not None:
        where = {"url": f"{registration.url.rstrip('/')}{path}"}
    if registration.ca_bundle:
        where["caBundle"] = base64.b64encode(registration.ca_bundle.encode()).decode()
    return where


def _rule(operations: Sequence[str], resource: str) -> dict[str, Any]:
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": list(operations),
        "resources": [resource],
        "scope": "Namespaced",
    }
    return {"rules": [rule]}


def namespace_selector(registration: RegistrationSettings) -> dict[str, Any]:
    """The namespaces that are meant, as a LabelSelector."""
    given = registration.namespace_selector
    rows: list[dict[str, Any]] = [dict(row) for row in given.get("matchExpressions", ())]
    if registration.watch_namespaces:
        names = list(dict.fromkeys(registration.watch_namespaces))
        rows.insert(0, {"key": NAMESPACE_NAME, "operator": "In", "values": names})
    elif registration.excluded:
        rows.insert(0, {"key": NAMESPACE_NAME, "operator": "NotIn", "values": list(registration.excluded)})
    labels = {"matchLabels": dict(given["matchLabels"])} if given.get("matchLabels") else {}
    return {**labels, **({"matchExpressions": rows} if rows else {})}


def inject_label(settings: WebhookSettings) -> str:
    """The label of ServiceAccounts that carry an annotation of a dialect; its value is ``true``."""
    return f"{settings.prefix}/inject"


def annotated(variable: str, settings: WebhookSettings) -> str:
    """CEL: whether an object carries an annotation of a dialect that is on."""
    starts = " || ".join(f"k.startsWith({literal(prefix)})" for prefix in settings.prefixes)
    return f"has({variable}.metadata.annotations) && {variable}.metadata.annotations.exists(k, {starts})"


_PEER_TRIGGERS = {
    "pfn": "(workload-identity-provider|service-account-email)",
    "eks": "role-arn",
    "azure": "(client-id|tenant-id)",
}


def identity_patterns(settings: WebhookSettings) -> list[str]:
    """Regular expressions of RE2, each for whole keys of annotations that give an identity.

    The same keys as :func:`wif.admission.annotation_keys.clouds_given` knows.
    """
    native = "|".join(
        f"{cloud}(\\.{IDENTITY_NAME})?\\.({'|'.join(fields)})" for cloud, fields in NATIVE_TRIGGERS.items()
    )
    rows = (
        ("native", settings.prefix, f"({native})"),
        ("pfn", settings.gcp_prefix, _PEER_TRIGGERS["pfn"]),
        ("eks", settings.aws_prefix, _PEER_TRIGGERS["eks"]),
        ("azure", settings.azure_prefix, _PEER_TRIGGERS["azure"]),
    )
    return [f"{re.escape(prefix)}/{names}" for name, prefix, names in rows if name in settings.dialects]


def gives_identity(variable: str, settings: WebhookSettings) -> str:
    """CEL: whether an object carries an annotation that gives an identity. Such a ServiceAccount has the label."""
    whole = literal(f"^({'|'.join(identity_patterns(settings))})$")
    each = f"k.matches({whole}) && {variable}.metadata.annotations[k] != ''"
    return f"has({variable}.metadata.annotations) && {variable}.metadata.annotations.exists(k, {each})"


def _label_may_change(settings: WebhookSettings) -> str:
    """CEL: whether the label has to be set, or may have to go."""
    label = literal(inject_label(settings))

    def either(variable: str) -> str:
        labelled = f"has({variable}.metadata.labels) && {label} in {variable}.metadata.labels"
        return f"({annotated(variable, settings)}) || ({labelled})"

    return f"{either('object')} || (oldObject != null && ({either('oldObject')}))"
