"""The parts of a plan, fitted into one container: operations on its environment and its mounts, and what collided."""

from __future__ import annotations

__all__ = ["ContainerFit", "ContainerPlace", "collides", "fit_container", "is_for", "mount_entry", "variable_entry"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from wif.admission.decision import Outcome, Result
from wif.admission.findings import Finding
from wif.admission.injection import POD_SECRET, EnvGroup, Mount, Part, Variable
from wif.admission.patch import Op, add, replace
from wif.admission.pod import Container, one_path
from wif.admission.readings import Plan
from wif.admission.redirects import REDIRECTS
from wif.admission.sameness import is_same
from wif.clouds.endpoint_variables import merged_no_proxy

Kind = Literal["container", "init", "sidecar", "ephemeral"]


def mount_entry(mount: Mount) -> dict[str, Any]:
    """A mount as it stands in a container."""
    entry: dict[str, Any] = {"name": mount.volume, "mountPath": mount.path}
    if mount.read_only:
        entry["readOnly"] = True
    return entry


def variable_entry(variable: Variable) -> dict[str, Any]:
    """A variable as it stands in a container. The API server leaves an empty value out."""
    return {"name": variable.name, "value": variable.value} if variable.value else {"name": variable.name}


class ContainerPlace(NamedTuple):
    """Where a container stands and what it is called."""

    path: str
    """The JSON Pointer."""
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFit:
    """What becomes of one container."""

    ops: list[Op] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def is_for(part: Part, name: str) -> bool:
    """Whether a part is for the container of this name."""
    return name not in part.skip and (part.only is None or name in part.only)


def collides(container: Container, plan: Plan) -> bool:
    """Whether anything in the container may meet what is put there. False is certain, True is worth a closer look."""
    if container.env is not None and not plan.env_names.isdisjoint([variable.name for variable in container.env]):
        return True
    if container.volume_mounts is not None:
        paths, volumes, hashed = plan.mount_paths, plan.mount_names, plan.hash_beginnings
        for mount in container.volume_mounts:
            path = one_path(mount.path)
            if path in paths or mount.name in volumes or mount.name.startswith(hashed) or path.startswith(hashed):
                return True
    return plan.has_merge and container.env_from is not None


class _Lists:
    """The environment and the mounts of a container while parts are fitted into it."""

    def __init__(self, container: Mapping[str, Any], place: ContainerPlace) -> None:
        self.place = place
        self.ours: frozenset[Variable] = frozenset()
        """All that the plan sets in this container."""
        self.has_env = container.get("env") is not None
        self.has_mounts = container.get("volumeMounts") is not None
        self.has_more_env = bool(container.get("envFrom"))
        """There are variables that are not looked at."""
        self.env: list[Mapping[str, Any]] = list(container.get("env") or ())
        self.mounts: list[Mapping[str, Any]] = list(container.get("volumeMounts") or ())
        self._old_env, self._old_mounts = len(self.env), len(self.mounts)
        self._changed: list[Op] = []

    def variable(self, name: str) -> tuple[int, Mapping[str, Any]] | None:
        """The entry that counts: of several with one name that is the last."""
        for index in range(len(self.env) - 1, -1, -1):
            if self.env[index].get("name") == name:
                return index, self.env[index]
        return None

    def set_variable(self, index: int, entry: Mapping[str, Any]) -> None:
        """Put an entry of ours in place of one."""
        self.env[index] = entry
        if index < self._old_env:
            self._changed.append(replace(f"{self.place.path}/env/{index}", entry))

    def set_mount(self, index: int, entry: Mapping[str, Any]) -> None:
        """Put a mount of ours in place of one."""
        self.mounts[index] = entry
        if index < self._old_mounts:
            self._changed.append(replace(f"{self.place.path}/volumeMounts/{index}", entry))

    def ops(self) -> list[Op]:
        """All that changes: what is replaced first, so that indices hold."""
        ops = self._changed
        rows = (("env", self.has_env, self.env[self._old_env :]), ("volumeMounts", self.has_mounts, self.new_mounts))
        for member, is_there, entries in rows:
            if is_there:
                ops += [add(f"{self.place.path}/{member}/-", entry) for entry in entries]
            elif entries:
                ops.append(add(f"{self.place.path}/{member}", entries))
        return ops

    @property
    def new_mounts(self) -> list[Mapping[str, Any]]:
        """Those of ours at the end."""
        return self.mounts[self._old_mounts :]


def fit_container(
    plan: Plan,
    active: Sequence[int],
    container: Mapping[str, Any],
    place: ContainerPlace,
    pod_hash: str,
    *,
    secret: str = POD_SECRET,
) -> ContainerFit:
    """Fit the active parts of a plan into a container, given as its JSON object.

    With :data:`~wif.admission.injection.POD_HASH` for the hash and :data:`~wif.admission.injection.POD_SECRET` for the
    secret, the operations hold for every pod.
    """
    fit = ContainerFit()
    lists = _Lists(container, place)
    parts = [plan.parts[index].of_pod(pod_hash, secret) for index in active]
    # What one part sets misleads none of the others.
    lists.ours = frozenset(variable for part in parts for group in part.env for variable in group.variables)
    for part in parts:
        if not is_for(part, place.name):
            fit.outcomes.append(_outcome(part, place, "skipped"))
        else:
            _fit_part(plan, part, lists, fit)
    fit.ops.extend(lists.ops())
    return fit


def _fit_part(plan: Plan, part: Part, lists: _Lists, fit: ContainerFit) -> None:
    place = lists.place
    names = {str(entry.get("name", "")) for entry in lists.env}
    if part.left_alone and all(names & group for group in part.left_alone):
        fit.outcomes.append(_outcome(part, place, "left-alone"))
        return
    taken = _taken_path(part, lists)
    if taken is not None:
        path, volume = taken
        fit.findings.append(
            Finding(
                "mount-taken",
                plan.collision_level,
                f"container {place.name} mounts volume {volume} at {path}, where the token for {part.cloud} belongs; "
                f"it gets nothing for {part.cloud}",
                "mount that volume elsewhere",
                part.dialect,
                part.cloud,
                place.name,
            )
        )
        fit.outcomes.append(_outcome(part, place, "mount-taken"))
        return
    fit.findings.extend(_reported(plan, part, lists))
    paths = tuple(mount.path for mount in part.mounts if _fit_mount(mount, lists, plan.mount_paths))
    variables: list[str] = []
    for group in part.env:
        variables += _merge_group(group, lists) if group.rule == "merge" else _fit_group(group, lists)
    result: Result = "injected" if variables or paths else "present"
    fit.outcomes.append(_outcome(part, place, result, tuple(variables), paths))


def _outcome(
    part: Part, place: ContainerPlace, result: Result, variables: tuple[str, ...] = (), mounts: tuple[str, ...] = ()
) -> Outcome:
    return Outcome(place.name, place.kind, part.cloud, part.dialect, part.identity, result, variables, mounts)


def _taken_path(part: Part, lists: _Lists) -> tuple[str, str] | None:
    for ours in part.mounts:
        for mount in lists.mounts:
            if mount.get("name") != ours.volume and one_path(str(mount.get("mountPath", ""))) == one_path(ours.path):
                return ours.path, str(mount.get("name", ""))
    return None


def _fit_mount(mount: Mount, lists: _Lists, our_paths: frozenset[str]) -> bool:
    """Whether anything changes."""
    entry = mount_entry(mount)
    elsewhere: list[int] = []
    for index, found in enumerate(lists.mounts):
        if found.get("name") != entry["name"]:
            continue
        path = one_path(str(found.get("mountPath", "")))
        if path == one_path(mount.path):
            if mount.collision == "keep" or is_same(found, entry):
                return False
            lists.set_mount(index, entry)
            return True
        if path not in our_paths:
            elsewhere.append(index)
    if elsewhere and mount.collision == "replace":
        lists.set_mount(elsewhere[0], entry)
    else:
        lists.mounts.append(entry)
    return True


def _fit_group(group: EnvGroup, lists: _Lists) -> list[str]:
    """The names of variables that are added or replaced."""
    changed: list[str] = []
    present = [lists.variable(variable.name) for variable in group.variables]
    if group.rule == "group" and any(present):
        return changed
    for variable, found in zip(group.variables, present, strict=True):
        entry = variable_entry(variable)
        if found is None:
            lists.env.append(entry)
        elif group.rule in ("replace", "take") and not is_same(found[1], entry):
            lists.set_variable(found[0], entry)
        else:
            continue
        changed.append(variable.name)
    return changed


def _merge_group(group: EnvGroup, lists: _Lists) -> list[str]:
    """As above. What cannot be seen is not hidden: a variable of ours would win over it."""
    present = [lists.variable(variable.name) for variable in group.variables]
    if any(found is not None and found[1].get("valueFrom") for found in present):
        return []
    own = {str(found[1].get("name")): str(found[1].get("value") or "") for found in present if found is not None}
    merged = merged_no_proxy(own, tuple(group.variables[0].value.split(",")))
    changed: list[str] = []
    for variable, found in zip(group.variables, present, strict=True):
        entry = variable_entry(variable._replace(value=merged))
        if found is None and not lists.has_more_env:
            lists.env.append(entry)
        elif found is not None and not is_same(found[1], entry):
            lists.set_variable(found[0], entry)
        else:
            continue
        changed.append(variable.name)
    return changed


# -- what is said of the container's own variables ---------------------------------------------------------------------


def _reported(plan: Plan, part: Part, lists: _Lists) -> list[Finding]:
    redirects: list[str] = []
    kept: list[str] = []
    taken: list[str] = []
    unread: list[str] = []
    rules = {variable.name: group.rule for group in part.env for variable in group.variables}
    table = REDIRECTS.get(part.cloud, {}) if part.misleading is None else dict.fromkeys(part.misleading, "identity")
    for entry in lists.env:
        name = str(entry.get("name", ""))
        value = entry.get("value") or ""
        rule = rules.get(name)
        if rule == "replace" or (name, value) in lists.ours:
            continue
        if rule == "take":
            taken.append(name)
        elif rule == "merge":
            unread += [name] if entry.get("valueFrom") else []
        elif name in table and (value or entry.get("valueFrom")) and not _is_harmless(part, name, value):
            redirects.append(name)
        elif rule is not None:
            kept.append(name)
    said = _Saying(plan, part, lists.place.name)
    findings = []
    if redirects:
        findings.append(said.redirects(redirects, {table[name] for name in redirects}))
    if taken:
        findings.append(said.taken(taken))
    if kept:
        findings.append(said.kept(kept))
    if unread or ("merge" in rules.values() and lists.has_more_env):
        findings.append(said.unread(unread))
    return findings


def _is_harmless(part: Part, name: str, value: str) -> bool:
    return part.misleading is not None and bool(value) and value.strip().lower() in part.misleading[name]


class _Saying(NamedTuple):
    """Findings about variables of one container."""

    plan: Plan
    part: Part
    container: str

    def redirects(self, names: Sequence[str], effects: set[str]) -> Finding:
        effect = "another identity" if "identity" in effects else "another endpoint"
        return Finding(
            "variable-redirects",
            self.plan.collision_level,
            f"container {self.container} sets {_listed(names)}, so its SDKs for {self.part.cloud} may "
            f"use {effect} than the injected one",
            "remove the variables, or name the container among those to skip",
            *self._of,
        )

    def taken(self, names: Sequence[str]) -> Finding:
        return Finding(
            "variable-replaced",
            self.plan.collision_level,
            f"container {self.container} has its own {_listed(names)}, in whose place the injected ones are put",
            "remove the variables, or name the container among those to skip",
            *self._of,
        )

    def kept(self, names: Sequence[str]) -> Finding:
        message = f"container {self.container} has its own {_listed(names)}, which stay as they are"
        return Finding("variable-kept", "note", message, "", *self._of)

    def unread(self, names: Sequence[str]) -> Finding:
        where = f"{_listed(names)} from elsewhere (valueFrom)" if names else "variables from elsewhere (envFrom)"
        return Finding(
            "no-proxy-unread",
            "warning" if names else "note",
            f"container {self.container} takes {where}, so NO_PROXY is not completed there",
            "where it uses a proxy, see that NO_PROXY and no_proxy have 127.0.0.1 and localhost",
            *self._of,
        )

    @property
    def _of(self) -> tuple[str, str, str]:
        return self.part.dialect, self.part.cloud, self.container


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
