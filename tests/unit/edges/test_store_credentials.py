"""Whose credential a target gets: kept, renewed, refused, and never shown."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from wif.core.credentials import AccessToken, AwsCredentials
from wif.edges.stores.chains import aws_chain, azure_chain, google_chain
from wif.edges.stores.credentials import Identities, Identity, identity_of
from wif.errors import ConfigurationError, RefusedError, WifError

SECRET = "s3cr3t-value"


def token(value: str = SECRET, seconds: float = 3600.0) -> AccessToken:
    return AccessToken(token=value, expires_at=datetime.now(UTC) + timedelta(seconds=seconds), lifetime_seconds=seconds)


class FakeFederation:
    """Gives what it is told to, and counts."""

    def __init__(self, *answers: AccessToken | AwsCredentials | WifError | None) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, bool]] = []

    def __call__(self, cloud: str, *, rejected: bool = False) -> AccessToken | AwsCredentials | None:
        self.calls.append((cloud, rejected))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, WifError):
            raise answer
        return answer


def static_chain(_rejected: bool) -> Identity:
    return Identity(origin="the chain", secrets={"token": SECRET})


def identities(
    *answers: AccessToken | AwsCredentials | WifError | None,
    chain: Callable[[bool], Identity] = static_chain,
    second_way_in: str | None = None,
) -> tuple[Identities, FakeFederation]:
    federation = FakeFederation(*answers)
    found = Identities(
        "gcp",
        target="gs://bucket",
        chain=chain,
        federated=federation if answers else None,
        second_way_in=second_way_in,
    )
    return found, federation


def test_a_credential_is_kept() -> None:
    found, federation = identities(token())
    assert {found.current().secrets["token"] for _ in range(5)} == {SECRET}
    assert federation.calls == [("gcp", False)]


def test_a_credential_that_ends_within_a_minute_is_asked_for_each_time() -> None:
    found, federation = identities(token("a", 30), token("b"))
    assert [found.current().secrets["token"] for _ in range(3)] == ["a", "b", "b"]
    assert len(federation.calls) == 2


def test_a_refused_credential_is_renewed_by_one_of_all_who_saw_it_refused() -> None:
    found, federation = identities(token("a"), token("b"))
    refused = found.current()
    found.renew(refused)
    found.renew(refused)
    assert found.current().secrets["token"] == "b"
    assert federation.calls == [("gcp", False), ("gcp", True)]


def test_a_credential_that_has_ended_is_not_used() -> None:
    found, _ = identities(token(seconds=-1))
    with pytest.raises(ConfigurationError) as caught:
        found.current()
    assert caught.value.code == "credentials-rejected"
    assert "the federated credential ended at" in caught.value.message
    assert SECRET not in str(caught.value)


def test_without_a_federated_identity_the_chain_is_used() -> None:
    for found, _ in (identities(), identities(None)):
        assert found.origin == "no credential"
        assert found.current().origin == "the chain"
        assert found.origin == "the chain"


LOCKED_OUT = ["key-not-published", "signature-invalid", "trust-denied", "issuer-unknown", "issuer-unreachable"]


@pytest.mark.parametrize("code", LOCKED_OUT)
def test_the_second_way_in_opens_where_the_cloud_sees_a_broken_issuer(
    code: str, caplog: pytest.LogCaptureFixture
) -> None:
    found, _ = identities(RefusedError("no", code=code), second_way_in="standard-chain")
    with caplog.at_level(logging.WARNING, "wif.stores"):
        assert found.current().origin == "the chain"
    assert f"refused ({code})" in caplog.text
    assert "second way in" in caplog.text


@pytest.mark.parametrize(
    ("code", "second_way_in"),
    [*((code, None) for code in LOCKED_OUT), (LOCKED_OUT[0], "ask Kim"), ("timeout", "standard-chain")],
)
def test_it_stays_shut_otherwise(code: str, second_way_in: str | None) -> None:
    found, _ = identities(RefusedError("no", code=code), second_way_in=second_way_in)
    with pytest.raises(RefusedError) as caught:
        found.current()
    assert caught.value.code == code


def test_after_the_repair_the_first_way_is_taken_again() -> None:
    def short(_rejected: bool) -> Identity:
        ends = datetime.now(UTC) + timedelta(seconds=30)
        return Identity(origin="the chain", secrets={"token": SECRET}, expires_at=ends)

    found, _ = identities(
        RefusedError("no", code="key-not-published"), token(), chain=short, second_way_in="standard-chain"
    )
    assert found.current().origin == "the chain"
    assert found.current().origin == "the federated credential"


@pytest.mark.parametrize(("from_instance", "level"), [(False, logging.INFO), (True, logging.WARNING)])
def test_what_is_used_is_named_once(from_instance: bool, level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Loudly where the machine itself is the identity: nobody may have meant that."""
    identity = Identity(origin="the machine", secrets={"token": SECRET}, from_instance=from_instance)
    found, _ = identities(chain=lambda _rejected: identity)
    with caplog.at_level(logging.DEBUG, "wif.stores"):
        found.renew(found.current())
        found.current()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (level, "gs://bucket: written with the machine")
    ]
    assert SECRET not in caplog.text


