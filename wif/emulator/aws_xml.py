"""XML elements of AWS' answers. Request values are echoed in them, so every text is made fit for XML 1.0."""

from __future__ import annotations

__all__ = ["element", "text"]

import re

_UNFIT = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL = re.compile('[&<>"\t\n\r]|' + _UNFIT.pattern)
_REFERENCES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}


def text(value: str) -> str:
    """A value as character data; characters that XML cannot hold become U+FFFD."""
    return _SPECIAL.sub(lambda match: _REFERENCES.get(match[0], "\ufffd"), value)


def element(name: str, value: str) -> str:
    """One element with text."""
    return f"<{name}>{text(value)}</{name}>"
