"""azure-core with an exchanger's tokens: real pipelines over a transport in memory, no network."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo, SupportsTokenInfo, TokenCredential
from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline import AsyncPipeline, Pipeline
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AsyncRetryPolicy,
    BearerTokenCredentialPolicy,
    RetryPolicy,
)
from azure.core.rest import HttpRequest

from tests.unit.sdk.counting import CountingAzure
from wif.errors import RefusedError, TransportError, WifError
from wif.sdk import azure

SCOPE = "https://management.azure.com/.default"
URL = "https://management.azure.com/subscriptions"
CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1"}}}'
CHALLENGE = f'Bearer error="insufficient_claims", claims="{base64.urlsafe_b64encode(CLAIMS.encode()).decode()}"'


class Answer:
    """What the pipeline's policies look at."""

    content_type = "application/json"
    reason = ""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.headers = headers


class Tokens:
    """An API in memory: keeps the tokens it saw; challenges those that it does not accept."""

    def __init__(self, accept: Callable[[str], bool] = lambda _: True) -> None:
        self.tokens: list[str] = []
        self._accept = accept

    def answer(self, request: Any) -> Answer:
        token = request.headers["Authorization"]
        self.tokens.append(token)
        accepted = self._accept(token)
        return Answer(200 if accepted else 401, {} if accepted else {"WWW-Authenticate": CHALLENGE})


class Service(Tokens):
    """A transport of azure-core."""

    def send(self, request: Any, **_: Any) -> Answer:
        return self.answer(request)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing is to be repeated")


class AioService(Tokens):
    """A transport of azure-core for tasks."""

    async def send(self, request: Any, **_: Any) -> Answer:
        return self.answer(request)

    async def __aenter__(self) -> AioService:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing is to be repeated")


def _pipeline(credential: Any, service: Any, **settings: Any) -> Pipeline[Any, Any]:
    return Pipeline(service, [RetryPolicy(), BearerTokenCredentialPolicy(credential, SCOPE, **settings)])


def _aio_pipeline(credential: Any, service: Any) -> AsyncPipeline[Any, Any]:
    return AsyncPipeline(service, [AsyncRetryPolicy(), AsyncBearerTokenCredentialPolicy(credential, SCOPE)])


# -- the protocols -------------------------------------------------------------------------------------------------


def test_it_is_what_azure_core_looks_for() -> None:
    credential: azure.Credential = azure.credential(CountingAzure())
    typed_token: TokenCredential = credential
    typed_info: SupportsTokenInfo = credential
    assert isinstance(typed_token, TokenCredential)
    assert isinstance(typed_info, SupportsTokenInfo)
    twin: azure.AsyncCredential = azure.async_credential(CountingAzure())
    typed_async: AsyncTokenCredential = twin
    typed_async_info: AsyncSupportsTokenInfo = twin
    assert isinstance(typed_async, AsyncTokenCredential)
    assert isinstance(typed_async_info, AsyncSupportsTokenInfo)
    assert isinstance(azure.aio.credential(CountingAzure()), azure.AsyncCredential)


def test_get_token() -> None:
    token = azure.credential(CountingAzure()).get_token(SCOPE)
    assert isinstance(token, AccessToken)
    assert token.token == "token-1"
    assert 3590 < token.expires_on - datetime.now(UTC).timestamp() <= 3600
    assert isinstance(token.expires_on, int)


def test_get_token_info() -> None:
    exchanger = CountingAzure()
    info = azure.credential(exchanger).get_token_info(SCOPE)
    assert isinstance(info, AccessTokenInfo)
    assert (info.token, info.token_type, info.refresh_on) == ("token-1", "Bearer", None)
    exchanger.refresh_in_seconds = 1800.0
    info = azure.credential(exchanger).get_token_info("other/.default", options={})
    assert info.refresh_on is not None
    assert abs(info.expires_on - info.refresh_on - 1800) <= 1


