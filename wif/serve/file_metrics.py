"""The metrics of the sidecar's files: numbers, without paths or names of identities."""

from __future__ import annotations

__all__ = ["FileMetrics"]

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from wif.serve.sidecar_files import SidecarFiles


class FileMetrics(Collector):
    """A collector for a registry."""

    def __init__(self, files: SidecarFiles) -> None:
        self._files = files

    def collect(self) -> Iterator[Metric]:
        """The families of this moment."""
        held = GaugeMetricFamily("wif_sidecar_files", "Files by what they hold.", labels=["holds"])
        for what, number in self._files.counts().items():
            held.add_metric([what], number)
        yield held
        for name, text, value in (
            ("file_writes", "Times that a file was written.", self._files.writes),
            (
                "file_failures",
                "Times that a file began not to be renewed, or not to be for another reason.",
                self._files.failures,
            ),
            (
                "after_failures",
                "Commands after a refresh that failed, and signals that reached nobody.",
                self._files.afterwards.failures,
            ),
        ):
            yield CounterMetricFamily(f"wif_sidecar_{name}", text, value=value)
