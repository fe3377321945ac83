"""What a run of the publisher found and did, as values: one for each target, one for the whole run.

Rendering is the command line's, metrics are the controller's. Nothing in here is secret: keys are public ones.
"""

from __future__ import annotations

__all__ = [
    "Outcome",
    "PublishReport",
    "TargetReport",
    "UnpublishReport",
]

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from wif.errors import DriftError

if TYPE_CHECKING:
    from wif.core.issuer_lint import Finding, Managed
    from wif.errors import WifError
    from wif.issuer.verify import VerifyReport

Outcome = Literal["unchanged", "written", "would-write", "failed"]
"""``unchanged`` and ``written`` hold what they should; ``would-write`` is a dry run's; ``failed`` has an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """What one target was found to hold, and what was done about it. Key ids throughout."""

    name: str
    outcome: Outcome
    keys: tuple[str, ...] = ()
    """What it holds now, or would hold."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    """Vouched for by nobody: kept where they are, copied nowhere, dropped by ``--restore``."""
    altered: tuple[str, ...] = ()
    """A known id with other material: replaced by the known one."""
    lost: tuple[str, ...] = ()
    """Recorded in the state, no longer vouched for and no longer here: never put back from the state alone."""
    filtered: tuple[str, ...] = ()
    """Left out because none of the target's clouds verifies them."""
    drift: tuple[str, ...] = ()
    """Sentences: what differed without anybody's ill will."""
    tampering: tuple[str, ...] = ()
    """Sentences: what somebody else has changed. Also where this run repaired it."""
    warnings: tuple[str, ...] = ()
    diff: str = field(default="", repr=False)
    """What a run would write, as a unified diff; a dry run's alone."""
    error: WifError | None = None
    rounds: int = 0
    """How often it was read, decided and written; more than two where others write too."""

    @property
    def has_tampering(self) -> bool:
        """Whether somebody has to find out who wrote here."""
        return bool(self.tampering or self.foreign or self.altered or self.lost)

    @property
    def has_drift(self) -> bool:
        """Whether it differed (and, in a dry run, still does) from what it should hold."""
        return bool(self.drift) or self.outcome == "would-write"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReport:
    """One run for one issuer."""

    name: str
    """The issuer's name in ``wif.yaml``, or empty."""
    issuer: str
    jwks_uri: str
    dry_run: bool
    keys: tuple[str, ...] = ()
    """The ids of the keys that the sources vouch for."""
    managed: Managed | None = None
    """Where the provider publishes the issuer itself; then nothing else was done."""
    servers: tuple[str, ...] = ()
    """The API server endpoints that answered."""
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    targets: tuple[TargetReport, ...] = ()
    verification: VerifyReport | None = None
    """None where it was not asked for, or there is no public address."""
    state: str = ""
    """Where the trusted state is."""
    error: WifError | None = None
    """What was written could not be recorded in the state."""

    @property
    def has_tampering(self) -> bool:
        """Whether somebody else has changed a target or what the public address shows."""
        return any(target.has_tampering for target in self.targets) or bool(
            self.verification and self.verification.has_tampering
        )

    @property
    def exit_status(self) -> int:
        """3 for tampering and a lost state; else 1 for a failure; else 3 where a dry run found a difference; else 0."""
        errors = [error for error in (self.error, *(target.error for target in self.targets)) if error is not None]
        if self.has_tampering or any(isinstance(error, DriftError) for error in errors):
            return 3
        if errors:
            return 1
        return 3 if self.dry_run and any(target.has_drift for target in self.targets) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpublishReport:
    """What was taken away, and in which order the rest goes."""

    issuer: str
    done: bool
    """False where only the plan was asked for."""
    blockers: tuple[str, ...] = ()
    """Why it is refused; empty where it is not."""
    steps: tuple[str, ...] = ()
    """What to do, in order: trust first, documents later, names kept."""
    targets: tuple[TargetReport, ...] = ()

    @property
    def exit_status(self) -> int:
        """1 where it is refused or a target failed."""
        failed = any(target.outcome == "failed" for target in self.targets)
        return 1 if self.blockers or failed else 0
