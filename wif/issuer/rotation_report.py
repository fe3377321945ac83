"""What a command of ``wif keys`` found and did, as values; and the refusal of a step that is not safe."""

from __future__ import annotations

__all__ = ["RotationReport", "UnsafeStep", "tampering_of", "with_flags", "written"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wif.core.rotation import Policy, RotationStatus, Step, TimelineRow, staging_step
from wif.errors import RefusedError

if TYPE_CHECKING:
    from wif.core.issuer_state import State
    from wif.issuer.observation import Looked
    from wif.issuer.report import PublishReport
    from wif.issuer.sources import Vouched
    from wif.issuer.verify import VerifyReport


class UnsafeStep(RefusedError):
    """A step that was asked for and is not safe, or cannot be shown to be; ``reasons`` has one sentence for each."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "unsafe-step",
        hint: str | None = None,
        what: str = "",
        reasons: Sequence[str] = (),
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.what = what
        self.reasons = tuple(reasons)

    @classmethod
    def because(cls, what: str, reasons: Sequence[str], *, hint: str | None = None) -> UnsafeStep:
        """The refusal of a step, e.g. ``the key 'x' cannot be retired now``."""
        return cls(f"{what}: {'; '.join(reasons)}", hint=hint, what=what, reasons=reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationReport:
    """What a command of ``wif keys`` found and did."""

    issuer: str
    state: str
    """Where the trusted state is."""
    policy: Policy
    status: RotationStatus
    timeline: tuple[TimelineRow, ...]
    looked: Looked
    done: tuple[str, ...] = ()
    """What this command has changed, in sentences."""
    step: Step | None = None
    """What to do next; None: what ``status`` says."""
    consequences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    publications: tuple[PublishReport, ...] = ()
    """The runs of the publisher, where there were any."""
    verification: VerifyReport | None = None
    tampering: tuple[str, ...] = ()
    """What somebody else has changed, in sentences; also where this command has repaired it."""
    state_missing: bool = False
    """A target holds documents and nobody knows what is right: nothing was recorded."""

    @property
    def next_step(self) -> Step:
        """What to do next."""
        return self.step or self.status.next_step

    @property
    def exit_status(self) -> int:
        """3 for an exposure, tampering or a missing state; else 1 where a target could not be written; else 0."""
        if self.status.exposures or self.tampering or self.state_missing:
            return 3
        return max((run.exit_status for run in self.publications), default=0)


def tampering_of(
    looked: Looked,
    state: State,
    vouched: Vouched,
    verification: VerifyReport | None,
    publications: Sequence[PublishReport],
) -> tuple[str, ...]:
    """What somebody else has changed: seen now, or met by the publisher and perhaps repaired."""
    known = {kid: record.fingerprint for kid, record in state.keys.items()}
    known |= {key.key_id: key.fingerprint for key in vouched.keys}
    sentences = []
    for place, keys in looked.found.items():
        for key in keys:
            if key.key_id not in known and not state.is_removed(key):
                sentences.append(f"{place} shows the key {key.key_id}, for which nobody vouches")
            elif known.get(key.key_id, key.fingerprint) != key.fingerprint:
                sentences.append(f"{place} shows other material under the id {key.key_id}")
    for run in publications:
        for target in run.targets:
            sentences += target.tampering
            sentences += [f"{target.name} has lost the key {kid}, which the state records" for kid in target.lost]
    if verification is not None:
        sentences += [f"{check.name}: {check.detail}" for check in verification.failed if check.level == "tampering"]
    return tuple(dict.fromkeys(sentences))


def with_flags(report: RotationReport) -> RotationReport:
    """A report after staging: it ends with the flags that list both keys, whatever else is said."""
    if report.next_step.flags:
        return report
    flags = staging_step(None).flags
    then = "Then let every API server list both keys while the former one goes on signing."
    return replace(report, step=replace(report.next_step, text=f"{report.next_step.text} {then}", flags=flags))


def written(report: PublishReport) -> tuple[str, ...]:
    """What a run of the publisher has changed, in sentences."""
    sentences = []
    for target in report.targets:
        changes = [f"added {kid}" for kid in target.added] + [f"took out {kid}" for kid in target.removed]
        if target.outcome == "written":
            sentences.append(f"{target.name} is written" + (f": {', '.join(changes)}" if changes else ""))
        elif target.outcome == "failed" and target.error is not None:
            sentences.append(f"{target.name} FAILED: {target.error.message}")
    return tuple(sentences)
