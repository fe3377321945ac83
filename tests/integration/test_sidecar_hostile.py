"""Who must get nothing from ``wif sidecar serve``, and who must not keep others from getting theirs.

What a guarded request is answered stands in test_sidecar_serve.py. Here is the raw side: another pod, names that lead
to loopback, requests within requests, redirects of the clouds, and clients that open, send or hold more than is right.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.led_pod import LedPod, pod
from tests.integration.server_processes import until
from tests.integration.sidecars import IDENTITY_HEADER, SidecarProcess, aws, azure, gcp

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_hostile")]

RESOURCE = "https://management.azure.com"
TOKEN_PATHS = {
    "aws": "/aws",
    "gce": "/computeMetadata/v1/instance/service-accounts/default/token",
    "app-service": f"/azure/token?api-version=2019-08-01&resource={RESOURCE}",
    "imds": f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={RESOURCE}",
}
CREDENTIAL = re.compile(rb"SecretAccessKey|access_token|wif-local-sts|\bey[A-Za-z0-9_-]{20}")
GOOD_CLIENT_SECONDS = 1.0
"""Half of what AWS' SDKs wait for: three of four reads are quicker, on a machine that is busy with the test."""
LONGEST_SECONDS = 5.0


def _settings(pod: LedPod) -> dict[str, Any]:
    identities = {"app": aws(pod), "reports": gcp(pod), "vault": azure(pod)}
    return {"identities": identities, "gce_metadata": True, "imds": True}


@pytest.fixture(scope="module")
def sidecar(pod: LedPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """Three clouds, every interface, health on every address; its log must hold no secret at the end."""
    environment = {"IDENTITY_HEADER": IDENTITY_HEADER}
    folder = tmp_path_factory.mktemp("sidecar")
    with SidecarProcess(
        pod, folder, _settings(pod), "--health-address", ":0", "--access-log", environment=environment
    ) as process:
        process.until_ready()
        _, keys = process.keys()
        tokens = [json.loads(process.ask(TOKEN_PATHS[name], _headers(process, name))[1]) for name in TOKEN_PATHS]
        secrets = [process.secret, IDENTITY_HEADER, keys["SecretAccessKey"], keys["Token"]]
        secrets += [each["access_token"] for each in tokens if "access_token" in each]
        assert len(secrets) == 7
        yield process
    log = json.dumps(process.log)
    assert "SecretAccessKey" not in log
    assert not [number for number, secret in enumerate(secrets) if secret in log]


def _headers(process: SidecarProcess, interface: str) -> dict[str, str]:
    return {
        "aws": {"Authorization": process.secret},
        "gce": {"Metadata-Flavor": "Google"},
        "app-service": {"X-IDENTITY-HEADER": IDENTITY_HEADER},
        "imds": {"Metadata": "true"},
    }[interface]


def _exchange_raw(process: SidecarProcess, sent: bytes, *, seconds: float = 0.3) -> bytes:
    """Send bytes and read until the end, or until nothing has come for a while."""
    received = b""
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as connection:
        with contextlib.suppress(OSError):  # refused before it was all there
            connection.sendall(sent)
        connection.settimeout(seconds)
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                received += data
    return received


def _raw(process: SidecarProcess, interface: str, *lines: str) -> bytes:
    """A request with the right secret; lines take the place of the Host header."""
    secret = [f"{name}: {value}" for name, value in _headers(process, interface).items()]
    text = "\r\n".join([f"GET {TOKEN_PATHS[interface]} HTTP/1.1", *secret, *lines, "", ""])
    return text.encode("latin-1")


def test_the_raw_request_is_answered_where_nothing_is_wrong_with_it(sidecar: SidecarProcess) -> None:
    for interface in TOKEN_PATHS:
        answer = _exchange_raw(
            sidecar, _raw(sidecar, interface, "Connection: close", f"Host: 127.0.0.1:{sidecar.port}")
        )
        assert answer.startswith(b"HTTP/1.1 200 "), interface
        assert CREDENTIAL.search(answer), interface


# -- no secret, no token -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", TOKEN_PATHS)
@pytest.mark.parametrize(
    "given", [None, "", "true!", "google", "{other}"], ids=["none", "empty", "wrong", "case", "other"]
)
def test_without_its_header_no_interface_gives_a_token(
    sidecar: SidecarProcess, interface: str, given: str | None
) -> None:
    [name] = _headers(sidecar, interface)
    others = [value for each in TOKEN_PATHS for value in _headers(sidecar, each).values() if each != interface]
    for text in [given] if given != "{other}" else others:
        status, body = sidecar.ask(TOKEN_PATHS[interface], {} if text is None else {name: text})
        assert status in (400, 401, 403)
        assert not CREDENTIAL.search(body.encode())


# -- names that lead here ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", TOKEN_PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "127.0.0.1.nip.io:{port}",
        "localhost.attacker.example:{port}",
        "localhost@attacker.example",
        "attacker.example@127.0.0.1:{port}",
        "metadata.google.internal.attacker.example",
        "169.254.169.254.attacker.example",
        "169.254.170.2",
        "0.0.0.0:{port}",
        "2130706433:{port}",
        "0x7f.1:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "127.0.0.1:1",
        "127.0.0.1:{port}, attacker.example",
        "127.0.0.1:{port}#",
        "",
    ],
)
def test_a_name_that_was_turned_to_loopback_is_no_name_of_ours(
    sidecar: SidecarProcess, interface: str, host: str
) -> None:
    answer = _exchange_raw(
        sidecar, _raw(sidecar, interface, "Connection: close", f"Host: {host.format(port=sidecar.port)}")
    )
    assert answer.split(b" ", 2)[1] in (b"400", b"403")
    assert not CREDENTIAL.search(answer)


