"""The JSON patches of a MutatingAdmissionPolicy: parts as CEL, fitted into a pod by the rules of the webhook.

:mod:`wif.admission.merging` and :mod:`wif.admission.containers` are the same rules in Python; tests compare the two on
the API server. Each expression is a list of operations on other places of the pod than the others, so that all are
made from the pod as it came.
"""

from __future__ import annotations

__all__ = ["container_patch", "joined", "metadata_patch", "volume_patch"]

from collections.abc import Sequence

from wif.admission.cel_parts import EnvList, PartText, VolumeText
from wif.admission.cel_text import literal, string_list
from wif.admission.injection import Mount

_MOUNTS = "(has(c.volumeMounts) ? c.volumeMounts : [])"
"""Of a container ``c``."""

Named = tuple[str, PartText]
"""A source's name, and its part."""


def _op(op: str, path: str, value: str) -> str:
    return f"JSONPatch{{op: {literal(op)}, path: {path}, value: {value}}}"


def joined(rows: Sequence[str]) -> str:
    """CEL of the operations of several expressions."""
    return " + ".join(f"({row})" for row in rows)


# -- volumes and annotations -------------------------------------------------------------------------------------------


def volume_patch(parts: Sequence[Named]) -> str:
    """CEL of the operations on the pod's volumes."""
    by_name: dict[str, list[tuple[str, VolumeText]]] = {}
    for source, part in parts:
        for volume in part.volumes:
            by_name.setdefault(volume.name, []).append((source, volume))
    empty = "has(object.spec.volumes) || !variables.any ? [] : [" + _op("add", "'/spec/volumes'", "[]") + "]"
    return joined([empty, *(_volume(name, found) for name, found in by_name.items())])


def _volume(name: str, found: Sequence[tuple[str, VolumeText]]) -> str:
    volume = found[0][1]
    wanted = " || ".join(f"variables.{source}Active" for source, _ in found)
    value = volume.whole if len(found) == 1 else _shared(name, found)
    place = "'/spec/volumes/0'" if volume.first else "'/spec/volumes/-'"
    added = f"[{_op('add', place, value)}]"
    there = f"variables.volumes.exists(v, v.name == {literal(name)})"
    if volume.collision == "replace":
        index = f"'/spec/volumes/' + string(variables.volumes.map(v, v.name).indexOf({literal(name)}))"
        return f"!({wanted}) ? [] : {there} ? [{_op('replace', index, value)}] : {added}"
    return f"!({wanted}) || {there} ? [] : {added}"


def _shared(name: str, found: Sequence[tuple[str, VolumeText]]) -> str:
    """One volume of several sources: the tokens first, as the dialect has them."""
    rows = [
        f"(variables.{source}Active ? [{', '.join(entries)}] : [])"
        for kind in ("tokens", "others")
        for source, volume in found
        for entries in [getattr(volume, kind)]
        if entries
    ]
    path = "Object.spec.volumes"
    inner = f"{path}.projected{{defaultMode: {found[0][1].mode}, sources: {' + '.join(rows)}}}"
    return f"{path}{{name: {literal(name)}, projected: {inner}}}"


def metadata_patch(parts: Sequence[tuple[str, str, PartText]], record: str) -> str:
    """CEL of the operations on the pod's annotations; ``parts`` are source, cloud and part."""
    empty = "has(object.metadata.annotations) || !variables.any ? [] : ["
    rows = [f"{empty}{_op('add', literal('/metadata/annotations'), '{}')}]"]
    for source, _, part in parts:
        rows += [_annotation(f"variables.{source}Active", key, value) for key, value in part.annotations.items()]
    rows.append(_annotation("variables.any", record, _record(parts)))
    return joined(rows)


def _annotation(wanted: str, key: str, value: str) -> str:
    path = f"'/metadata/annotations/' + jsonpatch.escapeKey({literal(key)})"
    return f"{wanted} ? [{_op('add', path, value)}] : []"


def _record(parts: Sequence[tuple[str, str, PartText]]) -> str:
    """As :class:`wif.admission.record.Record` writes it. No value that is followed needs a JSON escape."""
    clouds = ", ".join(
        f"variables.{source}Active ? {literal(member)} + {part.identity} + '\"' : ''"
        for source, cloud, part in parts
        for member in [f'"{cloud}":"']
    )
    return (
        '\'{"serviceAccount":"\' + params.metadata.name + \'","uid":"\' + params.metadata.uid + \'","clouds":{\''
        f" + [{clouds}].filter(c, c != '').join(',') + '}}}}'"
    )


