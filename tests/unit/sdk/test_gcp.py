"""google-auth with an exchanger's tokens: real sessions over an adapter in memory, no network."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import google.auth.credentials
import google.auth.downscoped
import google.auth.exceptions
import google.auth.impersonated_credentials
import pytest
import requests
from google.auth.aio.transport.sessions import AsyncAuthorizedSession
from google.auth.credentials import TokenState
from google.auth.transport.requests import AuthorizedSession

from tests.unit.sdk.counting import CountingGcp
from wif.errors import ConfigurationError, RefusedError, UnavailableError
from wif.sdk import gcp

URL = "https://storage.googleapis.com/storage/v1/b"
DRIVE = "https://www.googleapis.com/auth/drive"


class Service(requests.adapters.BaseAdapter):
    """An API in memory: keeps the headers it saw and answers with the statuses given, then with 200."""

    def __init__(self, *statuses: int, accept: Callable[[str], bool] = lambda _: True) -> None:
        super().__init__()
        self.headers: list[Mapping[str, Any]] = []
        self._statuses = list(statuses)
        self._accept = accept

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self.headers.append(request.headers)
        answer = requests.Response()
        answer.status_code = self._statuses.pop(0) if self._statuses else 200
        if not self._accept(request.headers["authorization"]):
            answer.status_code = 401
        answer.request = request
        answer.url = str(request.url)
        answer._content = b"{}"
        return answer

    def close(self) -> None:
        pass

    @property
    def tokens(self) -> list[str]:
        return [headers["authorization"] for headers in self.headers]


def _session(credentials: gcp.Credentials | gcp.IdTokenCredentials, service: Service) -> AuthorizedSession:
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # google-auth is not annotated
    session.mount("https://", service)
    return session


# -- requests ------------------------------------------------------------------------------------------------------


def test_a_session_carries_the_exchangers_token() -> None:
    service = Service()
    with _session(gcp.credentials(CountingGcp()), service) as session:
        assert session.get(URL).status_code == 200
    assert service.tokens == ["Bearer token-1"]
    assert "x-goog-user-project" not in service.headers[0]


@pytest.mark.parametrize("life_seconds", [225.0, 224.0, 900.0, 3600.0])
def test_one_exchange_for_a_thousand_calls(life_seconds: float) -> None:
    exchanger, service = CountingGcp(life_seconds), Service()
    with _session(gcp.credentials(exchanger), service) as session:
        for _ in range(1000):
            session.get(URL)
    assert exchanger.exchanges == 1
    assert set(service.tokens) == {"Bearer token-1"}


def test_one_exchange_for_each_refresh() -> None:
    exchanger = CountingGcp(200.0)
    credentials = gcp.credentials(exchanger)
    seen = set()
    for _ in range(1000):
        headers: dict[str, str] = {}
        credentials.before_request(None, "GET", URL, headers)
        seen.add(headers["authorization"])
        exchanger.passed_seconds += 2.0  # ten lives of 200 s
    assert exchanger.exchanges == len(seen) == 10


def test_threads_share_one_exchange() -> None:
    exchanger = CountingGcp()
    credentials = gcp.credentials(exchanger)
    gate = threading.Barrier(64)

    def call(number: int) -> None:
        gate.wait(10)
        if number % 2:
            credentials.before_request(None, "GET", URL, {})
        elif not credentials.valid:
            credentials.refresh()  # what programs do that know google-auth

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(call, range(64)))
    assert exchanger.exchanges == 1


def test_threads_that_all_refresh_at_the_start_share_one_exchange() -> None:
    exchanger = CountingGcp()
    credentials = gcp.credentials(exchanger)
    threads = [threading.Thread(target=credentials.refresh) for _ in range(64)]
    for thread in threads:
        thread.start()
        thread.join()  # one after the other: the worst order, each finds the token of the one before
    assert exchanger.exchanges == 1


# -- a rejected token ----------------------------------------------------------------------------------------------


def test_a_401_drops_the_token_once() -> None:
    exchanger = CountingGcp()
    service = Service(accept=lambda token: token != "Bearer token-1")
    with _session(gcp.credentials(exchanger), service) as session:
        assert session.get(URL).status_code == 200
    assert service.tokens == ["Bearer token-1", "Bearer token-2"]


def test_a_service_that_answers_401_for_ever_makes_no_storm() -> None:
    exchanger, service = CountingGcp(), Service(accept=lambda _: False)
    with _session(gcp.credentials(exchanger), service) as session:
        for _ in range(100):
            assert session.get(URL).status_code == 401
    assert exchanger.exchanges == 2


def test_threads_with_one_rejected_token_make_one_exchange() -> None:
    exchanger = CountingGcp()
    credentials = gcp.credentials(exchanger)
    service = Service(accept=lambda token: token != "Bearer token-1")
    gate = threading.Barrier(32)

    def call(_: int) -> int:
        with _session(credentials, service) as session:
            gate.wait(10)
            return session.get(URL).status_code

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(call, range(32))) == [200] * 32
    assert exchanger.exchanges == 2


def test_copies_share_the_memory_of_rejections() -> None:
    exchanger, service = CountingGcp(), Service(accept=lambda _: False)
    credentials = gcp.credentials(exchanger)
    for copied in (credentials, copy.copy(credentials), credentials.with_quota_project("q")):
        with _session(copied, service) as session:
            session.get(URL)
    assert exchanger.exchanges == 2


def test_refresh_makes_a_token_and_then_a_new_one() -> None:
    exchanger = CountingGcp()
    credentials = gcp.credentials(exchanger)
    credentials.refresh()
    assert (credentials.token, exchanger.exchanges) == ("token-1", 1)
    credentials.refresh()
    assert (credentials.token, exchanger.exchanges) == ("token-2", 2)


# -- what the object reports ---------------------------------------------------------------------------------------


def test_before_the_first_use_it_reports_nothing() -> None:
    exchanger = CountingGcp()
    credentials = gcp.credentials(exchanger)
    assert (credentials.token, credentials.expiry) == (None, None)
    assert (credentials.valid, credentials.expired, credentials.token_state) == (False, False, TokenState.INVALID)
    assert exchanger.calls == 0


@pytest.mark.parametrize("life_seconds", [100.0, 3600.0])
def test_after_a_use_it_reports_the_true_expiry(life_seconds: float) -> None:
    credentials = gcp.credentials(CountingGcp(life_seconds))
    credentials.refresh()
    assert credentials.expiry is not None
    left = credentials.expiry.replace(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(seconds=life_seconds - 10) < left <= timedelta(seconds=life_seconds)
    assert (credentials.valid, credentials.expired, credentials.token_state) == (True, False, TokenState.FRESH)


def test_after_the_end_of_its_life_it_reports_expired_and_a_use_renews_it() -> None:
    exchanger = CountingGcp(-1.0)
    credentials = gcp.credentials(exchanger)
    credentials.refresh()
    assert (credentials.valid, credentials.expired, credentials.token_state) == (False, True, TokenState.INVALID)
    exchanger.life_seconds = 3600.0
    assert credentials.token == "token-2"
    assert credentials.valid


def test_token_is_the_one_of_now_and_no_copy() -> None:
    exchanger = CountingGcp()
    credentials = gcp.credentials(exchanger)
    credentials.refresh()
    exchanger.invalidate()
    assert credentials.token == "token-2"


def test_token_and_expiry_cannot_be_set() -> None:
    credentials = gcp.credentials(CountingGcp())
    with pytest.raises(AttributeError, match="token is what the exchanger says"):
        credentials.token = "mine"
    with pytest.raises(AttributeError, match="expiry"):
        credentials.expiry = datetime(2030, 1, 1)  # noqa: DTZ001  # google-auth's times are naive


def test_the_kinds_that_clients_look_for() -> None:
    credentials = gcp.credentials(CountingGcp())
    assert isinstance(credentials, google.auth.credentials.Credentials)
    assert isinstance(credentials, google.auth.credentials.Scoped)
    assert isinstance(credentials, google.auth.credentials.CredentialsWithQuotaProject)
    assert not isinstance(credentials, google.auth.credentials.CredentialsWithRegionalAccessBoundary)
    assert credentials.project_id == "p"
    assert credentials.universe_domain == "googleapis.com"
    assert credentials.service_account_email == "app@p.iam.invalid"
    assert credentials.get_cred_info()["principal"] == "app@p.iam.invalid"
    assert "principal" not in gcp.credentials(CountingGcp(service_account=None)).get_cred_info()
    assert gcp.default(CountingGcp())[1] == "p"


def test_another_universe() -> None:
    exchanger = CountingGcp()
    exchanger.universe_domain = "example.goog"
    assert gcp.credentials(exchanger).universe_domain == "example.goog"


# -- scopes and quota project --------------------------------------------------------------------------------------


def test_scopes_of_the_user_then_of_the_library_then_of_the_exchanger() -> None:
    exchanger = CountingGcp()
    plain = gcp.credentials(exchanger)
    assert plain.requires_scopes
    library = google.auth.credentials.with_scopes_if_required(plain, None, default_scopes=[DRIVE])  # type: ignore[no-untyped-call]
    user = gcp.credentials(exchanger, scopes=["a", "b"])
    assert not user.requires_scopes
    assert google.auth.credentials.with_scopes_if_required(user, [DRIVE]) is user  # type: ignore[no-untyped-call]
    assert not library.requires_scopes
    for credentials in (plain, library, user, user.with_scopes(["c"])):
        credentials.refresh()
    assert exchanger.asked == [None, (DRIVE,), ("a", "b"), ("c",)]
    assert exchanger.exchanges == 4
    assert user.has_scopes(["a"])
    assert library.has_scopes([DRIVE])


def test_quota_project_of_the_caller_then_of_the_exchanger() -> None:
    exchanger, service = CountingGcp(), Service()
    exchanger.quota_project_id = "from-exchanger"
    for credentials in (gcp.credentials(exchanger), gcp.credentials(exchanger, quota_project_id="own")):
        with _session(credentials, service) as session:
            session.get(URL)
    with _session(gcp.credentials(exchanger).with_quota_project("changed"), service) as session:
        session.get(URL)
    assert [headers["x-goog-user-project"] for headers in service.headers] == ["from-exchanger", "own", "changed"]
    assert exchanger.exchanges == 1


def test_quota_project_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "billed")
    credentials = gcp.credentials(CountingGcp()).with_quota_project_from_environment()  # type: ignore[no-untyped-call]
    assert credentials.quota_project_id == "billed"


def test_with_scopes_keeps_the_quota_project() -> None:
    credentials = gcp.credentials(CountingGcp(), quota_project_id="q").with_scopes([DRIVE])
    assert credentials.quota_project_id == "q"


def test_apply_takes_a_token_of_the_caller() -> None:
    exchanger, headers = CountingGcp(), dict[str, str]()
    gcp.credentials(exchanger).apply(headers, token="other")
    assert headers == {"authorization": "Bearer other"}
    assert exchanger.calls == 0


# -- as the source of google-auth's own credentials ----------------------------------------------------------------


def test_as_the_source_of_downscoped_credentials() -> None:
    exchanger = CountingGcp()
    boundary = google.auth.downscoped.CredentialAccessBoundary(  # type: ignore[no-untyped-call]
        rules=[
            google.auth.downscoped.AccessBoundaryRule(  # type: ignore[no-untyped-call]
                available_resource="//storage.googleapis.com/projects/_/buckets/b",
                available_permissions=["inRole:roles/storage.objectViewer"],
            )
        ]
    )
    source = gcp.credentials(exchanger)
    sent = []

    class Answer:
        status = 200
        headers: Mapping[str, str] = {}
        data = b'{"access_token": "down", "expires_in": 3600, "token_type": "Bearer"}'

    def request(url: str, method: str = "GET", body: Any = None, **_: Any) -> Answer:
        sent.append(body)
        return Answer()

    for _ in range(50):  # one for each tenant, as such programs do; each refreshes its source
        google.auth.downscoped.Credentials(source, boundary).refresh(request)  # type: ignore[no-untyped-call]
    assert b"token-1" in sent[0]
    assert len(sent) == 50
    assert exchanger.exchanges <= 2


def test_as_the_source_of_impersonated_credentials() -> None:
    exchanger = CountingGcp()
    sent: list[Mapping[str, str]] = []

    class Answer:
        status = 200
        headers: Mapping[str, str] = {}
        data = b'{"accessToken": "other", "expireTime": "2099-01-01T00:00:00Z"}'

    def request(url: str, method: str = "GET", headers: Any = None, **_: Any) -> Answer:
        sent.append(headers)
        return Answer()

    target = google.auth.impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
        gcp.credentials(exchanger), "other@p.iam.gserviceaccount.com", ["a"]
    )
    target.refresh(request)  # type: ignore[no-untyped-call]
    assert target.token == "other"
    assert sent[0]["authorization"] == "Bearer token-1"
    assert exchanger.exchanges == 1


# -- ID tokens -----------------------------------------------------------------------------------------------------


def test_id_tokens_are_bearer_tokens_of_their_audience() -> None:
    exchanger, service = CountingGcp(), Service()
    credentials = gcp.id_token_credentials(exchanger, audience="https://run.invalid")
    with _session(credentials, service) as session:
        for _ in range(100):
            session.get(URL)
    with _session(credentials.with_target_audience("iap"), service) as session:
        session.get(URL)
    assert exchanger.asked[0] == ("https://run.invalid", True)
    assert exchanger.asked[-1] == ("iap", True)
    assert set(service.tokens) == {"Bearer token-1", "Bearer token-2"}
    assert credentials.target_audience == "https://run.invalid"
    gcp.id_token_credentials(exchanger, "x", include_email=False).refresh()
    assert exchanger.asked[-1] == ("x", False)


def test_id_tokens_need_an_audience_and_a_service_account() -> None:
    with pytest.raises(ConfigurationError, match="needs an audience"):
        gcp.id_token_credentials(CountingGcp())
    with pytest.raises(ConfigurationError, match="direct principal"):
        gcp.id_token_credentials(CountingGcp(service_account=None), audience="x")


# -- asyncio -------------------------------------------------------------------------------------------------------


class AioAnswer:
    def __init__(self, status: int) -> None:
        self.status_code = status
        self.headers: Mapping[str, str] = {}

    async def close(self) -> None:
        pass


class AioService:
    """A transport of google.auth.aio in memory."""

    def __init__(self, accept: Callable[[str], bool] = lambda _: True) -> None:
        self.tokens: list[str] = []
        self._accept = accept

    async def __call__(self, url: str, method: str, body: Any, headers: Mapping[str, str], *_: Any, **__: Any) -> Any:
        self.tokens.append(headers["authorization"])
        return AioAnswer(200 if self._accept(headers["authorization"]) else 401)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("make", [gcp.credentials, gcp.async_credentials])
def test_tasks_share_one_exchange(make: Callable[[CountingGcp], Any]) -> None:
    exchanger, service = CountingGcp(), AioService()

    async def main() -> None:
        session = AsyncAuthorizedSession(make(exchanger), auth_request=service)  # type: ignore[arg-type]
        await asyncio.gather(*(session.request("GET", URL) for _ in range(64)))
        await session.close()

    asyncio.run(main())
    assert exchanger.exchanges == 1
    assert service.tokens == ["Bearer token-1"] * 64


@pytest.mark.parametrize("make", [gcp.credentials, gcp.async_credentials])
def test_a_401_drops_the_token_for_a_task_too(make: Callable[[CountingGcp], Any]) -> None:
    exchanger, service = CountingGcp(), AioService(accept=lambda token: token != "Bearer token-1")

    async def main() -> None:
        session = AsyncAuthorizedSession(make(exchanger), auth_request=service)  # type: ignore[arg-type]
        assert (await session.request("GET", URL)).status_code == 200
        await session.close()

    asyncio.run(main())
    assert service.tokens == ["Bearer token-1", "Bearer token-2"]


def test_tasks_that_all_refresh_at_the_start_share_one_exchange() -> None:
    exchanger = CountingGcp()
    credentials = gcp.async_credentials(exchanger)

    async def main() -> None:
        await asyncio.gather(*(credentials.refresh() for _ in range(64)))

    asyncio.run(main())
    assert exchanger.exchanges == 1


def test_the_asynchronous_object_reports_and_copies() -> None:
    exchanger = CountingGcp()
    exchanger.quota_project_id = "q"
    credentials = gcp.async_credentials(exchanger, scopes=["a"])
    assert (credentials.token, credentials.valid, credentials.quota_project_id) == (None, False, "q")
    headers: dict[str, str] = {}
    asyncio.run(credentials.before_request(None, "GET", URL, headers))
    assert headers == {"authorization": "Bearer token-1", "x-goog-user-project": "q"}
    assert (credentials.token, credentials.valid) == ("token-1", True)
    asyncio.run(credentials.with_scopes(["b"]).refresh())
    assert exchanger.asked == [("a",), ("b",)]
    asyncio.run(credentials.apply(headers, token="mine"))
    assert headers["authorization"] == "Bearer mine"
    with pytest.raises(AttributeError):
        credentials.token = "mine"


def test_the_asynchronous_object_raises_refresh_error() -> None:
    exchanger = CountingGcp()
    exchanger.failure = RefusedError("no", code="trust-denied")
    credentials = gcp.async_credentials(exchanger)
    for call in (credentials.refresh(), credentials.apply({})):
        with pytest.raises(google.auth.exceptions.RefreshError) as caught:
            asyncio.run(call)
        assert caught.value.__cause__ is exchanger.failure


# -- errors, copies, secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [
        (RefusedError("Google does not trust it", code="trust-denied", cloud="gcp"), False),
        (UnavailableError("busy", code="cloud-unavailable", cloud="gcp"), True),
    ],
)
def test_a_refusal_is_google_auths_error_with_our_message(failure: Any, retryable: bool) -> None:
    exchanger = CountingGcp()
    exchanger.failure = failure
    credentials = gcp.credentials(exchanger)
    with (
        _session(credentials, Service()) as session,
        pytest.raises(google.auth.exceptions.RefreshError) as caught,
    ):
        session.get(URL)
    assert caught.value.__cause__ is failure
    assert str(caught.value) == str(failure)
    assert caught.value.retryable is retryable
    with pytest.raises(google.auth.exceptions.RefreshError):
        credentials.refresh()


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_a_copy_shares_the_exchanger(copier: Callable[[Any], Any]) -> None:
    exchanger = CountingGcp()
    made: list[Any] = [
        gcp.credentials(exchanger, ["a"], "q"),
        gcp.id_token_credentials(exchanger, "x"),
        gcp.async_credentials(exchanger, ["a"]),
    ]
    for credentials in made:
        twin = copier(credentials)
        assert type(twin) is type(credentials)
        assert twin.exchanger is exchanger
        assert twin._settings() == credentials._settings()


def test_pickling_needs_the_environment() -> None:
    with pytest.raises(ConfigurationError, match="cannot be pickled"):
        pickle.dumps(gcp.credentials(CountingGcp()))


def test_what_the_environment_made_is_made_by_the_environment_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(
        """{"type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"""
        """app@p.iam.gserviceaccount.com:generateAccessToken",
            "credential_source": {"file": "/var/run/secrets/token"}}"""
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    for credentials in (
        gcp.credentials(scopes=["a"], quota_project_id="q"),
        gcp.id_token_credentials(audience="x"),
        gcp.async_credentials(scopes=["a"]),
    ):
        twin = pickle.loads(pickle.dumps(credentials))
        assert type(twin) is type(credentials)
        assert twin.exchanger is not credentials.exchanger
        assert twin.service_account_email == "app@p.iam.gserviceaccount.com"
        assert twin._settings() == credentials._settings()
        assert pickle.dumps(credentials.__copy__())


def test_no_secret_is_shown() -> None:
    credentials = gcp.credentials(CountingGcp())
    credentials.refresh()
    assert "token-1" not in repr(credentials)
    assert "token-1" not in repr(vars(credentials))
