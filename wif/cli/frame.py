"""What every command shares: standard options, an example in the help, lazy groups, errors in two lines or a list."""

from __future__ import annotations

__all__ = [
    "Command",
    "LazyGroup",
    "command",
    "named_config_file",
    "report_error",
    "report_usage_error",
    "surprise",
    "wants_json",
]

import importlib
import itertools
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from wif.errors import ConfigurationError, DriftError, WifError

_JSON, _LEVEL, _CONFIG = "wif.json", "wif.log_level", "wif.config_file"
_LEVELS = ("debug", "info", "warning", "error")


def _remember(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def store(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            context.meta[key] = value

    return store


def _standard_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_remember(_JSON),
            help="Print one JSON object.",
        ),
        click.Option(
            ["--config-file"],
            envvar="WIF_CONFIG_FILE",
            metavar="PATH",
            expose_value=False,
            callback=_remember(_CONFIG),
            help="Settings in YAML. Default: wif.yaml, where there is one.",
        ),
        click.Option(
            ["--log-level"],
            type=click.Choice(_LEVELS),
            envvar="WIF_LOG_LEVEL",
            expose_value=False,
            callback=_remember(_LEVEL),
            help="What goes to stderr; debug shows requests, secrets redacted.",
        ),
    ]


class _Exemplified(click.Command):
    """A command whose help ends with one example that runs."""

    example: str

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the example as it is typed."""
        with formatter.section("Example"):
            formatter.write(f"  {self.example}\n")

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's
        """Both names."""
        return ["-h", "--help"]


class Command(_Exemplified):
    """A command with the standard options ``--json``, ``--config-file`` and ``--log-level``.

    Args:
        example: a command line that runs.
        log_level: what ``--log-level`` is where it is not given; None sets up no log.
    """

    def __init__(self, *args: Any, example: str, log_level: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.log_level = log_level
        self.params = [*self.params, *_standard_options()]

    def invoke(self, ctx: click.Context) -> Any:
        """Set up the log, then run."""
        if ctx.params.get("output_format") == "executable":
            logging.disable()  # its reader merges stdout and stderr: one line of a log would break the JSON
        else:
            _configure_log(ctx.meta.get(_LEVEL, self.log_level))
        return super().invoke(ctx)


class LazyGroup(_Exemplified, click.Group):
    """A group whose commands are imported when one of them is used.

    Args:
        commands: name, and the module that has it with the line of the help. The module's attribute is
            ``NAME_command``.
    """

    def __init__(self, name: str, *, lazy: Mapping[str, tuple[str, str]], example: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.example = example
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's
        """Every name, sorted."""
        return sorted([*self._lazy, *self.commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        found: click.Command = getattr(importlib.import_module(self._lazy[cmd_name][0]), f"{cmd_name}_command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summary(name)) for name in self.list_commands(ctx)])

    def _summary(self, name: str) -> str:
        return self._lazy[name][1] if name in self._lazy else self.commands[name].get_short_help_str(80)


def command(name: str, *, example: str, log_level: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command; its docstring is the help. ``log_level`` is the default of ``--log-level``."""
    return click.command(name, cls=Command, example=example, log_level=log_level)


def wants_json(context: click.Context) -> bool:
    """Whether ``--json`` was given."""
    return bool(context.meta.get(_JSON))


def named_config_file(context: click.Context) -> str | None:
    """The settings file that the caller named, or None."""
    found: str | None = context.meta.get(_CONFIG)
    return found


def report_error(error: WifError, arguments: Sequence[str]) -> int:
    """Say what failed and what to do next; the exit status."""
    status = 3 if isinstance(error, DriftError) else 2 if isinstance(error, ConfigurationError) else 1
    return _report(
        message=error.message,
        hint=error.hint,
        arguments=arguments,
        status=status,
        several=error.several if isinstance(error, ConfigurationError) else (),
        details={
            "code": error.code,
            "clause": error.clause,
            "message": error.message,
            "hint": error.hint,
            "retryable": error.retryable,
            "cloud": error.cloud,
            "cloud_code": error.cloud_code,
            "status": error.status,
        },
    )


def report_usage_error(error: click.ClickException, arguments: Sequence[str]) -> int:
    """Say what is wrong with the command line; the exit status."""
    if type(error).__name__ == "NoArgsIsHelpError":  # a group by itself: its help is the answer
        click.echo(error.format_message(), err=True)
        return 2
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "wif"
    message = error.format_message()
    details = {"code": "usage", "clause": "usage", "message": message, "hint": f"{path} --help"}
    return _report(message=message, hint=f"see {path} --help", arguments=arguments, status=2, details=details)


def _report(
    *,
    message: str,
    hint: str,
    arguments: Sequence[str],
    status: int,
    details: Mapping[str, Any],
    several: Sequence[str] = (),
) -> int:
    import json  # noqa: PLC0415  # most runs end well

    if _is_executable_source(arguments):
        # What google-auth expects of an executable source: a failure is an answer, and stderr stays empty.
        failure = {"version": 1, "success": False, "code": details["code"], "message": _one_line(message)}
        click.echo(json.dumps(failure))
        return 0
    if logging.getLogger("wif").isEnabledFor(logging.DEBUG):
        traceback.print_exc()
    text = "\n  ".join(map(_one_line, several or (message,)))
    click.echo(f"{_style('error:')} {text}\n{_style('hint:')} {_one_line(hint)}", err=True)
    if _asks_json(arguments):
        known = {name: value for name, value in details.items() if value is not None}
        click.echo(json.dumps({"error": known}, indent=2))
    return status


def surprise(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """An exception that nobody expected: two lines, and the traceback only where the log is at debug."""
    if issubclass(kind, KeyboardInterrupt):
        return
    if logging.getLogger("wif").isEnabledFor(logging.DEBUG):
        traceback.print_exception(kind, error, trace)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" in {trace.tb_frame.f_globals.get('__name__')} line {trace.tb_lineno}" if trace is not None else ""
    click.echo(f"{_style('error:')} an unexpected {kind.__name__}{where}: this is a defect of wif", err=True)
    click.echo("hint: run it again with --log-level debug and report what it shows", err=True)


def _configure_log(level: str | None) -> None:
    if level is None:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("wif")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())


def _is_executable_source(arguments: Sequence[str]) -> bool:
    return list(arguments[:2]) == ["token", "print"] and _asks_for("executable", arguments)


def _asks_json(arguments: Sequence[str]) -> bool:
    own = list(itertools.takewhile("--".__ne__, arguments))  # what follows is another program's
    return "--json" in own or _asks_for("json", own)


def _asks_for(output_format: str, arguments: Sequence[str]) -> bool:
    """Whether a format was given, in one word or two; for errors, which have no parsed options."""
    return f"--format={output_format}" in arguments or ("--format", output_format) in itertools.pairwise(arguments)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _style(text: str) -> str:
    import os  # noqa: PLC0415  # for one variable

    return text if os.environ.get("NO_COLOR") else click.style(text, bold=True)  # click.echo drops it off a terminal
