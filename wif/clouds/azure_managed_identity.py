"""Azure's managed identity, in the forms of App Service and of the instance metadata service (IMDS).

App Service asks for a secret, the variable ``IDENTITY_HEADER``. IMDS asks for a fixed header that every process of
the pod's network namespace can send. Both take an identity by ``client_id``; a request that names one by anything
else is refused, so that no other identity is ever used in its place.

Source: App Service's "REST endpoint reference" of managed identities; "How to use managed identities on an Azure VM
to acquire an access token", with the table of its errors.
"""

from __future__ import annotations

__all__ = [
    "ROWS",
    "WAIT_SECONDS",
    "Case",
    "Interface",
    "Row",
    "TokenAsked",
    "read_request",
    "state_answer",
    "token_answer",
]

import hmac
import json
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from wif.clouds.endpoint_answers import Answer
from wif.clouds.endpoint_requests import Headers, header_values, parameters, seconds_left
from wif.core.credentials import AccessToken
from wif.errors import ConfigurationError

WAIT_SECONDS = 10.0
"""How long a request may wait for an exchange: no known client gives up before."""

Interface = Literal["app-service", "imds"]
Case = Literal["ready", "pending", "outage", "refused", "unknown-identity", "wrong-secret", "no-header", "invalid"]


class Row(NamedTuple):
    """What one case is answered with, and what comes of it."""

    status: int
    error: str
    """``error`` of IMDS, ``code`` of App Service."""
    clients: str
    """What the clients do; measured with azure-identity."""


ROWS: Mapping[Case, Row] = {
    "ready": Row(200, "", "use the token until it is nearly over"),
    "pending": Row(503, "temporarily_unavailable", "ask again: App Service 3 times in 5 s, IMDS 5 times in 24 s"),
    "outage": Row(503, "temporarily_unavailable", "ask again: App Service 3 times in 5 s, IMDS 5 times in 24 s"),
    "refused": Row(403, "access_denied", "raise at once, with the cloud's own words; a chain stops here"),
    "unknown-identity": Row(403, "identity_not_found", "raise at once; a chain stops here"),
    "wrong-secret": Row(401, "unauthorized", "raise at once; a chain stops here"),
    "no-header": Row(400, "bad_request_102", "Java's chain: takes it for a sign that IMDS is there"),
    "invalid": Row(400, "invalid_request", "raise at once"),
}
"""The table of both interfaces. A token that is valid is always served, whatever else goes on."""


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
    interface: Interface, *, method: str, query: bytes, headers: Headers, secret: str = ""
) -> TokenAsked | Answer:
    """What a request asks, or the refusal."""
    refusal = _ENTRY[interface](headers, secret)
    if refusal is not None:
        return state_answer(interface, *refusal)
    if method != "GET":
        return _answer(405, b"application/json", {"error": "method_not_allowed"}, (b"allow", b"GET"))
    try:
        return _asked(interface, parameters(query))
    except ConfigurationError as error:
        return state_answer(interface, "unknown-identity" if error.clause == "identity" else "invalid", error.message)


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
    return _answer(200, b"application/json", body | {"resource": asked.resource, "token_type": "Bearer"})


def state_answer(interface: Interface, case: Case, text: str) -> Answer:
    """The answer of a case in which there is no token."""
    row = ROWS[case]
    return _answer(row.status, b"application/json", _error(interface, row, text))


def _error(interface: Interface, row: Row, text: str) -> Mapping[str, object]:
    if interface == "imds":
        return {"error": row.error, "error_description": text}
    return {"statusCode": row.status, "code": row.error, "message": text}


def _answer(status: int, kind: bytes, body: Mapping[str, object], *more: tuple[bytes, bytes]) -> Answer:
    head = ((b"content-type", kind), (b"cache-control", b"no-store"))
    return Answer(status, json.dumps(body).encode("ascii"), (*head, *more))


def _app_service_entry(headers: Headers, secret: str) -> tuple[Case, str] | None:
    sent = header_values(headers, b"x-identity-header")
    if not secret or len(sent) != 1 or not hmac.compare_digest(sent[0], secret.encode()):
        return "wrong-secret", "X-IDENTITY-HEADER is not what this container's IDENTITY_HEADER says"
    return None


def _imds_entry(headers: Headers, _: str) -> tuple[Case, str] | None:
    if [value.lower() for value in header_values(headers, b"metadata")] != [b"true"]:
        return "no-header", "Required metadata header not specified"
    return None


_ENTRY = {"app-service": _app_service_entry, "imds": _imds_entry}
_OLDEST = {"app-service": "2019-08-01", "imds": "2018-02-01"}
_FOREIGN = ("object_id", "principal_id", "mi_res_id", "msi_res_id", "clientid")


def _asked(interface: Interface, query: Mapping[str, str]) -> TokenAsked:
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
