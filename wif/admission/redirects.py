"""Environment variables by which an SDK becomes somebody else than the injected identity, or asks somebody else.

A container that has one of them is injected all the same, and reported: its SDK would not use what is injected, and
nobody would see why. What leads past a local endpoint leads past an injected token as well, but for a few.
"""

from __future__ import annotations

__all__ = ["REDIRECTS", "Effect"]

from collections.abc import Mapping
from typing import Literal

from wif.clouds.endpoint_variables import LEADING_ELSEWHERE

Effect = Literal["identity", "endpoint"]
"""``identity``: the SDK takes another one. ``endpoint``: the token goes to another host."""

_BESIDE_ENDPOINTS = frozenset(
    {
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_CREDENTIAL_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "BOTO_CONFIG",
        "CLOUDSDK_ACTIVE_CONFIG_NAME",
        "GCE_METADATA_MTLS_MODE",
        "IDENTITY_SERVER_THUMBPRINT",
        "IMDS_ENDPOINT",
        "METADATA_SERVER_DETECTION",
        "NO_GCE_CHECK",
    }
)
"""What changes nothing for an SDK that exchanges the token itself: it is looked at later, or chooses nobody else."""

_MORE: Mapping[str, Mapping[str, Effect]] = {
    "aws": {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "identity",
        "AWS_ENDPOINT_URL": "endpoint",
        "AWS_ENDPOINT_URL_STS": "endpoint",
    },
    "gcp": {},
    "azure": {
        "IDENTITY_ENDPOINT": "identity",
        "IDENTITY_HEADER": "identity",
        "AZURE_AUTHORITY_HOST": "endpoint",
        "AZURE_KUBERNETES_TOKEN_PROXY": "endpoint",
    },
}
"""Local endpoints themselves, and places of a cloud's token service."""

REDIRECTS: Mapping[str, Mapping[str, Effect]] = {
    cloud: {**{name: "identity" for name in names if name not in _BESIDE_ENDPOINTS}, **_MORE[cloud]}
    for cloud, names in LEADING_ELSEWHERE.items()
}
"""By cloud. A variable that a part itself sets counts only where the container has another value of it."""
