"""Verifying a subject token as a cloud does: the issuer's documents fetched, its keys cached, the signature checked.

Only issuers that a trust document names are ever asked. Their documents come over HTTP(S), bounded in size and
time and past any proxy of the environment, or from where the caller says (``issuer_documents``). What a failure
means to a client is for the three clouds' handlers, which disagree about nearly every text.
"""

from __future__ import annotations

__all__ = ["FailureKind", "IssuerKeys", "VerificationFailed", "check_signature"]

import asyncio
import hashlib
import http.client
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from wif.core.discovery import KeySet, PublishedKey, discovery_url, parse_discovery, parse_jwks
from wif.core.jws import UnverifiedJws, VerifiedJws, parse_json, verify
from wif.emulator.notes import is_private_url
from wif.errors import TokenError, WifError

FailureKind = Literal["unreachable", "slow", "invalid", "issuer-mismatch", "key-unknown", "key-unusable", "signature"]

FETCH_SECONDS = 5.0
"""AWS names a latency over 5 s as a cause of failure; the others say nothing."""
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_AGE_SECONDS = 300.0
"""How long documents are used without a look at the source. No cloud documents its own; GCP was seen to take a
changed uploaded key set within 5 s, an operator's notes say an hour for Azure."""
REFETCHES = 5
REFETCH_WINDOW_SECONDS = 10.0
"""An unknown key id, or a source that failed, is looked up at once, but at most so often in this time per issuer:
a test that rotates a key sees it immediately, a flood of invented key ids makes no flood of requests."""


