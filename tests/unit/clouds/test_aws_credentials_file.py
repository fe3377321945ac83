"""AWS' shared credentials file: our profiles are replaced, all else stays."""

from __future__ import annotations

import configparser
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from wif.clouds.aws_credentials_file import MARK, foreign_profiles, secrets_in, with_profiles
from wif.core.credentials import AwsCredentials
from wif.errors import ConfigurationError

SECRET = "se/cr+et=="


def keys(serial: int = 1, **changes: str) -> AwsCredentials:
    values = {"access_key_id": f"ASIA{serial}", "secret_access_key": SECRET, "session_token": f"tok/en{serial}=="}
    expires_at = datetime(2026, 11, 23, 18, tzinfo=UTC)
    return AwsCredentials(**{**values, **changes}, expires_at=expires_at, lifetime_seconds=3600)  # type: ignore[arg-type]  # texts


def read(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()  # as botocore has it: no interpolation, nothing twice
    parser.read_string(text)
    return parser


def test_a_new_file() -> None:
    assert with_profiles("", {"default": keys()}) == (
        "[default]\n"
        "# written by wif, and again before these keys expire at 2026-11-23T18:00:00Z\n"
        "aws_access_key_id = ASIA1\n"
        f"aws_secret_access_key = {SECRET}\n"
        "aws_session_token = tok/en1==\n"
    )


def test_several_profiles_share_a_file() -> None:
    both = with_profiles(with_profiles("", {"a": keys(1), "b": keys(2)}), {"b": keys(3)})
    parser = read(both)
    assert parser.get("a", "aws_access_key_id") == "ASIA1"
    assert parser.get("b", "aws_session_token") == "tok/en3=="
    assert both.index("[a]") < both.index("[b]")


def test_what_others_wrote_stays() -> None:
    foreign = "# mine\n[other]\naws_access_key_id = AKIA\nnote = x\n  [not a header]"
    text = with_profiles(foreign, {"default": keys()})
    assert text.startswith(f"{foreign}\n[default]\n")
    assert with_profiles(text, {"default": keys()}) == text, "writing again changes nothing"


def test_a_comment_below_our_profile_is_of_the_next_one_and_stays() -> None:
    others = "\n; of the team\n# ask before you change it\n[other]\naws_access_key_id = AKIA\n"
    text = with_profiles("", {"default": keys(1)}) + others
    assert with_profiles(text, {"default": keys(2)}) == with_profiles("", {"default": keys(2)}) + others
    above = f"[default]\n{MARK}\n# mine\n{others}"  # no setting at all: what is below the mark stays
    assert with_profiles(above, {"default": keys(1)}) == with_profiles("", {"default": keys(1)}) + f"# mine\n{others}"
    twice = f"[default]\n{MARK}\na = b\n# first\n[default]\n{MARK}\na = c\n# second\n"
    assert with_profiles(twice, {"default": keys(1)}).endswith("# first\n# second\n")


def test_the_secrets_of_every_profile_are_found() -> None:
    text = with_profiles(
        "[other]\nAWS_Secret_Access_Key: foreign/key\naws_access_key_id = AKIA\n", {"default": keys(1)}
    )
    assert secrets_in(text) == ("foreign/key", SECRET, "tok/en1==")
    assert secrets_in("# aws_session_token = commented\n") == ()
    assert secrets_in("aws_session_token =\n  first\n\tsecond part\nregion = x\n  y") == ("first", "second", "part")
    assert secrets_in("\r\n \t aws_session_token\t=\t a\r\naws_session_token\n= b") == ("a",)


READ = """
import sys
from datetime import UTC, datetime
from wif.clouds.aws_credentials_file import secrets_in, with_profiles
from wif.core.credentials import AwsCredentials
unit = sys.argv[1]
text = unit * (1024 * 1024 // len(unit))
keys = AwsCredentials(
    access_key_id="a", secret_access_key="b", session_token="c", expires_at=datetime.now(UTC), lifetime_seconds=1
)
secrets_in(text), with_profiles(text, {"default": keys})
"""
UNITS = ["\n", "\r", " ", "\t\n", " \n", "[", "]", "[]", "[x]\n", "aws_", "aws_\n", "\naws_session_token ", "\x1f\n"]
OURS = [f"[default]\n{MARK}\n", f"[default]\n{MARK}\n \n", "# "]


@pytest.mark.parametrize("unit", UNITS + OURS)
def test_no_text_takes_long_to_read(unit: str) -> None:
    """An application may write to a file that is shared with it, as much as a MiB: in a process that can be ended."""
    done = subprocess.run([sys.executable, "-c", READ, unit], timeout=30, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_profile_of_somebody_else_is_not_replaced() -> None:
    text = "[default]\naws_access_key_id = AKIA\n"
    assert foreign_profiles(text, ["default", "a"]) == ("default",)
    with pytest.raises(ConfigurationError) as caught:
        with_profiles(text, {"default": keys()})
    assert caught.value.code == "config-foreign"


def test_a_profile_that_is_there_twice_is_written_once() -> None:
    twice = f"[default]\n{MARK}\n[default]\n{MARK}\n"
    assert read(with_profiles(twice, {"default": keys()})).sections() == ["default"]


@pytest.mark.parametrize("name", ["access_key_id", "secret_access_key", "session_token"])
@pytest.mark.parametrize("value", ["", "a b", "a\nb", "a\r[default]", "é"])
def test_keys_that_break_the_format_are_refused_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        with_profiles("", {"default": keys(1, **{name: value})})
    assert value not in caught.value.message or not value
    assert SECRET not in str(caught.value)
