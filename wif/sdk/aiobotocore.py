"""aiobotocore (and aioboto3, which stands on it): a session whose credentials come from an exchanger.

An extra of its own, ``pip install 'wif[aiobotocore]'``: aiobotocore pins a botocore that is not boto3's newest.
As with aiobotocore's own refreshing credentials, the single keys cannot be read as attributes, because that would
need an await; ``await get_frozen_credentials()`` returns keys that belong together.
"""

from __future__ import annotations

__all__ = ["CredentialProvider", "Credentials", "credentials", "session"]

from typing import TYPE_CHECKING, Any

from wif.errors import WifError
from wif.sdk.aws import METHOD, SupportsAwsCredentials, default_exchanger, put_first, refuse_others, retrieval_failed
from wif.sdk.requirements import extra_missing

try:
    import aiobotocore.credentials
    import aiobotocore.session
    import botocore.credentials
except ImportError as error:
    raise extra_missing("aiobotocore", "aiobotocore") from error

if TYPE_CHECKING:
    from typing import NoReturn


class Credentials(aiobotocore.credentials.AioCredentials):  # type: ignore[misc]  # aiobotocore is not annotated
    """aiobotocore's credentials, asked of the exchanger at each use.

    Args:
        exchanger: of ``wif.aws()``.
    """

    def __init__(self, exchanger: SupportsAwsCredentials) -> None:
        # aiobotocore's own __init__ would store keys, and there are none to store
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

    async def get_frozen_credentials(self) -> botocore.credentials.ReadOnlyCredentials:
        """Keys that belong together, for one signature; the event loop is never blocked.

        Raises:
            botocore.exceptions.CredentialRetrievalError: from the :class:`~wif.errors.WifError`.
        """
        try:
            keys = await self._exchanger.acredentials()
        except WifError as error:
            retrieval_failed(error)
        return botocore.credentials.ReadOnlyCredentials(
            keys.access_key_id, keys.secret_access_key, keys.session_token, keys.account_id or None
        )

    async def get_access_key(self) -> str | None:
        """The access key id of now."""
        return (await self.get_frozen_credentials()).access_key

    async def get_secret_key(self) -> str | None:
        """The secret key of now."""
        return (await self.get_frozen_credentials()).secret_key

    async def get_token(self) -> str | None:
        """The session token of now."""
        return (await self.get_frozen_credentials()).token

    async def get_account_id(self) -> str | None:
        """The account that the role belongs to; services with account-based endpoints ask for it."""
        return (await self.get_frozen_credentials()).account_id

    @property
    def access_key(self) -> NoReturn:
        """Not readable without an await."""
        _needs_await("get_access_key")

    @property
    def secret_key(self) -> NoReturn:
        """Not readable without an await."""
        _needs_await("get_secret_key")

    @property
    def token(self) -> NoReturn:
        """Not readable without an await."""
        _needs_await("get_token")

    @property
    def account_id(self) -> NoReturn:
        """Not readable without an await."""
        _needs_await("get_account_id")


class CredentialProvider(botocore.credentials.CredentialProvider):
    """The link of aiobotocore's chain that always answers with the exchanger's credentials.

    Args:
        credentials: what it hands out.
    """

    METHOD = METHOD
    CANONICAL_NAME = "WorkloadIdentityFederation"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    async def load(self) -> Credentials:
        """The credentials; no request is sent here."""
        return self._credentials


def credentials(exchanger: SupportsAwsCredentials | None = None) -> Credentials:
    """aiobotocore credentials for whatever takes them directly.

    Args:
        exchanger: of ``wif.aws()``; None builds one from the environment.

    Raises:
        ConfigurationError: the environment describes no AWS identity.
    """
    return Credentials(default_exchanger(exchanger))


def session(
    exchanger: SupportsAwsCredentials | None = None,
    *,
    botocore_session: aiobotocore.session.AioSession | None = None,
    region: str | None = None,
) -> aiobotocore.session.AioSession:
    """An aiobotocore session that never needs a key; ``aioboto3.Session(botocore_session=…)`` takes it.

    Args:
        exchanger: of ``wif.aws()``; None builds one from the environment.
        botocore_session: an existing session to equip; it keeps its configuration and its region.
        region: for the clients; default the session's own, then the exchanger's.

    Raises:
        ConfigurationError: the environment describes no AWS identity; the session has loaded other credentials
            already (config-conflict).
    """
    source = default_exchanger(exchanger)
    provider = CredentialProvider(Credentials(source))
    if botocore_session is None:
        target = aiobotocore.session.AioSession()
        target.register_component("credential_provider", aiobotocore.credentials.AioCredentialResolver([provider]))
        own_region = None
    else:
        target = botocore_session
        put_first(target, provider)
        refuse_others(_loaded(target), source)
        own_region = target.get_config_variable("region")
    resolved = region or own_region or source.region
    if resolved is not None:
        target.set_config_variable("region", resolved)
    return target


def _loaded(target: aiobotocore.session.AioSession) -> object:
    """The credentials that a session uses. Nothing is awaited: they are loaded already, or our provider is first."""
    asking = target.get_credentials()
    try:
        asking.send(None)
    except StopIteration as done:
        return done.value
    finally:
        asking.close()
    return None  # some other provider has gone to the network: these are not ours


def _needs_await(method: str) -> NoReturn:
    # what aiobotocore's own refreshing credentials raise here
    raise NotImplementedError(f"the exchanger must be awaited: use get_frozen_credentials or {method}")
