"""external_account files are data: what they may say, and what is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.clouds.gcp import JWT_TOKEN_TYPE, ExecutableSource, ExternalAccount, FileSource
from wif.errors import ConfigurationError

AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k"
IMPERSONATION = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/app@p.iam.gserviceaccount.com:generateAccessToken"
DIRECT: dict[str, Any] = {
    "universe_domain": "googleapis.com",
    "type": "external_account",
    "audience": AUDIENCE,
    "subject_token_type": JWT_TOKEN_TYPE,
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/var/run/token"},
    "token_info_url": "https://sts.googleapis.com/v1/introspect",
}


def read(**more: Any) -> ExternalAccount:
    """The direct file with other members; None leaves one out."""
    return ExternalAccount.from_mapping({name: value for name, value in (DIRECT | more).items() if value is not None})


def test_a_direct_file() -> None:
    found = read()
    assert found.audience == AUDIENCE
    assert found.source == FileSource(path="/var/run/token")
    assert (found.token_url, found.token_info_url) == (DIRECT["token_url"], DIRECT["token_info_url"])
    assert (found.service_account, found.impersonation_base_url, found.lifetime_seconds) == (None, None, None)
    assert (found.universe_domain, found.subject_token_type) == ("googleapis.com", JWT_TOKEN_TYPE)


def test_a_file_with_impersonation() -> None:
    found = read(
        service_account_impersonation_url=IMPERSONATION, service_account_impersonation={"token_lifetime_seconds": 1800}
    )
    assert found.service_account == "app@p.iam.gserviceaccount.com"
    assert found.impersonation_base_url == "https://iamcredentials.googleapis.com"
    assert found.lifetime_seconds == 1800


def test_the_rest_of_what_a_file_may_say() -> None:
    found = read(
        quota_project_id="bill",
        workforce_pool_user_project="wf",
        client_id="id",
        client_secret="hidden",
        trust_boundary={"x": 1},
        anything=[1],
        service_account_impersonation={},
    )
    assert (found.quota_project_id, found.workforce_pool_user_project, found.client_id) == ("bill", "wf", "id")
    assert found.client_secret == "hidden"
    assert "hidden" not in repr(found)
    assert found.lifetime_seconds is None


def test_what_is_missing_has_the_universes_default() -> None:
    found = read(token_url=None, universe_domain="example.goog", subject_token_type=None)
    assert found.token_url == "https://sts.example.goog/v1/token"
    assert found.subject_token_type == JWT_TOKEN_TYPE
    assert read(token_url=None, universe_domain=None).token_url == "https://sts.googleapis.com/v1/token"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"format": {"type": "json", "subject_token_field_name": "id_token"}}, "id_token"),
        ({"format": {"type": "text"}}, None),
        ({"format": {}}, None),
        ({}, None),
    ],
)
def test_a_file_source_has_its_format(more: dict[str, Any], field: str | None) -> None:
    assert read(credential_source={"file": "/t"} | more).source == FileSource(path="/t", json_field=field)


def test_an_executable_source_is_a_value() -> None:
    program = {"command": "/bin/wif token print", "timeout_millis": 5000, "output_file": "/run/out.json"}
    found = read(credential_source={"executable": program}).source
    assert found == ExecutableSource(command="/bin/wif token print", timeout_seconds=5.0, output_file="/run/out.json")
    assert read(credential_source={"executable": {"command": "x"}}).source == ExecutableSource(command="x")


@pytest.mark.parametrize(
    "source",
    [
        {"url": "http://169.254.169.254/x", "headers": {"Metadata": "True"}},
        {"certificate": {"use_default_certificate_config": True}},
        {"environment_id": "aws1", "region_url": "http://x"},
        {"file": "/t", "url": "http://x"},
    ],
)
def test_sources_that_would_be_fetched_are_refused(source: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(credential_source=source)
    assert caught.value.code == "credential-source-refused"
    assert caught.value.hint is not None
    assert "google-auth itself" in caught.value.hint


@pytest.mark.parametrize(
    "kind", ["urn:ietf:params:aws:token-type:aws4_request", "urn:ietf:params:oauth:token-type:saml2"]
)
def test_subject_tokens_of_other_kinds_are_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(subject_token_type=kind)
    assert caught.value.code == "credential-source-refused"


def test_an_id_token_is_a_jwt_too() -> None:
    kind = "urn:ietf:params:oauth:token-type:id_token"
    assert read(subject_token_type=kind).subject_token_type == kind


def email(text: str) -> str:
    return IMPERSONATION.replace("app@p.iam.gserviceaccount.com", text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": None},
        {"type": "service_account"},
        {"type": 1},
        {"audience": None},
        {"audience": 1},
        {"audience": "//iam.googleapis.com/projects/my-project/locations/global/workloadIdentityPools/p/providers/k"},
        {"token_url": 1},
        {"token_url": "https://sts.googleapis.com/\n"},
        {"token_url": None, "universe_domain": "evil.example/x"},
        {"credential_source": None},
        {"credential_source": []},
        {"credential_source": {}},
        {"credential_source": {"file": 1}},
        {"credential_source": {"file": ""}},
        {"credential_source": {"file": "/t", "executable": {"command": "x"}}},
        {"credential_source": {"executable": "x"}},
        {"credential_source": {"executable": {}}},
        {"credential_source": {"executable": {"command": "x", "timeout_millis": 4999}}},
        {"credential_source": {"executable": {"command": "x", "timeout_millis": 120_001}}},
        {"credential_source": {"executable": {"command": "x", "timeout_millis": "5000"}}},
        {"credential_source": {"executable": {"command": "x", "timeout_millis": True}}},
        {"credential_source": {"file": "/t", "format": "json"}},
        {"credential_source": {"file": "/t", "format": {"type": "json"}}},
        {"credential_source": {"file": "/t", "format": {"type": "xml"}}},
        {"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/x"},
        {"service_account_impersonation_url": IMPERSONATION + "?x"},
        {"service_account_impersonation_url": email("a/../b@p.iam")},
        {"service_account_impersonation_url": email("a@p?x")},
        {"service_account_impersonation_url": email("a@p#x")},
        {"service_account_impersonation_url": email('a"@p')},
        {"service_account_impersonation_url": email("a:b@p")},
        {
            "service_account_impersonation_url": "https://evil.example?/v1/projects/-/serviceAccounts/a@p:generateAccessToken"
        },
        {"service_account_impersonation": 1800},
        {"service_account_impersonation": {"token_lifetime_seconds": "1800"}},
        {"service_account_impersonation": {"token_lifetime_seconds": True}},
        {"service_account_impersonation": {"token_lifetime_seconds": 43_201}},
    ],
)
def test_a_file_that_cannot_be_right_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**wrong)
    assert caught.value.code == "config-invalid"


NAMES = ("file", "url", "executable", "command", "format", "type", "timeout_millis")


@pytest.mark.parametrize("document", [[], "x", None, 1])
def test_a_file_is_one_object(document: object) -> None:
    with pytest.raises(ConfigurationError, match="my file is not a JSON object"):
        ExternalAccount.from_mapping(document, origin="my file")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*DIRECT, "service_account_impersonation_url", "service_account_impersonation"]), VALUES
    )
)
def test_no_file_does_more_harm_than_one_error(wrong: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigurationError):
        assert read(**wrong).audience == AUDIENCE
