"""How many exchanges a second of one core the local STS makes, for each cloud, over TLS keep-alive.

The server runs in a process of its own and says how much CPU time it has used. The load is prepared requests written
to raw TLS sockets, several under way at a time, so that the figure is the server's and not an HTTP client's. Every
exchange is a whole one: RS256 token verified, trust evaluated, credential issued. ``python -m
tests.benchmarks.emulator_throughput`` prints the rows.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.benchmarks.rows import Row

TARGET = 3000.0
CONNECTIONS = 8
TOKENS = 64
ISSUER = "https://oidc.cluster.example.com"
HOST = ISSUER.removeprefix("https://")
ACCOUNT = "111122223333"
POOL = "projects/123456789012/locations/global/workloadIdentityPools/clusters"
PROVIDER = f"{POOL}/providers/cluster"
TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"


def trust() -> dict[str, Any]:
    """Trust documents as a user would write them for one ServiceAccount."""
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{HOST}"
    return {
        "aws": {
            "OpenIDConnectProviders": [{"Arn": provider, "Url": ISSUER, "ClientIDList": ["sts.amazonaws.com"]}],
            "Roles": [
                {
                    "RoleName": "app",
                    "Arn": f"arn:aws:iam::{ACCOUNT}:role/app",
                    "AssumeRolePolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Effect": "Allow",
                                "Principal": {"Federated": provider},
                                "Action": "sts:AssumeRoleWithWebIdentity",
                                "Condition": {
                                    "StringEquals": {
                                        f"{HOST}:aud": "sts.amazonaws.com",
                                        f"{HOST}:sub": "system:serviceaccount:default:app",
                                    }
                                },
                            }
                        ],
                    },
                }
            ],
        },
        "gcp": {
            "workloadIdentityPools": [{"name": POOL}],
            "providers": [
                {
                    "name": PROVIDER,
                    "oidc": {"issuerUri": ISSUER},
                    "attributeMapping": {
                        "google.subject": "assertion.sub",
                        "attribute.namespace": "assertion['kubernetes.io']['namespace']",
                    },
                    "attributeCondition": "attribute.namespace == 'default'",
                }
            ],
        },
        "azure": {
            "tenants": [
                {
                    "tenantId": TENANT,
                    "applications": [
                        {
                            "appId": CLIENT,
                            "federatedIdentityCredentials": [
                                {
                                    "name": "cluster",
                                    "issuer": ISSUER,
                                    "subject": "system:serviceaccount:default:app",
                                    "audiences": ["api://AzureADTokenExchange"],
                                }
                            ],
                        }
                    ],
                }
            ]
        },
    }


def serve(directory: str) -> None:
    """The server's process: answer its CPU time to every line on standard input."""
    from wif.emulator import Emulator, TrustStore

    def tell() -> None:
        for _ in sys.stdin:
            print(json.dumps({"cpu": time.process_time()}), flush=True)
        emulator.stop()

    def ready(running: Emulator) -> None:
        print(json.dumps({"url": running.url, "ca": str(running.ca_file)}), flush=True)
        threading.Thread(target=tell, daemon=True).start()

    store = TrustStore.from_mapping(json.loads((Path(directory) / "trust.json").read_text()))
    emulator = Emulator(trust=store, issuer_documents={ISSUER: directory})
    emulator.run_forever(on_ready=ready)


