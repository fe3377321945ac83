"""The words of ``wif keys``."""

from __future__ import annotations

from typing import Any

import click
import pytest

from wif.cli.keys import keys_command

KID = "-BzQ7vR0m3kXlF2uYt9sWc1eHn5gJp8aD_o4iK6wLxM"


def parsed(*words: str, command: str = "adopt") -> dict[str, Any]:
    found = keys_command.commands[command]
    with found.make_context(command, list(words)) as context:
        return context.params


@pytest.mark.parametrize("kid", [KID, f"-{KID[:-1]}"])
@pytest.mark.parametrize(
    "words",
    ["KID --yes --reason=ours", "--yes KID --reason ours", "--reason ours --yes KID", "--yes --reason ours -- KID"],
)
def test_a_key_id_that_begins_with_a_hyphen_may_stand_anywhere(words: str, kid: str) -> None:
    found = parsed(*(kid if word == "KID" else word for word in words.split()))
    assert (found["kid"], found["yes"], found["reason"]) == (kid, True, "ours")


def test_one_that_may_be_left_out_is_taken_so_too() -> None:
    assert parsed(KID, command="retire")["kid"] == KID
    assert parsed(command="retire")["kid"] is None


@pytest.mark.parametrize("word", ["-B", "--yess", KID[:-1], f"{KID}x", f"--{'x' * 42}"])
def test_what_is_no_key_id_is_an_option_that_nobody_knows(word: str) -> None:
    with pytest.raises(click.NoSuchOption):
        parsed(word, "--yes")


def test_a_second_one_is_one_too_many() -> None:
    with pytest.raises(click.UsageError, match="unexpected extra argument"):
        parsed("abc", KID)


def test_no_option_could_be_one() -> None:
    options = {option for each in keys_command.commands.values() for shown in each.params for option in shown.opts}
    assert "--issuer" in options
    assert not [option for option in options if len(option) == len(KID)]
