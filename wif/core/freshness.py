"""When a credential is used, refreshed and given up, and every number of an exchange with its reason.

A :class:`Lifetime` is measured on two clocks at once, because either may lie: the wall clock jumps, and the
monotonic clock of some systems stands still while the machine is suspended. Whichever clock says "later" wins.
"""

from __future__ import annotations

__all__ = ["LEEWAY_SECONDS", "LIMITS", "MAX_SUBJECT_TOKEN_BYTES", "Lifetime", "Limits", "lifetime", "retry_delay"]

from typing import NamedTuple

MAX_SUBJECT_TOKEN_BYTES = 20_000
"""AWS' own limit (STS model: WebIdentityToken 4..20000), the largest of the three clouds."""

LEEWAY_SECONDS = 60.0
"""Clock difference forgiven for ``exp``, ``nbf`` and ``iat``; what GCP was seen to forgive."""


class Limits(NamedTuple):
    """The numbers of one exchanger. Seconds unless the name says otherwise."""

    refresh_fraction: float = 0.8
    """Refresh ahead at this part of the life, as the kubelet does with its tokens."""
    refresh_jitter: float = 0.05
    """Plus or minus this part, so that replicas started together do not refresh together."""
    margin_seconds: float = 60.0
    """Inside this last stretch nothing cached is served: a request may still be under way when it ends."""
    margin_fraction: float = 0.1
    """The margin is never more than this part of the life, else short lives would never be usable."""
    exchanges_per_minute: int = 6
    """For one key, whatever its callers do: a quota of the cloud is shared by the whole account."""
    connect_seconds: float = 5.0
    """One connection: three SYN retransmissions."""
    read_seconds: float = 10.0
    """Longest silence inside an answer."""
    total_seconds: float = 30.0
    """Wall time of one exchange with all its attempts: connect, headers and body."""
    attempts: int = 4
    """Tries within the total."""
    backoff_seconds: float = 0.5
    """First pause; doubles, with full jitter."""
    backoff_max_seconds: float = 8.0
    """Longest single pause, unless Retry-After asks for more and the total still allows it."""
    failure_backoff_seconds: float = 1.0
    """After a failed exchange the same error is given to new callers for this long; doubles up to a minute."""
    failure_backoff_max_seconds: float = 60.0
    """Longest time for which one failure answers for others."""
    retry_after_max_seconds: float = 300.0
    """Longest time for which a failure that came with Retry-After does: a proxy's maintenance page asks for a day."""


LIMITS = Limits()
"""The defaults; ``limits=`` of an exchanger takes another one."""


class Lifetime(NamedTuple):
    """The three points of a credential's life, in seconds on the caller's steady clock and wall clock."""

    refresh_steady: float
    refresh_wall: float
    stop_steady: float
    stop_wall: float
    end_steady: float
    end_wall: float

    def fresh(self, steady: float, wall: float) -> bool:
        """True while nothing needs to be done."""
        return steady < self.refresh_steady and wall < self.refresh_wall

    def usable(self, steady: float, wall: float) -> bool:
        """True while it may be served without waiting for a refresh: before the last margin."""
        return steady < self.stop_steady and wall < self.stop_wall

    def valid(self, steady: float, wall: float) -> bool:
        """True while it may be served because a refresh failed: before its end."""
        return steady < self.end_steady and wall < self.end_wall

    def left(self, steady: float, wall: float) -> float:
        """Seconds until its end, by the clock that says less; none left is 0 or less."""
        return min(self.end_steady - steady, self.end_wall - wall)


def lifetime(
    life_seconds: float,
    *,
    steady: float,
    wall: float,
    chance: float,
    renew_seconds: float | None = None,
    limits: Limits = LIMITS,
) -> Lifetime:
    """Plan a credential's life.

    Args:
        life_seconds: what was left of it at the moment of the clocks, by the issuing server's clock.
        steady, wall: both clocks when the exchange began, seconds.
        chance: a random number of [0, 1) for the jitter.
        renew_seconds: when the issuer itself asks to renew it (Azure's ``refresh_in``); the earlier point counts.
    """
    life = max(0.0, life_seconds)
    fraction = limits.refresh_fraction + limits.refresh_jitter * (2.0 * chance - 1.0)
    stop = life - min(limits.margin_seconds, limits.margin_fraction * life)
    refresh = min(life * fraction, stop)
    if renew_seconds is not None and renew_seconds > 0:
        refresh = min(refresh, renew_seconds)
    return Lifetime(steady + refresh, wall + refresh, steady + stop, wall + stop, steady + life, wall + life)


def retry_delay(
    attempt: int, *, chance: float, retry_after_seconds: float | None = None, limits: Limits = LIMITS
) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (from 1): exponential with jitter, Retry-After obeyed."""
    ceiling = min(limits.backoff_max_seconds, limits.backoff_seconds * 2.0 ** (attempt - 1))
    pause = ceiling * (0.5 + 0.5 * chance)
    return pause if retry_after_seconds is None else max(pause, retry_after_seconds)
