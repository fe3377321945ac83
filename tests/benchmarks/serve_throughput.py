"""``wif issuer serve`` beside nginx with the same two files: requests per second and p99, TLS keep-alive, one core.

Both servers are held to one core, which the load (wrk, 32 connections, on another core) fills; they take turns, and the
ratio is that of each pair. What is counted is requests per second of CPU time that the server got: on a quiet machine
that is requests per second, and on a busy one it still is. The p99 is only worth something on a quiet one: where nginx
misses the target itself, it is not judged. nginx and wrk are Debian's packages; where one is absent the rows say
"not run".
``python -m tests.benchmarks.serve_throughput`` prints the rows.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import trustme

from tests.benchmarks.rows import Row

CONNECTIONS = 32
MIN_RATIO = 0.4
MAX_P99_MS = 5.0
ISSUER = "https://oidc.example.com"
PATH = "/openid/v1/jwks"
START_SECONDS = 15.0

_NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; keepalive_requests 100000000; keepalive_timeout 120;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl; root {folder}/documents;
    ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key; ssl_protocols TLSv1.2 TLSv1.3;
    add_header Cache-Control "public, max-age=300"; add_header X-Content-Type-Options nosniff;
    location = /openid/v1/jwks {{ default_type application/jwk-set+json; }}
    location = /.well-known/openid-configuration {{ default_type application/json; }}
  }}
}}
"""


class Figures(NamedTuple):
    """One run of the load; requests per second of the server's CPU time."""

    per_second: float
    p99_ms: float


def missing() -> str:
    """The programs that are not there."""
    return " and ".join(name for name in ("nginx", "wrk") if shutil.which(name, path=_path()) is None)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def measure(*, rounds: int = 5, seconds: int = 4) -> Iterator[Row]:
    """The rows."""
    absent = missing()
    if absent:
        for name, unit, target in (
            ("issuer serve: requests per CPU-second", "1/s", f"ratio at least {MIN_RATIO}"),
            ("issuer serve: p99 at 32 connections", "ms", f"below {MAX_P99_MS:g} ms"),
        ):
            yield Row(name=name, value=None, unit=unit, target=target, met=None, note=f"not run: no {absent}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx may change its user
        _write(folder)
        cores = sorted(os.sched_getaffinity(0))
        ports = _free_ports(2)
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=ports[1]))
        tls = ["--tls-cert", str(folder / "tls.crt"), "--tls-key", str(folder / "tls.key")]
        ours = [sys.executable, "-m", "wif", "issuer", "serve", "--from", str(folder / "documents"), *tls]
        commands = [[*ours, "--port", str(ports[0])], ["nginx", "-c", str(folder / "nginx.conf"), "-p", name]]
        children = [_start(command, cores[0]) for command in commands]
        try:
            for port in ports:
                _wait(port)
            places = [(child.pid, port) for child, port in zip(children, ports, strict=True)]
            pairs = [[_load(*place, seconds, cores[-1]) for place in places] for _ in range(rounds + 1)][1:]
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(START_SECONDS)
    mine, theirs = ([pair[index] for pair in pairs] for index in (0, 1))
    ratio = statistics.median(a.per_second / b.per_second for a, b in pairs)
    yield Row(
        name="issuer serve: requests per CPU-second",
        value=round(statistics.median(each.per_second for each in mine)),
        unit="1/s",
        peer="nginx",
        peer_value=round(statistics.median(each.per_second for each in theirs)),
        ratio=round(ratio, 3),
        target=f"ratio at least {MIN_RATIO}",
        met=ratio >= MIN_RATIO,
    )
    p99, peer_p99 = (statistics.median(each.p99_ms for each in runs) for runs in (mine, theirs))
    is_quiet = peer_p99 < MAX_P99_MS
    yield Row(
        name="issuer serve: p99 at 32 connections",
        value=round(p99, 2),
        unit="ms",
        peer="nginx",
        peer_value=round(peer_p99, 2),
        target=f"below {MAX_P99_MS:g} ms",
        met=p99 < MAX_P99_MS if is_quiet or p99 < MAX_P99_MS else None,
        note="" if is_quiet else "the machine is busy: nginx misses it too",
    )


def _write(folder: Path) -> None:
    from wif.emulator.cluster import LocalCluster

    LocalCluster(issuer=ISSUER).write(folder / "documents")
    made = trustme.CA().issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
    (folder / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(folder / "tls.key"))


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(command: Sequence[str], core: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PATH": _path()}
    )
    os.sched_setaffinity(child.pid, {core})  # threads of later inherit it
    return child


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _cpu_seconds(pid: int) -> float:
    """Of a process, user and system, by the kernel's account."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _load(pid: int, port: int, seconds: int, core: int) -> Figures:
    before = _cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", f"https://127.0.0.1:{port}{PATH}"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": _path()})
    os.sched_setaffinity(child.pid, {core})
    said, _ = child.communicate(timeout=seconds + START_SECONDS)
    if child.returncode != 0 or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"the load met errors: {said}")
    used = _cpu_seconds(pid) - before
    count = re.search(r"(\d+) requests in", said)
    latency = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if count is None or latency is None:
        raise RuntimeError(f"wrk said something else: {said}")
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}[latency[2]]
    return Figures(per_second=int(count[1]) / used, p99_ms=float(latency[1]) * unit)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    arguments = parser.parse_args()
    for row in measure(rounds=arguments.rounds, seconds=arguments.seconds):
        print(row.as_json())


if __name__ == "__main__":
    main()
