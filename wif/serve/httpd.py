"""One HTTP(S) server for everything that this project serves: uvicorn's protocol under limits, and a stop without loss.

An application is a plain ASGI callable. ::

    server = HttpServer(app, address=Address.parse("[::1]:8443"), certificate=Certificate("tls.crt", "tls.key"))
    run([server])  # until SIGTERM or SIGINT

On SIGTERM the listeners close at once, or after ``accept_seconds`` where a load balancer needs time to look
elsewhere; requests under way are answered; every answer says ``Connection: close``; an idle connection stays open
until its client has used it once more, or the grace period is nearly over. A client that reuses connections, as the
API server does with webhooks, so never meets a closed one.
"""

from __future__ import annotations

__all__ = ["Address", "App", "Guard", "HttpServer", "Limits", "Receive", "Scope", "Send", "Worker", "logged", "run"]

import asyncio
import contextlib
import gc
import logging
import operator
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from wif.errors import ConfigurationError
from wif.serve.descriptors import fit_connections
from wif.serve.draining import SETTLE_SECONDS, ignore_new_connections
from wif.serve.threads import NoThread, in_thread

if TYPE_CHECKING:
    from wif.serve.certificates import Certificate
    from wif.serve.protocol import GuardedProtocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Worker = Callable[[threading.Event], None]
"""Work beside the servers, in a thread of its own; it returns soon after the event is set."""

_LOGGER = logging.getLogger("wif.serve")

