"""What the docstrings below the fields of a module's structs say, for its schema and its tables in the docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def field_docs(module: ModuleType) -> Mapping[str, Mapping[str, str]]:
    """By struct and field, in one line of Markdown."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    return {node.name: _fields(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def described(schema: Mapping[str, Any], module: ModuleType) -> Mapping[str, Any]:
    """A JSON Schema with these texts as descriptions."""
    docs = field_docs(module)
    return {**schema, "$defs": {name: _described(each, docs.get(name, {})) for name, each in schema["$defs"].items()}}


def _described(struct: Mapping[str, Any], docs: Mapping[str, str]) -> Mapping[str, Any]:
    properties = {
        name: {"description": docs[name], **each} if name in docs else each
        for name, each in struct.get("properties", {}).items()
    }
    return {**struct, "properties": properties} if properties else struct


def _fields(node: ast.ClassDef) -> Mapping[str, str]:
    found = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = re.sub(r"\s+", " ", str(text.value.value)).replace("``", "`").strip()
    return found
