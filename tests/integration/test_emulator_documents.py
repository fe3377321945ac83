"""How the local STS reads issuers' documents over the network: whom it asks, and what it does not put up with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.emulator_requests import Client, store_for, trust_in
from tests.integration.hostile import Behaviour, HostileServer, Peer, answering, drip, flood, http_answer, raw, silent
from wif.emulator import Authority, Emulator, Faults, LocalCluster, TrustStore
from wif.emulator.verification import MAX_DOCUMENT_BYTES, REFETCHES

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as authority:
        yield authority


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def cluster(authority: Authority, faults: Faults) -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        cluster.serve(authority, faults=faults)
        yield cluster


def paths(cluster: LocalCluster) -> list[str]:
    return [request.path for request in cluster.requests]


def test_documents_are_fetched_once_for_three_clouds(authority: Authority, cluster: LocalCluster) -> None:
    with Emulator(trust=store_for(cluster.issuer), authority=authority) as emulator:
        client = Client(emulator)
        assert client.all(cluster) == client.all(cluster) == [200, 200, 200]
    assert paths(cluster) == ["/.well-known/openid-configuration", "/openid/v1/jwks"]


def test_an_issuer_that_nobody_trusts_is_never_asked(authority: Authority, cluster: LocalCluster) -> None:
    with Emulator(trust=store_for("https://other.example.com"), authority=authority) as emulator:
        assert Client(emulator).all(cluster) == [400, 400, 401]
    assert not paths(cluster)


def test_a_token_of_another_subject_is_not_asked_for_at_azure(authority: Authority, cluster: LocalCluster) -> None:
    with Emulator(trust=store_for(cluster.issuer), authority=authority) as emulator:
        assert Client(emulator).azure(cluster, sub="system:serviceaccount:other:app").status == 401
    assert not paths(cluster)


def test_a_rotated_key_works_at_once_and_a_flood_of_keys_is_bounded(
    authority: Authority, cluster: LocalCluster
) -> None:
    with Emulator(trust=store_for(cluster.issuer), authority=authority) as emulator:
        client = Client(emulator)
        assert client.all(cluster) == [200, 200, 200]
        cluster.rotate()
        assert client.all(cluster) == [200, 200, 200]
        before = len(paths(cluster))
        stranger = LocalCluster(issuer=cluster.issuer)
        for _ in range(20):
            stranger.rotate()
            assert client.aws(stranger).status == 400
        assert len(paths(cluster)) - before <= 2 * REFETCHES
        assert client.aws(cluster).status == 200


def test_the_environments_proxy_is_not_used(
    authority: Authority, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    with Emulator(trust=store_for(cluster.issuer), authority=authority) as emulator:
        # the client has no proxy either: urllib3 reads no environment
        assert Client(emulator).all(cluster) == [200, 200, 200]


def test_documents_of_another_server(authority: Authority, cluster: LocalCluster) -> None:
    """A cluster whose issuer cannot be reached by its name: its API server's address is given."""
    inner = "https://kubernetes.default.svc.cluster.local"
    with LocalCluster(issuer=inner) as private:
        url = private.serve(authority)
        with Emulator(trust=store_for(inner), authority=authority, issuer_documents={inner: url}) as emulator:
            assert Client(emulator).all(private) == [200, 200, 200]


def test_documents_of_a_directory(authority: Authority, tmp_path: Path) -> None:
    issuer = "https://oidc.example.com/clusters/a"
    cluster = LocalCluster(issuer=issuer)
    cluster.write(tmp_path)
    with Emulator(trust=store_for(issuer), authority=authority, issuer_documents={issuer: tmp_path}) as emulator:
        client = Client(emulator)
        assert client.all(cluster) == [200, 200, 200]
        assert emulator.notes.count == 0
        cluster.rotate()
        emulator.forget_documents()
        assert client.all(cluster) == [400, 400, 401]


def test_plain_http_passes_with_a_note(authority: Authority, cluster: LocalCluster) -> None:
    clusters: list[LocalCluster] = []
    with HostileServer(lambda peer: documents(peer, clusters[0]), tls=False) as server:
        other = LocalCluster(issuer=server.url)
        clusters.append(other)
        trusted = trust_in(server.url)
        for provider in trusted["aws"]["OpenIDConnectProviders"]:
            provider["Url"] = server.url
        with Emulator(trust=TrustStore.from_mapping(trusted), authority=authority) as emulator:
            assert Client(emulator).all(other) == [200, 200, 200]
            texts = {note.text for note in emulator.notes.recent}
        assert f"Azure itself would have refused: the issuer {server.url} is plain http" in texts


def documents(peer: Peer, cluster: LocalCluster) -> None:
    """Serve a cluster's documents."""
    while True:
        request = peer.read_request()
        document = cluster.discovery_document if "openid-configuration" in request.target else cluster.jwks
        peer.send(http_answer(json.dumps(document).encode()))


