"""``wif sidecar serve`` from beginning to end: its files and secret, where it listens, what it loads, logs, writes."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from tests.integration.led_pod import ROLE, LedPod, pod
from tests.integration.server_processes import NotStarted, until
from tests.integration.sidecars import IDENTITY_HEADER, SCHEMA, SidecarProcess, aws, azure, gcp, led

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_process")]


def test_init_writes_the_files_and_ends(pod: LedPod, tmp_path: Path) -> None:
    files = [
        {"identity": "app", "kind": "aws-credentials", "path": str(tmp_path / "credentials")},
        {"identity": "reports", "kind": "gcp-access-token", "path": str(tmp_path / "token")},
    ]
    settings = {"identities": {"app": aws(pod), "reports": gcp(pod)}, "files": files}

    def init(status: int) -> dict[str, Any]:
        (tmp_path / "wif.yaml").write_text(json.dumps({"sidecar": settings}))
        words = ["sidecar", "serve", "--init", "--wait", "5", "--json", "--config-file", str(tmp_path / "wif.yaml")]
        program = [sys.executable, "-m", "wif", *words]
        done = subprocess.run(program, env=led(pod), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    found = init(0)
    jsonschema.validate(found, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert found["files"] == [file["path"] for file in files]
    assert "aws_session_token" in (tmp_path / "credentials").read_text()
    with SidecarProcess(pod, tmp_path, settings) as process:
        process.until_ready()
        assert (tmp_path / "token").stat().st_size > 0
    settings["identities"] = {"app": aws(pod, role_arn=f"{ROLE}-2"), "reports": gcp(pod)}
    assert init(1)["error"]["cloud"] == "aws"
    files[0]["path"] = str(tmp_path / "no" / "credentials")
    assert init(2)["error"]["code"] == "file-unusable"


def test_the_secret_is_new_at_every_start_and_as_clients_need_it(pod: LedPod, tmp_path: Path) -> None:
    seen = set()
    for _ in range(2):
        with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}) as process:
            assert re.fullmatch("[0-9a-f]{64}", process.secret)  # no newline: botocore would refuse it
            assert stat.S_IMODE(process.secret_file.stat().st_mode) == 0o440
            assert [path.name for path in process.secret_file.parent.iterdir()] == ["authorization"]
            seen.add(process.secret)
            # who writes the file by hand may end it with a newline
            until(lambda: process.ask("/aws", {"Authorization": f"{process.secret} "})[0] == 200, what="keys")
            process.secret_file.unlink()
            assert process.health("/healthz")[0] == 503
            assert process.end() == 0
            assert not any(secret in json.dumps(process.log) for secret in seen)
    assert len(seen) == 2


def test_without_its_directory_it_does_not_start(pod: LedPod, tmp_path: Path) -> None:
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}, "--secret-file", str(tmp_path / "no" / "file"))
    assert caught.value.args[:2] == (2, "file-unusable")


def test_a_second_one_leaves_the_firsts_secret_alone(pod: LedPod, tmp_path: Path) -> None:
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}) as process:
        secret = process.secret
        with pytest.raises(NotStarted) as caught:
            SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}, "--listen", f"127.0.0.1:{process.port}")
        assert caught.value.args[:2] == (2, "config-invalid")
        assert process.secret == secret


def test_the_nodes_network_is_refused_unless_forced(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod)}}
    environment = {"WIF_POD_IP": "10.0.0.7", "WIF_HOST_IP": "10.0.0.7"}
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, settings, environment=environment)
    assert caught.value.args[:2] == (2, "config-conflict")
    with SidecarProcess(pod, tmp_path, settings, "--force-host-network", environment=environment) as process:
        assert process.health("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("address", "said"),
    [(":0", r"health on port \d+ of every address"), ("127.0.0.1:0", r"health at http://127\.0\.0\.1:\d+")],
)
def test_people_are_told_where_health_is(pod: LedPod, tmp_path: Path, address: str, said: str) -> None:
    (tmp_path / "wif.yaml").write_text(json.dumps({"sidecar": {"identities": {"app": aws(pod)}}}))
    words = ["--listen", "127.0.0.1:0", "--health-address", address, "--secret-file", str(tmp_path / "authorization")]
    child = subprocess.Popen(
        [sys.executable, "-m", "wif", "sidecar", "serve", "--config-file", str(tmp_path / "wif.yaml"), *words],
        env=led(pod),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    try:
        assert re.fullmatch(r"serving credentials at http://127\.0\.0\.1:\d+\n", child.stdout.readline())
        assert re.fullmatch(rf"{said}\n", child.stdout.readline())
    finally:
        child.terminate()
        child.communicate(timeout=20)
    assert child.returncode == 0


def test_both_families_are_served_by_one_process(pod: LedPod, tmp_path: Path) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    listen = ("--listen", "127.0.0.1:0", "--listen", "[::1]:0")
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}, *listen) as process:
        process.until_ready()
        with requests.Session() as session:
            session.trust_env = False
            for url in process.place["urls"]:
                answer = session.get(f"{url}/aws", headers={"Authorization": process.secret}, timeout=10)
                assert answer.status_code == 200


def test_sigterm_finishes_what_is_under_way(pod: LedPod, tmp_path: Path) -> None:
    slow = pod.emulator.faults.inject(cloud="aws", operation="AssumeRoleWithWebIdentity", delay_seconds=1.0, times=1)
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}) as process:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(process.keys)
            until(lambda: slow.taken == 1, what="the exchange")
            time.sleep(0.2)
            process.child.send_signal(signal.SIGTERM)
            assert waiting.result()[0] == 200
        began = time.monotonic()
        assert process.end() == 0
        assert time.monotonic() - began < 5


ENDED_WHILE_LOADING = """
import os, signal, sys
from wif.cli import main

