"""Whatever stands in a PEM file, a key set, a discovery document or wif.yaml: a value or a WifError, and soon."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from wif.config import from_document
from wif.config.issuers import load_issuers
from wif.core.discovery import discovery_document, parse_discovery, parse_jwks
from wif.core.issuer_lint import lint_issuer, lint_key_set
from wif.core.jws import jwk_from_public_key
from wif.core.public_keys import IssuerKey, key_set_bytes, observe_key_set, read_key_set, read_public_keys
from wif.errors import WifError

ISSUER = "https://oidc.example.com/one"
KEYS = [
    jwk_from_public_key(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()),
    jwk_from_public_key(ec.generate_private_key(ec.SECP521R1()).public_key()),
]
GOOD_JWKS = json.dumps({"keys": KEYS}).encode()
GOOD_DISCOVERY = json.dumps(discovery_document(ISSUER, f"{ISSUER}/openid/v1/jwks")).encode()

READERS: list[Callable[[bytes], object]] = [
    observe_key_set,
    lint_key_set,
    parse_jwks,
    lambda body: read_key_set(body, origin="x"),
    lambda body: read_public_keys(body, origin="x"),
    lambda body: parse_discovery(body, issuer=ISSUER),
    lambda body: parse_discovery(body, issuer=ISSUER, allow_http=True),
]


def message_of(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """What it is refused with, or nothing."""
    try:
        call(*args, **kwargs)
    except WifError as error:
        return error.message
    return ""


def survives(body: bytes) -> None:
    for reader in READERS:
        message = message_of(reader, body)
        assert not message or (message.isprintable() and len(message) < 2048), ascii(message)
    seen = observe_key_set(body)
    again = observe_key_set(key_set_bytes((), [entry.raw for entry in seen.entries]))
    assert [entry.raw for entry in again.entries] == [entry.raw for entry in seen.entries]


def jwks(**changes: Any) -> bytes:
    return json.dumps({"keys": [KEYS[0] | changes]}).encode()


NASTY_JSON = [
    b"",
    b"null",
    b"0",
    b'"\\ud800"',
    b"\xef\xbb\xbf{}",
    GOOD_JWKS.decode().encode("utf-16"),
    GOOD_JWKS + b"{}",
    b"[" * 200_000,
    b'{"keys":' * 50_000,
    b'{"keys":[' + b"[" * 900 + b"]" * 900 + b"]}",
    b'{"keys":[{"kid":"a","x":' + b'{"x":' * 900 + b"1" + b"}" * 900 + b"}]}",
    b'{"keys":[' + b"{}," * 5_000 + b"{}]}",
    b'{"keys":[{"kid":' + b"9" * 100_000 + b"}]}",
    b'{"keys":[{"kid":1e999}]}',
    b'{"keys":[{"kid":NaN}]}',
    b'{"keys":[{"kid":"a","kid":"b"}]}',
    b'{"keys":[{"kid":"a","\\u006bid":"b"}]}',
    b'{"keys":[{"kid":"\\u001b[2J\\u202e"}]}',
    b'{"keys":[{"kid":"\\ud83d"}]}',
    b'{"keys":[{"' + b"a" * 100_000 + b'":1}]}',
    b'{"keys":[{"' + b"a" * 100_000 + b'":1,"' + b"a" * 100_000 + b'":2}]}',
    jwks(n="A" * 200_000),
    jwks(n=base64.urlsafe_b64encode(b"\xff" * 100_000).decode().rstrip("=")),
    jwks(e="A" * 200_000),
    jwks(e="/" * 4),
    jwks(kid="k" * 200_000),
    jwks(kid=["k"]),
    jwks(kty=["RSA"]),
    jwks(kty={}),
    jwks(alg=[]),
    jwks(alg={"a": []}),
    jwks(use=None),
    jwks(key_ops={}),
    jwks(crv=[]),
    jwks(d=None),
    jwks(oth=[{"d": "x"}]),
    b'{"keys":[{"kty":"EC","crv":"P-521","kid":"a","x":"","y":""}]}',
    b'{"keys":[{"kty":"EC","crv":["P-521"],"kid":"a"}]}',
    b'{"keys":[{"kty":"AKP","alg":{},"kid":"a","pub":[]}]}',
    b'{"keys":[{"kty":"AKP","alg":"ML-DSA-44","kid":"a","pub":"' + "é".encode() * 1750 + b'"}]}',
]


@pytest.mark.parametrize("body", NASTY_JSON, ids=lambda body: ascii(body[:40]))
def test_nasty_key_sets(body: bytes) -> None:
    survives(body)


NASTY_MEMBERS: dict[str, list[Any]] = {
    "issuer": [None, [], "", ISSUER + "/", "x" * 100_000, "\x1b[2J", "\u202e"],
    "jwks_uri": [
        *(
            None,
            {},
            "",
            "https://",
            "https://[",
            "https://[::1",
            "https://[::zz]/",
            "https://x:99999/",
            "https://x:-1/",
        ),
        *(
            "https://x:\u0661/",
            "https://x\u2100/",
            "https://a@b/",
            "https://x/\n",
            "https://x/#",
            "https://x?y",
            "\x00",
        ),
        *("http://127.0.0.1/", "HTTPS://x/", "javascript:x", "x" * 100_000),
    ],
    "id_token_signing_alg_values_supported": [None, "RS256", {}, [1], [[]], ["x" * 9999]],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in NASTY_MEMBERS.items() for value in values],
    ids=lambda part: ascii(part)[:40],
)
def test_nasty_discovery_documents(name: str, value: Any) -> None:
    document = json.loads(GOOD_DISCOVERY) | {name: value}
    survives(json.dumps(document).encode())
    if isinstance(value, str):
        assert all(found.message.isprintable() for found in lint_issuer(value, value))


_MEMBERS = st.sampled_from(["issuer", "jwks_uri", "id_token_signing_alg_values_supported", "keys", "x"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_MEMBERS | st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(_MEMBERS, _JSON, max_size=4), _JSON)
def test_no_discovery_document_crashes(changes: dict[str, Any], value: Any) -> None:
    for document in (value, json.loads(GOOD_DISCOVERY) | changes):
        survives(json.dumps(document).encode())


@given(st.sampled_from([GOOD_JWKS, GOOD_DISCOVERY]), st.data())
def test_no_damaged_document_crashes(good: bytes, data: st.DataObject) -> None:
    body = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position : position + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=3))
    survives(bytes(body))


BEGIN, END = b"-----BEGIN PUBLIC KEY-----\n", b"\n-----END PUBLIC KEY-----\n"
NASTY_PEM = [
    BEGIN * 20_000,
    (BEGIN + END) * 1000,
    b"-----BEGIN " * 20_000,
    b"-" * 200_000,
    b"-----BEGIN -----\n-----END -----",
    b"-----BEGIN " + b"A" * 200_000 + b"-----",
    BEGIN + b"A" * 200_000 + END,
    BEGIN + base64.b64encode(b"\x30\x84\xff\xff\xff\xff" + b"\x00" * 1000) + END,
    BEGIN + base64.b64encode(b"\x30\x80" * 50_000) + END,
    BEGIN + b"=" + END,
    BEGIN + b"\x00" + END,
    BEGIN.replace(b"PUBLIC KEY", b"CERTIFICATE") + base64.b64encode(b"\x30" * 5000) + b"-----END CERTIFICATE-----",
    END + BEGIN,
    BEGIN.replace(b"\n", b"\r") + END.replace(b"\n", b"\r"),
    b"-----BEGIN\x1b[2J-----\n-----END\x1b[2J-----",
    b"-----BEGIN \x1b[2J\xe2\x80\xae-----\n-----END \x1b[2J\xe2\x80\xae-----",
]


@pytest.mark.parametrize("body", NASTY_PEM, ids=lambda body: ascii(body[:40]))
def test_nasty_pem_files(body: bytes) -> None:
    survives(body)


NASTY_YAML = [
    "issuers: &a {a: *a}",
    "issuers: {a: &a {to: [*a]}}",
    "issuers: {a: {to: &a [*a]}}",
    "a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)),
    "issuers: {a: {issuer: 2026-01-01}}",
    "issuers: {a: {issuer: !!binary aGVsbG8=}}",
    "issuers: {a: {public_keys: !!set {x, y}}}",
    "issuers: {a: {cache_seconds: 0o17, skew_seconds: .inf}}",
    "issuers: {a: {cache_seconds: .nan}}",
    'issuers: {a: {issuer: "\\ud800"}}',
    'issuers: {"\\ud800": {}}',
    "issuers: {? [a, b] : {}}",
    "issuers: {null: {}}",
    "issuers: {a: {<<: {issuer: x}, former_issuer: yes}}",
    "issuers: !!omap [a: {}]",
    "issuers: {a: {to: [{url: file:///x, clouds: !!set {aws}}]}}",
    "{aws: {role_arn: &a [*a]}, issuers: {}}",
]


@pytest.mark.parametrize("text", NASTY_YAML, ids=lambda text: ascii(text[:40]))
def test_nasty_settings(text: str) -> None:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        return
    for message in (
        message_of(load_issuers, document, "wif.yaml", is_named=False),
        message_of(from_document, document, origin="wif.yaml", is_named=False),
    ):
        assert not message or message.isprintable(), ascii(message)


def test_the_good_ones_are_good() -> None:
    assert len(read_key_set(GOOD_JWKS, origin="x")) == len(KEYS)
    assert parse_discovery(GOOD_DISCOVERY, issuer=ISSUER).issuer == ISSUER
    assert [IssuerKey.from_jwk(jwk).jwk for jwk in KEYS] == KEYS
