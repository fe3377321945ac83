"""ValidatingAdmissionPolicies that stand beside the injection, so that ``failurePolicy: Ignore`` is safe.

Three of them, each with its binding:

- ``-token-volume``: a pod whose ServiceAccount is annotated carries a token of each cloud. What was admitted while the
  webhook did not answer is found here. The policy's parameters are the ServiceAccounts of the pod's namespace that
  carry the label ``PREFIX/inject: "true"``: with every ServiceAccount of the namespace as a parameter, 5,000 of them
  cost 76 ms for each pod, with the label 3 ms.
- ``-label``: that label stands wherever a dialect's annotation does, else leaving it off evades the first.
- ``-fixed-annotations``: annotations that feed a credential file are fixed when the pod is created. They reach the
  file through the downward API for as long as the pod lives, and ``patch pods`` alone would be enough to send a
  running pod's tokens elsewhere. It denies, everywhere, whoever asks.

The first two warn, or deny where the registration says ``enforce``. None of them is a boundary against somebody who may
create pods: such a one may mount a token of any audience. The boundary is what the cloud trusts.
"""

from __future__ import annotations

__all__ = ["guards", "parameters", "policy", "resource_rule", "volume_audiences"]

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wif.admission.cel_text import literal, string_list
from wif.admission.registration import (
    API_VERSION,
    NOT_A_MIRROR_POD,
    RegistrationSettings,
    gives_identity,
    inject_label,
    namespace_selector,
)
from wif.config.webhook import WebhookSettings

PARAMETER = {"apiVersion": "v1", "kind": "ServiceAccount"}
ANNOTATIONS = "has(params.metadata.annotations) ? params.metadata.annotations : {}"
"""CEL: a ServiceAccount's, which is the parameter."""
OF_THIS_POD: Mapping[str, str] = {
    "name": "its-service-account",
    "expression": "params.metadata.name == "
    "(has(object.spec.serviceAccountName) ? object.spec.serviceAccountName : 'default')",
}
"""One evaluation for each parameter: the pod's own ServiceAccount is meant."""
EKS_SKIP_LABEL = "eks.amazonaws.com/skip-pod-identity-webhook"
"""Of that webhook's registration, whatever its prefix is; its dialect honours it."""
_ADMITTED = "admitted while the webhook did not answer? Create the pod anew, or see what wif webhook explain says"


class _Cloud(NamedTuple):
    name: str
    title: str
    asked: str
    """CEL: whether the ServiceAccount names an identity of it, and the pod does not do without."""
    audiences: str
    """CEL: a list of the audiences that its tokens may have."""


def guards(settings: WebhookSettings, registration: RegistrationSettings) -> list[dict[str, Any]]:
    """The three policies, each followed by its binding."""
    return [
        *_token_volume(settings, registration),
        *_label(settings, registration),
        *_fixed_annotations(settings, registration),
    ]


def policy(
    kind: str, spec: Mapping[str, Any], binding: Mapping[str, Any], suffix: str, registration: RegistrationSettings
) -> list[dict[str, Any]]:
    """A policy and its binding. ``kind`` is ``ValidatingAdmissionPolicy`` or ``MutatingAdmissionPolicy``."""
    metadata = registration.metadata(suffix)
    return [
        {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)},
        {
            "apiVersion": API_VERSION,
            "kind": f"{kind}Binding",
            "metadata": registration.metadata(suffix),
            "spec": {"policyName": metadata["name"], **binding},
        },
    ]


def resource_rule(operations: Sequence[str], *resources: str) -> dict[str, Any]:
    """What a policy is evaluated for."""
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": list(operations),
        "resources": list(resources),
        "scope": "Namespaced",
    }


def parameters(settings: WebhookSettings) -> dict[str, Any]:
    """Of a binding: the ServiceAccounts of the pod's namespace that carry the label. Without any, nothing happens."""
    return {
        "selector": {"matchLabels": {inject_label(settings): "true"}},
        "parameterNotFoundAction": "Allow",
    }


def volume_audiences(volumes: str) -> str:
    """CEL: the audiences of the projected tokens in a list of volumes; not the API server's own, which has none."""
    return (
        f"{volumes}.filter(v, has(v.projected) && has(v.projected.sources))"
        ".map(v, v.projected.sources.filter(s, has(s.serviceAccountToken) && has(s.serviceAccountToken.audience))"
        ".map(s, s.serviceAccountToken.audience)).flatten()"
    )


def _actions(registration: RegistrationSettings) -> list[str]:
    return ["Deny", "Audit"] if registration.enforce else ["Warn", "Audit"]


# -- a token for each cloud --------------------------------------------------------------------------------------


