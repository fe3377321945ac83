"""The identities that the webhooks' variables name, as ``wif.yaml`` would have them: one for each cloud.

The rules are those of :func:`wif.from_env`. Names are ``aws``, ``gcp`` and ``azure``.
"""

from __future__ import annotations

__all__ = ["identities_of"]

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from wif.clouds.gcp_files import ExternalAccount, FileSource
from wif.clouds.gcp_names import DEFAULT_UNIVERSE, iam_credentials_url, token_url
from wif.edges.files import read_bounded
from wif.errors import ConfigurationError

_MAX_FILE_BYTES = 65_536
_AWS = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
_AZURE = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")


def identities_of(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What the variables say; empty where they name nobody.

    Raises:
        ConfigurationError: config-missing where some of a cloud's variables are set and not all; config-invalid and
            file-unusable for a credential file that says what the settings cannot.
    """
    found: dict[str, dict[str, Any]] = {}
    if _are_set(_AWS, environ):
        found["aws"] = _without_empty(
            cloud="aws",
            role_arn=environ["AWS_ROLE_ARN"],
            session_name=environ.get("AWS_ROLE_SESSION_NAME"),
            token_file=environ.get("WIF_TOKEN_FILE") or environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"),
        )
    if environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        found["gcp"] = _google(environ["GOOGLE_APPLICATION_CREDENTIALS"])
    if _are_set(_AZURE, environ):
        found["azure"] = _without_empty(
            cloud="azure",
            client_id=environ["AZURE_CLIENT_ID"],
            tenant_id=environ["AZURE_TENANT_ID"],
            token_file=environ.get("WIF_TOKEN_FILE") or environ.get("AZURE_FEDERATED_TOKEN_FILE"),
        )
    return found


def _are_set(names: tuple[str, ...], environ: Mapping[str, str]) -> bool:
    found = [name for name in names if environ.get(name)]
    if not found:
        return False
    stands_in = bool(environ.get("WIF_TOKEN_FILE"))
    missing = [name for name in names if name not in found and not (stands_in and name.endswith("_TOKEN_FILE"))]
    if missing:
        verb = "is" if len(found) == 1 else "are"
        raise ConfigurationError(
            f"{' and '.join(found)} {verb} set, but not {' and '.join(missing)}",
            code="config-missing",
            hint=f"set {' and '.join(missing)}, or name the identities: --identities, wif.yaml",
        )
    return True


def _google(path: str) -> dict[str, Any]:
    try:
        document = json.loads(read_bounded(path, _MAX_FILE_BYTES))
    except OSError as error:
        raise ConfigurationError(
            f"the credential file {path} cannot be read: {error.strerror}", code="file-unusable"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the credential file {path} is no JSON", code="config-invalid") from error
    account = ExternalAccount.from_mapping(document, origin=path)
    source = account.source
    if not isinstance(source, FileSource) or source.json_field is not None:
        _cannot(path, "its subject token is not the whole of a file")
    if account.universe_domain != DEFAULT_UNIVERSE:  # what a file says is no word of the caller's
        _cannot(path, "it names another universe than Google's public one")
    if account.token_url != token_url() or account.impersonation_base_url not in (None, iam_credentials_url()):
        _cannot(path, "its URLs are not Google's global ones")
    if account.workforce_pool_user_project is not None:
        _cannot(path, "it is of a workforce pool")
    return _without_empty(
        cloud="gcp",
        provider=account.audience,
        service_account=account.service_account,
        lifetime_seconds=account.lifetime_seconds,
        token_file=source.path,
    )


def _cannot(path: str, why: str) -> NoReturn:
    raise ConfigurationError(
        f"the sidecar cannot take its identity from {path}: {why}",
        code="config-invalid",
        hint="name the identity in the section sidecar of wif.yaml instead",
    )


def _without_empty(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
