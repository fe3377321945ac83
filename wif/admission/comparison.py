"""A pod that runs, beside what it would be given if it were created now.

Everything that could have been injected is taken out of a copy of the pod, the copy is looked at as a new pod, and
what it would get is searched in the pod that runs. So a variable that the pod's own manifest sets counts as another
value: nothing here can tell the two apart.
"""

from __future__ import annotations

__all__ = ["Compared", "Comparison", "compare"]

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from wif.admission.accounts import ServiceAccount
from wif.admission.changes import containers_of, value_of
from wif.admission.explanation import MADE_AT_ADMISSION, Explanation, explain
from wif.admission.facts import Vocabulary, pod_facts
from wif.admission.injection import POD_HASH, Part
from wif.admission.mutation import EffectiveSettings, Readings
from wif.admission.pod import read_pod
from wif.admission.record import Record, read_record, record_key
from wif.admission.sameness import is_same, serves_as
from wif.admission.workloads import Workload
from wif.config.webhook import WebhookSettings

State = Literal["as-it-should-be", "missing", "differs"]


class Compared(NamedTuple):
    """One thing that the pod would be given now."""

    what: Literal["volume", "variable", "mount", "annotation"]
    container: str
    """Of a variable or mount."""
    name: str
    state: State
    note: str = ""


