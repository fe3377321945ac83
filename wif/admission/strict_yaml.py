"""YAML from a ConfigMap, read strictly: no anchors, no name twice, not deep. Loaded where there is such a ConfigMap."""

from __future__ import annotations

__all__ = ["load_yaml"]

import re
from collections.abc import Hashable
from typing import Any

import yaml

from wif.errors import ConfigurationError

_MAX_DEPTH = 20
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def load_yaml(text: str, origin: str) -> Any:
    """The document.

    Args:
        origin: what messages call it.

    Raises:
        ConfigurationError: config-invalid.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        reason = f"{error.problem}{where}"
    except (yaml.YAMLError, ValueError) as error:  # a forbidden character; a date or number that Python has none for
        reason = str(error)
    raise ConfigurationError(
        f"{origin} cannot be read: {' '.join(reason.split())[:200]}",
        code="config-invalid",
        hint="correct it; what was read before stays in force",
    )


class _Refused(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # not in the stubs
        if isinstance(event, yaml.AliasEvent):
            # a few lines of them stand for millions of values
            raise _Refused("it has an alias; write out what it stands for", event.start_mark)
        if isinstance(event, yaml.ScalarEvent) and _SURROGATE.search(event.value):
            raise _Refused("it has half a surrogate pair", event.start_mark)
        if self.depth > _MAX_DEPTH:
            raise _Refused(f"it is nested more than {_MAX_DEPTH} deep", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused("a name is not a text", key.start_mark)
            if key.value in names:
                raise _Refused(f"the name {key.value[:100]!r} is there twice", key.start_mark)
            names.add(key.value)
        return super().construct_mapping(node, deep)
