"""Which authorities a setting of variables names, and the errors where it names none."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme

from wif.edges.tls import Authorities, authorities
from wif.errors import ConfigurationError

ALL = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

ORDERS = {
    "aws": ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
    "gcp": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"),
    "azure": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"),
    None: ("SSL_CERT_FILE",),
}


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, str]:
    found = {}
    for name in ALL:
        path = tmp_path / f"{name}.pem"
        trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.write_to_path(path)
        found[name] = str(path)
    return found


@pytest.mark.parametrize("cloud", ORDERS)
def test_the_strongest_variable_wins_and_its_order_is_the_sdks(cloud: str | None, bundles: dict[str, str]) -> None:
    left = dict(bundles)
    for name in ORDERS[cloud]:
        chosen = authorities(cloud, left)
        assert chosen.cafile == bundles[name]
        assert name in chosen.origin
        del left[name]
    assert authorities(cloud, left).origin in ("the system's store", "certifi")


@pytest.mark.parametrize("cloud", ORDERS)
def test_an_empty_variable_is_none(cloud: str | None, bundles: dict[str, str]) -> None:
    first, *rest = ORDERS[cloud]
    expected = bundles[rest[0]] if rest else None
    assert authorities(cloud, {**bundles, first: ""}).cafile in (expected, authorities(cloud, {}).cafile)


@pytest.mark.parametrize("name", ALL)
def test_a_bundle_that_is_missing_is_an_error_that_names_variable_and_path(name: str) -> None:
    cloud = "aws" if name == "AWS_CA_BUNDLE" else "gcp"
    with pytest.raises(ConfigurationError) as caught:
        authorities(cloud, {name: "/no/such/bundle"})
    assert caught.value.code == "file-unusable"
    assert name in caught.value.message
    assert "/no/such/bundle" in caught.value.message


def test_a_missing_directory_is_an_error_too() -> None:
    with pytest.raises(ConfigurationError, match="SSL_CERT_DIR"):
        authorities(None, {"SSL_CERT_DIR": "/no/such/directory"})


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_bundle_without_the_right_to_read_is_an_error(bundles: dict[str, str]) -> None:
    Path(bundles["SSL_CERT_FILE"]).chmod(0)
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        authorities(None, {"SSL_CERT_FILE": bundles["SSL_CERT_FILE"]})


@pytest.mark.parametrize("content", [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_bundle_without_certificates_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bundle.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        authorities("aws", {"AWS_CA_BUNDLE": str(path)}).context()
    assert caught.value.code == "file-unusable"
    assert f"AWS_CA_BUNDLE={path}" in caught.value.message


def test_a_directory_may_be_named_as_a_bundle(tmp_path: Path) -> None:
    chosen = authorities("gcp", {"REQUESTS_CA_BUNDLE": str(tmp_path)})
    assert (chosen.cafile, chosen.capath) == (None, str(tmp_path))


def test_file_and_directory_count_together(bundles: dict[str, str], tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    directory.mkdir()
    environ = {"SSL_CERT_FILE": bundles["SSL_CERT_FILE"], "SSL_CERT_DIR": str(directory)}
    plain = authorities(None, environ)
    assert (plain.cafile, plain.capath, plain.complete()) == (bundles["SSL_CERT_FILE"], str(directory), None)
    (directory / "0a1b2c3d.0").write_bytes(b"")
    searched = authorities(None, environ)
    assert (searched.cafile, searched.capath) == (None, str(directory))
    complete = searched.complete()
    assert complete is not None
    assert (complete.cafile, complete.capath, complete.complete()) == (
        bundles["SSL_CERT_FILE"],
        str(directory),
        None,
    )


def test_a_replaced_bundle_is_another_setting(bundles: dict[str, str]) -> None:
    environ = {"AWS_CA_BUNDLE": bundles["AWS_CA_BUNDLE"]}
    before = authorities("aws", environ)
    assert authorities("aws", environ) == before
    Path(bundles["REQUESTS_CA_BUNDLE"]).replace(bundles["AWS_CA_BUNDLE"])
    assert authorities("aws", environ) != before


def test_names_are_checked_and_old_tls_is_off(bundles: dict[str, str]) -> None:
    context = authorities("aws", bundles).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats()["x509_ca"] == 1


def test_the_systems_store_is_used_where_nothing_is_named() -> None:
    chosen = authorities("aws", {})
    assert isinstance(chosen, Authorities)
    whole = chosen.complete() or chosen
    assert whole.context().cert_store_stats()["x509_ca"] > 0
