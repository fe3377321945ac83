"""The webhook's ASGI application: ``POST /mutate`` and ``POST /validate``, an AdmissionReview in and one out.

The way of most reviews is short: the body came in one message, the ServiceAccount is in the cache, nothing is waited
for. What cannot be decided (the ServiceAccount can neither be found nor known to be absent) is answered with an HTTP
error, so that the failure policy of the registration decides, and not a pod that runs without what it was to have.
"""

from __future__ import annotations

__all__ = ["Accounts", "Counts", "Told", "WebhookApp"]

import asyncio
import json
import logging
import math
import re
import secrets
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wif.admission.accounts import ServiceAccount
from wif.admission.decision import Decision, encode_decision
from wif.admission.mutation import accounts_wanted, mutate
from wif.admission.readings import Readings
from wif.admission.review import Review, answer, pod_review, read_review
from wif.admission.validation import review_account
from wif.errors import ProtocolError, WifError

if TYPE_CHECKING:
    from wif.admission.platform import Platform
    from wif.config.webhook import WebhookSettings
    from wif.serve.httpd import Receive, Scope, Send

_audit = logging.getLogger("wif.audit")
_LOGGER = logging.getLogger("wif.serve")

MAX_BODY_BYTES = 7 * 1024 * 1024
"""The API server takes objects of 3 MiB; an update carries the old one too, and the review around them."""
MAX_BUFFERED_BYTES = 32 * 1024 * 1024
"""Of all bodies that come in several messages, together: whoever sends more is asked to come again."""
LONGEST_SECONDS = 3.5
"""For the ServiceAccount to be found: well inside the five seconds that the API server is registered with."""
RESERVE_SECONDS = 1.0
"""Of the API server's own time-out, which it writes into the URL."""
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Of the latency histogram, in seconds."""

WARN_SECONDS = 10.0
"""Between two lines of the log about reviews that could not be decided; the metric has them all."""

_TIMEOUT = re.compile(rb"(?:^|&)timeout=(\d{1,4})s(?:&|$)")
_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"


class Accounts(Protocol):
    """Where ServiceAccounts are looked up; see :class:`wif.serve.service_accounts.AccountCache`."""

    def get(self, namespace: str, name: str) -> ServiceAccount | None:
        """What is there."""

    async def find(
        self, namespace: str, name: str, *, wait_seconds: float, remember: bool = True
    ) -> ServiceAccount | None:
        """What is there, or comes soon."""

    def is_current(self, namespace: str) -> bool:
        """Whether what is there can be trusted to be what the cluster says now; else it is to be looked for."""

    def is_watched(self, namespace: str) -> bool:
        """Whether a namespace is this webhook's business."""


class Told(NamedTuple):
    """A decision that somebody should hear of: it denies, or has something to say."""

    review: Review
    decision: Decision
    account: ServiceAccount | None


