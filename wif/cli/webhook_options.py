"""Options of ``wif webhook``: what decides what is injected. Each is named as its setting and its variable are.

``--aws-audience`` is ``WIF_WEBHOOK_AWS_AUDIENCE`` and ``aws_audience`` below ``webhook`` of ``wif.yaml``. Flags win
over variables, variables over the file; below all of them stand the defaults of the webhook that ``--compat`` names.
"""

from __future__ import annotations

__all__ = ["webhook_options", "webhook_settings"]

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wif.cli.frame import named_config_file
from wif.cli.options import read_config_file
from wif.cli.section_options import LIST, MODE, NUMBER, OBJECT, SECONDS, SWITCH, Option, SectionOptions
from wif.config import WEBHOOK
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.config.webhook import WebhookSettings

F = TypeVar("F", bound=Callable[..., Any])

_MAX_FILE_BYTES = 1024 * 1024
_DIALECTS = ("native", "pfn", "eks", "azure")


_ROWS = (
    Option("compat", "Begin with the defaults of that webhook, in place of our own.", choices=_DIALECTS),
    Option(
        "dialects",
        "Annotations to understand; repeatable. Default: all four.",
        LIST,
        choices=_DIALECTS,
        flag="dialect",
    ),
    Option("prefix", "Of our own annotations. Default: wif.internal.", metavar="NAME"),
    Option("gcp_prefix", "Default: cloud.google.com.", metavar="NAME"),
    Option("aws_prefix", "Default: eks.amazonaws.com.", metavar="NAME"),
    Option("azure_prefix", "Default: azure.workload.identity.", metavar="NAME"),
    Option("max_token_expiration", "Longest life of a token that a pod may ask for. Default: 24h.", SECONDS),
    Option("token_mode", "Mode of token files, e.g. 0440. Default: 0440 with an fsGroup, else 0444.", MODE, "MODE"),
    Option("deny_collisions", "Refuse a pod that collides with the injection, in place of a warning.", SWITCH),
    Option("cluster_domain", "Default: cluster.local.", metavar="NAME"),
    Option("aws_audience", "Default: sts.amazonaws.com.", metavar="TEXT"),
    Option("aws_token_expiration", "Default: 1h.", SECONDS),
    Option("aws_region", "For identities that name none. Default: none.", metavar="REGION"),
    Option("aws_regional_sts", "Have old SDKs use the regional endpoints of STS. Default: yes.", SWITCH),
    Option("aws_token_mount_path", "Of the EKS annotations' token.", metavar="PATH"),
    Option("aws_account_id", "Account of a role that is named without arn:.", metavar="DIGITS"),
    Option("aws_partition", "Partition of such a role. Default: aws.", metavar="NAME"),
    Option("aws_container_credentials", "EKS Pod Identity's variables: identities, full_uri and so on.", OBJECT),
    Option("gcp_audience", "Default: sts.googleapis.com.", metavar="TEXT"),
    Option("gcp_token_expiration", "Default: 1h.", SECONDS),
    Option("gcp_mode", "How a GCP pod is given its configuration. Default: direct.", choices=("direct", "gcloud")),
    Option("gcp_provider", "For identities that name none.", metavar="NAME"),
    Option("gcp_region", "For identities that name none.", metavar="REGION"),
    Option("gcloud_image", "Image of the container of the mode gcloud.", metavar="IMAGE"),
    Option("gcloud_resources", "Its resources, as in a pod.", OBJECT),
    Option("azure_audience", "Default: api://AzureADTokenExchange.", metavar="TEXT"),
    Option("azure_token_expiration", "Default: 1h.", SECONDS),
    Option("azure_tenant_id", "For identities that name none.", metavar="GUID"),
    Option("azure_authority_host", "Default: https://login.microsoftonline.com/.", metavar="URL"),
    Option("azure_layout", "Where the token stands. Default: v1.6.", choices=("v1.5", "v1.6", "hashed")),
    Option("azure_token_endpoint", "Proxy in the cluster that exchanges tokens: audience and so on.", OBJECT),
    Option("sidecar_image", "Image of wif for the mode sidecar. Default: none, the mode is refused.", metavar="IMAGE"),
    Option("sidecar_pull_policy", "Of that image.", choices=("Always", "IfNotPresent", "Never")),
    Option("sidecar_resources", "Resources of the sidecar, as in a pod.", OBJECT),
    Option("sidecar_env", "Further variables of the sidecar, such as HTTPS_PROXY.", OBJECT),
    Option("sidecar_uid", "User and group of the sidecar. Default: 64829.", NUMBER, "UID"),
    Option("sidecar_address", "Where it serves credentials. Default: 127.0.0.1.", choices=("127.0.0.1", "[::1]")),
    Option("sidecar_port", "Likewise. Default: 8787.", NUMBER, "PORT"),
    Option("sidecar_health_port", "Of its probes and metrics. Default: 8788.", NUMBER, "PORT"),
    Option("sidecar_gce_metadata", "Serve Google's metadata server, which asks for no secret.", SWITCH),
    Option("sidecar_imds", "Serve Azure's instance metadata, which asks for no secret.", SWITCH),
    Option("sidecar_force_host_network", "Inject into pods of the node's network too.", SWITCH),
)
"""One row for each setting, in the order of the help."""

_NAMES_HOSTS = (
    "azure_authority_host",
    "azure_token_endpoint",
    "aws_container_credentials",
    "gcloud_image",
    "sidecar_image",
    "sidecar_env",
)
"""Settings that lead tokens or pods to another host: only from a file that the caller named."""


_OPTIONS = SectionOptions(WEBHOOK, _ROWS)


def webhook_options(function: F) -> F:
    """An option for every setting; read by :func:`webhook_settings`. The command takes them as ``webhook__NAME``."""
    return _OPTIONS.add(function)


def webhook_settings(context: click.Context) -> WebhookSettings:
    """The settings of this run: flags, then ``WIF_WEBHOOK_*`` variables, then the section ``webhook`` of the file.

    Raises:
        ConfigurationError: config-invalid, host-not-allowed, file-unusable.
    """
    from wif.config.webhook import load_webhook  # noqa: PLC0415  # only when a command runs

    _OPTIONS.report_unknown(os.environ)
    document, path, is_named = read_config_file(named_config_file(context), limit_bytes=_MAX_FILE_BYTES)
    section = _section(document, path, is_named=is_named)
    found = load_webhook(section, origin=f"{path} has {WEBHOOK}")
    given = _OPTIONS.given(context)
    return load_webhook({**section, **given}, origin="the settings of the webhook") if given else found


def _section(document: object, path: str, *, is_named: bool) -> Mapping[str, Any]:
    section = _OPTIONS.members(document, path)
    for name in _NAMES_HOSTS:
        if name in section and not is_named:
            raise ConfigurationError(
                f"{path} was found in the current directory and sets {WEBHOOK}.{name}, which leads pods to hosts",
                code="host-not-allowed",
                hint=f"if the file is yours, name it: --config-file {path}",
            )
    return section
