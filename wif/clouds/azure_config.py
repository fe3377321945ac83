"""Azure's configuration as text: the environment file that every Azure SDK reads, and a Terraform provider block."""

from __future__ import annotations

__all__ = ["WorkloadIdentityFile", "environment", "environment_file", "is_known_to_terraform", "terraform"]

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from wif.clouds.azure import authority_url, validate_client_id, validate_tenant_id
from wif.core.quoting import env_file, hcl_block
from wif.errors import ConfigurationError

_TERRAFORM_ENVIRONMENTS = {
    "login.microsoftonline.com": None,
    "login.microsoftonline.us": "usgovernment",
    "login.chinacloudapi.cn": "china",
    "login.partner.microsoftonline.cn": "china",
}
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentityFile:
    """One Entra application or managed identity, and the file with its assertion."""

    tenant_id: str
    """A directory id (GUID) or one of its domains."""
    client_id: str
    token_file: str
    authority_host: str | None = None
    """Default the public cloud's; kept as a URL with the final slash that Azure's own webhook writes."""
    subscription_id: str | None = None
    """Only Terraform asks for it."""

    def __post_init__(self) -> None:
        validate_tenant_id(self.tenant_id)
        validate_client_id(self.client_id)
        if self.subscription_id is not None and not _GUID.fullmatch(self.subscription_id):
            raise ConfigurationError(
                f"the subscription id {self.subscription_id!r} is not one", code="config-invalid", hint="write its GUID"
            )
        authority = authority_url(self.authority_host)
        if not authority.startswith("https://"):
            raise ConfigurationError(
                f"the authority {authority} is not an https URL, and no Azure SDK takes another", code="config-invalid"
            )
        object.__setattr__(self, "authority_host", f"{authority}/")


def environment(identity: WorkloadIdentityFile) -> dict[str, str]:
    """The four variables. The authority host is always among them.

    azure-identity's ``ManagedIdentityCredential`` takes the workload identity only where the authority is set too.
    """
    return {
        "AZURE_CLIENT_ID": identity.client_id,
        "AZURE_TENANT_ID": identity.tenant_id,
        "AZURE_FEDERATED_TOKEN_FILE": identity.token_file,
        "AZURE_AUTHORITY_HOST": str(identity.authority_host),
    }


def environment_file(identity: WorkloadIdentityFile) -> str:
    """The text of ``azure/env``."""
    return env_file(environment(identity))


def terraform(identity: WorkloadIdentityFile) -> str:
    """A ``provider "azurerm"`` block that reads the token file at each run.

    Terraform chooses its authority by ``environment``; for one that it has no name for, the public cloud's stays.
    """
    host = urlsplit(str(identity.authority_host)).hostname
    values: dict[str, str | bool | None] = {
        "environment": _TERRAFORM_ENVIRONMENTS.get(host or ""),
        "subscription_id": identity.subscription_id,
        "tenant_id": identity.tenant_id,
        "client_id": identity.client_id,
        "use_oidc": True,
        "use_cli": False,
        "oidc_token_file_path": identity.token_file,
    }
    return hcl_block('provider "azurerm"', ["features {}", values])


def is_known_to_terraform(identity: WorkloadIdentityFile) -> bool:
    """Whether Terraform has an environment with this authority."""
    return urlsplit(str(identity.authority_host)).hostname in _TERRAFORM_ENVIRONMENTS
