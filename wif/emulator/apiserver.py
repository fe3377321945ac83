"""A real Kubernetes API server on loopback: etcd and kube-apiserver of ``KUBEBUILDER_ASSETS``.

For tests and for ``wif demo --cluster``. Everything of it lives in a temporary folder (0700): certificates of an
authority of its own, the key that signs ServiceAccount tokens, an administrator's kubeconfig, the logs. There is
no controller manager and no kubelet: a namespace gets no ``default`` ServiceAccount and no pod ever runs.
The two programs are children of a guard (:mod:`wif.emulator.guard`) that ends them, API server first, when this
process stops it or dies.
"""

from __future__ import annotations

__all__ = ["ASSETS_VARIABLE", "ApiServer", "assets_from_env", "missing_assets"]

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import urllib3

from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH
from wif.emulator import guard
from wif.emulator.publication import write_documents
from wif.errors import ConfigurationError, UnavailableError

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
"""The standard variable of controller-runtime's envtest; ``setup-envtest use`` prints its value."""

_PROGRAMS = ("etcd", "kube-apiserver")

START_SECONDS = 90.0
"""Ready in 3 to 7 s on two cores; a first use may unpack 150 MB before."""
GRACE_SECONDS = 10.0
"""For each program to end by itself; a kube-apiserver takes about one."""
_STARTS = 3
"""A free port may be taken by somebody else before the program listens on it."""
_POLL_SECONDS = 0.1
_REQUEST_TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)
_API_AUDIENCE = "https://kubernetes.default.svc"


def missing_assets(environ: Mapping[str, str] = os.environ) -> str:
    """What keeps an API server from being started, as one sentence; empty where nothing does."""
    named = environ.get(ASSETS_VARIABLE)
    if not named:
        return f"{ASSETS_VARIABLE} is not set"
    absent = [name for name in _PROGRAMS if not os.access(Path(named) / name, os.X_OK)]
    return f"{ASSETS_VARIABLE} names {named}, which has no program {' and no '.join(absent)}" if absent else ""


