"""The webhook's parts put together: what answers, what it looks up, what works beside it, and whether all is well."""

from __future__ import annotations

__all__ = ["ServiceOptions", "WebhookService"]

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wif.serve.service_accounts import AccountCache
from wif.serve.unmutated import PERIOD_SECONDS, UnmutatedPods
from wif.serve.webhook import WebhookApp
from wif.serve.webhook_events import EventWriter

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from wif.config.webhook import WebhookSettings
    from wif.edges.kube import KubeClient
    from wif.serve.httpd import HttpServer, Worker
    from wif.serve.self_managed import CertificateStatus


class CertificateCare(Protocol):
    """What looks after the certificate; :meth:`run` is a worker."""

    status: CertificateStatus

    def run(self, stopping: threading.Event) -> None:
        """Until told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """How one process runs."""

    namespaces: tuple[str, ...] = ()
    """A tenant's: nothing is answered, told or counted of others. Empty: the whole cluster."""
    excluded: tuple[str, ...] | None = None
    """Namespaces that the registration leaves out. None: kube-system and this process' own, as it does."""
    platform_config: tuple[str, str] | None = None
    """Namespace and name of the platform's ConfigMap."""
    wait_seconds: float = 1.0
    """For a ServiceAccount that was made just before its pod."""
    with_events: bool = True
    unmutated_seconds: float = PERIOD_SECONDS
    """Between looks for pods that should carry an injection and do not; 0: none."""
    lease: tuple[str, str] | None = None
    """Who of several replicas looks; None: each one."""
    instance: str | None = None
    """Names this replica in Events and in the Lease; None takes the host's name."""


class WebhookService:
    """One process of the webhook, without its listener."""

    def __init__(self, kube: KubeClient, settings: WebhookSettings, options: ServiceOptions) -> None:
        self.accounts = AccountCache(kube, prefixes=settings.prefixes, namespaces=options.namespaces)
        self.platform = None
        if options.platform_config is not None:
            from wif.serve.platform_watch import PlatformWatch  # noqa: PLC0415 - only where there is one

            self.platform = PlatformWatch(kube, *options.platform_config, settings)
        self.events = EventWriter(kube, instance=options.instance) if options.with_events else None
        watch = self.platform
        self.app = WebhookApp(
            settings,
            self.accounts,
            platform=lambda: None if watch is None else watch.platform,
            wait_seconds=options.wait_seconds,
            tell=None if self.events is None else self.events.tell,
        )
        self.unmutated = self._unmutated(kube, settings, options) if options.unmutated_seconds else None
        self.certificate: CertificateCare | None = None
        """Set by whoever makes the listener; None is plain HTTP."""

    def _unmutated(self, kube: KubeClient, settings: WebhookSettings, options: ServiceOptions) -> UnmutatedPods:
        lease = None
        if options.lease is not None:
            from wif.edges.lease import Lease  # noqa: PLC0415 - only with several replicas

            lease = Lease(kube, *options.lease)
        watch, events = self.platform, self.events
        return UnmutatedPods(
            kube,
            self.accounts,
            settings,
            platform=lambda: None if watch is None else watch.platform,
            lease=lease,
            namespaces=options.namespaces,
            excluded=("kube-system", kube.namespace or "") if options.excluded is None else options.excluded,
            tell=(lambda _: None) if events is None else events.tell,
            ready=lambda: not self._unread(),
            period_seconds=options.unmutated_seconds,
        )

    @property
    def workers(self) -> list[Worker]:
        """What runs beside the servers."""
        parts = (self.accounts, self.platform, self.events, self.unmutated, self.certificate)
        return [part.run for part in parts if part is not None]

    def unready(self) -> Sequence[str]:
        """Why this process should get no reviews now.

        An expired certificate is among it, and is no reason to restart: a new process could not renew it either.
        """
        reasons = self._unread()
        if self.certificate is not None and self.certificate.status.problem:
            reasons.append(f"the certificate would be refused: {self.certificate.status.problem}")
        return reasons

    def _unread(self) -> list[str]:
        platform = () if self.platform is None else self.platform.unready()
        return [*self.accounts.unready(), *platform]

    def register_metrics(self, registry: CollectorRegistry, server: HttpServer) -> None:
        """Have a registry show this service."""
        from wif.serve.webhook_metrics import WebhookMetrics  # noqa: PLC0415 - an extra

        registry.register(
            WebhookMetrics(
                self.app,
                server=server,
                accounts=self.accounts,
                certificate=self.certificate,
                platform=self.platform,
                events=self.events,
                unmutated=self.unmutated,
            )
        )
