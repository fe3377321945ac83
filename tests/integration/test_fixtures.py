"""The pytest plugin as its users have it: opt-in, in a run of their own, with the real SDKs, also in parallel."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

OPT_IN = 'pytest_plugins = ["wif.emulator"]\n'

TESTS = '''
"""What a user writes."""

import os
import subprocess
import sys

import boto3
import google.auth
import pytest
from azure.identity import WorkloadIdentityCredential
from botocore.exceptions import ClientError

import wif
from wif.emulator import TrustStore
from wif.emulator.pod import trust_documents


def test_boto3_finds_the_pods_role(wif_environment):
    arn = boto3.client("sts").get_caller_identity()["Arn"]
    assert arn.startswith("arn:aws:sts::111122223333:assumed-role/app/")


def test_google_auth_finds_the_pods_service_account(wif_environment):
    from google.auth.transport.requests import Request

    credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    credentials.refresh(Request())
    assert credentials.token
    assert project == wif_environment.identity.project_id


def test_azure_identity_finds_the_pods_application(wif_environment):
    with WorkloadIdentityCredential() as credential:
        assert credential.get_token("https://management.azure.com/.default").token


def test_the_library_finds_all_three(wif_environment):
    environment = wif.from_env()
    assert environment.aws.credentials().access_key_id.startswith("ASIA")
    assert environment.gcp.credentials().token
    assert environment.azure.credentials(scope="https://management.azure.com/.default").token


def test_a_child_process_needs_nothing_else(wif_pod):
    script = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    done = subprocess.run([sys.executable, "-c", script], env=dict(wif_pod.environment), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("111122223333\\n", "")


def test_another_service_account_is_refused(wif_environment):
    wif_environment.renew(sub="system:serviceaccount:default:other")
    with pytest.raises(ClientError, match="AccessDenied"):
        boto3.client("sts").get_caller_identity()


def test_a_fault_is_seen_and_ends(wif_environment, wif_faults):
    injection = wif_faults.inject(cloud="aws", operation="AssumeRoleWithWebIdentity", status=503, times=1)
    assert boto3.client("sts").get_caller_identity()["Account"] == "111122223333"
    assert injection.taken == 1


def test_trust_can_be_changed(wif_environment, wif_emulator, wif_cluster):
    wif_emulator.trust = TrustStore.from_mapping({"gcp": trust_documents(wif_cluster.issuer)["gcp"]})
    with pytest.raises(ClientError):
        boto3.client("sts").get_caller_identity()


def test_the_developers_own_clouds_are_out_of_sight(wif_environment):
    assert "AWS_PROFILE" not in os.environ
    assert "AZURE_CLIENT_SECRET" not in os.environ
    assert os.environ["no_proxy"] == "localhost,127.0.0.1"
    assert os.path.expanduser("~") == str(wif_environment.directory / "home")
'''

OVERRIDDEN = """
import boto3
import pytest
from wif.emulator.pod import PodIdentity

@pytest.fixture
def wif_identity():
    return PodIdentity(namespace="shop", service_account="web", role_name="checkout")

def test_names(wif_environment, wif_cluster):
    assert ":assumed-role/checkout/" in boto3.client("sts").get_caller_identity()["Arn"]
    assert wif_cluster.requests
"""


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("parallel", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_fixtures_serve_real_sdks(tmp_path: Path, parallel: tuple[str, ...]) -> None:
    (tmp_path / "conftest.py").write_text(OPT_IN)
    (tmp_path / "test_program.py").write_text(TESTS)
    hostile = {"AWS_PROFILE": "production", "AZURE_CLIENT_SECRET": "x", "NO_PROXY": ".amazonaws.com", "no_proxy": "*"}
    done = run(tmp_path, *parallel, **hostile)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout


def test_identities_can_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(OPT_IN)
    (tmp_path / "test_program.py").write_text(OVERRIDDEN)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_line_option_is_enough(tmp_path: Path) -> None:
    done = run(tmp_path, "-p", "wif.emulator", "--fixtures")
    for name in ("wif_authority", "wif_cluster", "wif_emulator", "wif_environment", "wif_faults", "wif_pod"):
        assert f"{name} " in done.stdout or f"{name}\n" in done.stdout


def test_nobody_gets_the_plugin_unasked(tmp_path: Path) -> None:
    (tmp_path / "test_program.py").write_text(
        "import sys\n\n\ndef test_absent():\n    assert not [name for name in sys.modules if name.startswith('wif')]\n"
    )
    assert run(tmp_path).returncode == 0
    assert [entry for entry in distribution("wif").entry_points if entry.group == "pytest11"] == []
