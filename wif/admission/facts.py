"""The facts of a pod that dialects may know, and the words that these depend on."""

from __future__ import annotations

__all__ = ["Vocabulary", "is_windows", "pod_facts"]

from collections.abc import Mapping
from typing import NamedTuple

from wif.admission.dialects import EKS_LABELS, SIDECAR, PodFacts
from wif.admission.dialects.native_choices import names_in
from wif.admission.pod import Pod, PodSpec
from wif.admission.record import record_key
from wif.config.webhook import WebhookSettings

OS_LABELS = ("kubernetes.io/os", "beta.kubernetes.io/os")
"""Of nodes, by which node selectors choose the operating system."""

PFN_WRITTEN = ("workload-identity-provider", "service-account-email", "audience", "external-credentials-json")
"""Annotations that are written to the pod and never read from it; ``token-expiration`` is both."""


class Vocabulary(NamedTuple):
    """The prefixes that are read, and what stands under them but is written by the webhook itself."""

    prefixes: tuple[str, ...]
    written: frozenset[str]
    written_prefix: str
    skip_containers: str
    """The native dialect's annotation."""

    @classmethod
    def of(cls, settings: WebhookSettings) -> Vocabulary:
        """That of these settings."""
        written = {f"{settings.gcp_prefix}/{name}" for name in PFN_WRITTEN}
        of_eks = (EKS_LABELS,) if "eks" in settings.dialects else ()
        return cls(
            (*settings.prefixes, *of_eks),
            frozenset({record_key(settings), f"{EKS_LABELS}pod-identity", *written}),
            f"{settings.prefix}/file.",
            f"{settings.prefix}/skip-containers",
        )

    def chosen(self, values: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
        """Annotations or labels that a dialect may read, sorted."""
        if not values:
            return ()
        prefixes = self.prefixes
        found = [pair for pair in values.items() if pair[0].startswith(prefixes)]
        if not found:
            return ()
        written, begin = self.written, self.written_prefix
        return tuple(sorted([pair for pair in found if pair[0] not in written and not pair[0].startswith(begin)]))


def is_windows(spec: PodSpec) -> bool:
    """Whether the pod is for Windows nodes, by its ``os`` or its node selector."""
    if spec.os is not None and spec.os.name:
        return spec.os.name == "windows"
    selector = spec.node_selector
    return selector is not None and any(selector.get(label) == "windows" for label in OS_LABELS)


def pod_facts(pod: Pod, vocabulary: Vocabulary) -> PodFacts:
    """What dialects may know of this pod."""
    spec, metadata = pod.spec, pod.metadata
    security = spec.security_context
    annotations = vocabulary.chosen(metadata.annotations) if metadata is not None else ()
    return PodFacts(
        annotations,
        vocabulary.chosen(metadata.labels) if metadata is not None else (),
        is_windows(spec),
        security is not None and security.fs_group is not None,
        bool(spec.host_network),
        bool(spec.share_process_namespace or spec.host_pid),
        bool(annotations) and _skips_all(spec, dict(annotations).get(vocabulary.skip_containers, "")),
        _users(spec),
        security.run_as_user if security is not None else None,
        bool(spec.resources),
    )


def _skips_all(spec: PodSpec, listed: str) -> bool:
    names = {container.name for member in (spec.containers, spec.init_containers) for container in member or ()}
    return bool(listed) and names <= {SIDECAR, *names_in(listed)}


def _users(spec: PodSpec) -> tuple[int, ...]:
    found = set[int]()
    if spec.security_context is not None and spec.security_context.run_as_user is not None:
        found.add(spec.security_context.run_as_user)
    for containers in (spec.containers, spec.init_containers):
        for container in containers or ():
            security = container.security_context
            if security is not None and security.run_as_user is not None and container.name != SIDECAR:
                found.add(security.run_as_user)
    return tuple(sorted(found)) if found else ()
