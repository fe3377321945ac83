"""Writing a value into shell, HCL and INI text so that its reader gets the same value back.

A format that cannot carry a value refuses it: INI has no escapes, and no name of a cloud needs what it cannot say.
"""

from __future__ import annotations

__all__ = ["env_file", "hcl_block", "hcl_string", "ini_value", "shell_exports", "shell_word"]

import re
from collections.abc import Iterable, Mapping

from wif.errors import ConfigurationError

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HCL_SPECIAL = re.compile(r'["\\\x00-\x1f]')
_INI_COMMENT = re.compile(r"\s[#;]|^[#;]")


def shell_word(value: str) -> str:
    """One word of a POSIX shell: in single quotes unless it is plain."""
    if "\0" in value:
        raise ConfigurationError("a value holds a NUL, which no shell can carry", code="config-invalid")
    return value if _PLAIN.fullmatch(value) else "'" + value.replace("'", "'\"'\"'") + "'"


def shell_exports(variables: Mapping[str, str], *, unset: Iterable[str] = ()) -> str:
    """Lines for ``eval``: first what must go, then the exports."""
    gone = sorted(set(unset) - set(variables))
    lines = [f"unset {' '.join(map(_name, gone))}"] if gone else []
    lines += [f"export {_name(name)}={shell_word(value)}" for name, value in variables.items()]
    return "".join(line + "\n" for line in lines)


def env_file(variables: Mapping[str, str]) -> str:
    """``NAME=value`` lines that a shell (``set -a``), Docker and systemd read alike.

    Docker takes what follows the sign as it is and a shell does not, so only plain values can be the same for both.
    """
    for name, value in variables.items():
        if not _PLAIN.fullmatch(value):
            raise ConfigurationError(
                f"{name} is {value!r}, which an environment file cannot carry for shells and Docker alike",
                code="config-invalid",
                hint="use a path without spaces or quotes",
            )
    return "".join(f"{_name(name)}={value}\n" for name, value in variables.items())


def hcl_string(value: str) -> str:
    """A quoted HCL string, in which neither ``${`` nor ``%{`` begins a template.

    HCL knows fewer escapes than JSON (no ``\\b``, no surrogate pairs), so only what must be escaped is.
    """
    escaped = _HCL_SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}" if found[0] < " " else f"\\{found[0]}", value)
    return '"' + escaped.replace("${", "$${").replace("%{", "%%{") + '"'


def hcl_block(header: str, parts: Iterable[Mapping[str, str | bool | None] | str]) -> str:
    """A block as ``terraform fmt`` leaves it: groups of attributes and nested blocks, a blank line between them.

    None leaves an attribute out; a text is a nested block or a line of its own.
    """
    groups = []
    for part in parts:
        if isinstance(part, str):
            groups.append("".join(f"  {line}\n" if line else "\n" for line in part.splitlines()))
            continue
        known = {name: value for name, value in part.items() if value is not None}
        width = max(map(len, known), default=0)
        text = "".join(f"  {name:<{width}} = {_hcl_value(value)}\n" for name, value in known.items())
        groups.extend([text] if text else [])
    return f"{header} {{\n" + "\n".join(groups) + "}\n"


def ini_value(name: str, value: str) -> str:
    """A value of an INI file, as it is; refused where a reader would see another one."""
    if not value or not value.isprintable() or value != value.strip() or _INI_COMMENT.search(value):
        raise ConfigurationError(
            f"{name} is {value!r}, which a configuration file of this format cannot carry",
            code="config-invalid",
            hint="leave out control characters, outer spaces, and '#' or ';' after a space",
        )
    return value


def _hcl_value(value: str | bool) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else hcl_string(value)


def _name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"{name!r} is not the name of an environment variable", code="config-invalid")
    return name
