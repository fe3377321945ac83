"""The guard of the local endpoints: who asks from elsewhere, or through somebody else."""

from __future__ import annotations

from typing import Any

import pytest

from wif.errors import ConfigurationError
from wif.serve.httpd import Scope
from wif.serve.loopback_guard import LoopbackGuard, loopback_address, require_own_network


def _guard() -> LoopbackGuard:
    guard = LoopbackGuard()
    guard.allow("127.0.0.1", 8787)
    guard.allow("::1", 8787)
    return guard


def _scope(*headers: tuple[str, str], client: tuple[str, int] | None = ("127.0.0.1", 50_000)) -> dict[str, Any]:
    return {"headers": [(name.encode(), value.encode("latin-1")) for name, value in headers], "client": client}


HOST = ("host", "127.0.0.1:8787")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8787", "127.0.0.1", "localhost:8787", "LocalHost:8787", "localhost", "[::1]:8787", "[::1]"]
)
def test_our_own_names_pass(host: str) -> None:
    assert _guard().refusal(_scope(("host", host), ("accept", "*/*"))) is None


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "localhost.attacker.example:8787",
        "127.0.0.1.attacker.example",
        "127.0.0.1:8788",
        "127.0.0.2:8787",
        "127.1:8787",
        "10.0.0.7:8787",
        "localhost:",
        "user@localhost:8787",
        "localhost:8787,attacker.example",
        " localhost",
        "lócalhost",
        "",
    ],
)
def test_a_name_that_was_turned_here_is_refused(host: str) -> None:
    for as_metadata_server in (False, True):
        refusal = _guard().refusal(_scope(("host", host)), as_metadata_server=as_metadata_server)
        assert refusal == "the Host header names another server"


@pytest.mark.parametrize(
    "host",
    [
        "metadata.google.internal",
        "metadata.google.internal.",
        "Metadata.Google.Internal",
        "metadata.google.internal:8787",
        "169.254.169.254",
        "169.254.169.254:80",
        "169.254.169.254:8787",
    ],
)
def test_the_metadata_servers_names_pass_only_where_they_are_meant(host: str) -> None:
    guard = _guard()
    assert guard.refusal(_scope(("host", host)), as_metadata_server=True) is None
    assert guard.refusal(_scope(("host", host))) == "the Host header names another server"


@pytest.mark.parametrize("headers", [(), (HOST, HOST), (HOST, ("host", "localhost"))])
def test_exactly_one_host_is_needed(headers: tuple[tuple[str, str], ...]) -> None:
    assert _guard().refusal(_scope(*headers)) == "exactly one Host header is needed"


def test_a_second_host_cannot_hide_behind_the_first() -> None:
    assert _guard().refusal(_scope(HOST, ("host", "attacker.example"))) is not None


@pytest.mark.parametrize(
    "name",
    [
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded"),
        *("forwarded", "via", "x-real-ip", "origin", "x_forwarded_for", "x_real_ip"),
        *("true-client-ip", "client-ip", "cf-connecting-ip", "x-original-host", "x-envoy-external-address"),
    ],
)
@pytest.mark.parametrize("value", ["127.0.0.1", ""])
def test_what_somebody_handed_on_is_refused(name: str, value: str) -> None:
    for headers in ((HOST, (name, value)), ((name, value), HOST)):
        for as_metadata_server in (False, True):
            refusal = _guard().refusal(_scope(*headers), as_metadata_server=as_metadata_server)
            assert refusal == f"a request with the header {name} was handed on by somebody"


@pytest.mark.parametrize("name", ["x-forward", "forwarded-nothing", "user-agent", "authorization"])
def test_other_headers_pass(name: str) -> None:
    assert _guard().refusal(_scope(HOST, (name, "text"))) is None


@pytest.mark.parametrize("client", [None, ("10.0.0.7", 50_000), ("::ffff:10.0.0.7", 50_000), ("fe80::1", 1)])
def test_only_loopback_may_ask(client: tuple[str, int] | None) -> None:
    refusal = _guard().refusal(_scope(HOST, client=client))
    assert refusal == "only this machine's loopback address is answered"


def test_ipv6_may_ask() -> None:
    assert _guard().refusal(_scope(("host", "[::1]:8787"), client=("::1", 50_000))) is None


@pytest.mark.parametrize("is_ours", [True, False])
def test_where_no_secret_is_another_user_is_refused(is_ours: bool) -> None:
    asked: list[object] = []

    def same_user(scope: Scope) -> bool:
        asked.append(scope["client"])
        return is_ours

    guard = LoopbackGuard(same_user=same_user)
    guard.allow("127.0.0.1", 8787)
    assert guard.refusal(_scope(HOST)) is None, "what asks for a secret needs no more"
    assert not asked
    found = guard.refusal(_scope(HOST), as_metadata_server=True)
    assert found == (None if is_ours else "only programs of the user who started this are answered")
    assert asked == [("127.0.0.1", 50_000)]
    assert guard.refusal(_scope(HOST, HOST), as_metadata_server=True) == "exactly one Host header is needed"


def test_before_it_listens_nothing_passes() -> None:
    assert LoopbackGuard().refusal(_scope(HOST)) is not None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:8787", "127.0.0.1:8787"),
        ("127.0.0.9:0", "127.0.0.9:0"),
        ("[::1]:8787", "[::1]:8787"),
        ("localhost:8787", "127.0.0.1:8787"),
    ],
)
def test_loopback_is_listened_on(text: str, found: str) -> None:
    assert str(loopback_address(text)) == found


@pytest.mark.parametrize(
    "text",
    [":8787", "0.0.0.0:8787", "[::]:8787", "10.0.0.7:8787", "[::ffff:127.0.0.1]:1", "pod:8787", "8787", "127.1:1"],
)
def test_nothing_else_is_listened_on(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loopback_address(text)
    assert caught.value.code == "config-invalid"


@pytest.mark.parametrize(
    ("pod", "node"),
    [("10.0.0.7", "10.0.0.7"), ("fd00::7,10.0.0.7", "10.0.0.7"), ("fd00:0::7", "FD00::7"), ("10.0.0.7", " 10.0.0.7 ")],
)
def test_the_nodes_network_is_refused_unless_forced(pod: str, node: str) -> None:
    environ = {"WIF_POD_IP": pod, "WIF_HOST_IP": node}
    with pytest.raises(ConfigurationError) as caught:
        require_own_network(environ)
    assert caught.value.code == "config-conflict"
    require_own_network(environ, is_forced=True)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WIF_POD_IP": "", "WIF_HOST_IP": ""},
        {"WIF_POD_IP": "10.0.0.7"},
        {"WIF_POD_IP": "10.0.0.7", "WIF_HOST_IP": "10.0.0.1"},
        {"WIF_POD_IP": "a", "WIF_HOST_IP": "b"},
    ],
)
def test_a_network_of_its_own_passes(environ: dict[str, str]) -> None:
    require_own_network(environ)
