"""A prepared pod whose programs, and this process' own SDKs, are led to a local STS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from wif.emulator import Authority, Emulator, LocalCluster, TrustStore
from wif.emulator.faults import Injection
from wif.emulator.pod import POD_IDENTITY, LocalPod, prepare_pod, trust_documents

ROLE = POD_IDENTITY.role_arn
PROVIDER = POD_IDENTITY.provider
ACCOUNT = POD_IDENTITY.google_service_account
TENANT, CLIENT = POD_IDENTITY.tenant_id, POD_IDENTITY.client_id
AUDIENCES = POD_IDENTITY.audiences


@dataclass(frozen=True, slots=True, kw_only=True)
class LedPod:
    """The pod, and the local STS behind it."""

    tokens: Path
    """The projected volume: ``aws``, ``gcp``, ``azure``."""
    environment: Mapping[str, str]
    """Everything that a program needs; nothing is inherited but the interpreter's directory."""
    emulator: Emulator
    pod: LocalPod

    def configure(self, folder: Path) -> Path:
        """Write the config files of all three clouds, as a user would, and return their folder."""
        command = ["wif", "config", "all", "--aws-role-arn", ROLE, "--aws-region", "eu-west-1"]
        command += ["--gcp-provider", PROVIDER, "--gcp-service-account", ACCOUNT, "--out", str(folder)]
        command += [part for cloud, path in self.pod.tokens.items() for part in (f"--{cloud}-file", str(path))]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return folder

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the pod's environment this process' own, for SDKs that read it."""
        for name, value in self.pod.environment.items():
            monkeypatch.setenv(name, value)

    def slow(self, cloud: str, operation: str, *, seconds: float = 0.1) -> Injection:
        """Count an operation's requests; each lasts a while, so that those who come together do meet."""
        return self.emulator.faults.inject(cloud=cloud, operation=operation, delay_seconds=seconds)


@contextmanager
def led_pod(folder: Path) -> Iterator[LedPod]:
    """Start cluster, local STS and proxy, and prepare the pod."""
    with Authority() as authority, LocalCluster() as cluster:
        store = TrustStore.from_mapping(trust_documents(cluster.serve(authority)))
        with Emulator(trust=store, authority=authority, proxy=True) as emulator:
            pod = prepare_pod(folder / "pod", cluster, emulator.environment())
            path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
            environment = {**pod.environment, "PATH": path, "PYTHONWARNINGS": "error"}
            yield LedPod(tokens=pod.tokens["aws"].parent, environment=environment, emulator=emulator, pod=pod)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedPod]:
    """One for each module, led to a local STS of its own."""
    with led_pod(tmp_path_factory.mktemp("led")) as pod:
        yield pod
