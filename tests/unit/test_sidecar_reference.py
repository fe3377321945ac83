"""The reference of the sidecar says what the tables of the interfaces say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from wif.clouds import aws_container, azure_managed_identity, gce_metadata
from wif.config.sidecar import load_sidecar

PAGE = (Path(__file__).parent.parent.parent / "docs" / "reference" / "sidecar.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"### {title}\n")[2].partition("\n#")[0]


def rows(title: str) -> list[str]:
    return [line for line in section(title).splitlines() if line.startswith("| `")]


def test_aws_states() -> None:
    expected = [f"| `{name}` | {row.status} | `{row.code}` |" for name, row in aws_container.ERRORS.items()]
    assert sorted(rows("AWS container credentials")) == sorted(expected)


def test_google_states() -> None:
    expected = [f"| `{name}` | {row.status} | {row.clients} |" for name, row in gce_metadata.ROWS.items()]
    assert rows("Google metadata server") == expected


def test_azure_states() -> None:
    found = [line.split(" | ")[:3] for line in rows("Azure App Service and IMDS")]
    expected = [
        [f"| `{name}`", str(row.status), f"`{row.error}`" if row.error else "-"]
        for name, row in azure_managed_identity.ROWS.items()
    ]
    assert found == expected


@pytest.mark.parametrize("metric", ["answers", "exchanges", "identities", "credential_seconds", "refused"])
def test_metrics_are_named(metric: str) -> None:
    assert f"`wif_sidecar_{metric}" in PAGE


def test_the_example_is_right() -> None:
    text = PAGE.partition("```yaml\n")[2].partition("```")[0]
    assert set(load_sidecar(yaml.safe_load(text)["sidecar"]).identities) == {"reader", "writer", "mail"}
