"""The sidecar's listener: the guard first, then one interface by the path.

Everything here is between a request and an answer that is ready: nothing blocks, nothing is looked up twice.
"""

from __future__ import annotations

__all__ = ["MAX_CONNECTIONS", "Endpoint", "Mount", "SidecarApp", "limits"]

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from wif.clouds.endpoint_answers import Answer
from wif.serve.httpd import Limits

if TYPE_CHECKING:
    from wif.serve.httpd import Receive, Scope, Send
    from wif.serve.loopback_guard import LoopbackGuard

_LOGGER = logging.getLogger("wif.serve")

MAX_CONNECTIONS = 2000

_TEXT = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_METHODS = ("GET", "HEAD")


class Endpoint(Protocol):
    """One interface."""

    async def handle(self, scope: Scope) -> Answer:
        """Answer a request that the guard has passed."""
        ...


class Mount(NamedTuple):
    """Where an interface is."""

    interface: str
    """As metrics call it."""
    endpoint: Endpoint
    is_metadata_server: bool = False
    """Whether clients call it by a metadata server's name."""


def limits(connections: int = MAX_CONNECTIONS) -> Limits:
    """What one listener allows. Clients are on this machine and send a head and no body, at once.

    A client that opens connections and sends nothing holds each for two seconds only; one that does not read its
    answers, for ten.
    """
    return Limits(
        connections=connections,
        head_bytes=8 * 1024,
        headers=64,
        body_bytes=0,
        pipelined=8,
        head_seconds=2.0,
        body_seconds=2.0,
        answer_seconds=10.0,
        idle_seconds=60.0,
    )


class SidecarApp:
    """The ASGI application of the loopback listeners.

    Args:
        guard: judges every request first.
        mounts: by the first segment of the path; ``""`` is ``/``.
    """

    def __init__(self, guard: LoopbackGuard, mounts: Mapping[str, Mount]) -> None:
        self.guard = guard
        self.mounts = mounts
        """May be replaced at any time."""
        self.counts: dict[tuple[str, int], int] = {}
        """Answers by interface and status; what the guard refused is of the interface ``guard``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Answer one request."""
        mount = self.mounts.get(scope["path"].partition("/")[2].partition("/")[0])
        interface = "none" if mount is None else mount.interface
        refusal = self.guard.refusal(scope, as_metadata_server=mount is not None and mount.is_metadata_server)
        if refusal is not None:
            interface, answer = "guard", Answer(403, f"{refusal}\n".encode(), _TEXT)
        elif mount is None:
            answer = Answer(404, b"nothing is served here\n", _TEXT)
        elif scope["method"] not in _METHODS:
            answer = Answer(405, b"only GET and HEAD\n", (*_TEXT, (b"allow", b"GET, HEAD")))
        else:
            try:
                answer = await mount.endpoint.handle(scope)
            except Exception as error:  # noqa: BLE001 - the last barrier: a defect must not end in a traceback
                answer = _defect(error)
        status, body, headers = answer
        key = (interface, status)
        self.counts[key] = self.counts.get(key, 0) + 1
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _defect(error: Exception) -> Answer:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_globals.get('__name__')} line {trace.tb_lineno}" if trace is not None else "?"
    # not its text: it may quote what it was working on
    _LOGGER.error("a request ended in an unexpected %s in %s: this is a defect of wif", type(error).__name__, where)
    return Answer(500, b"an unexpected failure; the log says more\n", _TEXT)
