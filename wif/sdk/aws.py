"""boto3 and botocore: a session whose credentials come from an exchanger.

Only public interfaces of botocore are used: a ``Credentials`` subclass, a ``CredentialProvider`` that hands it out,
and the session's ``credential_provider`` component. The credentials hold nothing: every signature asks the
exchanger, so botocore's own refresh windows (900 and 600 s) do not apply and a session of 900 s costs one exchange,
not one for each call.

What the SDK calls raises ``botocore.exceptions.CredentialRetrievalError`` from the :class:`~wif.errors.WifError`,
with its message; what you call (:func:`session`, :func:`credentials`) raises the ``WifError`` itself.
"""

from __future__ import annotations

__all__ = ["CredentialProvider", "Credentials", "SupportsAwsCredentials", "aio_session", "credentials", "session"]

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from wif.errors import ConfigurationError, WifError
from wif.sdk.requirements import extra_missing, present

try:
    import botocore.credentials
    import botocore.exceptions
    import botocore.session
except ImportError as error:
    raise extra_missing("botocore", "aws") from error

if TYPE_CHECKING:
    import aiobotocore.session
    import boto3

    from wif.core.credentials import AwsCredentials

METHOD = "wif"
"""What botocore calls this source of credentials, in logs and as ``credentials.method``."""


class SupportsAwsCredentials(Protocol):
    """What is needed of an exchanger: ``wif.aws()`` returns one, tests bring their own."""

    @property
    def region(self) -> str | None:
        """The region whose STS endpoint is asked; None for the global one."""
        ...

    def credentials(self, *, timeout: float | None = None) -> AwsCredentials:
        """The keys of now, from the cache or by an exchange. Seconds."""
        ...

    async def acredentials(self, *, timeout: float | None = None) -> AwsCredentials:
        """The same for a task."""
        ...