# -- requests that two readers would read differently --------------------------------------------------------------

HOST = "Host: 127.0.0.1:{port}"
CHUNKED = "\r\nTransfer-Encoding: chunked"
SECRET = "\r\nAuthorization: {secret}\r\n\r\n"
INNER = "GET /aws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {secret}\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("two hosts", "GET /aws HTTP/1.1\r\n" + HOST + "\r\nHost: attacker.example" + SECRET),
        ("two hosts, ours last", "GET /aws HTTP/1.1\r\nHost: x.example\r\n" + HOST + SECRET),
        ("twice ours", "GET /aws HTTP/1.1\r\n" + HOST + "\r\n" + HOST + SECRET),
        ("no host", "GET /aws HTTP/1.1" + SECRET),
        ("no host, 1.0", "GET /aws HTTP/1.0" + SECRET),
        ("0.9", "GET /aws\r\n\r\n"),
        ("two secrets", "GET /aws HTTP/1.1\r\n" + HOST + "\r\nAuthorization: x" + SECRET),
        ("folded secret", "GET /aws HTTP/1.1\r\n" + HOST + "\r\nAuthorization: x,\r\n {secret}\r\n\r\n"),
        ("secret in a folded line", "GET /aws HTTP/1.1\r\n" + HOST + "\r\nX: y\r\n\tAuthorization: {secret}\r\n\r\n"),
        ("space in the name", "GET /aws HTTP/1.1\r\n" + HOST + "\r\nAuthorization : {secret}\r\n\r\n"),
        ("forwarded in other letters", "GET /aws HTTP/1.1\r\n" + HOST + "\r\nx-FORWARDED-foR: 1" + SECRET),
        ("absolute form of another", "GET http://attacker.example/aws HTTP/1.1\r\nHost: attacker.example" + SECRET),
        ("absolute form, our host", "GET http://attacker.example/aws HTTP/1.1\r\n" + HOST + SECRET),
        ("forwarded with a line below", "GET /aws HTTP/1.1\r\n" + HOST + "\r\nX_Forwarded_For: 1" + SECRET),
        ("tunnel", "CONNECT 127.0.0.1:{port} HTTP/1.1\r\n" + HOST + SECRET),
        ("echo", "TRACE /aws HTTP/1.1\r\n" + HOST + SECRET),
        ("post", "POST /aws HTTP/1.1\r\n" + HOST + "\r\nAuthorization: {secret}\r\nContent-Length: 0\r\n\r\n"),
        ("h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("request in a body", "PUT /x HTTP/1.1\r\n" + HOST + "\r\nContent-Length: {length}\r\n\r\n" + INNER),
        ("request in a get's body", "GET /x HTTP/1.1\r\n" + HOST + "\r\nContent-Length: {length}\r\n\r\n" + INNER),
        (
            "length and chunks",
            "PUT /x HTTP/1.1\r\n" + HOST + "\r\nContent-Length: 5" + CHUNKED + "\r\n\r\n0\r\n\r\n" + INNER,
        ),
        (
            "chunks in other words",
            "PUT /x HTTP/1.1\r\n" + HOST + CHUNKED + "x\r\nContent-Length: {length}\r\n\r\n" + INNER,
        ),
        (
            "two lengths",
            "PUT /x HTTP/1.1\r\n" + HOST + "\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n" + INNER,
        ),
        ("negative length", "PUT /x HTTP/1.1\r\n" + HOST + "\r\nContent-Length: -1\r\n\r\n" + INNER),
        ("request in a header", "GET /x HTTP/1.1\r\n" + HOST + "\r\nX: \n\n" + INNER),
        ("nul", "GET /aws\0 HTTP/1.1\r\n" + HOST + SECRET),
        ("line feed in the path", "GET /x HTTP/1.1\nX: /aws HTTP/1.1" + SECRET),
        ("upgrade", "GET /x HTTP/1.1\r\n" + HOST + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + INNER),
    ],
)  # fmt: skip
def test_what_two_readers_would_read_differently_brings_no_credential(
    sidecar: SidecarProcess, name: str, text: str
) -> None:
    values = {"port": sidecar.port, "secret": sidecar.secret}
    length = len(INNER.format(**values))
    answer = _exchange_raw(sidecar, text.format(**values, length=length).encode("latin-1"))
    assert not CREDENTIAL.search(answer), name
    assert b" 200 " not in answer.partition(b"\r\n")[0], name
    assert sidecar.secret.encode() not in answer, name


