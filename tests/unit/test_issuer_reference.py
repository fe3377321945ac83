"""The page about issuers has every setting and every rule, and nothing that is none."""

from __future__ import annotations

import re
from pathlib import Path

from wif.config.issuers import IssuerSettings, TargetSettings
from wif.core.issuer_lint import RULES

PAGE = (Path(__file__).parent.parent.parent / "docs" / "reference" / "issuers.md").read_text()
PARTS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


def _first_column(heading: str) -> list[str]:
    return re.findall(r"^\| `([a-z_-]+)` \|", PARTS[heading], re.MULTILINE)


def test_every_setting_of_an_issuer_and_of_a_target_is_there() -> None:
    assert _first_column("Settings of an issuer") == list(IssuerSettings.__struct_fields__)
    assert _first_column("Settings of a target") == list(TargetSettings.__struct_fields__)


def test_every_rule_of_the_lint_is_there_with_its_level_and_clouds() -> None:
    names = {"aws": "AWS", "gcp": "GCP", "azure": "Azure"}
    said = re.findall(r"^\| `([a-z-]+)` \| (error|warning) \| ([^|]+) \|", PARTS["The lint"], re.MULTILINE)
    assert said == [
        (rule.name, rule.level, ", ".join(names[cloud] for cloud in rule.clouds) or "all") for rule in RULES
    ]
