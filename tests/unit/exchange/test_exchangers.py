"""The three exchangers: attempts, identity of the cache, audit, budget, environment."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import wif
from tests.unit.exchange.canned import (
    NOW,
    Canned,
    as_json,
    aws_error,
    aws_keys,
    entra_error,
    entra_token,
    form,
    google_token,
    service_account_token,
    subject_token,
)
from wif.core.flow import Request, Response
from wif.core.freshness import LIMITS, Limits
from wif.errors import (
    ConfigurationError,
    RefusedError,
    SubjectChanged,
    TokenError,
    TransportError,
    UnavailableError,
    WifError,
)
from wif.exchange.clocks import Clocks

ROLE = "arn:aws:iam::111122223333:role/app"
PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/on-prem/providers/cluster-a"
ACCOUNT = "app@my-project.iam.gserviceaccount.com"
TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
ARM = "https://management.azure.com/.default"
QUICK = Limits(backoff_seconds=0.001, refresh_jitter=0.0)


class Time:
    """The wall stands at the tokens' time; the steady clock moves when it is told to."""

    def __init__(self) -> None:
        self.passed = 0.0

    @property
    def clocks(self) -> Clocks:
        return Clocks(steady=lambda: self.passed, wall=lambda: NOW + self.passed, monotonic=time.monotonic)


class Tokens:
    """A source whose tokens are numbered."""

    origin = "the test's source"

    def __init__(self) -> None:
        self.reads = 0
        self.subject = "system:serviceaccount:shop:cart"

    def read(self) -> str:
        self.reads += 1
        return subject_token(self.subject, serial=self.reads)


def _defaults() -> dict[str, Any]:
    return {"source": Tokens(), "limits": QUICK, "clocks": Time().clocks, "environ": {}}


def aws(sender: Canned, **settings: Any) -> wif.AwsExchanger:
    settings = _defaults() | settings
    return wif.aws(ROLE, transport=sender, **settings)


def gcp(sender: Canned, **settings: Any) -> wif.GcpExchanger:
    settings = _defaults() | settings
    return wif.gcp(PROVIDER, transport=sender, **settings)


def azure(sender: Canned, **settings: Any) -> wif.AzureExchanger:
    settings = _defaults() | settings
    return wif.azure(TENANT, CLIENT, transport=sender, **settings)


def web_identity(*answers: Any) -> Canned:
    return Canned({"AssumeRoleWithWebIdentity": list(answers)})


def no_nonsense(request: Request) -> Response:
    """A federated token of Google's for every scope but those that it knows nothing of."""
    bad = "nonsense" in form(request)["scope"]
    return as_json({"error": "invalid_scope"}, 400) if bad else google_token()


class TestLifetime:
    def test_a_clock_that_is_set_gives_no_token_more_time(self) -> None:
        at, ahead = Time(), [1800.0]
        clocks = at.clocks._replace(wall=lambda: NOW + at.passed + ahead[0])
        exchanger = gcp(Canned({"token": [google_token(life_seconds=3600)]}), clocks=clocks)
        token = exchanger.credentials()
        exchanger.credentials(scopes=["another"])
        at.passed, ahead[0] = 900.0, 0.0
        assert exchanger.lifetime(token).left(900.0, NOW + 900.0) == 2700

    def test_a_token_that_was_replaced_meanwhile_ends_when_it_says(self) -> None:
        at = Time()
        exchanger = gcp(Canned({"token": [google_token(life_seconds=3600)]}), clocks=at.clocks)
        token = exchanger.credentials()
        exchanger.invalidate()
        exchanger.credentials()
        at.passed = 900.0
        assert exchanger.lifetime(token).left(900.0, NOW + 900.0) == 2700


