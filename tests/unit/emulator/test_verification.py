"""The cache of issuers' keys: when documents are fetched, how often, and what stays while a source fails."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from wif.core.jws import split_compact
from wif.emulator import LocalCluster
from wif.emulator.verification import (
    MAX_AGE_SECONDS,
    MAX_DOCUMENT_BYTES,
    REFETCH_WINDOW_SECONDS,
    REFETCHES,
    IssuerKeys,
    VerificationFailed,
    check_signature,
)

ISSUER = "https://oidc.cluster.example.com/prod"


class Clock:
    """A steady clock that stands still."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cluster(tmp_path: Path) -> LocalCluster:
    cluster = LocalCluster(issuer=ISSUER)
    cluster.write(tmp_path)
    return cluster


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> IssuerKeys:
    return IssuerKeys(sources={ISSUER: str(tmp_path)}, steady=clock)


def failure(keys: IssuerKeys, kid: str | None) -> VerificationFailed:
    with pytest.raises(VerificationFailed) as caught:
        asyncio.run(keys.find(ISSUER, kid))
    return caught.value


def test_a_key_is_found_and_kept(keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path) -> None:
    kid = cluster.signing_key.kid
    (found,) = asyncio.run(keys.find(ISSUER, kid))
    assert found.key_id == kid
    (tmp_path / ".well-known" / "openid-configuration").unlink()
    assert asyncio.run(keys.find(ISSUER, kid)) == (found,)


def test_documents_grow_old(keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path, clock: Clock) -> None:
    kid = cluster.signing_key.kid
    asyncio.run(keys.find(ISSUER, kid))
    (tmp_path / ".well-known" / "openid-configuration").unlink()
    clock.now = MAX_AGE_SECONDS - 1
    asyncio.run(keys.find(ISSUER, kid))
    clock.now = MAX_AGE_SECONDS
    assert failure(keys, kid).kind == "unreachable"


def test_forgotten_documents_are_fetched_anew(keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path) -> None:
    kid = cluster.signing_key.kid
    asyncio.run(keys.find(ISSUER, kid))
    (tmp_path / ".well-known" / "openid-configuration").unlink()
    keys.forget()
    assert failure(keys, kid).kind == "unreachable"


def test_a_rotated_key_is_seen_at_once(keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path) -> None:
    asyncio.run(keys.find(ISSUER, cluster.signing_key.kid))
    kid = cluster.rotate()
    assert failure(keys, kid).kind == "key-unknown"
    cluster.write(tmp_path)
    assert len(asyncio.run(keys.find(ISSUER, kid))) == 1


def test_unknown_keys_make_a_bounded_number_of_fetches(
    keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path, clock: Clock
) -> None:
    for number in range(REFETCHES):
        assert failure(keys, f"invented-{number}").kind == "key-unknown"
    kid = cluster.rotate()
    cluster.write(tmp_path)
    clock.now = REFETCH_WINDOW_SECONDS - 0.1
    assert failure(keys, kid).kind == "key-unknown"  # the budget is used, so nobody looked
    clock.now = REFETCH_WINDOW_SECONDS
    assert len(asyncio.run(keys.find(ISSUER, kid))) == 1


