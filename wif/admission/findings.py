"""What is found while a pod or a ServiceAccount is looked at: for the warning, the Event, the audit and ``explain``."""

from __future__ import annotations

__all__ = ["Finding", "Level"]

from typing import Literal, NamedTuple

Level = Literal["deny", "warning", "note"]
"""``deny`` refuses the object; ``warning`` is told to whoever creates it; ``note`` is for ``explain`` alone."""


class Finding(NamedTuple):
    """One thing to say, without secrets. Values of annotations are shown shortened."""

    rule: str
    """A stable slug, e.g. ``role-arn-malformed``; the docs have a table of them."""
    level: Level
    message: str
    """What, where, what was expected and what came."""
    hint: str = ""
    """The next step."""
    dialect: str = ""
    """``native``, ``pfn``, ``eks`` or ``azure``; empty where it is about none of them."""
    cloud: str = ""
    """``aws``, ``gcp`` or ``azure``; empty where it is about none of them."""
    container: str = ""

    @property
    def text(self) -> str:
        """One line: message and hint."""
        return f"{self.message}: {self.hint}" if self.hint else self.message
