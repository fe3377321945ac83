"""AWS: what is asked, what is read, and what is refused before it is asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.clouds.answering import DATE, NOW, SIGNATURE, answered, ask, refused, token
from wif.clouds import aws
from wif.core.credentials import AwsCredentials
from wif.core.flow import Flow, Response
from wif.errors import ConfigurationError, WifError

ROLE = "arn:aws:iam::111122223333:role/team/app"
ENDPOINT = "https://sts.eu-central-1.amazonaws.com/"
NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
EXPIRY = "2027-01-15T09:00:00Z"
KEYS = AwsCredentials(
    access_key_id="ASIAFIRST",
    secret_access_key="first-secret",
    session_token="first+session/token==",
    expires_at=datetime(2027, 1, 15, 9, tzinfo=UTC),
    lifetime_seconds=3600.0,
    assumed_role_arn="arn:aws:sts::111122223333:assumed-role/app/name",
)


def document(
    action: str = "AssumeRoleWithWebIdentity", *, expiry: str = EXPIRY, namespace: str = NAMESPACE, key: str = "ASIANEW"
) -> bytes:
    return f"""<{action}Response xmlns="{namespace}"><{action}Result>
      <Audience>sts.example</Audience>
      <AssumedRoleUser><AssumedRoleId>AROA:n</AssumedRoleId>
        <Arn>arn:aws:sts::111122223333:assumed-role/app/name</Arn></AssumedRoleUser>
      <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>new/secret+</SecretAccessKey>
        <SessionToken>new+session==</SessionToken><Expiration>{expiry}</Expiration></Credentials>
    </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>""".encode()


def web_identity(**more: Any) -> aws.WebIdentity:
    return aws.WebIdentity(**{"role_arn": ROLE, "endpoint": ENDPOINT, "region": "eu-central-1"} | more)


def exchange(**more: Any) -> Flow[AwsCredentials]:
    return aws.assume_role_with_web_identity(web_identity(**more), token(), now=NOW)


def chained(**more: Any) -> Flow[AwsCredentials]:
    role = aws.ChainedRole(**{"role_arn": "arn:aws:iam::444455556666:role/second"} | more)
    return aws.assume_role(role, KEYS, endpoint=ENDPOINT, region="eu-central-1", session_name="shop.cart", now=NOW)


def identity() -> Flow[aws.CallerIdentity]:
    return aws.get_caller_identity(KEYS, endpoint=ENDPOINT, region=None, now=NOW)


def xml(body: bytes, status: int = 200, **headers: str) -> Response:
    names = {"content-type": "text/xml"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status=status, headers=names, body=body)


# -- AssumeRoleWithWebIdentity --------------------------------------------------------------------------------


def test_the_exchange_is_one_unsigned_post_of_a_form() -> None:
    request = ask(exchange())
    assert (request.method, request.url, request.operation) == ("POST", ENDPOINT, "AssumeRoleWithWebIdentity")
    assert "Authorization" not in request.headers
    assert request.headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    assert parse_qs(request.body.decode()) == {
        "Action": ["AssumeRoleWithWebIdentity"],
        "Version": ["2011-06-15"],
        "RoleArn": [ROLE],
        "RoleSessionName": ["shop.cart-7d9f-x2x4q"],
        "WebIdentityToken": [token().raw],
    }


def test_what_the_session_may_carry_is_sent() -> None:
    policy = '{"Version": "2012-10-17", "Statement": []}'
    arns = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111122223333:policy/own")
    sent = parse_qs(
        ask(exchange(session_name="me", duration_seconds=900, policy=policy, policy_arns=arns)).body.decode()
    )
    assert sent["RoleSessionName"] == ["me"]
    assert sent["DurationSeconds"] == ["900"]
    assert sent["Policy"] == [policy]
    assert [sent[f"PolicyArns.member.{index}.arn"] for index in (1, 2)] == [[arn] for arn in arns]


def test_the_answer_becomes_credentials() -> None:
    found = answered(exchange(), xml(document()))
    assert found == AwsCredentials(
        access_key_id="ASIANEW",
        secret_access_key="new/secret+",
        session_token="new+session==",
        expires_at=datetime(2027, 1, 15, 9, tzinfo=UTC),
        lifetime_seconds=3600.0,
        assumed_role_arn="arn:aws:sts::111122223333:assumed-role/app/name",
        account_id="111122223333",
        region="eu-central-1",
    )
    assert "secret" not in repr(found).replace("secret_access_key", "")


@pytest.mark.parametrize("namespace", ["", "urn:other"])
def test_the_namespace_does_not_matter(namespace: str) -> None:
    assert answered(exchange(), xml(document(namespace=namespace))).access_key_id == "ASIANEW"


def test_the_mark_of_the_local_sts_is_kept() -> None:
    assert answered(exchange(), xml(document(), x_wif_local_sts="1")).local_sts
    assert not answered(exchange(), xml(document(), x_wif_local_sts="0")).local_sts


@pytest.mark.parametrize("arn", ["", "arn:aws:sts"])
def test_an_unusable_arn_costs_nothing_but_the_account(arn: str) -> None:
    body = document().replace(b"arn:aws:sts::111122223333:assumed-role/app/name", arn.encode())
    found = answered(exchange(), xml(body))
    assert (found.assumed_role_arn, found.account_id) == (arn, "")


# -- the life that is left ---------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_seconds", [-7200, 0, 7200])
def test_the_life_is_counted_by_aws_own_clock(skew_seconds: int) -> None:
    flow = aws.assume_role_with_web_identity(web_identity(), token(), now=NOW + skew_seconds)
    assert answered(flow, xml(document(), date=DATE)).lifetime_seconds == 3600.0


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 15 Jan 2100 08:00:00 GMT", "Fri, 15 Jan 1999 08:00:00 GMT"])
def test_without_a_sane_date_it_is_counted_by_this_machines_clock(date: str) -> None:
    flow = aws.assume_role_with_web_identity(web_identity(), token(), now=NOW + 600)
    assert answered(flow, xml(document(), date=date)).lifetime_seconds == 3000.0


@pytest.mark.parametrize("skew_seconds", [3600, -500 * 86_400])
def test_a_life_that_no_clock_makes_sense_of_is_a_wrong_clock(skew_seconds: int) -> None:
    error = refused(aws.assume_role_with_web_identity(web_identity(), token(), now=NOW + skew_seconds), xml(document()))
    assert (error.code, error.clause) == ("clock-skew", "clock")
    assert "2027-01-15T09:00:00Z" in error.message


@pytest.mark.parametrize(
    "expiry", ["2027-01-15T09:00:00.000Z", "2027-01-15T09:00:00+00:00", "2027-01-15T10:00:00+01:00"]
)
def test_other_ways_to_write_the_expiry(expiry: str) -> None:
    assert answered(exchange(), xml(document(expiry=expiry))).expires_at == datetime(2027, 1, 15, 9, tzinfo=UTC)


# -- answers that are none -----------------------------------------------------------------------------------

BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>' + document().replace(b"ASIANEW", b"&b;")
BAD = {
    "empty": b"",
    "html": b"<html><body>Sign in to the hotel's network</body></html>",
    "html that is no xml": b"<!doctype html><p>Bad gateway",
    "json": b'{"AssumeRoleWithWebIdentityResponse": {}}',
    "cut": document()[:-40],
    "document type": b"<!DOCTYPE x>" + document(),
    "document type in utf-16": ("<!DOCTYPE x>" + document().decode()).encode("utf-16"),
    "entities": BOMB,
    "undefined entity": document().replace(b"ASIANEW", b"&b;"),
    "another operation": document("AssumeRole"),
    "no key": document(key=""),
    "key with a line break": document(key="ASIA&#10;X"),
    "key with a space": document(key="ASIA X"),
    "key outside ascii": document(key="ASIA\u00e9"),
    "no secret": document().replace(b"<SecretAccessKey>new/secret+</SecretAccessKey>", b""),
    "no session token": document().replace(b"<SessionToken>new+session==</SessionToken>", b""),
    "no expiry": document(expiry=""),
    "expiry without a zone": document(expiry="2027-01-15T09:00:00"),
    "expiry no time": document(expiry="soon"),
    "expiry huge": document(expiry="9" * 400),
    "expiry outside the calendar": document(expiry="0001-01-01T00:00:00+14:00"),
    "deep": b"<a>" * 17 + b"</a>" * 17,
    "very deep": b"<a>" * 300_000,
    "unknown encoding": b'<?xml version="1.0" encoding="klingon"?><a/>',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_an_answer_that_is_none_is_said_so(body: bytes) -> None:
    error = refused(exchange(), xml(body, content_type="text/html; charset=x"))
    assert error.code == "response-malformed"
    assert "HTTP 200" in error.message
    assert "content type text/html; charset=x" in error.message
    assert not error.retryable


def test_a_document_as_deep_as_allowed_is_read() -> None:
    error = refused(exchange(), xml(b"<a>" * 16 + b"</a>" * 16))
    assert "without usable credentials" in error.message
    assert "not a document" in refused(exchange(), xml(b"<a>" * 17 + b"</a>" * 17)).message


@pytest.mark.parametrize("body", [b"", b"<html/>", b"<ErrorResponse/>", b"{}"])
def test_a_refusal_without_an_error_document_is_none(body: bytes) -> None:
    error = refused(exchange(), Response(status=403, body=body))
    assert error.code == "response-malformed"
    assert "HTTP 403, no content type" in error.message
    assert not error.retryable


FLOWS: list[Callable[[], Flow[Any]]] = [exchange, chained, identity]


@pytest.mark.parametrize("flow", FLOWS)
@given(body=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)), status=st.integers(200, 599))
def test_no_bytes_do_more_harm_than_one_error(flow: Callable[[], Flow[Any]], body: bytes, status: int) -> None:
    assert isinstance(refused(flow(), Response(status=status, body=body)), WifError)


@given(cut=st.integers(0, 900), junk=st.binary(max_size=20), at=st.integers(0, 900))
def test_no_damage_to_a_document_does_more_harm_than_one_error(cut: int, junk: bytes, at: int) -> None:
    whole = document()
    flow = exchange()
    next(flow)
    with pytest.raises((WifError, StopIteration)):
        flow.send(xml(whole[: min(at, cut)] + junk + whole[cut:]))


# -- session names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({}, "shop.cart-7d9f-x2x4q"),
        ({"kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "cart"}}}, "shop.cart"),
        ({"kubernetes.io": None}, "shop.cart"),
        ({"kubernetes.io": None, "sub": "repo:org/app:ref:main"}, "repo-org-app-ref-main"),
        ({"kubernetes.io": None, "sub": "system:node:a:b"}, "system-node-a-b"),
        ({"kubernetes.io": None, "sub": "x"}, "wif-x"),
        (
            {"kubernetes.io": {"namespace": "n" * 63, "pod": {"name": "p" * 200 + "-7x"}}},
            "n" * 31 + "." + "p" * 29 + "-7x",
        ),
        ({"kubernetes.io": {"namespace": "s", "pod": {"name": "p" * 200 + "-7x"}}}, "s." + "p" * 59 + "-7x"),
    ],
)
def test_a_session_is_named_by_its_pod(claims: dict[str, Any], name: str) -> None:
    assert aws.session_name(token(**claims)) == name


@given(st.text(min_size=1, max_size=90), st.text(max_size=90), st.text(max_size=90))
def test_a_session_name_is_always_allowed(subject: str, namespace: str, pod: str) -> None:
    made = token(sub=subject, **{"kubernetes.io": {"namespace": namespace, "pod": {"name": pod}}})
    assert re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", aws.session_name(made))


# -- refused before any request --------------------------------------------------------------------------------

WRONG_FOR_BOTH: list[dict[str, Any]] = [
    {"role_arn": ""},
    {"role_arn": "app"},
    {"role_arn": "arn:aws:iam::111122223333:user/app"},
    {"role_arn": "arn:aws:iam::1111:role/app"},
    {"role_arn": ROLE + "\n"},
    {"role_arn": ROLE + "x" * 2048},
    {"session_name": "x"},
    {"session_name": "x" * 65},
    {"session_name": "a b"},
    {"session_name": "é" * 4},
    {"duration_seconds": 899},
    {"policy": ""},
    {"policy": "[]"},
    {"policy": "{"},
    {"policy": "[" * 100_000},
    {"policy": '{"a": "' + "x" * 2048 + '"}'},
    {"policy": '{"a": "\u2028"}'},
    {"policy_arns": ("arn:aws:iam::aws:policy/A",) * 11},
    {"policy_arns": ("ReadOnlyAccess",)},
]


@pytest.mark.parametrize(
    "wrong",
    [
        *WRONG_FOR_BOTH,
        {"duration_seconds": 43_201},
        {"endpoint": "sts.amazonaws.com"},
        {"endpoint": "ftp://sts.amazonaws.com/"},
        {"endpoint": "https://"},
        {"endpoint": "https://u@sts.amazonaws.com/"},
        {"endpoint": "https://sts.amazonaws.com/?x=1"},
        {"endpoint": "https://sts.amazonaws.com/?"},
        {"endpoint": "https://sts.amazonaws.com/#"},
        {"endpoint": "https://sts.amazonaws.com/a/../b"},
        {"endpoint": "https://sts.amazonaws.com:port/"},
        {"endpoint": "https://[::1/"},
    ],
)
def test_a_wrong_value_of_an_exchange_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        web_identity(**wrong)
    assert caught.value.code == "config-invalid"


@pytest.mark.parametrize(
    "wrong",
    [
        *WRONG_FOR_BOTH,
        {"duration_seconds": 3601},
        {"external_id": "x"},
        {"external_id": "a b"},
        {"source_identity": "x"},
        {"source_identity": "a b"},
        {"tags": {str(index): "" for index in range(51)}},
        {"tags": {"team": "a", "Team": "b"}},
        {"tags": {"": "a"}},
        {"tags": {"x" * 129: "a"}},
        {"tags": {"a?": "a"}},
        {"tags": {"a": "x" * 257}},
        {"tags": {"a": "?"}},
        {"transitive_tag_keys": ("?",)},
    ],
)
def test_a_wrong_value_of_a_second_role_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        aws.ChainedRole(**{"role_arn": ROLE} | wrong)
    assert caught.value.code == "config-invalid"


def test_a_second_role_says_why_it_lives_an_hour_at_most() -> None:
    with pytest.raises(ConfigurationError, match="ends a chained role's session after one hour"):
        aws.ChainedRole(role_arn=ROLE, duration_seconds=7200)


@pytest.mark.parametrize("seconds", [900, 43_200])
def test_the_ends_of_the_allowed_durations(seconds: int) -> None:
    assert web_identity(duration_seconds=seconds).duration_seconds == seconds
    assert aws.ChainedRole(role_arn=ROLE, duration_seconds=min(seconds, 3600)).duration_seconds


# -- AssumeRole and GetCallerIdentity -----------------------------------------------------------------------


def test_a_second_role_is_assumed_with_a_signed_request() -> None:
    request = ask(
        chained(
            external_id="ex:1",
            source_identity="alice",
            tags={"team": "shop", "env": "prod"},
            transitive_tag_keys=("team",),
            duration_seconds=3600,
        )
    )
    assert parse_qs(request.body.decode()) == {
        "Action": ["AssumeRole"],
        "Version": ["2011-06-15"],
        "RoleArn": ["arn:aws:iam::444455556666:role/second"],
        "RoleSessionName": ["shop.cart"],
        "DurationSeconds": ["3600"],
        "ExternalId": ["ex:1"],
        "SourceIdentity": ["alice"],
        "Tags.member.1.Key": ["team"],
        "Tags.member.1.Value": ["shop"],
        "Tags.member.2.Key": ["env"],
        "Tags.member.2.Value": ["prod"],
        "TransitiveTagKeys.member.1": ["team"],
    }
    assert "Credential=ASIAFIRST/20270115/eu-central-1/sts/aws4_request" in request.headers["Authorization"]
    assert request.headers["X-Amz-Security-Token"] == KEYS.session_token


def test_a_second_role_may_name_its_session() -> None:
    assert parse_qs(ask(chained(session_name="own")).body.decode())["RoleSessionName"] == ["own"]


def test_a_second_role_answers_like_the_first() -> None:
    assert answered(chained(), xml(document("AssumeRole"))).access_key_id == "ASIANEW"


@pytest.mark.parametrize(
    ("endpoint", "region", "signed_for"),
    [
        ("https://sts.amazonaws.com/", "eu-central-1", "us-east-1"),
        ("https://STS.amazonaws.com/", None, "us-east-1"),
        ("https://localhost:8443/", None, "us-east-1"),
        ("https://localhost:8443/", "aws-global", "us-east-1"),
        ("https://localhost:8443/", "eu-west-1", "eu-west-1"),
    ],
)
def test_the_region_that_a_signature_names(endpoint: str, region: str | None, signed_for: str) -> None:
    request = ask(aws.get_caller_identity(KEYS, endpoint=endpoint, region=region, now=NOW))
    assert f"/{signed_for}/sts/aws4_request" in request.headers["Authorization"]


def test_a_signed_call_checks_its_endpoint_and_its_sessions_name() -> None:
    with pytest.raises(ConfigurationError):
        next(aws.get_caller_identity(KEYS, endpoint="https://h/?x", region=None, now=NOW))
    role = aws.ChainedRole(role_arn=ROLE)
    for endpoint, name in (("h", "some"), (ENDPOINT, "not allowed")):
        with pytest.raises(ConfigurationError):
            next(aws.assume_role(role, KEYS, endpoint=endpoint, region=None, session_name=name, now=NOW))


WHOAMI = (
    b'<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    b"<Arn>arn:aws:sts::1:assumed-role/app/n</Arn><UserId>AROA:n</UserId><Account>1</Account>"
    b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
)


def test_whose_keys_these_are() -> None:
    assert parse_qs(ask(identity()).body.decode()) == {"Action": ["GetCallerIdentity"], "Version": ["2011-06-15"]}
    found = answered(identity(), xml(WHOAMI, x_wif_local_sts="1"))
    assert found == aws.CallerIdentity("arn:aws:sts::1:assumed-role/app/n", "1", "AROA:n", True)


def test_an_owner_without_an_account_is_none() -> None:
    assert refused(identity(), xml(WHOAMI.replace(b"<Account>1</Account>", b""))).code == "response-malformed"


def test_keys_of_nobody_known_are_called_so() -> None:
    keys = AwsCredentials(
        access_key_id="A",
        secret_access_key="long-secret",
        session_token="",
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        lifetime_seconds=1,
    )
    flow = aws.get_caller_identity(keys, endpoint=ENDPOINT, region=None, now=NOW)
    assert "these keys" in refused(flow, xml(b"")).message


# -- secrets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [KEYS.secret_access_key, KEYS.session_token, "first%2Bsession%2Ftoken%3D%3D"])
def test_a_refusal_never_repeats_the_keys(secret: str) -> None:
    body = (
        f"<ErrorResponse><Error><Code>{secret}</Code><Message>You sent {secret} to us</Message></Error></ErrorResponse>"
    )
    error = refused(chained(), xml(body.encode(), 403))
    assert secret not in f"{error}{error!r}{error.__dict__}"
    assert "[redacted]" in error.message


def test_a_refusal_never_repeats_the_token() -> None:
    raw = token().raw
    for text in (raw, raw[:60], SIGNATURE, f"x{raw}y", raw.replace(".", " . ")):
        body = f"<ErrorResponse><Error><Code>{text[:60]}</Code><Message>{text}</Message></Error></ErrorResponse>"
        error = refused(exchange(), xml(body.encode(), 400))
        shown = f"{error}{error!r}{error.__dict__}"
        assert not any(piece in shown for piece in raw.split("."))
        assert "eyJ" not in shown
