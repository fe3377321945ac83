"""Signature Version 4 of AWS, for the few calls to its token service that are signed.

Source: AWS Signature Version 4 for API requests. Only what a POST with a form body needs; ``now`` is an argument.
"""

from __future__ import annotations

__all__ = ["signed_headers"]

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from wif.clouds.answers import utc
from wif.core.credentials import AwsCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"


def signed_headers(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: AwsCredentials,
    region: str,
    service: str = "sts",
    now: float,
) -> dict[str, str]:
    """Sign a request whose URL has no query and a path without dot segments.

    Returns the headers given and those that sign the request: X-Amz-Date, X-Amz-Security-Token, Authorization.

    The host is signed as the URL names it, so the sender must send exactly that ``Host``.
    """
    stamp = utc(now).strftime("%Y%m%dT%H%M%SZ")
    result = dict(headers)
    result["X-Amz-Date"] = stamp
    if credentials.session_token:
        result["X-Amz-Security-Token"] = credentials.session_token
    parts = urlsplit(url)
    signed = {name.lower(): " ".join(value.split()) for name, value in result.items()}
    signed["host"] = _host(parts.scheme, parts.hostname or "", parts.port)
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        (
            method,
            quote(parts.path, safe="/-_.~") or "/",
            "",  # no query
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (stamp[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    result["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return result


def _host(scheme: str, host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(scheme)
    return name if port in (None, default) else f"{name}:{port}"
