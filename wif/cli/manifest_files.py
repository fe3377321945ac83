"""Kubernetes manifests from files and stdin: YAML or JSON, several documents in one, each with its line."""

from __future__ import annotations

__all__ = ["read_documents"]

import sys
from collections.abc import Iterator, Sequence

import yaml

from wif.edges.files import read_bounded
from wif.errors import ConfigurationError

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of one file; etcd takes 1.5 MiB for one object."""
MAX_VALUES = 500_000
"""Of one file, aliases counted as often as they are used: a few lines can stand for billions."""


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: a date is a text."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
    for letter, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_documents(paths: Sequence[str]) -> list[tuple[str, object]]:
    """Every document of every file, with where it begins (``FILE:LINE``); ``-`` is stdin.

    Raises:
        ConfigurationError: file-unusable, config-invalid.
    """
    return [document for path in paths for document in _documents(path)]


def _documents(path: str) -> Iterator[tuple[str, object]]:
    shown, data = ("stdin", _stdin()) if path == "-" else (path, _file(path))
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{shown} is larger than {MAX_FILE_BYTES // 1024**2} MiB", code="config-invalid")
    try:
        loader = _Loader(data)
        try:
            while loader.check_node() and (node := loader.get_node()) is not None:
                _count(node, shown)
                yield f"{shown}:{node.start_mark.line + 1}", loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark is not None else shown
        raise ConfigurationError(
            f"{where}: no YAML: {error.problem or error.context}",
            code="config-invalid",
            hint=f"correct the line, and try: kubectl create --dry-run=client -f {path}",
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ConfigurationError(
            f"{shown}: no YAML: {reason}", code="config-invalid", hint="write it as UTF-8 YAML or JSON"
        ) from error


def _file(path: str) -> bytes:
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"the file {path} cannot be read: {error.strerror or error}",
            code="file-unusable",
            hint="check the path; - reads stdin",
        ) from error


def _stdin() -> bytes:
    return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)


def _count(root: yaml.Node, shown: str) -> None:
    """Refuse what would unfold without end."""
    left, waiting = MAX_VALUES, [root]
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            raise ConfigurationError(
                f"{shown}:{root.start_mark.line + 1}: the document has more than {MAX_VALUES} values",
                code="config-invalid",
                hint="write out what its aliases stand for, or split it",
            )
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
