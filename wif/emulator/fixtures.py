"""pytest fixtures for tests of programs that use federated identities: ``pytest_plugins = ["wif.emulator"]``.

::

    def test_my_program(wif_environment):                # os.environ is that of a prepared pod
        assert boto3.client("sts").get_caller_identity()["Arn"].endswith(...)

    def test_an_outage(wif_environment, wif_faults):
        wif_faults.inject(cloud="aws", status=503, times=2)

    def test_my_trust(wif_emulator, wif_cluster):
        wif_emulator.trust = TrustStore.from_mapping(my_documents(wif_cluster.issuer))

Every test has its own cluster, faults and local STS, on ports of their own, so that tests may run in parallel. To
change what is trusted for many tests, override ``wif_trust`` or ``wif_identity`` in a ``conftest.py``.
"""

from __future__ import annotations

__all__ = [
    "wif_authority",
    "wif_cluster",
    "wif_emulator",
    "wif_environment",
    "wif_faults",
    "wif_identity",
    "wif_pod",
    "wif_trust",
]

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wif.errors import ConfigurationError

try:
    import pytest
except ImportError as error:
    raise ConfigurationError(
        "the fixtures of the local STS need pytest", code="extra-missing", hint="pip install pytest"
    ) from error

from wif.emulator.authority import Authority
from wif.emulator.cluster import LocalCluster
from wif.emulator.faults import Faults
from wif.emulator.pod import POD_IDENTITY, LocalPod, PodIdentity, prepare_pod, trust_documents
from wif.emulator.server import Emulator
from wif.emulator.state import TrustStore

if TYPE_CHECKING:
    from wif.core.jws import PrivateKey

_CLOUD_PREFIXES = ("AWS_", "AZURE_", "ARM_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "GCE_METADATA_", "WIF_", "BOTO_")
"""Variables of the developer's own clouds: a test must not see them."""
_PROXY_VARIABLES = ("ALL_PROXY", "all_proxy", "SSL_CERT_DIR")


@pytest.fixture(scope="session")
def wif_authority() -> Iterator[Authority]:
    """The certificate authority of this test process; its ``ca_file`` is what clients must trust."""
    with Authority() as authority:
        yield authority


@pytest.fixture(scope="session")
def _wif_signing_key() -> PrivateKey:
    return LocalCluster("https://cluster.invalid").signing_key.private_key  # an RSA key costs 50 to 200 ms


@pytest.fixture
def wif_faults() -> Faults:
    """What goes wrong on purpose in this test, for the clouds and, as ``cloud="issuer"``, for the cluster."""
    return Faults()


@pytest.fixture
def wif_cluster(wif_authority: Authority, wif_faults: Faults, _wif_signing_key: PrivateKey) -> Iterator[LocalCluster]:
    """A cluster whose discovery documents are published over HTTPS; mints ServiceAccount tokens."""
    with LocalCluster(key=_wif_signing_key) as cluster:
        cluster.serve(wif_authority, faults=wif_faults)
        yield cluster


@pytest.fixture
def wif_identity() -> PodIdentity:
    """Who the pod is; override it to choose other names."""
    return POD_IDENTITY


@pytest.fixture
def wif_trust(wif_cluster: LocalCluster, wif_identity: PodIdentity) -> Mapping[str, Any]:
    """The trust documents of three clouds; override it to test your own."""
    return trust_documents(wif_cluster.issuer, wif_identity)


@pytest.fixture
def wif_emulator(wif_trust: Mapping[str, Any], wif_authority: Authority, wif_faults: Faults) -> Iterator[Emulator]:
    """The local STS of three clouds with its proxy, trusting ``wif_trust``."""
    store = TrustStore.from_mapping(wif_trust)
    with Emulator(trust=store, authority=wif_authority, faults=wif_faults, proxy=True) as emulator:
        yield emulator


@pytest.fixture
def wif_pod(wif_cluster: LocalCluster, wif_emulator: Emulator, wif_identity: PodIdentity, tmp_path: Path) -> LocalPod:
    """A pod with projected tokens and the three webhooks' variables, for child processes (``.environment``)."""
    return prepare_pod(tmp_path / "wif-pod", wif_cluster, wif_emulator.environment(), identity=wif_identity)


@pytest.fixture
def wif_environment(wif_pod: LocalPod, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPod]:
    """The same for this process: ``os.environ`` is the pod's for the length of the test, ``HOME`` included."""
    for name in list(os.environ):
        if name.startswith(_CLOUD_PREFIXES) or name in _PROXY_VARIABLES:
            monkeypatch.delenv(name)
    for name, value in wif_pod.environment.items():
        monkeypatch.setenv(name, value)
    before = _swap_default_session(None)
    yield wif_pod
    _swap_default_session(before)


def _swap_default_session(session: object) -> object:
    """Give boto3, where the program has loaded it, another default session: it keeps the last test's credentials."""
    boto3: Any = sys.modules.get("boto3")
    if boto3 is None:
        return None
    before: object = boto3.DEFAULT_SESSION
    boto3.DEFAULT_SESSION = session
    return before
