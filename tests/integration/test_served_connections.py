"""What a client may do to a connection, over real TLS: slow, large, many, wrong, in a row, and at the end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.documents_server import Authority, Wire, running
from tests.integration.server_processes import until
from tests.unit.serve.thread_limit import LimitedThreads
from wif.serve.certificates import Certificate
from wif.serve.httpd import Address, HttpServer, Limits, Receive, Scope, Send

pytestmark = pytest.mark.integration

LIMITS = Limits(
    connections=8,
    head_bytes=4096,
    headers=20,
    body_bytes=10_000,
    pipelined=8,
    handshake_seconds=1.0,
    head_seconds=1.0,
    body_seconds=1.0,
    answer_seconds=2.0,
    idle_seconds=1.5,
)
LARGE = b"x" * 5_000_000


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with method, path and size of the body; ``/slow`` takes half a second, ``/large`` is large."""
    path = scope["path"]
    size = 0
    if scope["method"] == "POST":
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message["body"])
            more = message["more_body"]
    if path.startswith("/slow"):
        await asyncio.sleep(0.5)
    if path.startswith("/never"):
        await asyncio.sleep(3600)
    if path.startswith("/broken"):
        raise ValueError("broken")
    body = LARGE if path.startswith("/large") else f"{scope['method']} {path} {size}".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[HttpServer]:
    with running(echo, authority=authority, limits=LIMITS) as server:
        yield server


@pytest.fixture
def wire(server: HttpServer, authority: Authority) -> Iterator[Wire]:
    until(lambda: not server.guard.connections, what="the connections of the test before are gone")
    with Wire(server.port, authority) as wire:
        yield wire


def test_the_head_of_an_answer_says_nothing_about_the_server(wire: Wire) -> None:
    reply = wire.get("/a")
    assert (reply.status, reply.body) == (200, b"GET /a 0")
    assert set(reply.headers) == {"date", "content-type", "content-length"}
    assert reply.headers["date"].endswith("GMT")


def test_many_requests_on_one_connection(wire: Wire) -> None:
    assert {wire.get(f"/{number}").status for number in range(50)} == {200}


# -- slow -------------------------------------------------------------------------------------------------------


def test_a_head_that_drips_in_is_cut(server: HttpServer, wire: Wire) -> None:
    before = server.guard.expired
    began = time.monotonic()
    wire.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    reply = None
    for _ in range(100):
        try:
            wire.socket.sendall(b"X: y\r\n")
            wire.socket.settimeout(0.1)
            reply = wire.reply()
            break
        except TimeoutError:
            continue
    assert reply is not None
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert 0.9 < time.monotonic() - began < 4.0
    wire.socket.settimeout(10.0)
    assert wire.ended()
    assert server.guard.expired == before + 1


def test_a_connection_that_says_nothing_is_cut(wire: Wire) -> None:
    began = time.monotonic()
    assert wire.reply().status == 408
    assert time.monotonic() - began < 4.0


def test_a_handshake_that_never_ends_is_cut(server: HttpServer) -> None:
    began = time.monotonic()
    with Wire(server.port) as plain:
        plain.socket.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert plain.ended()
    assert 0.5 < time.monotonic() - began < 5.0


def test_a_later_head_that_drips_in_is_cut_too(wire: Wire) -> None:
    assert wire.get("/a").status == 200
    wire.socket.sendall(b"GET / HTT")
    began = time.monotonic()
    assert wire.reply().status == 408
    assert time.monotonic() - began < 4.0


def test_a_body_that_drips_in_is_cut(wire: Wire) -> None:
    wire.send("POST /a HTTP/1.1", "Host: localhost", "Content-Length: 100")
    wire.socket.sendall(b"x")
    began = time.monotonic()
    reply = wire.reply()
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert time.monotonic() - began < 4.0


