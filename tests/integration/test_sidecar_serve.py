"""``wif sidecar serve`` as a process: AWS' interface, its guard, every state, reloading, beginning and end."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from tests.integration.children import run as run_child
from tests.integration.led_pod import ACCOUNT, ROLE, LedPod, led_pod
from tests.integration.server_processes import NotStarted, until
from tests.integration.sidecars import IDENTITY_HEADER, SCHEMA, SidecarProcess, aws, azure, gcp, led

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_serve")]


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedPod]:
    with led_pod(tmp_path_factory.mktemp("led")) as pod:
        yield pod


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


# -- files ---------------------------------------------------------------------------------------------------------


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


# -- settings ------------------------------------------------------------------------------------------------------


def test_new_settings_are_taken_up_and_wrong_ones_told_whole(pod: LedPod, tmp_path: Path) -> None:
    before = {"identities": {"app": aws(pod)}}
    with SidecarProcess(pod, tmp_path, before) as process:
        process.until_ready()
        keys = process.keys("/aws/app")
        process.write({"identities": {"app": aws(pod), "other": {"cloud": "aws"}}, "gce_metdata": True})
        told = process.until_logged("the new settings are not used")
        assert "role_arn" in told
        assert "gce_metdata" in told
        assert process.keys("/aws/app") == keys
        until(lambda: process.metric("wif_sidecar_reload_failures_total") == 1, what="the failure is counted")
        identities = {"app": aws(pod), "other": aws(pod), "reports": gcp(pod)}
        process.write({"identities": identities, "gce_metadata": True, "secret_mode": 0o444})
        process.until_logged("the new settings are in use")
        assert process.until_logged("count from the next start").endswith(": secret_mode")
        assert stat.S_IMODE(process.secret_file.stat().st_mode) == 0o440
        assert process.keys("/aws/app") == keys  # what has not changed keeps its credential
        until(lambda: process.keys("/aws/other")[0] == 200, what="the new identity")
        assert process.ask("/", {"Metadata-Flavor": "Google"})[0] == 200
        process.write(before)
        until(lambda: process.keys("/aws/other")[0] == 404, what="the end of the new identity")
        assert process.ask("/", {})[0] == 404
        assert process.metric("wif_sidecar_reloads_total") == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"identities": {"app": {"cloud": "aws"}, "b": {"cloud": "gcp"}}, "imd": 1}, ("role_arn", "provider", "imd")),
        ({"listen": ["0.0.0.0:8787"]}, ("listen[0]", "loopback")),
        ({"app_service": True}, ("IDENTITY_HEADER",)),
    ],
    ids=["several", "address", "header"],
)
def test_a_wrong_start_ends_with_2_and_says_everything(
    pod: LedPod, tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    settings = {"identities": {"app": aws(pod), "vault": azure(pod)}} | change
    arguments = ("--listen", "127.0.0.1:0") if "listen" not in change else ("--listen", change["listen"][0])
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, settings, *arguments)
    status, _, told = caught.value.args
    assert status == 2
    assert all(word in "\n".join(told) for word in words), told


def test_the_webhooks_variables_are_enough(pod: LedPod, tmp_path: Path) -> None:
    names = ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_ID"]
    names += ["AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"]
    environment = {name: pod.environment[name] for name in names} | {"IDENTITY_HEADER": IDENTITY_HEADER}
    with SidecarProcess(pod, tmp_path, None, "--gce-metadata", environment=environment) as process:
        assert process.place["interfaces"] == ["aws", "gce", "app-service"]
        process.until_ready()
        assert process.keys("/aws")[1] == process.keys("/aws/aws")[1]
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, None, environment={"AWS_ROLE_ARN": ROLE})
    assert caught.value.args[:2] == (2, "config-missing")
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, None)
    assert caught.value.args[:2] == (2, "config-missing")


def test_everything_wrong_is_a_line_each_whatever_it_came_from(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod), "other": {"cloud": "aws"}}, "gce_metdata": True}
    environment = {"WIF_SIDECAR_IMDS": "perhaps"}
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, settings, "--secret-mode", "0999", environment=environment)
    status, code, told = caught.value.args
    assert (status, code) == (2, "config-invalid")
    head, *each, hint = told
    assert head == "error: the settings of the sidecar: 4 things are wrong:"
    assert [line[:6] for line in each] == [f"  ({number}) " for number in range(1, 5)]
    assert "WIF_SIDECAR_IMDS: 'perhaps' is none of the yes/no values" in each[0]
    assert hint.startswith("hint: ")


def test_a_settings_file_that_is_deleted_or_broken_is_told_as_that(pod: LedPod, tmp_path: Path) -> None:
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}) as process:
        process.until_ready()
        (tmp_path / "wif.yaml").unlink()
        assert process.until_logged("the new settings are not used").endswith("wif.yaml is gone")
        (tmp_path / "wif.yaml").write_text("sidecar:\n  identities: {app: hunter2]\n")
        assert "line 2, column 28: expected ',' or '}'" in process.until_logged("is not YAML")
        assert process.keys()[0] == 200
    assert "hunter2" not in json.dumps(process.log)


@pytest.mark.parametrize("value", ["short", "abcdefgh ijklmnopq\x7f", "\xff" * 20], ids=["short", "control", "latin"])
def test_a_header_that_nobody_could_send_is_refused_at_the_start(pod: LedPod, tmp_path: Path, value: str) -> None:
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, {"identities": {"vault": azure(pod)}}, environment={"IDENTITY_HEADER": value})
    status, code, told = caught.value.args
    assert (status, code) == (2, "config-invalid")
    assert "IDENTITY_HEADER" in told[0]
    assert value not in "".join(told)


def test_a_header_from_a_file_may_end_with_a_newline(pod: LedPod, tmp_path: Path) -> None:
    environment = {"IDENTITY_HEADER": f"{IDENTITY_HEADER}\n"}
    with SidecarProcess(pod, tmp_path, {"identities": {"vault": azure(pod)}}, environment=environment) as process:
        process.until_ready()
        path = "/azure/token?api-version=2019-08-01&resource=https://management.azure.com"
        assert process.ask(path, {"X-IDENTITY-HEADER": IDENTITY_HEADER})[0] == 200


def test_who_is_served_to_nobody_is_named(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod), "reports": gcp(pod), "vault": azure(pod)}}
    with SidecarProcess(pod, tmp_path, settings) as process:
        process.until_ready()
        assert "gce_metadata is off" in process.until_logged("the identity reports (gcp) is served to nobody")
        assert "IDENTITY_HEADER" in process.until_logged("the identity vault (azure) is served to nobody")
        assert process.place["interfaces"] == ["aws"]
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, {"identities": {"vault": azure(pod)}})
    assert caught.value.args[:2] == (2, "config-missing")
    assert "IDENTITY_HEADER" in caught.value.args[2][0]


def test_readiness_says_which_cloud_lacks_what(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod, role_arn=f"{ROLE}-2"), "reports": gcp(pod)}, "gce_metadata": True}
    with SidecarProcess(pod, tmp_path, settings) as process:
        wanted = (503, "identities of aws without a credential: 1 (refused, trust-denied)\n")
        until(lambda: process.health("/readyz") == wanted, what=f"{wanted}")


def test_a_change_while_it_starts_is_not_lost(pod: LedPod, tmp_path: Path) -> None:
    """The file is another one as soon as it was read."""
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}) as process:
        process.write({"identities": {"app": aws(pod), "spare": aws(pod)}})  # before the first look at it
        process.until_logged("the new settings are in use")
        until(lambda: process.keys("/aws/spare")[0] == 200, what="the second role")
        assert process.metric("wif_sidecar_reloads_total") == 1


def test_a_reload_that_names_a_place_that_is_not_there_leaves_everything(pod: LedPod, tmp_path: Path) -> None:
    def with_files(*paths: Path) -> dict[str, Any]:
        files = [{"identity": "app", "kind": "aws-credentials", "path": str(path)} for path in paths]
        return {"identities": {"app": aws(pod)}, "files": files}

    with SidecarProcess(pod, tmp_path, with_files(tmp_path / "credentials")) as process:
        process.until_ready()
        process.write(with_files(tmp_path / "no" / "credentials", tmp_path / "none" / "credentials"))
        told = process.until_logged("the new settings are not used")
        assert str(tmp_path / "no") in told
        assert str(tmp_path / "none") in told
        (tmp_path / "credentials").unlink()
        until((tmp_path / "credentials").exists, what="the file before is still kept")


def test_variables_name_every_setting(pod: LedPod, tmp_path: Path) -> None:
    environment = {
        "WIF_SIDECAR_IDENTITIES": json.dumps({"one": aws(pod), "two": aws(pod)}),
        "WIF_SIDECAR_DEFAULT": "aws=two",
        "WIF_SIDECAR_SECRET_MODE": "0444",
    }
    with SidecarProcess(pod, tmp_path, None, environment=environment) as process:
        process.until_ready()
        assert process.keys("/aws")[1] == process.keys("/aws/two")[1] != process.keys("/aws/one")[1]
        assert stat.S_IMODE(process.secret_file.stat().st_mode) == 0o444


def test_a_file_that_lay_there_may_lead_no_token_away(pod: LedPod, tmp_path: Path) -> None:
    file = {"identity": "app", "kind": "aws-credentials", "path": "/x", "after": {"command": ["/bin/true"]}}
    harms: dict[str, dict[str, Any]] = {
        "sidecar.allow_hosts": {"allow_hosts": ["attacker.example"]},
        "sidecar.identities.app.authority_host": {
            "identities": {"app": azure(pod, authority_host="https://attacker.example")}
        },
        "sidecar.files (writes credentials to a path), sidecar.files[0].after": {"files": [file]},
        "sidecar.secret_file": {"secret_file": str(tmp_path / "authorization")},
    }
    for what, harm in harms.items():
        (tmp_path / "wif.yaml").write_text(json.dumps({"sidecar": {"identities": {"app": aws(pod)}} | harm}))
        with pytest.raises(NotStarted) as caught:
            SidecarProcess(pod, tmp_path, None)
        status, code, told = caught.value.args
        assert (status, code) == (2, "host-not-allowed" if "host" in what else "config-invalid")
        assert f"sets {what} (" in told[0]
    assert not (tmp_path / "authorization").exists()


# -- beginning and end ---------------------------------------------------------------------------------------------


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
