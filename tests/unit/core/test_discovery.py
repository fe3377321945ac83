"""An issuer's documents: byte for byte Kubernetes' when written, and nothing taken on trust when read."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from wif.core.discovery import (
    DISCOVERY_PATH,
    check_issuer,
    discovery_document,
    discovery_url,
    encode_document,
    jwks_document,
    parse_discovery,
    parse_jwks,
)
from wif.core.jws import algorithm_of, jwk_from_public_key, key_id
from wif.errors import ConfigurationError, ProtocolError

ISSUER = "https://issuer.example/clusters/one"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
P256 = ec.generate_private_key(ec.SECP256R1()).public_key()

# What kube-apiserver 1.37.2 answered, with another issuer and key.
KUBERNETES_DISCOVERY = (
    b'{"issuer":"https://issuer.example/clusters/one","jwks_uri":"https://10.0.0.1:6443/openid/v1/jwks",'
    b'"response_types_supported":["id_token"],"subject_types_supported":["public"],'
    b'"id_token_signing_alg_values_supported":["RS256"]}'
)


def refused(code: str, call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises((ProtocolError, ConfigurationError)) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code
    return str(caught.value)


def document(**changes: Any) -> bytes:
    base = discovery_document(ISSUER, f"{ISSUER}/openid/v1/jwks")
    merged = {**base, **changes}
    return json.dumps({name: value for name, value in merged.items() if value is not ...}).encode()


# -- written -------------------------------------------------------------------------------------------------------


def test_the_discovery_document_is_kubernetes_own_bytes() -> None:
    written = discovery_document(ISSUER, "https://10.0.0.1:6443/openid/v1/jwks", ["RS256", "RS256"])
    assert encode_document(written) == KUBERNETES_DISCOVERY


def test_the_algorithms_are_a_sorted_set() -> None:
    written = discovery_document(ISSUER, "https://x/jwks", ["RS256", "ES256", "RS256"])
    assert written["id_token_signing_alg_values_supported"] == ["ES256", "RS256"]


def test_the_key_set_holds_every_key_in_its_order() -> None:
    written = jwks_document([P256, RSA])
    assert [key["kid"] for key in written["keys"]] == [key_id(P256), key_id(RSA)]
    assert encode_document(jwks_document([RSA])).startswith(
        b'{"keys":[{"use":"sig","kty":"RSA","kid":"' + key_id(RSA).encode() + b'","alg":"RS256","n":"'
    )
    assert [key.key for key in jwt.PyJWKSet.from_dict(written).keys] == [P256, RSA]


def test_documents_are_escaped_as_go_escapes() -> None:
    assert encode_document({"issuer": "https://x/<&>\u2028\u2029ü"}) == (
        b'{"issuer":"https://x/\\u003c\\u0026\\u003e\\u2028\\u2029\xc3\xbc"}'
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaped_documents_read_back(text: str) -> None:
    assert json.loads(encode_document({"issuer": text})) == {"issuer": text}


@pytest.mark.parametrize("issuer", ["https://issuer.example", "https://issuer.example/"])
def test_a_slash_at_the_end_of_the_issuer_is_not_doubled(issuer: str) -> None:
    assert discovery_url(issuer) == "https://issuer.example" + DISCOVERY_PATH


# -- issuer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("issuer", ["https://issuer.example", "https://10.0.0.1:6443/a/b/", "https://[::1]:8443"])
def test_an_issuer_for_which_kubernetes_serves_discovery(issuer: str) -> None:
    check_issuer(issuer)


@pytest.mark.parametrize(
    "issuer",
    [
        "http://issuer.example",
        "kubernetes/serviceaccount",
        "https://issuer.example?x=1",
        "https://issuer.example?",
        "https://issuer.example#",
        "https://issuer.example/#f",
        "https://user@issuer.example",
        "https://",
        "https:///path",
        "https://[::1",
        "https://issuer.example:port",
        "https://issuer.example ",
        "https://issuer.example/a\nb",
        "",
    ],
)
def test_an_issuer_for_which_it_does_not(issuer: str) -> None:
    refused("issuer-invalid", check_issuer, issuer)


# -- discovery document read ---------------------------------------------------------------------------------------


def test_what_kubernetes_writes_is_read() -> None:
    read = parse_discovery(KUBERNETES_DISCOVERY, issuer=ISSUER)
    assert (read.issuer, read.jwks_uri, read.algorithms) == (
        ISSUER,
        "https://10.0.0.1:6443/openid/v1/jwks",
        ("RS256",),
    )


def test_other_members_do_not_matter() -> None:
    body = document(claims_supported=["sub"], id_token_signing_alg_values_supported=...)
    assert parse_discovery(body, issuer=ISSUER).algorithms == ()


@pytest.mark.parametrize("issuer", [ISSUER + "/", ISSUER.upper(), ISSUER.replace("https", "http"), "", " " + ISSUER])
def test_the_issuer_must_be_equal_byte_for_byte(issuer: str) -> None:
    message = refused("issuer-mismatch", parse_discovery, document(issuer=issuer), issuer=ISSUER)
    assert repr(ISSUER) in message
    assert repr(issuer) in message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"<html></html>", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b'{"issuer":"a","issuer":"b"}', "twice"),
        (b"\xff\xfe", "UTF-8"),
        (b"{}", "no issuer"),
        (document(issuer=1), "no issuer"),
        (document(jwks_uri=...), "no jwks_uri"),
        (document(jwks_uri=["https://x"]), "no jwks_uri"),
        (document(jwks_uri="http://x/jwks"), "https"),
        (document(jwks_uri="file:///etc/passwd"), "https"),
        (document(jwks_uri="/openid/v1/jwks"), "https"),
        (document(jwks_uri="https://u:p@x/jwks"), "plain URL"),
        (document(jwks_uri="https://x/jwks#f"), "fragment"),
        (document(jwks_uri="https://x:99999/jwks"), "not a URL"),
        (document(id_token_signing_alg_values_supported="RS256"), "list of names"),
        (document(id_token_signing_alg_values_supported=[1]), "list of names"),
    ],
)
def test_another_discovery_document_is_refused(body: bytes, says: str) -> None:
    assert says in refused("document-invalid", parse_discovery, body, issuer=ISSUER)


def test_plain_http_for_the_keys_needs_the_callers_permission() -> None:
    body = document(jwks_uri="http://127.0.0.1:8080/jwks?v=1")
    assert parse_discovery(body, issuer=ISSUER, allow_http=True).jwks_uri == "http://127.0.0.1:8080/jwks?v=1"
    refused("document-invalid", parse_discovery, body, issuer=ISSUER)
    refused("document-invalid", parse_discovery, document(jwks_uri="ftp://x/"), issuer=ISSUER, allow_http=True)


# -- key set read --------------------------------------------------------------------------------------------------


def keys(*jwks: Any) -> bytes:
    return json.dumps({"keys": list(jwks)}).encode()


GOOD = jwk_from_public_key(RSA)
ML_DSA = {"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "use": "sig", "pub": "AAAA"}


def test_a_key_set_is_read_with_its_ids_and_algorithms() -> None:
    read = parse_jwks(encode_document(jwks_document([RSA, P256])))
    assert [(key.key_id, key.algorithm, key.key) for key in read.keys] == [
        (key_id(RSA), "RS256", RSA),
        (key_id(P256), algorithm_of(P256), P256),
    ]
    assert read.skipped == ()
    assert read.candidates(key_id(P256))[0].key == P256
    assert read.candidates("other") == read.candidates(None) == ()


def test_an_id_that_is_used_twice_gives_both_keys() -> None:
    other = jwk_from_public_key(P256, kid="k")
    assert [key.key for key in parse_jwks(keys(GOOD | {"kid": "k"}, other)).candidates("k")] == [RSA, P256]


def test_a_key_of_an_unknown_kind_is_left_out_and_named() -> None:
    read = parse_jwks(keys(ML_DSA, GOOD, GOOD | {"use": "enc", "kid": 7}))
    assert [key.key_id for key in read.keys] == [key_id(RSA)]
    assert [(key.key_id, "kty" in key.reason, "use" in key.reason) for key in read.skipped] == [
        ("pq", True, False),
        (None, False, True),
    ]


def test_a_key_without_id_or_algorithm_is_read_and_found_by_no_id() -> None:
    read = parse_jwks(keys({name: GOOD[name] for name in ("kty", "n", "e")}))
    assert (read.keys[0].key_id, read.keys[0].algorithm) == (None, None)
    assert read.candidates(None) == ()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list"),
        (b'{"keys":{}}', "no list"),
        (b'{"keys":[]}', "no usable key"),
        (keys("x"), "entry 0"),
        (keys(GOOD, 1), "entry 1"),
        (keys(ML_DSA), "'pq'"),
        (keys(GOOD, GOOD | {"d": "AQAB"}), "private members (d)"),
        (keys(GOOD, {"kty": "oct", "k": "c2VjcmV0"}), "private members (k)"),
        (b'{"keys":[],"keys":[]}', "twice"),
    ],
)
def test_another_key_set_is_refused(body: bytes, says: str) -> None:
    assert says in refused("document-invalid", parse_jwks, body)


def test_a_published_private_key_is_said_to_be_lost_and_not_shown() -> None:
    message = refused("document-invalid", parse_jwks, keys(GOOD | {"d": "topsecretexponent"}))
    assert "rotate" in message
    assert "topsecret" not in message


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    refused("document-invalid", parse_jwks, noise)
    refused("document-invalid", parse_discovery, noise, issuer=ISSUER)
