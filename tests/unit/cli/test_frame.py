"""What every command shares: two lines for a failure, exit statuses, nothing that a terminal would act on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from wif import config
from wif.cli import main
from wif.cli.frame import Command, LazyGroup, surprise
from wif.cli.root import cli
from wif.errors import CODES, ConfigurationError, RefusedError, TokenError, TransportError, WifError


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings from outside, and the log as it was afterwards."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "WIF_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("wif")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield
    logger.level, logger.propagate, logger.handlers[:] = before
    logging.disable(logging.NOTSET)


def failing(error: BaseException) -> click.Command:
    def fail() -> None:
        raise error

    return Command("fail", callback=fail, example="wif fail")


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    cli.commands.pop("fail", None)


@pytest.mark.usefixtures("fails")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigurationError("m", code="config-missing"), 2),
        (TokenError("m", code="token-expired"), 1),
        (RefusedError("m", code="trust-denied", cloud="aws", cloud_code="AccessDenied", status=403), 1),
        (TransportError("m", code="timeout"), 1),
    ],
)
def test_a_failure_has_a_status_two_lines_and_an_object(
    capsys: pytest.CaptureFixture[str], error: WifError, status: int
) -> None:
    cli.add_command(failing(error))
    assert main(["fail"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: m\nhint: {CODES[error.code].hint}\n"
    assert main(["fail", "--json"]) == status
    found = json.loads(capsys.readouterr().out)["error"]
    assert (found["code"], found["clause"], found["retryable"]) == (error.code, error.clause, error.retryable)
    assert found.get("cloud_code") == error.cloud_code


def test_several_wrong_settings_are_a_list_in_text_and_one_line_in_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [ConfigurationError(words, code="config-invalid", hint="correct it") for words in ("one", "t\nwo")]
    monkeypatch.setitem(cli.commands, "fail", failing(ConfigurationError.of_all(parts)))
    assert main(["fail", "--json"]) == 2
    out, err = capsys.readouterr()
    assert err == "error: 2 things are wrong:\n  one\n  t wo\nhint: correct it\n"
    assert json.loads(out)["error"]["message"] == "one; t\nwo"


@pytest.mark.usefixtures("fails")
def test_a_message_cannot_act_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cli.add_command(failing(TokenError("a\x1b[31m\nb\u202ec", code="token-claim", hint="x\r\ny")))
    assert main(["fail"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert not set(err) & {"\x1b", "\r", "\u202e"}


@pytest.mark.usefixtures("fails")
def test_interruption_is_a_status_and_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (KeyboardInterrupt(), click.Abort()):
        cli.add_command(failing(error))
        assert main(["fail"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("fails")
def test_a_traceback_comes_at_debug_alone(capsys: pytest.CaptureFixture[str]) -> None:
    cli.add_command(failing(TokenError("m", code="token-claim")))
    for level in ("info", "warning", "error"):
        assert main(["fail", "--log-level", level]) == 1
        assert "Traceback" not in capsys.readouterr().err
    assert main(["fail", "--log-level", "debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_nobody_expected_is_two_lines_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise LookupError("a secret")
    except LookupError as error:
        surprise(type(error), error, error.__traceback__)
        first = capsys.readouterr().err
        logging.getLogger("wif").setLevel(logging.DEBUG)
        surprise(type(error), error, error.__traceback__)
        second = capsys.readouterr().err
    surprise(KeyboardInterrupt, KeyboardInterrupt(), None)
    surprise(LookupError, LookupError(), None)
    assert first.count("\n") == 2
    assert "a secret" not in first
    assert "LookupError" in first
    assert "Traceback" in second


WRONG = [
    ["nope"],
    ["exchange", "nope"],
    ["exchange", "aws", "--nope"],
    ["exchange", "aws", "stray"],
    ["exchange", "aws", "--duration-seconds", "x"],
    ["exchange", "aws", "--timeout", "0"],
    ["exchange", "aws", "--format", "yaml"],
    ["token", "inspect", "a", "b"],
    ["token", "request"],
    ["token", "request", "--namespace", "n", "--service-account", "s", "--bound-object", "Pod"],
    ["token", "print", "--json", "--format", "raw"],
    ["demo", "--keep-keys"],
    ["emulator", "--port", "70000"],
    ["emulator", "--issuer-documents", "nowhere"],
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_usage_is_status_2(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert [line.partition(":")[0] for line in err.splitlines() if not line.startswith("warning")] == ["error", "hint"]


@pytest.mark.parametrize("words", [[], ["exchange"], ["token"], ["config"], ["whoami"], ["cache"]], ids=" ".join)
def test_a_group_by_itself_shows_its_help(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Commands:" in err


def test_help_lists_groups_without_importing_them(capsys: pytest.CaptureFixture[str]) -> None:
    group = LazyGroup("g", lazy={"never": ("wif.cli.there_is_none", "A line.")}, example="wif g")
    with click.Context(group) as context:
        assert "A line." in group.get_help(context)
    for flag in ("-h", "--help"):
        assert main([flag]) == 0
        assert "Example:" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    short = capsys.readouterr().out
    assert cli.main(["--version"], prog_name="wif", standalone_mode=False) == 0
    assert capsys.readouterr().out == short


def test_settings_files_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["exchange", "aws", "--config-file", "settings"]
    for spoil in (
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: (path.rmdir(), path.write_text("a: [")),
        lambda path: path.write_bytes(b"\xff\x00"),
        lambda path: path.write_text("[" * 5000),
        lambda path: path.write_text("#" * 70_000),
        lambda path: path.write_text("aws: {unknown: 1}"),
        lambda path: path.write_text("!!python/object/apply:os.system [echo]"),
    ):
        spoil(tmp_path / "settings")
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "settings" in err
        assert err.count("\n") == 2


def test_a_settings_file_that_merely_lies_there_names_no_hosts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "wif.yaml").write_text("aws: {endpoint_url: https://evil.example/}")
    assert main(["exchange", "aws"]) == 2
    assert "--config-file wif.yaml" in capsys.readouterr().err
    assert main(["exchange", "aws", "--config-file", "wif.yaml"]) == 2
    assert "no role" in capsys.readouterr().err, "a file that is named may"


@pytest.mark.usefixtures("fails")
def test_an_executable_source_logs_nothing_whatever_happens(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def talk(output_format: str) -> None:
        logging.getLogger("wif.any").error("a line of %s", output_format)

    option = click.Option(["--format", "output_format"])
    cli.add_command(Command("fail", callback=talk, params=[option], example="wif fail"))
    assert main(["fail", "--format", "executable", "--log-level", "debug"]) == 0
    assert capsys.readouterr().err == ""
    assert not caplog.records


@pytest.mark.parametrize(
    "words",
    [
        ["token", "print", "--format", "executable"],
        ["token", "print", "--format=executable", "--file", "missing"],
        ["token", "print", "--nope", "--format", "executable"],
        ["token", "print", "--log-level", "debug", "--format", "executable", "--file", "missing"],
    ],
    ids=" ".join,
)
def test_an_executable_sources_failure_is_an_answer(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["version"], answer["success"]) == (1, False)
    assert answer["code"]
    assert answer["message"]
    assert err == ""


def test_the_reference_names_every_setting() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/cli.md").read_text()
    table = page.partition("| Below | Settings |")[2].partition("\n\n")[0]
    rows = {row.split("|")[1].strip().strip("`"): row for row in table.splitlines()[2:]}
    for setting in config._KINDS:
        cloud, _, name = setting.rpartition(".")
        assert f"`{name}`" in rows[cloud or "the top"], setting
