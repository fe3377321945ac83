"""The audit record of one exchange: a flat mapping that is also valid JSON, and never holds a token or a key."""

from __future__ import annotations

__all__ = ["exchange_record", "fingerprint"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wif.errors import ConfigurationError, RefusedError, TokenError, WifError

if TYPE_CHECKING:
    from wif.core.token import UnverifiedToken

Value = str | int | float | None


def exchange_record(
    *,
    cloud: str,
    operation: str,
    identity: str,
    token: UnverifiedToken | None,
    error: WifError | None,
    attempts: int,
    duration_seconds: float,
    scopes: Sequence[str] = (),
    region: str | None = None,
    endpoint_host: str | None = None,
    expires_at: str | None = None,
    credential_id: str | None = None,
) -> Mapping[str, Value]:
    """Build the record.

    Args:
        operation: the API's name, e.g. ``AssumeRoleWithWebIdentity``.
        identity: what the subject becomes: a role ARN, a service account or provider, a client id.
        token: the last subject token read, or None where there was none.
        error: None where a credential was issued.
        expires_at: RFC 3339.
        credential_id: what the cloud's own log knows the credential by: an AWS access key id, or for bearer
            tokens :func:`fingerprint`.

    ``outcome`` is ``issued``; ``refused``, where the subject token, a setting or the cloud said no; or ``failed``.
    """
    record: dict[str, Value] = {
        "event": "exchange",
        "outcome": _outcome(error),
        "cloud": cloud,
        "operation": operation,
        "identity": identity,
        "attempts": attempts,
        "duration_seconds": round(duration_seconds, 6),
    }
    if error is not None:
        record |= {"code": error.code, "clause": error.clause, "cloud_code": error.cloud_code, "status": error.status}
    if token is not None:
        record |= {
            "issuer": token.issuer,
            "subject": token.subject,
            "audience": " ".join(token.audience),
            "service_account_uid": token.service_account_uid,
            "pod": token.pod,
            "jti": f"JTI={token.jti}" if token.jti else None,
        }
    record |= {
        "scopes": " ".join(scopes) or None,
        "region": region,
        "endpoint_host": endpoint_host,
        "expires_at": expires_at,
        "credential_id": credential_id,
    }
    return {name: value for name, value in record.items() if value is not None}


def _outcome(error: WifError | None) -> str:
    if error is None:
        return "issued"
    return "refused" if isinstance(error, RefusedError | TokenError | ConfigurationError) else "failed"


def fingerprint(token: str) -> str:
    """The first 16 hex digits of a bearer token's SHA-256."""
    from hashlib import sha256  # noqa: PLC0415  # 4 ms that only a listener of the audit log pays

    return sha256(token.encode()).hexdigest()[:16]
