"""The section ``sidecar`` of wif.yaml: the schema in the docs is that of the code, and takes what the code takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from tests.unit.struct_docs import described
from wif.config import sidecar
from wif.config.sidecar import load_sidecar, sidecar_schema

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "wif-yaml-sidecar.schema.json"
SCHEMA: dict[str, Any] = json.loads(json.dumps(described(sidecar_schema(), sidecar)))

FILE = {"identity": "app", "kind": "aws-credentials", "path": "/f"}
ROLE = {"cloud": "aws", "role_arn": "arn:aws:iam::111122223333:role/app"}


def test_the_schema_of_the_docs_is_that_of_the_code() -> None:
    """To renew it: python -m tests.unit.test_sidecar_schema."""
    assert DOCS.read_text() == _text(SCHEMA)


def test_every_member_is_described() -> None:
    for struct in SCHEMA["$defs"].values():
        for name, member in struct["properties"].items():
            assert member.get("description", "").endswith(".") or name == "cloud", name


def test_the_schema_takes_what_the_code_takes() -> None:
    file = FILE | {"after": {"signal": "HUP", "process": "app"}}
    settings = load_sidecar({"identities": {"app": ROLE}, "files": [file]})
    Draft202012Validator(SCHEMA).validate(json.loads(msgspec.json.encode(settings)))


@pytest.mark.parametrize("mode", ["0440", "440", "0o440", 0o440])
def test_the_schema_takes_a_mode_in_either_form(mode: object) -> None:
    values = {"identities": {"app": ROLE}, "secret_mode": mode, "files": [FILE | {"mode": mode}]}
    load_sidecar(values)
    Draft202012Validator(SCHEMA).validate(values)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"identities": {}},
        {"identities": {"app": ROLE | {"more": 1}}},
        {"identities": {"app": {"cloud": "oci"}}},
        {"identities": {"a/b": ROLE}},
        {"identities": {"app": ROLE}, "listen": ["0.0.0.0:80"]},
        {"identities": {"app": ROLE}, "secret_mode": 0o600},
        {"identities": {"app": ROLE}, "secret_mode": "0600"},
        {"identities": {"app": ROLE}, "secret_mode": "0440\n"},
        {"identities": {"app": ROLE}, "secret_mode": 440},
        {"identities": {"app": ROLE}, "files": [FILE | {"mode": "0755"}]},
        {"identities": {"app": ROLE}, "files": [FILE | {"mode": 640}]},
        {"identities": {"app": ROLE}, "token_file": "relative"},
    ],
)
def test_the_schema_refuses_what_the_code_refuses(wrong: dict[str, Any]) -> None:
    assert not Draft202012Validator(SCHEMA).is_valid(wrong)


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCS.write_text(_text(SCHEMA))
