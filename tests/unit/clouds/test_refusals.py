"""Each refusal that a cloud is known to give, in the cloud's own words, and the code that it becomes here."""

from __future__ import annotations

from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import pytest

from tests.unit.clouds.answering import DATE, ISSUER, NOW, SUBJECT, refused, said, token
from tests.unit.clouds.test_aws import KEYS, ROLE, chained, identity, web_identity
from tests.unit.clouds.test_gcp import FEDERATED, PROVIDER, TOKEN_URL, impersonate, introspection, sign
from wif.clouds import aws, azure, gcp, rows
from wif.clouds.answers import Row
from wif.core.flow import Flow, Response
from wif.core.token import UnverifiedToken
from wif.errors import CODES, RefusedError, UnavailableError, WifError

WEB = "AssumeRoleWithWebIdentity"
CHAIN = "AssumeRole"
ACCESS, ID = "generateAccessToken", "generateIdToken"


class Case(NamedTuple):
    cloud: str
    operation: str
    situation: str
    status: int
    cloud_code: str
    text: str
    code: str
    retryable: bool = False


def aws_case(
    situation: str, status: int, cloud_code: str, text: str, code: str, retry: bool = False, op: str = WEB
) -> Case:
    return Case("aws", op, situation, status, cloud_code, text, code, retry)


def gcp_case(
    situation: str, cloud_code: str, text: str, code: str, retry: bool = False, op: str = "token", status: int = 400
) -> Case:
    return Case("gcp", op, situation, status, cloud_code, text, code, retry)


def azure_case(situation: str, number: int, text: str, code: str, retry: bool = False, status: int = 401) -> Case:
    return Case("azure", "token", situation, status, f"AADSTS{number}", text, code, retry)


ONE = "1 validation error detected: "
RECORD = "No matching federated identity record found for presented assertion"

