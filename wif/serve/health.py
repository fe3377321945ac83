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

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from wif.serve.httpd import Receive, Scope, Send

_TEXT = b"text/plain; charset=utf-8"


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
                status = 200
                kind, body = await asyncio.to_thread(self._metrics, accept.decode("latin-1"))
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

    def _is_leaving(self, path: str) -> bool:
        return self.leaving and path == "/readyz"

    def _metrics(self, accept: str) -> tuple[bytes, bytes]:
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - an extra

        encode, kind = choose_encoder(accept)
        return kind.encode(), encode(self._registry)
