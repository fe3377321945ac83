"""The fields of the native dialect's annotations: what each one takes, and what it means. One table for each cloud."""

from __future__ import annotations

__all__ = ["FIELDS", "GENERAL", "Field", "quoted", "seconds"]

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from wif.admission.dialects.values import audience
from wif.clouds.answers import shown
from wif.clouds.aws import WebIdentity
from wif.clouds.aws_regions import GLOBAL_ENDPOINT, sts_endpoint
from wif.clouds.azure import validate_client_id, validate_tenant_id
from wif.clouds.gcp_names import ProviderName, token_url, validate_service_account
from wif.errors import ConfigurationError

_ROLE = "arn:aws:iam::111122223333:role/wif"
"""Stands in where the rules of the request are asked about another parameter of it."""


class Field(NamedTuple):
    """One annotation."""

    rule: str
    """Of the finding about a value that is none."""
    check: Callable[[str], Any]
    """The value as it is used. Raises :class:`~wif.errors.ConfigurationError`."""
    expected: str
    """What a value is, for messages."""
    meaning: str
    """For the reference."""


def quoted(text: str) -> str:
    """A value for a message: one line, at most 120 characters of it."""
    return f"'{shown(text, 120)}'"


def seconds(text: str) -> int:
    """A lifetime: decimal digits.

    Raises:
        ConfigurationError: config-invalid.
    """
    return int(_fit(r"[0-9]{1,15}", text))


def _fit(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text):
        raise _unfit(text)
    return text


def _unfit(text: str) -> ConfigurationError:
    return ConfigurationError(f"{quoted(text)} does not fit", code="config-invalid")


def _role(text: str) -> str:
    return WebIdentity(role_arn=text, endpoint=GLOBAL_ENDPOINT).role_arn


def _session(text: str) -> str:
    return str(WebIdentity(role_arn=_ROLE, session_name=text, endpoint=GLOBAL_ENDPOINT).session_name)


def _aws_region(text: str) -> str:
    sts_endpoint(text)
    return text


def _gcp_region(text: str) -> str:
    token_url(text)
    return text


def _provider(text: str) -> str:
    return ProviderName.parse(text).audience


def _project(text: str) -> str:
    return _fit(r"([a-z0-9.-]{1,253}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]{1,30}", text)


def _audience(text: str) -> str:
    if audience(text) is None:
        raise _unfit(text)
    return text


def _containers(text: str) -> frozenset[str]:
    return frozenset(_fit(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name.strip()) for name in text.split(","))


def _mode(text: str) -> str:
    return _fit("files|sidecar", text)


def _direct(text: str) -> bool:
    return _fit("true|false", text) == "true"


_COMMON = {
    "audience": Field(
        "audience-malformed",
        _audience,
        "1 to 256 printable characters",
        "Audience of the token. Default: the cloud's, of the settings.",
    ),
    "token-expiration": Field(
        "token-expiration-malformed",
        seconds,
        "a number of seconds such as 3600",
        "Lifetime of the token in seconds, and the longest that a pod may ask for.",
    ),
    "containers": Field(
        "containers-malformed",
        _containers,
        "names of containers, with commas between them",
        "The only containers that may have the identity. Default: all.",
    ),
}

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "aws": {
        "role-arn": Field(
            "role-arn-malformed",
            _role,
            "the ARN of a role such as arn:aws:iam::111122223333:role/app",
            "The role. Makes an identity. Without `arn:`, a role of the settings' `aws_account_id`.",
        ),
        "region": Field(
            "region-malformed",
            _aws_region,
            "a region of AWS such as eu-central-1",
            "Region of the SDK and of the token exchange. Default: the settings' `aws_region`.",
        ),
        "session-name": Field(
            "session-name-malformed",
            _session,
            "2 to 64 letters, digits and _+=,.@-",
            "Role session name. Default: namespace and name of the ServiceAccount.",
        ),
        **_COMMON,
    },
    "gcp": {
        "provider": Field(
            "provider-malformed",
            _provider,
            "projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
            "The provider of the pool. Makes an identity. Default: the settings' `gcp_provider`.",
        ),
        "service-account": Field(
            "service-account-malformed",
            validate_service_account,
            "an e-mail address such as app@my-project.iam.gserviceaccount.com",
            "The service account to impersonate. Makes an identity. Without one: direct access.",
        ),
        "direct": Field(
            "direct-malformed",
            _direct,
            "true or false",
            "`true` makes an identity with direct access, of the settings' provider.",
        ),
        "project": Field(
            "project-malformed",
            _project,
            "the id of a project such as my-project",
            "Project of the SDK and of gcloud. Default: the service account's.",
        ),
        "region": Field(
            "region-malformed",
            _gcp_region,
            "a region of Google Cloud such as europe-west3",
            "Region of gcloud; tokens are exchanged at that region's endpoint.",
        ),
        **_COMMON,
    },
    "azure": {
        "client-id": Field(
            "client-id-malformed",
            validate_client_id,
            "the client id of an application or a managed identity",
            "The client id. Makes an identity.",
        ),
        "tenant-id": Field(
            "tenant-id-malformed",
            validate_tenant_id,
            "the id of one directory",
            "The tenant. Default: the settings' `azure_tenant_id`.",
        ),
        **_COMMON,
    },
}
"""The annotations of an identity, by cloud."""

GENERAL: Mapping[str, Field] = {
    "mode": Field(
        "mode-malformed",
        _mode,
        "files or sidecar",
        "`files`, the default, or `sidecar`: a container beside the others holds the tokens and serves credentials.",
    ),
    "token-expiration": _COMMON["token-expiration"]._replace(
        meaning="Lifetime in seconds for identities that say none, and the longest that a pod may ask for."
    ),
}
"""The annotations of a ServiceAccount that are about no cloud."""
