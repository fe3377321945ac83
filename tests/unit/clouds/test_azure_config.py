"""Azure's environment file and Terraform block."""

from __future__ import annotations

import pytest

from wif.clouds.azure_config import (
    WorkloadIdentityFile,
    environment,
    environment_file,
    is_known_to_terraform,
    terraform,
)
from wif.errors import ConfigurationError

TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
SUBSCRIPTION = "33333333-3333-3333-3333-333333333333"


def identity(**changes: str) -> WorkloadIdentityFile:
    return WorkloadIdentityFile(**{"tenant_id": TENANT, "client_id": CLIENT, "token_file": "/t/token", **changes})


def test_the_environment_file_has_all_four_variables() -> None:
    assert environment_file(identity()) == (
        f"AZURE_CLIENT_ID={CLIENT}\n"
        f"AZURE_TENANT_ID={TENANT}\n"
        "AZURE_FEDERATED_TOKEN_FILE=/t/token\n"
        "AZURE_AUTHORITY_HOST=https://login.microsoftonline.com/\n"
    )


@pytest.mark.parametrize(
    "given", ["login.microsoftonline.us", "https://login.microsoftonline.us", "https://login.microsoftonline.us/"]
)
def test_an_authority_is_written_in_one_form(given: str) -> None:
    assert environment(identity(authority_host=given))["AZURE_AUTHORITY_HOST"] == "https://login.microsoftonline.us/"


@pytest.mark.parametrize(
    "broken",
    [
        {"tenant_id": "a/b"},
        {"tenant_id": "x\n"},
        {"tenant_id": ""},
        {"client_id": "a b"},
        {"tenant_id": "common"},
        {"subscription_id": "mine"},
        {"authority_host": "http://login.microsoftonline.com/"},
        {"authority_host": "https://login.microsoftonline.com/?x"},
        {"authority_host": "https://a@login.microsoftonline.com/"},
    ],
)
def test_a_value_that_would_lead_elsewhere_is_refused(broken: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        identity(**broken)


def test_a_path_that_the_file_cannot_carry_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AZURE_FEDERATED_TOKEN_FILE"):
        environment_file(identity(token_file="/a b/token"))


def test_the_terraform_block() -> None:
    assert terraform(identity(authority_host="login.microsoftonline.us", subscription_id=SUBSCRIPTION)) == (
        'provider "azurerm" {\n'
        "  features {}\n"
        "\n"
        '  environment          = "usgovernment"\n'
        f'  subscription_id      = "{SUBSCRIPTION}"\n'
        f'  tenant_id            = "{TENANT}"\n'
        f'  client_id            = "{CLIENT}"\n'
        "  use_oidc             = true\n"
        "  use_cli              = false\n"
        '  oidc_token_file_path = "/t/token"\n'
        "}\n"
    )
    assert "environment" not in terraform(identity())


def test_terraform_does_not_know_every_authority() -> None:
    assert is_known_to_terraform(identity())
    assert not is_known_to_terraform(identity(authority_host="login.example.com"))
    assert "environment" not in terraform(identity(authority_host="login.example.com"))
