"""The documents of one or many issuers, answered from memory: bytes and headers are made before anybody asks.

Nothing is fetched because of a request: :mod:`wif.serve.refresh` puts new documents in place from behind. A document
ages; its ``max-age`` shrinks with its age, so that no cache keeps it longer than one that was fetched when it was
new, and when it is older than the stale window it is no longer answered at all (503): a key set that nobody can
confirm any more is not to be trusted for ever.

No CORS headers are sent: relying parties are servers, and a page in a browser has no use for a workload's issuer.
RFC 9110 for methods, validators and status codes; RFC 9111 section 5.2.2.1 for max-age.
"""

from __future__ import annotations

__all__ = ["DiscoveryApp", "Freshness", "ServedIssuer", "monotonic_seconds"]

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from wif.core.discovery import JWKS_PATH, check_issuer, discovery_url
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.serve.httpd import Receive, Scope, Send

DISCOVERY_TYPE: Final = b"application/json"
KEY_SET_TYPE: Final = b"application/jwk-set+json"
"""Both as Kubernetes sends them."""

_NO_STORE: Final = (b"cache-control", b"no-store")
_NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
_MAX_HOSTS_REMEMBERED = 256
"""Spellings of known hosts; others are read anew each time."""

_Headers = list[tuple[bytes, bytes]]


def monotonic_seconds() -> float:
    """Seconds that also pass while the machine sleeps, where the system counts them: a document ages then too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How long documents are good for, counted from the moment at which their source gave them."""

    max_age_seconds: float = 300.0
    """What caches are told, for a document of this very moment."""
    stale_seconds: float = 3600.0
    """The longest age at which it is answered at all."""


class _Version:
    """One document as its source gave it at one moment. Replaced whole, so that no request sees half of two."""

    __slots__ = ("_best", "_content_type", "_read_at", "_stale", "body", "etag", "start", "unchanged", "until")

    def __init__(
        self, body: bytes, content_type: bytes, *, read_at: float, max_age_seconds: float, stale_seconds: float
    ) -> None:
        self.body: dict[str, Any] = {"type": "http.response.body", "body": body}
        self.etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
        self.start: dict[str, Any] = {}
        self.unchanged: dict[str, Any] = {}
        self.until = -math.inf
        """To when ``start`` and ``unchanged`` are right."""
        self._content_type = content_type
        self._read_at = read_at
        self._best = min(max_age_seconds, stale_seconds)
        self._stale = stale_seconds

    def renew(self, now: float) -> bool:
        """Make the headers of this moment; False where the document is too old."""
        age = max(0.0, now - self._read_at)
        if age > self._stale:
            return False
        left = self._best - age
        max_age = max(0, math.floor(left))
        validators: _Headers = [(b"cache-control", b"public, max-age=%d" % max_age), (b"etag", self.etag), _NO_SNIFF]
        head: _Headers = [
            (b"content-type", self._content_type),
            (b"content-length", b"%d" % len(self.body["body"])),
            *validators,
        ]
        self.start = {"type": "http.response.start", "status": 200, "headers": head}
        self.unchanged = {"type": "http.response.start", "status": 304, "headers": validators}
        # right until the number drops by one, and never past the end of the stale window
        self.until = now + min(left - max_age if left > 0 else math.inf, self._stale - age)
        return True


class _Document:
    """What is answered at one path."""

    __slots__ = ("content_type", "current", "not_modified", "ok")

    def __init__(self, content_type: bytes) -> None:
        self.content_type = content_type
        self.current: _Version | None = None
        self.ok = 0
        self.not_modified = 0


class ServedIssuer:
    """One issuer with its two documents of now. Set by one thread at a time, read by the server.

    Args:
        issuer: byte for byte as in tokens' ``iss``.
        jwks_uri: where the key set is; None is Kubernetes' path under the issuer. One under another host is
            answered for that host too.
        freshness: how long the documents are good for.

    Raises:
        ConfigurationError: issuer-invalid.
    """

    def __init__(self, issuer: str, *, jwks_uri: str | None = None, freshness: Freshness | None = None) -> None:
        check_issuer(issuer)
        self.issuer = issuer
        self.jwks_uri = issuer.removesuffix("/") + JWKS_PATH if jwks_uri is None else jwks_uri
        check_issuer(self.jwks_uri)
        self.freshness = Freshness() if freshness is None else freshness
        self.discovery = _Document(DISCOVERY_TYPE)
        self.key_set = _Document(KEY_SET_TYPE)
        self.key_ids: tuple[str, ...] = ()
        self.read_at: float | None = None
        """When the source gave what is answered, in :func:`monotonic_seconds`; None before the first time."""
        self.next_read_at = 0.0
        """When the source is asked next; a client that gets 503 may come back then."""
        self.unavailable = 0
        """Requests answered 503."""

    def publish(
        self,
        *,
        discovery: bytes,
        key_set: bytes,
        key_ids: tuple[str, ...],
        read_at: float,
        max_age_seconds: float | None = None,
    ) -> None:
        """Answer these documents from now on.

        Args:
            read_at: when the source was asked, by the clock of the app.
            max_age_seconds: what the source itself says; the smaller one counts.
        """
        own, stale = self.freshness.max_age_seconds, self.freshness.stale_seconds
        max_age = own if max_age_seconds is None else min(own, max_age_seconds)
        self.read_at, self.key_ids = read_at, key_ids
        # the key set first: an algorithm in the discovery document then never names a key that is not there yet
        for document, body in ((self.key_set, key_set), (self.discovery, discovery)):
            document.current = _Version(
                body, document.content_type, read_at=read_at, max_age_seconds=max_age, stale_seconds=stale
            )

    def age(self, now: float) -> float:
        """Seconds since the source gave the documents; infinite where it has not yet."""
        return math.inf if self.read_at is None else max(0.0, now - self.read_at)

    def is_servable(self, now: float) -> bool:
        """Whether the documents are within the stale window."""
        return self.age(now) <= self.freshness.stale_seconds


