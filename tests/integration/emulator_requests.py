"""Exchanges with a running local STS over real TLS, without the exchange side's code."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import urllib3

from tests.unit.emulator.local_sts import (
    AWS_AUDIENCE,
    AZURE_AUDIENCE,
    CLIENT,
    CLOUD_PLATFORM,
    GCP_AUDIENCE,
    HOST,
    ISSUER,
    ROLE,
    TENANT,
    trust,
)
from wif.emulator import Emulator, LocalCluster, TrustStore

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def trust_in(issuer: str) -> dict[str, Any]:
    """The trust documents of the unit tests, for another issuer."""
    text = json.dumps(trust()).replace(ISSUER, issuer).replace(HOST, issuer.partition("://")[2])
    documents: dict[str, Any] = json.loads(text)
    return documents


def store_for(issuer: str) -> TrustStore:
    return TrustStore.from_mapping(trust_in(issuer))


class Client:
    """Sends the three exchanges."""

    def __init__(self, emulator: Emulator, *, timeout_seconds: float = 15.0) -> None:
        self.emulator = emulator
        self.http = urllib3.PoolManager(
            ca_certs=str(emulator.ca_file), retries=False, timeout=urllib3.Timeout(total=timeout_seconds)
        )

    def form(self, path: str, fields: dict[str, str]) -> urllib3.BaseHTTPResponse:
        return self.http.request("POST", self.emulator.url + path, body=urlencode(fields), headers=FORM)

    def aws(self, cluster: LocalCluster, **claims: Any) -> urllib3.BaseHTTPResponse:
        return self.form(
            "/",
            {
                "Action": "AssumeRoleWithWebIdentity",
                "Version": "2011-06-15",
                "RoleArn": ROLE,
                "RoleSessionName": "default-app",
                "WebIdentityToken": cluster.mint("default", "app", AWS_AUDIENCE, **claims),
            },
        )

    def gcp(self, cluster: LocalCluster, **claims: Any) -> urllib3.BaseHTTPResponse:
        return self.form(
            "/v1/token",
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "audience": GCP_AUDIENCE,
                "scope": CLOUD_PLATFORM,
                "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "subject_token": cluster.mint("default", "app", GCP_AUDIENCE, **claims),
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            },
        )

    def azure(self, cluster: LocalCluster, **claims: Any) -> urllib3.BaseHTTPResponse:
        return self.form(
            f"/{TENANT}/oauth2/v2.0/token",
            {
                "client_assertion": cluster.mint("default", "app", AZURE_AUDIENCE, **claims),
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_id": CLIENT,
                "grant_type": "client_credentials",
                "scope": "https://management.azure.com/.default",
            },
        )

    def all(self, cluster: LocalCluster, **claims: Any) -> list[int]:
        """The status of each cloud's answer."""
        return [exchange(cluster, **claims).status for exchange in (self.aws, self.gcp, self.azure)]
