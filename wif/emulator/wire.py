"""One HTTP exchange as the local STS's handlers see it: a whole request in, a whole answer out.

The hot routes are plain ASGI: no framework stands between uvicorn and a handler. Every answer carries the mark
``X-Wif-Local-STS: 1`` and the date of the local STS's own clock, which a fault may have moved.
"""

from __future__ import annotations

__all__ = [
    "MARK_HEADER",
    "MAX_BODY_BYTES",
    "Answer",
    "BodyTooLarge",
    "Call",
    "Handler",
    "Incoming",
    "Receive",
    "Scope",
    "Send",
    "form_fields",
    "json_answer",
    "json_object",
    "read_body",
    "start_message",
]

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, NoReturn, Protocol
from urllib.parse import parse_qsl

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MARK_HEADER = "X-Wif-Local-STS"
"""Present with the value 1 on every answer, so that nobody takes one for a cloud's."""

MAX_BODY_BYTES = 1024 * 1024
"""Larger than any request of the protocols served here; Google's ``options`` may hold 4 MiB, which nobody sends."""

MAX_FIELDS = 256
"""Form fields of one request: AWS' widest has 50 tags of two fields each."""


class BodyTooLarge(Exception):
    """The request's body is larger than :data:`MAX_BODY_BYTES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One whole request. Headers and body may hold secrets and are not shown."""

    method: str
    host: str
    """The Host header as it came, with its port."""
    path: str
    """Percent-decoded, without the query."""
    query: str
    headers: Mapping[str, str] = field(repr=False)
    """Lower-case names; of a repeated header the values joined by a comma, as RFC 9110 section 5.3 reads them."""
    body: bytes = field(default=b"", repr=False)

    @property
    def hostname(self) -> str:
        """The lower-case host without its port."""
        host = self.host.lower()
        if host.startswith("["):
            return host.partition("]")[0].removeprefix("[")
        return host.partition(":")[0].removesuffix(".")

    @property
    def base_url(self) -> str:
        """What the client calls this listener."""
        return f"https://{self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One whole answer. The body may hold secrets and is not shown."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that has found its operation: what faults are asked for, and what answers at a given time."""

    operation: str
    """The API's own name, e.g. ``AssumeRoleWithWebIdentity``."""
    run: Callable[[float], Awaitable[Answer]]
    """Takes the time of the judgement, unix seconds."""


class Handler(Protocol):
    """The local STS of one cloud."""

    def route(self, request: Incoming) -> Call:
        """Find the operation; a request for none gets one that answers so."""
        ...


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request.

    Raises:
        BodyTooLarge: more than :data:`MAX_BODY_BYTES` came.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge
        parts.append(part)
    return b"".join(parts)


_MARK = (MARK_HEADER.lower().encode(), b"1")
_date: tuple[int, bytes] = (0, b"")


def start_message(answer: Answer, now: float) -> dict[str, Any]:
    """The ASGI message that opens an answer."""
    global _date  # noqa: PLW0603 - one value per second, replaced whole
    second = int(now)
    stamped = _date
    if stamped[0] != second:
        _date = stamped = (second, formatdate(second, usegmt=True).encode())
    headers = [
        (b"content-type", answer.content_type.encode("latin-1", "replace")),
        (b"content-length", b"%d" % len(answer.body)),
        (b"date", stamped[1]),
        _MARK,
    ]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in answer.headers]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


def form_fields(text: str | bytes) -> dict[str, str]:
    """The fields of a form or query; of a repeated field the first wins.

    Raises:
        ValueError: it is not one, or has more than :data:`MAX_FIELDS` fields.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    pairs.reverse()
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is not one.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def json_answer(
    status: int, document: Mapping[str, Any], headers: tuple[tuple[str, str], ...] = (), *, indent: int | None = None
) -> Answer:
    """A JSON document as an answer."""
    return Answer(
        status=status,
        content_type="application/json; charset=utf-8",
        body=json.dumps(document, indent=indent).encode("utf-8"),
        headers=headers,
    )
