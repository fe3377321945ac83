"""The trust documents and the configuration of the demo: what an administrator would set up, and a user deploy."""

from __future__ import annotations

__all__ = ["IDENTITIES", "Identities", "configuration", "trust_documents"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wif.clouds import aws_config, azure_config, gcp_config

AWS_REGION = "eu-central-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """Who the demo's ServiceAccount may become, and by which audience."""

    role_arn: str = "arn:aws:iam::111122223333:role/wif-demo"
    provider: str = "projects/123456789012/locations/global/workloadIdentityPools/on-prem/providers/demo"
    project_id: str = "wif-demo"
    service_account: str = "cart@wif-demo.iam.gserviceaccount.com"
    tenant_id: str = "0f0f0f0f-1111-4222-8333-444444444444"
    client_id: str = "5a5a5a5a-6666-4777-8888-999999999999"

    @property
    def audiences(self) -> Mapping[str, str]:
        """The ``aud`` that each cloud's trust expects."""
        return {
            "aws": "sts.amazonaws.com",
            "gcp": f"https://iam.googleapis.com/{self.provider}",
            "azure": "api://AzureADTokenExchange",
        }


IDENTITIES = Identities()


def trust_documents(issuer: str, namespace: str, service_account: str) -> dict[str, Any]:
    """What the three clouds trust: this issuer, and this one subject."""
    who, host = IDENTITIES, issuer.removeprefix("https://")
    subject = f"system:serviceaccount:{namespace}:{service_account}"
    account, role = who.role_arn.split(":")[4], who.role_arn.rpartition("/")[2]
    provider_arn = f"arn:aws:iam::{account}:oidc-provider/{host}"
    pool = who.provider.partition("/providers/")[0]
    aws = {
        "OpenIDConnectProviders": [
            {"Arn": provider_arn, "Url": issuer, "ClientIDList": [who.audiences["aws"]], "ThumbprintList": []}
        ],
        "Roles": [
            {
                "RoleName": role,
                "Arn": who.role_arn,
                "Path": "/",
                "RoleId": "AROAWIFDEMOLOCALSTS00",
                "MaxSessionDuration": 3600,
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Federated": provider_arn},
                            "Action": "sts:AssumeRoleWithWebIdentity",
                            "Condition": {
                                "StringEquals": {f"{host}:aud": who.audiences["aws"], f"{host}:sub": subject}
                            },
                        }
                    ],
                },
            }
        ],
    }
    gcp = {
        "workloadIdentityPools": [{"name": pool, "state": "ACTIVE"}],
        "providers": [
            {
                "name": who.provider,
                "state": "ACTIVE",
                "oidc": {"issuerUri": issuer},
                "attributeMapping": {"google.subject": "assertion.sub"},
                "attributeCondition": f"assertion['kubernetes.io']['namespace'] == '{namespace}'",
            }
        ],
        "serviceAccounts": [
            {
                "email": who.service_account,
                "uniqueId": "100000000000000000001",
                "projectId": who.project_id,
                "iamPolicy": {
                    "bindings": [
                        {
                            "role": "roles/iam.workloadIdentityUser",
                            "members": [f"principal://iam.googleapis.com/{pool}/subject/{subject}"],
                        }
                    ]
                },
            }
        ],
        "projects": [{"projectNumber": who.provider.split("/")[1], "projectId": who.project_id}],
    }
    azure = {
        "tenants": [
            {
                "tenantId": who.tenant_id,
                "resources": ["https://management.azure.com"],
                "applications": [
                    {
                        "appId": who.client_id,
                        "displayName": "wif-demo",
                        "federatedIdentityCredentials": [
                            {
                                "name": "cart",
                                "issuer": issuer,
                                "subject": subject,
                                "audiences": [who.audiences["azure"]],
                            }
                        ],
                    }
                ],
            }
        ]
    }
    return {"aws": aws, "gcp": gcp, "azure": azure}


def configuration(directory: str, tokens: Mapping[str, str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The files that a user deploys, by name, and the variables that lead each cloud's SDK to them.

    Args:
        directory: where the files will stand.
        tokens: path of the projected token for each cloud.
    """
    who = IDENTITIES
    profile = aws_config.WebIdentityProfile(role_arn=who.role_arn, token_file=tokens["aws"], region=AWS_REGION)
    account = gcp_config.ExternalAccountFile(
        provider=who.provider, source=gcp_config.FileSource(path=tokens["gcp"]), service_account=who.service_account
    )
    identity = azure_config.WorkloadIdentityFile(
        tenant_id=who.tenant_id, client_id=who.client_id, token_file=tokens["azure"]
    )
    files = {
        "aws/config": aws_config.profile_text("wif", aws_config.web_identity_settings(profile)),
        "gcp/credentials.json": gcp_config.external_account(account),
        "azure/env": azure_config.environment_file(identity),
    }
    variables = {
        "aws": aws_config.profile_variables(config_file=f"{directory}/aws/config", name="wif", region=AWS_REGION),
        "gcp": gcp_config.shell_variables(credentials_file=f"{directory}/gcp/credentials.json", project=who.project_id),
        "azure": azure_config.environment(identity),
    }
    return files, variables
