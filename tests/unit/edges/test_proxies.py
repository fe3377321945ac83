"""The proxy variables: which wins, which hosts go straight, and that no password is shown."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.edges.proxies import Proxy, proxy_for
from wif.errors import ConfigurationError

HOST, PORT = "sts.amazonaws.com", 443


def chosen(environ: dict[str, str], host: str = HOST, port: int = PORT) -> str | None:
    proxy = proxy_for(host, port, environ)
    return proxy.url if proxy else None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTP_PROXY": "http://a:1"}, None),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}, "http://a:1"),
        ({"HTTPS_PROXY": "http://b:2", "https_proxy": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b:2"}, None),
        ({"ALL_PROXY": "http://c:3"}, "http://c:3"),
        ({"ALL_PROXY": "http://c:3", "HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "a:3128"}, "http://a:3128"),
        ({"HTTPS_PROXY": "http://a"}, "http://a:80"),
        ({"HTTPS_PROXY": "https://a"}, "https://a:443"),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, "http://[::1]:3128"),
        ({"HTTPS_PROXY": "HTTP://A:1/"}, "http://a:1"),
    ],
)
def test_which_variable_wins(environ: dict[str, str], expected: str | None) -> None:
    assert chosen(environ) == expected


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "straight"),
    [
        ("*", HOST, 443, True),
        ("amazonaws.com", HOST, 443, True),
        (".amazonaws.com", HOST, 443, True),
        ("sts.amazonaws.com", HOST, 443, True),
        ("STS.AMAZONAWS.COM", HOST, 443, True),
        ("a.example, amazonaws.com", HOST, 443, True),
        ("sts.amazonaws.com:443", HOST, 443, True),
        ("sts.amazonaws.com:8443", HOST, 443, False),
        ("zonaws.com", HOST, 443, False),
        ("amazonaws.com.evil.example", HOST, 443, False),
        ("example.com", HOST, 443, False),
        ("localhost,127.0.0.1", "localhost", 8443, True),
        ("localhost,127.0.0.1", HOST, 443, False),
        ("", HOST, 443, False),
    ],
)
def test_which_hosts_go_straight(no_proxy: str, host: str, port: int, straight: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        assert (chosen({"HTTPS_PROXY": "http://a:1", name: no_proxy}, host, port) is None) is straight


def test_user_and_password_become_a_header_and_are_not_shown() -> None:
    proxy = proxy_for(HOST, PORT, {"HTTPS_PROXY": "http://us%40er:p%3Ass@a:1"})
    assert proxy is not None
    assert proxy.authorization == "Basic " + base64.b64encode(b"us@er:p:ss").decode()
    assert proxy.url == "http://a:1"
    assert not any(word in repr(proxy) + str(proxy) for word in ("p%3Ass", "p:ss", "us@er", proxy.authorization))


@pytest.mark.parametrize(
    "value",
    [
        "socks5://me:hunter2@a:1",
        "http://me:hunter2@",
        "http://me:hunter2@a:port",
        "ftp://me:hunter2@a",
        "http://[me:hunter2",
    ],
)
def test_a_variable_that_names_no_proxy_is_an_error_without_its_value(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        proxy_for(HOST, PORT, {"HTTPS_PROXY": value})
    assert caught.value.code == "config-invalid"
    assert "HTTPS_PROXY" in caught.value.message
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_value_is_a_proxy_or_one_error(value: str) -> None:
    with contextlib.suppress(ConfigurationError):
        proxy = proxy_for(HOST, PORT, {"HTTPS_PROXY": value})
        assert proxy is None or isinstance(proxy, Proxy)
