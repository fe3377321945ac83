"""boto3 with an exchanger's keys: real clients, real signatures, no network."""

from __future__ import annotations

import copy
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.awsrequest
import botocore.credentials
import botocore.session
import pytest
from botocore.exceptions import BotoCoreError, CredentialRetrievalError

from tests.unit.sdk.counting import CountingAws
from wif.errors import ConfigurationError, RefusedError
from wif.sdk import aws

IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:sts::111122223333:assumed-role/app/x</Arn><UserId>AROA:x</UserId><Account>111122223333</Account>
</GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class Answering:
    """botocore's public ``before-send`` event: what would be sent, and an answer in its place."""

    def __init__(self, session: boto3.Session, body: bytes = IDENTITY, status: int = 200) -> None:
        self.sent: list[botocore.awsrequest.AWSPreparedRequest] = []
        self._body = body
        self._status = status
        register: Any = session.events.register  # its stubs know no handler that answers
        register("before-send", self)

    def __call__(self, request: botocore.awsrequest.AWSPreparedRequest, **_: Any) -> botocore.awsrequest.AWSResponse:
        self.sent.append(request)
        raw: Any = _Raw(self._body)
        headers: Any = {}
        return botocore.awsrequest.AWSResponse(request.url, self._status, headers, raw)

    @property
    def keys_used(self) -> list[str]:
        found = []
        for request in self.sent:
            match = re.search(rb"Credential=(\w+)/", _bytes(request.headers["Authorization"]))
            assert match
            found.append(match[1].decode())
        return found


def _loaded(session: boto3.Session | botocore.session.Session) -> aws.Credentials:
    loaded = session.get_credentials()
    assert isinstance(loaded, aws.Credentials)
    return loaded


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def test_a_client_signs_with_the_exchangers_keys() -> None:
    session = aws.session(CountingAws())
    seen = Answering(session)
    assert session.client("sts").get_caller_identity()["Account"] == "111122223333"
    assert seen.keys_used == ["ASIA0000000000000001"]
    assert _bytes(seen.sent[0].headers["X-Amz-Security-Token"]) == b"session-1"


def test_a_session_and_a_client_cost_no_exchange() -> None:
    exchanger = CountingAws()
    session = aws.session(exchanger)
    session.client("s3")
    assert exchanger.calls == 0


@pytest.mark.parametrize("life_seconds", [900.0, 899.0, 600.0, 3600.0])
def test_one_exchange_for_a_thousand_calls(life_seconds: float) -> None:
    exchanger = CountingAws(life_seconds)
    session = aws.session(exchanger)
    seen = Answering(session)
    client = session.client("sts")
    for _ in range(50):
        client.get_caller_identity()
    for _ in range(950):
        client.generate_presigned_url("get_caller_identity")
    assert exchanger.exchanges == 1
    assert set(seen.keys_used) == {"ASIA0000000000000001"}


def test_one_exchange_for_each_refresh() -> None:
    exchanger = CountingAws(900.0)
    credentials = aws.credentials(exchanger)
    keys = set()
    for _ in range(1000):
        keys.add(credentials.get_frozen_credentials().access_key)
        exchanger.passed_seconds += 9.0  # ten lives of 900 s
    assert exchanger.exchanges == 10
    assert len(keys) == 10


def test_threads_share_one_exchange() -> None:
    exchanger = CountingAws()
    session = aws.session(exchanger)
    seen = Answering(session)
    client = session.client("sts")
    gate = threading.Barrier(16)

    def call(_: int) -> None:
        gate.wait(10)
        client.get_caller_identity()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))
    assert exchanger.exchanges == 1
    assert len(seen.sent) == 16


def test_presigned_urls_carry_the_session() -> None:
    client = aws.session(CountingAws()).client("s3")
    url = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    query = parse_qs(urlsplit(url).query)
    # S3's own default signature is chosen by region; both forms carry the same two facts
    assert "ASIA0000000000000001" in (query.get("X-Amz-Credential") or query["AWSAccessKeyId"])[0]
    assert (query.get("X-Amz-Security-Token") or query["x-amz-security-token"])[0] == "session-1"


def test_resources_work() -> None:
    session = aws.session(CountingAws())
    seen = Answering(session, body=b"")
    session.resource("s3").Object("bucket", "key").delete()
    assert seen.keys_used == ["ASIA0000000000000001"]


def test_the_account_reaches_account_based_endpoints() -> None:
    session = aws.session(CountingAws())
    seen = Answering(session, body=b"{}")
    session.client("dynamodb").list_tables()
    assert urlsplit(seen.sent[0].url).hostname == "111122223333.ddb.eu-central-1.amazonaws.com"
    assert aws.credentials(CountingAws()).account_id == "111122223333"


