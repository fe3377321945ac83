"""The real google-auth against the local STS: by itself, from files, and with an exchanger's tokens."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import google.auth.aio.transport.aiohttp
import google.auth.exceptions
import google.auth.transport.urllib3
import jwt
import pytest
import urllib3
from google.auth.aio.transport.sessions import AsyncAuthorizedSession
from google.auth.transport.requests import AuthorizedSession

import wif
from tests.integration.bearer_service import BearerService
from tests.integration.children import run
from tests.integration.led_pod import ACCOUNT, PROVIDER, LedPod, pod
from wif.clouds.gcp_config import ExternalAccountFile, FileSource, external_account
from wif.edges.transport import Transport
from wif.emulator.faults import Injection

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("sdk-gcp")]

LOCATIONS = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}/allowedLocations"
SIGN_IN = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
SCOPES = '["https://www.googleapis.com/auth/cloud-platform"]'

AS_GOOGLE = f"""
import json, google.auth
from google.auth.transport.requests import AuthorizedSession
credentials, project = google.auth.default(scopes={SCOPES})
with AuthorizedSession(credentials) as session:
    status = session.get({LOCATIONS!r}).status_code
print(json.dumps({{"status": status, "project": project, "valid": credentials.valid}}))
"""
AS_WIF = f"""
import json, wif
from google.auth.transport.requests import AuthorizedSession
credentials, project = wif.sdk.gcp.default(%s)
with AuthorizedSession(credentials) as session:
    statuses = {{session.get({LOCATIONS!r}).status_code for _ in range(20)}}
print(json.dumps({{"statuses": list(statuses), "project": project, "valid": credentials.valid,
                   "exchanges": credentials.exchanger.statistics.exchanges}}))
"""
DIRECT = f"""
import json, wif
from google.auth.transport.requests import AuthorizedSession
with AuthorizedSession(wif.sdk.gcp.credentials()) as session:
    answer = session.post({SIGN_IN!r}, json={{"scope": {SCOPES}}})
print(json.dumps({{"status": answer.status_code, "members": sorted(answer.json())}}))
"""


@pytest.fixture(scope="module")
def service(pod: LedPod) -> Iterator[BearerService]:
    with BearerService(pod.emulator.authority) as service:
        yield service


@pytest.fixture
def fresh(service: BearerService) -> BearerService:
    service.seen.clear()
    service.headers.clear()
    service.rejected.clear()
    service.reject_next, service.reject_all = 0, False
    return service


@pytest.fixture
def inside(pod: LedPod, monkeypatch: pytest.MonkeyPatch) -> LedPod:
    """The pod's environment for google-auth in this process."""
    pod.enter(monkeypatch)
    return pod


@pytest.fixture
def exchanges(pod: LedPod) -> Iterator[Injection]:
    with pod.slow("gcp", "token") as injection:
        yield injection


@pytest.fixture
def impersonations(pod: LedPod) -> Iterator[Injection]:
    with pod.slow("gcp", "generateAccessToken") as injection:
        yield injection


@pytest.fixture
def lookups(pod: LedPod) -> Iterator[Injection]:
    with pod.slow("gcp", "allowedLocations", seconds=0.001) as injection:
        yield injection


def _exchanger(pod: LedPod, **settings: object) -> wif.GcpExchanger:
    transport = Transport("gcp", environ=pod.environment)
    arguments = {"service_account": ACCOUNT, "source": pod.tokens / "gcp", "transport": transport, "environ": {}}
    return wif.gcp(PROVIDER, **(arguments | settings))  # type: ignore[arg-type]  # a dict of settings


def _session(credentials: wif.sdk.gcp.Credentials | wif.sdk.gcp.IdTokenCredentials) -> AuthorizedSession:
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # google-auth is not annotated


# -- google-auth by itself -----------------------------------------------------------------------------------------


def test_google_auth_from_the_environment(pod: LedPod) -> None:
    assert run(pod.environment, AS_GOOGLE) == {"status": 200, "project": "wif-local", "valid": True}


