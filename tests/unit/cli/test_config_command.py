"""``wif config``: gcloud's files through the command itself, files and their modes, what an edit keeps."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wif.cli import main

GOLDEN = Path(__file__).parents[2] / "data" / "gcloud-cred-config"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "index.json").read_text())
ROLE = "arn:aws:iam::111122223333:role/app"
PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/pool/providers/cluster"
ACCOUNT = "app@shop-project.iam.gserviceaccount.com"
TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
AWS = ["config", "aws", "--role-arn", ROLE, "--file", "token"]
GCP = ["config", "gcp", "--provider", PROVIDER, "--file", "token"]
AZURE = ["config", "azure", "--tenant-id", TENANT, "--client-id", CLIENT, "--file", "token"]

NOT_EXPRESSED = {
    "url-direct": "a web address is no projected token: no source of the command line is one",
    "url-direct-json": "a web address is no projected token: no source of the command line is one",
}
"""Cases of gcloud that no arguments of ours give. The text itself is tested with the module that writes it."""

FLAGS = {
    "credential-source-file": "--file",
    "credential-source-type": "--source-format",
    "credential-source-field-name": "--source-field",
    "service-account": "--service-account",
    "service-account-token-lifetime-seconds": "--lifetime-seconds",
    "subject-token-type": "--subject-token-type",
    "executable-command": "--executable-command",
    "executable-timeout-millis": "--executable-timeout-millis",
    "executable-output-file": "--executable-output-file",
}
"""gcloud's flag and ours."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own, and no identity in the environment."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "GCLOUD_", "AZURE_", "WIF_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What ``--json`` says."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("case", [case for case in CASES if case["case"] not in NOT_EXPRESSED], ids=lambda c: c["case"])
def test_the_command_writes_what_gcloud_writes(case: dict[str, Any]) -> None:
    provider, *flags = case["arguments"]
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    words = ["config", "gcp", "--provider", provider, "--out", "made"]
    for flag, value in given.items():
        words += [FLAGS[flag], value]
    if "credential-source-file" not in given:
        words += ["--file", "token"]
    if case["environment"]:
        words += ["--universe-domain", case["environment"]["CLOUDSDK_CORE_UNIVERSE_DOMAIN"]]
    assert main(words) == 0
    name = "credentials-executable.json" if "executable-command" in given else "credentials.json"
    assert Path("made/gcp", name).read_bytes() == (GOLDEN / f"{case['case']}.json").read_bytes()


def test_the_default_command_of_an_executable_source_is_the_golden_one() -> None:
    case = next(case for case in CASES if case["case"] == "executable-direct")
    token = "/var/run/secrets/sts.googleapis.com/serviceaccount/token"
    words = ["config", "gcp", "--provider", case["arguments"][0], "--file", token, "--command", "/usr/local/bin/wif"]
    assert main([*words, "--out", "made"]) == 0
    written = Path("made/gcp/credentials-executable.json").read_bytes()
    assert written == (GOLDEN / "executable-direct.json").read_bytes()


def test_every_case_is_expressed_or_has_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(NOT_EXPRESSED) < {case["case"] for case in CASES}
    with capsys.disabled():
        print(f"\ngcloud's cases: {len(CASES) - len(NOT_EXPRESSED)} of {len(CASES)} expressed; not:", NOT_EXPRESSED)


