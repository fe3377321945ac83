"""Options of ``wif webhook``: what decides what is injected. Each is named as its setting and its variable are.

``--aws-audience`` is ``WIF_WEBHOOK_AWS_AUDIENCE`` and ``aws_audience`` below ``webhook`` of ``wif.yaml``. Flags win
over variables, variables over the file; below all of them stand the defaults of the webhook that ``--compat`` names.
"""

from __future__ import annotations

__all__ = ["webhook_options", "webhook_settings"]

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from wif.cli.durations import Duration
from wif.cli.frame import named_config_file
from wif.cli.options import read_config_file
from wif.cli.output import warn
from wif.config import WEBHOOK
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.config.webhook import WebhookSettings

F = TypeVar("F", bound=Callable[..., Any])

_PREFIX = "webhook__"
_VARIABLE = "WIF_WEBHOOK_"
_TEXT, _LIST, _SECONDS, _SWITCH, _MODE, _JSON, _NUMBER = range(7)
_MAX_FILE_BYTES = 1024 * 1024
_DIALECTS = ("native", "pfn", "eks", "azure")


class _Option(NamedTuple):
    setting: str
    help: str
    kind: int = _TEXT
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    flag: str | None = None
    """Where it is not named as the setting is."""

    @property
    def name(self) -> str:
        """The flag."""
        return f"--{self.flag or self.setting.replace('_', '-')}"


