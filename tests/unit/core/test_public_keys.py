"""An issuer's keys: the ids are Kubernetes', private keys are refused unread, and nothing that is read crashes."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from wif.core import public_keys
from wif.core.discovery import encode_document
from wif.core.jws import jwk_from_public_key, key_id
from wif.core.public_keys import IssuerKey, key_set_bytes, observe_key_set, read_key_set, read_public_keys
from wif.emulator import LocalCluster
from wif.errors import ConfigurationError

RSA_PEM = b"""-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0E9ZeLFn3eWp4SNbcyd7
Zx2aLuiWPzWzOvowhWypWhY8A0qPa7LafqguUYkK8N+lqrwBcxHCZ8Zqp/vGMFN8
ME6A+4ZmlxYVr1PUkEqv0IN8Q2zpRGQDs5BEl4dviwrb6A5/5Id2rR84wrKj+gjm
rIwO8Nbwk7OnRov+rZ4vSitYYrKceb4NYHeToNuVKEFkswWJpUbrAgHy7re/u5MH
N07p9ZVggJ7d+KFqbzNyYm7FRIlPRi1xFuncKMAd+lEKZgACzN/5wgkaLXeSrwz5
jqcNtU16pz4qjhk8kOK9Wdxj/ZbLSdtBlOlYbSIwLh4Hl6fFvv6bOPFJmnFvb8jz
vwIDAQAB
-----END PUBLIC KEY-----
"""
RSA_PKCS1_PEM = b"""-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEA0E9ZeLFn3eWp4SNbcyd7Zx2aLuiWPzWzOvowhWypWhY8A0qPa7La
fqguUYkK8N+lqrwBcxHCZ8Zqp/vGMFN8ME6A+4ZmlxYVr1PUkEqv0IN8Q2zpRGQD
s5BEl4dviwrb6A5/5Id2rR84wrKj+gjmrIwO8Nbwk7OnRov+rZ4vSitYYrKceb4N
YHeToNuVKEFkswWJpUbrAgHy7re/u5MHN07p9ZVggJ7d+KFqbzNyYm7FRIlPRi1x
FuncKMAd+lEKZgACzN/5wgkaLXeSrwz5jqcNtU16pz4qjhk8kOK9Wdxj/ZbLSdtB
lOlYbSIwLh4Hl6fFvv6bOPFJmnFvb8jzvwIDAQAB
-----END RSA PUBLIC KEY-----
"""
# openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64 | tr '+/' '-_' | tr -d =
RSA_KID = "ZPOvM7jjJbA7GCvycqjU3VSp8rgXS1e5Xd-GosfPjUU"
EC_PEM = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEmPy7tTFqvl71i6UxJ7yUbB5P0LgG
LFNBXB2U81KVW2cMMNWAdnCq1yI6+0a8RRtqJS+o1GHGj81Ov2aR9vS6Gg==
-----END PUBLIC KEY-----
"""
EC_KID = "WxsbRYw4oHETJK-xxCZudzrqsiRR3rOE85-QALRkGm8"

RFC_7638_JWK = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
    "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
    "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
    "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}

# How RFC 9881 begins a SubjectPublicKeyInfo, and the bytes of the key that follow.
ML_DSA = {
    "ML-DSA-44": ("MIIFMjALBglghkgBZQMEAxEDggUhAA==", 1312),
    "ML-DSA-65": ("MIIHsjALBglghkgBZQMEAxIDggehAA==", 1952),
    "ML-DSA-87": ("MIIKMjALBglghkgBZQMEAxMDggohAA==", 2592),
}

PRIVATE_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE_EC = ec.generate_private_key(ec.SECP256R1())
RSA = PRIVATE_RSA.public_key()
P256, P384, P521 = (
    ec.generate_private_key(curve()).public_key() for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
)
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
CLUSTER = LocalCluster("https://issuer.example")
CLUSTER_JWKS = encode_document(CLUSTER.jwks)


