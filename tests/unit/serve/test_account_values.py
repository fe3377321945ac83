"""ServiceAccounts as small values: nothing is lost, equal is equal, and no tenant fills the memory."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wif.admission.accounts import ServiceAccount, packed
from wif.config.webhook import WebhookSettings
from wif.serve.account_values import MAX_ACCOUNT_BYTES, AccountValues

PREFIXES = WebhookSettings().prefixes
UID = "0f6f1f80-7e7b-4dbb-918b-43f050736065"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
accounts = st.builds(
    ServiceAccount,
    st.sampled_from(["a", "team-1"]),
    st.sampled_from(["b", "app"]),
    st.one_of(st.uuids().map(str), texts, st.just(UID.upper())),
    st.dictionaries(texts, texts, max_size=4),
)


def read(values: AccountValues, account: ServiceAccount) -> ServiceAccount | None:
    return values.read(account.namespace, account.name, values.make(account))


@given(accounts)
def test_an_account_comes_back_as_it_was(account: ServiceAccount) -> None:
    assert read(AccountValues(PREFIXES), account) == account


@given(accounts, accounts)
def test_values_are_equal_where_accounts_are(one: ServiceAccount, other: ServiceAccount) -> None:
    assume(one.annotations or other.annotations or one.uid != other.uid)  # a uid is one account's
    values = AccountValues(PREFIXES)
    assert (values.make(one) == values.make(other)) == (packed(one) == packed(other))


def test_an_account_without_annotations_costs_its_uid() -> None:
    values = AccountValues(PREFIXES)
    bare = ServiceAccount("namespace", "name", UID)
    assert len(values.make(bare)) == 17
    assert read(values, bare) == bare


@pytest.mark.parametrize("prefix", ["wif.internal/", "id.example.org/"])
def test_an_account_of_three_clouds_is_small_also_under_another_prefix(prefix: str) -> None:
    account = ServiceAccount(
        "team-7",
        "application-40007",
        UID,
        {
            "azure.workload.identity/client-id": str(uuid.UUID(int=40007)),
            "azure.workload.identity/tenant-id": "99999999-8888-4777-8666-555544443333",
            "cloud.google.com/service-account-email": "app-40007@project-7.iam.gserviceaccount.com",
            "cloud.google.com/workload-identity-provider": "projects/123456789012/locations/global/"
            "workloadIdentityPools/cluster-a/providers/kubernetes",
            "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/team-7-app-40007",
            f"{prefix}aws.region": "eu-central-1",
        },
    )
    values = AccountValues((*PREFIXES[1:], prefix))
    assert len(values.make(account)) < 230
    assert read(values, account) == account


@pytest.mark.parametrize("letter", ["a", "\x00"])
def test_an_account_that_is_too_large_is_known_by_its_digest_alone(letter: str) -> None:
    """However well it can be compressed: read, it would be large again."""
    values = AccountValues(PREFIXES)
    made = [ServiceAccount("a", "b", UID, {"wif.internal/x": letter * 20_000 + end}) for end in ("1", "2")]
    assert read(values, made[0]) is None
    assert len(values.make(made[0])) == 33
    assert values.make(made[0]) != values.make(made[1])
    fits = ServiceAccount("a", "b", UID, {"wif.internal/x": "a" * (MAX_ACCOUNT_BYTES - 100)})
    assert read(values, fits) == fits


def test_the_same_account_is_decoded_once() -> None:
    values = AccountValues(PREFIXES)
    account = ServiceAccount("a", "b", UID, {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/r"})
    assert read(values, account) is read(values, account)
