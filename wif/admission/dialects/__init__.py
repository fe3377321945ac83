"""The dialects of annotations: one module for each, chosen by the settings, in this order.

A dialect has two functions: ``read`` says what a pod of a ServiceAccount is given, ``check`` what is wrong with a
ServiceAccount's annotations when they are written. Where two dialects speak of one cloud, the first one here wins and
the other is reported.
"""

from __future__ import annotations

__all__ = ["EKS_LABELS", "NAMES", "SIDECAR", "Dialect", "PodFacts", "Reading", "dialects"]

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from wif.admission.accounts import ServiceAccount
from wif.admission.findings import Finding
from wif.admission.injection import Part
from wif.config.webhook import WebhookSettings

NAMES = ("native", "pfn", "eks", "azure")
"""In the order in which they win."""
EKS_LABELS = "eks.amazonaws.com/"
"""Begins the labels of the EKS webhook on pods, whatever the prefix of its annotations is set to."""

SIDECAR = "wif-sidecar"
"""The container of the native dialect's sidecar, and the volume of its secret."""


class PodFacts(NamedTuple):
    """What a dialect may know of a pod. Hashable, and equal for all pods of a workload, so that readings are kept."""

    annotations: tuple[tuple[str, str], ...] = ()
    """The pod's own, of the dialects' prefixes, sorted; without those that the webhook writes itself."""
    labels: tuple[tuple[str, str], ...] = ()
    """As above."""
    is_windows: bool = False
    """By ``spec.os.name`` or a node selector."""
    has_fs_group: bool = False
    """The kubelet gives the volumes to that group: a mode for owner and group will do."""
    host_network: bool = False
    shares_processes: bool = False
    """``shareProcessNamespace`` or ``hostPID``: processes of one container see those of the others."""
    skips_all: bool = False
    """``skip-containers`` of the native dialect names all containers that the pod brings."""
    users: tuple[int, ...] = ()
    """As whom the pod's containers run, as far as it says so; without the sidecar."""
    pod_user: int | None = None
    """Of containers that name none, as far as the pod says so."""
    has_resources: bool = False
    """The pod as a whole: they bound all its containers together."""

    def annotation(self, key: str) -> str | None:
        """The value of one annotation."""
        return dict(self.annotations).get(key)

    def label(self, key: str) -> str | None:
        """The value of one label."""
        return dict(self.labels).get(key)


class Reading(NamedTuple):
    """What a dialect says of one pod."""

    parts: tuple[Part, ...] = ()
    findings: tuple[Finding, ...] = ()
    keeps_tokens: bool = False
    """The containers of the pod are not meant to hold tokens themselves."""


class Dialect(Protocol):
    """A module of this package."""

    def read(self, account: ServiceAccount, facts: PodFacts, settings: WebhookSettings) -> Reading:
        """Say what a pod is given. A broken annotation is a finding, never an exception."""
        ...

    def check(self, annotations: Mapping[str, str], settings: WebhookSettings) -> Sequence[Finding]:
        """Say what is wrong with a ServiceAccount's annotations when they are written."""
        ...


def dialects(settings: WebhookSettings) -> tuple[tuple[str, Dialect], ...]:
    """The dialects that the settings switch on, by name, the winning ones first."""
    from wif.admission.dialects import azure, eks, native, pfn  # noqa: PLC0415 - they use what stands above

    rows: tuple[tuple[str, Dialect], ...] = (("native", native), ("pfn", pfn), ("eks", eks), ("azure", azure))
    return tuple((name, dialect) for name, dialect in rows if name in settings.dialects)
