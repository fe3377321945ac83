"""The real azure-core and azure-identity against the local STS: alone, from files, and with an exchanger's tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import urllib3
from azure.core import AsyncPipelineClient, PipelineClient
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AsyncRetryPolicy,
    BearerTokenCredentialPolicy,
    RetryPolicy,
)
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport
from azure.core.rest import HttpRequest

import wif
from tests.integration.bearer_service import BearerService
from tests.integration.children import run
from tests.integration.led_pod import CLIENT, TENANT, LedPod, pod
from wif.edges.transport import Transport
from wif.emulator.faults import Injection

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("sdk-azure")]

SCOPE = "https://management.azure.com/.default"
CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}'
CHALLENGE = f'Bearer error="insufficient_claims", claims="{base64.b64encode(CLAIMS.encode()).decode()}"'

AS_AZURE = f"""
import json
from azure.identity import %(kind)s
with %(kind)s() as credential:
    token = credential.get_token_info({SCOPE!r})
print(json.dumps({{"token": token.token}}))
"""
AS_AZURE_AIO = f"""
import asyncio, json
from azure.identity.aio import WorkloadIdentityCredential
async def main():
    async with WorkloadIdentityCredential() as credential:
        return await credential.get_token({SCOPE!r})
print(json.dumps({{"token": asyncio.run(main()).token}}))
"""
AS_WIF = f"""
import asyncio, json, wif
exchanger = wif.from_env().azure
with wif.sdk.azure.credential(exchanger) as credential:
    first = {{credential.get_token({SCOPE!r}).token for _ in range(20)}}
async def main():
    async with wif.sdk.azure.aio.credential(exchanger) as credential:
        return (await credential.get_token_info({SCOPE!r})).token
[token] = first | {{asyncio.run(main())}}
print(json.dumps({{"token": token, "exchanges": exchanger.statistics.exchanges}}))
"""
AS_WIF_ALONE = f"""
import json, wif
with wif.sdk.azure.credential() as credential:
    print(json.dumps({{"token": credential.get_token({SCOPE!r}).token}}))
"""


@pytest.fixture(scope="module")
def service(pod: LedPod) -> Iterator[BearerService]:
    with BearerService(pod.emulator.authority, challenge=CHALLENGE) as service:
        yield service


@pytest.fixture
def fresh(service: BearerService) -> BearerService:
    service.seen.clear()
    service.rejected.clear()
    service.reject_next, service.reject_all = 0, False
    return service


@pytest.fixture
def exchanges(pod: LedPod) -> Iterator[Injection]:
    with pod.slow("azure", "token") as injection:
        yield injection


def _exchanger(pod: LedPod, **settings: object) -> wif.AzureExchanger:
    transport = Transport("azure", environ=pod.environment)
    arguments = {"source": pod.tokens / "azure", "transport": transport, "environ": {}}
    return wif.azure(TENANT, CLIENT, **(arguments | settings))  # type: ignore[arg-type]  # a dict of settings


def _client(pod: LedPod, service: BearerService, exchanger: wif.AzureExchanger) -> PipelineClient[Any, Any]:
    credential = wif.sdk.azure.credential(exchanger)
    return PipelineClient(
        service.url,
        transport=RequestsTransport(connection_verify=str(pod.emulator.ca_file), use_env_settings=False),
        policies=[RetryPolicy(), BearerTokenCredentialPolicy(credential, SCOPE)],
    )


@asynccontextmanager
async def _aio_client(
    pod: LedPod, service: BearerService, exchanger: wif.AzureExchanger
) -> AsyncIterator[AsyncPipelineClient[Any, Any]]:
    # a connection_verify= would make a TLS context, and so a connection, for each request
    context = ssl.create_default_context(cafile=str(pod.emulator.ca_file))
    async with (
        wif.sdk.azure.aio.credential(exchanger) as credential,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        AsyncPipelineClient[Any, Any](
            service.url,
            transport=AioHttpTransport(session=session, session_owner=False, use_env_settings=False),
            policies=[AsyncRetryPolicy(), AsyncBearerTokenCredentialPolicy(credential, SCOPE)],
        ) as client,
    ):
        yield client


def _verified(pod: LedPod, token: str) -> Mapping[str, Any]:
    """The claims of a token that the published keys verify."""
    with urllib3.PoolManager(ca_certs=str(pod.emulator.ca_file)) as pool:
        keys = pool.request("GET", f"{pod.emulator.url}/{TENANT}/discovery/v2.0/keys").data
    key = jwt.PyJWKSet.from_dict(json.loads(keys))[jwt.get_unverified_header(token)["kid"]]
    claims: Mapping[str, Any] = jwt.decode(token, key, audience="https://management.azure.com")
    return claims


# -- azure-identity by itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WorkloadIdentityCredential", "DefaultAzureCredential", "ManagedIdentityCredential"])
def test_azure_identity_from_the_environment(pod: LedPod, kind: str) -> None:
    assert _verified(pod, run(pod.environment, AS_AZURE % {"kind": kind})["token"])["appid"] == CLIENT


def test_azure_identity_for_tasks_from_the_environment(pod: LedPod) -> None:
    assert _verified(pod, run(pod.environment, AS_AZURE_AIO)["token"])["appid"] == CLIENT


def test_azure_identity_from_a_config_file(pod: LedPod, tmp_path: Path) -> None:
    file = pod.configure(tmp_path / "wif") / "azure" / "env"
    bare = {name: value for name, value in pod.environment.items() if not name.startswith("AZURE_")}
    inner = AS_AZURE % {"kind": "WorkloadIdentityCredential"}
    program = f"""
