"""A pod as the clouds' webhooks prepare it, and the trust of three clouds in its ServiceAccount.

What a program finds in it is what it would find in a cluster: projected tokens, the variables of the three
webhooks, a credential file of Google's kind, the clouds' real host names; only the proxy and CA variables lead to
the local STS. The pytest fixtures build on this.
"""

from __future__ import annotations

__all__ = ["POD_IDENTITY", "LocalPod", "PodIdentity", "prepare_pod", "trust_documents"]

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from wif.edges.files import private_directory, write_atomically

if TYPE_CHECKING:
    from wif.emulator.cluster import LocalCluster


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """Who the pod is in its cluster, and what it becomes in each cloud."""

    namespace: str = "default"
    service_account: str = "app"
    pod: str = "app-0"
    account_id: str = "111122223333"
    role_name: str = "app"
    region: str = "eu-central-1"
    project_number: str = "123456789012"
    project_id: str = "wif-local"
    provider: str = "projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/local"
    tenant_id: str = "11111111-2222-3333-4444-555555555555"
    client_id: str = "66666666-7777-8888-9999-000000000000"

    @property
    def subject(self) -> str:
        """The token's ``sub``."""
        return f"system:serviceaccount:{self.namespace}:{self.service_account}"

    @property
    def role_arn(self) -> str:
        """The AWS role."""
        return f"arn:aws:iam::{self.account_id}:role/{self.role_name}"

    @property
    def google_service_account(self) -> str:
        """The e-mail of the Google service account."""
        return f"{self.service_account}@{self.project_id}.iam.gserviceaccount.com"

    @property
    def audiences(self) -> dict[str, str]:
        """What each cloud expects in ``aud``."""
        return {
            "aws": "sts.amazonaws.com",
            "gcp": f"https://iam.googleapis.com/{self.provider}",
            "azure": "api://AzureADTokenExchange",
        }


POD_IDENTITY = PodIdentity()
"""The identity of the fixtures."""


def trust_documents(issuer: str, identity: PodIdentity = POD_IDENTITY) -> dict[str, Any]:
    """The trust of three clouds in one subject of one issuer, for ``TrustStore.from_mapping``.

    Each call makes new dictionaries and lists, so that a test may change them.
    """
    return {
        "aws": _aws_trust(issuer, identity),
        "gcp": _gcp_trust(issuer, identity),
        "azure": _azure_trust(issuer, identity),
    }


def _aws_trust(issuer: str, identity: PodIdentity) -> dict[str, Any]:
    host = issuer.removeprefix("https://")
    provider = f"arn:aws:iam::{identity.account_id}:oidc-provider/{host}"
    audience = identity.audiences["aws"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": provider},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{host}:aud": audience, f"{host}:sub": identity.subject}},
    }
    role = {
        "RoleName": identity.role_name,
        "Arn": identity.role_arn,
        "Path": "/",
        "MaxSessionDuration": 3600,
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
    return {"OpenIDConnectProviders": [{"Arn": provider, "Url": issuer, "ClientIDList": [audience]}], "Roles": [role]}


def _gcp_trust(issuer: str, identity: PodIdentity) -> dict[str, Any]:
    pool = identity.provider.partition("/providers/")[0]
    provider = {
        "name": identity.provider,
        "state": "ACTIVE",
        "attributeMapping": {"google.subject": "assertion.sub"},
        "oidc": {"issuerUri": issuer, "allowedAudiences": [identity.audiences["gcp"]]},
    }
    members = [f"principal://iam.googleapis.com/{pool}/subject/{identity.subject}"]
    account = {
        "email": identity.google_service_account,
        "uniqueId": "100000000000000000001",
        "projectId": identity.project_id,
        "iamPolicy": {"bindings": [{"role": "roles/iam.workloadIdentityUser", "members": members}]},
    }
    return {
        "workloadIdentityPools": [{"name": pool, "state": "ACTIVE"}],
        "providers": [provider],
        "serviceAccounts": [account],
        "projects": [{"projectNumber": identity.project_number, "projectId": identity.project_id}],
    }


def _azure_trust(issuer: str, identity: PodIdentity) -> dict[str, Any]:
    credential = {
        "name": identity.service_account,
        "issuer": issuer,
        "subject": identity.subject,
        "audiences": [identity.audiences["azure"]],
    }
    application = {
        "appId": identity.client_id,
        "displayName": identity.service_account,
        "federatedIdentityCredentials": [credential],
    }
    resources = ["https://management.azure.com", "https://vault.azure.net", "https://storage.azure.com"]
    return {"tenants": [{"tenantId": identity.tenant_id, "resources": resources, "applications": [application]}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPod:
    """A prepared pod."""

    identity: PodIdentity
    directory: Path
    """Its files, 0700: ``tokens/aws``, ``tokens/gcp``, ``tokens/azure``, ``gcp.json``, an empty ``home``."""
    tokens: Mapping[str, Path]
    """The projected token of each cloud: ``aws``, ``gcp``, ``azure``."""
    environment: Mapping[str, str]
    """All variables that a program needs besides ``PATH``; nothing is inherited."""
    cluster: LocalCluster

    def renew(self, *, expires_in: float = 3600, **overrides: Any) -> None:
        """Mint the tokens anew, as the kubelet does; the arguments are those of ``LocalCluster.mint``."""
        for cloud, path in self.tokens.items():
            arguments = {"audience": self.identity.audiences[cloud], "pod": self.identity.pod, **overrides}
            token = self.cluster.mint(
                self.identity.namespace, self.identity.service_account, expires_in=expires_in, **arguments
            )
            write_atomically(path, token.encode())


def prepare_pod(
    directory: Path,
    cluster: LocalCluster,
    environment: Mapping[str, str],
    *,
    identity: PodIdentity = POD_IDENTITY,
) -> LocalPod:
    """Write a pod's files and name its variables.

    Args:
        directory: made with mode 0700 where it is not there.
        cluster: mints the tokens.
        environment: the variables that lead to the local STS, ``Emulator(proxy=True).environment()``.

    Raises:
        ConfigurationError: file-unusable.
    """
    home, volume = directory / "home", directory / "tokens"
    for folder in (directory, home, volume):
        private_directory(folder)
    tokens = {cloud: volume / cloud for cloud in identity.audiences}
    credentials = directory / "gcp.json"
    write_atomically(credentials, json.dumps(_external_account(identity, tokens["gcp"]), indent=2).encode())
    variables = {
        "HOME": str(home),
        "AWS_ROLE_ARN": identity.role_arn,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tokens["aws"]),
        "AWS_REGION": identity.region,
        "AWS_DEFAULT_REGION": identity.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        "GOOGLE_CLOUD_PROJECT": identity.project_id,
        "AZURE_TENANT_ID": identity.tenant_id,
        "AZURE_CLIENT_ID": identity.client_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(tokens["azure"]),
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
        **environment,
    }
    pod = LocalPod(
        identity=identity,
        directory=directory,
        tokens=MappingProxyType(tokens),
        environment=MappingProxyType(variables),
        cluster=cluster,
    )
    pod.renew()
    return pod


def _external_account(identity: PodIdentity, token_file: Path) -> dict[str, Any]:
    """Google's credential file, as gcloud's ``create-cred-config`` writes it."""
    account = identity.google_service_account
    return {
        "universe_domain": "googleapis.com",
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{identity.provider}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(token_file)},
        "service_account_impersonation_url": (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
        ),
    }
