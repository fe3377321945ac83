"""``wif sidecar serve --init``, and files of a running sidecar, against the local STS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.integration.led_pod import ROLE, LedPod, pod
from tests.integration.server_processes import until
from tests.integration.sidecars import SCHEMA, SidecarProcess, aws, azure, gcp, led

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

WAIT_SECONDS = 60


def files(folder: Path) -> list[dict[str, Any]]:
    return [
        {"identity": "aws", "kind": "aws-credentials", "path": str(folder / "aws")},
        {"identity": "gcp", "kind": "gcp-access-token", "path": str(folder / "gcp"), "mode": 0o640},
        {
            "identity": "azure",
            "kind": "azure-token",
            "path": str(folder / "azure"),
            "scope": "https://vault.azure.net/.default",
        },
        {"identity": "aws", "kind": "federated-token", "path": str(folder / "raw")},
    ]


def settings(pod: LedPod, folder: Path, **changes: Any) -> dict[str, Any]:
    identities = {"aws": aws(pod), "gcp": gcp(pod), "azure": azure(pod)}
    return {"identities": identities, "files": files(folder), "app_service": False, **changes}


def init(pod: LedPod, folder: Path, section: Mapping[str, Any], *words: str, status: int = 0) -> tuple[str, str]:
    (folder / "wif.yaml").write_text(json.dumps({"sidecar": section}))
    done = subprocess.run(
        [sys.executable, "-m", "wif", "sidecar", "serve", "--init", "--config-file", "wif.yaml", *words],
        cwd=folder,
        env=led(pod),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


BOTO3 = "import boto3; print(boto3.client('sts', region_name='eu-west-1').get_caller_identity()['Arn'])"


def test_files_are_there_when_it_returns_and_real_clients_read_them(pod: LedPod, tmp_path: Path) -> None:
    out, err = init(pod, tmp_path, settings(pod, tmp_path), "--json")
    printed = json.loads(out)
    jsonschema.validate(printed, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert printed == {"identities": ["aws", "gcp", "azure"], "files": [each["path"] for each in files(tmp_path)]}
    assert (tmp_path / "raw").read_text() == (pod.tokens / "aws").read_text().strip()
    assert not (tmp_path / "gcp").read_text().endswith("\n")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("aws", "gcp")] == [0o600, 0o640]
    environ = led(pod) | {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "aws"), "AWS_CONFIG_FILE": "/dev/null"}
    done = subprocess.run(
        [sys.executable, "-c", BOTO3], env=environ, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    assert ":assumed-role/app/" in done.stdout, done.stderr
    secrets = [(tmp_path / name).read_text() for name in ("gcp", "azure", "raw")]
    assert not [secret for secret in secrets if secret in err + out]


def test_a_refusal_ends_it_at_once_and_an_outage_does_not(pod: LedPod, tmp_path: Path) -> None:
    refused = settings(pod, tmp_path)
    refused["identities"]["aws"] = aws(pod, role_arn=ROLE.replace("app", "nobody"))
    _, err = init(pod, tmp_path, refused, status=1)
    assert "AssumeRoleWithWebIdentity" in err
    assert not (tmp_path / "aws").exists()
    with pod.emulator.faults.inject(cloud="gcp", status=503, times=2):
        assert "4 files are written" in init(pod, tmp_path, settings(pod, tmp_path))[0]


AS_FIRST_PROCESS = ["unshare", "--pid", "--fork", "--kill-child"]


@pytest.mark.parametrize("before", [[], AS_FIRST_PROCESS], ids=["as any process", "as a container's first"])
def test_sigterm_ends_it_while_a_cloud_does_not_answer(pod: LedPod, tmp_path: Path, before: list[str]) -> None:
    if before and (os.geteuid() != 0 or shutil.which("unshare") is None):
        pytest.skip("only root can make a process the first of its namespace")
    if before and subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a process the first of its namespace")
    (tmp_path / "out").mkdir()
    (tmp_path / "wif.yaml").write_text(json.dumps({"sidecar": settings(pod, tmp_path / "out")}))
    words = ["sidecar", "serve", "--init", "--wait", "60", "--config-file", str(tmp_path / "wif.yaml")]
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.settimeout(WAIT_SECONDS)
        child = subprocess.Popen(
            [*before, sys.executable, "-m", "wif", *words],
            env=led(pod) | {"AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{deaf.getsockname()[1]}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with child, deaf.accept()[0]:  # the exchange is under way
            try:
                below = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split() if before else ()
                os.kill(int(below[0]) if below else child.pid, signal.SIGTERM)
                began = time.monotonic()
                out, err = child.communicate(timeout=10)
            finally:
                child.kill()
    assert (child.returncode, out) == (143, ""), err
    assert time.monotonic() - began < 5
    assert "Traceback" not in err
    assert not list((tmp_path / "out").iterdir()), "nothing half-written stays behind"


def test_a_directory_that_is_not_there_is_wrong_configuration(pod: LedPod, tmp_path: Path) -> None:
    _, err = init(pod, tmp_path, settings(pod, tmp_path / "nowhere"), status=2)
    assert "is not there" in err


def test_a_running_sidecar_follows_the_token_and_tells_who_asked(pod: LedPod, tmp_path: Path) -> None:
    section = settings(pod, tmp_path)
    section["files"][3]["after"] = {"command": ["/bin/sh", "-c", f'cp "$WIF_FILE" {tmp_path}/seen']}
    with SidecarProcess(pod, tmp_path, section) as sidecar:
        until(lambda: (tmp_path / "seen").exists(), what="the first writing")
        pod.pod.renew()
        renewed = (pod.tokens / "aws").read_text().strip()
        until(lambda: (tmp_path / "seen").read_text() == renewed, what="the rotation")
        until(lambda: (tmp_path / "azure").exists(), what="the others")
        assert not [each for each in sidecar.messages() if renewed in each]
        # one more file while it runs
        more = {"identity": "gcp", "kind": "gcp-access-token", "path": str(tmp_path / "more")}
        sidecar.write({**section, "files": [*section["files"], more]})
        until(lambda: (tmp_path / "more").exists(), what="the new settings")
