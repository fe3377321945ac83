"""The log of a command that runs for good: what one line of it holds."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from wif.cli.service_log import set_up_log

RECORD = {"event": "exchange", "outcome": "issued", "cloud": "aws", "identity": "arn:aws:iam::111122223333:role/app"}


@pytest.fixture
def formatter(request: pytest.FixtureRequest) -> Iterator[logging.Formatter]:
    """That of the format which the test names."""
    logger, uvicorn = logging.getLogger("wif"), logging.getLogger("uvicorn.error")
    before = logger.handlers[:], uvicorn.handlers[:], uvicorn.propagate, uvicorn.level
    handler = logging.NullHandler()
    logger.handlers[:] = [handler]
    set_up_log(request.param)
    assert handler.formatter is not None
    yield handler.formatter
    logger.handlers[:], uvicorn.handlers[:], uvicorn.propagate, uvicorn.level = before


def record(name: str, message: str, fields: Any = None) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.INFO, __file__, 1, "%s", (message,), None)
    made.wif = fields
    return made


@pytest.mark.parametrize("formatter", ["text"], indirect=True)
def test_an_audit_record_is_told_once_in_text(formatter: logging.Formatter) -> None:
    line = formatter.format(record("wif.audit", json.dumps(RECORD), RECORD))
    _, _, said = line.partition(" INFO wif.audit: ")
    assert said == f"exchange issued event=exchange outcome=issued cloud=aws identity={RECORD['identity']}"


@pytest.mark.parametrize("formatter", ["json"], indirect=True)
def test_an_audit_record_is_told_once_in_json(formatter: logging.Formatter) -> None:
    line = formatter.format(record("wif.audit", json.dumps(RECORD), RECORD))
    entry = json.loads(line)
    assert entry.pop("time")
    assert entry == {**RECORD, "level": "info", "logger": "wif.audit", "message": "exchange issued"}


@pytest.mark.parametrize("formatter", ["text", "json"], indirect=True)
def test_what_is_no_audit_record_keeps_its_message(formatter: logging.Formatter) -> None:
    for name, fields in (("wif.serve", RECORD), ("wif.audit", None), ("wif.audit", {"more": 1})):
        assert "as it was" in formatter.format(record(name, "as it was", fields))