import subprocess, sys
shell = ["sh", "-eu", "-c", 'set -a; . "$0"; exec "$@"', {str(file)!r}]
sys.exit(subprocess.call([*shell, sys.executable, "-c", {inner!r}]))
"""
    assert _verified(pod, run(bare, program)["token"])["appid"] == CLIENT


# -- with an exchanger ---------------------------------------------------------------------------------------------


def test_wif_from_the_environment(pod: LedPod, exchanges: Injection) -> None:
    answer = run(pod.environment, AS_WIF)
    assert _verified(pod, answer["token"])["appid"] == CLIENT
    assert (answer["exchanges"], exchanges.taken) == (1, 1)


def test_wif_finds_the_environment_by_itself(pod: LedPod) -> None:
    assert _verified(pod, run(pod.environment, AS_WIF_ALONE)["token"])["appid"] == CLIENT


def test_threads_share_one_exchange(pod: LedPod, fresh: BearerService, exchanges: Injection) -> None:
    with _exchanger(pod) as exchanger:
        gate = threading.Barrier(64)

        def call(_: int) -> int:
            with _client(pod, fresh, exchanger) as client:
                gate.wait(20)
                return int(client.send_request(HttpRequest("GET", fresh.url)).status_code)

        with ThreadPoolExecutor(64) as pool:
            assert set(pool.map(call, range(64))) == {200}
        assert exchanger.statistics.exchanges == 1
    assert len(fresh.seen) == 64
    assert len(set(fresh.seen)) == 1
    assert exchanges.taken == 1


def test_tasks_share_one_exchange(pod: LedPod, fresh: BearerService, exchanges: Injection) -> None:
    async def call(exchanger: wif.AzureExchanger) -> int:
        async with _aio_client(pod, fresh, exchanger) as client:
            return int((await client.send_request(HttpRequest("GET", fresh.url))).status_code)

    async def main(exchanger: wif.AzureExchanger) -> list[int]:
        return await asyncio.gather(*(call(exchanger) for _ in range(64)))

    with _exchanger(pod) as exchanger:
        assert set(asyncio.run(main(exchanger))) == {200}
    assert len(set(fresh.seen)) == 1
    assert exchanges.taken == 1


def _short_lived(pod: LedPod) -> Injection:
    body = {"token_type": "Bearer", "expires_in": 300, "ext_expires_in": 300, "access_token": "of-300-seconds"}
    return pod.emulator.faults.inject(
        cloud="azure", operation="token", status=200, body=json.dumps(body).encode(), content_type="application/json"
    )


def test_a_token_of_300_seconds_makes_one_exchange_for_a_thousand_calls(pod: LedPod, fresh: BearerService) -> None:
    with _short_lived(pod) as answered, _exchanger(pod) as exchanger, _client(pod, fresh, exchanger) as client:
        for _ in range(1000):
            client.send_request(HttpRequest("GET", fresh.url))
    assert fresh.seen == ["of-300-seconds"] * 1000
    assert answered.taken == 1


def test_a_token_of_300_seconds_makes_one_exchange_for_a_thousand_calls_of_tasks(
    pod: LedPod, fresh: BearerService
) -> None:
    async def main(exchanger: wif.AzureExchanger) -> None:
        async with _aio_client(pod, fresh, exchanger) as client:

            async def call() -> None:
                answer = await client.send_request(HttpRequest("GET", fresh.url))
                await answer.read()  # an unread answer keeps its connection

            for _ in range(100):
                await asyncio.gather(*(call() for _ in range(10)))

    with _short_lived(pod) as answered, _exchanger(pod) as exchanger:
        asyncio.run(main(exchanger))
    assert fresh.seen == ["of-300-seconds"] * 1000
    assert answered.taken == 1


def test_a_challenge_is_answered_with_a_new_token(pod: LedPod, fresh: BearerService, exchanges: Injection) -> None:
    fresh.reject_next = 1
    with _exchanger(pod) as exchanger, _client(pod, fresh, exchanger) as client:
        assert client.send_request(HttpRequest("GET", fresh.url)).status_code == 200
    assert len(set(fresh.seen)) == len(fresh.seen) == 2
    assert exchanges.taken == 2


def test_a_task_answers_a_challenge(pod: LedPod, fresh: BearerService, exchanges: Injection) -> None:
    fresh.reject_next = 1

    async def main(exchanger: wif.AzureExchanger) -> int:
        async with _aio_client(pod, fresh, exchanger) as client:
            return int((await client.send_request(HttpRequest("GET", fresh.url))).status_code)

    with _exchanger(pod) as exchanger:
        assert asyncio.run(main(exchanger)) == 200
    assert exchanges.taken == 2


def test_a_service_that_challenges_for_ever_makes_no_storm(
    pod: LedPod, fresh: BearerService, exchanges: Injection
) -> None:
    fresh.reject_all = True
    with _exchanger(pod) as exchanger, _client(pod, fresh, exchanger) as client:
        for _ in range(30):
            assert client.send_request(HttpRequest("GET", fresh.url)).status_code == 401
    assert exchanges.taken == 2, "once for each challenge, and it is always the same one"


def test_each_resource_has_its_token(pod: LedPod, exchanges: Injection) -> None:
    with _exchanger(pod) as exchanger:
        credential = wif.sdk.azure.credential(exchanger)
        first = credential.get_token(SCOPE)
        with pytest.raises(ClientAuthenticationError) as caught:
            credential.get_token("https://unknown.example/.default")
        assert credential.get_token(SCOPE) == first
    assert isinstance(caught.value.__cause__, wif.WifError)
    assert caught.value.__cause__.code == "scope-invalid"
    assert exchanges.taken == 2


def test_a_refusal_says_why_and_is_not_repeated(pod: LedPod, fresh: BearerService, exchanges: Injection) -> None:
    with (
        _exchanger(pod, source=pod.tokens / "aws") as exchanger,
        _client(pod, fresh, exchanger) as client,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        client.send_request(HttpRequest("GET", fresh.url))
    cause = caught.value.__cause__
    assert isinstance(cause, wif.RefusedError)
    assert (cause.code, cause.cloud_code) == ("audience-mismatch", "AADSTS700212")
    assert str(caught.value) == str(cause)
    assert (exchanges.taken, fresh.seen) == (1, [])
