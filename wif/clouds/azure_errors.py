"""Microsoft Entra's refusals: how each is recognised and what it means here.

Source: Entra's list of AADSTS codes, and what the service was seen to answer. Microsoft asks to go by the number,
because the texts change. The first row that fits wins.
"""

from __future__ import annotations

__all__ = ["ROWS"]

from typing import Any

from wif.clouds.answers import Row

_RECORD = (
    "set the federated identity credential of {client} in {tenant} to issuer {issuer}, subject {subject}, audience "
)


def _row(situation: str, number: int, code: str, hint: str = "", *, pattern: str = "", **more: Any) -> Row:
    return Row("azure", situation, f"AADSTS{number}" if number else "", pattern, code, hint)._replace(**more)


ROWS: tuple[Row, ...] = (
    # -- the federated identity credential
    _row(
        "no credential fits, old number", 70021, "trust-denied", _RECORD + "{audience}; a new one takes minutes to work"
    ),
    _row(
        "no credentials at all",
        70025,
        "no-federated-credential",
        "add a federated identity credential to {client}: issuer {issuer}, subject {subject}, audience "
        "{expected_audience}; a new one takes minutes to work",
    ),
    _row(
        "no credential for this issuer",
        700211,
        "issuer-unknown",
        "add a federated identity credential to {client} whose issuer equals {issuer} byte for byte",
    ),
    _row(
        "no credential for this audience",
        700212,
        "audience-mismatch",
        "project the token with the audience of the federated identity credential of {client}, usually "
        "{expected_audience}; this one has {audience}",
    ),
    _row(
        "no credential for this subject",
        700213,
        "subject-mismatch",
        "add a federated identity credential to {client} with the issuer {issuer} and the subject {subject}",
    ),
    _row(
        "no credential for this subject, or no expression fits",
        7002131,
        "subject-mismatch",
        "add a federated identity credential to {client} with the subject {subject}; expressions do not work for "
        "Kubernetes issuers",
    ),
    _row(
        "no credential for this subject, managed identity",
        7002137,
        "subject-mismatch",
        "add a federated identity credential to {client} with the issuer {issuer} and the subject {subject}",
    ),
    _row(
        "subject differs by case only",
        7002138,
        "subject-mismatch",
        "write the subject of the federated identity credential of {client} exactly so, the case counts: {subject}",
    ),
    _row("issuer of a form that is not allowed", 70022, "issuer-invalid"),
    _row(
        "token lives too long",
        70023,
        "token-lifetime",
        "use a token that lives at most 24 h (expirationSeconds up to 86400) and has the claim iat",
    ),
    _row("outside its valid time", 700024, "token-expired"),
    _row(
        "issuer differs from the discovery document's",
        700221,
        "issuer-mismatch",
        "publish a discovery document whose issuer equals {issuer} byte for byte",
    ),
    _row(
        "token issued by Entra itself",
        700222,
        "issuer-invalid",
        "use a token of the cluster's own issuer, not one of Microsoft Entra",
    ),
    _row(
        "signing key not in the metadata",
        7000272,
        "key-not-published",
        "publish the key {kid} in the JWKS of {issuer}; after a rotation wait for Entra's cache",
    ),
    _row("issuer not reachable", 50166, "issuer-unreachable"),
    _row("issuer not reachable, second number", 501661, "issuer-unreachable"),
    _row("issuer not reachable, third number", 90061, "issuer-unreachable"),
    _row("issuer answered with an error that stays", 900610, "issuer-unreachable", retryable=False),
    # -- client, tenant, scope
    _row(
        "application unknown in the tenant",
        700016,
        "identity-unknown",
        "check that {client} is the application (client) id, not the object id, and exists in {tenant} at {authority}",
    ),
    _row(
        "application without service principal",
        7000229,
        "identity-unknown",
        "create the service principal: az ad sp create --id {client}",
    ),
    _row(
        "tenant unknown",
        90002,
        "identity-unknown",
        "check the tenant id {tenant}, and that it belongs to the cloud of {authority}",
    ),
    _row("tenant is an empty GUID", 900021, "identity-unknown", "check the tenant id {tenant}"),
    _row("tenant is no domain", 900023, "identity-unknown", "check the tenant id {tenant}"),
    _row(
        "resource unknown",
        500011,
        "scope-invalid",
        "check the resource in the scope {scope}: it must exist in the tenant {tenant}",
    ),
    _row("scope without /.default", 1002012, "scope-invalid", "ask for <resource>/.default instead of {scope}"),
    _row("scope missing or unusable", 70011, "scope-invalid", "ask for <resource>/.default instead of {scope}"),
    # -- the request
    _row("parameter missing", 900144, "parameter-invalid"),
    _row("assertion missing", 7000216, "parameter-invalid"),
    _row("assertion and secret missing", 7000218, "parameter-invalid"),
    _row("grant type unsupported", 70003, "parameter-invalid"),
    _row("request malformed", 9002313, "parameter-invalid"),
    _row("request not by POST", 900561, "parameter-invalid", "check that no proxy changes the request's method"),
    # -- the token itself
    _row("not a JWT", 50027, "token-malformed"),
    _row("token header not supported", 5002726, "token-malformed"),
    _row(
        "key does not fit the algorithm",
        5002730,
        "algorithm-unsupported",
        "sign with RS256: Entra verifies nothing else",
    ),
    _row(
        "signature wrong, key not found",
        700027,
        "key-not-published",
        "publish the key {kid} in the JWKS of {issuer}",
        pattern=r"key was not found|key not found",
        retryable=False,
        listed=False,
    ),
    _row("signature wrong", 700027, "signature-invalid"),
    _row(
        "assertion invalid, its signature",
        50013,
        "signature-invalid",
        pattern=r"signature",
        listed=False,
    ),
    _row("assertion invalid", 50013, "claim-rejected"),
    _row(
        "assertion names another client",
        700021,
        "subject-mismatch",
        "add a federated identity credential to {client} for the issuer {issuer}: without one the token is taken for "
        "a self-signed assertion",
    ),
    _row(
        "assertion's audience is not the authority",
        700023,
        "audience-mismatch",
        "project the token with the audience {expected_audience}",
    ),
    _row(
        "client secret wrong",
        7000215,
        "credentials-rejected",
        "use the federated credential; no client secret is sent here",
    ),
    _row(
        "client secret expired",
        7000222,
        "credentials-rejected",
        "use the federated credential; no client secret is sent here",
    ),
    _row(
        "managed identity may not be used as a federated credential here",
        7000226,
        "trust-denied",
        "use a token of the cluster's own issuer",
    ),
    _row(
        "managed identity may not be used as a federated credential here, second number",
        7000227,
        "trust-denied",
        "use a token of the cluster's own issuer",
    ),
    # -- just now
    _row("directory fails for a moment", 90033, "cloud-unavailable"),
    _row(
        "client asks again and again",
        50196,
        "throttled",
        "keep one exchanger and reuse its token: Entra saw the same request in a loop",
        retryable=False,
    ),
    # -- numbers not seen yet of the same family: 7002132 to 7002136, 7002139
    _row(
        "no credential fits, another number",
        0,
        "subject-mismatch",
        _RECORD + "{audience}",
        pattern=r"No matching federated identity record",
    ),
)
"""What Entra answers, and what it means here."""