TICK_SECONDS = 1.0
"""How often deadlines are looked over and the Date header is renewed."""
CERTIFICATE_SECONDS = 5.0
"""How often the certificate's files are looked at."""
FAREWELL_SECONDS = 5.0
"""For a client to answer TLS' close_notify."""
BACKLOG = 1024
_HEALTH_SECONDS = 0.5
"""For an answer under way; whoever scrapes metrics asks another time."""
_RESERVE_SECONDS = 5.0
"""Of the grace period: idle connections that were not used again are closed this long before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server allows. Every phase of a connection has a time, every size a bound."""

    connections: int = 2000
    """At once. One more takes the place of the idle one whose time ends first, else of the one that has been sending
    its request's head for longest; without any it is answered 503."""
    head_bytes: int = 16 * 1024
    """Request line and headers: 414 and 431."""
    headers: int = 100
    body_bytes: int = 64 * 1024
    """413."""
    pipelined: int = 32
    """Requests of one connection that wait for the answer to an earlier one: 429."""
    handshake_seconds: float = 10.0
    """For TLS; connections count as such from its end."""
    head_seconds: float = 10.0
    """From the connection, or from the first byte of a later request, to its whole head: 408."""
    body_seconds: float = 30.0
    """From the head to the whole body: 408."""
    answer_seconds: float = 60.0
    """For the application to answer and the client to read it: the connection is cut."""
    idle_seconds: float = 120.0
    """Between two requests. Longer than most clients and proxies keep one, so that these close first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens. An empty host, or ``::``, is every address of this machine, IPv4 and IPv6."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT``.

        Raises:
            ConfigurationError: config-invalid.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
        if not colon or not 0 <= number <= 65535 or (":" in host and not bracketed):
            raise ConfigurationError(
                f"the address {text[:128]!r} is not HOST:PORT",
                code="config-invalid",
                hint="write 127.0.0.1:8443, [::1]:8443, or :8443 for every address of this machine",
            )
        return cls(host=host.strip("[]"), port=number)

    def listen(self) -> socket.socket:
        """A listening socket.

        Raises:
            ConfigurationError: config-invalid, where the address is not this machine's or is taken.
        """
        try:
            if self.host in ("", "::"):
                if socket.has_dualstack_ipv6():
                    with contextlib.suppress(OSError):  # IPv6 may be compiled in and switched off
                        return self._create("::", socket.AF_INET6, dualstack=True)
                return self._create("", socket.AF_INET)
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            return self._create(self.host, found[0][0])
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {self}: {_reason(error)}",
                code="config-invalid",
                hint="choose an address of this machine and a port that is free and allowed to this user",
            ) from error

    def _create(self, host: str, family: int, *, dualstack: bool = False) -> socket.socket:
        made = socket.create_server((host, self.port), family=family, backlog=BACKLOG, dualstack_ipv6=dualstack)
        made.setblocking(False)
        return made

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_DISPENSABLE_FIRST: tuple[Callable[[GuardedProtocol], bool], ...] = tuple(
    operator.attrgetter(name) for name in ("is_spent", "is_idle", "is_unsent")
)
_DEADLINE: Callable[[GuardedProtocol], float] = operator.attrgetter("deadline")


class Guard:
    """What all connections of a server share: its limits, whether it drains, and counts."""

    def __init__(self, limits: Limits, connections: set[GuardedProtocol]) -> None:
        self.limits = limits
        self.connections = connections
        self.phase_seconds = (limits.idle_seconds, limits.head_seconds, limits.body_seconds, limits.answer_seconds)
        self.draining = False
        self.accepted = 0
        self.evicted = 0
        self.expired = 0
        """Connections ended because a head, a body or an answer took too long."""
        self.refused: dict[int, int] = {}
        """Requests that no application has seen, by status."""

    def evict_idle(self, newest: GuardedProtocol) -> bool:
        """Close a connection on which nothing is under way; False where all are at work.

        First those that have their answer, and whose client still sends or reads; then those that wait for another
        request; then those that have sent no whole request yet: whoever opens connections and sends nothing would else
        keep all others out. A real client's head is here long before it is the oldest. Of its kind, the one whose time
        ends first.
        """
        others = [each for each in self.connections if each is not newest and not each.transport.is_closing()]
        for is_dispensable in _DISPENSABLE_FIRST:
            found = [each for each in others if is_dispensable(each)]
            if found:
                self.evicted += 1
                min(found, key=_DEADLINE).end_if_idle()
                return True
        return False

    def expire(self, now: float) -> None:
        """End what has outlived its deadline."""
        for each in [each for each in self.connections if now > each.deadline]:
            each.expire(now)


class HttpServer:
    """One listener with its application.

    Args:
        app: called for each request.
        address: where to listen; port 0 takes a free one.
        certificate: TLS with it; None is plain HTTP.
        accept_seconds: how long new connections are still taken after the word to stop.
        name: what the log calls it.
        listener: a socket that listens already, e.g. inherited by several processes; ``address`` is then not used.
    """

    def __init__(
        self,
        app: App,
        *,
        address: Address,
        certificate: Certificate | None = None,
        limits: Limits | None = None,
        accept_seconds: float = 0.0,
        name: str = "http",
        listener: socket.socket | None = None,
    ) -> None:
        self.name = name
        self.certificate = certificate
        self._app = app
        self._accept_seconds = accept_seconds
        self._is_shared = listener is not None
        self._listener = address.listen() if listener is None else listener
        self.host, self.port = self._listener.getsockname()[:2]
        self._state, self._config = _uvicorn(app)
        connections: Any = self._state.connections
        self.guard = Guard(limits or Limits(), connections)
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """``https://HOST:PORT`` as a client on this machine reaches it."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    @property
    def requests(self) -> int:
        """Answers so far."""
        return int(self._state.total_requests)

    async def start(self) -> None:
        """Take connections."""
        from wif.serve.protocol import GuardedProtocol  # noqa: PLC0415 - needs the extra

        loop = asyncio.get_running_loop()

        def protocol() -> GuardedProtocol:
            return GuardedProtocol(config=self._config, server_state=self._state, guard=self.guard, loop=loop)

        tls: dict[str, Any] = {}
        if self.certificate is not None:
            tls = {
                "ssl": self.certificate.server_context(),
                "ssl_handshake_timeout": self.guard.limits.handshake_seconds,
                "ssl_shutdown_timeout": FAREWELL_SECONDS,
            }
        self._renew_date()
        self._server = await loop.create_server(protocol, sock=self._listener, backlog=BACKLOG, **tls)
        self._ticker = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        next_look = loop.time() + CERTIFICATE_SECONDS
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._renew_date()
            now = loop.time()
            self.guard.expire(now)
            if self.certificate is not None and now >= next_look:
                next_look = now + CERTIFICATE_SECONDS
                try:
                    await in_thread(self.certificate.reload)
                except NoThread as error:
                    _LOGGER.warning("the certificate's files are not looked at: %s", error)

    def _renew_date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]

    async def stop(self, grace_seconds: float) -> None:
        """Stop without losing a request, within the grace period."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + grace_seconds
        self.guard.draining = True
        for each in list(self.guard.connections):
            each.shutdown()
        if self._accept_seconds:
            await asyncio.sleep(min(self._accept_seconds, grace_seconds))
        if not self._is_shared and ignore_new_connections(self._listener):
            await asyncio.sleep(min(SETTLE_SECONDS, grace_seconds / 2))
        if self._server is not None:
            self._server.close()
        if self._is_shared:
            # a filter is the socket's, so it would shut the other processes' door as well; what waits to be accepted
            # is left to them, and here handshakes that have begun are completed
            await asyncio.sleep(min(SETTLE_SECONDS, grace_seconds / 2))
        reserve = min(_RESERVE_SECONDS, grace_seconds / 2)
        await self._emptied(ends - reserve)
        for each in list(self.guard.connections):
            each.end_if_idle()
        await self._emptied(ends - reserve / 4)
        for each in list(self.guard.connections):
            each.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.sleep(0)
        if self._ticker is not None:
            self._ticker.cancel()

    async def _emptied(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while (self.guard.connections or self._state.tasks) and loop.time() < until:
            await asyncio.sleep(0.02)


def _reason(error: OSError) -> str:
    if error.errno is None or isinstance(error, socket.gaierror):
        return str(error.strerror)
    return os.strerror(error.errno)  # Python's own text for an address in use shows a tuple


def _uvicorn(app: App) -> tuple[Any, Any]:
    try:
        import httptools  # noqa: F401, PLC0415
        import uvicorn  # noqa: PLC0415
        from uvicorn.server import ServerState  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "serving needs uvicorn and httptools", code="extra-missing", hint="pip install 'wif[serve]'"
        ) from error
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    config.load()
    return ServerState(), config


def logged(app: App) -> App:
    """The same application with a record of each request on the logger ``wif.access``, at info."""
    logger = logging.getLogger("wif.access")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status = 0

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            client = scope.get("client")
            fields = {
                "client": client[0] if client else None,
                "method": scope["method"],
                "host": next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), None),
                "path": scope["path"][:512],
                "status": status,
                "seconds": round(time.perf_counter() - began, 6),
            }
            logger.info("%s %s", scope["method"], status, extra={"wif": fields})

    return application


# -- a process of servers ------------------------------------------------------------------------------------------


def run(
    servers: Sequence[HttpServer] = (),
    *,
    health: HttpServer | None = None,
    workers: Sequence[Worker] = (),
    grace_seconds: float = 25.0,
    on_ready: Callable[[], None] = lambda: None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop within the grace period; a second SIGINT ends it at once.

    Args:
        servers: stop together, none losing a request.
        health: stops last and at once: to the end it tells that this process is leaving.
        workers: each runs in a thread. One that fails or returns ends the process.
        grace_seconds: less than the pod's ``terminationGracePeriodSeconds``, which is 30.
        on_ready: called once all servers listen.
        on_stop: called when the word to stop has come, e.g. to stop being ready.

    Raises:
        WifError: what a worker raised.
    """
    fit_connections((*servers, *([health] if health is not None else [])), may_raise=True)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(
            _serve(
                servers,
                health=health,
                workers=workers,
                grace_seconds=grace_seconds,
                on_ready=on_ready,
                on_stop=on_stop,
            )
        )


