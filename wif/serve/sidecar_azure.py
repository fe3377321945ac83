"""The handlers of Azure's managed identity: App Service's endpoint and IMDS."""

from __future__ import annotations

__all__ = ["AppService", "Imds"]

import time
from typing import TYPE_CHECKING

from wif.clouds import azure_managed_identity as protocol
from wif.clouds.endpoint_answers import Answer, state_of
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.serve.httpd import Scope
    from wif.serve.sidecar_identities import Identities


class AppService:
    """Answers ``/azure/token``.

    Args:
        secret: what ``X-IDENTITY-HEADER`` must be.
    """

    def __init__(self, identities: Identities, *, secret: str) -> None:
        self._identities = identities
        self._secret = secret

    async def handle(self, scope: Scope) -> Answer:
        """Answer one request."""
        return await _handle("app-service", self._identities, scope, self._secret)


class Imds:
    """Answers ``/metadata/…``: the token, and 404 for the rest."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    async def handle(self, scope: Scope) -> Answer:
        """Answer one request."""
        return await _handle("imds", self._identities, scope, "")


async def _handle(interface: protocol.Interface, identities: Identities, scope: Scope, secret: str) -> Answer:
    asked = protocol.read_request(
        interface, method=scope["method"], query=scope["query_string"], headers=scope["headers"], secret=secret
    )
    if isinstance(asked, Answer):
        return asked
    if asked.client_id is None:
        served = identities.azure.get(identities.settings.default_name("azure") or "")
    else:
        served = identities.by_client_id(asked.client_id)
    if served is None:
        return protocol.state_answer(interface, "unknown-identity", "no identity of this client_id is served here")
    try:
        token = await served.exchanger.acredentials(scope=asked.scope, timeout=protocol.WAIT_SECONDS)
    except WifError as error:
        case: protocol.Case = "refused" if state_of(error) == "refused" else "outage"
        return protocol.state_answer(interface, "pending" if error.code == "timeout" else case, str(error))
    return protocol.token_answer(interface, asked, token, client_id=served.exchanger.client_id, now=time.time())
