"""The real aiobotocore against the local STS: by itself, from a written file, and with an exchanger's keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import CredentialRetrievalError

import wif
from tests.integration.children import run
from tests.integration.led_pod import ROLE, LedPod, led_pod
from wif.edges.transport import Transport
from wif.emulator.faults import Injection

ARN = "arn:aws:sts::111122223333:assumed-role/app/"
WHO = """
import asyncio, json, aiobotocore.session
async def main():
    async with aiobotocore.session.get_session().create_client("sts") as client:
        return (await client.get_caller_identity())["Arn"]
print(json.dumps({"arn": asyncio.run(main())}))
"""
WHO_BY_WIF = """
import asyncio, json, wif
async def main():
    async with wif.sdk.aws.aio_session().create_client("sts") as client:
        return (await client.get_caller_identity())["Arn"]
print(json.dumps({"arn": asyncio.run(main())}))
"""


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedPod]:
    with led_pod(tmp_path_factory.mktemp("led")) as pod:
        yield pod


@pytest.fixture
def inside(pod: LedPod, monkeypatch: pytest.MonkeyPatch) -> LedPod:
    """The pod's environment for aiobotocore in this process."""
    pod.enter(monkeypatch)
    return pod


@pytest.fixture
def exchanges(pod: LedPod) -> Iterator[Injection]:
    with pod.slow("aws", "AssumeRoleWithWebIdentity") as injection:
        yield injection


def _exchanger(pod: LedPod, **settings: object) -> wif.AwsExchanger:
    transport = Transport("aws", environ=pod.environment)
    arguments = {"source": pod.tokens / "aws", "region": "eu-central-1", "transport": transport, "environ": {}}
    return wif.aws(ROLE, **(arguments | settings))  # type: ignore[arg-type]  # a dict of settings


async def _identities(session: Any, times: int) -> set[str]:
    async with session.create_client("sts") as client:
        answers = await asyncio.gather(*(client.get_caller_identity() for _ in range(times)))
    return {answer["Arn"] for answer in answers}


def test_aiobotocore_from_the_environment(pod: LedPod) -> None:
    assert run(pod.environment, WHO)["arn"].startswith(ARN)


@pytest.mark.parametrize("file", ["config", "config-process"])
def test_aiobotocore_from_a_config_file(pod: LedPod, tmp_path: Path, file: str) -> None:
    changes: dict[str, str | None] = dict.fromkeys(("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"))
    path = pod.configure(tmp_path / "wif") / "aws" / file
    assert run(pod.environment, WHO, **changes, AWS_CONFIG_FILE=str(path), AWS_PROFILE="wif")["arn"].startswith(ARN)


def test_wif_from_the_environment(pod: LedPod, exchanges: Injection) -> None:
    assert run(pod.environment, WHO_BY_WIF)["arn"].startswith(f"{ARN}default.app-0")
    assert exchanges.taken == 1


def test_tasks_share_one_exchange(inside: LedPod, exchanges: Injection) -> None:
    with _exchanger(inside, duration_seconds=900) as exchanger:
        assert len(asyncio.run(_identities(wif.sdk.aws.aio_session(exchanger), 64))) == 1
        assert exchanger.statistics.exchanges == exchanges.taken == 1


def test_a_session_of_900_seconds_makes_one_exchange_for_a_thousand_calls(inside: LedPod, exchanges: Injection) -> None:
    async def main(session: Any) -> None:
        async with session.create_client("sts") as client:
            for _ in range(10):
                await asyncio.gather(*(client.get_caller_identity() for _ in range(10)))
                await asyncio.gather(*(client.generate_presigned_url("get_caller_identity") for _ in range(90)))

    with _exchanger(inside, duration_seconds=900) as exchanger:
        asyncio.run(main(wif.sdk.aws.aio_session(exchanger)))
    assert exchanges.taken == 1


def test_a_refusal_says_why(inside: LedPod) -> None:
    with (
        _exchanger(inside, source=inside.tokens / "gcp") as exchanger,
        pytest.raises(CredentialRetrievalError) as caught,
    ):
        asyncio.run(_identities(wif.sdk.aws.aio_session(exchanger), 1))
    assert isinstance(caught.value.__cause__, wif.RefusedError)
    assert caught.value.__cause__.code == "audience-mismatch"
