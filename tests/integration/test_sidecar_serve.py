"""``wif sidecar serve``: AWS' interface, its guard, health and metrics, every state, crowds and mad clients."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.children import run as run_child
from tests.integration.led_pod import ACCOUNT, ROLE, LedPod, pod
from tests.integration.server_processes import until
from tests.integration.sidecars import IDENTITY_HEADER, SidecarProcess, aws, azure, gcp

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_serve")]


@pytest.fixture(scope="module")
def sidecar(pod: LedPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """Three clouds, ready; tests that share it leave it as it is."""
    settings: dict[str, Any]
    settings = {"identities": {"shop": aws(pod), "spare": aws(pod), "reports": gcp(pod), "vault": azure(pod)}}
    settings |= {"default": {"aws": "shop"}, "gce_metadata": True, "imds": True}
    folder = tmp_path_factory.mktemp("sidecar")
    with SidecarProcess(pod, folder, settings, environment={"IDENTITY_HEADER": IDENTITY_HEADER}) as process:
        process.until_ready()
        yield process


ASK_BOTO3 = """
import boto3, json
frozen = boto3.Session().get_credentials()
keys = frozen.get_frozen_credentials()
print(json.dumps({"method": frozen.method, "key": keys.access_key, "seconds": frozen._seconds_remaining()}))
"""


@pytest.mark.parametrize("path", ["/aws", "/aws/shop"])
def test_boto3_gets_keys_by_two_variables(sidecar: SidecarProcess, pod: LedPod, path: str) -> None:
    variables = {
        "PATH": pod.environment["PATH"],
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{sidecar.url}{path}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(sidecar.secret_file),
    }
    found = run_child(variables, ASK_BOTO3)
    assert found["method"] == "container-role"
    assert found["key"] == sidecar.keys(path)[1]["AccessKeyId"]
    assert found["seconds"] > 3000


def test_each_path_has_its_own_role_and_the_answer_is_of_now(sidecar: SidecarProcess) -> None:
    (_, default), (_, app), (_, spare) = (sidecar.keys(path) for path in ("/aws", "/aws/shop", "/aws/spare"))
    assert default == app
    assert app["AccessKeyId"] != spare["AccessKeyId"]
    assert app["AccountId"] == "111122223333"


@pytest.mark.parametrize(("name", "where"), [("no", "/aws/no"), ("empty", "/aws/"), ("cloud", "/aws/reports")])
def test_an_unknown_identity_is_final(sidecar: SidecarProcess, name: str, where: str) -> None:
    status, document = sidecar.keys(where)
    assert (status, document["code"]) == (404, "identity-unknown"), name


# -- the guard -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [None, "", "wrong", "Bearer {secret}", "{secret}x", "{half}"],
    ids=["none", "empty", "wrong", "bearer", "longer", "shorter"],
)
def test_without_the_secret_there_are_no_keys(sidecar: SidecarProcess, given: str | None) -> None:
    text = None if given is None else given.format(secret=sidecar.secret, half=sidecar.secret[:32])
    for path in ("/aws", "/aws/shop", "/aws/no"):
        status, body = sidecar.ask(path, {} if text is None else {"Authorization": text})
        assert status == 401
        assert json.loads(body)["code"] == "secret-wrong"  # and not whether there is such an identity
        assert sidecar.secret not in body


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ("/aws", {"Authorization": "{secret}"}),
        ("/computeMetadata/v1/instance/service-accounts/default/token", {"Metadata-Flavor": "Google"}),
        (
            "/azure/token?resource=https://vault.azure.net&api-version=2019-08-01",
            {"X-IDENTITY-HEADER": IDENTITY_HEADER},
        ),
        (
            "/metadata/identity/oauth2/token?resource=https://vault.azure.net&api-version=2018-02-01",
            {"Metadata": "true"},
        ),
        ("/", {"Metadata-Flavor": "Google"}),
        ("/nothing", {}),
    ],
    ids=["aws", "gce", "app-service", "imds", "root", "nothing"],
)
@pytest.mark.parametrize(
    ("host", "forged"),
    [
        ("attacker.example", {}),
        ("127.0.0.1.attacker.example:8787", {}),
        ("10.1.2.3:8787", {}),
        (None, {"X-Forwarded-For": "127.0.0.1"}),
        (None, {"X-Forwarded-Host": "localhost"}),
        (None, {"Forwarded": "for=127.0.0.1"}),
        (None, {"Via": "1.1 proxy"}),
        (None, {"Origin": "https://attacker.example"}),
    ],
    ids=["host", "suffix", "address", "for", "proxied-host", "forwarded", "via", "origin"],
)
def test_what_was_led_here_is_refused_on_every_path(
    sidecar: SidecarProcess, path: str, extra: dict[str, str], host: str | None, forged: dict[str, str]
) -> None:
    headers = {name: value.format(secret=sidecar.secret) for name, value in extra.items()}
    status, body = sidecar.ask(path, headers | forged, host=host)
    assert status == 403
    assert body.count("\n") == 1
    assert not re.search("shop|spare|reports|vault", body)
    assert sidecar.ask(path, headers)[0] in ((404,) if path == "/nothing" else (200,))


def test_an_absolute_form_counts_by_its_host(sidecar: SidecarProcess) -> None:
    headers = {"Authorization": sidecar.secret}
    assert sidecar.ask("http://attacker.example/aws", headers, host="attacker.example")[0] == 403
    metadata = {"Metadata-Flavor": "Google"}
    where = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/email"
    assert sidecar.ask(where, metadata, host="169.254.169.254") == (200, ACCOUNT)
    # AWS' interface is no metadata server
    assert sidecar.ask("http://169.254.169.254/aws", headers, host="169.254.169.254")[0] == 403


def test_a_redirect_to_it_brings_nothing(sidecar: SidecarProcess) -> None:
    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{sidecar.url}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Redirect)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(f"{url}/aws", timeout=10).status_code == 401
            # a client that sends the secret somewhere else does not send it on from there
            answer = session.get(f"{url}/aws", headers={"Authorization": sidecar.secret}, timeout=10)
            assert answer.status_code == 401
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_other_methods_and_bodies_are_refused(sidecar: SidecarProcess) -> None:
    headers = {"Authorization": sidecar.secret}
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert sidecar.ask("/aws", headers, method=method)[0] == 405
        assert sidecar.answered["allow"] == "GET, HEAD"
    assert sidecar.ask("/aws", headers, method="HEAD") == (200, "")
    assert int(sidecar.answered["content-length"]) > 100
    assert sidecar.ask("/aws", headers, body=b"x")[0] == 413
    assert sidecar.ask("/aws", headers | {"Content-Length": "1"})[0] == 413, "before the body comes"
    assert sidecar.ask("/aws", headers | {"Content-Length": "0"})[0] == 200
    assert sidecar.ask("/aws", headers, method="PUT", body=b"x" * 100)[0] == 413


def test_nothing_may_be_stored_on_the_way(sidecar: SidecarProcess) -> None:
    for path, headers in (("/aws", {"Authorization": sidecar.secret}), ("/aws", {}), ("/nothing", {})):
        sidecar.ask(path, headers)
        assert sidecar.answered["cache-control"] == "no-store"


def _own_address() -> str | None:
    """An address of this machine that is no loopback one."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        address = str(probe.getsockname()[0])
        return None if address.startswith("127.") else address
    return None


