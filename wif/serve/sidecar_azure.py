"""Azure's managed identity over the identities: App Service's endpoint and the instance metadata service."""

from __future__ import annotations

__all__ = ["AppService", "Imds"]

from typing import TYPE_CHECKING

from wif.clouds import azure_managed_identity as protocol
from wif.clouds.endpoint_answers import Answer
from wif.errors import WifError
from wif.serve.asked_keys import MAX_KEYS, Clients

if TYPE_CHECKING:
    from wif.serve.httpd import Scope
    from wif.serve.sidecar_identities import AzureServed, Identities


class _ManagedIdentity:
    def __init__(self, interface: protocol.Interface, identities: Identities, secret: bytes) -> None:
        self._interface = interface
        self._identities = identities
        self._secret = secret
        self._clients: dict[str, Clients] = {}

    async def handle(self, scope: Scope) -> Answer:
        """Answer one request that the guard has passed."""
        asked = protocol.read_request(
            self._interface,
            path=scope["path"],
            query=scope["query_string"],
            headers=scope["headers"],
            secret=self._secret,
        )
        if isinstance(asked, Answer):
            return asked
        if asked.client_id is None:
            served = self._identities.default("azure")
        else:
            served = self._identities.by_client_id(asked.client_id)
        if served is None:
            return protocol.state_answer(
                self._interface,
                "unknown-identity",
                "no identity is the default here: send client_id"
                if asked.client_id is None
                else "no identity with this client_id is served here",
            )
        return await self._of(served, asked)

    async def _of(self, served: AzureServed, asked: protocol.TokenAsked) -> Answer:
        clients = self._clients.get(served.name)
        if clients is None:
            clients = self._clients[served.name] = Clients(self._identities.clocks)
        if asked.scope not in served.scopes and not clients.keys.admits(asked.scope):
            return protocol.state_answer(self._interface, "too-many", f"more than {MAX_KEYS} resources were asked for")
        try:
            with clients.room:
                token = await served.exchanger.acredentials(
                    scope=asked.scope, timeout=clients.room.seconds(protocol.WAIT_SECONDS)
                )
        except WifError as error:
            return protocol.failed(self._interface, error)
        return clients.answer(
            asked,
            asked.scope,
            token,
            served.exchanger.lifetime,
            lambda token, now: protocol.token_answer(
                self._interface, asked, token, client_id=served.exchanger.client_id, now=now
            ),
        )


class AppService(_ManagedIdentity):
    """Answers requests below ``/azure``.

    Args:
        identities: whom to serve.
        secret: what ``X-IDENTITY-HEADER`` must be.
    """

    def __init__(self, identities: Identities, *, secret: str) -> None:
        super().__init__("app-service", identities, secret.encode())


class Imds(_ManagedIdentity):
    """Answers requests below ``/metadata``: whatever is no token is not found.

    Args:
        identities: whom to serve.
    """

    def __init__(self, identities: Identities) -> None:
        super().__init__("imds", identities, b"")
