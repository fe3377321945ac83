"""The section ``webhook`` of wif.yaml: schemas, in the docs and in the chart, and page are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from wif.config.webhook import WebhookSettings, webhook_schema

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "reference" / "wif-yaml-webhook.schema.json"
CHART = ROOT / "deploy" / "helm" / "wif" / "values.schema.json"
SCHEMA: dict[str, Any] = json.loads(json.dumps(webhook_schema()))

NO_CONTROL = r"^(?![\s\S]*[\x00-\x1f\x7f])"
"""Helm's regular expressions know no look-ahead; to them ``$`` is the end and nothing else."""


def test_the_schema_of_the_docs_is_that_of_the_code() -> None:
    """To renew both: python -m tests.unit.test_webhook_schema."""
    assert DOCS.read_text() == _text(SCHEMA)


def test_the_schema_of_the_charts_settings_is_that_of_the_code() -> None:
    chart = json.loads(CHART.read_text())
    assert chart["$defs"] == _for_helm(SCHEMA["$defs"])
    assert chart["properties"]["webhook"]["properties"]["settings"] == {"$ref": "#/$defs/WebhookSettings"}


def test_the_page_has_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "reference" / "webhook.md").read_text()
    [part] = [part for part in page.split("\n## ") if part.startswith("Settings\n")]
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", part, re.MULTILINE))
    assert list(rows) == list(WebhookSettings.__struct_fields__)
    defaults = msgspec.to_builtins(WebhookSettings())
    for name, meaning in rows.items():
        for said in re.findall(r"Default: `([^`]+)`", meaning):
            assert said == json.dumps(defaults[name]).strip('"'), name


def _for_helm(schema: Any) -> Any:
    """As the chart's draft 7 and Go's regular expressions have it."""
    if isinstance(schema, list):
        return [_for_helm(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _for_helm(value) for name, value in schema.items()}
    if made.get("pattern") == NO_CONTROL:
        made["pattern"] = r"^[^\x00-\x1f\x7f]*$"
    if "prefixItems" in made:  # of one kind all of them
        [*_, made["items"]] = made.pop("prefixItems")
    return made


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCS.write_text(_text(SCHEMA))
    chart = json.loads(CHART.read_text())
    chart["$defs"] = _for_helm(SCHEMA["$defs"])
    CHART.write_text(_text(chart))
