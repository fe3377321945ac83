"""The local cluster's documents over real TLS: as kube-apiserver serves them, with faults, and never in the way."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
import urllib3

from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH, encode_document
from wif.emulator.authority import Authority
from wif.emulator.cluster import LocalCluster
from wif.emulator.faults import CutPoint, Faults

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as made:
        yield made


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def cluster(authority: Authority, faults: Faults) -> Iterator[LocalCluster]:
    with LocalCluster(algorithm="ES256") as made:
        made.serve(authority, faults=faults)
        yield made


@pytest.fixture
def client(authority: Authority) -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(ssl_context=authority.client_context(), retries=False) as made:
        yield made


def test_its_address_becomes_the_issuer(cluster: LocalCluster, authority: Authority) -> None:
    assert cluster.issuer.startswith("https://localhost:")
    assert cluster.serve(authority) == cluster.issuer
    cluster.stop()
    assert cluster.mint("n", "s", "a")


def test_a_given_issuer_stays(authority: Authority, client: urllib3.PoolManager) -> None:
    with LocalCluster("https://oidc.example.com/a", algorithm="ES256") as cluster:
        url = cluster.serve(authority)
        said = client.request("GET", url + DISCOVERY_PATH).json()
    assert said["issuer"] == "https://oidc.example.com/a"
    assert said["jwks_uri"] == "https://oidc.example.com/a/openid/v1/jwks"


def test_documents_and_headers_are_those_of_kube_apiserver(cluster: LocalCluster, client: urllib3.PoolManager) -> None:
    for path, kind, content in (
        (DISCOVERY_PATH, "application/json", cluster.discovery_document),
        (JWKS_PATH, "application/jwk-set+json", cluster.jwks),
    ):
        answer = client.request("GET", cluster.issuer + path)
        assert (answer.status, answer.data) == (200, encode_document(content))
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Cache-Control"] == "public, max-age=3600"
        head = client.request("HEAD", cluster.issuer + path)
        assert (head.status, head.data, head.headers["Content-Length"]) == (200, b"", str(len(answer.data)))
    assert [(request.method, request.path, request.status) for request in cluster.requests] == [
        (method, path, 200) for path in (DISCOVERY_PATH, JWKS_PATH) for method in ("GET", "HEAD")
    ]


@pytest.mark.parametrize("path", ["/", "/openid/v1/jwks/", "/.well-known/", "/openid/v1/jwks?x", "/../etc/passwd"])
def test_nothing_else_is_there(cluster: LocalCluster, client: urllib3.PoolManager, path: str) -> None:
    host, _, port = cluster.issuer.removeprefix("https://").partition(":")
    connection = http.client.HTTPSConnection(
        host, int(port), context=client.connection_pool_kw["ssl_context"], timeout=5
    )
    with contextlib.closing(connection):
        connection.request("GET", path)
        assert connection.getresponse().status == 404


def test_other_methods_are_refused(cluster: LocalCluster, client: urllib3.PoolManager) -> None:
    assert client.request("POST", cluster.issuer + JWKS_PATH, body=b"{}").status == 501


def test_a_rotation_shows_at_once(cluster: LocalCluster, client: urllib3.PoolManager) -> None:
    kid = cluster.rotate()
    published = client.request("GET", cluster.issuer + JWKS_PATH).json()
    assert kid in [jwk["kid"] for jwk in published["keys"]]


def test_faults_hit_the_document_they_name(cluster: LocalCluster, client: urllib3.PoolManager, faults: Faults) -> None:
    faults.inject(cloud="issuer", operation="jwks", status=503, body=b"later", headers={"Retry-After": "1"}, times=1)
    assert client.request("GET", cluster.issuer + DISCOVERY_PATH).status == 200
    answer = client.request("GET", cluster.issuer + JWKS_PATH)
    assert (answer.status, answer.data, answer.headers["Retry-After"]) == (503, b"later", "1")
    assert client.request("GET", cluster.issuer + JWKS_PATH).status == 200


def test_a_delay_delays(cluster: LocalCluster, client: urllib3.PoolManager, faults: Faults) -> None:
    faults.inject(cloud="issuer", delay_seconds=0.3, times=1)
    start = time.monotonic()
    assert client.request("GET", cluster.issuer + JWKS_PATH).status == 200
    assert time.monotonic() - start >= 0.3


def raw(cluster: LocalCluster, context: ssl.SSLContext, path: str, connection_header: str = "close") -> bytes:
    """All bytes of an answer until the server ends the connection."""
    port = int(cluster.issuer.rsplit(":", 1)[1])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=True) as connection,
    ):
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection_header}\r\n\r\n".encode()
        )
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


@pytest.mark.parametrize("cut", ["before-answer", "headers", "body"])
def test_a_connection_is_cut_where_it_was_asked(
    cluster: LocalCluster, authority: Authority, faults: Faults, cut: CutPoint
) -> None:
    context = authority.client_context()
    whole = raw(cluster, context, JWKS_PATH)
    head_bytes = whole.index(b"\r\n\r\n") + 4
    with faults.inject(cloud="issuer", cut=cut):
        came = raw(cluster, context, JWKS_PATH, "keep-alive")
    assert whole.startswith(came)
    low, high = {"before-answer": (0, 0), "headers": (1, head_bytes - 1), "body": (head_bytes + 1, len(whole) - 1)}[cut]
    assert low <= len(came) <= high
    assert raw(cluster, context, JWKS_PATH) == whole


def test_a_client_without_the_authority_refuses_it(cluster: LocalCluster) -> None:
    with (
        urllib3.PoolManager(ssl_context=ssl.create_default_context(), retries=False) as other,
        pytest.raises(urllib3.exceptions.SSLError),
    ):
        other.request("GET", cluster.issuer + JWKS_PATH)


def test_a_client_that_never_finishes_its_handshake_holds_up_nobody(
    cluster: LocalCluster, client: urllib3.PoolManager
) -> None:
    port = int(cluster.issuer.rsplit(":", 1)[1])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    start = time.monotonic()
    assert client.request("GET", cluster.issuer + JWKS_PATH).status == 200
    assert time.monotonic() - start < 5
    for connection in silent:
        connection.close()


def test_stop_closes_the_port_and_ends_the_accepting_thread(authority: Authority) -> None:
    cluster = LocalCluster(algorithm="ES256")
    port = int(cluster.serve(authority).rsplit(":", 1)[1])
    cluster.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert "wif-publication" not in {thread.name for thread in threading.enumerate()}
