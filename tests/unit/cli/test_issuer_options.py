"""Which issuer a command works on: flags, then variables, then wif.yaml; and the settings of a target in its URL."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from wif.cli.frame import command
from wif.cli.issuer_options import ChosenIssuer, choose_issuers, issuer_options, the_one_issuer
from wif.config.issuers import IssuerSettings, TargetSettings
from wif.errors import ConfigurationError


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WIF_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def chosen(*words: str, several: bool = True, rotation: bool = False) -> Sequence[ChosenIssuer]:
    found: list[ChosenIssuer] = []

    @command("run", example="run")
    @issuer_options(several=several, rotation=rotation)
    @click.pass_context
    def run(context: click.Context, /, **_: object) -> None:
        found.extend(choose_issuers(context) if several else [the_one_issuer(context)])

    run.main(list(words), standalone_mode=False)
    return found


def settings(*words: str, rotation: bool = False) -> IssuerSettings:
    [one] = chosen(*words, rotation=rotation)
    return one.settings


def write(document: object, name: str = "wif.yaml") -> None:
    Path(name).write_text(json.dumps(document))


def test_every_flag_is_its_setting() -> None:
    found = settings(
        *("--issuer", "https://a.example.com", "--former-issuer", "--jwks-uri", "https://a.example.com/k"),
        *("--kubeconfig", "k", "--context", "c", "--api-server", "https://one", "--api-server", "https://two"),
        *("--public-key", "a.pub", "--public-key", "b.pub", "--jwks", "jwks.json", "--to", "file:///a"),
        *("--state", "configmap:ns/state", "--namespace", "ns", "--cache-control", "no-cache", "--cache-time", "1h"),
        *("--skew", "90", "--longest-token-lifetime", "24h", "--ca-file", "ca", "--no-verify", "--use-kubernetes"),
        "--allow-private",
        rotation=True,
    )
    assert found == IssuerSettings(
        issuer="https://a.example.com",
        former_issuer=True,
        jwks_uri="https://a.example.com/k",
        kubeconfig="k",
        context="c",
        api_servers=("https://one", "https://two"),
        public_keys=("a.pub", "b.pub"),
        jwks=("jwks.json",),
        to=(TargetSettings(url="file:///a"),),
        state="configmap:ns/state",
        namespace="ns",
        cache_control="no-cache",
        cache_seconds=3600,
        skew_seconds=90,
        longest_token_seconds=86400,
        ca_file="ca",
        verify=False,
        allow_private=True,
        use_kubernetes=True,
    )


def test_every_setting_has_a_flag_and_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fields of the file and the options of the command line are the same list."""
    from wif.cli import issuer_options as module

    names = {option.setting for option in module._OPTIONS}
    assert names == set(IssuerSettings.__struct_fields__)
    monkeypatch.setenv("WIF_ISSUER_ISSUER", "https://a.example.com")
    monkeypatch.setenv("WIF_ISSUER_TO", "file:///a file:///b")
    monkeypatch.setenv("WIF_ISSUER_VERIFY", "false")
    found = settings()
    assert (found.issuer, [target.url for target in found.to]) == ("https://a.example.com", ["file:///a", "file:///b"])
    assert not found.verify
    assert settings("--issuer", "https://b.example.com").issuer == "https://b.example.com"  # a flag wins


def test_an_unknown_variable_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WIF_ISSUER_STAET", "x")
    settings("--issuer", "https://a.example.com")
    assert "WIF_ISSUER_STAET is not known" in capsys.readouterr().err


def test_a_targets_settings_stand_behind_its_question_mark() -> None:
    query = "endpoint=https%3A%2F%2Fminio.example.com&region=eu-central-1&clouds=aws,gcp&single_writer=true"
    found = settings("--to", f"s3://bucket/a?{query}&second_way_in=standard-chain&ca_file=ca&allow_http=no")
    assert found.to == (
        TargetSettings(
            url="s3://bucket/a",
            endpoint="https://minio.example.com",
            region="eu-central-1",
            clouds=("aws", "gcp"),
            single_writer=True,
            second_way_in="standard-chain",
            ca_file="ca",
        ),
    )
    assert settings("--to", "s3://bucket/a", "--single-writer").to[0].single_writer


