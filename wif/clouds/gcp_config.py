"""Google's credential configuration as text: ``external_account`` JSON, shell exports, a Terraform provider block.

The JSON is byte for byte what ``gcloud iam workload-identity-pools create-cred-config`` writes: the same members in
the same order, two spaces of indentation, no final newline. Members: google-auth's ``external_account`` (AIP-4117).
"""

from __future__ import annotations

__all__ = [
    "ExecutableSource",
    "ExternalAccountFile",
    "FileSource",
    "UrlSource",
    "external_account",
    "project_of",
    "shell_variables",
    "terraform",
]

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from wif.clouds.gcp_files import ID_TOKEN_TYPE
from wif.clouds.gcp_names import (
    DEFAULT_UNIVERSE,
    JWT_TOKEN_TYPE,
    ProviderName,
    iam_credentials_url,
    introspect_url,
    token_url,
    validate_lifetime,
    validate_service_account,
)
from wif.core.quoting import hcl_block
from wif.errors import ConfigurationError

_TOKEN_TYPES = (JWT_TOKEN_TYPE, ID_TOKEN_TYPE)
_ACCOUNT_DOMAIN = re.compile(
    r"[^@]+@(?P<project>[a-z][a-z0-9-]{4,29})(?:\.(?P<organisation>[a-z0-9.-]+))?\.iam\.gserviceaccount\.com"
)
_TIMEOUT_MILLIS = (5000, 120000)
"""google-auth's bounds for an executable source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """A file that holds the subject token: as it is, or as one member of a JSON object."""

    path: str
    format_type: str | None = None
    """``text``, ``json`` or None; gcloud writes ``format`` only where a type was asked for."""
    field_name: str | None = None
    """The member, for ``json``."""

    def document(self) -> dict[str, object]:
        """The ``credential_source`` member."""
        return {"file": _text("the token file", self.path), **_format(self.format_type, self.field_name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """An address that answers with the subject token, with or without headers."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    format_type: str | None = None
    field_name: str | None = None

    def document(self) -> dict[str, object]:
        """The ``credential_source`` member."""
        headers: dict[str, object] = {"headers": dict(self.headers)} if self.headers else {}
        return {"url": _text("the token URL", self.url), **headers, **_format(self.format_type, self.field_name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutableSource:
    """A command that prints the subject token as JSON; clients run it only when their environment allows it."""

    command: str
    """One line; clients split it as a POSIX shell would, and run it without one."""
    timeout_millis: int = 30000
    output_file: str | None = None

    def document(self) -> dict[str, object]:
        """The ``credential_source`` member."""
        low, high = _TIMEOUT_MILLIS
        if not low <= self.timeout_millis <= high:
            raise ConfigurationError(
                f"an executable timeout of {self.timeout_millis} ms is outside {low} to {high}", code="config-invalid"
            )
        inner: dict[str, object] = {
            "command": _text("the executable command", self.command),
            "timeout_millis": self.timeout_millis,
        }
        if self.output_file is not None:
            inner["output_file"] = _text("the executable's output file", self.output_file)
        return {"executable": inner}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalAccountFile:
    """What one ``external_account`` file says. Checked at construction: an odd e-mail would rewrite a URL."""

    provider: str
    """``projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER``; kept as the STS audience,
    which has ``//iam.googleapis.com/`` in front in every universe.
    """
    source: FileSource | UrlSource | ExecutableSource
    service_account: str | None = None
    lifetime_seconds: int | None = None
    """Of the impersonated token; None leaves it to the client (3600)."""
    subject_token_type: str = JWT_TOKEN_TYPE
    universe_domain: str = DEFAULT_UNIVERSE
    region: str | None = None
    """Exchange at ``sts.REGION.rep.…`` in place of the global endpoint."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "provider", ProviderName.parse(self.provider).audience)
        token_url(self.region, self.universe_domain)
        if self.service_account is not None:
            validate_service_account(self.service_account)
        if self.subject_token_type not in _TOKEN_TYPES:
            raise ConfigurationError(
                f"the subject token type {self.subject_token_type!r} is none of {', '.join(_TOKEN_TYPES)}",
                code="config-invalid",
            )
        if self.lifetime_seconds is not None and self.service_account is None:
            raise ConfigurationError(
                "a token lifetime needs a service account: direct access has a lifetime of Google's choice",
                code="config-conflict",
                hint="name the service account, or leave the lifetime out",
            )
        validate_lifetime(self.lifetime_seconds)


def external_account(account: ExternalAccountFile) -> str:
    """The text of the file, without a final newline, as gcloud writes it."""
    url = token_url(account.region, account.universe_domain)
    document: dict[str, object] = {
        "universe_domain": account.universe_domain,
        "type": "external_account",
        "audience": account.provider,
        "subject_token_type": account.subject_token_type,
        "token_url": url,
        "credential_source": account.source.document(),
    }
    if account.service_account is None:
        document["token_info_url"] = introspect_url(url)
    else:
        document["service_account_impersonation_url"] = (
            f"{iam_credentials_url(account.universe_domain)}"
            f"/v1/projects/-/serviceAccounts/{account.service_account}:generateAccessToken"
        )
        if account.lifetime_seconds is not None:
            document["service_account_impersonation"] = {"token_lifetime_seconds": account.lifetime_seconds}
    return json.dumps(document, indent=2)


def project_of(service_account: str | None) -> str | None:
    """The project id that a service account's e-mail names, or None (default accounts and domains of another kind)."""
    found = _ACCOUNT_DOMAIN.fullmatch(service_account or "")
    if found is None:
        return None
    organisation = found["organisation"]  # a domain-scoped project: example.com:my-project
    return f"{organisation}:{found['project']}" if organisation else found["project"]


def shell_variables(*, credentials_file: str, project: str | None, executable: bool = False) -> dict[str, str]:
    """The variables that lead a Google client to the file.

    ``GOOGLE_CLOUD_PROJECT`` belongs to them: without it google-auth asks cloudresourcemanager inside ``default()``,
    and fails there where that host cannot be reached.
    """
    variables = {"GOOGLE_APPLICATION_CREDENTIALS": _text("the credentials file", credentials_file)}
    if project is not None:
        variables["GOOGLE_CLOUD_PROJECT"] = _text("the project", project)
    if executable:
        variables["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"
    return variables


def terraform(*, credentials_file: str, project: str | None, universe_domain: str = DEFAULT_UNIVERSE) -> str:
    """A ``provider "google"`` block that reads the file."""
    universe = None if universe_domain == DEFAULT_UNIVERSE else universe_domain
    values = {"project": project, "credentials": credentials_file, "universe_domain": universe}
    return hcl_block('provider "google"', [values])


def _format(format_type: str | None, field_name: str | None) -> dict[str, object]:
    if format_type not in (None, "text", "json") or (format_type == "json") != (field_name is not None):
        raise ConfigurationError(
            f"the token's format is {format_type!r} with the member {field_name!r}",
            code="config-invalid",
            hint="use text without a member name, or json with one",
        )
    if format_type is None:
        return {}
    named = {} if field_name is None else {"subject_token_field_name": field_name}
    return {"format": {"type": format_type, **named}}


def _text(name: str, value: str) -> str:
    if not value or not value.isprintable():
        raise ConfigurationError(f"{name} {value!r} is empty or holds control characters", code="config-invalid")
    return value
