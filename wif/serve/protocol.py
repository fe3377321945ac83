"""uvicorn's HTTP protocol with limits: every phase of a connection has a deadline, every size a bound.

What uvicorn leaves open, each shown by a test: a head of any size and age (slowloris), a body of any size, requests
pipelined without end, a refusal written in front of an earlier request's answer, and a stop that closes an idle
connection under a request that is on its way.

There are no timers per request. A connection carries one deadline, and the server looks over all of them once a
second.
"""

from __future__ import annotations

__all__ = ["GuardedProtocol"]

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from wif.serve.httpd import Guard

_LAST_SECONDS = 5.0
"""Between the close of an expired connection and its abort: time for TLS' farewell."""
_LINGER_SECONDS = 2.0
"""How long a client that is still sending may read why it is refused: a close at once would reset the connection and
take the answer away with it."""
_LINGER_BYTES = 1024 * 1024
"""How much of what it goes on sending is thrown away before the reset comes all the same."""
_LEAVE_SECONDS = 1.0
"""For an application to notice that its client was cut off."""

# what a connection is waiting for: plain numbers, they are compared several times per request
_IDLE: Final = 0
_HEAD: Final = 1
_BODY: Final = 2
_WORK: Final = 3

_STILL_SENDING = frozenset({413, 414, 431})
_ASK_AGAIN = frozenset({429, 503})
_UPGRADED = -1


