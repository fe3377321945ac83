"""AdmissionReview: the request as it is read, the response as it is written."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.admission.review import NOTHING, answer, pod_review, read_review
from wif.errors import ProtocolError

POD = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [], "futureField": 1}}


def body(**changes: Any) -> bytes:
    request = {
        "uid": "705ab4f5",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop",
        "name": "p",
        "operation": "CREATE",
        "userInfo": {"username": "somebody", "groups": ["system:nodes"]},
        "object": POD,
        "oldObject": None,
        "dryRun": True,
        "options": {"kind": "CreateOptions"},
        **changes,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def test_a_request_is_read() -> None:
    review = read_review(body())
    assert (review.uid, review.namespace, review.name, review.operation) == ("705ab4f5", "shop", "p", "CREATE")
    assert review.dry_run
    assert review.groups == ("system:nodes",)
    assert review.kind.kind == "Pod"
    assert review.resource.resource == "pods"
    assert json.loads(bytes(review.object)) == POD
    assert review.old_object == NOTHING
    assert review.document is not None
    assert review.document.value == POD
    assert not review.problem


def test_what_a_request_may_leave_out() -> None:
    review = read_review(
        b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "u"}}'
    )
    assert review.api_version == "admission.k8s.io/v1beta1"
    assert not review.dry_run
    assert review.groups == ()
    assert review.document is None
    assert not read_review(body(userInfo={"groups": None})).groups


def test_an_object_that_is_no_pod_keeps_its_uid_for_the_answer() -> None:
    review = read_review(body(object="metadata"))
    assert review.uid == "705ab4f5"
    assert review.document is None
    assert "not a Pod" in review.problem
    other = read_review(body(kind={"kind": "ServiceAccount"}))
    assert other.document is None
    assert not other.problem


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": null}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": ""}}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}',
        b'{"apiVersion": "admission.k8s.io/v2", "kind": "AdmissionReview", "request": {"uid": "u"}}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "Pod", "request": {"uid": "u"}}',
        b'{"request": {"object": "\\"metadata\\":{\\"name\\":\\"fake\\""}}',
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        body(object=POD)[:-9] + b"[" * 100_000,
    ],
)
def test_what_is_no_review_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="not an AdmissionReview") as caught:
        read_review(raw)
    assert caught.value.code == "review-invalid"


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_nothing_but_a_protocol_error_comes_of_any_body(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_review(raw)


def test_a_message_does_not_carry_the_body() -> None:
    raw = (
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": 1, "x": "secret-value"}}'
    )
    with pytest.raises(ProtocolError) as caught:
        read_review(raw)
    assert "secret-value" not in str(caught.value)


def test_a_response_echoes_uid_and_version() -> None:
    review = read_review(body().replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"))
    said = json.loads(answer(review, allowed=True))
    assert said == {
        "apiVersion": "admission.k8s.io/v1beta1",
        "kind": "AdmissionReview",
        "response": {"uid": "705ab4f5", "allowed": True},
    }


def test_a_response_with_everything() -> None:
    review = read_review(body())
    said = json.loads(
        answer(review, allowed=True, patch=b"[]", warnings=["wif: look"], audit_annotations={"injected": "aws=r"})
    )["response"]
    assert said["patchType"] == "JSONPatch"
    assert base64.b64decode(said["patch"]) == b"[]"
    assert said["warnings"] == ["wif: look"]
    assert said["auditAnnotations"] == {"injected": "aws=r"}
    assert "status" not in said


def test_a_refusal_has_a_status() -> None:
    review = read_review(body())
    said = json.loads(answer(review, allowed=False, code=400, message="no"))["response"]
    assert said == {"uid": "705ab4f5", "allowed": False, "status": {"code": 400, "message": "no"}}


def test_a_review_of_a_pod_alone() -> None:
    review = pod_review(json.dumps(POD).encode(), namespace="shop")
    assert (review.operation, review.namespace, review.kind.kind) == ("CREATE", "shop", "Pod")
    assert review.document is not None
    with pytest.raises(ProtocolError):
        pod_review(b"{}", namespace="shop")
