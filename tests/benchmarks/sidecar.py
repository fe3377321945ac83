"""``wif sidecar serve`` with three clouds: memory, start to ready, CPU when idle, reads and p99 of each interface; and
how long ``wif run`` takes with a program that does nothing.

The sidecar is led to the local STS, which runs in another process. Server and load (wrk, 16 connections, keep-alive)
have a core each; the interfaces and a bare uvicorn answer of the size of AWS' take turns. What is counted is reads per
second of CPU time that the server got: on a quiet machine that is reads per second, and on a busy one it still is. The
p99 is only worth something on a quiet one: where the bare answer misses the target itself, it is not judged.
``python -m tests.benchmarks.sidecar`` prints the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.rows import Row

CONNECTIONS = 16
MIN_READS = 12_000
MAX_P99_MS = 5.0
MAX_MIB = 42.0
MAX_IDLE_PERCENT = 0.1
MAX_READY_SECONDS = 1.0
STARTS = 5
IDLE_SECONDS = 20.0
TIMEOUT_SECONDS = 60.0

_HEADER = "the-header-of-a-measurement"
_RESOURCE = "https://management.azure.com"
PATHS: Mapping[str, str] = {
    "AWS": "/aws",
    "GCE": "/computeMetadata/v1/instance/service-accounts/default/token",
    "App Service": f"/azure/token?api-version=2019-08-01&resource={_RESOURCE}",
    "IMDS": f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={_RESOURCE}",
}


class Figures(NamedTuple):
    """One run of the load; reads per second of the server's CPU time."""

    per_second: float
    p99_ms: float


class Sidecar(NamedTuple):
    """The process, ready."""

    child: subprocess.Popen[str]
    url: str
    seconds: float
    """From its start to its readiness."""


