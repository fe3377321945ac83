"""The injection as MutatingAdmissionPolicies, for Kubernetes 1.36 and later: nothing to run, no certificate, no outage.

Three policies, each with its binding:

- ``-inject``: what the webhook would put into a pod, compiled from the dialects' own answers
  (:mod:`wif.admission.cel_parts`). Its parameters are the ServiceAccounts with the label ``PREFIX/inject: "true"``.
- ``-supported``: denies a pod for which the policy cannot do what is asked, and says what. Half of an injection, or
  none without a word, would be worse.
- ``-set-label``: sets that label on ServiceAccounts whose annotations give an identity.

CEL has no hashes, no warnings, no Events, no second parameter and no live reads. What needs one of them is refused
here, or by ``-supported`` where an annotation asks for it.
"""

from __future__ import annotations

__all__ = ["mutating_policy"]

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wif.admission.cel_identities import Source, sources
from wif.admission.cel_parts import PartText, part_of
from wif.admission.cel_patches import container_patch, joined, metadata_patch, volume_patch
from wif.admission.cel_text import literal
from wif.admission.guards import ANNOTATIONS, OF_THIS_POD, PARAMETER, parameters, policy, resource_rule
from wif.admission.registration import (
    NOT_A_MIRROR_POD,
    RegistrationSettings,
    gives_identity,
    inject_label,
    namespace_selector,
)
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError

MAX_TOKEN_SECONDS = 2**32
"""The API server refuses longer ones in a pod."""


class _Limit(NamedTuple):
    holds: Callable[[WebhookSettings], bool]
    what: str
    hint: str


_LIMITS = (
    _Limit(
        lambda settings: "azure" in settings.dialects and settings.azure_layout != "v1.5",
        "the name of Azure's token volume has a hash in it since v1.6, and CEL has no hashes",
        "pass --azure-layout v1.5 (AZURE_FEDERATED_TOKEN_FILE says where the token stands), leave the azure dialect out"
        " with --dialect, or run the webhook",
    ),
    _Limit(
        lambda settings: "pfn" in settings.dialects and settings.gcp_mode == "gcloud",
        "the mode gcloud needs a container that runs first, and a policy adds none",
        "pass --gcp-mode direct, or run the webhook",
    ),
    _Limit(
        lambda settings: "eks" in settings.dialects and bool(settings.aws_container_credentials.identities),
        "associations of EKS Pod Identity are a list beside the ServiceAccounts, and a policy has one parameter",
        "leave aws_container_credentials out, or run the webhook",
    ),
    _Limit(
        lambda settings: "azure" in settings.dialects and settings.azure_token_endpoint is not None,
        "Azure's token endpoint in the cluster is chosen by each pod",
        "leave azure_token_endpoint out, or run the webhook",
    ),
    _Limit(
        lambda settings: settings.deny_collisions,
        "a policy that changes a pod cannot refuse it for what it collides with",
        "leave deny_collisions out, or run the webhook",
    ),
)
"""What settings ask for and CEL cannot do."""


class _Compiled(NamedTuple):
    source: Source
    part: PartText


def mutating_policy(settings: WebhookSettings, registration: RegistrationSettings) -> list[dict[str, Any]]:
    """The policies, each followed by its binding.

    Raises:
        ConfigurationError: policy-unsupported, with the setting that CEL cannot follow.
    """
    for limit in _LIMITS:
        if limit.holds(settings):
            raise ConfigurationError(
                f"no MutatingAdmissionPolicy can be rendered: {limit.what}", code="policy-unsupported", hint=limit.hint
            )
    found = sources(settings)
    compiled = [_Compiled(source, part_of(source, settings)) for source in found]
    reading = _reading(found)
    return [
        *_set_label(settings, registration),
        *_inject(compiled, reading, settings, registration),
        *_supported(found, reading, settings, registration),
    ]


# -- what is asked for -----------------------------------------------------------------------------------------------


def _variable(name: str, expression: str) -> dict[str, str]:
    return {"name": name, "expression": expression}


