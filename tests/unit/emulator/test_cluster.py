"""The local cluster: Kubernetes' claims and key ids, rotation, and what it writes."""

from __future__ import annotations

import json
import stat
import time
import uuid
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from wif.core.discovery import parse_discovery, parse_jwks
from wif.core.jws import key_id, split_compact, verify
from wif.emulator.cluster import KeyAlgorithm, LocalCluster
from wif.errors import ConfigurationError, TokenError

ISSUER = "https://oidc.example.com/cluster-a"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def cluster(key: rsa.RSAPrivateKey) -> LocalCluster:
    return LocalCluster(ISSUER, key=key)


def claims_of(token: str) -> dict[str, Any]:
    return dict(split_compact(token).unverified_claims)


# -- tokens --------------------------------------------------------------------------------------------------


def test_the_claims_are_those_of_kubernetes(cluster: LocalCluster) -> None:
    token = cluster.mint("team-a", "app", "sts.amazonaws.com", now=1_800_000_000.9, pod="web-0", node="node-1")
    claims = claims_of(token)
    bound = claims["kubernetes.io"]
    assert list(claims) == ["aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"]
    assert claims["aud"] == ["sts.amazonaws.com"]
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (1_800_000_000, 1_800_000_000, 1_800_003_600)
    assert claims["iss"] == ISSUER
    assert claims["sub"] == "system:serviceaccount:team-a:app"
    assert list(bound) == ["namespace", "node", "pod", "serviceaccount"]
    assert bound["serviceaccount"] == {"name": "app", "uid": cluster.service_account_uid("team-a", "app")}
    assert (bound["namespace"], bound["pod"]["name"], bound["node"]["name"]) == ("team-a", "web-0", "node-1")
    assert split_compact(token).unverified_header == {"alg": "RS256", "kid": cluster.signing_key.kid}


def test_an_unbound_token_names_no_pod(cluster: LocalCluster) -> None:
    assert list(claims_of(cluster.mint("team-a", "app", "a"))["kubernetes.io"]) == ["namespace", "serviceaccount"]


def test_without_now_the_token_is_valid_now(cluster: LocalCluster) -> None:
    claims = claims_of(cluster.mint("team-a", "app", "a", expires_in=600))
    assert abs(claims["iat"] - time.time()) < 5
    assert claims["exp"] - claims["iat"] == 600


def test_several_audiences_keep_their_order(cluster: LocalCluster) -> None:
    assert claims_of(cluster.mint("n", "s", ["b", "a"]))["aud"] == ["b", "a"]


def test_every_token_has_its_own_id(cluster: LocalCluster) -> None:
    ids = {claims_of(cluster.mint("n", "s", "a"))["jti"] for _ in range(3)}
    assert len(ids) == 3
    assert all(uuid.UUID(each).version == 4 for each in ids)


def test_uids_stay_and_differ(cluster: LocalCluster) -> None:
    def uid(namespace: str, account: str) -> str:
        return str(claims_of(cluster.mint(namespace, account, "a"))["kubernetes.io"]["serviceaccount"]["uid"])

    assert uid("n", "s") == uid("n", "s")
    assert (
        len({uid("n", "s"), uid("n", "t"), uid("m", "s"), LocalCluster("https://b").service_account_uid("n", "s")}) == 4
    )


def test_a_recreated_service_account_has_another_uid_and_the_same_subject(cluster: LocalCluster) -> None:
    before = claims_of(cluster.mint("n", "s", "a"))
    uid = cluster.recreate_service_account("n", "s")
    after = claims_of(cluster.mint("n", "s", "a"))
    assert before["sub"] == after["sub"]
    assert before["kubernetes.io"]["serviceaccount"]["uid"] != uid
    assert after["kubernetes.io"]["serviceaccount"]["uid"] == uid


def test_claims_can_be_replaced_added_and_taken_out(cluster: LocalCluster) -> None:
    claims = claims_of(cluster.mint("n", "s", "a", sub="other", nbf=None, extra=1, claims={"kubernetes.io": None}))
    assert list(claims) == ["aud", "exp", "iat", "iss", "jti", "sub", "extra"]
    assert (claims["sub"], claims["extra"]) == ("other", 1)


def test_headers_can_be_added(cluster: LocalCluster) -> None:
    assert split_compact(cluster.mint("n", "s", "a", headers={"typ": "JWT"})).unverified_header["typ"] == "JWT"


def test_a_forgery_names_the_clusters_key_and_does_not_verify(cluster: LocalCluster) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jws = split_compact(cluster.mint("n", "s", "a", private_key=other))
    assert jws.key_id == cluster.signing_key.kid
    with pytest.raises(TokenError) as caught:
        verify(jws, cluster.signing_key.private_key.public_key(), "RS256")
    assert caught.value.code == "signature-invalid"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "ES512"])
def test_a_second_implementation_verifies_every_kind_of_key(algorithm: KeyAlgorithm) -> None:
    cluster = LocalCluster(ISSUER, algorithm=algorithm)
    token = cluster.mint("n", "s", "a")
    published = jwt.PyJWKSet.from_dict(cluster.jwks)
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, published[header["kid"]], algorithms=[algorithm], audience="a", issuer=ISSUER)
    assert header["alg"] == algorithm
    assert claims["sub"] == "system:serviceaccount:n:s"
    assert cluster.discovery_document["id_token_signing_alg_values_supported"] == [algorithm]


