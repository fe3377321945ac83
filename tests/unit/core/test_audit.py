"""The audit record."""

from __future__ import annotations

import json

import pytest

from wif.core.audit import exchange_record, fingerprint
from wif.errors import ConfigurationError, RefusedError, TokenError, TransportError, WifError


def record(error: WifError | None) -> dict[str, object]:
    return dict(
        exchange_record(
            cloud="gcp", operation="token", identity="i", token=None, error=error, attempts=1, duration_seconds=0.5
        )
    )


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "issued"),
        (RefusedError("x", code="trust-denied"), "refused"),
        (TokenError("x", code="token-expired"), "refused"),
        (ConfigurationError("x", code="host-not-allowed"), "refused"),
        (TransportError("x", code="timeout"), "failed"),
    ],
)
def test_outcomes(error: WifError | None, outcome: str) -> None:
    assert record(error)["outcome"] == outcome


def test_what_is_not_known_is_left_out() -> None:
    made = record(RefusedError("x", code="trust-denied", cloud_code="AccessDenied", status=403))
    assert json.loads(json.dumps(made)) == {
        "event": "exchange",
        "outcome": "refused",
        "cloud": "gcp",
        "operation": "token",
        "identity": "i",
        "attempts": 1,
        "duration_seconds": 0.5,
        "code": "trust-denied",
        "clause": "trust",
        "cloud_code": "AccessDenied",
        "status": 403,
    }


def test_a_bearer_token_is_known_by_16_hex_digits() -> None:
    assert fingerprint("abc") == "ba7816bf8f01cfea"
