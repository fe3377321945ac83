"""One cluster for all tests of the local STS, its documents in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.emulator.local_sts import ISSUER, LocalSts
from wif.emulator import LocalCluster


@pytest.fixture(scope="session")
def shared_cluster() -> LocalCluster:
    """A cluster with an RSA key, and P-256 and P-384 ones beside it; tests that change keys make one of their own."""
    cluster = LocalCluster(issuer=ISSUER)
    cluster.stage_key(algorithm="ES256")
    cluster.stage_key(algorithm="ES384")
    return cluster


@pytest.fixture
def sts(shared_cluster: LocalCluster, tmp_path: Path) -> LocalSts:
    """The local STS; what a test changes of its trust counts from the first request on."""
    documents = tmp_path / "issuer"
    shared_cluster.write(documents)
    return LocalSts(shared_cluster, documents)
