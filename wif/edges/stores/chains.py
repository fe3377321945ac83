"""The standard credential chain of each cloud: environment and files first, the metadata address last and named.

Static keys of the environment need no SDK. All else is the SDK's own chain, so that a publisher finds what every
other tool of this cloud finds.
"""

from __future__ import annotations

__all__ = ["aws_chain", "azure_chain", "google_chain"]

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wif.edges.stores.credentials import AZURE_STORAGE_SCOPE, Chain, Identity
from wif.errors import ConfigurationError, UnavailableError, WifError

if TYPE_CHECKING:
    from google.auth.transport.requests import Request as GoogleRequest

CONNECT_SECONDS = 5
READ_SECONDS = 10
"""Of one request to a token endpoint; the SDKs wait for up to two minutes by themselves."""

_ACCOUNT_NAMES = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
_SAS_NAMES = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")
_KEY_NAMES = ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY")
_CONNECTION_NAME = "AZURE_STORAGE_CONNECTION_STRING"
_ENTRA_CODE = re.compile(r"AADSTS[0-9]{4,9}")
_INSTANCE_METHODS = ("iam-role", "container-role")


def aws_chain(target: str, environ: Mapping[str, str] = os.environ) -> Chain:
    """Keys of the environment, else botocore's chain: profiles, SSO, processes, web identity, containers, instance.

    Args:
        target: the target's name, for messages.
        environ: where static keys are looked for; botocore reads the process' own.
    """
    session: Any = None

    def chain(rejected: bool) -> Identity:
        nonlocal session
        key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if key and secret:
            token = environ.get("AWS_SESSION_TOKEN")
            secrets = {"access_key_id": key, "secret_access_key": secret} | ({"token": token} if token else {})
            return Identity(origin="AWS_ACCESS_KEY_ID of the environment", secrets=secrets)
        try:
            import botocore.exceptions  # noqa: PLC0415  # slow, and not needed for static keys
            import botocore.session  # noqa: PLC0415
        except ImportError:
            raise _extra_missing(target, "AWS", "botocore", "aws", "AWS_ACCESS_KEY_ID") from None
        try:
            if session is None or rejected:
                session = botocore.session.Session()
                session.set_default_client_config(_botocore_config())
            found = session.get_credentials()
            frozen = found.get_frozen_credentials() if found is not None else None
        except botocore.exceptions.BotoCoreError as error:
            raise _unusable(target, "AWS", type(error).__name__) from None  # its text may quote a profile's secret
        if found is None or frozen is None:
            raise _nothing_found(
                target, "AWS", "AWS_ACCESS_KEY_ID, a profile, a web identity, a container, an instance"
            )
        secrets = {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key}
        if frozen.token:
            secrets["token"] = frozen.token
        return Identity(
            origin=f"the standard chain of AWS ({found.method})",
            secrets=secrets,
            from_instance=found.method in _INSTANCE_METHODS,
        )

    return chain


def google_chain(target: str, scopes: Sequence[str]) -> Chain:
    """Application default credentials by google-auth: a file of any type, gcloud's login, the metadata server."""
    credentials: Any = None

    def chain(rejected: bool) -> Identity:
        nonlocal credentials
        try:
            import google.auth  # noqa: PLC0415
            import google.auth.exceptions  # noqa: PLC0415
        except ImportError:
            raise _extra_missing(target, "GCP", "google-auth", "gcp", "a federated identity") from None
        request = _google_request(target)
        try:
            if credentials is None or rejected:
                credentials, _ = google.auth.default(scopes=list(scopes), request=request)
            if not credentials.valid:
                credentials.refresh(request)
        except google.auth.exceptions.DefaultCredentialsError:
            tried = "GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, the metadata server"
            raise _nothing_found(target, "GCP", tried) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise _unusable(target, "GCP", type(error).__name__, retryable=bool(error.retryable)) from None
        expiry: datetime | None = credentials.expiry
        kind = type(credentials).__module__.removeprefix("google.")
        return Identity(
            origin=f"the standard chain of GCP ({kind})",
            secrets={"token": credentials.token},
            expires_at=expiry.replace(tzinfo=UTC) if expiry is not None else None,
            from_instance="compute_engine" in kind,
        )

    return chain


