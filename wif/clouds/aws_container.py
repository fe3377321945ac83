"""AWS' container credentials at run time: the interface that every AWS SDK asks where
``AWS_CONTAINER_CREDENTIALS_FULL_URI`` is set, seen from the side that answers.

Source: the interface of ECS and EKS Pod Identity as botocore 1.44, aws-sdk-go-v2 1.20 (``endpointcreds``) and
``@aws-sdk/credential-provider-http`` 3.972 read it. Go shows an error's text only where the content type is
``application/json`` and nothing more; it reads ``code`` and ``message``, JavaScript ``Code`` and ``Message``.
"""

from __future__ import annotations

__all__ = [
    "DEFAULT_PATH",
    "ERRORS",
    "PENDING_WAIT_SECONDS",
    "ContainerError",
    "answer",
    "failed",
    "identity_named",
    "is_authorized",
    "refuse",
]

import hmac
import json
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from wif.clouds.endpoint_answers import Answer, state_of
from wif.core.credentials import AwsCredentials
from wif.core.freshness import LIMITS
from wif.errors import WifError

DEFAULT_PATH = "/aws"
"""Names the default identity; ``/aws/NAME`` names one."""
PENDING_WAIT_SECONDS = 1.5
"""How long a request waits for the first credential: botocore gives up after 2 s, and asks three times."""
_PENDING_RETRY_SECONDS = 1
_OUTAGE_RETRY_SECONDS = 5
_MAX_MESSAGE_CHARACTERS = 1024
_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")
_HEADERS = (_JSON, _NO_STORE)

Problem = Literal["pending", "refused", "outage", "unknown", "unnamed", "unauthorized"]


class ContainerError(NamedTuple):
    """What one state is answered with."""

    status: int
    code: str
    message: str
    retry_after_seconds: int | None = None


ERRORS: Mapping[Problem, ContainerError] = {
    # What SDKs retry besides: botocore anything but 200 (3 times, 1 s between), JavaScript anything (4 times); Go and
    # Java 500 to 504, and Go 429. None of them asks anybody else afterwards while the variable is set.
    "pending": ContainerError(503, "credentials-pending", "the first exchange has not ended", _PENDING_RETRY_SECONDS),
    "outage": ContainerError(503, "cloud-unavailable", "no exchange succeeds just now", _OUTAGE_RETRY_SECONDS),
    "refused": ContainerError(403, "exchange-refused", "the cloud refuses the exchange"),
    "unauthorized": ContainerError(
        401,
        "secret-wrong",
        "the Authorization header is not what the file of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE says",
    ),
    "unknown": ContainerError(404, "identity-unknown", "no AWS identity of this name is served here"),
    "unnamed": ContainerError(
        404, "identity-unnamed", "several AWS identities are served and none is the default: ask for /aws/NAME"
    ),
}
"""The table of states. A valid credential is answered with 200, whatever else goes on."""


def identity_named(path: str) -> str | None:
    """The identity that a path below ``/aws`` names; None is the default one.

    A name with a slash in it, or that stays empty after one (``/aws/``), is no identity's: it is handed back as it is.
    """
    return None if path == DEFAULT_PATH else path[len(DEFAULT_PATH) + 1 :]


def is_authorized(given: bytes | None, secret: bytes) -> bool:
    """Whether the Authorization header is the secret, but for white space around it; in a time that says nothing.

    An empty secret authorizes nobody.
    """
    return given is not None and bool(secret) and hmac.compare_digest(given.strip(), secret)


def answer(credentials: AwsCredentials) -> Answer:
    """The answer with keys. ``Expiration`` has seconds and a ``Z``, as the SDKs' own examples have it."""
    document = {
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": credentials.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if credentials.account_id:
        document["AccountId"] = credentials.account_id
    return Answer(200, json.dumps(document, separators=(",", ":")).encode(), _HEADERS)


def refuse(problem: Problem) -> Answer:
    """The answer of a state, in the words of the table."""
    return _error(ERRORS[problem])


def failed(error: WifError, *, is_first: bool) -> Answer:
    """The answer where no valid credential is there.

    Args:
        error: the exchange's, which names the identity and the cloud's own words, and no secret.
        is_first: whether no exchange of this identity has ended yet: then a timeout is only this request's.
    """
    if error.code == "timeout" and is_first:
        return refuse("pending")
    row = ERRORS["outage" if state_of(error) == "outage" else "refused"]
    retry = row.retry_after_seconds
    if retry is not None and error.retry_after_seconds is not None:
        retry = max(1, min(int(LIMITS.retry_after_max_seconds), math.ceil(error.retry_after_seconds)))
    return _error(row._replace(code=error.code, message=error.message, retry_after_seconds=retry))


def _error(row: ContainerError) -> Answer:
    message = row.message[:_MAX_MESSAGE_CHARACTERS]
    document = {"code": row.code, "message": message, "Code": row.code, "Message": message}
    retry = () if row.retry_after_seconds is None else ((b"retry-after", b"%d" % row.retry_after_seconds),)
    return Answer(row.status, json.dumps(document).encode(), (*_HEADERS, *retry))
