"""The page about the webhook's annotations has every annotation and every finding, and nothing that is none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from wif.admission.dialects.native_choices import POD_ANNOTATIONS
from wif.admission.dialects.native_fields import FIELDS, GENERAL
from wif.admission.findings import Level
from wif.admission.platform import FIXED_SETTINGS, read_platform
from wif.admission.registration import INJECT_LABEL
from wif.config.webhook import WebhookSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "webhook-annotations.md").read_text()
PARTS = {part.partition("\n")[0]: part for part in re.split(r"\n##+ ", PAGE)[1:]}
LEVELS: tuple[Level, ...] = ("deny", "warning", "note")


def _rows(heading: str) -> list[list[str]]:
    lines = re.findall(r"^\| (`.*) \|$", PARTS[heading], re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_every_annotation_of_an_identity_is_there_with_its_meaning() -> None:
    for title, cloud in (("AWS", "aws"), ("GCP", "gcp"), ("Azure", "azure")):
        expected = [[f"`{cloud}.{name}`", field.meaning, f"`{field.rule}`"] for name, field in FIELDS[cloud].items()]
        assert _rows(title) == expected


def test_every_other_annotation_of_a_service_account_is_there() -> None:
    expected = [[f"`{name}`", field.meaning, f"`{field.rule}`"] for name, field in GENERAL.items()]
    assert _rows("Of no cloud") == expected


def test_every_annotation_of_a_pod_is_there() -> None:
    assert _rows("On a pod") == [[f"`{name}`", meaning] for name, meaning in POD_ANNOTATIONS.items()]


def test_what_the_platform_cannot_set_and_the_label_are_named() -> None:
    (sentence,) = re.findall(r"`defaults` may set every setting but ([^.]*)\.", PARTS["The platform's ConfigMap"])
    assert re.findall(r"`(\w+)`", sentence) == list(FIXED_SETTINGS)
    assert f'`wif.internal/{INJECT_LABEL}: "true"`' in PAGE


def test_the_example_of_the_platform_is_read() -> None:
    yaml, eks = re.findall(r"```(?:yaml|json)\n(.*?)```", PARTS["The platform's ConfigMap"], re.DOTALL)
    assert len(read_platform({"config.yaml": yaml}, WebhookSettings()).entries) == 2
    assert len(read_platform({"config": eks}, WebhookSettings()).entries) == 2


def test_every_finding_is_there_with_its_levels() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "wif" / "admission").rglob("*.py")):
        for rule, levels in _findings(ast.parse(path.read_text()), is_native="native_fields" in path.name):
            found.setdefault(rule, set()).update(levels)
    assert len(found) > 40
    expected = {rule: [level for level in LEVELS if level in levels] for rule, levels in found.items()}
    rows = {row[0].strip("`"): row[1].split(" or ") for row in _rows("Findings")}
    assert rows == expected
    assert list(rows) == sorted(rows)
    assert all(row[2] for row in _rows("Findings"))


def _findings(tree: ast.AST, *, is_native: bool) -> Iterator[tuple[str, set[str]]]:
    """Rules and the levels that they can have, by what findings are made with."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        level: ast.expr
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if name == "Field" and is_native:
            rule, level = node.args[0], ast.Constant("deny")
        elif name == "Field":
            rule, level = node.args[1], node.args[2]
        elif name in ("Finding", "finding") and len(node.args) > 1:
            rule, level = node.args[0], node.args[1]
        elif name == "add" and len(node.args) > 1:
            rule, level = node.args[0], keywords.get("level", ast.Constant("deny"))
        else:
            continue
        if isinstance(rule, ast.Constant) and re.fullmatch(r"[a-z]+(-[a-z]+)+", str(rule.value)):
            yield str(rule.value), _levels(level)


def _levels(expression: ast.AST) -> set[str]:
    if isinstance(expression, ast.Attribute):  # of a plan: as the setting deny_collisions has it
        assert expression.attr == "collision_level"
        return {"deny", "warning"}
    return {node.value for node in ast.walk(expression) if isinstance(node, ast.Constant) and node.value in LEVELS}
