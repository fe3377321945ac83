"""Everything that work on one issuer needs, opened from its settings and closed together.

Publishing, rotation and the controller all begin here, so that they agree about where an issuer's places are.
"""

from __future__ import annotations

__all__ = ["FALLBACK_NAMESPACE", "LEASE_NAME", "Session", "desired_jwks_uri"]

import contextlib
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from wif.core.discovery import JWKS_PATH
from wif.core.issuer_lint import Managed, recognise_managed
from wif.edges.stores import Store
from wif.edges.stores.opening import open_store
from wif.errors import ConfigurationError, WifError
from wif.issuer.addresses import check_sources, document_paths
from wif.issuer.federated import FederatedIdentity, Identity
from wif.issuer.rounds import Desired, OpenTarget
from wif.issuer.sources import Sources, Vouched
from wif.issuer.state_store import StateStore

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings, TargetSettings
    from wif.edges.kube import KubeClient
    from wif.edges.lease import Lease
    from wif.edges.stores.google import Guard

FALLBACK_NAMESPACE = "kube-system"
"""Of the state, where neither settings, pod nor kubeconfig name one: few may write there."""

LEASE_NAME = "wif-issuer"
"""Of the Lease in that namespace; a controller and a run of its own contend for the same."""

LEASE_WAIT_SECONDS = 60.0
"""For a run of its own: four lease times, so that a holder that died is waited out."""

_WITHOUT_TAGS = ("gcp-provider", "gke-fleet")
"""Kinds of targets that have no conditional writes."""


def desired_jwks_uri(settings: IssuerSettings, issuer: str) -> str:
    """What the discovery document names: the settings' own, else Kubernetes' path below the issuer."""
    return settings.jwks_uri or issuer.removesuffix("/") + JWKS_PATH


class Session:
    """One issuer's sources, targets and state. A context manager.

    Nothing is sent before the first use, but for the issuer's name where the settings leave it to the cluster.

    Args:
        settings: the issuer's.
        name: what ``wif.yaml`` calls it, or empty.
        kube: the cluster's client, where the caller has one.
        guard: whether the caller's Lease is held for so many seconds more; for targets without conditional writes.
        identity: gives the publisher's exchanged credentials; None takes those of the webhooks' variables.
        open_target: makes the store of a target; takes what :func:`~wif.edges.stores.opening.open_store` takes.
        environ: variables for credentials, proxies, the place of the state.

    Raises:
        ConfigurationError: source-is-target, config-conflict, config-invalid, config-missing, extra-missing.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        name: str = "",
        kube: KubeClient | None = None,
        guard: Guard | None = None,
        identity: Identity | None = None,
        open_target: Callable[..., Store] = open_store,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.settings = settings
        self.name = name
        self._environ = environ
        self._kube = kube
        self._guard = guard
        self._owned_kube: KubeClient | None = None
        self._lease: Lease | None = None
        self._targets: tuple[OpenTarget, ...] | None = None
        self._states: StateStore | None = None
        self.identity: Identity = FederatedIdentity(environ) if identity is None else identity
        self._open_target = open_target
        self.sources = Sources(settings, kube=kube, environ=environ)
        try:
            self.issuer = self._find_issuer()
            self.jwks_uri = desired_jwks_uri(settings, self.issuer)
            self.discovery_path, self.jwks_path = document_paths(self.issuer, self.jwks_uri)
            self.managed: Managed | None = recognise_managed(self.issuer)
            check_sources(settings.jwks, settings.public_keys, settings.to, issuer=self.issuer, jwks_uri=self.jwks_uri)
        except BaseException:
            self.close()
            raise

    @property
    def kube(self) -> KubeClient | None:
        """The cluster's client, where keys, state or a target are in a cluster."""
        found = self._kube or self.sources.kube or self._owned_kube
        places = (self.settings.state or "", *(target.url for target in self.settings.to))
        if found is None and any(place.startswith("configmap:") for place in places):
            from wif.edges.kube import KubeClient  # noqa: PLC0415  # only with a cluster

            found = self._owned_kube = KubeClient.find(self.settings.kubeconfig, context=self.settings.context)
        return found

    @property
    def namespace(self) -> str:
        """Where the publisher's own objects are in the cluster."""
        kube = self.kube
        return self.settings.namespace or (kube.namespace if kube is not None else None) or FALLBACK_NAMESPACE

    @property
    def targets(self) -> tuple[OpenTarget, ...]:
        """The targets, opened at the first use."""
        if self._targets is None:
            opened: dict[str, OpenTarget] = {}
            try:
                for settings in self.settings.to:
                    kube = self.kube if settings.url.startswith("configmap:") else None
                    store = self._open_target(
                        settings,
                        kube=kube,
                        federated=self.identity,
                        guard=self._guard_for(settings),
                        issuer=self.issuer,
                        environ=self._environ,
                    )
                    if store.name in opened:
                        store.close()
                        raise ConfigurationError(f"the target {store.name} is named twice", code="config-conflict")
                    opened[store.name] = OpenTarget(settings=settings, store=store)
            except BaseException:
                for target in opened.values():
                    target.store.close()
                raise
            self._targets = tuple(opened.values())
        return self._targets

    @property
    def states(self) -> StateStore:
        """The trusted state, opened at the first use."""
        if self._states is None:
            self._states = StateStore.open(
                self.settings,
                issuer=self.issuer,
                kube=self.kube,
                namespace=self.namespace,
                environ=self._environ,
            )
        return self._states

    def desired(self, vouched: Vouched, *, restore: bool = False) -> Desired:
        """What every target should come to."""
        return Desired(
            issuer=self.issuer,
            jwks_uri=self.jwks_uri,
            discovery_path=self.discovery_path,
            jwks_path=self.jwks_path,
            vouched=vouched.keys,
            cache_control=self.settings.cache_control,
            restore=restore,
        )

    def close(self) -> None:
        """Let go of every connection."""
        for target in self._targets or ():
            target.store.close()
        self._targets = None
        if self._states is not None:
            self._states.close()
            self._states = None
        if self._lease is not None:
            with contextlib.suppress(WifError):  # it runs out by itself
                self._lease.release()
            self._lease = None
        self.identity.close()
        self.sources.close()
        if self._owned_kube is not None:
            self._owned_kube.close()
            self._owned_kube = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _guard_for(self, settings: TargetSettings) -> Guard | None:
        """The caller's Lease; for a run of its own in a cluster, one that is acquired when it is first needed."""
        if self._guard is not None or settings.single_writer or settings.url.partition(":")[0] not in _WITHOUT_TAGS:
            return self._guard
        if self.kube is None:
            return None
        if self._lease is None:
            from wif.edges.lease import Lease  # noqa: PLC0415  # only with a cluster

            self._lease = Lease(self.kube, self.namespace, LEASE_NAME)
        lease = self._lease

        def guard(seconds: float) -> bool:
            if lease.remaining_seconds > 0:
                return lease.confirm(seconds)
            return lease.wait(LEASE_WAIT_SECONDS) and lease.holds(seconds)

        return guard

    def _find_issuer(self) -> str:
        issuer = self.settings.issuer or self.sources.find_issuer()
        if not issuer:
            raise ConfigurationError(
                "no issuer is named, and no API server is there to ask",
                code="config-missing",
                hint="pass --issuer URL, byte for byte as the tokens' iss",
            )
        return issuer
