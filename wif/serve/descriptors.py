"""A descriptor for each connection that a process allows, and some for the rest of its work.

A process that runs out of them can neither take a connection, its health's included, nor read a token: no more
connections are allowed than there is room for.
"""

from __future__ import annotations

__all__ = ["RESERVED", "fit_connections", "raise_limit"]

import dataclasses
import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wif.serve.httpd import HttpServer

_LOGGER = logging.getLogger("wif.serve")

RESERVED = 128
"""For files, for connections to clouds and to the API server, and for what has been accepted and not counted yet."""


def raise_limit() -> None:
    """Let this process open as many files as it may: login shells and container runtimes start it with fewer.

    What it starts inherits that.
    """
    if sys.platform == "win32":  # there is no such limit
        return
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # macOS says that there is no limit, and has one
            _LOGGER.debug("the limit of open files stays at %d: %s", soft, error)


def fit_connections(servers: Iterable[HttpServer]) -> None:
    """Share what this process may open among its servers, where that is less than they allow together."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    guards = [server.guard for server in servers]
    wanted = sum(guard.limits.connections for guard in guards)
    if soft == resource.RLIM_INFINITY or wanted + RESERVED <= soft:
        return
    room = max(soft - RESERVED, 0)
    for guard in guards:
        connections = max(1, guard.limits.connections * room // wanted)
        guard.limits = dataclasses.replace(guard.limits, connections=connections)
    _LOGGER.info(
        "%d connections at once in place of %d: this process may open %d files",
        sum(guard.limits.connections for guard in guards),
        wanted,
        soft,
    )