def measure(*, rounds: int = 5, seconds: int = 4, idle_seconds: float = IDLE_SECONDS) -> Iterator[Row]:
    """The rows."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        stage = _child("--stage", name)
        try:
            place = json.loads(_line(stage))
            _pin(stage.pid, cores[-1])
            sidecars = [_start(place, Path(name), cores[0]) for _ in range(STARTS - 1)]
            for each in sidecars:
                _stop(each.child)
            sidecar = _start(place, Path(name), cores[0])
            try:
                ready = statistics.median(each.seconds for each in (*sidecars, sidecar))
                yield _row("start to ready", ready, "s", MAX_READY_SECONDS, digits=2)
                run = statistics.median(_run(place, Path(name), cores[0]) for _ in range(STARTS))
                yield _row("wif run with a program that does nothing, whole", run, "s", MAX_READY_SECONDS, digits=2)
                yield from _measured(sidecar, Path(name), cores, rounds, seconds, idle_seconds)
            finally:
                _stop(sidecar.child)
        finally:
            _stop(stage)


def _measured(
    sidecar: Sidecar, folder: Path, cores: Sequence[int], rounds: int, seconds: int, idle_seconds: float
) -> Iterator[Row]:
    pid = sidecar.child.pid
    at_first = _memory(pid)
    time.sleep(1.0)  # what comes with the start: the keeper, the first look at files
    before, began = _cpu_seconds(pid), time.monotonic()
    time.sleep(idle_seconds)
    percent = 100 * (_cpu_seconds(pid) - before) / (time.monotonic() - began)
    headers = {
        "AWS": f"Authorization: {(folder / 'authorization').read_text()}",
        "GCE": "Metadata-Flavor: Google",
        "App Service": f"X-IDENTITY-HEADER: {_HEADER}",
        "IMDS": "Metadata: true",
    }
    yield _row("CPU when idle", percent, "%", MAX_IDLE_PERCENT, digits=3)
    if shutil.which("wrk") is None:
        for interface in PATHS:
            yield Row(
                name=f"sidecar: {interface}, reads per CPU-second",
                value=None,
                unit="1/s",
                target=f"at least {MIN_READS}",
                met=None,
                note="not run: no wrk",
            )
        yield _row("memory, three clouds", at_first, "MiB", MAX_MIB, digits=1)
        return
    size = len(_get(sidecar.url + PATHS["AWS"], headers["AWS"]))
    bare = _child("--bare", str(size))
    try:
        port = int(json.loads(_line(bare))["port"])
        _pin(bare.pid, cores[0])
        runs: dict[str, list[Figures]] = {interface: [] for interface in (*PATHS, "bare")}
        for number in range(rounds + 1):
            for interface, path in PATHS.items():
                figures = _load(pid, f"{sidecar.url}{path}", headers[interface], seconds, cores[-1])
                if number:
                    runs[interface].append(figures)
            figures = _load(bare.pid, f"http://127.0.0.1:{port}/", "Accept: */*", seconds, cores[-1])
            if number:
                runs["bare"].append(figures)
    finally:
        _stop(bare)
    yield from _throughput(runs)
    peak = _memory(pid, "VmHWM")
    yield _row("memory, three clouds", at_first, "MiB", MAX_MIB, digits=1, note=f"{peak:.1f} MiB at most under load")


def _throughput(runs: Mapping[str, Sequence[Figures]]) -> Iterator[Row]:
    peer, peer_p99 = _median(runs["bare"])
    for interface in PATHS:
        reads, p99 = _median(runs[interface])
        yield Row(
            name=f"sidecar: {interface}, reads per CPU-second",
            value=round(reads),
            unit="1/s",
            peer="bare uvicorn answer",
            peer_value=round(peer),
            ratio=round(reads / peer, 3),
            target=f"at least {MIN_READS}",
            met=reads >= MIN_READS,
        )
        is_quiet = peer_p99 < MAX_P99_MS
        yield Row(
            name=f"sidecar: {interface}, p99 at {CONNECTIONS} connections",
            value=round(p99, 2),
            unit="ms",
            peer="bare uvicorn answer",
            peer_value=round(peer_p99, 2),
            target=f"below {MAX_P99_MS:g} ms",
            met=p99 < MAX_P99_MS if is_quiet or p99 < MAX_P99_MS else None,
            note="" if is_quiet else "the machine is busy: the bare answer misses it too",
        )


def _median(figures: Sequence[Figures]) -> Figures:
    return Figures(
        statistics.median(each.per_second for each in figures), statistics.median(each.p99_ms for each in figures)
    )


def _row(name: str, value: float, unit: str, limit: float, *, digits: int, note: str = "") -> Row:
    return Row(
        name=f"sidecar: {name}",
        value=round(value, digits),
        unit=unit,
        target=f"at most {limit:g} {unit}",
        met=value <= limit,
        note=note,
    )


def _child(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.sidecar", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"the child ended with {child.wait(TIMEOUT_SECONDS)} before it was ready")
    return line


def _stop(child: subprocess.Popen[str]) -> None:
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    child.terminate()
    child.wait(TIMEOUT_SECONDS)


def _start(place: Mapping[str, Any], folder: Path, core: int) -> Sidecar:
    (folder / "wif.yaml").write_text(json.dumps({"sidecar": place["settings"]}))
    command = [sys.executable, "-m", "wif", "sidecar", "serve", "--config-file", str(folder / "wif.yaml"), "--json"]
    command += ["--listen", "127.0.0.1:0", "--health-address", "127.0.0.1:0", "--log-level", "error"]
    began = time.monotonic()
    child = subprocess.Popen(
        [*command, "--secret-file", str(folder / "authorization")],
        env={**place["variables"], "IDENTITY_HEADER": _HEADER, "PYTHONPATH": str(Path.cwd())},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    while not (lines and lines[-1].startswith("}")):
        lines.append(_line(child))
    told = json.loads("".join(lines))
    while not _is_ready(told["health_url"]):
        if time.monotonic() - began > TIMEOUT_SECONDS:
            raise RuntimeError("the sidecar does not become ready")
        time.sleep(0.005)
    seconds = time.monotonic() - began
    _pin(child.pid, core)
    return Sidecar(child, told["urls"][0], seconds)


def _run(place: Mapping[str, Any], folder: Path, core: int) -> float:
    command = [sys.executable, "-m", "wif", "run", "--config-file", str(folder / "wif.yaml"), "--", "true"]
    variables = {**place["variables"], "XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": str(Path.cwd())}
    began = time.monotonic()
    child = subprocess.Popen(command, env=variables, cwd=folder)
    _pin(child.pid, core)
    status = child.wait(TIMEOUT_SECONDS)
    if status != 0:
        raise RuntimeError(f"wif run ended with {status}")
    return time.monotonic() - began


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


def _get(url: str, header: str) -> bytes:
    name, _, value = header.partition(": ")
    with urllib.request.urlopen(urllib.request.Request(url, headers={name: value}), timeout=TIMEOUT_SECONDS) as answer:
        body: bytes = answer.read()
        return body


def _pin(pid: int, core: int) -> None:
    """All threads of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def _memory(pid: int, field: str = "VmRSS") -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, by the scheduler's account in nanoseconds."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def _load(pid: int, url: str, header: str, seconds: int, core: int) -> Figures:
    before = _cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-H", header, url]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(child.pid, {core})
    said, _ = child.communicate(timeout=seconds + TIMEOUT_SECONDS)
    if child.returncode != 0 or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"the load met errors: {said}")
    used = _cpu_seconds(pid) - before
    count = re.search(r"(\d+) requests in", said)
    latency = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if count is None or latency is None:
        raise RuntimeError(f"wrk said something else: {said}")
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}[latency[2]]
    return Figures(per_second=int(count[1]) / used, p99_ms=float(latency[1]) * unit)


# -- the other processes -------------------------------------------------------------------------------------------


def stage(folder: str) -> None:
    """A cluster and the local STS with its proxy; prints variables and settings, and serves until its input ends."""
    from tests.integration.led_pod import led_pod
    from tests.integration.sidecars import aws, azure, gcp, led

    with led_pod(Path(folder)) as pod:
        settings = {
            "identities": {"app": aws(pod), "reports": gcp(pod), "vault": azure(pod)},
            "gce_metadata": True,
            "imds": True,
        }
        variables = {name: value for name, value in led(pod).items() if name != "PYTHONWARNINGS"}
        print(json.dumps({"settings": settings, "variables": variables}), flush=True)
        sys.stdin.read()


def bare(size: int) -> None:
    """The least that uvicorn can answer with."""
    import uvicorn

    body = b"x" * size
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    class Telling(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(json.dumps({"port": self.servers[0].sockets[0].getsockname()[1]}), flush=True)

    Telling(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", access_log=False, lifespan="off")).run()


def main() -> None:
    """Print the rows, or be one of the other processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS)
    parser.add_argument("--stage")
    parser.add_argument("--bare", type=int)
    arguments = parser.parse_args()
    if arguments.stage:
        stage(arguments.stage)
    elif arguments.bare:
        bare(arguments.bare)
    else:
        for row in measure(rounds=arguments.rounds, seconds=arguments.seconds, idle_seconds=arguments.idle):
            print(row.as_json())


if __name__ == "__main__":
    main()
