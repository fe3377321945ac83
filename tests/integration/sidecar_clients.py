"""Unmodified clients of three clouds as programs: how each is started, and what it says it was given.

Python's SDKs are those of the tests' own environment. The others are found below the directory ``WIF_CLIENTS``, where
``noxfile.py`` installs what ``tests/data/sidecar-clients`` names: ``aws`` and ``az`` are environments of their own,
``node`` has Node's packages. gcloud is found on PATH; it has no package in a registry.
"""

from __future__ import annotations

__all__ = ["CLIENTS", "DEAD_PROXY", "RESOURCE", "VERSIONS", "Client", "NotHere", "Start", "run_client"]

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_PINNED = Path(__file__).parents[1] / "data" / "sidecar-clients"
_LONGEST_SECONDS = 60.0

RESOURCE = "https://vault.azure.net"
DEAD_PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
"""A proxy that leads nowhere: whoever asks it for the sidecar gets no answer."""


class NotHere(Exception):
    """A client that is not installed; says what is missing."""


class Start(NamedTuple):
    """What a client is started with."""

    variables: Mapping[str, str]
    """All of them."""
    folder: Path
    """Its home, empty before."""
    sts_url: str
    ca_file: Path
    """For calls that are no credentials: GetCallerIdentity, Azure Resource Manager."""


Answer = Mapping[str, Any]
"""``key`` of AWS, ``token`` of the others, and what else the client says."""


class Client(NamedTuple):
    """One row of the matrix."""

    name: str
    version: str
    """The pinned one, or where nothing pins it the one seen."""
    interface: str
    variables: tuple[str, ...]
    """Those that lead it to the sidecar."""
    ask: Callable[[Start], Answer]
    result: str = "works"

    @property
    def row(self) -> str:
        """The line of docs/reference/sidecar-clients.md."""
        variables = ", ".join(f"`{name}`" for name in self.variables)
        return f"| {self.name} | {self.version} | {self.interface} | {variables} | {self.result} |"