CASES = [
    # -- AWS: an answer for each row of the STS reference
    aws_case(
        "no OIDC provider object for iss in the role's account",
        400,
        "InvalidIdentityToken",
        "No OpenIDConnect provider found in your account for https://issuer.example/cluster",
        "issuer-unknown",
    ),
    aws_case(
        "aud not in the provider's client ids",
        400,
        "InvalidIdentityToken",
        "Incorrect token audience",
        "audience-mismatch",
    ),
    aws_case(
        "discovery document or JWKS unreachable, kid unknown or key not usable",
        400,
        "InvalidIdentityToken",
        "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity "
        "documentation for requirements",
        "issuer-unreachable",
        True,
    ),
    aws_case(
        "TLS certificate of the issuer does not fit the thumbprint",
        400,
        "InvalidIdentityToken",
        "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
        "issuer-certificate",
    ),
    aws_case(
        "not a JWT",
        400,
        "InvalidIdentityToken",
        "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
        "token-malformed",
    ),
    aws_case("no sub", 400, "InvalidIdentityToken", "Missing a required claim: sub", "claim-rejected"),
    aws_case(
        "expired",
        400,
        "ExpiredTokenException",
        "Token expired: current date/time 1753382758 must be before the expiration date/time 1753089571",
        "clock-skew",
    ),
    aws_case("iat very old", 400, "ExpiredTokenException", "Token too old: 441398", "token-lifetime"),
    aws_case(
        "role missing, no matching Allow in the trust policy, or a Deny",
        403,
        "AccessDenied",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        "trust-denied",
    ),
    aws_case(
        "duration longer than the role allows",
        400,
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        "lifetime-invalid",
    ),
    aws_case(
        "missing parameter",
        400,
        "ValidationError",
        ONE + "Value null at 'webIdentityToken' failed to satisfy constraint: Member must not be null",
        "parameter-invalid",
    ),
    aws_case(
        "bad session name",
        400,
        "ValidationError",
        ONE + "Value 'x y' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression "
        r"pattern: [\w+=,.@-]*",
        "parameter-invalid",
    ),
    aws_case(
        "duration out of range",
        400,
        "ValidationError",
        ONE + "Value '100' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or "
        "equal to 900",
        "lifetime-invalid",
    ),
    aws_case(
        "length of a parameter",
        400,
        "ValidationError",
        ONE
        + "Value 'arn' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20",
        "parameter-invalid",
    ),
    aws_case(
        "several parameters at once",
        400,
        "ValidationError",
        "2 validation errors detected: Value '100' at 'durationSeconds' failed to satisfy constraint: x; Value y",
        "parameter-invalid",
    ),
    aws_case("unusable role ARN", 400, "ValidationError", "arn:aws:iam::1:role/x is invalid", "parameter-invalid"),
    aws_case(
        "packed policy or tags too large",
        400,
        "PackedPolicyTooLarge",
        "Packed size of session tags consumes 112% of allotted space.",
        "session-policy-invalid",
    ),
    aws_case(
        "packed policy too large, older text",
        400,
        "PackedPolicyTooLarge",
        "Packed policy consumes 157% of allotted space, please use smaller policy.",
        "session-policy-invalid",
    ),
    aws_case(
        "region switched off",
        403,
        "RegionDisabledException",
        "STS is not activated in this region for account:221870936645. Your account administrator can activate STS in "
        "this region using the IAM Console.",
        "region-disabled",
    ),
    aws_case(
        "session policy not readable",
        400,
        "MalformedPolicyDocument",
        "Syntax errors in policy.",
        "session-policy-invalid",
    ),
    aws_case(
        "identity provider slow or not reachable",
        400,
        "IDPCommunicationError",
        "The identity provider could not be reached.",
        "issuer-unreachable",
        True,
    ),
    aws_case(
        "identity provider refused the claim", 403, "IDPRejectedClaim", "Authentication failed.", "claim-rejected"
    ),
    aws_case(
        "unknown action", 400, "InvalidAction", "Could not find operation X for version 2011-06-15", "parameter-invalid"
    ),
    aws_case(
        "parameter missing, in other words", 400, "MissingParameter", "The request must contain X", "parameter-invalid"
    ),
    # -- AWS: signed calls, and what else is known
    aws_case(
        "second role: tags or source identity not allowed",
        403,
        "AccessDenied",
        "User: arn:aws:sts::1:assumed-role/a/b is not authorized to perform: sts:TagSession on resource: x",
        "trust-denied",
        op=CHAIN,
    ),
    aws_case(
        "second role: not allowed by its trust policy or to the first role",
        403,
        "AccessDenied",
        "User: arn:aws:sts::1:assumed-role/a/b is not authorized to perform: sts:AssumeRole on resource: x",
        "trust-denied",
        op=CHAIN,
    ),
    aws_case(
        "second role: longer than an hour",
        400,
        "ValidationError",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        "lifetime-invalid",
        op=CHAIN,
    ),
    aws_case("keys without the right", 403, "AccessDenied", "no", "permission-denied", op="GetCallerIdentity"),
    aws_case(
        "signature too old or too new",
        403,
        "SignatureDoesNotMatch",
        "Signature expired: 20270115T080000Z is now earlier than 20270115T090000Z",
        "clock-skew",
        op=CHAIN,
    ),
    aws_case("request too old", 400, "RequestExpired", "Request has expired.", "clock-skew", op=CHAIN),
    aws_case(
        "signature wrong",
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.",
        "credentials-rejected",
        op=CHAIN,
    ),
    aws_case("signature incomplete", 400, "IncompleteSignature", "x", "credentials-rejected", op=CHAIN),
    aws_case(
        "keys unknown",
        403,
        "InvalidClientTokenId",
        "The security token included in the request is invalid.",
        "credentials-rejected",
        op="GetCallerIdentity",
    ),
    aws_case("keys unknown to the service", 403, "UnrecognizedClientException", "x", "credentials-rejected", op=CHAIN),
    aws_case(
        "keys expired",
        403,
        "ExpiredToken",
        "The security token included in the request is expired",
        "credentials-rejected",
        op=CHAIN,
    ),
    aws_case("token not acceptable, in other words", 400, "InvalidIdentityToken", "Something new", "claim-rejected"),
    aws_case("parameter not acceptable, in other words", 400, "ValidationError", "Something new", "parameter-invalid"),
    aws_case("too many requests", 400, "Throttling", "Rate exceeded", "throttled", True),
    aws_case("too many requests, other word", 400, "ThrottlingException", "Rate exceeded", "throttled", True),
    aws_case("too many requests, third word", 400, "RequestLimitExceeded", "x", "throttled", True),
    # -- Google's token exchange
    gcp_case(
        "iss absent", "invalid_grant", "The issuer in ID Token null does not match the expected one", "claim-rejected"
    ),
    gcp_case(
        "iss is not the configured issuer",
        "invalid_grant",
        "The issuer in ID Token https://other.example does not match the expected one in config",
        "issuer-unknown",
    ),
    gcp_case(
        "aud wrong",
        "invalid_grant",
        "The audience in ID Token [other] does not match the expected audience.",
        "audience-mismatch",
    ),
    gcp_case("iat missing", "invalid_grant", "ID Token issued at null is stale to sign-in.", "claim-rejected"),
    gcp_case("exp past", "invalid_grant", "ID Token issued at 1790000000 is stale to sign-in.", "clock-skew"),
    gcp_case(
        "signature wrong, kid known", "invalid_grant", "Unable to verify the ID Token signature.", "signature-invalid"
    ),
    gcp_case(
        "kid unknown, key of another kind, or issuer not reachable",
        "invalid_grant",
        "Error connecting to the given credential's issuer.",
        "issuer-unreachable",
        True,
    ),
    gcp_case(
        "attribute condition false",
        "unauthorized_client",
        "The given credential is rejected by the attribute condition.",
        "condition-denied",
    ),
    gcp_case(
        "provider or pool disabled, deleted or absent",
        "invalid_target",
        'The target service indicated by the "audience" parameters is invalid. This might either be because the pool '
        "or provider is disabled or deleted or because it doesn't exist.",
        "provider-unknown",
    ),
    gcp_case(
        "malformed audience",
        "invalid_request",
        'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See '
        "https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats.",
        "provider-unknown",
    ),
    gcp_case(
        "subject not a string",
        "unauthorized_client",
        "The mapped attribute 'google.subject' must be of type STRING.",
        "subject-invalid",
    ),
    gcp_case(
        "subject longer than 127 bytes",
        "invalid_request",
        "The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute mapping "
        "or the incoming assertion to produce a mapped attribute that is less than 127 bytes.",
        "subject-invalid",
    ),
    gcp_case("parameter missing or unsupported", "invalid_request", "Missing parameter", "parameter-invalid"),
    gcp_case("grant type unsupported", "unsupported_grant_type", "x", "parameter-invalid"),
    gcp_case("scope unknown to the exchange", "invalid_scope", "x", "scope-invalid"),
    gcp_case("token not acceptable, in other words", "invalid_grant", "Something new", "claim-rejected"),
    # -- Google's IAM Credentials API
    gcp_case(
        "no right to access tokens of the service account",
        "PERMISSION_DENIED",
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        "permission-denied",
        op=ACCESS,
        status=403,
    ),
    gcp_case(
        "no right to ID tokens of the service account",
        "PERMISSION_DENIED",
        "Permission 'iam.serviceAccounts.getOpenIdToken' denied on resource (or it may not exist).",
        "permission-denied",
        op=ID,
        status=403,
    ),
    gcp_case(
        "the API is switched off",
        "PERMISSION_DENIED",
        "IAM Service Account Credentials API has not been used in project 1 before or it is disabled.",
        "permission-denied",
        op=ACCESS,
        status=403,
    ),
    gcp_case(
        "lifetime of zero",
        "INVALID_ARGUMENT",
        "Lifetime of access token must be larger then zero.",
        "lifetime-invalid",
        op=ACCESS,
    ),
    gcp_case(
        "lifetime over an hour",
        "INVALID_ARGUMENT",
        "Access tokens can not have lifetimes of more than 1 hour. Use the Org Policy Constraint "
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension",
        "lifetime-invalid",
        op=ACCESS,
    ),
    gcp_case(
        "lifetime not acceptable, in other words", "INVALID_ARGUMENT", "Bad lifetime", "lifetime-invalid", op=ACCESS
    ),
    gcp_case("scope unknown", "INVALID_ARGUMENT", "Request contains an invalid argument.", "scope-invalid", op=ACCESS),
    gcp_case(
        "parameter not acceptable",
        "INVALID_ARGUMENT",
        "Request contains an invalid argument.",
        "parameter-invalid",
        op=ID,
    ),
    gcp_case("service account unknown", "NOT_FOUND", "Unknown service account", "identity-unknown", op=ID, status=404),
    gcp_case(
        "federated token not accepted",
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials.",
        "credentials-rejected",
        op=ACCESS,
        status=401,
    ),
    gcp_case("too many requests", "RESOURCE_EXHAUSTED", "Quota exceeded", "throttled", True, op=ACCESS, status=429),
    *(
        gcp_case("introspection not served", "invalid_client", "x", "exchange-refused", op="introspect", status=status)
        for status in (400, 401, 404)
    ),
    # -- Entra
    azure_case(
        "no credential fits, old number",
        70021,
        RECORD
        + ". Assertion Issuer: 'i'. Assertion Subject: 's'. Assertion Audience: 'a'. https://docs.microsoft.com/x",
        "trust-denied",
    ),
    azure_case(
        "no credentials at all",
        70025,
        "The client 'a'(b) has no configured federated identity credentials.",
        "no-federated-credential",
        True,
    ),
    azure_case("no credential for this issuer", 700211, RECORD + " issuer 'i'. Please check your …", "issuer-unknown"),
    azure_case(
        "no credential for this audience", 700212, RECORD + " audience 'a'. Please check your …", "audience-mismatch"
    ),
    azure_case("no credential for this subject", 700213, RECORD + " subject 's'. Check your …", "subject-mismatch"),
    azure_case(
        "no credential for this subject, or no expression fits",
        7002131,
        RECORD + " subject 's' or no federated identity credential expression matched.",
        "subject-mismatch",
    ),
    azure_case(
        "no credential for this subject, managed identity", 7002137, RECORD + " subject 's'.", "subject-mismatch"
    ),
    azure_case("subject differs by case only", 7002138, RECORD + " subject 's'.", "subject-mismatch"),
    azure_case("no credential fits, another number", 7002134, RECORD + " something 's'.", "subject-mismatch"),
    azure_case(
        "issuer of a form that is not allowed",
        70022,
        "Federated Identity Credential issuer must use HTTPS scheme, must not be loopback address, and may not include "
        "a query-string or fragment. Token issuer: http://localhost.",
        "issuer-invalid",
        status=400,
    ),
    azure_case(
        "token lives too long",
        70023,
        "External OIDC Provider token must have a lifetime of less than or equal to 1.01:00:00. Token issued at x.",
        "token-lifetime",
        status=400,
    ),
    azure_case(
        "outside its valid time",
        700024,
        "Client assertion is not within its valid time range. Current time: 2024-08-05T10:07:04.2542067Z, assertion "
        "valid from 2024-08-05T09:07:04.0000000Z, expiry time of assertion 2024-08-05T10:00:00.0000000Z.",
        "clock-skew",
    ),
    azure_case(
        "issuer differs from the discovery document's",
        700221,
        "Issuer from the provided JWT 'a' does not match the issuer published in the OIDC discovery metadata ('b').",
        "issuer-mismatch",
        status=400,
    ),
    azure_case(
        "token issued by Entra itself",
        700222,
        "AAD-issued tokens may not be used for federated identity flows.",
        "issuer-invalid",
    ),
    azure_case(
        "signing key not in the metadata",
        7000272,
        "The certificate with identifier k used to sign the federated credential could not be found in the metadata of "
        "identity provider i.",
        "key-not-published",
        True,
    ),
    azure_case(
        "issuer not reachable", 50166, "Request to External OIDC endpoint failed.", "issuer-unreachable", True, 400
    ),
    azure_case(
        "issuer not reachable, second number",
        501661,
        "Request to External OIDC endpoint failed.",
        "issuer-unreachable",
        True,
        400,
    ),
    azure_case(
        "issuer not reachable, third number",
        90061,
        "Request to External OIDC endpoint failed.",
        "issuer-unreachable",
        True,
        400,
    ),
    azure_case(
        "issuer answered with an error that stays",
        900610,
        "Non-retryable error has occurred during request to external OIDC endpoint.",
        "issuer-unreachable",
        status=400,
    ),
    azure_case(
        "application unknown in the tenant",
        700016,
        "Application with identifier 'a' was not found in the directory 't'.",
        "identity-unknown",
        status=400,
    ),
    azure_case(
        "application without service principal",
        7000229,
        "The client application a is missing service principal in the tenant t.",
        "identity-unknown",
    ),
    azure_case("tenant unknown", 90002, "Tenant 't' not found.", "identity-unknown", status=400),
    azure_case(
        "tenant is an empty GUID",
        900021,
        "Requested tenant identifier 'x' is not valid.",
        "identity-unknown",
        status=400,
    ),
    azure_case(
        "tenant is no domain",
        900023,
        "Specified tenant identifier 'x' is neither a valid DNS name",
        "identity-unknown",
        status=400,
    ),
    azure_case(
        "resource unknown",
        500011,
        "The resource principal named r was not found in the tenant named t.",
        "scope-invalid",
        status=400,
    ),
    azure_case(
        "scope without /.default", 1002012, "The provided value for scope s is not valid.", "scope-invalid", status=400
    ),
    azure_case(
        "scope missing or unusable",
        70011,
        "The provided request must include a 'scope' input parameter.",
        "scope-invalid",
        status=400,
    ),
    azure_case(
        "parameter missing",
        900144,
        "The request body must contain the following parameter: 'x'.",
        "parameter-invalid",
        status=400,
    ),
    azure_case(
        "assertion missing",
        7000216,
        "'client_assertion', 'client_secret' or 'request' is required",
        "parameter-invalid",
    ),
    azure_case(
        "assertion and secret missing",
        7000218,
        "The request body must contain the following parameter",
        "parameter-invalid",
    ),
    azure_case(
        "grant type unsupported",
        70003,
        "The app requested an unsupported grant type 'x'.",
        "parameter-invalid",
        status=400,
    ),
    azure_case(
        "request malformed",
        9002313,
        "Invalid request. Request is malformed or invalid.",
        "parameter-invalid",
        status=400,
    ),
    azure_case("request not by POST", 900561, "x", "parameter-invalid", status=400),
    azure_case("not a JWT", 50027, "JWT token is invalid or malformed.", "token-malformed", status=400),
    azure_case(
        "token header not supported",
        5002726,
        "Invalid JWT token. Found unsupported token header.",
        "token-malformed",
        status=400,
    ),
    azure_case(
        "key does not fit the algorithm",
        5002730,
        "Invalid JWT token. Unsupported key for the signing algorithm.",
        "algorithm-unsupported",
        status=400,
    ),
    azure_case(
        "signature wrong, key not found",
        700027,
        "Client assertion failed signature validation. [Reason - The key was not found.]",
        "key-not-published",
    ),
    azure_case("signature wrong", 700027, "Client assertion failed signature validation.", "signature-invalid"),
    azure_case(
        "assertion invalid, its signature", 50013, "Assertion failed signature validation.", "signature-invalid"
    ),
    azure_case("assertion invalid", 50013, "Assertion is invalid.", "claim-rejected"),
    azure_case("assertion names another client", 700021, "x", "subject-mismatch"),
    azure_case("assertion's audience is not the authority", 700023, "x", "audience-mismatch"),
    azure_case("client secret wrong", 7000215, "x", "credentials-rejected"),
    azure_case("client secret expired", 7000222, "x", "credentials-rejected"),
    azure_case("managed identity may not be used as a federated credential here", 7000226, "x", "trust-denied"),
    azure_case(
        "managed identity may not be used as a federated credential here, second number", 7000227, "x", "trust-denied"
    ),
    azure_case(
        "directory fails for a moment", 90033, "A transient error has occurred.", "cloud-unavailable", True, 400
    ),
    azure_case("client asks again and again", 50196, "x", "throttled", status=400),
]


