"""What the three exchangers share: reading the source, the loop of attempts, the host rule, the audit record."""

from __future__ import annotations

__all__ = ["AttemptContext", "Exchanger", "RefreshHook", "Sender", "SourceLike", "Statistics"]

import functools
import json
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, Self, TypeVar
from urllib.parse import urlsplit

from wif.core.audit import exchange_record
from wif.core.flow import Flow, Request, Response, drive
from wif.core.freshness import LIMITS, Lifetime, Limits, lifetime, retry_delay
from wif.core.hosts import AllowedHosts, parse_hosts
from wif.core.token import SubjectIdentity, TokenSource, UnverifiedToken, read_token
from wif.edges.sources import as_source
from wif.errors import ConfigurationError, SubjectChanged, TransportError, WifError
from wif.exchange.clocks import Clocks, chance
from wif.exchange.single_flight import Cell, Flight, Standing

R = TypeVar("R")

_audit = logging.getLogger("wif.audit")

RefreshHook = Callable[[Mapping[str, Any]], None]
"""Called with the audit record of every exchange, also of a failed one, on the exchange's own thread."""

SourceLike = TokenSource | str | os.PathLike[str] | Callable[[], str | bytes]
"""What ``source=`` takes: a token source, the path of a projected file, or a callable that returns the token."""


class Sender(Protocol):
    """What ``transport=`` takes; :class:`wif.edges.transport.Transport` is one."""

    def send(self, request: Request, *, deadline: float, hosts: AllowedHosts) -> Response:
        """Send one request once, to an allowed host, and read its whole answer before ``deadline`` (monotonic)."""
        ...

    def abort(self, thread: int | None = None) -> None:
        """End the request that this thread is sending; its ``send`` raises ``timeout``."""
        ...


class Expiring(Protocol):
    """What a cell holds."""

    @property
    def expires_at(self) -> datetime: ...
    @property
    def lifetime_seconds(self) -> float: ...


E = TypeVar("E", bound=Expiring)


@dataclass(slots=True)
class Statistics:
    """Counters of one exchanger since it was made."""

    exchanges: int = 0
    """Exchanges started, refreshes included."""
    requests: int = 0
    """HTTP requests sent."""
    failures: int = 0
    """Exchanges that ended in an error."""


class AttemptContext(NamedTuple):
    """What one attempt of an exchange may use."""

    flight: Flight[Any]
    send: Callable[[Request], Response]
    now: float
    """Unix seconds when the attempt began."""


@dataclass(slots=True)
class _Log:
    """What the audit record says about an exchange under way."""

    attempts: int = 0
    token: UnverifiedToken | None = None
    endpoint: str | None = None


