"""What the answers of all token services have in common: reading them with suspicion, and saying why they refuse.

An answer is data from outside: any status, any bytes. Reading one yields a value or raises a
:class:`~wif.errors.WifError`; it never raises anything else and never puts a secret into a message.
"""

from __future__ import annotations

__all__ = [
    "Asked",
    "Row",
    "date_seconds",
    "header_safe",
    "is_local_sts",
    "json_object",
    "left_seconds",
    "malformed",
    "number",
    "redacted",
    "refusal",
    "retry_after_seconds",
    "shown",
    "text_member",
    "utc",
    "when",
]

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

from wif.core.flow import Response
from wif.core.token import UnverifiedToken
from wif.errors import ProtocolError, RefusedError, UnavailableError, WifError

MAX_TEXT = 400
"""Letters of a cloud's own text that a message shows; the longest text seen, Azure's 70021, fits with its values."""

MAX_VALUE = 300
"""Letters of one claim or name that a message shows; a Kubernetes subject has at most 339."""

MAX_READ = 4_000
"""Letters of a cloud's own text that are looked at; a longer one is no sentence."""

MAX_LIFE_SECONDS = 400 * 86_400.0
"""Longer than any credential of any STS lives, those of compatible products (a year) included."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_UNAVAILABLE = frozenset({"throttled", "cloud-unavailable", "issuer-unreachable"})
"""Codes that blame nobody's trust: the same token may be accepted a moment later."""


class Row(NamedTuple):
    """One row of a cloud's table of refusals: how it is recognised and what it means here.

    The first row that fits wins. An empty ``cloud_code``, ``pattern``, ``operation`` or a zero ``status`` fits
    everything; ``pattern`` is a regular expression searched in the cloud's text without regard to case.
    """

    cloud: str
    situation: str
    """In a few words, what is wrong."""
    cloud_code: str
    pattern: str
    code: str
    """A key of :data:`wif.errors.CODES`."""
    hint: str = ""
    """Next step; may name the fields of :func:`refusal`. Empty: the hint of ``code``."""
    retryable: bool | None = None
    """None: as ``code`` says."""
    operation: str = ""
    status: int = 0
    listed: bool = True
    """True for a row of the reference of the clouds' answers, False for one added here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of whom, as far as messages need it."""

    cloud: str
    name: str
    """The cloud's name in sentences."""
    operation: str
    identity: str
    """What was to be become, as in ``the role arn:…``."""
    now: float
    token: UnverifiedToken | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that must never stand in a message."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """More fields for hints."""


def shown(text: str, limit: int = MAX_VALUE) -> str:
    """A text from outside made fit for one line: no control characters, no line breaks, not too long."""
    head = " ".join(text[: limit * 2].split())
    head = "".join(letter if letter.isprintable() else "?" for letter in head)
    return head if len(head) <= limit and len(text) <= limit * 2 else head[: limit - 1] + "…"


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the secrets given and without anything that looks like a token or a key; cut to MAX_READ."""
    for secret in secrets:
        pieces = secret.split(".") if secret.count(".") == 2 else []
        for piece in (secret, quote(secret, safe=""), *pieces):
            if len(piece) >= 4:  # fewer letters stand in ordinary words
                text = text.replace(piece, "[redacted]")
    return re.sub(_LOOKS_SECRET, "[redacted]", text[:MAX_READ])


_LOOKS_SECRET = (
    r"eyJ[\w-]{8,}(?:\.[\w-]*)*"  # a JWT or a piece of one
    r"|ya29\.[\w.-]+"  # Google's access tokens
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"  # AWS access key ids
    r"|(?=[A-Za-z0-9+_=-]{40})(?=[A-Za-z0-9+_=-]*[a-z])(?=[A-Za-z0-9+_=-]*[A-Z])(?=[A-Za-z0-9+_=-]*[0-9])"
    r"[A-Za-z0-9+_=-]{40,}"  # long runs of mixed letters and digits: keys and signatures, not words or hex ids
)


