"""Credentials show no secret."""

from __future__ import annotations

from datetime import UTC, datetime

from wif.core.credentials import AccessToken, AwsCredentials

END = datetime(2026, 1, 1, tzinfo=UTC)


def test_aws_keys() -> None:
    keys = AwsCredentials(
        access_key_id="ASIA1",
        secret_access_key="s3cret-key",
        session_token="s3cret-token",
        expires_at=END,
        lifetime_seconds=1.0,
    )
    assert "ASIA1" in repr(keys)
    assert "s3cret" not in repr(keys) + str(keys)


def test_bearer_tokens() -> None:
    token = AccessToken(token="s3cret", expires_at=END, lifetime_seconds=1.0)
    assert "s3cret" not in repr(token) + str(token)
