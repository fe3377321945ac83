"""Issuers that a provider publishes itself are recognised, and nothing that merely resembles one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.core.managed_issuers import recognise_managed

HEX = "0123456789ABCDEF0123456789ABCDEF"
TENANT = "11111111-2222-3333-4444-555555555555"
EKS = f"https://oidc.eks.eu-central-1.amazonaws.com/id/{HEX}"
GKE = "https://container.googleapis.com/v1/projects/my-project-1/locations/europe-west1/clusters/one"
AKS = f"https://westeurope.oic.prod-aks.azure.com/{TENANT}/{TENANT}/"


@pytest.mark.parametrize(
    ("issuer", "provider", "discovery_url", "jwks_uri"),
    [
        (EKS, "eks", f"{EKS}/.well-known/openid-configuration", f"{EKS}/keys"),
        (GKE, "gke", f"{GKE}/.well-known/openid-configuration", f"{GKE}/jwks"),
        (AKS, "aks", f"{AKS}.well-known/openid-configuration", f"{AKS}openid/v1/jwks"),
    ],
)
def test_the_documents_of_a_managed_cluster_are_named(
    issuer: str, provider: str, discovery_url: str, jwks_uri: str
) -> None:
    found = recognise_managed(issuer)
    assert found is not None
    assert (found.provider, found.issuer, found.discovery_url, found.jwks_uri) == (
        *(provider, issuer, discovery_url, jwks_uri),
    )


@pytest.mark.parametrize(
    "issuer",
    [
        f"https://oidc.eks.cn-north-1.amazonaws.com.cn/id/{HEX}",
        f"https://oidc.eks.us-gov-west-1.amazonaws.com/id/{HEX}",
        f"https://oidc-eks.eu-central-1.api.aws/id/{HEX}",
        GKE.replace("locations/europe-west1", "zones/europe-west1-b"),
        GKE.replace("my-project-1", "example.com:my-project"),
        AKS.replace("azure.com", "azure.us"),
    ],
)
def test_other_partitions_are_recognised(issuer: str) -> None:
    assert recognise_managed(issuer) is not None


@pytest.mark.parametrize(
    "issuer",
    [
        "https://oidc.example.com/one",
        f"{EKS}/",
        f"{EKS}\n",
        EKS.replace("https", "http"),
        EKS.replace("eu-central-1", "eu-central-1.evil.example"),
        EKS.replace("amazonaws.com", "amazonaws.com.evil.example"),
        EKS.replace("oidc.eks", "x-oidc.eks"),
        EKS.replace("oidc.eks", "oidcxeks"),
        f"https://evil.example/{EKS}",
        f"{GKE}/jwks",
        GKE.replace("container", "container.evil"),
        GKE.replace("projects/my-project-1", "projects/a/b"),
        AKS.removesuffix("/"),
        AKS.replace("westeurope", "westeurope.evil"),
        AKS.replace(".azure", "-azure"),
    ],
)
def test_what_resembles_one_is_somebody_elses(issuer: str) -> None:
    assert recognise_managed(issuer) is None


@given(st.text())
def test_no_text_is_a_managed_issuer_by_accident(text: str) -> None:
    assert recognise_managed(text) is None
