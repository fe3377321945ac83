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
        for variable, path in _AWS_FILES.items():
            place = environ.get(variable) or os.path.expanduser(path)  # noqa: PTH111
            if _gives_credentials(place):
                more[variable] = os.devnull
                _LOGGER.info("%s is kept from the program: its default profile has credentials", place)
    if "gcp" in clouds:
        folder = environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")  # noqa: PTH111
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


def _gives_credentials(path: str) -> bool:
    """Whether the default profile of a file does; one that cannot be read leads nobody away."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return False
    section = next((name for name in ("default", "profile default") if parser.has_section(name)), None)
    return section is not None and any(parser.has_option(section, name) for name in _AWS_CREDENTIALS)