def end(event, arguments):
    if event == "import" and arguments[0] == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(end)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("words", "module"), [([], "wif.serve.sidecar_service"), (["--init"], "wif.serve.first_credentials")]
)
def test_sigterm_before_anything_is_served(pod: LedPod, tmp_path: Path, words: list[str], module: str) -> None:
    """It ends by itself: the kernel would not end a container's first process for it."""
    (tmp_path / "wif.yaml").write_text(json.dumps({"sidecar": {"identities": {"app": aws(pod)}}}))
    arguments = [module, "sidecar", "serve", *words, "--config-file", str(tmp_path / "wif.yaml")]
    program = [sys.executable, "-c", ENDED_WHILE_LOADING, *arguments]
    done = subprocess.run(program, env=led(pod), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


def test_no_secret_is_logged_at_any_level(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod), "reports": gcp(pod), "vault": azure(pod)}, "gce_metadata": True}
    environment = {"IDENTITY_HEADER": IDENTITY_HEADER}
    with SidecarProcess(pod, tmp_path, settings, "--access-log", environment=environment, log_level="debug") as process:
        process.until_ready()
        _, keys = process.keys()
        path = "/computeMetadata/v1/instance/service-accounts/default/token"
        _, text = process.ask(path, {"Metadata-Flavor": "Google"})
        secrets = [process.secret, IDENTITY_HEADER, keys["SecretAccessKey"], keys["Token"]]
        secrets += [json.loads(text)["access_token"], *(file.read_text() for file in pod.tokens.iterdir())]
        process.end()
    told = json.dumps(process.log)
    assert not any(secret in told for secret in secrets)
    audited = [entry for entry in process.log if entry.get("event") == "exchange"]
    assert {entry["cloud"] for entry in audited} == {"aws", "gcp", "azure"}
    assert all(entry["outcome"] == "issued" for entry in audited)
    assert any(entry.get("path") == "/aws" and entry.get("status") == 200 for entry in process.log)


LOADED = """
import json, os, signal, sys, threading, time, urllib.request
from wif.cli.root import run

def look():
    url = None
    for _ in range(200):
        time.sleep(0.05)
        try:
            with urllib.request.urlopen(sys.argv[1] + "/readyz", timeout=5) as answer:
                if answer.status == 200:
                    break
        except OSError:
            pass
    print(json.dumps(sorted(sys.modules)))
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=look).start()
sys.stdout = sys.stderr
status = run(sys.argv[2:])
"""

HEAVY = {"cryptography", "jwt", "requests", "rich", "kubernetes", "boto3", "botocore", "google", "azure", "starlette"}


def test_what_is_not_needed_is_not_loaded(pod: LedPod, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"identities": {"app": aws(pod), "reports": gcp(pod), "vault": azure(pod)}}
    settings |= {"gce_metadata": True, "imds": True, "secret_file": str(tmp_path / "secret")}
    (tmp_path / "wif.yaml").write_text(json.dumps({"sidecar": settings}))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = ["sidecar", "serve", "--listen", "127.0.0.1:0", "--health-address", f"127.0.0.1:{port}"]
    arguments += ["--config-file", str(tmp_path / "wif.yaml")]
    program = LOADED.replace("print(json", "sys.__stdout__.write(json").replace("modules)))", "modules)))", 1)
    done = subprocess.run(
        [sys.executable, "-c", program, f"http://127.0.0.1:{port}", *arguments],
        env=led(pod) | {"IDENTITY_HEADER": IDENTITY_HEADER},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert {"urllib3", "uvicorn", "msgspec"} <= set(loaded)  # it did exchange and serve
    assert not HEAVY & {name.partition(".")[0] for name in loaded}


def test_it_needs_no_writable_place_but_the_secrets(pod: LedPod, tmp_path: Path) -> None:
    """A read-only root filesystem: nothing is written beside the secret, and nothing is made in the home."""
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}, environment={"HOME": str(home)}) as process:
        process.until_ready()
        before = sorted(tmp_path.iterdir())
        process.keys()
        assert sorted(tmp_path.iterdir()) == before
    assert list(home.iterdir()) == []