_OPTIONS = (
    _Option("compat", "Begin with the defaults of that webhook, in place of our own.", choices=_DIALECTS),
    _Option(
        "dialects",
        "Annotations to understand; repeatable. Default: all four.",
        _LIST,
        choices=_DIALECTS,
        flag="dialect",
    ),
    _Option("prefix", "Of our own annotations. Default: wif.internal.", metavar="NAME"),
    _Option("gcp_prefix", "Default: cloud.google.com.", metavar="NAME"),
    _Option("aws_prefix", "Default: eks.amazonaws.com.", metavar="NAME"),
    _Option("azure_prefix", "Default: azure.workload.identity.", metavar="NAME"),
    _Option("max_token_expiration", "Longest life of a token that a pod may ask for. Default: 24h.", _SECONDS),
    _Option("token_mode", "Mode of token files, e.g. 0440. Default: 0440 with an fsGroup, else 0444.", _MODE, "MODE"),
    _Option("deny_collisions", "Refuse a pod that collides with the injection, in place of a warning.", _SWITCH),
    _Option("cluster_domain", "Default: cluster.local.", metavar="NAME"),
    _Option("aws_audience", "Default: sts.amazonaws.com.", metavar="TEXT"),
    _Option("aws_token_expiration", "Default: 1h.", _SECONDS),
    _Option("aws_region", "For identities that name none. Default: none.", metavar="REGION"),
    _Option("aws_regional_sts", "Have old SDKs use the regional endpoints of STS. Default: yes.", _SWITCH),
    _Option("aws_token_mount_path", "Of the EKS annotations' token.", metavar="PATH"),
    _Option("aws_account_id", "Account of a role that is named without arn:.", metavar="DIGITS"),
    _Option("aws_partition", "Partition of such a role. Default: aws.", metavar="NAME"),
    _Option("aws_container_credentials", "EKS Pod Identity's variables: identities, full_uri and so on.", _JSON),
    _Option("gcp_audience", "Default: sts.googleapis.com.", metavar="TEXT"),
    _Option("gcp_token_expiration", "Default: 1h.", _SECONDS),
    _Option("gcp_mode", "How a GCP pod is given its configuration. Default: direct.", choices=("direct", "gcloud")),
    _Option("gcp_provider", "For identities that name none.", metavar="NAME"),
    _Option("gcp_region", "For identities that name none.", metavar="REGION"),
    _Option("gcloud_image", "Image of the container of the mode gcloud.", metavar="IMAGE"),
    _Option("gcloud_resources", "Its resources, as in a pod.", _JSON),
    _Option("azure_audience", "Default: api://AzureADTokenExchange.", metavar="TEXT"),
    _Option("azure_token_expiration", "Default: 1h.", _SECONDS),
    _Option("azure_tenant_id", "For identities that name none.", metavar="GUID"),
    _Option("azure_authority_host", "Default: https://login.microsoftonline.com/.", metavar="URL"),
    _Option("azure_layout", "Where the token stands. Default: v1.6.", choices=("v1.5", "v1.6", "hashed")),
    _Option("azure_token_endpoint", "Proxy in the cluster that exchanges tokens: audience and so on.", _JSON),
    _Option("sidecar_image", "Image of wif for the mode sidecar. Default: none, the mode is refused.", metavar="IMAGE"),
    _Option("sidecar_resources", "Resources of the sidecar, as in a pod.", _JSON),
    _Option("sidecar_env", "Further variables of the sidecar, such as HTTPS_PROXY.", _JSON),
    _Option("sidecar_uid", "User and group of the sidecar. Default: 64829.", _NUMBER, "UID"),
    _Option("sidecar_address", "Where it serves credentials. Default: 127.0.0.1.", choices=("127.0.0.1", "[::1]")),
    _Option("sidecar_port", "Likewise. Default: 8787.", _NUMBER, "PORT"),
    _Option("sidecar_health_port", "Of its probes and metrics. Default: 8788.", _NUMBER, "PORT"),
    _Option("sidecar_gce_metadata", "Serve Google's metadata server, which asks for no secret.", _SWITCH),
    _Option("sidecar_imds", "Serve Azure's instance metadata, which asks for no secret.", _SWITCH),
    _Option("sidecar_force_host_network", "Inject into pods of the node's network too.", _SWITCH),
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


def webhook_options(function: F) -> F:
    """An option for every setting; read by :func:`webhook_settings`. The command takes them as ``webhook__NAME``."""
    for option in reversed(_OPTIONS):
        function = _added(function, option)
    return function


def webhook_settings(context: click.Context) -> WebhookSettings:
    """The settings of this run: flags, then ``WIF_WEBHOOK_*`` variables, then the section ``webhook`` of the file.

    Raises:
        ConfigurationError: config-invalid, host-not-allowed, file-unusable.
    """
    from wif.config.webhook import load_webhook  # noqa: PLC0415  # only when a command runs

    _report_unknown(os.environ)
    document, path, is_named = read_config_file(named_config_file(context), limit_bytes=_MAX_FILE_BYTES)
    section = _section(document, path, is_named=is_named)
    found = load_webhook(section, origin=f"{path} has {WEBHOOK}")
    given = _given(context)
    return load_webhook({**section, **given}, origin="the settings of the webhook") if given else found


def _added(function: F, option: _Option) -> F:
    arguments: dict[str, Any] = {"help": option.help, "envvar": _VARIABLE + option.setting.upper(), "default": None}
    name = option.name
    if option.kind == _SWITCH:
        name = f"{name}/--no-{name[2:]}"
    elif option.kind == _SECONDS:
        arguments["type"] = Duration()
    elif option.kind == _NUMBER:
        arguments |= {"type": int, "metavar": option.metavar}
    else:
        arguments |= {"multiple": option.kind == _LIST, "metavar": "JSON" if option.kind == _JSON else option.metavar}
        if option.choices:
            arguments["type"] = click.Choice(option.choices)
    return click.option(_PREFIX + option.setting, name, **arguments)(function)


def _given(context: click.Context) -> dict[str, Any]:
    """What flags and variables say, as ``wif.yaml`` would have it."""
    given: dict[str, Any] = {}
    for option in _OPTIONS:
        value: Any = context.params.get(_PREFIX + option.setting)
        if value is None or value == ():
            continue
        given[option.setting] = _READ.get(option.kind, _as_it_is)(option, value)
    return given


def _as_it_is(_: _Option, value: Any) -> Any:
    return value


def _mode(option: _Option, value: str) -> int:
    digits = value.removeprefix("0o")
    if not digits or not set(digits) <= set("01234567") or len(digits) > 4:
        raise click.UsageError(f"{option.name} {value[:32]!r} is no mode in octal digits, e.g. 0440")
    return int(digits, 8)


def _json(option: _Option, value: str) -> Any:
    import json  # noqa: PLC0415  # few runs have one

    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise click.UsageError(f"{option.name} is no JSON object; write it as the settings file has it")
    return read


_READ: Mapping[int, Callable[[_Option, Any], Any]] = {_MODE: _mode, _JSON: _json}


def _section(document: object, path: str, *, is_named: bool) -> Mapping[str, Any]:
    if document is None:
        return {}
    section = document.get(WEBHOOK, {}) if isinstance(document, dict) else None
    if not isinstance(section, dict) or not all(isinstance(name, str) for name in section):
        what = WEBHOOK if isinstance(document, dict) else "a document"
        raise ConfigurationError(
            f"{path} has {what} that is not a mapping of names",
            code="config-invalid",
            hint="write webhook: and its settings below it",
        )
    for name in _NAMES_HOSTS:
        if name in section and not is_named:
            raise ConfigurationError(
                f"{path} was found in the current directory and sets {WEBHOOK}.{name}, which leads pods to hosts",
                code="host-not-allowed",
                hint=f"if the file is yours, name it: --config-file {path}",
            )
    return section


def _report_unknown(environ: Mapping[str, str]) -> None:
    known = {_VARIABLE + option.setting.upper() for option in _OPTIONS}
    for variable in sorted(environ):
        if variable.startswith(_VARIABLE) and variable not in known:
            warn(f"the variable {variable} is not known")