def test_another_address_of_the_machine_does_not_answer(sidecar: SidecarProcess) -> None:
    address = _own_address()
    if address is None:
        pytest.skip("this machine has no address besides loopback")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, sidecar.port), timeout=5)


# -- health and metrics --------------------------------------------------------------------------------------------


def test_health_and_metrics_name_nobody(sidecar: SidecarProcess) -> None:
    sidecar.keys("/aws/shop")
    sidecar.keys("/aws/no")
    sidecar.ask("/aws", host="attacker.example")
    told = [sidecar.health(path) for path in ("/healthz", "/readyz", "/metrics")]
    assert [status for status, _ in told] == [200, 200, 200]
    for _, text in told:
        assert not re.search(r"\b(shop|spare|reports|vault)\b", text), text
        assert not any(secret in text for secret in (sidecar.secret, IDENTITY_HEADER, ROLE, ACCOUNT))
    assert (sidecar.metric("wif_sidecar_answers_total", interface="aws", status="200") or 0) >= 1
    assert (sidecar.metric("wif_sidecar_answers_total", interface="aws", status="404") or 0) >= 1
    assert (sidecar.metric("wif_sidecar_answers_total", interface="guard", status="403") or 0) >= 1
    assert sidecar.metric("wif_sidecar_exchanges_total", cloud="aws", outcome="issued") == 2
    assert sidecar.metric("wif_sidecar_identities", cloud="aws", state="ready") == 2
    for cloud in ("aws", "gcp", "azure"):
        assert 3000 < (sidecar.metric("wif_sidecar_credential_seconds", cloud=cloud) or 0) <= 3600


def test_credentials_are_not_on_the_health_port(sidecar: SidecarProcess) -> None:
    for path in ("/aws", "/azure/token", "/computeMetadata/v1/", "/metadata/identity/oauth2/token", "/"):
        assert sidecar.health(path)[0] == 404


# -- states --------------------------------------------------------------------------------------------------------


def test_the_states_of_an_identity(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod), "stranger": aws(pod, role_arn=f"{ROLE}-2")}}
    down = pod.emulator.faults.inject(cloud="aws", operation="AssumeRoleWithWebIdentity", delay_seconds=3.0, times=2)
    with SidecarProcess(pod, tmp_path, settings) as process:
        began = time.monotonic()
        status, document = process.keys("/aws/app")
        assert (status, document["code"]) == (503, "credentials-pending")
        assert process.answered["retry-after"] == "1"
        assert 1.3 < time.monotonic() - began < 1.95  # botocore hangs up after 2 s
        assert process.health("/readyz")[0] == 503
        assert process.health("/healthz") == (200, "ok\n")
        down.remove()
        until(lambda: process.keys("/aws/app")[0] == 200, what="keys")
        until(lambda: process.keys("/aws/stranger")[0] == 403, what="a refusal")
        status, document = process.keys("/aws/stranger")
        assert document["code"] == document["Code"] != "credentials-pending"
        assert "retry-after" not in process.answered
        status, document = process.keys("/aws")
        assert (status, document["code"]) == (404, "identity-unnamed")
        # a refused one keeps it from being ready, and says so without its name
        status, text = process.health("/readyz")
        assert status == 503
        assert "1 (refused, " in text
        assert "stranger" not in text


