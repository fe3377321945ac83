"""Every fenced ``python`` and ``sh`` block of README and docs runs, in a pod beside a local STS.

A page's python blocks are one program, a page's sh blocks another, each a process of its own with the pod's
environment. A block that cannot run here says why in the line before it: ``<!-- not run: reason -->``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.pod import Pod, running_pod
from wif.emulator import TrustStore

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<mark><!-- not run: [^\n]+ -->\n)?```(?P<kind>python|sh)\n(?P<body>.*?)^```$", re.M | re.S)


class Snippet(NamedTuple):
    """The blocks of one kind on one page, as one program whose lines stand where they stand on the page."""

    page: Path
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.kind}"


def _snippets(page: Path) -> Iterator[Snippet]:
    whole = page.read_text()
    for kind in ("python", "sh"):
        lines: list[str] = []
        for block in FENCE.finditer(whole):
            if block["kind"] == kind and not block["mark"]:
                lines += [""] * (whole.count("\n", 0, block.start("body")) - len(lines))
                lines += block["body"].splitlines()
        if lines:
            yield Snippet(page, kind, "\n".join(lines) + "\n")


SNIPPETS = [snippet for page in PAGES for snippet in _snippets(page)]


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with running_pod(tmp_path_factory.mktemp("pod")) as pod:
        yield pod


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_a_pages_snippets_run(snippet: Snippet, pod: Pod, tmp_path: Path) -> None:
    text = snippet.text.replace("/var/run/secrets/wif", str(pod.tokens))
    program = tmp_path / f"{snippet.page.name}.{snippet.kind}"
    program.write_text(text)
    interpreter = [sys.executable] if snippet.kind == "python" else ["sh", "-eu"]
    result = subprocess.run(
        [*interpreter, str(program)],
        env={**pod.environment, "WIF_TOKEN_FILE": str(pod.tokens / "any")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, f"{snippet}\n{result.stdout}\n{result.stderr}"


def test_the_readmes_first_two_blocks_are_one_line_each() -> None:
    first, second, *_ = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert first.count("\n") == second.count("\n") == 1
    assert first.rstrip().endswith("wif demo")
    assert second.rstrip().endswith("nox")


def test_most_blocks_run() -> None:
    """Marks are exceptions; a page that marks everything proves nothing."""
    marked = [block for page in PAGES for block in FENCE.finditer(page.read_text()) if block["mark"]]
    run = sum(len(list(FENCE.finditer(page.read_text()))) for page in PAGES) - len(marked)
    print(f"{run} blocks run, {len(marked)} say why not")
    assert run > len(marked)


def test_the_trust_files_of_the_reference_are_read() -> None:
    page = (ROOT / "docs" / "reference" / "trust-files.md").read_text()
    blocks = re.findall(r"^## `(\w+)\.json`.*?^```json\n(.*?)^```$", page, re.M | re.S)
    store = TrustStore.from_mapping({cloud: json.loads(text) for cloud, text in blocks})
    assert store.issuers == {"https://oidc.example.com/cluster-a"}
    assert set(dict(blocks)) == {"aws", "gcp", "azure"}
