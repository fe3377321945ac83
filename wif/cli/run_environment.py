"""Credential files of this user that SDKs would take before a local endpoint, and how they are kept from it."""

from __future__ import annotations

__all__ = ["without_other_files"]

import configparser
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wif.clouds.endpoint_variables import EndpointVariables

_LOGGER = logging.getLogger("wif.run")

_AWS_CREDENTIALS = (
    "aws_access_key_id",
    "credential_process",
    "credential_source",
    "login_session",
    "role_arn",
    "sso_account_id",
    "sso_session",
    "web_identity_token_file",
)
"""Settings of a profile that give credentials."""
_GOOGLE_FILE = "application_default_credentials.json"
_GCLOUD_FILE = "credentials.db"
"""Of the accounts that are logged in to gcloud."""


def without_other_files(
    wanted: EndpointVariables, clouds: Sequence[str], environ: Mapping[str, str], directory: str
) -> EndpointVariables:
    """The variables, with those that lead SDKs away from files with credentials of their own.

    Args:
        wanted: what the endpoints need.
        clouds: those that are served.
        environ: of this process.
        directory: this run's own; a directory below it is empty to gcloud.
    """
    more: dict[str, str] = {}
    if "aws" in clouds:
        more |= _without_aws_files(wanted, environ) | _without_boto_files(environ)
    if "gcp" in clouds:
        folder = environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")  # noqa: PTH111
        if os.path.exists(f"{folder}/{_GCLOUD_FILE}"):  # noqa: PTH110
            more["CLOUDSDK_CONFIG"] = f"{directory}/gcloud"
            _LOGGER.warning(
                "%s is kept from the program, with gcloud's project and other settings: accounts are logged in there",
                folder,
            )
        if os.path.exists(f"{folder}/{_GOOGLE_FILE}"):  # noqa: PTH110
            more["CLOUDSDK_CONFIG"] = f"{directory}/gcloud"
            _LOGGER.warning(
                "%s/%s would go before the metadata server: Python's SDK and gcloud are led past it, Go's and Java's"
                " are not; 'gcloud auth application-default revoke' removes it",
                folder,
                _GOOGLE_FILE,
            )
    return replace(wanted, variables={**wanted.variables, **more}) if more else wanted


_AWS_FILES: Mapping[str, str] = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
}
_AWS_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""Java and Node read the one, boto3 the other."""


def _without_aws_files(wanted: EndpointVariables, environ: Mapping[str, str]) -> dict[str, str]:
    """Lead past files whose default profile has credentials; the region that this user has chosen stays."""
    more: dict[str, str] = {}
    profile = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    region: str | None = None
    for variable, path in _AWS_FILES.items():
        place = _expanded(environ.get(variable) or path)
        parser = _read(place)
        region = region or _setting(parser, profile, "region")
        if any(_setting(parser, "default", name) is not None for name in _AWS_CREDENTIALS):
            more[variable] = os.devnull
            _LOGGER.warning(
                "%s is kept from the program, with all of its settings but the region: its default profile has"
                " credentials, which would go before the endpoint",
                place,
            )
    is_lost = bool(more) or profile != "default"  # the variable that names the profile is left out as well
    if region and is_lost and not any(environ.get(name) or name in wanted.variables for name in _AWS_REGIONS):
        more |= dict.fromkeys(_AWS_REGIONS, region)
    return more


_BOTO = "BOTO_CONFIG"
_BOTO_FILES = ("/etc/boto.cfg", "~/.boto")


def _without_boto_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Lead boto3 past boto's own file where that has keys of AWS; gsutil's users often have them there."""
    places = [_expanded(place) for place in ([environ[_BOTO]] if _BOTO in environ else _BOTO_FILES)]
    found = [place for place in places if _setting(_read(place), "Credentials", "aws_access_key_id") is not None]
    if not found:
        return {}
    _LOGGER.warning(
        "%s is kept from the program, with all of its settings, gsutil's as well: it has keys of AWS, which would go"
        " before the endpoint",
        " and ".join(found),
    )
    return {_BOTO: os.devnull}


def _expanded(path: str) -> str:
    """As botocore reads a path."""
    return os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111


def _read(path: str) -> configparser.RawConfigParser:
    """An INI file; empty where it cannot be read, which leads nobody away."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return configparser.RawConfigParser()
    return parser


def _setting(parser: configparser.RawConfigParser, profile: str, name: str) -> str | None:
    for section in (profile, f"profile {profile}"):
        if parser.has_option(section, name):
            return parser.get(section, name)
    return None
