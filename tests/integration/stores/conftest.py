"""One server of each kind per test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.stores.azurite import Azurite, missing_azurite
from tests.integration.stores.gcs import GcsServer
from tests.integration.stores.moto_server import MotoServer


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """S3."""
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """Google Cloud Storage."""
    with GcsServer() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azure Blob; without azurite the tests say what is missing."""
    problem = missing_azurite()
    if problem:
        pytest.skip(f"no azurite: {problem}")
    with Azurite() as server:
        yield server
