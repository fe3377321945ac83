"""``wif run``: a program with the clouds' credentials beside it, without Kubernetes."""

from __future__ import annotations

__all__ = ["run_command"]

import logging
import os
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from wif.cli.durations import Duration
from wif.cli.frame import Command, report_error, wants_json
from wif.cli.options import identity_options
from wif.cli.output import print_json
from wif.cli.run_directory import run_directory
from wif.cli.run_hints import hinted
from wif.cli.run_identities import RUN_SETTINGS, run_values
from wif.cli.sidecar_options import SidecarValues, sidecar_options_of, sidecar_source
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.clouds.endpoint_variables import EndpointVariables
    from wif.config.sidecar import SidecarSettings
    from wif.serve.child import Child
    from wif.serve.httpd import HttpServer, Scope

_LOGGER = logging.getLogger("wif.run")

WAIT_SECONDS = 30
"""As long as one exchange with all its attempts may take."""
_HEADER_BYTES = 32
_EXAMPLE = "wif run --aws-role-arn arn:aws:iam::111122223333:role/app --file token -- env"


_IDENTITY_HELPS = {
    "token_file": "Subject token of every identity. Default: WIF_TOKEN_FILE, what the webhooks set.",
    "aws__token_file": "Subject token for AWS.",
    "gcp__token_file": "Subject token for GCP.",
    "azure__token_file": "Subject token for Azure.",
}
_SIDECAR_HELPS = {
    "gce_metadata": "Google's metadata server, which asks for no secret: open to every process of this user, and of the"
    " machine where the system does not tell users apart. Default: where flags or variables name a Google identity.",
    "imds": "Azure's instance metadata, which asks for no secret either. Default: no.",
}