@pytest.mark.parametrize("file", ["credentials.json", "credentials-executable.json"])
def test_google_auth_from_a_config_file(pod: LedPod, tmp_path: Path, file: str) -> None:
    path = pod.configure(tmp_path / "wif") / "gcp" / file
    changes = {"GOOGLE_APPLICATION_CREDENTIALS": str(path), "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1"}
    assert run(pod.environment, AS_GOOGLE, **changes)["status"] == 200


@pytest.fixture
def direct_file(pod: LedPod, tmp_path: Path) -> Path:
    """A credential file without a service account."""
    file = tmp_path / "direct.json"
    source = FileSource(path=str(pod.tokens / "gcp"))
    file.write_text(external_account(ExternalAccountFile(provider=PROVIDER, source=source)))
    return file


def test_google_auth_from_a_config_file_for_direct_access(pod: LedPod, direct_file: Path) -> None:
    assert run(pod.environment, AS_GOOGLE, GOOGLE_APPLICATION_CREDENTIALS=str(direct_file))["status"] == 200


# -- google-auth with an exchanger ---------------------------------------------------------------------------------


def test_wif_from_the_environment(pod: LedPod, exchanges: Injection, impersonations: Injection) -> None:
    answer = run(pod.environment, AS_WIF % "")
    assert answer == {"statuses": [200], "project": "wif-local", "valid": True, "exchanges": 2}
    assert (exchanges.taken, impersonations.taken) == (1, 1)


def test_wif_as_the_federated_principal_itself(pod: LedPod, direct_file: Path, lookups: Injection) -> None:
    answer = run(pod.environment, DIRECT, GOOGLE_APPLICATION_CREDENTIALS=str(direct_file))
    assert answer == {"status": 200, "members": ["accessToken", "expireTime"]}
    assert lookups.taken == 0, "no region boundary is looked up behind the caller's back"


def test_threads_share_one_exchange(
    inside: LedPod, fresh: BearerService, exchanges: Injection, impersonations: Injection
) -> None:
    with _exchanger(inside) as exchanger:
        credentials = wif.sdk.gcp.credentials(exchanger)
        gate = threading.Barrier(64)

        def call(_: int) -> int:
            with _session(credentials) as session:
                gate.wait(20)
                return session.get(fresh.url).status_code

        with ThreadPoolExecutor(64) as pool:
            assert set(pool.map(call, range(64))) == {200}
    assert len(set(fresh.seen)) == 1
    assert len(fresh.seen) == 64
    assert (exchanges.taken, impersonations.taken) == (1, 1)


def test_a_token_of_225_seconds_makes_one_exchange_for_a_thousand_calls(
    inside: LedPod, fresh: BearerService, impersonations: Injection
) -> None:
    with _exchanger(inside, lifetime_seconds=225) as exchanger:
        credentials = wif.sdk.gcp.credentials(exchanger)
        with _session(credentials) as session:
            for _ in range(1000):
                session.get(fresh.url)
        assert exchanger.credentials().lifetime_seconds == pytest.approx(225, abs=2)
    assert len(fresh.seen) == 1000
    assert impersonations.taken == 1


def test_a_rejected_token_is_exchanged_anew(inside: LedPod, fresh: BearerService, impersonations: Injection) -> None:
    fresh.reject_next = 1
    with _exchanger(inside) as exchanger, _session(wif.sdk.gcp.credentials(exchanger)) as session:
        assert session.get(fresh.url).status_code == 200
    assert len(set(fresh.seen)) == len(fresh.seen) == 2
    assert impersonations.taken == 2


def test_a_service_that_rejects_everything_makes_no_storm(
    inside: LedPod, fresh: BearerService, impersonations: Injection
) -> None:
    fresh.reject_all = True
    with _exchanger(inside) as exchanger, _session(wif.sdk.gcp.credentials(exchanger)) as session:
        for _ in range(30):
            assert session.get(fresh.url).status_code == 401
    assert impersonations.taken == 2


def test_quota_project_and_scopes_reach_the_service(inside: LedPod, fresh: BearerService, exchanges: Injection) -> None:
    with _exchanger(inside, quota_project_id="billing") as exchanger:
        plain = wif.sdk.gcp.credentials(exchanger)
        for credentials in (plain, plain.with_scopes(["https://www.googleapis.com/auth/drive"])):
            with _session(credentials) as session:
                session.get(fresh.url)
    assert [headers["x-goog-user-project"] for headers in fresh.headers] == ["billing", "billing"]
    assert len(set(fresh.seen)) == 2
    assert exchanges.taken == 1, "the federated token serves both"


