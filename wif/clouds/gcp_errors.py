"""Google's refusals: how each is recognised and what it means here.

Source: Google's troubleshooting page of workload identity federation, and what the service was seen to answer.
The first row that fits wins.
"""

from __future__ import annotations

__all__ = ["ROWS"]

from typing import Any

from wif.clouds.answers import Row

_STS = "token"
_ACCESS = "generateAccessToken"
_ID = "generateIdToken"


def _row(situation: str, cloud_code: str, pattern: str, code: str, hint: str = "", **more: Any) -> Row:
    return Row("gcp", situation, cloud_code, pattern, code, hint)._replace(**more)


ROWS: tuple[Row, ...] = (
    # -- token exchange
    _row(
        "iss absent",
        "invalid_grant",
        r"issuer in ID Token null",
        "claim-rejected",
        "use a token with the claim iss, as the TokenRequest API issues them",
    ),
    _row(
        "iss is not the configured issuer",
        "invalid_grant",
        r"issuer in ID Token .*does not match",
        "issuer-unknown",
        "set the issuer URI of {provider} to {issuer}, byte for byte",
    ),
    _row(
        "aud wrong",
        "invalid_grant",
        r"audience in ID Token .*does not match",
        "audience-mismatch",
        "add {audience} to the allowed audiences of {provider}, or project the token with one of them; where none "
        "is set, the expected audience is https:{provider}",
    ),
    _row(
        "iat missing",
        "invalid_grant",
        r"issued at null is stale",
        "claim-rejected",
        "use a token with the claims iat and exp, as the TokenRequest API issues them",
    ),
    _row("exp past", "invalid_grant", r"is stale to sign-in", "token-expired"),
    _row(
        "signature wrong, kid known",
        "invalid_grant",
        r"Unable to verify the ID Token signature",
        "signature-invalid",
        "publish the JWKS of {issuer} itself (or upload it to {provider}), and check that {kid} names one key only",
    ),
    _row(
        "kid unknown, key of another kind, or issuer not reachable",
        "invalid_grant",
        r"Error connecting to the given credential's issuer",
        "issuer-unreachable",
        "check that the discovery document and the JWKS of {issuer} answer publicly, or the JWKS uploaded to "
        "{provider}: they must hold the key {kid}, RSA or EC P-256",
    ),
    _row(
        "attribute condition false",
        "unauthorized_client",
        r"rejected by the attribute condition",
        "condition-denied",
        "compare the attribute condition of {provider} with the token's claims",
    ),
    _row(
        "provider or pool disabled, deleted or absent",
        "invalid_target",
        "",
        "provider-unknown",
        "check that {provider} exists and is enabled, pool and provider alike",
    ),
    _row(
        "malformed audience",
        "invalid_request",
        r"Invalid value for .?audience",
        "provider-unknown",
        "write the full name of the provider, with the project's number: //iam.googleapis.com/projects/NUMBER/"
        "locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
    ),
    _row(
        "subject not a string",
        "unauthorized_client",
        r"must be of type STRING",
        "subject-invalid",
        "map google.subject to a claim that is a string, usually assertion.sub",
    ),
    _row(
        "subject longer than 127 bytes",
        "invalid_request",
        r"exceeds the 127 bytes limit",
        "subject-invalid",
        "map google.subject to something shorter, such as assertion['kubernetes.io'].serviceaccount.uid: "
        "{subject} does not fit into 127 bytes",
    ),
    _row("parameter missing or unsupported", "invalid_request", "", "parameter-invalid", operation=_STS),
    _row("grant type unsupported", "unsupported_grant_type", "", "parameter-invalid", operation=_STS),
    _row(
        "scope unknown to the exchange",
        "invalid_scope",
        "",
        "scope-invalid",
        "ask for scopes of Google's APIs",
        listed=False,
    ),
    _row(
        "token not acceptable, in other words",
        "invalid_grant",
        "",
        "claim-rejected",
        "compare iss, aud, sub, exp and the signing algorithm of the token with {provider}",
        listed=False,
    ),
    # -- the service account
    _row(
        "the API is switched off",
        "PERMISSION_DENIED",
        r"has not been used in project|is disabled",
        "permission-denied",
        "enable the IAM Service Account Credentials API (iamcredentials.googleapis.com) in the project that the "
        "message names",
        listed=False,
    ),
    _row(
        "no right to access tokens of the service account",
        "PERMISSION_DENIED",
        "",
        "permission-denied",
        "grant roles/iam.workloadIdentityUser on {service_account} to {principal}, or check its name: one that does "
        "not exist answers the same; a new grant takes a minute or two",
        operation=_ACCESS,
    ),
    _row(
        "no right to ID tokens of the service account",
        "PERMISSION_DENIED",
        "",
        "permission-denied",
        "grant roles/iam.workloadIdentityUser (iam.serviceAccounts.getOpenIdToken) on {service_account} to "
        "{principal}, or check its name: one that does not exist answers the same",
        operation=_ID,
    ),
    _row(
        "lifetime of zero",
        "INVALID_ARGUMENT",
        r"larger then? zero|larger than zero",
        "lifetime-invalid",
        "ask for 1 to 3600 s",
        operation=_ACCESS,
    ),
    _row(
        "lifetime over an hour",
        "INVALID_ARGUMENT",
        r"lifetimes? of more than|LifetimeExtension",
        "lifetime-invalid",
        "ask for at most 3600 s, or name {service_account} in the organisation's policy "
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension",
        operation=_ACCESS,
    ),
    _row(
        "lifetime not acceptable, in other words",
        "INVALID_ARGUMENT",
        r"lifetime",
        "lifetime-invalid",
        operation=_ACCESS,
        listed=False,
    ),
    _row(
        "scope unknown",
        "INVALID_ARGUMENT",
        "",
        "scope-invalid",
        "ask for scopes of Google's APIs, such as https://www.googleapis.com/auth/cloud-platform",
        operation=_ACCESS,
    ),
    _row("parameter not acceptable", "INVALID_ARGUMENT", "", "parameter-invalid", listed=False),
    _row(
        "service account unknown",
        "NOT_FOUND",
        "",
        "identity-unknown",
        "check the e-mail address {service_account} and those of the delegates",
        listed=False,
    ),
    _row("federated token not accepted", "UNAUTHENTICATED", "", "credentials-rejected", listed=False),
    _row("too many requests", "RESOURCE_EXHAUSTED", "", "throttled", listed=False),
    # -- introspection, which Google does not document any more
    *(
        _row(
            "introspection not served",
            "",
            "",
            "exchange-refused",
            "Google does not confirm federated principals here; the name derived from provider and subject remains",
            operation="introspect",
            status=status,
        )
        for status in (400, 401, 404)
    ),
)
"""What Google answers, and what it means here."""
