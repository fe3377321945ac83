"""AWS' answers: the success document, and every refusal with one rule broken at a time."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.unit.emulator.local_sts import (
    AWS_AUDIENCE,
    HOST,
    ISSUER,
    NOW,
    OIDC_PROVIDER,
    ROLE,
    SUBJECT,
    LocalSts,
)
from wif.core.jws import sign, split_compact

NO_KEY = (
    "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity "
    "documentation for requirements"
)
NOT_A_JWT = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
NO_OPERATION = "Could not find operation"
NOT_AUTHORISED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"


def test_success_document(sts: LocalSts) -> None:
    reply = sts.aws()
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/xml"
    assert reply.headers["x-amzn-requestid"] == reply.xml("RequestId")
    assert reply.headers["date"] == "Mon, 23 Nov 2026 02:13:20 GMT"
    root = ET.fromstring(reply.body)
    assert root.tag == "{https://sts.amazonaws.com/doc/2011-06-15/}AssumeRoleWithWebIdentityResponse"
    assert reply.xml("Audience") == AWS_AUDIENCE
    assert reply.xml("AssumedRoleId") == "AROAABCDEFGHIJKLMNOPQ:default-app"
    assert reply.xml("Arn") == "arn:aws:sts::111122223333:assumed-role/app/default-app"  # the path is dropped
    assert reply.xml("Provider") == OIDC_PROVIDER  # an ARN, not the iss that the reference promises
    assert reply.xml("Expiration") == "2026-11-23T03:13:20Z"
    assert reply.xml("SubjectFromWebIdentityToken") == SUBJECT
    assert reply.xml("PackedPolicySize") is None
    assert reply.xml("SourceIdentity") is None
    key, secret = reply.xml("AccessKeyId"), reply.xml("SecretAccessKey")
    assert key is not None
    assert secret is not None
    assert key.startswith("ASIAWIFLOCAL")
    assert len(key) == 20
    assert len(secret) == 40
    assert str(reply.xml("SessionToken")).startswith("wif-local-sts.")


def test_two_exchanges_give_different_keys(sts: LocalSts) -> None:
    assert sts.aws().xml("AccessKeyId") != sts.aws().xml("AccessKeyId")


def test_query_string_and_white_space_around_the_token(sts: LocalSts) -> None:
    from urllib.parse import urlencode

    query = urlencode(
        {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": ROLE,
            "RoleSessionName": "me",
            "WebIdentityToken": sts.mint(AWS_AUDIENCE) + "\n",
            "DurationSeconds": "900",
        }
    )
    reply = sts.send("GET", query=query, host="sts.eu-central-1.amazonaws.com")
    assert reply.xml("Expiration") == "2026-11-23T02:28:20Z"


@pytest.mark.parametrize("algorithm", ["ES256", "ES384"])
def test_elliptic_curve_tokens_are_good_for_aws(sts: LocalSts, algorithm: str) -> None:
    kid = next(key.kid for key in sts.cluster.keys if key.algorithm == algorithm)
    assert sts.aws(sts.mint(AWS_AUDIENCE, kid=kid)).status == 200


TOKENS: list[tuple[str, dict[str, Any], tuple[int, str, str]]] = [
    (
        "another issuer",
        {"iss": "https://other.example.com"},
        (400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://other.example.com"),
    ),
    (
        "a slash behind the issuer",
        {"iss": ISSUER + "/"},
        (400, "InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {ISSUER}/"),
    ),
    ("no issuer", {"iss": None}, (400, "InvalidIdentityToken", "Missing a required claim: iss")),
    ("another audience", {"aud": ["other"]}, (400, "InvalidIdentityToken", "Incorrect token audience")),
    ("an azp that is not listed", {"azp": "other"}, (400, "InvalidIdentityToken", "Incorrect token audience")),
    ("no audience", {"aud": None}, (400, "InvalidIdentityToken", "Missing a required claim: aud")),
    ("no subject", {"sub": None}, (400, "InvalidIdentityToken", "Missing a required claim: sub")),
    ("no iat", {"iat": None}, (400, "InvalidIdentityToken", "Missing a required claim: iat")),
    ("no exp", {"exp": None}, (400, "InvalidIdentityToken", "Missing a required claim: exp")),
    ("a subject over 255 characters", {"sub": "s" * 256}, (400, "InvalidIdentityToken", NOT_A_JWT)),
    ("an exp with a fraction", {"exp": NOW + 0.5}, (400, "InvalidIdentityToken", NOT_A_JWT)),
    ("an exp that is a text", {"exp": str(int(NOW) + 60)}, (400, "InvalidIdentityToken", NOT_A_JWT)),
    (
        "past its exp",
        {"exp": int(NOW) - 61},
        (
            400,
            "ExpiredTokenException",
            f"Token expired: current date/time {NOW:.0f} must be before the expiration date/time {NOW - 61:.0f}",
        ),
    ),
    ("an old iat", {"iat": int(NOW) - 90000}, (400, "ExpiredTokenException", "Token too old: 90000")),
    (
        "an nbf ahead",
        {"nbf": int(NOW) + 61},
        (
            400,
            "InvalidIdentityToken",
            f"Token not yet valid: current date/time {NOW:.0f} must be after the nbf date/time {NOW + 61:.0f}",
        ),
    ),
    ("another subject", {"sub": "system:serviceaccount:other:app"}, (403, "AccessDenied", NOT_AUTHORISED)),
    (
        "tags of the wrong form",
        {"https://aws.amazon.com/tags": {"principal_tags": {"a": 1}}},
        (
            403,
            "IDPRejectedClaim",
            "The identity provider (IdP) reported that authentication failed. This might be because the claim is "
            "invalid.",
        ),
    ),
    (
        "tags over the allotted space",
        {
            "https://aws.amazon.com/tags": {
                "principal_tags": {f"key{n:03}": ["v" * 250] for n in range(9)},
            }
        },
        (400, "PackedPolicyTooLarge", "Packed size of session tags consumes 113% of allotted space."),
    ),
    (
        "a source identity that the trust does not let in",
        {"https://aws.amazon.com/source_identity": "alice"},
        (403, "AccessDenied", NOT_AUTHORISED),
    ),
]


@pytest.mark.parametrize(("claims", "expected"), [row[1:] for row in TOKENS], ids=[row[0] for row in TOKENS])
def test_token_refused(sts: LocalSts, claims: dict[str, Any], expected: tuple[int, str, str]) -> None:
    reply = sts.aws(sts.mint(AWS_AUDIENCE, **claims))
    assert reply.aws_error == expected
    assert reply.xml("Type") == "Sender"


@pytest.mark.parametrize(
    "token", ["ya29.abc", "aa.b", "a.b.c", "a.b.c.d", "e30.e30.", "\x00\x01binary", "a" * 4, "....", "ö.ö.ö"]
)
def test_what_is_no_jwt(sts: LocalSts, token: str) -> None:
    assert sts.aws(token).aws_error == (400, "InvalidIdentityToken", NOT_A_JWT)


def test_within_the_leeway_times_are_forgiven(sts: LocalSts) -> None:
    for claims in ({"exp": int(NOW) - 59}, {"nbf": int(NOW) + 60}, {"iat": int(NOW) + 60}):
        assert sts.aws(sts.mint(AWS_AUDIENCE, **claims)).status == 200


PARAMETERS: list[tuple[str, dict[str, Any], tuple[int, str, str]]] = [
    (
        "no token",
        {"WebIdentityToken": None},
        (
            400,
            "ValidationError",
            "1 validation error detected: Value null at 'webIdentityToken' failed to satisfy constraint: Member must "
            "not be null",
        ),
    ),
    (
        "a blank in the session name",
        {"RoleSessionName": "x y"},
        (
            400,
            "ValidationError",
            "1 validation error detected: Value 'x y' at 'roleSessionName' failed to satisfy constraint: Member must "
            r"satisfy regular expression pattern: [\w+=,.@-]*",
        ),
    ),
    (
        "too short a session",
        {"DurationSeconds": "100"},
        (
            400,
            "ValidationError",
            "1 validation error detected: Value '100' at 'durationSeconds' failed to satisfy constraint: Member must "
            "have value greater than or equal to 900",
        ),
    ),
    (
        "too long a session",
        {"DurationSeconds": "43201"},
        (
            400,
            "ValidationError",
            "1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must "
            "have value less than or equal to 43200",
        ),
    ),
    (
        "a role ARN too short",
        {"RoleArn": "arn:aws:iam::1:role"},
        (
            400,
            "ValidationError",
            "1 validation error detected: Value 'arn:aws:iam::1:role' at 'roleArn' failed to satisfy constraint: "
            "Member must have length greater than or equal to 20",
        ),
    ),
    (
        "two at once",
        {"RoleSessionName": "x", "DurationSeconds": "1"},
        (
            400,
            "ValidationError",
            "2 validation errors detected: Value 'x' at 'roleSessionName' failed to satisfy constraint: Member must "
            "have length greater than or equal to 2; Value '1' at 'durationSeconds' failed to satisfy constraint: "
            "Member must have value greater than or equal to 900",
        ),
    ),
    (
        "a user's ARN",
        {"RoleArn": "arn:aws:iam::111122223333:user/alice"},
        (400, "ValidationError", "arn:aws:iam::111122223333:user/alice is invalid"),
    ),
    (
        "over the role's maximum",
        {"DurationSeconds": "7201"},
        (400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."),
    ),
    ("an absent role", {"RoleArn": ROLE + "2"}, (403, "AccessDenied", NOT_AUTHORISED)),
    (
        "another account",
        {"RoleArn": "arn:aws:iam::999999999999:role/app"},
        (400, "InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {ISSUER}"),
    ),
    (
        "a session policy that is no JSON",
        {"Policy": "allow all"},
        (400, "MalformedPolicyDocument", "The policy is not in the valid JSON format."),
    ),
    (
        "session policies over the allotted space",
        {
            "Policy": json.dumps({"Version": "2012-10-17", "Statement": [], "Id": "i" * 1900}),
            "PolicyArns.member.1.arn": "arn:aws:iam::111122223333:policy/" + "p" * 120,
        },
        (
            400,
            "PackedPolicyTooLarge",
            "Packed policy consumes 103% of allotted space, please use smaller policy.",
        ),
    ),
    (
        "another action",
        {"Action": "AssumeRoleWithSAML"},
        (400, "InvalidAction", f"{NO_OPERATION} AssumeRoleWithSAML for version 2011-06-15"),
    ),
    ("no action", {"Action": None}, (400, "MissingAction", "The request is missing an action parameter.")),
    (
        "no version",
        {"Version": None},
        (400, "InvalidAction", f"{NO_OPERATION} AssumeRoleWithWebIdentity for version NO_VERSION_SPECIFIED"),
    ),
]


@pytest.mark.parametrize(("fields", "expected"), [row[1:] for row in PARAMETERS], ids=[row[0] for row in PARAMETERS])
def test_parameter_refused(sts: LocalSts, fields: dict[str, Any], expected: tuple[int, str, str]) -> None:
    assert sts.aws(**fields).aws_error == expected


def test_a_token_too_long_is_not_echoed(sts: LocalSts) -> None:
    status, code, message = sts.aws("x" * 20001).aws_error
    assert (status, code) == (400, "ValidationError")
    assert message is not None
    assert "Value '***' at 'webIdentityToken'" in message
    assert "xxx" not in message


def test_another_key_under_the_same_id(sts: LocalSts) -> None:
    forged = sts.mint(AWS_AUDIENCE, private_key=rsa.generate_private_key(65537, 2048))
    assert sts.aws(forged).aws_error == (400, "InvalidIdentityToken", NO_KEY)


def test_an_unknown_key_id(sts: LocalSts) -> None:
    claims = split_compact(sts.mint(AWS_AUDIENCE)).unverified_claims
    for kid in ("unknown", None):
        token = sign(claims, sts.cluster.signing_key.private_key, kid)
        assert sts.aws(token).aws_error == (400, "InvalidIdentityToken", NO_KEY)


def test_an_issuer_without_documents(sts: LocalSts) -> None:
    for document in sts.documents.rglob("*"):
        if document.is_file():
            document.unlink()
    assert sts.aws().aws_error == (400, "InvalidIdentityToken", NO_KEY)


def test_a_discovery_document_of_another_issuer(sts: LocalSts) -> None:
    path = sts.documents / ".well-known" / "openid-configuration"
    path.write_text(path.read_text().replace(ISSUER, "https://other.example.com"))
    assert sts.aws().aws_error == (400, "InvalidIdentityToken", NO_KEY)


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "PS256"}, {"alg": "EdDSA"}])
def test_algorithms_that_aws_does_not_verify(sts: LocalSts, header: dict[str, str]) -> None:
    from base64 import urlsafe_b64encode

    _, payload, signature = sts.mint(AWS_AUDIENCE).split(".")
    kid = sts.cluster.signing_key.kid
    forged = urlsafe_b64encode(json.dumps({**header, "kid": kid}).encode()).rstrip(b"=").decode()
    assert sts.aws(f"{forged}.{payload}.{signature}").aws_error == (400, "InvalidIdentityToken", NOT_A_JWT)


def test_disabled_region(sts: LocalSts) -> None:
    assert sts.aws(host="sts.eu-south-1.amazonaws.com").aws_error == (
        403,
        "RegionDisabledException",
        "STS is not activated in this region for account:111122223333. Your account administrator can activate STS in "
        "this region using the IAM Console.",
    )


def test_an_explicit_deny_wins(sts: LocalSts) -> None:
    statements = sts.trust["aws"]["Roles"][0]["AssumeRolePolicyDocument"]["Statement"]
    statements.append({**statements[0], "Effect": "Deny"})
    assert sts.aws().aws_error == (403, "AccessDenied", NOT_AUTHORISED)


def test_no_trust_at_all_refuses(sts: LocalSts) -> None:
    sts.trust = {}
    assert sts.aws().status == 400
    assert sts.gcp().status == 400
    assert sts.azure().status == 400


def test_tags_and_source_identity_of_claims(sts: LocalSts) -> None:
    statement = sts.trust["aws"]["Roles"][0]["AssumeRolePolicyDocument"]["Statement"][0]
    statement["Action"] = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
    statement["Condition"]["StringEquals"]["aws:RequestTag/team"] = "shop"
    claims = {
        "https://aws.amazon.com/tags": {"principal_tags": {"team": ["shop"]}, "transitive_tag_keys": ["team"]},
        "https://aws.amazon.com/source_identity": "alice",
    }
    reply = sts.aws(sts.mint(AWS_AUDIENCE, **claims))
    assert reply.xml("SourceIdentity") == "alice"
    assert reply.xml("PackedPolicySize") == "1"


def test_condition_keys_of_the_request(sts: LocalSts) -> None:
    condition = sts.trust["aws"]["Roles"][0]["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]
    condition["StringEquals"] |= {
        f"{HOST}:aud": AWS_AUDIENCE,
        "sts:RoleSessionName": "default-app",
        "aws:RequestedRegion": "eu-central-1",
        "aws:FederatedProvider": OIDC_PROVIDER,
    }
    condition["Bool"] = {"aws:SecureTransport": "true"}
    condition["IpAddress"] = {"aws:SourceIp": "127.0.0.0/8"}
    condition["DateLessThan"] = {"aws:CurrentTime": "2026-12-01T00:00:00Z"}
    assert sts.aws(host="sts.eu-central-1.amazonaws.com").status == 200
    assert sts.aws(host="sts.eu-west-1.amazonaws.com").status == 403


def test_values_echoed_are_xml_again(sts: LocalSts) -> None:
    name = "<&\"'\x00\x1f\ufffe\u2028]]>"
    status, code, message = sts.aws(RoleSessionName=name).aws_error
    assert (status, code) == (400, "ValidationError")
    assert message is not None
    assert "<&\"'\ufffd\ufffd\ufffd\u2028]]>" in message


def test_other_paths_and_methods(sts: LocalSts) -> None:
    reply = sts.send("POST", "/other", host="sts.amazonaws.com")
    assert reply.aws_error[:2] == (404, "UnknownOperation")
    assert sts.send("PUT", "/", host="sts.amazonaws.com").aws_error[:2] == (404, "UnknownOperation")
    assert sts.send(body=b"%ff", host="sts.amazonaws.com").aws_error[:2] == (400, "MalformedQueryString")