class Exchanger(ABC):
    """One identity with its cache. The clouds' exchangers derive from it.

    Args:
        source: where the subject token comes from.
        audience: the ``aud`` that the token must have; None leaves it to the cloud.
        allow_hosts: hosts that may get the token besides the cloud's own; ``WIF_ALLOW_HOSTS`` adds to them.
        limits: the numbers of freshness, budget, timeouts and attempts.
        transport: one made by the caller, e.g. with a configured ``urllib3.PoolManager``.
        propagation_seconds: how long a refusal that a freshly made trust gives is tried again.
        on_refresh: called with the audit record of every exchange.
        environ: variables to read instead of the process' own, proxies and CA bundles included.
    """

    cloud: str
    """``aws``, ``gcp`` or ``azure``."""

    def __init__(
        self,
        *,
        source: SourceLike | None,
        source_variables: tuple[str, ...],
        audience: str | None,
        hosts: AllowedHosts,
        allow_hosts: Iterable[str],
        identity: str,
        limits: Limits,
        transport: Sender | None,
        propagation_seconds: float,
        on_refresh: RefreshHook | None,
        environ: Mapping[str, str] | None,
        clocks: Clocks,
    ) -> None:
        self._own_environ = environ
        environ = os.environ if environ is None else environ
        self.identity = identity
        """What the subject becomes, as the audit log names it."""
        self.statistics = Statistics()
        """Counters since the exchanger was made."""
        self._source = as_source(source) if source is not None else as_source(_named_file(environ, source_variables))
        self._audience = audience
        named = parse_hosts(" ".join(allow_hosts), origin="allow_hosts=")
        named += parse_hosts(environ.get("WIF_ALLOW_HOSTS", ""), origin="WIF_ALLOW_HOSTS")
        self._hosts = hosts.with_hosts(named)
        self._limits = limits
        self._given_transport = transport
        self._propagation_seconds = propagation_seconds
        self._on_refresh = on_refresh
        self._clocks = clocks
        self._closed = False
        self._first_identity: SubjectIdentity | None = None
        self._cells: dict[object, Cell[Any]] = {}
        self._kept_cells: frozenset[object] = frozenset()
        """Keys that are asked for without a look-up, so that their place among the cells tells nothing."""
        self._cells_lock = threading.Lock()

    # -- public ------------------------------------------------------------------------------------------

    def invalidate(self) -> None:
        """Say that the current credentials were rejected: the next call exchanges anew, within the budget."""
        for cell in self._all_cells():
            cell.invalidate()

    def close(self) -> None:
        """Forget all credentials and end exchanges under way; later calls raise ``closed``."""
        self._closed = True
        for cell in self._all_cells():
            cell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.identity} from {self._source.origin}>"

    @property
    def source(self) -> TokenSource:
        """Where the subject token comes from."""
        return self._source

    def subject_token(self) -> UnverifiedToken:
        """The subject token of now, read and checked as for an exchange; nothing in it is verified."""
        return self._read_source(self._clocks.wall())

    def standing(self, scope: str | None = None) -> Standing:
        """How the main credential stands, without starting an exchange; for who keeps it fresh.

        Args:
            scope: another one than the constructor's, of the clouds that have scopes.
        """
        return self._main(scope).standing()

    async def kept(self, scope: str | None = None) -> Any:
        """The main credential, or the one of a scope, as ``acredentials`` of the clouds returns it."""
        return await self._main(scope).aget()

    def lifetime(self, credential: Expiring) -> Lifetime:
        """When a credential that it gave ends, by two clocks: either may have been set since, or have stood still."""
        for cell in self._all_cells()[::-1]:  # the one asked last stands last
            plan = cell.lifetime(credential)
            if plan is not None:
                return plan
        steady, wall = self._clocks.steady(), self._clocks.wall()  # replaced while it was on its way to the caller
        left = min(credential.expires_at.timestamp() - wall, credential.lifetime_seconds)
        return lifetime(left, steady=steady, wall=wall, chance=0.5, limits=self._limits)

    # -- for the clouds ----------------------------------------------------------------------------------

    @abstractmethod
    def _main(self, scope: str | None) -> Cell[Any]:
        """The cell of the credential that :meth:`credentials` returns where its caller names no more than a scope."""

    def _cell(self, key: object, make: Callable[[], Cell[E]], *, bound: int = 64) -> Cell[E]:
        """The cell of a key; at most ``bound`` of them."""
        with self._cells_lock:
            cell = self._cells.pop(key, None)
            if cell is None:
                if self._closed:
                    raise ConfigurationError(f"{self.identity}: the exchanger is closed", code="closed")
                cell = make()
                while len(self._cells) >= bound:
                    last = self._cells.pop(self._least_needed())
                    cell.take_place_of(last)
                    last.close()
            self._cells[key] = cell
            return cell

    def _least_needed(self) -> object:
        """The key of the cell asked for longest ago, of those that hold and await nothing as long as there are any."""
        keys = [key for key in self._cells if key not in self._kept_cells]
        standings = ((key, self._cells[key].standing()) for key in keys)
        return next((key for key, each in standings if each.value is None and not each.under_way), keys[0])

    def _all_cells(self) -> list[Cell[Any]]:
        with self._cells_lock:
            return list(self._cells.values())

    def _new_cell(self, work: Callable[[Flight[E]], E], *, what: str = "") -> Cell[E]:
        return Cell(
            work,
            life=_life,
            name=f"{self.cloud} {self.identity}{what}",
            limits=self._limits,
            clocks=self._clocks,
            total_seconds=max(self._limits.total_seconds, self._propagation_seconds),
        )

    def _exchange(
        self,
        flight: Flight[Any],
        attempt: Callable[[AttemptContext, UnverifiedToken], E],
        *,
        operation: str,
        scopes: tuple[str, ...] = (),
        region: str | None = None,
    ) -> E:
        """Run ``attempt`` until it succeeds, is refused, or the deadline is near; then write the audit record."""
        log = _Log()
        began = self._clocks.monotonic()
        result: E | None = None
        failure: WifError | None = None
        self.statistics.exchanges += 1
        try:
            result = self._attempts(flight, attempt, log)
        except WifError as error:
            failure = error
            self.statistics.failures += 1
            raise
        finally:
            if result is not None or failure is not None:
                self._record(
                    lambda: exchange_record(
                        cloud=self.cloud,
                        operation=operation,
                        identity=self.identity,
                        token=log.token,
                        error=failure,
                        attempts=log.attempts,
                        duration_seconds=self._clocks.monotonic() - began,
                        scopes=scopes,
                        region=region,
                        endpoint_host=log.endpoint,
                        expires_at=None if result is None else result.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                        credential_id=None if result is None else self._credential_id(result),
                    ),
                    flight,
                )
        return result

    def _ask(self, attempt: Callable[[AttemptContext, UnverifiedToken], R], *, timeout: float | None) -> R:
        """Run ``attempt`` with the same care as an exchange, for a question whose answer is not kept."""
        cell: Cell[R] = Cell(
            lambda flight: self._attempts(flight, attempt, _Log()),
            life=lambda _: (0.0, None),
            name=f"{self.cloud} {self.identity}",
            limits=self._limits,
            clocks=self._clocks,
        )
        return cell.get(timeout)

    def _attempts(self, flight: Flight[Any], attempt: Callable[[AttemptContext, UnverifiedToken], R], log: _Log) -> R:
        """The loop of attempts. The source is read anew for each, so a retry carries the token of now."""
        if self._closed:
            raise ConfigurationError(f"{self.identity}: the exchanger is closed", code="closed")
        transport = self._transport()
        thread = threading.get_ident()
        flight.on_abort(lambda: transport.abort(thread))
        began = self._clocks.monotonic()

        def send(request: Request) -> Response:
            log.endpoint = urlsplit(request.url).hostname
            if flight.aborted or self._clocks.monotonic() >= flight.deadline:
                raise TransportError(f"{request.operation} at {log.endpoint}: the deadline has passed", code="timeout")
            self.statistics.requests += 1
            return transport.send(request, deadline=flight.deadline, hosts=self._hosts)

        while True:
            log.attempts += 1
            now = self._clocks.wall()
            try:
                log.token = self._read_source(now)
                return attempt(AttemptContext(flight=flight, send=send, now=now), log.token)
            except WifError as error:
                delay = self._pause(error, log.attempts, began, flight)
                if delay is None or flight.wake.wait(delay):
                    raise

    def _drive(self, context: AttemptContext, flow: Flow[R]) -> R:
        return drive(flow, context.send)

    @abstractmethod
    def _credential_id(self, credential: Any) -> str:
        """What the cloud's log knows a credential by."""

    _propagating_codes: frozenset[str] = frozenset()
    """The cloud's codes of refusals that a trust just made may give until it has reached all of the cloud."""

    # -- inside ------------------------------------------------------------------------------------------

    def _transport(self) -> Sender:
        if self._given_transport is None:
            from wif.edges.transport import Transport, shared_transport  # noqa: PLC0415  # urllib3 only when needed

            if self._own_environ is None and self._limits == LIMITS:
                return shared_transport(self.cloud)
            environ = os.environ if self._own_environ is None else self._own_environ
            self._given_transport = Transport(self.cloud, environ=environ, limits=self._limits)
        return self._given_transport

    def _pause(self, error: WifError, tries: int, began: float, flight: Flight[Any]) -> float | None:
        """Seconds until the next attempt, or None where there is to be none."""
        now = self._clocks.monotonic()
        propagating = error.cloud_code in self._propagating_codes and now - began < self._propagation_seconds
        if not propagating and not (error.retryable and tries < self._limits.attempts):
            return None
        delay = retry_delay(tries, chance=chance(), retry_after_seconds=error.retry_after_seconds, limits=self._limits)
        return delay if now + delay < flight.deadline else None

    def _read_source(self, now: float) -> UnverifiedToken:
        token = read_token(self._source.read(), origin=self._source.origin, now=now, audience=self._audience)
        with self._cells_lock:
            first = self._first_identity = self._first_identity or token.identity
        if token.identity != first:
            for cell in list(self._cells.values()):
                cell.clear()
            raise SubjectChanged(
                f"the subject token of {token.origin} names (iss, sub, uid) {tuple(token.identity)}; "
                f"this exchanger began with {tuple(first)}"
            )
        return token

    def _record(self, build: Callable[[], Mapping[str, Any]], flight: Flight[Any]) -> None:
        if not _audit.isEnabledFor(logging.INFO) and self._on_refresh is None:
            return
        record = build()
        _audit.info("%s", json.dumps(record), extra={"wif": record})
        if self._on_refresh is not None:
            flight.after.append(functools.partial(self._on_refresh, record))


def _named_file(environ: Mapping[str, str], variables: tuple[str, ...]) -> str:
    for name in ("WIF_TOKEN_FILE", *variables):
        if environ.get(name):
            return environ[name]
    raise ConfigurationError(
        f"no subject token: {' and '.join(('WIF_TOKEN_FILE', *variables))} are not set",
        code="config-missing",
        hint="pass source=, or set the variable to the path of a projected ServiceAccount token",
    )


def _life(credential: Any) -> tuple[float, float | None]:
    return credential.lifetime_seconds, getattr(credential, "refresh_in_seconds", None)
