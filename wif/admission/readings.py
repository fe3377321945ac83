"""What the dialects say of one ServiceAccount and one kind of pod, put together once and kept for the next pod."""

from __future__ import annotations

__all__ = ["CLOUD_SKIPPED", "EffectiveSettings", "Plan", "Readings", "read_plan"]

from collections.abc import Iterable, Sequence
from typing import Protocol

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts, dialects
from wif.admission.facts import Vocabulary
from wif.admission.findings import Finding, Level
from wif.admission.injection import POD_HASH, InitContainer, Part, Volume
from wif.admission.pod import one_path
from wif.admission.redirects import REDIRECTS
from wif.config.webhook import WebhookSettings

CHUNK_BYTES_MAX = 24 * 1024
"""Encoded pieces of a patch that one plan keeps: four containers of three clouds need 10 KiB."""
CHUNK_OVERHEAD_BYTES = 200
"""What a key and an entry take, so that empty pieces count as well."""
PLAN_CHARACTERS_MAX = 16 * 1024
"""Of annotations. A plan made of more is not kept: a few tenants could fill the memory."""


CLOUD_SKIPPED = "cloud-skipped"
"""The rule of a finding by which a dialect says that a pod wants nothing of a cloud: later dialects give nothing."""


class EffectiveSettings(Protocol):
    """The platform's ConfigMap, decoded."""

    def effective(self, account: ServiceAccount, settings: WebhookSettings) -> tuple[ServiceAccount, WebhookSettings]:
        """The ServiceAccount with the annotations that hold for it, and the settings with the platform's defaults."""
        ...


class Plan:
    """The parts for all pods of one ServiceAccount and one set of facts, and what is quick to ask about them."""

    __slots__ = (
        "_room_bytes",
        "account",
        "all_parts",
        "chunks",
        "collision_level",
        "dialects",
        "env_names",
        "findings",
        "has_labels",
        "has_merge",
        "has_secret",
        "hash_beginnings",
        "hash_prefixes",
        "hash_texts",
        "identities",
        "init_names",
        "is_plain",
        "mount_names",
        "mount_paths",
        "parts",
        "written",
    )

    def __init__(
        self, account: ServiceAccount, parts: tuple[Part, ...], findings: tuple[Finding, ...], deny_collisions: bool
    ) -> None:
        volumes = [volume.name for part in parts for volume in part.volumes]
        mounts = [mount for part in parts for mount in part.mounts]
        names = {variable.name for part in parts for group in part.env for variable in group.variables}
        self.account = account
        """As it was read; another content of it needs another plan."""
        self.parts = parts
        self.findings = findings
        self.collision_level: Level = "deny" if deny_collisions else "warning"
        self.all_parts = tuple(range(len(parts)))
        self.identities = tuple(dict.fromkeys((part.cloud, part.identity) for part in parts))
        self.dialects = tuple(dict.fromkeys(part.dialect for part in parts))
        self.env_names = frozenset(names.union(*(_misleading(part) for part in parts)))
        """A container without one of these has no collision of variables."""
        self.mount_paths = frozenset(one_path(mount.path) for mount in mounts)
        self.mount_names = frozenset(name for name in (*volumes, *(mount.volume for mount in mounts)))
        self.hash_prefixes = tuple({name.partition(POD_HASH)[0] for name in self.mount_names if POD_HASH in name})
        self.hash_beginnings = (
            *self.hash_prefixes,
            *{path.partition(POD_HASH)[0] for path in self.mount_paths if POD_HASH in path},
        )
        """How names of volumes and paths begin that the pod's hash ends."""
        self.hash_texts = _hash_texts(parts)
        """Whole texts of a patch, in JSON, that hold the pod's hash."""
        self.init_names = frozenset(own.name for part in parts for own in part.init_containers)
        self.is_plain = not self.init_names and not any(part.only is not None or part.skip for part in parts)
        """Every part is for every container."""
        self.written = frozenset(key for part in parts for key in part.annotations)
        self.has_labels = any(part.labels for part in parts)
        self.has_secret = any(part.has_secret for part in parts)
        self.has_merge = any(group.rule == "merge" for part in parts for group in part.env)
        """What a container takes from elsewhere (envFrom) matters."""
        self.chunks: dict[object, bytes] = {}
        self._room_bytes = CHUNK_BYTES_MAX

    def keep(self, key: object, chunk: bytes) -> bytes:
        """Keep an encoded piece of a patch, as long as there is room."""
        if len(chunk) <= self._room_bytes:
            self._room_bytes -= len(chunk) + CHUNK_OVERHEAD_BYTES
            self.chunks[key] = chunk
        return chunk

    def unique_volumes(self, active: Sequence[int]) -> list[Volume]:
        """The volumes of these parts, each once."""
        return list({volume.name: volume for index in active for volume in self.parts[index].volumes}.values())

    def unique_init_containers(self, active: Sequence[int]) -> list[InitContainer]:
        """The init containers of these parts, each once."""
        return list({own.name: own for index in active for own in self.parts[index].init_containers}.values())


