"""Azure's managed identity, in the forms of App Service and of the instance metadata service (IMDS).

App Service asks for a secret, the variable ``IDENTITY_HEADER``. IMDS asks for a fixed header that every process of
the pod's network namespace can send. Both take an identity by ``client_id``; a request that names one by anything
else is refused, so that no other identity is ever used in its place.

Source: App Service's "REST endpoint reference" of managed identities; "How to use managed identities on an Azure VM
to acquire an access token", with the table of its errors.
"""

from __future__ import annotations

__all__ = [
    "APP_SERVICE_PATH",
    "IMDS_PATH",
    "ROWS",
    "WAIT_SECONDS",
    "Case",
    "Interface",
    "Row",
    "TokenAsked",
    "failed",
    "read_request",
    "state_answer",
    "token_answer",
]

import hmac
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from wif.clouds.endpoint_answers import Answer, state_of
from wif.clouds.endpoint_requests import Headers, header_values, parameters, seconds_left
from wif.core.credentials import AccessToken
from wif.errors import ConfigurationError, WifError

APP_SERVICE_PATH = "/azure/token"
"""What ``IDENTITY_ENDPOINT`` names."""
IMDS_PATH = "/metadata/identity/oauth2/token"
"""Clients have it built in; Node's asks for it with a slash at the end."""
WAIT_SECONDS = 8.0
"""How long a request may wait for an exchange. No client is known to give up before; an answer may take 10 s here."""
_MAX_TEXT = 1024

Interface = Literal["app-service", "imds"]
Case = Literal[
    "ready", "pending", "outage", "refused", "unknown-identity", "wrong-secret", "no-header", "invalid", "too-many"
]
"""The four states of an identity, and what else can be wrong with a request."""


class Row(NamedTuple):
    """What one case is answered with, and what comes of it."""

    status: int
    error: str
    """``error`` of IMDS, ``code`` of App Service."""
    clients: str
    """What the clients do; measured with azure-identity."""


# azure-identity asks App Service again for 408, 429, 500, 502, 503 and 504 (3 times in 5 s), IMDS for 404, 410, 429 and
# 500 to 599 (5 times in 24 s, for 410 in 75); Node likewise, 404 of App Service included. So 404 and 410 are no answer
# to a client id that is not known here. IMDS says 400 for one, which Go and Node take for "no managed identity here".
_AGAIN = "ask again, App Service's 3 times within 5 s, IMDS' 5 times within 24 s, then raise with the text"
ROWS: Mapping[Case, Row] = {
    "ready": Row(200, "", "use the token until 5 minutes before its end"),
    "pending": Row(503, "temporarily_unavailable", _AGAIN),
    "outage": Row(503, "temporarily_unavailable", _AGAIN),
    "refused": Row(403, "access_denied", "raise at once, with the cloud's own words"),
    "unknown-identity": Row(403, "identity_not_found", "raise at once, with the reason"),
    "wrong-secret": Row(401, "unauthorized", "raise at once, with the reason"),
    "no-header": Row(400, "bad_request_102", "all but the probe of Java's chain send it: 400 tells that IMDS is here"),
    "invalid": Row(400, "invalid_request", "raise at once, with the reason"),
    "too-many": Row(429, "too_many_requests", _AGAIN),
}
"""The table of both interfaces. A valid token is answered with 200, whatever else goes on.

Whatever the answer, the chains of azure-identity and ``@azure/identity`` take an error of a managed identity for "not
here" and go on to a developer's own log-in. ``AZURE_TOKEN_CREDENTIALS=prod`` leaves those out of the chain.
"""


class TokenAsked(NamedTuple):
    """A request for an access token."""

    client_id: str | None
    """None: the default identity."""
    resource: str
    """As the client wrote it; the answer repeats it."""

    @property
    def scope(self) -> str:
        """What Entra calls it. A slash at the end belongs to the resource's name, and stays."""
        return self.resource if self.resource.endswith("/.default") else f"{self.resource}/.default"


def read_request(
    interface: Interface, *, path: str, query: bytes, headers: Headers, secret: bytes = b""
) -> TokenAsked | Answer:
    """What a GET asks for, or the answer to a request that asks for no token.

    Args:
        path: percent-decoded.
        query: as it was sent.
        secret: what App Service's ``X-IDENTITY-HEADER`` must be; an empty one lets nobody in.
    """
    refusal = _ENTRY[interface](headers, secret)
    if refusal is not None:
        return state_answer(interface, *refusal)
    if path.removesuffix("/") != _PATHS[interface]:
        return _answer(404, _error(interface, Row(404, "not_found", ""), "only tokens are served here"))
    try:
        return _asked(interface, query)
    except ConfigurationError as error:
        return state_answer(interface, "unknown-identity" if error.clause == "identity" else "invalid", error.message)


