"""One issuer under watch: what a poll looks at, what a round does, and what both have found, for metrics and Events."""

from __future__ import annotations

__all__ = ["Findings", "IssuerStatus", "PublishedIssuer", "TargetStatus", "Watched"]

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from wif.errors import WifError
from wif.issuer.parallel import each
from wif.issuer.publish import Publisher
from wif.issuer.rotate import Rotation
from wif.issuer.session import Session

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings
    from wif.edges.kube import KubeClient
    from wif.edges.stores.google import Guard
    from wif.issuer.neighbours import Neighbours
    from wif.issuer.report import PublishReport, TargetReport
    from wif.issuer.rounds import OpenTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatus:
    """One target after a round."""

    name: str
    keys: int
    written: bool = False
    drift: tuple[str, ...] = ()
    """What differed before the round, in sentences."""
    tampering: tuple[str, ...] = ()
    error: WifError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one round found and did."""

    targets: tuple[TargetStatus, ...] = ()
    tampering: tuple[str, ...] = ()
    """Of all targets and of the public address."""
    verified: bool | None = None
    """Whether the public address shows what it should; None where it was not looked at."""
    failed_checks: tuple[str, ...] = ()
    """Of the verification, in sentences."""
    exposures: tuple[str, ...] = ()
    """Keys that sign before they are visible everywhere, in sentences."""
    warnings: tuple[str, ...] = ()
    next_step: str = ""
    """Of the rotation."""
    error: WifError | None = None
    """Why the round ended before any target was looked at."""

    @property
    def ok(self) -> bool:
        """Whether everything was reached and is right; else the next round comes sooner."""
        return not (
            self.error or any(target.error for target in self.targets) or self.verified is False or self.tampering
        )


class Watched(Protocol):
    """One issuer, as the controller sees it."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    @property
    def issuer(self) -> str:
        """What metrics call it; the name until it is known."""

    def look(self) -> Hashable:
        """All that a round depends on, as one value to compare: cheap, changes nothing.

        Raises:
            WifError: it cannot be seen now.
        """

    def run(self, *, restore: bool) -> Findings:
        """Publish, verify and record. Failures are in the findings."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerStatus:
    """What is known of an issuer now: a value that is replaced whole."""

    name: str
    issuer: str
    rounds: int = 0
    failures_in_a_row: int = 0
    failures: int = 0
    round_at: float | None = None
    """When the last round ended, by the controller's clock."""
    verified_at: float | None = None
    """When the public address was last found right; the beginning of leadership where it never was."""
    last: Findings = field(default_factory=Findings)
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Failures by target (empty: the round itself) and code."""
    tampering_rounds: int = 0
    tampering_at: float | None = None
    """When tampering was last found."""
    tampering: int = 0
    """How many things it was."""
    repaired: int = 0
    """Targets that were written because they had drifted."""

    def after(self, findings: Findings, now: float) -> IssuerStatus:
        """The status after a round."""
        errors = dict(self.errors)
        failed = [(target.name, target.error) for target in findings.targets if target.error is not None]
        for place, error in [*failed, *([("", findings.error)] if findings.error is not None else [])]:
            errors[place, error.code] = errors.get((place, error.code), 0) + 1
        return replace(
            self,
            rounds=self.rounds + 1,
            failures_in_a_row=0 if findings.ok else self.failures_in_a_row + 1,
            failures=self.failures + (not findings.ok),
            round_at=now,
            verified_at=now if findings.verified else self.verified_at,
            last=findings,
            errors=errors,
            tampering_rounds=self.tampering_rounds + bool(findings.tampering),
            tampering_at=now if findings.tampering else self.tampering_at,
            tampering=len(findings.tampering) or self.tampering,
            repaired=self.repaired + sum(1 for target in findings.targets if target.written and target.drift),
        )

    def tampering_within(self, seconds: float, now: float) -> int:
        """How many things nobody vouches for were found, if that was within so many seconds; else 0."""
        recent = self.tampering_at is not None and now - self.tampering_at <= seconds
        return self.tampering if recent else 0


class PublishedIssuer:
    """An issuer of settings, published by :class:`~wif.issuer.publish.Publisher`.

    Args:
        settings, name: of the issuer.
        neighbours: the issuers of the same file; what they share with this one is found.
        kube: the cluster's client, where the caller has one.
        guard: whether the Lease is held for so many seconds more; for targets without conditional writes.
        environ: variables for credentials, proxies, the place of the state.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        name: str = "",
        neighbours: Neighbours | None = None,
        kube: KubeClient | None = None,
        guard: Guard | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings = settings
        self._neighbours = neighbours
        self._kube = kube
        self._guard = guard
        self._environ = environ
        self._session: Session | None = None
        self.name = name or settings.issuer or "the cluster's issuer"
        self.issuer = settings.issuer or self.name
        self._label = name

    def look(self) -> Hashable:
        """The keys of all sources, the tags of all targets, the removed keys of the state."""
        session = self._open()
        try:
            vouched = session.sources.read()
            state = session.states.read()[0]
            tags = each(lambda target: _tags(session, target), session.targets)
        except WifError:
            self.close()  # the next look begins with new connections
            raise
        if self._settings.issuer is None and vouched.issuer not in (None, session.issuer):
            self.close()  # the cluster writes another issuer now: its documents and its state are others
        return (
            frozenset((key.key_id, key.fingerprint) for key in vouched.keys),
            vouched.issuer,
            tuple(tag.code if isinstance(tag, WifError) else tag for tag in tags),
            frozenset(state.removed) if state is not None else None,
        )

    def run(self, *, restore: bool) -> Findings:
        """One run of the publisher, then one observation of the rotation, which records what is visible where."""
        try:
            session = self._open()
            publisher = Publisher(
                self._settings,
                name=self._label,
                kube=self._kube,
                guard=self._guard,
                neighbours=self._neighbours,
                environ=self._environ,
            )
            findings = found(publisher.run_in(session, restore=restore))
        except WifError as error:
            self.close()
            return Findings(error=error)
        if session.managed is not None:
            return findings
        try:
            rotation = Rotation(
                self._settings, name=self._label, kube=self._kube, guard=self._guard, environ=self._environ
            ).status()
        except WifError as error:
            return replace(findings, warnings=(*findings.warnings, f"the rotation is not observed: {error.message}"))
        return replace(
            findings,
            exposures=tuple(exposure.message for exposure in rotation.status.exposures),
            next_step=rotation.next_step.text,
            warnings=(*findings.warnings, *rotation.warnings),
        )

    def close(self) -> None:
        """Close the session; it is opened anew when it is needed."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _open(self) -> Session:
        if self._session is None:
            self._session = Session(
                self._settings, name=self._label, kube=self._kube, guard=self._guard, environ=self._environ
            )
            self.issuer = self._session.issuer
        return self._session


def found(report: PublishReport) -> Findings:
    """What a run of the publisher says, in the controller's words."""
    targets = tuple(
        TargetStatus(
            name=target.name,
            keys=len(target.keys),
            written=target.outcome == "written",
            drift=target.drift,
            tampering=_tampering_of(target),
            error=target.error,
        )
        for target in report.targets
    )
    public = report.verification
    in_public = tuple(check.detail for check in public.failed if check.level == "tampering") if public else ()
    return Findings(
        targets=targets,
        tampering=tuple(dict.fromkeys([*(text for target in targets for text in target.tampering), *in_public])),
        verified=None if public is None else public.ok,
        failed_checks=tuple(f"{check.name}: {check.detail}" for check in public.failed if check.level in _FAILING)
        if public
        else (),
        error=report.error,
        warnings=(*_managed(report), *(finding.message for finding in report.findings), *report.warnings),
    )


_FAILING = ("error", "tampering", "drift")
"""Levels of checks that make a verification fail."""


def _managed(report: PublishReport) -> tuple[str, ...]:
    if report.managed is None:
        return ()
    return (f"{report.managed.provider} publishes this issuer itself: there is nothing to watch",)


def _tampering_of(target: TargetReport) -> tuple[str, ...]:
    """Sentences; what is only listed by key id becomes one."""
    if target.tampering or not target.has_tampering:
        return target.tampering
    kids = ", ".join(kid[:64] for kid in (*target.foreign, *target.altered, *target.lost))
    return (f"{target.name}: nobody vouches for {kids}",)


def _tags(session: Session, target: OpenTarget) -> tuple[str | None, ...]:
    paths = (session.discovery_path, session.jwks_path) if target.store.holds_discovery else (session.jwks_path,)
    return tuple(stored.tag if (stored := target.store.read(path)) is not None else None for path in paths)
