"""Signed follow-up calls: signatures against botocore's signer, role chaining, and every way they are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlencode, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.unit.emulator.local_sts import AWS_AUDIENCE, CHAINED_ROLE, NOW, ROLE, LocalSts, Reply

HOST = "sts.eu-central-1.amazonaws.com"
REGION = "eu-central-1"


@pytest.fixture
def keys(sts: LocalSts) -> Credentials:
    """The keys of a session of the first role."""
    return keys_of(sts.aws())


def keys_of(reply: Reply) -> Credentials:
    return Credentials(*(str(reply.xml(name)) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")))


@pytest.fixture(autouse=True)
def signing_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore signs for the local STS's clock."""
    import datetime

    stamp = datetime.datetime.fromtimestamp(NOW, datetime.UTC).replace(tzinfo=None)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: stamp)


def signed(
    credentials: Credentials,
    fields: Mapping[str, str],
    *,
    method: str = "POST",
    host: str = HOST,
    region: str = REGION,
    service: str = "sts",
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The arguments of ``LocalSts.send`` for a request that botocore has signed."""
    # a blank in a query is %20 in every canonical form; botocore signs the query as it stands
    body = urlencode({"Version": "2011-06-15", **fields}, quote_via=quote if method == "GET" else quote_plus)
    content = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", **(headers or {})}
    if method == "GET":
        request = AWSRequest("GET", f"https://{host}/?{body}", headers={})
    else:
        request = AWSRequest("POST", f"https://{host}/", headers=content, data=body)
    SigV4Auth(credentials, service, region).add_auth(request)
    return {
        "method": method,
        "host": host,
        "query": body if method == "GET" else "",
        "headers": {name: str(value) for name, value in request.headers.items()},
        "body": body.encode() if method == "POST" else b"",
    }


IDENTITY = {"Action": "GetCallerIdentity"}
CHAIN = {"Action": "AssumeRole", "RoleArn": CHAINED_ROLE, "RoleSessionName": "again", "ExternalId": "shop"}


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_get_caller_identity(sts: LocalSts, keys: Credentials, method: str) -> None:
    reply = sts.send(**signed(keys, IDENTITY, method=method))
    assert reply.status == 200
    assert reply.xml("Arn") == "arn:aws:sts::111122223333:assumed-role/app/default-app"
    assert reply.xml("UserId") == "AROAABCDEFGHIJKLMNOPQ:default-app"
    assert reply.xml("Account") == "111122223333"


def test_header_values_with_runs_of_blanks(sts: LocalSts, keys: Credentials) -> None:
    assert sts.send(**signed(keys, IDENTITY, headers={"X-Amz-Meta": "  a   b  "})).status == 200


def test_values_that_need_encoding(sts: LocalSts, keys: Credentials) -> None:
    fields = {**IDENTITY, "Odd": "a b+c/d=é~*'()", "Empty": "", "A": "z"}
    assert sts.send(**signed(keys, fields, method="GET")).status == 200
    assert sts.send(**signed(keys, fields)).status == 200


def test_a_presigned_request(sts: LocalSts, keys: Credentials) -> None:
    request = AWSRequest(
        "GET",
        f"https://{HOST}/?{urlencode({'Version': '2011-06-15', **IDENTITY})}",
        headers={"x-k8s-aws-id": "cluster"},
    )
    SigV4QueryAuth(keys, "sts", REGION, expires=60).add_auth(request)
    query = urlsplit(str(request.url)).query
    sent: dict[str, Any] = {"method": "GET", "host": HOST, "query": query}
    assert sts.send(**sent, headers={"x-k8s-aws-id": "cluster"}).status == 200
    assert sts.send(**sent, headers={"x-k8s-aws-id": "other"}).aws_error[1] == "SignatureDoesNotMatch"
    sts.now += 61
    status, code, message = sts.send(**sent, headers={"x-k8s-aws-id": "cluster"}).aws_error
    assert (status, code) == (403, "SignatureDoesNotMatch")
    assert str(message).startswith("Signature expired: 20261123T021320Z is now earlier than 20261123T021321Z")


def test_role_chaining(sts: LocalSts, keys: Credentials) -> None:
    reply = sts.send(**signed(keys, CHAIN))
    assert reply.status == 200
    assert reply.xml("Arn") == "arn:aws:sts::444455556666:assumed-role/second/again"
    assert reply.xml("Expiration") == "2026-11-23T03:13:20Z"
    assert reply.xml("Provider") is None
    again = sts.send(**signed(keys_of(reply), IDENTITY))
    assert again.xml("Arn") == "arn:aws:sts::444455556666:assumed-role/second/again"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"ExternalId": "other"},
            (
                403,
                "AccessDenied",
                "User: arn:aws:sts::111122223333:assumed-role/app/default-app is not authorized to perform: "
                f"sts:AssumeRole on resource: {CHAINED_ROLE}",
            ),
        ),
        (
            {"RoleArn": ROLE},
            (
                403,
                "AccessDenied",
                "User: arn:aws:sts::111122223333:assumed-role/app/default-app is not authorized to perform: "
                f"sts:AssumeRole on resource: {ROLE}",
            ),
        ),
        (
            {"RoleArn": CHAINED_ROLE + "x"},
            (
                403,
                "AccessDenied",
                "User: arn:aws:sts::111122223333:assumed-role/app/default-app is not authorized to perform: "
                f"sts:AssumeRole on resource: {CHAINED_ROLE}x",
            ),
        ),
        (
            {"SourceIdentity": "alice"},
            (
                403,
                "AccessDenied",
                "User: arn:aws:sts::111122223333:assumed-role/app/default-app is not authorized to perform: "
                f"sts:SetSourceIdentity on resource: {CHAINED_ROLE}",
            ),
        ),
        (
            {"DurationSeconds": "3601"},
            (
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
            ),
        ),
        (
            {"TransitiveTagKeys.member.1": "team"},
            (
                400,
                "ValidationError",
                "1 validation error detected: The specified transitive tag key must be included in the requested tags.",
            ),
        ),
        (
            {"Policy": "x"},
            (400, "MalformedPolicyDocument", "The policy is not in the valid JSON format."),
        ),
    ],
)
def test_chaining_refused(
    sts: LocalSts, keys: Credentials, fields: dict[str, str], expected: tuple[int, str, str]
) -> None:
    assert sts.send(**signed(keys, {**CHAIN, **fields})).aws_error == expected


def test_transitive_tags_and_source_identity_go_along(sts: LocalSts) -> None:
    first, second = (role["AssumeRolePolicyDocument"]["Statement"][0] for role in sts.trust["aws"]["Roles"])
    first["Action"] = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
    second["Action"] = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    second["Condition"] = {
        "StringEquals": {
            "aws:RequestTag/team": "shop",
            "aws:PrincipalTag/team": "shop",
            "sts:SourceIdentity": "alice",
        }
    }
    claims = {
        "https://aws.amazon.com/tags": {
            "principal_tags": {"team": ["shop"], "stays": ["here"]},
            "transitive_tag_keys": ["team"],
        },
        "https://aws.amazon.com/source_identity": "alice",
    }
    keys = keys_of(sts.aws(sts.mint(AWS_AUDIENCE, **claims)))
    reply = sts.send(**signed(keys, CHAIN))
    assert reply.status == 200
    assert reply.xml("SourceIdentity") == "alice"


def test_a_source_identity_is_never_changed(sts: LocalSts) -> None:
    first, second = (role["AssumeRolePolicyDocument"]["Statement"][0] for role in sts.trust["aws"]["Roles"])
    for statement in (first, second):
        statement["Action"] = "sts:*"
    keys = keys_of(sts.aws(sts.mint(AWS_AUDIENCE, **{"https://aws.amazon.com/source_identity": "alice"})))
    assert sts.send(**signed(keys, {**CHAIN, "SourceIdentity": "alice"})).status == 200
    assert sts.send(**signed(keys, CHAIN)).xml("SourceIdentity") == "alice"
    assert sts.send(**signed(keys, {**CHAIN, "SourceIdentity": "mallory"})).aws_error == (
        403,
        "AccessDenied",
        "The source identity of a session cannot be changed",
    )


def test_tags_of_the_request(sts: LocalSts, keys: Credentials) -> None:
    tags = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "shop", "TransitiveTagKeys.member.1": "team"}
    reply = sts.send(**signed(keys, {**CHAIN, **tags}))
    assert reply.status == 200
    assert reply.xml("PackedPolicySize") == "1"
    many = {f"Tags.member.{n}.{part}": f"k{n}" for n in range(51) for part in ("Key", "Value")}
    assert sts.send(**signed(keys, {**CHAIN, **many})).aws_error[1] == "ValidationError"


# -- signatures that are refused ------------------------------------------------------------------------------


def test_another_secret(sts: LocalSts, keys: Credentials) -> None:
    forged = Credentials(keys.access_key, "x" * 40, keys.token)
    assert sts.send(**signed(forged, IDENTITY)).aws_error == (
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details.",
    )


def test_a_changed_request(sts: LocalSts, keys: Credentials) -> None:
    request = signed(keys, CHAIN)
    request["body"] = request["body"].replace(b"again", b"other")
    assert sts.send(**request).aws_error[1] == "SignatureDoesNotMatch"
    request = signed(keys, IDENTITY, method="GET")
    request["query"] += "&More=1"
    assert sts.send(**request).aws_error[1] == "SignatureDoesNotMatch"
    request = signed(keys, IDENTITY)
    request["headers"]["X-Amz-Added"] = "1"
    assert sts.send(**request).aws_error[1] == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("access_key", "token"),
    [("AKIAIOSFODNN7EXAMPLE", None), ("AKIAIOSFODNN7EXAMPLE", "wif-local-sts.e30.x"), (None, "FwoGZXIvYXdzEExample")],
)
def test_keys_of_nobody(sts: LocalSts, keys: Credentials, access_key: str | None, token: str | None) -> None:
    foreign = Credentials(access_key or keys.access_key, keys.secret_key, token)
    assert sts.send(**signed(foreign, IDENTITY)).aws_error == (
        403,
        "InvalidClientTokenId",
        "The security token included in the request is invalid.",
    )


def test_another_sessions_token(sts: LocalSts, keys: Credentials) -> None:
    mixed = Credentials(keys.access_key, keys.secret_key, keys_of(sts.aws()).token)
    assert sts.send(**signed(mixed, IDENTITY)).aws_error[1] == "InvalidClientTokenId"


def test_keys_of_another_local_sts(sts: LocalSts, keys: Credentials) -> None:
    request = signed(keys, IDENTITY)
    sts._application = None
    assert sts.send(**request).aws_error[1] == "InvalidClientTokenId"


def test_an_expired_session(sts: LocalSts, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = keys_of(sts.aws(DurationSeconds="900"))
    request = signed(keys, IDENTITY)
    sts.now += 900
    assert sts.send(**request).aws_error == (
        403,
        "ExpiredToken",
        "The security token included in the request is expired",
    )


@pytest.mark.parametrize("offset", [901, -901])
def test_a_wrong_clock(sts: LocalSts, keys: Credentials, offset: int) -> None:
    request = signed(keys, IDENTITY)
    sts.now += offset
    status, code, message = sts.send(**request).aws_error
    assert (status, code) == (403, "SignatureDoesNotMatch")
    expected = (
        "Signature expired: 20261123T021320Z is now earlier than 20261123T021321Z (20261123T022821Z - 15 min.)"
        if offset > 0
        else "Signature not yet current: 20261123T021320Z is still later than 20261123T021319Z "
        "(20261123T015819Z + 15 min.)"
    )
    assert message == expected


def test_scope(sts: LocalSts, keys: Credentials) -> None:
    assert sts.send(**signed(keys, IDENTITY, region="us-west-2")).aws_error == (
        403,
        "SignatureDoesNotMatch",
        "Credential should be scoped to a valid region. ",
    )
    assert sts.send(**signed(keys, IDENTITY, service="s3")).aws_error == (
        403,
        "SignatureDoesNotMatch",
        "Credential should be scoped to correct service: 'sts'. ",
    )
    assert sts.send(**signed(keys, IDENTITY, region="us-east-1", host="sts.amazonaws.com")).status == 200
    assert sts.send(**signed(keys, IDENTITY, region="us-west-2", host="localhost:8443")).status == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"authorization": None}, "MissingAuthenticationToken"),
        ({"authorization": "AWS4-HMAC-SHA256 nonsense"}, "IncompleteSignature"),
        ({"authorization": "Bearer x"}, "IncompleteSignature"),
        (
            {
                "authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, "
                "Signature=" + "0" * 64
            },
            "IncompleteSignature",
        ),
        ({"x-amz-date": "yesterday"}, "IncompleteSignature"),
        ({"x-amz-date": None}, "IncompleteSignature"),
        ({"x-amz-date": "20261124T021320Z"}, "SignatureDoesNotMatch"),
        ({"x-amz-date": "20261123T996199Z"}, "IncompleteSignature"),
        ({"x-amz-security-token": None}, "InvalidClientTokenId"),
    ],
)
def test_headers_that_are_no_signature(
    sts: LocalSts, keys: Credentials, change: dict[str, str | None], code: str
) -> None:
    request = signed(keys, IDENTITY)
    headers = {name.lower(): value for name, value in request["headers"].items()} | change
    request["headers"] = {name: value for name, value in headers.items() if value is not None}
    assert sts.send(**request).aws_error[1] == code


def test_the_scopes_date_is_the_requests(sts: LocalSts, keys: Credentials) -> None:
    request = signed(keys, IDENTITY)
    request["headers"]["X-Amz-Date"] = "20261122T235959Z"
    assert sts.send(**request).aws_error == (
        403,
        "SignatureDoesNotMatch",
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261123' != "
        "'20261122', from '20261122T235959Z'.",
    )


def test_a_good_signature_that_leaves_out_the_host(sts: LocalSts, keys: Credentials) -> None:
    class WithoutHost(SigV4Auth):
        def headers_to_sign(self, request: Any) -> Any:
            headers = super().headers_to_sign(request)
            del headers["host"]
            return headers

    body = urlencode({"Version": "2011-06-15", **IDENTITY})
    request = AWSRequest("POST", f"https://{HOST}/", headers={"Content-Type": "x"}, data=body)
    WithoutHost(keys, "sts", REGION).add_auth(request)
    headers = {name: str(value) for name, value in request.headers.items()}
    assert sts.send(host=HOST, headers=headers, body=body.encode()).aws_error == (
        403,
        "SignatureDoesNotMatch",
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
    )


def test_signed_headers_must_hold_the_host_in_order(sts: LocalSts, keys: Credentials) -> None:
    request = signed(keys, IDENTITY)
    name = next(name for name in request["headers"] if name.lower() == "authorization")
    good = request["headers"][name]
    for bad in (good.replace("SignedHeaders=", "SignedHeaders=z;"), good.replace("host;", "")):
        request["headers"][name] = bad
        assert sts.send(**request).aws_error[1] == "SignatureDoesNotMatch"


@pytest.mark.parametrize("expires", ["0", "604801", "x", ""])
def test_presigned_limits(sts: LocalSts, keys: Credentials, expires: str) -> None:
    query = urlencode({"Version": "2011-06-15", **IDENTITY, "X-Amz-Signature": "0" * 64, "X-Amz-Expires": expires})
    query += "&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    assert sts.send("GET", host=HOST, query=query).aws_error[1] == "IncompleteSignature"


def test_bad_parameters_of_assume_role(sts: LocalSts, keys: Credentials) -> None:
    fields = {**CHAIN, "RoleSessionName": "x", "ExternalId": "!", "Policy": json.dumps({"Statement": []})}
    status, code, message = sts.send(**signed(keys, fields)).aws_error
    assert (status, code) == (400, "ValidationError")
    assert str(message).startswith("3 validation errors detected: ")