@pytest.mark.parametrize(
    "path",
    [
        "//aws",
        "/./aws",
        "/x/../aws",
        "/aws/../aws",
        "/aws/app/",
        "/aws/app/x",
        "/AWS",
        "/aws;x",
        "/%2e/aws",
        "/aws%00",
        "*",
    ],
)
def test_a_path_means_itself(sidecar: SidecarProcess, path: str) -> None:
    status, body = sidecar.ask(path, {"Authorization": sidecar.secret})
    assert status in (400, 403, 404), body
    assert not CREDENTIAL.search(body.encode())


# -- another pod ---------------------------------------------------------------------------------------------------

FROM_THERE = """
import json, socket, sys, urllib.request
credentials, health, *hosts = sys.argv[1:]
said = {}
for host in hosts:
    for port in (credentials, health):
        try:
            with socket.create_connection((host, int(port)), timeout=3):
                said[f"{host} {port}"] = "connected"
        except OSError as error:
            said[f"{host} {port}"] = type(error).__name__
with urllib.request.urlopen(f"http://{hosts[0]}:{health}/healthz", timeout=5) as answer:
    said["health"] = answer.read().decode()
print(json.dumps(said))
"""


@contextlib.contextmanager
def _neighbour() -> Iterator[str]:
    """A network namespace that is joined to this one by a cable; its name. Ours is 10.237.N.1."""
    ip, number = shutil.which("ip"), os.getpid()
    if ip is None or os.geteuid() != 0:
        pytest.skip("network namespaces are made by root, with ip of iproute2")
    name, ours, theirs = f"wif-{number}", f"wifa{number}", f"wifb{number}"
    third = number % 250

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([ip, *words], capture_output=True, text=True, timeout=20, check=False)

    made = run("netns", "add", name)
    if made.returncode:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    try:
        cable = run("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        if cable.returncode:
            pytest.skip(f"no cable between network namespaces can be made here: {cable.stderr.strip()}")
        for words in (
            ("addr", "add", f"10.237.{third}.1/24", "dev", ours),
            ("link", "set", ours, "up"),
            ("-n", name, "addr", "add", f"10.237.{third}.2/24", "dev", theirs),
            ("-n", name, "link", "set", theirs, "up"),
            ("-n", name, "link", "set", "lo", "up"),
            ("-n", name, "route", "add", "default", "via", f"10.237.{third}.1"),
        ):
            done = run(*words)
            assert done.returncode == 0, done.stderr
        yield f"{name} 10.237.{third}.1"
    finally:
        run("link", "del", ours)
        run("netns", "del", name)


def test_another_pod_reaches_health_and_no_credential(sidecar: SidecarProcess) -> None:
    health = str(sidecar.place["health_url"]).rpartition(":")[2]
    with _neighbour() as place:
        name, ours = place.split()
        command = ["ip", "netns", "exec", name, sys.executable, "-c", FROM_THERE, str(sidecar.port), health, ours]
        done = subprocess.run(
            [*command, "127.0.0.1"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said[f"{ours} {sidecar.port}"] == "ConnectionRefusedError"
    assert said[f"127.0.0.1 {sidecar.port}"] == said[f"127.0.0.1 {health}"] == "ConnectionRefusedError"
    assert (said[f"{ours} {health}"], said["health"]) == ("connected", "ok\n")


# -- redirects -----------------------------------------------------------------------------------------------------


def test_no_answer_is_a_redirect(sidecar: SidecarProcess) -> None:
    for path in (
        "/",
        "/aws/",
        "/azure",
        "/azure/token/",
        "/computeMetadata",
        "/computeMetadata/v1",
        "/metadata",
        "//x",
    ):
        for headers in ({}, _headers(sidecar, "gce"), _headers(sidecar, "aws")):
            status, _ = sidecar.ask(path, headers)
            assert not 300 <= status < 400
            assert "location" not in sidecar.answered


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    visits: list[str] = []  # noqa: RUF012  # of the class: the server makes an object for each request

    def do_GET(self) -> None:
        self.visits.append(self.path)
        self.send_error(404)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_cloud_that_sends_elsewhere_gets_no_token_there(pod: LedPod, tmp_path: Path, status: int) -> None:
    _Elsewhere.visits.clear()
    server = http.server.HTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    elsewhere = {"Location": f"http://127.0.0.1:{server.server_port}/"}
    try:
        with (
            pod.emulator.faults.inject(status=status, headers=elsewhere) as fault,
            SidecarProcess(pod, tmp_path, _settings(pod), environment={"IDENTITY_HEADER": IDENTITY_HEADER}) as process,
        ):
            until(lambda: process.keys()[0] not in (200, 503) or fault.taken >= 3, what="an answer")
            for interface in TOKEN_PATHS:
                answered, body = process.ask(TOKEN_PATHS[interface], _headers(process, interface))
                assert answered in (403, 503)
                assert not CREDENTIAL.search(body.encode())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not _Elsewhere.visits


# -- clients that take more than is theirs -------------------------------------------------------------------------


def _require_good_service(process: SidecarProcess, seconds: float) -> None:
    """A good client, on a new connection each time, as SDKs' are: every read must succeed, and soon."""
    found: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        interface = list(TOKEN_PATHS)[len(found) % 4]
        began = time.monotonic()
        status, body = process.ask(TOKEN_PATHS[interface], _headers(process, interface), timeout=LONGEST_SECONDS)
        found.append(time.monotonic() - began)
        assert status == 200, body
        time.sleep(0.02)
    assert len(found) >= 4
    assert sorted(found)[len(found) * 3 // 4] < GOOD_CLIENT_SECONDS


def _is_served(process: SidecarProcess) -> bool:
    try:
        return process.ask("/aws", _headers(process, "aws"), timeout=LONGEST_SECONDS)[0] == 200
    except OSError:
        return False


def _resident_kib(process: SidecarProcess) -> int:
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1])


FLOOD = """
import socket, sys, time
port, seconds, text = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3].encode().decode("unicode_escape").encode()
ends, sent = time.monotonic() + seconds, 0
while time.monotonic() < ends:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            for _ in range(50):
                connection.sendall(text * 4)
                connection.recv(65536)
                sent += 4
    except OSError:
        pass
print(sent)
"""


def test_a_client_that_asks_without_end_starves_nobody(sidecar: SidecarProcess) -> None:
    wrong = f"GET /aws HTTP/1.1\\r\\nHost: 127.0.0.1:{sidecar.port}\\r\\nAuthorization: wrong\\r\\n\\r\\n"
    command = [sys.executable, "-c", FLOOD, str(sidecar.port), "4", wrong]
    mad = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        time.sleep(0.3)
        _require_good_service(sidecar, 3.0)
    finally:
        sent = [int(each.communicate(timeout=30)[0]) for each in mad]
    assert min(sent) > 1000


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("nothing", b""),
        ("half a head", b"GET /aws HTTP/1.1\r\nHost: localhost\r\n"),
        ("a request", b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a body that never comes", b"GET /x HTTP/1.1\r\nHost: nobody\r\nContent-Length: 1\r\n\r\n"),
        ("a long path", b"GET /" + b"a" * 8300 + b" HTTP/1.1\r\n"),
    ],
    ids=["nothing", "half a head", "a request", "a body that never comes", "a long path"],
)
def test_a_client_that_holds_every_connection_starves_nobody(sidecar: SidecarProcess, name: str, sent: bytes) -> None:
    """More than there is room for: the newest take the place of the idle, and who sends no head is soon cut."""
    with contextlib.ExitStack() as held:
        for _ in range(2400):
            try:
                connection = held.enter_context(socket.create_connection(("127.0.0.1", sidecar.port), timeout=5))
                connection.sendall(sent)
            except OSError:  # cut already
                continue
        until(lambda: _is_served(sidecar), what=f"a place beside who sends {name}", seconds=10.0)
        _require_good_service(sidecar, 1.0)


@pytest.mark.parametrize("sent", [b"Content-Length: 1\r\n\r\n", b"\r\n", b""], ids=["body", "whole", "half"])
def test_another_pod_that_holds_every_connection_of_health_hides_it_from_nobody(
    sidecar: SidecarProcess, sent: bytes
) -> None:
    """The kubelet would start the sidecar anew, and the application's containers never."""
    port = int(sidecar.place["health_url"].rpartition(":")[2])
    with contextlib.ExitStack() as held:
        for _ in range(200):
            with contextlib.suppress(OSError):  # cut already
                connection = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + sent)
        for _ in range(20):
            assert sidecar.health("/healthz")[0] == 200


