"""Signing, verifying and the forms of keys. PyJWT is the second opinion on the same tokens."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import example, given
from hypothesis import strategies as st

from wif.core.jws import (
    ALGORITHMS,
    PrivateKey,
    UnverifiedJws,
    algorithm_of,
    jwk_from_public_key,
    key_id,
    public_key_from_jwk,
    sign,
    split_compact,
    verify,
)
from wif.errors import ConfigurationError, TokenError

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
KEYS: dict[str, PrivateKey] = {
    "RS256": RSA,
    "RS384": RSA,
    "RS512": RSA,
    "ES256": P256,
    "ES384": P384,
    "ES512": P521,
}
CLAIMS = {"iss": "https://issuer.example", "sub": "system:serviceaccount:team:app", "aud": ["a"], "exp": 4102444800}

# A key made once; its SubjectPublicKeyInfo is hashed here by other means.
PEM = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
"""

NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAME, inner, max_size=4),
    max_leaves=12,
)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: Any, payload: Any = CLAIMS, signature: bytes = b"x") -> str:
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return ".".join([b64(parts[0]), b64(parts[1]), b64(signature)])


def refused(code: str, call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises((TokenError, ConfigurationError)) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code
    return caught.value.message


# -- what is signed verifies, here and there -----------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@given(claims=st.dictionaries(NAME, JSON, max_size=5), kid=st.none() | NAME)
def test_a_signed_token_verifies_here_and_with_pyjwt(algorithm: str, claims: dict[str, Any], kid: str | None) -> None:
    key = KEYS[algorithm]
    token = sign(claims, key, kid, algorithm)
    verified = verify(split_compact(token), key.public_key(), algorithm)
    assert (verified.claims, verified.key_id, verified.algorithm) == (claims, kid, algorithm)
    assert jwt.api_jws.decode_complete(token, key.public_key(), algorithms=[algorithm])["payload"] == (
        split_compact(token).payload
    )


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@given(claims=st.dictionaries(NAME, JSON, max_size=5))
def test_what_pyjwt_signs_verifies_here(algorithm: str, claims: dict[str, Any]) -> None:
    key = KEYS[algorithm]
    token = jwt.api_jws.encode(json.dumps(claims).encode(), key, algorithm=algorithm, headers={"kid": "k"})
    assert verify(split_compact(token.encode()), key.public_key(), algorithm).claims == claims


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_the_same_input_gives_the_same_token(algorithm: str) -> None:
    key = KEYS[algorithm]
    assert sign(CLAIMS, key, "k", algorithm) == sign(CLAIMS, key, "k", algorithm)


def test_further_header_members_cannot_replace_alg_and_kid() -> None:
    token = sign(CLAIMS, RSA, "k", headers={"typ": "JWT", "alg": "none", "kid": "other"})
    assert split_compact(token).unverified_header == {"alg": "RS256", "kid": "k", "typ": "JWT"}
    assert token.startswith(b64(b'{"alg":"RS256","kid":"k","typ":"JWT"}') + ".")  # as Kubernetes: compact, alg first


def test_text_stays_text_in_a_token() -> None:
    assert split_compact(sign({"sub": "ü"}, RSA, None)).payload == '{"sub":"ü"}'.encode()


def test_a_number_that_json_has_not_is_not_signed() -> None:
    with pytest.raises(ValueError, match="JSON"):
        sign({"exp": float("nan")}, RSA, "k")


# -- what does not verify ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@given(data=st.data())
def test_one_changed_byte_is_refused(algorithm: str, data: st.DataObject) -> None:
    key = KEYS[algorithm]
    jws = split_compact(sign(CLAIMS, key, "k", algorithm))
    which = data.draw(st.sampled_from(["signature", "signing_input"]))
    raw = bytearray(getattr(jws, which))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    changed = {name: getattr(jws, name) for name in UnverifiedJws.__slots__} | {which: bytes(raw)}
    refused("signature-invalid", verify, UnverifiedJws(**changed), key.public_key(), algorithm)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@given(signature=st.binary(max_size=140))
@example(signature=b"")
@example(signature=bytes(64))
@example(signature=bytes(96))
@example(signature=bytes(132))
@example(signature=bytes(256))
def test_any_other_signature_is_refused(algorithm: str, signature: bytes) -> None:
    jws = split_compact(compact({"alg": algorithm, "kid": "k"}, signature=signature))
    refused("signature-invalid", verify, jws, KEYS[algorithm].public_key(), algorithm)


def test_an_ecdsa_signature_in_der_is_refused() -> None:
    token = sign(CLAIMS, P256, "k", "ES256")
    raw = split_compact(token).signature
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    jws = split_compact(token.rpartition(".")[0] + "." + b64(der))
    refused("signature-invalid", verify, jws, P256.public_key(), "ES256")


def test_an_ecdsa_signature_has_one_length() -> None:
    token = sign(CLAIMS, P256, "k", "ES256")
    raw = split_compact(token).signature
    for longer in (raw[:32] + b"\0" + raw[32:], raw + b"\0", raw[:-1]):  # the first holds the same two numbers
        jws = split_compact(token.rpartition(".")[0] + "." + b64(longer))
        refused("signature-invalid", verify, jws, P256.public_key(), "ES256")


def test_another_key_is_refused() -> None:
    refused("signature-invalid", verify, split_compact(sign(CLAIMS, RSA, "k")), OTHER_RSA.public_key(), "RS256")


def test_the_header_must_name_the_algorithm_that_the_caller_accepts() -> None:
    jws = split_compact(sign(CLAIMS, RSA, "k", "RS512"))
    assert "RS512" in refused("algorithm-unsupported", verify, jws, RSA.public_key(), "RS256")


@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS256", "PS256", "EdDSA", "rs256", "ML-DSA-44"])
def test_other_algorithms_are_refused_even_where_the_caller_accepts_them(algorithm: str) -> None:
    jws = split_compact(compact({"alg": algorithm}))
    refused("algorithm-unsupported", verify, jws, RSA.public_key(), algorithm)
    refused("key-invalid", sign, CLAIMS, RSA, "k", algorithm)


@pytest.mark.parametrize(
    ("algorithm", "key"), [("RS256", P256), ("ES256", RSA), ("ES256", P384), ("ES384", P256), ("ES512", P384)]
)
def test_a_key_of_another_kind_is_refused_not_a_traceback(algorithm: str, key: PrivateKey) -> None:
    jws = split_compact(sign(CLAIMS, KEYS[algorithm], "k", algorithm))
    refused("algorithm-unsupported", verify, jws, key.public_key(), algorithm)
    refused("algorithm-unsupported", sign, CLAIMS, key, "k", algorithm)


def test_a_token_signed_by_the_public_key_as_a_secret_is_refused() -> None:
    signing_input = compact({"alg": "HS256"}).rpartition(".")[0]
    mac = hmac.digest(PEM, signing_input.encode(), "sha256")
    jws = split_compact(f"{signing_input}.{b64(mac)}")
    for accepted in ("HS256", "ES256"):
        refused("algorithm-unsupported", verify, jws, load(PEM), accepted)


def load(pem: bytes) -> ec.EllipticCurvePublicKey:
    key = load_pem_public_key(pem)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


# -- the form of a token -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "1 dot"),
        ("a.b", "2 dot"),
        ("a.b.c.d", "4 dot"),
        ("..", "header that is not JSON"),
        ("ü.b.c", "outside ASCII"),
        (compact([1]), "header that is not a JSON object"),
        (compact({"alg": "RS256"}, b"[]"), "payload that is not a JSON object"),
        (compact({"alg": "RS256"}, b"{"), "payload that is not JSON"),
        (compact(b"\xff"), "not UTF-8"),
        (compact(b"\xef\xbb\xbf{}"), "header that is not JSON"),
        (compact({}), "no alg"),
        (compact({"alg": None}), "no alg"),
        (compact({"alg": ["RS256"]}), "no alg"),
        (compact({"alg": "RS256", "kid": 7}), "kid"),
        (compact({"alg": "RS256", "crit": ["exp"]}), "crit"),
        (compact({"alg": "RS256", "crit": None}), "crit"),
        (compact({"alg": "RS256", "b64": False}), "b64"),
        (compact(b'{"alg":"RS256","alg":"none"}'), "'alg' twice"),
        (compact({"alg": "RS256"}, b'{"sub":"a","sub":"b"}'), "'sub' twice"),
        (compact({"alg": "RS256"}, b'{"a":{"x":1,"x":1}}'), "'x' twice"),
        (compact({"alg": "RS256"}, b'{"exp":NaN}'), "constant"),
        (compact({"alg": "RS256"}, b'{"exp":-Infinity}'), "constant"),
        (compact({"alg": "RS256"}, b'{"exp":1e400}'), "range"),
        (compact({"alg": "RS256"}, b'{"exp":' + b"1" * 5000 + b"}"), "not JSON"),
        (compact({"alg": "RS256"}, b'{"sub":"\\ud800"}'), "surrogate"),
        (compact({"alg": "RS256"}, b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "too deeply"),
    ],
)
def test_a_token_of_another_form_is_refused(token: str, says: str) -> None:
    assert says in refused("token-malformed", split_compact, token)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("change", ["=", "==", "\n", " ", "+", "/", "é"])
