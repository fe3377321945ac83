"""What a published key set and a live token are checked for, whoever fetched them.

The answers are values: a failed check is no exception, and all of them are made before anybody decides.
"""

from __future__ import annotations

__all__ = [
    "Check",
    "KeySetFindings",
    "Level",
    "check_audience",
    "check_key_set",
    "check_token",
    "exit_status_of",
    "failed_key_set",
]

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wif.core.issuer_lint import ALL_CLOUDS, lint_key_set
from wif.core.jws import split_compact
from wif.core.jws import verify as verify_jws
from wif.core.public_keys import observe_key_set
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.core.issuer_lint import Finding
    from wif.core.public_keys import IssuerKey, ObservedEntry

Level = Literal["error", "tampering", "drift", "warning", "info"]
"""What a failure means: a cloud cannot use the issuer; somebody else has changed it; it is not as it should be;
it may break later; nothing, it is only told."""

_MAX_NAMED = 8
"""Key ids in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    """A stable slug."""
    ok: bool
    level: Level = "error"
    """What it means where ``ok`` is false."""
    detail: str
    """What was found; where it failed, also what was expected and what to do."""
    seconds: float | None = None
    """How long the answer took, where there was a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySetFindings:
    """What a key set holds, against what it should hold. Key ids throughout; an entry without one is ``""``."""

    checks: tuple[Check, ...]
    key_ids: tuple[str, ...] = ()
    keys: tuple[IssuerKey, ...] = ()
    """The entries that can be used."""
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Nobody vouches for them."""
    altered: tuple[str, ...] = ()
    """An expected id with other material."""
    removed: tuple[str, ...] = ()
    """Removed from the issuer, and still or again visible."""


def failed_key_set(check: Check) -> KeySetFindings:
    """The findings where there is no key set to look at."""
    return KeySetFindings(checks=(check,))


def check_key_set(
    body: bytes,
    *,
    expected: Collection[IssuerKey] | None,
    known: Collection[IssuerKey] = (),
    removed: Collection[str] | Mapping[str, str | None] = (),
    clouds: Collection[str] = ALL_CLOUDS,
    cached: str = "",
) -> KeySetFindings:
    """Compare a key set with the keys that should be in it. A key is its id together with its material.

    Args:
        body: the fetched bytes.
        expected: every key that must be there; None leaves the comparison out, an empty one fails.
        known: further keys that may be there, and need not.
        removed: ids that the issuer has removed; a mapping gives their fingerprints. One of which neither this nor
            ``known`` tells the material is an unknown key: anybody can write a removed id over a key of his own.
        clouds: who reads it.
        cached: how old the answer may be, to be told with a missing key; empty where nothing is known.
    """
    observed = observe_key_set(body)
    if observed.problem is not None:
        return failed_key_set(
            Check(name="keys-readable", ok=False, detail=f"what answers is no key set: {observed.problem}")
        )
    entries = observed.entries
    usable = tuple(entry.key for entry in entries if entry.key is not None)
    checks = [
        Check(name="keys-readable", ok=True, detail=f"{len(entries)} key(s)"),
        *lint_checks(lint_key_set(body, clouds)),
    ]
    ids = tuple(_id(entry) for entry in entries)
    if expected is None:
        checks.append(
            Check(name="keys-expected", ok=True, level="info", detail="not compared: no source of keys was named")
        )
        return KeySetFindings(checks=tuple(checks), key_ids=ids, keys=usable)
    buried = {key_id: removed.get(key_id) if isinstance(removed, Mapping) else None for key_id in removed}
    material = {key.key_id: key.fingerprint for key in (*known, *expected)}
    unknown = _unique(i for i in ids if material.get(i) is None and buried.get(i) is None)
    material |= {key_id: fingerprint for key_id, fingerprint in buried.items() if fingerprint}
    altered = _unique(_id(e) for e in entries if _id(e) not in unknown and not _fits(e, material[_id(e)]))
    gone = _unique(i for i in ids if i in buried and i not in unknown and i not in altered)
    present = set(ids)
    missing = tuple(sorted({key.key_id for key in expected} - present - buried.keys()))
    checks += _comparison(missing, unknown, altered, gone, nothing_expected=not expected, cached=cached)
    return KeySetFindings(
        checks=tuple(checks),
        key_ids=ids,
        keys=usable,
        missing=missing,
        unknown=unknown,
        altered=altered,
        removed=gone,
    )


def lint_checks(findings: Iterable[Finding]) -> Iterator[Check]:
    """Each finding of the lint as a failed check."""
    for finding in findings:
        clouds = f" ({', '.join(finding.clouds)})" if finding.clouds else ""
        detail = f"{finding.message}{clouds}; {finding.hint}" if finding.hint else f"{finding.message}{clouds}"
        yield Check(name=finding.rule, ok=False, level=finding.level, detail=detail)


def _comparison(
    missing: Sequence[str],
    unknown: Sequence[str],
    altered: Sequence[str],
    gone: Sequence[str],
    *,
    nothing_expected: bool,
    cached: str,
) -> Iterator[Check]:
    if nothing_expected:
        yield Check(name="keys-expected", ok=False, detail="no key is expected there, which cannot be right")
    else:
        detail = f"not there: {_list(missing)}{cached}" if missing else "every expected key is there"
        yield Check(name="keys-expected", ok=not missing, level="drift", detail=detail)
    yield Check(
        name="keys-unknown",
        ok=not unknown,
        level="tampering",
        detail=f"nobody vouches for {_list(unknown)}: whoever holds the private key can be any ServiceAccount"
        if unknown
        else "no unknown key",
    )
    yield Check(
        name="keys-altered",
        ok=not altered,
        level="tampering",
        detail=f"other material under the id {_list(altered)}" if altered else "every known key has its own material",
    )
    if gone:
        yield Check(
            name="keys-removed", ok=False, level="drift", detail=f"removed, and still visible: {_list(gone)}{cached}"
        )


def check_token(token: str, keys: Sequence[IssuerKey], *, issuer: str, clouds: Collection[str]) -> Iterator[Check]:
    """Verify a live token with the keys of the fetched set, as a cloud would. The token is never shown.

    Its times and audience are not looked at: it was minted a moment ago, and for whom is the caller's choice.
    """
    try:
        jws = split_compact(token)
    except WifError as error:
        yield Check(name="token-signature", ok=False, detail=error.message)
        return
    said = jws.unverified_claims.get("iss")
    yield Check(
        name="token-issuer",
        ok=said == issuer,
        detail="its iss is the issuer"
        if said == issuer
        else f"the API server writes the issuer {str(said)[:256]!r} into tokens, expected {issuer!r}",
    )
    candidates = [key for key in keys if jws.key_id and key.key_id == jws.key_id]
    if not candidates:
        shown = named(jws.key_id or "")
        yield Check(
            name="token-signature", ok=False, detail=f"a live token is signed by {shown}, which is not published"
        )
        return
    problem = ""
    for key in candidates:
        if key.public_key is None:
            problem = f"{key.algorithm} is verified by no cloud"
            continue
        try:
            verify_jws(jws, key.public_key, key.algorithm)
        except WifError as error:
            problem = error.message
            continue
        yield Check(name="token-signature", ok=True, detail=f"a live token is verified by {named(key.key_id)}")
        refusing = sorted(set(clouds) - set(key.clouds))
        if refusing:
            yield Check(
                name="token-clouds",
                ok=False,
                level="warning",
                detail=f"live tokens are signed with {key.algorithm}, refused by {', '.join(refusing)}",
            )
        return
    yield Check(
        name="token-signature",
        ok=False,
        detail=f"a live token is signed by {named(jws.key_id or '')}, but {problem}",
    )


def check_audience(refused: Callable[[], bool] | bool) -> Check:
    """That the API server itself does not accept a token which was minted for a cloud's audience.

    Where it did, a token that a pod hands to a cloud would open the cluster to whoever reads it there.
    """
    name = "audience-refused"
    if callable(refused):
        try:
            refused = refused()
        except WifError as error:
            return Check(name=name, ok=False, level="warning", detail=f"could not be tried: {error.message}")
    return Check(
        name=name,
        ok=refused,
        detail="the API server refuses a token for a cloud's audience"
        if refused
        else "the API server accepts a token for a cloud's audience: take that audience out of --api-audiences",
    )


def named(key_id: str) -> str:
    """A key in a sentence."""
    return f"the key {key_id[:128]!r}" if key_id else "a key without an id"


def _id(entry: ObservedEntry) -> str:
    return entry.key_id or ""


def _fits(entry: ObservedEntry, fingerprint: str) -> bool:
    return entry.key is not None and entry.key.fingerprint == fingerprint


def _unique(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


def _list(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(i[:128]) if i else "one without an id" for i in ids[:_MAX_NAMED])
    return shown + (f" and {len(ids) - _MAX_NAMED} more" if len(ids) > _MAX_NAMED else "")


_EXIT: Mapping[Level, int] = {"tampering": 3, "drift": 3, "error": 1}


def exit_status_of(checks: Sequence[Check]) -> int:
    """3 where drift or tampering was found; else 1 where an error was; else 0."""
    return max((_EXIT.get(check.level, 0) for check in checks if not check.ok), default=0)
