"""Exchangers from the variables that the AWS, GCP and Azure webhooks inject into a pod."""

from __future__ import annotations

__all__ = ["Environment", "from_env"]

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.exchange.aws import AwsExchanger
    from wif.exchange.azure import AzureExchanger
    from wif.exchange.gcp import GcpExchanger


class Environment:
    """The identities that a set of variables gives, one exchanger for each cloud.

    An attribute is None where no variable of that cloud is set. Where they are broken, reading the attribute raises
    and the other clouds are not affected. Each exchanger is made once, at the first reading.
    """

    def __init__(self, environ: Mapping[str, str] | None, settings: Mapping[str, Any]) -> None:
        self._given = environ
        self._environ = dict(os.environ) if environ is None else environ
        self._settings = settings
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    @property
    def aws(self) -> AwsExchanger | None:
        """From ``AWS_ROLE_ARN`` and ``AWS_WEB_IDENTITY_TOKEN_FILE``."""
        names = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
        made: AwsExchanger | None = self._once("aws", names, self._make_aws)
        return made

    @property
    def gcp(self) -> GcpExchanger | None:
        """From ``GOOGLE_APPLICATION_CREDENTIALS``, where it names an ``external_account`` file."""
        made: GcpExchanger | None = self._once("gcp", ("GOOGLE_APPLICATION_CREDENTIALS",), self._make_gcp)
        return made

    @property
    def azure(self) -> AzureExchanger | None:
        """From ``AZURE_CLIENT_ID``, ``AZURE_TENANT_ID``, ``AZURE_FEDERATED_TOKEN_FILE``, ``AZURE_AUTHORITY_HOST``."""
        names = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")
        made: AzureExchanger | None = self._once("azure", names, self._make_azure)
        return made

    def _once(self, cloud: str, names: tuple[str, ...], make: Any) -> Any:
        with self._lock:
            if cloud not in self._made:
                found = [name for name in names if self._environ.get(name)]
                if not found:
                    return None
                missing = [name for name in names if name not in found and not self._stands_in(name)]
                if missing:
                    verb = "is" if len(found) == 1 else "are"
                    raise ConfigurationError(
                        f"{' and '.join(found)} {verb} set, but not {' and '.join(missing)}",
                        code="config-missing",
                        hint=f"set {' and '.join(missing)}, or none of {cloud}'s variables",
                    )
                self._made[cloud] = make()
            return self._made[cloud]

    def _stands_in(self, name: str) -> bool:
        return name.endswith("_TOKEN_FILE") and bool(self._environ.get("WIF_TOKEN_FILE"))

    def _make_aws(self) -> AwsExchanger:
        from wif.exchange.aws import AwsExchanger  # noqa: PLC0415  # only the clouds that are asked for

        session_name = self._environ.get("AWS_ROLE_SESSION_NAME") or None
        return AwsExchanger(
            self._environ["AWS_ROLE_ARN"], session_name=session_name, environ=self._given, **self._settings
        )

    def _make_gcp(self) -> GcpExchanger:
        from wif.exchange.gcp import GcpExchanger  # noqa: PLC0415  # only the clouds that are asked for

        path = self._environ["GOOGLE_APPLICATION_CREDENTIALS"]
        return GcpExchanger.from_file(path, environ=self._given, **self._settings)

    def _make_azure(self) -> AzureExchanger:
        from wif.exchange.azure import AzureExchanger  # noqa: PLC0415  # only the clouds that are asked for

        return AzureExchanger(
            self._environ["AZURE_TENANT_ID"], self._environ["AZURE_CLIENT_ID"], environ=self._given, **self._settings
        )


def from_env(environ: Mapping[str, str] | None = None, **settings: Any) -> Environment:
    """Read the webhooks' variables; reads no file yet, and makes no request.

    Args:
        environ: other variables than the process' own; they also name proxies and CA bundles then.
        settings: arguments for every exchanger, e.g. ``limits=``, ``on_refresh=``, ``allow_hosts=``.
    """
    return Environment(environ, settings)