def test_base64url_has_one_form_only(part: int, change: str) -> None:
    parts = sign(CLAIMS, RSA, "k").split(".")
    parts[part] += change
    refused("token-malformed", split_compact, ".".join(parts))


def test_stray_bits_in_the_last_letter_are_refused() -> None:
    assert split_compact(compact({"alg": "RS256"}, signature=b"\0")).signature == b"\0"
    refused("token-malformed", split_compact, compact({"alg": "RS256"}).rpartition(".")[0] + ".AB")


def test_whole_surrogate_pairs_and_escapes_are_read() -> None:
    payload = b'{"sub":"\\ud83d\\ude00\\u00e9"}'
    assert split_compact(compact({"alg": "RS256"}, payload)).unverified_claims == {"sub": "😀é"}


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_noise_is_refused_and_never_crashes(noise: bytes | str) -> None:
    refused("token-malformed", split_compact, noise)


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=3))
def test_a_spoilt_token_never_verifies_as_another(position: int, noise: bytes) -> None:
    token = sign(CLAIMS, P256, "k", "ES256").encode()
    position %= len(token)
    spoilt = token[:position] + noise + token[position + len(noise) :]
    try:
        verified = verify(split_compact(spoilt), P256.public_key(), "ES256")
    except TokenError:
        return
    assert verified.claims == CLAIMS
    assert spoilt == token