def _token_volume(settings: WebhookSettings, registration: RegistrationSettings) -> list[dict[str, Any]]:
    clouds = _clouds(settings)
    spec = {
        "failurePolicy": "Fail" if registration.enforce else "Ignore",
        "paramKind": dict(PARAMETER),
        "matchConstraints": {
            "namespaceSelector": namespace_selector(registration),
            "resourceRules": [resource_rule(["CREATE"], "pods")],
        },
        "matchConditions": [dict(NOT_A_MIRROR_POD), dict(OF_THIS_POD)],
        "variables": [
            {"name": "account", "expression": ANNOTATIONS},
            {"name": "pod", "expression": "has(object.metadata.annotations) ? object.metadata.annotations : {}"},
            {"name": "labels", "expression": "has(object.metadata.labels) ? object.metadata.labels : {}"},
            {
                "name": "containers",
                "expression": "object.spec.containers.map(c, c.name)"
                " + (has(object.spec.initContainers) ? object.spec.initContainers : []).map(c, c.name)",
            },
            {
                "name": "audiences",
                "expression": volume_audiences("(has(object.spec.volumes) ? object.spec.volumes : [])"),
            },
            *({"name": f"{cloud.name}Asked", "expression": cloud.asked} for cloud in clouds),
            *({"name": f"{cloud.name}Audiences", "expression": cloud.audiences} for cloud in clouds),
        ],
        "validations": [_carries(cloud) for cloud in clouds],
    }
    binding = {"paramRef": parameters(settings), "validationActions": _actions(registration)}
    return policy("ValidatingAdmissionPolicy", spec, binding, "-token-volume", registration)


def _carries(cloud: _Cloud) -> dict[str, Any]:
    rest = f" is annotated for {cloud.title}, but this pod carries no token for it: {_ADMITTED}"
    return {
        "expression": f"!variables.{cloud.name}Asked"
        f" || variables.audiences.exists(x, x in variables.{cloud.name}Audiences)",
        "message": f"the ServiceAccount{rest}",
        "messageExpression": f"'the ServiceAccount ' + params.metadata.name + {literal(rest)}",
        "reason": "Forbidden",
    }


def _clouds(settings: WebhookSettings) -> list[_Cloud]:
    """Those of which a dialect that is on can speak."""
    on = settings.dialects
    rows = [
        ("aws", "AWS", "eks" in on, _eks_asks(settings), f"{settings.aws_prefix}/audience"),
        ("gcp", "GCP", "pfn" in on, _pfn_asks(settings), f"{settings.gcp_prefix}/audience"),
        ("azure", "Azure", "azure" in on, _azure_asks(settings), None),
    ]
    clouds = []
    for name, title, has_peer, peer_asks, peer_audience in rows:
        asked = [_native_asks(name, settings)] if "native" in on else []
        asked += [peer_asks] if has_peer else []
        if asked:
            audiences = _audiences(name, settings, peer_audience if has_peer else None)
            clouds.append(_Cloud(name, title, " || ".join(f"({each})" for each in asked), audiences))
    return clouds


def _native_asks(cloud: str, settings: WebhookSettings) -> str:
    triggers = {"aws": ["role-arn"], "gcp": ["provider"], "azure": ["client-id"]}[cloud]
    if cloud == "gcp" and settings.gcp_provider is not None:
        triggers += ["service-account", "direct"]
    ends = " || ".join(f"k.endsWith({literal(f'.{trigger}')})" for trigger in triggers)
    start = literal(f"{settings.prefix}/{cloud}.")
    use = literal(f"{settings.prefix}/use")
    return (
        f"variables.account.exists(k, k.startsWith({start}) && ({ends}) && variables.account[k] != '')"
        f" && !({use} in variables.pod"
        f" && variables.pod[{use}].split(',').exists(u, u.trim() == {literal(f'{cloud}=none')}))"
        f" && !({_skips_all(f'{settings.prefix}/skip-containers', ',')})"
    )


def _eks_asks(settings: WebhookSettings) -> str:
    role = literal(f"{settings.aws_prefix}/role-arn")
    return (
        f"{role} in variables.account && variables.account[{role}] != ''"
        f" && !({literal(EKS_SKIP_LABEL)} in variables.labels)"
        f" && !({_skips_all(f'{settings.aws_prefix}/skip-containers', ',')})"
    )


def _pfn_asks(settings: WebhookSettings) -> str:
    provider = literal(f"{settings.gcp_prefix}/workload-identity-provider")
    given = f"{provider} in variables.account && variables.account[{provider}] != ''"
    return f"{given} && !({_skips_all(f'{settings.gcp_prefix}/skip-containers', ',')})"


