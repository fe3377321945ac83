"""The real boto3 against the local STS: by itself, from files, and with an exchanger's credentials."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import CredentialRetrievalError

import wif
from tests.integration.children import run
from tests.integration.led_pod import AUDIENCES, ROLE, LedPod, pod
from wif.edges.transport import Transport
from wif.emulator.faults import Injection

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("sdk-aws")]

ARN = "arn:aws:sts::111122223333:assumed-role/app/"
WHO = """
import json, boto3
client = boto3.client("sts")
print(json.dumps({"arn": client.get_caller_identity()["Arn"], "endpoint": client.meta.endpoint_url}))
"""
WHO_BY_WIF = """
import json, wif
exchanger = wif.from_env().aws
client = wif.sdk.aws.session(%s).client("sts")
arns = {client.get_caller_identity()["Arn"] for _ in range(20)}
print(json.dumps({"arn": min(arns), "arns": len(arns), "endpoint": client.meta.endpoint_url,
                  "exchanges": exchanger.statistics.exchanges}))
"""


@pytest.fixture
def inside(pod: LedPod, monkeypatch: pytest.MonkeyPatch) -> LedPod:
    """The pod's environment for boto3 in this process."""
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


# -- boto3 by itself -----------------------------------------------------------------------------------------------


def test_boto3_from_the_environment(pod: LedPod) -> None:
    assert run(pod.environment, WHO)["arn"].startswith(ARN)


@pytest.mark.parametrize("file", ["config", "config-process"])
def test_boto3_from_a_config_file(pod: LedPod, tmp_path: Path, file: str) -> None:
    answer = run(
        pod.environment,
        WHO,
        AWS_ROLE_ARN=None,
        AWS_WEB_IDENTITY_TOKEN_FILE=None,
        AWS_REGION=None,
        AWS_DEFAULT_REGION=None,
        AWS_CONFIG_FILE=str(pod.configure(tmp_path / "wif") / "aws" / file),
        AWS_PROFILE="wif",
    )
    assert answer["arn"].startswith(ARN)
    assert answer["endpoint"] == "https://sts.eu-west-1.amazonaws.com"


# -- boto3 with an exchanger ---------------------------------------------------------------------------------------


def test_wif_from_the_environment(pod: LedPod, exchanges: Injection) -> None:
    answer = run(pod.environment, WHO_BY_WIF % "exchanger")
    assert answer["arn"].startswith(f"{ARN}default.app-0")
    assert (answer["arns"], answer["exchanges"], exchanges.taken) == (1, 1, 1)


def test_wif_finds_the_environment_by_itself(pod: LedPod, exchanges: Injection) -> None:
    assert run(pod.environment, WHO_BY_WIF % "")["arn"].startswith(ARN)
    assert exchanges.taken == 1


def test_the_region_is_passed_on_where_boto3_knows_none(pod: LedPod) -> None:
    changes = {"AWS_DEFAULT_REGION": None, "AWS_REGION": "eu-west-1"}
    assert run(pod.environment, WHO_BY_WIF % "", **changes)["endpoint"] == "https://sts.eu-west-1.amazonaws.com"
    assert run(pod.environment, WHO, **changes)["endpoint"] == "https://sts.amazonaws.com", "boto3 by itself"


def test_threads_share_one_exchange(inside: LedPod, exchanges: Injection) -> None:
    with _exchanger(inside) as exchanger:
        client = wif.sdk.aws.session(exchanger).client("sts")
        gate = threading.Barrier(64)

        def call(_: int) -> str:
            gate.wait(20)
            arn: str = client.get_caller_identity()["Arn"]
            return arn

        with ThreadPoolExecutor(64) as pool:
            assert len(set(pool.map(call, range(64)))) == 1
        client.close()
        assert exchanger.statistics.exchanges == exchanges.taken == 1


def test_a_session_of_900_seconds_makes_one_exchange_for_a_thousand_calls(inside: LedPod, exchanges: Injection) -> None:
    with _exchanger(inside, duration_seconds=900) as exchanger:
        client = wif.sdk.aws.session(exchanger).client("sts")
        for _ in range(100):
            client.get_caller_identity()
        for _ in range(900):
            client.generate_presigned_url("get_caller_identity")
        client.close()
        assert exchanger.credentials().lifetime_seconds == pytest.approx(900, abs=2)
        assert exchanges.taken == 1


def test_an_existing_botocore_session(inside: LedPod) -> None:
    existing = botocore.session.Session()
    with _exchanger(inside) as exchanger:
        wif.sdk.aws.session(exchanger, botocore_session=existing)
        client: Any = existing.create_client("sts", region_name="eu-central-1")
        assert client.get_caller_identity()["Arn"].startswith(f"{ARN}default.app-0")
        client.close()


def test_rejected_keys_are_dropped_by_the_caller(inside: LedPod, exchanges: Injection) -> None:
    with _exchanger(inside) as exchanger:
        credentials = wif.sdk.aws.credentials(exchanger)
        first = credentials.access_key
        exchanger.invalidate()
        assert credentials.access_key != first
        assert exchanges.taken == 2


def test_a_refusal_says_why(inside: LedPod, exchanges: Injection, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text((inside.tokens / "gcp").read_text())
    with _exchanger(inside, source=wrong) as exchanger:
        client = wif.sdk.aws.session(exchanger).client("sts")
        with pytest.raises(CredentialRetrievalError) as caught:
            client.get_caller_identity()
        client.close()
    cause = caught.value.__cause__
    assert isinstance(cause, wif.RefusedError)
    assert cause.code == "audience-mismatch"
    assert AUDIENCES["gcp"] in str(caught.value), "the token's own audience is in the hint"
    assert exchanges.taken == 1
