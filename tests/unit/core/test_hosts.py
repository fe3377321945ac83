"""The host rule: who may see a subject token."""

from __future__ import annotations

import pytest

from wif.core.hosts import AllowedHosts, parse_hosts
from wif.errors import ConfigurationError

RULE = AllowedHosts(builtin=lambda host: host == "sts.example.com")


@pytest.mark.parametrize(
    "url", ["https://sts.example.com/", "HTTPS://STS.example.com:443/x", "https://sts.example.com?a"]
)
def test_the_clouds_own_hosts(url: str) -> None:
    RULE.check(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://sts.example.com.evil.example/",
        "https://evil.example/sts.example.com",
        "https://sts.example.com@evil.example/",
        "https://user:secret@sts.example.com/",
        "https://sts.example.com:8443/",
        "http://sts.example.com/",
        "http://localhost:1234/",
        "ftp://sts.example.com/",
        "sts.example.com",
        "//sts.example.com/",
        "",
        "https:///",
        "https://sts.example.com:notaport/",
        "https://[::1/",
    ],
)
def test_everything_else_is_refused_and_no_secret_is_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RULE.check(url)
    assert caught.value.code in {"host-not-allowed", "config-invalid"}
    assert "secret" not in str(caught.value)


def test_named_hosts_with_their_port() -> None:
    rule = RULE.with_hosts(parse_hosts("other.example.com, third.example.com:8443", origin="WIF_ALLOW_HOSTS"))
    rule.check("https://other.example.com/")
    rule.check("https://third.example.com:8443/")
    rule.check("https://sts.example.com/")
    for url in ("https://other.example.com:8443/", "https://third.example.com/", "http://other.example.com/"):
        with pytest.raises(ConfigurationError):
            rule.check(url)


def test_the_hint_names_what_to_add() -> None:
    with pytest.raises(ConfigurationError) as caught:
        RULE.check("https://private.example.com:8443/")
    assert "add private.example.com:8443 to WIF_ALLOW_HOSTS" in caught.value.hint


def test_plain_http_is_for_a_loopback_that_the_caller_named() -> None:
    rule = RULE.with_urls(["http://127.0.0.1:8080/x", "https://localhost:8443", "http://[::1]:80/"], origin="o")
    rule.check("http://127.0.0.1:8080/y")
    rule.check("https://localhost:8443/y")
    rule.check("http://[::1]/y")
    for url in ("http://127.0.0.1:8081/", "http://localhost:8443/", "http://127.0.0.2:8080/"):
        with pytest.raises(ConfigurationError):
            rule.check(url)


def test_plain_http_elsewhere_is_refused_even_when_named() -> None:
    rule = RULE.with_urls(["http://sts.internal/"], origin="o")
    with pytest.raises(ConfigurationError) as caught:
        rule.check("http://sts.internal/")
    assert "plain http" in caught.value.message


@pytest.mark.parametrize("text", ["*.example.com", "user@example.com", "https://", "[::1", "a:b"])
def test_a_list_holds_whole_host_names(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_hosts(text, origin="WIF_ALLOW_HOSTS")
    assert caught.value.code == "config-invalid"


def test_a_list_may_be_empty_or_hold_urls() -> None:
    assert parse_hosts("", origin="o") == ()
    assert parse_hosts("https://A.example:443/path http://b.example", origin="o") == (
        ("a.example", None),
        ("b.example", None),
    )