def test_an_exchanged_credential_becomes_what_a_store_uses() -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    keys = AwsCredentials(
        access_key_id="AKID", secret_access_key=SECRET, session_token="st", expires_at=ends, lifetime_seconds=3600.0
    )
    assert identity_of(keys).secrets == {"access_key_id": "AKID", "secret_access_key": SECRET, "token": "st"}
    assert identity_of(token()).secrets == {"token": SECRET}
    assert identity_of(keys).expires_at == ends


def test_an_identity_shows_no_secret() -> None:
    assert SECRET not in repr(identity_of(token()))


AWS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.mark.parametrize(
    ("environ", "secrets"),
    [
        (AWS, {"access_key_id": "AKID", "secret_access_key": SECRET}),
        (
            AWS | {"AWS_SESSION_TOKEN": "st"},
            {"access_key_id": "AKID", "secret_access_key": SECRET, "token": "st"},
        ),
    ],
)
def test_static_keys_of_aws(environ: dict[str, str], secrets: dict[str, str]) -> None:
    identity = aws_chain("s3://bucket", environ)(False)
    assert identity.secrets == secrets
    assert identity.origin == "AWS_ACCESS_KEY_ID of the environment"


SAS = "sv=2024-11-04&sig=abc%3D"


@pytest.mark.parametrize(
    ("environ", "kind", "origin"),
    [
        ({"AZURE_STORAGE_KEY": SECRET}, "access_key", "AZURE_STORAGE_KEY"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": SECRET}, "access_key", "AZURE_STORAGE_ACCOUNT_KEY"),
        ({"AZURE_STORAGE_ACCOUNT": "account1", "AZURE_STORAGE_KEY": SECRET}, "access_key", "AZURE_STORAGE_KEY"),
        ({"AZURE_STORAGE_SAS_TOKEN": SAS, "AZURE_STORAGE_KEY": SECRET}, "sas_token", "AZURE_STORAGE_SAS_TOKEN"),
        ({"AZURE_STORAGE_SAS_TOKEN": f"?{SAS}"}, "sas_token", "AZURE_STORAGE_SAS_TOKEN"),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=account1;AccountKey={SECRET}==;EndpointSuffix=x"},
            "access_key",
            "AZURE_STORAGE_CONNECTION_STRING",
        ),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint=https://x;SharedAccessSignature={SAS}"},
            "sas_token",
            "AZURE_STORAGE_CONNECTION_STRING",
        ),
    ],
)
def test_static_secrets_of_azure(environ: dict[str, str], kind: str, origin: str) -> None:
    identity = azure_chain("az://account1/c", "account1", environ)(False)
    assert identity.origin == f"{origin} of the environment"
    assert identity.secrets in ({kind: SECRET}, {kind: f"{SECRET}=="}, {kind: SAS})


@pytest.mark.parametrize(
    "environ",
    [
        {"AZURE_STORAGE_ACCOUNT": "another", "AZURE_STORAGE_KEY": SECRET, "AZURE_STORAGE_SAS_TOKEN": SAS},
        {"AZURE_STORAGE_ACCOUNT_NAME": "another", "AZURE_STORAGE_KEY": SECRET},
        {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=another;AccountKey={SECRET}"},
    ],
)
def test_another_accounts_secret_is_not_sent(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(ConfigurationError) as caught:
        azure_chain("az://account1/c", "account1", environ)(False)
    assert caught.value.code == "extra-missing"


@pytest.mark.parametrize(
    ("module", "chain", "extra"),
    [
        ("botocore.session", lambda: aws_chain("s3://bucket", {}), "wif[aws]"),
        ("google.auth", lambda: google_chain("gs://bucket", ["scope"]), "wif[gcp]"),
        ("google.auth.transport.requests", lambda: google_chain("gs://bucket", ["scope"]), "wif[gcp]"),
        ("azure.identity", lambda: azure_chain("az://account1/c", "account1", {}), "wif[azure]"),
    ],
)
def test_an_sdk_that_is_not_installed_is_named_with_its_extra(
    module: str, chain: Callable[[], Callable[[bool], Identity]], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError) as caught:
        chain()(False)
    assert caught.value.code == "extra-missing"
    assert extra in (caught.value.hint or "")
