"""What a local credential endpoint answers: the values, and which state an identity is in.

The three interfaces that SDKs look for (AWS' container credentials, Google's metadata server, Azure's managed
identity) each say the same four states in their own way: a table for each stands beside its protocol.
"""

from __future__ import annotations

__all__ = ["Answer", "State", "state_of"]

from typing import Literal, NamedTuple

from wif.errors import WifError

State = Literal["pending", "ready", "refused", "outage"]
"""``pending``: no exchange has ended yet. ``ready``: a valid credential is there, whatever else goes on. ``refused``:
the cloud or the configuration says no, and will until somebody changes something. ``outage``: another try may do."""


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Names in lower case; Content-Length is the server's business."""


_PASSING = frozenset({"closed", "token-missing", "token-empty", "token-expired", "token-not-yet-valid"})
"""Not retryable within one exchange, and yet nobody has to change anything: an exchanger is closed when other settings
replace it, and the kubelet writes the token of a projected volume, late or anew."""


def state_of(error: WifError) -> State:
    """What an exchange that failed leaves an identity in that holds no valid credential."""
    return "outage" if error.retryable or error.code in _PASSING else "refused"
