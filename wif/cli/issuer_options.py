"""Options of ``wif issuer`` and ``wif keys``. Each is named as the setting of ``wif.yaml`` and its variable are.

``--to`` is ``WIF_ISSUER_TO`` and ``to:`` below ``issuers.NAME``. Flags win over variables, variables over the file.
"""

from __future__ import annotations

__all__ = ["ChosenIssuer", "choose_issuers", "issuer_options", "the_one_issuer"]

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import click

from wif.cli.durations import Duration
from wif.cli.frame import named_config_file
from wif.cli.options import read_config_file
from wif.cli.output import warn
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings

F = TypeVar("F", bound=Callable[..., Any])

_PREFIX = "issuer__"
_TEXT, _LIST, _SECONDS, _FLAG, _CHOICE = range(5)


class _Option(NamedTuple):
    setting: str
    flags: tuple[str, ...]
    help: str
    kind: int = _TEXT
    metavar: str | None = None


_OPTIONS = (
    _Option("issuer", ("--issuer",), "The issuer, byte for byte as iss. Default: the cluster's own.", metavar="URL"),
    _Option("former_issuer", ("--former-issuer",), "The cluster accepts it but does not write it: a migration.", _FLAG),
    _Option("jwks_uri", ("--jwks-uri",), "Default: ISSUER/openid/v1/jwks.", metavar="URL"),
    _Option("kubeconfig", ("--kubeconfig",), "Default: the pod's own cluster, else kubectl's.", metavar="PATH"),
    _Option("context", ("--context",), "Context of the kubeconfig.", metavar="NAME"),
    _Option(
        "api_servers",
        ("--api-server",),
        "An API server, where EndpointSlices cannot be used; repeatable.",
        _LIST,
        "URL",
    ),
    _Option("public_keys", ("--public-key",), "PEM file of public keys; repeatable.", _LIST, "PATH"),
    _Option(
        "jwks", ("--jwks",), "Key set that vouches for its keys: a file or an https URL; repeatable.", _LIST, "PLACE"
    ),
    _Option(
        "to",
        ("--to",),
        "Where to publish; repeatable. file:///dir, s3://, gs://, az://, gcp-provider:, gke-fleet:, configmap:. "
        "Its own settings as a query: s3://bucket/prefix?region=eu-central-1.",
        _LIST,
        "URL",
    ),
    _Option("state", ("--state",), "The trusted state: configmap:NAMESPACE/NAME or a file.", metavar="PLACE"),
    _Option("namespace", ("--namespace",), "Of state, Lease and Events in the cluster.", metavar="NAME"),
    _Option("cache_control", ("--cache-control",), "Of the documents. Default: public, max-age=300.", metavar="VALUE"),
    _Option(
        "cache_seconds",
        ("--cache-seconds", "--cache-time"),
        "How long relying parties may keep an old key set. Default: 24h.",
        _SECONDS,
    ),
    _Option("skew_seconds", ("--skew-seconds", "--skew"), "By how much clocks may differ. Default: 5m.", _SECONDS),
    _Option(
        "longest_token_seconds",
        ("--longest-token-seconds", "--longest-token-lifetime"),
        "Longest lifetime of a token, where the API servers set no limit.",
        _SECONDS,
    ),
    _Option("ca_file", ("--ca-file",), "Authorities trusted for the public address.", metavar="PATH"),
    _Option("verify", ("--verify/--no-verify",), "Read back over the public address. Default: yes.", _CHOICE),
    _Option(
        "allow_private",
        ("--allow-private",),
        "The readers are in the issuer's own network: a private address or a port is only a warning.",
        _FLAG,
    ),
    _Option(
        "use_kubernetes",
        ("--use-kubernetes/--no-use-kubernetes",),
        "Ask API servers. Default: where no other source is named.",
        _CHOICE,
    ),
)
"""One row for each setting, in the order of the help."""