def asked(case: Case, subject: UnverifiedToken | None = None) -> Flow[Any]:
    with_token = token() if subject is None else subject
    flows: dict[str, Flow[Any]] = {
        WEB: aws.assume_role_with_web_identity(web_identity(), with_token, now=NOW),
        CHAIN: chained(),
        "GetCallerIdentity": identity(),
        ACCESS: impersonate(),
        ID: sign(provider=PROVIDER),
        "introspect": introspection(),
        "token": gcp.exchange_token(PROVIDER, with_token, scopes=("s",), token_url=TOKEN_URL, now=NOW)
        if case.cloud == "gcp"
        else azure.request_token(
            with_token, tenant_id="t", client_id="c", authority=azure.authority_url(None), scope="s/.default", now=NOW
        ),
    }
    return flows[case.operation]


def answer(case: Case, **headers: str) -> Response:
    if case.cloud == "aws":
        body = (
            '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
            f"<Code>{case.cloud_code}</Code><Message>{escape(case.text)}</Message></Error>"
            "<RequestId>r</RequestId></ErrorResponse>"
        )
        names = {"content-type": "text/xml"} | headers
        return Response(status=case.status, headers=names, body=body.encode())
    if case.cloud == "azure":
        number = int(case.cloud_code.removeprefix("AADSTS"))
        return said(
            {
                "error": "invalid_client",
                "error_description": f"{case.cloud_code}: {case.text}",
                "error_codes": [number],
            },
            case.status,
            **headers,
        )
    if case.operation in ("token", "introspect"):
        return said({"error": case.cloud_code, "error_description": case.text}, case.status, **headers)
    return said(
        {"error": {"code": case.status, "message": case.text, "status": case.cloud_code}}, case.status, **headers
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.cloud}: {case.situation}")
def test_every_known_refusal_has_its_code(case: Case) -> None:
    error = refused(asked(case), answer(case))
    assert error.code == case.code
    assert error.clause == CODES[case.code].clause
    assert error.retryable is case.retryable
    assert (error.cloud, error.cloud_code, error.status) == (case.cloud, case.cloud_code, case.status)
    assert case.text.split("  ")[0][:60].split("'")[0].rstrip() in error.message
    assert isinstance(error, RefusedError | UnavailableError)
    if case.operation in (WEB, "token", ACCESS, ID):
        assert all(part in error.message for part in (ISSUER, SUBJECT, "sts.example"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.cloud}: {case.situation}")
def test_the_case_of_a_text_does_not_matter(case: Case) -> None:
    assert refused(asked(case), answer(case._replace(text=case.text.lower()))).code == case.code


def fits(row: Row, case: Case) -> bool:
    return (row.cloud, row.situation) == (case.cloud, case.situation) and row.status in (0, case.status)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.cloud}: {row.situation} {row.status or ''}")