_PATHS: Mapping[Interface, str] = {"app-service": APP_SERVICE_PATH, "imds": IMDS_PATH}


def token_answer(
    interface: Interface, asked: TokenAsked, credential: AccessToken, *, client_id: str, now: float
) -> Answer:
    """A token. Numbers are text, as both services write them; what is left is counted now."""
    left = seconds_left(credential, now)
    ends = int(now) + left
    body = {"access_token": credential.token, "client_id": client_id, "expires_on": str(ends)}
    if interface == "imds":
        begins = ends - int(credential.lifetime_seconds)
        body |= {"expires_in": str(left), "ext_expires_in": str(left), "not_before": str(begins)}
    return _answer(200, body | {"resource": asked.resource, "token_type": "Bearer"})


def state_answer(interface: Interface, case: Case, text: str) -> Answer:
    """The answer of a case in which there is no token.

    Args:
        text: for the eyes of whoever runs the program; every client shows it.
    """
    row = ROWS[case]
    # azure-identity and Go take a 403 with this word for Docker Desktop's, and for "no managed identity here"
    return _answer(row.status, _error(interface, row, text[:_MAX_TEXT].replace("unreachable", "not reachable")))


def failed(interface: Interface, error: WifError) -> Answer:
    """The answer where an exchange has failed, or has not ended while the request waited, and no token is valid."""
    if error.code == "timeout":
        return state_answer(interface, "pending", f"{error.message}; ask again")
    text = "; ".join(part for part in (error.message, error.hint) if part)
    return state_answer(interface, "outage" if state_of(error) == "outage" else "refused", text)


def _error(interface: Interface, row: Row, text: str) -> Mapping[str, object]:
    if interface == "imds":
        return {"error": row.error, "error_description": text}
    return {"statusCode": row.status, "code": row.error, "message": text}


def _answer(status: int, body: Mapping[str, object]) -> Answer:
    head = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
    return Answer(status, json.dumps(body).encode("ascii"), head)


def _app_service_entry(headers: Headers, secret: bytes) -> tuple[Case, str] | None:
    sent = header_values(headers, b"x-identity-header")
    if secret and len(sent) == 1 and hmac.compare_digest(sent[0], secret):
        return None
    return "wrong-secret", "the header X-IDENTITY-HEADER is not what the sidecar's variable IDENTITY_HEADER says"


def _imds_entry(headers: Headers, _: bytes) -> tuple[Case, str] | None:
    if [value.lower() for value in header_values(headers, b"metadata")] == [b"true"]:
        return None
    return "no-header", "Required metadata header not specified"


_ENTRY: Mapping[Interface, Callable[[Headers, bytes], tuple[Case, str] | None]] = {
    "app-service": _app_service_entry,
    "imds": _imds_entry,
}
_OLDEST: Mapping[Interface, str] = {"app-service": "2019-08-01", "imds": "2018-02-01"}
_FOREIGN = ("object_id", "principal_id", "mi_res_id", "msi_res_id", "clientid")
"""Other ways to name an identity; ``clientid`` is App Service's of 2017."""


@lru_cache(maxsize=64)
def _asked(interface: Interface, text: bytes) -> TokenAsked:
    query = parameters(text)
    version = query.get("api-version", "")
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?", version) or version < _OLDEST[interface]:
        raise ConfigurationError(f"api-version must be {_OLDEST[interface]} or later", code="parameter-invalid")
    resource, client_id = query.get("resource", ""), query.get("client_id")
    if not re.fullmatch(r"[\x21-\x7e]{1,512}", resource):
        raise ConfigurationError(
            "resource must name what the token is for, e.g. https://management.azure.com", code="parameter-invalid"
        )
    foreign = [name for name in _FOREIGN if name in query]
    if foreign or client_id == "":
        raise ConfigurationError(
            f"{foreign[0] if foreign else 'an empty client_id'} names no identity here: "
            "send client_id with the application's or managed identity's client id",
            code="identity-unknown",
        )
    return TokenAsked(client_id, resource)
