"""``wif demo``: the whole way of a token, on real parts, without a cloud account.

A cluster's issuer, three token services with real trust documents, this library, and the three real SDKs in child
processes that know nothing of it. What it shows is what the local STS confirmed, never what was expected.
"""

from __future__ import annotations

__all__ = ["CLOUDS", "Narrator", "run"]

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from wif.core.token import read_token
from wif.demo.clusters import DemoCluster, LocalDemoCluster, RemoteDemoCluster, ServerDemoCluster
from wif.demo.documents import configuration
from wif.edges.transport import Transport
from wif.emulator import Emulator, TrustStore
from wif.emulator.authority import Authority
from wif.emulator.pod import PodIdentity, trust_documents
from wif.errors import ConfigurationError, RefusedError, WifError
from wif.exchange.aws import AwsExchanger
from wif.exchange.azure import AzureExchanger
from wif.exchange.gcp import GcpExchanger

CLOUDS = ("aws", "gcp", "azure")
SCOPE = "https://management.azure.com/.default"
_CHILD_SECONDS = 60.0
_PROGRAMS = Path(__file__).parent / "programs"

Part = dict[str, Any]
"""``ok`` and ``detail`` of one thing shown; of a refusal also ``reason``, in the cloud's words."""


class Narrator(Protocol):
    """Who tells the story while it happens."""

    def step(self, text: str) -> None:
        """Something begins."""
        ...

    def fact(self, text: str) -> None:
        """Something is known now."""
        ...

    def result(self, cloud: str, part: str, outcome: Part) -> None:
        """One of the nine parts is done."""
        ...


def run(
    narrator: Narrator,
    *,
    keep: Path | None = None,
    keep_keys: bool = False,
    cluster: bool = False,
    kubeconfig: str | None = None,
) -> dict[str, Any]:
    """Play the demo.

    Args:
        narrator: is told every step.
        keep: directory that gets the issuer's documents and the configuration files.
        keep_keys: also the private keys, 0600.
        cluster: take the tokens from a real API server: the one of ``kubeconfig``, or one started from
            ``KUBEBUILDER_ASSETS``.

    Returns:
        ``{"ok": bool, "clouds": {"aws"|"gcp"|"azure": {"library"|"sdk"|"refused": {"ok": bool, "detail": str}}}}``.

    Raises:
        WifError: the stage could not be set; what fails on it is a result.
    """
    _check_sdks()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wif-demo-")))
        stage = _Stage(narrator, stack, folder, cluster=cluster or kubeconfig is not None, kubeconfig=kubeconfig)
        if keep is not None:
            _keep(stage, keep, keys=keep_keys)
        results: dict[str, dict[str, Part]] = {cloud: {} for cloud in CLOUDS}
        for part, play in (("library", stage.library), ("sdk", stage.sdk), ("refused", stage.refused)):
            narrator.step(_TITLES[part])
            with ThreadPoolExecutor(max_workers=2) as pool:
                played = {cloud: pool.submit(play, cloud) for cloud in CLOUDS}
                for cloud, future in played.items():
                    results[cloud][part] = future.result()
                    narrator.result(cloud, part, results[cloud][part])
        narrator.step("what this stage lets pass")
        for note in sorted(stage.notes):
            narrator.fact(note)
        ok = all(outcome["ok"] for parts in results.values() for outcome in parts.values())
        return {"ok": ok, "clouds": results}


_TITLES = {
    "library": "this library exchanges the token at each cloud",
    "sdk": "boto3, google-auth and azure-identity do the same, from configuration files alone",
    "refused": "another namespace's ServiceAccount tries",
}