def _misleading(part: Part) -> Iterable[str]:
    return REDIRECTS.get(part.cloud, ()) if part.misleading is None else part.misleading


def _hash_texts(parts: Sequence[Part]) -> tuple[bytes, ...]:
    texts: list[str] = []
    for part in parts:
        if any(POD_HASH in volume.name for volume in part.volumes):
            texts += [volume.name for volume in part.volumes]
            texts += [text for mount in part.mounts for text in (mount.volume, mount.path)]
            texts += [variable.value for group in part.env for variable in group.variables]
    return tuple(dict.fromkeys(f'"{text}"'.encode() for text in texts if POD_HASH in text))


def read_plan(
    account: ServiceAccount, facts: PodFacts, settings: WebhookSettings, platform: EffectiveSettings | None
) -> Plan:
    """Ask every dialect that is on; the first to speak of a cloud has it."""
    effective = account
    if platform is not None:
        effective, settings = platform.effective(account, settings)
    parts: list[Part] = []
    findings: list[Finding] = []
    winners: dict[str, str] = {}
    skipped: set[str] = set()
    keeper = ""
    for name, dialect in dialects(settings):
        reading = dialect.read(effective, facts, settings)
        findings += reading.findings
        new = [part for part in reading.parts if part.cloud not in winners and part.cloud not in skipped]
        if keeper:
            findings += [_token_beside(part, keeper) for part in new if part.audiences]
        keeper = name if reading.keeps_tokens else keeper
        parts += new
        for cloud in dict.fromkeys(part.cloud for part in reading.parts):
            if cloud in winners:
                findings.append(_cloud_twice(account, cloud, winners[cloud], name))
        winners = {**{part.cloud: name for part in reading.parts}, **winners}
        skipped |= {finding.cloud for finding in reading.findings if finding.rule == CLOUD_SKIPPED}
    return Plan(account, tuple(parts), tuple(findings), settings.deny_collisions)


def _cloud_twice(account: ServiceAccount, cloud: str, winner: str, loser: str) -> Finding:
    return Finding(
        "cloud-twice",
        "warning",
        f"ServiceAccount {account.namespace}/{account.name} says an identity for {cloud} in the annotations of two "
        f"dialects, {winner} and {loser}; that of {winner} is injected",
        "keep one of them",
        loser,
        cloud,
    )


def _token_beside(part: Part, keeper: str) -> Finding:
    return Finding(
        "sidecar-beside-tokens",
        "warning",
        f"the mode is sidecar, and the dialect {part.dialect} gives the identity of {part.cloud}: its token goes into "
        "the containers themselves",
        f"name it in the dialect {keeper}",
        keeper,
        part.cloud,
    )


def _characters(account: ServiceAccount, facts: PodFacts) -> int:
    pairs = (*account.annotations.items(), *facts.annotations, *facts.labels)
    return sum(len(key) + len(value) for key, value in pairs)


class Readings:
    """A bounded store of plans, for one generation of settings and platform: other objects of them empty it.

    For one thread or event loop.
    """

    def __init__(self, entries_max: int = 256) -> None:
        self._entries_max = entries_max
        self._plans: dict[tuple[str, str, PodFacts], Plan] = {}
        self._settings: WebhookSettings | None = None
        self._platform: EffectiveSettings | None = None
        self._vocabulary: Vocabulary | None = None

    def __len__(self) -> int:
        return len(self._plans)

    def vocabulary(self, settings: WebhookSettings) -> Vocabulary:
        """That of these settings."""
        if self._vocabulary is None or settings is not self._settings:
            self._plans.clear()
            self._settings, self._vocabulary = settings, Vocabulary.of(settings)
        return self._vocabulary

    def plan(
        self, account: ServiceAccount, facts: PodFacts, settings: WebhookSettings, platform: EffectiveSettings | None
    ) -> Plan:
        """The plan for this ServiceAccount and these facts."""
        if settings is not self._settings or platform is not self._platform:
            self.vocabulary(settings)
            self._plans.clear()
            self._platform = platform
        key = (account.namespace, account.name, facts)
        plan = self._plans.pop(key, None)
        if plan is None or plan.account != account:
            plan = read_plan(account, facts, settings, platform)
            if _characters(account, facts) > PLAN_CHARACTERS_MAX:
                return plan
            if len(self._plans) >= self._entries_max:
                del self._plans[next(iter(self._plans))]
        self._plans[key] = plan
        return plan
