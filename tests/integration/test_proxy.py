"""The proxy over real sockets and TLS: who is led to the listener, who is refused, and that nothing stays open."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from wif.emulator.authority import Authority
from wif.emulator.proxy import Decision, Proxy, ProxyLimits, admitted, environment
from wif.emulator.publication import Document, Publication

pytestmark = pytest.mark.integration

BODY = b"local" * 200_000


def find(path: str) -> Document | None:
    body = BODY if path == "/large" else b"here"
    return Document(operation="test", body=body, content_type="text/plain", cache_control="no-store")


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as made:
        yield made


@pytest.fixture(scope="module")
def target(authority: Authority) -> Iterator[tuple[str, int]]:
    publication = Publication(authority.server_context(admitted=admitted), find)
    yield "127.0.0.1", int(publication.url.rsplit(":", 1)[1])
    publication.stop()


@pytest.fixture
def proxy(target: tuple[str, int]) -> Iterator[Proxy]:
    with Proxy(target=target) as made:
        yield made


def port_of(proxy: Proxy) -> int:
    return int(proxy.url.rsplit(":", 1)[1])


def raw(proxy: Proxy, request: bytes, *, timeout: float = 5.0) -> bytes:
    """What the proxy answers to these bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", port_of(proxy)), timeout=timeout) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


# -- what is led to the local STS --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["sts.amazonaws.com", "sts.eu-west-1.amazonaws.com", "sts.googleapis.com", "login.microsoftonline.com"]
)
def test_a_clouds_host_is_the_local_sts(authority: Authority, proxy: Proxy, host: str) -> None:
    context = authority.client_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with urllib3.ProxyManager(proxy.url, ssl_context=context) as client:
        answer = client.request("GET", f"https://{host}/", retries=False)
    assert (answer.status, answer.data, answer.headers["X-Wif-Local-STS"]) == (200, b"here", "1")
    assert proxy.decisions == (Decision(target=f"{host}:443", status=200, reason=""),)


def test_large_answers_and_many_requests_of_one_tunnel(authority: Authority, proxy: Proxy) -> None:
    with urllib3.ProxyManager(proxy.url, ssl_context=authority.client_context()) as client:
        for _ in range(5):
            assert client.request("GET", "https://sts.amazonaws.com/large", retries=False).data == BODY
    assert len(proxy.decisions) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_listener_itself_is_admitted(
    authority: Authority, proxy: Proxy, target: tuple[str, int], host: str
) -> None:
    with urllib3.ProxyManager(proxy.url, ssl_context=authority.client_context()) as client:
        assert client.request("GET", f"https://{host}:{target[1]}/", retries=False).data == b"here"