def _azure_asks(settings: WebhookSettings) -> str:
    """The one dialect in which the pod has to ask, by a label."""
    use = literal(f"{settings.azure_prefix}/use")
    start = literal(f"{settings.azure_prefix}/")
    return (
        f"variables.account.exists(k, k.startsWith({start}))"
        f" && {use} in variables.labels && variables.labels[{use}] == 'true'"
        f" && !({_skips_all(f'{settings.azure_prefix}/skip-containers', ';')})"
    )


def _skips_all(annotation: str, separator: str) -> str:
    """CEL: whether a pod skips each of its containers, which it may."""
    key = literal(annotation)
    return (
        f"{key} in variables.pod && variables.containers.all(n,"
        f" variables.pod[{key}].split({literal(separator)}).exists(s, s.trim() == n))"
    )


def _audiences(cloud: str, settings: WebhookSettings, peer: str | None) -> str:
    known = {
        "aws": [settings.aws_audience],
        "gcp": [settings.gcp_audience],
        "azure": [settings.azure_audience],
    }[cloud]
    if cloud == "aws" and settings.aws_container_credentials.identities:
        known.append(settings.aws_container_credentials.audience)
    if cloud == "azure" and settings.azure_token_endpoint is not None:
        known.append(settings.azure_token_endpoint.audience)
    start = literal(f"{settings.prefix}/{cloud}.")
    own = f"k.startsWith({start}) && k.endsWith('.audience')"
    chosen = own if peer is None else f"({own}) || k == {literal(peer)}"
    return f"{string_list(known)} + variables.account.filter(k, {chosen}).map(k, variables.account[k])"


# -- the label -----------------------------------------------------------------------------------------------------


def _label(settings: WebhookSettings, registration: RegistrationSettings) -> list[dict[str, Any]]:
    label = inject_label(settings)
    key = literal(label)
    spec = {
        "failurePolicy": "Fail" if registration.enforce else "Ignore",
        "matchConstraints": {
            "namespaceSelector": namespace_selector(registration),
            "resourceRules": [resource_rule(["CREATE", "UPDATE"], "serviceaccounts")],
        },
        "matchConditions": [
            {"name": "gives-an-identity", "expression": gives_identity("object", settings)},
            # its finalizers are taken off by updates, which nobody's label may hold up
            {"name": "not-being-deleted", "expression": "!has(object.metadata.deletionTimestamp)"},
        ],
        "validations": [
            {
                "expression": f"has(object.metadata.labels) && {key} in object.metadata.labels"
                f" && object.metadata.labels[{key}] == 'true'",
                "message": f'a ServiceAccount with annotations of a cloud identity needs the label {label}: "true",'
                " by which policies find it: the webhook sets it, so it did not answer; set the label by hand",
                "reason": "Forbidden",
            }
        ],
    }
    return policy(
        "ValidatingAdmissionPolicy", spec, {"validationActions": _actions(registration)}, "-label", registration
    )


# -- what feeds a credential file ------------------------------------------------------------------------------------


def _fixed_annotations(settings: WebhookSettings, registration: RegistrationSettings) -> list[dict[str, Any]]:
    """No namespace is left out, and nobody: a change of these has no good reason.

    A Binding's annotations are written into the pod that it binds, so those are looked at as additions.
    """
    prefix = literal(f"{settings.prefix}/")
    file = literal(f"{settings.gcp_prefix}/external-credentials-json")
    meant = f"(k.startsWith({prefix}) || k == {file})"
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                resource_rule(["UPDATE"], "pods", "pods/status"),
                resource_rule(["CREATE"], "bindings", "pods/binding"),
            ]
        },
        "variables": [
            {
                "name": "was",
                "expression": "oldObject != null && has(oldObject.metadata.annotations)"
                " ? oldObject.metadata.annotations : {}",
            },
            {"name": "now", "expression": "has(object.metadata.annotations) ? object.metadata.annotations : {}"},
        ],
        "validations": [
            {
                "expression": f"variables.was.all(k, !{meant}"
                " || (k in variables.now && variables.now[k] == variables.was[k]))"
                f" && variables.now.all(k, !{meant} || k in variables.was)",
                "message": f"annotations of {settings.prefix}/ and {settings.gcp_prefix}/external-credentials-json are"
                " fixed when the pod is created: they feed its credential files; create the pod anew",
                "reason": "Forbidden",
            }
        ],
    }
    binding = {"validationActions": ["Deny", "Audit"]}
    return policy("ValidatingAdmissionPolicy", spec, binding, "-fixed-annotations", registration)
