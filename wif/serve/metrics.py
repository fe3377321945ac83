"""The metrics of ``wif issuer serve``: read from the counters of app, refresher and server when somebody asks.

A request so costs no lock and no label look-up. Labels are issuers and statuses; no key id, no client.
"""

from __future__ import annotations

__all__ = ["ServeMetrics"]

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from wif.serve.discovery import DiscoveryApp
    from wif.serve.httpd import HttpServer
    from wif.serve.refresh import Refresher


class ServeMetrics(Collector):
    """A collector for a registry."""

    def __init__(self, app: DiscoveryApp, refresher: Refresher, server: HttpServer) -> None:
        self._app = app
        self._refresher = refresher
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """The families of this moment."""
        yield from self._issuers()
        yield from self._listener()

    def _issuers(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "wif_serve_documents", "Requests for a document.", labels=["issuer", "document", "status"]
        )
        age = GaugeMetricFamily(
            "wif_serve_document_age_seconds", "Since the source last confirmed it.", labels=["issuer"]
        )
        keys = GaugeMetricFamily("wif_serve_keys", "Keys in the key set that is served.", labels=["issuer"])
        failures = CounterMetricFamily(
            "wif_serve_refresh_failures", "Readings of a source that failed.", labels=["issuer"]
        )
        now = self._app.clock()
        for job in self._refresher.jobs:
            issuer = job.issuer
            for name, document in (("discovery", issuer.discovery), ("jwks", issuer.key_set)):
                answers.add_metric([issuer.issuer, name, "200"], document.ok)
                answers.add_metric([issuer.issuer, name, "304"], document.not_modified)
            answers.add_metric([issuer.issuer, "any", "503"], issuer.unavailable)
            age.add_metric([issuer.issuer], issuer.age(now) if issuer.read_at is not None else math.inf)
            keys.add_metric([issuer.issuer], len(issuer.key_ids))
            failures.add_metric([issuer.issuer], job.failures_total)
        yield from (answers, age, keys, failures)

    def _listener(self) -> Iterator[Metric]:
        guard = self._server.guard
        refused = CounterMetricFamily(
            "wif_serve_refused", "Requests answered without a document, by status.", labels=["status"]
        )
        counts = dict(self._app.refused)
        for status, number in list(guard.refused.items()):
            counts[status] = counts.get(status, 0) + number
        for status, number in sorted(counts.items()):
            refused.add_metric([str(status)], number)
        yield refused
        yield CounterMetricFamily("wif_serve_connections", "Connections taken.", value=guard.accepted)
        yield GaugeMetricFamily("wif_serve_open_connections", "Connections now.", value=len(guard.connections))
        yield CounterMetricFamily(
            "wif_serve_expired_connections", "Ended because a head, body or answer took too long.", value=guard.expired
        )
        yield CounterMetricFamily(
            "wif_serve_evicted_connections", "Idle ones that made room for new ones.", value=guard.evicted
        )
        certificate = self._server.certificate
        if certificate is not None:
            yield GaugeMetricFamily(
                "wif_serve_certificate_loaded_timestamp_seconds",
                "When the certificate in use was loaded.",
                value=certificate.loaded_at,
            )
            yield CounterMetricFamily(
                "wif_serve_certificate_failures",
                "New certificates that could not be used.",
                value=certificate.failures,
            )
