"""Flows driven to their end, and what they never show."""

from __future__ import annotations

import pytest

from wif.core.flow import Flow, Request, Response, drive


def two_steps() -> Flow[int]:
    first = yield Request(method="POST", url="https://a.example/", operation="first", body=b"1")
    second = yield Request(method="POST", url="https://b.example/", operation="second", body=first.body)
    return int(second.body)


def test_each_answer_is_sent_to_the_flow_and_its_result_is_returned() -> None:
    assert drive(two_steps(), lambda request: Response(status=200, body=request.body + b"0")) == 100


def test_a_flow_without_requests_just_returns() -> None:
    def nothing() -> Flow[str]:
        yield from ()
        return "done"

    assert drive(nothing(), lambda _: pytest.fail("nothing to send")) == "done"


def test_an_error_of_the_sender_comes_through_and_the_flow_is_closed() -> None:
    closed: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield Request(method="GET", url="https://a.example/", operation="o")
        finally:
            closed.append("yes")

    def fail(_: Request) -> Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive(flow(), fail)
    assert closed == ["yes"]


def test_repr_shows_no_secret() -> None:
    request = Request(
        method="POST",
        url="https://a.example/",
        operation="o",
        headers={"Authorization": "Bearer s3cret"},
        body=b"s3cret",
    )
    assert "s3cret" not in repr(request)
    assert "s3cret" not in repr(Response(status=200, body=b"s3cret"))
