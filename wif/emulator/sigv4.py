"""Checking AWS Signature Version 4 of requests to the local STS.

Written from AWS' description ("Create a signed AWS API request"), not from the exchange side's signer; tests hold it
against botocore's. Both places of the signature are known: the Authorization header and the query (a presigned
GetCallerIdentity is how several products prove an AWS identity). Texts are STS' own where they are known.
"""

from __future__ import annotations

__all__ = ["Presented", "SignatureRefused", "check", "presented_by"]

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import gmtime, strftime, strptime
from urllib.parse import parse_qsl, quote

from wif.emulator.wire import Incoming

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW_SECONDS = 15 * 60
"""A signed request is good for 15 minutes either way."""
MAX_PRESIGNED_SECONDS = 7 * 24 * 3600

_TIME = "%Y%m%dT%H%M%SZ"
_STAMP = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_SCOPE = re.compile(r"([A-Za-z0-9]{1,128})/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request", re.ASCII)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^, ]+) *, *SignedHeaders=([^, ]+) *, *Signature=([0-9a-f]{64})", re.ASCII
)
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class SignatureRefused(Exception):
    """The request is not signed as it must be; holds AWS' code, text and status."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a request says about its signature; nothing of it is checked yet."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: Sequence[str]
    signature: str = field(repr=False)
    stamp: str
    session_token: str | None = field(repr=False)
    expires_seconds: int | None
    """Of a presigned request; None where the signature is in a header."""


def presented_by(request: Incoming) -> Presented:
    """Read the signature of a request.

    Raises:
        SignatureRefused: there is none, or it is not one.
    """
    query = dict(parse_qsl(request.query, keep_blank_values=True)) if "X-Amz-Signature" in request.query else {}
    authorization = request.headers.get("authorization", "")
    if query:
        return _presigned(query)
    if not authorization:
        raise SignatureRefused("MissingAuthenticationToken", "Request is missing Authentication Token")
    match = _AUTHORIZATION.fullmatch(authorization.strip())
    if match is None:
        raise SignatureRefused(
            "IncompleteSignature",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters of "
            f"{ALGORITHM} in this order",
            400,
        )
    return _presented(
        credential=match[1],
        signed=match[2],
        signature=match[3],
        stamp=request.headers.get("x-amz-date", ""),
        session_token=request.headers.get("x-amz-security-token"),
        expires=None,
    )


def _presigned(query: dict[str, str]) -> Presented:
    expires = query.get("X-Amz-Expires", "")
    if query.get("X-Amz-Algorithm") != ALGORITHM or not re.fullmatch(r"\d{1,7}", expires, re.ASCII):
        raise SignatureRefused(
            "IncompleteSignature", f"A presigned request requires X-Amz-Algorithm={ALGORITHM} and X-Amz-Expires", 400
        )
    if not 1 <= int(expires) <= MAX_PRESIGNED_SECONDS:
        raise SignatureRefused("IncompleteSignature", "X-Amz-Expires must be between 1 and 604800", 400)
    return _presented(
        credential=query.get("X-Amz-Credential", ""),
        signed=query.get("X-Amz-SignedHeaders", ""),
        signature=query.get("X-Amz-Signature", ""),
        stamp=query.get("X-Amz-Date", ""),
        session_token=query.get("X-Amz-Security-Token"),
        expires=int(expires),
    )


def _presented(
    *, credential: str, signed: str, signature: str, stamp: str, session_token: str | None, expires: int | None
) -> Presented:
    scope = _SCOPE.fullmatch(credential)
    if scope is None:
        raise SignatureRefused(
            "IncompleteSignature", "Credential must be KEYID/YYYYMMDD/REGION/SERVICE/aws4_request", 400
        )
    if not _STAMP.fullmatch(stamp):
        raise SignatureRefused("IncompleteSignature", "Authorization header requires existence of 'X-Amz-Date'", 400)
    names = tuple(signed.split(";"))
    if "host" not in names or list(names) != sorted(names) or signed != signed.lower():
        raise SignatureRefused(
            "SignatureDoesNotMatch", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
        )
    return Presented(
        access_key_id=scope[1],
        date=scope[2],
        region=scope[3],
        service=scope[4],
        signed_headers=names,
        signature=signature,
        stamp=stamp,
        session_token=session_token,
        expires_seconds=expires,
    )


def check(presented: Presented, request: Incoming, *, secret: str, region: str | None, now: float) -> None:
    """Check a signature against a secret access key.

    Args:
        region: the one that the host name stands for; None accepts any (a direct local endpoint).
        now: unix seconds.

    Raises:
        SignatureRefused: wrong scope, outside its time, or another signature.
    """
    if presented.service != "sts":
        raise SignatureRefused("SignatureDoesNotMatch", "Credential should be scoped to correct service: 'sts'. ")
    if region is not None and presented.region != region:
        raise SignatureRefused("SignatureDoesNotMatch", "Credential should be scoped to a valid region. ")
    _check_time(presented, now)
    unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in presented.signed_headers]
    if unsigned and presented.expires_seconds is None:
        raise SignatureRefused("SignatureDoesNotMatch", _MISMATCH)
    text = _string_to_sign(presented, request)
    key = f"AWS4{secret}".encode()
    for part in (presented.date, presented.region, presented.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.digest(key, text, "sha256").hex(), presented.signature):
        raise SignatureRefused("SignatureDoesNotMatch", _MISMATCH)


def _check_time(presented: Presented, now: float) -> None:
    if not presented.stamp.startswith(presented.date):
        raise SignatureRefused(
            "SignatureDoesNotMatch",
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{presented.date}' != '{presented.stamp[:8]}', from '{presented.stamp}'.",
        )
    try:
        signed_at = timegm(strptime(presented.stamp, _TIME))
    except ValueError:
        raise SignatureRefused(
            "IncompleteSignature", f"Date must be in ISO-8601 'basic format'. Got '{presented.stamp}'.", 400
        ) from None
    allowed = MAX_SKEW_SECONDS if presented.expires_seconds is None else presented.expires_seconds
    current = strftime(_TIME, gmtime(now))
    if signed_at + allowed < now:
        limit = strftime(_TIME, gmtime(now - allowed))
        raise SignatureRefused(
            "SignatureDoesNotMatch",
            f"Signature expired: {presented.stamp} is now earlier than {limit} ({current} - {allowed // 60} min.)",
        )
    if signed_at - MAX_SKEW_SECONDS > now:
        limit = strftime(_TIME, gmtime(now + MAX_SKEW_SECONDS))
        raise SignatureRefused(
            "SignatureDoesNotMatch",
            f"Signature not yet current: {presented.stamp} is still later than {limit} ({current} + 15 min.)",
        )


def _string_to_sign(presented: Presented, request: Incoming) -> bytes:
    pairs = [
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(request.query, keep_blank_values=True)
        if name != "X-Amz-Signature"
    ]
    headers = "".join(
        f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in presented.signed_headers
    )
    canonical = "\n".join(
        (
            request.method,
            quote(request.path, safe="/-_.~") or "/",
            "&".join(f"{name}={value}" for name, value in sorted(pairs)),
            headers,
            ";".join(presented.signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{presented.date}/{presented.region}/{presented.service}/aws4_request"
    hashed = hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()
    return f"{ALGORITHM}\n{presented.stamp}\n{scope}\n{hashed}".encode()
