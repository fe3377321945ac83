"""The reference of the sidecar says what the interfaces' tables, the options, the settings and the metrics say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from tests.unit.struct_docs import field_docs
from wif.cli import sidecar_options
from wif.clouds import aws_container, azure_managed_identity, gce_metadata
from wif.config import sidecar
from wif.config.sidecar import (
    AfterRefresh,
    AwsIdentity,
    AzureIdentity,
    FileOutput,
    GcpIdentity,
    SidecarSettings,
    load_sidecar,
)
from wif.serve.sidecar_files import SidecarFiles
from wif.serve.sidecar_service import SidecarService

FILE = Path(__file__).parent.parent.parent / "docs" / "reference" / "sidecar.md"
PAGE = FILE.read_text()
MEANINGS = field_docs(sidecar)
STRUCTS: Mapping[str, type[msgspec.Struct]] = {
    "An identity of AWS": AwsIdentity,
    "An identity of GCP": GcpIdentity,
    "An identity of Azure": AzureIdentity,
    "A file": FileOutput,
    "What is done after a file is written": AfterRefresh,
}
WHERE_THERE = {"aws_container": "where there is a role", "app_service": "where there is an Azure identity"}
"""Defaults of switches that depend on the identities."""


def section(title: str) -> str:
    return PAGE.partition(f"### {title}\n")[2].partition("\n#")[0]


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """As the file would have it; a dash where nothing stands for it."""
    if field.required:
        return "required"
    if field.name in WHERE_THERE:
        return WHERE_THERE[field.name]
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None or value in ((), {}):
        return "-"
    if "mode" in field.name:
        return f"`0{value:o}`"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    return ", ".join(f"`{each}`" for each in value) if isinstance(value, tuple) else f"`{value}`"


def settings_table() -> Iterator[str]:
    """Every setting of the section, in the order of the help."""
    fields = {field.name: field for field in msgspec.structs.fields(SidecarSettings)}
    yield "| setting | default | flag | variable | meaning |"
    yield "|---|---|---|---|---|"
    for option in sidecar_options._ROWS:
        variable, meaning = sidecar_options._OPTIONS.variable(option), MEANINGS["SidecarSettings"][option.setting]
        default = default_of(fields[option.setting])
        yield f"| `{option.setting}` | {default} | `{option.name}` | `{variable}` | {meaning} |"


def struct_table(kind: type[msgspec.Struct]) -> Iterator[str]:
    """Every field of a struct."""
    yield "| field | default | meaning |"
    yield "|---|---|---|"
    for field in msgspec.structs.fields(kind):
        yield f"| `{field.name}` | {default_of(field)} | {MEANINGS[kind.__name__][field.name]} |"


TABLES = {"The section": "\n".join(settings_table())}
TABLES |= {title: "\n".join(struct_table(kind)) for title, kind in STRUCTS.items()}


@pytest.mark.parametrize("title", TABLES)
def test_every_setting_and_field_is_there_with_its_default(title: str) -> None:
    """To renew the tables: python -m tests.unit.test_sidecar_reference."""
    assert TABLES[title] in section(title)


def test_every_flag_is_as_the_table_says() -> None:
    assert set(re.findall(r"`(--[a-z-]+)`", section("The section"))) == {row.name for row in sidecar_options._ROWS}


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


def registered() -> list[Metric]:
    """What a sidecar shows before anything has happened."""
    role = {"cloud": "aws", "role_arn": "arn:aws:iam::111122223333:role/app", "token_file": "/t"}
    service = SidecarService(load_sidecar({"identities": {"app": role}}), environ={})
    try:
        registry = CollectorRegistry()
        service.register_metrics(registry, [])
        SidecarFiles(service.identities, service.keeper, environ={}).register_metrics(registry)
        return list(registry.collect())
    finally:
        service.close()


def test_every_metric_is_named_and_no_other() -> None:
    names = {metric.name + ("_total" if metric.type == "counter" else "") for metric in registered()}
    table = PAGE.partition("\n## Probes and metrics\n")[2].partition("\n## ")[0]
    said = {
        each for row in re.findall(r"^\| (`wif_.*?`) \| ", table, re.MULTILINE) for each in re.findall(r"`(\w+)", row)
    }
    assert said == names


def test_the_example_is_right() -> None:
    text = PAGE.partition("```yaml\n")[2].partition("```")[0]
    assert set(load_sidecar(yaml.safe_load(text)["sidecar"]).identities) == {"reader", "writer", "mail"}


def _renewed(page: str) -> str:
    for title, table in TABLES.items():
        head, found, rest = page.partition(f"### {title}\n")
        assert found, title
        before, old, after = re.split(r"((?:^\|.*\n)+)", rest, maxsplit=1, flags=re.MULTILINE)
        assert old
        page = f"{head}{found}{before}{table}\n{after}"
    return page


if __name__ == "__main__":
    FILE.write_text(_renewed(PAGE))
