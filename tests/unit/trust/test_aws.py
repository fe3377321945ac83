"""AWS' trust documents: what IAM would store, and who is let in by them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.errors import ConfigurationError, RefusedError
from wif.trust.aws import (
    ASSUME_ROLE,
    ASSUME_ROLE_WITH_WEB_IDENTITY,
    SET_SOURCE_IDENTITY,
    TAG_SESSION,
    OidcProvider,
    RequestContext,
    Role,
    TrustPolicy,
    evaluate,
    evaluate_web_identity,
    session_tags,
    web_identity_keys,
)
from wif.trust.decision import Decision

HOST = "oidc.example.com/clusters/One"
PROVIDER_ARN = f"arn:aws:iam::111122223333:oidc-provider/{HOST}"
ROLE_ARN = "arn:aws:iam::111122223333:role/team/app"
SUBJECT = "system:serviceaccount:ns:app"
CLAIMS: dict[str, Any] = {"iss": f"https://{HOST}", "sub": SUBJECT, "aud": ["sts.amazonaws.com"]}
PROVIDER = OidcProvider.from_mapping({"Arn": PROVIDER_ARN, "Url": HOST, "ClientIDList": ["sts.amazonaws.com"]})
CONDITION = {"StringEquals": {f"{HOST}:sub": SUBJECT, f"{HOST}:aud": "sts.amazonaws.com"}}


def statement(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER_ARN},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": CONDITION,
    }
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


def policy(*statements: Any, version: Any = "2012-10-17") -> TrustPolicy:
    return TrustPolicy.from_mapping({"Version": version, "Statement": list(statements)})


def decide(*statements: Any, **claims: Any) -> Decision:
    return evaluate_web_identity(policy(*statements), PROVIDER, {**CLAIMS, **claims})


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call(*args)
    assert (caught.value.code, caught.value.cloud) == ("trust-invalid", "aws")
    return caught.value.message


# -- provider ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [HOST, f"https://{HOST}"])
def test_a_provider_as_iam_answers_it(url: str) -> None:
    read = OidcProvider.from_mapping(
        {
            "Arn": PROVIDER_ARN,
            "Url": url,
            "ClientIDList": ["sts.amazonaws.com"],
            "ThumbprintList": ["9E99A48A9960B14926BB7F3B02E22DA2B0AB7280"],
            "CreateDate": "2026-01-01T00:00:00Z",
            "Tags": [],
        }
    )
    assert (read.issuer, read.key_prefix, read.account_id) == (f"https://{HOST}", HOST, "111122223333")
    assert read.real_cloud_refuses == ()


def test_a_local_issuer_over_http_is_read_and_said_to_be_refused_by_iam() -> None:
    read = OidcProvider.from_mapping(
        {"Arn": "arn:aws:iam::111122223333:oidc-provider/localhost:8080", "Url": "http://localhost:8080"}
    )
    assert (read.issuer, read.key_prefix) == ("http://localhost:8080", "localhost:8080")
    assert "not https" in read.real_cloud_refuses[0]


LONG = "x" * 250


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Arn": None}, "no Arn"),
        ({"Arn": 1}, "not a string"),
        ({"Url": ""}, "no Url"),
        ({"Url": "other.example.com"}, "does not name"),
        ({"Url": HOST.lower()}, "does not name"),
        ({"Url": HOST + "/"}, "does not name"),
        ({"Arn": PROVIDER_ARN + "?x", "Url": HOST + "?x"}, "does not name"),
        ({"Arn": "arn:aws:iam::1:oidc-provider/x", "Url": "x"}, "does not name"),
        ({"Arn": f"arn:aws:iam::111122223333:oidc-provider/{LONG}", "Url": LONG}, "258 characters"),
        ({"ClientIDList": "sts.amazonaws.com"}, "not a list"),
        ({"ClientIDList": [1]}, "not a string"),
        ({"ClientIDList": [""]}, "empty"),
        ({"ClientIDList": ["x"] * 101}, "101 ClientIDList"),
        ({"ClientIDList": ["x" * 256]}, "256 characters"),
        ({"ThumbprintList": ["a" * 40] * 6}, "6 ThumbprintList"),
        ({"ThumbprintList": ["a" * 39]}, "40 hex"),
        ({"ThumbprintList": ["a" * 40 + "\n"]}, "40 hex"),
        ({"Clients": []}, "unknown member 'Clients'"),
    ],
)
def test_another_provider_is_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refused(OidcProvider.from_mapping, {"Arn": PROVIDER_ARN, "Url": HOST, **changes})


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"aud": "sts.amazonaws.com"}, True),
        ({"aud": ["sts.amazonaws.com"]}, True),
        ({"aud": "STS.amazonaws.com"}, False),
        ({"aud": ["other"]}, False),
        ({"aud": ["sts.amazonaws.com", "other"]}, False),
        ({"aud": []}, False),
        ({"aud": [1]}, False),
        ({}, False),
        ({"aud": "other", "azp": "sts.amazonaws.com"}, True),
        ({"aud": "sts.amazonaws.com", "azp": "other"}, False),
    ],
)
def test_the_audience_must_be_a_client_id(claims: dict[str, Any], allowed: bool) -> None:
    decision = PROVIDER.accepts_audience(claims)
    assert (bool(decision), decision.clause) == (allowed, "audience")
    assert allowed or "'sts.amazonaws.com'" in decision.reason


def test_several_audiences_are_said_to_be_undocumented() -> None:
    assert "not documented" in PROVIDER.accepts_audience({"aud": ["sts.amazonaws.com", "x"]}).reason


def test_a_provider_without_client_ids_accepts_nobody() -> None:
    bare = OidcProvider.from_mapping({"Arn": PROVIDER_ARN, "Url": HOST})
    assert "lists the client ids nothing" in bare.accepts_audience(CLAIMS).reason


# -- role ----------------------------------------------------------------------------------------------------------

DOCUMENT = {"Version": "2012-10-17", "Statement": [statement()]}


@pytest.mark.parametrize("document", [DOCUMENT, json.dumps(DOCUMENT), quote(json.dumps(DOCUMENT)), "\n{0}"])
def test_a_role_as_iam_answers_it(document: Any) -> None:
    document = document.format(json.dumps(DOCUMENT)) if document == "\n{0}" else document
    role = Role.from_mapping(
        {
            "RoleName": "app",
            "Path": "/team/",
            "Arn": ROLE_ARN,
            "RoleId": "AROAEXAMPLE",
            "MaxSessionDuration": 7200,
            "AssumeRolePolicyDocument": document,
            "Description": "",
            "RoleLastUsed": {},
        }
    )
    assert (role.name, role.arn, role.account_id) == ("app", ROLE_ARN, "111122223333")
    assert (role.role_id, role.max_session_seconds) == ("AROAEXAMPLE", 7200)
    assert evaluate_web_identity(role.trust, PROVIDER, CLAIMS)


def test_name_path_and_duration_have_defaults() -> None:
    arn = "arn:aws-cn:iam::111122223333:role/app"
    role = Role.from_mapping({"Arn": arn, "AssumeRolePolicyDocument": DOCUMENT})
    assert (role.name, role.role_id, role.max_session_seconds) == ("app", "", 3600)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Arn": "arn:aws:iam::111122223333:user/app"}, "not arn:aws:iam"),
        ({"Arn": "arn:aws:iam::111122223333:role/"}, "not arn:aws:iam"),
        ({"RoleName": "other"}, "RoleName 'other'"),
        ({"Path": "/"}, "Path '/'"),
        ({"MaxSessionDuration": 900}, "MaxSessionDuration"),
        ({"MaxSessionDuration": 43201}, "MaxSessionDuration"),
        ({"MaxSessionDuration": "3600"}, "MaxSessionDuration"),
        ({"MaxSessionDuration": True}, "MaxSessionDuration"),
        ({"MaxSessionDuration": 3600.0}, "MaxSessionDuration"),
        ({"RoleId": 1}, "RoleId"),
        ({"AssumeRolePolicyDocument": None}, "no AssumeRolePolicyDocument"),
        ({"AssumeRolePolicyDocument": "{"}, "not JSON"),
        ({"AssumeRolePolicyDocument": "[]"}, "not a JSON object"),
        ({"AssumeRolePolicyDocument": "%7B"}, "not JSON"),
        ({"AssumeRolePolicyDocument": '{"Version":1,"Version":2}'}, "twice"),
        ({"AssumeRolePolicyDocument": '{"a":"' + "x" * 4096 + '"}'}, "4104 characters"),
        ({"AssumeRolePolicyDocument": {}}, "no Statement"),
        ({"TrustPolicy": {}}, "unknown member 'TrustPolicy'"),
    ],
)
def test_another_role_is_refused(changes: dict[str, Any], says: str) -> None:
    message = refused(Role.from_mapping, {"Arn": ROLE_ARN, "AssumeRolePolicyDocument": DOCUMENT, **changes})
    assert says in message
    assert message.startswith("the role 'arn:aws:iam::")


# -- policy: grammar -----------------------------------------------------------------------------------------------


def test_one_statement_may_stand_alone() -> None:
    assert evaluate_web_identity(TrustPolicy.from_mapping({"Statement": statement()}), PROVIDER, CLAIMS)


def test_without_a_version_it_is_the_older_one() -> None:
    assert TrustPolicy.from_mapping({"Id": "x", "Statement": statement()}).version == "2008-10-17"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"Statement": []}, "no Statement"),
        ({"Statement": ["x"]}, "not an object"),
        ({"Statement": "x"}, "not a list"),
        ({"Version": "2012-10-18", "Statement": statement()}, "2012-10-18"),
        ({"Version": 2012, "Statement": statement()}, "not a string"),
        ({"Id": 1, "Statement": statement()}, "Id"),
        ({"statement": statement()}, "unknown member 'statement'"),
        ({"Statement": [statement(Sid="a"), statement(Sid="a")]}, "two statements with the Sid 'a'"),
    ],
)
def test_another_policy_is_refused(document: dict[str, Any], says: str) -> None:
    assert says in refused(TrustPolicy.from_mapping, document)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Effect": "allow"}, "Effect 'allow'"),
        ({"Effect": ...}, "no Effect"),
        ({"Sid": 1}, "Sid"),
        ({"Resource": "*"}, "unknown member 'Resource'"),
        ({"Principal": ...}, "either Principal or NotPrincipal"),
        ({"NotPrincipal": "*"}, "either Principal or NotPrincipal"),
        ({"Principal": PROVIDER_ARN}, "neither '*' nor an object"),
        ({"Principal": {}}, "neither '*' nor an object"),
        ({"Principal": {"federated": PROVIDER_ARN}}, "kind 'federated'"),
        ({"Principal": {"Federated": []}}, "neither a string"),
        ({"Principal": {"Federated": 1}}, "neither a string"),
        ({"Principal": {"Federated": [""]}}, "principal ''"),
        ({"Principal": {"Federated": f"https://{HOST}"}}, "Federated principal"),
        ({"Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/*"}}, "wildcard"),
        ({"Principal": {"AWS": "arn:aws:iam::111122223333:role/*"}}, "wildcard"),
        ({"Principal": {"AWS": "accounts.google.com"}}, "AWS principal"),
        ({"Principal": {"AWS": "1234"}}, "AWS principal"),
        ({"Principal": {"Service": "ec2"}}, "Service principal"),
        ({"Principal": {"CanonicalUser": "x"}}, "CanonicalUser principal"),
        ({"Action": ...}, "either Action or NotAction"),
        ({"NotAction": "sts:TagSession"}, "either Action or NotAction"),
        ({"Action": []}, "neither a string"),
        ({"Action": ["sts:AssumeRole", 1]}, "neither a string"),
        ({"Action": "s3:GetObject"}, "'s3:GetObject'"),
        ({"Action": "AssumeRole"}, "'AssumeRole'"),
        ({"Condition": []}, "Condition that is not an object"),
        ({"Condition": {"StringEqual": {"a:b": "c"}}}, "'StringEqual'"),
    ],
)
def test_another_statement_is_refused(changes: dict[str, Any], says: str) -> None:
    message = refused(policy, statement(), statement(**{"Sid": "second", **changes}))
    assert says in message
    assert message.startswith("the statement 2")


# -- policy: principals and actions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, True),
        ({"Principal": "*"}, True),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Principal": {"Federated": "*"}}, True),
        ({"Principal": {"Federated": ["accounts.google.com", PROVIDER_ARN]}}, True),
        ({"Principal": {"Federated": "accounts.google.com"}}, False),
        ({"Principal": {"Federated": PROVIDER_ARN.lower()}}, False),
        ({"Principal": {"AWS": "111122223333"}}, False),
        ({"Principal": {"Service": "ec2.amazonaws.com"}}, False),
        ({"Principal": {"CanonicalUser": "0" * 64}}, False),
        ({"Principal": ..., "NotPrincipal": {"AWS": "111122223333"}}, True),
        ({"Principal": ..., "NotPrincipal": {"Federated": PROVIDER_ARN}}, False),
        ({"Principal": ..., "NotPrincipal": "*"}, False),
        ({"Action": "*"}, True),
        ({"Action": "sts:*"}, True),
        ({"Action": "STS:assumerolewithwebidentity"}, True),
        ({"Action": "sts:AssumeRole*"}, True),
        ({"Action": "sts:AssumeRoleWith???Identity"}, True),
        ({"Action": ["sts:TagSession", "sts:AssumeRoleWithWebIdentity"]}, True),
        ({"Action": "sts:AssumeRole"}, False),
        ({"Action": ..., "NotAction": "sts:AssumeRole"}, True),
        ({"Action": ..., "NotAction": "sts:AssumeRoleWith*"}, False),
        ({"Condition": ...}, True),
        ({"Condition": {}}, True),
    ],
)
def test_principals_and_actions(changes: dict[str, Any], allowed: bool) -> None:
    assert bool(decide(statement(**changes))) == allowed


SESSION = "arn:aws:sts::444455556666:assumed-role/caller/session"


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ("444455556666", True),
        ("arn:aws:iam::444455556666:root", True),
        ("arn:aws:iam::444455556666:role/caller", True),
        ("arn:aws:iam::444455556666:role/some/path/caller", True),
        (SESSION, True),
        ("arn:aws:sts::444455556666:assumed-role/caller/other", False),
        ("arn:aws:iam::444455556666:role/other", False),
        ("arn:aws:iam::111122223333:role/caller", False),
        ("arn:aws-cn:iam::444455556666:root", False),
        ("arn:aws:iam::444455556666:user/caller", False),
        ("AROAEXAMPLEEXAMPLE12", False),
    ],
)
def test_a_session_is_known_by_itself_its_role_and_its_account(principal: str, allowed: bool) -> None:
    trust = policy(statement(Principal={"AWS": principal}, Action="sts:AssumeRole", Condition=...))
    assert bool(evaluate(trust, RequestContext(action=ASSUME_ROLE, principal_arn=SESSION))) == allowed


def test_a_role_is_known_with_and_without_its_path() -> None:
    trust = policy(statement(Principal={"AWS": ROLE_ARN}, Action="sts:AssumeRole", Condition=...))
    for caller in (ROLE_ARN, "arn:aws:iam::111122223333:role/app"):
        assert evaluate(trust, RequestContext(action=ASSUME_ROLE, principal_arn=caller))


def test_a_caller_without_an_arn_is_known_by_its_name_only() -> None:
    trust = policy(statement(Principal={"AWS": "AROAEXAMPLEEXAMPLE12"}, Action="sts:AssumeRole", Condition=...))
    assert evaluate(trust, RequestContext(action=ASSUME_ROLE, principal_arn="AROAEXAMPLEEXAMPLE12"))
    denied = evaluate(trust, RequestContext(action=ASSUME_ROLE))
    assert (denied.clause, "this caller" in denied.reason) == ("trust", True)


def test_a_condition_on_a_signed_request() -> None:
    external = {"StringEquals": {"sts:ExternalId": "secret"}}
    trust = policy(statement(Principal={"AWS": "444455556666"}, Action="sts:AssumeRole", Condition=external))
    keys = {"STS:externalid": ("secret",)}
    assert evaluate(trust, RequestContext(action=ASSUME_ROLE, principal_arn=SESSION, keys=keys))
    assert not evaluate(trust, RequestContext(action=ASSUME_ROLE, principal_arn=SESSION))


# -- policy: decision ----------------------------------------------------------------------------------------------

DENY = statement(Sid="NotHere", Effect="Deny", Condition={"StringLike": {f"{HOST}:sub": "system:serviceaccount:ns:*"}})


def test_an_explicit_deny_wins_wherever_it_stands() -> None:
    for statements in ((DENY, statement()), (statement(), DENY)):
        decision = decide(*statements)
        assert not decision
        assert "'NotHere'" in decision.reason
        assert decision.cloud_code == "AccessDenied"


def test_a_deny_whose_condition_fails_does_not_matter() -> None:
    assert decide(statement(Condition=...), DENY, sub="system:serviceaccount:other:app")


def test_one_statement_that_allows_is_enough() -> None:
    other = statement(Condition={"StringEquals": {f"{HOST}:sub": "x"}})
    decision = decide(other, statement(Sid="Mine"), statement())
    assert decision.allowed
    assert "'Mine'" in decision.reason


def test_what_is_undecided_neither_allows_nor_escapes_a_deny() -> None:
    doubtful = {"StringEquals": {f"{HOST}:aud": "sts.amazonaws.com"}}
    several = ["sts.amazonaws.com", "other"]
    assert not decide(statement(Condition=doubtful), aud=several)
    denied = decide(statement(Condition=...), statement(Effect="Deny", Condition=doubtful), aud=several)
    assert not denied
    assert "not documented" in denied.reason
    everywhere = {"ForAnyValue:StringEquals": {f"{HOST}:aud": "sts.amazonaws.com"}}
    assert decide(statement(Condition=everywhere), aud=several)


@pytest.mark.parametrize(
    ("changes", "claims", "clause", "says"),
    [
        ({}, {"sub": "system:serviceaccount:ns:other"}, "subject", "'system:serviceaccount:ns:other'"),
        ({}, {"aud": "other"}, "audience", f"{HOST}:aud expects 'sts.amazonaws.com', the request has 'other'"),
        ({}, {"aud": "sts.amazonaws.com", "azp": "x"}, "audience", "'x'"),
        ({"Condition": {"StringEquals": {f"{HOST}:azp": "x"}}}, {}, "audience", "no such key"),
        ({}, {"sub": "x", "aud": "y"}, "trust", " and "),
        ({"Condition": {"StringEquals": {"other.example:sub": SUBJECT}}}, {}, "subject", "no such key"),
        ({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, {}, "trust", "no such key"),
        ({"Condition": {"StringEquals": {f"{HOST}:sub": "system:*"}}}, {}, "subject", "only StringLike"),
        ({"Principal": {"Federated": "accounts.google.com"}}, {}, "issuer", "names 'accounts.google.com'"),
        ({"Principal": {"Service": "ec2.amazonaws.com"}}, {}, "issuer", "names nothing"),
        ({"Effect": "Deny", "Condition": {"Null": {"a:b": "false"}}}, {}, "issuer", "no statement allows"),
        ({"Action": "sts:AssumeRole"}, {}, "trust", "allows it others"),
    ],
)
def test_a_refusal_names_the_clause(changes: dict[str, Any], claims: dict[str, Any], clause: str, says: str) -> None:
    decision = decide(statement(**changes), **claims)
    assert not decision
    assert decision.clause == clause
    assert says in decision.reason
    assert decision.cloud_code == "AccessDenied"


def test_the_nearest_statement_is_named() -> None:
    far = statement(Sid="Far", Condition={"StringEquals": {f"{HOST}:sub": "x", f"{HOST}:aud": "y"}})
    near = statement(Sid="Near", Condition={"StringEquals": {f"{HOST}:sub": "x"}})
    decision = decide(far, near)
    assert (decision.clause, "'Near'" in decision.reason, "'Far'" in decision.reason) == ("subject", True, False)


def test_many_statements_are_named_shortly() -> None:
    each = [statement(Condition={"StringEquals": {f"{HOST}:sub": f"system:serviceaccount:ns:{n}"}}) for n in range(9)]
    decision = decide(*each)
    assert decision.clause == "subject"
    assert decision.reason.count("statement ") == 3
    assert decision.reason.endswith("; and 6 more")


def test_key_names_of_the_provider_have_no_case() -> None:
    assert decide(statement(Condition={"StringEquals": {f"{HOST.upper()}:SUB": SUBJECT}}))


def test_variables_in_a_condition_of_each_version() -> None:
    own = statement(Condition={"StringLike": {f"{HOST}:sub": "system:serviceaccount:${sts:RoleSessionName}:*"}})
    keys = {"sts:RoleSessionName": ("ns",)}
    assert evaluate_web_identity(policy(own), PROVIDER, CLAIMS, keys=keys)
    assert not evaluate_web_identity(policy(own), PROVIDER, CLAIMS)
    assert not evaluate_web_identity(policy(own, version="2008-10-17"), PROVIDER, CLAIMS, keys=keys)


def test_the_callers_keys_cannot_replace_those_of_the_token() -> None:
    forged = {f"{HOST.lower()}:sub": (SUBJECT,)}
    trust = policy(statement())
    assert not evaluate_web_identity(trust, PROVIDER, {**CLAIMS, "sub": "x"}, keys=forged)
    mixed = {f"{HOST}:sub": (SUBJECT,)}
    assert not evaluate_web_identity(trust, PROVIDER, {**CLAIMS, "sub": "x"}, keys=mixed)


# -- keys, tags, source identity -----------------------------------------------------------------------------------


def test_the_keys_of_a_kubernetes_token() -> None:
    claims = {**CLAIMS, "kubernetes.io": {"namespace": "ns"}, "email": "x"}
    prefix = HOST.lower()
    assert web_identity_keys(PROVIDER, claims) == {
        f"{prefix}:sub": (SUBJECT,),
        f"{prefix}:aud": ("sts.amazonaws.com",),
        f"{prefix}:oaud": ("sts.amazonaws.com",),
    }


def test_azp_is_what_aud_tests_and_amr_has_several_values() -> None:
    keys = web_identity_keys(PROVIDER, {**CLAIMS, "azp": "client", "amr": ["a", "b"]})
    prefix = HOST.lower()
    assert (keys[f"{prefix}:aud"], keys[f"{prefix}:azp"]) == (("client",), ("client",))
    assert (keys[f"{prefix}:oaud"], keys[f"{prefix}:amr"]) == (("sts.amazonaws.com",), ("a", "b"))


TAGS = "https://aws.amazon.com/tags"
SOURCE = "https://aws.amazon.com/source_identity"


@pytest.mark.parametrize(
    "claims",
    [
        {TAGS: {"principal_tags": {"Team": ["a"], "Env": ["b"]}, "transitive_tag_keys": ["Team"]}},
        {
            f"{TAGS}/principal_tags/Team": ["a"],
            f"{TAGS}/principal_tags/Env": "b",
            f"{TAGS}/transitive_tag_keys": "Team",
        },
    ],
)
def test_tags_nested_and_flattened(claims: dict[str, Any]) -> None:
    read = session_tags(claims)
    assert (dict(read.tags), read.transitive_keys, read.source_identity) == ({"Team": "a", "Env": "b"}, ("Team",), None)


@pytest.mark.parametrize(
    "claims",
    [
        {TAGS: []},
        {TAGS: {"principal_tags": []}},
        {TAGS: {"principal_tags": {"a": ["x", "y"]}}},
        {TAGS: {"principal_tags": {"a": []}}},
        {TAGS: {"principal_tags": {"a": 1}}},
        {TAGS: {"principal_tags": {"": "x"}}},
        {TAGS: {"principal_tags": {"a" * 129: "x"}}},
        {TAGS: {"principal_tags": {"a": "x" * 257}}},
        {TAGS: {"principal_tags": {str(n): "x" for n in range(51)}}},
        {TAGS: {"transitive_tag_keys": ["a"]}},
        {TAGS: {"principal_tags": {"a": "x"}, "transitive_tag_keys": {"a": 1}}},
        {SOURCE: 1},
        {SOURCE: "a"},
        {SOURCE: "a b"},
        {SOURCE: "a" * 65},
    ],
)
def test_other_tags_are_rejected(claims: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        session_tags(claims)
    assert caught.value.code == "claim-rejected"


TAGGED = {TAGS: {"principal_tags": {"Team": ["a"]}, "transitive_tag_keys": ["Team"]}}


@pytest.mark.parametrize(
    ("actions", "claims", "allowed"),
    [
        ([ASSUME_ROLE_WITH_WEB_IDENTITY], TAGGED, False),
        ([ASSUME_ROLE_WITH_WEB_IDENTITY, TAG_SESSION], TAGGED, True),
        ([ASSUME_ROLE_WITH_WEB_IDENTITY], {SOURCE: "alice"}, False),
        ([ASSUME_ROLE_WITH_WEB_IDENTITY, SET_SOURCE_IDENTITY], {SOURCE: "alice"}, True),
        ([ASSUME_ROLE_WITH_WEB_IDENTITY, SET_SOURCE_IDENTITY], {SOURCE: "alice", **TAGGED}, False),
        ([TAG_SESSION], TAGGED, False),
    ],
)
def test_tags_and_source_identity_must_be_allowed_too(
    actions: list[str], claims: dict[str, Any], allowed: bool
) -> None:
    assert bool(decide(statement(Action=actions), **claims)) == allowed


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        ({"StringEquals": {"aws:RequestTag/Team": "a"}}, True),
        ({"StringEquals": {"aws:RequestTag/team": "b"}}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Team"]}}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Other"]}}, False),
        ({"ForAnyValue:StringEquals": {"sts:TransitiveTagKeys": "Team"}}, True),
        ({"StringLike": {"sts:SourceIdentity": "al*"}}, True),
    ],
)
def test_keys_of_tags_and_source_identity(condition: dict[str, Any], allowed: bool) -> None:
    trust = statement(Action="sts:*", Condition=condition)
    assert bool(decide(trust, **TAGGED, **{SOURCE: "alice"})) == allowed


def test_tags_that_do_not_spread() -> None:
    assert decide(statement(Action="sts:*"), **{TAGS: {"principal_tags": {"Team": "a"}}})


# -- anything ------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["Allow", "*", PROVIDER_ARN]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
NAMES = ["Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Condition", "Sid"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_any_statement_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        read = policy(document)
    except ConfigurationError:
        return
    assert isinstance(evaluate_web_identity(read, PROVIDER, CLAIMS), Decision)


@given(st.text(max_size=40))
def test_only_the_very_subject_is_let_in(subject: str) -> None:
    assert bool(decide(statement(), sub=subject)) == (subject == SUBJECT)
