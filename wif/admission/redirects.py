"""Environment variables by which an SDK becomes somebody else than the injected identity, or asks somebody else.

A container that has one of them is injected all the same, and reported: its SDK would not use what is injected, and
nobody would see why. Sources: the credential chains of botocore and the AWS SDKs ("Standardized credential
providers"), google-auth (application default credentials), gcloud (its properties as variables), the Terraform
provider of Google, azure-identity (EnvironmentCredential, DefaultAzureCredential, ManagedIdentityCredential).
"""

from __future__ import annotations

__all__ = ["REDIRECTS", "Effect"]

from collections.abc import Mapping
from typing import Literal

Effect = Literal["identity", "endpoint"]
"""``identity``: the SDK takes another one. ``endpoint``: the token goes to another host."""

REDIRECTS: Mapping[str, Mapping[str, Effect]] = {
    "aws": {
        "AWS_ACCESS_KEY_ID": "identity",
        "AWS_SECRET_ACCESS_KEY": "identity",
        "AWS_SESSION_TOKEN": "identity",
        "AWS_PROFILE": "identity",
        "AWS_DEFAULT_PROFILE": "identity",
        "AWS_CONFIG_FILE": "identity",
        "AWS_SHARED_CREDENTIALS_FILE": "identity",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "identity",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "identity",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "identity",
        "AWS_ENDPOINT_URL": "endpoint",
        "AWS_ENDPOINT_URL_STS": "endpoint",
    },
    "gcp": {
        "GOOGLE_APPLICATION_CREDENTIALS": "identity",
        "CLOUDSDK_AUTH_ACCESS_TOKEN": "identity",
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": "identity",
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": "identity",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "identity",
        "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT": "identity",
        "CLOUDSDK_CORE_ACCOUNT": "identity",
        "GOOGLE_CREDENTIALS": "identity",
        "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT": "identity",
        "GOOGLE_OAUTH_ACCESS_TOKEN": "identity",
    },
    "azure": {
        "AZURE_CLIENT_SECRET": "identity",
        "AZURE_CLIENT_CERTIFICATE_PATH": "identity",
        "AZURE_USERNAME": "identity",
        "AZURE_PASSWORD": "identity",
        "AZURE_TOKEN_CREDENTIALS": "identity",
        "AZURE_FEDERATED_TOKEN_FILE": "identity",
        "IDENTITY_ENDPOINT": "identity",
        "IDENTITY_HEADER": "identity",
        "MSI_ENDPOINT": "identity",
        "MSI_SECRET": "identity",
        "AZURE_AUTHORITY_HOST": "endpoint",
        "AZURE_KUBERNETES_TOKEN_PROXY": "endpoint",
    },
}
"""By cloud. A variable that a part itself sets counts only where the container has another value of it."""
