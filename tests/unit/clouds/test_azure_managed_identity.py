"""Azure's managed identity: App Service's endpoint and IMDS, and the table of their answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from wif.clouds.azure_managed_identity import (
    APP_SERVICE_PATH,
    IMDS_PATH,
    ROWS,
    Case,
    Interface,
    TokenAsked,
    failed,
    read_request,
    state_answer,
    token_answer,
)
from wif.clouds.endpoint_answers import Answer
from wif.core.credentials import AccessToken
from wif.errors import ConfigurationError, RefusedError, TransportError, UnavailableError, WifError

SECRET = b"s3cret"
CLIENT = "11111111-2222-3333-4444-555555555555"
APP: Interface = "app-service"
IMDS: Interface = "imds"
BOTH: tuple[Interface, ...] = (APP, IMDS)
PATHS = {APP: APP_SERVICE_PATH, IMDS: IMDS_PATH}
HEADERS = {APP: ((b"x-identity-header", SECRET), (b"metadata", b"true")), IMDS: ((b"metadata", b"true"),)}
OLDEST = {APP: "2019-08-01", IMDS: "2018-02-01"}
TOKEN = AccessToken(token="eyJ.x.y", expires_at=datetime.fromtimestamp(90_000, UTC), lifetime_seconds=86_399.0)


def ask(interface: Interface, query: str = "resource=https://vault.azure.net", **changes: Any) -> TokenAsked | Answer:
    arguments = {"path": PATHS[interface], "headers": HEADERS[interface], "secret": SECRET} | changes
    return read_request(interface, query=f"api-version={OLDEST[interface]}&{query}".encode(), **arguments)


def refused(interface: Interface, query: str = "resource=https://vault.azure.net", **changes: Any) -> tuple[int, str]:
    """Status and text, in the members that the interface's clients read."""
    answer = ask(interface, query, **changes)
    assert isinstance(answer, Answer)
    return answer.status, text_of(interface, answer)


def text_of(interface: Interface, answer: Answer) -> str:
    assert dict(answer.headers) == {b"content-type": b"application/json", b"cache-control": b"no-store"}
    body = json.loads(answer.body)
    if interface == IMDS:
        assert list(body) == ["error", "error_description"]
        return str(body["error_description"])
    assert list(body) == ["statusCode", "code", "message"]
    assert body["statusCode"] == answer.status
    return str(body["message"])


@pytest.mark.parametrize("interface", BOTH)
@pytest.mark.parametrize(
    ("resource", "scope"),
    [
        ("https://management.azure.com", "https://management.azure.com/.default"),
        ("https://vault.azure.net/", "https://vault.azure.net//.default"),
        ("https://graph.microsoft.com/.default", "https://graph.microsoft.com/.default"),
        ("api://some-app", "api://some-app/.default"),
        ("00000003-0000-0000-c000-000000000000", "00000003-0000-0000-c000-000000000000/.default"),
    ],
)
def test_a_resource_is_a_scope(interface: Interface, resource: str, scope: str) -> None:
    asked = ask(interface, f"resource={resource}")
    assert asked == TokenAsked(None, resource)
    assert asked.scope == scope


@pytest.mark.parametrize("interface", BOTH)
def test_an_identity_is_named_by_its_client_id(interface: Interface) -> None:
    assert ask(interface, f"resource=r&client_id={CLIENT}") == TokenAsked(CLIENT, "r")


@pytest.mark.parametrize("interface", BOTH)
def test_a_slash_at_the_end_is_nodes(interface: Interface) -> None:
    assert ask(interface, path=f"{PATHS[interface]}/") == TokenAsked(None, "https://vault.azure.net")


@pytest.mark.parametrize("interface", BOTH)
@pytest.mark.parametrize(
    "path", ["/metadata/instance", "/azure", "/azure/token/x", "/metadata/identity/oauth2/token//"]
)
def test_what_is_no_token_is_not_found(interface: Interface, path: str) -> None:
    assert refused(interface, path=path) == (404, "only tokens are served here")


@pytest.mark.parametrize("interface", BOTH)
@pytest.mark.parametrize("name", ["object_id", "principal_id", "mi_res_id", "msi_res_id", "clientid"])
def test_another_name_for_an_identity_is_refused_even_beside_a_client_id(interface: Interface, name: str) -> None:
    status, text = refused(interface, f"resource=r&client_id={CLIENT}&{name}=x")
    assert status == ROWS["unknown-identity"].status
    assert text == (
        f"{name} names no identity here: send client_id with the application's or managed identity's client id"
    )


@pytest.mark.parametrize("interface", BOTH)
def test_an_empty_client_id_is_not_the_default(interface: Interface) -> None:
    status, text = refused(interface, "resource=r&client_id=")
    assert (status, text.split(" names")[0]) == (ROWS["unknown-identity"].status, "an empty client_id")


@pytest.mark.parametrize("interface", BOTH)
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "resource must name what the token is for, e.g. https://management.azure.com"),
        ("resource=", "resource must name what the token is for, e.g. https://management.azure.com"),
        ("resource=a%20b", "resource must name what the token is for, e.g. https://management.azure.com"),
        ("resource=" + "r" * 513, "resource must name what the token is for, e.g. https://management.azure.com"),
        ("resource=a&resource=b", "the query names a parameter twice"),
        ("resource=a&client_id=a&client_id=b", "the query names a parameter twice"),
    ],
)
def test_what_is_not_understood_is_said(interface: Interface, query: str, text: str) -> None:
    assert refused(interface, query) == (ROWS["invalid"].status, text)


