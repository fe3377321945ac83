"""AWS' local endpoint over several identities, in front of a prepared cloud."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.exchange.canned import NOW, Answer, Canned, aws_error, aws_keys, subject_token
from wif.clouds.endpoint_answers import Answer as Answered
from wif.config.sidecar import load_sidecar
from wif.core.freshness import Limits
from wif.exchange.clocks import Clocks
from wif.serve.sidecar_aws import AwsEndpoint
from wif.serve.sidecar_identities import Identities

ROLE = "arn:aws:iam::111122223333:role/app"
SECRET = b"the secret"
ONE: Mapping[str, Any] = {"one": {"cloud": "aws", "role_arn": ROLE}}
TWO: Mapping[str, Any] = {**ONE, "two": {"cloud": "aws", "role_arn": f"{ROLE}-2"}}


class World:
    """A prepared cloud, and an endpoint in front of it."""

    def __init__(self, folder: Path, identities: Mapping[str, Any], *answers: Answer, default: str | None = None):
        self.passed_seconds = 0.0
        self.sender = Canned({"AssumeRoleWithWebIdentity": list(answers)})
        token = folder / "token"
        token.write_text(subject_token())
        section = {"identities": identities, "token_file": str(token), "default": {"aws": default} if default else {}}
        self.identities = Identities(
            load_sidecar(section),
            environ={},
            limits=Limits(attempts=1),
            clocks=Clocks(
                steady=lambda: self.passed_seconds,
                wall=lambda: NOW + self.passed_seconds,
                monotonic=time.monotonic,
            ),
            transport=lambda _: self.sender,
        )
        self.endpoint = AwsEndpoint(self.identities, secret=SECRET)

    def ask(self, path: str = "/aws", authorization: Sequence[bytes] = (SECRET,)) -> Answered:
        headers = [(b"host", b"localhost"), *((b"authorization", each) for each in authorization)]
        return asyncio.run(self.endpoint.handle({"path": path, "headers": headers}))

    def code(self, path: str = "/aws") -> tuple[int, str]:
        answer = self.ask(path)
        return answer.status, json.loads(answer.body)["code"]


def test_one_exchange_and_one_encoding_answer_everybody(tmp_path: Path) -> None:
    world = World(tmp_path, ONE, aws_keys())
    first = world.ask()
    assert first.status == 200
    assert world.ask("/aws/one") is first  # nothing is encoded again
    assert len(world.sender.requests) == 1


def test_another_credential_is_another_answer(tmp_path: Path) -> None:
    world = World(tmp_path, ONE, aws_keys(1), aws_keys(2))
    before = world.ask()
    world.identities.aws["one"].exchanger.invalidate()
    after = world.ask()
    assert (before.status, after.status) == (200, 200)
    assert json.loads(before.body)["AccessKeyId"] != json.loads(after.body)["AccessKeyId"]


@pytest.mark.parametrize("given", [(), (b"wrong",), (SECRET, SECRET), (SECRET, b"wrong"), (b"wrong", SECRET)])
def test_exactly_one_right_secret_is_needed(tmp_path: Path, given: tuple[bytes, ...]) -> None:
    world = World(tmp_path, ONE)
    for path in ("/aws", "/aws/one", "/aws/no"):
        assert world.ask(path, given).status == 401
    assert not world.sender.requests


def test_a_path_without_a_name_needs_a_default(tmp_path: Path) -> None:
    assert World(tmp_path, TWO).code() == (404, "identity-unnamed")
    world = World(tmp_path, TWO, aws_keys(), default="two")
    assert world.ask().status == 200
    assert world.ask("/aws/two") is world.ask()


@pytest.mark.parametrize("path", ["/aws/", "/aws/no", "/aws/one/", "/aws/one/two", "/aws/One"])
def test_a_name_is_taken_exactly(tmp_path: Path, path: str) -> None:
    assert World(tmp_path, ONE).code(path) == (404, "identity-unknown")


def test_a_refusal_is_final_and_is_the_clouds_own(tmp_path: Path) -> None:
    world = World(tmp_path, ONE, aws_error("AccessDenied", "no", 403))
    status, code = world.code()
    assert status == 403
    assert code != "exchange-refused"


def test_a_valid_credential_is_served_whatever_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, ONE, aws_keys(), aws_error("AccessDenied", "no", 403))
    first = world.ask()
    world.passed_seconds = 3200.0  # due long ago
    for _ in range(20):
        assert world.ask() is first
    assert world.identities.aws["one"].exchanger.statistics.exchanges >= 2


def test_after_a_replacement_a_name_is_the_new_ones(tmp_path: Path) -> None:
    world = World(tmp_path, ONE, aws_keys(1), aws_keys(2))
    before = world.ask("/aws/one")
    token = str(tmp_path / "token")
    world.identities.replace(
        load_sidecar({"identities": {"one": {"cloud": "aws", "role_arn": f"{ROLE}-2"}}, "token_file": token})
    )
    assert json.loads(world.ask("/aws/one").body)["AccessKeyId"] != json.loads(before.body)["AccessKeyId"]
