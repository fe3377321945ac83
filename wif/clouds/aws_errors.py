"""AWS' refusals: how each is recognised and what it means here.

Source: the STS API's error lists, and what the service was seen to answer. The first row that fits wins.
"""

from __future__ import annotations

__all__ = ["ROWS"]

from typing import Any

from wif.clouds.answers import Row

_WEB = "AssumeRoleWithWebIdentity"
_CHAIN = "AssumeRole"


def _row(situation: str, cloud_code: str, pattern: str, code: str, hint: str = "", **more: Any) -> Row:
    return Row("aws", situation, cloud_code, pattern, code, hint)._replace(**more)


ROWS: tuple[Row, ...] = (
    # -- the issuer and its keys
    _row(
        "no OIDC provider object for iss in the role's account",
        "InvalidIdentityToken",
        r"No OpenIDConnect provider found",
        "issuer-unknown",
        "create an IAM OIDC provider for {issuer} in the account of {identity}; its URL must equal iss byte for byte",
    ),
    _row(
        "aud not in the provider's client ids",
        "InvalidIdentityToken",
        r"Incorrect token audience",
        "audience-mismatch",
        "add {audience} to the client ids of the IAM OIDC provider, or project the token with one of them, "
        "usually sts.amazonaws.com",
    ),
    _row(
        "discovery document or JWKS unreachable, kid unknown or key not usable",
        "InvalidIdentityToken",
        r"Couldn't retrieve verification key",
        "issuer-unreachable",
        "check that the discovery document and the JWKS of {issuer} answer publicly within 5 s and hold the key {kid}",
    ),
    _row(
        "TLS certificate of the issuer does not fit the thumbprint",
        "InvalidIdentityToken",
        r"HTTPS certificate doesn't match",
        "issuer-certificate",
        "update the thumbprint of the IAM OIDC provider for {issuer}, or use a publicly trusted certificate",
    ),
    _row("not a JWT", "InvalidIdentityToken", r"not a valid JWT", "token-malformed"),
    _row(
        "no sub",
        "InvalidIdentityToken",
        r"Missing a required claim",
        "claim-rejected",
        "use a token that has iss, sub, aud, iat and exp, as the TokenRequest API issues them",
    ),
    # -- times
    _row(
        "iat very old",
        "ExpiredTokenException",
        r"Token too old",
        "token-lifetime",
        "use a projected token, which the kubelet renews; this one was issued too long ago",
    ),
    _row("expired", "ExpiredTokenException", "", "token-expired"),
    # -- trust
    _row(
        "role missing, no matching Allow in the trust policy, or a Deny",
        "AccessDenied",
        "",
        "trust-denied",
        "compare the trust policy of {identity} with the token: Federated must be the OIDC provider of {issuer}, and "
        "its conditions must hold for :aud {audience} and :sub {subject}; a role that does not exist answers the same",
        operation=_WEB,
    ),
    _row(
        "identity provider refused the claim",
        "IDPRejectedClaim",
        "",
        "claim-rejected",
        "check with the owner of {issuer} why the token is rejected",
    ),
    _row(
        "identity provider slow or not reachable",
        "IDPCommunicationError",
        "",
        "issuer-unreachable",
        "check that the discovery document and the JWKS of {issuer} answer publicly within 5 s",
    ),
    # -- what was asked for
    _row(
        "duration longer than the role allows",
        "ValidationError",
        r"MaxSessionDuration",
        "lifetime-invalid",
        "ask for a shorter duration, or raise MaxSessionDuration of {identity}",
        operation=_WEB,
    ),
    _row(
        "several parameters at once",
        "ValidationError",
        r"^\s*(?!1 )\d+ validation errors? detected",
        "parameter-invalid",
    ),
    _row(
        "missing parameter",
        "ValidationError",
        r"Value null at|must not be null",
        "parameter-invalid",
    ),
    _row(
        "bad session name",
        "ValidationError",
        r"at 'roleSessionName' failed",
        "parameter-invalid",
        "use a session name of 2 to 64 letters, digits and _+=,.@-",
    ),
    _row(
        "duration out of range",
        "ValidationError",
        r"at 'durationSeconds' failed",
        "lifetime-invalid",
        "ask for 900 to 43200 s",
    ),
    _row(
        "length of a parameter",
        "ValidationError",
        r"Member must have length",
        "parameter-invalid",
    ),
    _row(
        "unusable role ARN",
        "ValidationError",
        r" is invalid",
        "parameter-invalid",
        "write the ARN as IAM shows it: arn:aws:iam::111122223333:role/app",
    ),
    _row("parameter missing, in other words", "MissingParameter", "", "parameter-invalid"),
    _row(
        "packed policy or tags too large",
        "PackedPolicyTooLarge",
        r"session tags",
        "session-policy-invalid",
        "use fewer or shorter session tags and session policies",
    ),
    _row(
        "packed policy too large, older text",
        "PackedPolicyTooLarge",
        "",
        "session-policy-invalid",
        "use a smaller session policy, or a managed one by its ARN",
    ),
    _row(
        "session policy not readable",
        "MalformedPolicyDocument",
        "",
        "session-policy-invalid",
        "check the session policy: its JSON, Version, Statement, Effect, Action and Resource",
    ),
    _row("region switched off", "RegionDisabledException", "", "region-disabled"),
    _row(
        "unknown action",
        "InvalidAction",
        "",
        "parameter-invalid",
        "check the endpoint: it does not know this operation of STS",
    ),
    # -- a second role, and signed calls
    _row(
        "second role: tags or source identity not allowed",
        "AccessDenied",
        r"sts:TagSession|sts:SetSourceIdentity",
        "trust-denied",
        "allow sts:TagSession and sts:SetSourceIdentity in the trust policy of {identity} and to the first role",
        operation=_CHAIN,
        listed=False,
    ),
    _row(
        "second role: not allowed by its trust policy or to the first role",
        "AccessDenied",
        "",
        "trust-denied",
        "allow sts:AssumeRole on {identity} to the first role, and name the first role, with the external id if "
        "one is asked for, in the trust policy of {identity}",
        operation=_CHAIN,
        listed=False,
    ),
    _row(
        "second role: longer than an hour",
        "ValidationError",
        r"role chaining|MaxSessionDuration",
        "lifetime-invalid",
        "ask for at most 3600 s: AWS ends a chained role's session after one hour, whatever the role allows",
        operation=_CHAIN,
        listed=False,
    ),
    _row(
        "keys without the right", "AccessDenied", "", "permission-denied", "allow the call to {identity}", listed=False
    ),
    _row(
        "signature too old or too new",
        "SignatureDoesNotMatch",
        r"Signature expired|not yet current",
        "clock-skew",
        listed=False,
    ),
    _row("request too old", "RequestExpired", "", "clock-skew", listed=False),
    _row("signature wrong", "SignatureDoesNotMatch", "", "credentials-rejected", listed=False),
    _row("signature incomplete", "IncompleteSignature", "", "credentials-rejected", listed=False),
    _row("keys unknown", "InvalidClientTokenId", "", "credentials-rejected", listed=False),
    _row("keys unknown to the service", "UnrecognizedClientException", "", "credentials-rejected", listed=False),
    _row("keys expired", "ExpiredToken", "", "credentials-rejected", listed=False),
    # -- token of another kind, and what remains
    _row(
        "token not acceptable, in other words",
        "InvalidIdentityToken",
        "",
        "claim-rejected",
        "compare iss, aud, sub, exp and the signing algorithm of the token with the IAM OIDC provider",
        listed=False,
    ),
    _row("parameter not acceptable, in other words", "ValidationError", "", "parameter-invalid", listed=False),
    _row("too many requests", "Throttling", "", "throttled", listed=False),
    _row("too many requests, other word", "ThrottlingException", "", "throttled", listed=False),
    _row("too many requests, third word", "RequestLimitExceeded", "", "throttled", listed=False),
)
"""What AWS answers, and what it means here."""
