"""Google's control planes as far as a key set needs them: read a resource, patch one field, wait for the operation.

Sources: the discovery documents ``iam.v1`` and ``gkehub.v1``; google.rpc.Status and google.rpc.Code for errors.
"""

from __future__ import annotations

__all__ = ["READ_SECONDS", "Credentials", "GoogleApi", "Refusal", "pause"]

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from wif.clouds.answers import json_object, retry_after_seconds, shown, text_member
from wif.core.flow import Request, Response
from wif.core.freshness import Limits, retry_delay
from wif.core.hosts import AllowedHosts
from wif.edges.transport import Transport
from wif.errors import RefusedError, UnavailableError, WifError

if TYPE_CHECKING:
    from wif.edges.stores.credentials import Identity

READ_SECONDS = 10.0
"""One request that only reads: connect, headers and body."""

OPERATION_SECONDS = 60.0
"""How long an update may take; Google's own take seconds."""

_LIMITS = Limits(attempts=4, backoff_seconds=0.5, backoff_max_seconds=4.0)
_LONGEST_PAUSE_SECONDS = 15.0
"""More than this is not waited for, whatever ``Retry-After`` asks: the next round of the publisher comes anyway."""

_FIRST_POLL_SECONDS = 0.25
_LONGEST_POLL_SECONDS = 4.0

_ABORTED = 10
_REFUSING_CODES = {3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 7: "PERMISSION_DENIED", 9: "FAILED_PRECONDITION"}
"""google.rpc.Code: the same update would be refused again."""


class Credentials(Protocol):
    """Gives bearer tokens: :class:`wif.edges.stores.credentials.Identities` is one."""

    def current(self) -> Identity:
        """The one to use now; ``secrets["token"]``."""

    def renew(self, refused: Identity) -> None:
        """The API has refused this one: make another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a refusal means to the operator."""

    permission: str
    """The right that the call needs."""
    resource: str
    """What it was asked of."""