@pytest.mark.parametrize("query", ["x", "region=a&region=b", "allow_http=perhaps", "url=s3://other"])
def test_a_query_that_says_nothing_clear_is_refused(query: str) -> None:
    with pytest.raises(click.UsageError):
        settings("--to", f"s3://bucket/a?{query}")


@pytest.mark.parametrize("query", ["colour=red", "clouds=oracle", "region="])
def test_a_query_is_held_to_the_rules_of_the_file(query: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings("--to", f"s3://bucket/a?{query}")
    assert caught.value.code == "config-invalid"
    assert "the command line" in caught.value.message


def test_the_word_single_writer_needs_a_target_to_be_said_of() -> None:
    with pytest.raises(click.UsageError, match="goes with --to"):
        settings("--issuer", "https://a.example.com", "--single-writer")


ONE = {"issuer": "https://one.example.com", "to": [{"url": "file:///one"}]}
TWO = {"issuer": "https://two.example.com", "to": [{"url": "file:///two"}], "verify": False}


def test_the_only_issuer_of_the_file_needs_no_name() -> None:
    write({"issuers": {"one": ONE}})
    [found] = chosen()
    assert (found.name, found.settings.issuer, list(found.known)) == ("one", "https://one.example.com", ["one"])
    assert not settings("--no-verify").verify  # and flags are laid over it
    assert settings("--no-verify").to == (TargetSettings(url="file:///one"),)


def test_one_of_several_is_named() -> None:
    write({"issuers": {"one": ONE, "two": TWO}})
    assert [one.name for one in chosen("--name", "two")] == ["two"]
    assert [one.name for one in chosen("--name", "two", "--name", "one", "--name", "two")] == ["two", "one"]
    assert [one.name for one in chosen("--all")] == ["one", "two"]
    assert [one.settings.verify for one in chosen("--all", "--verify")] == [True, True]
    for words in ([], ["--name", "three"], ["--all", "--name", "one"]):
        with pytest.raises(click.UsageError):
            chosen(*words)
    with pytest.raises(click.UsageError, match="one issuer"):
        chosen("--name", "one", "--name", "two", several=False)


def test_what_is_of_one_issuer_is_not_laid_over_many() -> None:
    write({"issuers": {"one": ONE, "two": TWO}})
    for flag in ("--issuer", "--to", "--state", "--jwks-uri", "--public-key", "--jwks"):
        with pytest.raises(click.UsageError, match=flag):
            chosen("--all", flag, "file:///x")


def test_an_issuer_described_by_flags_asks_no_file() -> None:
    write({"issuers": {"one": ONE}})
    [found] = chosen("--issuer", "https://a.example.com")
    assert (found.name, found.settings.to, dict(found.known)) == ("", (), {})


def test_without_a_file_the_cluster_says_which_issuer() -> None:
    [found] = chosen("--kubeconfig", "k")
    assert (found.settings.issuer, found.settings.kubeconfig) == (None, "k")
    with pytest.raises(click.UsageError, match="no issuer 'one'"):
        chosen("--name", "one")
    with pytest.raises(click.UsageError, match="no section of issuers"):
        chosen("--all")


def test_a_file_that_merely_lies_there_may_not_say_whom_to_trust() -> None:
    write({"issuers": {"one": ONE | {"kubeconfig": "k"}}})
    with pytest.raises(ConfigurationError) as caught:
        chosen()
    assert caught.value.code == "host-not-allowed"
    write({"issuers": {"one": ONE | {"kubeconfig": "k"}}}, "named.yaml")
    assert chosen("--config-file", "named.yaml")[0].settings.kubeconfig == "k"
