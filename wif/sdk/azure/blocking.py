"""The credential of Azure's synchronous clients."""

from __future__ import annotations

__all__ = ["Credential"]

from typing import TYPE_CHECKING, Any, Self

from wif.errors import WifError
from wif.sdk.azure.request import (
    SupportsAzureTokens,
    access_token,
    access_token_info,
    authentication_failed,
    single_scope,
)

if TYPE_CHECKING:
    import azure.core.credentials

    from wif.core import credentials


class Credential:
    """``TokenCredential`` and ``SupportsTokenInfo`` of azure-core. Make it with :func:`wif.sdk.azure.credential`.

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

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,  # noqa: ARG002  # accepted, see the package's documentation
        **kwargs: Any,  # noqa: ARG002  # azure-core's protocol
    ) -> azure.core.credentials.AccessToken:
        """A token for one scope.

        Args:
            scopes: exactly one, ``<resource>/.default``.
            claims: a claims challenge: the last token was rejected.
            tenant_id: None or the exchanger's own.
            enable_cae: accepted and not passed on.
            kwargs: ignored, as the protocol has it.

        Raises:
            azure.core.exceptions.ClientAuthenticationError: from the :class:`~wif.errors.WifError`.
        """
        return access_token(self._ask(scopes, claims, tenant_id))

    def get_token_info(
        self, *scopes: str, options: azure.core.credentials.TokenRequestOptions | None = None
    ) -> azure.core.credentials.AccessTokenInfo:
        """A token for one scope, with more about it.

        Args:
            scopes: exactly one, ``<resource>/.default``.
            options: ``claims``, ``tenant_id``, ``enable_cae`` as for :meth:`get_token`.

        Raises:
            azure.core.exceptions.ClientAuthenticationError: from the :class:`~wif.errors.WifError`.
        """
        wishes = options or {}
        return access_token_info(self._ask(scopes, wishes.get("claims"), wishes.get("tenant_id")))

    def _ask(self, scopes: tuple[str, ...], claims: str | None, tenant_id: str | None) -> credentials.AccessToken:
        try:
            scope = single_scope(self._exchanger, scopes, tenant_id)
            return self._exchanger.credentials(scope=scope, claims=claims)
        except WifError as error:
            authentication_failed(error)

    def close(self) -> None:
        """Close the exchanger if it was built for this credential alone."""
        if self._owns_exchanger:
            self._exchanger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
