"""AWS' container credentials: what each state is answered with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from wif.clouds import aws_container
from wif.clouds.aws_container import ERRORS, answer, failed, identity_named, is_authorized, refuse
from wif.clouds.endpoint_answers import Answer
from wif.core.credentials import AwsCredentials
from wif.errors import RefusedError, TransportError, UnavailableError, WifError

KEYS = AwsCredentials(
    access_key_id="ASIAEXAMPLE",
    secret_access_key="the secret key",
    session_token="the session token",
    expires_at=datetime(2026, 11, 23, 17, 0, 5, 999_999, tzinfo=UTC),
    lifetime_seconds=3600.0,
    account_id="111122223333",
)


def _document(found: Answer) -> dict[str, Any]:
    assert dict(found.headers)[b"content-type"] == b"application/json"  # Go compares the whole value
    assert dict(found.headers)[b"cache-control"] == b"no-store"
    document: dict[str, Any] = json.loads(found.body)
    return document


def test_keys_have_the_members_that_every_sdk_wants() -> None:
    found = answer(KEYS)
    assert found.status == 200
    assert _document(found) == {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "the secret key",
        "Token": "the session token",
        "Expiration": "2026-11-23T17:00:05Z",  # never later than it is
        "AccountId": "111122223333",
    }


def test_an_account_that_is_not_known_is_left_out() -> None:
    keys = AwsCredentials(
        access_key_id="A", secret_access_key="B", session_token="C", expires_at=KEYS.expires_at, lifetime_seconds=1.0
    )
    assert set(_document(answer(keys))) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}


@pytest.mark.parametrize(
    ("path", "name"),
    [("/aws", None), ("/aws/app", "app"), ("/aws/", ""), ("/aws/app/", "app/"), ("/aws/a/b", "a/b")],
)
def test_the_path_names_the_identity(path: str, name: str | None) -> None:
    assert identity_named(path) == name


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        (b"secret", True),
        (b" secret\t", True),
        (b"Bearer secret", False),
        (b"SECRET", False),
        (b"secre", False),
        (b"", False),
        (None, False),
        ("sécret".encode("latin-1"), False),
    ],
)
def test_only_the_secret_authorizes(given: bytes | None, is_right: bool) -> None:
    assert is_authorized(given, b"secret") is is_right


@pytest.mark.parametrize("given", [None, b"", b" "])
def test_an_empty_secret_authorizes_nobody(given: bytes | None) -> None:
    assert not is_authorized(given, b"")


@pytest.mark.parametrize("problem", sorted(ERRORS))
def test_errors_are_told_in_the_words_of_all_sdks(problem: aws_container.Problem) -> None:
    row, found = ERRORS[problem], refuse(problem)
    assert found.status == row.status
    assert _document(found) == {
        "code": row.code,
        "message": row.message,
        "Code": row.code,
        "Message": row.message,
    }
    # Go and Java try 500 to 504 again: exactly what may pass; the rest is final there
    assert (row.status >= 500) == (problem in ("pending", "outage"))
    assert (b"retry-after" in dict(found.headers)) == (row.status >= 500)


@pytest.mark.parametrize(
    ("error", "is_first", "status", "code", "retry_after"),
    [
        (TransportError("no answer yet", code="timeout"), True, 503, "credentials-pending", b"1"),
        (TransportError("no answer", code="timeout"), False, 503, "timeout", b"5"),
        (UnavailableError("down", code="cloud-unavailable"), True, 503, "cloud-unavailable", b"5"),
        (UnavailableError("wait", code="rate-limited", retry_after_seconds=41.2), False, 503, "rate-limited", b"42"),
        (UnavailableError("wait", code="throttled", retry_after_seconds=0.0), False, 503, "throttled", b"1"),
        (UnavailableError("wait", code="throttled", retry_after_seconds=9e9), False, 503, "throttled", b"300"),
        (RefusedError("no", code="trust-denied"), True, 403, "trust-denied", None),
        (RefusedError("no", code="trust-denied", retry_after_seconds=5.0), False, 403, "trust-denied", None),
    ],
)
def test_a_failed_exchange_is_an_outage_or_final(
    error: WifError, is_first: bool, status: int, code: str, retry_after: bytes | None
) -> None:
    found = failed(error, is_first=is_first)
    assert (found.status, _document(found)["code"]) == (status, code)
    assert dict(found.headers).get(b"retry-after") == retry_after


def test_the_clouds_own_words_are_handed_on_within_bounds() -> None:
    assert (
        _document(failed(RefusedError("no " * 1000, code="trust-denied"), is_first=False))["message"]
        == ("no " * 1000)[:1024]
    )
