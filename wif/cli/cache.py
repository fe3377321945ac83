"""``wif cache``: the entries that ``wif exchange aws --format credential-process --cache`` keeps."""

from __future__ import annotations

__all__ = ["cache_command"]

import os

import click

from wif.cli.frame import Command, LazyGroup, wants_json
from wif.cli.output import print_json
from wif.cli.warm import cache_directory
from wif.edges.credential_cache import CacheUnusable, CredentialCache
from wif.errors import ConfigurationError

cache_command = LazyGroup(
    "cache", lazy={}, help="The cache of credential-process answers.", example="wif cache clear --cache-dir cache"
)
"""The group."""


@cache_command.command("clear", cls=Command, example="wif cache clear --cache-dir cache")
@click.option("--cache-dir", metavar="DIR", help="Default: as for wif exchange.")
@click.pass_context
def _clear(context: click.Context, /, cache_dir: str | None) -> None:
    """Remove every entry; running programs keep what they have."""
    path = cache_directory(os.environ, cache_dir)
    try:
        with CredentialCache(path) as cache:
            removed = cache.clear()
    except FileNotFoundError:
        removed = 0
    except CacheUnusable as error:
        raise ConfigurationError(f"the credential cache cannot be cleared: {error}", code="file-unusable") from error
    if wants_json(context):
        print_json({"directory": path, "removed": removed})
    else:
        click.echo(f"{removed} removed from {path}")
