"""Google's refusals: the STS' documents (RFC 6749) and those of its other services, with the texts that were seen."""

from __future__ import annotations

__all__ = [
    "BAD_AUDIENCE",
    "BAD_CREDENTIALS",
    "BAD_TARGET",
    "NO_CREDENTIALS",
    "NO_STORE",
    "TOO_LONG",
    "api_error_document",
    "error_document",
    "refuse",
    "refuse_api",
]

from collections.abc import Mapping
from typing import Any, NoReturn

from wif.emulator.services import Refusal
from wif.emulator.wire import Answer, json_answer

NO_STORE = (("Cache-Control", "private, no-store"), ("X-Content-Type-Options", "nosniff"), ("Vary", "Origin"))

BAD_AUDIENCE = (
    'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See '
    "https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats."
)
BAD_TARGET = (
    'The target service indicated by the "audience" parameters is invalid. This might either be because the pool or '
    "provider is disabled or deleted or because it doesn't exist."
)
BAD_CREDENTIALS = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
NO_CREDENTIALS = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
TOO_LONG = (
    "The access token lifetime cannot exceed 1 hour: service account {email} can not have lifetimes of more than 1 "
    "hour. Use the Org Policy Constraint constraints/iam.allowServiceAccountCredentialLifetimeExtension to extend it."
)


def error_document(error: str, description: str, *, status: int = 400) -> Answer:
    """The STS' own error: RFC 6749 section 5.2."""
    return json_answer(status, {"error": error, "error_description": description}, NO_STORE)


def api_error_document(
    code: int, status: str, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None
) -> Answer:
    """The error of Google's other services."""
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if reason:
        error["details"] = [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "iam.googleapis.com",
                "metadata": dict(metadata or {}),
            }
        ]
    headers: tuple[tuple[str, str], ...] = NO_STORE
    if code == 401:
        headers = (*headers, ("WWW-Authenticate", 'Bearer realm="https://accounts.google.invalid/"'))
    return json_answer(code, {"error": error}, headers, indent=2)


def refuse(error: str, description: str, reason: str) -> NoReturn:
    """Refuse as the STS does; the reason is for the local STS's own log."""
    raise Refusal(error_document(error, description), f"{error}: {reason}")


def refuse_api(code: int, status: str, message: str, reason: str) -> NoReturn:
    """Refuse as Google's other services do."""
    raise Refusal(api_error_document(code, status, message), f"{status}: {reason}")
