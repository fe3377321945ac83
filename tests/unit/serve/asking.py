"""An ASGI application called by hand."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from wif.serve.httpd import App


@dataclass
class Clock:
    """Stands until it is set."""

    now: float

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    app: App, path: str, *headers: tuple[str, str], method: str = "GET", host: str | None = "localhost"
) -> Answer:
    """One request; every header of the answer comes once."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    lines = [*([("host", host)] if host is not None else []), *headers]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in lines],
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    [start, body] = sent
    found = [(name.decode(), value.decode()) for name, value in start["headers"]]
    assert len(dict(found)) == len(found)
    return Answer(status=start["status"], headers=dict(found), body=body["body"])
