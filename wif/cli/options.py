"""Options of the identity commands. Each is named as the setting and the constructor's argument are."""

from __future__ import annotations

__all__ = ["identity_options", "load_settings", "read_config_file"]

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import click

from wif.cli.frame import named_config_file
from wif.cli.output import warn
from wif.config import Layer, Settings, from_document, from_variables, merged, unknown_variables
from wif.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG_FILE = "wif.yaml"
_MAX_CONFIG_BYTES = 65_536


class _Option(NamedTuple):
    setting: str
    flag: str
    help: str
    is_number: bool = False
    is_list: bool = False


_AWS = (
    _Option("role_arn", "role-arn", "Role to assume with the token."),
    _Option("region", "region", "Region whose endpoint is asked. Default: AWS_REGION, AWS_DEFAULT_REGION."),
    _Option("session_name", "session-name", "For display. Default: namespace and pod."),
    _Option("duration_seconds", "duration-seconds", "900 to 43200.", is_number=True),
    _Option("policy", "policy", "Session policy, inline JSON."),
    _Option("policy_arns", "policy-arn", "Managed session policy; repeatable.", is_list=True),
    _Option("chain", "chain", "Further role: an ARN, or JSON with a chained role's arguments.", is_list=True),
    _Option("endpoint_url", "endpoint-url", "Endpoint that you trust with the token."),
    _Option("audience", "audience", "Audience that the subject token must have."),
)
_GCP = (
    _Option("provider", "provider", "projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER."),
    _Option("service_account", "service-account", "Service account to act as. Default: the principal itself."),
    _Option("scopes", "scope", "OAuth scope; repeatable. Default: cloud-platform.", is_list=True),
    _Option("region", "region", "Region of a regional endpoint."),
    _Option("universe_domain", "universe-domain", "Default: googleapis.com."),
    _Option("delegates", "delegate", "Service account in between; repeatable.", is_list=True),
    _Option("lifetime_seconds", "lifetime-seconds", "Of the service account's token.", is_number=True),
    _Option("token_url", "token-url", "Endpoint that you trust with the token."),
    _Option("project_id", "project", "Project for clients. Default: GOOGLE_CLOUD_PROJECT."),
    _Option("quota_project_id", "quota-project", "Project that API calls are billed to."),
    _Option("audience", "subject-audience", "Audience that the subject token must have."),
)
_AZURE = (
    _Option("tenant_id", "tenant-id", "Directory (tenant). Default: AZURE_TENANT_ID."),
    _Option("client_id", "client-id", "Application or managed identity. Default: AZURE_CLIENT_ID."),
    _Option("authority_host", "authority-host", "Default: AZURE_AUTHORITY_HOST, the public cloud."),
    _Option("scope", "scope", "RESOURCE/.default."),
    _Option("audience", "audience", "Audience that the subject token must have."),
)
_SUBSCRIPTION = _Option("subscription_id", "subscription-id", "Subscription of Terraform's block.")
_TABLES: Mapping[str, tuple[_Option, ...]] = {"aws": _AWS, "gcp": _GCP, "azure": _AZURE}
_NO_HELPS: Mapping[str, str] = {}
_FILE = _Option("token_file", "file", "Subject token; - reads it from stdin. Default: the projected file.")


