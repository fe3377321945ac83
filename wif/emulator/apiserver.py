"""A real Kubernetes API server on loopback: etcd and kube-apiserver of ``KUBEBUILDER_ASSETS``.

For tests and for ``wif demo --cluster``. Everything of it lives in a temporary folder (0700): certificates of an
authority of its own, the key that signs ServiceAccount tokens, an administrator's kubeconfig, the logs. There is
no controller manager and no kubelet: a namespace gets no ``default`` ServiceAccount and no pod ever runs.
The two programs are children of a guard (:mod:`wif.emulator.guard`) that ends them, API server first, when this
process stops it or dies.
"""

from __future__ import annotations

__all__ = ["ASSETS_VARIABLE", "ApiServer", "ServerFlags", "assets_from_env", "missing_assets"]

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import urllib3

from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH
from wif.emulator.apiserver_files import write_certificates, write_key, write_kubeconfig
from wif.emulator.guarded import GuardedPrograms, Program, last_lines
from wif.emulator.publication import write_documents
from wif.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from wif.emulator.cluster import KeyAlgorithm

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFlags:
    """The flags of a kube-apiserver that tests change."""

    issuers: tuple[str, ...]
    """``--service-account-issuer``: the first one is written into tokens, the others are accepted."""
    signing_key: Path
    """``--service-account-signing-key-file``: a private key."""
    key_files: tuple[Path, ...]
    """``--service-account-key-file``: what is accepted and published; of a private key its public half."""
    max_token_seconds: int = 0
    """``--service-account-max-token-expiration``; 0 leaves the flag out: there is no limit then."""
    more: tuple[str, ...] = ()
    """Further flags. They come last, so most of them override."""

    def argv(self) -> tuple[str, ...]:
        """As the command line has them."""
        issuer = self.issuers[0]
        flags = [f"--service-account-issuer={each}" for each in self.issuers]
        if issuer.startswith("https://"):  # else the server would not start
            flags.append(f"--service-account-jwks-uri={issuer.removesuffix('/')}{JWKS_PATH}")
        flags.append(f"--service-account-signing-key-file={self.signing_key}")
        flags += [f"--service-account-key-file={each}" for each in self.key_files]
        if self.max_token_seconds:
            flags.append(f"--service-account-max-token-expiration={self.max_token_seconds}s")
        return (*flags, *self.more)