# -- keys ----------------------------------------------------------------------------------------------------


def published(cluster: LocalCluster) -> list[str]:
    return [jwk["kid"] for jwk in cluster.jwks["keys"]]


def test_the_key_id_is_the_one_that_kubernetes_computes(cluster: LocalCluster, key: rsa.RSAPrivateKey) -> None:
    assert cluster.signing_key.kid == key_id(key.public_key())
    assert published(cluster) == [cluster.signing_key.kid]


def test_a_rotation_step_by_step(cluster: LocalCluster) -> None:
    old = cluster.signing_key.kid
    new = cluster.stage_key(algorithm="ES256")
    assert (published(cluster), cluster.signing_key.kid) == ([old, new], old)
    assert cluster.discovery_document["id_token_signing_alg_values_supported"] == ["ES256", "RS256"]
    cluster.sign_with(new)
    assert split_compact(cluster.mint("n", "s", "a")).key_id == new
    assert split_compact(cluster.mint("n", "s", "a", kid=old)).key_id == old
    cluster.withdraw_key(old)
    cluster.withdraw_key(old)
    assert published(cluster) == [new]
    assert [each.kid for each in cluster.keys] == [old, new]


def test_rotate_does_it_at_once(cluster: LocalCluster) -> None:
    old = cluster.signing_key.kid
    new = cluster.rotate()
    assert cluster.signing_key.kid == new != old
    assert published(cluster) == [old, new]


def test_a_withdrawn_key_may_still_sign(cluster: LocalCluster) -> None:
    unpublished = cluster.stage_key(algorithm="ES256")
    cluster.sign_with(unpublished)
    cluster.withdraw_key(unpublished)
    assert split_compact(cluster.mint("n", "s", "a")).key_id == unpublished
    assert unpublished not in published(cluster)


def test_the_same_key_twice_is_one_key(cluster: LocalCluster, key: rsa.RSAPrivateKey) -> None:
    assert cluster.stage_key(key) == cluster.signing_key.kid
    assert len(published(cluster)) == 1


@pytest.mark.parametrize("action", ["sign_with", "withdraw_key"])
def test_an_unknown_key_is_refused(cluster: LocalCluster, action: str) -> None:
    with pytest.raises(ConfigurationError, match="the cluster has no key 'absent'"):
        getattr(cluster, action)("absent")


def test_a_private_key_is_not_shown(key: rsa.RSAPrivateKey) -> None:
    cluster = LocalCluster(ISSUER, key=key)
    secret = str(key.private_numbers().d)
    shown = f"{cluster!r} {cluster.signing_key!r} {cluster.keys!r} {cluster.jwks}"
    assert secret not in shown
    assert "RSAPrivateKey" not in shown
    assert '"d"' not in json.dumps(cluster.jwks)


# -- documents -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("issuer", [ISSUER, "https://oidc.example.com/id/", "https://oidc.example.com"])
def test_written_documents_are_read_back(tmp_path: Path, key: rsa.RSAPrivateKey, issuer: str) -> None:
    cluster = LocalCluster(issuer, key=key)
    cluster.write(tmp_path)
    discovery = parse_discovery((tmp_path / ".well-known/openid-configuration").read_bytes(), issuer=issuer)
    keys = parse_jwks((tmp_path / "openid/v1/jwks").read_bytes())
    assert discovery.jwks_uri == issuer.removesuffix("/") + "/openid/v1/jwks"
    assert [each.key_id for each in keys.keys] == [cluster.signing_key.kid]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        ".well-known/openid-configuration",
        "openid/v1/jwks",
    ]
    cluster.rotate()
    cluster.write(tmp_path)
    assert len(parse_jwks((tmp_path / "openid/v1/jwks").read_bytes()).keys) == 2


def test_without_issuer_and_address_nothing_is_minted() -> None:
    cluster = LocalCluster(algorithm="ES256")
    for action in (lambda: cluster.mint("n", "s", "a"), lambda: cluster.discovery_document):
        with pytest.raises(ConfigurationError, match="has no issuer yet") as caught:
            action()
        assert caught.value.code == "config-missing"
    assert len(cluster.jwks["keys"]) == 1


def test_private_keys_are_written_for_their_owner_only(tmp_path: Path) -> None:
    cluster = LocalCluster(ISSUER, algorithm="ES256")
    (path,) = cluster.write_keys(tmp_path / "keys")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    read = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(read, ec.EllipticCurvePrivateKey)
    assert f"{key_id(read.public_key())}.key" == path.name
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(ConfigurationError) as caught:
        cluster.write_keys(tmp_path / "keys")
    assert caught.value.code == "file-unusable"


def test_a_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "openid").write_text("a file in the way")
    with pytest.raises(ConfigurationError) as caught:
        LocalCluster(ISSUER, algorithm="ES256").write(tmp_path)
    assert caught.value.code == "file-unusable"
    assert "openid" in caught.value.message


def test_serving_needs_no_stop_twice() -> None:
    cluster = LocalCluster(ISSUER, algorithm="ES256")
    assert cluster.requests == ()
    cluster.stop()
    cluster.stop()
