"""The webhook's settings: flags, then variables, then wif.yaml, above the defaults of a peer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest

from wif.cli.frame import command
from wif.cli.webhook_options import _ROWS, webhook_options, webhook_settings
from wif.config.webhook import COMPAT, AzureTokenEndpoint, ContainerCredentials, WebhookSettings
from wif.errors import ConfigurationError


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WIF_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def settings(*words: str) -> WebhookSettings:
    found: list[WebhookSettings] = []

    @command("run", example="run")
    @webhook_options
    @click.pass_context
    def run(context: click.Context, /, **_: object) -> None:
        found.append(webhook_settings(context))

    run.main(list(words), standalone_mode=False)
    return found[0]


def write(document: object, name: str = "wif.yaml") -> None:
    Path(name).write_text(json.dumps(document))


FLAGS: tuple[tuple[str, ...], ...] = (
    ("--compat", "eks"),
    ("--dialect", "native", "--dialect", "eks"),
    ("--prefix", "id.example.com"),
    ("--gcp-prefix", "g.example.com"),
    ("--aws-prefix", "a.example.com"),
    ("--azure-prefix", "z.example.com"),
    ("--max-token-expiration", "12h"),
    ("--token-mode", "0400"),
    ("--deny-collisions",),
    ("--cluster-domain", "c.example.com"),
    ("--aws-audience", "aws"),
    ("--aws-token-expiration", "11m"),
    ("--aws-region", "eu-central-1"),
    ("--no-aws-regional-sts",),
    ("--aws-token-mount-path", "/var/aws"),
    ("--aws-account-id", "111122223333"),
    ("--aws-partition", "aws-cn"),
    ("--aws-container-credentials", '{"identities": [["n", "a"]]}'),
    ("--gcp-audience", "gcp"),
    ("--gcp-token-expiration", "12m"),
    ("--gcp-mode", "gcloud"),
    ("--gcp-provider", "projects/1/locations/global/workloadIdentityPools/p/providers/q"),
    ("--gcp-region", "europe-west3"),
    ("--gcloud-image", "registry.example.com/gcloud:1"),
    ("--gcloud-resources", '{"limits": {"memory": "1Gi"}}'),
    ("--azure-audience", "azure"),
    ("--azure-token-expiration", "13m"),
    ("--azure-tenant-id", "11111111-2222-3333-4444-555555555555"),
    ("--azure-authority-host", "https://login.example.com/"),
    ("--azure-layout", "v1.5"),
    ("--azure-token-endpoint", '{"annotation_suffix": "b", "audience": "c"}'),
    ("--sidecar-image", "registry.example.com/wif:1"),
    ("--sidecar-pull-policy", "Never"),
    ("--sidecar-resources", '{"limits": {"memory": "64Mi"}}'),
    ("--sidecar-env", '{"HTTPS_PROXY": "http://proxy.example.com:3128"}'),
    ("--sidecar-uid", "2001"),
    ("--sidecar-address", "[::1]"),
    ("--sidecar-port", "9001"),
    ("--sidecar-health-port", "9002"),
    ("--sidecar-gce-metadata",),
    ("--sidecar-imds",),
    ("--sidecar-force-host-network",),
)
ALL = WebhookSettings(
    compat="eks",
    dialects=("native", "eks"),
    prefix="id.example.com",
    gcp_prefix="g.example.com",
    aws_prefix="a.example.com",
    azure_prefix="z.example.com",
    max_token_expiration=43200,
    token_mode=0o400,
    deny_collisions=True,
    cluster_domain="c.example.com",
    aws_audience="aws",
    aws_token_expiration=660,
    aws_region="eu-central-1",
    aws_regional_sts=False,
    aws_token_mount_path="/var/aws",
    aws_account_id="111122223333",
    aws_partition="aws-cn",
    aws_container_credentials=ContainerCredentials(identities=(("n", "a"),)),
    gcp_audience="gcp",
    gcp_token_expiration=720,
    gcp_mode="gcloud",
    gcp_provider="projects/1/locations/global/workloadIdentityPools/p/providers/q",
    gcp_region="europe-west3",
    gcloud_image="registry.example.com/gcloud:1",
    gcloud_resources={"limits": {"memory": "1Gi"}},
    azure_audience="azure",
    azure_token_expiration=780,
    azure_tenant_id="11111111-2222-3333-4444-555555555555",
    azure_authority_host="https://login.example.com/",
    azure_layout="v1.5",
    azure_token_endpoint=AzureTokenEndpoint(annotation_suffix="b", audience="c"),
    sidecar_image="registry.example.com/wif:1",
    sidecar_pull_policy="Never",
    sidecar_resources={"limits": {"memory": "64Mi"}},
    sidecar_env={"HTTPS_PROXY": "http://proxy.example.com:3128"},
    sidecar_uid=2001,
    sidecar_address="[::1]",
    sidecar_port=9001,
    sidecar_health_port=9002,
    sidecar_gce_metadata=True,
    sidecar_imds=True,
    sidecar_force_host_network=True,
)


def test_every_setting_has_a_flag() -> None:
    assert {option.setting for option in _ROWS} == set(WebhookSettings.__struct_fields__)
    assert settings(*(word for words in FLAGS for word in words)) == ALL
    assert len(FLAGS) == len(_ROWS)


def test_every_flag_is_a_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in FLAGS:
        name = words[0].removeprefix("--").removeprefix("no-").replace("-", "_").upper()
        value = " ".join(words[1::2]) or ("false" if words[0].startswith("--no-") else "true")
        monkeypatch.setenv(f"WIF_WEBHOOK_{'DIALECTS' if name == 'DIALECT' else name}", value)
    assert settings() == ALL


def test_a_flag_wins_over_a_variable_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"webhook": {"aws_region": "file", "gcp_region": "file", "azure_audience": "file"}})
    monkeypatch.setenv("WIF_WEBHOOK_AWS_REGION", "variable")
    monkeypatch.setenv("WIF_WEBHOOK_GCP_REGION", "variable")
    found = settings("--aws-region", "flag")
    assert (found.aws_region, found.gcp_region, found.azure_audience) == ("flag", "variable", "file")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIF_WEBHOOK_AWS_AUDIENCE", "")
    monkeypatch.setenv("WIF_WEBHOOK_DENY_COLLISIONS", "")
    assert settings() == WebhookSettings()


@pytest.mark.parametrize("peer", ["pfn", "eks", "azure"])
def test_a_peers_defaults_stand_below_everything_that_is_said(peer: str) -> None:
    found = settings("--compat", peer)
    for name, value in COMPAT[peer].items():
        assert getattr(found, name) == value, name
    write({"webhook": {"max_token_expiration": 7200}})
    assert settings("--compat", peer).max_token_expiration == 7200


def test_a_switch_can_be_said_no_to_above_the_file() -> None:
    write({"webhook": {"deny_collisions": True}})
    assert settings().deny_collisions
    assert not settings("--no-deny-collisions").deny_collisions


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"unknown": 1}, "unknown"),
        ({"aws_token_expiration": 599}, "aws_token_expiration"),
        ({"dialects": []}, "dialects"),
        ({"aws_audience": "a\nb"}, "aws_audience"),
        ([1], "webhook"),
    ],
    ids=str,
)
def test_the_file_is_read_strictly(section: object, said: str) -> None:
    write({"webhook": section})
    with pytest.raises(ConfigurationError, match=f"wif.yaml has.*{said}") as caught:
        settings()
    assert caught.value.code == "config-invalid"


def test_a_document_that_is_none() -> None:
    write([1])
    with pytest.raises(ConfigurationError, match="a document"):
        settings()


def test_other_sections_are_passed_over() -> None:
    write({"aws": {"role_arn": "r"}, "issuers": {}})
    assert settings() == WebhookSettings()


@pytest.mark.parametrize(
    "section",
    [
        {"azure_authority_host": "https://login.example.com/"},
        {"azure_token_endpoint": {"annotation_suffix": "b", "audience": "c"}},
        {"sidecar_image": "registry.example.com/wif:1"},
        {"sidecar_env": {"HTTPS_PROXY": "http://proxy.example.com"}},
        {"aws_container_credentials": {"full_uri": "http://127.0.0.1/"}},
        {"gcloud_image": "image"},
    ],
    ids=str,
)
def test_a_file_that_merely_lies_there_leads_pods_to_no_hosts(section: object) -> None:
    write({"webhook": section})
    with pytest.raises(ConfigurationError) as caught:
        settings()
    assert caught.value.code == "host-not-allowed"
    assert settings("--config-file", "wif.yaml") != WebhookSettings()


@pytest.mark.parametrize(
    "words",
    [
        ("--token-mode", "rw"),
        ("--token-mode", ""),
        ("--token-mode", "00440"),
        ("--gcloud-resources", "[1]"),
        ("--gcloud-resources", "{"),
        ("--gcloud-resources", "[" * 100_000),
        ("--compat", "other"),
        ("--aws-token-expiration", "soon"),
    ],
    ids=lambda words: str(words)[:60],
)
def test_a_flag_that_cannot_be_read(words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError) as caught:
        settings(*words)
    assert words[0] in caught.value.format_message()


def test_a_value_that_cannot_be_is_named() -> None:
    with pytest.raises(ConfigurationError, match="aws_token_expiration"):
        settings("--aws-token-expiration", "1m")


def test_an_unknown_variable_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WIF_WEBHOOK_AWS_AUDIENCES", "x")
    settings()
    assert "WIF_WEBHOOK_AWS_AUDIENCES is not known" in capsys.readouterr().err
