"""Unit tests have no network; those of the pure half touch nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.watch import WATCH

PURE = (
    "core",
    "clouds",
    "trust",
    "admission",
    "test_config.py",
    "test_config_issuers.py",
    "test_config_webhook.py",
    "test_errors.py",
)
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def outside(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose code touches what the place of its file forbids."""
    part = request.path.relative_to(HERE).parts[0]
    WATCH.hold("pure" if part in PURE else "no-network")
    yield
    seen = WATCH.release()
    assert not seen, f"swallowed on the way, but touched all the same: {seen}"
