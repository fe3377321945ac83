"""The schema of wif.yaml's issuers in the docs is the one of the code, and an exchange does not load its library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from wif.config.issuers import issuers_schema

SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "wif-yaml-issuers.schema.json"


def test_the_schema_of_the_docs_is_that_of_the_code() -> None:
    """To renew it: python -m tests.unit.test_config_schema."""
    assert SCHEMA.read_text() == _text()


def test_the_settings_of_an_exchange_load_no_library() -> None:
    heavy = {"msgspec", "yaml", "dataclasses", "wif.config.issuers"}
    words = f"import sys, wif.config; print(*sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "\n"


def _text() -> str:
    return json.dumps(issuers_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(_text())