def azure_chain(target: str, account: str, environ: Mapping[str, str] = os.environ) -> Chain:
    """A SAS token, key or connection string of the environment for this account, else azure-identity's chain.

    Args:
        target: the target's name, for messages.
        account: the storage account: an environment that names another one is not used.
        environ: where static secrets are looked for; azure-identity reads the process' own.
    """
    credential: Any = None

    def chain(rejected: bool) -> Identity:
        nonlocal credential
        if (static := _azure_static(account, environ)) is not None:
            return static
        try:
            from azure.core.exceptions import AzureError  # noqa: PLC0415
            from azure.identity import DefaultAzureCredential  # noqa: PLC0415
        except ImportError:
            raise _extra_missing(target, "Azure", "azure-identity", "azure", _KEY_NAMES[0]) from None
        try:
            if credential is None or rejected:
                credential = DefaultAzureCredential(
                    connection_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retry_total=2, process_timeout=10
                )
            token = credential.get_token(AZURE_STORAGE_SCOPE)
        except AzureError as error:
            # one exception for both: its text is the only place where Entra's own code stands
            if (code := _ENTRA_CODE.search(str(error))) is not None:
                raise _unusable(target, "Azure", code.group()) from None
            tried = "a SAS token or key of the environment for this account, a credential of azure-identity's chain"
            raise _nothing_found(target, "Azure", tried) from None
        # which link of the chain answered stands in no public attribute
        kind = type(getattr(credential, "_successful_credential", credential)).__name__
        return Identity(
            origin=f"the standard chain of Azure ({kind})",
            secrets={"token": token.token},
            expires_at=datetime.fromtimestamp(token.expires_on, UTC),
            from_instance="ManagedIdentity" in kind,
        )

    return chain


def _azure_static(account: str, environ: Mapping[str, str]) -> Identity | None:
    named = _first(environ, _ACCOUNT_NAMES)
    if named is None or environ[named] == account:
        if (name := _first(environ, _SAS_NAMES)) is not None:
            return _static(name, "sas_token", environ[name].removeprefix("?"))
        if (name := _first(environ, _KEY_NAMES)) is not None:
            return _static(name, "access_key", environ[name])
    fields = dict(part.split("=", 1) for part in environ.get(_CONNECTION_NAME, "").split(";") if "=" in part)
    if fields.get("AccountName", account) == account:
        if sas := fields.get("SharedAccessSignature"):
            return _static(_CONNECTION_NAME, "sas_token", sas)
        if key := fields.get("AccountKey"):
            return _static(_CONNECTION_NAME, "access_key", key)
    return None


def _static(name: str, kind: str, secret: str) -> Identity:
    return Identity(origin=f"{name} of the environment", secrets={kind: secret})


def _first(environ: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((name for name in names if environ.get(name)), None)


def _botocore_config() -> Any:
    from botocore.config import Config  # noqa: PLC0415

    return Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"max_attempts": 2})


def _google_request(target: str) -> GoogleRequest:
    try:
        from google.auth.transport.requests import Request  # noqa: PLC0415
    except ImportError:
        raise _extra_missing(target, "GCP", "requests", "gcp", "a federated identity") from None

    class BoundedRequest(Request):
        """As its base, which waits for two minutes."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            send: Any = super().__call__
            return send(*args, **(kwargs | {"timeout": READ_SECONDS}))

    return BoundedRequest()


def _extra_missing(target: str, cloud: str, package: str, extra: str, instead: str) -> ConfigurationError:
    return ConfigurationError(
        f"{target}: {package} is not installed, and the standard chain of {cloud} needs it",
        code="extra-missing",
        hint=f"pip install 'wif[{extra}]', or give the publisher {instead}",
    )


def _nothing_found(target: str, cloud: str, tried: str) -> ConfigurationError:
    return ConfigurationError(
        f"{target}: there are no credentials for {cloud}: expected a federated identity or one of: {tried}",
        code="config-missing",
        hint="configure one of them for the publisher; each is described in the guide of this kind of target",
    )


def _unusable(target: str, cloud: str, kind: str, *, retryable: bool = False) -> WifError:
    message = f"{target}: the standard chain of {cloud} failed: {kind}"
    hint = "try the same credentials with the cloud's own command line: it shows what the chain lacks"
    if retryable:
        return UnavailableError(message, code="target-unavailable", hint=hint)
    return ConfigurationError(message, code="credentials-rejected", hint=hint)
