"""Look at a published issuer from outside, as a relying party does, and say what a cloud would find.

Both documents are fetched through the issuer's own URL: no redirect is followed, no proxy of the environment is taken
unless asked for, nothing is remembered, each has five seconds. A relying party does not try again. Here one more try
follows after a second, only to tell an address that fails from one that flaps: what passes then is reported as a
warning. What the documents say is never fetched twice: an edge of a CDN that shows other keys is a finding.
"""

from __future__ import annotations

__all__ = ["MAX_SECONDS", "Check", "Level", "VerifyReport", "verify", "verify_key_set"]

import ipaddress
import os
import re
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from wif.core.discovery import check_issuer, discovery_url, parse_discovery
from wif.core.flow import Request, Response
from wif.core.freshness import Limits
from wif.core.hosts import AllowedHosts
from wif.core.issuer_lint import ALL_CLOUDS, lint_issuer
from wif.edges.transport import Transport
from wif.errors import ConfigurationError, ProtocolError, TransportError, WifError
from wif.issuer.checks import (
    Check,
    KeySetFindings,
    Level,
    check_audience,
    check_key_set,
    check_token,
    exit_status_of,
    failed_key_set,
    lint_checks,
)

if TYPE_CHECKING:
    from wif.core.public_keys import IssuerKey

MAX_SECONDS = 5.0
"""AWS gives up on a document after this long (re:Post, "InvalidIdentityToken"); connecting and reading together."""

PAUSE_SECONDS = 1.0
"""Before the one more try."""