class _Stage:
    """The set of the demo: cluster, tokens, local STS, configuration files."""

    def __init__(
        self, narrator: Narrator, stack: ExitStack, folder: Path, *, cluster: bool, kubeconfig: str | None
    ) -> None:
        self.folder = folder
        self.notes: set[str] = set()
        logging.getLogger("wif.emulator").addHandler(logging.NullHandler())  # the narrator tells them, once each
        narrator.step("a Kubernetes cluster's issuer")
        authority = stack.enter_context(Authority())
        self.cluster: DemoCluster
        if kubeconfig is not None:
            self.cluster = RemoteDemoCluster(kubeconfig)
        elif cluster:
            self.cluster = ServerDemoCluster(stack)
        else:
            self.cluster = LocalDemoCluster(authority, stack)
        self.documents = folder / "issuer"
        self.cluster.write_documents(self.documents)
        narrator.fact(self.cluster.described)
        narrator.fact(f"issuer {self.cluster.issuer}")

        trusted, stranger = self.cluster.subjects
        self.identity = PodIdentity(namespace=trusted[0], service_account=trusted[1], role_name="wif-demo")
        self.tokens = {cloud: self._project(cloud, trusted) for cloud in CLOUDS}
        self.strangers = {cloud: self._project(cloud, stranger) for cloud in CLOUDS}
        narrator.fact(f"tokens of system:serviceaccount:{trusted[0]}:{trusted[1]}, one for each cloud's audience")

        narrator.step("the token services of three clouds, with real trust documents")
        trust = trust_documents(self.cluster.issuer, self.identity)
        self.emulator = stack.enter_context(
            Emulator(
                trust=TrustStore.from_mapping(trust),
                authority=authority,
                issuer_documents=self.cluster.issuer_documents(self.documents),
                proxy=True,
                on_note=lambda note: self.notes.add(note.text),
            )
        )
        narrator.fact(f"listening on {self.emulator.url}; its proxy leads the clouds' real host names there")
        files, self.variables = configuration(self.identity, os.fspath(folder / "config"), self.tokens)
        self.config = folder / "config"
        for name, text in files.items():
            path = self.config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._environment = dict(self.emulator.environment())

    def _project(self, cloud: str, subject: tuple[str, str]) -> str:
        token = self.cluster.token(*subject, self.identity.audiences[cloud])
        path = self.folder / "tokens" / cloud / subject[0] / "token"
        path.parent.mkdir(parents=True)
        path.touch(mode=0o600)
        path.write_text(token)
        return os.fspath(path)

    # -- what is shown -----------------------------------------------------------------------------------

    def library(self, cloud: str) -> Part:
        """The library, with the cloud's real host names."""
        try:
            return {"ok": True, "detail": self._exchange(cloud, self.tokens[cloud])}
        except WifError as error:
            return {"ok": False, "detail": f"{error.code}: {error.message}"}

    def refused(self, cloud: str) -> Part:
        """The same identity for a ServiceAccount that the trust does not name."""
        try:
            return {"ok": False, "detail": f"issued to a stranger: {self._exchange(cloud, self.strangers[cloud])}"}
        except RefusedError as error:
            said = error.message.partition("; the token of ")[0]  # whose token it is, the story has just said
            return {"ok": True, "detail": f"{error.code} (clause: {error.clause})", "reason": said}
        except WifError as error:
            return {"ok": False, "detail": f"{error.code}: {error.message}"}

    def sdk(self, cloud: str) -> Part:
        """The cloud's own SDK in a process of its own: nothing inherited, a new HOME, configuration files alone."""
        home = self.folder / "home" / cloud
        home.mkdir(parents=True)
        environment = {"HOME": os.fspath(home), "PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= self._environment | self.variables[cloud]
        try:
            done = subprocess.run(  # noqa: S603  # this interpreter, and a program of ours
                [sys.executable, "-P", os.fspath(_PROGRAMS / f"{cloud}.py")],
                env=environment,
                cwd=home,
                capture_output=True,
                text=True,
                timeout=_CHILD_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"ok": False, "detail": f"no answer within {_CHILD_SECONDS:.0f} s"}
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return {"ok": False, "detail": lines[-1]}
        confirmed = json.loads(done.stdout)["identity"]
        return {"ok": _is_ours(self.identity, cloud, confirmed), "detail": confirmed}

    def _exchange(self, cloud: str, token: str) -> str:
        return _EXCHANGES[cloud](self.identity, token, Transport(cloud, environ=self._environment))


def _aws(identity: PodIdentity, token: str, transport: Transport) -> str:
    with AwsExchanger(
        identity.role_arn, source=token, region=identity.region, transport=transport, environ={}
    ) as exchanger:
        return exchanger.caller_identity().arn


def _gcp(identity: PodIdentity, token: str, transport: Transport) -> str:
    with GcpExchanger(
        identity.provider, identity.google_service_account, source=token, transport=transport, environ={}
    ) as exchanger:
        exchanger.credentials()  # its answer is the proof: Google confirms a service account in no other way
        return f"{identity.google_service_account}, through {exchanger.introspection().username}"


def _azure(identity: PodIdentity, token: str, transport: Transport) -> str:
    with AzureExchanger(
        identity.tenant_id, identity.client_id, source=token, transport=transport, environ={}
    ) as exchanger:
        issued = exchanger.credentials(scope=SCOPE)
    claims = read_token(issued.token, origin="the access token", now=issued.expires_at.timestamp()).unverified_claims
    return f"{claims['appid']} of the tenant {claims['tid']}"


_EXCHANGES: Mapping[str, Callable[[PodIdentity, str, Transport], str]] = {"aws": _aws, "gcp": _gcp, "azure": _azure}


def _is_ours(identity: PodIdentity, cloud: str, confirmed: str) -> bool:
    """Whether the confirmed identity is the one that the demo's trust is for."""
    return {
        "aws": f":assumed-role/{identity.role_name}/" in confirmed,
        "gcp": confirmed == identity.google_service_account,
        "azure": confirmed == identity.client_id,
    }[cloud]


def _check_sdks() -> None:
    from importlib.util import find_spec  # noqa: PLC0415  # once, and only here

    missing = [
        extra for extra, module in (("aws", "boto3"), ("gcp", "google"), ("azure", "azure")) if not find_spec(module)
    ]
    if missing:
        raise ConfigurationError(
            f"the demo runs the real SDKs, and those of {', '.join(missing)} are not installed",
            code="extra-missing",
            hint=f"pip install 'wif[{','.join(missing)}]'",
        )


def _keep(stage: _Stage, directory: Path, *, keys: bool) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for source in (stage.documents, stage.config):
        shutil.copytree(source, directory / source.name, dirs_exist_ok=True)
    if keys and stage.cluster.keys is not None:
        stage.cluster.keys.write_keys(directory / "keys")