class Counts:
    """What was answered, for the metrics: plain numbers, written by the event loop alone."""

    def __init__(self) -> None:
        self.reviews: dict[tuple[str, str, str], int] = {}
        """By webhook, outcome and dialects."""
        self.findings: dict[tuple[str, str], int] = {}
        """By rule and level."""
        self.refused: dict[int, int] = {}
        """Requests that were no review that is answered, by HTTP status."""
        self.missing = 0
        """Pods whose ServiceAccount is nowhere."""
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class WebhookApp:
    """Answers reviews.

    Args:
        settings: how is injected.
        accounts: the ServiceAccounts.
        platform: what the platform's ConfigMap says now; None where there is none.
        wait_seconds: for a ServiceAccount that was made just before its pod.
        tell: called with what an Event should be made of; it returns at once.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        accounts: Accounts,
        *,
        platform: Callable[[], Platform | None] = lambda: None,
        wait_seconds: float = 1.0,
        tell: Callable[[Told], None] | None = None,
    ) -> None:
        self.counts = Counts()
        self._settings = settings
        self._accounts = accounts
        self._platform = platform
        self._wait_seconds = wait_seconds
        self._tell = tell
        self._readings = Readings()
        self._buffered_bytes = 0
        self._warned_at = -math.inf
        _warm(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        status, kind = 200, _JSON
        try:
            body = await self._answered(scope, receive)
        except _Gone:
            return
        except _Refused as refusal:
            status, body, kind = refusal.status, refusal.body, refusal.kind
            self.counts.refused[status] = self.counts.refused.get(status, 0) + 1
        headers = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 405:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answered(self, scope: Scope, receive: Receive) -> bytes:
        path = scope["path"]
        if path not in ("/mutate", "/validate"):
            raise _Refused(404, b"not found\n")
        if scope["method"] != "POST":
            raise _Refused(405, b"only POST\n")
        if not _is_json(scope["headers"]):
            raise _Refused(415, b"send an AdmissionReview as application/json\n")
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        body = message.get("body", b"")
        if message.get("more_body"):
            body = await self._whole(body, receive)
        began = time.perf_counter()
        try:
            found = await self._reviewed(body, path == "/mutate", scope["query_string"])
        except ProtocolError as error:
            raise _Refused(400, _refusal(error.message), _JSON) from error
        except TimeoutError:
            raise self._undecided("the ServiceAccount was not found in time") from None
        except WifError as error:
            raise self._undecided(error.message) from error
        except Exception as error:  # the last barrier: a defect must not end in a traceback
            raise _defect(error) from error
        counts, seconds = self.counts, time.perf_counter() - began
        counts.buckets[bisect_left(BOUNDS, seconds)] += 1
        counts.seconds += seconds
        return found

    async def _whole(self, first: bytes, receive: Receive) -> bytes:
        """A body that comes in several messages."""
        parts, size = [first], len(first)
        self._buffered_bytes += size
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Gone
                part = message.get("body", b"")
                size += len(part)
                self._buffered_bytes += len(part)
                if self._buffered_bytes > MAX_BUFFERED_BYTES:
                    raise _Refused(503, b"too much at once\n")
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
        finally:
            self._buffered_bytes -= size

    # -- a review ----------------------------------------------------------------------------------------------

    async def _reviewed(self, body: bytes, may_change: bool, query: bytes) -> bytes:
        review = read_review(body)
        if not self._accounts.is_watched(review.namespace):  # another tenant's: nothing is said of it anywhere
            self._count("mutate" if may_change else "validate", "foreign", "", review)
            return answer(review, allowed=True)
        if review.resource.resource == "serviceaccounts":
            decision = review_account(review, self._settings, self._platform())
            if may_change:  # what is wrong with it is said by the other webhook, once
                decision = Decision(allowed=True, patch=decision.patch if decision.allowed else None)
            else:
                decision = _unpatched(decision)
            return self._noted(review, decision, None, "mutate" if may_change else "validate")
        if not may_change:
            return self._noted(review, Decision(allowed=True), None, "validate")
        wanted = accounts_wanted(review, self._settings)
        accounts: dict[tuple[str, str], ServiceAccount | None] = {}
        for position, key in enumerate(wanted):
            account = self._accounts.get(*key)
            # further ones are hints, not worth a wait
            if position == 0 and (account is None or not self._accounts.is_current(key[0])):
                account = await self._found(key, review, query)
            accounts[key] = account
        decision = mutate(
            review,
            accounts,
            self._settings,
            self._platform(),
            readings=self._readings,
            new_secret=secrets.token_urlsafe,
        )
        own = accounts[wanted[0]] if wanted else None
        if wanted and own is None and not review.dry_run:
            self.counts.missing += 1
        return self._noted(review, decision, own, "mutate")

    async def _found(self, key: tuple[str, str], review: Review, query: bytes) -> ServiceAccount | None:
        given = _TIMEOUT.search(query)
        longest = LONGEST_SECONDS
        if given is not None:
            longest = max(0.1, min(longest, float(given[1]) - RESERVE_SECONDS))
        wait = min(self._wait_seconds, longest / 2)
        async with asyncio.timeout(longest):
            return await self._accounts.find(*key, wait_seconds=wait, remember=not review.dry_run)

    def _noted(self, review: Review, decision: Decision, account: ServiceAccount | None, webhook: str) -> bytes:
        """Count it, write it down, tell whom it concerns, and encode it."""
        if not decision.allowed:
            outcome = "denied"
        elif decision.patch is None:
            outcome = "unchanged"
        else:
            outcome = "injected" if decision.identities else "changed"
        self._count(webhook, outcome, "+".join(decision.dialects), review)
        if outcome in ("injected", "denied") and _audit.isEnabledFor(logging.INFO):
            record = _record(review, decision, account, outcome)
            _audit.info("%s", json.dumps(record), extra={"wif": record})
        if decision.findings and not review.dry_run:
            for finding in decision.findings:
                key = (finding.rule, finding.level)
                self.counts.findings[key] = self.counts.findings.get(key, 0) + 1
            if self._tell is not None:
                self._tell(Told(review, decision, account))
        return encode_decision(review, decision)

    def _count(self, webhook: str, outcome: str, dialects: str, review: Review) -> None:
        reviews = self.counts.reviews
        key = (webhook, "dry-run", "") if review.dry_run else (webhook, outcome, dialects)
        reviews[key] = reviews.get(key, 0) + 1

    def _undecided(self, why: str) -> _Refused:
        now = time.monotonic()
        if now - self._warned_at >= WARN_SECONDS:
            self._warned_at = now
            _LOGGER.warning("a review could not be decided: %s", why)
        return _Refused(503, b"the ServiceAccount cannot be looked up now\n")


class _Gone(Exception):
    """The client has left."""


class _Refused(Exception):
    """What is answered in place of a decision."""

    def __init__(self, status: int, body: bytes, kind: bytes = _TEXT) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.kind = kind


def _defect(error: Exception) -> _Refused:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_globals.get('__name__')} line {trace.tb_lineno}" if trace is not None else "?"
    # not its text: it may quote what the review said
    _LOGGER.error("a review ended in an unexpected %s in %s: this is a defect of wif", type(error).__name__, where)
    _LOGGER.debug("the traceback", exc_info=error)
    return _Refused(500, b"an unexpected failure; the log says more\n")


def _warm(settings: WebhookSettings) -> None:
    """Load what the first review would load, which would wait 40 ms for it."""
    account = ServiceAccount(
        "warm", "default", "", {f"{settings.aws_prefix}/role-arn": "arn:aws:iam::000000000000:role/a"}
    )
    review = pod_review(b'{"metadata":{},"spec":{"containers":[{"name":"a"}]}}', namespace="warm")
    decision = mutate(review, {("warm", "default"): account}, settings, readings=Readings(), new_secret=str)
    encode_decision(review, decision)


def _is_json(headers: Any) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return bool(value == _JSON or value.partition(b";")[0].strip().lower() == _JSON)
    return False


def _unpatched(decision: Decision) -> Decision:
    """A validating webhook changes nothing."""
    if decision.patch is None:
        return decision
    return Decision(allowed=decision.allowed, code=decision.code, message=decision.message, findings=decision.findings)


def _refusal(message: str) -> bytes:
    """A well-formed answer to what was no review."""
    return answer(Review(uid=""), allowed=False, code=400, message=message)


def _record(
    review: Review, decision: Decision, account: ServiceAccount | None, outcome: str
) -> Mapping[str, str | int | bool]:
    """The audit record: which object, whose, and what it may become."""
    record: dict[str, str | int | bool | None] = {
        "event": "admission",
        "outcome": outcome,
        "resource": review.resource.resource,
        "operation": review.operation,
        "namespace": review.namespace,
        "name": review.name or None,
        "review": review.uid,
        "service_account": account.name if account is not None else None,
        "service_account_uid": account.uid if account is not None else None,
        "identities": " ".join(f"{cloud}={identity}" for cloud, identity in decision.identities) or None,
        "dialects": " ".join(decision.dialects) or None,
        "findings": " ".join(sorted({finding.rule for finding in decision.findings})) or None,
        "code": decision.code if outcome == "denied" else None,
        "dry_run": True if review.dry_run else None,
    }
    return {name: value for name, value in record.items() if value is not None}
