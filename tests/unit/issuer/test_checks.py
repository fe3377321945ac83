"""A fetched key set against the keys that should be in it, a live token against the set, the audience of a cloud."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from wif.core.jws import PrivateKey, sign
from wif.core.lint_rules import Finding
from wif.core.public_keys import IssuerKey, key_set_bytes
from wif.errors import UnavailableError
from wif.issuer.checks import (
    Check,
    KeySetFindings,
    check_audience,
    check_key_set,
    check_token,
    exit_status_of,
    lint_checks,
)

ISSUER = "https://oidc.example.com/edge"


@cache
def private(name: str) -> PrivateKey:
    return ec.generate_private_key(ec.SECP384R1() if name == "p384" else ec.SECP256R1())


def key(name: str, key_id: str | None = None) -> IssuerKey:
    return IssuerKey.from_public_key(private(name).public_key(), key_id or name)


def failed(findings: KeySetFindings) -> dict[str, str]:
    return {check.name: check.level for check in findings.checks if not check.ok}


def body(*keys: IssuerKey, kept: Sequence[Mapping[str, Any]] = ()) -> bytes:
    return key_set_bytes(keys, kept)


def compared(content: bytes, **settings: Any) -> KeySetFindings:
    return check_key_set(content, **{"clouds": ("aws",), **settings})


# -- key sets ---------------------------------------------------------------------------------------------------------


def test_the_expected_keys_pass() -> None:
    findings = compared(body(key("a"), key("b")), expected=[key("b"), key("a")])
    assert failed(findings) == {}
    assert findings.key_ids == ("a", "b")
    assert {found.key_id for found in findings.keys} == {"a", "b"}
    assert exit_status_of(findings.checks) == 0


def test_a_missing_key_is_drift_and_the_cache_in_between_is_named() -> None:
    findings = compared(body(key("a")), expected=[key("a"), key("b")], cached=" (240 s old)")
    assert failed(findings) == {"keys-expected": "drift"}
    assert findings.missing == ("b",)
    assert any("'b' (240 s old)" in check.detail for check in findings.checks)
    assert exit_status_of(findings.checks) == 3


def test_an_unknown_key_is_tampering() -> None:
    findings = compared(body(key("a"), key("evil")), expected=[key("a")])
    assert failed(findings) == {"keys-unknown": "tampering"}
    assert findings.unknown == ("evil",)
    assert exit_status_of(findings.checks) == 3


def test_a_known_key_may_be_there_and_need_not() -> None:
    for published in ([key("a")], [key("a"), key("old")]):
        assert failed(compared(body(*published), expected=[key("a")], known=[key("old")])) == {}


@pytest.mark.parametrize("role", ["expected", "known"])
def test_other_material_under_a_known_id_is_tampering(role: str) -> None:
    forged = key("evil", "b")
    expected = [key("a"), key("b")] if role == "expected" else [key("a")]
    findings = compared(body(key("a"), forged), expected=expected, known=[key("b")])
    assert failed(findings) == {"keys-altered": "tampering"}
    assert findings.altered == ("b",)


def test_a_removed_key_that_shows_is_drift_though_a_source_still_has_it() -> None:
    for known, removed in (
        ([key("gone")], ["gone"]),
        ([], {"gone": key("gone").fingerprint}),
        ([key("gone")], {"gone": None}),
    ):
        findings = compared(
            body(key("a"), key("gone")), expected=[key("a")], known=known, removed=removed, cached=" (9 s old)"
        )
        assert findings.removed == ("gone",)
        assert failed(findings) == {"keys-removed": "drift"}
        assert any("'gone' (9 s old)" in check.detail for check in findings.checks)


def test_an_expected_key_that_is_removed_is_not_missed() -> None:
    findings = compared(body(key("a")), expected=[key("a"), key("gone")], removed=["gone"])
    assert failed(findings) == {}


def test_a_removed_id_over_other_material_is_tampering() -> None:
    forged = key("evil", "gone")
    removed = {"gone": key("gone").fingerprint}
    findings = compared(body(key("a"), forged), expected=[key("a")], removed=removed)
    assert failed(findings) == {"keys-altered": "tampering"}
    assert (findings.removed, findings.altered) == ((), ("gone",))


def test_a_removed_id_of_which_the_material_is_not_known_is_an_unknown_key() -> None:
    findings = compared(body(key("a"), key("gone")), expected=[key("a")], removed=["gone"])
    assert failed(findings) == {"keys-unknown": "tampering"}


def test_removed_material_under_another_id_is_an_unknown_key() -> None:
    removed = {"gone": key("gone").fingerprint}
    findings = compared(body(key("a"), key("gone", "new-name")), expected=[key("a")], removed=removed)
    assert failed(findings) == {"keys-unknown": "tampering"}


def test_an_entry_without_an_id_is_an_unknown_key() -> None:
    nameless = {name: value for name, value in key("evil").jwk.items() if name != "kid"}
    findings = compared(body(key("a"), kept=[nameless]), expected=[key("a")])
    assert failed(findings) == {"key-without-kid": "error", "keys-unknown": "tampering"}
    assert findings.unknown == ("",)


def test_a_private_member_is_said() -> None:
    leaked = {**key("b").jwk, "d": "AQAB"}
    findings = compared(body(key("a"), kept=[leaked]), expected=[key("a"), key("b")])
    assert failed(findings) == {"key-private": "error", "keys-altered": "tampering"}
    assert any("private member" in check.detail for check in findings.checks)


def test_an_id_twice_is_an_error() -> None:
    findings = compared(body(key("a"), kept=[key("a").jwk]), expected=[key("a")])
    assert failed(findings) == {"key-duplicate": "error"}
    findings = compared(body(key("a"), kept=[key("evil", "a").jwk]), expected=[key("a")])
    assert failed(findings) == {"key-duplicate": "error", "keys-altered": "tampering"}


def test_an_empty_set_fails_and_so_does_expecting_nothing() -> None:
    assert failed(compared(body(), expected=None)) == {"key-none-usable": "error"}
    assert failed(compared(body(), expected=[])) == {"key-none-usable": "error", "keys-expected": "error"}
    assert failed(compared(body(key("a")), expected=[])) == {"keys-expected": "error", "keys-unknown": "tampering"}


def test_without_a_source_nothing_is_compared_and_that_is_said() -> None:
    findings = compared(body(key("a")), expected=None, removed=["a"])
    assert failed(findings) == {}
    assert [check.level for check in findings.checks if check.name == "keys-expected"] == ["info"]


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[1]}', b"\xff", b""])
def test_what_is_no_key_set_is_an_error_and_nothing_more(content: bytes) -> None:
    assert failed(compared(content, expected=[key("a")])) == {"keys-readable": "error"}


def test_the_lint_says_which_of_the_readers_refuse_a_key() -> None:
    findings = compared(body(key("p384", "a")), expected=[key("p384", "a")], clouds=("aws", "gcp"))
    assert failed(findings) == {"key-algorithm": "warning"}
    [found] = [check for check in findings.checks if check.name == "key-algorithm"]
    assert "(gcp)" in found.detail


def test_a_finding_keeps_its_level_and_its_hint() -> None:
    finding = Finding(rule="r", level="error", clouds=(), message="m", hint="h")
    assert list(lint_checks([finding])) == [Check(name="r", ok=False, level="error", detail="m; h")]


def test_long_lists_are_cut() -> None:
    strangers = [{"kid": f"{number}" * 200, "kty": "x"} for number in range(100)]
    findings = compared(body(kept=strangers), expected=[key("a")])
    assert all(len(check.detail) < 4_000 for check in findings.checks)
    assert len(findings.unknown) == 100


# -- tokens -----------------------------------------------------------------------------------------------------------


def token(name: str = "a", kid: str | None = "a", issuer: str = ISSUER, algorithm: str = "ES256") -> str:
    return sign({"iss": issuer, "sub": "system:serviceaccount:n:s"}, private(name), kid, algorithm)


def checked(text: str, *keys: IssuerKey, clouds: Sequence[str] = ("aws",)) -> dict[str, str]:
    return {check.name: check.level for check in check_token(text, keys, issuer=ISSUER, clouds=clouds) if not check.ok}


def test_a_live_token_is_verified_by_the_published_key() -> None:
    assert checked(token(), key("b"), key("a")) == {}


def test_a_token_of_a_key_that_is_not_published_fails() -> None:
    assert checked(token(kid="c"), key("a")) == {"token-signature": "error"}
    assert checked(token(kid=None), key("a")) == {"token-signature": "error"}
    assert checked(token()) == {"token-signature": "error"}


def test_a_token_that_another_key_has_signed_fails() -> None:
    assert checked(token("evil", "a"), key("a")) == {"token-signature": "error"}


def test_a_set_with_an_id_twice_verifies_by_any_of_them() -> None:
    assert checked(token(), key("evil", "a"), key("a")) == {}


def test_the_issuer_of_a_live_token_is_compared_byte_for_byte() -> None:
    for issuer in (ISSUER + "/", ISSUER.upper(), ""):
        assert checked(token(issuer=issuer), key("a")) == {"token-issuer": "error"}


def test_an_algorithm_that_a_cloud_refuses_is_a_warning() -> None:
    wide = token("p384", "p", algorithm="ES384")
    assert checked(wide, key("p384", "p"), clouds=("aws",)) == {}
    assert checked(wide, key("p384", "p"), clouds=("aws", "gcp", "azure")) == {"token-clouds": "warning"}


def test_a_key_that_no_cloud_verifies_is_said() -> None:
    public = base64.urlsafe_b64encode(bytes(1312)).rstrip(b"=").decode()
    jwk = {"use": "sig", "kty": "AKP", "kid": "a", "alg": "ML-DSA-44", "pub": public}
    [check] = [c for c in check_token(token(), [IssuerKey.from_jwk(jwk)], issuer=ISSUER, clouds=["aws"]) if not c.ok]
    assert (check.name, check.level) == ("token-signature", "error")
    assert "ML-DSA-44 is verified by no cloud" in check.detail


def test_what_is_no_token_fails_and_is_not_shown() -> None:
    secret = "not-a-token-but-secret"
    [check] = check_token(secret, [key("a")], issuer=ISSUER, clouds=["aws"])
    assert (check.name, check.ok) == ("token-signature", False)
    assert secret not in check.detail


def test_no_part_of_a_token_is_shown() -> None:
    text = token("evil", "a")
    for check in check_token(text, [key("a")], issuer=ISSUER, clouds=["aws"]):
        assert not any(part in check.detail for part in text.split("."))


# -- the API server's own audience ------------------------------------------------------------------------------------


def test_an_api_server_that_takes_a_clouds_token_is_an_error() -> None:
    assert check_audience(True).ok
    assert check_audience(lambda: True).ok
    for accepted in (False, lambda: False):
        check = check_audience(accepted)
        assert (check.ok, check.level) == (False, "error")
        assert "--api-audiences" in check.detail


def test_an_api_server_that_cannot_be_asked_is_a_warning() -> None:
    def ask() -> bool:
        raise UnavailableError("no answer", code="cluster-unavailable")

    check = check_audience(ask)
    assert (check.ok, check.level) == (False, "warning")


# -- the exit status --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "status"),
    [
        ([], 0),
        (["warning", "info"], 0),
        (["error"], 1),
        (["error", "drift"], 3),
        (["error", "tampering", "warning"], 3),
    ],
)
def test_tampering_and_drift_outweigh_errors(levels: list[Any], status: int) -> None:
    passed = Check(name="x", ok=True, level="tampering", detail="")
    assert exit_status_of([passed, *(Check(name="x", ok=False, level=level, detail="") for level in levels)]) == status
