"""Whole processes: from nothing to the first credential, and what an import costs."""

from __future__ import annotations

__all__ = ["measure"]

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.rows import RUNS, Row, compare, run_once

WIF = (str(Path(sys.executable).with_name("wif")),)
PYTHON = (sys.executable, "-c")

PEERS: Mapping[str, tuple[str, str, float]] = {
    "aws": (
        "boto3",
        "import boto3; boto3.Session().get_credentials().get_frozen_credentials()",
        0.6,
    ),
    "gcp": (
        "google-auth",
        "import google.auth; from google.auth.transport.requests import Request; "
        "c, _ = google.auth.default(scopes=['https://www.googleapis.com/auth/cloud-platform']); c.refresh(Request())",
        0.8,
    ),
    "azure": (
        "azure-identity",
        "from azure.identity import WorkloadIdentityCredential; "
        "WorkloadIdentityCredential().get_token('https://management.azure.com/.default')",
        0.65,
    ),
}

COMMANDS: Mapping[str, Sequence[str]] = {
    "aws": (*WIF, "exchange", "aws", "--format", "json"),
    "gcp": (*WIF, "exchange", "gcp", "--format", "json"),
    "azure": (*WIF, "exchange", "azure", "--format", "json", "--scope", "https://management.azure.com/.default"),
}


def measure(variables: Mapping[str, str]) -> Iterator[Row]:
    """Rows of process starts; ``variables`` lead every client to the local STS."""
    yield _import_cost(variables)
    for cloud, (peer, program, target) in PEERS.items():
        mine, theirs, ratio = compare((COMMANDS[cloud], variables), ((*PYTHON, program), variables))
        yield Row(
            name=f"start to first credential, {cloud}",
            value=round(mine.seconds * 1000, 1),
            unit="ms",
            peer=peer,
            peer_value=round(theirs.seconds * 1000, 1),
            ratio=round(ratio, 3),
            target=f"ratio at most {target}",
            met=ratio <= target,
        )
        yield Row(
            name=f"peak memory of that process, {cloud}",
            value=round(mine.peak_mib, 1),
            unit="MiB",
            peer=peer,
            peer_value=round(theirs.peak_mib, 1),
            ratio=round(mine.peak_mib / theirs.peak_mib, 3),
            target="below the peer's",
            met=mine.peak_mib < theirs.peak_mib,
        )
    warm = (*WIF, "exchange", "aws", "--format", "credential-process", "--cache")
    run_once(warm, variables)  # fills the cache
    mine, theirs, ratio = compare((warm, variables), ((*PYTHON, PEERS["aws"][1]), variables))
    yield Row(
        name="credential-process from a warm cache",
        value=round(mine.seconds * 1000, 1),
        unit="ms",
        peer="boto3, cold web identity",
        peer_value=round(theirs.seconds * 1000, 1),
        ratio=round(ratio, 3),
        target="ratio at most 0.15",
        met=ratio <= 0.15,
    )


def _import_cost(variables: Mapping[str, str]) -> Row:
    bare = [*PYTHON, "pass"]
    with_wif = [*PYTHON, "import wif"]
    differences = []
    bares = []
    for number in range(2 * RUNS + 1):
        first = run_once(bare, variables).seconds
        second = run_once(with_wif, variables).seconds
        time.sleep(0)
        if number:
            bares.append(first)
            differences.append(second - first)
    value = statistics.median(differences) * 1000
    return Row(
        name="import wif, over bare Python",
        value=round(value, 1),
        unit="ms",
        peer="bare Python, whole process",
        peer_value=round(statistics.median(bares) * 1000, 1),
        target="at most 25 ms",
        met=value <= 25.0,
    )
