"""The webhook's cache of ServiceAccounts: seconds to ready and memory at 50,000, all with three clouds' annotations.

The cache runs in a process that has loaded what the webhook loads (uvicorn with uvloop and httptools, msgspec,
prometheus_client) and listens; its API server is a generator of pages and of a watch, over TLS, in another process.
Peak is the kernel's account of the whole process (VmHWM), from its start.
``python -m tests.benchmarks.accounts`` prints the rows.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.benchmarks.rows import Row

ACCOUNTS, NAMESPACES = 50_000, 200
MAX_READY_SECONDS = 10.0
MAX_IDLE_MIB = 48.0
MAX_MIB = 80.0
PAGE = 500
"""As the cache asks for."""
CHURN = 20_000
"""Changes that the watch brings after the list."""


def identities(number: int) -> Mapping[str, str]:
    """Of one account, three clouds."""
    return {
        "azure.workload.identity/client-id": f"{number:08x}-1111-4222-8333-444455556666",
        "azure.workload.identity/tenant-id": "99999999-8888-4777-8666-555544443333",
        "cloud.google.com/service-account-email": f"app-{number}@project-{number % 50}.iam.gserviceaccount.com",
        "cloud.google.com/workload-identity-provider": "projects/123456789012/locations/global/workloadIdentityPools/"
        "cluster-a/providers/kubernetes",
        "eks.amazonaws.com/role-arn": f"arn:aws:iam::111122223333:role/team-{number % NAMESPACES}-app-{number}",
    }


def service_account(number: int, version: int) -> dict[str, Any]:
    """One as the API server lists it, with the fields that nobody reads."""
    kept = identities(number)
    fields: dict[str, Any] = {f"f:{key}": {} for key in kept}
    return {
        "metadata": {
            "name": f"application-{number}",
            "namespace": f"team-{number % NAMESPACES}",
            "uid": f"{number:08x}-aaaa-4bbb-8ccc-{version:012x}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": kept,
            "managedFields": [
                {
                    "manager": "helm",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "time": "2026-01-01T00:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, **fields}}},
                }
            ],
        }
    }


class _Api(BaseHTTPRequestHandler):
    """Pages of a list, and a watch: bookmarks, or after ``/churn`` changes of accounts, then bookmarks."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65_536
    churn = threading.Event()
    relist = threading.Event()
    more: Mapping[str, Mapping[str, str]] = {}
    """Annotations of further accounts in the first namespace, by name."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.path.startswith("/churn"):
            self.churn.set()
        elif self.path.startswith("/relist"):
            self.relist.set()
        elif "watch" in query:
            self._watch()
        else:
            self._chunk(self.page(int(query.get("continue", "0")), int(query["limit"])))
        self._chunk(b"")

    @classmethod
    @functools.cache
    def page(cls, first: int, count: int) -> bytes:
        """Made once: the time that is measured is the cache's."""
        last = min(first + count, ACCOUNTS)
        following = {"continue": str(last)} if last < ACCOUNTS else {}
        items = [service_account(number, number + 1) for number in range(first, last)]
        if not following:
            for name, kept in cls.more.items():
                items.append({"metadata": {"name": name, "namespace": "team-0", "uid": name, "annotations": kept}})
        body = {"kind": "List", "metadata": {"resourceVersion": str(ACCOUNTS), **following}, "items": items}
        return json.dumps(body, separators=(",", ":")).encode()

    def _watch(self) -> None:
        version = ACCOUNTS
        while True:
            if self.churn.is_set():
                self.churn.clear()
                for number in range(CHURN):
                    version += 1
                    self._event("MODIFIED", service_account(number, version))
            if self.relist.is_set():
                self.relist.clear()
                self._event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
                return
            self._event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})
            time.sleep(0.1)

    def _event(self, kind: str, item: Mapping[str, Any]) -> None:
        self._chunk(json.dumps({"type": kind, "object": item}, separators=(",", ":")).encode() + b"\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        pass  # the cache has ended its connection


def serve_api(more: Mapping[str, Mapping[str, str]]) -> None:
    """The other process: prints where it stands, and serves until its standard input ends."""
    import trustme

    _Api.more = more
    for first in range(0, ACCOUNTS, PAGE):
        _Api.page(first, PAGE)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with tempfile.TemporaryDirectory() as name, _Server(context) as server:
        folder = Path(name)
        authority.cert_pem.write_to_path(str(folder / "ca.crt"))
        (folder / "token").write_text("benchmark")
        (folder / "namespace").write_text("wif")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(json.dumps({"port": server.server_address[1], "folder": name}), flush=True)
        sys.stdin.read()


def run_cache(port: str, folder: str) -> None:
    """The measured process: prints its figures as one JSON object."""
    from wif.config.webhook import WebhookSettings
    from wif.edges.kube import KubeClient
    from wif.serve.health import HealthApp, new_registry
    from wif.serve.httpd import Address, HttpServer, run
    from wif.serve.service_accounts import AccountCache

    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
    kube = KubeClient.in_cluster(environ=environ, directory=folder)
    cache = AccountCache(kube, prefixes=WebhookSettings().prefixes)
    server = HttpServer(HealthApp(registry=new_registry()), address=Address.parse("127.0.0.1:0"))

    def measure(stopping: threading.Event) -> None:
        time.sleep(0.5)
        figures = {"idle_mib": _memory("VmRSS")}
        began = time.perf_counter()
        watching = threading.Thread(target=cache.run, args=(stopping,), daemon=True)
        watching.start()
        _until(lambda: cache.synced)
        figures["ready_seconds"] = time.perf_counter() - began
        figures["starting_peak_mib"] = _memory("VmHWM")
        time.sleep(0.5)
        figures["mib"] = _memory("VmRSS")
        assert cache.size == ACCOUNTS
        began, uid = time.perf_counter(), f"-{ACCOUNTS + CHURN:012x}"
        kube.get_raw("/churn")
        last = CHURN - 1
        _until(lambda: str(cache.get(f"team-{last % NAMESPACES}", f"application-{last}")).count(uid) == 1)
        figures["changes_per_second"] = CHURN / (time.perf_counter() - began)
        figures["changed_mib"] = _memory("VmRSS")
        kube.get_raw("/relist")
        _until(lambda: cache.lists == 2)
        figures["listed_anew_peak_mib"] = _memory("VmHWM")
        figures["listed_anew_mib"] = _memory("VmRSS")
        print(json.dumps(figures), flush=True)

    run([server], workers=[measure], grace_seconds=1.0)


def _until(true: Any) -> None:
    ends = time.monotonic() + 60.0
    while not true():
        if time.monotonic() > ends:
            raise TimeoutError
        time.sleep(0.002)


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def measure() -> Iterator[Row]:
    """The rows."""
    module = [sys.executable, "-m", "tests.benchmarks.accounts"]
    api = subprocess.Popen([*module, "--api", "{}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert api.stdout is not None
        place = json.loads(api.stdout.readline())
        done = subprocess.run(
            [*module, "--cache", str(place["port"]), place["folder"]],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
    finally:
        api.communicate()
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    for name, key, unit, most in (
        ("first list to ready", "ready_seconds", "s", MAX_READY_SECONDS),
        ("memory before", "idle_mib", "MiB", MAX_IDLE_MIB),
        ("memory at it", "mib", "MiB", MAX_MIB),
        ("peak memory while starting", "starting_peak_mib", "MiB", MAX_MIB),
        (f"memory after {CHURN:,} changes", "changed_mib", "MiB", MAX_MIB),
        ("peak memory, all listed anew", "listed_anew_peak_mib", "MiB", MAX_MIB),
    ):
        yield Row(
            name=f"{ACCOUNTS:,} ServiceAccounts: {name}",
            value=round(figures[key], 2 if unit == "s" else 1),
            unit=unit,
            target=f"at most {most:g} {unit}",
            met=figures[key] <= most,
        )
    yield Row(
        name=f"{ACCOUNTS:,} ServiceAccounts: changes taken",
        value=round(figures["changes_per_second"]),
        unit="1/s",
        target="for the record",
        met=None,
    )


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api", metavar="JSON", help=argparse.SUPPRESS)
    parser.add_argument("--cache", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.api:
        serve_api(json.loads(arguments.api))
    elif arguments.cache:
        run_cache(*arguments.cache)
    else:
        for row in measure():
            print(row.as_json())


if __name__ == "__main__":
    main()
