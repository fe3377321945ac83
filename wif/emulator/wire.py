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
    "encode_json",
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
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import unquote_plus

import msgspec

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
    fields: dict[str, str] = {}
    if not text:
        return fields
    pairs = text.split("&")
    if len(pairs) > MAX_FIELDS:
        raise ValueError("too many fields")
    for pair in pairs:  # a third of the time of urllib.parse.parse_qsl, which every exchange would pay
        name, _, value = pair.partition("=")
        fields.setdefault(_plain(name), _plain(value))
    return fields


def _plain(text: str) -> str:
    if "%" in text or "+" in text:
        return _unquoted(text) if len(text) <= _SHORT else unquote_plus(text, errors="strict")
    return text


_SHORT = 512
"""Longer values are tokens, of which no two are alike."""


@lru_cache(maxsize=1024)
def _unquoted(text: str) -> str:
    return unquote_plus(text, errors="strict")


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is not one.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
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
        body=encode_json(document) if indent is None else json.dumps(document, indent=indent).encode("ascii"),
        headers=headers,
    )


def encode_json(document: Mapping[str, Any]) -> bytes:
    """Compact JSON."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # half a surrogate pair of some claim: only the escaped form can hold it
        return json.dumps(document, separators=(",", ":")).encode("ascii")
