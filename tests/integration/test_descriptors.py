"""Connections and descriptors: what a process may open is raised as far as is needed, and else shared."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.documents_server import Authority
from tests.integration.led_pod import pod
from tests.integration.run_processes import Runner, runner
from wif.serve.certificates import Certificate
from wif.serve.descriptors import RESERVED, fit_connections
from wif.serve.httpd import Address, HttpServer, Limits, Receive, Scope, Send

__all__ = ["pod", "runner"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

resource = pytest.importorskip("resource", reason="no limit of open files on this system")


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


@contextlib.contextmanager
def limit(files: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def servers() -> Iterator[list[HttpServer]]:
    address = Address(host="127.0.0.1", port=0)
    made = [HttpServer(nothing, address=address, limits=Limits(connections=each)) for each in (2000, 2000, 64)]
    yield made
    for server in made:
        server._listener.close()


def connections(servers: list[HttpServer]) -> list[int]:
    return [server.guard.limits.connections for server in servers]


def test_what_fits_stays(servers: list[HttpServer], caplog: pytest.LogCaptureFixture) -> None:
    with limit(4064 + RESERVED), caplog.at_level("INFO", "wif.serve"):
        fit_connections(servers, may_raise=False)
    assert connections(servers) == [2000, 2000, 64]
    assert not caplog.messages


def test_what_does_not_fit_is_shared(servers: list[HttpServer], caplog: pytest.LogCaptureFixture) -> None:
    with limit(1024), caplog.at_level("INFO", "wif.serve"):
        fit_connections(servers, may_raise=False)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024
    assert connections(servers) == [440, 440, 14]
    assert sum(connections(servers)) + RESERVED <= 1024
    assert caplog.messages == ["894 connections at once in place of 4064: this process may open 1024 files"]
    assert servers[0].guard.limits.head_bytes == Limits().head_bytes


def test_each_server_takes_at_least_one_connection(servers: list[HttpServer]) -> None:
    with limit(RESERVED):
        fit_connections(servers, may_raise=False)
    assert connections(servers) == [1, 1, 1]


def test_no_server_is_no_trouble() -> None:
    with limit(RESERVED - 1):
        fit_connections([], may_raise=False)


def test_tls_has_room_for_handshakes_too(tmp_path: Path) -> None:
    authority, address = Authority(tmp_path), Address(host="127.0.0.1", port=0)
    certificate = Certificate(authority.chain, authority.key)
    server = HttpServer(nothing, address=address, certificate=certificate, limits=Limits(connections=1000))
    try:
        with limit(1000 + RESERVED):
            fit_connections([server], may_raise=True)
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 2000 + RESERVED
            assert connections([server]) == [1000]
        with limit(1000 + RESERVED):
            fit_connections([server], may_raise=False)
            assert connections([server]) == [500]
    finally:
        server._listener.close()


def test_the_limit_is_raised_as_far_as_is_needed_and_no_further(servers: list[HttpServer]) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with limit(100):
        fit_connections(servers, may_raise=True)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (4064 + RESERVED, hard)
    assert connections(servers) == [2000, 2000, 64]


def test_where_it_cannot_be_raised_far_enough_what_there_is_is_shared() -> None:
    program = """
import resource
from wif.serve.certificates import Certificate
from wif.serve.descriptors import fit_connections
from wif.serve.httpd import Address, HttpServer
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 628))
server = HttpServer(None, address=Address(host="127.0.0.1", port=0))
fit_connections([server], may_raise=True)
print(server.guard.limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == f"{628 - RESERVED} (628, 628)\n"


def test_a_process_of_servers_raises_it() -> None:
    program = """
import resource
from wif.serve.httpd import Address, HttpServer, run
server = HttpServer(None, address=Address(host="127.0.0.1", port=0))
run([server], workers=[lambda stopping: None], grace_seconds=1.0)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    with limit(333):
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) == 2000 + RESERVED


def test_the_program_of_wif_run_keeps_its_own(runner: Runner) -> None:
    with limit(333):
        assert runner.run("--log-level", "info", "--", "/bin/sh", "-c", "ulimit -n")[0] == "333\n"
