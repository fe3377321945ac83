"""What every evaluation of trust yields: allowed or not, by which clause, and why."""

from __future__ import annotations

__all__ = ["Decision"]

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of a trust document. False in a boolean context where it denies.

    Args:
        allowed: whether the document lets the token in.
        clause: the one condition that decided: issuer, audience, subject, trust, identity, permission, …
        reason: one sentence that names the object, what it expects and what came; never a token.
        cloud_code: the number or name that the cloud gives such a refusal, where its rule fixes one.
    """

    allowed: bool
    clause: str
    reason: str
    cloud_code: str = ""

    def __bool__(self) -> bool:
        return self.allowed
