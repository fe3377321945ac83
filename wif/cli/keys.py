"""``wif keys``: rotate an issuer's keys, each step gated on what is seen from outside."""

from __future__ import annotations

__all__ = ["keys_command"]

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from wif.cli.frame import Command, LazyGroup, wants_json
from wif.cli.issuer_options import issuer_options, the_one_issuer
from wif.cli.output import warn
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.edges.kube_answers import ServiceAccountName
    from wif.issuer.rotate import Rotation
    from wif.issuer.rotation_report import RotationReport

keys_command = LazyGroup(
    "keys",
    lazy={},
    help="""Rotate the keys of an issuer without a refused token.

    staged, published, verified, waiting, signing, draining, retired: each step is taken only when every target, the
    public address and every API server show that it is safe. Any machine can go on: nothing is kept but the state.
    """,
    example="wif keys status --help",
)
"""The group."""

_UNCONFIRMED = 2
"""The exit status of wrong usage: what is asked for needs --yes."""

_HYPHENATED = re.compile(r"-[A-Za-z0-9_-]{42}")
"""A Kubernetes' key id that begins with a hyphen, as one of 64 does: base64url of 32 bytes."""

_FILES = "issuer__public_keys"
_TO = "--issuer https://oidc.example.com --to file:///srv/issuer"


class _KeysCommand(Command):
    """One that may name a key: at any place, as every other argument, whatever it begins with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's, with such a key id behind the ``--`` that click asks for."""
        before = args[: args.index("--")] if "--" in args else args
        for place, word in enumerate(before):
            if _HYPHENATED.fullmatch(word):
                args = [*args[:place], *args[place + 1 :], "--", word]
                break
        return super().parse_args(ctx, args)


def _command(name: str, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    def decorate(function: Callable[..., Any]) -> click.Command:
        options = issuer_options(rotation=True)(function)
        account = click.option(
            "--service-account",
            metavar="NAMESPACE/NAME",
            help="Whose token shows which key signs. Default: this publisher's own.",
        )(options)
        return keys_command.command(name, cls=_KeysCommand, example=example, log_level="warning")(account)

    return decorate


@_command("status", f"wif keys status {_TO}")
@click.option("--rebuild", is_flag=True, help="Make a lost state anew from what the sources vouch for.")
@click.pass_context
def _status(context: click.Context, /, rebuild: bool, **_: Any) -> int:
    """Show where each key stands, what it waits for, and the next step. Writes nothing but the state."""
    return _run(context, lambda rotation: rotation.status(rebuild=rebuild))


@_command("stage", f"wif keys stage --public-key new.pub {_TO}")
@click.pass_context
def _stage(context: click.Context, /, **_: Any) -> int:
    """Publish the new key of --public-key before any API server has it, and print the flags that follow."""
    files: tuple[str, ...] = ()
    if context.get_parameter_source(_FILES) is ParameterSource.COMMANDLINE:
        files = context.params.pop(_FILES)  # the new key, beside the sources that variables and file name
    return _run(context, lambda rotation: rotation.stage(files))


@_command("advance", f"wif keys advance {_TO}")
@click.pass_context
def _advance(context: click.Context, /, **_: Any) -> int:
    """Publish what has to be published, look at everything, and say what is next with the exact flags."""
    return _run(context, lambda rotation: rotation.advance())


@_command("retire", f"wif keys retire {_TO} --longest-token-lifetime 24h")
@click.argument("kid", required=False)
@click.pass_context
def _retire(context: click.Context, /, kid: str | None, **_: Any) -> int:
    """Take the key KID, or the one that is draining, out of the published set: it has outlived its tokens."""
    return _run(context, lambda rotation: rotation.retire(kid))


@_command("remove", f"wif keys remove KID --yes {_TO}")
@click.argument("kid")
@click.option("--yes", is_flag=True, help="Do it. Without it only the consequences are printed.")
@click.option("--reason", default="", help="To be recorded with it.")
@click.pass_context
def _remove(context: click.Context, /, kid: str, yes: bool, reason: str, **_: Any) -> int:
    """Take the key KID out at once, e.g. a leaked one. Its tokens are refused from then on."""
    return _run(context, lambda rotation: rotation.remove(kid, reason=reason, confirmed=yes), confirmed=yes)


@_command("abort", f"wif keys abort KID {_TO}")
@click.argument("kid")
@click.pass_context
def _abort(context: click.Context, /, kid: str, **_: Any) -> int:
    """Give up the staged key KID, which never signed."""
    return _run(context, lambda rotation: rotation.abort(kid))


@_command("forget", f"wif keys forget KID {_TO}")
@click.argument("kid")
@click.option("--force", is_flag=True, help="Also where it is still to be seen, and then comes back.")
@click.pass_context
def _forget(context: click.Context, /, kid: str, force: bool, **_: Any) -> int:
    """Forget that the key KID was removed."""
    return _run(context, lambda rotation: rotation.forget(kid, force=force))


@_command("adopt", f"wif keys adopt KID --yes {_TO}")
@click.argument("kid")
@click.option("--yes", is_flag=True, help="Do it. Without it only the consequences are printed.")
@click.option("--reason", default="", help="To be recorded with it.")
@click.pass_context
def _adopt(context: click.Context, /, kid: str, yes: bool, reason: str, **_: Any) -> int:
    """Take over the key KID of another publisher, which stands at a target and drains."""
    return _run(context, lambda rotation: rotation.adopt(kid, reason=reason, confirmed=yes), confirmed=yes)


@_command("plan", "wif keys plan --issuer https://old.example.com --migrate-to https://new.example.com")
@click.option("--migrate-to", required=True, metavar="URL", help="The issuer to be.")
@click.pass_context
def _plan(context: click.Context, /, migrate_to: str, **_: Any) -> int:
    """Print how the issuer is replaced by another without a refused token. Nothing is changed."""
    from wif.cli.keys_output import print_plan  # noqa: PLC0415  # only for this command

    rotation = _rotation(context)
    print_plan(rotation.migration(migrate_to), as_json=wants_json(context))
    return 0


# -- parts ---------------------------------------------------------------------------------------------------------


def _rotation(context: click.Context) -> Rotation:
    from wif.issuer.rotate import Rotation  # noqa: PLC0415  # not for --help

    account = context.params.get("service_account")
    chosen = the_one_issuer(context)
    return Rotation(chosen.settings, name=chosen.name, account=None if account is None else _account(account))


def _account(text: str) -> ServiceAccountName:
    from wif.edges.kube_answers import ServiceAccountName  # noqa: PLC0415  # not for --help

    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise ConfigurationError(
            f"--service-account {text!r} is not NAMESPACE/NAME",
            code="config-invalid",
            hint="write --service-account wif-system/publisher",
        )
    return ServiceAccountName(namespace, name)


def _run(context: click.Context, step: Callable[[Rotation], RotationReport], *, confirmed: bool = True) -> int:
    """Take a step and print what came of it."""
    from wif.cli.keys_output import print_report  # noqa: PLC0415  # not for --help
    from wif.issuer.rotation_report import UnsafeStep  # noqa: PLC0415  # not for --help

    try:
        report = step(_rotation(context))
    except UnsafeStep as error:
        if wants_json(context) or len(error.reasons) < 2:
            raise
        for reason in error.reasons:
            click.echo(f"reason: {reason}", err=True)
        raise UnsafeStep(f"{error.what}, for the {len(error.reasons)} reasons above", hint=error.hint) from error
    print_report(report, as_json=wants_json(context))
    if confirmed:
        return report.exit_status
    warn("nothing was changed: read the consequences, then run it again with --yes")
    return _UNCONFIRMED
