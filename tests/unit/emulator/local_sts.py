"""The local STS without a network: requests handed to its ASGI callable, the issuer's documents in a directory."""

from __future__ import annotations

import asyncio
import copy
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from wif.emulator import Faults, LocalCluster, TrustStore
from wif.emulator.application import Application
from wif.emulator.notes import Notes
from wif.emulator.services import Services
from wif.emulator.verification import IssuerKeys

NOW = 1_795_400_000.0
ISSUER = "https://oidc.cluster.example.com"
HOST = ISSUER.removeprefix("https://")
SUBJECT = "system:serviceaccount:default:app"

ACCOUNT = "111122223333"
AWS_AUDIENCE = "sts.amazonaws.com"
OIDC_PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{HOST}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/teams/app"
CHAINED_ROLE = "arn:aws:iam::444455556666:role/second"

POOL = "projects/123456789012/locations/global/workloadIdentityPools/clusters"
PROVIDER = f"{POOL}/providers/cluster"
GCP_AUDIENCE = f"//iam.googleapis.com/{PROVIDER}"
PRINCIPAL = f"principal://iam.googleapis.com/{POOL}/subject/{SUBJECT}"
SERVICE_ACCOUNT = "app@shop-project.iam.gserviceaccount.com"
DELEGATE = "middle@shop-project.iam.gserviceaccount.com"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

TENANT = "11111111-2222-3333-4444-555555555555"
OTHER_TENANT = "11111111-2222-3333-4444-666666666666"
CLIENT = "66666666-7777-8888-9999-000000000000"
EMPTY_CLIENT = "66666666-7777-8888-9999-000000000001"
FOREIGN_CLIENT = "66666666-7777-8888-9999-000000000002"
MANAGED_CLIENT = "66666666-7777-8888-9999-000000000003"
AZURE_AUDIENCE = "api://AzureADTokenExchange"

NAMESPACE = {"sts": "https://sts.amazonaws.com/doc/2011-06-15/"}