def test_bytes_sent_along_with_connect_arrive(proxy: Proxy, authority: Authority) -> None:
    """A client may send its ClientHello without waiting for the answer to CONNECT."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="sts.amazonaws.com")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with socket.create_connection(("127.0.0.1", port_of(proxy)), timeout=5) as connection:
        connection.sendall(b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\n\r\n" + outgoing.read())
        answer = b""
        while len(answer) < 200:
            answer += connection.recv(65536)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 Connection established"
    assert rest[:1] == b"\x16"  # a TLS handshake record


def test_forty_tunnels_at_once(authority: Authority, proxy: Proxy) -> None:
    answers = []

    def ask() -> None:
        with urllib3.ProxyManager(proxy.url, ssl_context=authority.client_context()) as client:
            answers.append(client.request("GET", "https://sts.amazonaws.com/large", retries=False).data == BODY)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 40


# -- what is refused ---------------------------------------------------------------------------------------

REFUSED = [
    ("CONNECT sts.amazonaws.com.evil.example:443", 403, "sts.amazonaws.com.evil.example is not a token service"),
    ("CONNECT x.execute-api.us-east-1.amazonaws.com:443", 403, "is not a token service of AWS, GCP or Azure"),
    ("CONNECT 169.254.169.254:443", 403, "169.254.169.254 is not a token service"),
    ("CONNECT sts.amazonaws.com:80", 403, "sts.amazonaws.com is admitted on port 443 only"),
    ("CONNECT localhost:22", 403, "of this machine only the local STS itself is admitted"),
    ("CONNECT [::1]:22", 403, "of this machine only the local STS itself is admitted"),
    ("CONNECT 127.0.0.2:443", 403, "127.0.0.2 is not a token service"),
    ("CONNECT sts.amazonaws.com", 400, "CONNECT wants host:port"),
    ("CONNECT sts.amazonaws.com:443@evil.example", 400, "CONNECT wants host:port"),
    ("CONNECT user@sts.amazonaws.com:443", 400, "CONNECT wants host:port"),
    ("CONNECT https://sts.amazonaws.com:443", 400, "CONNECT wants host:port"),
    ("GET http://sts.amazonaws.com/", 403, "plain http is not forwarded"),
    ("POST HTTP://169.254.169.254/latest", 403, "plain http is not forwarded"),
    ("GET /", 405, "only CONNECT is served here"),
    ("GET https://sts.amazonaws.com/", 405, "only CONNECT is served here"),
    ("connect sts.amazonaws.com:443", 400, "this is not an HTTP/1.1 request"),
    ("CONNECT  sts.amazonaws.com:443", 400, "this is not an HTTP/1.1 request"),
    ("CONNECT sts.amazonaws.com\t:443", 400, "this is not an HTTP/1.1 request"),
    ("CONNECT sts.amazonaws.com:443 HTTP/1.1 HTTP/1.1", 400, "this is not an HTTP/1.1 request"),
    ("CONNECT sts.amazonaws.com:443 HTTP/2", 400, "this is not an HTTP/1.1 request"),
    ("\x16\x03\x01\x02", 400, "this is not an HTTP/1.1 request"),
]


@pytest.mark.parametrize(("line", "status", "reason"), REFUSED)
def test_everything_else_is_refused_with_a_reason(proxy: Proxy, line: str, status: int, reason: str) -> None:
    version = "" if "HTTP/" in line[8:] or line.startswith("\x16") else " HTTP/1.1"
    answer = raw(proxy, f"{line}{version}\r\nHost: sts.amazonaws.com\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"Allow: CONNECT" in head) == (status == 405)
    assert b"X-Wif-Local-STS: 1" in head
    assert reason in body.decode()
    assert f"Content-Length: {len(body)}".encode() in head
    assert [(decision.status, reason in decision.reason) for decision in proxy.decisions] == [(status, True)]


def test_decisions_are_told_as_they_fall(target: tuple[str, int]) -> None:
    told: list[Decision] = []
    with Proxy(target=target, on_decision=told.append) as proxy:
        raw(proxy, b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n")
    assert [decision.target for decision in told] == ["evil.example:443"]


def test_headers_are_bounded(proxy: Proxy) -> None:
    answer = raw(proxy, b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\nX: " + b"x" * 20_000)
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_request_has_a_time_limit(target: tuple[str, int]) -> None:
    with Proxy(target=target, limits=ProxyLimits(head_seconds=0.2)) as proxy:
        start = time.monotonic()
        answer = raw(proxy, b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - start < 5


def test_an_idle_tunnel_ends(target: tuple[str, int]) -> None:
    with Proxy(target=target, limits=ProxyLimits(idle_seconds=0.2)) as proxy:
        answer = raw(proxy, b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\n\r\n")
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_a_tunnel_that_is_used_stays(authority: Authority, target: tuple[str, int]) -> None:
    with (
        Proxy(target=target, limits=ProxyLimits(idle_seconds=1.0)) as proxy,
        urllib3.ProxyManager(proxy.url, ssl_context=authority.client_context()) as client,
    ):
        for _ in range(6):
            assert client.request("GET", "https://sts.amazonaws.com/", retries=False).data == b"here"
            time.sleep(0.3)
        assert len(proxy.decisions) == 1


def test_the_number_of_tunnels_is_bounded(target: tuple[str, int]) -> None:
    with (
        Proxy(target=target, limits=ProxyLimits(tunnels=1)) as proxy,
        socket.create_connection(("127.0.0.1", port_of(proxy)), timeout=5) as first,
    ):
        first.sendall(b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
        assert raw(proxy, b"").startswith(b"HTTP/1.1 503 ")


def test_a_listener_that_is_gone_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with Proxy(target=taken.getsockname()) as proxy:
            answer = raw(proxy, b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"the local STS does not listen" in answer


def test_a_client_that_goes_away_harms_nobody(authority: Authority, proxy: Proxy) -> None:
    for sent in (b"", b"CONN", b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\n\r\n\x16"):
        with socket.create_connection(("127.0.0.1", port_of(proxy)), timeout=5) as connection:
            connection.sendall(sent)
    with urllib3.ProxyManager(proxy.url, ssl_context=authority.client_context()) as client:
        assert client.request("GET", "https://sts.amazonaws.com/", retries=False).data == b"here"


# -- start and stop ----------------------------------------------------------------------------------------


def test_stop_closes_the_port_the_tunnels_and_the_thread(target: tuple[str, int]) -> None:
    proxy = Proxy(target=target)
    port = int(proxy.start().rsplit(":", 1)[1])
    assert proxy.start() == proxy.url
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        proxy.stop()
        proxy.stop()
        assert connection.recv(100) == b""
    assert "wif-proxy" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_it_listens_on_loopback_only(proxy: Proxy) -> None:
    with socket.socket() as other:  # the port is free on every other address of this machine
        other.bind(("127.0.0.2", port_of(proxy)))


# -- unmodified programs, led by nothing but their environment ------------------------------------------------


def led(proxy: Proxy, authority: Authority, home: Path) -> dict[str, str]:
    block = environment(proxy.url, authority.ca_file, {})
    return {"PATH": os.environ["PATH"], "HOME": str(home), **block.variables}


def pythons() -> list[str]:
    """Every Python from 3.11 on that starts: a name on PATH may be a shim of a version that is not selected."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = []
    for minor in range(11, 16):
        named = shutil.which(f"python3.{minor}")
        kept = sorted(root.glob(f"versions/3.{minor}.*/bin/python3.{minor}"))
        for candidate in [*([named] if named else []), *map(str, kept)]:
            if subprocess.run([candidate, "-c", ""], capture_output=True, timeout=60).returncode == 0:
                found.append(candidate)
                break
    return found


