"""``/healthz``, ``/readyz`` and ``/metrics`` of a process, on an address of their own.

Health: the process answers, and what it must not stop doing goes on. Readiness: it can do its work now, or the reasons
why not, one a line. Metrics: a registry of this process alone, without key ids, tokens or addresses of callers.
"""

from __future__ import annotations

__all__ = ["HealthApp", "new_registry"]

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wif.errors import ConfigurationError
from wif.serve.httpd import HttpServer, Limits
from wif.serve.threads import NoThread, in_thread

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from wif.serve.httpd import Address, Receive, Scope, Send

_TEXT = b"text/plain; charset=utf-8"
_PAGE_SECONDS = 0.1
"""How old a page of metrics may be."""
_PAGES_MAX = 8


def new_registry() -> CollectorRegistry:
    """A registry with the process' own metrics (memory, CPU, file descriptors) and the Python version.

    Raises:
        ConfigurationError: extra-missing.
    """
    try:
        from prometheus_client import (  # noqa: PLC0415 - an extra
            CollectorRegistry,
            PlatformCollector,
            ProcessCollector,
        )
    except ImportError as error:
        raise ConfigurationError(
            "metrics need prometheus-client", code="extra-missing", hint="pip install 'wif[serve]'"
        ) from error
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


_LIMITS = Limits(
    connections=100,
    head_bytes=8 * 1024,
    body_bytes=0,
    pipelined=2,
    head_seconds=2.0,
    body_seconds=2.0,
    answer_seconds=5.0,
    idle_seconds=60.0,
)
"""Who asks sends a head, at once. Every pod of the cluster may reach the port: nobody may keep the kubelet out."""


class HealthApp:
    """The ASGI application of the three paths.

    Args:
        registry: what ``/metrics`` shows.
        unhealthy: reasons to restart the process; usually none.
        unready: reasons to send it no requests now.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry,
        unhealthy: Callable[[], Sequence[str]] = tuple,
        unready: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._registry = registry
        self._pages: dict[str, tuple[float, asyncio.Future[tuple[bytes, bytes]]]] = {}
        self._checks = {"/healthz": unhealthy, "/readyz": unready}
        self.leaving = False
        """Set when the process stops: not ready from then on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Answer one request."""
        path, method = scope["path"], scope["method"]
        status, kind, body = 404, _TEXT, b"not found\n"
        if path in self._checks or path == "/metrics":
            if method not in ("GET", "HEAD"):
                status, body = 405, b"only GET and HEAD\n"
            elif path == "/metrics":
                accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
                try:
                    status, (kind, body) = 200, await self._metrics(accept.decode("latin-1"))
                except NoThread as error:
                    status, body = 503, f"{error}\n".encode()
            else:
                reasons = [*self._checks[path](), *(["the process is stopping"] if self._is_leaving(path) else [])]
                status = 503 if reasons else 200
                body = "".join(f"{reason}\n" for reason in reasons or ["ok"]).encode()
        headers = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    def server(self, address: Address) -> HttpServer:
        """The listener of the three paths.

        Raises:
            ConfigurationError: config-invalid, extra-missing.
        """
        return HttpServer(self, address=address, limits=_LIMITS, name="health")

    def _is_leaving(self, path: str) -> bool:
        return self.leaving and path == "/readyz"

    async def _metrics(self, accept: str) -> tuple[bytes, bytes]:
        """The page in the format that the client asks for. One is for all who ask at once: whoever asks without end
        costs the event loop no more than one after the other."""
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - an extra

        encode, kind = choose_encoder(accept)
        loop = asyncio.get_running_loop()
        made_at, page = self._pages.get(kind, (-_PAGE_SECONDS, None))
        if page is None or loop.time() - made_at >= _PAGE_SECONDS:
            page = asyncio.ensure_future(in_thread(lambda: (kind.encode(), encode(self._registry))))
            if len(self._pages) >= _PAGES_MAX:
                self._pages.clear()
            self._pages[kind] = (loop.time(), page)
        return await asyncio.shield(page)  # a client that leaves ends only its own waiting
