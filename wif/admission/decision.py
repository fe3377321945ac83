"""What is decided about one object: allowed or not, the patch, and all there is to say about it."""

from __future__ import annotations

__all__ = ["Decision", "Outcome", "encode_decision", "warnings_of"]

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from wif.admission.findings import Finding
from wif.admission.review import Review, answer

WARNINGS_MAX = 10
"""A response carries no more; the last one then counts the rest."""
WARNING_CHARACTERS_MAX = 200
"""The API server cuts single warnings at 256 bytes."""

Result = Literal["injected", "present", "skipped", "left-alone", "mount-taken", "volume-absent"]


class Outcome(NamedTuple):
    """What became of one part in one container; for ``explain``."""

    container: str
    kind: Literal["container", "init", "sidecar", "ephemeral"]
    cloud: str
    dialect: str
    identity: str
    result: Result
    """``present``: nothing is missing. ``skipped``: by a list. ``left-alone``: the container has its own variables."""
    variables: tuple[str, ...] = ()
    """Those that are added or replaced."""
    mounts: tuple[str, ...] = ()
    """Paths that are added or replaced."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one review."""

    allowed: bool
    code: int = 200
    """HTTP status of a refusal."""
    message: str = ""
    """Of a refusal."""
    patch: bytes | None = None
    """A JSON array of operations; None where nothing changes."""
    findings: tuple[Finding, ...] = ()
    identities: tuple[tuple[str, str], ...] = ()
    """Pairs of cloud and identity that the pod has after the patch."""
    dialects: tuple[str, ...] = ()
    """Those by which it has them."""
    container_outcomes: tuple[Outcome, ...] = ()
    """Empty unless they were asked for."""


def warnings_of(findings: Iterable[Finding]) -> list[str]:
    """The lines that whoever creates the object is shown."""
    texts = [_line(finding.text) for finding in findings if finding.level == "warning"]
    texts = list(dict.fromkeys(texts))
    if len(texts) > WARNINGS_MAX:
        texts[WARNINGS_MAX - 1 :] = [f"wif: and {len(texts) - WARNINGS_MAX + 1} more; wif webhook explain shows them"]
    return texts


def _line(text: str) -> str:
    # The API server drops a warning with control characters.
    line = "wif: " + "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= WARNING_CHARACTERS_MAX else line[: WARNING_CHARACTERS_MAX - 1] + "…"


def encode_decision(review: Review, decision: Decision) -> bytes:
    """The AdmissionReview to answer with."""
    audit: dict[str, str] = {}
    if decision.identities:
        audit["injected"] = " ".join([f"{cloud}={identity}" for cloud, identity in decision.identities])
    warnings: list[str] = []
    if decision.findings:
        warnings = warnings_of(decision.findings)
        audit["findings"] = " ".join(sorted({finding.rule for finding in decision.findings}))
    if decision.allowed:
        return answer(review, allowed=True, patch=decision.patch, warnings=warnings, audit_annotations=audit)
    return answer(
        review,
        allowed=False,
        code=decision.code,
        message=decision.message,
        warnings=warnings,
        audit_annotations=audit,
    )