def pem(key: Any, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    made: bytes = key.public_bytes(Encoding.PEM, form)
    return made


def block(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(der) + f"-----END {label}-----\n".encode()


def certificate(private_key: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, private_key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(private_key, SHA256()).public_bytes(Encoding.PEM)


CERTIFICATE = certificate(PRIVATE_RSA)


def of_version(number: int) -> bytes:
    der = base64.b64decode(b"".join(CERTIFICATE.splitlines()[1:-1]))
    version = b"\xa0\x03\x02\x01"  # the first member, X.509's version less one
    return block("CERTIFICATE", der.replace(version + b"\x02", version + bytes([number]), 1))


def ml_dsa(algorithm: str) -> tuple[bytes, bytes]:
    """(SubjectPublicKeyInfo, public key) of a key that nobody has the other half of."""
    start, size = ML_DSA[algorithm]
    raw = bytes(number % 251 for number in range(size))
    return base64.b64decode(start) + raw, raw


def akp(**changes: Any) -> dict[str, Any]:
    raw = ml_dsa("ML-DSA-44")[1]
    pub = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"kty": "AKP", "kid": "post", "alg": "ML-DSA-44", "pub": pub} | changes


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def jwk(key: Any = RSA, **changes: Any) -> dict[str, Any]:
    merged = jwk_from_public_key(key) | changes
    return {name: value for name, value in merged.items() if value is not ...}


def refused(code: str, call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code
    return str(caught.value.message)


def code_of(call: Any, *args: Any, **kwargs: Any) -> str | None:
    try:
        assert call(*args, **kwargs)
    except ConfigurationError as error:
        return error.code
    return None


# -- a key ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "kid"), [(RSA_PEM, RSA_KID), (RSA_PKCS1_PEM, RSA_KID), (EC_PEM, EC_KID)])
def test_the_id_is_the_one_that_openssl_and_sha256_give(content: bytes, kid: str) -> None:
    [key] = read_public_keys(content, origin="sa.pub")
    assert key.key_id == kid


def test_the_id_is_the_one_that_a_cluster_publishes() -> None:
    [key] = read_key_set(CLUSTER_JWKS, origin="jwks")
    assert key.public_key is not None
    assert IssuerKey.from_public_key(key.public_key) == key
    assert key_id(key.public_key) == key.key_id
    assert key_set_bytes([key]) == CLUSTER_JWKS


def test_the_fingerprint_is_that_of_rfc_7638() -> None:
    assert IssuerKey.from_jwk(RFC_7638_JWK).fingerprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("key", [RSA, P256, P384, P521])
def test_the_fingerprint_is_of_the_material_alone(key: Any) -> None:
    one, other = IssuerKey.from_public_key(key), IssuerKey.from_public_key(key, "other")
    assert (one.fingerprint, one.algorithm) == (other.fingerprint, other.algorithm)
    assert one != other
    assert one.fingerprint != one.key_id


@pytest.mark.parametrize(
    ("key", "algorithm", "clouds"),
    [
        (RSA, "RS256", ("aws", "gcp", "azure")),
        (RSA, "RS384", ("aws",)),
        (RSA, "RS512", ("aws",)),
        (P256, "ES256", ("aws", "gcp")),
        (P384, "ES384", ("aws",)),
        (P521, "ES512", ("aws",)),
    ],
)
def test_the_clouds_are_those_that_verify_the_algorithm(key: Any, algorithm: str, clouds: tuple[str, ...]) -> None:
    made = IssuerKey.from_jwk(jwk(key, alg=algorithm))
    assert (made.algorithm, made.clouds) == (algorithm, clouds)


def test_an_algorithm_that_is_not_given_is_kubernetes_own() -> None:
    assert IssuerKey.from_jwk(jwk(P384, alg=..., use=...)).jwk == jwk(P384)


def test_only_the_members_of_kubernetes_are_kept_and_in_its_order() -> None:
    made = IssuerKey.from_jwk({"x5c": ["MII"], "key_ops": ["verify"]} | dict(reversed(jwk(P256, kid="k").items())))
    assert list(made.jwk) == ["use", "kty", "kid", "crv", "alg", "x", "y"]


def test_a_key_can_be_a_member_of_a_set_and_shows_no_numbers() -> None:
    made = IssuerKey.from_public_key(RSA)
    assert len({made, IssuerKey.from_jwk(made.jwk)}) == 1
    assert made.jwk["n"] not in repr(made)


@pytest.mark.parametrize("kid", [None, 5, "", "a\nb", "a\x1b[2J", "\ud800", "k" * 1025])
def test_a_kid_is_printable_and_there(kid: Any) -> None:
    refused("key-invalid", IssuerKey.from_jwk, jwk(kid=kid))
    refused("key-invalid", IssuerKey.from_jwk, akp(kid=kid))


@pytest.mark.parametrize(
    "changes", [{"n": "AQAB"}, {"e": "Ag"}, {"kty": "oct"}, {"kty": None}, {"alg": "ES256"}, {"use": "enc"}, {"n": 5}]
)
def test_a_key_that_verifies_nothing_is_refused(changes: dict[str, Any]) -> None:
    assert "'k'" in refused("key-invalid", IssuerKey.from_jwk, jwk(kid="k", **changes))


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_a_private_member_is_refused_and_not_quoted(member: str) -> None:
    assert "c2VjcmV0" not in refused("key-private", IssuerKey.from_jwk, jwk(**{member: "c2VjcmV0"}))
    assert "c2VjcmV0" not in refused("key-private", read_key_set, key_set(jwk(**{member: "c2VjcmV0"})), origin="jwks")


def test_a_key_is_weak_wherever_it_comes_from() -> None:
    assert "1024 bits" in refused("key-invalid", IssuerKey.from_public_key, SMALL)
    assert "sa.pub: block 2" in refused("key-invalid", read_public_keys, EC_PEM + pem(SMALL), origin="sa.pub")


# -- ML-DSA --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_a_post_quantum_key_is_kept_and_no_cloud_verifies_it(algorithm: str) -> None:
    der, raw = ml_dsa(algorithm)
    [key] = read_public_keys(block("PUBLIC KEY", der), origin="sa.pub")
    assert key.key_id == base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    assert base64.urlsafe_b64decode(key.jwk["pub"] + "==") == raw
    assert list(key.jwk) == ["use", "kty", "kid", "alg", "pub"]
    assert (key.algorithm, key.clouds, key.public_key) == (algorithm, (), None)
    assert read_key_set(key_set_bytes([key]), origin="jwks") == (key,)


def test_the_fingerprint_of_a_post_quantum_key_has_its_algorithm() -> None:
    text = json.dumps({"alg": "ML-DSA-44", "kty": "AKP", "pub": akp()["pub"]}, separators=(",", ":"))
    expected = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    assert IssuerKey.from_jwk(akp()).fingerprint == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": None},
        {"alg": "RS256"},
        {"alg": ["ML-DSA-44"]},
        {"alg": "ML-DSA-65"},
        {"use": "enc"},
        {"pub": None},
        {"pub": ""},
        {"pub": "é" * 1750},
        {"pub": akp()["pub"] + "="},
        {"pub": akp()["pub"][:-1] + "_"},
        {"pub": "!" + akp()["pub"][1:]},
    ],
)
def test_a_broken_post_quantum_key_is_refused(changes: dict[str, Any]) -> None:
    refused("key-invalid", IssuerKey.from_jwk, akp(**changes))


def test_a_private_post_quantum_key_is_refused() -> None:
    refused("key-private", IssuerKey.from_jwk, akp(priv="c2VjcmV0"))


def test_a_post_quantum_key_that_is_cut_short_is_none() -> None:
    der, _ = ml_dsa("ML-DSA-44")
    for wrong in (der[:-1], der + b"\0"):
        message = refused("key-invalid", read_public_keys, block("PUBLIC KEY", wrong), origin="sa.pub")
        assert message.startswith("sa.pub: block 1: ")


# -- PEM -----------------------------------------------------------------------------------------------------------


def test_a_file_may_hold_several_blocks_of_every_kind_and_words_between_them() -> None:
    content = b"the old one\n" + RSA_PEM + b"\r\n# and\n" + RSA_PKCS1_PEM + CERTIFICATE + EC_PEM.replace(b"\n", b"\r\n")
    keys = read_public_keys(content, origin="sa.pub")
    assert [key.key_id for key in keys] == [RSA_KID, key_id(RSA), EC_KID]


PRIVATE_FORMS = [
    PRIVATE_RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    PRIVATE_RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    PRIVATE_EC.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    PRIVATE_EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    PRIVATE_EC.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
]


@pytest.mark.parametrize("private", PRIVATE_FORMS)
@pytest.mark.parametrize("around", [b"%s", RSA_PEM + b"%s", b"%s" + RSA_PEM, b"-----BEGIN X-----\n%s"])
def test_a_private_key_is_refused_wherever_it_stands(private: bytes, around: bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_public_keys(around.replace(b"%s", private), origin="sa.key")
    assert caught.value.code == "key-private"
    assert "pubout" in caught.value.hint
    shown = f"{caught.value.message} {caught.value.hint}"
    assert not any(line.decode() in shown for line in private.splitlines()[1:-1])


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN PRIVATE KEY",
        b"-----begin rsa private key-----",
        b"--- BEGIN PGP PRIVATE KEY BLOCK---",
        b"\x00-BEGIN PRIVATE KEY",
    ],
)
def test_a_private_key_that_nothing_could_parse_is_one_all_the_same(content: bytes) -> None:
    refused("key-private", read_public_keys, content, origin="sa.key")


