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
from wif.core.issuer_lint import ALL_CLOUDS
from wif.core.public_keys import IssuerKey, key_set_bytes
from wif.errors import WifError
from wif.issuer.addresses import document_paths
from wif.issuer.outside import expected_keys
from wif.issuer.publish import lint_session, require_suitable
from wif.issuer.session import Session, desired_jwks_uri
from wif.issuer.sources import Vouched


def print_documents(context: click.Context, chosen: Sequence[ChosenIssuer], printed: str) -> None:
    """Print what ``--print`` asks for; nothing is written anywhere.

    Args:
        printed: ``discovery``, ``jwks``, ``both`` or ``setup``.
    """
    if len(chosen) != 1:
        raise click.UsageError("--print is for one issuer: pass --name")
    if wants_json(context):
        raise click.UsageError("--print prints documents and commands as they are: leave out --json")
    if printed == "setup":
        _print_setup(chosen[0])
        return
    with Session(chosen[0].settings, name=chosen[0].name) as session:
        if session.managed is not None:
            warn(f"{session.managed.provider.upper()} publishes this issuer itself, at {session.managed.discovery_url}")
        vouched = session.sources.read()
        findings = lint_session(session, vouched)
        require_suitable(findings)
        for warning in (*vouched.problems, *(finding.message for finding in findings)):
            warn(warning)
        keys = _publishable(session, vouched)
        jwks = key_set_bytes(keys).decode()
        discovery = encode_document(
            discovery_document(session.issuer, session.jwks_uri, [key.algorithm for key in keys])
        ).decode()
        paths = (session.discovery_path, session.jwks_path)
    if printed == "both":
        print_json({name: json.loads(text) for name, text in zip(paths, (discovery, jwks), strict=True)})
    else:
        click.echo(discovery if printed == "discovery" else jwks, nl=False)


def _publishable(session: Session, vouched: Vouched) -> Sequence[IssuerKey]:
    """The keys that are vouched for, without the removed ones and those that no reader verifies."""
    clouds = {cloud for target in session.settings.to for cloud in target.clouds} or ALL_CLOUDS
    try:
        state = session.states.read()[0]
    except WifError as error:
        state = None
        warn(f"the trusted state was not read, so removed keys are not known: {error.message}")
    keys = expected_keys(vouched, state, clouds)
    for key in vouched.keys:
        if key not in keys:
            warn(
                f"the key {key.key_id} is left out: it was removed, or none of {', '.join(sorted(clouds))} verifies it"
            )
    return keys


def _print_setup(chosen: ChosenIssuer) -> None:
    from wif.issuer.setup_commands import setup_commands  # noqa: PLC0415  # only for this

    settings = chosen.settings
    if not settings.to:
        raise click.UsageError("--print setup needs --to")
    issuer = settings.issuer or "https://issuer.invalid"
    paths = document_paths(issuer, desired_jwks_uri(settings, issuer))
    commands = {target.url: setup_commands(target, paths) for target in settings.to}
    for url, lines in commands.items():
        click.echo(f"# {url}")
        for line in lines:
            click.echo(line)
