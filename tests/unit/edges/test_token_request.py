"""TokenRequest's JSON of both directions."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.edges.token_request import BoundObject, IssuedToken, TokenRequest
from wif.errors import ConfigurationError, UnavailableError


def test_the_request_is_kubernetes_own() -> None:
    request = TokenRequest(
        namespace="prod",
        service_account="app",
        audiences=("a", "b"),
        expiration_seconds=600,
        bound_object=BoundObject(kind="Pod", name="app-0", uid="u"),
    )
    assert request.path == "/api/v1/namespaces/prod/serviceaccounts/app/token"
    assert json.loads(request.body()) == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": ["a", "b"],
            "expirationSeconds": 600,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "app-0", "uid": "u"},
        },
    }


def test_a_bound_object_without_uid_leaves_it_out() -> None:
    bound = BoundObject(kind="Secret", name="s")
    body = json.loads(TokenRequest(namespace="a", service_account="b", bound_object=bound).body())
    assert body["spec"]["boundObjectRef"] == {"apiVersion": "v1", "kind": "Secret", "name": "s"}


@pytest.mark.parametrize("bound", [BoundObject(kind="ConfigMap", name="a"), BoundObject(kind="Pod", name="../a")])
def test_a_bound_object_that_cannot_be_is_refused(bound: BoundObject) -> None:
    with pytest.raises(ConfigurationError):
        TokenRequest(namespace="a", service_account="b", bound_object=bound)


def test_the_answer_is_read() -> None:
    answer = {"status": {"token": "a.b.c", "expirationTimestamp": "2026-11-23T10:00:00Z"}}
    issued = IssuedToken.from_answer(json.dumps(answer).encode())
    assert issued.token == "a.b.c"
    assert issued.expires_at == datetime(2026, 11, 23, 10, tzinfo=UTC)
    assert "a.b.c" not in repr(issued)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"status":1}',
        b'{"status":{"token":"","expirationTimestamp":"2026-11-23T10:00:00Z"}}',
        b'{"status":{"token":1,"expirationTimestamp":"2026-11-23T10:00:00Z"}}',
        b'{"status":{"token":"a","expirationTimestamp":"soon"}}',
        b'{"status":{"token":"a","expirationTimestamp":"2026-11-23T10:00:00"}}',
        b'{"status":{"token":"a","expirationTimestamp":5}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_an_answer_without_token_is_one_error(body: bytes) -> None:
    with pytest.raises(UnavailableError) as caught:
        IssuedToken.from_answer(body)
    assert caught.value.code == "cluster-unavailable"


@given(st.binary(max_size=200))
def test_any_answer_is_a_token_or_one_error(body: bytes) -> None:
    with pytest.raises(UnavailableError):
        IssuedToken.from_answer(body)