class _Corked:
    """A transport that holds the head of an answer until its first bytes come: one write, one TLS record.

    uvicorn writes the two one after the other, and uvloop sends each at once: a sixth of the time of an answer.
    """

    __slots__ = ("_abort", "_close", "_head", "_write", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._write, self._close, self._abort = transport.write, transport.close, transport.abort
        self.is_closing = transport.is_closing
        self._head = b""

    def write(self, data: bytes) -> None:
        """Send, together with a head that is held; hold a head (100 Continue is none)."""
        if self._head:
            head, self._head = self._head, b""
            self._write(head + data)
        elif data[:8] == b"HTTP/1.1" and data[9:10] != b"1":
            self._head = data
        else:
            self._write(data)

    def flush(self) -> None:
        """Send what is held: an answer without a body, or with one in the same bytes."""
        if self._head:
            head, self._head = self._head, b""
            self._write(head)

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._close()

    def abort(self) -> None:
        """Close at once."""
        self._head = b""
        self._abort()


def _announces_body(header: tuple[bytes, bytes]) -> bool:
    return header[0] == b"transfer-encoding" or (header[0] == b"content-length" and header[1].strip(b" 0") != b"")


def _is_for_host(url: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a target that is a whole URL is for the server of the Host header. By RFC 9112, 3.2.2, the target's
    counts; applications look at the header, so the two must be one. ``*`` is for every host."""
    if url == b"*":
        return True
    authority = url.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0]
    return [authority.lower()] == [value.strip().lower() for name, value in headers if name == b"host"]


class _Refused(Exception):
    """Ends the parsing of a request; ``_refusal`` says with what it is answered."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection under the limits of ``guard``."""

    def __init__(
        self, *, config: Config, server_state: ServerState, guard: Guard, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        self.guard = guard
        self.deadline = 0.0
        self._phase = _HEAD
        self._part = _IDLE  # what the parser is in the middle of
        self._head_bytes = 0  # as the parser has handed it over
        self._head_fed = 0  # since the last whole request: a header that is not whole is not handed over
        self._body_bytes = 0
        self._refusal = 0
        self._thrown_away = 0
        self._expired = False
        self._task: asyncio.Task[None] | None = None

    # -- the connection ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A connection stands, its TLS handshake done."""
        super().connection_made(transport)
        self._wire = _Corked(transport)
        self.transport = cast("asyncio.Transport", self._wire)  # all that uvicorn uses of one from here on
        guard = self.guard
        guard.accepted += 1
        self.deadline = self.loop.time() + guard.limits.head_seconds
        if len(self.connections) > guard.limits.connections and not guard.evict_idle(self):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self.pipeline.clear()

    @property
    def is_idle(self) -> bool:
        """Whether it waits between two requests."""
        return self._phase == _IDLE and self._part == _IDLE and not self._refusal

    @property
    def is_unsent(self) -> bool:
        """Whether its client has connected, or begun a request, and not sent a whole head yet."""
        return self._phase == _HEAD and not (self._refusal or self._expired or self._is_busy())

    @property
    def is_spent(self) -> bool:
        """Whether it has its answer or its refusal, and only what its client still sends or reads keeps it."""
        return not self._is_busy() and (self._refusal > 0 or self._part == _BODY)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, or of several."""
        if self._refusal != 0:
            self._thrown_away += len(data)
            if self._thrown_away > _LINGER_BYTES:
                self.transport.abort()
            return
        self._head_fed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # answered as the plain request that it also is; what follows on the connection is no HTTP to the parser
            self._refusal = _UPGRADED
            self.cycle.keep_alive = False
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal or HTTPStatus.BAD_REQUEST)
            return
        if self._part == _IDLE:
            if self._is_busy():
                self._enter(_WORK)
        elif self._part == _HEAD:
            if self._head_fed > self.guard.limits.head_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            else:
                self._enter(_HEAD)
        else:
            self._enter(_BODY)

    def _is_busy(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        return cycle is not None and not cycle.response_complete

    def _enter(self, phase: int) -> None:
        if self._phase != phase:  # a byte more does not move the deadline
            self._phase = phase
            self.deadline = self.loop.time() + self.guard.phase_seconds[phase]

    # -- the parser's callbacks --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if len(self.pipeline) >= self.guard.limits.pipelined:
            self._refusal = HTTPStatus.TOO_MANY_REQUESTS
            raise _Refused
        super().on_message_begin()
        self._part = _HEAD
        self._head_bytes = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._head_bytes += len(url)
        if self._head_bytes > self.guard.limits.head_bytes:
            self._refusal = HTTPStatus.REQUEST_URI_TOO_LONG
            raise _Refused
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One whole header."""
        self._head_bytes += len(name) + len(value)
        limits = self.guard.limits
        if self._head_bytes > limits.head_bytes or len(self.headers) >= limits.headers:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the application starts."""
        if not self.guard.limits.body_bytes and any(map(_announces_body, self.headers)):
            self._refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE  # now, and not when the first byte of it comes
            raise _Refused
        if self.url[:1] != b"/" and not _is_for_host(self.url, self.headers):
            self._refusal = HTTPStatus.BAD_REQUEST
            raise _Refused
        super().on_headers_complete()
        self._part = _BODY
        if self.guard.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self.guard.limits.body_bytes:
            self._refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            raise _Refused
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        self._part = _IDLE
        self._head_fed = 0  # what follows in the same feed is not counted, and is no more than that
        self._phase = _IDLE  # the next phase has a deadline of its own

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """As uvicorn's, and keeps the task: an application that never answers is ended with its connection."""
        self._task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    # -- answers -----------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """An answer is written: the next request of the pipeline, else idle until the deadline."""
        self.server_state.total_requests += 1
        self._wire.flush()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self._part == _IDLE:
                self._phase = _IDLE
                self._enter(_WORK)  # each answer has its time
        elif self._refusal > 0:
            self._write_refusal()
        elif self._part == _IDLE:
            self._enter(_IDLE)

    def _refuse(self, status: int) -> None:
        """Answer with this status and close, but behind the answers that are still due."""
        self._refusal = int(status)
        self.guard.refused[self._refusal] = self.guard.refused.get(self._refusal, 0) + 1
        cycle: Any = self.cycle
        if self._part == _BODY:  # the application has this request already
            if self.pipeline:
                self.pipeline.popleft()  # or will have: it waits behind others
            elif cycle.response_complete:
                self.deadline = self.loop.time() + _LINGER_SECONDS
            elif cycle.response_started:
                cycle.keep_alive = False
            else:
                cycle.disconnected = True
                cycle.message_event.set()
                self._write_refusal()
        elif cycle is None or (cycle.response_complete and not self.pipeline):
            self._write_refusal()

    def _write_refusal(self) -> None:
        if self.transport.is_closing():
            return
        status = HTTPStatus(self._refusal)
        text = status.phrase.lower().encode() + b"\n"
        more = b"retry-after: 1\r\n" if status in _ASK_AGAIN else b""
        date = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(
            b"HTTP/1.1 %d %s\r\n%scontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
            b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n%sconnection: close\r\n\r\n%s"
            % (status, status.phrase.encode(), date, len(text), more, text)
        )
        self._wire.flush()
        if status in _STILL_SENDING:
            self.deadline = self.loop.time() + _LINGER_SECONDS
        else:
            self._end(self.loop.time())

    # -- the server's word -------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        if self._expired:
            self.transport.abort()
        elif self._refusal or self._phase == _IDLE:
            self._end(now)
        elif self._phase == _WORK:  # the client does not read, or the application does not answer
            self.guard.expired += 1
            self.transport.abort()
            if self._task is not None:
                self.loop.call_later(_LEAVE_SECONDS, self._task.cancel)
        else:
            self.guard.expired += 1
            self.deadline = now + _LAST_SECONDS
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _end(self, now: float) -> None:
        self._expired = True
        self.deadline = now + _LAST_SECONDS
        self.transport.close()

    def shutdown(self) -> None:
        """The server drains: the answer under way is the last; an idle connection may bring one more request."""
        if self._is_busy():
            self.cycle.keep_alive = False

    def end_if_idle(self) -> None:
        """End a connection on which nothing is under way."""
        if not self._is_busy() and not self.transport.is_closing():
            self._end(self.loop.time())
