"""aiobotocore with an exchanger's keys: real sessions and clients, no network."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiobotocore.credentials
import aiobotocore.session
import botocore.config
import pytest
from botocore.exceptions import CredentialRetrievalError

import wif.sdk
from tests.unit.sdk.counting import CountingAws
from wif.errors import ConfigurationError, RefusedError
from wif.sdk import aiobotocore as sdk


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def _presigned(session: aiobotocore.session.AioSession, times: int = 1) -> list[str]:
    config = botocore.config.Config(signature_version="v4")
    async with session.create_client("s3", config=config) as client:
        made = [client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}) for _ in range(times)]
        urls: list[str] = await asyncio.gather(*made)
        return urls


def test_a_client_signs_with_the_exchangers_keys() -> None:
    [url] = asyncio.run(_presigned(sdk.session(CountingAws())))
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Credential"][0].startswith("ASIA0000000000000001/")
    assert query["X-Amz-Security-Token"] == ["session-1"]


@pytest.mark.parametrize("life_seconds", [900.0, 600.0, 3600.0])
def test_one_exchange_for_a_thousand_calls(life_seconds: float) -> None:
    exchanger = CountingAws(life_seconds)
    urls = asyncio.run(_presigned(sdk.session(exchanger), 1000))
    assert len(urls) == 1000
    assert exchanger.exchanges == 1


def test_one_exchange_for_each_refresh() -> None:
    exchanger = CountingAws(900.0)
    credentials = sdk.credentials(exchanger)

    async def main() -> None:
        for _ in range(1000):
            await credentials.get_frozen_credentials()
            exchanger.passed_seconds += 9.0  # ten lives of 900 s

    asyncio.run(main())
    assert exchanger.exchanges == 10


def test_a_session_costs_no_exchange() -> None:
    exchanger = CountingAws()

    async def main() -> None:
        async with sdk.session(exchanger).create_client("s3"):
            pass

    asyncio.run(main())
    assert exchanger.calls == 0


def test_the_single_keys_are_awaited() -> None:
    credentials = sdk.credentials(CountingAws())
    assert isinstance(credentials, aiobotocore.credentials.AioCredentials)
    assert asyncio.run(credentials.get_access_key()) == "ASIA0000000000000001"
    assert asyncio.run(credentials.get_secret_key()) == "secret-1"
    assert asyncio.run(credentials.get_token()) == "session-1"
    assert asyncio.run(credentials.get_account_id()) == "111122223333"
    for name in ("access_key", "secret_key", "token", "account_id"):
        with pytest.raises(NotImplementedError, match=f"get_{name}"):
            getattr(credentials, name)
    assert "secret-1" not in repr(credentials) + str(vars(credentials))


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_a_copy_shares_the_exchanger(copier: Callable[[sdk.Credentials], sdk.Credentials]) -> None:
    exchanger = CountingAws()
    assert copier(sdk.credentials(exchanger)).exchanger is exchanger


def test_the_region() -> None:
    assert sdk.session(CountingAws()).get_config_variable("region") == "eu-central-1"
    assert sdk.session(CountingAws(), region="us-west-2").get_config_variable("region") == "us-west-2"
    assert sdk.session(CountingAws(region=None)).get_config_variable("region") is None
    existing = aiobotocore.session.AioSession()
    existing.set_config_variable("region", "ap-south-1")
    assert sdk.session(CountingAws(), botocore_session=existing).get_config_variable("region") == "ap-south-1"


def test_an_existing_session_is_equipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT00000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    existing, exchanger = aiobotocore.session.AioSession(), CountingAws()
    for _ in range(2):
        assert sdk.session(exchanger, botocore_session=existing) is existing
    assert asyncio.run(existing.get_credentials()).exchanger is exchanger
    methods = [provider.METHOD for provider in existing.get_component("credential_provider").providers]
    assert methods[:2] == ["wif", "env"]
    with pytest.raises(ConfigurationError, match="loaded other credentials"):
        sdk.session(CountingAws(), botocore_session=existing)


def test_a_session_that_has_loaded_others_is_refused() -> None:
    existing = aiobotocore.session.AioSession()
    existing.set_credentials("AKIAOTHER", "secret")
    with pytest.raises(ConfigurationError, match="'explicit'") as caught:
        sdk.session(CountingAws(), botocore_session=existing)
    assert caught.value.code == "config-conflict"


def test_by_its_short_name() -> None:
    exchanger = CountingAws()
    session = wif.sdk.aws.aio_session(exchanger)
    assert asyncio.run(session.get_credentials()).exchanger is exchanger


def test_a_refusal_is_botocores_error_with_our_message() -> None:
    exchanger = CountingAws()
    exchanger.failure = RefusedError("the role does not trust it", code="trust-denied", cloud="aws")
    with pytest.raises(CredentialRetrievalError) as caught:
        asyncio.run(_presigned(sdk.session(exchanger)))
    assert caught.value.__cause__ is exchanger.failure
    assert str(exchanger.failure) in str(caught.value)