def _reading(found: Sequence[Source]) -> list[dict[str, str]]:
    """Variables with what ServiceAccount and pod say, and ``problems``, which is empty where all of it can be done."""
    selector = "object.spec.nodeSelector"
    labels = ("kubernetes.io/os", "beta.kubernetes.io/os")
    of_nodes = " || ".join(
        f"{literal(label)} in {selector} && {selector}[{literal(label)}] == 'windows'" for label in labels
    )
    rows = [
        _variable("account", ANNOTATIONS),
        _variable("pod", "has(object.metadata.annotations) ? object.metadata.annotations : {}"),
        _variable("labels", "has(object.metadata.labels) ? object.metadata.labels : {}"),
        _variable(
            "windows",
            "has(object.spec.os) && has(object.spec.os.name) ? object.spec.os.name == 'windows'"
            f" : has({selector}) && ({of_nodes})",
        ),
        _variable("fsGroup", "has(object.spec.securityContext) && has(object.spec.securityContext.fsGroup)"),
        _variable("volumes", "has(object.spec.volumes) ? object.spec.volumes : []"),
        # of the 64 letters of a role's session name
        _variable("room", "size(params.metadata.namespace) > 31 ? 32 : 63 - size(params.metadata.namespace)"),
    ]
    higher: dict[str, list[str]] = {}
    for source in found:
        rows += [
            _variable(
                each.variable, f"variables.{'pod' if each.on_pod else 'account'}[?{literal(each.key)}].orValue('')"
            )
            for each in source.fields
        ]
        before = higher.setdefault(source.cloud, [])
        rows.append(
            _variable(f"{source.name}Asked", " && ".join([f"({source.asked})", *(f"!{name}" for name in before)]))
        )
        before.append(f"variables.{source.name}Asked")
        rows += [_seconds(source), _variable(f"{source.name}Skip", _skipped(source))]
    return [*rows, _variable("problems", _problems(found))]


def _seconds(source: Source) -> dict[str, str]:
    """As :func:`wif.admission.dialects.values.lifetime`: the pod's wish, else the account's, else the default."""
    own = "''"
    for name in reversed(source.own_seconds):
        own = f"variables.{name}" if own == "''" else f"(variables.{name} != '' ? variables.{name} : {own})"
    pod = f"variables.{source.pod_seconds}"
    floor, longest = source.floor_seconds, min(MAX_TOKEN_SECONDS, max(source.floor_seconds, source.max_seconds))
    wish = f"({pod} != '' ? int({pod}) : {own} != '' ? int({own}) : {source.default_seconds})"
    ceiling = f"({own} == '' ? {longest} : int({own}) < {MAX_TOKEN_SECONDS} ? int({own}) : {MAX_TOKEN_SECONDS})"
    # a ceiling below the floor gives way to it
    clamped = (
        f"{wish} < {ceiling} ? ({wish} < {floor} ? {floor} : {wish}) : ({ceiling} < {floor} ? {floor} : {ceiling})"
    )
    return _variable(f"{source.name}Seconds", clamped)


def _skipped(source: Source) -> str:
    key = literal(source.skip)
    return f"variables.pod[?{key}].orValue('').split({literal(source.skip_separator)}).map(s, s.trim())"


def _problems(found: Sequence[Source]) -> str:
    rows = []
    for source in found:
        for each in source.fields:
            of = "variables.pod" if each.on_pod else "variables.account"
            holds = (
                f"{literal(each.key)} in {of} && !variables.{each.variable}.matches({literal(f'^({each.pattern})$')})"
            )
            where = "the pod" if each.on_pod else "the ServiceAccount"
            rows.append(_problem(source, holds, f"{each.key} on {where} has a value that the policy cannot follow"))
        rows += [_problem(source, holds, said) for holds, said in source.problems]
    return f"[{', '.join(rows)}].filter(p, p != '')"


def _problem(source: Source, holds: str, said: str) -> str:
    return f"variables.{source.name}Asked && ({holds}) ? {literal(said)} : ''"


# -- the policies ------------------------------------------------------------------------------------------------------