class Comparison(NamedTuple):
    """What the pod carries of what it would be given."""

    rows: tuple[Compared, ...]
    notes: tuple[str, ...]
    """What its record and its age say."""
    expected: Explanation
    """Of the pod as it was before anything was injected."""

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether a pod created now would be given nothing else."""
        return not self.notes and all(row.state == "as-it-should-be" for row in self.rows)


def compare(
    workload: Workload,
    accounts: Mapping[tuple[str, str], ServiceAccount | None],
    settings: WebhookSettings,
    platform: EffectiveSettings | None = None,
    *,
    account_created: str = "",
) -> Comparison:
    """Compare a pod that runs with what it would be given.

    Args:
        workload: the pod, as the API server has it.
        accounts: as for :func:`~wif.admission.explanation.explain`.
        account_created: the ServiceAccount's ``creationTimestamp``.

    Raises:
        ProtocolError: review-invalid, where the pod cannot be read.
    """
    account = accounts.get((workload.namespace, workload.account_name))
    parts: tuple[Part, ...] = ()
    if account is not None:
        facts = pod_facts(read_pod(msgspec.json.encode(workload.pod)), Vocabulary.of(settings))
        parts = Readings().plan(account, facts, settings, platform).parts
    clean = workload._replace(pod=_without(workload.pod, parts, record_key(settings)))
    expected = explain(clean, accounts, settings, platform)
    return Comparison(
        rows=tuple(_rows(workload.pod, expected)),
        notes=tuple(_notes(workload.pod, record_key(settings), account, expected, account_created)),
        expected=expected,
    )


def _without(pod: Mapping[str, Any], parts: tuple[Part, ...], record: str) -> dict[str, Any]:
    """The pod without all that these parts could have put there."""
    volumes = tuple(volume.name.partition(POD_HASH)[0] for part in parts for volume in part.volumes)
    exact = {volume.name for part in parts for volume in part.volumes}
    paths = {mount.path for part in parts for mount in part.mounts}
    # a list that is completed is found complete, whoever said what of it
    groups = [group for part in parts for group in part.env if group.rule != "merge"]
    variables = {each.name for group in groups for each in group.variables}
    made = {own.name for part in parts for own in part.init_containers}
    written = {record, *(key for part in parts for key in part.annotations)}

    def is_ours(name: str) -> bool:
        return name in exact or any(name.startswith(prefix) for prefix in volumes if prefix not in exact)

    def emptied(container: Mapping[str, Any]) -> dict[str, Any]:
        kept = dict(container)
        if container.get("env"):
            kept["env"] = [each for each in container["env"] if each.get("name") not in variables]
        if container.get("volumeMounts"):
            kept["volumeMounts"] = [
                each
                for each in container["volumeMounts"]
                if not is_ours(str(each.get("name"))) and each.get("mountPath") not in paths
            ]
        return kept

    spec = dict(pod["spec"])
    spec["volumes"] = [each for each in spec.get("volumes") or () if not is_ours(str(each.get("name")))]
    for member in ("initContainers", "containers"):
        if spec.get(member):
            spec[member] = [emptied(each) for each in spec[member] if each.get("name") not in made]
    metadata = dict(pod.get("metadata") or {})
    if metadata.get("generateName"):
        # the API server made the name of the prefix only after admission, and volumes are named by what was there then
        metadata.pop("name", None)
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in written}
    return {**pod, "metadata": {**metadata, "annotations": annotations}, "spec": spec}


# -- thing by thing ----------------------------------------------------------------------------------------------------


def _rows(pod: Mapping[str, Any], expected: Explanation) -> Iterator[Compared]:
    after = expected.after  # its own values are hidden, ours are not
    ours = {volume.name for volume in expected.changes.volumes}
    carried = {each.get("name"): each for each in pod["spec"].get("volumes") or ()}
    for volume in after["spec"].get("volumes") or ():
        if volume["name"] in ours:
            yield _volume(volume, carried.get(volume["name"]))
    carries = {key[1]: container for key, _, container in containers_of(pod)}
    secrets = _secrets(carries, expected)
    for change in expected.changes.containers:
        container = carries.get(change.name, {})
        own = {each.get("name"): each for each in container.get("env") or ()}
        for name, value in change.variables:
            is_secret = value == MADE_AT_ADMISSION and len(secrets) == 1
            yield _variable(change.name, name, next(iter(secrets)) if is_secret else value, own.get(name))
        mounts = {each.get("mountPath"): each.get("name") for each in container.get("volumeMounts") or ()}
        for volume_name, path in change.mounts:
            yield _mount(change.name, volume_name, path, mounts.get(path))
    has = (pod.get("metadata") or {}).get("annotations") or {}
    for key, value in expected.changes.annotations:
        if key != expected.record:
            state: State = "missing" if key not in has else "as-it-should-be" if has[key] == value else "differs"
            yield Compared("annotation", "", key, state)


def _secrets(carries: Mapping[str, Mapping[str, Any]], expected: Explanation) -> set[str]:
    """What stands where a random text was put: one and the same in all containers, else something is wrong."""
    return {
        str(entry.get("value", ""))
        for change in expected.changes.containers
        for name, value in change.variables
        for entry in carries.get(change.name, {}).get("env") or ()
        if value == MADE_AT_ADMISSION and entry.get("name") == name
    }


def _volume(ours: Mapping[str, Any], found: Mapping[str, Any] | None) -> Compared:
    name = str(ours["name"])
    if found is None:
        return Compared("volume", "", name, "missing")
    if is_same(found, ours):
        return Compared("volume", "", name, "as-it-should-be")
    same = serves_as(found, ours)
    note = "the same tokens and files; lifetime or mode differ" if same else "other tokens or files"
    return Compared("volume", "", name, "differs", note)


def _variable(container: str, name: str, value: str, found: Mapping[str, Any] | None) -> Compared:
    if found is None:
        return Compared("variable", container, name, "missing")
    if value_of(found) == value:
        return Compared("variable", container, name, "as-it-should-be")
    return Compared("variable", container, name, "differs", "its own value, or one of before a change")


def _mount(container: str, volume: str, path: str, found: str | None) -> Compared:
    if found is None:
        return Compared("mount", container, path, "missing")
    if found == volume:
        return Compared("mount", container, path, "as-it-should-be")
    return Compared("mount", container, path, "differs", f"the volume {found} stands there")


# -- the record and the times ----------------------------------------------------------------------------------------


def _notes(
    pod: Mapping[str, Any], key: str, account: ServiceAccount | None, expected: Explanation, account_created: str
) -> Iterator[str]:
    metadata = pod.get("metadata") or {}
    if key in (metadata.get("annotations") or {}):
        yield from _said(pod, key, account, expected)
    elif expected.identities:
        yield f"it has no annotation {key}: this webhook did not inject into it"
    created = str(metadata.get("creationTimestamp") or "")
    if created and account_created and created < account_created:  # both of one form, in UTC
        yield f"the pod was created at {created}, before its ServiceAccount, at {account_created}"


def _said(pod: Mapping[str, Any], key: str, account: ServiceAccount | None, expected: Explanation) -> Iterator[str]:
    record, would_be = _record(pod, key), _record(expected.after, key)
    if record is None:
        yield f"the annotation {key} cannot be read: somebody else wrote it"
        return
    if account is not None and record.service_account != account.name:
        yield f"it was injected for the ServiceAccount {record.service_account[:63]}, and has {account.name} now"
    elif account is not None and record.uid != account.uid:
        yield "its ServiceAccount was deleted and made anew since"
    now: Mapping[str, str] = {} if would_be is None else would_be.clouds
    for cloud in dict.fromkeys([*record.clouds, *now]):
        was, would = record.clouds.get(cloud, "nothing"), now.get(cloud, "nothing")
        if was != would:
            yield f"{cloud} has changed since: was {was[:200]}, would be {would} now"


def _record(pod: Mapping[str, Any], key: str) -> Record | None:
    return read_record(read_pod(msgspec.json.encode(pod)), key)
