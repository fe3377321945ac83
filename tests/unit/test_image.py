"""The image's recipe: pinned base, locked packages, nobody's root. To build it needs an engine, which CI lacks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RECIPE = (ROOT / "deploy" / "Dockerfile").read_text()
LOCKS = ("requirements.txt", "requirements-build.txt")


def _names(requirements: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", requirements, re.MULTILINE))


def test_every_base_is_pinned_by_digest_and_is_one_and_the_same() -> None:
    bases = re.findall(r"^FROM (\S+)", RECIPE, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.13-slim@sha256:[0-9a-f]{64}", bases[0])


def test_it_runs_as_nobody() -> None:
    assert re.findall(r"^USER (.*)$", RECIPE, re.MULTILINE) == ["65532:65532"]


def test_packages_are_installed_by_hash_or_from_the_source_tree_alone() -> None:
    for command in re.findall(r"pip (?:--python \S+ )?(?:install|wheel)[^\n\\]*", RECIPE):
        assert "--require-hashes" in command or "--no-deps" in command, command


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    assert "://" not in text
    blocks = re.split(r"(?m)^(?=[a-z0-9-]+==)", text)[1:]
    assert blocks
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


def test_the_lock_has_what_the_extras_of_the_image_ask_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [
        need for extra in ("publish", "serve", "gcp") for need in project["optional-dependencies"][extra]
    ]
    names = {re.split(r"[^A-Za-z0-9-]", need)[0].lower() for need in asked}
    assert names <= _names((ROOT / "deploy" / "requirements.txt").read_text())