@pytest.mark.parametrize("interface", BOTH)
@pytest.mark.parametrize("version", ["", "2017-09-01", "1.0", "2019-8-1", "x"])
def test_an_older_form_is_refused_with_the_one_that_is_served(interface: Interface, version: str) -> None:
    answer = read_request(
        interface,
        path=PATHS[interface],
        query=f"api-version={version}&resource=r".encode(),
        headers=HEADERS[interface],
        secret=SECRET,
    )
    assert isinstance(answer, Answer)
    assert answer.status == ROWS["invalid"].status
    assert text_of(interface, answer) == f"api-version must be {OLDEST[interface]} or later"


@pytest.mark.parametrize("version", ["2025-03-30", "2019-08-01-preview"])
def test_a_later_form_is_taken(version: str) -> None:
    query = f"api-version={version}&resource=r".encode()
    assert read_request(IMDS, path=IMDS_PATH, query=query, headers=HEADERS[IMDS]) == TokenAsked(None, "r")


# -- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"x-identity-header", b""),),
        ((b"x-identity-header", b"other"),),
        ((b"x-identity-header", b"\xff"),),
        ((b"x-identity-header", SECRET), (b"x-identity-header", SECRET)),
        ((b"secret", SECRET),),
        ((b"metadata", b"true"),),
    ],
)
def test_app_service_wants_its_secret(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    status, text = refused(APP, headers=headers)
    assert status == ROWS["wrong-secret"].status
    assert text == "the header X-IDENTITY-HEADER is not what the sidecar's variable IDENTITY_HEADER says"


def test_an_empty_secret_lets_nobody_in() -> None:
    assert refused(APP, headers=((b"x-identity-header", b""),), secret=b"")[0] == 401


def test_white_space_around_the_secret_is_not_the_secrets() -> None:
    assert isinstance(ask(APP, headers=((b"x-identity-header", b" s3cret "),)), TokenAsked)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"metadata", b"false"),),
        ((b"metadata", b"true"), (b"metadata", b"true")),
        ((b"x-identity-header", SECRET),),
    ],
)
def test_imds_wants_its_header_and_says_400_which_java_takes_for_its_presence(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    assert refused(IMDS, headers=headers) == (400, "Required metadata header not specified")


def test_imds_takes_the_header_in_any_case() -> None:
    assert isinstance(ask(IMDS, headers=((b"metadata", b"True"),)), TokenAsked)


def test_nothing_is_said_before_the_secret() -> None:
    assert refused(APP, "resource=", path="/azure/other", headers=())[0] == 401


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_app_services_answer() -> None:
    answer = token_answer(APP, TokenAsked(None, "https://vault.azure.net"), TOKEN, client_id=CLIENT, now=86_400.4)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "access_token": "eyJ.x.y",
        "client_id": CLIENT,
        "expires_on": "89999",
        "resource": "https://vault.azure.net",
        "token_type": "Bearer",
    }


def test_imds_answer_has_its_numbers_as_text() -> None:
    answer = token_answer(IMDS, TokenAsked(None, "r"), TOKEN, client_id=CLIENT, now=86_400.4)
    assert json.loads(answer.body) == {
        "access_token": "eyJ.x.y",
        "client_id": CLIENT,
        "expires_in": "3599",
        "expires_on": "89999",
        "ext_expires_in": "3599",
        "not_before": "3600",
        "resource": "r",
        "token_type": "Bearer",
    }


# -- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", BOTH)
@pytest.mark.parametrize(
    ("error", "case", "text"),
    [
        (TransportError("no answer yet", code="timeout"), "pending", "no answer yet; ask again"),
        (UnavailableError("503 there", code="cloud-unavailable", hint="wait"), "outage", "503 there; wait"),
        (ConfigurationError("gone", code="closed", hint=""), "outage", "gone"),
        (RefusedError("AADSTS700213: no", code="subject-mismatch", hint="ask"), "refused", "AADSTS700213: no; ask"),
        (RefusedError("n" * 5000, code="trust-denied"), "refused", "n" * 1024),
    ],
)
def test_the_states_without_a_token(interface: Interface, error: WifError, case: Case, text: str) -> None:
    answer = failed(interface, error)
    assert (answer.status, text_of(interface, answer)) == (ROWS[case].status, text)
    assert ROWS[case].error in json.loads(answer.body).values()


@pytest.mark.parametrize("interface", BOTH)
def test_no_text_says_the_word_that_means_docker_desktop(interface: Interface) -> None:
    answer = state_answer(interface, "refused", "the issuer is unreachable")
    assert text_of(interface, answer) == "the issuer is not reachable"


@pytest.mark.parametrize("case", ROWS)
def test_no_case_has_a_status_that_clients_misread(case: Case) -> None:
    """404 and 410 would be asked again for up to 75 s; 400 of IMDS is "no managed identity here" to Go and Node."""
    assert ROWS[case].status not in (404, 408, 410)
    assert (ROWS[case].status == 429) == (case == "too-many"), "asked again"
    if case in ("refused", "unknown-identity", "wrong-secret"):
        assert ROWS[case].status in (401, 403)
