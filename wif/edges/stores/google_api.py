"""Google's control planes as far as a key set needs them: read a resource, patch one field, wait for the operation.

Sources: the discovery documents ``iam.v1`` and ``gkehub.v1``; google.rpc.Status and google.rpc.Code for errors.
"""

from __future__ import annotations

__all__ = ["PACE", "Credentials", "GoogleApi", "Pace", "Refusal"]

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlencode

from wif.clouds.answers import json_object, retry_after_seconds, shown, text_member
from wif.core.flow import Request, Response
from wif.core.freshness import Limits, retry_delay
from wif.core.hosts import AllowedHosts
from wif.edges.transport import Transport
from wif.errors import RefusedError, UnavailableError, WifError

if TYPE_CHECKING:
    from wif.edges.stores.credentials import Identity


class Pace(NamedTuple):
    """Every time of one target, with its reason. Seconds unless the name says otherwise."""

    read_seconds: float = 10.0
    """One request that only reads: connect, headers and body."""
    write_seconds: float = 5.0
    """One PATCH; together with the margin shorter than what is left of a Lease that was just renewed."""
    margin_seconds: float = 2.0
    """Of the Lease, beyond the request: for clocks that differ."""
    settle_seconds: float = 15.0
    """One lease period: after this long a leader that was paused has written, or never will."""
    attempts: int = 4
    """Of a read, and of a write."""
    backoff_seconds: float = 0.5
    """First pause after a failure; doubles, with jitter."""
    longest_pause_seconds: float = 15.0
    """Where ``Retry-After`` asks for more, the error goes up: the next round of the publisher comes anyway."""
    poll_seconds: float = 0.25
    """First pause before an operation is looked at; grows to sixteen times as much."""
    operation_seconds: float = 60.0
    """How long an update may take; Google's own take seconds."""
    read_backs: int = 5
    """How often a finished update is looked for: the answer may be an old one for a moment."""
    read_back_seconds: float = 0.5
    """Between the first two of these; grows by as much each time."""
    total_seconds: float = 120.0
    """No attempt of a write begins later than this."""


PACE = Pace()

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
        pace: how long things may take.
    """

    def __init__(
        self,
        *,
        target: str,
        base_url: str,
        hosts: AllowedHosts,
        credentials: Credentials,
        transport: Transport,
        pace: Pace = PACE,
    ) -> None:
        self._pace = pace
        self._target = target
        self._base_url = base_url.rstrip("/")
        self._hosts = hosts
        self._credentials = credentials
        self._transport = transport

    def get(self, name: str, refusal: Refusal) -> Mapping[str, Any]:
        """A resource, with bounded repeats.

        Raises:
            WifError: target-unavailable (retryable), target-refused, response-malformed.
        """
        request = Request(method="GET", url=f"{self._base_url}/v1/{name}", operation="get")
        for attempt in range(1, self._pace.attempts + 1):
            try:
                return self._call(request, refusal, timeout_seconds=self._pace.read_seconds)
            except WifError as error:
                if not error.retryable or attempt == self._pace.attempts:
                    raise
                self.pause(attempt, error)
        raise AssertionError("attempts is at least 1")  # pragma: no cover

    def patch(
        self,
        name: str,
        mask: str,
        body: bytes,
        refusal: Refusal,
        *,
        request_id: str | None = None,
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
        return self._call(request, refusal, timeout_seconds=self._pace.write_seconds)

    def pause(self, attempt: int, error: WifError) -> None:
        """Wait after a failed attempt, counted from 1; the error is raised where it asks for more than is waited."""
        after = error.retry_after_seconds
        if after is not None and after > self._pace.longest_pause_seconds:
            raise error
        limits = Limits(backoff_seconds=self._pace.backoff_seconds)
        time.sleep(retry_delay(attempt, chance=random.random(), retry_after_seconds=after, limits=limits))  # noqa: S311

    def wait(self, operation: Mapping[str, Any], refusal: Refusal) -> None:
        """Until a long-running operation is done.

        An operation that may not be read, or is gone, is left alone: what the resource holds then decides.

        Raises:
            WifError: target-refused or target-unavailable with the operation's own error; target-unavailable where
                it is not done in time.
        """
        ends = time.monotonic() + self._pace.operation_seconds
        pause_seconds = self._pace.poll_seconds
        while operation.get("done") is not True:
            name = text_member(operation, "name")
            if not name or not set(name) <= _NAME_LETTERS:
                return
            if time.monotonic() + pause_seconds > ends:
                raise self._unavailable(
                    f"the update is not done after {self._pace.operation_seconds:g} s (operation {name})"
                )
            time.sleep(pause_seconds)
            pause_seconds = min(16 * self._pace.poll_seconds, pause_seconds * 1.6)
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

    def _call(self, request: Request, refusal: Refusal, *, timeout_seconds: float) -> Mapping[str, Any]:
        deadline = time.monotonic() + timeout_seconds  # one for all of it: a Lease may have been looked at just now
        identity = self._credentials.current()
        response = self._send(request, identity, deadline)
        if response.status == 401:
            self._credentials.renew(identity)
            response = self._send(request, self._credentials.current(), deadline)
        if response.status != 200:
            raise self._refused(response, refusal)
        answer = json_object(response)
        if answer is None:
            raise self._unavailable(f"what answered {request.operation} is no JSON object", response)
        return answer

    def _send(self, request: Request, identity: Identity, deadline: float) -> Response:
        headers = {**request.headers, "authorization": f"Bearer {identity.secrets['token']}"}
        sent = Request(
            method=request.method,
            url=request.url,
            headers=headers,
            body=request.body,
            operation=f"{self._target}: {request.operation}",
        )
        try:
            return self._transport.send(sent, deadline=deadline, hosts=self._hosts)
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


_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/")
"""Of an operation's name, which comes from the answer and goes into a URL."""