@pytest.mark.parametrize("python", pythons(), ids=lambda path: Path(path).name)
def test_every_installed_python_trusts_it_by_its_own_defaults(
    proxy: Proxy, authority: Authority, tmp_path: Path, python: str
) -> None:
    """Python 3.13 and later verify with VERIFY_X509_STRICT."""
    script = (
        "import urllib.request\n"
        "for host in ('sts.eu-west-1.amazonaws.com', 'sts.googleapis.com', 'login.microsoftonline.com'):\n"
        "    print(urllib.request.urlopen(f'https://{host}/', timeout=10).read().decode())\n"
    )
    done = subprocess.run(
        [python, "-I", "-c", script], env=led(proxy, authority, tmp_path), capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("here\n" * 3, "")


def test_requests_and_curl_too(proxy: Proxy, authority: Authority, tmp_path: Path) -> None:
    commands = [
        [sys.executable, "-c", "import requests; print(requests.get('https://sts.amazonaws.com/').text, end='')"]
    ]
    if curl := shutil.which("curl"):
        commands.append([curl, "--silent", "--show-error", "https://sts.amazonaws.com/"])
    for command in commands:
        done = subprocess.run(
            command, env=led(proxy, authority, tmp_path), capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.stderr) == ("here", "")


def test_a_host_that_is_not_a_clouds_never_leaves_the_machine(
    proxy: Proxy, authority: Authority, tmp_path: Path
) -> None:
    script = "import requests; requests.get('https://evil.example/', timeout=5)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=led(proxy, authority, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "403" in done.stderr
    assert [decision.target for decision in proxy.decisions] == ["evil.example:443"]