def test_an_untrusted_certificate(authority: Authority) -> None:
    with HostileServer(answering()) as server:
        cluster = LocalCluster(issuer=server.url)
        with Emulator(trust=store_for(server.url), authority=authority) as emulator:
            assert Client(emulator).all(cluster) == [400, 400, 400]
        assert not server.received


def test_further_authorities_are_trusted_where_they_are_given(authority: Authority) -> None:
    clusters: list[LocalCluster] = []
    with HostileServer(lambda peer: documents(peer, clusters[0])) as server:
        private = LocalCluster(issuer=server.url)
        clusters.append(private)
        with Emulator(trust=store_for(server.url), authority=authority, issuer_ca_files=[server.ca_file]) as emulator:
            assert Client(emulator).all(private) == [200, 200, 200]


@pytest.mark.parametrize(
    "behaviour",
    [
        raw(b""),
        raw(b"SSH-2.0-x\r\n"),
        raw(http_answer(b"<html>", status="503 Unavailable")),
        raw(http_answer(b"", status="302 Found", headers={"Location": "https://localhost:1/"})),
        raw(http_answer(b"<html></html>")),
        raw(http_answer(b"{}")),
        raw(http_answer(b'{"issuer": "')),
        raw(http_answer(b"x" * (MAX_DOCUMENT_BYTES + 1))),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}"),
        flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1024),
        flood(b"HTTP/1.1 200 OK\r\n", b"X-Header: y\r\n"),
    ],
    ids=[
        "nothing",
        "not-http",
        "503",
        "redirect",
        "html",
        "empty-object",
        "cut-json",
        "too-large",
        "cut-body",
        "endless-body",
        "endless-headers",
    ],
)
def test_answers_of_no_use(authority: Authority, behaviour: Behaviour) -> None:
    with HostileServer(behaviour) as server:
        cluster = LocalCluster(issuer=server.url)
        with Emulator(trust=store_for(server.url), authority=authority, issuer_ca_files=[server.ca_file]) as emulator:
            client = Client(emulator)
            answer = client.aws(cluster)
            assert b"Couldn't retrieve verification key from your identity provider,  please" in answer.data
            assert "issuer" in client.gcp(cluster).json()["error_description"]
            assert client.azure(cluster).json()["error_codes"][0] in (50166, 501661)


@pytest.mark.parametrize(
    "behaviour",
    [
        silent,
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n", pause_seconds=0.3),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" ", pause_seconds=0.3),
    ],
    ids=["silent", "continues", "dripped-headers", "dripped-body"],
)
def test_slow_servers_end_at_the_deadline(authority: Authority, behaviour: Behaviour) -> None:
    with HostileServer(behaviour) as server:
        cluster = LocalCluster(issuer=server.url)
        with Emulator(
            trust=store_for(server.url),
            authority=authority,
            issuer_ca_files=[server.ca_file],
            documents_fetch_seconds=1.0,
        ) as emulator:
            client = Client(emulator)
            began = time.monotonic()
            assert client.azure(cluster).json()["error_codes"] == [90061]
            assert 0.8 < time.monotonic() - began < 4
            # and meanwhile others are served
            assert client.http.request("GET", f"{emulator.url}/oauth2/v3/certs").status == 200


def test_a_source_that_recovers(authority: Authority, cluster: LocalCluster, faults: Faults) -> None:
    with Emulator(trust=store_for(cluster.issuer), authority=authority) as emulator:
        client = Client(emulator)
        with faults.inject(cloud="issuer", operation="jwks", status=500):
            assert client.all(cluster) == [400, 400, 400]
        assert client.all(cluster) == [200, 200, 200]


def test_private_issuers_can_be_refused(authority: Authority, cluster: LocalCluster) -> None:
    with Emulator(trust=store_for(cluster.issuer), authority=authority, allow_local_issuers=False) as emulator:
        client = Client(emulator)
        assert client.all(cluster) == [400, 400, 400]
        assert client.azure(cluster).json()["error_codes"] == [70022]
    assert not paths(cluster)


@pytest.mark.parametrize("fits", [True, False])
def test_thumbprints(authority: Authority, cluster: LocalCluster, fits: bool) -> None:
    import hashlib
    import ssl

    authority_print = hashlib.sha1(
        ssl.PEM_cert_to_DER_cert(authority.ca_pem.decode()), usedforsecurity=False
    ).hexdigest()
    trusted: dict[str, Any] = trust_in(cluster.issuer)
    trusted["aws"]["OpenIDConnectProviders"][0]["ThumbprintList"] = [authority_print.upper() if fits else "0" * 40]
    with Emulator(trust=TrustStore.from_mapping(trusted), authority=authority) as emulator:
        answer = Client(emulator).aws(cluster)
    if fits:
        assert answer.status == 200
    else:
        assert answer.status == 400
        assert (
            b"<Message>OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint</Message>"
            in answer.data
        )
