"""``wif webhook serve`` beside a bare prototype: reviews per second, p99 and memory, one core, wrk on the other.

The webhook answers for one cloud (an EKS annotation) and for three at once (native annotations), with 50,000
ServiceAccounts in its cache; its API server is the generator of :mod:`tests.benchmarks.accounts`. The prototype is
uvicorn (uvloop, httptools) and msgspec with an AWS-only patch that looks nothing up and checks nothing. They take
turns under wrk with 8 TLS keep-alive connections; a review is about 6 KB, its pod has four containers.
``python -m tests.benchmarks.webhook_throughput`` prints the rows.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.rows import Row

CONNECTIONS = 8
MAX_P99_MS = 3.0
MAX_MIB = 80.0
TARGETS = {"one": 8000, "three": 5000}
TIMEOUT_SECONDS = 60.0

ONE = {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/app"}
THREE = {
    "wif.internal/aws.role-arn": "arn:aws:iam::111122223333:role/app",
    "wif.internal/gcp.provider": "projects/123456789012/locations/global/workloadIdentityPools/a/providers/b",
    "wif.internal/gcp.service-account": "app@shop-project.iam.gserviceaccount.com",
    "wif.internal/azure.client-id": "66666666-7777-8888-9999-000000000000",
    "wif.internal/azure.tenant-id": "11111111-2222-3333-4444-555555555555",
}
SPECIAL: Mapping[str, Mapping[str, str]] = {"one": ONE, "three": THREE}
"""The accounts that the load's pods use, in the first namespace."""

_POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{file}", "rb")
wrk.body = file:read("*all")
file:close()
"""


class Figures(NamedTuple):
    """One run of the load."""

    per_second: float
    p99_ms: float


def review(account: str) -> bytes:
    """What the API server sends for a pod of a Deployment with four containers; about 6 KB."""
    probe = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1}
    containers = [
        {
            "name": f"container-{number}",
            "image": f"registry.example.com/team/application-{number}@sha256:{'ab' * 32}",
            "args": ["--listen=:8080", f"--peer=application-{number}.shop.svc", "--log-format=json"],
            "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
            "env": [
                {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                {"name": "LOG_LEVEL", "value": "info"},
            ],
            "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "livenessProbe": probe,
            "readinessProbe": probe,
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/application"},
                {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True},
            ],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "terminationMessagePath": "/dev/termination-log",
            "imagePullPolicy": "IfNotPresent",
        }
        for number in range(4)
    ]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "application-5d8f7c", "uid": "u" * 36}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "application-5d8f7c-",
            "namespace": "team-0",
            "labels": {"app": "application", "pod-template-hash": "5d8f7c", "team": "shop"},
            "annotations": {"checksum/config": "c" * 64},
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": {
            "serviceAccountName": account,
            "containers": containers,
            "volumes": [
                {"name": "config", "configMap": {"name": "application", "defaultMode": 420}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            ],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
        },
        "status": {},
    }
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "team-0",
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
        },
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    return json.dumps(body, separators=(",", ":")).encode()


def measure(*, rounds: int = 5, seconds: int = 4) -> Iterator[Row]:
    """The rows."""
    if shutil.which("wrk") is None:
        for name, target in TARGETS.items():
            yield Row(
                name=f"webhook: reviews per second, {name}",
                value=None,
                unit="1/s",
                target=f"at least {target}",
                met=None,
                note="not run: no wrk",
            )
        return
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder)
        api = _child("tests.benchmarks.accounts", "--api", json.dumps(SPECIAL))
        _pin(api.pid, cores[-1])
        place = json.loads(_line(api))
        ours = _child("tests.benchmarks.webhook_throughput", "--serve", str(place["port"]), place["folder"], name)
        bare = _child("tests.benchmarks.webhook_throughput", "--prototype", name)
        try:
            served, prototype = json.loads(_line(ours)), json.loads(_line(bare))
            for child in (ours, bare):
                _pin(child.pid, cores[0])
            runs: dict[str, list[Figures]] = {"one": [], "three": [], "prototype": []}
            for number in range(rounds + 1):
                for case, port in (
                    ("one", served["port"]),
                    ("prototype", prototype["port"]),
                    ("three", served["port"]),
                ):
                    figures = _load(port, folder / f"{'one' if case == 'prototype' else case}.lua", seconds, cores[-1])
                    if number:
                        runs[case].append(figures)
            peak = _memory(ours.pid, "VmHWM")
        finally:
            for child in (ours, bare, api):
                assert child.stdin is not None
                child.stdin.close()
                child.terminate()
                child.wait(TIMEOUT_SECONDS)
    yield from _rows(runs, served, peak)


def _rows(runs: Mapping[str, Sequence[Figures]], served: Mapping[str, Any], peak: float) -> Iterator[Row]:
    peer = statistics.median(each.per_second for each in runs["prototype"])
    for case, words in (("one", "one cloud"), ("three", "three clouds")):
        value = statistics.median(each.per_second for each in runs[case])
        yield Row(
            name=f"webhook: reviews per second, {words}",
            value=round(value),
            unit="1/s",
            peer="bare uvicorn and msgspec, AWS only",
            peer_value=round(peer),
            ratio=round(value / peer, 3),
            target=f"at least {TARGETS[case]}",
            met=value >= TARGETS[case],
        )
        p99 = statistics.median(each.p99_ms for each in runs[case])
        yield Row(
            name=f"webhook: p99 at {CONNECTIONS} connections, {words}",
            value=round(p99, 2),
            unit="ms",
            peer="bare uvicorn and msgspec, AWS only",
            peer_value=round(statistics.median(each.p99_ms for each in runs["prototype"]), 2),
            target=f"below {MAX_P99_MS:g} ms",
            met=p99 < MAX_P99_MS,
        )
    yield Row(
        name="webhook: memory under load, 50,000 ServiceAccounts of three clouds",
        value=round(peak, 1),
        unit="MiB",
        target=f"at most {MAX_MIB:g} MiB",
        met=peak <= MAX_MIB,
        note=f"ready after {served['ready_seconds']:.1f} s, {served['mib']:.1f} MiB then",
    )


def _write(folder: Path) -> None:
    import trustme

    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
    made.private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.pem"))
    for case in SPECIAL:
        (folder / f"{case}.json").write_bytes(review(case))
        (folder / f"{case}.lua").write_text(_POST.format(file=folder / f"{case}.json"))


def _child(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"the child ended with {child.wait(TIMEOUT_SECONDS)} before it was ready")
    return line


def _pin(pid: int, core: int) -> None:
    """All threads of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def _memory(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def _load(port: int, script: Path, seconds: int, core: int) -> Figures:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script)]
    child = subprocess.Popen([*command, f"https://127.0.0.1:{port}/mutate"], stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(child.pid, {core})
    said, _ = child.communicate(timeout=seconds + TIMEOUT_SECONDS)
    if child.returncode != 0 or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"the load met errors: {said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    latency = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if rate is None or latency is None:
        raise RuntimeError(f"wrk said something else: {said}")
    return Figures(per_second=float(rate[1]), p99_ms=float(latency[1]) * {"us": 0.001, "ms": 1.0, "s": 1e3}[latency[2]])


# -- the servers, each in a process of its own ----------------------------------------------------------------------


def serve(api_port: str, api_folder: str, folder: str) -> None:
    """The webhook as ``wif webhook serve`` puts it together, in a pod of the generator's cluster."""
    import time

    from wif.config.webhook import WebhookSettings
    from wif.edges.kube import KubeClient
    from wif.serve.certificates import Certificate
    from wif.serve.health import new_registry
    from wif.serve.httpd import Address, HttpServer, run
    from wif.serve.webhook_service import ServiceOptions, WebhookService

    began = time.perf_counter()
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": api_port}
    kube = KubeClient.in_cluster(environ=environ, directory=api_folder)
    service = WebhookService(kube, WebhookSettings(), ServiceOptions(unmutated_seconds=0, with_events=False))
    server = HttpServer(
        service.app, address=Address.parse("127.0.0.1:0"), certificate=Certificate(f"{folder}/tls.pem"), name="webhook"
    )
    service.register_metrics(new_registry(), server)

    def tell(stopping: threading.Event) -> None:
        while not service.accounts.synced and not stopping.wait(0.01):
            pass
        seconds, memory = time.perf_counter() - began, _memory(os.getpid(), "VmHWM")
        print(json.dumps({"port": server.port, "ready_seconds": seconds, "mib": memory}), flush=True)
        stopping.wait()

    run([server], workers=[*service.workers, tell], grace_seconds=1.0)


def prototype(folder: str) -> None:
    """The least that answers a review: decode, an AWS-only patch, encode."""
    import msgspec
    import uvicorn

    named = msgspec.defstruct("Named", [("name", str), ("env", list[Any], []), ("volumeMounts", list[Any], [])])
    spec = msgspec.defstruct("Spec", [("containers", list[named])])  # type: ignore[valid-type]  # made one line above
    pod = msgspec.defstruct("Pod", [("spec", spec)])
    reviewed = msgspec.defstruct("Request", [("uid", str), ("object", pod)])
    whole: Any = msgspec.defstruct("Review", [("request", reviewed)])
    decode, encode = msgspec.json.Decoder(whole).decode, msgspec.json.encode
    mount = {"name": "aws-iam-token", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount"}
    env = [
        {"name": "AWS_ROLE_ARN", "value": ONE["eks.amazonaws.com/role-arn"]},
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE"},
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        request = decode(body).request
        patch: list[Any] = [{"op": "add", "path": "/spec/volumes/-", "value": {"name": "aws-iam-token"}}]
        for index, container in enumerate(request.object.spec.containers):
            patch.extend(
                {"op": "add", "path": f"/spec/containers/{index}/env/-", "value": variable} for variable in env
            )
            patch.append({"op": "add", "path": f"/spec/containers/{index}/volumeMounts/-", "value": mount})
            assert container.name
        response = {
            "uid": request.uid,
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(encode(patch)).decode(),
        }
        answer = encode({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    pair = f"{folder}/tls.pem"
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, ssl_certfile=pair, ssl_keyfile=pair, log_level="critical", access_log=False
    )

    class Telling(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(json.dumps({"port": self.servers[0].sockets[0].getsockname()[1]}), flush=True)

    Telling(config).run()


def main() -> None:
    """Print the rows, or be one of the servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--serve", nargs=3)
    parser.add_argument("--prototype")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
    elif arguments.prototype:
        prototype(arguments.prototype)
    else:
        for row in measure(rounds=arguments.rounds, seconds=arguments.seconds):
            print(row.as_json())


if __name__ == "__main__":
    main()
