"""What is public is pinned: a name that appears or goes is a change that users see, and belongs in the changelog."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import wif

ROOT = Path(wif.__file__).parent
PINNED = Path(__file__).parent / "public_api.txt"
PUBLIC = (
    "wif",
    "wif.errors",
    "wif.core.credentials",
    "wif.core.freshness",
    "wif.core.token",
    "wif.edges.sources",
    "wif.edges.transport",
    "wif.sdk",
    "wif.sdk.aws",
    "wif.sdk.azure",
    "wif.sdk.azure.aio",
    "wif.sdk.gcp",
    "wif.emulator",
)
"""What users import from; everything else may change at any time."""


def _modules() -> list[str]:
    """Modules without an underscore; the command line and the demo are programs, not an API."""
    names = ["wif", *(info.name for info in pkgutil.walk_packages([str(ROOT)], "wif."))]
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


def _source(name: str) -> Path:
    path = ROOT.parent.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                names: list[str] = ast.literal_eval(value)
                return names
    return None


@pytest.mark.parametrize("name", _modules())
def test_every_module_says_what_is_public_sorted_and_documented(name: str) -> None:
    tree = ast.parse(_source(name).read_text())
    assert ast.get_docstring(tree), f"{name} has no docstring"
    names = _all(tree)
    if names is None:
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body), f"{name} has no __all__"
        return
    # SCREAMING_CASE first, then CamelCase, then the rest, as ruff's RUF022 sorts.
    assert names == sorted(names, key=lambda n: (not n.isupper(), not n[:1].isupper(), n)), f"{name}.__all__"


def test_the_public_names_are_pinned() -> None:
    """On an intended change: edit public_api.txt and tell users in CHANGELOG.md."""
    lines = [f"{name}.{public}" for name in PUBLIC for public in importlib.import_module(name).__all__]
    assert lines == PINNED.read_text().splitlines()


def test_every_pinned_name_is_there() -> None:
    for line in PINNED.read_text().splitlines():
        module, _, name = line.rpartition(".")
        if line == "wif.sdk.aiobotocore":  # it pins another botocore, so it is not installed beside the others
            assert importlib.util.find_spec(line)
        else:
            assert getattr(importlib.import_module(module), name) is not None
