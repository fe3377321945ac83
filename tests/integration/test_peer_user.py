"""Who is at the other end of a loopback connection, as this machine's kernel tells it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wif.serve.peer_user import peer_user, same_user_check

pytestmark = [
    pytest.mark.integration,
    pytest.mark.one_python,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is"),
]

NOBODY = 65534


def test_our_own_connection_is_ours_until_it_has_gone() -> None:
    check = same_user_check()
    assert check is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            ends = {"client": client.getsockname(), "server": server.getsockname()}
            assert check(ends)
            assert peer_user(ends["client"], ends["server"]) == os.geteuid()
            assert not check({**ends, "client": None})
        assert not check(ends)


@pytest.mark.parametrize("family", [socket.AF_INET6, socket.AF_INET])
def test_a_client_of_either_family(family: socket.AddressFamily) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as server, socket.socket(socket.AF_INET6) as client:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        port = server.getsockname()[1]
        client.connect((host if family == socket.AF_INET6 else "::ffff:127.0.0.1", port))
        assert peer_user((host, client.getsockname()[1]), (host, port)) == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_from_ours() -> None:
    check = same_user_check()
    assert check is not None
    program = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = ["/usr/bin/env", "python3", "-c", program, str(server.getsockname()[1])]
        with subprocess.Popen(words, stdin=subprocess.PIPE, user=NOBODY, group=NOBODY, extra_groups=[]) as other:
            try:
                server.settimeout(30)
                connection, client = server.accept()
                with connection:
                    assert peer_user(client, server.getsockname()) == NOBODY
                    assert not check({"client": client, "server": server.getsockname()})
            finally:
                other.kill()


def test_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert same_user_check(folder=tmp_path) is None
    for name in ("tcp", "tcp6"):
        (tmp_path / name).write_text("  sl  local_address rem_address   st\n")
    assert same_user_check(folder=tmp_path) is None, "tables that leave sockets out"
