"""``wif keys``: rotate an issuer's keys, each step gated on what is seen from outside."""

from __future__ import annotations

__all__ = ["keys_command"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from wif.cli.frame import Command, LazyGroup, wants_json
from wif.cli.issuer_options import issuer_options, the_one_issuer
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.edges.kube_answers import ServiceAccountName
    from wif.issuer.rotate import Rotation, RotationReport

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

_FILES = "issuer__public_keys"
_TO = "--issuer https://oidc.example.com --to file:///srv/issuer"


def _command(name: str, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    def decorate(function: Callable[..., Any]) -> click.Command:
        options = issuer_options(rotation=True)(function)
        account = click.option(
            "--service-account",
            metavar="NAMESPACE/NAME",
            help="Whose token shows which key signs. Default: this publisher's own.",
        )(options)
        return keys_command.command(name, cls=Command, example=example, log_level="warning")(account)

    return decorate


@_command("status", f"wif keys status {_TO}")
@click.option("--rebuild", is_flag=True, help="Make a lost state anew from what the sources vouch for.")
@click.pass_context
def _status(context: click.Context, /, rebuild: bool, **_: Any) -> int:
    """Show where each key stands, what it waits for, and the next step. Writes nothing but the state."""
    return _show(context, _rotation(context).status(rebuild=rebuild))


@_command("stage", f"wif keys stage --public-key new.pub {_TO}")
@click.pass_context
def _stage(context: click.Context, /, **_: Any) -> int:
    """Publish the new key of --public-key before any API server has it, and print the flags that follow."""
    files: tuple[str, ...] = ()
    if context.get_parameter_source(_FILES) is ParameterSource.COMMANDLINE:
        files = context.params.pop(_FILES)  # the new key, beside the sources that variables and file name
    return _show(context, _rotation(context).stage(files))


@_command("advance", f"wif keys advance {_TO}")
@click.pass_context
def _advance(context: click.Context, /, **_: Any) -> int:
    """Publish what has to be published, look at everything, and say what is next with the exact flags."""
    return _show(context, _rotation(context).advance())


@_command("retire", f"wif keys retire {_TO} --longest-token-lifetime 24h")
@click.argument("kid", required=False)
@click.pass_context
def _retire(context: click.Context, /, kid: str | None, **_: Any) -> int:
    """Take the key KID, or the one that is draining, out of the published set: it has outlived its tokens."""
    return _show(context, _rotation(context).retire(kid))


@_command("remove", f"wif keys remove KID --yes {_TO}")
@click.argument("kid")
@click.option("--yes", is_flag=True, help="Do it. Without it only the consequences are printed.")
@click.option("--reason", default="", help="To be recorded with it.")
@click.pass_context
def _remove(context: click.Context, /, kid: str, yes: bool, reason: str, **_: Any) -> int:
    """Take the key KID out at once, e.g. a leaked one. Its tokens are refused from then on."""
    report = _rotation(context).remove(kid, reason=reason, confirmed=yes)
    return _confirmed(context, report, yes=yes)


@_command("abort", f"wif keys abort KID {_TO}")
@click.argument("kid")
@click.pass_context
def _abort(context: click.Context, /, kid: str, **_: Any) -> int:
    """Give up the staged key KID, which never signed."""
    return _show(context, _rotation(context).abort(kid))


@_command("forget", f"wif keys forget KID {_TO}")
@click.argument("kid")
@click.option("--force", is_flag=True, help="Also where it is still to be seen, and then comes back.")
@click.pass_context
def _forget(context: click.Context, /, kid: str, force: bool, **_: Any) -> int:
    """Forget that the key KID was removed."""
    return _show(context, _rotation(context).forget(kid, force=force))


@_command("adopt", f"wif keys adopt KID --yes {_TO}")
@click.argument("kid")
@click.option("--yes", is_flag=True, help="Do it. Without it only the consequences are printed.")
@click.option("--reason", default="", help="To be recorded with it.")
@click.pass_context
def _adopt(context: click.Context, /, kid: str, yes: bool, reason: str, **_: Any) -> int:
    """Take over the key KID of another publisher, which stands at a target and drains."""
    report = _rotation(context).adopt(kid, reason=reason, confirmed=yes)
    return _confirmed(context, report, yes=yes)


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


def _show(context: click.Context, report: RotationReport) -> int:
    from wif.cli.keys_output import print_report  # noqa: PLC0415  # not for --help

    print_report(report, as_json=wants_json(context))
    return report.exit_status


def _confirmed(context: click.Context, report: RotationReport, *, yes: bool) -> int:
    status = _show(context, report)
    if not yes:
        raise click.UsageError("nothing was changed: read the consequences above, then add --yes", ctx=context)
    return status
