"""``wif issuer verify``: what a relying party sees."""

from __future__ import annotations

__all__ = ["verify_command"]

import click

from wif.cli.frame import command, wants_json
from wif.cli.issuer_options import issuer_options, the_one_issuer
from wif.cli.output import print_json


@command("verify", example="wif issuer verify --issuer https://issuer.example.com --public-key sa.pub")
@issuer_options()
@click.pass_context
def verify_command(context: click.Context, /, **_: object) -> None:
    """Fetch both documents through the issuer's URL, as a cloud does, and check all that a cloud would.

    Keys are compared with the sources: with none named and no cluster at hand, only what the documents say of
    themselves is checked. Where API servers are asked, a live token is verified too.

    Exit status: 0 a cloud can use the issuer, 1 it cannot, 3 keys are missing, or somebody else has changed something.
    """
    from wif.issuer.outside import verify_issuer  # noqa: PLC0415  # after the options are known to be right

    chosen = the_one_issuer(context)
    report = verify_issuer(chosen.settings, name=chosen.name)
    if wants_json(context):
        from wif.cli.issuer_json import outside_object  # noqa: PLC0415  # only with --json

        print_json(outside_object(report))
    else:
        from wif.cli.issuer_text import show_outside  # noqa: PLC0415  # only without --json

        show_outside(report)
    context.exit(report.exit_status)
