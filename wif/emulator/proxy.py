"""The proxy that leads the clouds' real host names to the local STS, and nowhere else.

With ``HTTPS_PROXY`` and the CA variables of :func:`environment`, unmodified programs with unmodified
configuration talk to the local STS: they ask this proxy to CONNECT to, say, ``sts.eu-west-1.amazonaws.com:443``
and reach its listener, which shows a certificate for that name. Every other host, port and method is refused
with a plain reason; nothing is ever sent to the outside. (uvicorn knows no CONNECT, hence a few lines of asyncio.)
"""

from __future__ import annotations

__all__ = [
    "PROXY_LIMITS",
    "ClientEnvironment",
    "Decision",
    "Proxy",
    "ProxyLimits",
    "admitted",
    "environment",
    "shell_block",
]

import asyncio
import contextlib
import re
import shlex
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from wif.emulator.hosts import is_cloud_host
from wif.errors import ConfigurationError

_CHUNK_BYTES = 64 * 1024
_STOP_SECONDS = 5.0
_DECISIONS_REMEMBERED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """The numbers of a proxy."""

    head_bytes: int = 16 * 1024
    """Request line and headers; clients send a few hundred bytes, a proxy authorisation a few thousand."""
    head_seconds: float = 10.0
    """Time for the whole of them: a local program sends them at once."""
    connect_seconds: float = 5.0
    """Time to reach the listener, which is on this machine."""
    idle_seconds: float = 600.0
    """A tunnel without a byte either way for this long is closed."""
    tunnels: int = 400
    """Connections at a time: two descriptors each, below the usual limit of 1024."""


PROXY_LIMITS = ProxyLimits()
"""The defaults."""


_REQUEST_LINE = re.compile(r"([A-Z]{1,32}) (\S{1,2048}) HTTP/1\.[01]")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):([0-9]{1,5})")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


def admitted(host: str) -> bool:
    """Whether a host name is one of the clouds' own, in any case of letters; a name is matched as a whole."""
    return host.isascii() and is_cloud_host(host.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the proxy did with one request."""

    target: str
    """``host:port`` of a CONNECT, else the method and what it asked for, cut to 200 letters."""
    status: int
    reason: str
    """Why it was refused; empty where it was admitted."""


class Proxy:
    """A CONNECT proxy on loopback, in a thread of its own.

    Args:
        target: host and port of the local STS's listener.
        admitted: which lower-case host names, on port 443, are led there. Its own address always is.
        on_decision: called in the proxy's thread after each decision, e.g. to print refusals.
    """

    def __init__(
        self,
        *,
        target: tuple[str, int],
        admitted: Callable[[str], bool] = admitted,
        on_decision: Callable[[Decision], None] | None = None,
        limits: ProxyLimits = PROXY_LIMITS,
    ) -> None:
        self._target = target
        self._admitted = admitted
        self._on_decision = on_decision
        self._limits = limits
        self._decisions: deque[Decision] = deque(maxlen=_DECISIONS_REMEMBERED)
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._main: asyncio.Task[None] | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, for ``HTTPS_PROXY``."""
        if not self._url:
            raise ConfigurationError(
                "the proxy has not been started", code="config-missing", hint="call start(), or use it in a with block"
            )
        return self._url

    @property
    def decisions(self) -> Sequence[Decision]:
        """The last decisions, oldest first."""
        return tuple(self._decisions)

    def start(self, port: int = 0) -> str:
        """Listen and return :attr:`url`. ``port`` 0 takes a free one."""
        if self._thread is not None:
            return self.url
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise ConfigurationError(
                f"the proxy cannot listen on 127.0.0.1:{port}: {error.strerror}",
                code="config-invalid",
                hint="choose another port, or 0 for a free one",
            ) from error
        self._url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, ready), name="wif-proxy", daemon=True)
        self._thread.start()
        ready.wait(_STOP_SECONDS)
        return self._url

    def stop(self) -> None:
        """Close the listener and every tunnel, and wait for the thread."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._main is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._main.cancel)
        thread.join(_STOP_SECONDS)

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- in the thread ----------------------------------------------------------------------------------

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            with contextlib.suppress(asyncio.CancelledError):
                runner.run(self._serve(listener, ready))

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._main = asyncio.current_task()
        tunnels: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._client(reader, writer, len(tunnels) >= self._limits.tunnels))
            tunnels.add(task)
            task.add_done_callback(tunnels.discard)

        server = await asyncio.start_server(accept, sock=listener, limit=self._limits.head_bytes)
        ready.set()
        try:
            await asyncio.get_running_loop().create_future()  # until cancelled
        finally:
            server.close()
            for task in tunnels:
                task.cancel()
            await asyncio.gather(*tunnels, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, full: bool) -> None:
        try:
            with contextlib.suppress(OSError):  # a client that goes away is no event
                if full:
                    await self._refuse(writer, "", 503, f"more than {self._limits.tunnels} connections at a time")
                else:
                    await self._request(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            await self._refuse(writer, "", 408, f"no whole request within {self._limits.head_seconds:g} s")
            return
        except asyncio.LimitOverrunError:
            await self._refuse(writer, "", 431, f"the request's headers exceed {self._limits.head_bytes} bytes")
            return
        except asyncio.IncompleteReadError:
            return  # the client closed; a health check by connecting looks like this
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        shown, refusal = self._judge(line)
        if refusal is not None:
            await self._refuse(writer, shown, *refusal)
            return
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                inner_reader, inner_writer = await asyncio.open_connection(*self._target, limit=_CHUNK_BYTES)
        except OSError as error:
            await self._refuse(writer, shown, 502, f"the local STS does not listen: {error.strerror or 'timeout'}")
            return
        try:
            self._decided(Decision(target=shown, status=200, reason=""))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _splice((reader, writer), (inner_reader, inner_writer), self._limits.idle_seconds)
        finally:
            inner_writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await inner_writer.wait_closed()

    def _judge(self, line: str) -> tuple[str, tuple[int, str] | None]:
        """What was asked for, and (status, reason) of its refusal or None."""
        request = _REQUEST_LINE.fullmatch(line)
        if request is None:
            return "", (400, "this is not an HTTP/1.1 request")
        method, target = request.groups()
        if method != "CONNECT":
            plain_http = target.lower().startswith("http://")
            refusal = (403, "plain http is not forwarded") if plain_http else (405, "only CONNECT is served here")
            return f"{method} {target}"[:200], refusal
        authority = _AUTHORITY.fullmatch(target)
        if authority is None:
            return target[:200], (400, "CONNECT wants host:port")
        host, port = authority[1].lower(), int(authority[2])
        reason = self._reason_against(host, port)
        return f"{host}:{port}", (403, reason) if reason else None

    def _reason_against(self, host: str, port: int) -> str:
        """Why a host and port are not led to the local STS; empty where they are."""
        if host in _LOOPBACK:
            return "" if port == self._target[1] else "of this machine only the local STS itself is admitted"
        if not self._admitted(host):
            return f"{host} is not a token service of AWS, GCP or Azure"
        return "" if port == 443 else f"{host} is admitted on port 443 only"

    async def _refuse(self, writer: asyncio.StreamWriter, target: str, status: int, reason: str) -> None:
        self._decided(Decision(target=target, status=status, reason=reason))
        body = f"wif local STS proxy: {reason}\n".encode()
        head = [
            f"HTTP/1.1 {status} {_PHRASES[status]}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            "X-Wif-Local-STS: 1",
        ]
        if status == 405:
            head.append("Allow: CONNECT")
        writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        async with asyncio.timeout(self._limits.connect_seconds):
            await writer.drain()

    def _decided(self, decision: Decision) -> None:
        self._decisions.append(decision)
        if self._on_decision is not None:
            self._on_decision(decision)


_PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
}

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _splice(outer: _Stream, inner: _Stream, idle_seconds: float) -> None:
    """Copy both ways until both ends have closed their side, or nothing moves any more."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle_seconds) as limit:

        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(_CHUNK_BYTES):
                limit.reschedule(loop.time() + idle_seconds)
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        copies = [asyncio.ensure_future(copy(outer[0], inner[1])), asyncio.ensure_future(copy(inner[0], outer[1]))]
        try:
            await asyncio.gather(*copies)
        finally:
            for task in copies:
                task.cancel()
            await asyncio.gather(*copies, return_exceptions=True)