def test_every_row_is_shown_by_an_answer(row: Row) -> None:
    shown = [case for case in CASES if fits(row, case)]
    assert shown
    assert row.code in CODES
    for case in shown:
        assert row.cloud_code in ("", case.cloud_code)
        assert row.operation in ("", case.operation)
        assert row.code == case.code or (row.code, case.code) == ("token-expired", "clock-skew")


def test_no_two_rows_are_called_alike() -> None:
    names = [(row.cloud, row.situation, row.status) for row in rows()]
    assert len(names) == len(set(names))
    assert {(case.cloud, case.situation) for case in CASES} == {name[:2] for name in names}


# -- whose clock is wrong ------------------------------------------------------------------------------------------

EXPIRED = [case for case in CASES if case.code == "clock-skew" and case.operation in (WEB, "token")]


@pytest.mark.parametrize("case", EXPIRED, ids=lambda case: case.cloud)
def test_a_token_that_both_clocks_call_expired_is_expired(case: Case) -> None:
    error = refused(asked(case, token(exp=NOW)), answer(case))
    assert (error.code, error.clause) == ("token-expired", "expiry")


@pytest.mark.parametrize("case", EXPIRED, ids=lambda case: case.cloud)
@pytest.mark.parametrize("claims", [{"iat": NOW + 1, "nbf": None}, {"nbf": NOW + 1, "iat": None}])
def test_a_token_of_the_future_is_not_valid_yet(case: Case, claims: dict[str, Any]) -> None:
    error = refused(asked(case, token(**claims)), answer(case))
    assert (error.code, error.clause) == ("token-not-yet-valid", "clock")


