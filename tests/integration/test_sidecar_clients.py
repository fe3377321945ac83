"""Unmodified clients of three clouds at ``wif sidecar serve``, led there by environment variables alone.

A proxy that leads nowhere is set for all of them, so that none gets anything from anywhere but loopback. The matrix is
docs/reference/sidecar-clients.md.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.integration.hostile import HostileServer, answering, http_answer
from tests.integration.led_pod import ACCOUNT, CLIENT, ROLE, TENANT, LedPod, pod
from tests.integration.sidecar_clients import (
    CLIENTS,
    DEAD_PROXY,
    RESOURCE,
    VERSIONS,
    Client,
    NotHere,
    Start,
    run_client,
)
from tests.integration.sidecars import IDENTITY_HEADER, SidecarProcess, aws, azure, gcp
from wif.clouds.endpoint_variables import endpoint_variables, endpoints_of
from wif.config.sidecar import load_sidecar
from wif.emulator.pod import POD_IDENTITY

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_clients")]

MATRIX = Path(__file__).parents[2] / "docs" / "reference" / "sidecar-clients.md"


def _settings(pod: LedPod) -> dict[str, Any]:
    identities = {
        "app": aws(pod),
        "reports": gcp(pod, project=POD_IDENTITY.project_id),
        "vault": azure(pod, scopes=[f"{RESOURCE}/.default"]),
    }
    return {"identities": identities, "gce_metadata": True, "imds": True}


@pytest.fixture(scope="module")
def sidecar(pod: LedPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    folder = tmp_path_factory.mktemp("sidecar")
    with SidecarProcess(pod, folder, _settings(pod), environment={"IDENTITY_HEADER": IDENTITY_HEADER}) as process:
        process.until_ready()
        yield process


def _variables(process: SidecarProcess, settings: Mapping[str, Any], home: Path) -> dict[str, str]:
    """What a program of the pod has: a proxy, and everything that leads to the sidecar."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **DEAD_PROXY, "NO_PROXY": "internal.example"}
    endpoints = endpoints_of(
        load_sidecar(settings),
        url=process.url,
        identity_header=IDENTITY_HEADER,
        secret_file=str(process.secret_file),
    )
    made = endpoint_variables(endpoints, environment)
    assert not made.absent
    return made.applied_to(environment)


KEPT = ("PATH", "HOME", "LANG", "NO_PROXY", "no_proxy", *DEAD_PROXY)


def _start(process: SidecarProcess, pod: LedPod, folder: Path, names: tuple[str, ...] | None) -> Start:
    variables = _variables(process, _settings(pod), folder)
    if names is not None:
        variables = {name: variables[name] for name in (*KEPT, *names)}
    emulator = pod.emulator
    return Start(variables=variables, folder=folder, sts_url=emulator.url, ca_file=Path(str(emulator.ca_file)))


def _ask(client: Client, start: Start) -> Mapping[str, Any]:
    try:
        return client.ask(start)
    except NotHere as missing:
        pytest.skip(f"{client.name} is not run: {missing}")


def _ids(client: Client) -> str:
    return f"{client.name}-{client.interface}".replace(" ", "-")


@pytest.mark.parametrize("client", CLIENTS, ids=_ids)
def test_a_client_gets_its_credential_by_the_variables_of_its_row(
    client: Client, sidecar: SidecarProcess, pod: LedPod, tmp_path: Path
) -> None:
    told = _ask(client, _start(sidecar, pod, tmp_path, client.variables))
    _judge(client, told, sidecar)


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.name in (*VERSIONS, "gcloud")][:4], ids=_ids)
def test_all_variables_of_three_clouds_together_mislead_nobody(
    client: Client, sidecar: SidecarProcess, pod: LedPod, tmp_path: Path
) -> None:
    _judge(client, _ask(client, _start(sidecar, pod, tmp_path, None)), sidecar)


def _judge(client: Client, told: Mapping[str, Any], sidecar: SidecarProcess) -> None:
    """Whether this is the credential of the sidecar, and whose it is."""
    if client.interface.startswith("AWS"):
        _, keys = sidecar.keys()
        assert told.get("key", keys["AccessKeyId"]) == keys["AccessKeyId"]
        assert keys["AccessKeyId"].endswith(told.get("key_end", ""))
        assert told.get("arn", "").startswith(
            ("", f"arn:aws:sts::111122223333:assumed-role/{ROLE.rpartition('/')[2]}/")
        )
        assert told.get("method", "container-role") == "container-role"
    elif client.interface.startswith("GCE"):
        assert json.loads(_middle(told["token"]))["sa"] == ACCOUNT
        assert _unverified(told["id_token"])["aud"] == "https://app.example"
        assert told.get("email", ACCOUNT) == ACCOUNT
        assert told.get("project", POD_IDENTITY.project_id) == POD_IDENTITY.project_id
    else:
        claims = _unverified(told["token"])
        assert (claims["aud"], claims["tid"]) == (RESOURCE, TENANT)
        assert CLIENT in (claims.get("appid"), claims.get("azp"))
        assert told.get("tenant", TENANT) == TENANT