def assets_from_env(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the programs.

    Raises:
        ConfigurationError: config-missing, naming what is not there.
    """
    problem = missing_assets(environ)
    if problem:
        raise ConfigurationError(
            f"no API server can be started: {problem}",
            code="config-missing",
            hint=f"run 'setup-envtest use -p path' and set {ASSETS_VARIABLE} to what it prints",
        )
    return Path(environ[ASSETS_VARIABLE])


class ApiServer:
    """A running API server; as a context manager it is stopped at the end of the block.

    Args:
        issuer: its ``--service-account-issuer``.
        assets: folder of the programs; None takes ``KUBEBUILDER_ASSETS``.
        arguments: further flags of kube-apiserver. They come last, so most of them override.
        start_seconds: how long it may take until ``/readyz`` says ok.
        grace_seconds: how long each program may take to end before it is killed.

    Raises:
        ConfigurationError: config-missing (no programs), extra-missing (no trustme).
        UnavailableError: cluster-unavailable; the message ends with what the programs said.
    """

    def __init__(
        self,
        *,
        issuer: str = "https://kubernetes.wif.invalid",
        assets: Path | None = None,
        arguments: Sequence[str] = (),
        start_seconds: float = START_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.issuer = issuer
        self._assets = (assets_from_env() if assets is None else assets).resolve()
        self._arguments = tuple(arguments)
        self._grace_seconds = grace_seconds
        self._guard: subprocess.Popen[str] | None = None
        self.pids: tuple[int, ...] = ()
        """Process ids of etcd and kube-apiserver."""
        self.directory = Path(tempfile.mkdtemp(prefix="wif-apiserver-"))
        """The temporary folder; gone after :meth:`stop`."""
        self.kubeconfig = self.directory / "kubeconfig"
        """An administrator's kubeconfig, 0600."""
        self.url = ""
        """``https://127.0.0.1:PORT``."""
        try:
            self._start(start_seconds)
        except BaseException:  # also a KeyboardInterrupt leaves nothing behind
            self.stop()
            raise

    # -- start and stop ------------------------------------------------------------------------------------

    def _start(self, start_seconds: float) -> None:
        deadline = time.monotonic() + start_seconds
        for _ in range(_STARTS):
            self.directory.mkdir(mode=0o700, exist_ok=True)  # a guard that ended has removed it
            self._write_certificates()
            self._launch()
            said = self._wait_until_ready(deadline)
            if not said:
                return
            self._end_guard()
            if "address already in use" not in said:
                break
        raise UnavailableError(f"the API server did not become ready: {said}", code="cluster-unavailable")

    def _write_certificates(self) -> None:
        try:
            import trustme  # noqa: PLC0415 - an extra, loaded when a server starts
            from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
            from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                "starting an API server needs trustme and cryptography",
                code="extra-missing",
                hint="pip install 'wif[emulator]'",
            ) from error
        authority = trustme.CA(organization_name="wif test cluster", organization_unit_name="wif test cluster")
        server = authority.issue_cert(
            "kubernetes.default.svc", "kubernetes.default", "localhost", "127.0.0.1", common_name="kube-apiserver"
        )
        # Kubernetes reads the user from the common name and the groups from the organisations.
        admin = authority.issue_cert("admin.wif.invalid", common_name="admin", organization_name="system:masters")
        signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for name, content in (
            ("ca.crt", authority.cert_pem.bytes()),
            ("server.crt", server.cert_chain_pems[0].bytes()),
            ("server.key", server.private_key_pem.bytes()),
            ("admin.crt", admin.cert_chain_pems[0].bytes()),
            ("admin.key", admin.private_key_pem.bytes()),
            ("sa.key", signing_key),
        ):
            _write_private(self.directory / name, content)

    def _launch(self) -> None:
        folder = self.directory
        etcd, peer, secure = _free_ports(3)
        etcd_url, peer_url = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        etcd_flags = {
            "data-dir": folder / "etcd",
            "unsafe-no-fsync": "true",  # its data lives as long as the process
            "log-level": "error",
            "listen-client-urls": etcd_url,
            "advertise-client-urls": etcd_url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": f"default={peer_url}",
        }
        api_flags = {
            "etcd-servers": etcd_url,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "endpoint-reconciler-type": "none",  # an Endpoints object cannot hold a loopback address
            "secure-port": secure,
            "tls-cert-file": folder / "server.crt",
            "tls-private-key-file": folder / "server.key",
            "client-ca-file": folder / "ca.crt",
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": "10.0.0.0/24",
            "service-account-issuer": self.issuer,
            "service-account-jwks-uri": self.issuer.removesuffix("/") + JWKS_PATH,
            "service-account-signing-key-file": folder / "sa.key",
            "service-account-key-file": folder / "sa.key",
            "api-audiences": _API_AUDIENCE,
        }
        programs = []
        for name, flags, more in (("etcd", etcd_flags, ()), ("kube-apiserver", api_flags, self._arguments)):
            argv = [str(self._assets / name), *(f"--{flag}={value}" for flag, value in flags.items()), *more]
            programs.append({"argv": argv, "log": str(folder / f"{name}.log")})
        task = {"programs": programs, "grace_seconds": self._grace_seconds, "remove": str(folder)}
        # all files first: a guard whose program fails at once removes the folder
        self.url = f"https://127.0.0.1:{secure}"
        _write_private(self.kubeconfig, json.dumps(self._kubeconfig()).encode())  # JSON is YAML
        self._pool = _pool(folder, with_certificate=True)
        self._anonymous_pool = _pool(folder, with_certificate=False)
        self._guard = subprocess.Popen(  # noqa: S603 - our own script, by this interpreter
            [sys.executable, "-I", "-S", guard.__file__, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which then stops the guard in order
        )
        started = self._guard.stdout.readline() if self._guard.stdout else ""
        self.pids = tuple(json.loads(started or "{}").get("pids", ()))

    def _kubeconfig(self) -> dict[str, Any]:
        folder = self.directory
        name = "wif-test-cluster"
        user = {"client-certificate": str(folder / "admin.crt"), "client-key": str(folder / "admin.key")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [
                {"name": name, "cluster": {"server": self.url, "certificate-authority": str(folder / "ca.crt")}}
            ],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
        }

    def _wait_until_ready(self, deadline: float) -> str:
        """Empty once it is ready, else what was said."""
        while time.monotonic() < deadline:
            if self._guard is None or self._guard.poll() is not None:
                return self._last_report()
            with contextlib.suppress(urllib3.exceptions.HTTPError):  # it does not listen yet
                if self._send("GET", "/readyz").status == 200:
                    return ""
            time.sleep(_POLL_SECONDS)
        return f"the time is over; kube-apiserver's last words: {_tail(self.directory / 'kube-apiserver.log')}"

    def _last_report(self) -> str:
        """What the guard wrote before it ended by itself."""
        text = self._guard.stdout.read() if self._guard is not None and self._guard.stdout is not None else ""
        for line in text.splitlines():
            report = json.loads(line)
            if "exited" in report:
                return f"{report['exited']} ended with status {report['status']}: {_last_lines(report['log'])}"
        return "its guard ended"

    def _end_guard(self) -> None:
        child, self._guard = self._guard, None
        if child is None:
            return
        child.terminate()
        try:
            child.communicate(timeout=len(_PROGRAMS) * self._grace_seconds + 5.0)
        except subprocess.TimeoutExpired:
            child.kill()  # the kernel then kills the programs, where it can
            child.communicate()

    def stop(self) -> None:
        """Stop the API server, then etcd, and remove the folder; nothing happens the second time."""
        self._end_guard()
        shutil.rmtree(self.directory, ignore_errors=True)  # of a guard that was never started

    def __enter__(self) -> ApiServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- the API, as administrator ---------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str | None = None
    ) -> tuple[int, bytes]:
        """Send one request and return status and body.

        Args:
            path: with its query, e.g. ``/api/v1/namespaces``.
            token: authenticates in place of the administrator's certificate.

        Raises:
            UnavailableError: cluster-unavailable, where no answer came.
        """
        try:
            answer = self._send(method, path, body, token)
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(
                f"{method} {path} got no answer from the API server: {error}", code="cluster-unavailable"
            ) from error
        return answer.status, answer.data

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json, */*", "Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return (self._pool if token is None else self._anonymous_pool).request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body).encode(),
            headers=headers,
            timeout=_REQUEST_TIMEOUT,
            retries=False,
            redirect=False,
        )

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST an object and return what the server made of it.

        Raises:
            UnavailableError: cluster-unavailable; the message holds the server's own.
        """
        status, answer = self.request("POST", path, body)
        parsed: dict[str, Any] = json.loads(answer)
        if status not in (200, 201, 202):
            raise UnavailableError(
                f"POST {path} was answered with {status}: {parsed.get('message', '')}",
                code="cluster-unavailable",
                status=status,
                hint="compare the object with what is in the cluster already",
            )
        return parsed

    def create_namespace(self, name: str, *, labels: Mapping[str, str] | None = None) -> None:
        """Make a namespace. It has no ``default`` ServiceAccount: nothing here makes one."""
        self.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": dict(labels or {})}})

    def create_service_account(
        self,
        namespace: str,
        name: str,
        *,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Make a ServiceAccount and return its uid."""
        metadata = {"name": name, "annotations": dict(annotations or {}), "labels": dict(labels or {})}
        return _uid(self.create(_path("namespaces", namespace, "serviceaccounts"), {"metadata": metadata}))

    def create_pod(self, namespace: str, name: str, service_account: str, *, node: str | None = None) -> str:
        """Make a pod, which never runs, and return its uid. A token can be bound to it."""
        spec: dict[str, Any] = {
            "serviceAccountName": service_account,
            "containers": [{"name": "main", "image": "example.invalid/none"}],
        }
        if node is not None:
            spec["nodeName"] = node
        body = {"metadata": {"name": name}, "spec": spec}
        return _uid(self.create(_path("namespaces", namespace, "pods"), body))

    def create_node(self, name: str) -> str:
        """Make a node, which does not exist, and return its uid."""
        return _uid(self.create("/api/v1/nodes", {"metadata": {"name": name}}))

    def request_token(
        self,
        namespace: str,
        service_account: str,
        audience: str | Sequence[str],
        *,
        expiration_seconds: int = 3600,
        pod: tuple[str, str] | None = None,
    ) -> str:
        """A token of the TokenRequest API. ``pod`` is (name, uid) of the pod to bind it to."""
        spec: dict[str, Any] = {
            "audiences": [audience] if isinstance(audience, str) else list(audience),
            "expirationSeconds": expiration_seconds,
        }
        if pod is not None:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod[0], "uid": pod[1]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.create(_path("namespaces", namespace, "serviceaccounts", service_account, "token"), body)
        return str(answer["status"]["token"])

    def documents(self) -> dict[str, bytes]:
        """The server's own discovery document and JWKS, byte for byte, by their paths.

        Raises:
            UnavailableError: cluster-unavailable, where the server does not serve them.
        """
        found = {}
        for path in (DISCOVERY_PATH, JWKS_PATH):
            status, body = self.request("GET", path)
            if status != 200:
                raise UnavailableError(
                    f"GET {path} was answered with {status}",
                    code="cluster-unavailable",
                    status=status,
                    hint="an API server serves discovery only for an https issuer without query or fragment",
                )
            found[path] = body
        return found

    def write_documents(self, directory: Path) -> None:
        """Write both documents under a directory, at the paths where a web server would serve them."""
        write_documents(directory, self.documents())


def _pool(folder: Path, *, with_certificate: bool) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        ca_certs=str(folder / "ca.crt"),
        cert_reqs="CERT_REQUIRED",
        cert_file=str(folder / "admin.crt") if with_certificate else None,
        key_file=str(folder / "admin.key") if with_certificate else None,
        maxsize=4,
    )


def _path(*segments: str) -> str:
    return "/api/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def _uid(made: Mapping[str, Any]) -> str:
    return str(made["metadata"]["uid"])


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago; held all at once, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _tail(log: Path) -> str:
    return _last_lines(log.read_text(errors="replace")) if log.exists() else "none"


def _last_lines(text: str) -> str:
    """The last two lines that are no mere information (klog marks those with an I)."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("I")]
    return " / ".join(lines[-2:])[:1000] or "none"