def test_a_failure_is_remembered_only_when_the_budget_is_used(
    keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / ".well-known" / "openid-configuration"
    good = path.read_bytes()
    path.unlink()
    kid = cluster.signing_key.kid
    for _ in range(REFETCHES - 1):
        assert failure(keys, kid).kind == "unreachable"
    path.write_bytes(good)
    assert len(asyncio.run(keys.find(ISSUER, kid))) == 1
    keys.forget()
    path.unlink()
    for _ in range(REFETCHES):
        assert failure(keys, kid).kind == "unreachable"
    path.write_bytes(good)
    assert failure(keys, kid).kind == "unreachable"
    clock.now += REFETCH_WINDOW_SECONDS
    assert len(asyncio.run(keys.find(ISSUER, kid))) == 1


def test_fresh_keys_serve_while_the_source_fails(keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path) -> None:
    kid = cluster.signing_key.kid
    asyncio.run(keys.find(ISSUER, kid))
    (tmp_path / "openid" / "v1" / "jwks").write_text("{}")
    assert failure(keys, "other").kind == "invalid"
    assert len(asyncio.run(keys.find(ISSUER, kid))) == 1


def test_many_tokens_of_a_cold_issuer_make_one_fetch(cluster: LocalCluster, tmp_path: Path) -> None:
    class Counting(IssuerKeys):
        loads = 0

        async def _load(self, issuer: str, document_url: str | None) -> tuple[object, bytes | None]:  # type: ignore[override]  # passed through
            self.loads += 1
            await asyncio.sleep(0.01)
            return await super()._load(issuer, document_url)

    keys = Counting(sources={ISSUER: str(tmp_path)})

    async def run() -> int:
        found = await asyncio.gather(*(keys.find(ISSUER, cluster.signing_key.kid) for _ in range(50)))
        return len(found)

    assert asyncio.run(run()) == 50
    assert keys.loads == 1


@pytest.mark.parametrize(
    ("document", "content", "kind"),
    [
        ("openid-configuration", b"", "invalid"),
        ("openid-configuration", b"<html>", "invalid"),
        ("openid-configuration", b"[" * 100_000, "invalid"),
        ("openid-configuration", b'{"issuer": "x"}', "issuer-mismatch"),
        ("openid-configuration", b"x" * (MAX_DOCUMENT_BYTES + 1), "unreachable"),
        ("jwks", b"{}", "invalid"),
        ("jwks", b'{"keys": []}', "invalid"),
        ("jwks", b'{"keys": [{"kty": "oct", "k": "AAAA", "kid": "x"}]}', "invalid"),
    ],
)
def test_documents_of_no_use(
    keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path, document: str, content: bytes, kind: str
) -> None:
    place = {"openid-configuration": ".well-known/openid-configuration", "jwks": "openid/v1/jwks"}[document]
    (tmp_path / place).write_bytes(content)
    assert failure(keys, cluster.signing_key.kid).kind == kind


def test_private_members_spoil_the_whole_set(keys: IssuerKeys, cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "openid" / "v1" / "jwks"
    document = json.loads(path.read_bytes())
    document["keys"].append({**document["keys"][0], "kid": "leaked", "d": "AAAA"})
    path.write_text(json.dumps(document))
    assert failure(keys, cluster.signing_key.kid).kind == "invalid"


def test_a_flat_directory(cluster: LocalCluster, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "openid-configuration.json").write_text(json.dumps(cluster.discovery_document))
    (flat / "jwks").write_text(json.dumps(cluster.jwks))
    keys = IssuerKeys(sources={ISSUER: str(flat)})
    assert len(asyncio.run(keys.find(ISSUER, cluster.signing_key.kid))) == 1


def test_a_key_set_elsewhere_never_leaves_the_directory(cluster: LocalCluster, tmp_path: Path) -> None:
    document = {**cluster.discovery_document, "jwks_uri": f"{ISSUER}/../../openid/v1/jwks"}
    (tmp_path / ".well-known" / "openid-configuration").write_text(json.dumps(document))
    keys = IssuerKeys(sources={ISSUER: str(tmp_path)})
    assert len(asyncio.run(keys.find(ISSUER, cluster.signing_key.kid))) == 1


def test_the_second_key_of_an_id_is_tried_too(cluster: LocalCluster, tmp_path: Path) -> None:
    other = LocalCluster(issuer=ISSUER)
    (foreign,) = other.jwks["keys"]
    (own,) = cluster.jwks["keys"]
    (tmp_path / "openid" / "v1" / "jwks").write_text(json.dumps({"keys": [{**foreign, "kid": own["kid"]}, own]}))
    keys = IssuerKeys(sources={ISSUER: str(tmp_path)})
    jws = split_compact(cluster.mint("default", "app", "x"))
    found = asyncio.run(keys.find(ISSUER, jws.key_id))
    assert len(found) == 2
    assert check_signature(jws, found).claims["iss"] == ISSUER


def test_a_key_of_another_algorithm_is_not_usable(cluster: LocalCluster, tmp_path: Path) -> None:
    (own,) = cluster.jwks["keys"]
    (tmp_path / "openid" / "v1" / "jwks").write_text(json.dumps({"keys": [{**own, "alg": "RS512"}]}))
    jws = split_compact(cluster.mint("default", "app", "x"))
    found = asyncio.run(IssuerKeys(sources={ISSUER: str(tmp_path)}).find(ISSUER, jws.key_id))
    with pytest.raises(VerificationFailed) as caught:
        check_signature(jws, found)
    assert caught.value.kind == "key-unusable"
