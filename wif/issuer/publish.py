"""Publish an issuer's documents: lint, read everything, record, write, read back, and look from outside.

Reports are values; nothing is printed here.
"""

from __future__ import annotations

__all__ = ["Publisher", "lint_session", "require_suitable"]

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wif.core.issuer_lint import ALL_CLOUDS, Finding, lint_issuer, lint_keys
from wif.core.issuer_state import State
from wif.core.publication import ObservedTarget, record_written, require_state, write_ahead
from wif.edges.stores import Store
from wif.edges.stores.opening import open_store
from wif.errors import ConfigurationError, WifError
from wif.issuer.federated import Identity, lock_out_warning
from wif.issuer.outside import look_from_outside
from wif.issuer.parallel import each
from wif.issuer.report import PublishReport, TargetReport
from wif.issuer.rounds import Desired, OpenTarget, observe, preview, settle
from wif.issuer.session import Session

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings
    from wif.edges.kube import KubeClient
    from wif.edges.stores.google import Guard
    from wif.issuer.neighbours import Neighbours
    from wif.issuer.sources import Vouched


def _now() -> datetime:
    return datetime.now(UTC)


class Publisher:
    """The publisher of one issuer; each run opens and closes all that it uses.

    Args:
        settings: the issuer's.
        name: what ``wif.yaml`` calls it, or empty.
        kube: the cluster's client, where the caller has one.
        guard: whether the Lease is held for so many seconds more; for targets without conditional writes.
        neighbours: the other issuers of the same file.
        identity, open_target: as of :class:`~wif.issuer.session.Session`.
        environ: variables for credentials, proxies, the place of the state.
        clock: aware time of now.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        name: str = "",
        kube: KubeClient | None = None,
        guard: Guard | None = None,
        neighbours: Neighbours | None = None,
        identity: Identity | None = None,
        open_target: Callable[..., Store] = open_store,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._settings = settings
        self._name = name
        self._kube = kube
        self._guard = guard
        self._neighbours = neighbours
        self._identity = identity
        self._open_target = open_target
        self._environ = environ
        self._clock = clock

    def run(self, *, dry_run: bool = False, restore: bool = False) -> PublishReport:
        """Bring every target to what it should hold.

        Args:
            dry_run: write nothing, and report what would be written.
            restore: also repair what only somebody else can have done.

        Raises:
            ConfigurationError: issuer-unsuitable and all that is wrong with settings or sources; nothing was written.
            DriftError: state-missing; nothing was written.
            WifError: the sources or the state cannot be read.
        """
        with Session(
            self._settings,
            name=self._name,
            kube=self._kube,
            guard=self._guard,
            identity=self._identity,
            open_target=self._open_target,
            environ=self._environ,
        ) as session:
            return self.run_in(session, dry_run=dry_run, restore=restore)

    def run_in(self, session: Session, *, dry_run: bool = False, restore: bool = False) -> PublishReport:
        """The same in a session that the caller has opened and closes."""
        report = PublishReport(
            name=session.name,
            issuer=session.issuer,
            jwks_uri=session.jwks_uri,
            dry_run=dry_run,
            managed=session.managed,
        )
        if session.managed is not None:
            return report
        if not session.targets:
            raise ConfigurationError(
                "no target is named", code="config-missing", hint="pass --to, e.g. --to file:///srv/issuer"
            )
        # the targets with their tags, then the state, then the sources: see wif.issuer.rounds
        readings = each(lambda target: observe(target, session.discovery_path, session.jwks_path), session.targets)
        observed = [reading for reading in readings if isinstance(reading, ObservedTarget)]
        state = session.states.read()[0]
        vouched = session.sources.read()
        findings = lint_session(session, vouched, self._neighbours)
        require_suitable(findings)

        def ahead(known: State) -> State:
            require_state(known, observed)
            return write_ahead(known, vouched.keys, self._clock(), jwks_uri=session.jwks_uri, origins=vouched.origins)

        state = ahead(state or State.new(session.issuer)) if dry_run else session.states.update(ahead)
        desired = session.desired(vouched, restore=restore)
        targets = self._bring_up(session, desired, readings, state, dry_run=dry_run)
        error = None
        if not dry_run:
            try:
                state = session.states.update(lambda known: _recorded(known, targets), must_exist=True)
            except WifError as failure:  # what was found and written is told all the same
                error = failure
        return replace(
            report,
            keys=tuple(sorted(key.key_id for key in vouched.keys)),
            servers=tuple(server.name for server in vouched.servers),
            findings=tuple(findings),
            warnings=(*vouched.problems, *_lock_outs(session)),
            targets=tuple(targets),
            verification=None if dry_run else look_from_outside(session, vouched, state, targets),
            state=session.states.name,
            error=error,
        )

    def _bring_up(
        self,
        session: Session,
        desired: Desired,
        readings: Sequence[ObservedTarget | WifError],
        state: State,
        *,
        dry_run: bool,
    ) -> Sequence[TargetReport]:
        def bring(pair: tuple[OpenTarget, ObservedTarget | WifError]) -> TargetReport:
            target, reading = pair
            if isinstance(reading, WifError):
                return TargetReport(name=target.name, outcome="failed", error=reading)
            if dry_run:
                return preview(target, desired, reading, state)
            return settle(target, desired, reading, state, session.states)

        pairs = list(zip(session.targets, readings, strict=True))
        return [
            TargetReport(name=target.name, outcome="failed", error=result) if isinstance(result, WifError) else result
            for (target, _), result in zip(pairs, each(bring, pairs), strict=True)
        ]


def lint_session(session: Session, vouched: Vouched, neighbours: Neighbours | None = None) -> Sequence[Finding]:
    """What is wrong with the issuer, with its keys, and with what it shares with others; nothing is raised for it."""
    settings = session.settings
    clouds = sorted({cloud for target in settings.to for cloud in target.clouds}) or ALL_CLOUDS
    findings = [
        *lint_issuer(
            session.issuer,
            session.jwks_uri,
            clouds=clouds,
            server_issuers=() if settings.former_issuer else [server.issuer for server in vouched.servers],
            fetched=not session.targets or any(target.store.holds_discovery for target in session.targets),
            allow_private=settings.allow_private,
        ),
        *lint_keys(vouched.keys, clouds),
    ]
    return [*findings, *(neighbours.findings(session, vouched.keys, clouds) if neighbours is not None else ())]


def require_suitable(findings: Iterable[Finding]) -> None:
    """Stop where a rule is broken that no cloud forgives.

    Raises:
        ConfigurationError: issuer-unsuitable, with every finding.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise ConfigurationError(
            "; ".join(f"{finding.message} ({finding.rule})" for finding in errors),
            code="issuer-unsuitable",
            hint=" ".join(dict.fromkeys(finding.hint for finding in errors if finding.hint)) or None,
        )


def _recorded(state: State, targets: Iterable[TargetReport]) -> State:
    for target in targets:
        if target.outcome != "failed":
            state = record_written(state, target.name, target.keys)
    return state


def _lock_outs(session: Session) -> Iterator[str]:
    for target in session.targets:
        warning = lock_out_warning(target.settings, session.issuer, session.identity)
        if warning:
            yield warning