def test_an_outage_is_told_and_ends_by_itself_and_takes_nothing_that_is_valid(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod), "vault": azure(pod)}}
    environment = {"IDENTITY_HEADER": IDENTITY_HEADER}
    outage = pod.emulator.faults.inject(cloud="aws", status=503)
    with SidecarProcess(pod, tmp_path, settings, environment=environment) as process:
        until(lambda: process.keys()[1].get("code") == "cloud-unavailable", what="an outage")
        assert process.answered["retry-after"].isdigit()
        # the other cloud is not affected
        asked = {"X-IDENTITY-HEADER": IDENTITY_HEADER}
        path = "/azure/token?resource=https://management.azure.com&api-version=2019-08-01"
        until(lambda: process.ask(path, asked)[0] == 200, what="the other cloud's token")
        outage.remove()
        until(lambda: process.keys()[0] == 200, what="the end of the outage")
        process.until_ready()
        with pod.emulator.faults.inject(status=503):
            assert process.keys()[0] == 200
            assert process.ask(path, asked)[0] == 200
            assert process.health("/readyz")[0] == 200


def test_a_crowd_that_waits_for_one_identity_does_not_hold_up_another(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod), "slow": aws(pod, role_arn=f"{ROLE}-2", region="us-east-1")}}
    with SidecarProcess(pod, tmp_path, settings) as process:
        until(lambda: process.keys("/aws/app")[0] == 200, what="keys")
        until(lambda: process.keys("/aws/slow")[0] == 403, what="a refusal")
        slow = pod.emulator.faults.inject(cloud="aws", delay_seconds=20.0)
        changed = {"identities": {"app": aws(pod), "slow": aws(pod, role_arn=f"{ROLE}-3")}}
        process.write(changed)
        process.until_logged("the new settings are in use")
        with ThreadPoolExecutor(120) as crowd:
            began = time.monotonic()
            waiting = [crowd.submit(process.ask, "/aws/slow", {"Authorization": process.secret}) for _ in range(120)]
            time.sleep(0.3)
            mine = time.monotonic()
            assert process.keys("/aws/app")[0] == 200
            assert time.monotonic() - mine < 0.5
            quick = sum(1 for each in waiting if each.done())
            assert quick >= 120 - 65 - 10  # those for whom there was no place were told at once
            assert {each.result()[0] for each in waiting} == {503}
            assert time.monotonic() - began < 10
        slow.remove()


def test_more_connections_than_descriptors_keep_nobody_out(pod: LedPod, tmp_path: Path) -> None:
    """As many as a shell allows, and no more: else neither the kubelet gets an answer, nor is a token read."""
    shell = ("/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}, launcher=shell) as process:
        process.until_ready()
        request = f"GET /nowhere HTTP/1.1\r\nHost: localhost:{process.port}\r\n\r\n".encode()
        with contextlib.ExitStack() as held:
            for number in range(400):
                wire = held.enter_context(socket.create_connection(("127.0.0.1", process.port), timeout=5))
                wire.sendall(request)
                if number % 40 == 39:
                    assert wire.recv(4096).startswith(b"HTTP/1.1 404")
                    assert process.keys()[0] == 200
                    assert process.health("/readyz")[0] == 200
        descriptors = process.until_logged("connections at once in place of")
        assert descriptors.endswith("this process may open 256 files")


def test_a_mad_client_keeps_nobody_out(pod: LedPod, tmp_path: Path) -> None:
    """Connections without requests, requests without end on one connection, and answers that nobody reads."""
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}, "--max-connections", "40") as process:
        process.until_ready()
        request = f"GET /aws HTTP/1.1\r\nHost: localhost\r\nAuthorization: {process.secret}\r\n\r\n".encode()
        with contextlib.ExitStack() as rude:
            for number in range(60):
                wire = rude.enter_context(socket.create_connection(("127.0.0.1", process.port), timeout=5))
                wire.sendall((b"", b"GET /aws HTTP/1.1\r\nHost:", request[:-2])[number % 3])
            for _ in range(5):
                began = time.monotonic()
                assert process.keys()[0] == 200
                assert time.monotonic() - began < 1
        with socket.create_connection(("127.0.0.1", process.port), timeout=5) as wire:
            wire.settimeout(0.2)
            with contextlib.suppress(OSError):
                for _ in range(2000):
                    wire.sendall(request * 8)
            assert process.keys()[0] == 200
        assert (process.metric("wif_sidecar_evicted_connections_total") or 0) >= 20