def test_deadlines_are_kept_where_no_thread_looks_at_the_certificate(authority: Authority) -> None:
    """A pod has a limit of threads, which another container of it may reach."""

    async def serve() -> bytes:
        limited = LimitedThreads()
        asyncio.get_running_loop().set_default_executor(limited)
        certificate = Certificate(authority.chain, authority.key)
        address = Address(host="127.0.0.1", port=0)
        server = HttpServer(echo, address=address, certificate=certificate, limits=LIMITS)
        await server.start()
        try:
            async with asyncio.timeout(20.0):
                while not limited.refused:
                    await asyncio.sleep(0.05)
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", server.port, ssl=authority.client_context(), server_hostname="localhost"
                )
                said = await reader.read()
                writer.close()
                return said
        finally:
            await server.stop(0.1)

    assert asyncio.run(serve()).startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_ends_without_a_word(wire: Wire) -> None:
    assert wire.get("/a").status == 200
    began = time.monotonic()
    assert wire.ended()
    assert 1.0 < time.monotonic() - began < 5.0


def test_a_client_that_does_not_read_is_cut(server: HttpServer, authority: Authority) -> None:
    wire = Wire(server.port, authority)
    for _ in range(6):
        wire.send("GET /large HTTP/1.1", "Host: localhost")
    until(lambda: not server.guard.connections, what="cut", seconds=20.0)
    wire.close()


def test_an_application_that_never_answers_is_left(server: HttpServer, wire: Wire) -> None:
    began = time.monotonic()
    wire.send("GET /never HTTP/1.1", "Host: localhost")
    assert wire.ended()
    assert 1.5 < time.monotonic() - began < 6.0


def test_a_slow_answer_is_waited_for_although_heads_must_come_fast(wire: Wire) -> None:
    assert wire.get("/slow").status == 200


def flooded(wire: Wire, filler: bytes) -> int:
    """How many bytes went out until the connection broke."""
    sent = 0
    try:
        while sent < 50_000_000:
            wire.socket.sendall(filler)
            sent += len(filler)
    except OSError:  # reset or broken pipe, as the kernel likes
        pass
    return sent


# -- large --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET /" + "a" * 3900 + " HTTP/1.1", "Host: x"], 200),
        (["GET /" + "a" * 5000 + " HTTP/1.1", "Host: x"], 414),
        (["GET / HTTP/1.1", "Host: x", "X: " + "a" * 5000], 431),
        (["GET / HTTP/1.1", "Host: x", *[f"X{n}: {'a' * 300}" for n in range(15)]], 431),
        (["GET / HTTP/1.1", "Host: x", *[f"X{n}: y" for n in range(19)]], 200),
        (["GET / HTTP/1.1", "Host: x", *[f"X{n}: y" for n in range(20)]], 431),
    ],
)
def test_the_head_has_a_size(wire: Wire, lines: list[str], status: int) -> None:
    wire.send(*lines)
    reply = wire.reply()
    assert reply.status == status
    assert reply.headers.get("connection") == (None if status == 200 else "close")


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_end_is_refused_before_its_end(server: HttpServer, wire: Wire, start: bytes) -> None:
    wire.socket.sendall(start)
    filler = b"X: y\r\n" * 200 if start.endswith(b"1.1\r\n") else b"a" * 1200
    assert flooded(wire, filler) < 20_000_000


def test_the_refusal_of_a_head_reaches_a_client_that_is_still_sending(wire: Wire) -> None:
    wire.socket.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000)
    assert wire.reply().status == 431


def test_a_body_has_a_size(wire: Wire) -> None:
    wire.send("POST /a HTTP/1.1", "Host: x", "Content-Length: 10000", body=b"x" * 10_000)
    assert wire.reply().body == b"POST /a 10000"
    wire.send("POST /a HTTP/1.1", "Host: x", "Content-Length: 10001", body=b"x" * 10_001)
    reply = wire.reply()
    assert (reply.status, reply.headers["connection"]) == (413, "close")


def test_a_body_in_chunks_has_a_size(wire: Wire) -> None:
    wire.send("POST /a HTTP/1.1", "Host: x", "Transfer-Encoding: chunked")
    for _ in range(6):
        wire.socket.sendall(b"7d0\r\n" + b"x" * 2000 + b"\r\n")
    assert wire.reply().status == 413


def test_a_body_that_nobody_reads_has_a_size_too(wire: Wire) -> None:
    wire.send("GET /a HTTP/1.1", "Host: x", "Content-Length: 100000000")
    assert wire.reply().status == 200
    assert flooded(wire, b"x" * 100_000) < 20_000_000


