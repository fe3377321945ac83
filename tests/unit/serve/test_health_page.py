"""The page of metrics: one for all who ask at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tests.unit.serve.thread_limit import LimitedThreads
from wif.serve.health import HealthApp


class Slow(Collector):
    """Counts how often it is asked; the answer takes as long as the test says."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_go = threading.Event()

    def collect(self) -> Iterator[Metric]:
        self.asked += 1
        self.may_go.wait(5)
        yield GaugeMetricFamily("asked", "How often.", value=self.asked)

    def describe(self) -> Iterator[Metric]:
        return iter(())


async def _scrape(app: HealthApp, accept: bytes = b"*/*", *, status: int = 200) -> str:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody sends a body")

    await app({"path": "/metrics", "method": "GET", "headers": [(b"accept", accept)]}, receive, send)
    assert sent[0]["status"] == status
    return bytes(sent[1]["body"]).decode()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def app(slow: Slow) -> HealthApp:
    registry = CollectorRegistry()
    registry.register(slow)
    return HealthApp(registry=registry)


def test_who_asks_at_once_shares_one_page(app: HealthApp, slow: Slow) -> None:
    async def scenario() -> None:
        waiting = [asyncio.create_task(_scrape(app)) for _ in range(50)]
        await asyncio.sleep(0.2)
        slow.may_go.set()
        assert {"asked 1.0" in text for text in await asyncio.gather(*waiting)} == {True}

    asyncio.run(scenario())
    assert slow.asked == 1


def test_a_client_that_leaves_takes_the_page_from_nobody(app: HealthApp, slow: Slow) -> None:
    async def scenario() -> None:
        first, second = (asyncio.create_task(_scrape(app)) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        slow.may_go.set()
        assert "asked 1.0" in await second

    asyncio.run(scenario())


def test_another_format_and_another_moment_have_pages_of_their_own(app: HealthApp, slow: Slow) -> None:
    slow.may_go.set()

    async def scenario() -> None:
        plain = await _scrape(app)
        assert "# EOF" not in plain
        assert (await _scrape(app, b"application/openmetrics-text; version=1.0.0")).endswith("# EOF\n")
        await asyncio.sleep(0.15)
        assert "asked 3.0" in await _scrape(app)

    asyncio.run(scenario())


def test_where_no_thread_can_be_started_there_is_no_page(app: HealthApp) -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().set_default_executor(LimitedThreads())
        assert await _scrape(app, status=503) == "can't start new thread\n"

    asyncio.run(scenario())