class ApiServer:
    """A running API server; as a context manager it is stopped at the end of the block.

    Args:
        issuer: its ``--service-account-issuer``; None takes that of ``peer_of``, else a name under ``.invalid``.
        assets: folder of the programs; None takes ``KUBEBUILDER_ASSETS``.
        arguments: further flags of kube-apiserver. They come last, so most of them override.
        start_seconds: how long it may take until ``/readyz`` says ok.
        grace_seconds: how long each program may take to end before it is killed.
        peer_of: another server, whose etcd, authority, keys and flags this one shares: two API servers of one
            cluster. It ends with that one at the latest.

    Raises:
        ConfigurationError: config-missing (no programs), extra-missing (no trustme).
        UnavailableError: cluster-unavailable; the message ends with what the programs said.
    """

    def __init__(
        self,
        *,
        issuer: str | None = None,
        assets: Path | None = None,
        arguments: Sequence[str] = (),
        start_seconds: float = START_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        peer_of: ApiServer | None = None,
    ) -> None:
        self._start_seconds = start_seconds
        self._grace_seconds = grace_seconds
        self._programs: GuardedPrograms | None = None
        self._pid = 0
        self._port = 0
        self._is_peer = peer_of is not None
        if peer_of is None:
            self._assets = (assets_from_env() if assets is None else assets).resolve()
            self.directory = self.shared_directory = Path(tempfile.mkdtemp(prefix="wif-apiserver-"))
            key = self.directory / "sa.key"
            self.flags = ServerFlags(
                issuers=(issuer or "https://kubernetes.wif.invalid",),
                signing_key=key,
                key_files=(key,),
                more=tuple(arguments),
            )
            self._etcd_url = ""
        else:
            self._assets = peer_of._assets
            self._programs = peer_of._programs
            self.shared_directory = peer_of.shared_directory
            self.directory = Path(tempfile.mkdtemp(prefix="peer-", dir=self.shared_directory))
            issuers = (issuer,) if issuer else peer_of.flags.issuers
            self.flags = replace(peer_of.flags, issuers=issuers, more=(*peer_of.flags.more, *arguments))
            self._etcd_url = peer_of._etcd_url
        self.kubeconfig = self.directory / "kubeconfig"
        """An administrator's kubeconfig, 0600."""
        self.url = ""
        """``https://127.0.0.1:PORT``; the port stays the same over a restart."""
        try:
            self._start()
        except BaseException:  # also a KeyboardInterrupt leaves nothing behind
            self.stop()
            raise

    @property
    def issuer(self) -> str:
        """What it writes into the tokens' ``iss``."""
        return self.flags.issuers[0]

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids: etcd's, unless this is a peer, and kube-apiserver's."""
        if self._programs is None:
            return ()
        return (self._pid,) if self._is_peer else (self._programs.pids[0], self._pid)

    # -- start and stop ------------------------------------------------------------------------------------

    def _start(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        for _ in range(_STARTS):
            self._launch_peer() if self._is_peer else self._launch_cluster()
            said = self._wait_until_ready(deadline)
            if not said:
                return
            self._end()
            if "address already in use" not in said:
                break
        raise UnavailableError(f"the API server did not become ready: {said}", code="cluster-unavailable")

    def _launch_cluster(self) -> None:
        folder = self.directory
        folder.mkdir(mode=0o700, exist_ok=True)  # a guard that ended has removed it
        shutil.rmtree(folder / "etcd", ignore_errors=True)
        if not self.flags.signing_key.exists():
            write_certificates(folder)
            write_key(folder, "sa", "RS256")
        etcd, peer, self._port = _free_ports(3)
        self._etcd_url, peer_url = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        flags = {
            "data-dir": folder / "etcd",
            "unsafe-no-fsync": "true",  # its data lives as long as the process
            "log-level": "error",
            "listen-client-urls": self._etcd_url,
            "advertise-client-urls": self._etcd_url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": f"default={peer_url}",
        }
        argv = (str(self._assets / "etcd"), *(f"--{flag}={value}" for flag, value in flags.items()))
        # all files first: a guard whose program fails at once removes the folder
        self._prepare_access()
        programs = (Program(argv=argv, log=str(folder / "etcd.log")), self._program())
        self._programs = GuardedPrograms(programs, grace_seconds=self._grace_seconds, remove=folder)
        self._pid = self._programs.pids[-1] if self._programs.pids else 0

    def _launch_peer(self) -> None:
        (self._port,) = _free_ports(1)
        self._prepare_access()
        self._launch()

    def _launch(self) -> None:
        if self._programs is None:
            raise UnavailableError("the API server has been stopped", code="cluster-unavailable")
        self._pid = self._programs.start(self._program())

    def _prepare_access(self) -> None:
        self.url = f"https://127.0.0.1:{self._port}"
        write_kubeconfig(self.kubeconfig, self.shared_directory, self.url)
        self._pool = _pool(self.shared_directory, with_certificate=True)
        self._anonymous_pool = _pool(self.shared_directory, with_certificate=False)

    def _program(self) -> Program:
        folder = self.shared_directory
        flags = {
            "etcd-servers": self._etcd_url,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "endpoint-reconciler-type": "none",  # an Endpoints object cannot hold a loopback address
            "secure-port": self._port,
            "tls-cert-file": folder / "server.crt",
            "tls-private-key-file": folder / "server.key",
            "client-ca-file": folder / "ca.crt",
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": "10.0.0.0/24",
            "api-audiences": _API_AUDIENCE,
        }
        argv = (
            str(self._assets / "kube-apiserver"),
            *(f"--{flag}={value}" for flag, value in flags.items()),
            *self.flags.argv(),
        )
        return Program(argv=argv, log=str(self.directory / "kube-apiserver.log"))

    def _wait_until_ready(self, deadline: float) -> str:
        """Empty once it is ready, else what was said."""
        while time.monotonic() < deadline:
            if self._programs is None or self._programs.has_ended:
                return "its guard ended" if self._programs is None else self._programs.report()
            said = self._programs.last_words(self._pid)
            if said:
                return f"kube-apiserver {said}"
            with contextlib.suppress(urllib3.exceptions.HTTPError):  # it does not listen yet
                if self._send("GET", "/readyz").status == 200:
                    return ""
            time.sleep(_POLL_SECONDS)
        return f"the time is over; kube-apiserver's last words: {_tail(self.directory / 'kube-apiserver.log')}"

    def make_key(self, name: str, *, algorithm: KeyAlgorithm = "RS256") -> Path:
        """Make one more signing key for :meth:`reconfigure`: ``NAME.key`` and its public half, ``NAME.pub``.

        Returns:
            The path of the private key.
        """
        return write_key(self.shared_directory, name, algorithm)

    def halt(self) -> None:
        """Stop this API server alone; etcd and its peers go on, and :meth:`restart` brings it back."""
        if self._programs is not None and self._pid:
            self._programs.stop(self._pid)
            self._pid = 0

    def restart(self) -> None:
        """Stop this API server and start it on the same port, with the flags of now; what etcd holds stays.

        Raises:
            UnavailableError: cluster-unavailable where it does not become ready; it is stopped then.
        """
        self.halt()
        deadline = time.monotonic() + self._start_seconds
        for _ in range(_STARTS):
            self._launch()
            said = self._wait_until_ready(deadline)
            if not said:
                return
            self.halt()
            if "address already in use" not in said:  # a connection that was dialled from this very port
                break
        raise UnavailableError(f"the API server did not become ready again: {said}", code="cluster-unavailable")

    def reconfigure(
        self,
        *,
        signing_key: Path | None = None,
        key_files: Sequence[Path] | None = None,
        issuers: Sequence[str] | None = None,
        max_token_seconds: int | None = None,
        arguments: Sequence[str] | None = None,
    ) -> None:
        """Restart with other flags, as an operator does it; None leaves a flag as it is. See :class:`ServerFlags`."""
        changes: dict[str, Any] = {
            "signing_key": signing_key,
            "key_files": None if key_files is None else tuple(key_files),
            "issuers": None if issuers is None else tuple(issuers),
            "max_token_seconds": max_token_seconds,
            "more": None if arguments is None else tuple(arguments),
        }
        self.flags = replace(self.flags, **{name: value for name, value in changes.items() if value is not None})
        self.restart()

    def _end(self) -> None:
        if self._is_peer:
            self.halt()
        elif self._programs is not None:
            self._programs.end()

    def stop(self) -> None:
        """Stop the API server, then etcd, and remove the folder; nothing happens the second time.

        Peers end with it; a peer ends alone.
        """
        self._end()
        self._programs = None
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


def _free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago; held all at once, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _tail(log: Path) -> str:
    return last_lines(log.read_text(errors="replace")) if log.exists() else "none"