class Credentials(botocore.credentials.Credentials):
    """botocore's credentials, asked of the exchanger at each use.

    The three single properties may straddle a refresh when they are read one after the other;
    ``get_frozen_credentials()`` returns keys that belong together.

    Args:
        exchanger: of ``wif.aws()``.
    """

    def __init__(self, exchanger: SupportsAwsCredentials) -> None:
        # botocore's own __init__ would store keys, and there are none to store
        self._exchanger = exchanger
        self.method = METHOD

    def __repr__(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}({self._exchanger!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Credentials:
        return type(self)(self._exchanger)

    @property
    def exchanger(self) -> SupportsAwsCredentials:
        """Whom these credentials ask."""
        return self._exchanger

    def get_frozen_credentials(self) -> botocore.credentials.ReadOnlyCredentials:
        """Keys that belong together, for one signature.

        Raises:
            botocore.exceptions.CredentialRetrievalError: from the :class:`~wif.errors.WifError`.
        """
        try:
            keys = self._exchanger.credentials()
        except WifError as error:
            retrieval_failed(error)
        return botocore.credentials.ReadOnlyCredentials(
            keys.access_key_id, keys.secret_access_key, keys.session_token, keys.account_id or None
        )

    @property
    def access_key(self) -> str | None:  # type: ignore[override]  # an attribute in botocore
        """The access key id of now."""
        return self.get_frozen_credentials().access_key

    @property
    def secret_key(self) -> str | None:  # type: ignore[override]  # an attribute in botocore
        """The secret key of now."""
        return self.get_frozen_credentials().secret_key

    @property
    def token(self) -> str | None:  # type: ignore[override]  # an attribute in botocore
        """The session token of now."""
        return self.get_frozen_credentials().token

    @property
    def account_id(self) -> str | None:
        """The account that the role belongs to; services with account-based endpoints (DynamoDB) ask for it."""
        return self.get_frozen_credentials().account_id


class CredentialProvider(botocore.credentials.CredentialProvider):
    """The link of botocore's chain that always answers with the exchanger's credentials.

    Args:
        credentials: what it hands out.
    """

    METHOD = METHOD
    CANONICAL_NAME = "WorkloadIdentityFederation"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials:
        """The credentials; no request is sent here."""
        return self._credentials


def credentials(exchanger: SupportsAwsCredentials | None = None) -> Credentials:
    """botocore credentials for whatever takes them directly (signers of OpenSearch, Kafka, requests).

    Args:
        exchanger: of ``wif.aws()``; None builds one from the environment.

    Raises:
        ConfigurationError: the environment describes no AWS identity.
    """
    return Credentials(default_exchanger(exchanger))


def session(
    exchanger: SupportsAwsCredentials | None = None,
    *,
    botocore_session: botocore.session.Session | None = None,
    region: str | None = None,
) -> boto3.Session:
    """A boto3 session that never needs a key.

    Args:
        exchanger: of ``wif.aws()``; None builds one from the environment.
        botocore_session: an existing session to equip; it keeps its configuration and its region.
        region: for the clients; default the botocore session's own, then the exchanger's. Without any, boto3 signs
            for the global endpoints.

    Raises:
        ConfigurationError: the environment describes no AWS identity; boto3 is not installed; the botocore session
            has loaded other credentials already (config-conflict).
    """
    try:
        import boto3  # noqa: PLC0415  # the credentials alone need botocore only
    except ImportError as error:
        raise extra_missing("boto3", "aws") from error
    source = default_exchanger(exchanger)
    provider = CredentialProvider(Credentials(source))
    if botocore_session is None:
        target, own_region = botocore.session.Session(), None
        target.register_component("credential_provider", botocore.credentials.CredentialResolver([provider]))
    else:
        target, own_region = botocore_session, botocore_session.get_config_variable("region")
        put_first(target, provider)
        refuse_others(target.get_credentials(), source)
    return boto3.Session(botocore_session=target, region_name=region or own_region or source.region)


def aio_session(
    exchanger: SupportsAwsCredentials | None = None,
    *,
    botocore_session: aiobotocore.session.AioSession | None = None,
    region: str | None = None,
) -> aiobotocore.session.AioSession:
    """The same for aiobotocore: :func:`wif.sdk.aiobotocore.session`, by its short name."""
    from wif.sdk.aiobotocore import session as make  # noqa: PLC0415  # an extra of its own

    return make(exchanger, botocore_session=botocore_session, region=region)


def put_first(target: botocore.session.Session, provider: botocore.credentials.CredentialProvider) -> None:
    """Put a provider in front of an existing session's chain, where it is not there already."""
    resolver = target.get_component("credential_provider")
    methods = [other.METHOD for other in resolver.providers]
    if METHOD in methods:
        return
    if methods:
        resolver.insert_before(methods[0], provider)
    else:
        resolver.providers.append(provider)


def refuse_others(loaded: object, exchanger: SupportsAwsCredentials) -> None:
    """Raise config-conflict unless a session's credentials are this exchanger's."""
    if getattr(loaded, "exchanger", None) is not exchanger:
        raise ConfigurationError(
            "this botocore session has loaded other credentials already "
            f"(method {getattr(loaded, 'method', None)!r}), and a session keeps what it has loaded",
            code="config-conflict",
            cloud="aws",
            hint="hand in a botocore session that has made no client yet, or leave botocore_session out",
        )


def default_exchanger(exchanger: SupportsAwsCredentials | None) -> SupportsAwsCredentials:
    """The exchanger, or the one that the environment describes."""
    if exchanger is not None:
        return exchanger
    from wif.exchange.environment import from_env  # noqa: PLC0415  # loads the transport, if nobody did yet

    return present(from_env().aws, cloud="aws", variables="AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE")


def retrieval_failed(error: WifError) -> NoReturn:
    """Raise what botocore's own providers raise, from the error that says why."""
    raise botocore.exceptions.CredentialRetrievalError(provider=METHOD, error_msg=str(error)) from error