# -- many ---------------------------------------------------------------------------------------------------------


def test_one_more_connection_takes_the_place_of_the_longest_idle_one(server: HttpServer, authority: Authority) -> None:
    until(lambda: not server.guard.connections, what="empty")
    wires = []
    for _ in range(LIMITS.connections):
        wires.append(Wire(server.port, authority))
        assert wires[-1].get("/a").status == 200
        time.sleep(0.01)
    before = server.guard.evicted
    with Wire(server.port, authority) as newest:
        assert newest.get("/a").status == 200
        assert wires[0].ended()
        assert wires[-1].get("/a").status == 200
    assert server.guard.evicted == before + 1
    for wire in wires:
        wire.close()


def test_each_new_connection_ends_another_one(authority: Authority) -> None:
    """And not one that was told to end, and waits for its client's farewell: TLS has one, and these never say it."""
    limits = dataclasses.replace(LIMITS, idle_seconds=60.0)
    with running(echo, authority=authority, limits=limits) as server, contextlib.ExitStack() as held:
        for _ in range(3 * LIMITS.connections):
            assert held.enter_context(Wire(server.port, authority)).get("/a").status == 200
        assert server.guard.evicted == 2 * LIMITS.connections
        going_on = [each for each in list(server.guard.connections) if not each.transport.is_closing()]
        assert len(going_on) == LIMITS.connections


def test_who_connects_and_sends_nothing_keeps_nobody_out(server: HttpServer, authority: Authority) -> None:
    until(lambda: not server.guard.connections, what="empty")
    before = server.guard.evicted
    silent = [Wire(server.port, authority) for _ in range(LIMITS.connections)]
    for wire in silent[1:]:
        wire.socket.sendall(b"GET /a HTTP/1.1\r\nHost:")  # and not the rest
    with Wire(server.port, authority) as newest:
        assert newest.get("/a").status == 200
    assert server.guard.evicted == before + 1
    for wire in silent:
        wire.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 200),  # answered; the body never comes
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),  # refused, and not read yet
    ],
    ids=["body", "head"],
)
def test_who_has_an_answer_and_does_not_go_keeps_nobody_out(
    server: HttpServer, authority: Authority, sent: bytes, status: int
) -> None:
    until(lambda: not server.guard.connections, what="empty")
    held = [Wire(server.port, authority) for _ in range(LIMITS.connections)]
    for wire in held:
        wire.socket.sendall(sent)
        assert wire.reply().status == status
    before = server.guard.evicted
    with Wire(server.port, authority) as newest:
        assert newest.get("/a").status == 200
    assert server.guard.evicted == before + 1
    for wire in held:
        wire.close()


def test_where_all_are_busy_one_more_is_told_to_come_back(server: HttpServer, authority: Authority) -> None:
    until(lambda: not server.guard.connections, what="empty")
    wires = [Wire(server.port, authority) for _ in range(LIMITS.connections)]
    for wire in wires:
        wire.send("GET /slow HTTP/1.1", "Host: x")
    with Wire(server.port, authority) as newest:
        reply = newest.reply()
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert [wire.reply().status for wire in wires] == [200] * LIMITS.connections
    for wire in wires:
        wire.close()


# -- in a row -----------------------------------------------------------------------------------------------------


def test_requests_in_a_row_are_answered_in_their_order(wire: Wire) -> None:
    paths = ["/slow", "/b", "/c", "/slow", "/e"]
    wire.socket.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths))
    assert [wire.reply().body.split()[1].decode() for _ in paths] == paths


def test_a_refusal_waits_for_the_answers_before_it(wire: Wire) -> None:
    wire.socket.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\ngarbage\r\n\r\n")
    assert [wire.reply().status for _ in range(3)] == [200, 200, 400]
    assert wire.ended()


def test_a_large_body_behind_others_is_refused_in_its_turn(wire: Wire) -> None:
    wire.socket.sendall(
        b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"
        + b"x" * 20000
    )
    assert [wire.reply().status for _ in range(2)] == [200, 413]


