"""The parts that dialects say, as CEL: asked for with placeholders, in every case that makes a difference."""

from __future__ import annotations

__all__ = ["EnvList", "PartText", "TokenText", "VolumeText", "part_of"]

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wif.admission.accounts import ServiceAccount
from wif.admission.cel_identities import Condition, Source
from wif.admission.cel_symbols import Symbols, chosen, chosen_text, typed
from wif.admission.cel_text import literal
from wif.admission.dialects import PodFacts, dialects
from wif.admission.injection import Collision, EnvRule, Mount, Part, Variable
from wif.config.webhook import WebhookSettings

_NAMESPACE, _NAME = "wif-symbol-namespace", "wif-symbol-account"

_SESSION = (
    "(size(params.metadata.namespace) > 31 ? params.metadata.namespace.substring(0, 31) : params.metadata.namespace)"
    " + '.' + (size(params.metadata.name) > variables.room"
    " ? params.metadata.name.substring(size(params.metadata.name) - variables.room) : params.metadata.name)"
)
"""NAMESPACE.SERVICEACCOUNT in 64 letters; ``variables.room`` is what is left for the name."""

POD_CONDITIONS = ("variables.windows", "variables.fsGroup")
"""What a dialect may know of a pod, and what changes its answer."""


class VolumeText(NamedTuple):
    """A volume of one source."""

    name: str
    first: bool
    collision: Collision
    mode: str | None
    """CEL of ``projected.defaultMode``."""
    tokens: tuple[str, ...]
    """CEL of the sources that are tokens."""
    others: tuple[str, ...]
    """CEL of the other sources."""
    whole: str
    """CEL of all of it."""


class TokenText(NamedTuple):
    """A token in a volume, by which a volume is known to serve."""

    volume: str
    audience: str
    path: str


class EnvList(NamedTuple):
    """Variables that are decided on together: CEL of a list of pairs."""

    rule: EnvRule
    pairs: str


class PartText(NamedTuple):
    """What one source puts into a pod."""

    identity: str
    volumes: tuple[VolumeText, ...]
    tokens: tuple[TokenText, ...]
    mounts: tuple[Mount, ...]
    env: tuple[EnvList, ...]
    left_alone: tuple[frozenset[str], ...]
    skip: frozenset[str]
    """Names that the dialect itself skips."""
    annotations: Mapping[str, str]
    """Of the pod: keys, and CEL of their values."""


Parts = Mapping[tuple[bool, ...], Part]


def part_of(source: Source, settings: WebhookSettings) -> PartText:
    """Ask the source's dialect, in every case."""
    conditions = [condition.expression for condition in source.conditions] + list(POD_CONDITIONS)
    parts = {bits: _asked(source, bits, settings) for bits in itertools.product((True, False), repeat=len(conditions))}
    symbols = Symbols(
        texts={
            **source.texts,
            f"{_NAMESPACE}.{_NAME}": _SESSION,
            _NAMESPACE: "params.metadata.namespace",
            _NAME: "params.metadata.name",
        },
        numbers={source.seconds: f"variables.{source.name}Seconds"},
    )

    def text(of: Callable[[Part], str]) -> str:
        return chosen_text(conditions, {bits: of(part) for bits, part in parts.items()}, symbols)

    first = next(iter(parts.values()))
    volumes = tuple(_volume(index, parts, conditions, symbols) for index in range(len(first.volumes)))
    return PartText(
        identity=text(lambda part: part.identity),
        volumes=volumes,
        tokens=tuple(_tokens(first, text)),
        mounts=first.mounts,
        env=_environment(parts, conditions, symbols),
        left_alone=first.left_alone,
        skip=first.skip - {"wif-symbol-skip"},
        annotations={key: text(lambda part, key=key: part.annotations[key]) for key in first.annotations},  # type: ignore[misc]
    )


def _asked(source: Source, bits: tuple[bool, ...], settings: WebhookSettings) -> Part:
    annotations = dict(source.annotations)
    for condition, holds in zip(source.conditions, bits, strict=False):
        annotations = _with(annotations, condition, holds)
    facts = PodFacts(
        annotations=tuple(source.pod_annotations.items()),
        labels=tuple(source.pod_labels.items()),
        is_windows=bits[-2],
        has_fs_group=bits[-1],
    )
    account = ServiceAccount(_NAMESPACE, _NAME, "wif-symbol-uid", annotations)
    dialect = dict(dialects(settings))[source.dialect]
    (part,) = dialect.read(account, facts, settings).parts
    return part


