"""AWS' container credentials over the identities: ``/aws`` and ``/aws/NAME``, for who knows the secret."""

from __future__ import annotations

__all__ = ["AwsEndpoint"]

from typing import TYPE_CHECKING

from wif.clouds import aws_container
from wif.clouds.endpoint_answers import Answer
from wif.errors import WifError
from wif.serve.waiting import WaitingRoom

if TYPE_CHECKING:
    from wif.core.credentials import AwsCredentials
    from wif.serve.httpd import Scope
    from wif.serve.sidecar_identities import AwsServed, Identities


class _Prepared:
    """The answer of one identity's credential of now, and who waits for its first."""

    __slots__ = ("answer", "credentials", "room", "served")

    def __init__(self, served: AwsServed) -> None:
        self.served = served
        self.room = WaitingRoom()
        self.credentials: AwsCredentials | None = None
        self.answer: Answer | None = None


class AwsEndpoint:
    """Answers requests below ``/aws``.

    Args:
        identities: whom to serve. After a replacement make a new endpoint: this one keeps answers of who is gone.
        secret: what the Authorization header must be.
    """

    def __init__(self, identities: Identities, *, secret: bytes) -> None:
        self._identities = identities
        self._secret = secret
        self._prepared: dict[str, _Prepared] = {}

    async def handle(self, scope: Scope) -> Answer:
        """Answer one request that the guard has passed."""
        given = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if given is not None:  # two of them: nobody says which one counts
                    return aws_container.refuse("unauthorized")
                given = value
        if not aws_container.is_authorized(given, self._secret):
            return aws_container.refuse("unauthorized")
        name = aws_container.identity_named(scope["path"])
        served = self._identities.aws.get(name) if name is not None else self._identities.default("aws")
        if served is None:
            return aws_container.refuse("unknown" if name is not None or not self._identities.aws else "unnamed")
        return await self._of(served)

    async def _of(self, served: AwsServed) -> Answer:
        prepared = self._prepared.get(served.name)
        if prepared is None or prepared.served is not served:
            prepared = self._prepared[served.name] = _Prepared(served)
        room = prepared.room
        try:
            with room:
                credentials = await served.exchanger.acredentials(
                    timeout=room.seconds(aws_container.PENDING_WAIT_SECONDS)
                )
        except WifError as error:
            return aws_container.failed(error, is_first=served.exchanger.statistics.failures == 0)
        if prepared.answer is None or credentials is not prepared.credentials:
            prepared.credentials, prepared.answer = credentials, aws_container.answer(credentials)
        return prepared.answer