def test_the_asynchronous_twin_answers_alike() -> None:
    async def main() -> None:
        exchanger = CountingAzure()
        async with azure.async_credential(exchanger) as credential:
            assert (await credential.get_token(SCOPE)).token == "token-1"
            assert (await credential.get_token_info(SCOPE, options={"enable_cae": True})).token == "token-1"
            assert credential.exchanger is exchanger

    asyncio.run(main())


# -- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("life_seconds", [300.0, 299.0, 900.0, 3600.0])
def test_one_exchange_for_a_thousand_calls(life_seconds: float) -> None:
    exchanger, service = CountingAzure(life_seconds), Service()
    with _pipeline(azure.credential(exchanger), service) as pipeline:
        for _ in range(1000):
            pipeline.run(HttpRequest("GET", URL))
    assert exchanger.exchanges == 1
    assert set(service.tokens) == {"Bearer token-1"}


@pytest.mark.parametrize("life_seconds", [300.0, 900.0])
def test_one_exchange_for_a_thousand_calls_of_tasks(life_seconds: float) -> None:
    exchanger, service = CountingAzure(life_seconds), AioService()

    async def main() -> None:
        async with _aio_pipeline(azure.async_credential(exchanger), service) as pipeline:
            await asyncio.gather(*(pipeline.run(HttpRequest("GET", URL)) for _ in range(1000)))

    asyncio.run(main())
    assert exchanger.exchanges == 1
    assert service.tokens == ["Bearer token-1"] * 1000


def test_one_exchange_for_each_refresh() -> None:
    exchanger = CountingAzure(300.0)
    credential = azure.credential(exchanger)
    seen = set()
    for _ in range(1000):
        seen.add(credential.get_token(SCOPE).token)
        exchanger.passed_seconds += 3.0  # ten lives of 300 s
    assert exchanger.exchanges == len(seen) == 10


def test_threads_share_one_exchange() -> None:
    exchanger, service = CountingAzure(), Service()
    credential = azure.credential(exchanger)
    gate = threading.Barrier(64)

    def call(_: int) -> None:
        gate.wait(10)
        _pipeline(credential, service).run(HttpRequest("GET", URL))

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(call, range(64)))
    assert exchanger.exchanges == 1
    assert len(service.tokens) == 64


# -- claims, tenant, scopes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("enable_cae", [False, True])
def test_a_challenge_is_answered_with_a_new_token(enable_cae: bool) -> None:
    exchanger, service = CountingAzure(), Service(accept=lambda token: token != "Bearer token-1")
    with _pipeline(azure.credential(exchanger), service, enable_cae=enable_cae) as pipeline:
        assert pipeline.run(HttpRequest("GET", URL)).http_response.status_code == 200
    assert service.tokens == ["Bearer token-1", "Bearer token-2"]
    assert exchanger.claims == CLAIMS


def test_a_task_answers_a_challenge_too() -> None:
    exchanger, service = CountingAzure(), AioService(accept=lambda token: token != "Bearer token-1")

    async def main() -> None:
        async with _aio_pipeline(azure.async_credential(exchanger), service) as pipeline:
            assert (await pipeline.run(HttpRequest("GET", URL))).http_response.status_code == 200

    asyncio.run(main())
    assert exchanger.claims == CLAIMS


def test_claims_reach_the_exchanger_by_both_ways() -> None:
    exchanger = CountingAzure()
    credential = azure.credential(exchanger)
    credential.get_token(SCOPE, claims="a")
    assert exchanger.claims == "a"
    credential.get_token_info(SCOPE, options={"claims": "b"})
    assert exchanger.claims == "b"


@pytest.mark.parametrize("tenant_id", [None, "", "11111111-aaaa-2222-BBBB-333333333333"])
def test_the_own_tenant_is_accepted(tenant_id: str | None) -> None:
    credential = azure.credential(CountingAzure())
    assert credential.get_token(SCOPE, tenant_id=tenant_id).token == "token-1"


