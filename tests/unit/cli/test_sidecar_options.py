"""The sidecar's settings: flags, then variables, then wif.yaml; what is wrong with any of them is one list."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from wif.cli.frame import command
from wif.cli.sidecar_options import _ROWS, SidecarSource, sidecar_options, sidecar_source
from wif.config.sidecar import SidecarSettings
from wif.errors import ConfigurationError

ROLE = {"cloud": "aws", "role_arn": "arn:aws:iam::111122223333:role/app", "token_file": "/aws"}
ONE = {"identities": {"app": ROLE}}
BARE = {"identities": {"app": {name: value for name, value in ROLE.items() if name != "token_file"}}}
FILE = {"identity": "app", "kind": "aws-credentials", "path": "/run/aws"}


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WIF_", "AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def source(*words: str) -> SidecarSource:
    found: list[SidecarSource] = []

    @command("run", example="run")
    @sidecar_options
    @click.pass_context
    def run(context: click.Context, /, **_: object) -> None:
        found.append(sidecar_source(context))

    run.main(list(words), standalone_mode=False)
    return found[0]


def settings(*words: str) -> SidecarSettings:
    return source(*words).load()


def wrong(*words: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        settings(*words)
    return caught.value


def write(document: object) -> None:
    Path("wif.yaml").write_text(json.dumps(document))


# -- flags and variables ---------------------------------------------------------------------------------------------


def test_every_setting_has_a_flag() -> None:
    assert {option.setting for option in _ROWS} == set(SidecarSettings.__struct_fields__)


def test_everything_wrong_with_flags_and_values_is_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIF_SIDECAR_GCE_METADATA", "perhaps")
    monkeypatch.setenv("WIF_SIDECAR_PROPAGATION_SECONDS", "soon")
    words = ("--secret-mode", "0999", "--health-address", "nonsense", "--identities", "{", "--default", "app")
    error = wrong(*words, "--allow-host", "a b")
    assert error.code == "config-invalid"
    assert error.message.startswith("the settings of the sidecar: 7 things are wrong: (1) ")
    head, *each = error.several
    assert head == "the settings of the sidecar: 7 things are wrong:"
    assert error.message == f"{head} {'; '.join(each)}"
    assert [line.partition(") ")[2] for line in each] == [
        "--identities is no JSON; write it as the settings file has it",
        "--default 'app' is not CLOUD=NAME",
        "WIF_SIDECAR_PROPAGATION_SECONDS: 'soon' is no length of time; write seconds, or hours and minutes as in 24h"
        " or 1h30m",
        "WIF_SIDECAR_GCE_METADATA: 'perhaps' is none of the yes/no values: true, false, 1, 0",
        "--secret-mode '0999' is no mode in octal digits, e.g. 0440",
        "allow_hosts[0] is wrong: expected a host name",
        "health_address is wrong: expected HOST:PORT, or :PORT for every address",
    ]


def test_what_is_wrong_with_flags_is_told_together_with_the_file() -> None:
    write({"sidecar": {**ONE, "default": {"aws": "nobody"}, "more": 1}})
    said = wrong("--secret-mode", "rw").message
    for part in ("--secret-mode 'rw' is no mode", "default.aws is 'nobody', which is none", "more is not known"):
        assert part in said
    assert "3 things are wrong" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [1,\n", "wif.yaml is not YAML"),
        ('{"sidecar": 1}', "is not a mapping of names"),
        ("allow_hosts: [x]", "sets"),
    ],
)
def test_a_file_that_cannot_be_taken_hides_no_flag(content: str, said: str) -> None:
    Path("wif.yaml").write_text(content)
    alone = wrong()
    assert alone.several == ()
    assert said in alone.message
    head, first, second = wrong("--secret-mode", "0999").several
    assert (head, second) == ("2 things are wrong:", alone.message)
    assert first == "--secret-mode '0999' is no mode in octal digits, e.g. 0440"


@pytest.mark.parametrize("value", ["true", "1", "yes", "false", "0", "no"])
def test_a_switch_is_a_yes_or_no_of_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    write({"sidecar": ONE})
    monkeypatch.setenv("WIF_SIDECAR_FORCE_HOST_NETWORK", value)
    assert settings().force_host_network == (value in ("true", "1", "yes"))
    assert settings("--force-host-network").force_host_network
    assert not settings("--no-force-host-network").force_host_network


def test_a_files_mode_can_be_said_in_json() -> None:
    files = json.dumps([FILE | {"mode": "0640"}])
    assert settings("--identities", json.dumps(ONE["identities"]), "--files", files).files[0].mode == 0o640


# -- what stands above the section -----------------------------------------------------------------------------------


def test_unknown_names_at_the_top_are_told_with_the_rest() -> None:
    write({"siedcar": ONE, "token_fil": "/t"})
    error = wrong()
    assert [line.partition(") ")[2] for line in error.several[1:]] == [
        "wif.yaml has the setting 'siedcar', which is not known",
        "wif.yaml has the setting 'token_fil', which is not known",
        "no identity is named",
    ]
    write({"sidecar": {**ONE, "more": 1}, "propagation_seconds": "x", "aws": {}, "webhook": {}, "issuers": {}})
    assert [line.partition(") ")[2] for line in wrong().several[1:]] == [
        "wif.yaml has propagation_seconds = 'x', expected a whole number",
        "more is not known",
    ]


def test_nothing_but_no_identity_is_told_as_that() -> None:
    assert wrong().code == "config-missing"
    assert wrong("--gce-metadata").message == "no identity is named"


def test_what_stands_at_the_top_counts_where_the_section_does_not_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    top: dict[str, Any] = {"token_file": "/top", "allow_hosts": ["sts.example.com"], "propagation_seconds": 7}
    named = ("--config-file", "wif.yaml")
    write({**top, "sidecar": BARE})
    found = settings(*named)
    assert (found.token_file, found.allow_hosts, found.propagation_seconds) == ("/top", ("sts.example.com",), 7)
    write({**top, "sidecar": {**BARE, "token_file": "/own", "allow_hosts": [], "propagation_seconds": 8}})
    found = settings(*named)
    assert (found.token_file, found.allow_hosts, found.propagation_seconds) == ("/own", (), 8)
    write({**top, "sidecar": BARE})
    assert settings(*named, "--token-file", "/flag").token_file == "/flag"
    monkeypatch.setenv("WIF_TOKEN_FILE", "/variable")
    assert settings(*named).token_file is None  # the exchangers read the variable themselves


def test_a_token_file_at_the_top_may_be_relative_as_for_other_commands() -> None:
    write({"token_file": "token", "sidecar": BARE})
    assert settings().token_file == str(Path("token").absolute())
    write({"token_file": "-", "sidecar": BARE})
    assert wrong().message.endswith("token_file is wrong: expected an absolute path")


# -- a file that merely lay there ------------------------------------------------------------------------------------


def test_all_harms_of_a_file_that_lay_there_are_named_at_once() -> None:
    azure = {"cloud": "azure", "tenant_id": "t", "client_id": "c", "authority_host": "https://x.example"}
    files = [FILE, FILE | {"after": {"command": ["/bin/true"]}}]
    section = {"identities": {"app": ROLE, "b": azure}, "files": files, "secret_file": "/home/me/.bashrc"}
    write({"allow_hosts": ["x.example"], "sidecar": section})
    error = wrong()
    assert error.code == "host-not-allowed"
    assert error.message == (
        "wif.yaml was found in the current directory and sets allow_hosts (names hosts for the token), "
        "sidecar.identities.b.authority_host (names hosts for the token), "
        "sidecar.files (writes credentials to a path), sidecar.secret_file (writes credentials to a path), "
        "sidecar.files[1].after (runs a program or sends a signal)"
    )
    assert error.hint == "if the file is yours, name it: --config-file wif.yaml"


@pytest.mark.parametrize("harm", [{"files": [FILE]}, {"secret_file": "/home/me/.bashrc"}], ids=str)
def test_a_file_that_lay_there_writes_no_file(harm: dict[str, Any]) -> None:
    write({"sidecar": {**ONE, **harm}})
    assert wrong().code == "config-invalid"
    assert settings("--config-file", "wif.yaml").identities
    write({"sidecar": ONE})
    assert settings("--secret-file", "/mine").secret_file == "/mine"


# -- again ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--config-file", "wif.yaml")], ids=["found", "named"])
def test_a_file_that_was_there_and_is_gone_is_called_so(words: tuple[str, ...]) -> None:
    write({"sidecar": ONE})
    read = source(*words)
    before = read.load()
    Path("wif.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"^wif\.yaml is gone") as caught:
        read.load()
    assert caught.value.code == "file-unusable"
    write({"sidecar": ONE})
    assert read.load() == before


def test_a_named_file_that_never_was_there_cannot_be_read() -> None:
    assert "cannot be read: No such file" in wrong("--config-file", "no.yaml").message
