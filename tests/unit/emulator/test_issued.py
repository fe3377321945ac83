"""Credentials that carry their own content: opened by their maker only, and marked for everybody."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.emulator.issued import Seal, TokenSigner
from wif.emulator.wire import form_fields

values = st.none() | st.text(max_size=20) | st.integers(-(2**53), 2**53)
content = st.dictionaries(st.text(max_size=20), values, max_size=5)


@given(content=content)
def test_what_is_sealed_opens_again(content: dict[str, Any]) -> None:
    seal = Seal()
    text = seal.seal("aws", content)
    assert seal.open("aws", text) == content
    assert seal.open("gcp", text) is None
    assert Seal().open("aws", text) is None


@given(content=content, position=st.integers(0, 10_000), letter=st.sampled_from("Ab1-_.é\0"))
def test_a_changed_text_does_not_open(content: dict[str, Any], position: int, letter: str) -> None:
    seal = Seal()
    text = seal.seal("aws", content)
    place = position % len(text)
    changed = text[:place] + letter + text[place + 1 :]
    assert seal.open("aws", changed) is None or changed == text


@pytest.mark.parametrize("text", ["", ".", "x", "e30.", "e30.x", "." * 70_000])
def test_anything_else_does_not_open(text: str) -> None:
    assert Seal().open("aws", text) is None


def test_half_a_surrogate_pair_is_kept() -> None:
    seal = Seal()
    assert seal.open("aws", seal.seal("aws", {"a": "\ud800"})) == {"a": "\ud800"}


def test_keys_of_a_session() -> None:
    seal = Seal()
    names = {seal.aws_key_id() for _ in range(200)}
    assert len(names) == 200
    for name in names:
        assert name.startswith("ASIAWIFLOCAL")
        assert len(name) == 20
        assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    name = names.pop()
    assert seal.aws_secret(name) == seal.aws_secret(name) != Seal().aws_secret(name)
    assert len(seal.aws_secret(name)) == 40


def test_signed_tokens_verify_with_the_published_key() -> None:
    signer = TokenSigner("google")
    token = signer.sign({"sub": "ä", "n": 1})
    (jwk,) = signer.jwks["keys"]
    assert jwt.decode(token, jwt.PyJWK(jwk), algorithms=["ES256"]) == {"sub": "ä", "n": 1}
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": signer.kid, "typ": "JWT"}
    assert signer.kid.startswith("wif-local-sts-google-")
    assert "d" not in jwk


@given(pairs=st.lists(st.tuples(st.text(max_size=10), st.text(max_size=700)), max_size=8))
def test_forms_read_as_the_standard_library_reads_them(pairs: list[tuple[str, str]]) -> None:
    from urllib.parse import parse_qsl, urlencode

    body = urlencode(pairs, errors="replace")
    expected = parse_qsl(body, keep_blank_values=True)
    expected.reverse()
    fields = {name: value for name, value in dict(expected).items() if name or value}
    assert {name: value for name, value in form_fields(body.encode()).items() if name or value} == fields


@pytest.mark.parametrize("body", [b"%ff", b"a=%c3", b"\xff", b"&".join([b"a=1"] * 300)])
def test_forms_that_are_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"codec can't decode|too many fields"):
        form_fields(body)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, wif.emulator; "
        "heavy = {'cryptography', 'uvicorn', 'trustme', 'asyncio', 'ssl', 'msgspec'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "assert 'Emulator' in dir(wif.emulator); "
        "wif.emulator.Emulator"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
