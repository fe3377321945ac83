"""What is put into a pod, as values: what a dialect says, before it meets the pod.

A dialect reads annotations and says parts; :mod:`wif.admission.merging` fits the parts into one pod and writes the
JSON patch. A part depends on the ServiceAccount, the settings and :class:`~wif.admission.dialects.PodFacts` alone,
never on the containers of one pod, so that it can be kept.
"""

from __future__ import annotations

__all__ = [
    "POD_HASH",
    "POD_SECRET",
    "Collision",
    "EnvGroup",
    "EnvRule",
    "InitContainer",
    "Mount",
    "Part",
    "Variable",
    "Volume",
]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

POD_HASH = "{pod-hash}"
"""In the name of a volume, and then in its mounts and in variables: the first 30 hex digits of SHA-256 of the pod's
name, or of its ``generateName`` followed by `` (prefix)``."""

POD_SECRET = "{pod-secret}"
"""The whole value of a variable: a text that is random for each pod, and the same in all its containers."""

EnvRule = Literal["absent", "group", "replace", "take", "merge"]
"""``absent``: each variable that the container has not. ``group``: all of them, where the container has none of them.
``replace``: added, or put in place of the container's own. ``take``: likewise, and the container's own are reported.
``merge``: words with commas between them, added to those that the container has; all variables of the group are one
list under several names."""

Collision = Literal["keep", "replace"]
"""What becomes of a foreign one of the same name: it stays and the part is not injected, or ours takes its place."""


class Variable(NamedTuple):
    """One environment variable."""

    name: str
    value: str


class EnvGroup(NamedTuple):
    """Variables that are decided on together, in order."""

    rule: EnvRule
    variables: tuple[Variable, ...]


class Volume(NamedTuple):
    """A volume of the pod."""

    content: Mapping[str, Any]
    """The whole JSON object; its ``name`` may hold :data:`POD_HASH`. Two parts may say the same volume: it is added
    once."""
    first: bool = False
    """Before the pod's own volumes, in place of after them."""
    collision: Collision = "keep"

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.content["name"])


class Mount(NamedTuple):
    """A mount in every container that the part is for."""

    volume: str
    path: str
    read_only: bool = True
    collision: Collision = "keep"


class InitContainer(NamedTuple):
    """A container that prepares something, or a native sidecar; put before the pod's own init containers."""

    content: Mapping[str, Any]
    """The whole JSON object; the value of a variable may be :data:`POD_SECRET`."""
    collision: Collision = "keep"
    ports: tuple[int, ...] = ()
    """On which it listens, in the network that all containers share."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.content["name"])

    def of_pod(self, secret: str) -> InitContainer:
        """With the pod's secret in place of :data:`POD_SECRET`."""
        env = self.content.get("env")
        if not env:
            return self
        entries = [{**entry, "value": secret} if entry.get("value") == POD_SECRET else entry for entry in env]
        return self._replace(content={**self.content, "env": entries})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One identity, or several that stand together, for some containers of the pod."""

    dialect: str
    cloud: str
    identity: str
    """What the pod becomes, as the audit and ``explain`` show it: the role, the e-mail or principal, the client id."""
    audiences: tuple[str, ...] = ()
    """Of the tokens in its volumes."""
    volumes: tuple[Volume, ...] = ()
    mounts: tuple[Mount, ...] = ()
    env: tuple[EnvGroup, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Written to the pod, in place of what it says."""
    labels: Mapping[str, str] = field(default_factory=dict)
    init_containers: tuple[InitContainer, ...] = ()
    only: frozenset[str] | None = None
    """Names of the containers it is for; None is every one."""
    skip: frozenset[str] = frozenset()
    """Names of containers it is not for. The dialect's own init containers are never in it."""
    left_alone: tuple[frozenset[str], ...] = ()
    """A container that has a variable of each of these sets is left alone, mounts included. Empty: none is."""
    misleading: Mapping[str, frozenset[str]] | None = None
    """Variables that lead an SDK past what is injected, each with the values, in lower case, that do not. None: those
    of the cloud in :mod:`wif.admission.redirects`."""

    @property
    def has_secret(self) -> bool:
        """Whether :data:`POD_SECRET` stands in it."""
        return any(variable.value == POD_SECRET for group in self.env for variable in group.variables)

    def of_pod(self, pod_hash: str, secret: str = POD_SECRET) -> Part:
        """With the pod's own in place of :data:`POD_HASH` and :data:`POD_SECRET`; volumes stay as they are."""
        part = self
        if secret != POD_SECRET and self.has_secret:
            env = (
                EnvGroup(rule, tuple(Variable(name, secret if value == POD_SECRET else value) for name, value in given))
                for rule, given in self.env
            )
            part = replace(
                self, env=tuple(env), init_containers=tuple(own.of_pod(secret) for own in self.init_containers)
            )
        return part._of_hash(pod_hash)

    def _of_hash(self, pod_hash: str) -> Part:
        if not any(POD_HASH in volume.name for volume in self.volumes):
            return self
        mounts = (
            mount._replace(volume=mount.volume.replace(POD_HASH, pod_hash), path=mount.path.replace(POD_HASH, pod_hash))
            for mount in self.mounts
        )
        env = (
            EnvGroup(rule, tuple(Variable(name, value.replace(POD_HASH, pod_hash)) for name, value in variables))
            for rule, variables in self.env
        )
        return replace(self, mounts=tuple(mounts), env=tuple(env))