def is_local_sts(response: Response) -> bool:
    """True where the answer carries the mark of the local STS."""
    return response.headers.get("x-wif-local-sts", "").strip() == "1"


def utc(seconds: float) -> datetime:
    """Unix seconds as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def when(value: object) -> datetime | None:
    """An RFC 3339 time with its zone, in UTC; None where the value is not one."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        parsed = datetime.fromisoformat(value.strip())
        return None if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def date_seconds(value: str) -> float | None:
    """An HTTP date (RFC 9110 section 5.6.7, IMF-fixdate) in unix seconds; None where it is not one."""
    found = re.fullmatch(
        r"\s*[A-Za-z]{3}, (\d{2}) ([A-Za-z]{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT\s*", value, re.ASCII
    )
    if found is None or found[2].lower() not in _MONTHS:
        return None
    month = _MONTHS.index(found[2].lower()) + 1
    try:
        day = datetime(int(found[3]), month, int(found[1]), int(found[4]), int(found[5]), int(found[6]), tzinfo=UTC)
    except ValueError:
        return None
    return day.timestamp()


def left_seconds(asked: Asked, response: Response, end: datetime) -> float:
    """What is left until ``end`` by the server's own clock (its ``Date``), else by ``now``.

    Raises:
        ProtocolError: clock-skew, where by no clock anything sensible is left.
    """
    date = date_seconds(response.headers.get("date", ""))
    for clock in (date, asked.now):
        if clock is not None and 0 < end.timestamp() - clock <= MAX_LIFE_SECONDS:
            return end.timestamp() - clock
    raise ProtocolError(
        f"{asked.name} answered {asked.operation} for {asked.identity} with an expiry of {_stamp(end)}, "
        f"and this machine's clock says {_stamp(utc(asked.now))}",
        code="clock-skew",
        hint="synchronise the clock of this machine",
        cloud=asked.cloud,
        status=response.status,
    )


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def retry_after_seconds(response: Response, now: float) -> float | None:
    """What ``Retry-After`` asks for (RFC 9110 section 10.2.3), at most a day; None where it asks nothing."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), 86_400.0)
    until = date_seconds(value)
    if until is None:
        return None
    sent = date_seconds(response.headers.get("date", ""))
    return min(max(0.0, until - (now if sent is None else sent)), 86_400.0)


def header_safe(value: str) -> bool:
    """True for a text that may stand in a header as a token or key: visible ASCII and nothing else."""
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def number(value: object) -> float | None:
    """A count of seconds as a JSON number or a numeric string; None where it is not a sane one."""
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"[0-9]{1,12}", value, re.ASCII) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e12:
        return None
    return float(value)


def malformed(asked: Asked, response: Response, what: str) -> ProtocolError:
    """The error of an answer that is not one of this protocol; names status and content type."""
    return ProtocolError(
        f"{asked.name} answered {asked.operation} for {asked.identity} with {what} {_kind(response)}",
        code="response-malformed",
        cloud=asked.cloud,
        status=response.status,
    )


def _kind(response: Response) -> str:
    kind = shown(response.headers.get("content-type", ""), 80)
    return f"(HTTP {response.status}, {f'content type {kind}' if kind else 'no content type'})"


def json_object(response: Response) -> Mapping[str, Any] | None:
    """The answer's body as a JSON object; None where it is none."""
    try:
        value = json.loads(response.body.decode("utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def text_member(value: Mapping[str, Any], name: str) -> str:
    """The member as it is where it is a string, else an empty one."""
    member = value.get(name)
    return member if isinstance(member, str) else ""


def refusal(asked: Asked, response: Response, *, cloud_code: str, text: str, rows: Iterable[Row]) -> WifError:
    """The error of an answer that is not a success.

    Args:
        cloud_code: the cloud's own code; empty where the answer carries none.
        text: the cloud's own sentence.
        rows: the cloud's table; what it does not know is ``throttled`` (429), ``cloud-unavailable`` (408, 5xx) or
            ``exchange-refused``.
    """
    status = response.status
    fields = _fields(asked)
    row = next((row for row in rows if _fits(row, asked.operation, status, cloud_code, text[:MAX_READ])), None)
    code, hint, retryable = _by_status(status), "", None
    if row is not None:
        code, hint, retryable = row.code, row.hint.format_map(fields), row.retryable
        code, hint = _by_clock(code, hint, asked, response)
    elif not cloud_code and not text and not _busy(status):
        return malformed(asked, response, "something that is neither a success nor an error document")
    if retryable is None and _busy(status):
        retryable = True
    known = cloud_code if _is_code(cloud_code, asked.secrets) else None
    said = ": ".join(part for part in (known, shown(redacted(text, asked.secrets), MAX_TEXT)) if part)
    said = f"{said} (HTTP {status})" if said else f"no error document {_kind(response)}"
    kind = UnavailableError if code in _UNAVAILABLE else RefusedError
    return kind(
        f"{asked.name} {'could not serve' if _busy(status) else 'refused'} {asked.operation} for {asked.identity}: "
        f"{said}{_token(fields)}",
        code=code,
        hint=hint or None,
        retryable=retryable,
        cloud=asked.cloud,
        cloud_code=known,
        status=status,
        retry_after_seconds=retry_after_seconds(response, asked.now),
    )


def _is_code(text: str, secrets: Iterable[str]) -> bool:
    return re.fullmatch(r"[\w.-]{1,64}", text, re.ASCII) is not None and redacted(text, secrets) == text


def _fits(row: Row, operation: str, status: int, cloud_code: str, text: str) -> bool:
    return (
        row.cloud_code in ("", cloud_code)
        and row.operation in ("", operation)
        and row.status in (0, status)
        and (not row.pattern or re.search(row.pattern, text, re.IGNORECASE) is not None)
    )


def _busy(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _by_status(status: int) -> str:
    if status == 429:
        return "throttled"
    return "cloud-unavailable" if _busy(status) else "exchange-refused"


def _by_clock(code: str, hint: str, asked: Asked, response: Response) -> tuple[str, str]:
    """Why the cloud calls a token expired that this machine's clock does not: its age, or the clocks disagree."""
    token = asked.token
    if code != "token-expired" or token is None or token.expires_at <= asked.now:
        return code, hint
    if max(token.not_before or 0.0, token.issued_at or 0.0) > asked.now:
        return "token-not-yet-valid", hint
    if asked.cloud == "gcp" and token.issued_at is not None and asked.now - token.issued_at > 86_400:
        return "token-lifetime", "use a projected token: Google takes none that was issued more than 24 h ago"
    seen = f"the token is valid by this machine's clock, which says {_stamp(utc(asked.now))}"
    date = date_seconds(response.headers.get("date", ""))
    if date is not None:
        seen += f"; {asked.name}'s says {_stamp(utc(date))}"
    return "clock-skew", f"{seen}: synchronise the clocks of this machine and of the API server"


class _Fields(dict[str, str]):
    """Hints may name any field; one that is not known here reads as a question mark."""

    def __missing__(self, key: str) -> str:
        return "?"


def _fields(asked: Asked) -> _Fields:
    fields = _Fields({"identity": asked.identity, **asked.facts})
    token = asked.token
    if token is not None:
        kid = token.unverified_header.get("kid")
        fields.update(
            origin=shown(token.origin),
            issuer=shown(token.issuer),
            subject=shown(token.subject),
            audience=shown(", ".join(token.audience)),
            kid=shown(kid) if isinstance(kid, str) else "none",
        )
    return fields


def _token(fields: _Fields) -> str:
    if "issuer" not in fields:
        return ""
    return "; the token of {origin} says iss {issuer!r}, sub {subject!r}, aud {audience!r}".format_map(fields)
