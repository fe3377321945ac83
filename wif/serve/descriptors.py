"""A descriptor for each connection that a process allows, and some for the rest of its work.

A process that runs out of them can neither take a connection, its health's included, nor read a token: no more
connections are allowed than there is room for.
"""

from __future__ import annotations

__all__ = ["RESERVED", "fit_connections"]

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


def fit_connections(servers: Iterable[HttpServer], *, may_raise: bool) -> None:
    """Have room for as many connections as the servers allow, or let them allow no more than there is room for.

    A connection of TLS counts from the end of its handshake, so room is made for as many again that are in theirs;
    how many those are at a time is bounded by the handshake's time alone.

    Args:
        may_raise: raise the limit of this process as far as is needed and the system lets it; login shells and
            container runtimes start it with less than it may have. What the process starts inherits that.
    """
    if sys.platform == "win32":  # there is no such limit
        return
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    guards = {server.guard: 1 if server.certificate is None else 2 for server in servers}
    needed = sum(guard.limits.connections * times for guard, times in guards.items())
    wanted = needed + RESERVED
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    if may_raise:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft == wanted:
            return
    room = max(soft - RESERVED, 0)
    before = sum(guard.limits.connections for guard in guards)
    for guard in guards:
        connections = max(1, guard.limits.connections * room // needed)
        guard.limits = dataclasses.replace(guard.limits, connections=connections)
    after = sum(guard.limits.connections for guard in guards)
    _LOGGER.info("%d connections at once in place of %d: this process may open %d files", after, before, soft)
