"""The publisher: how fast it starts, and a thousand issuers in one run, with the memory and time of a hundred beside.

``python -m tests.benchmarks.publishing`` prints the rows.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.benchmarks.rows import RUNS, Outcome, Row, run_once

PROGRAM = (str(Path(sys.executable).with_name("publish-oidc-discovery")),)
PYTHON = (sys.executable, "-c", "pass")
FEW, MANY = 100, 1000
MAX_VERSION_MS = 60.0
MAX_PUBLISH_SECONDS = 0.4
MAX_GROWTH = 12.0
"""Of the time from a hundred to a thousand: ten is linear."""
MAX_MEMORY_GROWTH = 1.5
BUCKET = "issuers"


def measure() -> Iterator[Row]:
    """The rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            "HOME": name,
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONPATH": str(Path.cwd()),
        }
        yield from _starts(folder, environment)
        yield from _many(folder, "a directory", lambda number: f"file://{folder}/out/{number}", environment, {})
        yield from _many_to_s3(folder, environment)


def _starts(folder: Path, environment: Mapping[str, str]) -> Iterator[Row]:
    extra, bare = _over((*PROGRAM, "--version"), PYTHON, environment)
    yield Row(
        name="publish-oidc-discovery --version, over bare Python",
        value=round(extra * 1000, 1),
        unit="ms",
        peer="bare Python, whole process",
        peer_value=round(bare * 1000, 1),
        target=f"at most {MAX_VERSION_MS:g} ms",
        met=extra * 1000 <= MAX_VERSION_MS,
    )
    _key(folder / "sa.pub")
    runs = []
    for number in range(RUNS + 1):  # each a first publish
        words = [
            "--issuer",
            f"https://oidc.example.com/{number}",
            "--public-key",
            str(folder / "sa.pub"),
            "--no-verify",
        ]
        runs.append(run_once((*PROGRAM, *words, "--to", f"file://{folder}/one/{number}"), environment))
    del runs[0]  # which has warmed the page cache and the compiled modules
    seconds = statistics.median(each.seconds for each in runs)
    yield Row(
        name="publish of one target, whole process",
        value=round(seconds, 3),
        unit="s",
        target=f"at most {MAX_PUBLISH_SECONDS:g} s",
        met=seconds <= MAX_PUBLISH_SECONDS,
    )
    yield Row(
        name="peak memory of that process",
        value=round(statistics.median(each.peak_mib for each in runs), 1),
        unit="MiB",
        target="for the record",
        met=True,
    )


def _over(command: Sequence[str], bare: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Median of the differences, pair by pair, and of the bare one."""
    pairs = [(run_once(command, environment).seconds, run_once(bare, environment).seconds) for _ in range(2 * RUNS + 1)]
    return (
        statistics.median(mine - theirs for mine, theirs in pairs[1:]),
        statistics.median(theirs for _, theirs in pairs[1:]),
    )


def _many_to_s3(folder: Path, environment: Mapping[str, str]) -> Iterator[Row]:
    """S3 by moto, in a process of its own: its memory and time are not the publisher's."""
    import subprocess

    server = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.publishing", "--moto"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        place = json.loads(server.stdout.readline())
        target = {"endpoint": place["endpoint"], "region": "us-east-1", "allow_http": True}
        yield from _many(
            folder,
            "S3 (moto)",
            lambda number: f"s3://{place['bucket']}/{number}",
            {**environment, **place["environ"]},
            target,
        )
    finally:
        server.communicate()


def _many(
    folder: Path, kind: str, url: Any, environment: Mapping[str, str], target: Mapping[str, Any]
) -> Iterator[Row]:
    outcomes: dict[int, Outcome] = {}
    for count in (FEW, MANY):
        place = folder / f"{count}-{kind.partition(' ')[0]}"
        place.mkdir()
        issuers = {}
        for number in range(count):
            _key(place / f"{number}.pub")
            issuers[f"c{number}"] = {
                "issuer": f"https://oidc.example.com/{count}/{number}",
                "public_keys": [str(place / f"{number}.pub")],
                "to": [{"url": url(f"{count}/{number}"), **target}],
                "state": str(place / f"{number}.state"),
                "verify": False,
            }
        file = place / "wif.yaml"
        file.write_text(json.dumps({"issuers": issuers}))
        outcomes[count] = run_once((*PROGRAM, "--config-file", str(file), "--all"), environment)
    few, many = outcomes[FEW], outcomes[MANY]
    growth = many.seconds / few.seconds
    yield Row(
        name=f"publish {MANY} issuers to {kind}",
        value=round(many.seconds, 2),
        unit="s",
        peer=f"{FEW} issuers",
        peer_value=round(few.seconds, 2),
        ratio=round(growth, 2),
        target=f"ratio at most {MAX_GROWTH:g}",
        met=growth <= MAX_GROWTH,
    )
    memory = many.peak_mib / few.peak_mib
    yield Row(
        name=f"peak memory of that process, {kind}",
        value=round(many.peak_mib, 1),
        unit="MiB",
        peer=f"{FEW} issuers",
        peer_value=round(few.peak_mib, 1),
        ratio=round(memory, 2),
        target=f"ratio at most {MAX_MEMORY_GROWTH:g}",
        met=memory <= MAX_MEMORY_GROWTH,
    )


def _key(path: Path) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _moto() -> None:
    """The S3 server's process, until its standard input ends."""
    from tests.integration.stores.moto_server import MotoServer

    with MotoServer() as server:
        place = {"endpoint": server.endpoint, "bucket": server.bucket(), "environ": dict(server.environ)}
        print(json.dumps(place), flush=True)
        sys.stdin.read()
    os._exit(0)  # its threads hold on


if __name__ == "__main__":
    if sys.argv[1:] == ["--moto"]:
        _moto()
    else:
        for row in measure():
            print(row.as_json(), flush=True)