class TestAttempts:
    def test_a_retry_carries_the_token_of_now(self) -> None:
        sender = web_identity(aws_error("IDPCommunicationError", "unreachable"), aws_keys())
        exchanger = aws(sender)
        assert exchanger.credentials().access_key_id == "ASIA000000000001"
        first, second = (form(request)["WebIdentityToken"] for request in sender.requests)
        assert first != second

    @pytest.mark.parametrize(
        "answer",
        [
            aws_error("Throttling", "Rate exceeded"),
            aws_error("InternalFailure", "", 500),
            aws_error(
                "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  please"
            ),
            TransportError("reset", code="connection-failed"),
        ],
        ids=["throttled", "500", "verification key", "connection"],
    )
    def test_what_may_pass_is_tried_four_times(self, answer: Any) -> None:
        sender = web_identity(answer)
        with pytest.raises(wif.WifError) as caught:
            aws(sender).credentials()
        assert caught.value.retryable
        assert len(sender.requests) == 4

    @pytest.mark.parametrize(
        "answer",
        [
            aws_error("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403),
            aws_error("InvalidIdentityToken", "Incorrect token audience"),
            aws_error("ExpiredTokenException", "Token expired: current date/time 2 must be before 1"),
        ],
        ids=["trust", "audience", "expired"],
    )
    def test_a_refusal_is_taken_at_its_word(self, answer: Any) -> None:
        sender = web_identity(answer)
        with pytest.raises(RefusedError):
            aws(sender).credentials()
        assert len(sender.requests) == 1

    def test_retry_after_beyond_the_total_ends_the_attempts(self) -> None:
        sender = Canned({"token": [as_json({"error": "slow_down"}, 429, **{"retry-after": "120"})]})
        with pytest.raises(UnavailableError) as caught:
            gcp(sender).credentials()
        assert caught.value.retry_after_seconds == 120
        assert len(sender.requests) == 1

    def test_the_deadline_holds_over_all_attempts(self) -> None:
        sender = Canned({"token": [lambda request: sender.hang(request)]})
        with pytest.raises(TransportError) as caught:
            gcp(sender, limits=Limits(total_seconds=0.1)).credentials()
        assert caught.value.code == "timeout"
        assert sender.aborted.wait(5), "the request was ended from outside"

    @pytest.mark.parametrize("number", [700211, 700212, 700213, 70021])
    def test_a_fresh_azure_trust_is_waited_for_only_when_asked(self, number: int) -> None:
        impatient = Canned({"token": [entra_error(number), entra_token()]})
        with pytest.raises(RefusedError):
            azure(impatient).credentials(scope=ARM)
        assert len(impatient.requests) == 1
        patient = Canned({"token": [entra_error(number)] * 6 + [entra_token()]})
        assert azure(patient, propagation_seconds=20).credentials(scope=ARM).token == "eyJ.entra.1"
        assert len(patient.requests) == 7

    @pytest.mark.parametrize("number", [70025, 7000272, 90033, 50166, 501661, 90061])
    def test_azures_passing_failures_are_tried_again(self, number: int) -> None:
        sender = Canned({"token": [entra_error(number), entra_token()]})
        azure(sender).credentials(scope=ARM)
        assert len(sender.requests) == 2

    def test_an_unusable_token_is_refused_before_any_request(self) -> None:
        sender = web_identity(aws_keys())
        with pytest.raises(TokenError) as caught:
            aws(sender, source=lambda: subject_token(exp=NOW - 61)).credentials()
        assert caught.value.code == "token-expired"
        assert sender.requests == []

    def test_the_audience_is_checked_only_where_the_caller_names_one(self) -> None:
        sender = web_identity(aws_keys())
        with pytest.raises(TokenError) as caught:
            aws(sender, audience="api://other").credentials()
        assert caught.value.code == "token-audience"
        assert sender.requests == []


class TestIdentity:
    def test_another_subject_is_never_served_from_the_cache(self) -> None:
        tokens, at = Tokens(), Time()
        sender = Canned({"token": [entra_token()]})
        exchanger = azure(sender, source=tokens, clocks=at.clocks)
        exchanger.credentials(scope=ARM)
        exchanger.credentials(scope="https://graph.microsoft.com/.default")
        tokens.subject = "system:serviceaccount:shop:admin"
        exchanger.invalidate()
        with pytest.raises(SubjectChanged, match="shop:admin"):
            exchanger.credentials(scope=ARM)
        with pytest.raises(SubjectChanged):
            exchanger.credentials(scope="https://graph.microsoft.com/.default")
        assert len(sender.requests) == 2

    def test_a_closed_exchanger_says_so(self) -> None:
        exchanger = aws(web_identity(aws_keys()))
        with exchanger:
            exchanger.credentials()
        with pytest.raises(ConfigurationError, match="closed"):
            exchanger.credentials()
        sender = gcp(Canned({"token": [google_token()]}))
        sender.close()
        with pytest.raises(ConfigurationError, match="closed"):
            sender.credentials(scopes=["s"])

    def test_repr_names_identity_and_source(self) -> None:
        assert repr(aws(web_identity())) == f"<AwsExchanger {ROLE} from the test's source>"


class TestAudit:
    def test_one_flat_record_for_each_exchange_valid_json_without_secrets(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[Mapping[str, Any]] = []
        with caplog.at_level(logging.INFO, "wif.audit"):
            exchanger = aws(web_identity(aws_keys()), region="eu-west-1", on_refresh=seen.append)
            exchanger.credentials()
            exchanger.credentials()
        (entry,) = [record for record in caplog.records if record.name == "wif.audit"]
        record = json.loads(entry.getMessage())
        duration = record.pop("duration_seconds")
        assert duration >= 0
        assert record == {
            "event": "exchange",
            "outcome": "issued",
            "cloud": "aws",
            "operation": "AssumeRoleWithWebIdentity",
            "identity": ROLE,
            "attempts": 1,
            "issuer": "https://oidc.example.com/cluster-a",
            "subject": "system:serviceaccount:shop:cart",
            "audience": "sts.amazonaws.com",
            "service_account_uid": "uid-of-cart",
            "pod": "cart-0",
            "jti": "JTI=jti-1",
            "region": "eu-west-1",
            "endpoint_host": "sts.eu-west-1.amazonaws.com",
            "expires_at": "2026-09-21T15:13:20Z",
            "credential_id": "ASIA000000000001",
        }
        for _ in range(100):
            if seen:
                break
            time.sleep(0.01)
        assert len(seen) == 1
        assert all(isinstance(value, str | int | float) for value in seen[0].values())

    def test_a_refusal_is_recorded_too(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "wif.audit"), pytest.raises(RefusedError):
            azure(Canned({"token": [entra_error(700213)]})).credentials(scope=ARM)
        record = json.loads(caplog.records[-1].getMessage())
        assert record["outcome"] == "refused"
        assert (record["code"], record["clause"], record["cloud_code"]) == (
            "subject-mismatch",
            "subject",
            "AADSTS700213",
        )
        assert record["scopes"] == ARM

    def test_a_bearer_token_is_known_by_its_hash(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "wif.audit"):
            token = gcp(Canned({"token": [google_token()]})).credentials().token
        text = caplog.records[-1].getMessage()
        assert token not in text
        assert len(json.loads(text)["credential_id"]) == 16

    def test_statistics_count(self) -> None:
        exchanger = aws(web_identity(aws_error("Throttling", ""), aws_keys()))
        exchanger.credentials()
        exchanger.credentials()
        assert (exchanger.statistics.exchanges, exchanger.statistics.requests, exchanger.statistics.failures) == (
            1,
            2,
            0,
        )


class TestAws:
    @pytest.mark.parametrize(
        ("environ", "host"),
        [
            ({}, "sts.amazonaws.com"),
            ({"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "us-east-1"}, "sts.eu-central-1.amazonaws.com"),
            ({"AWS_DEFAULT_REGION": "cn-north-1"}, "sts.cn-north-1.amazonaws.com.cn"),
            ({"AWS_ENDPOINT_URL_STS": "https://sts.example.com:8443"}, "sts.example.com:8443"),
            (
                {"AWS_ENDPOINT_URL_STS": "https://x.example.com", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
                "sts.amazonaws.com",
            ),
        ],
    )
    def test_the_endpoint_follows_the_environment(self, environ: dict[str, str], host: str) -> None:
        sender = web_identity(aws_keys())
        aws(sender, environ=environ).credentials()
        assert sender.requests[0].url.startswith(f"https://{host}")

    def test_the_session_is_named_after_the_pod(self) -> None:
        sender = web_identity(aws_keys())
        aws(sender).credentials()
        assert "cart-0" in form(sender.requests[0])["RoleSessionName"]

    def test_chained_roles_reuse_the_first_ones_keys(self) -> None:
        second = "arn:aws:iam::444455556666:role/second"
        third = "arn:aws:iam::444455556666:role/third"
        sender = Canned(
            {
                "AssumeRoleWithWebIdentity": [aws_keys(1)],
                "AssumeRole": [
                    aws_keys(2, operation="AssumeRole"),
                    aws_error("InternalFailure", "", 500),
                    aws_keys(3, operation="AssumeRole"),
                ],
            }
        )
        chain = [wif.ChainedRole(role_arn=second, external_id="external"), wif.ChainedRole(role_arn=third)]
        exchanger = aws(sender, chain=chain)
        assert exchanger.role_arn == third
        assert exchanger.credentials().access_key_id == "ASIA000000000003"
        assert (sender.count("AssumeRoleWithWebIdentity"), sender.count("AssumeRole")) == (1, 3)

    def test_a_foreign_endpoint_never_sees_the_token(self) -> None:
        sender = web_identity(aws_keys())
        exchanger = wif.aws(
            ROLE,
            source=Tokens(),
            transport=sender,
            clocks=Time().clocks,
            endpoint_url="http://sts.example.com",
            environ={},
        )
        with pytest.raises(ConfigurationError) as caught:
            exchanger.credentials()
        assert caught.value.code == "host-not-allowed"
        assert sender.requests == []

    def test_acredentials(self) -> None:
        exchanger = aws(web_identity(aws_keys()))

        async def main() -> str:
            return (await exchanger.acredentials()).access_key_id

        assert asyncio.run(main()) == asyncio.run(main()) == "ASIA000000000001"


class TestGcp:
    def test_direct_access_is_one_request(self) -> None:
        sender = Canned({"token": [google_token()]})
        assert gcp(sender).credentials().token == "ya29.federated-1"
        assert len(sender.requests) == 1
        assert form(sender.requests[0])["scope"] == "https://www.googleapis.com/auth/cloud-platform"

    def test_impersonation_is_two_and_the_second_is_retried_alone(self) -> None:
        sender = Canned({"token": [google_token()], "generateAccessToken": [as_json({}, 503), service_account_token()]})
        assert gcp(sender, service_account=ACCOUNT).credentials().token == "ya29.account-1"
        assert (sender.count("token"), sender.count("generateAccessToken")) == (1, 2)

    def test_the_failure_of_the_first_step_is_not_multiplied_by_the_second(self) -> None:
        sender = Canned({"token": [as_json({}, 503)]})
        with pytest.raises(UnavailableError):
            gcp(sender, service_account=ACCOUNT).credentials()
        assert len(sender.requests) == 4

    def test_id_tokens_need_a_service_account(self) -> None:
        with pytest.raises(ConfigurationError, match="service account"):
            gcp(Canned({"token": [google_token()]})).id_token(audience="https://run.example.com")

    def test_id_tokens_and_access_tokens_share_the_federated_token(self) -> None:
        made = subject_token(exp=NOW + 3600)
        sender = Canned(
            {
                "token": [google_token()],
                "generateAccessToken": [service_account_token()],
                "generateIdToken": [as_json({"token": made})],
            }
        )
        exchanger = gcp(sender, service_account=ACCOUNT)
        exchanger.credentials()
        assert exchanger.id_token(audience="https://run.example.com").token == made
        assert exchanger.federated_token().token == "ya29.federated-1"
        assert asyncio.run(exchanger.aid_token(audience="https://run.example.com")).token == made
        assert len(sender.requests) == 3

    def test_scopes_have_caches_of_their_own_and_these_are_bounded(self) -> None:
        sender = Canned({"token": [google_token()]})
        exchanger = gcp(sender)
        for number in range(200):
            exchanger.credentials(scopes=[f"scope-{number}"])
        assert len(exchanger._cells) == 64
        exchanger.credentials(scopes=["scope-199"])
        assert len(sender.requests) == 200
        assert asyncio.run(exchanger.acredentials()).token == "ya29.federated-1"

    def test_who_asks_for_many_scopes_takes_no_token_that_is_in_use(self) -> None:
        sender = Canned({"token": [google_token()]})
        exchanger = gcp(sender)
        exchanger.credentials()
        for number in range(200):
            exchanger.credentials(scopes=[f"scope-{number}"])
            exchanger.credentials(scopes=["in-use"])
        assert len(sender.requests) == 202
        exchanger.credentials()
        assert len(sender.requests) == 202, "the default's token is kept, whatever else is asked for"

    def test_who_asks_for_what_is_refused_takes_no_valid_token_though_nobody_asks_for_it_meanwhile(self) -> None:
        sender = Canned({"token": [no_nonsense]})
        exchanger = gcp(sender)
        exchanger.credentials(scopes=["rare"])
        for number in range(100):
            with pytest.raises(RefusedError):
                exchanger.credentials(scopes=[f"nonsense-{number}"])
        asked = len(sender.requests)
        exchanger.credentials(scopes=["rare"])
        assert len(sender.requests) == asked
        assert len(exchanger._cells) == 64

    def test_what_is_refused_takes_turns_at_a_place_and_is_not_tried_at_each(self) -> None:
        sender = Canned({"token": [no_nonsense]})
        exchanger = gcp(sender)
        for number in range(63):
            exchanger.credentials(scopes=[f"good-{number}"])
        codes = set()
        for number in range(200):
            with pytest.raises(WifError) as caught:
                exchanger.credentials(scopes=[f"nonsense-{number % 2}"])
            codes.add(caught.value.code)
        assert len(sender.requests) - 63 == LIMITS.exchanges_per_minute
        assert "rate-limited" in codes

    def test_who_asks_for_what_is_refused_ends_no_exchange_that_others_wait_for(self) -> None:
        def answer(request: Request) -> Response:
            if form(request)["scope"] != "slow":
                return as_json({"error": "invalid_scope"}, 400)
            return google_token() if go_on.wait(5) and not sender.aborted.is_set() else sender.hang(request)

        go_on = threading.Event()
        sender = Canned({"token": [answer]})
        exchanger = gcp(sender)
        with pytest.raises(TransportError, match="this caller's"):
            exchanger.credentials(scopes=["slow"], timeout=0.0)
        for number in range(100):
            with pytest.raises(RefusedError):
                exchanger.credentials(scopes=[f"nonsense-{number}"])
        go_on.set()
        assert exchanger.credentials(scopes=["slow"]).token == "ya29.federated-1"
        assert sum(form(request)["scope"] == "slow" for request in sender.requests) == 1

    def test_another_universe_named_in_code_names_its_hosts(self) -> None:
        sender = Canned({"token": [google_token()]})
        gcp(sender, universe_domain="example.goog").credentials()
        assert sender.requests[0].url == "https://sts.example.goog/v1/token"

    @pytest.mark.parametrize(
        "settings",
        [
            {"region": "europe-west3"},
            {"token_url": "https://sts.example.com/v1/token"},
        ],
    )
    def test_endpoints_that_the_caller_names(self, settings: dict[str, str]) -> None:
        sender = Canned({"token": [google_token()]})
        gcp(sender, **settings).credentials()
        expected = settings.get("token_url", "https://sts.europe-west3.rep.googleapis.com/v1/token")
        assert sender.requests[0].url == expected


class TestAzure:
    def test_a_token_for_a_scope(self) -> None:
        sender = Canned({"token": [entra_token()]})
        exchanger = azure(sender, scope=ARM)
        assert exchanger.credentials().token == "eyJ.entra.1"
        assert exchanger.credentials(scope=ARM).token == "eyJ.entra.1"
        assert asyncio.run(exchanger.acredentials()).token == "eyJ.entra.1"
        assert len(sender.requests) == 1
        assert sender.requests[0].url == f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"

    def test_without_a_scope_there_is_nothing_to_ask_for(self) -> None:
        with pytest.raises(ConfigurationError, match="scope"):
            azure(Canned({})).credentials()

    def test_a_claims_challenge_drops_the_token_once(self) -> None:
        sender = Canned({"token": [entra_token(1), entra_token(2), entra_token(3)]})
        exchanger = azure(sender, scope=ARM)
        challenge = '{"access_token":{"nbf":{"essential":true,"value":"1"}}}'
        assert exchanger.credentials().token == "eyJ.entra.1"
        assert [exchanger.credentials(claims=challenge).token for _ in range(10)] == ["eyJ.entra.2"] * 10
        assert form(sender.requests[1])["claims"] == challenge
        assert exchanger.credentials(claims=challenge.replace("1", "2")).token == "eyJ.entra.3"

    def test_the_authority_of_the_environment_is_the_callers_word(self) -> None:
        sender = Canned({"token": [entra_token()]})
        azure(sender, environ={"AZURE_AUTHORITY_HOST": "https://login.example.com/"}, scope=ARM).credentials()
        assert sender.requests[0].url.startswith("https://login.example.com/1111")


class TestEnvironment:
    def test_nothing_set_is_none(self) -> None:
        env = wif.from_env({})
        assert (env.aws, env.gcp, env.azure) == (None, None, None)

    def test_all_three_at_once(self, tmp_path: Path) -> None:
        env = wif.from_env(self.variables(tmp_path), transport=Canned({}), limits=QUICK)
        assert env.aws is not None
        assert env.gcp is not None
        assert env.azure is not None
        assert env.aws is env.aws
        assert env.aws.region == "eu-west-1"
        assert env.gcp.service_account == ACCOUNT
        assert env.azure.tenant_id == TENANT
        assert env.azure.authority == "https://login.microsoftonline.com"

    @pytest.mark.parametrize(
        ("missing", "cloud"),
        [
            ("AWS_ROLE_ARN", "aws"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "aws"),
            ("AZURE_CLIENT_ID", "azure"),
            ("AZURE_TENANT_ID", "azure"),
            ("AZURE_FEDERATED_TOKEN_FILE", "azure"),
        ],
    )
    def test_what_is_missing_is_named_and_spoils_nothing_else(self, missing: str, cloud: str, tmp_path: Path) -> None:
        variables = self.variables(tmp_path)
        del variables[missing]
        env = wif.from_env(variables)
        with pytest.raises(ConfigurationError, match=missing) as caught:
            getattr(env, cloud)
        assert caught.value.code == "config-missing"
        assert env.gcp is not None
        assert (env.azure if cloud == "aws" else env.aws) is not None

    def test_one_token_file_for_all(self, tmp_path: Path) -> None:
        variables = self.variables(tmp_path) | {"WIF_TOKEN_FILE": str(tmp_path / "token")}
        del variables["AWS_WEB_IDENTITY_TOKEN_FILE"], variables["AZURE_FEDERATED_TOKEN_FILE"]
        env = wif.from_env(variables)
        assert env.aws is not None
        assert env.azure is not None
        assert env.aws.source.origin == env.azure.source.origin

    def test_no_source_at_all_says_what_to_set(self) -> None:
        with pytest.raises(ConfigurationError, match="WIF_TOKEN_FILE and AWS_WEB_IDENTITY_TOKEN_FILE"):
            wif.aws(ROLE, environ={})

    def variables(self, tmp_path: Path) -> dict[str, str]:
        token = tmp_path / "token"
        token.write_text(subject_token())
        credentials = tmp_path / "credentials.json"
        credentials.write_text(json.dumps(external_account(str(token))))
        return {
            "AWS_ROLE_ARN": ROLE,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_REGION": "eu-west-1",
            "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_TENANT_ID": TENANT,
            "AZURE_FEDERATED_TOKEN_FILE": str(token),
        }


class TestForeignFiles:
    def file(self, tmp_path: Path, **changes: Any) -> Path:
        token = tmp_path / "token"
        token.write_text(subject_token())
        path = tmp_path / "credentials.json"
        path.write_text(json.dumps(external_account(str(token)) | changes))
        return path

    def test_a_file_as_gcloud_writes_it_works(self, tmp_path: Path) -> None:
        sender = Canned({"token": [google_token()], "generateAccessToken": [service_account_token()]})
        exchanger = wif.gcp.from_file(
            self.file(tmp_path), transport=sender, clocks=Time().clocks, environ={"GOOGLE_CLOUD_PROJECT": "p"}
        )
        assert exchanger.credentials().token == "ya29.account-1"
        assert exchanger.project_id == "p"

    @pytest.mark.parametrize(
        "changes",
        [
            {"token_url": "https://sts.googleapis.com.evil.example/v1/token"},
            {"token_url": "http://sts.googleapis.com/v1/token"},
            {"token_url": "http://127.0.0.1:1/v1/token"},
            {"universe_domain": "evil.example", "token_url": "https://sts.evil.example/v1/token"},
        ],
    )
    def test_its_urls_are_data_and_not_the_callers_word(self, changes: dict[str, str], tmp_path: Path) -> None:
        sender = Canned({"token": [google_token()]})
        exchanger = wif.gcp.from_file(
            self.file(tmp_path, **changes), transport=sender, clocks=Time().clocks, environ={}
        )
        with pytest.raises(ConfigurationError) as caught:
            exchanger.credentials()
        assert caught.value.code == "host-not-allowed"
        assert sender.requests == []

    def test_a_json_member_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "token.json").write_text(json.dumps({"id_token": subject_token()}))
        source = {
            "file": str(tmp_path / "token.json"),
            "format": {"type": "json", "subject_token_field_name": "id_token"},
        }
        sender = Canned({"token": [google_token()], "generateAccessToken": [service_account_token()]})
        path = self.file(tmp_path, credential_source=source)
        wif.gcp.from_file(path, transport=sender, clocks=Time().clocks, environ={}).credentials()
        assert form(sender.requests[0])["subject_token"] == subject_token()

    def test_a_host_that_the_caller_allows_may_be_asked(self, tmp_path: Path) -> None:
        sender = Canned({"token": [google_token()], "generateAccessToken": [service_account_token()]})
        path = self.file(tmp_path, token_url="https://sts.example.com/v1/token")
        environ = {"WIF_ALLOW_HOSTS": "sts.example.com"}
        wif.gcp.from_file(path, transport=sender, clocks=Time().clocks, environ=environ).credentials()
        assert sender.count("token") == 1

    def test_an_executable_source_does_not_run_unless_google_s_own_switch_says_so(self, tmp_path: Path) -> None:
        path = self.file(tmp_path, credential_source={"executable": {"command": "/bin/false"}})
        sender = Canned({"token": [google_token()]})
        with pytest.raises(ConfigurationError) as caught:
            wif.gcp.from_file(path, transport=sender, clocks=Time().clocks, environ={}).credentials()
        assert caught.value.code == "credential-source-refused"

    @pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 5000])
    def test_a_broken_file_is_named(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "broken.json"
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"broken\.json"):
            wif.gcp.from_file(path, environ={})


def external_account(token_file: str) -> dict[str, Any]:
    return {
        "universe_domain": "googleapis.com",
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{PROVIDER}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": token_file},
        "service_account_impersonation_url": (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
        ),
    }