def test_no_part_of_a_token_is_shown() -> None:
    jws = split_compact(sign(CLAIMS, RSA, "k"))
    for shown in (repr(jws), repr(verify(jws, RSA.public_key(), "RS256"))):
        assert "team" not in shown
        assert str(jws.signature[:8]) not in shown


# -- keys ----------------------------------------------------------------------------------------------------------


def test_the_key_id_is_that_of_kubernetes() -> None:
    der = base64.b64decode(b"".join(PEM.splitlines()[1:-1]))
    assert key_id(load(PEM)) == b64(hashlib.sha256(der).digest())
    assert len(key_id(RSA.public_key())) == 43


@pytest.mark.parametrize("key", [RSA, P256, P384, P521])
def test_a_key_survives_its_jwk_here_and_with_pyjwt(key: PrivateKey) -> None:
    jwk = jwk_from_public_key(key.public_key())
    assert public_key_from_jwk(jwk) == key.public_key()
    assert jwt.PyJWK.from_dict(jwk).key == key.public_key()
    assert (jwk["use"], jwk["kid"], jwk["alg"]) == ("sig", key_id(key.public_key()), algorithm_of(key.public_key()))


def test_a_jwk_has_the_members_and_order_of_kubernetes() -> None:
    assert list(jwk_from_public_key(RSA.public_key())) == ["use", "kty", "kid", "alg", "n", "e"]
    assert list(jwk_from_public_key(P256.public_key())) == ["use", "kty", "kid", "crv", "alg", "x", "y"]
    assert jwk_from_public_key(RSA.public_key())["e"] == "AQAB"
    named = jwk_from_public_key(RSA.public_key(), kid="k", alg="RS512")
    assert (named["kid"], named["alg"]) == ("k", "RS512")


