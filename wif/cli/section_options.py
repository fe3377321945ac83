"""Options for every setting of a section of ``wif.yaml``: flag, variable and member of the file are named alike.

``--aws-audience`` is ``WIF_WEBHOOK_AWS_AUDIENCE`` and ``aws_audience`` below ``webhook``.
"""

from __future__ import annotations

__all__ = ["JSON", "LIST", "MODE", "NUMBER", "OBJECT", "PAIRS", "SECONDS", "SWITCH", "TEXT", "Option", "SectionOptions"]

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource
from click.types import BoolParamType, IntParamType

from wif.cli.durations import Duration
from wif.cli.output import warn
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
    _ChoiceType = click.Choice[str]
else:
    _ParamType, _ChoiceType = object, click.Choice  # generic since click 8.3

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


class _Unread(NamedTuple):
    """What stands in place of a value that is none, until all of them are told."""

    why: str


class _Late(_ParamType):
    """A type of click's that does not end the run at the first wrong value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            return _Unread(error.message)


class _Seconds(_Late, Duration):
    """Of SECONDS."""


class _Number(_Late, IntParamType):
    """Of NUMBER."""


class _Choice(_Late, _ChoiceType):
    """Of texts with choices."""


class _Switch(_Late, BoolParamType):
    """Of SWITCH. click's own words list the empty text among those that it knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        read = super().convert(value, param, ctx)
        if isinstance(read, _Unread):
            return _Unread(f"{str(value)[:32]!r} is none of the yes/no values: true, false, 1, 0")
        return read


class SectionOptions:
    """The options of one section, in the order of the help."""

    def __init__(self, section: str, options: Sequence[Option]) -> None:
        self.section = section
        self._options = tuple(options)
        self._prefix = f"{section}__"
        self._variable = f"WIF_{section.upper()}_"

    def variable(self, option: Option) -> str:
        """The variable of a setting."""
        return self._variable + option.setting.upper()

    def add(self, function: F, only: Sequence[str] | None = None, helps: Mapping[str, str] | None = None) -> F:
        """Give a command the options; it takes them as ``SECTION__NAME``.

        Args:
            only: settings that the command uses; None for all.
            helps: by setting, where it means something else to the command.
        """
        for option in reversed(self._options):
            if only is None or option.setting in only:
                text = (helps or {}).get(option.setting, option.help)
                function = self._added(function, option._replace(help=text))
        return function

    def _added(self, function: F, option: Option) -> F:
        arguments: dict[str, Any] = {"help": option.help, "envvar": self.variable(option), "default": None}
        name = option.name
        if option.kind == SWITCH:
            name = f"{name}/--no-{name[2:]}"
            arguments["type"] = _Switch()
        elif option.kind == SECONDS:
            arguments["type"] = _Seconds()
        elif option.kind == NUMBER:
            arguments |= {"type": _Number(), "metavar": option.metavar}
        else:
            metavar = "JSON" if option.kind in (JSON, OBJECT) else option.metavar
            arguments |= {"multiple": option.kind in (LIST, PAIRS), "metavar": metavar}
            if option.choices:
                arguments["type"] = _Choice(option.choices)
        return click.option(self._prefix + option.setting, name, **arguments)(function)

    def given(self, context: click.Context) -> dict[str, Any]:
        """What flags and variables say, as ``wif.yaml`` would have it.

        Raises:
            click.UsageError: one, with everything that cannot be read.
        """
        given, wrong = self.read(context)
        if wrong:
            raise click.UsageError("; ".join(wrong.values()))
        return given

    def read(self, context: click.Context) -> tuple[dict[str, Any], dict[str, str]]:
        """What flags and variables say, as ``wif.yaml`` would have it; and by setting what cannot be read."""
        given: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for option in self._options:
            parameter = self._prefix + option.setting
            value: Any = context.params.get(parameter)
            if value is None or value == ():
                continue
            is_variable = context.get_parameter_source(parameter) is ParameterSource.ENVIRONMENT
            said_by = self.variable(option) if is_variable else option.name
            try:
                for each in value if option.kind in (LIST, PAIRS) else (value,):
                    if isinstance(each, _Unread):
                        raise _WrongError(f": {each.why}")
                given[option.setting] = _READ.get(option.kind, _as_it_is)(value)
            except _WrongError as error:
                wrong[option.setting] = f"{said_by}{error}"
        return given, wrong

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
        known = {self.variable(option) for option in self._options}
        for variable in sorted(environ):
            if variable.startswith(self._variable) and variable not in known:
                warn(f"the variable {variable} is not known")


class _WrongError(Exception):
    """What is wrong with a value, to be read behind the name of what gave it."""


def _as_it_is(value: Any) -> Any:
    return value


def _mode(value: str) -> int:
    digits = value.removeprefix("0o")
    if not digits or not set(digits) <= set("01234567") or len(digits) > 4:
        raise _WrongError(f" {value[:32]!r} is no mode in octal digits, e.g. 0440")
    return int(digits, 8)


def _json(value: str) -> Any:
    import json  # noqa: PLC0415  # few runs have one

    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _WrongError(" is no JSON; write it as the settings file has it") from error


def _object(value: str) -> Any:
    read = _json(value)
    if not isinstance(read, dict):
        raise _WrongError(" is no JSON object; write it as the settings file has it")
    return read


def _pairs(values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in values:
        cloud, equals, name = text.partition("=")
        if not equals:
            raise _WrongError(f" {text[:64]!r} is not CLOUD=NAME")
        found[cloud] = name
    return found


_READ: Mapping[int, Callable[[Any], Any]] = {MODE: _mode, JSON: _json, OBJECT: _object, PAIRS: _pairs}
