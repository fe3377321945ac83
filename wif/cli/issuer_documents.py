"""``wif issuer publish --print``: documents on stdout for Git or Terraform, and the commands that set targets up."""

from __future__ import annotations

__all__ = ["print_documents"]

import json
from collections.abc import Sequence

import click

from wif.cli.frame import wants_json
from wif.cli.issuer_options import ChosenIssuer
from wif.cli.output import print_json, warn
from wif.core.discovery import discovery_document, encode_document
from wif.core.public_keys import key_set_bytes
from wif.issuer.addresses import document_paths
from wif.issuer.publish import lint_session, require_suitable
from wif.issuer.session import Session, desired_jwks_uri


def print_documents(context: click.Context, chosen: Sequence[ChosenIssuer], printed: str) -> None:
    """Print what ``--print`` asks for; nothing is written anywhere.

    Args:
        printed: ``discovery``, ``jwks``, ``both`` or ``setup``.
    """
    if len(chosen) != 1:
        raise click.UsageError("--print is for one issuer: pass --name")
    if printed == "setup":
        _print_setup(context, chosen[0])
        return
    with Session(chosen[0].settings, name=chosen[0].name) as session:
        if session.managed is not None:
            warn(f"{session.managed.provider.upper()} publishes this issuer itself, at {session.managed.discovery_url}")
        vouched = session.sources.read()
        findings = lint_session(session, vouched)
        require_suitable(findings)
        for warning in (*vouched.problems, *(finding.message for finding in findings)):
            warn(warning)
        jwks = key_set_bytes(vouched.keys).decode()
        discovery = encode_document(
            discovery_document(session.issuer, session.jwks_uri, [key.algorithm for key in vouched.keys])
        ).decode()
        paths = (session.discovery_path, session.jwks_path)
    documents = {"discovery": [discovery], "jwks": [jwks], "both": [discovery, jwks]}[printed]
    if wants_json(context) or printed == "both":
        names = paths if printed == "both" else (paths[printed == "jwks"],)
        print_json({name: json.loads(text) for name, text in zip(names, documents, strict=True)})
    else:
        click.echo(documents[0], nl=False)


def _print_setup(context: click.Context, chosen: ChosenIssuer) -> None:
    from wif.issuer.setup_commands import setup_commands  # noqa: PLC0415  # only for this

    settings = chosen.settings
    if not settings.to:
        raise click.UsageError("--print setup needs --to")
    issuer = settings.issuer or "https://issuer.invalid"
    paths = document_paths(issuer, desired_jwks_uri(settings, issuer))
    commands = {target.url: setup_commands(target, paths) for target in settings.to}
    if wants_json(context):
        print_json({url: list(lines) for url, lines in commands.items()})
        return
    for url, lines in commands.items():
        click.echo(f"# {url}")
        for line in lines:
            click.echo(line)