def test_the_single_properties() -> None:
    credentials = aws.credentials(CountingAws())
    assert (credentials.access_key, credentials.secret_key, credentials.token) == (
        "ASIA0000000000000001",
        "secret-1",
        "session-1",
    )
    assert credentials.method == "wif"
    assert isinstance(credentials, botocore.credentials.Credentials)


def test_no_secret_is_shown() -> None:
    credentials = aws.credentials(CountingAws())
    credentials.get_frozen_credentials()
    assert "secret" not in repr(credentials)
    assert "session-1" not in repr(credentials)
    assert "secret-1" not in str(vars(credentials)), "native objects hold no copy"


def test_a_copy_shares_the_exchanger() -> None:
    exchanger = CountingAws()
    credentials = aws.credentials(exchanger)
    for twin in (copy.copy(credentials), copy.deepcopy(credentials)):
        assert twin.exchanger is exchanger
        assert twin.method == "wif"


# -- region ------------------------------------------------------------------------------------------------------


def test_the_exchangers_region_is_passed_on() -> None:
    session = aws.session(CountingAws(region="eu-central-1"))
    assert session.region_name == "eu-central-1"
    assert session.client("sts").meta.endpoint_url == "https://sts.eu-central-1.amazonaws.com"


def test_the_callers_region_wins() -> None:
    assert aws.session(CountingAws(region="eu-central-1"), region="us-west-2").region_name == "us-west-2"


def test_without_any_region_botocore_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws.session(CountingAws(region=None)).region_name is None
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert aws.session(CountingAws(region=None)).region_name == "ap-south-1"


def test_an_existing_session_keeps_its_region() -> None:
    existing = botocore.session.Session()
    existing.set_config_variable("region", "ap-south-1")
    assert aws.session(CountingAws(), botocore_session=existing).region_name == "ap-south-1"
    assert aws.session(CountingAws(), botocore_session=botocore.session.Session()).region_name == "eu-central-1"


# -- an existing botocore session ----------------------------------------------------------------------------------


def test_an_existing_session_is_equipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT00000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    existing = botocore.session.Session()
    exchanger = CountingAws()
    session = aws.session(exchanger, botocore_session=existing)
    assert _loaded(session).access_key == "ASIA0000000000000001"
    assert _loaded(existing).exchanger is exchanger
    methods = [provider.METHOD for provider in existing.get_component("credential_provider").providers]
    assert methods[:2] == ["wif", "env"]


def test_equipping_twice_is_equipping_once() -> None:
    existing, exchanger = botocore.session.Session(), CountingAws()
    aws.session(exchanger, botocore_session=existing)
    aws.session(exchanger, botocore_session=existing)
    methods = [provider.METHOD for provider in existing.get_component("credential_provider").providers]
    assert methods.count("wif") == 1


def test_a_session_with_a_profile_is_equipped(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile other]\nregion = sa-east-1\naws_access_key_id = AKIAOTHER\n")
    existing = botocore.session.Session(profile="other")
    session = aws.session(CountingAws(), botocore_session=existing)
    assert _loaded(session).access_key == "ASIA0000000000000001"
    assert session.region_name == "sa-east-1"


def test_an_empty_chain_is_equipped() -> None:
    existing = botocore.session.Session()
    existing.register_component("credential_provider", botocore.credentials.CredentialResolver([]))
    assert _loaded(aws.session(CountingAws(), botocore_session=existing)).method == "wif"


def test_a_session_that_has_loaded_others_is_refused() -> None:
    existing = botocore.session.Session()
    existing.set_credentials("AKIAOTHER", "secret")
    with pytest.raises(ConfigurationError, match="'explicit'") as caught:
        aws.session(CountingAws(), botocore_session=existing)
    assert caught.value.code == "config-conflict"


def test_a_session_of_another_exchanger_is_refused() -> None:
    existing = botocore.session.Session()
    aws.session(CountingAws(), botocore_session=existing)
    with pytest.raises(ConfigurationError, match="loaded other credentials"):
        aws.session(CountingAws(), botocore_session=existing)


# -- errors --------------------------------------------------------------------------------------------------------


def test_a_refusal_is_botocores_error_with_our_message() -> None:
    exchanger = CountingAws()
    exchanger.failure = RefusedError("the role does not trust it", code="trust-denied", cloud="aws")
    client = aws.session(exchanger).client("sts")
    with pytest.raises(CredentialRetrievalError) as caught:
        client.get_caller_identity()
    assert isinstance(caught.value, BotoCoreError)
    assert caught.value.__cause__ is exchanger.failure
    assert str(exchanger.failure) in str(caught.value)
    assert exchanger.calls == 1, "botocore does not repeat what the exchanger has tried"
