"""Exchangers from settings; what they leave open comes from the webhooks' variables, as in the library."""

from __future__ import annotations

__all__ = ["aws_exchanger", "azure_exchanger", "gcp_exchanger", "token_file_of"]

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from wif.config import Settings
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.clouds.aws import ChainedRole
    from wif.exchange.aws import AwsExchanger
    from wif.exchange.azure import AzureExchanger
    from wif.exchange.exchanger import SourceLike
    from wif.exchange.gcp import GcpExchanger

_STDIN = "-"
_FILE_VARIABLES = {"aws": "AWS_WEB_IDENTITY_TOKEN_FILE", "azure": "AZURE_FEDERATED_TOKEN_FILE"}


def token_file_of(settings: Settings, cloud: str, environ: Mapping[str, str]) -> str | None:
    """The path of a cloud's subject token, or None; its own setting goes before the common one."""
    of_cloud: str | None = getattr(settings, cloud).token_file
    return of_cloud or settings.token_file or environ.get(_FILE_VARIABLES.get(cloud, "")) or None


def aws_exchanger(settings: Settings, environ: Mapping[str, str]) -> AwsExchanger:
    """The AWS identity of this run."""
    from wif.exchange.aws import AwsExchanger  # noqa: PLC0415  # only the cloud that is asked for

    chosen = settings.aws
    role = chosen.role_arn or environ.get("AWS_ROLE_ARN")
    if not role:
        _missing("aws", "role", "--role-arn, WIF_AWS_ROLE_ARN or AWS_ROLE_ARN")
    return AwsExchanger(
        role,
        source=_source(settings, "aws", environ),
        region=chosen.region,
        session_name=chosen.session_name or environ.get("AWS_ROLE_SESSION_NAME") or None,
        duration_seconds=chosen.duration_seconds,
        policy=chosen.policy,
        policy_arns=chosen.policy_arns,
        endpoint_url=chosen.endpoint_url,
        chain=[_chained(text) for text in chosen.chain],
        audience=chosen.audience,
        environ=environ,
        **_common(settings),
    )


def gcp_exchanger(settings: Settings, environ: Mapping[str, str]) -> GcpExchanger:
    """The GCP identity of this run: the provider named, or the credential file of the environment."""
    from wif.exchange.gcp import GcpExchanger  # noqa: PLC0415  # only the cloud that is asked for

    chosen = settings.gcp
    named: dict[str, Any] = {
        "service_account": chosen.service_account,
        "scopes": chosen.scopes,
        "region": chosen.region,
        "universe_domain": chosen.universe_domain,
        "delegates": chosen.delegates,
        "lifetime_seconds": chosen.lifetime_seconds,
        "token_url": chosen.token_url,
        "project_id": chosen.project_id,
        "quota_project_id": chosen.quota_project_id,
        "audience": chosen.audience,
    }
    given = {name: value for name, value in named.items() if value not in (None, ())}
    if chosen.provider:
        source = _source(settings, "gcp", environ)
        return GcpExchanger(chosen.provider, source=source, environ=environ, **given, **_common(settings))
    path = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not path:
        _missing("gcp", "provider", "--provider, WIF_GCP_PROVIDER or GOOGLE_APPLICATION_CREDENTIALS")
    if token_file_of(settings, "gcp", environ):
        given["source"] = _source(settings, "gcp", environ)
    return GcpExchanger.from_file(path, environ=environ, **given, **_common(settings))


def azure_exchanger(settings: Settings, environ: Mapping[str, str]) -> AzureExchanger:
    """The Azure identity of this run."""
    from wif.exchange.azure import AzureExchanger  # noqa: PLC0415  # only the cloud that is asked for

    chosen = settings.azure
    tenant = chosen.tenant_id or environ.get("AZURE_TENANT_ID")
    client = chosen.client_id or environ.get("AZURE_CLIENT_ID")
    if not tenant:
        _missing("azure", "tenant", "--tenant-id, WIF_AZURE_TENANT_ID or AZURE_TENANT_ID")
    if not client:
        _missing("azure", "client", "--client-id, WIF_AZURE_CLIENT_ID or AZURE_CLIENT_ID")
    return AzureExchanger(
        tenant,
        client,
        source=_source(settings, "azure", environ),
        authority_host=chosen.authority_host,
        scope=chosen.scope,
        audience=chosen.audience,
        environ=environ,
        **_common(settings),
    )


def _common(settings: Settings) -> dict[str, Any]:
    common: dict[str, Any] = {"allow_hosts": settings.allow_hosts}
    if settings.propagation_seconds is not None:
        common["propagation_seconds"] = float(settings.propagation_seconds)
    return common


def _source(settings: Settings, cloud: str, environ: Mapping[str, str]) -> SourceLike:
    path = token_file_of(settings, cloud, environ)
    if path is None:
        names = ["WIF_TOKEN_FILE", *filter(None, [_FILE_VARIABLES.get(cloud)])]
        _missing(cloud, "subject token", f"--file, {' or '.join(names)}")
    if path != _STDIN:
        return path
    from wif.core.freshness import MAX_SUBJECT_TOKEN_BYTES  # noqa: PLC0415  # only for a pipe
    from wif.edges.sources import CallableSource  # noqa: PLC0415  # only for a pipe

    data = sys.stdin.buffer.read(MAX_SUBJECT_TOKEN_BYTES + 2)  # once: a retry cannot read a pipe again
    return CallableSource(lambda: data, name="standard input")


def _chained(text: str) -> ChainedRole:
    from wif.clouds.aws import ChainedRole  # noqa: PLC0415  # only where roles are chained

    if not text.startswith("{"):
        return ChainedRole(role_arn=text)
    try:
        fields = json.loads(text)
        for name in ("policy_arns", "transitive_tag_keys"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return ChainedRole(**fields)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f"a chained role is not an ARN and not a JSON object with a chained role's arguments: {text[:60]!r}",
            code="config-invalid",
            hint='write an ARN, or {"role_arn": "…", "external_id": "…"}',
        ) from error


def _missing(cloud: str, what: str, ways: str) -> NoReturn:
    raise ConfigurationError(f"no {what} is named for {cloud}", code="config-missing", hint=f"use {ways}")
