"""A source of keys is never one of the places that are written to, however it is spelt."""

from __future__ import annotations

from pathlib import Path

import pytest

from wif.config.issuers import TargetSettings
from wif.errors import ConfigurationError
from wif.issuer.addresses import check_sources, document_paths, public_urls

ISSUER = "https://issuer.example.com/a"
JWKS_URI = "https://issuer.example.com/a/openid/v1/jwks"


def refused(source: str, *targets: TargetSettings, jwks_uri: str = JWKS_URI) -> str:
    """The code with which a source is refused; empty where it is one."""
    try:
        check_sources([source], [], targets, issuer=ISSUER, jwks_uri=jwks_uri)
    except ConfigurationError as error:
        return error.code if source in error.message else "the message does not name the source"
    return ""


@pytest.mark.parametrize(
    "source",
    [
        JWKS_URI,
        "https://ISSUER.example.com/a/openid/v1/jwks",
        "https://issuer.example.com:443/a/openid/v1/jwks",
        "https://issuer.example.com./a/openid/v1/jwks",
        "http://issuer.example.com/a/openid/v1/jwks",
        "https://issuer.example.com/a//openid/v1/../v1/jwks",
        "https://issuer.example.com/a/openid/v1/%6awks",
        "https://issuer.example.com/a/openid/v1/jwks?version=1#x",
        "https://user@issuer.example.com/a/openid/v1/jwks",
        "https://issuer.example.com/a/.well-known/openid-configuration",
    ],
)
def test_the_issuers_own_documents_are_no_source(source: str) -> None:
    assert refused(source) == "source-is-target"


@pytest.mark.parametrize(
    "source",
    [
        "https://issuer.example.com/b/openid/v1/jwks",
        "https://issuer.example.com:8443/a/openid/v1/jwks",
        "https://other.example.com/a/openid/v1/jwks",
        "keys.json",
    ],
)
def test_other_addresses_are_sources(source: str) -> None:
    assert not refused(source)


def test_a_jwks_uri_elsewhere_is_no_source_either() -> None:
    elsewhere = "https://cdn.example.com/keys"
    assert refused(elsewhere, jwks_uri=elsewhere) == "source-is-target"
    assert not refused(elsewhere)


S3 = TargetSettings(url="s3://bucket/a", region="eu-central-1", endpoint="https://minio.example.com")
GS = TargetSettings(url="gs://bucket/a")
AZ = TargetSettings(url="az://account/container/a")


@pytest.mark.parametrize(
    ("target", "source"),
    [
        (S3, "https://bucket.s3.amazonaws.com/a/openid/v1/jwks"),
        (S3, "https://bucket.s3.eu-central-1.amazonaws.com/a/openid/v1/jwks"),
        (S3, "https://s3.eu-central-1.amazonaws.com/bucket/a/openid/v1/jwks"),
        (S3, "https://minio.example.com/bucket/a/openid/v1/jwks"),
        (GS, "https://storage.googleapis.com/bucket/a/openid/v1/jwks"),
        (GS, "https://bucket.storage.googleapis.com/a/openid/v1/jwks"),
        (AZ, "https://account.blob.core.windows.net/container/a/openid/v1/jwks"),
        (AZ, "https://account.blob.core.windows.net/container/a/.well-known/openid-configuration"),
        (S3, "s3://bucket/a"),
        (S3, "s3://bucket/a/openid/v1/jwks"),
    ],
)
def test_a_stores_own_address_of_a_target_is_no_source(target: TargetSettings, source: str) -> None:
    assert refused(source, target) == "source-is-target"
    assert not refused(source.replace("bucket", "other").replace("account.", "other."), target)


def test_a_file_below_a_target_is_no_source_also_through_a_link(tmp_path: Path) -> None:
    target = TargetSettings(url=f"file://{tmp_path}/out%20put")
    inside = tmp_path / "out put" / "openid" / "v1" / "jwks"
    inside.parent.mkdir(parents=True)
    inside.write_text("{}")
    link = tmp_path / "link.json"
    link.symlink_to(inside)
    for source in (str(inside), f"file://{tmp_path}/out%20put/openid/v1/jwks", str(link)):
        assert refused(source, target) == "source-is-target"
    assert not refused(str(tmp_path / "out put.json"), target)
    with pytest.raises(ConfigurationError):
        check_sources([], [str(inside)], [target], issuer=ISSUER, jwks_uri=JWKS_URI)  # a PEM file there


@pytest.mark.parametrize(
    ("jwks_uri", "path"),
    [
        (JWKS_URI, "openid/v1/jwks"),
        (f"{ISSUER}/keys.json", "keys.json"),
        ("https://elsewhere.example.com/keys.json", "openid/v1/jwks"),
        (f"{ISSUER}-b/keys.json", "openid/v1/jwks"),
    ],
)
def test_the_key_set_stands_where_the_issuers_address_leads(jwks_uri: str, path: str) -> None:
    assert document_paths(ISSUER, jwks_uri) == (".well-known/openid-configuration", path)
    assert document_paths(f"{ISSUER}/", jwks_uri)[1] == path


def test_targets_without_an_address_have_none() -> None:
    for url in ("file:///srv", "configmap:a/b", "gcp-provider:projects/1/locations/global"):
        assert list(public_urls(TargetSettings(url=url), ["x"])) == []