_ROTATION = ("cache_seconds", "skew_seconds", "longest_token_seconds")
"""What only a rotation uses."""

_PUBLISHING = ("to", "cache_control", "verify", "allow_private")
"""What only publishing and verifying use; serving does neither."""

_OWN = ("issuer", "jwks_uri", "public_keys", "jwks", "to", "state")
"""What no two issuers share. One of the first, sources and targets among them, on the command line describes a whole
issuer there, and the file is not asked."""

_DESCRIBING = ("issuer", "public_keys", "jwks", "to")

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

_MAX_FILE_BYTES = 4 * 1024 * 1024
"""A thousand issuers with three targets each have 400 KB."""

_COMMAND_LINE = "the command line"


class ChosenIssuer(NamedTuple):
    """One issuer to work on."""

    name: str
    """What ``wif.yaml`` calls it, or empty where it comes from flags and variables alone."""
    settings: IssuerSettings
    known: Mapping[str, IssuerSettings]
    """All issuers of the file, by name."""


def issuer_options(*, several: bool = False, rotation: bool = False, publishing: bool = True) -> Callable[[F], F]:
    """Options for an issuer's settings and for the choice of issuers; read by :func:`choose_issuers`.

    Args:
        several: whether the command works on many issuers of the file at once.
        rotation: also the settings that only a rotation uses.
        publishing: also those of targets and of the look from outside.
    """

    def decorate(function: F) -> F:
        if several:
            function = click.option(f"{_PREFIX}all", "--all", is_flag=True, help="Every issuer of wif.yaml.")(function)
        function = click.option(
            f"{_PREFIX}names",
            "--name",
            multiple=True,
            envvar="WIF_ISSUER_NAME",
            metavar="NAME",
            help=f"An issuer of wif.yaml{'; repeatable' if several else ''}.",
        )(function)
        if publishing:
            function = click.option(
                f"{_PREFIX}single_writer",
                "--single-writer",
                is_flag=True,
                help="Nobody else writes what --to names: a place without conditional writes will do.",
            )(function)
        left_out = (*(() if rotation else _ROTATION), *(() if publishing else _PUBLISHING))
        for option in reversed(_OPTIONS):
            if option.setting not in left_out:
                function = _added(function, option)
        return function

    return decorate


def choose_issuers(context: click.Context) -> Sequence[ChosenIssuer]:
    """The issuers of this run, from flags, then ``WIF_ISSUER_*`` variables, then the file.

    Raises:
        click.UsageError: nobody can say which issuer is meant.
        ConfigurationError: config-invalid, host-not-allowed.
    """
    _report_unknown(os.environ)
    given = _given(context)
    names: tuple[str, ...] = context.params.get(f"{_PREFIX}names") or ()
    wants_all = bool(context.params.get(f"{_PREFIX}all"))
    if not names and not wants_all and any(setting in given for setting in _DESCRIBING):
        return [ChosenIssuer("", _built("", given), {})]
    from wif.config.issuers import load_issuers  # noqa: PLC0415  # only where a file is asked

    document, path, is_named = read_config_file(named_config_file(context), limit_bytes=_MAX_FILE_BYTES)
    known = load_issuers(document, path, is_named=is_named)
    if names and wants_all:
        raise click.UsageError("--name and --all contradict each other")
    if not names and len(known) == 1:
        wants_all = True
    for name in names:
        if name not in known:
            raise click.UsageError(f"{path} has no issuer {name!r}, but: {', '.join(known) or 'none'}")
    if not names and not wants_all:
        if known:
            raise click.UsageError(f"{path} has several issuers: choose with --name NAME or --all ({', '.join(known)})")
        return [ChosenIssuer("", _built("", given), {})]
    chosen = list(dict.fromkeys(names)) if names else list(known)
    if not chosen:
        raise click.UsageError(f"{path} has no section of issuers")
    own = [setting for setting in _OWN if setting in given]
    if own and len(chosen) > 1:
        raise click.UsageError(f"{_flag(own[0])} is of one issuer alone, but {len(chosen)} are chosen")
    return [ChosenIssuer(name, _built(name, given, known[name]) if given else known[name], known) for name in chosen]