@pytest.mark.parametrize("case", EXPIRED, ids=lambda case: case.cloud)
def test_a_token_that_only_the_cloud_calls_expired_is_a_matter_of_clocks(case: Case) -> None:
    error = refused(asked(case, token(nbf=None, iat=None)), answer(case, date=DATE.replace("08:00", "09:30")))
    assert (error.code, error.clause) == ("clock-skew", "clock")
    assert error.hint is not None
    assert "2027-01-15T08:00:00Z" in error.hint
    assert "2027-01-15T09:30:00Z" in error.hint


def test_google_takes_no_token_of_yesterday() -> None:
    case = next(case for case in EXPIRED if case.cloud == "gcp")
    assert refused(asked(case, token(iat=NOW - 86_401)), answer(case)).code == "token-lifetime"
    assert refused(asked(case, token(iat=NOW - 86_400)), answer(case)).code == "clock-skew"


def test_the_age_of_a_token_is_googles_rule_alone() -> None:
    for case in EXPIRED:
        if case.cloud != "gcp":
            assert refused(asked(case, token(iat=NOW - 90_000)), answer(case)).code == "clock-skew"


def test_a_signed_call_has_no_token_to_compare_clocks_with() -> None:
    body = b"<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>x</Message></Error></ErrorResponse>"
    assert refused(chained(), Response(status=400, body=body)).code == "token-expired"


