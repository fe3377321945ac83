"""Keeps every identity's credential fresh without anybody asking, and knows which state each is in."""

from __future__ import annotations

__all__ = ["Keeper", "Kept"]

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from wif.clouds.endpoint_answers import State
from wif.serve.sidecar_identities import AnyServed, Identities


class Kept(NamedTuple):
    """What is known of one identity."""

    state: State
    code: str | None = None
    """Of the last failure, where there was none better since: also of a refresh that failed while ready."""
    expires_at: datetime | None = None
    """Of the credential, where there is a valid one."""


class Keeper:
    """One asyncio task for all identities.

    Args:
        identities: whom to keep; what is replaced in them is seen.
        longest_sleep_seconds: after which it looks again whatever it was waiting for: a clock may have jumped, the
            machine may have been suspended.
    """

    def __init__(self, identities: Identities, *, longest_sleep_seconds: float = 5.0) -> None:
        raise NotImplementedError

    def on_change(self, hook: Callable[[AnyServed], None]) -> None:
        """Register what is called on the event loop when an identity has a new credential. It must not block."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin, on the running event loop."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End; exchanges under way go on until the identities are closed."""
        raise NotImplementedError

    def wake(self) -> None:
        """Look at everything again now: the identities were replaced. Any thread may call it."""
        raise NotImplementedError

    @property
    def states(self) -> Mapping[str, Kept]:
        """By name."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether every identity that is served has a valid credential, whatever goes on besides."""
        raise NotImplementedError

    def problems(self) -> Mapping[str, str]:
        """The code of what is wrong, by name; empty where all is well."""
        raise NotImplementedError

    async def wait_ready(self, timeout_seconds: float) -> bool:
        """Wait until :meth:`ready`, for ``--init``; False where the time has passed."""
        raise NotImplementedError
