"""``wif emulator``: the local STS in the foreground, with one block of variables to paste."""

from __future__ import annotations

__all__ = ["emulator_command"]

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wif.cli.frame import command, wants_json
from wif.cli.output import print_json, warn
from wif.core.quoting import shell_exports
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.emulator import Emulator


@command("emulator", example="wif emulator --trust trust --proxy", log_level="info")
@click.option(
    "--trust",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Directory with aws.json, gcp.json, azure.json. Without it nobody is trusted.",
)
@click.option(
    "--issuer-documents",
    "documents",
    metavar="ISSUER=DIR|URL",
    multiple=True,
    help="Where an issuer's documents are read in place of the issuer; repeatable.",
)
@click.option("--issuer-ca", metavar="FILE", multiple=True, help="CA of issuers' servers; repeatable.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option("--proxy", is_flag=True, help="Also a CONNECT proxy that leads the clouds' real names here.")
@click.option("--proxy-port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
@click.option("--ca-out", metavar="FILE", type=click.Path(path_type=Path), help="Copy of the CA certificate.")
@click.option("--strict-issuers", is_flag=True, help="Refuse private issuers and plain http, as real clouds do.")
@click.pass_context
def emulator_command(context: click.Context, /, trust: Path | None, proxy: bool, **options: Any) -> None:
    """Answer as the token services of AWS, Google and Microsoft, on loopback, until SIGINT or SIGTERM.

    Tokens are really verified and trust documents really evaluated. Paste the printed block into the shell in which
    your program runs.
    """
    from wif.emulator import Emulator, TrustStore  # noqa: PLC0415  # only for this command

    if trust is None:
        warn("no --trust: every token will be refused")
    ca_out: Path | None = options["ca_out"]
    emulator = Emulator(
        trust=TrustStore() if trust is None else TrustStore.from_directory(trust),
        issuer_documents=dict(map(_issuer_documents, options["documents"])),
        issuer_ca_files=options["issuer_ca"],
        proxy=proxy,
        allow_local_issuers=not options["strict_issuers"],
    )

    def tell(running: Emulator) -> None:
        if ca_out is not None:
            _copy(running.ca_file, ca_out)
        variables = running.environment(os.environ)
        if proxy:
            _warn_of_no_proxy(running)
        if wants_json(context):
            print_json(
                {
                    "url": running.url,
                    "proxy_url": running.proxy_url if proxy else None,
                    "ca_file": str(ca_out or running.ca_file),
                    "environment": variables,
                }
            )
            return
        click.echo(f"# wif local STS at {running.url}; paste this where your program runs")
        click.echo(shell_exports(variables))

    emulator.run_forever(options["port"], options["proxy_port"], on_ready=tell)


def _issuer_documents(text: str) -> tuple[str, str]:
    issuer, sign, place = text.partition("=")
    if not sign or not place or "://" not in issuer:
        raise ConfigurationError(
            f"--issuer-documents {text!r} is not ISSUER=DIR or ISSUER=URL",
            code="config-invalid",
            hint="write --issuer-documents https://kubernetes.default.svc=documents",
        )
    return issuer, place


def _warn_of_no_proxy(running: Emulator) -> None:
    from wif.emulator.proxy import environment  # noqa: PLC0415  # loaded by now

    for message in environment(running.proxy_url, running.ca_file, os.environ).warnings:
        warn(message)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise ConfigurationError(
            f"the CA cannot be written to {target}: {error.strerror}", code="file-unusable"
        ) from error
