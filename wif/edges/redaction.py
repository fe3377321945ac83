"""What a log may say of a request and an answer: names and lengths, and the few values that are no secret."""

from __future__ import annotations

__all__ = ["describe_request", "describe_response"]

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from wif.core.flow import Request, Response

_PLAIN_HEADERS = frozenset(
    [
        "accept",
        "content-type",
        "content-length",
        "date",
        "retry-after",
        "server",
        "user-agent",
        "www-authenticate",
        "x-amz-date",
        "x-amzn-requestid",
        "x-ms-request-id",
        "x-wif-local-sts",
    ]
)
"""Headers whose values are shown. A name that is not here is shown with the length of its value."""

_PLAIN_FIELDS = frozenset(
    [
        "Action",
        "DurationSeconds",
        "ExternalId",
        "ProviderId",
        "RoleArn",
        "RoleSessionName",
        "Version",
        "audience",
        "client_assertion_type",
        "client_id",
        "delegates",
        "grant_type",
        "includeEmail",
        "lifetime",
        "requested_token_type",
        "scope",
        "subject_token_type",
    ]
)
"""Fields of a form or a JSON object whose values are shown."""

_LONGEST = 200


def describe_request(request: Request) -> str:
    """One line on a request, without any secret."""
    parts = urlsplit(request.url)
    query = f"?{_form(parts.query)}" if parts.query else ""
    return (
        f"{request.operation}: {request.method} {parts.scheme}://{parts.hostname}"
        f"{f':{parts.port}' if parts.port else ''}{_show(parts.path)}{query}"
        f" headers=({_headers(request.headers)}) body=({_body(request.headers, request.body)})"
    )


def describe_response(response: Response) -> str:
    """One line on an answer, without any secret."""
    return (
        f"status {response.status} headers=({_headers(response.headers)})"
        f" body=({_body(response.headers, response.body)})"
    )


def _headers(headers: Any) -> str:
    return ", ".join(
        f"{_show(name)}: {_show(value)}" if name.lower() in _PLAIN_HEADERS else f"{_show(name)}: <{len(value)}>"
        for name, value in headers.items()
    )


def _body(headers: Any, body: bytes) -> str:
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    if body and "x-www-form-urlencoded" in kind:
        return _form(body.decode("utf-8", "replace"))
    if body and "json" in kind:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return ", ".join(_field(name, item) for name, item in value.items())
    return f"<{len(body)} bytes>"


def _form(text: str) -> str:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return f"<{len(text)}>"
    return ", ".join(_field(name, value) for name, value in pairs)


def _field(name: str, value: object) -> str:
    if name in _PLAIN_FIELDS:
        return f"{name}={_show(str(value))}"
    if isinstance(value, str):
        return f"{_show(name)}=<{len(value)}>"
    return f"{_show(name)}=<{type(value).__name__}>"


def _show(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])
