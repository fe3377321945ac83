"""``wif token``: look at a subject token, request one from the Kubernetes API, print the projected one."""

from __future__ import annotations

__all__ = ["token_command"]

import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from wif.cli.frame import Command, LazyGroup, wants_json
from wif.cli.output import print_json, print_rows, warn
from wif.core.token import UnverifiedToken, read_token
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.edges.token_request import BoundObject

token_command = LazyGroup(
    "token", lazy={}, help="Look at, request or print a subject token.", example="wif token inspect token"
)
"""The group."""

_FILE_VARIABLES = ("WIF_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_FEDERATED_TOKEN_FILE")
_JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
_TYPES = (_JWT_TYPE, "urn:ietf:params:oauth:token-type:id_token")
_MARKS = {"refused": "✗", "unusual": "!", "good": "✓"}
_STYLES = {"✗": "red", "!": "yellow", "✓": "green"}


@token_command.command("inspect", cls=Command, example="wif token inspect token")
@click.argument("file", required=False)
@click.pass_context
def _inspect(context: click.Context, /, file: str | None) -> None:
    """Show what FILE (- for stdin) claims, and what each cloud will say about it.

    Nothing is verified, and the signature is never printed. Default: the projected token of the environment.
    """
    from wif.cli.inspection import inspect, is_local_sts, times  # noqa: PLC0415  # only for this command

    now = time.time()
    token = _read(file, check_times=False)
    found = inspect(token, now)
    if is_local_sts(token):
        warn("this token is from the local STS; it opens no real cloud")
    if wants_json(context):
        print_json(
            {
                "origin": token.origin,
                "header": dict(token.unverified_header),
                "claims": dict(token.unverified_claims),
                **times(token, now),
                "local_sts": is_local_sts(token),
                "clouds": {cloud: [finding._asdict() for finding in findings] for cloud, findings in found.items()},
            }
        )
        return
    print_rows(f"The token of {token.origin}, not verified", _rows(token, now))
    for cloud, findings in found.items():
        print_rows(cloud, [(cloud, f"{_MARKS[one.severity]} {one.clause}: {one.text}") for one in findings], _STYLES)


@token_command.command(
    "request",
    cls=Command,
    example="wif token request --namespace default --service-account app --audience sts.amazonaws.com",
)
@click.option("--namespace", required=True, help="Namespace of the ServiceAccount.")
@click.option("--service-account", required=True, help="Name of the ServiceAccount.")
@click.option("--audience", "audiences", multiple=True, help="Audience; repeatable. Default: the API server's.")
@click.option("--expiration-seconds", type=click.INT, default=3600, show_default=True, help="Lifetime asked for.")
@click.option("--bound-object", metavar="KIND/NAME[/UID]", help="Pod, Secret or Node with which the token ends.")
@click.option("--kubeconfig", metavar="PATH", help="Default: the cluster this runs in, else KUBECONFIG.")
@click.option("--context", "kube_context", help="Context of the kubeconfig.")
@click.pass_context
def _request(context: click.Context, /, **options: Any) -> None:
    """Ask the Kubernetes API for a token of a ServiceAccount (TokenRequest) and print it."""
    from wif.edges.sources import TokenRequestSource  # noqa: PLC0415  # only for this command

    source = TokenRequestSource(
        namespace=options["namespace"],
        service_account=options["service_account"],
        audience=options["audiences"],
        expiration_seconds=options["expiration_seconds"],
        bound_object=_bound(options["bound_object"]),
        kubeconfig=options["kubeconfig"],
        context=options["kube_context"],
    )
    token = read_token(source.read(), origin=source.origin, now=time.time())
    if wants_json(context):
        print_json(_document(token))
    else:
        click.echo(token.raw)


@token_command.command("print", cls=Command, example="wif token print --format executable --file token")
@click.option("--file", "--token-file", "file", metavar="PATH", help="Default: the projected file; - reads stdin.")
@click.option("--audience", help="Audience that the token must have.")
@click.option("--format", "output_format", type=click.Choice(["raw", "json", "executable"]), help="Default: raw.")
@click.pass_context
def _print(context: click.Context, /, file: str | None, audience: str | None, output_format: str | None) -> None:
    """Print the subject token, as it is or as an external_account file's executable source must."""
    if wants_json(context) and output_format not in (None, "json"):
        raise click.UsageError(f"--json means --format json, but --format {output_format} is given")
    token = _read(file, audience=audience)
    if output_format == "executable":
        asked = os.environ.get("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", "")
        answer = {
            "version": 1,
            "success": True,
            "token_type": asked if asked in _TYPES else _JWT_TYPE,
            "id_token": token.raw,
            "expiration_time": int(token.expires_at),
        }
        click.echo(json.dumps(answer))
    elif wants_json(context) or output_format == "json":
        print_json(_document(token))
    else:
        click.echo(token.raw)


def _read(file: str | None, *, audience: str | None = None, check_times: bool = True) -> UnverifiedToken:
    from wif.core.freshness import MAX_SUBJECT_TOKEN_BYTES  # noqa: PLC0415  # only for this command
    from wif.edges.sources import ProjectedFile  # noqa: PLC0415  # only for this command

    path = file or next((os.environ[name] for name in _FILE_VARIABLES if os.environ.get(name)), None)
    if path is None:
        raise ConfigurationError(
            "no token file is named", code="config-missing", hint=f"name one, or set {', '.join(_FILE_VARIABLES)}"
        )
    raw: str | bytes
    if path == "-":
        raw, origin = sys.stdin.buffer.read(MAX_SUBJECT_TOKEN_BYTES + 2), "standard input"
    else:
        raw, origin = ProjectedFile(path).read(), path
    return read_token(raw, origin=origin, now=time.time(), audience=audience, check_times=check_times)


def _bound(text: str | None) -> BoundObject | None:
    from wif.edges.token_request import BoundObject  # noqa: PLC0415  # only for this command

    if text is None:
        return None
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise click.UsageError("--bound-object is KIND/NAME or KIND/NAME/UID")
    return BoundObject(kind=parts[0].capitalize(), name=parts[1], uid=parts[2] if len(parts) == 3 else None)


def _document(token: UnverifiedToken) -> dict[str, Any]:
    return {
        "token": token.raw,
        "issuer": token.issuer,
        "subject": token.subject,
        "audience": list(token.audience),
        "expires_at": _stamp(token.expires_at),
    }


def _rows(token: UnverifiedToken, now: float) -> list[tuple[str, str]]:
    rows = [(f"header {name}", _shown(value)) for name, value in token.unverified_header.items()]
    rows += [(f"claim {name}", _shown(value)) for name, value in token.unverified_claims.items()]
    if token.issued_at is not None:
        rows.append(("age", _duration(now - token.issued_at)))
    left = token.expires_at - now
    return [*rows, ("time left", _duration(left) if left > 0 else f"none, expired {_duration(-left)} ago")]


def _shown(value: Any) -> str:
    """A claim as one line; what a terminal would act on is escaped."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def _duration(seconds: float) -> str:
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole % 86400 // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
