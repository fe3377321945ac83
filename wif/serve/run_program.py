"""A program with credentials beside it: the serving side of ``wif run``."""

from __future__ import annotations

__all__ = ["closed", "run_program"]

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wif.serve.child import expect_children
from wif.serve.descriptors import fit_connections
from wif.serve.first_credentials import first_credentials

if TYPE_CHECKING:
    from wif.serve.child import Child
    from wif.serve.httpd import HttpServer
    from wif.serve.sidecar_files import SidecarFiles
    from wif.serve.sidecar_service import SidecarService
    from wif.serve.token_command import TokenCommand

_ANSWERS_SECONDS = 2.0
"""For answers under way when the program has ended: some process that it left behind has asked."""
_IDLE_SECONDS = 0.05
_STOPPED = ("SIGTERM", "SIGHUP", "SIGINT")


async def run_program(
    service: SidecarService,
    servers: Sequence[HttpServer],
    child: Child,
    *,
    files: SidecarFiles,
    token_command: TokenCommand | None,
    wait_seconds: float,
) -> int:
    """Serve, wait for the first credentials, run the program; its exit status.

    Args:
        service, servers: as :meth:`SidecarService.open` left them.
        child: not started yet.
        files: of the service; written before the program runs, where it waits.
        token_command: writes the subject token, where a command prints it.
        wait_seconds: for the first credentials; 0 does not wait.

    Raises:
        WifError: there is no credential, or no program.
    """
    expect_children()  # commands are run before the program
    fit_connections(servers, may_raise=False)  # the program inherits the limit
    try:
        with _stopped_by_signals(child):
            for server in servers:
                await server.start()
            if token_command is not None:
                await token_command.renew()
                token_command.start()
            if wait_seconds:
                service.keeper.start()
                await first_credentials(service.identities, wait_seconds=wait_seconds)
                await files.write_all()
            # only now: its files have one writer, and nothing is done after a refresh before the program runs
            service.start()
            child.start()
    except _Stopped as stopped:
        return 128 + stopped.number
    else:
        return await child.wait()
    finally:
        service.stop()
        await asyncio.gather(*map(_close, servers))
        await service.keeper.stop()


async def closed(servers: Sequence[HttpServer]) -> None:
    """Let the addresses of servers go that were never started."""
    for server in servers:
        await server.start()
        await _close(server)


async def _close(server: HttpServer) -> None:
    is_busy = any(not each.is_idle for each in server.guard.connections)
    await server.stop(_ANSWERS_SECONDS if is_busy else _IDLE_SECONDS)


class _Stopped(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _stopped_by_signals(child: Child) -> Iterator[None]:
    """Until the program runs, the signals that end it end the wait; afterwards they are the program's."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    came: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if child.is_started:  # it came before, and the loop has come to it only now
            child.send(number)
        elif task is not None:
            came.append(number)
            task.cancel()

    numbers = [getattr(signal, name) for name in _STOPPED if hasattr(signal, name)]
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError:
        if not came:
            raise
        raise _Stopped(came[0]) from None
