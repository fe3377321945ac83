"""An issuer looked at from outside, over real TLS: what passes, and what each thing that goes wrong is called."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.integration.hostile import Behaviour, HostileServer, Peer, connect_proxy, drip, flood, http_answer, silent
from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH, discovery_document, encode_document
from wif.core.public_keys import IssuerKey, key_set_bytes
from wif.emulator.authority import Authority
from wif.emulator.cluster import LocalCluster
from wif.emulator.faults import Faults
from wif.errors import WifError
from wif.issuer.verify import VerifyReport, verify, verify_key_set

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

HARMLESS = {"public-address", "public-authority", "issuer-internal-host", "jwks-internal-host"}
"""Told of every issuer on loopback with an authority of its own; the port too, see :func:`failed`."""


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


def keys_of(cluster: LocalCluster) -> list[IssuerKey]:
    return [IssuerKey.from_jwk(jwk) for jwk in cluster.jwks["keys"]]


def look(cluster: LocalCluster, authority: Authority, **settings: Any) -> VerifyReport:
    return verify_here(cluster.issuer, authority.ca_file, **{"expected": keys_of(cluster), **settings})


def verify_here(issuer: str, ca_file: Path, **settings: Any) -> VerifyReport:
    usual = {"clouds": ("gcp",), "allow_private": True, "environ": {}, "pause_seconds": 0.05, "max_seconds": 2.0}
    return verify(issuer, ca_file=str(ca_file), **{**usual, **settings})


def failed(report: VerifyReport) -> dict[str, str]:
    return {check.name: check.level for check in report.failed if check.name not in HARMLESS}


# -- a good issuer ----------------------------------------------------------------------------------------------------


def test_a_good_issuer_passes_every_check(cluster: LocalCluster, authority: Authority) -> None:
    token = cluster.mint("n", "s", "urn:wif:probe")
    report = look(
        cluster,
        authority,
        token=token,
        audience_refused=True,
        jwks_uris=[cluster.issuer + JWKS_PATH],
    )
    assert failed(report) == {}
    assert (report.ok, report.has_tampering, report.exit_status) == (True, False, 0)
    assert report.key_ids == tuple(key.key_id for key in keys_of(cluster))
    assert report.jwks_uri == cluster.issuer + JWKS_PATH
    assert (report.max_age_seconds, report.age_seconds) == (3600, None)
    passed = {check.name for check in report.checks if check.ok}
    assert {
        "discovery",
        "discovery-content-type",
        "discovery-issuer",
        "jwks-uri",
        "jwks",
        "jwks-content-type",
        "keys-readable",
        "keys-expected",
        "keys-unknown",
        "keys-altered",
        "token-issuer",
        "token-signature",
        "audience-refused",
    } <= passed
    assert all(check.seconds is not None for check in report.checks if check.name in ("discovery", "jwks"))


def test_it_asks_as_a_relying_party_does(cluster: LocalCluster, authority: Authority) -> None:
    look(cluster, authority)
    asked = [(request.method, request.path) for request in cluster.requests]
    assert asked == [("GET", DISCOVERY_PATH), ("GET", JWKS_PATH)]


def test_an_issuer_that_ends_in_a_slash(authority: Authority) -> None:
    with served({}) as server:
        issuer = server.url + "/"
        answers(server, issuer, [KEY])
        assert failed(verify_here(issuer, server.ca_file, expected=[KEY])) == {}
        assert failed(verify_here(server.url, server.ca_file, expected=[KEY])) == {
            "discovery-issuer": "error",
            "jwks": "error",
        }


# -- documents --------------------------------------------------------------------------------------------------------


class Site:
    """Paths and what they answer; changed while it serves."""

    def __init__(self, pages: Mapping[str, bytes]) -> None:
        self.pages = dict(pages)

    def __call__(self, peer: Peer) -> None:
        while True:
            request = peer.read_request()
            peer.send(self.pages.get(request.target, http_answer(b"no", status="404 Not Found")))


def served(pages: Mapping[str, bytes], **settings: Any) -> HostileServer:
    return HostileServer(Site(pages), farewell=True, **settings)


def site_of(server: HostileServer) -> Site:
    behaviour: Any = server._behaviour
    assert isinstance(behaviour, Site)
    return behaviour


def new_key(key_id: str | None = None) -> IssuerKey:
    with LocalCluster("https://x.example", algorithm="ES256") as made:
        return IssuerKey.from_public_key(made.signing_key.private_key.public_key(), key_id)


KEY, OTHER = new_key(), new_key()
CACHED = {"Cache-Control": "public, max-age=300"}


def answers(
    server: HostileServer,
    issuer: str,
    keys: list[IssuerKey],
    *,
    jwks_uri: str | None = None,
    says: str | None = None,
    headers: Mapping[str, str] = CACHED,
) -> None:
    uri = jwks_uri or server.url + JWKS_PATH
    discovery = encode_document(discovery_document(says or issuer, uri, ["ES256"]))
    site_of(server).pages |= {
        DISCOVERY_PATH: http_answer(discovery, headers=headers),
        JWKS_PATH: http_answer(key_set_bytes(keys), headers=headers),
    }


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with served({}) as made:
        answers(made, made.url, [KEY])
        yield made


def looked(server: HostileServer, **settings: Any) -> VerifyReport:
    return verify_here(server.url, server.ca_file, **{"expected": [KEY], **settings})


def test_another_issuer_by_a_slash_is_named_as_that(server: HostileServer) -> None:
    answers(server, server.url, [KEY], says=server.url + "/")
    report = looked(server)
    assert failed(report) == {"discovery-issuer": "error", "jwks": "error"}
    assert any("slash at the end" in check.detail for check in report.failed)
    assert report.exit_status == 1
    assert failed(looked(server, jwks_uris=[server.url + JWKS_PATH])) == {"discovery-issuer": "error"}


def test_another_issuer_is_not_taken_for_a_slash(server: HostileServer) -> None:
    answers(server, server.url, [KEY], says="https://other.example")
    assert not any("slash at the end" in check.detail for check in looked(server).failed)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"issuer":1}', b"{}", b"\xff"])
def test_what_is_no_discovery_document(server: HostileServer, body: bytes) -> None:
    site_of(server).pages[DISCOVERY_PATH] = http_answer(body)
    assert failed(looked(server)) == {"discovery-document": "error", "jwks": "error"}


def test_a_changed_jwks_uri_is_tampering_and_is_not_fetched(server: HostileServer) -> None:
    with served({JWKS_PATH: http_answer(key_set_bytes([OTHER]))}) as evil:
        answers(server, server.url, [KEY], jwks_uri=evil.url + JWKS_PATH)
        report = looked(server, jwks_uris=[server.url + JWKS_PATH], expected=[KEY])
        assert evil.received == []
    assert failed(report)["jwks-uri"] == "tampering"
    assert report.has_tampering
    assert report.exit_status == 3
    assert report.jwks_uri == evil.url + JWKS_PATH
    assert report.key_ids == (KEY.key_id,), "the known address is looked at all the same"


def test_an_earlier_jwks_uri_of_the_state_is_allowed(server: HostileServer) -> None:
    report = looked(server, jwks_uris=["https://new.example/keys", server.url + JWKS_PATH])
    assert failed(report) == {}


@pytest.mark.parametrize("uri", ["http://example.com/jwks", "http://localhost:1/jwks", "ftp://x/y", "https://", "jwks"])
def test_a_jwks_uri_that_is_not_https_is_refused(server: HostileServer, uri: str) -> None:
    answers(server, server.url, [KEY], jwks_uri=uri)
    assert failed(looked(server)) == {"discovery-document": "error", "jwks": "error"}


def test_plain_http_is_for_loopback_and_only_where_it_is_allowed() -> None:
    with served({}, tls=False) as plain:
        answers(plain, plain.url, [KEY])
        report = looked(plain, allow_http=True)
        assert {name for name, level in failed(report).items() if level != "warning"} == set()
        with pytest.raises(WifError) as caught:
            looked(plain)
        assert caught.value.code == "issuer-invalid"
        assert plain.received[2:] == []
        answers(plain, plain.url, [KEY], jwks_uri="http://example.com/jwks")
        assert failed(looked(plain, allow_http=True))["jwks"] == "error"
        with pytest.raises(WifError) as caught:
            verify_here("http://example.com", plain.ca_file, allow_http=True)
        assert caught.value.code == "issuer-invalid"


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_foreign_key_is_tampering(cluster: LocalCluster, authority: Authority) -> None:
    expected = keys_of(cluster)
    foreign = cluster.stage_key(algorithm="ES256")
    report = look(cluster, authority, expected=expected)
    assert failed(report) == {"keys-unknown": "tampering"}
    assert (report.unknown, report.exit_status) == ((foreign,), 3)


def test_an_altered_key_is_tampering(server: HostileServer) -> None:
    answers(server, server.url, [IssuerKey.from_jwk({**OTHER.jwk, "kid": KEY.key_id})])
    report = looked(server)
    assert failed(report) == {"keys-altered": "tampering"}
    assert report.altered == (KEY.key_id,)


def test_a_missing_key_is_drift_and_the_cache_is_named(server: HostileServer) -> None:
    answers(server, server.url, [KEY], headers={**CACHED, "Age": "240"})
    report = looked(server, expected=[KEY, OTHER])
    assert failed(report) == {"keys-expected": "drift"}
    assert (report.missing, report.exit_status, report.age_seconds) == ((OTHER.key_id,), 3, 240)
    assert any("240 s old, for 60 s more" in check.detail for check in report.failed)


def test_a_removed_key_that_still_shows_is_drift(server: HostileServer) -> None:
    answers(server, server.url, [KEY, OTHER])
    report = looked(server, removed={OTHER.key_id: OTHER.fingerprint})
    assert failed(report) == {"keys-removed": "drift"}
    assert report.removed == (OTHER.key_id,)


def test_a_token_of_another_key_fails(cluster: LocalCluster, authority: Authority) -> None:
    hidden = cluster.stage_key(algorithm="ES256")
    cluster.withdraw_key(hidden)
    token = cluster.mint("n", "s", "a", kid=hidden)
    report = look(cluster, authority, token=token)
    assert failed(report) == {"token-signature": "error"}
    assert report.exit_status == 1
    assert token not in repr(report)


def test_no_keys_at_all(server: HostileServer) -> None:
    site_of(server).pages[JWKS_PATH] = http_answer(b"<html>", headers=CACHED)
    assert failed(looked(server)) == {"keys-readable": "error"}


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "max_age", "age", "problem"),
    [
        ({"Cache-Control": "public, max-age=300", "Age": "12"}, 300, 12, ""),
        ({"Cache-Control": 'MAX-AGE="60"'}, 60, None, ""),
        ({"Cache-Control": "no-store"}, 0, None, ""),
        ({"Cache-Control": "public, s-max-age=5"}, None, None, "no Cache-Control max-age"),
        ({}, None, None, "no Cache-Control max-age"),
        ({"Cache-Control": "max-age=100000"}, 100_000, None, "longer than rotation waits"),
        ({"Cache-Control": "max-age=300", "Age": "4000"}, 300, 4000, "shows an answer of 4000 s ago"),
        ({"Cache-Control": "max-age=300", "Age": "-5"}, 300, None, ""),
    ],
)
def test_caches_in_between_are_told(
    server: HostileServer, headers: Mapping[str, str], max_age: int | None, age: int | None, problem: str
) -> None:
    answers(server, server.url, [KEY], headers=headers)
    report = looked(server)
    assert (report.max_age_seconds, report.age_seconds) == (max_age, age)
    assert failed(report) == ({"jwks-cache": "warning"} if problem else {})
    assert report.exit_status == 0
    assert any(problem in check.detail for check in report.checks if check.name == "jwks-cache")


def test_other_content_types_are_warnings(server: HostileServer) -> None:
    answers(server, server.url, [KEY], headers={**CACHED, "Content-Type": "text/plain"})
    report = looked(server)
    assert failed(report) == {"discovery-content-type": "warning", "jwks-content-type": "warning"}
    assert report.ok


# -- the way to the documents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("path", [DISCOVERY_PATH, JWKS_PATH])
def test_a_redirect_fails_and_names_where_to(server: HostileServer, status: str, path: str) -> None:
    with served({path: http_answer(b"{}")}) as elsewhere:
        site_of(server).pages[path] = http_answer(b"", status=status, headers={"Location": elsewhere.url + path})
        report = looked(server)
        assert elsewhere.received == []
    name = "discovery-redirect" if path == DISCOVERY_PATH else "jwks-redirect"
    assert failed(report)[name] == "error"
    assert any("localhost" in check.detail for check in report.failed if check.name == name)
    assert report.exit_status == 1


def test_a_document_that_is_not_there(server: HostileServer) -> None:
    del site_of(server).pages[JWKS_PATH]
    report = looked(server)
    assert failed(report) == {"jwks": "error"}
    assert any("status 404" in check.detail for check in report.failed)
    assert len(server.received) == 2, "what will not pass is not tried again"


@pytest.mark.parametrize(
    "behaviour",
    [silent, drip(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), drip(http_answer(b"x" * 9999)[:-9000], b"x")],
    ids=["silent", "headers", "body"],
)
def test_a_slow_answer_fails_in_bounded_time(behaviour: Behaviour) -> None:
    with HostileServer(behaviour) as slow:
        started = time.monotonic()
        report = looked(slow, max_seconds=0.3)
        assert time.monotonic() - started < 5.0
    assert failed(report) == {"discovery-time": "error", "jwks": "error"}
    [check] = [check for check in report.failed if check.name == "discovery-time"]
    assert check.seconds is not None
    assert 0.3 <= check.seconds < 2.0


def test_a_delay_within_the_limit_passes_and_is_measured(
    cluster: LocalCluster, authority: Authority, faults: Faults
) -> None:
    faults.inject(cloud="issuer", operation="jwks", delay_seconds=0.4)
    report = look(cluster, authority)
    assert failed(report) == {}
    [check] = [check for check in report.checks if check.name == "jwks"]
    assert check.seconds is not None
    assert 0.4 <= check.seconds < 2.0


def test_a_big_answer_is_not_read_to_its_end() -> None:
    with HostileServer(flood(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b"[")) as big:
        report = looked(big)
    assert failed(report) == {"discovery": "error", "jwks": "error"}
    assert any("larger" in check.detail for check in report.failed)


@pytest.mark.parametrize("cut", ["before-answer", "headers", "body"])
def test_a_cut_answer_fails(cluster: LocalCluster, authority: Authority, faults: Faults, cut: Any) -> None:
    faults.inject(cloud="issuer", operation="jwks", cut=cut)
    assert failed(look(cluster, authority)) == {"jwks": "error"}


@pytest.mark.parametrize("cut", [False, True])
def test_what_passes_at_the_second_try_is_told_as_flapping(
    cluster: LocalCluster, authority: Authority, faults: Faults, cut: bool
) -> None:
    fault: dict[str, Any] = {"cut": "body"} if cut else {"status": 503}
    faults.inject(cloud="issuer", operation="openid-configuration", times=1, **fault)
    report = look(cluster, authority)
    assert failed(report) == {"discovery-steady": "warning"}
    assert report.ok
    assert len(cluster.requests) == 3


def test_what_fails_twice_fails(cluster: LocalCluster, authority: Authority, faults: Faults) -> None:
    faults.inject(cloud="issuer", operation="openid-configuration", status=503)
    assert failed(look(cluster, authority)) == {"discovery": "error", "jwks": "error"}
    assert len(cluster.requests) == 2


def test_nobody_listens() -> None:
    with served({}) as gone:
        url = gone.url
    with trustme.CA().cert_pem.tempfile() as path:
        report = verify_here(url, Path(path), expected=[KEY])
    assert failed(report) == {"discovery": "error", "jwks": "error"}


# -- certificates and proxies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"names": ("other.example",)}, {"valid": "expired"}, {"valid": "future"}])
def test_a_wrong_certificate_fails(settings: dict[str, Any]) -> None:
    with served({}, **settings) as wrong:
        answers(wrong, wrong.url, [KEY])
        report = looked(wrong)
    assert failed(report) == {"discovery-certificate": "error", "jwks": "error"}
    assert report.exit_status == 1
    assert wrong.received == []


def test_an_authority_that_nobody_named_fails(server: HostileServer) -> None:
    other = trustme.CA()
    with other.cert_pem.tempfile() as path:
        assert failed(verify_here(server.url, Path(path)))["discovery-certificate"] == "error"
    report = verify(server.url, allow_private=True, environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
    assert failed(report)["discovery-certificate"] == "error", "a relying party has no such variable"


def test_the_system_store_may_be_named_by_openssls_own_variable(server: HostileServer) -> None:
    report = verify(
        server.url,
        expected=[KEY],
        clouds=("gcp",),
        allow_private=True,
        environ={"SSL_CERT_FILE": str(server.ca_file)},
    )
    assert failed(report) == {}
    assert "public-authority" not in {check.name for check in report.failed}


def test_a_private_authority_is_told(server: HostileServer) -> None:
    assert any(check.name == "public-authority" and check.level == "warning" for check in looked(server).failed)
    with pytest.raises(WifError) as caught:
        verify_here(server.url, Path("/nowhere/ca.pem"))
    assert caught.value.code == "file-unusable"
    assert "/nowhere/ca.pem" in caught.value.message


def test_the_environments_proxy_is_taken_only_where_asked_for(server: HostileServer) -> None:
    with HostileServer(connect_proxy(("127.0.0.1", server.port)), tls=False) as proxy:
        environ = {"https_proxy": proxy.url, "HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(server.ca_file)}
        settings: dict[str, Any] = {"clouds": ("gcp",), "allow_private": True, "environ": environ}
        for ca_file in (None, str(server.ca_file)):
            assert failed(verify(server.url, ca_file=ca_file, **settings)) == {}
        assert proxy.received == []
        assert failed(looked(server, environ=environ, use_proxy=True)) == {}
        assert proxy.received[0].method == "CONNECT"


def test_a_private_address_is_told(server: HostileServer) -> None:
    [check] = [check for check in looked(server).failed if check.name == "public-address"]
    assert check.level == "warning"
    assert "127.0.0.1" in check.detail or "::1" in check.detail


def test_the_lint_is_an_error_where_the_clouds_are_the_readers(server: HostileServer) -> None:
    report = looked(server, clouds=("aws",), allow_private=False)
    assert failed(report)["issuer-port"] == "error"
    assert report.exit_status == 1


@pytest.mark.parametrize("issuer", ["", "oidc.example.com", "https://", "https://x?y", "https://[", "https://x:y"])
def test_what_is_no_issuer_is_refused(issuer: str, authority: Authority) -> None:
    with pytest.raises(WifError) as caught:
        verify_here(issuer, authority.ca_file)
    assert caught.value.code == "issuer-invalid"


# -- places without an address ----------------------------------------------------------------------------------------


def test_a_key_set_alone_is_checked_in_the_same_words(cluster: LocalCluster) -> None:
    keys = keys_of(cluster)
    body = encode_document(cluster.jwks)
    token = cluster.mint("n", "s", "a")
    good = verify_key_set(cluster.issuer, body, expected=keys, token=token, audience_refused=lambda: True)
    assert (good.failed, good.exit_status) == ((), 0)
    assert failed(verify_key_set(cluster.issuer, None, expected=keys)) == {"keys-readable": "drift"}
    evil = json.dumps({"keys": [*cluster.jwks["keys"], dict(OTHER.jwk)]}).encode()
    report = verify_key_set(cluster.issuer, evil, expected=keys, audience_refused=False)
    assert failed(report) == {"keys-unknown": "tampering", "audience-refused": "error"}
    assert (report.unknown, report.exit_status) == ((OTHER.key_id,), 3)
