"""What obstore's texts mean: status and the store's own code, whatever the rest of the answer says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from wif.edges.stores.object_errors import Failure, Operation, failure_of, refusal

MISLEADING = "Server returned non-2xx status code: 404 kind: Timeout InvalidCertificate(UnknownIssuer)"


def answered(status: int, code: str, rest: str = MISLEADING) -> str:
    return (
        "Generic S3 error: Error performing PUT http://h/b/k in 1ms - "
        f"Server returned non-2xx status code: {status} Some Words: <Error><Code>{code}</Code><M>{rest}</M></Error>"
        f"\n\nDebug source:\nGeneric {{ kind: Timeout, body: {rest} }}"
    )


def broken(kind: str) -> str:
    return f"Generic S3 error: Error performing GET http://h/b/k - HTTP error\n\nDebug source:\n {kind}"


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        (GenericError(answered(500, "InternalError")), "unavailable", 500, "InternalError"),
        (GenericError(answered(503, "SlowDown")), "unavailable", 503, "SlowDown"),
        (GenericError(answered(429, "X")), "unavailable", 429, "X"),
        (GenericError(answered(400, "ExpiredToken")), "ended", 400, "ExpiredToken"),
        (UnauthenticatedError(answered(401, "X")), "ended", 401, "X"),
        (PermissionDeniedError(answered(403, "AccessDenied")), "refused", 403, "AccessDenied"),
        (PreconditionError(answered(412, "PreconditionFailed")), "conflict", 412, "PreconditionFailed"),
        (AlreadyExistsError(answered(409, "BlobAlreadyExists")), "conflict", 409, "BlobAlreadyExists"),
        (PreconditionError(answered(404, "NoSuchKey")), "conflict", 404, "NoSuchKey"),
        (PreconditionError(answered(404, "NoSuchBucket")), "refused", 404, "NoSuchBucket"),
        (FileNotFoundError(answered(404, "NoSuchKey")), "absent", 404, "NoSuchKey"),
        (FileNotFoundError(answered(404, "ContainerNotFound")), "refused", 404, "ContainerNotFound"),
        (GenericError(answered(501, "NotImplemented")), "refused", 501, "NotImplemented"),
        (FileNotFoundError("gone"), "absent", None, None),
        (AlreadyExistsError("there"), "conflict", None, None),
        (PreconditionError("other"), "conflict", None, None),
        (GenericError(broken("Http( HttpError { kind: Timeout,")), "timeout", None, None),
        (GenericError(broken("kind: Connect, source: tcp connect error")), "unavailable", None, None),
        (GenericError(broken("kind: Interrupted, IncompleteMessage")), "unavailable", None, None),
        (GenericError(broken("kind: Connect, InvalidCertificate(\n   Expired,\n)")), "refused", None, "tls"),
        (GenericError("Received redirect without LOCATION, this"), "refused", 301, "PermanentRedirect"),
        (GenericError("something new"), "refused", None, None),
    ],
)
def test_what_a_text_means(error: Exception, kind: str, status: int | None, code: str | None) -> None:
    found = failure_of(error)
    assert (found.kind, found.status, found.code) == (kind, status, code)


@given(st.text(), st.sampled_from([GenericError, PermissionDeniedError, PreconditionError, FileNotFoundError]))
def test_any_text_is_understood_and_not_repeated(text: str, kind: type[Exception]) -> None:
    secret = "s3cr3t-value"
    found = failure_of(kind(f"{text} status code: 403 {secret} <Code>{secret}</Code>"))
    assert secret not in str(found)


@pytest.mark.parametrize(
    ("failure", "operation", "slug", "hint"),
    [
        (Failure("ended", 400, "ExpiredToken", "x"), "read", "target-refused", "have ended"),
        (Failure("refused", 403, "SignatureDoesNotMatch", "x"), "write", "target-refused", "check key or token"),
        (Failure("refused", 403, "RequestTimeTooSkewed", "x"), "write", "target-refused", "clock"),
        (Failure("refused", 404, "NoSuchBucket", "x"), "read", "target-refused", "make the bucket"),
        (Failure("absent", 404, None, "x"), "write", "target-refused", "make the bucket"),
        (Failure("refused", 301, "PermanentRedirect", "x"), "read", "target-refused", "region"),
        (Failure("refused", 400, "AuthorizationHeaderMalformed", "x"), "read", "target-refused", "region"),
        (Failure("refused", 501, "NotImplemented", "x"), "write", "precondition-missing", "--single-writer"),
        (Failure("refused", None, "tls", "x"), "read", "target-refused", "ca_file"),
        (Failure("refused", 403, "AccessDenied", "x"), "read", "target-refused", "s3:ListBucket"),
        (Failure("refused", 403, None, "x"), "delete", "target-refused", "s3:DeleteObject"),
        (Failure("refused", None, None, "x"), "read", "target-refused", "what answers at this endpoint"),
        (Failure("refused", 418, None, "x"), "read", "target-refused", "bucket, container or provider exists"),
        (Failure("timeout", None, None, "x"), "read", "target-unavailable", "check the network"),
        (Failure("unavailable", 503, "SlowDown", "x"), "read", "target-unavailable", "asks to slow down"),
        (Failure("conflict", 412, None, "x"), "write", "target-unavailable", "a lease"),
    ],
)
def test_every_failure_says_what_to_do(failure: Failure, operation: Operation, slug: str, hint: str) -> None:
    error = refusal(failure, operation=operation, target="s3://b/p", cloud="aws", origin="the origin", path="jwks")
    assert error.code == slug
    assert hint in (error.hint or "")
    assert f"s3://b/p: cannot {operation} jwks: x" in error.message
    assert error.retryable is (slug == "target-unavailable")
    assert (error.cloud, error.cloud_code, error.status) == ("aws", failure.code, failure.status)
