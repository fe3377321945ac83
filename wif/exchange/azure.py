"""The Azure exchanger: client credentials with the subject token as the client assertion."""

from __future__ import annotations

__all__ = ["AzureExchanger"]

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wif.clouds import azure
from wif.core.audit import fingerprint
from wif.core.credentials import AccessToken
from wif.core.freshness import LIMITS, Limits
from wif.core.hosts import AllowedHosts
from wif.errors import ConfigurationError
from wif.exchange.clocks import SYSTEM, Clocks
from wif.exchange.exchanger import AttemptContext, Exchanger, RefreshHook, Sender, SourceLike
from wif.exchange.single_flight import Cell, Flight

if TYPE_CHECKING:
    from wif.core.token import UnverifiedToken


class AzureExchanger(Exchanger):
    """Turns a subject token into Entra access tokens, and keeps them fresh.

    Args:
        tenant_id: GUID or verified domain of the tenant.
        client_id: of the application or user-assigned managed identity.
        authority_host: default ``AZURE_AUTHORITY_HOST``, else the public cloud.
        scope: what :meth:`credentials` asks for by default, ``<resource>/.default``.
        source: where the subject token comes from; default the file of ``WIF_TOKEN_FILE`` or
            ``AZURE_FEDERATED_TOKEN_FILE``.
        audience: the ``aud`` that the token must have; None leaves it to Entra.
        propagation_seconds: how long the refusals of a credential just made (AADSTS70021, 700211 to 700213)
            are tried again; 0 takes them at their word.
        allow_hosts, limits, transport, on_refresh, environ: see :class:`Exchanger`.

    Raises:
        ConfigurationError: a value cannot be right. No request is made before :meth:`credentials`.
    """

    cloud = "azure"
    _propagating_codes = azure.PROPAGATION_CODES

    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        *,
        authority_host: str | None = None,
        scope: str | None = None,
        source: SourceLike | None = None,
        audience: str | None = None,
        allow_hosts: Iterable[str] = (),
        limits: Limits = LIMITS,
        transport: Sender | None = None,
        propagation_seconds: float = 0.0,
        on_refresh: RefreshHook | None = None,
        environ: Mapping[str, str] | None = None,
        clocks: Clocks = SYSTEM,
    ) -> None:
        variables = os.environ if environ is None else environ
        self.tenant_id = azure.validate_tenant_id(tenant_id)
        """The tenant."""
        self.client_id = azure.validate_client_id(client_id)
        """The application or managed identity."""
        self.scope = scope
        """What :meth:`credentials` asks for by default, or None."""
        named = authority_host or variables.get("AZURE_AUTHORITY_HOST") or None
        self.authority = azure.authority_url(named)
        """URL of the authority, without a slash at the end."""
        hosts = AllowedHosts(builtin=azure.is_authority_host)
        if named:
            origin = "authority_host=" if authority_host else "AZURE_AUTHORITY_HOST"
            hosts = hosts.with_urls([self.authority], origin=origin)
        super().__init__(
            source=source,
            source_variables=("AZURE_FEDERATED_TOKEN_FILE",),
            audience=audience,
            hosts=hosts,
            allow_hosts=allow_hosts,
            identity=f"{self.tenant_id}/{self.client_id}",
            limits=limits,
            transport=transport,
            propagation_seconds=propagation_seconds,
            on_refresh=on_refresh,
            environ=environ,
            clocks=clocks,
        )
        self._claims: dict[str, str] = {}

    def credentials(
        self, *, scope: str | None = None, claims: str | None = None, timeout: float | None = None
    ) -> AccessToken:
        """An access token, from the cache or by an exchange that all callers share.

        Args:
            scope: ``<resource>/.default``; default the constructor's.
            claims: a claims challenge of an API: the last token was rejected, so it is dropped (once for each
                challenge) and a new one asked for with these claims.
            timeout: seconds that this caller waits; None waits for the exchange's own deadline.
        """
        cell = self._token(scope, claims)
        fresh = cell.fresh()
        return cell.get(timeout) if fresh is None else fresh

    async def acredentials(
        self,
        *,
        scope: str | None = None,
        claims: str | None = None,
        timeout: float | None = None,
    ) -> AccessToken:
        """As :meth:`credentials`, for a task."""
        cell = self._token(scope, claims)
        fresh = cell.fresh()
        return await cell.aget(timeout) if fresh is None else fresh

    def _main(self, scope: str | None) -> Cell[AccessToken]:
        return self._token(scope, None)

    def _token(self, scope: str | None, claims: str | None) -> Cell[AccessToken]:
        wanted = scope or self.scope
        if not wanted:
            raise ConfigurationError(
                f"{self.identity}: no scope",
                code="config-missing",
                hint="pass scope='<resource>/.default', e.g. https://management.azure.com/.default",
            )
        cell = self._cell(wanted, lambda: self._new_cell(lambda flight: self._assert(flight, wanted)))
        if claims is not None and self._claims.get(wanted) != claims:
            self._claims[wanted] = claims
            cell.invalidate()
        return cell

    def _assert(self, flight: Flight[AccessToken], scope: str) -> AccessToken:
        def attempt(context: AttemptContext, token: UnverifiedToken) -> AccessToken:
            return self._drive(
                context,
                azure.request_token(
                    token,
                    tenant_id=self.tenant_id,
                    client_id=self.client_id,
                    authority=self.authority,
                    scope=scope,
                    claims=self._claims.get(scope),
                    now=context.now,
                ),
            )

        return self._exchange(flight, attempt, operation="client_credentials", scopes=(scope,))

    def _credential_id(self, credential: Any) -> str:
        return fingerprint(credential.token)
