"""``wif config``: files and variables with which unmodified SDKs, aws, gcloud and Terraform become an identity."""

from __future__ import annotations

__all__ = ["config_command"]

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from wif.cli.frame import Command, LazyGroup, wants_json
from wif.cli.identities import token_file_of
from wif.cli.options import identity_options, load_settings
from wif.cli.output import print_json, warn
from wif.clouds import aws_config, azure_config, gcp_config
from wif.clouds.gcp_names import DEFAULT_UNIVERSE, JWT_TOKEN_TYPE
from wif.config import AwsSettings, Settings
from wif.core.quoting import shell_exports
from wif.edges.files import private_directory, read_bounded, write_atomically
from wif.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/pool/providers/cluster"
_ONLY = frozenset(
    {
        "role_arn",
        "region",
        "session_name",
        "duration_seconds",
        "provider",
        "service_account",
        "universe_domain",
        "lifetime_seconds",
        "project_id",
        "tenant_id",
        "client_id",
        "authority_host",
        "subscription_id",
    }
)
"""Settings that a file can say."""

_MAX_AWS_CONFIG_BYTES = 1 << 22

config_command = LazyGroup(
    "config",
    lazy={},
    help="Write configuration that unmodified SDKs and tools read.",
    example="wif config aws --role-arn arn:aws:iam::111122223333:role/app --file token --env",
)
"""The group."""


@dataclass(slots=True, kw_only=True)
class _Result:
    """What a run makes: files by their paths below ``--out``, variables, warnings."""

    files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    unset: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)


def _output_options(function: F) -> F:
    for option in (
        click.option("--command", "program", default="wif", show_default=True, help="How files call this program."),
        click.option("--env", "exports", is_flag=True, help="Print shell exports, for eval."),
        click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Write files below DIR."),
    ):
        function = option(function)
    return function


def _aws_options(function: F) -> F:
    for option in (
        click.option("--force", is_flag=True, help="Replace a profile of that name which is not wif's."),
        click.option("--aws-config", metavar="FILE", type=click.Path(path_type=Path), help="Edit this file's profile."),
        click.option("--cache", is_flag=True, help="The credential_process profile keeps a cache on disk."),
        click.option(
            "--via",
            type=click.Choice(["web-identity", "profile", "process"]),
            help="What --env leads to, and --aws-config writes. Default: profile where a file is written.",
        ),
        click.option("--profile", default="wif", show_default=True, help="Name of the AWS profile."),
    ):
        function = option(function)
    return function


def _gcp_options(function: F) -> F:
    for option in (
        click.option("--executable", is_flag=True, help="--env leads to the file with the executable source."),
        click.option("--executable-command", metavar="COMMAND", help="Default: wif token print --format executable."),
        click.option("--executable-timeout-millis", type=click.INT, default=30000, show_default=True),
        click.option("--executable-output-file", metavar="PATH", help="Where the client looks for a kept answer."),
        click.option("--source-format", type=click.Choice(["text", "json"]), help="Said in the file source."),
        click.option("--source-field", metavar="NAME", help="Member of a JSON token file."),
        click.option("--subject-token-type", default=JWT_TOKEN_TYPE, show_default=True),
    ):
        function = option(function)
    return function


@config_command.command(
    "aws", cls=Command, example="wif config aws --role-arn arn:aws:iam::111122223333:role/app --file token --env"
)
@identity_options("aws", only=_ONLY)
@_aws_options
@_output_options
@click.pass_context
def _aws(context: click.Context, /, **options: Any) -> None:
    """A profile with role and token file, one with credential_process, and Terraform's block."""
    result = _Result()
    _add_aws(result, load_settings(context), options)
    _finish(context, result, options)


@config_command.command("gcp", cls=Command, example=f"wif config gcp --provider {_PROVIDER} --file token --out wif")
@identity_options("gcp", only=_ONLY)
@_gcp_options
@_output_options
@click.pass_context
def _gcp(context: click.Context, /, **options: Any) -> None:
    """external_account files as gcloud writes them, with a file and an executable source, and Terraform's block."""
    result = _Result()
    _add_gcp(result, load_settings(context), options)
    _finish(context, result, options)


@config_command.command(
    "azure",
    cls=Command,
    example="wif config azure --tenant-id 11111111-2222-3333-4444-555555555555 "
    "--client-id 66666666-7777-8888-9999-000000000000 --file token --env",
)
@identity_options("azure", only=_ONLY)
@_output_options
@click.pass_context
def _azure(context: click.Context, /, **options: Any) -> None:
    """The environment file of every Azure SDK, and Terraform's block."""
    result = _Result()
    _add_azure(result, load_settings(context))
    _finish(context, result, options)


