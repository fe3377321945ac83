"""``wif issuer publish``: also the program ``publish-oidc-discovery``."""

from __future__ import annotations

__all__ = ["publish_command"]

from typing import TYPE_CHECKING

import click

from wif.cli.frame import command, report_error, wants_json
from wif.cli.issuer_options import choose_issuers, issuer_options
from wif.cli.output import print_json, print_json_line
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.issuer.publish import Publisher

_PRINT = ("discovery", "jwks", "both", "setup")


@command(
    "publish",
    example="wif issuer publish --issuer https://issuer.example.com --public-key sa.pub --to file:///srv/issuer",
)
@issuer_options(several=True)
@click.option("--dry-run", is_flag=True, help="Write nothing; print a diff for each target. Status 3: there is one.")
@click.option("--restore", is_flag=True, help="Also drop unknown keys and foreign documents that somebody else wrote.")
@click.option(
    "--print",
    "printed",
    type=click.Choice(_PRINT),
    help="Print documents, for Git or Terraform, or the commands that set the targets up; publish nothing.",
)
@click.pass_context
def publish_command(
    context: click.Context, /, *, dry_run: bool, restore: bool, printed: str | None, **_: object
) -> None:
    """Publish an issuer's discovery document and key set to every target.

    Keys come from every API server of the cluster, from PEM files, or from a key set, and only from there: an unknown
    key at a target is reported and copied nowhere. Targets only gain keys; a key goes by wif keys retire or remove.

    Exit status: 0 every target is as it should be, 1 a target failed (the others are done), 2 wrong settings,
    3 somebody else's change was found, also where it was repaired.
    """
    chosen = choose_issuers(context)
    if printed is not None:
        from wif.cli.issuer_documents import print_documents  # noqa: PLC0415  # only with --print

        print_documents(context, chosen, printed)
        return
    from wif.issuer.neighbours import Neighbours  # noqa: PLC0415  # after the options are known to be right
    from wif.issuer.publish import Publisher  # noqa: PLC0415

    neighbours = Neighbours(chosen[0].known) if chosen[0].known else None
    statuses: set[int] = set()
    for one in chosen:
        run = Publisher(one.settings, name=one.name, neighbours=neighbours)
        statuses.add(_publish(context, run, dry_run=dry_run, restore=restore, single=len(chosen) == 1))
    context.exit(next((status for status in (3, 1, 2) if status in statuses), 0))


def _publish(context: click.Context, run: Publisher, *, dry_run: bool, restore: bool, single: bool) -> int:
    try:
        report = run.run(dry_run=dry_run, restore=restore)
    except WifError as error:
        if single:
            raise
        status = report_error(error, [])
        if wants_json(context):
            from wif.cli.issuer_json import error_object  # noqa: PLC0415  # only with --json

            print_json_line({"error": error_object(error)})
        return status
    if wants_json(context):
        from wif.cli.issuer_json import publish_object  # noqa: PLC0415  # only with --json

        (print_json if single else print_json_line)(publish_object(report))
    else:
        from wif.cli.issuer_text import show_publish  # noqa: PLC0415  # only without --json

        show_publish(report)
    return report.exit_status
