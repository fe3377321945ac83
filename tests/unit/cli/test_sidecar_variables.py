"""The identities that the webhooks' variables name: the rules of ``wif.from_env``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wif.cli.sidecar_variables import identities_of
from wif.config.sidecar import load_sidecar
from wif.errors import ConfigurationError, WifError

ROLE = "arn:aws:iam::111122223333:role/app"
AWS = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/aws"}
AZURE = {"AZURE_CLIENT_ID": "client", "AZURE_TENANT_ID": "tenant", "AZURE_FEDERATED_TOKEN_FILE": "/azure"}
PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k"
IAM = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/app@p.iam.gserviceaccount.com"


def _google(folder: Path, **changes: Any) -> dict[str, str]:
    document = {
        "type": "external_account",
        "audience": PROVIDER,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": "/gcp"},
    }
    path = folder / "credentials.json"
    path.write_text(json.dumps({**document, **changes}))
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


def test_nobody_is_named_by_nothing() -> None:
    assert identities_of({}) == {}
    assert identities_of({"AWS_ROLE_ARN": "", "GOOGLE_APPLICATION_CREDENTIALS": ""}) == {}


def test_one_identity_for_each_cloud_that_the_settings_take(tmp_path: Path) -> None:
    impersonation = {"service_account_impersonation_url": f"{IAM}:generateAccessToken"}
    lifetime = {"service_account_impersonation": {"token_lifetime_seconds": 1800}}
    found = identities_of(
        {**AWS, "AWS_ROLE_SESSION_NAME": "me", **AZURE, **_google(tmp_path, **impersonation, **lifetime)}
    )
    assert found == {
        "aws": {"cloud": "aws", "role_arn": ROLE, "session_name": "me", "token_file": "/aws"},
        "gcp": {
            "cloud": "gcp",
            "provider": PROVIDER,
            "service_account": "app@p.iam.gserviceaccount.com",
            "lifetime_seconds": 1800,
            "token_file": "/gcp",
        },
        "azure": {"cloud": "azure", "client_id": "client", "tenant_id": "tenant", "token_file": "/azure"},
    }
    assert set(load_sidecar({"identities": found}).identities) == {"aws", "gcp", "azure"}


def test_our_own_variable_of_the_token_goes_first() -> None:
    found = identities_of({**AWS, **AZURE, "WIF_TOKEN_FILE": "/own"})
    assert {each["token_file"] for each in found.values()} == {"/own"}
    assert identities_of({"AWS_ROLE_ARN": ROLE, "WIF_TOKEN_FILE": "/own"})["aws"]["token_file"] == "/own"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"AWS_ROLE_ARN": ROLE}, "AWS_ROLE_ARN is set, but not AWS_WEB_IDENTITY_TOKEN_FILE"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/aws", "WIF_TOKEN_FILE": "/own"}, "but not AWS_ROLE_ARN"),
        (
            {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t"},
            "AZURE_CLIENT_ID and AZURE_TENANT_ID are set, but not AZURE_FEDERATED_TOKEN_FILE",
        ),
    ],
)
def test_half_a_set_is_an_error(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        identities_of(environ)
    assert caught.value.code == "config-missing"


@pytest.mark.parametrize(
    "changes",
    [
        {"universe_domain": "example.com", "token_url": "https://sts.example.com/v1/token"},
        {"universe_domain": "example.com"},
        {"token_url": "https://sts.attacker.example/v1/token"},
        {
            "service_account_impersonation_url": "https://attacker.example/v1/projects/-/serviceAccounts/"
            "app@p.iam.gserviceaccount.com:generateAccessToken"
        },
        {"credential_source": {"file": "/gcp", "format": {"type": "json", "subject_token_field_name": "token"}}},
        {"credential_source": {"executable": {"command": "/bin/token"}}},
        {"credential_source": {"url": "http://127.0.0.1/token"}},
        {"type": "service_account"},
    ],
    ids=["universe", "universe-alone", "token-url", "iam-url", "json", "executable", "url", "key"],
)
def test_a_credential_file_that_says_more_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(WifError) as caught:
        identities_of(_google(tmp_path, **changes))
    assert caught.value.code in ("config-invalid", "credential-source-refused")


def test_a_workforce_pool_is_refused(tmp_path: Path) -> None:
    provider = "//iam.googleapis.com/locations/global/workforcePools/p/providers/k"
    with pytest.raises(ConfigurationError):
        identities_of(_google(tmp_path, audience=provider, workforce_pool_user_project="1"))


def test_a_file_that_cannot_be_read_or_is_no_json_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    for content, code in ((None, "file-unusable"), ("{", "config-invalid"), ("[]", "config-invalid")):
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            identities_of({"GOOGLE_APPLICATION_CREDENTIALS": str(path)})
        assert caught.value.code == code