MAX_CACHE_SECONDS = 86_400
"""What rotation waits for by default; a cache that may keep documents longer makes that wait too short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was found. ``checks`` is never empty."""

    issuer: str
    checks: tuple[Check, ...]
    jwks_uri: str | None = None
    """What the discovery document names; None where it could not be read."""
    key_ids: tuple[str, ...] = ()
    """The published ids, in their order; an entry without one is empty."""
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    max_age_seconds: int | None = None
    """``Cache-Control: max-age`` of the key set."""
    age_seconds: int | None = None
    """``Age`` of the key set: it came out of a cache in between."""

    @property
    def ok(self) -> bool:
        """Whether nothing failed but warnings."""
        return self.exit_status == 0

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass, warnings among them."""
        return tuple(check for check in self.checks if not check.ok)

    @property
    def has_tampering(self) -> bool:
        """Whether somebody else has changed what is published."""
        return any(check.level == "tampering" for check in self.failed)

    @property
    def exit_status(self) -> int:
        """3 where drift or tampering was found; else 1 where a cloud could not use the issuer; else 0."""
        return exit_status_of(self.checks)


def verify(
    issuer: str,
    *,
    expected: Collection[IssuerKey] | None = None,
    known: Collection[IssuerKey] = (),
    removed: Collection[str] | Mapping[str, str | None] = (),
    jwks_uris: Sequence[str] = (),
    clouds: Collection[str] = ALL_CLOUDS,
    token: str | None = None,
    audience_refused: Callable[[], bool] | bool | None = None,
    ca_file: str | None = None,
    allow_http: bool = False,
    allow_private: bool = False,
    use_proxy: bool = False,
    environ: Mapping[str, str] = os.environ,
    max_seconds: float = MAX_SECONDS,
    pause_seconds: float = PAUSE_SECONDS,
) -> VerifyReport:
    """Fetch an issuer's documents and check all that can be checked. Nothing is raised for what is found.

    Args:
        issuer: byte for byte as tokens have it.
        expected: the keys that must be published; None compares nothing, an empty collection fails.
        known: further keys that may be there, and need not: recorded in the trusted state.
        removed: ids that were removed from the issuer; a mapping gives the fingerprints of their material.
        jwks_uris: the addresses that the discovery document may name: the desired one, then those of the state.
            Another one is tampering and is not fetched. Empty: any https address.
        clouds: who reads the issuer: ``aws``, ``gcp``, ``azure``.
        token: a live token of the cluster.
        audience_refused: whether the API server refuses a token minted for a cloud's audience, or how to find out.
        ca_file: a private authority, in place of the system's.
        allow_http: permit plain http, on loopback only.
        allow_private: the readers that count are in the issuer's own network: that the clouds cannot reach it is a
            warning.
        use_proxy: take the proxies that the environment names.
        environ: read for proxies, where they are asked for, and for ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
        max_seconds: what each document may take.
        pause_seconds: before the one more try.

    Raises:
        ConfigurationError: file-unusable for ``ca_file``, issuer-invalid where the issuer is not an https URL.
    """
    looking = _Looking(
        transport=_transport(ca_file, environ, use_proxy=use_proxy),
        allow_http=allow_http,
        allow_private=allow_private,
        max_seconds=max_seconds,
        pause_seconds=pause_seconds,
    )
    try:
        return _look(
            looking,
            issuer,
            jwks_uris,
            lambda body, cached: check_key_set(
                body, expected=expected, known=known, removed=removed, clouds=clouds, cached=cached
            ),
            token=token,
            clouds=clouds,
            audience_refused=audience_refused,
            private_authority=ca_file,
        )
    finally:
        looking.transport.close()


def verify_key_set(
    issuer: str,
    body: bytes | None,
    *,
    expected: Collection[IssuerKey] | None = None,
    known: Collection[IssuerKey] = (),
    removed: Collection[str] | Mapping[str, str | None] = (),
    clouds: Collection[str] = ("gcp",),
    token: str | None = None,
    audience_refused: Callable[[], bool] | bool | None = None,
) -> VerifyReport:
    """The same for a place that takes the key set alone and has no address of its own: ``gcp-provider``, ``gke-fleet``.

    Args:
        body: the key set as the place has it; None where it has none.
    """
    if body is None:
        findings = failed_key_set(Check(name="keys-readable", ok=False, level="drift", detail="no key set is stored"))
    else:
        findings = check_key_set(body, expected=expected, known=known, removed=removed, clouds=clouds)
    checks = [*findings.checks, *_live(findings, issuer, token, clouds, audience_refused)]
    return _with_keys(VerifyReport(issuer=issuer, checks=tuple(checks)), findings)


# -- the look --------------------------------------------------------------------------------------------------------


class _Fetched(NamedTuple):
    body: bytes | None
    headers: Mapping[str, str]
    checks: list[Check]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looking:
    """How to fetch."""

    transport: Transport
    allow_http: bool
    allow_private: bool
    max_seconds: float
    pause_seconds: float

    def fetch(self, url: str, name: str, media_types: tuple[str, ...]) -> _Fetched:
        """A document, or the reason why a relying party would not get it."""
        checks: list[Check] = []
        answer, check, may_pass = self._try(url, name)
        if may_pass:
            time.sleep(self.pause_seconds)
            again, second, _ = self._try(url, name)
            if again is not None:
                detail = f"it flaps; the first of two tries failed: {check.detail}"
                checks.append(replace(check, name=f"{name}-steady", level="warning", detail=detail))
                answer, check = again, second
        checks.append(check)
        if answer is None:
            return _Fetched(None, {}, checks)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        checks.append(
            Check(
                name=f"{name}-content-type",
                ok=kind in media_types,
                level="warning",
                detail=f"Content-Type {kind[:64] or 'is missing'}"
                + ("" if kind in media_types else f", expected {media_types[0]}"),
            )
        )
        return _Fetched(answer.body, answer.headers, checks)

    def _try(self, url: str, name: str) -> tuple[Response | None, Check, bool]:
        """One request: the answer, what it means, and whether the same request may pass a moment later."""
        hosts = AllowedHosts(builtin=lambda _: False).with_urls([url], origin=f"the {name} address")
        request = Request(method="GET", url=url, headers={"accept": "application/json, */*"}, operation=f"GET {name}")
        started = time.monotonic()
        try:
            answer = self.transport.send(request, deadline=started + self.max_seconds, hosts=hosts)
        except WifError as error:
            if not isinstance(error, TransportError) and error.code != "host-not-allowed":
                raise  # our own settings
            seconds = time.monotonic() - started
            reason = error.message if isinstance(error, TransportError) else "plain http is for loopback alone"
            detail = f"{url} is not readable: {reason}"
            failed = _FAILED_AT.get(error.code, "{}").format(name)
            return None, Check(name=failed, ok=False, detail=detail, seconds=seconds), error.retryable
        seconds = time.monotonic() - started
        if answer.status != 200:
            detail = f"{url} answers with status {answer.status}, expected 200"
            busy = answer.status >= 500 or answer.status == 429
            return None, Check(name=name, ok=False, detail=detail, seconds=seconds), busy
        detail = f"{url} ({len(answer.body)} bytes)"
        return answer, Check(name=name, ok=True, detail=detail, seconds=seconds), False


_FAILED_AT = {"tls-failed": "{}-certificate", "redirect-refused": "{}-redirect", "timeout": "{}-time"}
"""Failures that have a name of their own."""


def _look(
    looking: _Looking,
    issuer: str,
    jwks_uris: Sequence[str],
    compare: Callable[[bytes, str], KeySetFindings],
    *,
    token: str | None,
    clouds: Collection[str],
    audience_refused: Callable[[], bool] | bool | None,
    private_authority: str | None,
) -> VerifyReport:
    if not _is_loopback_http(issuer, allow_http=looking.allow_http):
        check_issuer(issuer)
    checks: list[Check] = [*_address_checks(issuer)]
    fetched = looking.fetch(discovery_url(issuer), "discovery", ("application/json",))
    checks += fetched.checks
    if private_authority is not None and fetched.body is not None:
        detail = f"its certificate was accepted by {private_authority}, which the clouds may not know"
        checks.append(Check(name="public-authority", ok=False, level="warning", detail=detail))
    jwks_uri = None
    if fetched.body is not None:
        jwks_uri, found = _read_discovery(fetched.body, issuer, jwks_uris, allow_http=looking.allow_http)
        checks += found
    lint = lint_issuer(issuer, jwks_uri, clouds=clouds, allow_private=looking.allow_private)
    permitted = ("issuer-https", "jwks-https") if looking.allow_http else ()
    checks += [replace(c, level="warning") if c.name in permitted else c for c in lint_checks(lint)]
    known_uri = jwks_uri if jwks_uri and (not jwks_uris or jwks_uri in jwks_uris) else next(iter(jwks_uris), None)
    report = VerifyReport(issuer=issuer, checks=(), jwks_uri=jwks_uri)
    if known_uri is None:
        findings = failed_key_set(Check(name="jwks", ok=False, detail="no address of the key set is known"))
    else:
        answer = looking.fetch(known_uri, "jwks", ("application/jwk-set+json", "application/json"))
        checks += answer.checks
        findings = KeySetFindings(checks=())
        if answer.body is not None:
            report = replace(report, max_age_seconds=_max_age(answer.headers), age_seconds=_age(answer.headers))
            checks += _cache_checks(report)
            findings = compare(answer.body, _cached(report))
    checks += [*findings.checks, *_live(findings, issuer, token, clouds, audience_refused)]
    return _with_keys(replace(report, checks=tuple(checks)), findings)


def _with_keys(report: VerifyReport, findings: KeySetFindings) -> VerifyReport:
    return replace(
        report,
        key_ids=findings.key_ids,
        missing=findings.missing,
        unknown=findings.unknown,
        altered=findings.altered,
        removed=findings.removed,
    )


def _live(
    findings: KeySetFindings,
    issuer: str,
    token: str | None,
    clouds: Collection[str],
    audience_refused: Callable[[], bool] | bool | None,
) -> Iterator[Check]:
    if token is not None:
        yield from check_token(token, findings.keys, issuer=issuer, clouds=clouds)
    if audience_refused is not None:
        yield check_audience(audience_refused)


# -- the parts -------------------------------------------------------------------------------------------------------


def _is_loopback_http(url: str, *, allow_http: bool) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return allow_http and parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")


def _read_discovery(
    body: bytes, issuer: str, jwks_uris: Sequence[str], *, allow_http: bool
) -> tuple[str | None, list[Check]]:
    try:
        document = parse_discovery(body, issuer=issuer, allow_http=allow_http)
    except ProtocolError as error:
        name = "discovery-issuer" if error.code == "issuer-mismatch" else "discovery-document"
        return None, [Check(name=name, ok=False, detail=error.message + _slash_hint(error, issuer))]
    checks = [Check(name="discovery-issuer", ok=True, detail="names the issuer byte for byte")]
    expected = not jwks_uris or document.jwks_uri in jwks_uris
    checks.append(
        Check(
            name="jwks-uri",
            ok=expected,
            level="tampering",
            detail=document.jwks_uri
            if expected
            else f"names the jwks_uri {document.jwks_uri[:256]!r}, expected "
            f"{' or '.join(sorted(jwks_uris))}: whoever answers there can be any ServiceAccount",
        )
    )
    return document.jwks_uri, checks


def _slash_hint(error: WifError, issuer: str) -> str:
    other = issuer.removesuffix("/") if issuer.endswith("/") else issuer + "/"
    return ": they differ by the slash at the end" if repr(other) in error.message.split(", expected ")[0] else ""


def _address_checks(issuer: str) -> Iterator[Check]:
    """Whether the issuer's name leads to a public address, seen from here."""
    parts = urlsplit(issuer)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return  # fetching says so
    addresses = sorted({str(row[4][0]) for row in found})
    private = [address for address in addresses if not ipaddress.ip_address(address.partition("%")[0]).is_global]
    if private:
        detail = f"{parts.hostname} is {', '.join(private[:4])} here, which the clouds cannot reach"
        yield Check(name="public-address", ok=False, level="warning", detail=detail)


