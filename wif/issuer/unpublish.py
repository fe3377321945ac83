"""Take an issuer's documents away: last of all, discovery document first, and only where nothing is seen to need them.

A cloud that still trusts the issuer reads whatever stands at its address. Documents that are gone end every exchange;
a bucket whose name lapses can be taken by somebody else, who then *is* the issuer.
"""

from __future__ import annotations

__all__ = ["STEPS", "Unpublisher", "remove_documents"]

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from wif.core.issuer_state import State
from wif.core.publication import ObservedDocument, ObservedTarget, record_unpublished, require_state
from wif.edges.stores import WriteConflict
from wif.edges.stores.opening import parse_target
from wif.errors import RefusedError, WifError
from wif.issuer.parallel import each
from wif.issuer.pauses import pause
from wif.issuer.report import TargetReport, UnpublishReport
from wif.issuer.rounds import OpenTarget, observe
from wif.issuer.session import Session

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings
    from wif.edges.kube import KubeClient
    from wif.edges.stores.google import Guard

STEPS = (
    "remove the trust in every cloud: IAM OIDC providers (AWS), workload identity pool providers (GCP), federated "
    "identity credentials (Azure); until then whoever gets hold of the address is every ServiceAccount",
    "wait until no session that was given for it lives: AWS up to 12 h, Entra about 24 h, GCP 1 h to 12 h",
    "take the documents away: the discovery document, then the key set",
    "keep the bucket's, account's or host's name: one that lapses can be taken by others",
)
"""In this order."""

_TRIES = 12
"""Who else writes while the documents are taken away is to be stopped, not outlasted."""


class Unpublisher:
    """Unpublishes one issuer.

    Args:
        settings: the issuer's.
        name: what ``wif.yaml`` calls it, or empty.
        others: all issuers of the file, by name.
        kube: the cluster's client, where the caller has one.
        guard: whether the caller's Lease is held for so many seconds more.
        environ: variables for credentials, proxies, the place of the state.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        name: str = "",
        others: Mapping[str, IssuerSettings] | None = None,
        kube: KubeClient | None = None,
        guard: Guard | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings = settings
        self._name = name
        self._others = {other: value for other, value in (others or {}).items() if other != name}
        self._kube = kube
        self._guard = guard
        self._environ = environ

    def run(self, *, confirmed: bool) -> UnpublishReport:
        """Say what stands against it; where nothing does and it is confirmed, take the documents away.

        Raises:
            DriftError: state-missing.
            WifError: the cluster or the state cannot be read: nobody then knows what depends on the documents.
        """
        with Session(
            self._settings, name=self._name, kube=self._kube, guard=self._guard, environ=self._environ
        ) as session:
            readings = each(lambda target: observe(target, session.discovery_path, session.jwks_path), session.targets)
            state = session.states.read()[0]
            require_state(state, [reading for reading in readings if isinstance(reading, ObservedTarget)])
            blockers = tuple(self._blockers(session, state))
            report = UnpublishReport(issuer=session.issuer, done=False, blockers=blockers, steps=STEPS)
            if blockers or not confirmed:
                return report
            results = each(
                lambda target: remove_documents(target, session.discovery_path, session.jwks_path), session.targets
            )
            targets = [
                TargetReport(name=target.name, outcome="failed", error=result)
                if isinstance(result, WifError)
                else result
                for target, result in zip(session.targets, results, strict=True)
            ]
            if state is not None:
                session.states.update(lambda known: _recorded(known, targets))
            return UnpublishReport(issuer=session.issuer, done=True, steps=STEPS, targets=tuple(targets))

    def _blockers(self, session: Session, state: State | None) -> Iterator[str]:
        if session.managed is not None:
            yield f"{session.managed.provider.upper()} publishes this issuer itself"
            return
        if session.sources.uses_cluster:
            for server in session.sources.read().servers:
                if server.issuer == session.issuer:
                    yield (
                        f"the API server {server.name} writes this issuer into every new token: give it another first "
                        "--service-account-issuer, and restart it"
                    )
        for kid, record in sorted((state or State.new(session.issuer)).keys.items()):
            if record.is_signing:
                yield (
                    f"the key {kid} signed tokens when it was last looked at: let its tokens run out, then retire it "
                    "(wif keys retire)"
                )
        mine = {parse_target(target.url).name for target in self._settings.to}
        for name, other in self._others.items():
            shared = sorted(mine & {parse_target(target.url).name for target in other.to})
            if shared:
                yield f"the issuer {name} of the same file publishes to {', '.join(shared)} as well"
            if other.issuer == session.issuer:
                yield f"the issuer {name} of the same file is the same issuer"


def remove_documents(target: OpenTarget, discovery_path: str, jwks_path: str) -> TargetReport:
    """Take both documents away from one target, the discovery document first: without it nobody looks for keys.

    Raises:
        RefusedError: still-used where somebody writes them anew each time.
        WifError: target-unavailable, target-refused.
    """
    gone = False
    paths = [discovery_path, jwks_path] if target.store.holds_discovery else [jwks_path]
    for attempt in range(_TRIES):
        observed = observe(target, discovery_path, jwks_path)
        documents: Sequence[ObservedDocument | None] = (
            [observed.discovery, observed.jwks] if target.store.holds_discovery else [observed.jwks]
        )
        present = [(path, found) for path, found in zip(paths, documents, strict=True) if found is not None]
        if not present:
            return TargetReport(name=target.name, outcome="written" if gone else "unchanged", rounds=attempt + 1)
        try:
            for path, found in present:
                target.store.delete(path, tag=found.tag)
                gone = True
        except WriteConflict:
            pause(attempt)
    raise RefusedError(
        f"{target.name} is written by somebody else while it is taken away",
        code="still-used",
        hint="stop every publisher of this issuer first",
    )


def _recorded(state: State, targets: Sequence[TargetReport]) -> State:
    for target in targets:
        if target.outcome != "failed":
            state = record_unpublished(state, target.name)
    return state
