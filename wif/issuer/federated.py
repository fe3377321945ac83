"""The publisher's own identity at a target, where it is a federated one, and the trap in that.

A credential that is exchanged for a token of the very issuer which is published ends together with the documents: a
lost key set then also takes away the access that would repair it.
"""

from __future__ import annotations

__all__ = ["CLOUD_OF_SCHEME", "FederatedIdentity", "Identity", "lock_out_warning"]

import contextlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from wif.edges.files import read_bounded
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.config.issuers import TargetSettings
    from wif.core.credentials import AccessToken, AwsCredentials
    from wif.exchange.environment import Environment

CLOUD_OF_SCHEME: Mapping[str, str] = {
    "az": "azure",
    "gcp-provider": "gcp",
    "gke-fleet": "gcp",
    "gs": "gcp",
    "s3": "aws",
}
"""Whose credential a target takes."""

_AZURE_STORAGE_SCOPE = "https://storage.azure.com/.default"
_TOKEN_FILES = {"aws": "AWS_WEB_IDENTITY_TOKEN_FILE", "azure": "AZURE_FEDERATED_TOKEN_FILE"}
_MAX_FILE_BYTES = 65_536


class Identity(Protocol):
    """The publisher as the clouds know it by an exchange."""

    def __call__(self, cloud: str, *, rejected: bool = False) -> AwsCredentials | AccessToken | None:
        """The credential of a cloud; see :class:`wif.edges.stores.credentials.Federated`."""

    def issuer(self, cloud: str) -> str | None:
        """The issuer of the token that is exchanged; None where there is no such identity."""

    def close(self) -> None:
        """Let go of connections."""


class FederatedIdentity:
    """Exchanges the pod's projected token at the clouds that the webhooks' variables name.

    Args:
        environ: the variables; a cloud of which they name no token has no federated identity here.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._found: Environment | None = None

    def __call__(self, cloud: str, *, rejected: bool = False) -> AwsCredentials | AccessToken | None:
        """The credential of a cloud; see :class:`wif.edges.stores.credentials.Federated`."""
        environment = self._environment(cloud)
        if environment is None:
            return None
        exchanger = getattr(environment, cloud)
        if exchanger is None:
            return None
        if rejected:
            exchanger.invalidate()
        found: AwsCredentials | AccessToken = (
            exchanger.credentials(scope=_AZURE_STORAGE_SCOPE) if cloud == "azure" else exchanger.credentials()
        )
        return found

    def issuer(self, cloud: str) -> str | None:
        """The issuer of the token that is exchanged, as that token says itself; None where there is none."""
        environment = self._environment(cloud)
        exchanger = getattr(environment, cloud) if environment is not None else None
        return None if exchanger is None else str(exchanger.subject_token().issuer)

    def close(self) -> None:
        """Let go of the exchangers."""
        for cloud in ("aws", "gcp", "azure") if self._found is not None else ():
            with contextlib.suppress(WifError):  # one that could not be made holds nothing
                exchanger = getattr(self._found, cloud)
                if exchanger is not None:
                    exchanger.close()

    def _environment(self, cloud: str) -> Environment | None:
        if not self._is_named(cloud):
            return None
        if self._found is None:
            from wif.exchange.environment import from_env  # noqa: PLC0415  # only with a federated identity

            self._found = from_env(None if self._environ is os.environ else self._environ)
        return self._found

    def _is_named(self, cloud: str) -> bool:
        """Whether the variables name a token to exchange, and not a credential of another kind."""
        if cloud != "gcp":
            return any(self._environ.get(name) for name in (_TOKEN_FILES[cloud], "WIF_TOKEN_FILE")) and bool(
                self._environ.get("AWS_ROLE_ARN" if cloud == "aws" else "AZURE_CLIENT_ID")
            )
        path = self._environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if not path:
            return False
        try:
            document = json.loads(read_bounded(path, _MAX_FILE_BYTES))
        except (OSError, ValueError, RecursionError):
            return False  # the standard chain says what is wrong with it
        return isinstance(document, dict) and document.get("type") == "external_account"


def lock_out_warning(target: TargetSettings, issuer: str, identity: Identity) -> str:
    """A sentence where the credential for a target hangs on the documents that it writes; empty where it does not."""
    cloud = CLOUD_OF_SCHEME.get(target.url.partition(":")[0])
    if cloud is None or target.second_way_in is not None:
        return ""
    try:
        federated_by = identity.issuer(cloud)
    except WifError:
        return ""  # writing will say so
    if federated_by != issuer:
        return ""
    return (
        f"the credential for {target.url} is federated by this very issuer: if its key set is lost or wrong, so is the "
        "access that would repair it; name a second way in (second_way_in in wif.yaml) and try it"
    )
