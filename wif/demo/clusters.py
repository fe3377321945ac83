"""The cluster of the demo: one made on the spot, a real API server, or one that a kubeconfig names."""

from __future__ import annotations

__all__ = ["DemoCluster", "LocalDemoCluster", "RemoteDemoCluster", "ServerDemoCluster"]

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH
from wif.edges.kube import KubeClient
from wif.edges.token_request import TokenRequest
from wif.emulator.apiserver import ApiServer
from wif.emulator.authority import Authority
from wif.emulator.cluster import LocalCluster
from wif.errors import ConfigurationError


class DemoCluster(Protocol):
    """Where the demo's subject tokens and the issuer's documents come from."""

    issuer: str
    described: str
    """What it is, for the story."""
    subjects: tuple[tuple[str, str], tuple[str, str]]
    """(namespace, ServiceAccount) that the clouds trust, and one of another namespace that they do not."""
    keys: LocalCluster | None
    """Where the private keys are this process' own."""

    def token(self, namespace: str, service_account: str, audience: str) -> str:
        """A token as the kubelet projects it into a pod."""
        ...

    def write_documents(self, directory: Path) -> None:
        """Write discovery document and JWKS."""
        ...

    def issuer_documents(self, directory: Path) -> dict[str, str]:
        """What the local STS reads in place of the issuer's URL: nothing where that URL works."""
        ...


class LocalDemoCluster:
    """A cluster issuer with an RSA key, its documents published over HTTPS on loopback."""

    subjects = (("shop", "cart"), ("billing", "cart"))

    def __init__(self, authority: Authority, stack: ExitStack) -> None:
        self.keys: LocalCluster | None
        self._cluster = self.keys = stack.enter_context(LocalCluster())
        self._cluster.serve(authority)
        self.issuer = self._cluster.issuer
        self.described = f"made a cluster issuer with the RSA key {self._cluster.signing_key.kid[:12]}…"

    def token(self, namespace: str, service_account: str, audience: str) -> str:
        """Mint one with Kubernetes' claims."""
        return self._cluster.mint(namespace, service_account, audience, pod=f"{service_account}-0")

    def write_documents(self, directory: Path) -> None:
        """Write the documents that are being served."""
        self._cluster.write(directory)

    def issuer_documents(self, _: Path) -> dict[str, str]:
        """None: the local STS fetches them over HTTPS as a cloud would."""
        return {}


class ServerDemoCluster:
    """A real kube-apiserver, started from the binaries of ``KUBEBUILDER_ASSETS``."""

    subjects = (("shop", "cart"), ("billing", "cart"))
    keys: LocalCluster | None = None

    def __init__(self, stack: ExitStack) -> None:
        self._server = stack.enter_context(ApiServer())
        self.issuer = self._server.issuer
        self.described = "started etcd and kube-apiserver, TokenRequest mints the tokens"
        for namespace, service_account in self.subjects:
            self._server.create_namespace(namespace)
            self._server.create_service_account(namespace, service_account)

    def token(self, namespace: str, service_account: str, audience: str) -> str:
        """Ask the API server's TokenRequest."""
        return self._server.request_token(namespace, service_account, audience)

    def write_documents(self, directory: Path) -> None:
        """Write what the server's own endpoints answer."""
        self._server.write_documents(directory)

    def issuer_documents(self, directory: Path) -> dict[str, str]:
        """The files written: the issuer's URL is nowhere to be reached."""
        return {self.issuer: os.fspath(directory)}


class RemoteDemoCluster:
    """The cluster of a kubeconfig, left as it is: its ``default`` ServiceAccounts are enough."""

    subjects = (("default", "default"), ("kube-system", "default"))
    keys: LocalCluster | None = None

    def __init__(self, kubeconfig: str) -> None:
        self._client = KubeClient.from_kubeconfig(kubeconfig)
        document = json.loads(self._client.get_raw(DISCOVERY_PATH))
        issuer = document.get("issuer") if isinstance(document, dict) else None
        if not isinstance(issuer, str):
            raise ConfigurationError(
                f"the API server of {kubeconfig} answers {DISCOVERY_PATH} without an issuer", code="cluster-unavailable"
            )
        self.issuer = issuer
        self.described = f"TokenRequest of the cluster of {kubeconfig} mints the tokens"

    def token(self, namespace: str, service_account: str, audience: str) -> str:
        """Ask the API server's TokenRequest."""
        request = TokenRequest(namespace=namespace, service_account=service_account, audiences=(audience,))
        return self._client.request_token(request).token

    def write_documents(self, directory: Path) -> None:
        """Write what the server's own endpoints answer to an authenticated call."""
        for path in (DISCOVERY_PATH, JWKS_PATH):
            target = directory / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._client.get_raw(path))

    def issuer_documents(self, directory: Path) -> dict[str, str]:
        """The files written: the issuer's URL may be out of reach from here."""
        return {self.issuer: os.fspath(directory)}