def _requests(cluster: Any) -> dict[str, list[bytes]]:
    """Prepared requests with different tokens, by cloud."""

    def form(path: str, fields: dict[str, str], host: str) -> bytes:
        body = urlencode(fields).encode()
        return (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Accept-Encoding: identity\r\nUser-Agent: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def mint(audience: str, number: int) -> str:
        token: str = cluster.mint("default", "app", audience, pod=f"app-{number}", node="node-1")
        return token

    return {
        "aws": [
            form(
                "/",
                {
                    "Action": "AssumeRoleWithWebIdentity",
                    "Version": "2011-06-15",
                    "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/app",
                    "RoleSessionName": f"app-{number}",
                    "WebIdentityToken": mint("sts.amazonaws.com", number),
                },
                "sts.amazonaws.com",
            )
            for number in range(TOKENS)
        ],
        "gcp": [
            form(
                "/v1/token",
                {
                    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                    "audience": f"//iam.googleapis.com/{PROVIDER}",
                    "scope": "https://www.googleapis.com/auth/cloud-platform",
                    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    "subject_token": mint(f"//iam.googleapis.com/{PROVIDER}", number),
                    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                },
                "sts.googleapis.com",
            )
            for number in range(TOKENS)
        ],
        "azure": [
            form(
                f"/{TENANT}/oauth2/v2.0/token",
                {
                    "client_id": CLIENT,
                    "scope": "https://management.azure.com/.default",
                    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    "client_assertion": mint("api://AzureADTokenExchange", number),
                    "grant_type": "client_credentials",
                },
                "login.microsoftonline.com",
            )
            for number in range(TOKENS)
        ],
    }


def _read_answer(connection: ssl.SSLSocket) -> bytes:
    data = connection.recv(16384)
    head, separator, body = data.partition(b"\r\n\r\n")
    while not separator:
        more = connection.recv(16384)
        if not more:
            raise RuntimeError("the server closed the connection")
        data += more
        head, separator, body = data.partition(b"\r\n\r\n")
    lower = head.lower()
    start = lower.index(b"content-length:") + 15
    end = lower.find(b"\r\n", start)
    missing = int(lower[start : end if end >= 0 else None]) - len(body)
    while missing > 0:
        more = connection.recv(missing)
        if not more:
            raise RuntimeError("the server closed the connection")
        missing -= len(more)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"not an exchange: {data[:600]!r}")
    return head


def _run(connections: Sequence[ssl.SSLSocket], requests: Sequence[bytes], count: int) -> None:
    """``count`` exchanges, one under way on each connection."""
    sent = 0
    for connection in connections:
        connection.sendall(requests[sent % len(requests)])
        sent += 1
    for done in range(count):
        connection = connections[done % len(connections)]
        _read_answer(connection)
        if sent < count:
            connection.sendall(requests[sent % len(requests)])
            sent += 1


def measure(*, rounds: int = 7, batch: int = 1200) -> list[dict[str, Any]]:
    """One row per cloud: the median of the rounds, the clouds taking turns."""
    from wif.emulator import LocalCluster

    with tempfile.TemporaryDirectory() as folder:
        cluster = LocalCluster(issuer=ISSUER)
        cluster.write(Path(folder))
        (Path(folder) / "trust.json").write_text(json.dumps(trust()))
        requests = _requests(cluster)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.emulator_throughput", "--serve", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            place = json.loads(server.stdout.readline())

            def cpu() -> float:
                server.stdin.write("\n")  # type: ignore[union-attr]  # asserted above
                server.stdin.flush()  # type: ignore[union-attr]
                return float(json.loads(server.stdout.readline())["cpu"])  # type: ignore[union-attr]

            context = ssl.create_default_context(cafile=place["ca"])
            port = urlsplit(place["url"]).port
            connections = [
                context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
                for _ in range(CONNECTIONS)
            ]
            figures: dict[str, list[float]] = {cloud: [] for cloud in requests}
            for cloud in requests:
                _run(connections, requests[cloud], 200)  # documents fetched, expressions compiled
            for _ in range(rounds):
                for cloud, prepared in requests.items():
                    before = cpu()
                    _run(connections, prepared, batch)
                    figures[cloud].append(batch / (cpu() - before))
            for connection in connections:
                connection.close()
        finally:
            server.stdin.close()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            server.stdout.close()
    return [
        asdict(
            Row(
                name=f"local STS: exchanges per CPU-second, {cloud}",
                value=round(statistics.median(values), 1),
                unit="1/s",
                target=f">= {TARGET:.0f}",
                met=statistics.median(values) >= TARGET,
            )
        )
        for cloud, values in figures.items()
    ]


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1200)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    for row in measure(rounds=arguments.rounds, batch=arguments.batch):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
