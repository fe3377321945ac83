"""What both Azure credentials share: reading a client's request, writing the answer, translating errors."""

from __future__ import annotations

__all__ = [
    "SupportsAzureTokens",
    "access_token",
    "access_token_info",
    "authentication_failed",
    "default_exchanger",
    "single_scope",
]

from typing import TYPE_CHECKING, NoReturn, Protocol

from wif.errors import ConfigurationError, WifError
from wif.sdk.requirements import extra_missing, present

try:
    import azure.core.credentials
    import azure.core.exceptions
except ImportError as error:
    raise extra_missing("azure-core", "azure") from error

if TYPE_CHECKING:
    from wif.core.credentials import AccessToken


class SupportsAzureTokens(Protocol):
    """What is needed of an exchanger: ``wif.azure()`` returns one, tests bring their own."""

    @property
    def tenant_id(self) -> str:
        """GUID or verified domain of the tenant."""
        ...

    def credentials(
        self, *, scope: str | None = None, claims: str | None = None, timeout: float | None = None
    ) -> AccessToken:
        """An access token, from the cache or by an exchange. Seconds."""
        ...

    async def acredentials(
        self, *, scope: str | None = None, claims: str | None = None, timeout: float | None = None
    ) -> AccessToken:
        """The same for a task."""
        ...

    def close(self) -> None:
        """Forget everything."""
        ...


def single_scope(exchanger: SupportsAzureTokens, scopes: tuple[str, ...], tenant_id: str | None) -> str:
    """The one scope of a client's request.

    Raises:
        ConfigurationError: none or several scopes (parameter-invalid); another tenant than the exchanger's
            (config-conflict).
    """
    if len(scopes) != 1:
        raise ConfigurationError(
            f"expected one scope, came {len(scopes)}: {' '.join(scopes) or 'nothing'}",
            code="parameter-invalid",
            cloud="azure",
            hint="Entra's client credentials know one resource at a time: ask for '<resource>/.default'",
        )
    if tenant_id and tenant_id.lower() != exchanger.tenant_id.lower():
        raise ConfigurationError(
            f"the client asks for a token of tenant {tenant_id}, this exchanger is of tenant {exchanger.tenant_id}",
            code="config-conflict",
            cloud="azure",
            hint="make an exchanger with that tenant_id (as a GUID, as services name theirs)",
        )
    return scopes[0]


def access_token(token: AccessToken) -> azure.core.credentials.AccessToken:
    """azure-core's pair; the expiry in unix seconds, rounded down."""
    return azure.core.credentials.AccessToken(token.token, int(token.expires_at.timestamp()))


def access_token_info(token: AccessToken) -> azure.core.credentials.AccessTokenInfo:
    """azure-core's richer answer; ``refresh_on`` where Entra said when it wants the token renewed."""
    expires_on = int(token.expires_at.timestamp())
    refresh_on = None
    if token.refresh_in_seconds is not None:
        refresh_on = int(token.expires_at.timestamp() - token.lifetime_seconds + token.refresh_in_seconds)
    return azure.core.credentials.AccessTokenInfo(token.token, expires_on, refresh_on=refresh_on)


def default_exchanger(exchanger: SupportsAzureTokens | None) -> SupportsAzureTokens:
    """The exchanger, or the one that the environment describes."""
    if exchanger is not None:
        return exchanger
    from wif.exchange.environment import from_env  # noqa: PLC0415  # loads the transport, if nobody did yet

    return present(
        from_env().azure, cloud="azure", variables="AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE"
    )


def authentication_failed(error: WifError) -> NoReturn:
    """Raise what Azure's clients expect, from the error that says why."""
    raise azure.core.exceptions.ClientAuthenticationError(message=str(error)) from error
