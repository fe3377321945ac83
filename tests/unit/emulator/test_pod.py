"""A prepared pod: trust that the local STS can read, tokens that fit it, and files for their owner only."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from wif.core.jws import split_compact
from wif.emulator.cluster import LocalCluster
from wif.emulator.pod import POD_IDENTITY, LocalPod, PodIdentity, prepare_pod, trust_documents
from wif.emulator.state import TrustStore

ISSUER = "https://oidc.example.com/a"
LED = {"HTTPS_PROXY": "http://127.0.0.1:1"}


@pytest.fixture
def pod(tmp_path: Path) -> LocalPod:
    return prepare_pod(tmp_path / "pod", LocalCluster(ISSUER, algorithm="ES256"), LED)


def test_the_trust_is_readable_and_names_the_issuer_only() -> None:
    store = TrustStore.from_mapping(trust_documents(ISSUER))
    assert store.issuers == {ISSUER}
    assert list(store.aws_roles) == [POD_IDENTITY.role_arn]
    assert store.gcp_provider(POD_IDENTITY.provider) is not None
    assert store.gcp_service_account(POD_IDENTITY.google_service_account) is not None
    assert store.azure_identity(POD_IDENTITY.tenant_id, POD_IDENTITY.client_id) is not None


def test_changing_one_trust_changes_no_other() -> None:
    changed = trust_documents(ISSUER)
    changed["aws"]["Roles"].clear()
    changed["gcp"]["providers"][0]["attributeMapping"]["google.subject"] = "'x'"
    assert trust_documents(ISSUER)["aws"]["Roles"]
    assert trust_documents(ISSUER)["gcp"]["providers"][0]["attributeMapping"] == {"google.subject": "assertion.sub"}


def test_each_token_has_its_clouds_audience_and_the_pods_subject(pod: LocalPod) -> None:
    assert sorted(pod.tokens) == ["aws", "azure", "gcp"]
    for cloud, path in pod.tokens.items():
        claims = split_compact(path.read_bytes()).unverified_claims  # also: no final newline
        assert claims["aud"] == [pod.identity.audiences[cloud]]
        assert claims["sub"] == pod.identity.subject == "system:serviceaccount:default:app"
        assert claims["kubernetes.io"]["pod"]["name"] == "app-0"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_renewed_tokens_are_new_and_take_what_mint_takes(pod: LocalPod) -> None:
    before = pod.tokens["aws"].read_bytes()
    pod.renew()
    assert pod.tokens["aws"].read_bytes() != before
    pod.renew(audience="other", sub="somebody", expires_in=60)
    claims = split_compact(pod.tokens["gcp"].read_bytes()).unverified_claims
    assert (claims["aud"], claims["sub"], claims["exp"] - claims["iat"]) == (["other"], "somebody", 60)


def test_the_environment_holds_the_three_webhooks_variables_and_where_it_is_led(pod: LocalPod) -> None:
    named = {
        "AWS_ROLE_ARN": POD_IDENTITY.role_arn,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(pod.tokens["aws"]),
        "AZURE_FEDERATED_TOKEN_FILE": str(pod.tokens["azure"]),
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
        "GOOGLE_CLOUD_PROJECT": "wif-local",
        **LED,
    }
    assert {name: pod.environment[name] for name in named} == named
    credentials = json.loads(Path(pod.environment["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    assert credentials["credential_source"] == {"file": str(pod.tokens["gcp"])}
    assert credentials["audience"] == f"//iam.googleapis.com/{POD_IDENTITY.provider}"
    assert stat.S_IMODE(pod.directory.stat().st_mode) == 0o700


def test_another_identity_is_another_throughout(tmp_path: Path) -> None:
    identity = PodIdentity(namespace="shop", service_account="web", role_name="checkout", account_id="999988887777")
    pod = prepare_pod(tmp_path, LocalCluster(ISSUER, algorithm="ES256"), {}, identity=identity)
    assert pod.environment["AWS_ROLE_ARN"] == "arn:aws:iam::999988887777:role/checkout"
    text = json.dumps(trust_documents(ISSUER, identity))
    assert "system:serviceaccount:shop:web" in text
    assert "default:app" not in text