# -- what no table knows -----------------------------------------------------------------------------------------------

FIRST = [case for case in CASES if case.situation in ("no sub", "iss absent", "no credentials at all")]


def unknown(case: Case, status: int, text: str = "Nobody knows why.") -> Case:
    number = "AADSTS1234567" if case.cloud == "azure" else "BrandNew"
    return case._replace(status=status, cloud_code=number, text=text)


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.cloud)
@pytest.mark.parametrize(
    ("status", "code", "retryable", "kind"),
    [
        (400, "exchange-refused", False, RefusedError),
        (403, "exchange-refused", False, RefusedError),
        (408, "cloud-unavailable", True, UnavailableError),
        (429, "throttled", True, UnavailableError),
        (500, "cloud-unavailable", True, UnavailableError),
        (503, "cloud-unavailable", True, UnavailableError),
    ],
)
def test_a_code_that_is_not_known_goes_by_the_status(
    case: Case, status: int, code: str, retryable: bool, kind: type[WifError]
) -> None:
    case = unknown(case, status)
    error = refused(asked(case), answer(case))
    assert (error.code, error.retryable, type(error)) == (code, retryable, kind)
    assert f"{case.cloud_code}: Nobody knows why. (HTTP {status})" in error.message


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.cloud)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"\xff", b"{}", b"[]"])
def test_a_busy_cloud_needs_no_error_document(case: Case, status: int, body: bytes) -> None:
    error = refused(asked(case), Response(status=status, headers={"content-type": "text/html"}, body=body))
    assert error.retryable
    assert isinstance(error, UnavailableError)
    assert f"no error document (HTTP {status}, content type text/html)" in error.message


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.cloud)
@pytest.mark.parametrize("status", [201, 302, 400, 404])
def test_another_status_without_an_error_document_is_no_answer(case: Case, status: int) -> None:
    error = refused(asked(case), Response(status=status, headers={"content-type": "text/html"}, body=b"<html/>"))
    assert (error.code, error.retryable) == ("response-malformed", False)
    assert f"HTTP {status}, content type text/html" in error.message


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.cloud)
def test_a_known_refusal_of_a_failing_cloud_may_be_repeated(case: Case) -> None:
    case = case._replace(status=503)
    assert refused(asked(case), answer(case)).retryable


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.cloud)
def test_retry_after_is_handed_on(case: Case) -> None:
    case = unknown(case, 429)
    assert refused(asked(case), answer(case, **{"retry-after": "7"})).retry_after_seconds == 7.0
    assert refused(asked(case), answer(case)).retry_after_seconds is None


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.cloud)
def test_a_long_text_is_shortened_and_its_secrets_go(case: Case) -> None:
    raw = token().raw
    text = f"You sent {raw} and {raw[:200]}\nwith AKIAIOSFODNN7EXAMPLE and ya29.c.b0Aaekm1K " + "blah " * 1000
    case = unknown(case, 400, text)
    error = refused(asked(case), answer(case))
    assert "You sent [redacted] and [redacted]" in error.message
    assert len(error.message) < 1500
    assert not any(secret in error.message for secret in ("eyJ", "AKIA", "ya29"))


def test_a_federated_token_is_not_repeated() -> None:
    body = {"error": {"status": FEDERATED.token[:20], "message": f"Bearer {FEDERATED.token}!"}}
    error = refused(impersonate(), said(body, 401))
    assert "ya29" not in f"{error}{error.__dict__}"


def test_the_refusal_of_a_role_names_it() -> None:
    case = next(case for case in CASES if case.code == "trust-denied")
    error = refused(asked(case), answer(case))
    assert ROLE in error.message
    assert error.hint is not None
    assert all(part in error.hint for part in (ROLE, ISSUER, SUBJECT, "sts.example"))
    assert KEYS.secret_access_key not in str(error)
