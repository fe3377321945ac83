"""Sources that are files: united, each id one key, nothing private, nothing unreadable passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.publishing import ISSUER, KeyFile, key_files
from wif.config.issuers import IssuerSettings
from wif.errors import ConfigurationError, ProtocolError, WifError
from wif.issuer.sources import Sources, Vouched


@pytest.fixture
def keys(tmp_path: Path) -> list[KeyFile]:
    return key_files(tmp_path, 3)


def read(**members: Any) -> Vouched:
    return Sources(IssuerSettings(issuer=ISSUER, **members), environ={}).read()


def key_set(path: Path, *entries: Any) -> str:
    path.write_text(json.dumps({"keys": entries}))
    return str(path)


def test_files_and_key_sets_are_united(keys: list[KeyFile], tmp_path: Path) -> None:
    own_id = dict(keys[2].key.jwk, kid="chosen-freely")
    jwks = key_set(tmp_path / "jwks.json", keys[1].key.jwk, own_id)
    found = read(public_keys=(keys[0].path, keys[1].path), jwks=(jwks, f"file://{jwks}"))
    assert [key.key_id for key in found.keys] == [keys[0].kid, keys[1].kid, "chosen-freely"]
    assert found.origins == {keys[0].kid: keys[0].path, keys[1].kid: keys[1].path, "chosen-freely": jwks}
    assert (found.servers, found.servers_complete, found.issuer, found.problems) == ((), True, None, ())


def test_several_blocks_of_one_file_are_several_keys(keys: list[KeyFile], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("".join(Path(key.path).read_text() for key in keys))
    assert len(read(public_keys=(str(bundle),)).keys) == 3


def test_one_id_for_two_keys_stops_everything(keys: list[KeyFile], tmp_path: Path) -> None:
    one = key_set(tmp_path / "one.json", dict(keys[0].key.jwk, kid="same"))
    two = key_set(tmp_path / "two.json", dict(keys[1].key.jwk, kid="same"))
    with pytest.raises(ProtocolError) as caught:
        read(jwks=(one, two))
    assert caught.value.code == "document-invalid"
    assert one in caught.value.message
    assert two in caught.value.message


def test_a_private_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "sa.key"
    path.write_bytes(pem)
    with pytest.raises(ConfigurationError) as caught:
        read(public_keys=(str(path),))
    assert caught.value.code == "key-private"
    assert str(path) in caught.value.message
    assert pem.decode().splitlines()[1] not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"{}", b'{"keys": []}', b"\xff" * 100])
def test_a_file_without_a_key_is_no_source(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(content)
    for members in ({"public_keys": (str(path),)}, {"jwks": (str(path),)}):
        with pytest.raises(WifError):
            read(**members)


def test_an_unusable_file_is_named(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (1024 * 1024 + 1))
    for path in (tmp_path / "missing", tmp_path, large):
        with pytest.raises(ConfigurationError) as caught:
            read(public_keys=(str(path),))
        assert caught.value.code == "file-unusable"
        assert str(path) in caught.value.message


def test_a_key_set_over_plain_http_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not an https URL"):
        read(jwks=("http://issuer.example.com/jwks",))


@pytest.mark.parametrize(
    ("members", "uses"),
    [
        ({}, True),
        ({"public_keys": ("a",)}, False),
        ({"jwks": ("a",)}, False),
        ({"public_keys": ("a",), "kubeconfig": "k"}, True),
        ({"public_keys": ("a",), "context": "c"}, True),
        ({"public_keys": ("a",), "api_servers": ("https://a",)}, True),
        ({"public_keys": ("a",), "use_kubernetes": True}, True),
        ({"use_kubernetes": False}, False),
    ],
)
def test_api_servers_are_asked_where_said_or_where_nothing_else_is_named(members: dict[str, Any], uses: bool) -> None:
    assert Sources(IssuerSettings(issuer=ISSUER, **members)).uses_cluster == uses


def test_no_source_vouches_for_nothing() -> None:
    with pytest.raises(ConfigurationError, match="vouches for any key"):
        read(use_kubernetes=False)
