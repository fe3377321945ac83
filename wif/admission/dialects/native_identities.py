"""The native dialect's annotations on a ServiceAccount, ``PREFIX/CLOUD[.IDENTITY].FIELD``, as identities.

What is wrong is a finding, and an identity of which something is wrong is none.
"""

from __future__ import annotations

__all__ = ["DEFAULT", "Account", "Complaints", "Identity", "parse_account", "start_of"]

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from wif.admission.annotation_keys import CLOUDS, IDENTITY_NAME, NATIVE_TRIGGERS
from wif.admission.dialects.native_fields import FIELDS, GENERAL, Field, quoted
from wif.admission.dialects.values import Place
from wif.admission.findings import Finding, Level
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError

DEFAULT = "default"
"""The identity that an annotation without a name is about."""

_RESERVED = ("none", "token", "config")
"""``none`` skips a cloud; the others are files beside which the folder of an identity would stand."""

_FROM_SETTINGS = {
    "aws": ("region", "aws_region", False),
    "gcp": ("provider", "gcp_provider", True),
    "azure": ("tenant-id", "azure_tenant_id", True),
}
"""A field of each cloud, the setting that stands in for it, and whether an identity needs it."""

_KEY = re.compile(rf"(?P<cloud>{'|'.join(CLOUDS)})(\.(?P<identity>[^.]*))?\.(?P<field>[^.]*)")
_NAME = re.compile(IDENTITY_NAME)


class Identity(NamedTuple):
    """One identity that a ServiceAccount lists."""

    cloud: str
    name: str
    values: Mapping[str, Any]
    """What the annotations say, checked, with what the settings add; by the names of the fields."""


class Account(NamedTuple):
    """What the annotations of a ServiceAccount say."""

    identities: Mapping[str, Mapping[str, Identity]]
    """By cloud, then by name: the default one first, then by the alphabet."""
    expiration: int | None
    findings: tuple[Finding, ...]
    about: str
    """The ServiceAccount as messages call it."""
    is_sidecar: bool = False
    """A sidecar serves credentials, in place of files."""


class Complaints:
    """Collects findings about the annotations of one object.

    Args:
        about: the object as messages call it.
    """

    def __init__(self, prefix: str, about: str) -> None:
        self.start = f"{prefix}/"
        self.about = about
        self.findings: list[Finding] = []

    def add(self, rule: str, message: str, hint: str = "", *, level: Level = "deny", cloud: str = "") -> None:
        """One more, of the native dialect."""
        self.findings.append(Place("native", cloud, self.about).finding(rule, level, message, hint))

    def checked(self, key: str, field: Field, text: str, cloud: str = "") -> Any:
        """The value of an annotation; None after a finding."""
        try:
            return field.check(text)
        except ConfigurationError:
            message = f"annotation {self.start}{key} is {quoted(text)}, expected {field.expected}"
            self.add(field.rule, message, cloud=cloud)
            return None

    def unknown(self, key: str, known: Iterable[str]) -> None:
        """An annotation under the prefix that means nothing."""
        from difflib import get_close_matches  # noqa: PLC0415 - after a slip alone

        near = get_close_matches(key[:100], list(known), n=1, cutoff=0.75)
        hint = f"did you mean {self.start}{near[0]}" if near else "the reference lists the annotations"
        message = f"annotation {self.start}{quoted(key)[1:-1]} is unknown, and does nothing"
        self.add("annotation-unknown", message, hint, level="warning")

    def no_sidecar_image(self) -> None:
        """The operator has given no image for the mode ``sidecar``."""
        self.add(
            "setting-missing",
            f"{self.start}mode is sidecar, and the setting sidecar_image is missing",
            "write files, or have the operator set it",
        )


def parse_account(annotations: Mapping[str, str], settings: WebhookSettings, about: str = "ServiceAccount") -> Account:
    """Read the native annotations of a ServiceAccount; those of other prefixes are passed over."""
    complaints = Complaints(settings.prefix, about)
    general: dict[str, Any] = {}
    said: dict[tuple[str, str], dict[str, str]] = {}
    for whole, text in sorted(annotations.items()):
        key = whole.removeprefix(complaints.start)
        if key == whole:
            continue
        found = _KEY.fullmatch(key)
        if key in GENERAL:
            general[key] = complaints.checked(key, GENERAL[key], text)
        elif found is None or found["field"] not in FIELDS[found["cloud"]]:
            complaints.unknown(key, _known(found))
        else:
            _note(complaints, said, found, text)
    identities: dict[str, dict[str, Identity]] = {}
    for cloud, name in sorted(said, key=lambda row: (row[0], row[1] != DEFAULT, row[1])):
        identity = _identity(complaints, cloud, name, said[cloud, name], settings)
        if identity is not None:
            identities.setdefault(cloud, {})[name] = identity
    return Account(
        identities,
        general.get("token-expiration"),
        tuple(complaints.findings),
        about,
        is_sidecar=general.get("mode") == "sidecar",
    )


