"""The log of a command that runs for good: a line of text each, or one JSON object each.

Fields stand in ``extra={"wif": {...}}`` of a record; text shows them behind the message. Time is UTC. The message of an
audit record is its fields once more, as JSON, for whoever listens to the logger alone; here it is two words.
"""

from __future__ import annotations

__all__ = ["log_options", "set_up_log"]

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_AUDIT = "wif.audit"
_ALSO = ("uvicorn.error",)
"""What uvicorn says about an application that failed."""


def log_options(function: F) -> F:
    """``--log-format``, handed over as ``log_format``."""
    return click.option(
        "--log-format",
        type=click.Choice(("text", "json")),
        default="text",
        show_default=True,
        envvar="WIF_LOG_FORMAT",
        help="json: one object a line.",
    )(function)


def set_up_log(log_format: str) -> None:
    """Give the log that the command line has set up its format."""
    handlers = logging.getLogger("wif").handlers
    formatter: logging.Formatter = _Json() if log_format == "json" else _Text()
    for handler in handlers:
        handler.setFormatter(formatter)
    for name in _ALSO:
        logger = logging.getLogger(name)
        logger.handlers[:] = handlers
        logger.propagate = False
        logger.setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "wif", None)
    return fields if isinstance(fields, dict) else {}


def _message(record: logging.LogRecord) -> str:
    fields = _fields(record)
    if record.name == _AUDIT and "event" in fields and "outcome" in fields:
        return f"{fields['event']} {fields['outcome']}"
    return record.getMessage()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Json(logging.Formatter):
    """One object; a field never takes the place of ``time``, ``level``, ``logger`` or ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write it."""
        entry = {
            **_fields(record),
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class _Text(logging.Formatter):
    """Time, level, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write it."""
        fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
        message = "".join(c if c.isprintable() else " " for c in _message(record))
        text = f"{_time(record)} {record.levelname} {record.name}: {message}{fields}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "-"
    text = str(value)
    return json.dumps(text) if not text or " " in text or not text.isprintable() else text