def test_a_row_without_end_is_cut_off(wire: Wire) -> None:
    wire.socket.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" * 30)
    statuses: list[int] = []
    while not statuses or statuses[-1] == 200:
        statuses.append(wire.reply().status)
    assert statuses[-1] == 429
    assert len(statuses) <= LIMITS.pipelined + 2


def test_a_client_that_sends_in_pieces_that_overlap_is_not_slow(wire: Wire) -> None:
    request = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    wire.socket.sendall(request + request[:10])
    ends = time.monotonic() + 2.5
    while time.monotonic() < ends:
        assert wire.reply().status == 200
        time.sleep(0.2)
        wire.socket.sendall(request[10:] + request[:10])


# -- wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\x00: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n\tfolded\x01\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_ends(wire: Wire, data: bytes) -> None:
    wire.socket.sendall(data)
    reply = wire.reply()
    assert reply.status == 400
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert wire.ended()


def test_an_upgrade_is_not_made(wire: Wire) -> None:
    reply = wire.get("/a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA")
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert wire.ended()


def test_an_old_client_is_answered_and_the_connection_ends(wire: Wire) -> None:
    wire.send("GET /a HTTP/1.0")
    assert wire.reply().status == 200
    assert wire.ended()


def test_an_absolute_target_is_its_path(wire: Wire) -> None:
    wire.send("GET https://localhost/a?b HTTP/1.1", "Host: localhost")
    assert wire.reply().body == b"GET /a 0"


@pytest.mark.parametrize("target", ["https://evil.example/a", "https://u:p@localhost/a", "http://localhost:1/a"])
def test_an_absolute_target_for_another_host_is_refused(wire: Wire, target: str) -> None:
    """By RFC 9112 the target's host counts, and applications look at the header's."""
    wire.send(f"GET {target} HTTP/1.1", "Host: localhost")
    assert wire.reply().status == 400


def test_plain_http_on_the_tls_port_ends_the_connection(server: HttpServer) -> None:
    with Wire(server.port) as plain:
        plain.send("GET / HTTP/1.1", "Host: x")
        assert plain.ended()


def test_an_old_tls_version_is_refused(server: HttpServer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_a_client_that_resets_its_connection_harms_nobody(server: HttpServer, authority: Authority) -> None:
    for _ in range(20):
        wire = Wire(server.port, authority)
        wire.send("GET /slow HTTP/1.1", "Host: x")
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()
    with Wire(server.port, authority) as wire:
        assert wire.get("/a").status == 200


def test_an_application_that_fails_is_an_answer_of_500(
    server: HttpServer, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    assert wire.get("/broken").status == 500
    assert any("Exception in ASGI application" in record.message for record in caplog.records)


def test_a_thousand_wrong_connections_leave_nothing_behind(server: HttpServer, authority: Authority) -> None:
    def spoil() -> None:
        for number in range(100):
            with Wire(server.port) as wire:
                wire.socket.sendall(bytes([number]) * (number + 1))

    threads = [threading.Thread(target=spoil) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Wire(server.port, authority) as wire:
        assert wire.get("/a").status == 200
    until(lambda: not server.guard.connections, what="all gone")


# -- where it listens ----------------------------------------------------------------------------------------------


def test_ipv6_and_every_address(authority: Authority, tmp_path: Path) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with running(echo, authority=authority, host="::1") as server:
        assert server.url == f"https://[::1]:{server.port}"
        with Wire(server.port, authority, host="::1") as wire:
            assert wire.get("/a").status == 200
    for every in ("", "::"):
        with running(echo, authority=authority, host=every) as server:
            for host in ("::1", "127.0.0.1"):
                with Wire(server.port, authority, host=host) as wire:
                    assert wire.get("/a").status == 200


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_bytes_of_every_kind_never_end_the_server(server: HttpServer, authority: Authority) -> None:
    """A fuzzer of the poor: cut, doubled and spoiled requests."""
    import random

    chance = random.Random(7)
    sound = (
        b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nX-Y: z\r\n\r\nabcGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    for _ in range(150):
        data = bytearray(sound)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with Wire(server.port, authority) as wire:
            wire.socket.sendall(bytes(data[: chance.randrange(1, len(data))]))
    with Wire(server.port, authority) as wire:
        assert wire.get("/a").status == 200
