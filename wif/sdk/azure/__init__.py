"""azure-core: credentials for any Azure client, asked of an exchanger at each use.

The objects hold no token. azure-core's pipeline keeps the one that it got and asks again when 300 s are left, then at
each request: the exchanger answers those from its cache, so a token of 300 s costs one exchange and not one for each
request.

``claims`` is a claims challenge: the last token was rejected, so the exchanger drops it, once for each challenge, and
asks for a new one with these claims. ``tenant_id`` must be the exchanger's own tenant: one exchanger is one identity.
``enable_cae`` is accepted and not passed on: tokens keep their ordinary life of about an hour, and a challenge is
answered all the same.

What clients call (``get_token``, ``get_token_info``) raises ``azure.core.exceptions.ClientAuthenticationError`` from
the :class:`~wif.errors.WifError`, with its message, also for a failure of the network: the pipeline's retry policy
takes every other class for a reason to begin anew what the exchanger has tried already. What you call
(:func:`credential`, :func:`async_credential`) raises the ``WifError`` itself.

``close()`` closes an exchanger that was built from the environment; one that you handed in stays open for its others.
"""

from __future__ import annotations

__all__ = ["AsyncCredential", "Credential", "SupportsAzureTokens", "aio", "async_credential", "credential"]

from wif.sdk.azure import aio
from wif.sdk.azure.aio import AsyncCredential
from wif.sdk.azure.blocking import Credential
from wif.sdk.azure.request import SupportsAzureTokens, default_exchanger


def credential(exchanger: SupportsAzureTokens | None = None) -> Credential:
    """A credential for any Azure client: ``azure.core.credentials.TokenCredential`` and ``SupportsTokenInfo``.

    Args:
        exchanger: of ``wif.azure()``; None builds one from the environment.

    Raises:
        ConfigurationError: the environment describes no Azure identity.
    """
    return Credential(default_exchanger(exchanger), owns_exchanger=exchanger is None)


def async_credential(exchanger: SupportsAzureTokens | None = None) -> AsyncCredential:
    """A credential for any asynchronous Azure client; also ``wif.sdk.azure.aio.credential``.

    Args:
        exchanger: of ``wif.azure()``; None builds one from the environment.

    Raises:
        ConfigurationError: the environment describes no Azure identity.
    """
    return aio.credential(exchanger)
