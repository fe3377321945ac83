"""What an object store's refusal means: obstore's exceptions as errors of this package, without what they quote.

obstore tells a failure by a text that quotes the whole answer, and S3 answers a wrong signature with the signed
headers, the session token among them. Status and the store's own code are taken from it, nothing else, and the
exception does not travel as a cause.
"""

from __future__ import annotations

__all__ = ["Failure", "Operation", "failure_of", "refusal"]

import re
from typing import Literal, NamedTuple

from wif.errors import ConfigurationError, RefusedError, UnavailableError, WifError

Operation = Literal["read", "write", "delete"]

_STATUS = re.compile(r"Server returned non-2xx status code: ([0-9]{3})")
_CODE = re.compile(r"<Code>([A-Za-z][A-Za-z0-9]{0,63})</Code>")
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*([A-Za-z]{1,40})")

_NO_PLACE = ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "NoSuchContainer", "InvalidBucketName")
_ENDED = (
    "ExpiredToken",
    "TokenRefreshRequired",
    "RequestExpired",
    "InvalidAuthenticationInfo",
    "ExpiredTokenException",
)
_WRONG = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed", "InvalidSecurity")
_CLOCK = ("RequestTimeTooSkewed", "RequestInTheFuture")
_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_UNCONDITIONAL = ("NotImplemented",)
_CONFLICTS = ("AlreadyExistsError", "PreconditionError")

RIGHTS: dict[str, dict[Operation, str]] = {
    "s3": {
        "read": "s3:GetObject on the objects, and s3:ListBucket on the bucket: without it S3 answers 403 for an object "
        "that is not there",
        "write": "s3:PutObject on the objects, and kms:GenerateDataKey where a key of KMS encrypts the bucket",
        "delete": "s3:DeleteObject on the objects",
    },
    "gs": {
        "read": "storage.objects.get and storage.objects.list (roles/storage.objectUser) on the bucket",
        "write": "storage.objects.create and storage.objects.delete (roles/storage.objectUser) on the bucket: to "
        "replace an object takes both",
        "delete": "storage.objects.delete (roles/storage.objectUser) on the bucket",
    },
    "az": {
        "read": "Storage Blob Data Contributor on the container, or read in the SAS token",
        "write": "Storage Blob Data Contributor on the container, or create and write in the SAS token",
        "delete": "Storage Blob Data Contributor on the container, or delete in the SAS token",
    },
}
"""What to grant, by the scheme of the target and what was refused."""


class Failure(NamedTuple):
    """What obstore's exception says."""

    kind: Literal["absent", "conflict", "ended", "timeout", "unavailable", "refused"]
    """``timeout`` and ``unavailable`` leave it open whether a write was done."""
    status: int | None
    code: str | None
    """The store's own, e.g. ``NoSuchBucket``."""
    detail: str
    """One phrase for the message."""


def failure_of(error: Exception) -> Failure:
    """Read obstore's exception.

    Args:
        error: of ``obstore.exceptions``, or the built-in ones that obstore raises.
    """
    text = str(error)
    found = _STATUS.search(text)
    if found is None:
        return _without_answer(error, text)
    status = int(found.group(1))
    named = _CODE.search(text)
    code = named.group(1) if named else None
    detail = f"it answered {status}" + (f" ({code})" if code else "")
    if code in _ENDED or status == 401:
        return Failure("ended", status, code, detail)
    if code not in _NO_PLACE and code not in _UNCONDITIONAL:
        if type(error).__name__ in _CONFLICTS:
            return Failure("conflict", status, code, detail)
        if status == 404:
            return Failure("absent", status, code, detail)
        if status >= 500 or status in (408, 429):
            return Failure("unavailable", status, code, detail)
    return Failure("refused", status, code, detail)


_WITHOUT_ANSWER: tuple[tuple[str, Failure], ...] = (
    ("redirect without LOCATION", Failure("refused", 301, "PermanentRedirect", "it redirects to another region")),
    ("kind: Timeout", Failure("timeout", None, None, "no whole answer within the time allowed")),
    ("kind: Connect", Failure("unavailable", None, None, "no connection to it")),
    ("kind: ", Failure("unavailable", None, None, "the connection broke before a whole answer")),
)
"""What obstore's text says where no status came; the first that fits."""


def _without_answer(error: Exception, text: str) -> Failure:
    if isinstance(error, FileNotFoundError):
        return Failure("absent", None, None, "it is not there")
    if type(error).__name__ in _CONFLICTS:
        return Failure("conflict", None, None, "another version stands there")
    if certificate := _CERTIFICATE.search(text):
        return Failure("refused", None, "tls", f"its certificate is not accepted ({certificate.group(1)})")
    for words, failure in _WITHOUT_ANSWER:
        if words in text:
            return failure
    return Failure("refused", None, None, f"its answer is not one of this protocol ({type(error).__name__})")


def refusal(failure: Failure, *, operation: Operation, target: str, cloud: str, origin: str, path: str) -> WifError:
    """The error of a failure that ends an operation.

    Args:
        failure: what came.
        operation: what was tried.
        target: the target's name.
        cloud: whose store it is.
        origin: whose credentials were used.
        path: the document's path.
    """
    message = f"{target}: cannot {operation} {path}: {failure.detail}"
    code, hint, used = failure.code, None, f"; used was {origin}"
    kind: type[WifError] = RefusedError
    slug = "target-refused"
    if failure.kind == "ended":
        message, hint = message + used, "these credentials have ended or are not accepted: obtain new ones"
    elif failure.kind in ("timeout", "unavailable", "conflict"):
        kind, slug = UnavailableError, "target-unavailable"
        hint = _waiting_hint(failure)
    elif code in _WRONG:
        message, hint = message + used, "check key or token for a slip, that it has not ended, and this machine's clock"
    elif code in _CLOCK:
        hint = "set this machine's clock"
    elif code in _NO_PLACE or failure.kind == "absent":
        hint = "make the bucket or container first, and check its name and account for a slip"
    elif code in _REGION:
        hint = "name the bucket's own region: region in wif.yaml, or AWS_REGION"
    elif code in _UNCONDITIONAL:
        kind, slug = ConfigurationError, "precondition-missing"
    elif code == "tls":
        hint = "name the authority of the endpoint: ca_file in wif.yaml"
    elif failure.status == 403:
        message, hint = message + used, f"grant it {RIGHTS[target.partition(':')[0]][operation]}"
    elif failure.status is None:
        hint = "check what answers at this endpoint"
    return kind(message, code=slug, hint=hint, cloud=cloud, cloud_code=code, status=failure.status)


def _waiting_hint(failure: Failure) -> str | None:
    if failure.kind == "conflict":
        return "look for a lease, a lock or a retention rule on the object: it refuses writes though nobody changes it"
    if failure.status == 429 or failure.code in ("SlowDown", "ServerBusy"):
        return "the target asks to slow down: let fewer publishers write it, and run it again"
    return None
