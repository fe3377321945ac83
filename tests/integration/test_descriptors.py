"""Connections and descriptors: what a process may open is raised as far as it goes, and shared."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.led_pod import pod
from tests.integration.run_processes import Runner, runner
from wif.serve.descriptors import RESERVED, fit_connections, raise_limit
from wif.serve.httpd import Address, HttpServer, Limits, Receive, Scope, Send

__all__ = ["pod", "runner"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

resource = pytest.importorskip("resource", reason="no limit of open files on this system")


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


@contextlib.contextmanager
def soft_limit(files: int) -> Iterator[None]:
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
    with soft_limit(4064 + RESERVED), caplog.at_level("INFO", "wif.serve"):
        fit_connections(servers)
    assert connections(servers) == [2000, 2000, 64]
    assert not caplog.messages


def test_what_does_not_fit_is_shared(servers: list[HttpServer], caplog: pytest.LogCaptureFixture) -> None:
    with soft_limit(1024), caplog.at_level("INFO", "wif.serve"):
        fit_connections(servers)
    assert connections(servers) == [440, 440, 14]
    assert sum(connections(servers)) + RESERVED <= 1024
    assert caplog.messages == ["894 connections at once in place of 4064: this process may open 1024 files"]
    assert servers[0].guard.limits.head_bytes == Limits().head_bytes


def test_each_server_takes_at_least_one_connection(servers: list[HttpServer]) -> None:
    with soft_limit(RESERVED):
        fit_connections(servers)
    assert connections(servers) == [1, 1, 1]


def test_no_server_is_no_trouble() -> None:
    with soft_limit(RESERVED):
        fit_connections([])


def test_the_limit_is_raised_as_far_as_it_goes() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with soft_limit(100):
        raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_process_of_servers_raises_it() -> None:
    program = "import resource; from wif.serve.httpd import run; run(workers=[lambda stopping: None])"
    program += "; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    with soft_limit(333):
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_the_program_of_wif_run_keeps_its_own(runner: Runner) -> None:
    with soft_limit(333):
        assert runner.run("--log-level", "info", "--", "/bin/sh", "-c", "ulimit -n")[0] == "333\n"
