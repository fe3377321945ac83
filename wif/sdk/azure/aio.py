"""The credential of Azure's asynchronous clients."""

from __future__ import annotations

__all__ = ["AsyncCredential", "credential"]

from typing import TYPE_CHECKING, Any, Self

from wif.errors import WifError
from wif.sdk.azure.request import (
    SupportsAzureTokens,
    access_token,
    access_token_info,
    authentication_failed,
    default_exchanger,
    single_scope,
)

if TYPE_CHECKING:
    import azure.core.credentials

    from wif.core import credentials


class AsyncCredential:
    """``AsyncTokenCredential`` and ``AsyncSupportsTokenInfo`` of azure-core. Make it with :func:`credential`.

    Args:
        exchanger: of ``wif.azure()``.
        owns_exchanger: whether ``close()`` closes it.
    """

    def __init__(self, exchanger: SupportsAzureTokens, *, owns_exchanger: bool = False) -> None:
        self._exchanger = exchanger
        self._owns_exchanger = owns_exchanger

    def __repr__(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}({self._exchanger!r})"

    @property
    def exchanger(self) -> SupportsAzureTokens:
        """Whom this credential asks."""
        return self._exchanger

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,  # noqa: ARG002  # accepted, see the package's documentation
        **kwargs: Any,  # noqa: ARG002  # azure-core's protocol
    ) -> azure.core.credentials.AccessToken:
        """A token for one scope; arguments and errors of :meth:`wif.sdk.azure.Credential.get_token`."""
        return access_token(await self._ask(scopes, claims, tenant_id))

    async def get_token_info(
        self, *scopes: str, options: azure.core.credentials.TokenRequestOptions | None = None
    ) -> azure.core.credentials.AccessTokenInfo:
        """A token for one scope; arguments and errors of :meth:`wif.sdk.azure.Credential.get_token_info`."""
        wishes = options or {}
        return access_token_info(await self._ask(scopes, wishes.get("claims"), wishes.get("tenant_id")))

    async def _ask(self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None) -> credentials.AccessToken:
        try:
            scope = single_scope(self._exchanger, scopes, tenant_id)
            return await self._exchanger.acredentials(scope=scope, claims=claims)
        except WifError as error:
            authentication_failed(error)

    async def close(self) -> None:
        """Close the exchanger if it was built for this credential alone."""
        if self._owns_exchanger:
            self._exchanger.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def credential(exchanger: SupportsAzureTokens | None = None) -> AsyncCredential:
    """A credential for any asynchronous Azure client.

    Args:
        exchanger: of ``wif.azure()``; None builds one from the environment.

    Raises:
        ConfigurationError: the environment describes no Azure identity.
    """
    return AsyncCredential(default_exchanger(exchanger), owns_exchanger=exchanger is None)
