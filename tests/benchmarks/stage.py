"""The other process of a measurement: a cluster and the local STS, with the variables that lead clients there.

Prints one JSON object ``{"variables": {...}, "stage": DIR}`` and serves until its standard input ends.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from wif.emulator import Emulator, TrustStore
from wif.emulator.authority import Authority
from wif.emulator.cluster import LocalCluster
from wif.emulator.pod import POD_IDENTITY, trust_documents


def main() -> None:
    """Serve."""
    with tempfile.TemporaryDirectory() as name, Authority() as authority, LocalCluster() as cluster:
        folder = Path(name)
        cluster.serve(authority)
        trust = TrustStore.from_mapping(trust_documents(cluster.issuer))
        with Emulator(trust=trust, authority=authority) as emulator:
            files = {cloud: folder / f"{cloud}.token" for cloud in POD_IDENTITY.audiences}
            for cloud, path in files.items():
                path.write_text(
                    cluster.mint("default", "app", POD_IDENTITY.audiences[cloud], expires_in=86400, pod="app-0")
                )
            credentials = folder / "credentials.json"
            credentials.write_text(json.dumps(_external_account(emulator.url, str(files["gcp"]))))
            impersonated = folder / "impersonated.json"
            impersonated.write_text(
                json.dumps(_external_account(emulator.url, str(files["gcp"]), POD_IDENTITY.google_service_account))
            )
            port = emulator.url.rpartition(":")[2]
            ca = str(emulator.ca_file)
            variables = {
                "AWS_ROLE_ARN": POD_IDENTITY.role_arn,
                "AWS_WEB_IDENTITY_TOKEN_FILE": str(files["aws"]),
                "AWS_REGION": POD_IDENTITY.region,
                "AWS_DEFAULT_REGION": POD_IDENTITY.region,
                "AWS_ENDPOINT_URL_STS": emulator.url,
                "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
                "GOOGLE_CLOUD_PROJECT": POD_IDENTITY.project_id,
                "AZURE_CLIENT_ID": POD_IDENTITY.client_id,
                "AZURE_TENANT_ID": POD_IDENTITY.tenant_id,
                "AZURE_FEDERATED_TOKEN_FILE": str(files["azure"]),
                "AZURE_AUTHORITY_HOST": emulator.url,
                "REQUESTS_CA_BUNDLE": ca,
                "AWS_CA_BUNDLE": ca,
                "SSL_CERT_FILE": ca,
                "WIF_ALLOW_HOSTS": f"localhost:{port}",
                "HOME": name,
                "PATH": "/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "XDG_RUNTIME_DIR": name,
            }
            print(json.dumps({"variables": variables, "stage": name}), flush=True)
            sys.stdin.read()


def _external_account(url: str, token_file: str, service_account: str | None = None) -> dict[str, object]:
    document: dict[str, object] = {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{POD_IDENTITY.provider}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{url}/v1/token",
        "credential_source": {"file": token_file},
    }
    if service_account is not None:
        document["service_account_impersonation_url"] = (
            f"{url}/v1/projects/-/serviceAccounts/{service_account}:generateAccessToken"
        )
    return document


if __name__ == "__main__":
    main()