def test_everything_for_three_clouds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = made(
        capsys,
        *("config", "all", "--aws-role-arn", ROLE, "--aws-region", "eu-central-1", "--gcp-provider", PROVIDER),
        *("--gcp-service-account", ACCOUNT, "--azure-tenant-id", TENANT, "--azure-client-id", CLIENT),
        *("--file", "token", "--gcp-file", "gcp-token", "--out", "made"),
    )
    names = [
        "aws/config",
        "aws/config-process",
        "azure/env",
        "gcp/credentials-executable.json",
        "gcp/credentials.json",
        "terraform/aws.tf",
        "terraform/azurerm.tf",
        "terraform/google.tf",
    ]
    assert sorted(result["files"]) == [str(here / "made" / name) for name in names]
    for name in names:
        assert stat.S_IMODE((here / "made" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((here / "made").stat().st_mode) == 0o700
    variables = result["environment"]
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert variables["GOOGLE_CLOUD_PROJECT"] == "shop-project"
    assert variables["AZURE_AUTHORITY_HOST"] == "https://login.microsoftonline.com/"
    assert variables["AZURE_FEDERATED_TOKEN_FILE"] == str(here / "token")
    assert json.loads((here / "made/gcp/credentials.json").read_text())["credential_source"]["file"] == str(
        here / "gcp-token"
    )
    assert result["warnings"] == []
    assert not list((here / "made").rglob(".*")), "no temporary file is left"


OF_PROFILES = ["AWS_DEFAULT_PROFILE", "AWS_PROFILE"]
OF_WEB_IDENTITY = ["AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE"]


@pytest.mark.parametrize(
    ("words", "unset", "present", "absent"),
    [
        ([], OF_PROFILES, "AWS_ROLE_ARN", "AWS_PROFILE"),
        (["--out", "made"], OF_WEB_IDENTITY, "AWS_PROFILE", "AWS_ROLE_ARN"),
        (["--out", "made", "--via", "web-identity"], OF_PROFILES, "AWS_ROLE_ARN", "AWS_PROFILE"),
    ],
)
def test_either_way_of_aws_and_never_both(
    capsys: pytest.CaptureFixture[str], words: list[str], unset: list[str], present: str, absent: str
) -> None:
    result = made(capsys, *AWS, "--env", *words)
    assert result["unset"] == unset
    assert present in result["environment"]
    assert absent not in result["environment"]


def test_the_profile_that_the_variables_lead_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = made(capsys, *AWS, "--env", "--out", "made", "--via", "process", "--profile", "shop")
    assert result["environment"]["AWS_CONFIG_FILE"] == str(here / "made/aws/config-process")
    assert result["environment"]["AWS_PROFILE"] == "shop"
    result = made(capsys, *AWS, "--env", "--aws-config", "mine")
    assert result["environment"]["AWS_CONFIG_FILE"] == str(here / "mine")


def test_the_process_line_says_everything(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIF_AWS_CHAIN", ROLE)
    monkeypatch.setenv("WIF_AWS_POLICY_ARNS", "arn:aws:iam::aws:policy/ReadOnlyAccess")
    words = [
        "--region",
        "eu-west-1",
        "--session-name",
        "s1",
        "--duration-seconds",
        "900",
        "--cache",
        "--command",
        "/o p/wif",
    ]
    assert main([*AWS, "--out", "made", *words]) == 0
    (line,) = [one for one in Path("made/aws/config-process").read_text().splitlines() if one.startswith("credential")]
    assert line == (
        "credential_process = '/o p/wif' exchange aws --format credential-process --cache "
        f"--role-arn {ROLE} --file {here}/token --region eu-west-1 --session-name s1 --duration-seconds 900 "
        f"--policy-arn arn:aws:iam::aws:policy/ReadOnlyAccess --chain {ROLE}"
    )


WARNED: list[tuple[str, list[str], dict[str, str], str | None]] = [
    ("no region", [*AWS, "--env"], {}, "region"),
    ("a region of the environment", [*AWS, "--env"], {"AWS_DEFAULT_REGION": "eu-west-1"}, None),
    ("no project", [*GCP, "--out", "made"], {}, "project"),
    ("a project named", [*GCP, "--out", "made", "--project", "p"], {}, None),
    ("a project of the environment", [*GCP, "--out", "made"], {"GOOGLE_CLOUD_PROJECT": "p"}, None),
    ("a project of the service account", [*GCP, "--out", "made", "--service-account", ACCOUNT], {}, None),
    ("an authority of nobody", [*AZURE, "--env"], {"AZURE_AUTHORITY_HOST": "https://login.example.com"}, "Terraform"),
    ("a chain", [*AWS, "--env", "--region", "eu-west-1"], {"WIF_AWS_CHAIN": ROLE}, "credential_process"),
]


@pytest.mark.parametrize(("words", "environ", "word"), [case[1:] for case in WARNED], ids=[case[0] for case in WARNED])
def test_what_cannot_be_known_is_a_warning(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    environ: dict[str, str],
    word: str | None,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(words) == 0
    err = capsys.readouterr().err
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert (word in warnings[0] and len(warnings) == 1) if word else not warnings


def test_exports_alone_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GCP, "--out", "made", "--env", "--executable", "--project", "p"]) == 0
    out, err = capsys.readouterr()
    assert all(line.startswith("export ") for line in out.splitlines())
    assert "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1" in out
    assert "credentials-executable.json" in out
    assert "wrote " in err


WRONG: list[tuple[list[str], str]] = [
    (AWS, "nothing to do"),
    ([*GCP, "--env"], "use --out"),
    ([*AWS, "--env", "--via", "profile"], "needs a file"),
    ([*AWS, "--aws-config", "x", "--via", "web-identity"], "writes a profile"),
    (["config", "aws", "--file", "t", "--env"], "no role"),
    (["config", "aws", "--role-arn", ROLE, "--env"], "no token file"),
    (["config", "aws", "--role-arn", ROLE, "--file", "-", "--env"], "stdin"),
    (["config", "gcp", "--file", "t", "--out", "made"], "no provider"),
    (["config", "azure", "--file", "t", "--env", "--client-id", CLIENT], "no tenant"),
    (["config", "azure", "--file", "t", "--env", "--tenant-id", TENANT], "no client"),
    ([*AWS, "--env", "--region", "moon"], "moon"),
    ([*AWS, "--out", "made", "--profile", "a b"], "profile"),
    ([*GCP, "--out", "made", "--service-account", "a@b/../c"], "service account"),
    ([*GCP, "--out", "made", "--source-format", "json"], "format"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(case[0][1:]) for case in WRONG])
def test_wrong_usage_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len([line for line in err.splitlines() if not line.startswith("warning")]) == 2
    assert not list(here.iterdir())


MINE = b"# mine\r\n[default]\r\nregion=us-east-1\r\n\r\n[profile other]\r\noutput = json\r\n\xff\xfe not utf-8\r\n"


def test_an_edit_keeps_every_other_byte_and_the_mode(here: Path) -> None:
    file = here / "config"
    file.write_bytes(MINE)
    file.chmod(0o640)
    assert main([*AWS, "--aws-config", "config", "--profile", "shop"]) == 0
    first = file.read_bytes()
    assert first.startswith(MINE)
    assert first.count(b"\n") == first.count(b"\r\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert main([*AWS, "--aws-config", "config", "--profile", "shop"]) == 0
    assert file.read_bytes() == first
    assert main([*AWS, "--aws-config", "config", "--profile", "shop", "--via", "process"]) == 0
    assert file.read_bytes().startswith(MINE)
    assert b"credential_process" in file.read_bytes()
    assert b"role_arn =" not in file.read_bytes()


def test_a_foreign_profile_needs_force(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "config").write_bytes(MINE)
    assert main([*AWS, "--aws-config", "config", "--profile", "other", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "config-foreign"
    assert "--force" in err
    assert (here / "config").read_bytes() == MINE
    assert main([*AWS, "--aws-config", "config", "--profile", "other", "--force"]) == 0
    assert b"role_arn" in (here / "config").read_bytes()


def test_a_new_file_is_private_and_a_link_stays_one(here: Path) -> None:
    assert main([*AWS, "--aws-config", "aws/config"]) == 0
    assert stat.S_IMODE((here / "aws/config").stat().st_mode) == 0o600
    (here / "link").symlink_to(here / "aws/config")
    assert main([*AWS, "--aws-config", "link", "--profile", "two"]) == 0
    assert (here / "link").is_symlink()
    assert "[profile two]" in (here / "aws/config").read_text()


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.write_bytes(b"#" * (5 << 20))])
def test_a_file_that_cannot_be_edited_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object]
) -> None:
    spoil(here / "config")
    assert main([*AWS, "--aws-config", "config"]) == 2
    assert "config" in capsys.readouterr().err