def _known(found: re.Match[str] | None) -> list[str]:
    """What may have been meant."""
    if found is not None:
        return [found.group()[: found.start("field")] + name for name in FIELDS[found["cloud"]]]
    return [*GENERAL, *(f"{cloud}.{name}" for cloud, names in FIELDS.items() for name in names)]


def _note(complaints: Complaints, said: dict[tuple[str, str], dict[str, str]], found: re.Match[str], text: str) -> None:
    """Put an annotation to those of its identity."""
    cloud, field = found["cloud"], found["field"]
    name = DEFAULT if found["identity"] is None else found["identity"]
    if not _NAME.fullmatch(name) or name in _RESERVED:
        complaints.add(
            "identity-name-malformed",
            f"annotation {complaints.start}{quoted(found.group())[1:-1]} names the identity {quoted(name)}, "
            f"expected 1 to 32 of a-z, 0-9 and '-' between them, and none of {', '.join(_RESERVED)}",
            cloud=cloud,
        )
    elif said.setdefault((cloud, name), {}).setdefault(field, text) != text:
        complaints.add(
            "annotation-twice",
            f"annotations {complaints.start}{cloud}.{field} and {complaints.start}{cloud}.{DEFAULT}.{field} differ",
            "they are the same: keep one",
            cloud=cloud,
        )


def _identity(
    complaints: Complaints, cloud: str, name: str, said: Mapping[str, str], settings: WebhookSettings
) -> Identity | None:
    start = start_of(cloud, name)
    values: dict[str, Any] = {}
    for field, text in said.items():
        written = _whole_role(text, settings) if field == "role-arn" else text
        values[field] = complaints.checked(f"{start}{field}", FIELDS[cloud][field], written, cloud)
    if None in values.values():
        return None
    triggers = NATIVE_TRIGGERS[cloud]
    if not any(values.get(trigger) for trigger in triggers):
        complaints.add(
            "identity-incomplete",
            f"annotations {complaints.start}{start}* give no identity",
            f"add {' or '.join(f'{complaints.start}{start}{trigger}' for trigger in triggers)}",
            level="warning",
            cloud=cloud,
        )
        return None
    if values.get("direct") and "service-account" in values:
        complaints.add(
            "direct-with-service-account",
            f"annotations {complaints.start}{start}direct and {complaints.start}{start}service-account "
            "contradict each other",
            "keep one of them",
            cloud=cloud,
        )
        return None
    completed = _completed(complaints, cloud, name, values, settings)
    return None if completed is None else Identity(cloud, name, completed)


def _whole_role(text: str, settings: WebhookSettings) -> str:
    if settings.aws_account_id is None or text.startswith("arn:"):
        return text
    return f"arn:{settings.aws_partition}:iam::{settings.aws_account_id}:role/{text}"


def _completed(
    complaints: Complaints, cloud: str, name: str, values: Mapping[str, Any], settings: WebhookSettings
) -> Mapping[str, Any] | None:
    """With what the settings say; None where an identity would be half of one."""
    field, setting, is_needed = _FROM_SETTINGS[cloud]
    text = getattr(settings, setting)
    if field in values or (text is None and not is_needed):
        return values
    row = FIELDS[cloud][field]
    if text is None:
        complaints.add(
            "setting-missing",
            f"the identity {name!r} of {cloud} has no {field}: neither the ServiceAccount nor the settings say it",
            f"add the annotation {complaints.start}{start_of(cloud, name)}{field}, or the setting {setting}",
            cloud=cloud,
        )
        return None
    try:
        return {**values, field: row.check(text)}
    except ConfigurationError:
        message = f"the setting {setting} is {quoted(text)}, expected {row.expected}"
        complaints.add("setting-malformed", message, level="deny" if is_needed else "warning", cloud=cloud)
        return None if is_needed else values


def start_of(cloud: str, name: str) -> str:
    """How the annotations of an identity begin, behind the prefix."""
    return f"{cloud}." if name == DEFAULT else f"{cloud}.{name}."