def _inject(
    compiled: Sequence[_Compiled],
    reading: Sequence[dict[str, str]],
    settings: WebhookSettings,
    registration: RegistrationSettings,
) -> list[dict[str, Any]]:
    parts = [(source.name, part) for source, part in compiled]
    clouds = [(source.name, source.cloud, part) for source, part in compiled]
    expressions = [
        volume_patch(parts),
        metadata_patch(clouds, f"{settings.prefix}/injected"),
        container_patch("containers", parts),
        container_patch("initContainers", parts),
    ]
    spec = {
        "failurePolicy": registration.failure_policy,
        "reinvocationPolicy": registration.reinvocation_policy,
        "paramKind": dict(PARAMETER),
        "matchConstraints": _pods(registration),
        "matchConditions": [dict(NOT_A_MIRROR_POD), dict(OF_THIS_POD)],
        "variables": [
            *reading,
            *(_variable(f"{source.name}Active", _active(source, part)) for source, part in compiled),
            *(
                _variable(f"{source.name}Env{index}", f"variables.{source.name}Active ? {each.pairs} : []")
                for source, part in compiled
                for index, each in enumerate(part.env)
            ),
            _variable("any", " || ".join(f"variables.{source.name}Active" for source, _ in compiled)),
        ],
        # one and not four: variables are evaluated anew, and the pod is converted, for each
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": joined(expressions)}}],
    }
    return policy("MutatingAdmissionPolicy", spec, {"paramRef": parameters(settings)}, "-inject", registration)


def _pods(registration: RegistrationSettings) -> dict[str, Any]:
    return {
        "namespaceSelector": namespace_selector(registration),
        **({"objectSelector": dict(registration.object_selector)} if registration.object_selector else {}),
        "resourceRules": [resource_rule(["CREATE"], "pods")],
    }


def _active(source: Source, part: PartText) -> str:
    """Asked for, possible, and no foreign volume has a name of ours: none has it, or it serves."""
    kept = {volume.name for volume in part.volumes if volume.collision == "keep"}
    free = [
        f"variables.volumes.filter(v, v.name == {literal(token.volume)}).all(v, {serves})"
        for token in part.tokens
        if token.volume in kept
        for serves in [_serves(token.audience, token.path)]
    ]
    return " && ".join([f"variables.{source.name}Asked", "variables.problems.size() == 0", *free])


def _serves(audience: str, path: str) -> str:
    return (
        "has(v.projected) && has(v.projected.sources) && v.projected.sources.exists(s, has(s.serviceAccountToken)"
        f" && has(s.serviceAccountToken.audience) && s.serviceAccountToken.audience == {audience}"
        f" && s.serviceAccountToken.path == {path})"
    )


def _supported(
    found: Sequence[Source],
    reading: Sequence[dict[str, str]],
    settings: WebhookSettings,
    registration: RegistrationSettings,
) -> list[dict[str, Any]]:
    told = "the annotations of this pod and its ServiceAccount ask for what the policy cannot do"
    needed = {"account", "pod", "labels", "problems"}
    needed.update(each.variable for source in found for each in source.fields)
    needed.update(f"{source.name}Asked" for source in found)
    spec = {
        "failurePolicy": registration.failure_policy,
        "paramKind": dict(PARAMETER),
        "matchConstraints": _pods(registration),
        "matchConditions": [dict(NOT_A_MIRROR_POD), dict(OF_THIS_POD)],
        "variables": [row for row in reading if row["name"] in needed],
        "validations": [
            {
                "expression": "variables.problems.size() == 0",
                "message": told,
                "messageExpression": "'the ServiceAccount ' + params.metadata.name + ': ' + variables.problems[0]",
                "reason": "Forbidden",
            }
        ],
    }
    binding = {"paramRef": parameters(settings), "validationActions": ["Deny", "Audit"]}
    return policy("ValidatingAdmissionPolicy", spec, binding, "-supported", registration)


def _set_label(settings: WebhookSettings, registration: RegistrationSettings) -> list[dict[str, Any]]:
    label = inject_label(settings)
    key = literal(label)
    path = f"'/metadata/labels/' + jsonpatch.escapeKey({key})"
    has_it = (
        f"has(object.metadata.labels) && {key} in object.metadata.labels && object.metadata.labels[{key}] == 'true'"
    )
    expression = (
        f"{has_it} ? [] : has(object.metadata.labels)"
        f" ? [JSONPatch{{op: 'add', path: {path}, value: 'true'}}]"
        f" : [JSONPatch{{op: 'add', path: '/metadata/labels', value: {{{key}: 'true'}}}}]"
    )
    spec = {
        "failurePolicy": registration.failure_policy,
        "reinvocationPolicy": registration.reinvocation_policy,
        "matchConstraints": {
            "namespaceSelector": namespace_selector(registration),
            "resourceRules": [resource_rule(["CREATE", "UPDATE"], "serviceaccounts")],
        },
        "matchConditions": [{"name": "gives-an-identity", "expression": gives_identity("object", settings)}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
    }
    return policy("MutatingAdmissionPolicy", spec, {}, "-set-label", registration)
