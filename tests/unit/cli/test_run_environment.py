"""Files of this user that would go before a local endpoint."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import MappingProxyType

import pytest

from wif.cli.run_environment import without_other_files
from wif.clouds.endpoint_variables import EndpointVariables

NOTHING = EndpointVariables(variables=MappingProxyType({"A": "b"}), absent=MappingProxyType({}))
ALL = ("aws", "gcp", "azure")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (".aws", ".config/gcloud"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def variables(*clouds: str, **environ: str) -> dict[str, str]:
    return dict(without_other_files(NOTHING, clouds or ALL, environ, "/run/of-this").variables)


def test_nothing_there_changes_nothing(home: Path) -> None:
    assert home.exists()
    assert without_other_files(NOTHING, ALL, {}, "/run/of-this") is NOTHING


@pytest.mark.parametrize(
    ("name", "variable"), [("credentials", "AWS_SHARED_CREDENTIALS_FILE"), ("config", "AWS_CONFIG_FILE")]
)
@pytest.mark.parametrize(
    "setting", ["aws_access_key_id", "role_arn", "sso_session", "credential_process", "login_session"]
)
def test_a_default_profile_with_credentials(home: Path, name: str, variable: str, setting: str) -> None:
    (home / ".aws" / name).write_text(f"[default]\n{setting} = x\n")
    assert variables() == {"A": "b", variable: os.devnull}
    assert variables("gcp") == {"A": "b"}, "only where AWS is served"


@pytest.mark.parametrize(
    "text", ["[default]\nregion = eu-west-1\n", "[other]\nrole_arn = x\n", "no INI file", "[a\n", "\xff"]
)
def test_a_file_that_leads_nobody_away_stays(home: Path, text: str) -> None:
    (home / ".aws/config").write_bytes(text.encode("latin-1"))
    assert variables() == {"A": "b"}


def test_the_old_form_of_the_default_profile(home: Path) -> None:
    (home / ".aws/config").write_text("[profile default]\nrole_arn = x\n")
    assert variables()["AWS_CONFIG_FILE"] == os.devnull


def test_the_region_of_a_file_that_is_kept_away_stays(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / ".aws/config").write_text("[default]\nregion = eu-west-3\ncredential_process = x\n")
    regions = {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-3"}
    with caplog.at_level(logging.WARNING):
        assert variables() == {"A": "b", "AWS_CONFIG_FILE": os.devnull} | regions
    assert f"{home}/.aws/config is kept from the program, with all of its settings but the region" in caplog.text
    for name in regions:
        assert variables(**{name: "us-east-2"}) == {"A": "b", "AWS_CONFIG_FILE": os.devnull}, "one is chosen"
    known = EndpointVariables(variables=MappingProxyType({"AWS_REGION": "us-east-2"}), absent=MappingProxyType({}))
    assert without_other_files(known, ALL, {}, "/run").variables["AWS_REGION"] == "us-east-2", "the role's own"
    (home / ".aws/credentials").write_text("[default]\nregion = eu-west-1\n")
    assert variables()["AWS_REGION"] == "eu-west-1", "as botocore has it, the file of credentials goes first"


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_the_region_of_the_profile_that_is_left_out_stays(home: Path, variable: str) -> None:
    (home / ".aws/config").write_text("[default]\nregion = eu-west-3\n[profile shop]\nregion = eu-north-1\n")
    regions = {"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-north-1"}
    assert variables(**{variable: "shop"}) == {"A": "b"} | regions
    assert variables(**{variable: "other"}) == {"A": "b"}


def test_files_that_variables_name(home: Path) -> None:
    (home / "elsewhere").write_text("[default]\naws_access_key_id = x\n")
    assert variables(AWS_SHARED_CREDENTIALS_FILE=str(home / "elsewhere"))["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull


def test_a_variable_s_path_is_read_as_botocore_reads_it(home: Path) -> None:
    (home / "config").write_text("[default]\nrole_arn = x\n")
    assert variables(AWS_CONFIG_FILE="~/config")["AWS_CONFIG_FILE"] == os.devnull
    assert variables(AWS_CONFIG_FILE="$HOME/config")["AWS_CONFIG_FILE"] == os.devnull


KEYS = "[Credentials]\naws_access_key_id = x\n"
NO_KEYS = "[Credentials]\ngs_oauth2_refresh_token = x\n[Boto]\nproxy = proxy.example\n"


def test_boto_s_own_file_with_keys(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / ".boto").write_text(KEYS)
    with caplog.at_level(logging.WARNING):
        assert variables() == {"A": "b", "BOTO_CONFIG": os.devnull}
    assert f"{home}/.boto is kept from the program, with all of its settings, gsutil's as well" in caplog.text
    assert variables("gcp") == {"A": "b"}, "only where AWS is served"
    (home / "other").write_text(NO_KEYS)
    assert variables(BOTO_CONFIG=str(home / "other")) == {"A": "b"}, "boto3 reads this file and no other"
    assert variables(BOTO_CONFIG="") == {"A": "b"}, "nor any at all"


def test_boto_s_own_file_by_its_variable(home: Path) -> None:
    (home / "other").write_text(KEYS)
    assert variables(BOTO_CONFIG="~/other") == {"A": "b", "BOTO_CONFIG": os.devnull}


@pytest.mark.parametrize("text", [NO_KEYS, "[Other]\naws_access_key_id = x\n", "no INI file"])
def test_boto_s_own_file_without_keys_stays(home: Path, text: str) -> None:
    (home / ".boto").write_text(text)
    assert variables() == {"A": "b"}


def test_gcloud_s_own_credentials(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / ".config/gcloud/application_default_credentials.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert variables() == {"A": "b", "CLOUDSDK_CONFIG": "/run/of-this/gcloud"}
    assert "Go's and Java's are not" in caplog.text.replace("\n", " ")
    assert variables("aws") == {"A": "b"}
    assert variables(CLOUDSDK_CONFIG=str(home)) == {"A": "b"}


def test_accounts_that_are_logged_in_to_gcloud(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / ".config/gcloud/credentials.db").write_text("")
    with caplog.at_level(logging.WARNING):
        assert variables() == {"A": "b", "CLOUDSDK_CONFIG": "/run/of-this/gcloud"}
    assert "accounts are logged in there" in caplog.text
    assert "Go's and Java's" not in caplog.text
    assert variables("aws") == {"A": "b"}
