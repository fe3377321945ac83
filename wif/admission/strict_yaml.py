"""YAML from a ConfigMap, read strictly: no anchors, no name twice, not deep. Loaded where there is such a ConfigMap."""

from __future__ import annotations

__all__ = ["load_yaml"]

from collections.abc import Hashable
from typing import Any

import yaml

from wif.errors import ConfigurationError

_MAX_DEPTH = 20


def load_yaml(text: str, origin: str) -> Any:
    """The document.

    Args:
        origin: what messages call it.

    Raises:
        ConfigurationError: config-invalid.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                # a few lines of them stand for millions of values
                raise _invalid(f"{origin} has an alias{_place(event.start_mark)}", "write out what it stands for")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise _invalid(f"{origin} is nested more than {_MAX_DEPTH} deep{_place(event.start_mark)}")
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        raise _invalid(f"{origin} is not YAML: {' '.join(str(error).split())[:200]}") from error
    except ValueError as error:  # a date or a number that Python has none for
        raise _invalid(f"{origin} has a value that cannot be read: {str(error)[:100]}") from error


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if key.value in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the name {str(key.value)[:100]!r} is there twice", key.start_mark
                )
            names.add(key.value)
        return super().construct_mapping(node, deep)


def _place(mark: Any) -> str:
    return "" if mark is None else f" in line {mark.line + 1}"


def _invalid(what: str, hint: str = "correct it; what was read before stays in force") -> ConfigurationError:
    return ConfigurationError(what, code="config-invalid", hint=hint)