def identity_options(
    *clouds: str, prefixed: bool = False, only: frozenset[str] | None = None, helps: Mapping[str, str] = _NO_HELPS
) -> Callable[[F], F]:
    """Options for the settings of these clouds; their values are read by :func:`load_settings`.

    Args:
        prefixed: ``--aws-role-arn`` in place of ``--role-arn``, where several clouds meet.
        only: settings that the command uses; None for all.
        helps: by the parameter's name, where an option means something else to the command.
    """

    def decorate(function: F) -> F:
        file = _FILE._replace(help=helps.get("token_file", _FILE.help))
        function = _add(function, "token_file", file, file.flag, "--token-file")
        if only is None:
            allow = _Option("allow_hosts", "allow-host", "Host that may get the token; repeatable.", is_list=True)
            pause = _Option(
                "propagation_seconds",
                "propagation-seconds",
                "How long to retry the refusals of a trust made just now.",
                is_number=True,
            )
            function = _add(_add(function, "propagation_seconds", pause, pause.flag), "allow_hosts", allow, allow.flag)
        for name in reversed(clouds):
            extra = [_FILE] if prefixed else []
            known = [option for option in _TABLES[name] if only is None or option.setting in only]
            if name == "azure" and only is not None and _SUBSCRIPTION.setting in only:
                known.append(_SUBSCRIPTION)
            for option in reversed([*known, *extra]):
                flag = f"{name}-{option.flag}" if prefixed else option.flag
                dest = f"{name}__{option.setting}"
                function = _add(function, dest, option._replace(help=helps.get(dest, option.help)), flag)
        return function

    return decorate


def load_settings(context: click.Context) -> Settings:
    """The settings of this run: flags, then ``WIF_*`` variables, then ``wif.yaml``."""
    flags = {
        name.replace("__", "."): value
        for name, value in context.params.items()
        if value not in (None, ()) and ("__" in name or name in ("token_file", "allow_hosts", "propagation_seconds"))
    }
    for variable in unknown_variables(os.environ):
        warn(f"the variable {variable} is not known")
    return merged(flags, from_variables(os.environ), _document(named_config_file(context)))


def _add(function: F, dest: str, option: _Option, flag: str, *names: str) -> F:
    return click.option(
        dest,
        f"--{flag}",
        *names,
        type=click.INT if option.is_number else click.STRING,
        multiple=option.is_list,
        help=option.help,
    )(function)


def _document(named: str | None) -> Layer:
    document, path, is_named = read_config_file(named)
    return from_document(document, origin=path, is_named=is_named)


def read_config_file(named: str | None, *, limit_bytes: int = _MAX_CONFIG_BYTES) -> tuple[object, str, bool]:
    """What the settings file says, its path, and whether the caller named it; None where there is no file.

    Args:
        named: the path; None is ``wif.yaml`` in the current directory, which need not be there.
        limit_bytes: how large it may be.

    Raises:
        ConfigurationError: file-unusable, config-invalid.
    """
    path = named or DEFAULT_CONFIG_FILE
    if named is None and not os.path.exists(path):  # noqa: PTH110  # pathlib is not loaded on this path
        return None, path, False
    import yaml  # noqa: PLC0415  # only where there is a file to read

    from wif.edges.files import read_bounded  # noqa: PLC0415  # only where there is a file to read

    try:
        data = read_bounded(path, limit_bytes)
    except OSError as error:
        raise ConfigurationError(
            f"the settings file {path} cannot be read: {error.strerror}", code="file-unusable"
        ) from error
    if len(data) > limit_bytes:
        raise ConfigurationError(
            f"the settings file {path} is larger than {limit_bytes // 1024} KiB", code="config-invalid"
        )
    try:
        return yaml.safe_load(data), path, named is not None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigurationError(
            f"the settings file {path} is not YAML{_where(error)}",
            code="config-invalid",
            hint=f"correct {path}; what else may be wrong in it is told once it is YAML",
        ) from error


_QUOTED = re.compile(r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_TOKEN = re.compile(r"""\s*'(?:<[a-z ]+>|.)'""")


def _where(error: Exception) -> str:
    """Line, column and the parser's words, without what it quotes: that may be a secret."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:  # of a byte or a character that no YAML has
        position = getattr(error, "position", None)
        return "" if position is None else f": {getattr(error, 'reason', 'wrong')} at offset {position}"
    words = _QUOTED.sub(lambda found: found[0] if _TOKEN.fullmatch(found[0]) else "", str(problem or ""))
    return f": line {mark.line + 1}, column {mark.column + 1}{f': {words}' if words else ''}"