class VerificationFailed(Exception):
    """A token could not be verified."""

    def __init__(self, kind: FailureKind, detail: str, *, metadata_issuer: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        """For the local STS's own log; the clouds' answers say less."""
        self.metadata_issuer = metadata_issuer
        """What the discovery document calls itself, where that is another issuer."""


def check_signature(jws: UnverifiedJws, keys: Sequence[PublishedKey]) -> VerifiedJws:
    """Verify with whichever of these keys fits; the caller has checked that it accepts the token's algorithm.

    Raises:
        VerificationFailed: key-unusable where no key is of this algorithm, signature where none fits.
    """
    kind: FailureKind = "key-unusable"
    for candidate in keys:
        if candidate.algorithm not in (None, jws.algorithm):
            continue
        try:
            return verify(jws, candidate.key, jws.algorithm)
        except TokenError as error:
            if error.code == "signature-invalid":
                kind = "signature"
    detail = "fits none of its keys" if kind == "signature" else f"no key of this id can verify {jws.algorithm[:16]!r}"
    raise VerificationFailed(kind, f"the signature cannot be verified: {detail}")


_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

_Document = tuple[bytes, bytes | None]
"""A body, and the certificate of the server that it came from."""

_Place = tuple[str, str | None]
"""An issuer, and where its discovery document is if not at the usual place."""


@dataclass(slots=True)
class _Documents:
    """One issuer's cache. Touched on the server's loop only."""

    keys: KeySet | None = None
    fetched_at: float = 0.0
    failure: VerificationFailed | None = None
    attempts: deque[float] = field(default_factory=deque)
    pending: asyncio.Future[KeySet] | None = None
    certificate: bytes | None = None
    """DER, of the server that the documents came from; None where they came otherwise."""


class IssuerKeys:
    """The keys of all issuers that the trust documents name.

    Args:
        max_age_seconds: how long documents are used without a look at the source.
        fetch_seconds: total time for both documents.
        sources: where the documents of an issuer are taken from instead of the issuer itself: a directory that
            holds ``.well-known/openid-configuration`` and the key set, or the URL of another server.
        ca_files: further CA certificates for the issuers' servers, PEM.
        steady: the clock of the cache, seconds.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, str] | None = None,
        ca_files: Sequence[Path] = (),
        max_age_seconds: float = MAX_AGE_SECONDS,
        fetch_seconds: float = FETCH_SECONDS,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = dict(sources or {})
        self._ca_files = tuple(ca_files)
        self._max_age = max_age_seconds
        self._fetch_seconds = fetch_seconds
        self._steady = steady
        self._cache: dict[_Place, _Documents] = {}
        self._context: ssl.SSLContext | None = None
        self._authorities: frozenset[str] | None = None

    def forget(self) -> None:
        """Drop everything cached: the next token makes its issuer's documents be fetched anew."""
        self._cache = {}

    def thumbprints(self, issuer: str) -> frozenset[str] | None:
        """What AWS compares a provider's thumbprints with, SHA-1 in lower-case hex.

        Only for an issuer on a private address: certificates of public authorities are in AWS' own store, and then
        no thumbprint counts. The server's own certificate and the local authorities stand for its chain.
        """
        documents = self._cache.get((issuer, None))
        if documents is None or documents.certificate is None or not is_private_url(issuer):
            return None
        if self._authorities is None:
            self._authorities = frozenset(
                _thumbprint(der) for path in self._ca_files for der in _certificates(path.read_text("ascii", "replace"))
            )
        return self._authorities | {_thumbprint(documents.certificate)}

    async def find(self, issuer: str, key_id: str | None, document_url: str | None = None) -> tuple[PublishedKey, ...]:
        """The keys of this id that a trusted issuer publishes.

        Args:
            document_url: of its discovery document, where that is not at the usual place below the issuer.

        Raises:
            VerificationFailed: unreachable, slow, issuer-mismatch, key-unknown.
        """
        place = (issuer, document_url)
        documents = self._cache.get(place)
        now = self._steady()
        if documents is not None and documents.keys is not None and now - documents.fetched_at < self._max_age:
            found = documents.keys.candidates(key_id)
            if found:
                return found
        if documents is None:
            documents = self._cache.setdefault(place, _Documents())
        keys = await self._renewed(place, documents, now)
        found = keys.candidates(key_id)
        if not found:
            raise VerificationFailed("key-unknown", f"the issuer {issuer} publishes no key of the id {key_id!r:.80}")
        return found

    async def _renewed(self, place: _Place, documents: _Documents, now: float) -> KeySet:
        if documents.pending is None:
            attempts = documents.attempts
            while attempts and now - attempts[0] >= REFETCH_WINDOW_SECONDS:
                attempts.popleft()
            if len(attempts) >= REFETCHES:
                if documents.failure is not None or documents.keys is None:
                    raise documents.failure or VerificationFailed("unreachable", f"{place[0]} was not read yet")
                return documents.keys
            attempts.append(now)
            documents.pending = asyncio.ensure_future(self._fetch(place, documents))
            documents.pending.add_done_callback(_looked_at)
        return await asyncio.shield(documents.pending)

    async def _fetch(self, place: _Place, documents: _Documents) -> KeySet:
        try:
            keys, certificate = await self._load(*place)
        except VerificationFailed as error:
            documents.failure = error  # keys that are fresh still serve the tokens that they fit
            raise
        else:
            documents.keys, documents.fetched_at, documents.failure = keys, self._steady(), None
            documents.certificate = certificate
            return keys
        finally:
            documents.pending = None

    async def _load(self, issuer: str, document_url: str | None) -> tuple[KeySet, bytes | None]:
        deadline = time.monotonic() + self._fetch_seconds
        source = self._sources.get(issuer, issuer)
        url = discovery_url(source)
        if document_url is not None:
            url = document_url if source == issuer else _moved(document_url, issuer, source)
        body, certificate = await self._document(source, url, ".well-known/openid-configuration", deadline)
        try:
            discovery = parse_discovery(body, issuer=issuer, allow_http=True)
        except WifError as error:
            if error.code == "issuer-mismatch":
                raise VerificationFailed(
                    "issuer-mismatch", error.message, metadata_issuer=str(parse_json(body).get("issuer"))
                ) from error
            raise VerificationFailed("invalid", error.message) from error
        url = discovery.jwks_uri
        if source != issuer:
            url = _moved(url, issuer, source)
        body, _ = await self._document(source, url, _relative(discovery.jwks_uri, issuer), deadline)
        try:
            return parse_jwks(body), certificate
        except WifError as error:
            raise VerificationFailed("invalid", error.message) from error

    async def _document(self, source: str, url: str, path: str, deadline: float) -> _Document:
        if "://" not in source:
            return _read(Path(source), path), None
        fetch = _Fetch(url, self._tls, deadline)
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Document] = loop.create_future()

        def run() -> None:
            value: _Document | VerificationFailed
            try:
                value = fetch.run()
            except VerificationFailed as error:
                value = error
            try:
                loop.call_soon_threadsafe(_settle, result, value)
            except RuntimeError:  # the loop has ended meanwhile
                return

        # a daemon thread, not the loop's executor: a server that drips bytes must not hold up the end of the process
        threading.Thread(target=run, name="wif-issuer-documents", daemon=True).start()
        try:
            return await asyncio.wait_for(result, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise VerificationFailed("slow", f"{url} did not answer within {self._fetch_seconds:g} s") from None
        finally:
            fetch.abort()

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            context = ssl.create_default_context()
            for path in self._ca_files:
                context.load_verify_locations(cafile=path)
            self._context = context
        return self._context


def _looked_at(future: asyncio.Future[KeySet]) -> None:
    """Every waiter may have gone: its failure is kept for the next one all the same."""
    if not future.cancelled():
        future.exception()


def _settle(future: asyncio.Future[_Document], value: _Document | VerificationFailed) -> None:
    if future.done():
        return
    if isinstance(value, VerificationFailed):
        future.set_exception(value)
    else:
        future.set_result(value)


def _certificates(pem: str) -> list[bytes]:
    return [ssl.PEM_cert_to_DER_cert(block) for block in _PEM.findall(pem)]


def _thumbprint(der: bytes) -> str:
    return hashlib.sha1(der, usedforsecurity=False).hexdigest()  # AWS' choice; it only tells certificates apart


class _Fetch:
    """One GET, without redirects, proxies or state, that another thread can end."""

    def __init__(self, url: str, tls: Callable[[], ssl.SSLContext], deadline: float) -> None:
        self._url = url
        self._tls = tls
        self._deadline = deadline
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> _Document:
        """The body of a 200 answer, and the server's certificate."""
        try:
            parts = urlsplit(self._url)
            port = parts.port
        except ValueError:
            raise VerificationFailed("unreachable", f"{self._url:.200} is not a URL") from None
        host = parts.hostname or ""
        timeout = max(0.1, self._deadline - time.monotonic())
        certificate: bytes | None = None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection: http.client.HTTPConnection
            if parts.scheme == "https":
                connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls())
            else:
                connection = http.client.HTTPConnection(host, port, timeout=timeout)
            self._connection = connection
            try:
                connection.connect()
                if isinstance(connection.sock, ssl.SSLSocket):
                    certificate = connection.sock.getpeercert(binary_form=True)
                connection.request("GET", target, headers={"Accept": "application/json", "User-Agent": "wif-local-sts"})
                with connection.getresponse() as response:
                    if response.status != 200:
                        where = response.headers.get("location")
                        told = f", which is not followed, to {where:.200}" if where else ""
                        raise VerificationFailed("unreachable", f"{self._url} answered {response.status}{told}")
                    body = response.read(MAX_DOCUMENT_BYTES + 1)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise VerificationFailed("unreachable", f"{self._url} cannot be read: {_reason(error)}") from error
        if len(body) > MAX_DOCUMENT_BYTES:
            raise VerificationFailed("unreachable", f"{self._url} is larger than {MAX_DOCUMENT_BYTES} bytes")
        return body, certificate

    def abort(self) -> None:
        """End the request from outside; nothing happens where it has ended."""
        sock = getattr(self._connection, "sock", None)
        if sock is not None:
            try:
                sock.shutdown(2)
            except OSError:
                return


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _read(directory: Path, path: str) -> bytes:
    """A document of a directory; a flat directory with the last parts of the names alone is fine too."""
    name = path.rpartition("/")[2]
    candidates = (directory / path, directory / name, directory / f"{name}.json")
    for candidate in candidates:
        try:
            if candidate.is_file():
                with candidate.open("rb") as file:
                    body = file.read(MAX_DOCUMENT_BYTES + 1)
                break
        except OSError as error:
            raise VerificationFailed("unreachable", f"{candidate} cannot be read: {error.strerror}") from error
    else:
        raise VerificationFailed("unreachable", f"there is no {path} in {directory}")
    if len(body) > MAX_DOCUMENT_BYTES:
        raise VerificationFailed("unreachable", f"{candidate} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return body


def _relative(url: str, issuer: str) -> str:
    """Where a key set stands in a directory that holds an issuer's documents."""
    base = issuer.removesuffix("/") + "/"
    path = url[len(base) :] if url.startswith(base) else urlsplit(url).path.lstrip("/")
    parts = [part for part in path.partition("?")[0].split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "jwks"


def _moved(url: str, issuer: str, source: str) -> str:
    """The address of a key set on another server than the issuer's own."""
    base = source.removesuffix("/")
    prefix = issuer.removesuffix("/") + "/"
    if url.startswith(prefix):
        return f"{base}/{url[len(prefix) :]}"
    parts = urlsplit(url)
    origin = urlsplit(base)
    return f"{origin.scheme}://{origin.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
