"""Every code of the table has its page, and the page says what the table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wif.clouds import aws_errors, azure_errors, gcp_errors
from wif.clouds.answers import Row
from wif.errors import CODES

ROWS = (*aws_errors.ROWS, *gcp_errors.ROWS, *azure_errors.ROWS)
PAGES = Path(__file__).parent.parent.parent / "docs" / "reference" / "errors"


def test_pages_and_codes_are_the_same_set() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} - {"index"} == set(CODES)


def test_the_index_lists_every_code_in_the_tables_order() -> None:
    toctree = (PAGES / "index.md").read_text().rpartition("```{toctree}")[2]
    assert re.findall(r"^[a-z-]+$", toctree, re.MULTILINE) == list(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_page_agrees_with_the_table_and_says_what_to_check(code: str) -> None:
    row, page = CODES[code], (PAGES / f"{code}.md").read_text()
    assert page.startswith(f"# `{code}`\n\n{row.summary}\n")
    assert f"Clause: `{row.clause}`. Tried again: {'yes' if row.retryable else 'no'}." in page
    assert "\n## What happened\n" in page
    assert "\n## What to check\n\n1. " in page


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.cloud}: {row.situation}")
def test_a_page_names_the_clouds_own_codes_that_lead_to_it(row: Row) -> None:
    cloud = {"aws": "AWS", "gcp": "GCP", "azure": "Azure"}[row.cloud]
    shown = f"`{row.cloud_code}`" if row.cloud_code else "any other"
    assert f"| {cloud} | {shown} | {row.situation} |" in (PAGES / f"{row.code}.md").read_text()
