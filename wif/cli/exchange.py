"""``wif exchange``: a subject token in, a cloud's credentials out."""

from __future__ import annotations

__all__ = ["exchange_command"]

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wif.cli.frame import Command, LazyGroup, wants_json
from wif.cli.identities import aws_exchanger, azure_exchanger, gcp_exchanger, token_file_of
from wif.cli.options import identity_options, load_settings
from wif.cli.output import print_json, warn
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.config import Settings
    from wif.core.credentials import AccessToken, AwsCredentials
    from wif.edges.credential_cache import CredentialCache

F = TypeVar("F", bound=Callable[..., Any])

exchange_command = LazyGroup(
    "exchange",
    lazy={},
    help="Exchange a ServiceAccount token for a cloud's credentials.",
    example="wif exchange aws --role-arn arn:aws:iam::111122223333:role/app --file token",
)
"""The group."""

LOCK_SECONDS = 35.0
"""As long as one exchange with all its attempts may take, and a little more."""

_LOCAL_STS = "these credentials are from the local STS; they open no real cloud"


def _output(*formats: str) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        function = click.option(
            "--timeout", "timeout_seconds", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait."
        )(function)
        return click.option("--format", "output_format", type=click.Choice(formats), help="Default: json.")(function)

    return decorate


@exchange_command.command(
    "aws", cls=Command, example="wif exchange aws --role-arn arn:aws:iam::111122223333:role/app --file token"
)
@identity_options("aws")
@_output("json", "env", "credential-process")
@click.option("--cache", is_flag=True, help="Keep credential-process answers on disk, in plain text.")
@click.option("--cache-dir", metavar="DIR", help="Default: below XDG_RUNTIME_DIR or /tmp.")
@click.pass_context
def _aws(
    context: click.Context,
    /,
    output_format: str | None,
    timeout_seconds: float | None,
    cache: bool,
    **_: object,
) -> None:
    """AssumeRoleWithWebIdentity: the keys of a role, or of the last one of a chain."""
    chosen = _format(context, output_format)
    settings = load_settings(context)
    if chosen == "credential-process":
        if cache:
            text = _cached_answer(context, settings, timeout_seconds)
        else:
            text = _dumps(process_answer(aws_exchanger(settings, os.environ).credentials(timeout=timeout_seconds)))
        click.echo(text)
        return
    if cache:
        raise click.UsageError("--cache is for --format credential-process")
    exchanger = aws_exchanger(settings, os.environ)
    keys = exchanger.credentials(timeout=timeout_seconds)
    _say_local(keys.local_sts)
    if chosen == "env":
        _print_exports(_aws_variables(keys, exchanger.region))
        return
    print_json(
        {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "session_token": keys.session_token,
            "expires_at": _stamp(keys.expires_at),
            "assumed_role_arn": keys.assumed_role_arn,
            "account_id": keys.account_id,
            "region": exchanger.region,
            "local_sts": keys.local_sts,
        }
    )


@exchange_command.command(
    "gcp",
    cls=Command,
    example="wif exchange gcp --provider "
    "projects/123456789012/locations/global/workloadIdentityPools/pool/providers/cluster --file token",
)
@identity_options("gcp")
@_output("json", "env", "header")
@click.option("--id-token", is_flag=True, help="An ID token of the service account; needs --audience.")
@click.option("--audience", metavar="AUDIENCE", help="Audience of the ID token.")
@click.pass_context
def _gcp(
    context: click.Context,
    /,
    output_format: str | None,
    timeout_seconds: float | None,
    id_token: bool,
    audience: str | None,
    **_: object,
) -> None:
    """Token exchange: an access token of the principal or of a service account, or an ID token."""
    chosen = _format(context, output_format)
    if id_token != (audience is not None):
        raise click.UsageError("--id-token and --audience go together; of the subject token it is --subject-audience")
    exchanger = gcp_exchanger(load_settings(context), os.environ)
    if audience is not None:
        token = exchanger.id_token(audience=audience, timeout=timeout_seconds)
        variables = {"GOOGLE_ID_TOKEN": token.token}
    else:
        token = exchanger.credentials(timeout=timeout_seconds)
        # gcloud reads the first one, Terraform's provider the second.
        variables = {"CLOUDSDK_AUTH_ACCESS_TOKEN": token.token, "GOOGLE_OAUTH_ACCESS_TOKEN": token.token}
        if exchanger.project_id:
            variables["GOOGLE_CLOUD_PROJECT"] = exchanger.project_id
    _print_token(token, chosen, variables, {"audience": audience} if audience else {"scopes": list(token.scopes)})


@exchange_command.command(
    "azure",
    cls=Command,
    example="wif exchange azure --tenant-id 11111111-2222-3333-4444-555555555555 "
    "--client-id 66666666-7777-8888-9999-000000000000 --scope https://management.azure.com/.default --file token",
)
@identity_options("azure")
@_output("json", "env", "header")
@click.pass_context
def _azure(context: click.Context, /, output_format: str | None, timeout_seconds: float | None, **_: object) -> None:
    """Client credentials with the token as the assertion: an access token of an application."""
    chosen = _format(context, output_format)
    settings = load_settings(context)
    exchanger = azure_exchanger(settings, os.environ)
    if not settings.azure.scope:
        raise ConfigurationError(
            "no scope is named for azure",
            code="config-missing",
            hint="use --scope RESOURCE/.default, e.g. https://management.azure.com/.default",
        )
    token = exchanger.credentials(timeout=timeout_seconds)
    _print_token(token, chosen, {"AZURE_ACCESS_TOKEN": token.token}, {"scopes": list(token.scopes)})