@config_command.command(
    "all",
    cls=Command,
    example="wif config all --aws-role-arn arn:aws:iam::111122223333:role/app "
    f"--gcp-provider {_PROVIDER} --azure-tenant-id 11111111-2222-3333-4444-555555555555 "
    "--azure-client-id 66666666-7777-8888-9999-000000000000 --file token --out wif",
)
@identity_options("aws", "gcp", "azure", prefixed=True, only=_ONLY)
@_aws_options
@_gcp_options
@_output_options
@click.pass_context
def _all(context: click.Context, /, **options: Any) -> None:
    """Everything for the three clouds."""
    result = _Result()
    settings = load_settings(context)
    _add_aws(result, settings, options)
    _add_gcp(result, settings, options)
    _add_azure(result, settings)
    _finish(context, result, options)


def _add_aws(result: _Result, settings: Settings, options: dict[str, Any]) -> None:
    chosen, name, out = settings.aws, options["profile"], options["out"]
    region = chosen.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
    profile = aws_config.WebIdentityProfile(
        role_arn=_required(chosen.role_arn or os.environ.get("AWS_ROLE_ARN"), "role", "aws.role_arn"),
        token_file=_token_file(settings, "aws"),
        session_name=chosen.session_name,
        region=region,
        duration_seconds=chosen.duration_seconds,
    )
    if region is None:
        result.warnings.append(
            "no region is known, so boto3 asks the global endpoint and other SDKs fail: use --region or AWS_REGION"
        )
    unsaid = [word for word in ("chain", "policy", "policy_arns") if getattr(chosen, word)]
    if unsaid:
        result.warnings.append(f"only the credential_process profile can say {', '.join(unsaid)}")
    command = _process_command(options["program"], profile, chosen, cache=options["cache"])
    ways = {
        "profile": aws_config.web_identity_settings(profile),
        "process": aws_config.process_settings(command, region=region),
    }
    result.files["aws/config"] = aws_config.profile_text(name, ways["profile"])
    result.files["aws/config-process"] = aws_config.profile_text(name, ways["process"])
    result.files["terraform/aws.tf"] = aws_config.terraform(profile)

    edited: Path | None = options["aws_config"]
    via = options["via"] or ("profile" if out or edited else "web-identity")
    if via == "web-identity":
        if edited:
            raise click.UsageError("--aws-config writes a profile: use --via profile or --via process")
        result.variables |= aws_config.web_identity_variables(profile)
        result.unset += aws_config.CONFLICTING_WITH_WEB_IDENTITY
        return
    if edited is None and out is None:
        raise click.UsageError(f"--via {via} needs a file: use --out or --aws-config")
    file = _absolute(edited or out / ("aws/config" if via == "profile" else "aws/config-process"))
    result.variables |= aws_config.profile_variables(config_file=file, name=name, region=region)
    result.unset += aws_config.CONFLICTING_WITH_PROFILE
    if edited:
        _edit_aws_config(edited, name, ways[via], force=options["force"])
        result.edited.append(file)


def _add_gcp(result: _Result, settings: Settings, options: dict[str, Any]) -> None:
    chosen, out = settings.gcp, options["out"]
    if out is None:
        raise click.UsageError("Google's clients read a file: use --out")
    token_file = _token_file(settings, "gcp")
    command = options["executable_command"] or _executable_command(options["program"], token_file)
    sources: dict[str, gcp_config.FileSource | gcp_config.ExecutableSource] = {
        "gcp/credentials.json": gcp_config.FileSource(
            path=token_file, format_type=options["source_format"], field_name=options["source_field"]
        ),
        "gcp/credentials-executable.json": gcp_config.ExecutableSource(
            command=command,
            timeout_millis=options["executable_timeout_millis"],
            output_file=options["executable_output_file"],
        ),
    }
    universe = chosen.universe_domain or DEFAULT_UNIVERSE
    for name, source in sources.items():
        account = gcp_config.ExternalAccountFile(
            provider=_required(chosen.provider, "provider", "gcp.provider"),
            source=source,
            service_account=chosen.service_account,
            lifetime_seconds=chosen.lifetime_seconds,
            subject_token_type=options["subject_token_type"],
            universe_domain=universe,
            region=chosen.region,
        )
        result.files[name] = gcp_config.external_account(account)
    named = chosen.project_id or os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT")
    project = named or gcp_config.project_of(chosen.service_account)
    if not project:
        result.warnings.append(
            "no project is known, only the provider's number, so Google's clients ask cloudresourcemanager for it at "
            "every start: use --project"
        )
    file = _absolute(out / ("gcp/credentials-executable.json" if options["executable"] else "gcp/credentials.json"))
    result.variables |= gcp_config.shell_variables(
        credentials_file=file, project=project or None, executable=options["executable"]
    )
    result.files["terraform/google.tf"] = gcp_config.terraform(
        credentials_file=file, project=project or None, universe_domain=universe
    )


