"""Every rule of the lint has a fixture that triggers it alone, and says which clouds break."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from wif.core import issuer_lint
from wif.core.issuer_lint import (
    ALL_CLOUDS,
    RULES,
    Finding,
    IssuerUse,
    lint_issuer,
    lint_issuers,
    lint_key_set,
    lint_keys,
)
from wif.core.jws import jwk_from_public_key
from wif.core.lint_rules import Found, Rule, apply_rules
from wif.core.public_keys import IssuerKey

ISSUER = "https://oidc.example.com/clusters/one"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
P256, P384 = (ec.generate_private_key(curve()).public_key() for curve in (ec.SECP256R1, ec.SECP384R1))
RS256, ES256, ES384 = (IssuerKey.from_public_key(key) for key in (RSA, P256, P384))


def jwk(key: Any = RSA, **changes: Any) -> dict[str, Any]:
    merged = jwk_from_public_key(key) | changes
    return {name: value for name, value in merged.items() if value is not ...}


def key_set(*keys: Any, clouds: Sequence[str] = ALL_CLOUDS) -> Callable[[], tuple[Finding, ...]]:
    return lambda: lint_key_set(json.dumps({"keys": keys}).encode(), clouds)


def issuer(issuer: str = ISSUER, jwks_uri: str | None = None, **more: Any) -> Callable[[], tuple[Finding, ...]]:
    return lambda: lint_issuer(issuer, jwks_uri, **more)


def jwks(jwks_uri: str) -> Callable[[], tuple[Finding, ...]]:
    return lambda: lint_issuer(ISSUER, jwks_uri)


def keys(*made: IssuerKey, clouds: Sequence[str] = ALL_CLOUDS) -> Callable[[], tuple[Finding, ...]]:
    return lambda: lint_keys(made, clouds)


def use(name: str, **changes: Any) -> IssuerUse:
    base = f"https://oidc.example.com/{name}"
    settings = {"issuer": base, "jwks_uri": f"{base}/openid/v1/jwks", "targets": (f"s3://bucket/{name}",)} | changes
    return IssuerUse(name=name, **settings)


def uses(*made: IssuerUse) -> Callable[[], tuple[Finding, ...]]:
    return lambda: lint_issuers(made)


def many(count: int, key: Any, start: str) -> list[dict[str, Any]]:
    return [jwk(key, kid=f"{start}{number}") for number in range(count)]


class Case(NamedTuple):
    """One way to break one rule and no other."""

    rule: str
    lint: Callable[[], tuple[Finding, ...]]
    says: str
    clouds: tuple[str, ...] = ALL_CLOUDS
    level: str = "error"


CASES = [
    Case("issuer-white-space", issuer(f" {ISSUER}"), "Entra refuses it"),
    Case("issuer-white-space", issuer(f"{ISSUER}\n"), "Entra refuses it"),
    Case("issuer-white-space", issuer("https://oidc.example.com/a\tb"), "Entra refuses it"),
    Case("issuer-white-space", issuer("https://oidc.example.com/a\x00b"), "Entra refuses it"),
    Case("issuer-characters", issuer("https://oidc.example.com/größe"), "none of a URL"),
    Case("issuer-characters", issuer("https://größe.example.com"), "none of a URL"),
    Case("issuer-characters", issuer("https://oidc.example.com/a\\b"), "none of a URL"),
    Case("issuer-characters", issuer("https://oidc.example.com/%zz"), "none of a URL"),
    Case("issuer-characters", issuer("https://oidc%.example.com/"), "none of a URL"),
    Case("issuer-https", issuer("http://oidc.example.com/a"), "404"),
    Case("issuer-https", issuer("HTTPS://oidc.example.com/a"), "404"),
    Case("issuer-https", issuer("//oidc.example.com/a"), "404"),
    Case("issuer-host", issuer("https:///a"), "nobody can read"),
    Case("issuer-host", issuer("https://a..example.com"), "nobody can read"),
    Case("issuer-host", issuer("https://-a.example.com"), "nobody can read"),
    Case("issuer-host", issuer("https://[::zz]/a"), "nobody can read"),
    Case("issuer-host", issuer(f"https://{'a.' * 125}example.com", clouds=["gcp"]), "nobody can read", ("gcp",)),
    Case("issuer-host-case", issuer("https://OIDC.example.com/a"), "byte for byte", level="warning"),
    Case("issuer-user-info", issuer("https://user:c2VjcmV0@oidc.example.com"), "user information"),
    Case("issuer-port", issuer("https://oidc.example.com:443/a"), "IAM creates no provider", ("aws",)),
    Case("issuer-port", issuer("https://oidc.example.com:/a"), "IAM creates no provider", ("aws",)),
    Case("issuer-query", issuer("https://oidc.example.com/a?b"), "404"),
    Case("issuer-query", issuer("https://oidc.example.com/a?"), "404"),
    Case("issuer-fragment", issuer("https://oidc.example.com/a#"), "404"),
    Case("issuer-length", issuer(f"https://oidc.example.com/{'a' * 231}"), "aws 255", ("aws",)),
    Case("issuer-length", issuer(f"https://oidc.example.com/{'a' * 576}"), "azure 600", ("aws", "azure")),
    Case("issuer-length", issuer(f"https://oidc.example.com/{'a' * 1976}"), "gcp 2000"),
    Case("issuer-path", issuer("https://oidc.example.com//a"), "object store"),
    Case("issuer-path", issuer("https://oidc.example.com/a//"), "object store"),
    Case("issuer-path", issuer("https://oidc.example.com/a/../b"), "object store"),
    Case("issuer-path", issuer("https://oidc.example.com/."), "object store"),
    Case("issuer-default", issuer("https://kubernetes.default.svc.cluster.local"), "every cluster"),
    Case("issuer-default", issuer("https://kubernetes.default.svc"), "every cluster"),
    Case("issuer-default", issuer("https://kubernetes"), "every cluster"),
    Case("issuer-default", issuer("https://kubernetes.default.svc.k8s.example.com"), "every cluster"),
    Case("issuer-default", issuer("https://api.cluster.local."), "every cluster"),
    Case("issuer-default", issuer("https://oidc.web.svc/a"), "every cluster"),
    Case(
        "issuer-default-uploaded",
        issuer("https://kubernetes.default.svc.cluster.local", fetched=False),
        "tell their tokens apart",
        (),
        "warning",
    ),
    Case("issuer-internal-host", issuer("https://oidc"), "public DNS"),
    Case("issuer-internal-host", issuer("https://localhost/a"), "public DNS"),
    Case("issuer-internal-host", issuer("https://oidc.example.internal"), "public DNS"),
    Case("issuer-internal-host", issuer("https://oidc.box.lan."), "public DNS"),
    Case("issuer-internal-host", issuer("https://oidc.home.arpa"), "public DNS"),
    Case("issuer-internal-host", issuer("https://2130706433/"), "public DNS"),
    Case("issuer-private-address", issuer("https://10.1.2.3/a"), "not public"),
    Case("issuer-private-address", issuer("https://127.1/a"), "not public"),
    Case("issuer-private-address", issuer("https://[::1]"), "not public"),
    Case("issuer-slash", issuer(server_issuers=[f"{ISSUER}/"]), "slash at the end"),
    Case("issuer-slash", issuer(f"{ISSUER}/", server_issuers=[ISSUER, f"{ISSUER}/"]), "slash at the end"),
    Case("issuer-server", issuer(server_issuers=["https://oidc.example.com/clusters/two"]), "every cloud refuses"),
    Case("jwks-https", jwks("http://oidc.example.com/keys"), "no cloud reads"),
    Case("jwks-form", jwks(f"{ISSUER}/openid/v1/jwks#a"), "no cloud reads"),
    Case("jwks-form", jwks(f"{ISSUER}/keys?a=b"), "no cloud reads"),
    Case("jwks-form", jwks(f"{ISSUER}/ keys"), "no cloud reads"),
    Case("jwks-form", jwks(f"{ISSUER}/%"), "no cloud reads"),
    Case("jwks-form", jwks(f"{ISSUER}/"), "no cloud reads"),
    Case("jwks-form", jwks(f"{ISSUER}/.well-known/openid-configuration"), "no cloud reads"),
    Case("jwks-form", jwks("https:///keys"), "no cloud reads"),
    Case("jwks-path", jwks(f"{ISSUER}//openid/v1/jwks"), "object store"),
    Case("jwks-path", jwks(f"{ISSUER}/a/../jwks"), "object store"),
    Case("jwks-private-address", jwks("https://192.168.0.10/openid/v1/jwks"), "no cloud can read the keys"),
    Case("jwks-private-address", jwks("https://[fd00::1]:6443/openid/v1/jwks"), "no cloud can read the keys"),
    Case("jwks-internal-host", jwks("https://kubernetes.default.svc/openid/v1/jwks"), "no cloud can read the keys"),
    Case("jwks-host", jwks("https://keys.example.com/jwks"), "thumbprints", (), "warning"),
    Case("jwks-outside", jwks("https://oidc.example.com/keys"), "not below the issuer", (), "warning"),
    Case("jwks-outside", jwks(f"{ISSUER}-two/keys"), "not below the issuer", (), "warning"),
    Case("key-set-unreadable", lambda: lint_key_set(b"<html>"), "no cloud verifies"),
    Case("key-private", key_set(jwk(), jwk(P256, d="c2VjcmV0")), "mint every identity", ()),
    Case("key-without-kid", key_set(jwk(), jwk(P256, kid=...)), "AWS compares it exactly"),
    Case("key-without-kid", key_set(jwk(), jwk(P256, kid="")), "AWS compares it exactly"),
    Case("key-without-kid", key_set(jwk(), jwk(P256, kid=5)), "AWS compares it exactly"),
    Case("key-size", key_set(jwk(), jwk(SMALL)), "1024 bits"),
    Case("key-unusable", key_set(jwk(), jwk(P256, crv="P-257")), "strict reader"),
    Case("key-unusable", key_set(jwk(), jwk(RSA, kid="k", n="é")), "strict reader"),
    Case("key-unusable", key_set(jwk(), jwk(RSA, kid="k", n=5)), "strict reader"),
    Case("key-unusable", key_set(jwk(), jwk(RSA, kid="a\nb")), "strict reader"),
    Case("key-members", key_set(jwk(x5c=["MII"])), "'x5c'", ("gcp",), "warning"),
    Case("key-duplicate", key_set(jwk(kid="k"), jwk(RSA, kid="k")), "2 times"),
    Case("key-count", key_set(*many(101, RSA, "r"), clouds=("aws", "gcp")), "more than 100 of them", ("aws",)),
    Case("key-count", key_set(*many(101, P256, "e"), clouds=("aws", "gcp")), "AWS refuses", ("aws",)),
    Case("key-count", key_set(*many(60, RSA, "r"), *many(60, RSA, "e"), clouds=("azure",)), "first 100", ("azure",)),
    Case("key-count", key_set(*many(101, RSA, "r")), "Entra keeps the first 100", ("aws", "azure")),
    Case("key-algorithm", keys(RS256, ES256), "ES256: Azure will refuse its tokens", ("azure",), "warning"),
    Case("key-algorithm", keys(ES384), "ES384: GCP and Azure will refuse", ("gcp", "azure"), "warning"),
    Case("key-algorithm", keys(RS256, ES256, clouds=["azure"]), "left out", ("azure",), "warning"),
    Case("key-none-usable", keys(), "every token is refused"),
    Case("key-none-usable", keys(ES384, clouds=("gcp", "azure")), "sign with ES384", ("gcp", "azure")),
    Case("key-none-usable", key_set(), "every token is refused"),
    Case("shared-issuer", uses(use("a"), use("b", issuer="https://oidc.example.com/a/")), "'a', 'b'"),
    Case("shared-issuer", uses(use("a"), use("b", issuer="https://OIDC.example.com/a", former=True)), "one cluster"),
    Case("shared-issuer", uses(use("a", keys=(RS256,)), use("a", keys=(RS256,))), "one cluster"),
    Case("shared-jwks-uri", uses(use("a"), use("b", jwks_uri=use("a").jwks_uri)), "mint the identities"),
    Case("shared-key", uses(use("a", keys=(RS256,)), use("b", keys=(ES256, RS256))), RS256.key_id),
    Case("shared-target", uses(use("a"), use("b", targets=use("a").targets)), "s3://bucket/a"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{CASES.index(case)}")
def test_a_rule_is_triggered_alone(case: Case) -> None:
    [found] = case.lint()
    assert (found.rule, found.level, found.clouds) == (case.rule, case.level, case.clouds)
    assert case.says in found.message
    assert found.hint
    assert "c2VjcmV0" not in f"{found.message}{found.hint}"


def test_every_rule_has_a_case_and_a_name_of_its_own() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert {case.rule for case in CASES} == set(names)


def test_a_lint_without_rules_or_readers_fails() -> None:
    for rules, clouds in (((), ALL_CLOUDS), (RULES[:1], ())):
        with pytest.raises(AssertionError):
            apply_rules(rules, None, clouds=clouds)
    with pytest.raises(AssertionError):
        lint_keys([RS256], ())


@pytest.mark.parametrize(
    "clean",
    [
        issuer(),
        issuer(f"{ISSUER}/"),
        issuer("https://oidc.example.com"),
        issuer("https://a.svc.example.com/cluster.local"),
        issuer("https://bucket_a.s3.eu-central-1.amazonaws.com/clusters/a"),
        issuer("https://[2a00:1450:4001::1]/a"),
        issuer(f"https://oidc.example.com/{'a' * 230}"),
        issuer(server_issuers=[ISSUER, ISSUER]),
        issuer(jwks_uri=f"{ISSUER}/keys.json"),
        issuer(f"{ISSUER}/", f"{ISSUER}/openid/v1/jwks"),
        keys(RS256),
        keys(RS256, ES256, clouds=("aws", "gcp")),
        keys(RS256, ES256, ES384, clouds=["aws"]),
        key_set(*many(100, RSA, "r"), *many(100, P256, "e"), clouds=("aws", "gcp")),
        uses(),
        uses(use("a"), use("b")),
        uses(use("a", keys=(RS256,)), use("b", keys=(RS256,), former=True)),
        uses(use("a", former=True, keys=(RS256,)), use("b", keys=(RS256,), former=True)),
        uses(use("a"), use("b", former=True, jwks_uri=use("a").jwks_uri)),
    ],
)
def test_what_is_right_has_no_findings(clean: Callable[[], tuple[Finding, ...]]) -> None:
    assert clean() == ()


def test_a_cloud_that_does_not_read_does_not_break() -> None:
    assert lint_issuer("https://oidc.example.com:8443", clouds=("gcp", "azure")) == ()
    assert lint_issuer(f"https://oidc.example.com/{'a' * 300}", clouds=["azure", "gcp"]) == ()
    [found] = lint_issuer("http://oidc.example.com", clouds=["gcp"])
    assert found.clouds == ("gcp",)


@pytest.mark.parametrize("base", ["https://10.0.0.1:6443", "https://localhost:6443", "https://kubernetes.default.svc"])
def test_what_keeps_the_clouds_out_is_a_warning_where_the_readers_are_inside(base: str) -> None:
    for one, jwks_uri in ((base, None), (ISSUER, f"{base}/keys")):
        assert {found.level for found in lint_issuer(one, jwks_uri)} == {"error"}
        assert {found.level for found in lint_issuer(one, jwks_uri, allow_private=True)} == {"warning"}


def test_plain_http_is_no_matter_of_the_network() -> None:
    assert {found.level for found in lint_issuer("http://oidc.example.com", allow_private=True)} == {"error"}
    assert {found.level for found in lint_issuer(ISSUER, "http://oidc.example.com/k", allow_private=True)} == {"error"}


def test_an_address_that_nobody_reads_may_be_private() -> None:
    for private in ("https://10.0.0.1:6443", "https://oidc.corp"):
        assert lint_issuer(private, fetched=False) == ()
    assert [found.rule for found in lint_issuer("http://oidc.corp", fetched=False)] == ["issuer-https"]


def test_three_issuers_of_one_key_are_one_finding() -> None:
    [found] = lint_issuers([use(name, keys=(RS256,)) for name in "abc"])
    assert "'a', 'b', 'c'" in found.message
    [found] = lint_issuers([use(f"n{number}", keys=(RS256,)) for number in range(20)])
    assert found.message.count("'n") == 8


def test_two_present_issuers_and_a_former_one_are_not_one_cluster() -> None:
    former = use("c", keys=(RS256,), former=True)
    [found] = lint_issuers([use("a", keys=(RS256,)), use("b", keys=(RS256,)), former])
    assert found.rule == "shared-key"


def test_one_slip_of_a_key_is_one_finding() -> None:
    found = lint_key_set(json.dumps({"keys": [jwk(), jwk(SMALL, kid=..., d="c2VjcmV0", x5c=[])]}).encode())
    assert [each.rule for each in found] == ["key-private"]


def test_what_breaks_a_rule_without_end_is_told_some_times() -> None:
    found = lint_key_set(json.dumps({"keys": [{} for _ in range(1000)]}).encode())
    assert 1 < sum(each.rule == "key-without-kid" for each in found) <= 20


def test_no_finding_quotes_a_password() -> None:
    secret = "user:c2VjcmV0@oidc.example.com:8443//a?b#c"
    for found in (lint_issuer(f"http://{secret}"), lint_issuer(ISSUER, f"http://{secret}")):
        assert len(found) > 2
        assert "c2VjcmV0" not in str(found)


def test_a_long_text_is_cut_and_escaped() -> None:
    found = lint_issuer("http://\x1b[2J" + "a" * 5000)
    assert all("\x1b" not in each.message and len(each.message) < 1000 for each in found)


def test_a_check_may_know_its_clouds() -> None:
    rule: Rule[None] = Rule(name="x", level="error", clouds=(), check=lambda _: iter([Found("m", ("gcp",))]), hint="h")
    assert apply_rules([rule], None, clouds=["aws"]) == ()
    assert apply_rules([rule], None)[0].clouds == ("gcp",)


_URLS = st.text() | st.from_regex(r"(https?:)?//([a-z]*@)?[a-z0-9.:\[\]-]{0,20}(/[a-z./%]*)?(\?[a-z]*)?(#[a-z]*)?")


@given(_URLS, _URLS, st.lists(_URLS, max_size=2), st.booleans(), st.booleans())
def test_no_address_crashes(one: str, other: str, servers: list[str], fetched: bool, private: bool) -> None:
    for jwks_uri in (None, other, one + other):
        found = lint_issuer(one, jwks_uri, server_issuers=servers, fetched=fetched, allow_private=private)
        assert all(each.message.isprintable() and each.hint for each in found)
    lint_issuers([use("a", issuer=one, jwks_uri=other), use("b", issuer=other, jwks_uri=one)])


def test_the_names_of_the_face_are_there() -> None:
    assert all(hasattr(issuer_lint, name) for name in issuer_lint.__all__)