def process_answer(keys: AwsCredentials) -> dict[str, Any]:
    """What ``credential_process`` must print."""
    answer: dict[str, Any] = {
        "Version": 1,
        "AccessKeyId": keys.access_key_id,
        "SecretAccessKey": keys.secret_access_key,
        "SessionToken": keys.session_token,
        "Expiration": _stamp(keys.expires_at),
    }
    return {**answer, "AccountId": keys.account_id} if keys.account_id else answer


def _cached_answer(context: click.Context, settings: Settings, timeout_seconds: float | None) -> str:
    """A warm entry's answer, or a live exchange that the next process finds warm."""
    from wif.cli.warm import cache_key, cache_request  # noqa: PLC0415  # only where a cache is asked for
    from wif.edges.credential_cache import CacheUnusable, CredentialCache  # noqa: PLC0415  # only then

    exchanger = aws_exchanger(settings, os.environ)
    request = cache_request(_given(context), os.environ)
    path = token_file_of(settings, "aws", os.environ)
    if request is None or path == "-":
        warn("no cache for these options: a token from stdin has no entry")
        return _dumps(process_answer(exchanger.credentials(timeout=timeout_seconds)))
    token = exchanger.subject_token()  # first whose token it is, then what is kept for it
    key = cache_key(
        request,
        issuer=token.issuer,
        subject=token.subject,
        uid=token.service_account_uid or "",
        pod=token.pod or "",
    )
    try:
        cache = CredentialCache(request.directory, create=True)
    except CacheUnusable as error:
        warn(f"the credential cache is not used: {error}")
        return _dumps(process_answer(exchanger.credentials(timeout=timeout_seconds)))
    with cache, _one_process(cache, key):
        warm = _read_or_warn(cache, key)
        if warm is not None:
            return warm
        keys = exchanger.credentials(timeout=timeout_seconds)
        answer = process_answer(keys)
        try:
            cache.write(
                key,
                answer,
                now=time.time(),
                expires_at=keys.expires_at.timestamp(),
                lifetime_seconds=keys.lifetime_seconds,
            )
        except CacheUnusable as error:
            warn(f"the credentials are not kept: {error}")
        return _dumps(answer)


@contextmanager
def _one_process(cache: CredentialCache, key: str) -> Iterator[None]:
    """Hold the entry's lock; without one, several processes may exchange at once, and all of them are served."""
    with ExitStack() as held:
        try:
            held.enter_context(cache.lock(key, timeout_seconds=LOCK_SECONDS))
        except ConfigurationError as error:
            warn(f"the credential cache has no lock: {error.message}")
        yield


def _read_or_warn(cache: CredentialCache, key: str) -> str | None:
    from wif.edges.credential_cache import CacheUnusable  # noqa: PLC0415  # only where a cache is asked for

    try:
        return cache.read(key, time.time())
    except CacheUnusable as error:
        warn(f"the credential cache's entry is not used: {error}")
        return None


def _given(context: click.Context) -> list[str]:
    """The command's own arguments, as they were typed."""
    words: list[str] = context.obj
    return words[2:]


def _format(context: click.Context, chosen: str | None) -> str:
    if wants_json(context) and chosen not in (None, "json"):
        raise click.UsageError(f"--json means --format json, but --format {chosen} is given")
    return chosen or "json"


def _aws_variables(keys: AwsCredentials, region: str | None) -> dict[str, str]:
    variables = {
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        "AWS_SESSION_TOKEN": keys.session_token,
        "AWS_CREDENTIAL_EXPIRATION": _stamp(keys.expires_at),
    }
    if region:
        variables |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    return variables


def _print_token(token: AccessToken, chosen: str, variables: Mapping[str, str], more: Mapping[str, Any]) -> None:
    _say_local(token.local_sts)
    if chosen == "header":
        click.echo(f"Authorization: Bearer {token.token}")
    elif chosen == "env":
        _print_exports(variables)
    else:
        print_json(
            {
                "token": token.token,
                "token_type": "Bearer",
                "expires_at": _stamp(token.expires_at),
                **more,
                "local_sts": token.local_sts,
            }
        )


def _print_exports(variables: Mapping[str, str]) -> None:
    from wif.core.quoting import shell_exports  # noqa: PLC0415  # only for this format

    click.echo(shell_exports(variables), nl=False)


def _say_local(is_local: bool) -> None:
    if is_local:
        warn(_LOCAL_STS)


def _stamp(moment: Any) -> str:
    text: str = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return text


def _dumps(answer: Mapping[str, Any]) -> str:
    import json  # noqa: PLC0415  # loaded by now

    return json.dumps(answer)