class GoogleApi:
    """One API, with one identity. Safe for threads.

    Args:
        target: the target's name, for messages.
        base_url: ``https://iam.googleapis.com`` or what stands for it.
        hosts: the hosts that may see the token.
        credentials: the publisher's identity.
        transport: sends the requests.
    """

    def __init__(
        self, *, target: str, base_url: str, hosts: AllowedHosts, credentials: Credentials, transport: Transport
    ) -> None:
        self._target = target
        self._base_url = base_url.rstrip("/")
        self._hosts = hosts
        self._credentials = credentials
        self._transport = transport

    def get(self, name: str, refusal: Refusal, *, attempts: int = _LIMITS.attempts) -> Mapping[str, Any]:
        """A resource, with bounded repeats.

        Raises:
            WifError: target-unavailable (retryable), target-refused, response-malformed.
        """
        for attempt in range(1, attempts + 1):
            try:
                return self._call(Request(method="GET", url=f"{self._base_url}/v1/{name}", operation="get"), refusal)
            except WifError as error:
                if not error.retryable or attempt == attempts:
                    raise
                pause(attempt, error)
        raise AssertionError("attempts is at least 1")  # pragma: no cover

    def patch(
        self,
        name: str,
        mask: str,
        body: bytes,
        refusal: Refusal,
        *,
        request_id: str | None = None,
        timeout_seconds: float,
    ) -> Mapping[str, Any]:
        """Ask for an update, once: whether to ask again is for who knows what it would undo.

        Args:
            mask: the one field to change.
            body: JSON.
            request_id: a UUID, for APIs that recognise a repeat by it.

        Returns:
            The operation.

        Raises:
            WifError: as :meth:`get`; after a retryable one it is not known whether the update was made.
        """
        query = {"updateMask": mask} | ({"requestId": request_id} if request_id else {})
        request = Request(
            method="PATCH",
            url=f"{self._base_url}/v1/{name}?{urlencode(query)}",
            headers={"content-type": "application/json"},
            body=body,
            operation="patch",
        )
        return self._call(request, refusal, timeout_seconds=timeout_seconds)

    def wait(self, operation: Mapping[str, Any], refusal: Refusal) -> None:
        """Until a long-running operation is done.

        An operation that may not be read, or is gone, is left alone: what the resource holds then decides.

        Raises:
            WifError: target-refused or target-unavailable with the operation's own error; target-unavailable where
                it is not done in time.
        """
        ends = time.monotonic() + OPERATION_SECONDS
        pause_seconds = _FIRST_POLL_SECONDS
        while operation.get("done") is not True:
            name = text_member(operation, "name")
            if not name or not set(name) <= _NAME_LETTERS:
                return
            if time.monotonic() + pause_seconds > ends:
                raise self._unavailable(f"the update is not done after {OPERATION_SECONDS:g} s (operation {name})")
            time.sleep(pause_seconds)
            pause_seconds = min(_LONGEST_POLL_SECONDS, pause_seconds * 1.6)
            try:
                operation = self.get(name, refusal)
            except RefusedError:
                return
        failure = operation.get("error")
        if isinstance(failure, dict):
            self._failed(failure)

    def _failed(self, failure: Mapping[str, Any]) -> None:
        code, text = failure.get("code"), shown(text_member(failure, "message"), 300)
        if isinstance(code, int) and code in _REFUSING_CODES:
            raise RefusedError(
                f"{self._target}: the update was refused: {text}",
                code="target-refused",
                cloud="gcp",
                cloud_code=_REFUSING_CODES[code],
            )
        what = "others were updating it" if code == _ABORTED else f"the update failed with code {code!r}"
        raise self._unavailable(f"{what}: {text}")

    def _call(self, request: Request, refusal: Refusal, *, timeout_seconds: float = READ_SECONDS) -> Mapping[str, Any]:
        identity = self._credentials.current()
        response = self._send(request, identity, timeout_seconds)
        if response.status == 401:
            self._credentials.renew(identity)
            response = self._send(request, self._credentials.current(), timeout_seconds)
        if response.status != 200:
            raise self._refused(response, refusal)
        answer = json_object(response)
        if answer is None:
            raise self._unavailable(f"what answered {request.operation} is no JSON object", response)
        return answer

    def _send(self, request: Request, identity: Identity, timeout_seconds: float) -> Response:
        headers = {**request.headers, "authorization": f"Bearer {identity.secrets['token']}"}
        sent = Request(
            method=request.method,
            url=request.url,
            headers=headers,
            body=request.body,
            operation=f"{self._target}: {request.operation}",
        )
        try:
            return self._transport.send(sent, deadline=time.monotonic() + timeout_seconds, hosts=self._hosts)
        except WifError as error:
            if not error.retryable:
                raise
            raise UnavailableError(error.message, code="target-unavailable", hint=error.hint, cloud="gcp") from error

    def _refused(self, response: Response, refusal: Refusal) -> WifError:
        answer = json_object(response) or {}
        failure = answer.get("error")
        failure = failure if isinstance(failure, dict) else {}
        status, text = text_member(failure, "status"), shown(text_member(failure, "message"), 300)
        if response.status in (408, 409, 429) or response.status >= 500:
            return self._unavailable(f"HTTP {response.status} {status} {text}".strip(), response)
        what, hint = f"HTTP {response.status} {status}: {text}", None
        if response.status == 401:
            what, hint = f"the credential was not accepted: {text}", "obtain a new credential; check the clock"
        elif response.status == 403:
            what = f"the right {refusal.permission} is missing: {text}"
            hint = f"grant a role with {refusal.permission} on {refusal.resource} to the publisher"
        elif response.status == 404:
            what, hint = "it does not exist", "check project, location and name; make it first"
        return RefusedError(
            f"{self._target}: {what}",
            code="target-refused",
            hint=hint,
            cloud="gcp",
            cloud_code=status or None,
            status=response.status,
        )

    def _unavailable(self, what: str, response: Response | None = None) -> UnavailableError:
        return UnavailableError(
            f"{self._target}: {what}",
            code="target-unavailable",
            cloud="gcp",
            status=response.status if response else None,
            retry_after_seconds=retry_after_seconds(response, time.time()) if response else None,
        )


def pause(attempt: int, error: WifError) -> None:
    """Wait after a failed attempt, counted from 1; ``error`` comes back where it asks for more than is waited."""
    after = error.retry_after_seconds
    if after is not None and after > _LONGEST_PAUSE_SECONDS:
        raise error
    time.sleep(retry_delay(attempt, chance=random.random(), retry_after_seconds=after, limits=_LIMITS))  # noqa: S311


_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/")
"""Of an operation's name, which comes from the answer and goes into a URL."""
