"""Google's metadata server over the identities: ``/`` and everything below ``/computeMetadata``."""

from __future__ import annotations

__all__ = ["GceMetadata"]

from typing import TYPE_CHECKING

from wif.clouds import gce_metadata as protocol
from wif.clouds.endpoint_answers import Answer
from wif.clouds.gcp import DEFAULT_UNIVERSE
from wif.errors import WifError
from wif.serve.asked_keys import MAX_KEYS, Clients

if TYPE_CHECKING:
    from wif.serve.httpd import Scope
    from wif.serve.sidecar_identities import GcpServed, Identities


class GceMetadata:
    """Answers requests that the guard has passed.

    Args:
        identities: whom to serve; the accounts shown follow a replacement.
    """

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._settings = identities.settings
        self._machine = _machine(identities)
        self._clients: dict[str, Clients] = {}

    async def handle(self, scope: Scope) -> Answer:
        """Answer one request."""
        if self._identities.settings is not self._settings:
            self._settings, self._machine = self._identities.settings, _machine(self._identities)
        asked = protocol.read_request(
            self._machine, path=scope["path"], query=scope["query_string"], headers=scope["headers"]
        )
        if isinstance(asked, Answer):
            return asked
        name = asked.account.name
        clients = self._clients.get(name)
        if clients is None:
            clients = self._clients[name] = Clients(self._identities.clocks)
        if asked.key is not None and not clients.keys.admits(asked.key):
            return protocol.state_answer("too-many", f"more than {MAX_KEYS} kinds of tokens were asked for")
        try:
            with clients.room:
                return await _token(self._identities.gcp[name], asked, clients)
        except WifError as error:
            return protocol.failed(error)


async def _token(served: GcpServed, asked: protocol.TokenAsked | protocol.IdTokenAsked, clients: Clients) -> Answer:
    exchanger = served.exchanger
    wait_seconds = clients.room.seconds(protocol.WAIT_SECONDS)
    if isinstance(asked, protocol.TokenAsked):
        token = await exchanger.acredentials(scopes=asked.scopes, timeout=wait_seconds)
        return clients.answer(
            asked.key, asked.key, token, exchanger.lifetime, lambda token, now: protocol.token_answer(token, now=now)
        )
    token = await exchanger.aid_token(audience=asked.audience, include_email=asked.include_email, timeout=wait_seconds)
    return clients.answer(
        asked.key, asked.key, token, exchanger.lifetime, lambda token, _: protocol.id_token_answer(token)
    )


def _machine(identities: Identities) -> protocol.Machine:
    default = identities.default("gcp")
    accounts = tuple(
        protocol.Account(each.name, each.exchanger.service_account, each.exchanger.scopes, each is default)
        for each in identities.gcp.values()
    )
    if default is None:
        return protocol.Machine(accounts, None, None, DEFAULT_UNIVERSE)
    exchanger = default.exchanger
    return protocol.Machine(
        accounts, exchanger.project_id, exchanger.provider.project_number, exchanger.universe_domain
    )
