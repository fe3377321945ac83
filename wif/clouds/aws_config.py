"""AWS' configuration as text: profiles of the shared config file, shell variables, a Terraform provider block.

Editing an existing file touches the lines of one profile and nothing else. Which line belongs to what is decided as
botocore does (Python's ``configparser``): a header may stand anywhere except indented below a setting, where it is
the continuation of that setting's value.
"""

from __future__ import annotations

__all__ = [
    "CONFLICTING_WITH_PROFILE",
    "CONFLICTING_WITH_WEB_IDENTITY",
    "MARK",
    "WebIdentityProfile",
    "edit",
    "process_settings",
    "profile_text",
    "profile_variables",
    "region_variables",
    "terraform",
    "web_identity_settings",
    "web_identity_variables",
]

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wif.clouds.aws import WebIdentity, sts_endpoint
from wif.core.quoting import hcl_block, ini_value
from wif.errors import ConfigurationError

MARK = "# written by wif; it replaces the settings that it wrote, and leaves others in this section alone"
"""The line that says whose a profile is."""

CONFLICTING_WITH_PROFILE = ("AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE")
"""boto3 silently prefers these to the profile's own role and token file."""

CONFLICTING_WITH_WEB_IDENTITY = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")
"""A profile with a source profile comes before the web identity in boto3's chain."""