def test_a_private_key_under_the_name_of_a_public_one_is_not_quoted() -> None:
    der = PRIVATE_EC.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    message = refused("key-invalid", read_public_keys, block("PUBLIC KEY", der), origin="sa.key")
    assert message == "sa.key: block 1: cannot be read as a PUBLIC KEY"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "holds no PEM block"),
        (b"\xff\xfe-\x00-\x00", "holds no PEM block"),
        (b"ssh-rsa AAAA", "holds no PEM block"),
        (RSA_PEM + EC_PEM[:-30], "block 2: has no end"),
        (RSA_PEM[:-30] + EC_PEM, "block 1: has no end"),
        (RSA_PEM[:-30] + RSA_PEM, "block 1: has no end"),
        (b"-----BEGIN PUBLIC KEY-----", "block 1: has no end"),
        (RSA_PEM.replace(b"MIIBI", b"MII!BI"), "block 1: is not base64"),
        (RSA_PEM.replace(b"MIIBI", b"\xffIIBI"), "block 1: is not base64"),
        (RSA_PEM.replace(b"\nMII", b"\nProc-Type: 4\n\nMII"), "block 1: is not base64"),
        (RSA_PEM.replace(b"MIIBI", b"MIIBJ"), "block 1: cannot be read as a PUBLIC KEY"),
        (block("PUBLIC KEY", b""), "block 1: cannot be read as a PUBLIC KEY"),
        (block("CERTIFICATE", b"\x30\x00"), "block 1: cannot be read as a CERTIFICATE"),
        (of_version(9), "block 1: cannot be read as a CERTIFICATE"),
        (block("CERTIFICATE REQUEST", b""), "block 1: is 'CERTIFICATE REQUEST', expected PUBLIC KEY"),
        (block("EC PARAMETERS", b""), "block 1: is 'EC PARAMETERS'"),
        ("-----BEGIN é-----\n-----END é-----".encode(), "block 1: is '\\\\xc3"),
        (pem(ed25519.Ed25519PrivateKey.generate().public_key()), "block 1: is neither an RSA nor an EC key"),
        (pem(ec.generate_private_key(ec.SECP256K1()).public_key()), "block 1: the key is on the curve secp256k1"),
    ],
)
def test_what_is_no_public_key_is_named_by_file_and_block(content: bytes, what: str) -> None:
    message = refused("key-invalid", read_public_keys, content, origin="sa.pub")
    assert message.startswith("sa.pub")
    assert what in message


