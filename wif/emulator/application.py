"""The ASGI application of the local STS: which cloud a request is for, its faults, its answer.

On a cloud's own host name (through the proxy) the name decides; on loopback the paths do, which do not collide.
A foreign Host header and a forwarded request are refused: this is nobody's gateway.
"""

from __future__ import annotations

__all__ = ["Application"]

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from wif.emulator import aws, azure, gcp
from wif.emulator.faults import Fault, Faults
from wif.emulator.hosts import Cloud, cloud_of_host
from wif.emulator.services import Services
from wif.emulator.wire import (
    MARK_HEADER,
    Answer,
    BodyTooLarge,
    Call,
    Handler,
    Incoming,
    Receive,
    Scope,
    Send,
    read_body,
    start_message,
)

logger = logging.getLogger("wif.emulator")

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host")


class Application:
    """A plain ASGI callable.

    Args:
        services: trust, keys and signers.
        faults: asked once per request.
        hosts: further host names, each with the cloud that it stands for (another universe of Google's, say).
        clock: unix seconds.
    """

    def __init__(
        self,
        services: Services,
        *,
        faults: Faults | None = None,
        hosts: Mapping[str, Cloud] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._handlers: Mapping[Cloud, Handler] = {
            "aws": aws.AwsSts(services),
            "gcp": gcp.GcpSts(services),
            "azure": azure.AzureSts(services),
        }
        self._faults = faults
        self._hosts = {name.lower(): cloud for name, cloud in (hosts or {}).items()}
        self._clock = clock
        self.exchanges = 0
        """Requests answered so far."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # no lifespan, no websockets
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        now = self._clock()
        self.exchanges += 1
        cloud: Cloud | None = None
        try:
            body = await read_body(receive)
            request = Incoming(
                method=scope["method"],
                host=headers.get("host", ""),
                path=scope["path"],
                query=scope["query_string"].decode("latin-1"),
                headers=headers,
                body=body,
            )
            cloud = self._cloud(request)
        except BodyTooLarge:
            await _send(send, _plain(413, "the request is larger than any of this protocol"), now)
            return
        if cloud is None:
            await _send(send, _misdirected(request), now)
            return
        call = self._handlers[cloud].route(request)
        fault = None if self._faults is None else self._faults.take(cloud, call.operation)
        if fault is None:
            await _send(send, await call.run(now), now)
        else:
            await _faulty(scope, receive, send, call, fault, now=now)

    def _cloud(self, request: Incoming) -> Cloud | None:
        if any(name in request.headers for name in _FORWARDED):
            return None
        hostname = request.hostname
        if hostname in LOOPBACK_HOSTS:
            path = request.path
            if path == "/":
                return "aws"
            return "gcp" if path.startswith(("/v1/", "/v1beta/", "/oauth2/v3/")) else "azure"
        return cloud_of_host(hostname) or self._hosts.get(hostname)


async def _faulty(scope: Scope, receive: Receive, send: Send, call: Call, fault: Fault, *, now: float) -> None:
    now += fault.clock_offset_seconds
    if fault.delay_seconds:
        await asyncio.sleep(fault.delay_seconds)
    cut = scope.get("extensions", {}).get("wif.cut")
    if fault.cut == "before-answer":
        await _cut(cut, receive)
        return
    if fault.status is None:
        answer = await call.run(now)
    else:
        answer = Answer(
            status=fault.status,
            content_type=fault.content_type,
            body=fault.body,
            headers=tuple(fault.headers.items()),
        )
    if fault.cut is None:
        await _send(send, answer, now)
        return
    if fault.cut == "headers":
        await _cut(cut, receive, _partial_head(answer))
        return
    await send(start_message(answer, now))
    await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
    await _cut(cut, receive)


async def _send(send: Send, answer: Answer, now: float) -> None:
    await send(start_message(answer, now))
    await send({"type": "http.response.body", "body": answer.body})


async def _cut(cut: Callable[[bytes], None] | None, receive: Receive, first: bytes = b"") -> None:
    """Close the connection under the answer; a server without that ability leaves it without its end."""
    if cut is None:
        logger.warning("this server cannot cut a connection")
        return
    cut(first)
    while (await receive())["type"] != "http.disconnect":
        continue


def _partial_head(answer: Answer) -> bytes:
    # the length stands before the cut: some clients take headers that end early for whole ones
    length = max(1, len(answer.body))
    return f"HTTP/1.1 {answer.status} \r\n{MARK_HEADER}: 1\r\ncontent-length: {length}\r\ncontent-ty".encode()


def _plain(status: int, text: str) -> Answer:
    return Answer(status=status, content_type="text/plain; charset=utf-8", body=f"{text}\n".encode())


def _misdirected(request: Incoming) -> Answer:
    if any(name in request.headers for name in _FORWARDED):
        return _plain(400, "the local STS answers no forwarded requests")
    return _plain(421, "the local STS does not answer for this host")
