"""A pod as the clouds' webhooks prepare it, beside a local STS that trusts its ServiceAccount.

The identities are those that the README, the docs' snippets and the examples name.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wif.emulator import Authority, Emulator, LocalCluster, TrustStore

NAMESPACE, SERVICE_ACCOUNT = "shop", "app"
ROLE = "arn:aws:iam::111122223333:role/app"
PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/pool/providers/cluster"
ACCOUNT = "app@shop-project.iam.gserviceaccount.com"
TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
AUDIENCES = {
    "aws": "sts.amazonaws.com",
    "gcp": f"https://iam.googleapis.com/{PROVIDER}",
    "azure": "api://AzureADTokenExchange",
}
ANY = AUDIENCES["azure"]
"""The audience of ``WIF_TOKEN_FILE``, which all three trust: Entra takes one only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What a program in the pod finds."""

    tokens: Path
    """The projected volume: ``aws``, ``gcp``, ``azure``, ``any``."""
    environment: Mapping[str, str]
    """Everything that a program needs; nothing is inherited but the interpreter's directory."""
    emulator: Emulator


def trust(issuer: str, *, namespace: str = NAMESPACE, service_account: str = SERVICE_ACCOUNT) -> dict[str, Any]:
    """The three clouds' trust in one subject of one issuer."""
    subject = f"system:serviceaccount:{namespace}:{service_account}"
    host = issuer.removeprefix("https://")
    arn = f"arn:aws:iam::111122223333:oidc-provider/{host}"
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": arn},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{host}:sub": subject}},
    }
    aws = {
        "OpenIDConnectProviders": [{"Arn": arn, "Url": issuer, "ClientIDList": [AUDIENCES["aws"], ANY]}],
        "Roles": [
            {
                "RoleName": "app",
                "Arn": ROLE,
                "Path": "/",
                "MaxSessionDuration": 3600,
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
            }
        ],
    }
    pool = PROVIDER.partition("/providers/")[0]
    binding = {
        "role": "roles/iam.workloadIdentityUser",
        "members": [f"principal://iam.googleapis.com/{pool}/subject/{subject}"],
    }
    gcp = {
        "workloadIdentityPools": [{"name": pool, "state": "ACTIVE"}],
        "providers": [
            {
                "name": PROVIDER,
                "state": "ACTIVE",
                "oidc": {"issuerUri": issuer, "allowedAudiences": [AUDIENCES["gcp"], ANY]},
                "attributeMapping": {"google.subject": "assertion.sub"},
            }
        ],
        "serviceAccounts": [
            {
                "email": ACCOUNT,
                "uniqueId": "100000000000000000001",
                "projectId": "shop-project",
                "iamPolicy": {"bindings": [binding]},
            }
        ],
        "projects": [{"projectNumber": PROVIDER.split("/")[1], "projectId": "shop-project"}],
    }
    credential = {"name": "app", "issuer": issuer, "subject": subject, "audiences": [AUDIENCES["azure"]]}
    application = {"appId": CLIENT, "displayName": "app", "federatedIdentityCredentials": [credential]}
    azure = {
        "tenants": [{"tenantId": TENANT, "resources": ["https://management.azure.com"], "applications": [application]}]
    }
    return {"aws": aws, "gcp": gcp, "azure": azure}


def credentials_file(token_file: Path) -> dict[str, Any]:
    """The ``external_account`` document, as gcloud writes it."""
    return {
        "universe_domain": "googleapis.com",
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{PROVIDER}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(token_file)},
        "service_account_impersonation_url": (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
        ),
    }


@contextmanager
def running_pod(folder: Path) -> Iterator[Pod]:
    """A pod with fresh tokens, and the local STS behind its proxy."""
    with Authority() as authority, LocalCluster() as cluster:
        issuer = cluster.serve(authority)
        with Emulator(trust=TrustStore.from_mapping(trust(issuer)), authority=authority, proxy=True) as emulator:
            tokens, home = folder / "tokens", folder / "home"
            tokens.mkdir()
            home.mkdir()
            for name, audience in {**AUDIENCES, "any": ANY}.items():
                (tokens / name).write_text(cluster.mint(NAMESPACE, SERVICE_ACCOUNT, audience, pod="app-0"))
            document = folder / "credentials.json"
            document.write_text(json.dumps(credentials_file(tokens / "gcp")))
            yield Pod(tokens=tokens, environment=_environment(home, tokens, document, emulator), emulator=emulator)


def _environment(home: Path, tokens: Path, document: Path, emulator: Emulator) -> dict[str, str]:
    return {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "PYTHONWARNINGS": "error",
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tokens / "aws"),
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": str(document),
        "GOOGLE_CLOUD_PROJECT": "shop-project",
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_FEDERATED_TOKEN_FILE": str(tokens / "azure"),
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
        **emulator.environment(),
    }