# -- containers --------------------------------------------------------------------------------------------------------


def container_patch(member: str, parts: Sequence[Named]) -> str:
    """CEL of the operations on ``containers`` or ``initContainers``.

    CEL here has no ``cel.bind``: a value gets a name as the one element of a list. ``c`` is the container, ``n`` the
    names of its variables, ``w`` says of each part whether it is for the container.
    """
    containers = f"object.spec.{member}"
    path = f"'/spec/{member}/' + string(i)"
    any_part = " || ".join(f"w[{index}]" for index in range(len(parts)))
    rows = [_empty_list(name, path, any_part) for name in ("env", "volumeMounts")]
    mounts: dict[Mount, list[str]] = {}
    for index, (source, part) in enumerate(parts):
        lists = [_variables(f"variables.{source}Env{i}", each, member, path) for i, each in enumerate(part.env)]
        rows.append(f"!w[{index}] ? [] : {joined(lists)}")
        for mount in part.mounts:
            mounts.setdefault(mount, []).append(f"w[{index}]")
    rows += [f"!({' || '.join(needed)}) ? [] : {_mount(mount, member, path)}" for mount, needed in mounts.items()]
    wanted = ", ".join(_is_for(source, part) for source, part in parts)
    inside = f"[[{wanted}]].map(w, {joined(rows)}).flatten()"
    named = f"[(has(c.env) ? c.env.map(e, e.name) : [])].map(n, {inside}).flatten()"
    found = (
        f"{containers}.map(c, {containers}.indexOf(c)).map(i, [{containers}[i]].map(c, {named}).flatten()).flatten()"
    )
    return found if member == "containers" else f"!has({containers}) ? [] : {found}"


def _empty_list(name: str, path: str, needed: str) -> str:
    place = f"{path} + '/{name}'"
    return f"!has(c.{name}) && ({needed}) ? [{_op('add', place, '[]')}] : []"


def _is_for(source: str, part: PartText) -> str:
    """Whether a part is for a container: not skipped, not left alone, and its paths are free."""
    rows = [f"variables.{source}Active", f"!(c.name in variables.{source}Skip)"]
    if part.skip:
        rows.append(f"!(c.name in {string_list(sorted(part.skip))})")
    if part.left_alone:
        groups = (f"n.exists(e, e in {string_list(sorted(group))})" for group in part.left_alone)
        rows.append(f"!({' && '.join(groups)})")
    for mount in part.mounts:
        paths = string_list((mount.path, f"{mount.path}/"))
        rows.append(f"!{_MOUNTS}.exists(m, m.name != {literal(mount.volume)} && m.mountPath in {paths})")
    return " && ".join(rows)


def _variables(pairs: str, each: EnvList, member: str, path: str) -> str:
    value = f"Object.spec.{member}.env{{name: p[0], value: p[1]}}"
    place = f"{path} + '/env/-'"
    added = _op("add", place, value)
    absent = "!(p[0] in n)"
    if each.rule == "group":
        return f"{pairs}.all(p, {absent}) ? {pairs}.map(p, {added}) : []"
    only_absent = f"{pairs}.filter(p, {absent}).map(p, {added})"
    if each.rule == "absent":
        return only_absent
    at = f"{path} + '/env/' + string(n.lastIndexOf(p[0]))"
    return f"{pairs}.filter(p, p[0] in n).map(p, {_op('replace', at, value)}) + {only_absent}"


def _mount(mount: Mount, member: str, path: str) -> str:
    name, paths = literal(mount.volume), string_list((mount.path, f"{mount.path}/"))
    read_only = ", readOnly: true" if mount.read_only else ""
    value = f"Object.spec.{member}.volumeMounts{{name: {name}, mountPath: {literal(mount.path)}{read_only}}}"
    place = f"{path} + '/volumeMounts/-'"
    added = f"[{_op('add', place, value)}]"
    same = f"{_MOUNTS}.exists(m, m.name == {name} && m.mountPath in {paths})"
    if mount.collision == "keep":
        return f"{same} ? [] : {added}"
    at = f"{path} + '/volumeMounts/' + string({_MOUNTS}.map(m, m.name).indexOf({name}))"
    return f"{same} ? [] : {_MOUNTS}.exists(m, m.name == {name}) ? [{_op('replace', at, value)}] : {added}"
