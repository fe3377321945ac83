"""Entra ID's refusals: for each AADSTS number its status, OAuth error and text, and the document around them."""

from __future__ import annotations

__all__ = ["NO_STORE", "error_document"]

import uuid
from collections.abc import Mapping
from time import gmtime, strftime

from wif.emulator.wire import Answer, json_answer

NO_STORE = (("Cache-Control", "no-store, no-cache"), ("Pragma", "no-cache"))

_PLEASE = (
    "{verb} your federated identity credential Subject, Audience and Issuer against the presented assertion. "
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)
_CHECK = _PLEASE.format(verb="Check")

_TEXTS: Mapping[int, tuple[int, str, str]] = {
    # number: (HTTP status, OAuth error, text)
    70025: (401, "invalid_client", "The client '{app}'({name}) has no configured federated identity credentials."),
    700211: (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion issuer '{issuer}'. " + _CHECK,
    ),
    700212: (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion audience '{audience}'. " + _CHECK,
    ),
    700213: (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion subject '{subject}'. " + _CHECK,
    ),
    7002138: (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion subject '{subject}'. The subject differs "
        "only by case: the comparison is case-sensitive. " + _CHECK,
    ),
    70022: (
        400,
        "invalid_request",
        "Federated Identity Credential issuer must use HTTPS scheme, must not be loopback address, and may not "
        "include a query-string or fragment. Token issuer: {issuer}.",
    ),
    70023: (
        400,
        "invalid_request",
        "External OIDC Provider token must have a lifetime of less than or equal to 1.01:00:00. Token issued at "
        "{issued_at}. Token expires on {expires}.",
    ),
    700024: (
        401,
        "invalid_client",
        "Client assertion is not within its valid time range. Current time: {current}, assertion valid from "
        "{valid_from}, expiry time of assertion {expires}. Review the documentation at "
        "https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
    ),
    700221: (
        400,
        "invalid_request",
        "Issuer from the provided JWT '{issuer}' does not match the issuer published in the OIDC discovery metadata "
        "('{metadata_issuer}') registered for this federated credential.",
    ),
    700222: (400, "invalid_request", "AAD-issued tokens may not be used for federated identity flows."),
    7000272: (
        401,
        "invalid_client",
        "The certificate with identifier {kid} used to sign the federated credential could not be found in the "
        "metadata of identity provider {issuer}. Please validate that your Identity Provider's metadata exposes the "
        "key used to sign the incoming token.",
    ),
    50166: (400, "invalid_request", "Request to External OIDC endpoint failed."),
    501661: (400, "invalid_request", "Request to External OIDC endpoint failed."),
    90061: (400, "invalid_request", "Request to External OIDC endpoint failed."),
    900610: (400, "invalid_request", "Non-retryable error has occurred during request to external OIDC endpoint."),
    700016: (
        400,
        "unauthorized_client",
        "Application with identifier '{app}' was not found in the directory '{tenant}'. This can happen if the "
        "application has not been installed by the administrator of the tenant or consented to by any user in the "
        "tenant. You may have sent your authentication request to the wrong tenant.",
    ),
    7000229: (
        401,
        "invalid_client",
        "The client application {app} is missing service principal in the tenant {tenant}. See instructions here: "
        "https://go.microsoft.com/fwlink/?linkid=2225119",
    ),
    90002: (
        400,
        "invalid_request",
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
        "correct cloud. Check with your subscription administrator, this may happen if there are no active "
        "subscriptions for the tenant.",
    ),
    900021: (
        400,
        "invalid_request",
        "Requested tenant identifier '{tenant}' is not valid. Tenant identifiers may not be an empty GUID.",
    ),
    900023: (
        400,
        "invalid_request",
        "Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain.",
    ),
    500011: (
        400,
        "invalid_resource",
        "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the "
        "application has not been installed by the administrator of the tenant or consented to by any user in the "
        "tenant. You might have sent your authentication request to the wrong tenant.",
    ),
    1002012: (
        400,
        "invalid_scope",
        "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with "
        "/.default suffixed to the resource identifier (application ID URI).",
    ),
    70011: (
        400,
        "invalid_scope",
        "The provided request must include a 'scope' input parameter. The provided value for the input parameter "
        "'scope' is not valid. The scope {scope} is not valid.",
    ),
    900144: (400, "invalid_request", "The request body must contain the following parameter: '{parameter}'."),
    7000215: (401, "invalid_client", "Invalid client secret provided."),
    7000216: (
        401,
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
    ),
    7000218: (
        401,
        "invalid_client",
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
    70003: (400, "unsupported_grant_type", "The app requested an unsupported grant type '{grant}'."),
    50027: (400, "invalid_request", "JWT token is invalid or malformed."),
    5002726: (400, "invalid_request", "Invalid JWT token. Found unsupported token header."),
    5002730: (400, "invalid_request", "Invalid JWT token. Unsupported key for the signing algorithm."),
    9002313: (400, "invalid_request", "Invalid request. Request is malformed or invalid."),
    700027: (
        401,
        "invalid_client",
        "Client assertion failed signature validation. [Reason - The key was found, but use of the key to verify the "
        "signature failed.]",
    ),
    90033: (503, "temporarily_unavailable", "A transient error has occurred. Please try again."),
    900561: (400, "invalid_request", "The endpoint only accepts POST requests. Received a {method} request."),
    50059: (400, "invalid_request", "No tenant-identifying information found in either the request or its path."),
}


def error_document(
    number: int, *, now: float, correlation_id: str = "", fields: Mapping[str, str] | None = None
) -> Answer:
    """Entra ID's answer with an AADSTS number; ``fields`` fill the gaps of its text."""
    status, error, text = _TEXTS[number]
    trace = str(uuid.uuid4())
    correlation = correlation_id or str(uuid.uuid4())
    stamp = strftime("%Y-%m-%d %H:%M:%SZ", gmtime(now))
    filled = text.format_map(_Gaps(fields or {}))
    return json_answer(
        status,
        {
            "error": error,
            "error_description": f"AADSTS{number}: {filled} Trace ID: {trace} Correlation ID: {correlation} "
            f"Timestamp: {stamp}",
            "error_codes": [number],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={number}",
        },
        (*NO_STORE, ("x-ms-request-id", trace), ("client-request-id", correlation)),
    )


class _Gaps(dict[str, str]):
    """Fills a text; a gap that nobody named stays empty."""

    def __missing__(self, key: str) -> str:
        return ""
