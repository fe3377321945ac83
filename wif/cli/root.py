"""The root command: its groups are imported when they are used, and every failure ends in two lines."""

from __future__ import annotations

__all__ = ["cli", "run"]

import os
import sys
from collections.abc import Sequence

import click

from wif.cli.frame import LazyGroup, report_error, report_usage_error, surprise
from wif.errors import WifError

_HELP = """Turn a Kubernetes ServiceAccount token into AWS, GCP and Azure credentials.

Results go to stdout, everything else to stderr. Exit status: 0 done, 1 refused or failed, 2 wrong usage or
configuration, 3 drift or tampering found.
"""

_COMMANDS = {
    "cache": ("wif.cli.cache", "Clear the cache of credential-process answers."),
    "config": ("wif.cli.config", "Write configuration that unmodified SDKs and tools read."),
    "demo": ("wif.cli.demo", "Show the whole way on this machine, from a cluster's key to three clouds."),
    "emulator": ("wif.cli.emulator", "Run the local STS of three clouds."),
    "exchange": ("wif.cli.exchange", "Exchange a ServiceAccount token for a cloud's credentials."),
    "issuer": ("wif.cli.issuer", "Publish, verify, serve and guard an issuer's discovery documents."),
    "keys": ("wif.cli.keys", "Rotate an issuer's keys, each step gated on what is seen from outside."),
    "run": ("wif.cli.run", "Run a program whose SDKs find the clouds' credentials."),
    "sidecar": ("wif.cli.sidecar", "Serve the clouds' credentials beside a program, as SDKs look for them."),
    "token": ("wif.cli.token", "Look at, request or print a subject token."),
    "webhook": ("wif.cli.webhook", "Inject the clouds' identities into pods, as an admission webhook."),
    "whoami": ("wif.cli.whoami", "Ask a cloud what it calls this workload."),
}

_INTERRUPTED = 130
"""As a shell says of a program that SIGINT ended."""


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from wif import __version__  # noqa: PLC0415  # only when it is asked for

        click.echo(f"wif {__version__}")
        context.exit()


cli = LazyGroup(
    "wif",
    lazy=_COMMANDS,
    help=_HELP,
    example="wif --version",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version.",
        )
    ],
)
"""The root command."""


def run(arguments: Sequence[str], *, owns_process: bool = False) -> int:
    """Run the command line; the exit status.

    Args:
        arguments: without the program's name.
        owns_process: True also says in two lines what nobody expected, which is else the caller's business.
    """
    if owns_process:
        sys.excepthook = surprise
    try:
        status = cli.main(args=list(arguments), prog_name="wif", standalone_mode=False, obj=list(arguments))
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        status = leaving.exit_code
    except click.ClickException as error:
        status = report_usage_error(error, arguments)
    except WifError as error:
        status = report_error(error, arguments)
    except (click.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, as `head` does: say nothing, and let nothing be said at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    return status if isinstance(status, int) else 0