_OURS = ("role_arn", "web_identity_token_file", "role_session_name", "credential_process", "region")
_NAME = re.compile(r"[A-Za-z0-9_.@/+=-]{1,128}")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
_HEADER = re.compile(r"\[(?P<header>.+)\]")
_SETTING = re.compile(r"(?P<name>.*?)\s*(?:[=:])\s*(?P<value>.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentityProfile:
    """One role, and the file with its token."""

    role_arn: str
    token_file: str
    session_name: str | None = None
    """None leaves it to the client, whose names say nothing about the pod."""
    region: str | None = None
    duration_seconds: int | None = None
    """Only Terraform and ``credential_process`` take it; botocore ignores it in a profile."""

    def __post_init__(self) -> None:
        WebIdentity(  # the rules of the request itself
            role_arn=self.role_arn,
            session_name=self.session_name,
            duration_seconds=self.duration_seconds,
            endpoint=sts_endpoint(self.region),
            region=self.region,
        )


Settings = Mapping[str, str]
"""The settings of one profile, in order."""


def web_identity_settings(profile: WebIdentityProfile) -> dict[str, str]:
    """A profile that the SDK itself exchanges."""
    settings = {"role_arn": profile.role_arn, "web_identity_token_file": profile.token_file}
    if profile.session_name is not None:
        settings["role_session_name"] = profile.session_name
    return {**settings, **_region(profile.region)}


def process_settings(command: Sequence[str], *, region: str | None = None) -> dict[str, str]:
    """A profile that runs a command for its keys; the words are quoted for ``shlex`` and for ``sh -c`` alike."""
    return {"credential_process": shlex.join(command), **_region(region)}


def profile_text(name: str, settings: Settings) -> str:
    """A file of its own with one profile."""
    return edit("", name, settings)


def web_identity_variables(profile: WebIdentityProfile) -> dict[str, str]:
    """The variables for a process without a config file."""
    variables = {"AWS_ROLE_ARN": profile.role_arn, "AWS_WEB_IDENTITY_TOKEN_FILE": profile.token_file}
    if profile.session_name is not None:
        variables["AWS_ROLE_SESSION_NAME"] = profile.session_name
    return {**variables, **region_variables(profile.region)}


def profile_variables(*, config_file: str, name: str, region: str | None) -> dict[str, str]:
    """The variables that lead to a profile of a file."""
    return {"AWS_CONFIG_FILE": config_file, "AWS_PROFILE": name, **region_variables(region)}


def region_variables(region: str | None) -> dict[str, str]:
    """Both names: botocore reads only the second one, the other SDKs the first."""
    return {} if region is None else {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}


def terraform(profile: WebIdentityProfile) -> str:
    """A ``provider "aws"`` block that reads the token file at each run."""
    duration = None if profile.duration_seconds is None else f"{profile.duration_seconds}s"
    inner = hcl_block(
        "assume_role_with_web_identity",
        [
            {
                "role_arn": profile.role_arn,
                "session_name": profile.session_name,
                "duration": duration,
                "web_identity_token_file": profile.token_file,
            }
        ],
    )
    return hcl_block('provider "aws"', [{"region": profile.region}, inner])


def edit(text: str, name: str, settings: Settings, *, force: bool = False) -> str:
    """The file's text with the profile ``name`` made or brought up to date.

    Comments, order, line ends and other profiles stay as they are. In a profile that carries :data:`MARK`, the
    settings that this module writes are replaced and others stay; ``force`` takes a foreign profile over, drops its
    settings and keeps its comments.

    Raises:
        ConfigurationError: config-foreign for a profile of that name without the mark, config-invalid for a name or
            value that the format cannot carry and for a file that names the profile twice.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a profile",
            code="config-invalid",
            hint="use 1 to 128 letters, digits and the characters _.@/+=-",
        )
    checked = {key: ini_value(key, value) for key, value in settings.items()}
    end = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    lines = [_Line(kind=kind, name=key, text=line) for kind, key, line in _classify(_LINE.findall(text))]
    starts = [number for number, line in enumerate(lines) if line.kind == "header" and line.name == name]
    if len(starts) > 1:
        raise ConfigurationError(
            f"the file has the profile {name!r} {len(starts)} times", code="config-invalid", hint="keep one of them"
        )
    if not starts:
        return text + _appended(text, name, checked, end)
    start = starts[0]
    stop = next((n for n in range(start + 1, len(lines)) if lines[n].kind == "header"), len(lines))
    section = lines[start + 1 : stop]
    marked = any(line.text.strip() == MARK for line in section)
    if not (marked or force):
        raise ConfigurationError(
            f"the file already has a profile {name!r} that this program did not write", code="config-foreign"
        )
    following = lines[stop].indent if stop < len(lines) else ""
    body = _rewritten(section, checked, drop=_OURS if marked else None, following=following, end=end)
    head = lines[start].text if lines[start].text.endswith(("\r", "\n")) else lines[start].text + end
    return "".join([*(line.text for line in lines[:start]), head, *body, *(line.text for line in lines[stop:])])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line with its end. ``name`` is the profile of a header, or the setting that the line belongs to."""

    kind: str  # header, setting, more (a continuation) or other (blank, comment, not understood)
    name: str
    text: str

    @property
    def indent(self) -> str:
        """The white space before the line."""
        return self.text[: len(self.text) - len(self.text.lstrip())]


def _classify(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """What each line is, by the rules of ``configparser`` with botocore's settings."""
    setting, depth = "", 0
    for line in lines:
        value = line.strip()
        if not value or value[0] in "#;":
            yield "other", "", line
            continue
        indent = len(line) - len(line.lstrip())
        if setting and indent > depth:
            yield "more", setting, line
            continue
        depth = indent
        header, found = _HEADER.match(value), _SETTING.match(value)
        if header is not None:
            setting = ""
            yield "header", _profile_of(header["header"]), line
        elif found is not None:
            setting = found["name"].lower()
            yield "setting", setting, line
        else:
            yield "other", "", line


def _profile_of(header: str) -> str:
    """The profile that a header names; other sections get a name that no profile can have."""
    try:
        words = shlex.split(header)
    except ValueError:
        words = []
    if words == ["default"]:
        return "default"
    return words[1] if len(words) == 2 and words[0].startswith("profile") else f"[{header}"


def _rewritten(
    section: Sequence[_Line], settings: Settings, *, drop: Sequence[str] | None, following: str, end: str
) -> list[str]:
    """The section's lines with ours in their places; ``drop`` None takes the section over and drops every setting.

    A new line is indented as the setting above it, or as the header below it (``following``): deeper than the one it
    would continue that setting's value, less deep than the other it would swallow that header.
    """
    left = dict(settings)
    body = [f"{MARK}{end}"] if drop is None else []
    place, indent = len(body), following  # below the last setting, above the comments that belong to the next header
    for line in section:
        belongs = line.kind in ("setting", "more")
        if not belongs or (drop is not None and line.name not in drop):
            body.append(line.text)
        elif line.kind == "setting" and line.name in left:
            body.append(f"{line.indent}{line.name} = {left.pop(line.name)}{end}")
        else:
            continue
        if belongs or line.text.strip() == MARK:
            place = len(body)
            indent = line.indent if line.kind == "setting" else indent
    if place and not body[place - 1].endswith(("\r", "\n")):
        body[place - 1] += end
    return [*body[:place], *(f"{indent}{key} = {value}{end}" for key, value in left.items()), *body[place:]]


def _appended(text: str, name: str, settings: Settings, end: str) -> str:
    gap = "" if not text else end if text.endswith(("\r", "\n")) else end * 2
    header = "[default]" if name == "default" else f"[profile {name}]"
    return gap + "".join(
        line + end for line in (header, MARK, *(f"{key} = {value}" for key, value in settings.items()))
    )


def _region(region: str | None) -> dict[str, str]:
    return {} if region is None else {"region": region}