def test_the_hint_knows_the_other_forms_of_a_key() -> None:
    for content, word in ((b' {"keys": []}', "--jwks"), (b"\x30\x82", "openssl")):
        with pytest.raises(ConfigurationError) as caught:
            read_public_keys(content, origin="sa.pub")
        assert word in caught.value.hint


# -- the key set of a source ---------------------------------------------------------------------------------------


def test_the_ids_of_a_source_are_kept_as_they_are() -> None:
    keys = read_key_set(key_set(jwk(P256, kid="0f"), jwk(kid="45fcc2bf6e85")), origin="jwks")
    assert [key.key_id for key in keys] == ["0f", "45fcc2bf6e85"]


def test_the_same_key_twice_is_one_key_and_two_keys_of_one_id_are_none() -> None:
    assert len(read_key_set(key_set(jwk(), jwk(x5t="x")), origin="jwks")) == 1
    for other in (jwk(P256, kid="k"), jwk(kid="k", alg="RS512")):
        message = refused("key-invalid", read_key_set, key_set(jwk(kid="k"), other), origin="jwks")
        assert message == "jwks: entry 1: the kid 'k' stands twice, with different keys"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "document-invalid"),
        (b"\xff", "document-invalid"),
        (b"[]", "document-invalid"),
        (b"{}", "document-invalid"),
        (b'{"keys":{}}', "document-invalid"),
        (b'{"keys":[]}', "document-invalid"),
        (b'{"keys":[1]}', "document-invalid"),
        (b'{"keys":[],"keys":[]}', "document-invalid"),
        (b"[" * 100_000, "document-invalid"),
        (b'{"keys":[{"kid":' + b"1" * 5000 + b"}]}", "document-invalid"),
        (b'{"keys":[{"kid":"a","x":' + b"[" * 60 + b"]" * 60 + b"}]}", "document-invalid"),
        (b'{"keys":[{}]}', "key-invalid"),
        (key_set(jwk(), jwk(kid="")), "key-invalid"),
        (key_set(jwk(kid=...)), "key-invalid"),
        (key_set(jwk(), jwk(kty="OKP")), "key-invalid"),
    ],
)
def test_a_source_is_read_strictly(body: bytes, code: str) -> None:
    assert refused(code, read_key_set, body, origin="jwks").startswith("jwks: ")