def test_a_client_that_reads_no_answer_takes_no_memory(sidecar: SidecarProcess) -> None:
    request = _raw(sidecar, "aws", f"Host: 127.0.0.1:{sidecar.port}")
    before = _resident_kib(sidecar)
    with contextlib.ExitStack() as held:
        for _ in range(50):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", sidecar.port), timeout=5))
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                for _ in range(2000):
                    connection.send(request)
        _require_good_service(sidecar, 2.0)
        assert _resident_kib(sidecar) - before < 16 * 1024


def test_a_client_that_asks_for_ever_other_tokens_has_a_bounded_number(sidecar: SidecarProcess, pod: LedPod) -> None:
    with pod.emulator.faults.inject(cloud="azure", delay_seconds=0.001) as counted:
        answers: Mapping[int, int] = {}
        for number in range(80):
            path = f"/azure/token?api-version=2019-08-01&resource=api://other-{number}"
            status, _ = sidecar.ask(path, _headers(sidecar, "app-service"))
            answers = {**answers, status: answers.get(status, 0) + 1}
        assert 200 not in answers
        assert counted.taken <= 32
    _require_good_service(sidecar, 0.5)


def test_who_shares_a_credentials_file_reads_no_more_by_it_and_stops_nobody(pod: LedPod, tmp_path: Path) -> None:
    shared, whole = tmp_path / "shared", 1024 * 1024
    shared.mkdir()
    path = shared / "credentials"
    file = {"identity": "app", "kind": "aws-credentials", "path": str(path), "mode": 0o644}
    made = shared / "made"  # and put at the path at once: the sidecar may look at any moment
    waited: list[float] = []
    environment = {"IDENTITY_HEADER": IDENTITY_HEADER}
    settings = {"identities": {"app": aws(pod)}, "files": [file]}
    with SidecarProcess(pod, tmp_path, settings, environment=environment) as process:
        process.until_ready()
        for target in (str(pod.tokens / "aws"), "/proc/self/environ"):
            made.symlink_to(target)
            made.replace(path)
            until(lambda: process.health("/readyz")[0] == 503, what="that it is told")
            assert path.is_symlink()
            path.unlink()
            until(lambda: process.health("/readyz")[0] == 200, what="the file")
            held = path.read_text()
            assert (pod.tokens / "aws").read_text().strip() not in held
            assert IDENTITY_HEADER not in held
        assert "is a symbolic link, which is not followed" in process.until_logged("credentials is not renewed")

        def is_alive() -> bool:
            began = time.monotonic()
            status, _ = process.health("/healthz")
            waited.append(time.monotonic() - began)
            return status == 200

        for unit in ("\n", " \n", "[x]\n"):
            made.write_text(unit * (whole // len(unit)))
            made.replace(path)
            until(lambda: is_alive() and "written by wif" in path.read_text(), what="the profile in it")
        assert max(waited) < LONGEST_SECONDS
