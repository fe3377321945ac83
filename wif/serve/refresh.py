"""Keep the documents that are served up to date, from behind: no request ever waits for a source.

Each issuer is due at its time and is read by one thread at a time. What was read is rendered anew from checked keys;
no byte of a source is passed on. A key that a source no longer names stays for one stale window more, unless its
removal is known: an API server in the middle of a restart, or one that did not answer, must not take away a key whose
tokens are still about.
"""

from __future__ import annotations

__all__ = ["DocumentSource", "Job", "Reading", "Refresher", "Seen", "rendered", "united"]

import logging
import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from wif.core.discovery import discovery_document, encode_document
from wif.core.public_keys import IssuerKey, key_set_bytes
from wif.errors import ProtocolError, WifError
from wif.issuer.rota import Rota
from wif.serve.discovery import ServedIssuer, monotonic_seconds

_LOGGER = logging.getLogger("wif.serve")

REFRESH_SECONDS = 30.0
"""Between two readings of a source: a staged key is answered within that time."""
THREADS = 8
"""Readings at a time; one takes some milliseconds, or the time-out of a server that does not answer."""
FIRST_RETRY_SECONDS = 1.0
"""After a failure; doubled with each further one, up to the time between two readings."""
_JITTER = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a source gave at one moment."""

    keys: tuple[IssuerKey, ...]
    max_age_seconds: float | None = None
    """How long the source says that this is good for."""
    is_final: bool = False
    """Whether a key's absence is meant: a place that a publisher writes, and not servers that may be restarting."""
    removed: Callable[[IssuerKey], bool] = lambda _: False
    """Whether a tombstone stands against a key."""
    problems: tuple[str, ...] = ()
    """Sentences for the log: what could not be read, or differs."""


class DocumentSource(Protocol):
    """Where the keys of one issuer come from."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    def read(self) -> Reading:
        """Ask now.

        Raises:
            WifError: it cannot be read, or says what cannot be believed; what was read before stays.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A key, and when a source last named it."""

    key: IssuerKey
    at: float


def united(before: Mapping[str, Seen], reading: Reading, *, at: float, keep_seconds: float) -> dict[str, Seen]:
    """The keys to answer after a reading, by id. Pure.

    Args:
        before: the keys answered until now.
        at: when the reading began.
        keep_seconds: how long a key stays that is no longer named.
    """
    kept = {} if reading.is_final else {kid: seen for kid, seen in before.items() if at - seen.at <= keep_seconds}
    found = kept | {key.key_id: Seen(key=key, at=at) for key in reading.keys}
    return {kid: seen for kid, seen in found.items() if not reading.removed(seen.key)}


def rendered(issuer: str, jwks_uri: str, keys: Collection[IssuerKey]) -> tuple[bytes, bytes]:
    """Discovery document and key set, as Kubernetes writes them.

    Raises:
        ProtocolError: document-invalid without a key.
    """
    if not keys:
        raise ProtocolError(f"there is no key left to serve for {issuer}", code="document-invalid")
    document = discovery_document(issuer, jwks_uri, (key.algorithm for key in keys))
    return encode_document(document), key_set_bytes(keys)


class Job:
    """One issuer and its source.

    Args:
        clouds: keys that none of these verifies are left out.
    """

    def __init__(
        self, issuer: ServedIssuer, source: DocumentSource, *, clouds: Collection[str] = ("aws", "gcp", "azure")
    ) -> None:
        self.issuer = issuer
        self.source = source
        self.failures = 0
        """In a row."""
        self.failures_total = 0
        self._clouds = frozenset(clouds)
        self._keys: dict[str, Seen] = {}
        self._said: tuple[str, ...] = ()

    def refresh(self, now: float) -> bool:
        """Read the source and answer what it says from now on; False where that failed."""
        try:
            reading = self.source.read()
            keys = united(self._keys, reading, at=now, keep_seconds=self.issuer.freshness.stale_seconds)
            shown = [seen.key for seen in keys.values() if self._clouds.intersection(seen.key.clouds)]
            discovery, key_set = rendered(self.issuer.issuer, self.issuer.jwks_uri, shown)
        except WifError as error:
            self.failures += 1
            self.failures_total += 1
            self._say((error.message,), logging.WARNING)
            return False
        self.failures = 0
        self._keys = keys
        shown_ids = tuple(sorted(key.key_id for key in shown))
        if shown_ids != self.issuer.key_ids:
            _LOGGER.info(
                "other keys are served",
                extra={"wif": {"issuer": self.issuer.issuer, "source": self.source.name, "key_ids": shown_ids}},
            )
        self._say(reading.problems, logging.WARNING)
        self.issuer.publish(
            discovery=discovery,
            key_set=key_set,
            key_ids=shown_ids,
            read_at=now,
            max_age_seconds=reading.max_age_seconds,
        )
        return True

    def _say(self, sentences: tuple[str, ...], level: int) -> None:
        """To the log, once for as long as the same holds."""
        if sentences != self._said:
            self._said = sentences
            fields = {"issuer": self.issuer.issuer, "source": self.source.name}
            for sentence in sentences or ("the source is read without complaint again",):
                _LOGGER.log(level if sentences else logging.INFO, "%s", sentence, extra={"wif": fields})

    def next_in(self, *, every_seconds: float, chance: float) -> float:
        """Seconds to the next reading. Pure.

        Args:
            chance: 0 to 1, spreads the readings of many issuers.
        """
        if not self.failures:
            return every_seconds * (1.0 + _JITTER * (2.0 * chance - 1.0))
        # half of the wait is chance: many issuers whose cluster failed together do not come back together
        wait = min(every_seconds, FIRST_RETRY_SECONDS * 2.0 ** min(self.failures - 1, 16))
        return wait * (0.5 + 0.5 * chance)


class Refresher:
    """Reads all jobs at their times. Its :meth:`run` is a worker of :func:`wif.serve.httpd.run`.

    Args:
        clock: the one of the app.
        chance: 0 to 1.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        every_seconds: float = REFRESH_SECONDS,
        threads: int = THREADS,
        clock: Callable[[], float] = monotonic_seconds,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.jobs = tuple(jobs)
        self._every = every_seconds
        self._clock = clock
        self._chance = chance
        self._rota = Rota([partial(self.refresh, job) for job in self.jobs], clock=clock, threads=threads)

    def run(self, stop: threading.Event) -> None:
        """Read until the event is set. A reading under way then is left behind."""
        self._rota.run(stop)

    def unready(self) -> tuple[str, ...]:
        """Why the server is no good yet, or no more: an issuer was not even tried, or none can be answered.

        One of many that is broken is told by metrics and log; it takes nothing away from the others.
        """
        now = self._clock()
        untried = [job for job in self.jobs if job.issuer.read_at is None and not job.failures_total]
        if untried:
            return tuple(f"the documents of {job.issuer.issuer} are being read" for job in untried)
        if any(job.issuer.is_servable(now) for job in self.jobs):
            return ()
        return tuple(f"no documents for {job.issuer.issuer}" for job in self.jobs)

    def refresh(self, job: Job) -> float:
        """Read one job now; the time at which it is due again."""
        job.refresh(self._clock())
        job.issuer.next_read_at = self._clock() + job.next_in(every_seconds=self._every, chance=self._chance())
        return job.issuer.next_read_at