def run_client(command: list[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program with these variables and no others."""
    return subprocess.run(
        command, env=dict(variables), capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=False
    )


def _said(command: list[str], variables: Mapping[str, str]) -> str:
    done = run_client(command, variables)
    assert done.returncode == 0, f"{done.stdout[-500:]}{done.stderr[-2000:]}"
    return done.stdout


def _installed(path: str) -> Path:
    """A file below ``WIF_CLIENTS``."""
    folder = os.environ.get("WIF_CLIENTS")
    if not folder:
        raise NotHere("WIF_CLIENTS is not set: the directory where noxfile.py installs tests/data/sidecar-clients")
    found = Path(folder) / path
    if not found.exists():
        raise NotHere(f"WIF_CLIENTS has no {path}: its installation failed")
    return found


def _on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NotHere(f"no {name} on PATH")
    return found


def _python(program: str) -> Callable[[Start], Answer]:
    def ask(start: Start) -> Answer:
        answer: Answer = json.loads(_said([sys.executable, "-W", "error", "-c", program], start.variables))
        return answer

    return ask


def _node(program: str) -> Callable[[Start], Answer]:
    def ask(start: Start) -> Answer:
        node, packages = _on_path("node"), _installed("node/node_modules")
        whole = f"(async()=>{{{program}}})().catch(e=>{{console.error(e.message);process.exit(1)}})"
        said = _said([node, "-e", whole], {**start.variables, "NODE_PATH": str(packages)})
        answer: Answer = json.loads(said)
        return answer

    return ask


def _aws_cli(start: Start) -> Answer:
    program = str(_installed("aws/bin/aws"))
    listed = _said([program, "configure", "list"], start.variables)
    assert "container-role" in listed, listed
    local = {"AWS_ENDPOINT_URL_STS": start.sts_url, "AWS_CA_BUNDLE": str(start.ca_file)}
    caller = json.loads(_said([program, "sts", "get-caller-identity"], {**start.variables, **local}))
    shown = re.search(r"access_key\s+\*+(\w+)", listed)
    assert shown is not None, listed
    return {"key_end": shown[1], "arn": caller["Arn"]}


def _gcloud(start: Start) -> Answer:
    program = _on_path("gcloud")
    variables = {**start.variables, "CLOUDSDK_CONFIG": str(start.folder / "gcloud")}
    token = _said([program, "auth", "print-access-token"], variables).strip()
    accounts = json.loads(_said([program, "auth", "list", "--format=json"], variables))
    identity = _said([program, "auth", "print-identity-token", "--audiences=https://app.example"], variables).strip()
    return {"token": token, "email": accounts[0]["account"], "id_token": identity}


def _az(start: Start) -> Answer:
    """``az login --identity`` asks Azure Resource Manager for subscriptions, which only a cloud's settings can move."""
    program = str(_installed("az/bin/az"))
    folder = start.folder / "azure"
    folder.mkdir()
    (folder / "clouds.config").write_text(
        "[lab]\nendpoint_active_directory = https://login.microsoftonline.com\n"
        "endpoint_active_directory_resource_id = https://management.azure.com/\n"
        f"endpoint_management = https://management.azure.com/\nendpoint_resource_manager = {start.sts_url}\n"
    )
    (folder / "config").write_text("[cloud]\nname = lab\n[core]\ncollect_telemetry = no\n")
    variables = {**start.variables, "AZURE_CONFIG_DIR": str(folder), "REQUESTS_CA_BUNDLE": str(start.ca_file)}
    [subscription] = json.loads(_said([program, "login", "--identity", "--allow-no-subscriptions"], variables))
    token = json.loads(_said([program, "account", "get-access-token", "--resource", RESOURCE], variables))
    return {"token": token["accessToken"], "tenant": subscription["tenantId"]}


_BOTO3 = """
import boto3, json
found = boto3.Session().get_credentials()
print(json.dumps({"key": found.get_frozen_credentials().access_key, "method": found.method}))
"""
_GOOGLE_AUTH = """
import google.auth, json
from google.auth.transport.requests import Request
from google.oauth2 import id_token
found, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
request = Request()
found.refresh(request)
told = {"token": found.token, "email": found.service_account_email, "project": project}
print(json.dumps(told | {"id_token": id_token.fetch_id_token(request, "https://app.example")}))
request.session.close()
"""
_AZURE_IDENTITY = f"""
import json
from azure.identity import DefaultAzureCredential
with DefaultAzureCredential() as found:
    print(json.dumps({{"token": found.get_token("{RESOURCE}/.default").token}}))
"""
_NODE_AWS = """
const found = await require("@aws-sdk/credential-providers").fromNodeProviderChain()();
console.log(JSON.stringify({key: found.accessKeyId}));
"""
_NODE_GOOGLE = """
const {GoogleAuth} = require("google-auth-library");
const auth = new GoogleAuth({scopes: ["https://www.googleapis.com/auth/cloud-platform"]});
const token = (await (await auth.getClient()).getAccessToken()).token;
const headers = await (await auth.getIdTokenClient("https://app.example")).getRequestHeaders();
const id_token = headers.get("authorization").replace("Bearer ", "");
console.log(JSON.stringify({token, id_token, project: await auth.getProjectId()}));
"""
_NODE_AZURE = f"""
const {{DefaultAzureCredential}} = require("@azure/identity");
const found = await new DefaultAzureCredential().getToken("{RESOURCE}/.default");
console.log(JSON.stringify({{token: found.token}}));
"""

_AWS = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
_APP_SERVICE = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "AZURE_TOKEN_CREDENTIALS")
_IMDS = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_TOKEN_CREDENTIALS")
_CONTAINER, _METADATA, _APP, _INSTANCE = "AWS container credentials", "GCE metadata server", "App Service", "IMDS"
_NPM: Mapping[str, str] = json.loads((_PINNED / "package.json").read_text())["dependencies"]


def _pinned(name: str) -> str:
    return (_PINNED / f"{name}.txt").read_text().strip().partition("==")[2]


VERSIONS: Mapping[str, str] = {"boto3": "1.44.5", "google-auth": "2.62.2", "azure-identity": "1.27.0"}
"""Of the SDKs that pyproject.toml bounds below only: those last seen."""

CLIENTS = (
    Client("boto3", VERSIONS["boto3"], _CONTAINER, _AWS, _python(_BOTO3)),
    Client("aws CLI 1", _pinned("aws"), _CONTAINER, (*_AWS, "AWS_DEFAULT_REGION"), _aws_cli),
    Client("@aws-sdk/credential-providers", _NPM["@aws-sdk/credential-providers"], _CONTAINER, _AWS, _node(_NODE_AWS)),
    Client(
        "google-auth",
        VERSIONS["google-auth"],
        _METADATA,
        ("GCE_METADATA_HOST", "GCE_METADATA_IP"),
        _python(_GOOGLE_AUTH),
    ),
    Client(
        "google-auth-library",
        _NPM["google-auth-library"],
        _METADATA,
        ("GCE_METADATA_HOST", "GCE_METADATA_IP"),
        _node(_NODE_GOOGLE),
    ),
    Client("gcloud", "528.0.0", _METADATA, ("GCE_METADATA_ROOT",), _gcloud, "works; not run where no gcloud is"),
    Client("azure-identity", VERSIONS["azure-identity"], _APP, _APP_SERVICE, _python(_AZURE_IDENTITY)),
    Client("azure-identity", VERSIONS["azure-identity"], _INSTANCE, _IMDS, _python(_AZURE_IDENTITY)),
    Client("az", _pinned("az"), _APP, _APP_SERVICE[:2], _az),
    Client("az", _pinned("az"), _INSTANCE, _IMDS[:1], _az),
    Client("@azure/identity", _NPM["@azure/identity"], _APP, _APP_SERVICE, _node(_NODE_AZURE)),
    Client("@azure/identity", _NPM["@azure/identity"], _INSTANCE, _IMDS, _node(_NODE_AZURE)),
)
"""The matrix."""
