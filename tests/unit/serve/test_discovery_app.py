"""The application of ``wif issuer serve``, called by hand with a clock that stands still."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.serve.asking import Answer, Clock, ask
from wif.errors import ConfigurationError
from wif.serve.discovery import DiscoveryApp, Freshness, ServedIssuer

ISSUER = "https://oidc.example.com/clusters/a"
DISCOVERY = "/clusters/a/.well-known/openid-configuration"
JWKS = "/clusters/a/openid/v1/jwks"


def served(issuer: str = ISSUER, **more: Any) -> ServedIssuer:
    made = ServedIssuer(issuer, **more)
    made.publish(discovery=b'{"issuer":"a"}', key_set=b'{"keys":[]}', key_ids=("k",), read_at=0.0)
    return made


def get(app: DiscoveryApp, path: str, *headers: tuple[str, str], method: str = "GET", host: str = "any") -> Answer:
    return asyncio.run(ask(app, path, *headers, method=method, host=host))


def test_both_documents_with_their_headers() -> None:
    app = DiscoveryApp([served()], clock=Clock(10.0))
    answer = get(app, DISCOVERY)
    assert (answer.status, answer.body) == (200, b'{"issuer":"a"}')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == "14"
    assert answer.headers["cache-control"] == "public, max-age=290"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"].startswith('"')
    assert get(app, JWKS).headers["content-type"] == "application/jwk-set+json"


def test_head_has_the_same_headers_and_no_body_of_its_own() -> None:
    app = DiscoveryApp([served()], clock=Clock(0.0))
    assert get(app, JWKS, method="HEAD").headers == get(app, JWKS).headers


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"other", {etag}', 304),
        ("*", 304),
        (" * ", 304),
        ('"other"', 200),
        ("", 200),
        ("{etag}x", 200),
    ],
)
def test_if_none_match_by_weak_comparison_of_each_entry(value: str, status: int) -> None:
    app = DiscoveryApp([served()], clock=Clock(0.0))
    etag = get(app, JWKS).headers["etag"]
    answer = get(app, JWKS, ("if-none-match", value.replace("{etag}", etag)))
    assert answer.status == status
    if status == 304:
        assert answer.body == b""
        assert answer.headers["etag"] == etag
        assert "max-age" in answer.headers["cache-control"]
        assert "content-length" not in answer.headers


def test_if_none_match_in_two_lines_is_one_list() -> None:
    app = DiscoveryApp([served()], clock=Clock(0.0))
    etag = get(app, JWKS).headers["etag"]
    assert get(app, JWKS, ("if-none-match", '"other"'), ("if-none-match", etag)).status == 304
    assert get(app, JWKS, ("if-none-match", etag), ("if-none-match", '"other"')).status == 304


def test_the_etag_is_of_the_bytes() -> None:
    one, other = served(), served()
    other.publish(discovery=b"{}", key_set=b'{"keys":[]}', key_ids=(), read_at=0.0)
    apps = [DiscoveryApp([each], clock=Clock(0.0)) for each in (one, other)]
    assert len({get(app, DISCOVERY).headers["etag"] for app in apps}) == 2
    assert len({get(app, JWKS).headers["etag"] for app in apps}) == 1


def test_max_age_shrinks_with_the_age_and_stays_at_zero_until_the_stale_window_ends() -> None:
    clock = Clock(0.0)
    app = DiscoveryApp([served(freshness=Freshness(max_age_seconds=300, stale_seconds=600))], clock=clock)
    seen = []
    for clock.now in (0.0, 0.9, 1.0, 100.5, 299.0, 300.0, 301.0, 600.0):
        answer = get(app, JWKS)
        seen.append((answer.status, answer.headers["cache-control"]))
    ages = (300, 299, 299, 199, 1, 0, 0, 0)
    assert seen == [(200, f"public, max-age={age}") for age in ages]
    clock.now = 600.1
    answer = get(app, JWKS)
    assert answer.status == 503
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_headers_made_before_do_not_outlive_the_stale_window() -> None:
    clock = Clock(0.0)
    app = DiscoveryApp([served(freshness=Freshness(max_age_seconds=0, stale_seconds=10))], clock=clock)
    assert get(app, JWKS).status == 200
    clock.now = 10.01
    assert get(app, JWKS).status == 503
    assert get(app, JWKS, ("if-none-match", "*")).status == 503


def test_max_age_is_never_longer_than_the_stale_window_or_the_source_allows() -> None:
    short = served(freshness=Freshness(max_age_seconds=300, stale_seconds=60))
    assert get(DiscoveryApp([short], clock=Clock(0.0)), JWKS).headers["cache-control"] == "public, max-age=60"
    short.publish(discovery=b"{}", key_set=b"{}", key_ids=(), read_at=0.0, max_age_seconds=7)
    assert get(DiscoveryApp([short], clock=Clock(2.0)), JWKS).headers["cache-control"] == "public, max-age=5"


def test_before_the_first_reading_nothing_is_answered_and_the_client_is_told_when_to_ask() -> None:
    issuer = ServedIssuer(ISSUER)
    issuer.next_read_at = 4.5
    app = DiscoveryApp([issuer], clock=Clock(1.0))
    answer = get(app, JWKS)
    assert (answer.status, answer.headers["retry-after"]) == (503, "4")
    assert issuer.unavailable == 1
    issuer.next_read_at = 99999.0
    assert get(app, JWKS).headers["retry-after"] == "60"
    issuer.next_read_at = 0.0
    assert get(app, JWKS).headers["retry-after"] == "1"
    assert get(app, JWKS, method="HEAD").body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get"])
def test_other_methods_are_refused(method: str) -> None:
    answer = get(DiscoveryApp([served()], clock=Clock(0.0)), JWKS, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", JWKS + "/", "/openid/v1/jwks", JWKS.upper(), "", "//" + JWKS.lstrip("/"), "*"])
def test_other_paths_are_not_found(path: str) -> None:
    answer = get(DiscoveryApp([served()], clock=Clock(0.0)), path)
    assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_issuers_of_one_host_by_path_whatever_the_host_header() -> None:
    two = [served("https://oidc.example.com/a"), served("https://oidc.example.com/b/")]
    app = DiscoveryApp(two, clock=Clock(0.0))
    assert not app.by_host
    assert get(app, "/a/openid/v1/jwks", host="10.0.0.1").status == 200
    assert get(app, "/b/.well-known/openid-configuration", host="x").status == 200
    assert get(app, "/b/openid/v1/jwks").status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("a.example.com", 200),
        ("A.Example.Com", 200),
        ("a.example.com:8443", 200),
        ("a.example.com.", 200),
        ("b.example.com", 200),
        ("c.example.com", 421),
        ("a.example.com.evil.test", 421),
        ("", 421),
        ("127.0.0.1", 421),
        ("[::1]:8443", 421),
    ],
)
def test_issuers_of_several_hosts_refuse_a_foreign_host(host: str, status: int) -> None:
    two = [served("https://a.example.com"), served("https://b.example.com")]
    app = DiscoveryApp(two, clock=Clock(0.0))
    assert get(app, "/openid/v1/jwks", host=host).status == status
    assert get(app, "/openid/v1/jwks", host=host).status == status


def test_each_host_gets_its_own_documents() -> None:
    one, other = served("https://a.example.com"), served("https://b.example.com")
    other.publish(discovery=b"{}", key_set=b'{"b":1}', key_ids=(), read_at=0.0)
    app = DiscoveryApp([one, other], clock=Clock(0.0))
    assert get(app, "/openid/v1/jwks", host="b.example.com").body == b'{"b":1}'
    assert get(app, "/openid/v1/jwks", host="a.example.com").body == b'{"keys":[]}'


def test_no_host_or_two_are_no_request_where_hosts_matter() -> None:
    app = DiscoveryApp([served("https://a.example.com")], check_host=True, clock=Clock(0.0))
    assert asyncio.run(ask(app, "/openid/v1/jwks", host=None)).status == 400
    for _ in range(2):  # also once the name is known
        assert get(app, "/openid/v1/jwks", ("host", "a.example.com"), host="a.example.com").status == 400
        assert get(app, "/openid/v1/jwks", host="a.example.com").status == 200
    assert get(app, "/openid/v1/jwks", host="b.example.com").status == 421


def test_a_flood_of_spellings_is_not_remembered() -> None:
    app = DiscoveryApp([served("https://a.example.com")], check_host=True, clock=Clock(0.0))
    for port in range(1000):
        assert get(app, "/openid/v1/jwks", host=f"a.example.com:{port}").status == 200
    assert len(app._spellings) <= 256


def test_a_jwks_uri_of_another_host_is_answered_there() -> None:
    issuer = served("https://a.example.com", jwks_uri="https://keys.example.com/a.json")
    app = DiscoveryApp([issuer], check_host=True, clock=Clock(0.0))
    assert get(app, "/a.json", host="keys.example.com").status == 200
    assert get(app, "/a.json", host="a.example.com").status == 404
    assert get(DiscoveryApp([issuer], clock=Clock(0.0)), "/a.json", host="any").status == 200


def test_an_escaped_path_in_the_issuer_is_the_path_it_means() -> None:
    app = DiscoveryApp([served("https://a.example.com/my%20cluster")], clock=Clock(0.0))
    assert get(app, "/my cluster/openid/v1/jwks").status == 200


def test_two_issuers_never_share_an_address() -> None:
    with pytest.raises(ConfigurationError) as caught:
        DiscoveryApp([served(), served()])
    assert caught.value.code == "config-conflict"
    shared = [
        served("https://a.example.com/x", jwks_uri="https://k.example.com/same"),
        served("https://a.example.com/y", jwks_uri="https://l.example.com/same"),
    ]
    with pytest.raises(ConfigurationError) as caught:
        DiscoveryApp(shared)
    assert caught.value.code == "config-conflict"
    DiscoveryApp(shared, check_host=True)


def test_no_issuer_is_no_server() -> None:
    with pytest.raises(ConfigurationError) as caught:
        DiscoveryApp([])
    assert caught.value.code == "config-missing"


@pytest.mark.parametrize("issuer", ["http://a.example.com", "https://a.example.com?x=1", "a.example.com"])
def test_an_issuer_that_no_cloud_reads_is_refused(issuer: str) -> None:
    with pytest.raises(ConfigurationError):
        ServedIssuer(issuer)


def test_the_documents_of_a_reading_come_together_and_count_their_answers() -> None:
    issuer = served()
    app = DiscoveryApp([issuer], clock=Clock(0.0))
    get(app, JWKS)
    get(app, JWKS, ("if-none-match", "*"))
    get(app, "/nothing")
    assert (issuer.key_set.ok, issuer.key_set.not_modified, issuer.discovery.ok) == (1, 1, 0)
    assert app.refused == {404: 1}
    assert json.loads(get(app, JWKS).body) == {"keys": []}
