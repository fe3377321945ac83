"""Who a program becomes: from the flags of ``wif run``, named as those of ``wif exchange`` are.

The first of these that names an identity counts: flags; the section ``sidecar`` of ``wif.yaml``; ``WIF_AWS_…``
variables and the sections of the clouds; the webhooks' own variables.
"""

from __future__ import annotations

__all__ = ["RUN_SETTINGS", "run_values"]

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wif.cli.frame import named_config_file
from wif.cli.options import read_config_file
from wif.cli.sidecar_variables import identities_of
from wif.config import Layer, from_document, from_variables, merged
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    import click

    from wif.cli.sidecar_options import SidecarValues
    from wif.config import Settings

RUN_SETTINGS = frozenset(
    {
        "role_arn",
        "region",
        "session_name",
        "duration_seconds",
        "audience",
        "provider",
        "service_account",
        "scopes",
        "universe_domain",
        "lifetime_seconds",
        "project_id",
        "tenant_id",
        "client_id",
        "authority_host",
    }
)
"""Settings of ``wif exchange`` that an identity of the sidecar has as well."""

_NAMES: Mapping[str, Mapping[str, str]] = {
    "aws": dict.fromkeys(("role_arn", "region", "session_name", "duration_seconds", "audience"), ""),
    "gcp": {
        **dict.fromkeys(
            ("provider", "service_account", "scopes", "universe_domain", "lifetime_seconds", "audience"), ""
        ),
        "project_id": "project",
    },
    "azure": dict.fromkeys(("tenant_id", "client_id", "authority_host", "audience"), ""),
}
"""Settings of each cloud, and what the identity calls them where that is another name."""

_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "aws": ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_SESSION_NAME"),
    "gcp": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "azure": ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"),
}
_WHO: Mapping[str, tuple[str, ...]] = {
    "aws": ("role_arn",),
    "gcp": ("provider",),
    "azure": ("tenant_id", "client_id"),
}
"""What an identity cannot be without."""

_STDIN = "-"


def run_values(
    context: click.Context, values: SidecarValues, environ: Mapping[str, str], *, token_file: str | None
) -> SidecarValues:
    """The values with the identities of this run.

    Args:
        values: what the section ``sidecar`` and its flags give.
        environ: the variables of the webhooks.
        token_file: where the token of ``--token-command`` is; None without one.

    Raises:
        ConfigurationError: config-missing, config-conflict, or what reading the settings raises.
    """
    flags = _flags(context)
    instead = _instead(context) if "identities" in values else {}
    document, path, is_named = read_config_file(named_config_file(context))
    other = (from_variables(environ), from_document(document, origin=path, is_named=is_named))
    found = _identities(merged(flags), environ, token_file, instead)
    is_section_s = not found and "identities" in values
    if not found:
        if is_section_s:
            found = values["identities"]
        else:
            found = _identities(merged(*other), environ, token_file) or identities_of(environ)
        found = _with_token(found, token_file or _path(flags.get("token_file")))
    common = token_file or _path(merged(flags, *other).token_file)
    changed = {**values, "identities": found} if found else values
    if not is_section_s and any(identity.get("cloud") == "gcp" for identity in found.values()):
        # who names a Google identity here wants it served; a section of the sidecar says so itself
        changed = {"gce_metadata": True, **changed}
    if common is not None and ("token_file" not in changed or token_file is not None or "token_file" in flags):
        changed = {**changed, "token_file": common}
    return changed


def _flags(context: click.Context) -> Layer:
    return {
        name.replace("__", "."): value
        for name, value in context.params.items()
        if value not in (None, ()) and (name.startswith(("aws__", "gcp__", "azure__")) or name == "token_file")
    }


def _instead(context: click.Context) -> dict[str, str]:
    """By cloud, what to leave out for the section's own identities to be used: the flags that were given."""
    given = _flags(context)
    found: dict[str, list[str]] = {}
    for parameter in context.command.params:
        cloud, dot, name = (parameter.name or "").partition("__")
        if dot and f"{cloud}.{name}" in given:
            found.setdefault(cloud, []).append(parameter.opts[0])
    return {
        cloud: f"or leave out {' and '.join(flags)}: the identities of `sidecar` are used"
        for cloud, flags in found.items()
    }


def _with_token(identities: Any, token_file: str | None) -> Any:
    """The same with the token of an option, which wins over what each names; what is no mapping is told elsewhere."""
    if token_file is None or not isinstance(identities, dict):
        return identities
    return {
        name: {**identity, "token_file": token_file} if isinstance(identity, dict) else identity
        for name, identity in identities.items()
    }


def _identities(
    settings: Settings, environ: Mapping[str, str], token_file: str | None, instead: Mapping[str, str] = {}
) -> dict[str, dict[str, Any]]:
    found = {}
    for cloud, names in _NAMES.items():
        chosen = getattr(settings, cloud)
        given = {(other or name): getattr(chosen, name) for name, other in names.items()}
        given = {name: value for name, value in given.items() if value not in (None, ())}
        own_file = _path(chosen.token_file)
        if not given and own_file is None:
            continue
        common = token_file or own_file or _path(settings.token_file)
        found[cloud] = _identity(cloud, given, environ, common, instead.get(cloud))
    return found


def _identity(
    cloud: str, given: Mapping[str, Any], environ: Mapping[str, str], token_file: str | None, instead: str | None
) -> dict[str, Any]:
    """One identity; what was not given comes from the variables that the cloud's webhook sets."""
    missing = [name for name in _WHO[cloud] if name not in given]
    injected: Mapping[str, Any] = {}
    if missing or token_file is None:
        own = {name: environ[name] for name in (*_VARIABLES[cloud], "WIF_TOKEN_FILE") if environ.get(name)}
        if token_file is not None:
            own["WIF_TOKEN_FILE"] = token_file
        if missing and any(name in own for name in _VARIABLES[cloud]):
            injected = identities_of(own).get(cloud, {})
    still = [name for name in missing if name not in injected]
    if still:
        flags = " and ".join(f"--{cloud}-{name.replace('_', '-')}" for name in still)
        verb = "is" if len(still) == 1 else "are"
        hint = f"add {flags}, {instead}" if instead else f"see wif run --help: {flags}"
        raise ConfigurationError(f"{flags} {verb} needed", code="config-missing", hint=hint)
    made = {"cloud": cloud, **injected, **given}
    return made if token_file is None else {**made, "token_file": token_file}


def _path(path: str | None) -> str | None:
    if path == _STDIN:
        raise ConfigurationError(
            "the token cannot come from standard input: that belongs to the program",
            code="config-conflict",
            hint="write it to a file, or use --token-command",
        )
    return None if path is None else os.path.abspath(path)  # noqa: PTH100  # pathlib is not loaded on this path
