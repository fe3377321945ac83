"""Who else is called for a pod: the webhooks and admission policies of a cluster, in the API server's order.

Mutating policies come first (by name, then by binding), then mutating webhooks (configurations by name, the webhooks of
each in the order of their list), then validating policies, then validating webhooks, all of them at once. Seen so in
kube-apiserver 1.37; what one changes, those behind it see.
"""

from __future__ import annotations

__all__ = ["KINDS", "Kind", "Neighbour", "neighbours", "order_note"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from wif.admission.matching import RequestFacts, Verdict, binding_matches, webhook_matches


class Kind(NamedTuple):
    """Registrations of one kind."""

    name: str
    plural: str
    bindings: str = ""
    """The plural of its bindings, where it has some."""

    @property
    def is_mutating(self) -> bool:
        """Whether it can change the pod."""
        return self.name.startswith("Mutating")


KINDS = (
    Kind("MutatingAdmissionPolicy", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
    Kind("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    Kind("ValidatingAdmissionPolicy", "validatingadmissionpolicies", "validatingadmissionpolicybindings"),
    Kind("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
)
"""All of ``admissionregistration.k8s.io``, in the order in which the API server calls them."""


class Neighbour(NamedTuple):
    """One webhook of a configuration, or one binding of a policy."""

    kind: str
    name: str
    """Of the configuration or of the policy."""
    part: str
    """The webhook's name, or the binding's; empty for a policy without bindings."""
    known_as: str
    """``wif``, ``eks``, ``azure``, ``pfn`` or empty: by names alone, which anybody can choose."""
    verdict: Verdict
    details: tuple[tuple[str, str], ...]
    """What matters of the registration, as it is called there."""

    @property
    def may_be_called(self) -> bool:
        """Whether it is, or may be."""
        return self.verdict.answer != "no"


def neighbours(found: Mapping[str, Sequence[Mapping[str, Any]]], request: RequestFacts) -> tuple[Neighbour, ...]:
    """Everything that is registered, in order, also what does not match.

    Args:
        found: the objects of each plural of :data:`KINDS`, bindings too; a plural that could not be read is not there.
        request: the creation of the pod.
    """
    return tuple(neighbour for kind in KINDS for neighbour in _of_kind(kind, found, request))


def order_note(kind: str) -> str:
    """How those of one kind are called, in words."""
    return {
        "MutatingAdmissionPolicy": "first, by name",
        "MutatingWebhookConfiguration": "then, one after the other by name",
        "ValidatingAdmissionPolicy": "then, on what the mutating ones left",
        "ValidatingWebhookConfiguration": "last, all at once",
    }[kind]


def _of_kind(
    kind: Kind, found: Mapping[str, Sequence[Mapping[str, Any]]], request: RequestFacts
) -> Iterator[Neighbour]:
    objects = sorted(found.get(kind.plural, ()), key=_name)
    bindings = sorted(found.get(kind.bindings, ()), key=_name)
    for each in objects:
        if kind.bindings:
            yield from _policy(kind, each, bindings, request)
        else:
            yield from _webhooks(kind, each, request)


def _webhooks(kind: Kind, configuration: Mapping[str, Any], request: RequestFacts) -> Iterator[Neighbour]:
    for webhook in configuration.get("webhooks") or ():
        part = str(webhook.get("name", ""))
        yield Neighbour(
            kind=kind.name,
            name=_name(configuration),
            part=part,
            known_as=_known(configuration, part, webhook),
            verdict=webhook_matches(webhook, request),
            details=_details(
                webhook, ("failurePolicy", "timeoutSeconds", "reinvocationPolicy"), calls=_called(webhook)
            ),
        )


def _policy(
    kind: Kind, policy: Mapping[str, Any], bindings: Sequence[Mapping[str, Any]], request: RequestFacts
) -> Iterator[Neighbour]:
    spec = policy.get("spec") or {}
    own = [each for each in bindings if (each.get("spec") or {}).get("policyName") == _name(policy)]
    known_as, details = _known(policy, "", {}), _details(spec, ("failurePolicy", "reinvocationPolicy"))
    if not own:
        verdict = Verdict("no", "binding", "no binding names this policy")
        yield Neighbour(kind.name, _name(policy), "", known_as, verdict, details)
    for binding in own:
        bound = binding.get("spec") or {}
        yield Neighbour(
            kind=kind.name,
            name=_name(policy),
            part=_name(binding),
            known_as=known_as,
            verdict=binding_matches(spec, bound, request),
            details=(*details, *_details(bound, ("validationActions",))),
        )


def _details(source: Mapping[str, Any], names: Sequence[str], *, calls: str = "") -> tuple[tuple[str, str], ...]:
    rows = [(name, _shown(source[name])) for name in names if name in source]
    return (*rows, *([("calls", calls)] if calls else []))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _called(webhook: Mapping[str, Any]) -> str:
    """Where the API server sends the review: a service, or a URL's host alone, for the rest may hold a secret."""
    client = webhook.get("clientConfig") or {}
    service = client.get("service")
    if service:
        return f"service {service.get('namespace')}/{service.get('name')}{service.get('path', '')}"
    return f"host {urlsplit(str(client.get('url', ''))).hostname or 'unknown'}"


def _name(made: Mapping[str, Any]) -> str:
    return str((made.get("metadata") or {}).get("name", ""))


# -- names that are known --------------------------------------------------------------------------------------------


def _is_own(configuration: Mapping[str, Any], _part: str, _webhook: Mapping[str, Any]) -> bool:
    return ((configuration.get("metadata") or {}).get("labels") or {}).get("app.kubernetes.io/part-of") == "wif"


def _is_eks(configuration: Mapping[str, Any], part: str, _webhook: Mapping[str, Any]) -> bool:
    names = ("pod-identity-webhook.amazonaws.com", "iam-for-pods.amazonaws.com")  # self-hosted, managed EKS
    return part in names or _name(configuration) == "pod-identity-webhook"


def _is_azure(configuration: Mapping[str, Any], part: str, _webhook: Mapping[str, Any]) -> bool:
    return part == "mutation.azure-workload-identity.io" or _name(configuration).startswith("azure-wi-webhook-")


def _is_pfn(configuration: Mapping[str, Any], part: str, webhook: Mapping[str, Any]) -> bool:
    """Its webhook is called as every kubebuilder project's first one, so the configuration's name must say more."""
    service = ((webhook.get("clientConfig") or {}).get("service") or {}).get("name", "")
    return part == "mpod.kb.io" and any(
        mark in name
        for mark in ("gcp-wif-webhook", "gcp-workload-identity-federation-webhook")
        for name in (_name(configuration), str(service))
    )


_PEERS: Mapping[str, Callable[[Mapping[str, Any], str, Mapping[str, Any]], bool]] = {
    "wif": _is_own,
    "eks": _is_eks,
    "azure": _is_azure,
    "pfn": _is_pfn,
}


def _known(configuration: Mapping[str, Any], part: str, webhook: Mapping[str, Any]) -> str:
    return next((name for name, is_it in _PEERS.items() if is_it(configuration, part, webhook)), "")