# -- the key set of a target ---------------------------------------------------------------------------------------


def test_a_target_is_observed_whatever_stands_there() -> None:
    private = jwk(kid="lost", d="c2VjcmV0")
    body = key_set(jwk(x5t="x", kid="k"), private, jwk(kid=...), jwk(kid=7), jwk(kid=""), jwk(kid="k", n="AQAB"))
    good, lost, without, numbered, empty, weak = observe_key_set(body).entries
    assert good.key == IssuerKey.from_public_key(RSA, "k")
    assert good.raw["x5t"] == "x"
    assert (lost.key_id, lost.key) == ("lost", None)
    assert "private member(s) d" in lost.problem
    assert [entry.key_id for entry in (without, numbered, empty, weak)] == [None, None, "", "k"]
    assert all(entry.problem and entry.key is None for entry in (without, numbered, empty, weak))
    assert "c2VjcmV0" not in repr(observe_key_set(body))


def test_an_unreadable_target_has_a_problem_and_no_entries() -> None:
    for body in (b"", b"<html>", b"[]", b'{"keys":[[]]}', b'{"keys":null}'):
        seen = observe_key_set(body)
        assert seen.problem
        assert not seen.entries


def test_a_key_set_is_sorted_and_ends_with_what_is_kept() -> None:
    keys = [IssuerKey.from_public_key(key, kid) for key, kid in ((RSA, "b"), (P256, "a"), (P384, "B"))]
    kept: list[dict[str, Any]] = [{"kid": "0", "x5t": "<&>"}, {"kid": None}]
    body = key_set_bytes(reversed(keys), kept)
    assert [entry["kid"] for entry in json.loads(body)["keys"]] == ["B", "a", "b", "0", None]
    assert body == key_set_bytes(keys, kept)
    assert b"<" not in body
    assert observe_key_set(body).entries[-2].raw == kept[0]


