"""Tokens and answers for the flows of the clouds, and a hand that drives them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pytest

from wif.core.flow import Flow, Request, Response
from wif.core.token import UnverifiedToken, read_token
from wif.errors import WifError

T = TypeVar("T")

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
ISSUER = "https://issuer.example/cluster"
SUBJECT = "system:serviceaccount:shop:cart"
SIGNATURE = "c2lnbmF0dXJlLXRoYXQtbm9ib2R5LW1heS1zZWU"


def encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def jwt(claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
    return f"{encode({'alg': 'RS256', 'kid': 'key-1'} if header is None else header)}.{encode(claims)}.{SIGNATURE}"


def token(*, header: Mapping[str, Any] | None = None, **claims: Any) -> UnverifiedToken:
    """A ServiceAccount token; a claim given as None is left out."""
    whole: dict[str, Any] = {
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": ["sts.example"],
        "exp": NOW + 3600,
        "iat": NOW,
        "nbf": NOW,
        "kubernetes.io": {"namespace": "shop", "pod": {"name": "cart-7d9f-x2x4q"}, "serviceaccount": {"name": "cart"}},
    } | claims
    raw = jwt({name: value for name, value in whole.items() if value is not None}, header)
    return read_token(raw, origin="/var/run/token", now=NOW, check_times=False)


def ask(flow: Flow[T]) -> Request:
    """The first request of a flow."""
    request = next(flow)
    flow.close()
    return request


def answered(flow: Flow[T], response: Response) -> T:
    """The result of a flow of one request."""
    next(flow)
    with pytest.raises(StopIteration) as done:
        flow.send(response)
    result: T = done.value.value
    return result


def refused(flow: Flow[Any], response: Response) -> WifError:
    """The error of a flow of one request; shows no secret and stands in two lines."""
    next(flow)
    with pytest.raises(WifError) as caught:
        flow.send(response)
    error = caught.value
    assert SIGNATURE not in f"{error} {error!r} {error.__dict__}"
    assert "\n" not in error.message
    assert error.hint
    assert not {"\n", "?", "{"} & set(error.hint)
    return error


def said(body: object, status: int = 400, **headers: str) -> Response:
    """A JSON answer."""
    names = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status=status, headers=names, body=json.dumps(body).encode())


Ask = Callable[[], Flow[Any]]
