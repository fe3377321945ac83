"""The metrics of ``wif webhook serve``: read from counters when somebody asks for them.

Labels are outcomes, dialects, rules and statuses. There are none of namespaces, pods, ServiceAccounts or identities:
a tenant's install shows nothing of another, and the number of series has a bound.
"""

from __future__ import annotations

__all__ = ["WebhookMetrics"]

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from wif.serve.webhook import BOUNDS

if TYPE_CHECKING:
    from wif.serve.httpd import HttpServer
    from wif.serve.platform_watch import PlatformWatch
    from wif.serve.self_managed import CertificateStatus
    from wif.serve.service_accounts import AccountCache
    from wif.serve.unmutated import UnmutatedPods
    from wif.serve.webhook import WebhookApp
    from wif.serve.webhook_events import EventWriter
    from wif.serve.webhook_service import CertificateCare


class WebhookMetrics(Collector):
    """A collector for a registry."""

    def __init__(
        self,
        app: WebhookApp,
        *,
        server: HttpServer,
        accounts: AccountCache,
        certificate: CertificateCare | None = None,
        platform: PlatformWatch | None = None,
        events: EventWriter | None = None,
        unmutated: UnmutatedPods | None = None,
    ) -> None:
        self._app = app
        self._server = server
        self._accounts = accounts
        self._parts: list[Callable[[], Iterator[Metric]]] = [self._reviews, self._cache, self._listener]
        if certificate is not None:
            self._parts.append(lambda: _of_certificate(certificate.status))
        if platform is not None:
            self._parts.append(lambda: _of_platform(platform))
        if events is not None:
            self._parts.append(lambda: _of_events(events))
        if unmutated is not None:
            self._parts.append(lambda: _of_unmutated(unmutated))

    def collect(self) -> Iterator[Metric]:
        """The families of this moment."""
        for part in self._parts:
            yield from part()

    def _reviews(self) -> Iterator[Metric]:
        counts = self._app.counts
        reviews = CounterMetricFamily(
            "wif_webhook_reviews",
            "Reviews that were answered; dialects are those by which a pod was injected into.",
            labels=["webhook", "outcome", "dialect"],
        )
        for labels, number in sorted(counts.reviews.items()):
            reviews.add_metric(labels, number)
        yield reviews
        findings = CounterMetricFamily(
            "wif_webhook_findings", "What was refused, warned about or noted.", labels=["rule", "level"]
        )
        for pair, number in sorted(counts.findings.items()):
            findings.add_metric(pair, number)
        yield findings
        yield CounterMetricFamily(
            "wif_webhook_accounts_missing", "Pods whose ServiceAccount is nowhere.", value=counts.missing
        )
        total, buckets = 0, []
        for bound, number in zip([*map(str, BOUNDS), "+Inf"], list(counts.buckets), strict=True):
            total += number
            buckets.append((bound, total))
        latency = HistogramMetricFamily(
            "wif_webhook_review_seconds", "From the whole body to the answer, waits for a ServiceAccount included."
        )
        latency.add_metric([], buckets, counts.seconds)
        yield latency

    def _cache(self) -> Iterator[Metric]:
        cache = self._accounts
        age = cache.age_seconds()
        yield GaugeMetricFamily("wif_webhook_cache_accounts", "ServiceAccounts that are kept.", value=cache.size)
        yield GaugeMetricFamily(
            "wif_webhook_cache_age_seconds", "Since the API server was last heard of; a minute is nothing.", value=age
        )
        yield GaugeMetricFamily(
            "wif_webhook_cache_synced", "1 once all ServiceAccounts were received.", value=float(cache.synced)
        )
        for name, text, value in (
            ("live_reads", "ServiceAccounts read because the watch had not brought them.", cache.live_reads),
            ("cache_misses", "Look-ups of what the watch had not brought.", cache.misses),
            ("cache_lists", "Whole lists received.", cache.lists),
            ("watch_failures", "Lists and watches that ended as they should not.", cache.watch_failures),
        ):
            yield CounterMetricFamily(f"wif_webhook_{name}", text, value=value)

    def _listener(self) -> Iterator[Metric]:
        guard = self._server.guard
        counts = dict(self._app.counts.refused)
        for status, number in list(guard.refused.items()):
            counts[status] = counts.get(status, 0) + number
        refused = CounterMetricFamily(
            "wif_webhook_refused", "Requests answered without a decision, by HTTP status.", labels=["status"]
        )
        for status, number in sorted(counts.items()):
            refused.add_metric([str(status)], number)
        yield refused
        yield CounterMetricFamily("wif_webhook_connections", "Connections taken.", value=guard.accepted)
        yield GaugeMetricFamily("wif_webhook_open_connections", "Connections now.", value=len(guard.connections))
        yield CounterMetricFamily(
            "wif_webhook_expired_connections",
            "Ended because a head, a body or an answer took too long.",
            value=guard.expired,
        )


def _of_certificate(status: CertificateStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "wif_webhook_certificate_trusted",
        "1 where a client as the API server would accept what is served.",
        value=float(not status.problem),
    )
    yield GaugeMetricFamily(
        "wif_webhook_certificate_not_after_timestamp_seconds",
        "When the certificate that is served ends.",
        value=status.not_after or math.nan,
    )
    for name, text, value in (
        ("certificate_rotations", "Pairs taken into use after the first.", status.rotations),
        ("ca_bundle_repairs", "Registrations whose authorities somebody else had changed.", status.repairs),
        ("certificate_failures", "Looks after the certificate that failed.", status.failures),
    ):
        yield CounterMetricFamily(f"wif_webhook_{name}", text, value=value)


def _of_platform(platform: PlatformWatch) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "wif_webhook_platform_in_force",
        "1 where the platform's ConfigMap is.",
        value=float(platform.platform is not None),
    )
    yield GaugeMetricFamily(
        "wif_webhook_platform_broken", "1 where it cannot be read as it is now.", value=float(bool(platform.problem))
    )
    yield CounterMetricFamily("wif_webhook_platform_refused", "Contents refused.", value=platform.refused)


def _of_events(events: EventWriter) -> Iterator[Metric]:
    yield CounterMetricFamily("wif_webhook_events", "Events written or counted.", value=events.written)
    yield CounterMetricFamily("wif_webhook_events_dropped", "Events that were not written.", value=events.dropped)


def _of_unmutated(unmutated: UnmutatedPods) -> Iterator[Metric]:
    status = unmutated.status
    yield GaugeMetricFamily("wif_webhook_unmutated_leader", "1 where this replica looks.", value=float(status.leads))
    yield CounterMetricFamily("wif_webhook_unmutated_failures", "Looks that failed.", value=status.failures)
    if status.looked_at:
        yield GaugeMetricFamily(
            "wif_webhook_unmutated_pods", "Pods without what their ServiceAccount would give them.", value=status.pods
        )
        yield GaugeMetricFamily(
            "wif_webhook_unmutated_looked_timestamp_seconds", "When that was so.", value=status.looked_at
        )