# -- nothing crashes -----------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "n", "e", "crv", "x", "y", "d", "pub", "priv", "x5c"])
_WORDS = st.sampled_from(
    ["RSA", "EC", "AKP", "OKP", "P-256", "P-521", "RS256", "ES256", "ML-DSA-44", "sig", "AQAB", ""]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | _NAMES, inner, max_size=6),
    max_leaves=12,
)


@given(
    _JSON,
    st.sampled_from([jwk(kid="k"), jwk(P256, kid="k"), akp()]),
    st.dictionaries(_NAMES, _JSON | _WORDS, max_size=4),
)
def test_no_json_crashes(value: Any, base: dict[str, Any], changes: dict[str, Any]) -> None:
    for body in (json.dumps(value).encode(), key_set(value), key_set(base | changes)):
        seen = observe_key_set(body)
        assert (seen.problem is None) or not seen.entries
        assert all((entry.key is None) == bool(entry.problem) for entry in seen.entries)
        if seen.entries:
            again = key_set_bytes((), [entry.raw for entry in seen.entries])
            assert [entry.raw for entry in observe_key_set(again).entries] == [entry.raw for entry in seen.entries]
        try:
            keys = read_key_set(body, origin="x")
        except ConfigurationError:
            continue
        assert read_key_set(key_set_bytes(keys), origin="x") == tuple(sorted(keys, key=lambda key: key.key_id))


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_crash(body: bytes) -> None:
    observe_key_set(body)
    for call in (read_key_set, read_public_keys):
        with pytest.raises(ConfigurationError):
            call(body, origin="x")


# a certificate with such a number is read all the same, with a warning of the library
odd_serials = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
_PEMS = [RSA_PEM, RSA_PKCS1_PEM, EC_PEM, CERTIFICATE, block("PUBLIC KEY", ml_dsa("ML-DSA-44")[0])]


@odd_serials
@given(st.data())
def test_no_damaged_pem_crashes(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(_PEMS)))
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert code_of(read_public_keys, bytes(content), origin="x") in (None, "key-invalid", "key-private")


@odd_serials
@given(st.sampled_from(_PEMS), st.data())
def test_no_damaged_der_crashes(content: bytes, data: st.DataObject) -> None:
    label = content.split(b"-----")[1].decode().removeprefix("BEGIN ")
    der = bytearray(base64.b64decode(b"".join(content.splitlines()[1:-1])))
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    assert code_of(read_public_keys, block(label, bytes(der)), origin="x") in (None, "key-invalid")


@odd_serials
def test_no_damaged_length_or_kind_crashes() -> None:
    for content in _PEMS:
        label = content.split(b"-----")[1].decode().removeprefix("BEGIN ")
        der = base64.b64decode(b"".join(content.splitlines()[1:-1]))
        for position in range(60):
            for value in (0x00, 0x02, 0x05, 0x30, 0x80, 0x84, 0xFF):
                changed = der[:position] + bytes([value]) + der[position + 1 :]
                assert code_of(read_public_keys, block(label, changed), origin="x") in (None, "key-invalid")


def test_the_bytes_of_a_document_are_gos() -> None:
    key = IssuerKey.from_public_key(P256)
    assert key_set_bytes([key]) == encode_document({"keys": [dict(key.jwk)]})
    assert set(public_keys._ML_DSA_BYTES) == set(public_keys._ML_DSA_LAST_ARC)
