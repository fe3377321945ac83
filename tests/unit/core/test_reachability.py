"""What a host's spelling alone says about who can reach it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.core.reachability import (
    UrlParts,
    host_problem,
    is_cluster_default,
    is_host,
    is_internal_name,
    is_private_address,
    split_url,
)


def test_a_url_has_the_parts_that_are_written() -> None:
    assert split_url("https://u:p@h:1/p?q#f") == UrlParts("https", "u:p", "h", ":1", "/p", "?q", "#f")
    assert split_url("https://[::1]:1") == UrlParts("https", None, "[::1]", ":1", "", None, None)
    assert split_url("") == UrlParts("", None, "", None, "", None, None)
    assert split_url("https://h:?#") == UrlParts("https", None, "h", ":", "", "?", "#")
    assert split_url("https://a@b@h\n/x") == UrlParts("https", "a@b", "h\n", None, "/x", None, None)
    assert split_url("https://[::1") == UrlParts("https", None, "[", "::1", "", None, None)


@given(st.text() | st.text(alphabet=":/?#[]@a1. "))
def test_every_text_has_parts_and_none_is_lost(url: str) -> None:
    parts = split_url(url)
    assert sum(len(part or "") for part in parts) <= len(url)
    for host in (url, parts.host):
        host_problem(host)
        is_host(host)
        is_cluster_default(host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "10.0.0.1",
            "172.16.5.4",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
        ),
        *("255.255.255.255", "192.0.2.1", "10.0.0.1.", "127.1", "0x7f.1", "10.0.1", "1.2.3.4.5", "010.0.0.1", "a.0x"),
        *(
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fe80::1%25eth0]",
            "[fd00::1]",
            "[ff0e::1]",
            "[::ffff:10.0.0.1]",
            "[::ffff:100.64.0.1]",
            "[2001:db8::1]",
        ),
    ],
)
def test_addresses_of_no_public_network(host: str) -> None:
    assert is_private_address(host)
    assert not is_internal_name(host)
    assert host_problem(host) == "is an address that is not public"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "a.localhost",
        "oidc",
        "a.svc",
        "a.LOCAL",
        "a.internal.",
        "a.b.lan",
        "a.home.arpa",
        "a.cluster.local",
    ],
)
def test_names_that_only_the_inside_knows(host: str) -> None:
    assert is_internal_name(host)
    assert not is_private_address(host)
    assert host_problem(host) == "is a name that public DNS does not have"


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "[2a00:1450:4001::1]", "[::ffff:8.8.8.8]", "a.example.com", "local.example.com", "a.1a", "a.b."]
)
def test_what_may_be_public(host: str) -> None:
    assert host_problem(host) == ""


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("a.example.com", True), ("a_b.example.com.", True), ("8.8.8.8", True), ("[::1]", True), ("x", True)),
        *(("", False), (".", False), ("a..b", False), ("-a.b", False), ("a-.b", False), ("é.b", False), ("a b", False)),
        *((f"{'a' * 63}.b", True), (f"{'a' * 64}.b", False), ("a." * 126 + "bc", False), ("[", False), ("[::1", False)),
        *(("a.b\n", False), ("[10.0.0.1]", False)),
    ],
)
def test_what_is_a_host(host: str, expected: bool) -> None:
    assert is_host(host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("kubernetes", True), ("kubernetes.default", True), ("kubernetes.default.svc", True), ("a.b.svc", True)),
        *(("KUBERNETES.Default.svc.", True), ("a.Cluster.local", True), ("kubernetes.default.svc.example.com", True)),
        *(
            ("cluster.local", True),
            ("x.cluster.local", True),
            ("xcluster.local", False),
            ("kubernetes.example.com", False),
        ),
        *(("a.svc.example.com", False), ("kubernetes.default.example.com", False), ("", False)),
    ],
)
def test_the_name_that_every_cluster_has(host: str, expected: bool) -> None:
    assert is_cluster_default(host) is expected
