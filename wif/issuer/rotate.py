"""The commands of a key rotation: look at everything, record it, judge it, and act by the publisher.

Nothing is kept but the trusted state, so any machine can go on where another stopped; and nothing is taken from the
state that was not seen again just now. A key is taken away in one order only: first the state says so, then the
targets are written.
"""

from __future__ import annotations

__all__ = ["Rotation", "policy_of"]

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from wif.core import rotation as rules
from wif.core.discovery import check_issuer
from wif.core.issuer_state import State
from wif.core.publication import write_ahead
from wif.core.rotation import Gate, Policy, Step
from wif.edges.kube_answers import ServiceAccountName
from wif.errors import ConfigurationError, DriftError, ProtocolError, WifError
from wif.issuer.federated import CLOUD_OF_SCHEME
from wif.issuer.observation import Looked, look, own_token_key_id, public_jwks_uris
from wif.issuer.outside import removed_material
from wif.issuer.publish import Publisher
from wif.issuer.rotation_report import RotationReport, UnsafeStep, tampering_of, with_flags, written
from wif.issuer.session import Session
from wif.issuer.sources import Sources, read_key_file
from wif.issuer.verify import verify

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings
    from wif.edges.kube import KubeClient
    from wif.edges.stores.google import Guard
    from wif.issuer.report import PublishReport
    from wif.issuer.sources import Vouched
    from wif.issuer.verify import VerifyReport


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Rotation:
    """The rotation of one issuer's keys; each command opens and closes all that it uses.

    Args:
        settings: the issuer's.
        policy: what the operators say about time; None takes it from the settings.
        name: what ``wif.yaml`` calls the issuer, or empty.
        kube: the cluster's client, where the caller has one.
        account: whose tokens are asked for to see which key signs; None: the publisher's own ServiceAccount.
        guard: whether the Lease is held for so many seconds more; for targets without conditional writes.
        environ: variables for credentials, proxies, the place of the state.
        clock: aware time of now.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        policy: Policy | None = None,
        name: str = "",
        kube: KubeClient | None = None,
        account: ServiceAccountName | None = None,
        guard: Guard | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._settings = settings
        self._policy = policy_of(settings) if policy is None else policy
        self._name = name
        self._kube = kube
        self._account = account
        self._guard = guard
        self._environ = environ
        self._clock = clock

    # -- what there is ---------------------------------------------------------------------------------------------

    def status(self, *, rebuild: bool = False) -> RotationReport:
        """Look, record what was seen, and judge it. No target is written.

        Args:
            rebuild: make a lost or unreadable state anew from the sources, first.

        Raises:
            ConfigurationError: config-conflict where there is a state and nothing to rebuild.
        """
        with self._open() as session:
            done = (self._rebuild(session),) if rebuild else ()
            return self._report(session, self._look(session), done=done)

    def advance(self) -> RotationReport:
        """Publish what has to be published, look, record, and say what is next."""
        with self._open() as session:
            published = self._publish(session)
            seen = self._look(session)
            return self._report(session, seen, publications=(published,), done=written(published))

    # -- steps -----------------------------------------------------------------------------------------------------

    def stage(self, files: Sequence[str]) -> RotationReport:
        """Vouch for the new keys of PEM files and publish them everywhere, before any API server has them.

        Raises:
            UnsafeStep: one of them was removed.
            ConfigurationError: config-missing without a file, key-private.
        """
        if not files:
            raise ConfigurationError("no key to stage is named", code="config-missing", hint="pass --public-key FILE")
        with self._open(vouching_for=files) as session:
            keys = [key for file in files for key in read_key_file(file)]
            state = session.states.read()[0]
            removed = [key.key_id for key in keys if state is not None and state.is_removed(key)]
            if removed:
                raise UnsafeStep.because(
                    "the keys cannot be staged",
                    [f"the key {kid!r} was removed and must not come back" for kid in removed],
                    hint=f"make a new key; or, if it is safe after all: wif keys forget {removed[0]}",
                )
            published = self._publish(session)
            seen = self._look(session)
            known = frozenset() if state is None else frozenset(state.keys)
            staged = (f"the key {key.key_id} is staged" for key in keys if key.key_id not in known)
            done = (*staged, *written(published))
            return with_flags(self._report(session, seen, publications=(published,), done=done))

    def retire(self, kid: str | None = None) -> RotationReport:
        """Take a key out of the published set that has outlived every token it signed.

        Args:
            kid: None takes the one that is draining.

        Raises:
            UnsafeStep: it has not, or that cannot be seen.
        """
        with self._open() as session:
            seen = self._see(session)
            chosen = self._only_draining(seen) if kid is None else kid
            own = self._own_token(session)

            def gate(state: State) -> Gate:
                return rules.may_retire(state, chosen, seen.looked.observation, self._policy, own_token_kid=own)

            return self._take_away(session, seen, _Change(chosen, "retired", gate, rules.retire))

    def remove(self, kid: str, *, reason: str = "", confirmed: bool = False) -> RotationReport:
        """Take a key out at once, whatever still uses it.

        Args:
            confirmed: False only says what would follow.

        Raises:
            UnsafeStep: this publisher would lock itself out.
        """
        with self._open() as session:
            seen = self._see(session)
            own, second = self._own_token(session), _has_second_way_in(session)
            found = seen.looked.keys_of(kid) or tuple(key for key in seen.vouched.keys if key.key_id == kid)
            unknown = found[0] if found else None

            def gate(state: State) -> Gate:
                observation = seen.looked.observation
                return rules.may_remove(state, kid, observation, self._policy, own_token_kid=own, second_way_in=second)

            def change(state: State, key_id: str, now: datetime) -> State:
                key = None if key_id in state.keys else unknown
                return rules.remove(state, key_id, now, reason=reason, key=key)

            wanted = _Change(kid, "removed", gate, change)
            if not confirmed:
                return self._report(session, seen, consequences=wanted.allowed(seen.state).consequences)
            if kid in seen.state.removed:  # asked again, because a place still showed it
                published = self._publish(session)
                done = (f"the key {kid} was removed before", *written(published))
                return self._report(session, self._look(session), publications=(published,), done=done)
            return self._take_away(session, seen, wanted)

    def abort(self, kid: str) -> RotationReport:
        """Give up a staged key that never signed.

        Raises:
            UnsafeStep: it may have signed.
        """
        with self._open() as session:
            seen = self._see(session)
            own = self._own_token(session)

            def gate(state: State) -> Gate:
                return rules.may_abort(state, kid, seen.looked.observation, self._policy, own_token_kid=own)

            return self._take_away(session, seen, _Change(kid, "aborted", gate, rules.abort))

    def forget(self, kid: str, *, force: bool = False) -> RotationReport:
        """Let a removed key's id be used again.

        Raises:
            UnsafeStep: it is still to be seen somewhere, and would come back at once.
        """
        with self._open() as session:
            seen = self._see(session)
            vouched = [key.key_id for key in seen.vouched.keys]

            def gate(state: State) -> Gate:
                return rules.may_forget(state, kid, seen.looked.observation, vouched=vouched, force=force)

            wanted = _Change(kid, "forgotten", gate, lambda state, key_id, _: rules.forget(state, key_id))
            state, consequences = self._change(session, seen, wanted)
            done = (f"the removed key {kid} is forgotten",)
            return self._report(session, replace(seen, state=state), done=done, consequences=consequences)

    def adopt(self, kid: str, *, reason: str = "", confirmed: bool = False) -> RotationReport:
        """Take over a key that stands at a target and that nobody vouches for, as one that drains.

        Args:
            confirmed: False only says what would follow.

        Raises:
            UnsafeStep: no place shows it, or they show different ones.
        """
        with self._open() as session:
            seen = self._see(session)
            found = seen.looked.keys_of(kid)

            def gate(state: State) -> Gate:
                return rules.may_adopt(state, kid, found, seen.looked.observation)

            wanted = _Change(
                kid, "adopted", gate, lambda state, _, now: rules.adopt(state, found[0], now, reason=reason)
            )
            if not confirmed:
                return self._report(session, seen, consequences=wanted.allowed(seen.state).consequences)
            _, consequences = self._change(session, seen, wanted)
            done = (f"the key {kid} is adopted: it stays where it stands",)
            return self._report(session, self._look(session), done=done, consequences=consequences)

    def migration(self, new: str) -> tuple[Step, ...]:
        """The plan by which this issuer is replaced by another; nothing is looked at but the issuer's name.

        Raises:
            ConfigurationError: issuer-invalid, config-missing, config-conflict where both are the same.
        """
        check_issuer(new)
        sources = Sources(self._settings, kube=self._kube, environ=self._environ)
        try:
            old = sources.find_issuer()
        finally:
            sources.close()
        if not old:
            raise ConfigurationError(
                "no issuer is named that could be replaced", code="config-missing", hint="pass --issuer URL"
            )
        if old == new:
            raise ConfigurationError(
                f"the issuer is {old!r} already",
                code="config-conflict",
                hint="the slash at the end counts: both are compared byte for byte",
            )
        longest = self._policy.longest_token_seconds
        return rules.migration_plan(old, new, policy=self._policy, longest_token_seconds=longest)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _open(self, vouching_for: Sequence[str] = ()) -> Session:
        settings = self._settings
        if vouching_for:
            from msgspec import structs  # noqa: PLC0415  # only here

            # naming a file must not keep the API servers from being asked
            asks = Sources(settings, kube=self._kube, environ=self._environ).uses_cluster
            named = (*settings.public_keys, *(file for file in vouching_for if file not in settings.public_keys))
            settings = structs.replace(settings, public_keys=named, use_kubernetes=asks)
        session = Session(settings, name=self._name, kube=self._kube, guard=self._guard, environ=self._environ)
        if session.managed is not None or not session.targets:
            managed = session.managed
            session.close()
            if managed is not None:
                raise ConfigurationError(
                    f"{managed.provider} publishes the keys of this issuer and rotates them itself",
                    code="issuer-unsuitable",
                    hint=f"look at {managed.jwks_uri}",
                )
            raise ConfigurationError(
                "no target is named", code="config-missing", hint="pass --to, e.g. --to file:///srv/issuer"
            )
        return session

    def _publish(self, session: Session) -> PublishReport:
        publisher = Publisher(
            session.settings,
            name=self._name,
            kube=self._kube,
            guard=self._guard,
            environ=self._environ,
            clock=self._clock,
        )
        return publisher.run_in(session)

    def _take_away(self, session: Session, seen: _Seen, wanted: _Change) -> RotationReport:
        """The state first, then the targets; then look again."""
        _, consequences = self._change(session, seen, wanted)
        published = self._publish(session)
        done = (f"the key {wanted.kid} is {wanted.word}", *written(published))
        seen = self._look(session)
        return self._report(session, seen, publications=(published,), done=done, consequences=consequences)

    def _change(self, session: Session, seen: _Seen, wanted: _Change) -> tuple[State, tuple[str, ...]]:
        """Write the decision into the state, if it still holds for the state that is there at that moment."""
        consequences: tuple[str, ...] = ()

        def decided(state: State) -> State:
            nonlocal consequences
            state = rules.observe(state, seen.looked.observation, self._policy)
            consequences = wanted.allowed(state).consequences
            return wanted.change(state, wanted.kid, seen.looked.observation.at)

        return session.states.update(decided), consequences

    def _see(self, session: Session) -> _Seen:
        """Look, before a step is judged.

        Raises:
            DriftError: state-missing.
        """
        seen = self._look(session)
        if seen.state_missing:
            raise DriftError(
                f"the state {session.states.name} does not exist or is empty, but a target holds documents",
                code="state-missing",
            )
        return seen

    def _look(self, session: Session) -> _Seen:
        """The state, the sources, the public address, targets and API servers; then the record of it."""
        before = session.states.read()[0]
        vouched = session.sources.read()
        state = State.new(session.issuer) if before is None else before
        public_known = session.settings.verify and any(target.store.holds_discovery for target in session.targets)
        verification = self._verify(session, vouched, state) if public_known else None
        looked = look(
            vouched,
            session.targets,
            session.jwks_path,
            state,
            public=verification,
            public_known=public_known,
            account=self._account_of(session, vouched),
            clock=self._clock,
        )
        missing = state.is_empty and any(looked.found.values())
        recorded, problems = self._record(session, looked, before)
        if not session.settings.verify:
            problems = (*problems, "the public address is not looked at: no step is held against what clouds can see")
        return _Seen(
            looked=looked,
            state=recorded,
            vouched=vouched,
            verification=verification,
            problems=problems,
            state_missing=missing,
        )

    def _record(self, session: Session, looked: Looked, before: State | None) -> tuple[State, tuple[str, ...]]:
        """The state with what was seen; written where there is one, and as far as this caller may."""

        def change(state: State) -> State:
            return rules.observe(state, looked.observation, self._policy)

        if before is None or before.is_empty:
            return change(State.new(session.issuer)), ()
        try:
            return session.states.update(change), ()
        except WifError as error:
            if error.code not in ("target-refused", "target-unavailable", "write-conflict"):
                raise
            return change(before), (f"what was seen could not be recorded: {error.message}",)

    def _verify(self, session: Session, vouched: Vouched, state: State) -> VerifyReport:
        known = [record.key for record in state.keys.values()]
        return verify(
            session.issuer,
            expected=[key for key in vouched.keys if not state.is_removed(key)],
            known=known,
            removed=removed_material(state),
            jwks_uris=public_jwks_uris(session.jwks_uri, state),
            ca_file=session.settings.ca_file,
            allow_private=session.settings.allow_private,
            environ=self._environ,
        )

    def _report(
        self,
        session: Session,
        seen: _Seen,
        *,
        done: tuple[str, ...] = (),
        step: Step | None = None,
        consequences: tuple[str, ...] = (),
        publications: tuple[PublishReport, ...] = (),
    ) -> RotationReport:
        observation = seen.looked.observation
        published = [warning for run in publications for warning in run.warnings]
        published += [one.message for run in publications for one in run.findings if one.level == "warning"]
        return RotationReport(
            issuer=session.issuer,
            state=session.states.name,
            policy=self._policy,
            status=rules.assess(seen.state, observation, self._policy),
            timeline=rules.timeline(seen.state, observation, self._policy),
            looked=seen.looked,
            done=done,
            step=step,
            consequences=consequences,
            warnings=tuple(dict.fromkeys((*published, *seen.problems, *seen.looked.problems))),
            publications=publications,
            verification=seen.verification,
            tampering=tampering_of(seen.looked, seen.state, seen.vouched, seen.verification, publications),
            state_missing=seen.state_missing,
        )

    def _account_of(self, session: Session, vouched: Vouched) -> ServiceAccountName | None:
        """The ServiceAccount that was named, else the publisher's own, else the one that every namespace has."""
        if self._account is not None or not vouched.servers:
            return self._account
        own = (server.client.service_account() for server in vouched.servers)
        return next((name for name in own if name is not None), ServiceAccountName(session.namespace, "default"))

    def _own_token(self, session: Session) -> str | None:
        return own_token_key_id(session.issuer, self._environ)

    def _only_draining(self, seen: _Seen) -> str:
        status = rules.assess(seen.state, seen.looked.observation, self._policy)
        draining = [key.kid for key in status.keys if key.phase == "draining"]
        if len(draining) != 1:
            raise UnsafeStep.because(
                "more than one key is draining" if draining else "no key can be retired",
                draining or ["none is draining: each signs, or has never been seen to sign"],
                hint="name the key: wif keys retire KID; see: wif keys status",
            )
        return draining[0]

    def _rebuild(self, session: Session) -> str:
        """A lost state, made anew from what the sources vouch for now."""
        states = session.states
        try:
            state = states.read()[0]
        except ProtocolError:
            state = None
        if state is not None and not state.is_empty:
            raise ConfigurationError(
                f"the state {states.name} is there and can be read: there is nothing to rebuild",
                code="config-conflict",
                hint="look at it with: wif keys status",
            )
        vouched = session.sources.read()
        fresh = write_ahead(
            State.new(session.issuer),
            vouched.keys,
            self._clock(),
            jwks_uri=session.jwks_uri,
            origins=vouched.origins,
        )
        states.rebuild(fresh)
        return (
            f"the state {states.name} is made anew with {len(fresh.keys)} key(s) that the sources vouch for; "
            "all waiting starts again, and what was removed before is no longer known"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One look, and the state after it was recorded."""

    looked: Looked
    state: State
    vouched: Vouched
    verification: VerifyReport | None
    problems: tuple[str, ...] = ()
    state_missing: bool = False


class _Change(NamedTuple):
    """A decision about one key."""

    kid: str
    word: str
    gate: Callable[[State], Gate]
    change: Callable[[State, str, datetime], State]

    def allowed(self, state: State) -> Gate:
        """The open gate.

        Raises:
            UnsafeStep: it is closed.
        """
        gate = self.gate(state)
        if not gate.allowed:
            raise UnsafeStep.because(f"the key {self.kid!r} cannot be {self.word} now", gate.reasons)
        return gate


def policy_of(settings: IssuerSettings) -> Policy:
    """What the settings say about time."""
    return Policy(
        cache_seconds=settings.cache_seconds,
        skew_seconds=settings.skew_seconds,
        longest_token_seconds=settings.longest_token_seconds,
    )


def _has_second_way_in(session: Session) -> bool:
    """Whether every target can be written without a token of this issuer."""
    return all(
        target.settings.second_way_in or target.settings.url.partition(":")[0] not in CLOUD_OF_SCHEME
        for target in session.targets
    )