def trust() -> dict[str, Any]:
    """Trust documents of three clouds for one ServiceAccount; a fresh copy to change."""
    federated = [
        {"name": "cluster", "issuer": ISSUER, "subject": SUBJECT, "audiences": [AZURE_AUDIENCE]},
    ]
    return copy.deepcopy(
        {
            "aws": {
                "OpenIDConnectProviders": [{"Arn": OIDC_PROVIDER, "Url": ISSUER, "ClientIDList": [AWS_AUDIENCE]}],
                "Roles": [
                    {
                        "RoleName": "app",
                        "Path": "/teams/",
                        "Arn": ROLE,
                        "RoleId": "AROAABCDEFGHIJKLMNOPQ",
                        "MaxSessionDuration": 7200,
                        "AssumeRolePolicyDocument": {
                            "Version": "2012-10-17",
                            "Statement": [
                                {
                                    "Effect": "Allow",
                                    "Principal": {"Federated": OIDC_PROVIDER},
                                    "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
                                    "Condition": {"StringEquals": {f"{HOST}:sub": SUBJECT}},
                                }
                            ],
                        },
                    },
                    {
                        "RoleName": "second",
                        "Arn": CHAINED_ROLE,
                        "MaxSessionDuration": 43200,
                        "AssumeRolePolicyDocument": {
                            "Version": "2012-10-17",
                            "Statement": [
                                {
                                    "Effect": "Allow",
                                    "Principal": {"AWS": ROLE},
                                    "Action": ["sts:AssumeRole", "sts:TagSession"],
                                    "Condition": {"StringEquals": {"sts:ExternalId": "shop"}},
                                }
                            ],
                        },
                    },
                ],
                "DisabledRegions": ["eu-south-1"],
            },
            "gcp": {
                "workloadIdentityPools": [{"name": POOL}],
                "providers": [
                    {
                        "name": PROVIDER,
                        "oidc": {"issuerUri": ISSUER},
                        "attributeMapping": {
                            "google.subject": "assertion.sub",
                            "attribute.namespace": "assertion['kubernetes.io']['namespace']",
                        },
                        "attributeCondition": "attribute.namespace in ['default', 'other']",
                    }
                ],
                "serviceAccounts": [
                    {
                        "email": SERVICE_ACCOUNT,
                        "uniqueId": "100000000000000000001",
                        "projectId": "shop-project",
                        "iamPolicy": {
                            "bindings": [
                                {
                                    "role": "roles/iam.workloadIdentityUser",
                                    "members": [PRINCIPAL],
                                },
                                {
                                    "role": "roles/iam.serviceAccountTokenCreator",
                                    "members": [f"serviceAccount:{DELEGATE}"],
                                },
                            ]
                        },
                    },
                    {
                        "email": DELEGATE,
                        "projectId": "shop-project",
                        "iamPolicy": {
                            "bindings": [{"role": "roles/iam.serviceAccountTokenCreator", "members": [PRINCIPAL]}]
                        },
                    },
                ],
                "projects": [{"projectNumber": "123456789012", "projectId": "shop-project"}],
            },
            "azure": {
                "tenants": [
                    {
                        "tenantId": TENANT,
                        "domains": ["shop.example.com"],
                        "resources": ["api://shop"],
                        "applications": [
                            {"appId": CLIENT, "displayName": "app", "federatedIdentityCredentials": federated},
                            {"appId": EMPTY_CLIENT, "displayName": "empty"},
                            {
                                "appId": MANAGED_CLIENT,
                                "managedIdentity": True,
                                "federatedIdentityCredentials": federated,
                            },
                        ],
                    },
                    {"tenantId": OTHER_TENANT, "applications": [{"appId": FOREIGN_CLIENT}]},
                ]
            },
        }
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def xml(self, name: str) -> str | None:
        """The text of the first AWS element of a name."""
        return ET.fromstring(self.body).findtext(f".//sts:{name}", namespaces=NAMESPACE)

    @property
    def aws_error(self) -> tuple[int, str | None, str | None]:
        return self.status, self.xml("Code"), self.xml("Message")

    @property
    def gcp_error(self) -> tuple[int, str, str]:
        return self.status, self.json["error"], self.json["error_description"]

    @property
    def api_error(self) -> tuple[int, str, str]:
        error = self.json["error"]
        assert error["code"] == self.status
        return self.status, error["status"], error["message"]

    @property
    def azure_error(self) -> tuple[int, str, int]:
        """Status, OAuth error and number; the text is looked at with :meth:`azure_text`."""
        (number,) = self.json["error_codes"]
        return self.status, self.json["error"], number

    @property
    def azure_text(self) -> str:
        """The description without its number and the ids behind it."""
        text: str = self.json["error_description"]
        return text.partition(": ")[2].partition(" Trace ID: ")[0]


@dataclass(slots=True, repr=False)
class LocalSts:
    """The local STS under test."""

    cluster: LocalCluster
    documents: Path
    trust: dict[str, Any] = field(default_factory=trust)
    now: float = NOW
    steady: float = 1000.0
    allow_local_issuers: bool = True
    faults: Faults = field(default_factory=Faults)
    hosts: dict[str, Any] = field(default_factory=dict)
    _application: Application | None = None
    services: Services | None = None

    @property
    def application(self) -> Application:
        if self._application is None:
            keys = IssuerKeys(sources={ISSUER: str(self.documents)}, steady=lambda: self.steady)
            self.services = Services(
                trust=TrustStore.from_mapping(self.trust),
                keys=keys,
                notes=Notes(),
                allow_local_issuers=self.allow_local_issuers,
            )
            self._application = Application(self.services, faults=self.faults, hosts=self.hosts, clock=lambda: self.now)
        return self._application

    def send(
        self,
        method: str = "POST",
        path: str = "/",
        *,
        host: str = "localhost:8443",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """One request, at the time :attr:`now`."""
        return asyncio.run(self._send(method, path, host, query, headers or {}, body))

    async def _send(
        self, method: str, path: str, host: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode("latin-1"),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in {"host": host, **headers}.items()
            ],
        }
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            messages.append(message)

        await self.application(scope, receive, send)
        start = messages[0]
        found = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        content = b"".join(message["body"] for message in messages[1:])
        assert found["x-wif-local-sts"] == "1"
        assert int(found["content-length"]) == len(content)
        return Reply(start["status"], found, content)

    def form(self, path: str, fields: Mapping[str, str | None], **more: Any) -> Reply:
        """A form; fields that are None are left out."""
        present = {name: value for name, value in fields.items() if value is not None}
        headers = {"content-type": "application/x-www-form-urlencoded", **more.pop("headers", {})}
        return self.send(path=path, body=urlencode(present).encode(), headers=headers, **more)

    def mint(self, audience: str, **claims: Any) -> str:
        claims.setdefault("now", self.now)
        return self.cluster.mint("default", "app", audience, **claims)

    # -- the three exchanges ------------------------------------------------------------------------------

    def aws(self, token: str | None = None, *, host: str = "sts.amazonaws.com", **fields: str | None) -> Reply:
        """AssumeRoleWithWebIdentity; fields replace or take out (None) parameters."""
        return self.form(
            "/",
            {
                "Action": "AssumeRoleWithWebIdentity",
                "Version": "2011-06-15",
                "RoleArn": ROLE,
                "RoleSessionName": "default-app",
                "WebIdentityToken": self.mint(AWS_AUDIENCE) if token is None else token,
                **fields,
            },
            host=host,
        )

    def gcp(self, token: str | None = None, *, host: str = "sts.googleapis.com", **fields: str | None) -> Reply:
        """The token exchange."""
        return self.form(
            "/v1/token",
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "audience": GCP_AUDIENCE,
                "scope": CLOUD_PLATFORM,
                "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "subject_token": self.mint(GCP_AUDIENCE) if token is None else token,
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                **fields,
            },
            host=host,
        )

    def azure(self, token: str | None = None, *, tenant: str = TENANT, **fields: str | None) -> Reply:
        """The client-credentials request."""
        return self.form(
            f"/{tenant}/oauth2/v2.0/token",
            {
                "client_assertion": self.mint(AZURE_AUDIENCE) if token is None else token,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_id": CLIENT,
                "grant_type": "client_credentials",
                "scope": "https://management.azure.com/.default",
                **fields,
            },
            host="login.microsoftonline.com",
        )

    def federated(self, **more: Any) -> str:
        """A federated Google token."""
        token: str = self.gcp(**more).json["access_token"]
        return token

    def api(self, path: str, document: Any = None, *, token: str | None = None, host: str = "") -> Reply:
        """A call of Google's other services."""
        headers = {"content-type": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        body = b"" if document is None else json.dumps(document).encode()
        return self.send(
            "GET" if document is None else "POST",
            path,
            host=host or "iamcredentials.googleapis.com",
            headers=headers,
            body=body,
        )
