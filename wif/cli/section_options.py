"""Options for every setting of a section of ``wif.yaml``: flag, variable and member of the file are named alike.

``--aws-audience`` is ``WIF_WEBHOOK_AWS_AUDIENCE`` and ``aws_audience`` below ``webhook``.
"""

from __future__ import annotations

__all__ = ["JSON", "LIST", "MODE", "NUMBER", "OBJECT", "PAIRS", "SECONDS", "SWITCH", "TEXT", "Option", "SectionOptions"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from wif.cli.durations import Duration
from wif.cli.output import warn
from wif.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

TEXT, LIST, SECONDS, SWITCH, MODE, NUMBER, JSON, OBJECT, PAIRS = range(9)
"""Kinds of settings. ``OBJECT`` is JSON that must be an object, ``PAIRS`` is ``CLOUD=NAME``, repeatable."""


class Option(NamedTuple):
    """One setting."""

    setting: str
    help: str
    kind: int = TEXT
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    flag: str | None = None
    """Where it is not named as the setting is."""

    @property
    def name(self) -> str:
        """The flag."""
        return f"--{self.flag or self.setting.replace('_', '-')}"


class SectionOptions:
    """The options of one section, in the order of the help."""

    def __init__(self, section: str, options: Sequence[Option]) -> None:
        self.section = section
        self._options = tuple(options)
        self._prefix = f"{section}__"
        self._variable = f"WIF_{section.upper()}_"

    def add(self, function: F, only: Sequence[str] | None = None) -> F:
        """Give a command the options; it takes them as ``SECTION__NAME``."""
        for option in reversed(self._options):
            if only is None or option.setting in only:
                function = self._added(function, option)
        return function

    def _added(self, function: F, option: Option) -> F:
        variable = self._variable + option.setting.upper()
        arguments: dict[str, Any] = {"help": option.help, "envvar": variable, "default": None}
        name = option.name
        if option.kind == SWITCH:
            name = f"{name}/--no-{name[2:]}"
        elif option.kind == SECONDS:
            arguments["type"] = Duration()
        elif option.kind == NUMBER:
            arguments |= {"type": int, "metavar": option.metavar}
        else:
            metavar = "JSON" if option.kind in (JSON, OBJECT) else option.metavar
            arguments |= {"multiple": option.kind in (LIST, PAIRS), "metavar": metavar}
            if option.choices:
                arguments["type"] = click.Choice(option.choices)
        return click.option(self._prefix + option.setting, name, **arguments)(function)

    def given(self, context: click.Context) -> dict[str, Any]:
        """What flags and variables say, as ``wif.yaml`` would have it."""
        given: dict[str, Any] = {}
        for option in self._options:
            value: Any = context.params.get(self._prefix + option.setting)
            if value is None or value == ():
                continue
            given[option.setting] = _READ.get(option.kind, _as_it_is)(option, value)
        return given

    def members(self, document: object, path: str) -> Mapping[str, Any]:
        """The section of a settings file; empty where it has none.

        Raises:
            ConfigurationError: config-invalid.
        """
        if document is None:
            return {}
        section = document.get(self.section, {}) if isinstance(document, dict) else None
        if not isinstance(section, dict) or not all(isinstance(name, str) for name in section):
            what = self.section if isinstance(document, dict) else "a document"
            raise ConfigurationError(
                f"{path} has {what} that is not a mapping of names",
                code="config-invalid",
                hint=f"write {self.section}: and its settings below it",
            )
        return section

    def report_unknown(self, environ: Mapping[str, str]) -> None:
        """Warn of variables of this section that name no setting."""
        known = {self._variable + option.setting.upper() for option in self._options}
        for variable in sorted(environ):
            if variable.startswith(self._variable) and variable not in known:
                warn(f"the variable {variable} is not known")


def _as_it_is(_: Option, value: Any) -> Any:
    return value


def _mode(option: Option, value: str) -> int:
    digits = value.removeprefix("0o")
    if not digits or not set(digits) <= set("01234567") or len(digits) > 4:
        raise click.UsageError(f"{option.name} {value[:32]!r} is no mode in octal digits, e.g. 0440")
    return int(digits, 8)


def _json(option: Option, value: str) -> Any:
    import json  # noqa: PLC0415  # few runs have one

    what = "JSON object" if option.kind == OBJECT else "JSON"
    try:
        read = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{option.name} is no {what}; write it as the settings file has it") from error
    if option.kind == OBJECT and not isinstance(read, dict):
        raise click.UsageError(f"{option.name} is no {what}; write it as the settings file has it")
    return read


def _pairs(option: Option, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in values:
        cloud, equals, name = text.partition("=")
        if not equals:
            raise click.UsageError(f"{option.name} {text[:64]!r} is not CLOUD=NAME")
        found[cloud] = name
    return found


_READ: Mapping[int, Callable[[Option, Any], Any]] = {MODE: _mode, JSON: _json, OBJECT: _json, PAIRS: _pairs}
