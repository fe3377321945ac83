"""The chart, rendered by the real helm, and the real API server that its objects are held to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from wif.emulator.apiserver import ASSETS_VARIABLE, ApiServer

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "wif"
CRDS = ROOT / "tests" / "data" / "crds" / "crds.yaml"
RELEASE = "docs"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real helm."""
    program = shutil.which("helm")
    if program is None:
        pytest.skip("helm is not on PATH: the chart cannot be rendered")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


def templated(namespace: str, values: Mapping[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """The chart as text, or why not."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)))
    return helm("template", RELEASE, str(CHART), "-n", namespace, "--kube-version", "1.37.2", "-f", str(file))


def rendered(namespace: str, values: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The chart's objects."""
    done = templated(namespace, values, folder)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def in_namespace(objects: Sequence[dict[str, Any]], namespace: str) -> Sequence[dict[str, Any]]:
    """As helm applies them: what has a namespace is in the release's, unless it names another."""
    for each in objects:
        if not each["kind"].startswith(("ClusterRole", "Validating", "Mutating")):
            each["metadata"].setdefault("namespace", namespace)
    return objects


def pod_template(workload: Mapping[str, Any]) -> dict[str, Any]:
    """Of a Deployment or a CronJob."""
    spec = workload["spec"] if workload["kind"] == "Deployment" else workload["spec"]["jobTemplate"]["spec"]
    template: dict[str, Any] = spec["template"]
    return template


def parse_command_line(arguments: Sequence[str]) -> None:
    """Parse every flag as the program does, and run nothing."""
    import click

    from wif.cli.root import cli

    left = list(arguments)
    context: click.Context = click.Context(cli)
    command: click.Command = cli
    while isinstance(command, click.Group):
        name = left.pop(0)
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    command.make_context(command.name, left)


class Cluster(NamedTuple):
    """The API server and a namespace of a test's own."""

    server: ApiServer
    namespace: str

    def kubectl(self, *arguments: str, given: str = "", user: str = "", check: bool = True) -> str:
        """Run the real kubectl as administrator, or with a ServiceAccount's token."""
        program = Path(os.environ[ASSETS_VARIABLE]) / "kubectl"
        command = [str(program), "--kubeconfig", str(self.server.kubeconfig), *arguments]
        if user:
            token = self.server.request_token(self.namespace, user, "https://kubernetes.default.svc")
            command = [
                str(program), "--kubeconfig", os.devnull, "--server", self.server.url,
                "--certificate-authority", str(self.server.directory / "ca.crt"), "--token", token, *arguments,
            ]  # fmt: skip
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def apply(self, objects: Sequence[Mapping[str, Any]], *flags: str) -> str:
        """Apply on the server's side, every unknown field an error."""
        given = "\n---\n".join(json.dumps(each) for each in objects)
        return self.kubectl("apply", "--server-side", "--validate=strict", *flags, "-f", "-", given=given)


@pytest.fixture(scope="module")
def with_crds(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> ApiServer:
    """The API server, with the custom resources of the two operators and a namespace that targets stand in."""
    cluster = Cluster(api_server, "default")
    crds = [document for document in yaml.safe_load_all(CRDS.read_text()) if document]
    cluster.apply(crds)
    for crd in crds:
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{crd['metadata']['name']}")
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}}])
    return api_server


def new_cluster(server: ApiServer) -> Cluster:
    """A namespace that enforces the restricted level of pod security."""
    name = f"chart-{uuid.uuid4().hex[:8]}"
    server.create_namespace(name, labels={"pod-security.kubernetes.io/enforce": "restricted"})
    return Cluster(server, name)


@pytest.fixture
def cluster(with_crds: ApiServer) -> Cluster:
    """One for each test."""
    return new_cluster(with_crds)
