"""The family of errors and the table of its codes."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from wif import errors
from wif.errors import CODES, SubjectChanged, UnavailableError, WifError


@pytest.mark.parametrize("code", CODES)
def test_every_row_is_whole(code: str) -> None:
    row = CODES[code]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert re.fullmatch(r"[a-z]+", row.clause)
    assert row.summary.endswith(".")
    assert row.hint
    assert not row.hint.endswith("."), "a hint is an imperative clause, shown after the message"


def test_an_error_says_what_and_what_next_in_two_lines() -> None:
    error = WifError("what happened", code="trust-denied")
    assert str(error).splitlines() == ["what happened", CODES["trust-denied"].hint]
    assert str(WifError("what happened", code="trust-denied", hint="")) == "what happened"


def test_the_raiser_knows_better_than_the_table() -> None:
    error = WifError("m", code="timeout", clause="clock", hint="h", retryable=False)
    assert (error.clause, error.hint, error.retryable) == ("clock", "h", False)
    assert WifError("m", code="timeout").retryable


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError(
            "m", code="throttled", cloud="aws", cloud_code="Throttling", status=400, retry_after_seconds=3
        ),
        SubjectChanged("m"),
    ],
)
def test_errors_survive_copy_and_pickle(error: WifError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert twin.__dict__ == error.__dict__
        assert str(twin) == str(error)


def test_everything_public_derives_from_one_error() -> None:
    for name in errors.__all__:
        value = getattr(errors, name)
        assert not isinstance(value, type) or issubclass(value, WifError) or name == "CodeInfo"