def test_urllib3_transport(inside: LedPod, fresh: BearerService) -> None:
    with _exchanger(inside) as exchanger, urllib3.PoolManager(ca_certs=str(inside.emulator.ca_file)) as pool:
        http = google.auth.transport.urllib3.AuthorizedHttp(  # type: ignore[no-untyped-call]
            wif.sdk.gcp.credentials(exchanger), http=pool
        )
        assert http.request("GET", fresh.url).status == 200


# -- ID tokens -----------------------------------------------------------------------------------------------------


def test_an_id_token_that_the_published_keys_verify(inside: LedPod, fresh: BearerService) -> None:
    audience = "https://service-abc.a.run.app"
    with _exchanger(inside) as exchanger:
        credentials = wif.sdk.gcp.id_token_credentials(exchanger, audience=audience)
        with _session(credentials) as session:
            for _ in range(20):
                session.get(fresh.url)
    [token] = set(fresh.seen)
    with urllib3.PoolManager(ca_certs=str(inside.emulator.ca_file)) as pool:
        keys = pool.request("GET", f"{inside.emulator.url}/oauth2/v3/certs").data
    key = jwt.PyJWKSet.from_dict(json.loads(keys))[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, audience=audience, issuer="https://accounts.google.invalid")
    assert (claims["email"], claims["email_verified"]) == (ACCOUNT, True)


# -- asyncio -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _aio_session(pod: LedPod, exchanger: wif.GcpExchanger, make: str) -> AsyncIterator[AsyncAuthorizedSession]:
    # aiohttp reads SSL_CERT_FILE when it is imported, which in this process was long before
    context = ssl.create_default_context(cafile=str(pod.emulator.ca_file))
    client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
    request = google.auth.aio.transport.aiohttp.Request(session=client)
    session = AsyncAuthorizedSession(getattr(wif.sdk.gcp, make)(exchanger), auth_request=request)
    try:
        yield session
    finally:
        await session.close()


@pytest.mark.parametrize("make", ["async_credentials", "credentials"])
def test_tasks_share_one_exchange(
    inside: LedPod, fresh: BearerService, exchanges: Injection, impersonations: Injection, make: str
) -> None:
    async def main(exchanger: wif.GcpExchanger) -> None:
        async with _aio_session(inside, exchanger, make) as session:
            answers = await asyncio.gather(*(session.request("GET", fresh.url) for _ in range(64)))
        assert {answer.status_code for answer in answers} == {200}

    with _exchanger(inside) as exchanger:
        asyncio.run(main(exchanger))
    assert len(fresh.seen) == 64
    assert len(set(fresh.seen)) == 1
    assert (exchanges.taken, impersonations.taken) == (1, 1)


@pytest.mark.parametrize("make", ["async_credentials", "credentials"])
def test_a_task_exchanges_a_rejected_token_anew(inside: LedPod, fresh: BearerService, make: str) -> None:
    fresh.reject_next = 1

    async def main(exchanger: wif.GcpExchanger) -> None:
        async with _aio_session(inside, exchanger, make) as session:
            assert (await session.request("GET", fresh.url)).status_code == 200

    with _exchanger(inside) as exchanger:
        asyncio.run(main(exchanger))
    assert len(set(fresh.seen)) == len(fresh.seen) == 2


# -- refusals ------------------------------------------------------------------------------------------------------


def test_a_refusal_says_why(inside: LedPod, fresh: BearerService) -> None:
    with (
        _exchanger(inside, source=inside.tokens / "aws") as exchanger,
        _session(wif.sdk.gcp.credentials(exchanger)) as session,
        pytest.raises(google.auth.exceptions.RefreshError) as caught,
    ):
        session.get(fresh.url)
    cause = caught.value.__cause__
    assert isinstance(cause, wif.RefusedError)
    assert cause.code == "audience-mismatch"
    assert str(caught.value) == str(cause)
    assert not fresh.seen