def _with(annotations: dict[str, str], condition: Condition, holds: bool) -> dict[str, str]:
    more = condition.annotations if holds else condition.otherwise
    if condition.replaces:
        more = {key: value for key, value in more.items() if key in annotations}
    return {**annotations, **more}


def _volume(index: int, parts: Parts, conditions: Sequence[str], symbols: Symbols) -> VolumeText:
    answers: dict[tuple[bool, ...], Any] = {bits: part.volumes[index].content for bits, part in parts.items()}
    volume = next(iter(parts.values())).volumes[index]
    path = "Object.spec.volumes"

    def sources(*, are_tokens: bool) -> tuple[str, ...]:
        number = len(volume.content.get("projected", {}).get("sources", ()))
        rows = ({bits: each["projected"]["sources"][row] for bits, each in answers.items()} for row in range(number))
        return tuple(
            typed(f"{path}.projected.sources", conditions, row, symbols)
            for row in rows
            if ("serviceAccountToken" in next(iter(row.values()))) == are_tokens
        )

    mode = None
    if "defaultMode" in volume.content.get("projected", {}):
        modes = {bits: str(each["projected"]["defaultMode"]) for bits, each in answers.items()}
        mode = chosen(conditions, modes)
    return VolumeText(
        name=volume.name,
        first=volume.first,
        collision=volume.collision,
        mode=mode,
        tokens=sources(are_tokens=True),
        others=sources(are_tokens=False),
        whole=typed(path, conditions, answers, symbols),
    )


def _tokens(part: Part, text: Callable[[Callable[[Part], str]], str]) -> Iterable[TokenText]:
    for number, volume in enumerate(part.volumes):
        for row, source in enumerate(volume.content.get("projected", {}).get("sources", ())):
            if "serviceAccountToken" in source:

                def member(part: Part, name: str, number: int = number, row: int = row) -> str:
                    token = part.volumes[number].content["projected"]["sources"][row]["serviceAccountToken"]
                    return str(token[name])

                yield TokenText(
                    volume.name,
                    text(lambda part, member=member: member(part, "audience")),  # type: ignore[misc]
                    text(lambda part, member=member: member(part, "path")),  # type: ignore[misc]
                )


def _environment(parts: Parts, conditions: Sequence[str], symbols: Symbols) -> tuple[EnvList, ...]:
    """Groups in the order of the fullest answer; one that some answers lack is an empty list there."""
    rows = {bits: dict(_rows(part)) for bits, part in parts.items()}
    order: dict[tuple[EnvRule, tuple[str, ...]], None] = {}
    for answer in sorted(rows.values(), key=lambda answer: -len(answer)):
        order.update(dict.fromkeys(answer))
    found: list[EnvList] = []
    for kind in order:
        pairs = _pairs(kind, rows, conditions, symbols)
        if found and kind[0] == found[-1].rule != "group":  # those that are decided on one by one stand in one list
            found[-1] = EnvList(kind[0], f"{found[-1].pairs} + {pairs}")
        else:
            found.append(EnvList(kind[0], pairs))
    return tuple(found)


def _pairs(
    kind: tuple[EnvRule, tuple[str, ...]],
    rows: Mapping[tuple[bool, ...], Mapping[tuple[EnvRule, tuple[str, ...]], Sequence[Variable]]],
    conditions: Sequence[str],
    symbols: Symbols,
) -> str:
    names = kind[1]
    if all(kind in answer for answer in rows.values()):
        values = (
            chosen_text(conditions, {bits: answer[kind][index].value for bits, answer in rows.items()}, symbols)
            for index in range(len(names))
        )
        return f"[{', '.join(f'[{literal(name)}, {value}]' for name, value in zip(names, values, strict=True))}]"
    return chosen(conditions, {bits: _list(answer.get(kind, ()), symbols) for bits, answer in rows.items()})


def _list(variables: Sequence[Variable], symbols: Symbols) -> str:
    return f"[{', '.join(f'[{literal(name)}, {symbols.text(value)}]' for name, value in variables)}]"


def _rows(part: Part) -> Iterable[tuple[tuple[EnvRule, tuple[str, ...]], tuple[Variable, ...]]]:
    """A group as a whole; the variables of the others one by one."""
    for group in part.env:
        if group.rule == "group":
            yield (group.rule, tuple(variable.name for variable in group.variables)), group.variables
        else:
            for variable in group.variables:
                yield (group.rule, (variable.name,)), (variable,)
