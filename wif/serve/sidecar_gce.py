"""The handler of Google's metadata server: requests in, answers from the exchangers' caches out."""

from __future__ import annotations

__all__ = ["GceMetadata"]

import time
from typing import TYPE_CHECKING

from wif.clouds import gce_metadata as protocol
from wif.clouds.endpoint_answers import Answer, state_of
from wif.clouds.gcp import DEFAULT_UNIVERSE
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.serve.httpd import Scope
    from wif.serve.sidecar_identities import Identities


class GceMetadata:
    """Answers ``/`` and everything under ``/computeMetadata/``."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._settings = identities.settings
        self._machine = _machine(identities)

    async def handle(self, scope: Scope) -> Answer:
        """Answer one request."""
        if self._identities.settings is not self._settings:
            self._settings, self._machine = self._identities.settings, _machine(self._identities)
        asked = protocol.read_request(
            self._machine,
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"],
            headers=scope["headers"],
        )
        if isinstance(asked, Answer):
            return asked
        served = self._identities.gcp.get(asked.account.name)
        if served is None:
            return protocol.state_answer("outage", "the configuration is being changed")
        try:
            if isinstance(asked, protocol.TokenAsked):
                token = await served.exchanger.acredentials(scopes=asked.scopes, timeout=protocol.WAIT_SECONDS)
                return protocol.token_answer(token, now=time.time())
            token = await served.exchanger.aid_token(
                audience=asked.audience, include_email=asked.include_email, timeout=protocol.WAIT_SECONDS
            )
            return protocol.id_token_answer(token)
        except WifError as error:
            return protocol.state_answer(_case(error), str(error))


def _machine(identities: Identities) -> protocol.Machine:
    default = identities.settings.default_name("gcp")
    accounts = tuple(
        protocol.Account(name, each.exchanger.service_account, each.exchanger.scopes, name == default)
        for name, each in identities.gcp.items()
    )
    served = identities.gcp.get(default or "")
    if served is None:
        return protocol.Machine(accounts, None, None, DEFAULT_UNIVERSE)
    exchanger = served.exchanger
    return protocol.Machine(
        accounts, exchanger.project_id, exchanger.provider.project_number, exchanger.universe_domain
    )


def _case(error: WifError) -> protocol.Case:
    if error.code == "timeout":
        return "pending"
    return "outage" if state_of(error) == "outage" else "refused"
