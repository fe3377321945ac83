"""A cluster with its targets and public address, as far as a rotation can see it, with a clock of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tests.unit.core.made_keys import rsa_key
from wif.core.issuer_state import State
from wif.core.public_keys import IssuerKey
from wif.core.publication import write_ahead
from wif.core.rotation import Observation, Policy, RotationStatus, ServerObservation, assess, observe

ISSUER = "https://issuer.example/one"
T0 = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600
DAY = 86_400
OLD, NEW, NEXT, FOREIGN = (rsa_key(number, name) for number, name in enumerate(("old", "new", "next", "foreign")))
POLICY = Policy()


def server(
    name: str, keys: Iterable[IssuerKey], signer: IssuerKey | None, limit: int | None = HOUR
) -> ServerObservation:
    """An API server that answered."""
    return ServerObservation(
        name=name,
        keys=tuple(keys),
        signer=None if signer is None else signer.key_id,
        max_age_seconds=HOUR,
        longest_token_seconds=limit,
        issuer=ISSUER,
    )


@dataclass
class Cluster:
    """Two API servers, two targets and a public address; change a field, then look."""

    servers: list[ServerObservation] = field(
        default_factory=lambda: [server("one", [OLD], OLD), server("two", [OLD], OLD)]
    )
    targets: dict[str, frozenset[str] | None] = field(
        default_factory=lambda: {"s3://a": frozenset({"old"}), "gs://b": frozenset({"old"})}
    )
    public: frozenset[str] | None = frozenset({"old"})
    public_known: bool = True
    complete: bool = True
    now: datetime = T0
    state: State = field(default_factory=lambda: write_ahead(State.new(ISSUER), [OLD], T0))
    policy: Policy = POLICY

    def serve(self, keys: Iterable[IssuerKey], *signers: IssuerKey | None, limit: int | None = HOUR) -> None:
        """Start the API servers anew with these keys, and one signer for each, or one for all."""
        both = signers * 2 if len(signers) == 1 else signers
        listed = tuple(keys)
        self.servers = [server(name, listed, one, limit) for name, one in zip(("one", "two"), both, strict=True)]

    def publish(self, *keys: IssuerKey) -> None:
        """Let every place show these keys, and record them as a publisher does."""
        self.state = write_ahead(self.state, keys, self.now)
        kids = frozenset(key.key_id for key in keys)
        self.targets = dict.fromkeys(self.targets, kids)
        self.public = kids

    def later(self, **time: float) -> Cluster:
        """Let time pass."""
        self.now += timedelta(**time)
        return self

    @property
    def seen(self) -> Observation:
        """What is seen now."""
        return Observation(
            at=self.now,
            servers=tuple(self.servers),
            servers_complete=self.complete,
            targets=dict(self.targets),
            public=self.public,
            public_known=self.public_known,
        )

    def look(self, **changes: object) -> RotationStatus:
        """Observe, record and judge."""
        seen = replace(self.seen, **changes)  # type: ignore[arg-type]  # a test names the fields it changes
        self.state = observe(self.state, seen, self.policy)
        return assess(self.state, seen, self.policy)

    def phases(self) -> dict[str, str]:
        """The phase of each key, after a look."""
        return {key.kid: key.phase for key in self.look().keys}


def draining(*, limit: int | None = HOUR, longest: int | None = None) -> Cluster:
    """A cluster in which OLD has just been seen to have stopped, and NEW signs."""
    cluster = Cluster(policy=Policy(longest_token_seconds=longest))
    cluster.serve([OLD], OLD, limit=limit)
    cluster.look()
    cluster.publish(OLD, NEW)
    cluster.serve([OLD, NEW], OLD, limit=limit)
    cluster.look()
    cluster.later(days=1).look()
    cluster.serve([OLD, NEW], NEW, limit=limit)
    cluster.later(minutes=1).look()
    return cluster
