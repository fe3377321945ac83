"""A server's certificate as a Secret keeps it for several replicas, and what is to be done with it next.

Pure: the Secret's data come in as a mapping, the time as a number. ::

    tls.crt tls.key ca.crt                  what is served, and its authority
    next-tls.crt next-tls.key next-ca.crt   made, and trusted by the API server before it is served
    previous-ca.crt                         trusted until every replica serves the present one
    rotation.json                           when that was, in unix seconds
"""

from __future__ import annotations

__all__ = ["Generation", "Step", "Stored", "Timing", "next_step", "read_data", "written_data"]

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from wif.serve.certificate_check import certificates_of

Step = Literal["none", "make", "stage", "promote", "forget"]
"""``make``: nothing usable is there, so a pair is made and served at once. ``stage``: a successor is made and put
beside it. ``promote``: the successor takes its place. ``forget``: the authority before it is trusted no longer."""

_ROTATE_AT = 2 / 3
"""Of a certificate's life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things take, in seconds."""

    life_seconds: int = 90 * 86_400
    check_seconds: float = 10.0
    """Between two looks of one replica: what somebody else has changed is repaired within this time."""
    staging_seconds: float = 300.0
    """From a successor's making to its being served: for every API server to hear of its authority."""
    overlap_seconds: float = 3600.0
    """How long the former authority is trusted on: for every replica to serve the successor."""

    @classmethod
    def of_life(cls, seconds: int) -> Timing:
        """For certificates of that life; short ones, as tests use, have short pauses too."""
        default = cls()
        return cls(
            life_seconds=seconds,
            check_seconds=min(default.check_seconds, max(0.5, seconds / 100)),
            staging_seconds=min(default.staging_seconds, seconds / 20),
            overlap_seconds=min(default.overlap_seconds, seconds / 6),
        )


class Generation(NamedTuple):
    """One pair with its authority, PEM. Its ``repr`` shows no key."""

    chain: str
    key: str
    authority: str

    def __repr__(self) -> str:
        return f"Generation(authority={self.authority!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the Secret says."""

    current: Generation | None = None
    successor: Generation | None = None
    staged_at: float = 0.0
    previous: tuple[str, ...] = ()
    """Authorities that are trusted on."""
    promoted_at: float = 0.0

    @property
    def authorities(self) -> tuple[str, ...]:
        """All that the API server must trust now."""
        found = [*_authorities(self.current), *_authorities(self.successor), *self.previous]
        return tuple(dict.fromkeys(found))

    def made(self, generation: Generation, now: float, *, served: Generation | None = None) -> Stored:
        """A pair in place of one that cannot be used, or is gone.

        What was trusted until now is trusted on, and so is the authority of what is ``served``: another replica may
        serve it too.
        """
        former = dict.fromkeys((*_authorities(served), *self.authorities))
        return Stored(current=generation, previous=tuple(former)[:_MAX_PREVIOUS], promoted_at=now)

    def staged(self, generation: Generation, now: float) -> Stored:
        """A successor beside the present pair."""
        return replace(self, successor=generation, staged_at=now)

    def promoted(self, now: float) -> Stored:
        """The successor in the present pair's place."""
        former = (*_authorities(self.current), *self.previous)[:_MAX_PREVIOUS]
        return Stored(current=self.successor, previous=former, promoted_at=now)

    def forgotten(self) -> Stored:
        """Without former authorities."""
        return replace(self, previous=(), promoted_at=0.0)


_MAX_PREVIOUS = 4


def _authorities(generation: Generation | None) -> tuple[str, ...]:
    return certificates_of(generation.authority) if generation is not None else ()


def next_step(
    stored: Stored,
    *,
    now: float,
    timing: Timing,
    usable_until: float,
    successor_usable: bool,
    is_registered: bool,
    fits_names: bool,
) -> Step:
    """What is to be done with the Secret.

    Args:
        usable_until: when the present pair ends, unix seconds; 0 where it cannot be used.
        successor_usable: whether the successor, where there is one, is whole and for the right names.
        is_registered: whether the API server trusts all of :attr:`Stored.authorities`.
        fits_names: whether the present pair is for the names that are wanted.
    """
    if stored.current is None or usable_until <= now:
        return "make"
    if stored.successor is not None and successor_usable:
        waited = now - stored.staged_at
        has_waited = waited >= timing.staging_seconds or waited < -timing.staging_seconds  # another clock's
        return "promote" if has_waited and is_registered else "none"
    is_due = usable_until - now <= timing.life_seconds * (1 - _ROTATE_AT)
    if is_due or not fits_names or stored.successor is not None:
        return "stage"
    since = now - stored.promoted_at
    if stored.previous and (since >= timing.overlap_seconds or since < -timing.overlap_seconds):
        return "forget"
    return "none"


def read_data(data: Mapping[str, Any] | None) -> Stored:
    """Read a Secret's ``data``. What cannot be read is not there: it is made anew."""
    texts = {name: _text(value) for name, value in (data or {}).items()}
    times = _times(texts.get("rotation.json", ""))
    return Stored(
        current=_generation(texts, ""),
        successor=_generation(texts, "next-"),
        staged_at=times.get("staged_at", 0.0),
        previous=certificates_of(texts.get("previous-ca.crt", ""))[:_MAX_PREVIOUS],
        promoted_at=times.get("promoted_at", 0.0),
    )


def written_data(stored: Stored) -> dict[str, str]:
    """The Secret's ``data``, the whole of it."""
    texts: dict[str, str] = {}
    for prefix, generation in (("", stored.current), ("next-", stored.successor)):
        if generation is not None:
            texts[f"{prefix}tls.crt"] = generation.chain
            texts[f"{prefix}tls.key"] = generation.key
            texts[f"{prefix}ca.crt"] = generation.authority
    if stored.previous:
        texts["previous-ca.crt"] = "".join(stored.previous)
    texts["rotation.json"] = json.dumps({"staged_at": stored.staged_at, "promoted_at": stored.promoted_at})
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


def _generation(texts: Mapping[str, str], prefix: str) -> Generation | None:
    chain, key, authority = (texts.get(f"{prefix}{name}", "") for name in ("tls.crt", "tls.key", "ca.crt"))
    return Generation(chain, key, authority) if chain and key and certificates_of(authority) else None


def _text(value: object) -> str:
    try:
        return base64.b64decode(value, validate=True).decode("ascii") if isinstance(value, str) else ""
    except (ValueError, binascii.Error):
        return ""


def _times(text: str) -> dict[str, float]:
    try:
        read = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        read = {}
    if not isinstance(read, dict):
        return {}
    return {
        name: float(value)
        for name, value in read.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
