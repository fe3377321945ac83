"""What to do next in a rotation or a migration: one step, with the exact flags of kube-apiserver."""

from __future__ import annotations

__all__ = ["Step", "flags_for", "migration_plan", "staging_step"]

from dataclasses import dataclass

from wif.core.rotation_facts import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step for the operators."""

    text: str
    """What to do and why, one or more sentences."""
    flags: tuple[str, ...] = ()
    """The complete set of kube-apiserver flags to have afterwards, in their order, with placeholders for files."""
    command: str | None = None
    """The command of wif that does it, where there is one."""


def flags_for(step: Step) -> str:
    """The flags of a step as they stand in a static pod's manifest, one to a line; empty where it has none."""
    return "".join(f"    - {flag}\n" for flag in step.flags)


def staging_step(old: str, new: str | None = None) -> Step:
    """How a new key is staged beside the one that signs."""
    ...


def migration_plan(old: str, new: str, *, policy: Policy, longest_token_seconds: int | None = None) -> tuple[Step, ...]:
    """How an issuer is replaced by another without a refused token: both are served and trusted for a time."""
    ...