# -- the environment of a client ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEnvironment:
    """Variables that lead a program to the local STS, and what to warn its user of."""

    variables: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


_PROXY_NAMES = ("HTTPS_PROXY", "https_proxy")
"""Both: where a program reads both, the lower-case one wins."""

_NO_PROXY_NAMES = ("NO_PROXY", "no_proxy")

_NO_PROXY = "localhost,127.0.0.1"

_CA_NAMES = (
    "REQUESTS_CA_BUNDLE",  # requests: google-auth, azure-identity, az, gcloud; botocore too
    "CURL_CA_BUNDLE",  # curl, and requests after the former
    "AWS_CA_BUNDLE",  # botocore and the aws CLI, aws-sdk-go
    "SSL_CERT_FILE",  # OpenSSL and Go: aiohttp in azure's async client, all Go SDKs, terraform
    "NODE_EXTRA_CA_CERTS",  # Node's only one
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",  # gcloud's own credentials
)

_CLOUD_DOMAINS = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.aws",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
    "googleapis.com",
    "microsoftonline.com",
    "microsoftonline.us",
    "microsoftonline.cn",
    "microsoft.com",
    "windows.net",
    "chinacloudapi.cn",
)


def environment(proxy_url: str, ca_file: Path, inherited: Mapping[str, str]) -> ClientEnvironment:
    """The block of variables to paste, in the order in which it is printed.

    Args:
        proxy_url: of a running :class:`Proxy`.
        ca_file: the authority's certificate. Alone it is enough: the proxy refuses everything that would need
            another one.
        inherited: the environment in which the program would run, for the warnings. ``NO_PROXY`` is replaced,
            not extended: an entry like ``.amazonaws.com`` would silently send tokens to the real cloud.
    """
    variables = (
        dict.fromkeys(_PROXY_NAMES, proxy_url)
        | dict.fromkeys(_NO_PROXY_NAMES, _NO_PROXY)
        | dict.fromkeys(_CA_NAMES, str(ca_file))
    )
    warnings = []
    for name in _NO_PROXY_NAMES:
        named = [entry for entry in re.split(r"[\s,]+", inherited.get(name, "")) if _names_a_cloud(entry)]
        if named:
            warnings.append(
                f"{name} names {', '.join(named)}: a program that keeps it goes to the real cloud, past the local STS;"
                f" the block sets {name}={_NO_PROXY}"
            )
    return ClientEnvironment(variables=variables, warnings=tuple(warnings))


def shell_block(variables: Mapping[str, str]) -> str:
    """The variables as lines for a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _names_a_cloud(entry: str) -> bool:
    """Whether an entry of NO_PROXY covers a cloud's host, or lies within a cloud's domain."""
    if entry == "*":
        return True
    host = entry.lower().split(":", 1)[0].removeprefix("*").strip(".")
    if not host:
        return False
    return any(
        host == domain or host.endswith("." + domain) or domain.endswith("." + host) for domain in _CLOUD_DOMAINS
    )