def the_one_issuer(context: click.Context) -> ChosenIssuer:
    """As :func:`choose_issuers`, for a command that works on one.

    Raises:
        click.UsageError: several were chosen.
    """
    chosen = choose_issuers(context)
    if len(chosen) > 1:
        raise click.UsageError("this works on one issuer: pass --name once")
    return chosen[0]


def _added(function: F, option: _Option) -> F:
    arguments: dict[str, Any] = {"help": option.help, "envvar": f"WIF_ISSUER_{option.setting.upper()}"}
    if option.kind == _FLAG:
        arguments["is_flag"] = True
    elif option.kind == _CHOICE:
        arguments["default"] = None
    elif option.kind == _SECONDS:
        arguments["type"] = Duration()
    else:
        arguments |= {"multiple": option.kind == _LIST, "metavar": option.metavar}
    return click.option(_PREFIX + option.setting, *option.flags, **arguments)(function)


def _given(context: click.Context) -> dict[str, Any]:
    """The settings that flags and variables give, as ``wif.yaml`` would have them."""
    given: dict[str, Any] = {}
    for option in _OPTIONS:
        value: Any = context.params.get(_PREFIX + option.setting)
        if option.kind == _LIST:
            if value:
                given[option.setting] = list(value)
        elif value not in (None, False) or (option.kind == _CHOICE and value is False):
            given[option.setting] = value
    single_writer = bool(context.params.get(f"{_PREFIX}single_writer"))
    if "to" in given:
        given["to"] = [_target(url, single_writer=single_writer) for url in given["to"]]
    elif single_writer:
        raise click.UsageError("--single-writer goes with --to; in wif.yaml it is a member of the target")
    return given


def _target(url: str, *, single_writer: bool) -> dict[str, Any]:
    """A target's settings from its URL: those behind the question mark are the members of ``to`` in ``wif.yaml``."""
    place, _, query = url.partition("?")
    target: dict[str, Any] = {"url": place}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise click.UsageError(f"--to {place}: what follows the question mark is not name=value&name=value") from None
    for name, value in pairs:
        if name in target:
            raise click.UsageError(f"--to {place}: {name} is there twice")
        if name == "clouds":
            target[name] = value.split(",")
        elif name in ("single_writer", "allow_http"):
            if value.lower() not in _BOOLEANS:
                raise click.UsageError(f"--to {place}: {name} is {value!r}, expected true or false")
            target[name] = _BOOLEANS[value.lower()]
        else:
            target[name] = value
    return target | ({"single_writer": True} if single_writer else {})


def _built(name: str, given: Mapping[str, Any], base: IssuerSettings | None = None) -> IssuerSettings:
    """Check the settings by the rules of the file."""
    import msgspec  # noqa: PLC0415  # loaded with the settings

    from wif.config.issuers import load_issuers  # noqa: PLC0415  # only when a command runs

    merged = {**(msgspec.to_builtins(base) if base is not None else {}), **given}
    entry = name or "issuer"
    try:
        return load_issuers({"issuers": {entry: merged}}, _COMMAND_LINE)[entry]
    except ConfigurationError as error:
        error.message = error.message.replace(f"issuers.{entry}", "settings", 1)
        raise


def _flag(setting: str) -> str:
    return next(option.flags[0] for option in _OPTIONS if option.setting == setting)


def _report_unknown(environ: Mapping[str, str]) -> None:
    known = {f"WIF_ISSUER_{option.setting.upper()}" for option in _OPTIONS} | {"WIF_ISSUER_NAME"}
    for variable in sorted(environ):
        if variable.startswith("WIF_ISSUER_") and variable not in known:
            warn(f"the variable {variable} is not known")
