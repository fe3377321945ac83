"""The configuration files of the demo: exactly what a user would deploy beside the projected tokens."""

from __future__ import annotations

__all__ = ["configuration"]

from collections.abc import Mapping

from wif.clouds import aws_config, azure_config, gcp_config
from wif.emulator.pod import PodIdentity


def configuration(
    identity: PodIdentity, directory: str, tokens: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The files by name, and the variables that lead each cloud's SDK to them.

    Args:
        directory: where the files will stand.
        tokens: path of the projected token for each cloud.
    """
    profile = aws_config.WebIdentityProfile(
        role_arn=identity.role_arn, token_file=tokens["aws"], region=identity.region
    )
    account = gcp_config.ExternalAccountFile(
        provider=identity.provider,
        source=gcp_config.FileSource(path=tokens["gcp"]),
        service_account=identity.google_service_account,
    )
    client = azure_config.WorkloadIdentityFile(
        tenant_id=identity.tenant_id, client_id=identity.client_id, token_file=tokens["azure"]
    )
    files = {
        "aws/config": aws_config.profile_text("wif", aws_config.web_identity_settings(profile)),
        "gcp/credentials.json": gcp_config.external_account(account),
        "azure/env": azure_config.environment_file(client),
    }
    variables = {
        "aws": aws_config.profile_variables(config_file=f"{directory}/aws/config", name="wif", region=identity.region),
        "gcp": gcp_config.shell_variables(
            credentials_file=f"{directory}/gcp/credentials.json", project=identity.project_id
        ),
        "azure": azure_config.environment(client),
    }
    return files, variables
