"""The metrics of ``wif sidecar serve``: read from counters when somebody asks for them.

Labels are interfaces, clouds, states and statuses; there are none of identities: whoever reaches the pod's address
may read this.
"""

from __future__ import annotations

__all__ = ["SidecarMetrics"]

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from wif.serve.httpd import HttpServer
    from wif.serve.sidecar_service import SidecarService


def _now() -> datetime:
    return datetime.now(UTC)


class SidecarMetrics(Collector):
    """A collector for a registry."""

    def __init__(
        self, service: SidecarService, servers: Sequence[HttpServer], *, clock: Callable[[], datetime] = _now
    ) -> None:
        self._service = service
        self._servers = servers
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """The families of this moment."""
        yield from self._answers()
        yield from self._identities()
        yield from self._listeners()

    def _answers(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "wif_sidecar_answers", "Requests by interface and status.", labels=["interface", "status"]
        )
        for (interface, status), number in sorted(self._service.app.counts.items()):
            answers.add_metric([interface, str(status)], number)
        yield answers
        exchanges = CounterMetricFamily(
            "wif_sidecar_exchanges", "Exchanges by cloud and outcome.", labels=["cloud", "outcome"]
        )
        for pair, number in sorted(self._service.exchanges.items()):
            exchanges.add_metric(pair, number)
        yield exchanges
        for name, text, value in (
            ("reloads", "New settings taken into use.", self._service.reloads),
            ("reload_failures", "New settings that are wrong.", self._service.reload_failures),
        ):
            yield CounterMetricFamily(f"wif_sidecar_{name}", text, value=value)

    def _identities(self) -> Iterator[Metric]:
        now = self._clock()
        numbers: Counter[tuple[str, str]] = Counter()
        left: dict[str, float] = {}
        states = self._service.keeper.states
        for name, identity in self._service.settings.identities.items():
            kept = states.get(name)
            if kept is None:
                continue
            numbers[identity.cloud, kept.state] += 1
            if kept.expires_at is not None:
                seconds = (kept.expires_at - now).total_seconds()
                left[identity.cloud] = min(seconds, left.get(identity.cloud, seconds))
        identities = GaugeMetricFamily(
            "wif_sidecar_identities", "Identities by the state of their credential.", labels=["cloud", "state"]
        )
        for pair, number in sorted(numbers.items()):
            identities.add_metric(pair, number)
        yield identities
        expiry = GaugeMetricFamily(
            "wif_sidecar_credential_seconds", "Until the first credential of the cloud expires.", labels=["cloud"]
        )
        for cloud, seconds in sorted(left.items()):
            expiry.add_metric([cloud], seconds)
        yield expiry

    def _listeners(self) -> Iterator[Metric]:
        guards = [server.guard for server in self._servers]
        refused = CounterMetricFamily(
            "wif_sidecar_refused", "Requests that no interface has seen, by status.", labels=["status"]
        )
        counts: Counter[int] = Counter()
        for guard in guards:
            counts.update(guard.refused)
        for status, number in sorted(counts.items()):
            refused.add_metric([str(status)], number)
        yield refused
        yield GaugeMetricFamily(
            "wif_sidecar_open_connections", "Connections now.", value=sum(len(guard.connections) for guard in guards)
        )
        for name, text, value in (
            ("connections", "Connections taken.", sum(guard.accepted for guard in guards)),
            ("evicted_connections", "Idle ones that made room for new ones.", sum(guard.evicted for guard in guards)),
            (
                "expired_connections",
                "Ended because a head or an answer took too long.",
                sum(guard.expired for guard in guards),
            ),
        ):
            yield CounterMetricFamily(f"wif_sidecar_{name}", text, value=value)
