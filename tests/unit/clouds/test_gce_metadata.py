"""Google's metadata server: every request that a client sends, and the table of its answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.clouds.endpoint_answers import Answer
from wif.clouds.gce_metadata import (
    MAX_SCOPES,
    ROWS,
    Account,
    Case,
    IdTokenAsked,
    Machine,
    TokenAsked,
    failed,
    id_token_answer,
    read_request,
    token_answer,
)
from wif.core.credentials import AccessToken
from wif.errors import ConfigurationError, RefusedError, TransportError, UnavailableError, WifError

CLOUD = "https://www.googleapis.com/auth/cloud-platform"
STORAGE = "https://www.googleapis.com/auth/devstorage.read_only"
APP, JOB = "app@shop.iam.gserviceaccount.com", "Job-2@shop.iam.gserviceaccount.com"
DIRECT = Account("direct", None, (CLOUD,), True)
ONE = Machine(
    (Account("app", APP, (CLOUD,), True), Account("job", JOB, (CLOUD, STORAGE), False)), "shop", "42", "u.goog"
)
NO_EMAIL = Machine((DIRECT,), None, None, "googleapis.com")
V1 = "/computeMetadata/v1"
ACCOUNTS = f"{V1}/instance/service-accounts"
FLAVOR = ((b"host", b"127.0.0.1"), (b"metadata-flavor", b"Google"))


def ask(path: str, query: str = "", machine: Machine = ONE) -> TokenAsked | IdTokenAsked | Answer:
    return read_request(machine, path=path, query=query.encode(), headers=FLAVOR)


def answered(path: str, query: str = "", machine: Machine = ONE) -> tuple[int, str, str]:
    """Status, content type, body; every answer says whose it is."""
    answer = ask(path, query, machine)
    assert isinstance(answer, Answer)
    headers = dict(answer.headers)
    assert headers[b"metadata-flavor"] == b"Google"
    assert headers[b"cache-control"] == b"no-store"
    return answer.status, headers[b"content-type"].decode(), answer.body.decode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", "computeMetadata/\n"),  # google-auth and Java find out with this
        ("/computeMetadata/", "v1/\n"),
        (V1, "instance/\nproject/\nuniverse/\n"),
        (f"{V1}/instance", "service-accounts/\n"),  # Node finds out with this
        (f"{V1}/project/project-id", "shop"),
        (f"{V1}/project/numeric-project-id", "42"),
        (f"{V1}/universe/universe-domain", "u.goog"),
        (f"{V1}/universe/universe-domain/", "u.goog"),
        (f"{ACCOUNTS}/", f"{APP}/\ndefault/\n{JOB.lower()}/\n"),  # gcloud
        (f"{ACCOUNTS}/default/", "aliases\nemail\nidentity\nscopes\ntoken\n"),
        (f"{ACCOUNTS}/default/email", APP),
        (f"{ACCOUNTS}/default/aliases", "default\n"),
        (f"{ACCOUNTS}/default/scopes", f"{CLOUD}\n"),
        (f"{ACCOUNTS}/{JOB}/email", JOB),
        (f"{ACCOUNTS}/{JOB.lower()}/scopes", f"{CLOUD}\n{STORAGE}\n"),
        (f"{ACCOUNTS}/{JOB}/aliases", ""),
    ],
)
def test_what_is_no_secret_is_text(path: str, body: str) -> None:
    assert answered(path) == (200, "application/text", body)


@pytest.mark.parametrize(
    ("path", "query", "body"),
    [
        # google-auth's and gcloud's application-default
        (f"{ACCOUNTS}/default/", "recursive=true", {"aliases": ["default"], "email": APP, "scopes": [CLOUD]}),
        (f"{ACCOUNTS}/default", "recursive=TRUE", {"aliases": ["default"], "email": APP, "scopes": [CLOUD]}),
        (f"{ACCOUNTS}/default/", "alt=json", {"aliases": ["default"], "email": APP, "scopes": [CLOUD]}),
        (f"{ACCOUNTS}/{JOB}/", "recursive=true&alt=json", {"aliases": [], "email": JOB, "scopes": [CLOUD, STORAGE]}),
        (f"{V1}/project/", "recursive=true", {"numericProjectId": 42, "projectId": "shop"}),
        (f"{V1}/project/project-id", "alt=json", "shop"),
    ],
)
def test_a_recursive_listing_is_json(path: str, query: str, body: Any) -> None:
    status, kind, text = answered(path, query)
    assert (status, kind, json.loads(text)) == (200, "application/json", body)


def test_a_listing_of_everything_holds_no_token_and_leaves_names_of_accounts_alone() -> None:
    everything = json.loads(answered("/", "recursive=true")[2])["computeMetadata"]["v1"]
    assert sorted(everything["instance"]["serviceAccounts"]) == [APP, "default", JOB.lower()]
    assert everything["universe"] == {"universeDomain": "u.goog"}
    assert "token" not in json.dumps(everything)


def test_direct_access_is_the_account_default_and_has_no_address() -> None:
    assert answered(f"{ACCOUNTS}/", machine=NO_EMAIL)[2] == "default/\n"
    assert answered(f"{ACCOUNTS}/default/email", machine=NO_EMAIL)[2] == "default"
    assert ask(f"{ACCOUNTS}/default/token", machine=NO_EMAIL) == TokenAsked(DIRECT, None)


@pytest.mark.parametrize("name", ["project-id", "numeric-project-id"])
def test_a_project_that_nobody_named_is_not_there(name: str) -> None:
    assert answered(f"{V1}/project/{name}", machine=NO_EMAIL)[0] == 404


@pytest.mark.parametrize("path", [f"{V1}/instance/zone", "/computeMetadata/v1beta1/", f"{ACCOUNTS[:-1]}", f"{V1}/x/y"])
def test_the_rest_of_a_machine_is_not_there(path: str) -> None:
    assert answered(path) == (404, "text/plain; charset=utf-8", "not found\n")


@pytest.mark.parametrize("tail", ["", "/", "/token", "/identity", "/email", "/?recursive=true"])
@pytest.mark.parametrize("name", ["other@shop.iam.gserviceaccount.com", "direct", "app", "x" * 300, "\u200b"])
def test_an_account_that_is_not_served_is_no_other_one(name: str, tail: str) -> None:
    path, _, query = f"{ACCOUNTS}/{name}{tail}".partition("?")
    status, _, body = answered(path, query)
    assert status == ROWS["unknown-account"].status
    assert body.startswith("no service account ")
    assert len(body) < 400


def test_without_a_default_the_name_default_is_nobodys() -> None:
    machine = ONE._replace(accounts=tuple(each._replace(is_default=False) for each in ONE.accounts))
    assert answered(f"{ACCOUNTS}/default/token", machine=machine)[0] == 404
    assert answered(f"{ACCOUNTS}/{APP}/token", machine=ONE._replace(accounts=()))[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"metadata-flavor", b"google"),),
        ((b"metadata-flavor", b""),),
        ((b"metadata-flavor", b"Google"), (b"metadata-flavor", b"Google")),
        ((b"metadata", b"true"),),
    ],
)
@pytest.mark.parametrize("path", ["/", f"{ACCOUNTS}/default/token", f"{ACCOUNTS}/default/email"])
def test_without_the_header_nothing_is_said(headers: tuple[tuple[bytes, bytes], ...], path: str) -> None:
    answer = read_request(ONE, path=path, query=b"", headers=headers)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (403, b"send the header Metadata-Flavor: Google\n")


# -- access tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "scopes"),
    [
        ("", None),
        ("scopes=", None),
        (f"scopes={CLOUD}", None),
        (f"scopes={CLOUD},{CLOUD},", None),
        (f"scopes={STORAGE}", (STORAGE,)),
        (f"scopes={STORAGE},{CLOUD}", (CLOUD, STORAGE)),
        (f"scopes={CLOUD}%2C{STORAGE}", (CLOUD, STORAGE)),
        (f"scopes={CLOUD}+{STORAGE}", (CLOUD, STORAGE)),
        ("scopes=openid,email", ("email", "openid")),
        ("scopes=https://mail.google.com/", ("https://mail.google.com/",)),
    ],
)
def test_scopes_are_a_set(query: str, scopes: tuple[str, ...] | None) -> None:
    assert ask(f"{ACCOUNTS}/default/token", query) == TokenAsked(ONE.accounts[0], scopes)
    assert ask(f"{ACCOUNTS}/{APP}/token/", query) == TokenAsked(ONE.accounts[0], scopes)


@pytest.mark.parametrize(
    "scope",
    [
        "cloud-platform",
        "http://www.googleapis.com/auth/cloud-platform",
        "https://www.googleapis.com.evil.example/auth/x",
        "https://evilgoogleapis.com/auth/x",
        "https://www.googleapis.com",
        "https://www.googleapis.com/" + "x" * 201,
        "https://www.googleapis.com/%c3%a9",
    ],
)
def test_what_is_no_scope_of_googles_is_refused(scope: str) -> None:
    status, _, body = answered(f"{ACCOUNTS}/default/token", f"scopes={CLOUD},{scope}")
    assert status == ROWS["invalid"].status
    assert body.endswith("is no scope of Google\n")


def test_scopes_without_end_are_refused() -> None:
    scopes = [f"{CLOUD}.{number}" for number in range(MAX_SCOPES + 1)]
    assert isinstance(ask(f"{ACCOUNTS}/default/token", f"scopes={','.join(scopes[1:])}"), TokenAsked)
    assert answered(f"{ACCOUNTS}/default/token", f"scopes={','.join(scopes)}")[0] == 400


def test_a_token_says_what_is_left_now() -> None:
    token = AccessToken(token="ya29.x", expires_at=datetime.fromtimestamp(4600, UTC), lifetime_seconds=3600.0)
    answer = token_answer(token, now=1600.5)
    assert json.loads(answer.body) == {"access_token": "ya29.x", "expires_in": 2999, "token_type": "Bearer"}
    assert (answer.status, dict(answer.headers)[b"content-type"]) == (200, b"application/json")


# -- ID tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "include_email"), [("", False), ("&format=standard", False), ("&format=full", True)])
def test_an_id_token_is_for_an_audience(form: str, include_email: bool) -> None:
    asked = ask(f"{ACCOUNTS}/default/identity", f"audience=https%3A%2F%2Frun.example{form}&licenses=FALSE")
    assert asked == IdTokenAsked(ONE.accounts[0], "https://run.example", include_email)
    assert asked.key == ("https://run.example", include_email), "tokens with and without the address are two"


@pytest.mark.parametrize(
    "query",
    ["", "audience=", "audience=a%20b", "audience=" + "x" * 1025, "audience=a&format=jwt", "audience=a&audience=b"],
)
def test_an_id_token_for_nobody_is_refused(query: str) -> None:
    assert answered(f"{ACCOUNTS}/default/identity", query)[0] == ROWS["invalid"].status


def test_direct_access_has_no_id_token_and_the_answer_says_why() -> None:
    status, _, body = answered(f"{ACCOUNTS}/default/identity", "audience=a", NO_EMAIL)
    assert status == ROWS["no-id-token"].status
    assert body == (
        "the identity direct is a federated principal without a service account, and Google makes ID tokens for "
        "service accounts only: name a service_account for it\n"
    )


def test_an_id_token_is_answered_as_it_is() -> None:
    token = AccessToken(token="e.y.J", expires_at=datetime.fromtimestamp(4600, UTC), lifetime_seconds=3600.0)
    answer = id_token_answer(token)
    assert (answer.status, answer.body, dict(answer.headers)[b"content-type"]) == (200, b"e.y.J", b"application/text")


# -- what is refused, and states -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("wait_for_change=true", "wait_for_change is not served: nothing here changes"),
        ("alt=xml", "alt= is json or text"),
        ("alt=json&alt=text", "the query names a parameter twice"),
    ],
)
def test_what_is_not_understood_is_said(query: str, reason: str) -> None:
    assert answered(f"{V1}/project/project-id", query) == (400, "text/plain; charset=utf-8", f"{reason}\n")


@pytest.mark.parametrize(
    ("error", "case", "text"),
    [
        (TransportError("no answer yet", code="timeout"), "pending", "no answer yet; ask again\n"),
        (UnavailableError("503 there", code="cloud-unavailable", hint="wait"), "outage", "503 there; wait\n"),
        (ConfigurationError("gone", code="closed", hint=""), "outage", "gone\n"),
        (RefusedError("Google says no", code="trust-denied", hint="ask"), "refused", "Google says no; ask\n"),
        (RefusedError("n" * 5000, code="trust-denied"), "refused", "n" * 1024 + "\n"),
    ],
)
def test_the_states_without_a_token(error: WifError, case: Any, text: str) -> None:
    answer = failed(error)
    assert (answer.status, answer.body.decode()) == (ROWS[case].status, text)
    assert dict(answer.headers)[b"metadata-flavor"] == b"Google"


@pytest.mark.parametrize("case", ROWS)
def test_only_what_may_pass_has_a_status_that_clients_ask_again_for(case: Case) -> None:
    """google-auth, Go and Node among them: 408, 429 and 500 to 599."""
    assert (ROWS[case].status in {408, 429, *range(500, 600)}) == (case in ("pending", "outage", "too-many"))


@given(
    path=st.text(st.sampled_from("/cdeotk%.@-v1é\x00 "), max_size=40)
    | st.sampled_from([ACCOUNTS, f"{ACCOUNTS}/default/token"]),
    query=st.binary(max_size=60),
)
def test_any_request_has_an_answer(path: str, query: bytes) -> None:
    asked = read_request(ONE, path=path, query=query, headers=FLAVOR)
    assert isinstance(asked, TokenAsked) or (isinstance(asked, Answer) and asked.status in (200, 400, 404))
