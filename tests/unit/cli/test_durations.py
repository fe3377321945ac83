"""Lengths of time: what is typed, what is refused, what is shown."""

from __future__ import annotations

import contextlib

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from wif.cli.durations import MAX_SECONDS, Duration, parse_duration, show_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("86400", 86_400),
        ("24h", 86_400),
        ("1h30m", 5_400),
        ("1d", 86_400),
        ("1d2h3m4s", 93_784),
        ("90s", 90),
        ("4294967296", MAX_SECONDS),
    ],
)
def test_what_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "h", "-1", "+1", "1.5h", "30m1h", "1h 30m", "24H", "1w", "4294967297", "1193047h", "٣", "٣h", "9" * 40],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"length of time|longer than"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (-5, "0s"), (12.4, "12s"), (5_400, "1h 30m"), (93_784, "1d 2h"), (86_401, "1d 1s")]
)
def test_what_is_shown(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@given(st.text(max_size=20))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_duration(text) <= MAX_SECONDS


def test_the_option_says_how_it_is_written() -> None:
    @click.command()
    @click.option("--wait", type=Duration(), default=60)
    def show(wait: int) -> None:
        click.echo(wait)

    run = CliRunner().invoke
    assert run(show, ["--wait", "1h"]).output == "3600\n"
    assert run(show, []).output == "60\n"
    refused = run(show, ["--wait", "soon"])
    assert refused.exit_code == 2
    assert "24h or 1h30m" in refused.output
