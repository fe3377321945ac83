"""Google's credential files: byte for byte gcloud's, and nothing that a value could rewrite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wif.clouds.gcp_config import (
    ExecutableSource,
    ExternalAccountFile,
    FileSource,
    UrlSource,
    external_account,
    project_of,
    shell_variables,
    terraform,
)
from wif.clouds.gcp_names import DEFAULT_UNIVERSE, JWT_TOKEN_TYPE
from wif.errors import ConfigurationError

GOLDEN = Path(__file__).parents[2] / "data" / "gcloud-cred-config"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "index.json").read_text())
PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/on-prem/providers/cluster-a"


def account_of(case: dict[str, Any]) -> ExternalAccountFile:
    """gcloud's arguments as our values."""
    provider, *flags = case["arguments"]
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    form = {
        "format_type": given.pop("credential-source-type", None),
        "field_name": given.pop("credential-source-field-name", None),
    }
    source: FileSource | UrlSource | ExecutableSource
    if "credential-source-file" in given:
        source = FileSource(path=given.pop("credential-source-file"), **form)
    elif "credential-source-url" in given:
        header, _, value = given.pop("credential-source-headers", "").partition("=")
        source = UrlSource(url=given.pop("credential-source-url"), headers={header: value} if header else {}, **form)
    else:
        source = ExecutableSource(
            command=given.pop("executable-command"),
            timeout_millis=int(given.pop("executable-timeout-millis", "30000")),
            output_file=given.pop("executable-output-file", None),
        )
    lifetime = given.pop("service-account-token-lifetime-seconds", None)
    account = ExternalAccountFile(
        provider=provider,
        source=source,
        service_account=given.pop("service-account", None),
        lifetime_seconds=int(lifetime) if lifetime else None,
        subject_token_type=given.pop("subject-token-type", JWT_TOKEN_TYPE),
        universe_domain=case["environment"].get("CLOUDSDK_CORE_UNIVERSE_DOMAIN", DEFAULT_UNIVERSE),
    )
    assert not given, f"arguments of {case['case']} that nothing expresses: {given}"
    return account


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_every_file_of_gcloud_is_written_byte_for_byte(case: dict[str, Any]) -> None:
    assert external_account(account_of(case)).encode() == (GOLDEN / f"{case['case']}.json").read_bytes()


def test_the_index_and_the_files_agree() -> None:
    assert {case["case"] for case in CASES} == {path.stem for path in GOLDEN.glob("*.json")} - {"index"}
    assert all(case["ok"] for case in CASES)
    assert len(CASES) == 14


def test_a_region_moves_the_exchange_and_not_the_audience() -> None:
    account = ExternalAccountFile(provider=PROVIDER, source=FileSource(path="/t"), region="europe-west1")
    document = json.loads(external_account(account))
    assert document["token_url"] == "https://sts.europe-west1.rep.googleapis.com/v1/token"
    assert document["token_info_url"] == "https://sts.europe-west1.rep.googleapis.com/v1/introspect"
    assert document["audience"] == f"//iam.googleapis.com/{PROVIDER}"


@pytest.mark.parametrize("prefix", ["", "//iam.googleapis.com/", "https://iam.googleapis.com/"])
def test_a_provider_is_taken_in_all_its_forms(prefix: str) -> None:
    account = ExternalAccountFile(provider=prefix + PROVIDER, source=FileSource(path="/t"))
    assert account.provider == f"//iam.googleapis.com/{PROVIDER}"


BAD = {
    "an e-mail that would end the impersonation URL": {"service_account": "a@b.iam.gserviceaccount.com/../x?y#"},
    "an e-mail with a colon": {"service_account": "app:signJwt@p.iam.gserviceaccount.com"},
    "an e-mail with a quote": {"service_account": 'a"@p.iam.gserviceaccount.com'},
    "an e-mail with a line end": {"service_account": "app@my-project.iam.gserviceaccount.com\n"},
    "a provider with the project's id": {"provider": PROVIDER.replace("123456789012", "my-project")},
    "a provider with a line end": {"provider": PROVIDER + "\n"},
    "a provider of another place": {"provider": "//evil.example/" + PROVIDER},
    "a universe that is a path": {"universe_domain": "googleapis.com/x"},
    "a universe with a port": {"universe_domain": "googleapis.com:8443"},
    "a universe of one word": {"universe_domain": "localhost"},
    "a region that is a host": {"region": "evil.example/"},
    "an unknown token type": {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
    "a lifetime for direct access": {"lifetime_seconds": 3600},
    "a lifetime too short": {"service_account": "app@p-12345.iam.gserviceaccount.com", "lifetime_seconds": 0},
    "a lifetime too long": {"service_account": "app@p-12345.iam.gserviceaccount.com", "lifetime_seconds": 43201},
}


@pytest.mark.parametrize("broken", BAD.values(), ids=BAD.keys())
def test_a_value_that_would_say_something_else_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ExternalAccountFile(**{"provider": PROVIDER, "source": FileSource(path="/t"), **broken})


BAD_SOURCES = {
    "no path": FileSource(path=""),
    "a path with a line end": FileSource(path="/t\n"),
    "json without a member": FileSource(path="/t", format_type="json"),
    "text with a member": FileSource(path="/t", format_type="text", field_name="x"),
    "a member without a format": FileSource(path="/t", field_name="x"),
    "another format": UrlSource(url="http://127.0.0.1/", format_type="xml"),
    "a command of two lines": ExecutableSource(command="wif\ntoken"),
    "a timeout too short": ExecutableSource(command="wif", timeout_millis=4999),
    "a timeout too long": ExecutableSource(command="wif", timeout_millis=120001),
    "an output file with a tab": ExecutableSource(command="wif", output_file="a\tb"),
}


@pytest.mark.parametrize("source", BAD_SOURCES.values(), ids=BAD_SOURCES.keys())
def test_a_source_that_no_client_can_read_is_refused(source: FileSource | UrlSource | ExecutableSource) -> None:
    with pytest.raises(ConfigurationError):
        external_account(ExternalAccountFile(provider=PROVIDER, source=source))


def test_headers_of_a_url_source_are_not_shown() -> None:
    assert "hunter2" not in repr(UrlSource(url="http://127.0.0.1/", headers={"Authorization": "hunter2"}))


@pytest.mark.parametrize(
    ("email", "project"),
    [
        ("app@my-project.iam.gserviceaccount.com", "my-project"),
        ("app@my-project.example.com.iam.gserviceaccount.com", "example.com:my-project"),
        ("1234-compute@developer.gserviceaccount.com", None),
        ("not an address", None),
        (None, None),
    ],
)
def test_the_project_comes_from_the_service_account(email: str | None, project: str | None) -> None:
    assert project_of(email) == project


def test_the_project_is_exported_wherever_it_is_known() -> None:
    assert shell_variables(credentials_file="/c.json", project="p") == {
        "GOOGLE_APPLICATION_CREDENTIALS": "/c.json",
        "GOOGLE_CLOUD_PROJECT": "p",
    }
    assert shell_variables(credentials_file="/c.json", project=None, executable=True) == {
        "GOOGLE_APPLICATION_CREDENTIALS": "/c.json",
        "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
    }


def test_the_terraform_block() -> None:
    assert terraform(credentials_file="/wif/gcp/credentials.json", project="my-project") == (
        'provider "google" {\n  project     = "my-project"\n  credentials = "/wif/gcp/credentials.json"\n}\n'
    )
    assert terraform(credentials_file="/c", project=None, universe_domain="example.goog") == (
        'provider "google" {\n  credentials     = "/c"\n  universe_domain = "example.goog"\n}\n'
    )
