"""Queries and headers of local credential endpoints."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from wif.clouds.endpoint_requests import header_values, parameters, seconds_left
from wif.core.credentials import AccessToken
from wif.errors import ConfigurationError


def test_a_query_is_decoded() -> None:
    assert parameters(b"resource=https%3A%2F%2Fvault.azure.net&client_id=&a=b+c") == {
        "resource": "https://vault.azure.net",
        "client_id": "",
        "a": "b c",
    }
    assert parameters(b"") == {}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"client_id=a&client_id=b", "the query names a parameter twice"),
        (b"client_id=a&client_id=a", "the query names a parameter twice"),
        (b"a=%ff", "the query cannot be read"),
        (b"a=\xff", "the query cannot be read"),
        (b"&".join(b"p%d=1" % number for number in range(17)), "the query cannot be read"),
    ],
)
def test_what_two_readers_would_read_in_two_ways_is_refused(query: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parameters(query)
    assert (caught.value.code, caught.value.message) == ("parameter-invalid", message)


def test_every_value_of_a_header_is_seen() -> None:
    headers = [(b"metadata", b" true "), (b"other", b"x"), (b"metadata", b"false")]
    assert header_values(headers, b"metadata") == (b"true", b"false")
    assert header_values(headers, b"none") == ()


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (1000.0, 3600),
        (1000.9, 3599),
        (4599.5, 0),
        (5000.0, 0),
        (0.0, 3600),  # the clock was set back: the token has not grown younger than it ever was
    ],
)
def test_what_is_left_is_counted_now_in_whole_seconds(now: float, left: int) -> None:
    token = AccessToken(token="t", expires_at=datetime.fromtimestamp(4600, UTC), lifetime_seconds=3600.0)
    assert seconds_left(token, now) == left