@click.command(
    "run",
    cls=Command,
    example=_EXAMPLE,
    log_level="warning",
    context_settings={"allow_interspersed_args": False},
)
@identity_options("aws", "gcp", "azure", prefixed=True, only=RUN_SETTINGS, helps=_IDENTITY_HELPS)
@click.option("--token-command", metavar="COMMAND", help="Prints the subject token; run again before it expires.")
@sidecar_options_of(
    "identities",
    "default",
    "allow_hosts",
    "propagation_seconds",
    "aws_container",
    "app_service",
    "gce_metadata",
    "imds",
    "files",
    "force_host_network",
    helps=_SIDECAR_HELPS,
)
@click.option(
    "--wait", type=Duration(), default=WAIT_SECONDS, show_default=True, help="For first credentials; 0: not at all."
)
@click.option("--kill-after", type=Duration(), help="End the program so long after SIGTERM. Default: never.")
@click.option("--print-environment", is_flag=True, help="Show what would be set and left out, and run nothing.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run_command(context: click.Context, /, program: tuple[str, ...], **options: Any) -> None:
    """Run a program whose SDKs find credentials as on a cloud's own machine.

    They are served on loopback by this process, as long as the program runs. Its exit status is the program's, 128
    and the signal's number where a signal ended it; 126 and 127 where it could not be run.
    """
    if not program and not options["print_environment"]:
        raise click.UsageError("no program is named: wif run [options] -- PROGRAM [arguments]")
    options["token_words"] = _token_words(options["token_command"])
    with hinted(options["token_command"]), run_directory(os.environ) as directory:
        settings = _settings(context, directory, options)
        _run(context, settings, directory, program, options)


def _settings(context: click.Context, directory: str, options: Any) -> SidecarSettings:
    token_file = f"{directory}/token" if options["token_words"] else None

    def adjust(values: SidecarValues) -> SidecarValues:
        changed = run_values(context, values, os.environ, token_file=token_file)
        identities = changed.get("identities")
        each_one = identities.values() if isinstance(identities, dict) else ()
        clouds = [each.get("cloud") for each in each_one if isinstance(each, dict)]
        if "azure" not in clouds:
            changed.pop("imds", None)
        changed.pop("secret_mode", None)
        return {**changed, "listen": ["127.0.0.1:0"], "secret_file": f"{directory}/authorization"}

    settings = sidecar_source(context, adjust=adjust).load()
    if settings.serves_aws_container and settings.default_name("aws") is None:
        names = ", ".join(settings.of_cloud("aws"))
        raise ConfigurationError(
            f"the program's variables have room for one role, and there are {names}",
            code="config-missing",
            hint="say which: --default aws=NAME",
        )
    return settings


def _run(
    context: click.Context, settings: SidecarSettings, directory: str, program: Sequence[str], options: Any
) -> None:
    import asyncio  # noqa: PLC0415  # only for this command

    from wif.serve.child import ProgramNotFound, ProgramNotRunnable  # noqa: PLC0415  # only for this command
    from wif.serve.run_program import closed, run_program  # noqa: PLC0415  # only for this command
    from wif.serve.sidecar_files import SidecarFiles  # noqa: PLC0415  # only for this command
    from wif.serve.sidecar_service import SidecarService  # noqa: PLC0415  # only for this command
    from wif.serve.token_command import TokenCommand  # noqa: PLC0415  # only for this command

    header = os.urandom(_HEADER_BYTES).hex()
    environ = {**os.environ, "IDENTITY_HEADER": header}
    service = SidecarService(settings, environ=environ, same_user=_same_user(settings))
    try:
        words = options["token_words"]
        token_command = TokenCommand(words, f"{directory}/token", environ=os.environ) if words else None
        files = SidecarFiles(service.identities, service.keeper, environ=os.environ)
        service.parts += [files] if token_command is None else [files, token_command]
        servers = service.open()
        wanted = _wanted(settings, servers[0], header, directory)
        if options["print_environment"]:
            asyncio.run(closed(servers))
            _show(context, wanted)
            return
        run = run_program(
            service,
            servers,
            _child(program, wanted, options),
            files=files,
            token_command=token_command,
            wait_seconds=options["wait"],
        )
        status = asyncio.run(run)
    except (ProgramNotFound, ProgramNotRunnable) as error:
        report_error(error, context.obj)
        status = error.exit_status
    finally:
        service.close()
    context.exit(status)


def _same_user(settings: SidecarSettings) -> Callable[[Scope], bool] | None:
    """For the interfaces that ask for no secret: this is no pod, and others may work on the machine."""
    from wif.serve.peer_user import same_user_check  # noqa: PLC0415  # only for this command

    served = [name for name in ("gce_metadata", "imds") if getattr(settings, name)]
    check = same_user_check() if served else None
    if served and check is None:
        _LOGGER.warning(
            "this system does not say whose a connection is: every user of this machine who finds the port can get"
            " tokens, because %s asks for no secret",
            " and ".join(served),
        )
    return check


def _child(program: Sequence[str], wanted: EndpointVariables, options: Any) -> Child:
    from wif.serve.child import Child  # noqa: PLC0415  # loaded by now

    environ = wanted.applied_to(os.environ)
    left_out = sorted(set(os.environ) - set(environ))
    if left_out:
        _LOGGER.warning("left out of the program's environment: %s", ", ".join(left_out))
    return Child(program, environ=environ, kill_after_seconds=options["kill_after"])


def _token_words(text: str | None) -> list[str] | None:
    if text is None:
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise click.UsageError(f"--token-command: {error}") from error
    if not words:
        raise click.UsageError("--token-command is empty")
    return words


def _wanted(settings: SidecarSettings, server: HttpServer, header: str, directory: str) -> EndpointVariables:
    from wif.cli.run_environment import without_other_files  # noqa: PLC0415  # only for this command
    from wif.clouds.endpoint_variables import endpoint_variables, endpoints_of  # noqa: PLC0415

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
    endpoints = endpoints_of(settings, url=server.url, identity_header=header, region=region)
    wanted = endpoint_variables(endpoints, os.environ)
    return without_other_files(wanted, endpoints.clouds, os.environ, directory)


def _show(context: click.Context, wanted: EndpointVariables) -> None:
    from wif.clouds.endpoint_variables import shown  # noqa: PLC0415  # loaded by now

    variables = shown(wanted.variables)
    if wants_json(context):
        print_json({"variables": variables, "absent": dict(wanted.absent)})
        return
    click.echo("# Set for the program. Port, directory and secrets are new in each run, and gone at its end.")
    for name, value in sorted(variables.items(), key=_by_name):
        click.echo(f"{name}={value}")
    if wanted.absent:
        click.echo("# Set here, and kept from the program:")
    for name, reason in sorted(wanted.absent.items(), key=_by_name):
        click.echo(f"# {name} is left out: it {reason}")


def _by_name(pair: tuple[str, str]) -> tuple[str, str]:
    return pair[0].upper(), pair[0]  # no_proxy beside NO_PROXY