def test_coordinates_keep_their_leading_zeros() -> None:
    for number in range(1, 2000):
        key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
        jwk = jwk_from_public_key(key)
        assert len(jwk["x"]) == len(jwk["y"]) == 43
        if key.public_numbers().x >> 248 == 0:
            assert public_key_from_jwk(jwk) == key
            return
    raise AssertionError("no coordinate with a leading zero")


def test_a_curve_that_no_cloud_verifies_has_no_algorithm() -> None:
    koblitz = ec.generate_private_key(ec.SECP256K1())
    assert "secp256k1" in refused("key-invalid", algorithm_of, koblitz.public_key())
    refused("key-invalid", jwk_from_public_key, koblitz.public_key())
    refused("algorithm-unsupported", sign, CLAIMS, koblitz, "k", "ES256")


def rsa_jwk(bits: int = 2048, e: int = 65537, n: int | None = None) -> dict[str, Any]:
    n = (1 << (bits - 1)) + 1 if n is None else n
    return {
        "kty": "RSA",
        "n": b64(n.to_bytes((n.bit_length() + 7) // 8, "big")),
        "e": b64(e.to_bytes((e.bit_length() + 7) // 8, "big")),
    }


GOOD = jwk_from_public_key(RSA.public_key())
GOOD_EC = jwk_from_public_key(P256.public_key())


@pytest.mark.parametrize(
    ("jwk", "says"),
    [
        *[(GOOD | {name: "AQAB"}, name) for name in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")],
        (GOOD_EC | {"d": ""}, "private"),
        (GOOD | {"use": "enc"}, "use"),
        (GOOD | {"use": None}, "use"),
        (GOOD | {"key_ops": ["sign"]}, "key_ops"),
        (GOOD | {"key_ops": []}, "key_ops"),
        (GOOD | {"key_ops": "verify"}, "key_ops"),
        (GOOD | {"kty": "oct"}, "'oct'"),
        (GOOD | {"kty": 1}, "int"),
        ({}, "nothing"),
        (GOOD | {"alg": "ES256"}, "alg"),
        (GOOD | {"alg": "none"}, "alg"),
        (GOOD | {"alg": "RSA-OAEP"}, "alg"),
        (GOOD | {"alg": 1}, "alg"),
        (GOOD_EC | {"alg": "RS256"}, "alg"),
        (GOOD_EC | {"alg": "ES384"}, "alg"),
        (rsa_jwk(bits=1024), "1024"),
        (rsa_jwk(bits=2047), "2047"),
        (rsa_jwk(bits=16385), "16385"),
        (rsa_jwk(e=1), "RSA numbers"),
        (rsa_jwk(e=4), "RSA numbers"),
        (rsa_jwk(e=2**31 + 1), "RSA numbers"),
        (rsa_jwk(n=1 << 2047), "RSA numbers"),
        (GOOD | {"n": None}, "n"),
        (GOOD | {"n": "é"}, "n"),
        (GOOD | {"n": ""}, "n"),
        (GOOD | {"n": GOOD["n"] + "=="}, "canonical"),
        (GOOD | {"e": "AQ+B"}, "canonical"),
        (GOOD | {"e": "A"}, "canonical"),
        (GOOD_EC | {"crv": "secp256k1"}, "crv"),
        (GOOD_EC | {"crv": 1}, "crv"),
        (GOOD_EC | {"x": b64(b"\0" + base64.urlsafe_b64decode(GOOD_EC["x"] + "="))}, "32 bytes"),
        (GOOD_EC | {"x": b64(bytes(32)), "y": b64(bytes(32))}, "P-256"),
    ],
)
def test_a_key_that_must_not_verify_is_refused(jwk: dict[str, Any], says: str) -> None:
    assert says in refused("key-invalid", public_key_from_jwk, jwk)


def test_a_key_may_say_that_it_verifies() -> None:
    assert public_key_from_jwk(GOOD | {"key_ops": ["verify"], "x5t": "ignored"}) == RSA.public_key()
    bare = {name: value for name, value in GOOD.items() if name not in ("use", "alg", "kid")}
    assert public_key_from_jwk(bare) == RSA.public_key()


@given(st.dictionaries(st.sampled_from(["kty", "n", "e", "x", "y", "crv", "alg", "use", "key_ops"]), JSON))
def test_any_jwk_is_read_or_refused(jwk: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigurationError):
        public_key_from_jwk(jwk)