def test_another_tenant_is_refused() -> None:
    exchanger = CountingAzure()
    credential = azure.credential(exchanger)
    for call in (
        lambda: credential.get_token(SCOPE, tenant_id="other"),
        lambda: credential.get_token_info(SCOPE, options={"tenant_id": "other"}),
    ):
        with pytest.raises(ClientAuthenticationError, match="tenant other") as caught:
            call()
        assert isinstance(caught.value.__cause__, WifError)
        assert caught.value.__cause__.code == "config-conflict"
    assert exchanger.calls == 0


@pytest.mark.parametrize("scopes", [(), ("a/.default", "b/.default")])
def test_exactly_one_scope(scopes: tuple[str, ...]) -> None:
    with pytest.raises(ClientAuthenticationError, match=f"expected one scope, came {len(scopes)}"):
        azure.credential(CountingAzure()).get_token(*scopes)
    with pytest.raises(ClientAuthenticationError, match="expected one scope"):
        asyncio.run(azure.async_credential(CountingAzure()).get_token_info(*scopes))


def test_unknown_keywords_are_ignored() -> None:
    assert azure.credential(CountingAzure()).get_token(SCOPE, enable_cae=True, future=1).token == "token-1"


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        RefusedError("Entra does not trust it", code="subject-mismatch", cloud="azure"),
        TransportError("no way", code="connection-failed", cloud="azure"),
    ],
)
def test_a_failure_is_azures_error_with_our_message_and_is_not_repeated(failure: WifError) -> None:
    exchanger = CountingAzure()
    exchanger.failure = failure
    with (
        _pipeline(azure.credential(exchanger), Service()) as pipeline,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        pipeline.run(HttpRequest("GET", URL))
    assert caught.value.__cause__ is failure
    assert str(caught.value) == str(failure)
    assert exchanger.calls == 1

    async def main() -> None:
        async with _aio_pipeline(azure.async_credential(exchanger), AioService()) as pipeline:
            await pipeline.run(HttpRequest("GET", URL))

    with pytest.raises(ClientAuthenticationError) as again:
        asyncio.run(main())
    assert again.value.__cause__ is failure
    assert exchanger.calls == 2


# -- closing, secrets ----------------------------------------------------------------------------------------------


def test_closing_leaves_a_shared_exchanger_open() -> None:
    exchanger = CountingAzure()
    with azure.credential(exchanger) as credential:
        assert credential.exchanger is exchanger
    asyncio.run(azure.async_credential(exchanger).close())
    assert not exchanger.closed


def test_closing_closes_an_own_exchanger() -> None:
    exchanger = CountingAzure()
    with azure.Credential(exchanger, owns_exchanger=True):
        pass
    assert exchanger.closed
    exchanger = CountingAzure()
    asyncio.run(azure.AsyncCredential(exchanger, owns_exchanger=True).close())
    assert exchanger.closed


def test_closing_closes_what_the_environment_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555")
    monkeypatch.setenv("AZURE_CLIENT_ID", "66666666-7777-8888-9999-000000000000")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token")
    credential = azure.credential()
    credential.close()
    with pytest.raises(ClientAuthenticationError) as caught:
        credential.get_token(SCOPE)
    assert isinstance(caught.value.__cause__, WifError)
    assert caught.value.__cause__.code == "closed"

    async def main() -> None:
        async with azure.async_credential() as twin:
            pass
        await twin.get_token(SCOPE)

    with pytest.raises(ClientAuthenticationError) as again:
        asyncio.run(main())
    assert isinstance(again.value.__cause__, WifError)
    assert again.value.__cause__.code == "closed"


def test_no_secret_is_shown() -> None:
    for credential in (azure.credential(CountingAzure()), azure.async_credential(CountingAzure())):
        if isinstance(credential, azure.Credential):
            credential.get_token(SCOPE)
        assert "token-1" not in repr(credential)
        assert "token-1" not in repr(vars(credential))
