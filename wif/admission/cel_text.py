"""Text in CEL expressions: nothing that comes from settings gets into an expression but through here."""

from __future__ import annotations

__all__ = ["literal", "string_list"]

from collections.abc import Iterable

from wif.errors import ConfigurationError


def literal(text: str) -> str:
    """A CEL string literal that has exactly this value.

    Everything but printable ASCII without ``'`` and ``\\`` is written as an escape of its code point, so that no
    value ends the literal, in CEL or in the YAML around it.

    Raises:
        ConfigurationError: config-invalid, for half of a surrogate pair: CEL has code points only.
    """
    return "'" + "".join(map(_character, text)) + "'"


def _character(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    point = ord(character)
    if 0xD800 <= point <= 0xDFFF:
        raise ConfigurationError(
            f"a setting holds U+{point:04X}, half of a surrogate pair, which no policy can carry",
            code="config-invalid",
            hint="write it as UTF-8 text",
        )
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def string_list(values: Iterable[str]) -> str:
    """A CEL list of strings."""
    return f"[{', '.join(map(literal, values))}]"
