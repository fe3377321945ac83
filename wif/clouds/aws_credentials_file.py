"""AWS' shared credentials file as text: one profile for each identity, beside what others have written there.

Read by every SDK as an INI file. A profile that carries our mark is replaced up to its last setting; all else stays
as it is, also a comment below it, which speaks of the section that follows.
Whoever may write the file says how long it takes to read: it is read line by line, each at a cost of its length.
The format has no place for an expiry that SDKs read, so a comment says it to people.
"""

from __future__ import annotations

__all__ = ["MARK", "foreign_profiles", "secrets_in", "with_profiles"]

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.core.credentials import AwsCredentials

MARK = "# written by wif"
"""How the line begins that says whose a profile is."""

_HEADER = re.compile(r"\[(?P<name>[^\]]+)\]")
_NO_SETTING = re.compile(r"\s*($|[#;])")
_SECRET = re.compile(r"(?i)\s*aws_(?:secret_access_key|session_token)\s*[=:](?P<value>.*)")
_VALUE = re.compile(r"[!-~]+")
"""Printable ASCII without white space: an INI reader sees it as it is."""


def foreign_profiles(text: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of the profiles that the text has without our mark."""
    wanted = set(names)
    return tuple(name for name, body in _sections(text) if name in wanted and not _is_ours(body))


def with_profiles(text: str, profiles: Mapping[str, AwsCredentials]) -> str:
    """The text with these profiles made or brought up to date.

    Raises:
        ConfigurationError: config-foreign for a profile that this program did not write, config-invalid for a key
            that the format cannot carry.
    """
    foreign = foreign_profiles(text, profiles)
    if foreign:
        raise ConfigurationError(
            f"the credentials file already has a profile {foreign[0]!r} that this program did not write",
            code="config-foreign",
            hint="choose another profile or another file: those keys would be lost",
        )
    left = {name: _section(name, keys) for name, keys in profiles.items()}
    parts: list[str] = []
    for name, body in _sections(text):
        if name not in profiles:
            parts.append(body)
        else:  # a second one of the same name, which readers refuse, is dropped
            parts += left.pop(name, ""), _below(body)
    parts += left.values()
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts if part)


def secrets_in(text: str) -> tuple[str, ...]:
    """The secret keys and session tokens of every profile, whoever wrote it, for who must keep them out of a log."""
    found: dict[str, None] = {}
    is_below = False
    for line in text.splitlines():
        setting = _SECRET.match(line)
        if setting is not None:
            found |= dict.fromkeys(setting["value"].split())
            is_below = True
        elif is_below and (not line or line[0].isspace()):  # an INI reader takes it for more of the value
            found |= dict.fromkeys(line.split())
        else:
            is_below = False
    return tuple(found)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Name and lines of each section; what stands before the first one has the name ``""``."""
    name, lines = "", list[str]()
    for line in text.splitlines(keepends=True):
        header = _HEADER.match(line)
        if header is not None:
            yield name, "".join(lines)
            name, lines = header["name"].strip(), []
        lines.append(line)
    yield name, "".join(lines)


def _below(body: str) -> str:
    """What follows the last setting of a section of ours: blank lines and comments."""
    lines = body.splitlines(keepends=True)
    ends = max(number for number, line in enumerate(lines, 1) if line.startswith(MARK) or not _NO_SETTING.match(line))
    return "".join(lines[ends:])


def _is_ours(body: str) -> bool:
    return any(line.strip().startswith(MARK) for line in body.splitlines())


def _section(name: str, keys: AwsCredentials) -> str:
    values = {
        "aws_access_key_id": keys.access_key_id,
        "aws_secret_access_key": keys.secret_access_key,
        "aws_session_token": keys.session_token,
    }
    for setting, value in values.items():
        if not _VALUE.fullmatch(value):
            raise ConfigurationError(  # not the value: it is a secret
                f"{setting} holds characters that a credentials file cannot carry", code="config-invalid"
            )
    expiry = keys.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [f"[{name}]", f"{MARK}, and again before these keys expire at {expiry}"]
    return "".join(f"{line}\n" for line in (*lines, *(f"{each} = {value}" for each, value in values.items())))