def _middle(token: str) -> bytes:
    return jwt.utils.base64url_decode(token.split(".")[2])


def _unverified(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize(
    "client", [each for each in CLIENTS if each.name.startswith(("google-auth-l", "@azure"))], ids=_ids
)
def test_without_loopback_in_no_proxy_these_clients_ask_the_proxy(
    client: Client, sidecar: SidecarProcess, pod: LedPod, tmp_path: Path
) -> None:
    start = _start(sidecar, pod, tmp_path, client.variables)
    assert start.variables["NO_PROXY"] == start.variables["no_proxy"] == "internal.example,127.0.0.1,localhost"
    with HostileServer(answering(http_answer(status="403 Forbidden")), tls=False) as proxy:
        led = {**start.variables, **dict.fromkeys(DEAD_PROXY, f"http://127.0.0.1:{proxy.port}")}
        kept = _ask(client, start._replace(variables=led))
        assert not proxy.received
        _judge(client, kept, sidecar)
        with pytest.raises(AssertionError):
            client.ask(start._replace(variables=led | {"NO_PROXY": "internal.example", "no_proxy": "internal.example"}))
        assert proxy.received


# -- what is no success --------------------------------------------------------------------------------------------

ASK_ID_TOKEN = """
import google.auth, json
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import id_token
found, _ = google.auth.default()
request = Request()
found.refresh(request)
try:
    id_token.fetch_id_token(request, "https://app.example")
    said = None
except GoogleAuthError as error:
    said = str(error)
request.session.close()
print(json.dumps({"token": found.token, "said": said}))
"""


def test_an_id_token_without_a_service_account_is_refused_in_plain_words(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"reports": gcp(pod, service_account=None)}, "gce_metadata": True}
    with SidecarProcess(pod, tmp_path, settings) as process:
        process.until_ready()
        done = run_client([sys.executable, "-c", ASK_ID_TOKEN], _variables(process, settings, tmp_path))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["token"].startswith("ya29.")
    assert "service account" in told["said"]
    assert "ID token" in told["said"]


class Decoy(http.server.BaseHTTPRequestHandler):
    """What SDKs look at after the sidecar: it would give another identity."""

    asked: list[str] = []  # noqa: RUF012 # of the class: the server makes an object for each request

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps({"AccessKeyId": "DECOY", "SecretAccessKey": "x", "Token": "x", "access_token": "DECOY"})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_PUT = do_GET  # noqa: N815 # its base's name

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def decoy(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables of other identities: an instance metadata service, and a command line that is logged in."""
    program = tmp_path / "bin" / "az"
    program.parent.mkdir()
    answer = {"accessToken": "DECOY", "expiresOn": "2100-01-01 00:00:00.000000", "expires_on": 4102444800}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    Decoy.asked.clear()
    server = http.server.HTTPServer(("127.0.0.1", 0), Decoy)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "PATH": os.pathsep.join([str(program.parent), os.environ["PATH"]]),
    }
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "client", [each for each in CLIENTS if each.name in ("boto3", "azure-identity", "@azure/identity")], ids=_ids
)
def test_who_is_refused_never_becomes_somebody_else(
    client: Client, pod: LedPod, tmp_path: Path, decoy: dict[str, str]
) -> None:
    """The chain of an SDK ends at the sidecar, whatever stands behind it."""
    stranger = "99999999-7777-8888-9999-000000000000"
    identities = {"app": aws(pod, role_arn=f"{ROLE}-2"), "vault": azure(pod, client_id=stranger)}
    settings = {"identities": identities, "imds": True}
    folder = tmp_path / "sidecar"
    folder.mkdir()
    with SidecarProcess(pod, folder, settings, environment={"IDENTITY_HEADER": IDENTITY_HEADER}) as process:
        made = _variables(process, settings, tmp_path)
        variables = {name: made[name] for name in (*KEPT, *client.variables)} | decoy
        start = Start(variables, tmp_path, pod.emulator.url, Path(str(pod.emulator.ca_file)))
        try:
            with pytest.raises(AssertionError) as caught:
                client.ask(start)
        except NotHere as missing:
            pytest.skip(f"{client.name} is not run: {missing}")
    assert "DECOY" not in str(caught.value)
    assert not Decoy.asked


# -- the documents -------------------------------------------------------------------------------------------------


def test_the_matrix_is_what_is_tested() -> None:
    lines = [line for line in MATRIX.read_text().splitlines() if line.startswith("| ")]
    assert lines[1:] == [client.row for client in CLIENTS]


@pytest.mark.parametrize("name", VERSIONS)
def test_the_versions_that_were_seen_are_of_now(name: str) -> None:
    """A newer release of the same major version is no reason to change the table."""
    assert version(name).split(".")[0] == VERSIONS[name].split(".")[0]