def _add_azure(result: _Result, settings: Settings) -> None:
    chosen = settings.azure
    identity = azure_config.WorkloadIdentityFile(
        tenant_id=_required(chosen.tenant_id or os.environ.get("AZURE_TENANT_ID"), "tenant", "azure.tenant_id"),
        client_id=_required(chosen.client_id or os.environ.get("AZURE_CLIENT_ID"), "client", "azure.client_id"),
        token_file=_token_file(settings, "azure"),
        authority_host=chosen.authority_host or os.environ.get("AZURE_AUTHORITY_HOST") or None,
        subscription_id=chosen.subscription_id,
    )
    if not azure_config.is_known_to_terraform(identity):
        result.warnings.append(
            f"Terraform has no environment of {identity.authority_host}: its block stays without one"
        )
    result.files["azure/env"] = azure_config.environment_file(identity)
    result.files["terraform/azurerm.tf"] = azure_config.terraform(identity)
    result.variables |= azure_config.environment(identity)


def _finish(context: click.Context, result: _Result, options: dict[str, Any]) -> None:
    """Write the files, say what there is to say."""
    out: Path | None = options["out"]
    if out is None and not options["exports"] and not result.edited:
        raise click.UsageError("nothing to do: use --out DIR or --env" + (" or --aws-config" * ("via" in options)))
    written = [*result.edited]
    if out is not None:
        for name, text in result.files.items():
            path = out / name
            for folder in (out, path.parent):
                if not folder.is_dir():
                    private_directory(folder)
            write_atomically(path, text.encode())
            written.append(_absolute(path))
    for message in result.warnings:
        warn(message)
    if wants_json(context):
        print_json(
            {
                "files": written,
                "environment": result.variables,
                "unset": sorted(set(result.unset) - set(result.variables)),
                "warnings": result.warnings,
            }
        )
        return
    for line in written:
        click.echo(f"wrote {line}", err=options["exports"])
    if options["exports"]:
        click.echo(shell_exports(result.variables, unset=result.unset), nl=False)


def _edit_aws_config(path: Path, name: str, settings: dict[str, str], *, force: bool) -> None:
    """Bring one profile of an existing file up to date; a link's target is edited, and its mode stays."""
    target = Path(os.path.realpath(path))
    try:
        data = read_bounded(target, _MAX_AWS_CONFIG_BYTES)
        mode = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        data, mode = b"", 0o600
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code="file-unusable") from error
    if len(data) > _MAX_AWS_CONFIG_BYTES:
        raise ConfigurationError(f"{path} is larger than 4 MiB", code="file-unusable")
    try:
        text = aws_config.edit(data.decode("utf-8", "surrogateescape"), name, settings, force=force)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}", code=error.code, hint=error.hint) from error
    if not target.parent.is_dir():
        private_directory(target.parent)
    write_atomically(target, text.encode("utf-8", "surrogateescape"), mode=mode)


def _process_command(
    program: str, profile: aws_config.WebIdentityProfile, chosen: AwsSettings, *, cache: bool
) -> list[str]:
    words = [program, "exchange", "aws", "--format", "credential-process", *(["--cache"] if cache else [])]
    values: list[tuple[str, str | int | None]] = [
        ("--role-arn", profile.role_arn),
        ("--file", profile.token_file),
        ("--region", profile.region),
        ("--session-name", profile.session_name),
        ("--duration-seconds", profile.duration_seconds),
        ("--audience", chosen.audience),
        ("--policy", chosen.policy),
        *(("--policy-arn", arn) for arn in chosen.policy_arns),
        *(("--chain", link) for link in chosen.chain),
    ]
    for flag, value in values:
        if value is not None:
            words += [flag, str(value)]
    return words


def _executable_command(program: str, token_file: str) -> str:
    import shlex  # noqa: PLC0415  # only for this file

    return shlex.join([program, "token", "print", "--format", "executable", "--file", token_file])


def _token_file(settings: Settings, cloud: str) -> str:
    path = _required(token_file_of(settings, cloud, os.environ), "token file", "token_file")
    if path == "-":
        raise ConfigurationError("a file of configuration cannot name stdin", code="config-invalid")
    return _absolute(path)


def _absolute(path: str | Path) -> str:
    """Absolute, links kept: the kubelet swaps one at each rotation."""
    return os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps ".."


def _required(value: str | None, what: str, setting: str) -> str:
    if value:
        return value
    variable = f"WIF_{setting.replace('.', '_').upper()}"
    option = "file" if setting == "token_file" else setting.rpartition(".")[2].replace("_", "-")
    raise ConfigurationError(
        f"no {what} is named",
        code="config-missing",
        hint=f"use --{option} (with the cloud in front in `all`), or {variable}",
    )
