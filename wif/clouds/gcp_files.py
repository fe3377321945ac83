"""Google's ``external_account`` credential files, read as data.

Such a file may come from somebody else: nothing in it is run or fetched here, its URLs still have to pass the
caller's host rule, and of its kinds of source only a file and an executable come back, as values.
"""

from __future__ import annotations

__all__ = ["ExecutableSource", "ExternalAccount", "FileSource"]

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from wif.clouds.answers import shown
from wif.clouds.gcp_names import (
    DEFAULT_UNIVERSE,
    JWT_TOKEN_TYPE,
    ProviderName,
    token_url,
    validate_lifetime,
    validate_service_account,
)
from wif.errors import ConfigurationError

ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """A subject token in a file: as its text, or as a member of a JSON object."""

    path: str
    json_field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutableSource:
    """A subject token that a program prints. Only a value: whether it may run is the caller's decision."""

    command: str
    timeout_seconds: float = 30.0
    output_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalAccount:
    """What an ``external_account`` file says. Unknown members are ignored, as google-auth does."""

    provider: ProviderName
    subject_token_type: str
    token_url: str
    source: FileSource | ExecutableSource
    universe_domain: str = DEFAULT_UNIVERSE
    token_info_url: str | None = None
    service_account: str | None = None
    impersonation_base_url: str | None = None
    """Base URL of the IAM Credentials API; None without impersonation."""
    lifetime_seconds: int | None = None
    quota_project_id: str | None = None
    workforce_pool_user_project: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)

    @property
    def audience(self) -> str:
        """The provider's name as the file writes it."""
        return self.provider.audience

    @classmethod
    def from_mapping(cls, value: object, *, origin: str = "the credential file") -> ExternalAccount:
        """Read the parsed JSON.

        Raises:
            ConfigurationError: config-invalid; credential-source-refused for url, certificate and AWS sources.
        """
        if not isinstance(value, Mapping):
            _invalid(origin, "is not a JSON object")
        kind = value.get("type")
        if kind != "external_account":
            _invalid(origin, f"has the type {shown(str(kind))!r}, expected 'external_account'")
        universe = _text(value, "universe_domain", origin) or DEFAULT_UNIVERSE
        url = _text(value, "token_url", origin) or token_url(universe_domain=universe)
        service_account, base = _impersonation(_text(value, "service_account_impersonation_url", origin), origin)
        return cls(
            provider=ProviderName.parse(_text(value, "audience", origin) or ""),
            subject_token_type=_token_type(value, origin),
            token_url=url,
            source=_source(value.get("credential_source"), origin),
            universe_domain=universe,
            token_info_url=_text(value, "token_info_url", origin),
            service_account=service_account,
            impersonation_base_url=base,
            lifetime_seconds=_lifetime(value.get("service_account_impersonation"), origin),
            quota_project_id=_text(value, "quota_project_id", origin),
            workforce_pool_user_project=_text(value, "workforce_pool_user_project", origin),
            client_id=_text(value, "client_id", origin),
            client_secret=_text(value, "client_secret", origin),
        )


def _invalid(origin: str, what: str) -> NoReturn:
    raise ConfigurationError(f"{origin} {what}", code="config-invalid")


def _refuse(origin: str, what: str) -> NoReturn:
    raise ConfigurationError(
        f"{origin} {what}",
        code="credential-source-refused",
        hint="use google-auth itself with this file, or a file with a file source",
    )


def _text(value: Mapping[str, Any], name: str, origin: str) -> str | None:
    member = value.get(name)
    if member is None or member == "":
        return None
    if not isinstance(member, str) or not member.isprintable():
        _invalid(origin, f"has a member {name} that is not a text")
    return member


def _token_type(value: Mapping[str, Any], origin: str) -> str:
    kind = _text(value, "subject_token_type", origin) or JWT_TOKEN_TYPE
    if kind not in (JWT_TOKEN_TYPE, ID_TOKEN_TYPE):
        _refuse(origin, f"asks for a subject token of the type {shown(kind)!r}, known here are jwt and id_token")
    return kind


def _source(value: object, origin: str) -> FileSource | ExecutableSource:
    if not isinstance(value, dict):
        _invalid(origin, "has no credential_source")
    for name in ("environment_id", "url", "certificate"):
        if name in value:
            _refuse(origin, f"has a credential_source with {name}, which is not fetched here")
    path = _text(value, "file", origin)
    if path is not None and "executable" not in value:
        return FileSource(path=path, json_field=_json_field(value.get("format"), origin))
    program = value.get("executable")
    if path is not None or not isinstance(program, dict):
        _invalid(origin, "has a credential_source that is not exactly one of file and executable")
    command = _text(program, "command", origin)
    millis = program.get("timeout_millis", 30_000)
    if command is None or isinstance(millis, bool) or not isinstance(millis, int) or not 5_000 <= millis <= 120_000:
        _invalid(origin, "has an executable without a command, or with a timeout_millis outside 5000 to 120000")
    return ExecutableSource(
        command=command, timeout_seconds=millis / 1000, output_file=_text(program, "output_file", origin)
    )


def _json_field(value: object, origin: str) -> str | None:
    if value is None:
        return None
    kind = value.get("type", "text") if isinstance(value, dict) else None
    if kind == "text":
        return None
    name = _text(value, "subject_token_field_name", origin) if isinstance(value, dict) and kind == "json" else None
    if name is None:
        _invalid(origin, "has a format that is neither text nor json with subject_token_field_name")
    return name


def _impersonation(url: str | None, origin: str) -> tuple[str | None, str | None]:
    if url is None:
        return None, None
    found = re.fullmatch(r"(https?://[^/?#]+)/v1/projects/-/serviceAccounts/(.+):generateAccessToken", url)
    if found is None:
        _invalid(origin, f"has the service_account_impersonation_url {shown(url)!r}, which is none")
    return validate_service_account(found[2]), found[1]


def _lifetime(value: object, origin: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        _invalid(origin, "has a service_account_impersonation that is not an object")
    seconds = value.get("token_lifetime_seconds")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        _invalid(origin, "has a service_account_impersonation without a usable token_lifetime_seconds")
    return validate_lifetime(seconds)
