"""Trust files: read whole, refused with the object that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.emulator.local_sts import ISSUER, TENANT, trust
from wif.emulator import TrustStore
from wif.errors import ConfigurationError


def test_a_directory_of_three_files(tmp_path: Path) -> None:
    for name, document in trust().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    store, expected = TrustStore.from_directory(str(tmp_path)), TrustStore.from_mapping(trust())
    assert store.aws_providers == expected.aws_providers
    assert store.aws_roles.keys() == expected.aws_roles.keys()
    assert store.gcp_accounts == expected.gcp_accounts
    assert store.azure_identities == expected.azure_identities
    assert store.issuers == {ISSUER}


def test_a_file_that_is_not_there_is_no_trust(tmp_path: Path) -> None:
    (tmp_path / "aws.json").write_text(json.dumps(trust()["aws"]))
    store = TrustStore.from_directory(tmp_path)
    assert store.aws_roles
    assert not store.gcp_providers
    assert not store.azure_tenants


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.from_directory(tmp_path)
    assert caught.value.code == "config-missing"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "aws.json").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.from_directory(tmp_path)
    assert caught.value.code == "file-unusable"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"Roles": [], "Roles": []}'])
def test_a_file_that_is_no_json(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "aws.json").write_bytes(body)
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.from_directory(tmp_path)
    assert caught.value.code == "trust-invalid"
    assert "aws.json" in caught.value.message


def test_a_file_too_large(tmp_path: Path) -> None:
    with (tmp_path / "aws.json").open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(ConfigurationError, match="larger than"):
        TrustStore.from_directory(tmp_path)


def broken(cloud: str, *path: str | int, value: Any) -> dict[str, Any]:
    documents = trust()
    place: Any = documents[cloud]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return documents


PROVIDER: dict[str, Any] = trust()["gcp"]["providers"][0]

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"alibaba": {}}, "'alibaba'"),
    ({"aws": []}, "trust of aws is not an object"),
    (broken("aws", "roles", value=[]), "'roles'"),
    (broken("aws", "Roles", value={}), "Roles of aws is not a list"),
    (broken("aws", "Roles", value=trust()["aws"]["Roles"] * 2), "two roles"),
    (broken("aws", "OpenIDConnectProviders", value=trust()["aws"]["OpenIDConnectProviders"] * 2), "two OIDC providers"),
    (broken("aws", "DisabledRegions", value="eu-south-1"), "DisabledRegions"),
    (broken("gcp", "workloadIdentityPools", value=[]), "pool that is not in workloadIdentityPools"),
    (broken("gcp", "providers", value=[PROVIDER] * 2), "two providers"),
    (broken("gcp", "providers", 0, "attributeCondition", value="assertion.sub ="), "does not compile"),
    (broken("gcp", "providers", 0, "oidc", "jwksJson", value='{"keys": [{"kty": "RSA"}]}'), "no usable key"),
    (broken("gcp", "projects", 0, "projectNumber", value=5), "projectNumber"),
    (broken("gcp", "serviceAccountsWithExtendedLifetime", value=["nobody@example.com"]), "ExtendedLifetime"),
    (broken("azure", "tenants", 1, "tenantId", value=TENANT), "two tenants"),
    (broken("azure", "tenants", 1, "domains", value=["shop.example.com"]), "two tenants"),
    (broken("azure", "tenants", 0, "applications", 0, "managedIdentity", value="yes"), "managedIdentity"),
    (broken("azure", "tenants", 0, "applications", 0, "objectId", value=5), "objectId"),
]


@pytest.mark.parametrize(("documents", "named"), BROKEN, ids=[row[1] for row in BROKEN])
def test_what_is_wrong_is_named(documents: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TrustStore.from_mapping(documents)
    assert caught.value.code == "trust-invalid"
    assert named in caught.value.message


def test_lookups() -> None:
    store = TrustStore.from_mapping(trust())
    assert store.gcp_project("123456789012") == store.gcp_project("shop-project") == ("123456789012", "shop-project")
    assert store.gcp_project("other") is None
    assert store.azure_tenant("SHOP.example.com") is store.azure_tenant(TENANT)
    assert not store.azure_has_application("nobody")
    account = store.gcp_service_account("100000000000000000001")
    assert account is store.gcp_service_account("app@shop-project.iam.gserviceaccount.com")
