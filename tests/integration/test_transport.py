"""The transport over real TLS, against servers that do everything wrong one at a time."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trustme
import urllib3

from tests.integration.hostile import (
    HostileServer,
    Peer,
    answering,
    answering_once,
    connect_proxy,
    drip,
    flood,
    http_answer,
    raw,
    silent,
)
from wif.core.flow import Request, Response
from wif.core.freshness import LIMITS
from wif.core.hosts import AllowedHosts
from wif.edges.transport import MAX_BODY_BYTES, Transport, shared_transport
from wif.errors import ConfigurationError, TransportError, WifError

pytestmark = pytest.mark.integration

SECRET = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LXBheWxvYWQ.c2VjcmV0LXNpZ25hdHVyZQ"
OK = http_answer(b'{"ok":1}')


def request(url: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Request:
    return Request(method="POST", url=url, headers=headers or {}, body=body, operation="ExchangeToken")


def rule(*urls: str) -> AllowedHosts:
    return AllowedHosts(builtin=lambda _: False).with_urls(urls, origin="a test")


def send(
    server: HostileServer,
    *,
    transport: Transport | None = None,
    seconds: float = 10.0,
    environ: Mapping[str, str] | None = None,
    url: str | None = None,
    **parts: object,
) -> Response:
    url = url or server.url + "/v1/token"
    owned = transport is None
    transport = transport or Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file), **(environ or {})})
    try:
        return transport.send(
            request(url, **parts),  # type: ignore[arg-type]  # the parts of a request
            deadline=time.monotonic() + seconds,
            hosts=rule(url),
        )
    finally:
        if owned:
            transport.close()


def failure(server: HostileServer, *, code: str, **options: object) -> TransportError:
    """Send, and give back the error, which has the code, names operation and address, and holds no secret."""
    with pytest.raises(TransportError) as caught:
        send(server, body=b"subject_token=" + SECRET.encode(), headers={"Authorization": SECRET}, **options)  # type: ignore[arg-type]
    error = caught.value
    assert error.code == code, str(error)
    assert error.message.startswith("ExchangeToken: ")
    assert f"localhost:{server.port}" in error.message
    assert SECRET not in str(error)
    assert error.cloud == "gcp"
    return error


# -- what goes well ---------------------------------------------------------------------------------------------


def test_a_request_arrives_as_written_and_its_answer_comes_back() -> None:
    with HostileServer(answering(http_answer(b"hello", headers={"X-Wif-Local-STS": "1"}))) as server:
        answer = send(server, url=server.url + "/a/b?c=d", body=b"x=1", headers={"Content-Type": "text/plain"})
    (got,) = server.received
    assert (got.method, got.target, got.body) == ("POST", "/a/b?c=d", b"x=1")
    assert got.headers["content-type"] == "text/plain"
    assert got.headers["host"] == f"localhost:{server.port}"
    assert got.headers["accept-encoding"] == "identity"
    assert got.headers["user-agent"].startswith("wif")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["x-wif-local-sts"] == "1"


def test_a_compressed_answer_is_never_asked_for() -> None:
    with HostileServer(answering()) as server:
        send(server, headers={"Accept-Encoding": "gzip, br"})
    assert server.received[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "429 Slow down", "503 Unavailable"])
def test_an_error_status_is_an_answer(status: str) -> None:
    with HostileServer(answering(http_answer(b"why", status=status))) as server:
        assert send(server).status == int(status[:3])
    assert len(server.received) == 1


def test_chunked_answers_and_interim_ones_are_read() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"
    )
    with HostileServer(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + chunked)) as server:
        assert send(server).body == b"abcde"


def test_a_body_up_to_the_end_of_the_connection_needs_tls_own_farewell() -> None:
    data = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"
    with HostileServer(raw(data), farewell=True) as server:
        assert send(server).body == b"all of it"


def test_connections_are_reused() -> None:
    with HostileServer(answering()) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        for _ in range(5):
            send(server, transport=transport)
        transport.close()
    assert (len(server.received), server.connections) == (5, 1)


def test_a_pooled_connection_that_the_server_closed_does_not_fail_the_next_request() -> None:
    with HostileServer(answering_once(OK)) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        for _ in range(3):
            send(server, transport=transport)
            time.sleep(0.05)  # the farewell arrives
        transport.close()
    assert (len(server.received), server.connections) == (3, 3)


def test_a_connection_that_rested_too_long_is_not_used_again() -> None:
    with HostileServer(answering()) as server:
        environ = {"REQUESTS_CA_BUNDLE": str(server.ca_file)}
        transport = Transport("gcp", environ=environ, idle_seconds=1.0)
        send(server, transport=transport)
        send(server, transport=transport)
        assert server.connections == 1
        time.sleep(1.2)
        send(server, transport=transport)
        transport.close()
    assert server.connections == 2


def test_a_server_that_fails_gets_the_request_once() -> None:
    def cut_second(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        peer.read_request()  # taken, and the connection ends without an answer

    with HostileServer(cut_second) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        send(server, transport=transport)
        error = failure(server, code="connection-failed", transport=transport)
        transport.close()
    assert error.retryable
    assert len(server.received) == 2


def test_many_threads_share_one_transport() -> None:
    with HostileServer(answering()) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(send(server, transport=transport).status)) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        transport.close()
    assert answers == [200] * 16


def test_plain_http_works_on_a_loopback_address_that_the_caller_named_and_takes_no_proxy() -> None:
    with HostileServer(answering(), tls=False) as server:
        proxies = {"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1"}
        assert send(server, environ=proxies).status == 200


def test_a_given_pool_manager_is_used_and_keeps_to_the_deadline() -> None:
    def now_fast_now_slow(peer: Peer) -> None:
        while True:
            wanted = peer.read_request()
            if wanted.body == b"fast":
                peer.send(OK)
                continue
            peer.send(b"HTTP/1.1 200 OK\r\n")
            while True:
                peer.send(b"A: b\r\n")
                peer.wait(0.05)

    with HostileServer(now_fast_now_slow) as server, urllib3.PoolManager(ca_certs=str(server.ca_file)) as pools:
        transport = Transport("gcp", pool_manager=pools, environ={"HTTPS_PROXY": "http://127.0.0.1:1"})
        assert send(server, transport=transport, body=b"fast").status == 200
        assert len(pools.pools) == 1
        started = time.monotonic()
        with pytest.raises(TransportError, match="deadline") as caught:
            send(server, transport=transport, body=b"slow", seconds=0.5)
        assert caught.value.code == "timeout"
        assert time.monotonic() - started < 2


# -- too slow -------------------------------------------------------------------------------------------------


def no_handshake(peer: Peer) -> None:
    peer.wait(60)


SLOW: dict[str, Callable[[Peer], None]] = {
    "silent": silent,
    "headers drip": drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "one header drips": drip(b"HTTP/1.1 200 OK\r\nX-A: ", b"b"),
    "the status line drips": drip(b"HTTP/1.1 200 ", b"O"),
    "100-continue drips": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body drips": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "body drips to the end of the connection": drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "chunks drip": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "chunk size drips": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers drip": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n"),
}


@pytest.mark.parametrize("behaviour", SLOW.values(), ids=SLOW)
def test_a_slow_answer_ends_at_the_deadline(behaviour: Callable[[Peer], None]) -> None:
    with HostileServer(behaviour) as server:
        started = time.monotonic()
        error = failure(server, code="timeout", seconds=0.6)
        elapsed = time.monotonic() - started
    assert 0.5 < elapsed < 1.5
    assert error.retryable
    assert len(server.received) == 1


def test_a_server_that_never_shakes_hands_ends_at_the_deadline() -> None:
    with HostileServer(no_handshake, tls=False) as server:
        started = time.monotonic()
        error = failure(server, code="timeout", seconds=0.5, url=f"https://localhost:{server.port}/")
    assert time.monotonic() - started < 1.5
    assert "TLS handshake" in error.message


def test_a_server_that_takes_no_connection_ends_at_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        port = listener.getsockname()[1]
        for _ in range(8):  # the queue is full: further SYNs are dropped
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        transport = Transport(environ={}, limits=LIMITS._replace(connect_seconds=0.4))
        url = f"https://127.0.0.1:{port}/"
        started = time.monotonic()
        with pytest.raises(TransportError) as caught:
            transport.send(request(url), deadline=time.monotonic() + 20, hosts=rule(url))
    assert caught.value.code == "timeout"
    assert "connecting" in caught.value.message
    assert time.monotonic() - started < 3


def test_the_longest_silence_is_the_read_timeout() -> None:
    with HostileServer(silent) as server:
        transport = Transport(
            "gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)}, limits=LIMITS._replace(read_seconds=0.3)
        )
        started = time.monotonic()
        failure(server, code="timeout", transport=transport, seconds=20)
    assert time.monotonic() - started < 2


def test_nothing_is_sent_after_the_deadline() -> None:
    with HostileServer(answering()) as server:
        failure(server, code="timeout", seconds=-1)
    assert server.connections == 0


# -- aborted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [silent, drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x", pause_seconds=0.5), no_handshake],
    ids=["silent", "in the body", "in the handshake"],
)
def test_abort_from_another_thread_is_a_timeout_at_once(behaviour: Callable[[Peer], None]) -> None:
    tls = behaviour is not no_handshake
    with HostileServer(behaviour, tls=tls) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        timer = threading.Timer(0.3, transport.abort)
        timer.start()
        started = time.monotonic()
        failure(server, code="timeout", transport=transport, seconds=30, url=f"https://localhost:{server.port}/")
        assert time.monotonic() - started < 1.5
        timer.join()


def test_abort_reaches_a_connection_that_is_used_again() -> None:
    def once_then_silent(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        silent(peer)

    with HostileServer(once_then_silent) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        send(server, transport=transport)
        timer = threading.Timer(0.3, transport.abort)
        timer.start()
        started = time.monotonic()
        failure(server, code="timeout", transport=transport, seconds=30)
        assert time.monotonic() - started < 1.5
        timer.join()
    assert server.connections == 1


def test_abort_of_one_thread_leaves_the_others_alone() -> None:
    def slow_for_the_slow(peer: Peer) -> None:
        wanted = peer.read_request()
        peer.wait(20 if wanted.body == b"slow" else 0.6)
        peer.send(OK)

    outcome: dict[str, object] = {}

    def run(transport: Transport, server: HostileServer, name: str) -> None:
        try:
            outcome[name] = send(server, transport=transport, body=name.encode(), seconds=20).status
        except TransportError as error:
            outcome[name] = error.code

    with HostileServer(slow_for_the_slow) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        threads = [threading.Thread(target=run, args=(transport, server, name)) for name in ("slow", "fast")]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        transport.abort(threads[0].ident)
        for thread in threads:
            thread.join(10)
        transport.close()
    assert outcome == {"slow": "timeout", "fast": 200}


# -- cut short, and not HTTP --------------------------------------------------------------------------------------

CUT = {
    "no answer": b"",
    "within the status line": b"HTTP/1.1 2",
    "within the headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "after some headers": b"HTTP/1.1 200 OK\r\nX-A: b\r\n",
    "within the body": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"access_token":"a"}',
    "before the body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    "within a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nabc",
    "between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "at a chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "without length or farewell": b'HTTP/1.1 200 OK\r\n\r\n{"access_token":"a"}',
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_an_answer_that_is_cut_is_never_returned(data: bytes) -> None:
    with HostileServer(raw(data)) as server:
        error = failure(server, code="connection-failed")
    assert error.retryable
    assert len(server.received) == 1


MALFORMED = {
    "garbage": b"\x00\x01\x02\xff garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "no number as status": b"HTTP/1.1 abc OK\r\n\r\n",
    "an impossible version": b"HTTP/9.9 200 OK\r\n\r\n",
    "a header line without colon": b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
    "a length in words": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "early hints alone": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "another protocol agreed": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "compressed": http_answer(gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
    "a bomb": http_answer(gzip.compress(b"0" * 50_000_000), headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with HostileServer(raw(data), farewell=True) as server:
        error = failure(server, code="response-malformed")
    assert not error.retryable


LARGE: dict[str, Callable[[Peer], None]] = {
    "length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n{}"),
    "one byte more": answering(http_answer(b"x" * (MAX_BODY_BYTES + 1))),
    "chunks": flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n"),
    "tiny chunks": flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "one chunk": flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFF\r\n", b"x"),
    "trailers": flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: " + b"b" * 100 + b"\r\n"),
    "to the end": flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "headers": flood(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 8000 + b"\r\n"),
    "a header line": raw(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 65_537 + b"\r\n\r\n"),
    "100-continue": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("behaviour", LARGE.values(), ids=LARGE)
def test_an_answer_without_bound_is_refused(behaviour: Callable[[Peer], None]) -> None:
    with HostileServer(behaviour) as server:
        started = time.monotonic()
        failure(server, code="response-too-large")
    assert time.monotonic() - started < 8


def test_too_many_headers_are_refused() -> None:
    lines = b"".join(b"X-%d: 1\r\n" % i for i in range(200))
    with HostileServer(raw(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")) as server:
        failure(server, code="response-malformed")


def test_the_largest_body_is_read() -> None:
    with HostileServer(answering(http_answer(b"x" * MAX_BODY_BYTES))) as server:
        assert len(send(server).body) == MAX_BODY_BYTES


# -- redirects and hosts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("same_host", [True, False])
def test_a_redirect_is_never_followed(status: int, same_host: bool) -> None:
    with HostileServer(answering()) as target:

        def redirecting(peer: Peer) -> None:
            peer.read_request()
            place = "/other" if same_host else f"{target.url}/collect?{SECRET}"
            peer.send(http_answer(b"", status=f"{status} Moved", headers={"Location": place}))

        with HostileServer(redirecting, authority=target.authority) as server:
            error = failure(server, code="redirect-refused")
        assert ("localhost" in error.message.split("redirects to")[1]) is not same_host
        assert not error.retryable
    assert target.connections == 0
    assert len(server.received) == 1


def test_the_host_rule_comes_before_any_connection() -> None:
    with HostileServer(answering()) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": "/nowhere"})
        with pytest.raises(ConfigurationError) as caught:
            transport.send(request(server.url), deadline=time.monotonic() + 5, hosts=rule("https://other.example"))
    assert caught.value.code == "host-not-allowed"
    assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://sts.amazonaws.com\\.evil.example/",
        "https://sts.amazonaws.com%2eevil.example/",
        "https://sts.amazonaws.com\u3002evil.example/",
        "https://sts amazonaws.com/",
        "https://sts.amazonaws.com/a b",
        "https://sts.amazonaws.com/\u00e9",
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    transport = Transport("aws", environ={})
    with pytest.raises(ConfigurationError) as caught:
        transport.send(request(url), deadline=time.monotonic() + 1, hosts=AllowedHosts(builtin=lambda _: True))
    assert caught.value.code == "host-not-allowed"


@pytest.mark.parametrize("value", [f"Bearer {SECRET}\r\nX: y", f"Bearer {SECRET}\n", f"Bearer {SECRET}\u20ac"])
def test_a_header_that_breaks_lines_is_refused_without_showing_it(value: str) -> None:
    with HostileServer(answering()) as server, pytest.raises(WifError) as caught:
        send(server, headers={"Authorization": value})
    assert SECRET not in str(caught.value)
    assert "Authorization" in str(caught.value)
    assert server.connections == 0


def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine localhost login user password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with HostileServer(answering()) as server:
        send(server)
    assert "authorization" not in server.received[0].headers


# -- TLS ----------------------------------------------------------------------------------------------------------


def test_a_certificate_for_another_name_is_refused() -> None:
    with HostileServer(answering(), names=("sts.amazonaws.com",)) as server:
        error = failure(server, code="tls-failed")
    assert "another name" in error.message
    assert server.received == []


def test_an_unknown_authority_is_refused_and_the_hint_names_the_variables(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with HostileServer(answering()) as server:
        error = failure(server, code="tls-failed", environ={"REQUESTS_CA_BUNDLE": str(other)})
    assert "not trusted" in error.message
    assert f"REQUESTS_CA_BUNDLE={other}" in error.message
    assert all(name in error.hint for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))
    assert server.received == []


@pytest.mark.parametrize(("valid", "words"), [("expired", "has expired"), ("future", "not valid yet")])
def test_a_certificate_out_of_its_time_is_refused(valid: str, words: str) -> None:
    with HostileServer(answering(), valid=valid) as server:
        error = failure(server, code="tls-failed")
    assert words in error.message
    assert server.received == []


def test_plain_http_on_an_https_port_is_said() -> None:
    def greet(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.wait(0.2)

    with HostileServer(greet, tls=False) as server:
        error = failure(server, code="tls-failed", url=f"https://localhost:{server.port}/")
    assert "does not speak TLS" in error.message


def test_a_peer_that_leaves_in_the_handshake_is_a_failed_connection() -> None:
    with HostileServer(lambda peer: peer.wait(0), tls=False) as server:
        failure(server, code="connection-failed", url=f"https://localhost:{server.port}/")


def test_nobody_there_is_a_failed_connection() -> None:
    with HostileServer(answering()) as server:
        pass
    transport = Transport("aws", environ={})
    with pytest.raises(TransportError) as caught:
        transport.send(request(server.url), deadline=time.monotonic() + 5, hosts=rule(server.url))
    assert caught.value.code == "connection-failed"
    assert "refused" in caught.value.message


def test_a_name_that_nobody_knows_is_a_failed_connection() -> None:
    url = "https://does-not-exist.invalid/"
    with pytest.raises(TransportError) as caught:
        Transport("aws", environ={}).send(request(url), deadline=time.monotonic() + 20, hosts=rule(url))
    assert caught.value.code == "connection-failed"
    assert "cannot be resolved" in caught.value.message


def test_a_bundle_that_is_replaced_counts_from_the_next_request_on(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    with HostileServer(answering()) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(bundle)})
        failure(server, code="tls-failed", transport=transport)
        server.authority.cert_pem.write_to_path(tmp_path / "new.pem")
        (tmp_path / "new.pem").replace(bundle)
        assert send(server, transport=transport).status == 200
        transport.close()


def test_an_authority_that_only_the_file_holds_is_found_after_the_directory_was_searched(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "0a1b2c3d.0")
    with HostileServer(answering()) as server:
        environ = {"SSL_CERT_DIR": str(tmp_path), "SSL_CERT_FILE": str(server.ca_file)}
        transport = Transport("gcp", environ=environ)
        assert send(server, transport=transport).status == 200
        assert send(server, transport=transport).status == 200
        transport.close()
    assert len(server.received) == 2


@pytest.mark.parametrize(
    ("cloud", "variable"),
    [
        ("aws", "AWS_CA_BUNDLE"),
        ("aws", "REQUESTS_CA_BUNDLE"),
        ("gcp", "REQUESTS_CA_BUNDLE"),
        ("gcp", "CURL_CA_BUNDLE"),
        ("azure", "REQUESTS_CA_BUNDLE"),
        ("azure", "CURL_CA_BUNDLE"),
        ("aws", "SSL_CERT_FILE"),
        (None, "SSL_CERT_FILE"),
    ],
)
def test_each_variable_is_enough(cloud: str | None, variable: str) -> None:
    with HostileServer(answering()) as server:
        transport = Transport(cloud, environ={variable: str(server.ca_file)})
        assert send(server, transport=transport).status == 200
        transport.close()


def test_a_bundle_that_is_missing_is_named_before_any_connection() -> None:
    with HostileServer(answering()) as server, pytest.raises(ConfigurationError) as caught:
        send(server, environ={"REQUESTS_CA_BUNDLE": "/no/such/bundle.pem"})
    assert caught.value.code == "file-unusable"
    assert "REQUESTS_CA_BUNDLE" in str(caught.value)
    assert "/no/such/bundle.pem" in str(caught.value)
    assert server.connections == 0


# -- proxies --------------------------------------------------------------------------------------------------------

ELSEWHERE = "https://sts.googleapis.com/v1/token"


def through(proxy: HostileServer, ca_file: Path, *, url: str = ELSEWHERE, user: str = "", **more: str) -> Response:
    scheme, _, rest = proxy.url.partition("://")
    environ = {"HTTPS_PROXY": f"{scheme}://{user}{rest}", "REQUESTS_CA_BUNDLE": str(ca_file), **more}
    transport = Transport("gcp", environ=environ)
    try:
        return transport.send(
            request(url, body=SECRET.encode()), deadline=time.monotonic() + 3, hosts=rule(ELSEWHERE, url)
        )
    finally:
        transport.close()


@pytest.mark.parametrize("tls", [False, True], ids=["http proxy", "https proxy"])
def test_a_connect_proxy_leads_there_and_sees_nothing(tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    authority = trustme.CA()
    with (
        HostileServer(answering(OK), names=("sts.googleapis.com",), authority=authority) as server,
        HostileServer(connect_proxy(("127.0.0.1", server.port)), authority=authority, tls=tls) as proxy,
    ):
        assert through(proxy, server.ca_file, user="me:p%40ss@").body == b'{"ok":1}'
    (asked,) = proxy.received
    assert (asked.method, asked.target) == ("CONNECT", "sts.googleapis.com:443")
    assert asked.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
    assert "authorization" not in server.received[0].headers
    assert "proxy-authorization" not in server.received[0].headers
    assert not any(word in caplog.text for word in ("p%40ss", "p@ss", "bWU6cEBzcw", SECRET))


@pytest.mark.parametrize(
    ("answer", "words", "retryable"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "status 407", False),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "status 403", False),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "status 502", True),
        (b"\x00garbage\r\n\r\n", "opened no way", True),
        (b"", "opened no way", True),
    ],
)
def test_a_proxy_that_refuses_is_said(answer: bytes, words: str, retryable: bool) -> None:
    refusing = connect_proxy(("127.0.0.1", 1), answer=answer)
    with HostileServer(refusing, tls=False) as proxy, pytest.raises(TransportError) as caught:
        through(proxy, proxy.ca_file, user="me:hunter2@")
    error = caught.value
    assert error.code == "proxy-failed"
    assert words in error.message
    assert f"localhost:{proxy.port}" in error.message
    assert "sts.googleapis.com:443" in error.message
    assert "hunter2" not in str(error)
    assert error.retryable is retryable


def test_a_proxy_that_drips_ends_at_the_deadline(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    with HostileServer(drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), tls=False) as proxy:
        started = time.monotonic()
        with pytest.raises(TransportError) as caught:
            through(proxy, ca_file)
    assert caught.value.code == "timeout"
    assert "proxy" in caught.value.message
    assert 2.5 < time.monotonic() - started < 4


def test_a_proxy_that_is_not_there_is_said(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    with HostileServer(answering()) as gone:
        pass
    with pytest.raises(TransportError) as caught:
        through(gone, ca_file)
    assert caught.value.code == "proxy-failed"
    assert "refused" in caught.value.message


def test_a_proxy_with_a_certificate_of_nobody_is_a_tls_failure(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    with HostileServer(connect_proxy(("127.0.0.1", 1))) as proxy, pytest.raises(TransportError) as caught:
        through(proxy, ca_file)
    assert caught.value.code == "tls-failed"
    assert "the proxy" in caught.value.message
    assert proxy.received == []


def test_no_proxy_goes_straight() -> None:
    with HostileServer(answering()) as server:
        environ = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "example.com,localhost"}
        assert send(server, environ=environ).status == 200


# -- logs -------------------------------------------------------------------------------------------------------------

SECRETS: dict[str, tuple[dict[str, str], bytes, bytes]] = {
    "GCP form": (
        {"Content-Type": "application/x-www-form-urlencoded"},
        b"audience=aud&subject_token=" + SECRET.encode(),
        b'{"access_token":"' + SECRET.encode() + b'","expires_in":3600}',
    ),
    "Azure form": (
        {"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
        b"client_id=c&client_assertion=" + SECRET.encode(),
        b'{"token":{"nested":"' + SECRET.encode() + b'"}}',
    ),
    "AWS form": (
        {"Content-Type": "application/x-www-form-urlencoded"},
        b"Action=AssumeRoleWithWebIdentity&WebIdentityToken=" + SECRET.encode(),
        b"<SessionToken>" + SECRET.encode() + b"</SessionToken>",
    ),
    "JSON": (
        {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}", "X-Amz-Security-Token": SECRET},
        b'{"scope":["a"],"accessToken":"' + SECRET.encode() + b'"}',
        b'["' + SECRET.encode() + b'"]',
    ),
    "unknown": ({}, SECRET.encode(), SECRET.encode()),
}


@pytest.mark.parametrize(("headers", "body", "answer"), SECRETS.values(), ids=SECRETS)
def test_no_secret_is_in_any_log(
    headers: dict[str, str], body: bytes, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with HostileServer(answering(http_answer(answer, headers={"Set-Cookie": SECRET, "X-Token": SECRET}))) as server:
        url = f"{server.url}/v1/token?token={SECRET}" if headers == {} else None
        assert SECRET in send(server, headers=headers, body=body, url=url).body.decode()
    own = [record for record in caplog.records if record.name == "wif.transport"]
    assert len(own) == 2
    assert "ExchangeToken: POST https://localhost" in own[0].getMessage()
    assert f"<{len(SECRET)}>" in own[0].getMessage() or headers == {}
    seen = [r.getMessage() for r in caplog.records if headers or r.name == "wif.transport"]
    assert not any(SECRET in line for line in seen)  # urllib3's own log shows a request's path and query


def test_the_values_that_are_no_secret_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="wif.transport")
    with HostileServer(answering(http_answer(headers={"x-amzn-RequestId": "id-1"}))) as server:
        send(
            server,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=b"Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws&WebIdentityToken=abc",
        )
    sent, came = (record.getMessage() for record in caplog.records)
    assert "Action=AssumeRoleWithWebIdentity, RoleArn=arn:aws, WebIdentityToken=<3>" in sent
    assert "status 200" in came
    assert "x-amzn-requestid: id-1" in came


# -- fork -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own() -> None:
    with HostileServer(answering()) as server:
        transport = Transport("gcp", environ={"REQUESTS_CA_BUNDLE": str(server.ca_file)})
        send(server, transport=transport)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(2):
                    status = 0 if send(server, transport=transport).status == 200 else 1
                shared_transport("gcp").close()
            finally:
                os._exit(status)
        for _ in range(3):
            send(server, transport=transport)
        _, status = os.waitpid(child, 0)
        transport.close()
        assert os.waitstatus_to_exitcode(status) == 0
        assert server.connections == 2
    assert len(server.received) == 6


def test_one_transport_is_shared_by_a_process_for_each_cloud() -> None:
    assert shared_transport("aws") is shared_transport("aws")
    assert shared_transport("aws") is not shared_transport("gcp")
    assert shared_transport("aws").cloud == "aws"


def test_no_socket_stays_open() -> None:
    """Each request holds a second handle of its socket; it must go with the request."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("counts descriptors in /proc")
    with HostileServer(raw(b"HTTP/1.1 200 OK\r\n")) as server:
        before = len(list(descriptors.iterdir()))
        for _ in range(10):
            failure(server, code="connection-failed")
        time.sleep(0.2)
        assert len(list(descriptors.iterdir())) <= before + 1
