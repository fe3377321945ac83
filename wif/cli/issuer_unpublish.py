"""``wif issuer unpublish``: the end of an issuer."""

from __future__ import annotations

__all__ = ["unpublish_command"]

import click

from wif.cli.frame import command, wants_json
from wif.cli.issuer_options import issuer_options, the_one_issuer
from wif.cli.output import print_json
from wif.errors import RefusedError


@command(
    "unpublish",
    example="wif issuer unpublish --issuer https://issuer.example.com --public-key sa.pub --to file:///srv/issuer",
)
@issuer_options()
@click.option("--yes", is_flag=True, help="Take the documents away; without it the plan is printed.")
@click.pass_context
def unpublish_command(context: click.Context, /, *, yes: bool, **_: object) -> None:
    """Print what has to go in which order, and with --yes take the documents away.

    It is refused while something is seen to depend on them: an API server that writes this issuer into tokens, a key
    that still signs, another issuer at the same place. What trusts the issuer in the clouds cannot be seen from here.
    """
    from wif.issuer.unpublish import Unpublisher  # noqa: PLC0415  # after the options are known to be right

    chosen = the_one_issuer(context)
    report = Unpublisher(chosen.settings, name=chosen.name, others=chosen.known).run(confirmed=yes)
    if report.blockers and yes:
        raise RefusedError(f"the issuer {report.issuer} is still used: {'; '.join(report.blockers)}", code="still-used")
    if wants_json(context):
        from wif.cli.issuer_json import unpublish_object  # noqa: PLC0415  # only with --json

        print_json(unpublish_object(report))
    else:
        from wif.cli.issuer_text import show_unpublish  # noqa: PLC0415  # only without --json

        show_unpublish(report)
        if not report.done:
            click.echo("nothing was taken away; when the first two steps are done, run it again with --yes", err=True)
    context.exit(report.exit_status)
