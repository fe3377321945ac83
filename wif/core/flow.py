"""Network work as a generator: it yields requests and is sent responses, and its return value is the result.

A flow never sends anything. ``edges.transport`` sends one request, once; a test drives a flow by hand::

    flow = exchange_token(...)
    request = next(flow)
    try:
        flow.send(Response(status=200, headers={}, body=b"{}"))
    except StopIteration as done:
        result = done.value
"""

from __future__ import annotations

__all__ = ["Flow", "Request", "Response", "drive"]

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request. Headers and body may hold secrets and are not shown."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    operation: str
    """The API's own name for what is asked, e.g. ``AssumeRoleWithWebIdentity``; for logs and errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One whole HTTP answer. Header names are lower case. The body may hold secrets and is not shown."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


Flow = Generator[Request, Response, T]
"""The type of a flow with result T."""


def drive(flow: Flow[T], send: Callable[[Request], Response]) -> T:
    """Run a flow to its end with ``send``; its errors, and those of ``send``, come through."""
    try:
        request = next(flow)
        while True:
            request = flow.send(send(request))
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        flow.close()
