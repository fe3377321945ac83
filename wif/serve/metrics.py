"""The metrics of ``wif issuer serve`` and ``wif issuer watch``: read from counters when somebody asks for them.

A request so costs no lock and no label look-up. Labels are issuers, targets, statuses and codes of errors; no key id,
no client.
"""

from __future__ import annotations

__all__ = ["TAMPERING_SECONDS", "ServeMetrics", "WatchMetrics"]

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from wif.issuer.watch import ControllerStatus
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


TAMPERING_SECONDS = 900.0
"""How long tampering is shown after it was last seen: with ``--restore`` it is gone before most scrapes come by."""


class WatchMetrics(Collector):
    """A collector for a registry. A replica that does not lead shows that, and nothing of issuers.

    Args:
        status: what is so now.
    """

    def __init__(self, status: Callable[[], ControllerStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """The families of this moment."""
        status = self._status()
        yield GaugeMetricFamily("wif_leader", "1 where this replica leads.", value=float(status.is_leading))
        gauges = {
            name: GaugeMetricFamily(f"wif_issuer_{name}", text, labels=labels)
            for name, text, labels in (
                ("published_keys", "Keys that a target holds.", ["issuer", "target"]),
                ("seconds_since_verified", "Since the public address was last found right.", ["issuer"]),
                ("seconds_since_round", "Since the last round ended.", ["issuer"]),
                ("verified", "1 where the public address was right when last looked at.", ["issuer"]),
                ("drift", "1 where a target had drifted in the last round.", ["issuer", "target"]),
                ("tampering", f"Things nobody vouches for, seen in {TAMPERING_SECONDS / 60:g} minutes.", ["issuer"]),
                ("exposed_keys", "Keys that sign before they are visible everywhere.", ["issuer"]),
            )
        }
        counters = {
            name: CounterMetricFamily(f"wif_issuer_{name}", text, labels=labels)
            for name, text, labels in (
                ("rounds", "Rounds by their end.", ["issuer", "outcome"]),
                ("repaired", "Targets written because they had drifted.", ["issuer"]),
                ("tampering_found", "Rounds that found what nobody vouches for.", ["issuer"]),
                ("target_errors", "Failures; without a target: of the whole round.", ["issuer", "target", "code"]),
            )
        }
        for each in status.issuers:
            one = [each.issuer]
            counters["rounds"].add_metric([*one, "ok"], each.rounds - each.failures)
            counters["rounds"].add_metric([*one, "failed"], each.failures)
            counters["repaired"].add_metric(one, each.repaired)
            counters["tampering_found"].add_metric(one, each.tampering_rounds)
            for (target, code), number in each.errors.items():
                counters["target_errors"].add_metric([*one, target, code], number)
            if each.verified_at is not None:
                gauges["seconds_since_verified"].add_metric(one, status.now - each.verified_at)
            if each.round_at is None:
                continue
            gauges["seconds_since_round"].add_metric(one, status.now - each.round_at)
            gauges["exposed_keys"].add_metric(one, len(each.last.exposures))
            gauges["tampering"].add_metric(one, each.tampering_within(TAMPERING_SECONDS, status.now))
            if each.last.verified is not None:
                gauges["verified"].add_metric(one, float(each.last.verified))
            for place in each.last.targets:
                gauges["drift"].add_metric([*one, place.name], float(bool(place.drift)))
                if place.error is None:
                    gauges["published_keys"].add_metric([*one, place.name], place.keys)
        yield from gauges.values()
        yield from counters.values()