async def _serve(
    servers: Sequence[HttpServer],
    *,
    health: HttpServer | None,
    workers: Sequence[Worker],
    grace_seconds: float,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()
    leave, stopping = asyncio.Event(), threading.Event()
    _on_signals(loop, leave)
    for server in (*servers, *([health] if health is not None else [])):
        await server.start()
    ended = [loop.create_future() for _ in workers]
    for worker, future in zip(workers, ended, strict=True):
        threading.Thread(
            target=_work, args=(worker, stopping, loop, future, leave), name="wif-worker", daemon=True
        ).start()
    gc.collect()
    gc.freeze()  # what is loaded by now stays: a collection while serving does not look through it
    on_ready()
    await leave.wait()
    began = loop.time()
    on_stop()
    stopping.set()
    await asyncio.gather(*(server.stop(grace_seconds) for server in servers))
    if ended:
        await asyncio.wait(ended, timeout=max(0.1, grace_seconds - (loop.time() - began)))
    if health is not None:
        await health.stop(_HEALTH_SECONDS)
    for future in ended:
        if future.done() and not future.cancelled():
            future.result()


def _work(
    worker: Worker,
    stopping: threading.Event,
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[None],
    leave: asyncio.Event,
) -> None:
    failure: BaseException | None = None
    try:
        worker(stopping)
    except BaseException as error:  # noqa: BLE001 - handed to the thread that runs the servers
        failure = error

    def tell() -> None:
        if not future.done():
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)
        leave.set()

    with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
        loop.call_soon_threadsafe(tell)


def _on_signals(loop: asyncio.AbstractEventLoop, leave: asyncio.Event) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def interrupt() -> None:
        if leave.is_set():
            raise KeyboardInterrupt
        leave.set()

    if sys.platform == "win32":  # no handlers of a loop there: only Ctrl+C, as Python has it
        return
    loop.add_signal_handler(signal.SIGTERM, leave.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
