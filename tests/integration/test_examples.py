"""The examples run as they stand, in a pod beside the local STS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.pod import ROLE, Pod, running_pod, trust
from wif.emulator import Emulator, TrustStore
from wif.emulator.apiserver import ApiServer, missing_assets

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("examples")]


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with running_pod(tmp_path_factory.mktemp("pod")) as pod:
        yield pod


def _run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def _output(environment: Mapping[str, str], name: str) -> str:
    result = _run(environment, str(EXAMPLES / name))
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_example_is_run_here() -> None:
    named = set(Path(__file__).read_text().split('"'))
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__pycache__"
    } <= named


def test_aws_session(pod: Pod) -> None:
    lines = _output(pod.environment, "aws_session.py").splitlines()
    assert lines == ["arn:aws:sts::111122223333:assumed-role/app/" + lines[0].rpartition("/")[2]] * 3


def test_gcp_tokens(pod: Pod) -> None:
    assert _output(pod.environment, "gcp_tokens.py").count(" token until ") == 2


def test_azure_token(pod: Pod) -> None:
    assert _output(pod.environment, "azure_token.py").endswith("exchanges: 1\n")


def test_three_clouds(pod: Pod) -> None:
    aws, gcp, azure = _output(pod.environment, "three_clouds.py").splitlines()
    assert "assumed-role/app/" in aws
    assert "app@shop-project.iam.gserviceaccount.com until " in gcp
    assert "azure: until " in azure


def test_three_clouds_says_what_is_broken_and_spoils_nothing(pod: Pod) -> None:
    broken = {name: value for name, value in pod.environment.items() if name != "AZURE_TENANT_ID"}
    aws, _, azure = _output(broken, "three_clouds.py").splitlines()
    assert "assumed-role/app/" in aws
    assert "config-missing" in azure
    assert "AZURE_TENANT_ID" in azure


@pytest.mark.skipif(bool(missing_assets()), reason=f"no API server: {missing_assets()}")
def test_controller_token_request(tmp_path: Path) -> None:
    with ApiServer() as server:
        for namespace in ("shop", "other"):
            server.create_namespace(namespace)
            server.create_service_account(namespace, "app")
        server.write_documents(tmp_path / "issuer")
        store = TrustStore.from_mapping(trust(server.issuer))
        with Emulator(trust=store, issuer_documents={server.issuer: tmp_path / "issuer"}, proxy=True) as emulator:
            environment = {
                "HOME": str(tmp_path),
                "PATH": os.defpath,
                "KUBECONFIG": str(server.kubeconfig),
                "PYTHONWARNINGS": "error",
                **emulator.environment(),
            }
            program = str(EXAMPLES / "controller_token_request.py")
            result = _run(environment, program, ROLE, "shop/app", "other/app")
    assert result.returncode == 1, result.stderr
    trusted, stranger = result.stdout.splitlines()
    assert trusted.startswith("shop/app: arn:aws:sts::111122223333:assumed-role/app/")
    assert stranger.startswith("other/app: refused at trust: ")


def test_testing_with_pytest_plugin() -> None:
    folder = EXAMPLES / "testing_with_pytest_plugin"
    result = _run(
        dict(os.environ), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(folder / "pytest.ini"), str(folder)
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout
