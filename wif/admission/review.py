"""The AdmissionReview: the request as it is read, and the response as it is written."""

from __future__ import annotations

__all__ = ["NOTHING", "GroupKind", "Resource", "Review", "answer", "pod_review", "read_review"]

from collections.abc import Mapping, Sequence

import msgspec

from wif.admission.documents import PodDocument
from wif.errors import ProtocolError

VERSIONS = ("admission.k8s.io/v1", "admission.k8s.io/v1beta1")
"""Of AdmissionReviews that are answered; each in its own version."""


class GroupKind(msgspec.Struct, frozen=True):
    """What is under review."""

    group: str = ""
    version: str = ""
    kind: str = ""


class Resource(msgspec.Struct, frozen=True):
    """By which resource it came."""

    group: str = ""
    version: str = ""
    resource: str = ""


class _User(msgspec.Struct, frozen=True):
    groups: tuple[str, ...] | None = None


NOTHING = msgspec.Raw(b"null")
"""The JSON of an object that is not there."""


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    kind: GroupKind = GroupKind()
    resource: Resource = Resource()
    sub_resource: str = ""
    operation: str = ""
    namespace: str = ""
    name: str = ""
    dry_run: bool | None = None
    user_info: _User | None = None
    object: msgspec.Raw = NOTHING
    old_object: msgspec.Raw = NOTHING


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    request: _Request | None = None


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """One question of the API server."""

    uid: str
    api_version: str = VERSIONS[0]
    kind: GroupKind = GroupKind(version="v1", kind="Pod")
    resource: Resource = Resource(version="v1", resource="pods")
    sub_resource: str = ""
    operation: str = "CREATE"
    namespace: str = ""
    name: str = ""
    dry_run: bool = False
    groups: tuple[str, ...] = ()
    """Of the user who asks."""
    object: msgspec.Raw = NOTHING
    """The object's JSON, untouched; ``null`` where there is none."""
    old_object: msgspec.Raw = NOTHING
    document: PodDocument | None = None
    """The object, where it is a pod that could be read."""
    problem: str = ""
    """Why it could not be read."""


_DECODE = msgspec.json.Decoder(_Envelope).decode


def read_review(body: bytes) -> Review:
    """Read a request.

    Raises:
        ProtocolError: review-invalid.
    """
    try:
        envelope = _DECODE(body)
    except RecursionError:
        raise _invalid("it is nested too deep") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _invalid(str(error)) from error
    if envelope.kind != "AdmissionReview" or envelope.api_version not in VERSIONS:
        raise _invalid(
            f"expected kind AdmissionReview of {' or '.join(VERSIONS)}, "
            f"got kind {envelope.kind[:80]!r} of {envelope.api_version[:80]!r}"
        )
    request = envelope.request
    if request is None or not request.uid:
        raise _invalid("it has no request with a uid")
    user = request.user_info
    document, problem = _read_document(request)
    return Review(
        uid=request.uid,
        api_version=envelope.api_version,
        kind=request.kind,
        resource=request.resource,
        sub_resource=request.sub_resource,
        operation=request.operation,
        namespace=request.namespace,
        name=request.name,
        dry_run=bool(request.dry_run),
        groups=(user.groups if user is not None else None) or (),
        object=request.object,
        old_object=request.old_object,
        document=document,
        problem=problem,
    )


def _read_document(request: _Request) -> tuple[PodDocument | None, str]:
    if request.kind.kind != "Pod" or request.object == NOTHING:
        return None, ""
    try:
        return PodDocument(request.object), ""
    except ProtocolError as error:
        return None, error.message


def _invalid(reason: str) -> ProtocolError:
    return ProtocolError(f"the body is not an AdmissionReview that is answered here: {reason}", code="review-invalid")


def pod_review(pod: bytes, *, namespace: str, uid: str = "offline") -> Review:
    """A review as the API server would send it for the creation of this pod (JSON).

    Raises:
        ProtocolError: review-invalid.
    """
    raw = msgspec.Raw(pod)
    return Review(uid=uid, namespace=namespace, object=raw, document=PodDocument(raw))


class _Status(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int = 0
    message: str = ""


class _Response(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    uid: str
    allowed: bool
    patch_type: str | None = None
    patch: bytes | None = None
    status: _Status | None = None
    warnings: Sequence[str] | None = None
    audit_annotations: Mapping[str, str] | None = None


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    response: _Response


_ENCODE = msgspec.json.Encoder().encode


def answer(
    review: Review,
    *,
    allowed: bool,
    patch: bytes | None = None,
    code: int = 0,
    message: str = "",
    warnings: Sequence[str] = (),
    audit_annotations: Mapping[str, str] | None = None,
) -> bytes:
    """The response, in the version of the request; ``patch`` is a JSON array of operations."""
    return _ENCODE(
        _Answer(
            review.api_version,
            "AdmissionReview",
            _Response(
                review.uid,
                allowed,
                None if patch is None else "JSONPatch",
                patch,
                _Status(code, message) if message or not allowed else None,
                warnings or None,
                audit_annotations or None,
            ),
        )
    )