def _cache_checks(report: VerifyReport) -> Iterator[Check]:
    age, most = report.age_seconds, report.max_age_seconds
    if most is None:
        yield Check(
            name="jwks-cache",
            ok=False,
            level="warning",
            detail="no Cache-Control max-age: each cache in between keeps the key set as long as it likes",
        )
    elif most > MAX_CACHE_SECONDS:
        detail = f"may be kept for {most} s, longer than rotation waits ({MAX_CACHE_SECONDS} s)"
        yield Check(name="jwks-cache", ok=False, level="warning", detail=detail)
    elif age is not None and age > most:
        detail = f"a cache in between shows an answer of {age} s ago, though max-age is {most} s"
        yield Check(name="jwks-cache", ok=False, level="warning", detail=detail)
    else:
        shown = f", {age} s old" if age else ""
        yield Check(name="jwks-cache", ok=True, level="info", detail=f"max-age {most} s{shown}")


def _cached(report: VerifyReport) -> str:
    if not report.age_seconds:
        return ""
    left = max(0, (report.max_age_seconds or 0) - report.age_seconds)
    return f" (a cache in between answered: {report.age_seconds} s old, for {left} s more)"


_MAX_AGE = re.compile(r"""(?:^|[,\s])max-age\s*=\s*"?([0-9]{1,10})""")


def _max_age(headers: Mapping[str, str]) -> int | None:
    value = headers.get("cache-control", "").lower()
    if "no-store" in value or "no-cache" in value:
        return 0
    found = _MAX_AGE.search(value)
    return int(found[1]) if found else None


def _age(headers: Mapping[str, str]) -> int | None:
    value = headers.get("age", "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else None


def _transport(ca_file: str | None, environ: Mapping[str, str], *, use_proxy: bool) -> Transport:
    """A transport of its own: connections, authorities and proxies of nobody else."""
    settings = {name: environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)}
    if ca_file is not None:
        try:
            with open(ca_file, "rb"):  # noqa: PTH123 - only whether it can be opened
                settings = {"SSL_CERT_FILE": ca_file}
        except OSError as error:
            raise ConfigurationError(
                f"the CA file {ca_file} cannot be read: {error.strerror}", code="file-unusable"
            ) from error
    if use_proxy:
        proxies = ("https_proxy", "all_proxy", "no_proxy")
        settings |= {name: value for name, value in environ.items() if name.lower() in proxies}
    return Transport(environ=settings, limits=Limits(connect_seconds=MAX_SECONDS, read_seconds=MAX_SECONDS))