class DiscoveryApp:
    """The ASGI application of ``wif issuer serve``.

    Args:
        issuers: those that are served. Two of different hosts are told apart by the Host header, and then a foreign
            host is refused; with one host any is accepted, as a proxy in front may not pass it on.
        check_host: True refuses a foreign host in any case.
        clock: of the documents' age.

    Raises:
        ConfigurationError: config-missing without an issuer, config-conflict where two have the same address.
    """

    def __init__(
        self,
        issuers: Iterable[ServedIssuer],
        *,
        check_host: bool = False,
        clock: Callable[[], float] = monotonic_seconds,
    ) -> None:
        self.issuers = tuple(issuers)
        self.clock = clock
        self.refused: dict[int, int] = {}
        """Requests answered without a document, by status."""
        self._tables = _tables(self.issuers)
        self.by_host = check_host or len({urlsplit(each.issuer).netloc.lower() for each in self.issuers}) > 1
        self._any = {} if self.by_host else _united(self._tables)
        self._spellings: dict[bytes, Mapping[str, tuple[_Document, ServedIssuer]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Answer one request."""
        if_none_match: bytes | None = None
        host: bytes | None = None
        hosts = 0
        for name, value in scope["headers"]:
            if name == b"if-none-match":
                # several lines of one list are one list: RFC 9110 section 5.3
                if_none_match = value if if_none_match is None else if_none_match + b"," + value
            elif name == b"host":
                host = value
                hosts += 1
        if self.by_host:
            table = self._spellings.get(host) if host is not None and hosts == 1 else None
            if table is None:
                table = self._table_of(host) if host is not None and hosts == 1 else None
                if table is None:
                    await self._refuse(send, 421 if hosts == 1 else 400, scope["method"])
                    return
        else:
            table = self._any
        found = table.get(scope["path"])
        method = scope["method"]
        if found is None:
            await self._refuse(send, 404, method)
            return
        if method not in ("GET", "HEAD"):
            await self._refuse(send, 405, method)
            return
        document, issuer = found
        version = document.current
        now = self.clock()
        if version is None or (now >= version.until and not version.renew(now)):
            issuer.unavailable += 1
            await self._refuse(send, 503, method, retry_after=issuer.next_read_at - now)
            return
        if if_none_match is not None and _matches(if_none_match, version.etag):
            document.not_modified += 1
            await send(version.unchanged)
            await send(_EMPTY)
            return
        document.ok += 1
        await send(version.start)
        await send(version.body)

    def _table_of(self, host: bytes) -> Mapping[str, tuple[_Document, ServedIssuer]] | None:
        table = self._tables.get(_host_name(host))
        if table is not None and len(self._spellings) < _MAX_HOSTS_REMEMBERED:
            self._spellings[host] = table
        return table

    async def _refuse(self, send: Send, status: int, method: str, *, retry_after: float = 0.0) -> None:
        self.refused[status] = self.refused.get(status, 0) + 1
        body = _REFUSALS[status]
        headers: _Headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            _NO_STORE,
            _NO_SNIFF,
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        elif status == 503:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(min(retry_after, 60.0)))))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


_EMPTY: dict[str, Any] = {"type": "http.response.body", "body": b""}
_REFUSALS: Mapping[int, bytes] = {
    400: b"one Host header is needed\n",
    404: b"not found\n",
    405: b"only GET and HEAD\n",
    421: b"this host is not served here\n",
    503: b"the documents cannot be confirmed at the moment\n",
}

_Table = dict[str, tuple[_Document, ServedIssuer]]


def _tables(issuers: Iterable[ServedIssuer]) -> dict[str, _Table]:
    """Host name, then path, to a document."""
    tables: dict[str, _Table] = {}
    for each in issuers:
        for url, document in ((discovery_url(each.issuer), each.discovery), (each.jwks_uri, each.key_set)):
            parts = urlsplit(url)
            table = tables.setdefault(_host_name(parts.netloc.encode()), {})
            if unquote(parts.path) in table:
                raise ConfigurationError(
                    f"two issuers have a document at {url}",
                    code="config-conflict",
                    hint="give each issuer a host or a path of its own",
                )
            table[unquote(parts.path)] = (document, each)
    if not tables:
        raise ConfigurationError(
            "there is no issuer to serve", code="config-missing", hint="name one with --issuer or in wif.yaml"
        )
    return tables


def _united(tables: Mapping[str, _Table]) -> _Table:
    """All hosts' paths as one table; only a ``jwks_uri`` of another host can bring a second one."""
    united: _Table = {}
    for table in tables.values():
        for path, found in table.items():
            if united.setdefault(path, found) is not found:
                raise ConfigurationError(
                    f"two documents have the path {path}, at different hosts",
                    code="config-conflict",
                    hint="pass --check-host, so that they are told apart by the Host header",
                )
    return united


def _host_name(host: bytes) -> str:
    """The name in a Host header: lower case, without port and final dot."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0].removesuffix(".")


def _matches(if_none_match: bytes, etag: bytes) -> bool:
    """RFC 9110 section 13.1.2: weak comparison with each entry of the list, or ``*``."""
    listed = if_none_match.strip()
    if listed == b"*":
        return True
    return any(entry.strip().removeprefix(b"W/") == etag for entry in listed.split(b","))
