"""uvicorn's HTTP protocol with two additions: an application can cut its connection, and every answer has the mark."""

from __future__ import annotations

__all__ = ["CuttableProtocol"]

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wif.emulator.wire import MARK_HEADER


class CuttableProtocol(HttpToolsProtocol):
    """Gives the application ``scope["extensions"]["wif.cut"]``: a function that sends some bytes and closes."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # uvicorn's type has no extensions of ours
        scope["extensions"] = {"wif.cut": self._cut}

    def _cut(self, first: bytes) -> None:
        if first:
            self.transport.write(first)
        self.transport.close()

    def shutdown(self) -> None:
        """Called when the server stops: an idle connection ends at once, without waiting for the client's farewell."""
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        if cycle is None or cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; written here only for the mark."""
        content = msg.encode("ascii", "replace")
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\n%s: 1\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (MARK_HEADER.encode(), len(content), content)
        )
        self.transport.close()
