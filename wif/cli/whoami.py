"""``wif whoami``: what a cloud calls this workload, and how it is known."""

from __future__ import annotations

__all__ = ["whoami_command"]

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from wif.cli.frame import Command, LazyGroup, wants_json
from wif.cli.identities import aws_exchanger, azure_exchanger, gcp_exchanger
from wif.cli.options import identity_options, load_settings
from wif.cli.output import print_json, print_rows, warn
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.exchange.gcp import GcpExchanger

whoami_command = LazyGroup(
    "whoami",
    lazy={},
    help="Ask a cloud what it calls this workload.",
    example="wif whoami aws --role-arn arn:aws:iam::111122223333:role/app --file token",
)
"""The group."""

DERIVED = "derived, not confirmed"
"""What is said where the cloud did not answer the question itself."""

_MANAGEMENT_SCOPES = {
    "login.microsoftonline.us": "https://management.usgovcloudapi.net/.default",
    "login.chinacloudapi.cn": "https://management.chinacloudapi.cn/.default",
    "login.partner.microsoftonline.cn": "https://management.chinacloudapi.cn/.default",
}
_PUBLIC_SCOPE = "https://management.azure.com/.default"
_UNANSWERED = (400, 401, 404)
"""Statuses of Google's introspection where it does not know the token or is not there."""


@whoami_command.command(
    "aws", cls=Command, example="wif whoami aws --role-arn arn:aws:iam::111122223333:role/app --file token"
)
@identity_options("aws")
@click.pass_context
def _aws(context: click.Context, /, **_: object) -> None:
    """GetCallerIdentity with the role's keys."""
    found = aws_exchanger(load_settings(context), os.environ).caller_identity()
    _show(
        context,
        {
            "cloud": "aws",
            "identity": found.arn,
            "account": found.account,
            "user_id": found.user_id,
            "proof": "GetCallerIdentity",
            "confirmed": True,
            "local_sts": found.local_sts,
        },
    )


@whoami_command.command(
    "gcp",
    cls=Command,
    example="wif whoami gcp --provider "
    "projects/123456789012/locations/global/workloadIdentityPools/pool/providers/cluster --file token",
)
@identity_options("gcp")
@click.pass_context
def _gcp(context: click.Context, /, **_: object) -> None:
    """Introspection of the federated token; with a service account, generateAccessToken is the proof."""
    exchanger = gcp_exchanger(load_settings(context), os.environ)
    found = _google_account(exchanger) if exchanger.service_account else _google_principal(exchanger)
    _show(context, {"cloud": "gcp", **found})


def _google_account(exchanger: GcpExchanger) -> dict[str, Any]:
    token = exchanger.credentials()
    return {
        "identity": exchanger.service_account,
        "project": exchanger.project_id,
        "proof": "generateAccessToken",
        "confirmed": True,
        "local_sts": token.local_sts,
    }


def _google_principal(exchanger: GcpExchanger) -> dict[str, Any]:
    federated = exchanger.federated_token()
    try:
        found = exchanger.introspection()
    except WifError as error:
        if error.status not in _UNANSWERED:
            raise
        principal = exchanger.provider.principal(exchanger.subject_token().subject)
        return {
            "identity": principal,
            "project": exchanger.project_id,
            "proof": f"{DERIVED} (from provider and subject, as google.subject=assertion.sub maps it)",
            "confirmed": False,
            "local_sts": federated.local_sts,
        }
    return {
        "identity": found.username,
        "project": exchanger.project_id,
        "proof": "introspect",
        "confirmed": True,
        "local_sts": found.local_sts,
    }


@whoami_command.command(
    "azure",
    cls=Command,
    example="wif whoami azure --tenant-id 11111111-2222-3333-4444-555555555555 "
    "--client-id 66666666-7777-8888-9999-000000000000 --file token",
)
@identity_options("azure")
@click.pass_context
def _azure(context: click.Context, /, **_: object) -> None:
    """The claims of the access token that Entra gave."""
    settings = load_settings(context)
    exchanger = azure_exchanger(settings, os.environ)
    host = exchanger.authority.partition("://")[2].partition("/")[0]
    scope = settings.azure.scope or _MANAGEMENT_SCOPES.get(host, _PUBLIC_SCOPE)
    token = exchanger.credentials(scope=scope)
    claims = _unverified_claims(token.token)
    application = claims.get("appid") or claims.get("azp")
    _show(
        context,
        {
            "cloud": "azure",
            "identity": str(application or exchanger.client_id),
            "tenant": str(claims.get("tid") or exchanger.tenant_id),
            "object_id": claims.get("oid"),
            "managed_identity": claims.get("xms_mirid"),
            "issuer": claims.get("iss"),
            "proof": "claims of the access token" if application else DERIVED,
            "confirmed": bool(application),
            "local_sts": token.local_sts,
        },
    )


def _unverified_claims(token: str) -> Mapping[str, Any]:
    """What an access token says of itself; nothing where it is opaque. It came from Entra over TLS just now."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    if not isinstance(claims, dict):
        return {}
    return {name: value for name, value in claims.items() if isinstance(value, str) and value.isprintable()}


def _show(context: click.Context, found: Mapping[str, Any]) -> None:
    if found["local_sts"]:
        warn("the local STS answered, not a cloud")
    known = {name: value for name, value in found.items() if value is not None}
    if wants_json(context):
        print_json(known)
        return
    rows = [(name.replace("_", " "), str(value)) for name, value in known.items() if not isinstance(value, bool)]
    if found["local_sts"]:
        rows.append(("local sts", "yes: this identity opens no real cloud"))
    print_rows(f"Who {found['cloud']} takes this workload for", rows)
