"""What ``wif webhook explain`` prints for people: tables on a terminal, aligned lines elsewhere, in the same words.

Colour only marks what the words say already.
"""

from __future__ import annotations

__all__ = ["show_cluster", "show_explanation"]

import difflib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from wif.admission.neighbours import order_note
from wif.cli.durations import show_duration

if TYPE_CHECKING:
    from wif.admission.changes import ContainerChange, VolumeChange
    from wif.admission.comparison import Comparison
    from wif.admission.explanation import Explanation
    from wif.admission.findings import Finding
    from wif.admission.neighbours import Neighbour
    from wif.cli.webhook_cluster import ClusterFacts

_WORDS = {
    "green": ("would be injected:", "ok", "yes"),
    "red": ("REFUSED", "deny", "missing"),
    "yellow": ("warning", "differs", "maybe", "unread"),
    "cyan": ("note", "hint"),
}
_COLOURS = {word: colour for colour, words in _WORDS.items() for word in words}
_STATES = {"as-it-should-be": "ok", "missing": "missing", "differs": "differs"}
_WIDEST_COLUMN = 64
"""Of plain lines: the others do not wait for a longer cell."""
_VALUE_CHARACTERS = 100
"""Shown of an annotation's value."""
_CLOUDS = ("aws", "gcp", "azure")


class _Section(NamedTuple):
    title: str
    rows: Sequence[tuple[str, ...]]


def show_explanation(explanation: Explanation, *, show: str | None, comparison: Comparison | None = None) -> None:
    """One pod: what it gets, what not, and why; of a pod that runs, what it carries of that."""
    _headline(explanation if comparison is None else comparison.expected, is_running=comparison is not None)
    if comparison is not None:
        _print_section(_Section("identities", list(_identity_rows(comparison.expected))))
        _print_section(_Section("carried by the pod that runs, of what a new one would get", _compared(comparison)))
    else:
        for section in _sections(explanation):
            _print_section(section)
    _print_section(_Section("left out", [(each.container, each.cloud, each.reason) for each in explanation.left_out]))
    silent = [(each.dialect, each.reason, f"reads {each.trigger}") for each in explanation.silent]
    _print_section(_Section("dialects that say nothing, and what would make them speak", silent))
    _print_findings("findings", explanation.findings)
    _print_findings(
        f"check of the ServiceAccount {explanation.workload.account_name} itself", explanation.account_findings
    )
    if show is not None:
        _print_shown(explanation, show)


def show_cluster(facts: ClusterFacts) -> None:
    """What else the API server calls for the pod, and what could not be read."""
    shown = [each for each in facts.neighbours if each.may_be_called or _is_excluded_peer(each)]
    if shown:
        _title("called by the API server for this pod, in this order")
    numbers = {id(each): number for number, each in enumerate(shown, 1)}
    for kind in dict.fromkeys(each.kind for each in shown):
        rows = [row for each in shown if each.kind == kind for row in _neighbour_rows(numbers[id(each)], each)]
        _print_section(_Section(f"{kind}: {order_note(kind)}", rows))
    if len(facts.neighbours) > len(shown):
        _line(
            1, f"{len(facts.neighbours) - len(shown)} more do not match; --json lists them with the clause that decides"
        )
    own = [each for each in facts.neighbours if each.known_as == "wif" and each.may_be_called]
    if facts.has_all_mutating and not any(each.kind.startswith("Mutating") for each in own):
        _line(1, "no registration of wif matches this pod: nothing is injected into it", "warning")
        _line(2, "wif webhook render prints one", "hint")
    for gap in facts.gaps:
        _line(1, gap.message, "unread")
        _line(2, gap.hint, "hint")


# -- one pod -----------------------------------------------------------------------------------------------------------


def _headline(explanation: Explanation, *, is_running: bool) -> None:
    workload = explanation.workload
    _line(0, f"{workload.text} as the ServiceAccount {workload.account_name}")
    clouds = ", ".join(dict.fromkeys(each.cloud for each in explanation.identities))
    if not explanation.allowed:
        _line(1, f"with status {explanation.code}; the findings below say why", "REFUSED")
    elif is_running:
        _line(1, f"a new pod would get: {clouds or 'nothing'}")
    elif explanation.patch:
        _line(1, clouds or "nothing new; what was injected before is changed", "would be injected:")
    elif explanation.identities:
        _line(1, "nothing to do: the pod has all of it already")
    else:
        _line(1, "nothing is injected: the pod stays as it is")
    if explanation.account_state == "unknown":
        name = workload.account_name
        _line(
            1,
            f"the annotations of the ServiceAccount {name} are not known, so identities may be missing here",
            "warning",
        )
        get = f"kubectl get serviceaccount {name} --namespace {workload.namespace} -o yaml"
        _line(2, f"pass --service-account FILE, e.g. of: {get}; or --live", "hint")


def _sections(explanation: Explanation) -> Iterator[_Section]:
    changes = explanation.changes
    if not explanation.allowed or not (explanation.patch or explanation.identities):
        return
    yield _Section("identities", list(_identity_rows(explanation)))
    yield _Section("tokens", list(_token_rows(explanation)))
    yield from map(_volume_section, changes.volumes)
    yield from _container_sections(changes.containers)
    written = [(key, _cut(value)) for key, value in (*changes.annotations, *changes.labels)]
    yield _Section("written to the pod's metadata", written)
    yield _Section("removed, of an injection for another ServiceAccount", [(each,) for each in changes.removed])


def _compared(comparison: Comparison) -> list[tuple[str, ...]]:
    """What is missing or differs, the containers of one thing together; how much is right; what the record says."""
    rows: list[tuple[str, ...]] = []
    odd = [row for row in comparison.rows if row.state != "as-it-should-be"]
    if odd and all(row.state == "missing" for row in comparison.rows):
        rows.append(("missing", f"all of it, {len(odd)} things"))
    else:
        groups: dict[tuple[str, ...], list[str]] = {}
        for row in odd:
            groups.setdefault((_STATES[row.state], f"{row.what} {row.name}", row.note), []).append(row.container)
        rows += [(state, what, ", ".join(filter(None, names)), note) for (state, what, note), names in groups.items()]
    if len(odd) < len(comparison.rows):
        rows.append(("ok", f"{len(comparison.rows) - len(odd)} of {len(comparison.rows)} things"))
    return [*rows, *(("note", note) for note in comparison.notes)] or [("ok", "nothing would be injected")]


def _identity_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    sources = {
        "ServiceAccount": "",
        "platform": ", from the platform's ConfigMap",
        "pod": ", a label of the pod",
        "settings": "from the settings",
    }
    for cloud in _CLOUDS:
        given = [each for each in explanation.identities if each.cloud == cloud]
        for each in given:
            by = f"{each.dialect}: {', '.join(each.annotations)}{sources[each.source]}"
            yield (cloud, each.identity, by)
        if not given:
            yield (cloud, "nothing", "")


def _token_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    paths = {volume: path for each in explanation.changes.containers for volume, path in each.mounts}
    for token in explanation.changes.tokens:
        file = f"{paths[token.volume]}/{token.path}" if token.volume in paths else f"{token.path} of {token.volume}"
        yield (token.audience or "(the API server's)", show_duration(token.seconds), file)


def _volume_section(volume: VolumeChange) -> _Section:
    rows: list[tuple[str, ...]] = [
        (token.path, f"token for {token.audience or 'the API server'}") for token in volume.tokens
    ]
    for file in volume.files:
        path, is_from, source = file.partition(" from ")
        rows.append((path, f"from {source}") if is_from else (file,))
    how = "added" if volume.is_new else "in place of another"
    return _Section(f"volume {volume.name}, {how}{f', mode {volume.mode}' if volume.mode else ''}", rows)


def _container_sections(containers: Sequence[ContainerChange]) -> Iterator[_Section]:
    """Containers that get the same stand together."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for each in containers:
        kind = {"container": "", "init": " (init)", "sidecar": " (sidecar)", "ephemeral": " (ephemeral)"}[each.kind]
        new = ", added" if each.is_new else ""
        groups.setdefault((each.variables, each.mounts), []).append(f"{each.name}{kind}{new}")
    for (variables, mounts), names in groups.items():
        rows = [
            *((name, _cut(value)) for name, value in variables),
            *(("mount", f"{path} (volume {name})") for name, path in mounts),
        ]
        title = f"container{'s' if len(names) > 1 else ''} {', '.join(names)}"
        yield _Section(title, rows or [("nothing", "")])


def _print_findings(title: str, findings: Sequence[Finding]) -> None:
    if findings:
        _title(title)
    for finding in findings:
        is_said = not finding.container or finding.container in finding.message
        where = "" if is_said else f" (container {finding.container})"
        _line(1, f"{finding.message}{where} [{finding.rule}]", finding.level)
        if finding.hint:
            _line(2, finding.hint, "hint")


def _print_shown(explanation: Explanation, show: str) -> None:
    if show == "diff" and not explanation.patch:
        return
    _title({"patch": "JSON patch", "pod": "the pod afterwards", "diff": "difference"}[show])
    if show == "patch":
        click.echo(json.dumps(explanation.patch, indent=2))
        return
    before, after = (_yaml(pod) for pod in (explanation.before, explanation.after))
    if show == "pod":
        click.echo(after, nl=False)
        return
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="")
    for line in lines:
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(click.style(line, fg=colour) if colour and _colours() else line)


def _yaml(pod: Mapping[str, Any]) -> str:
    import yaml  # noqa: PLC0415  # only where a pod is shown

    text: str = yaml.safe_dump(dict(pod), sort_keys=False, allow_unicode=False, width=120)
    return text


# -- the cluster -------------------------------------------------------------------------------------------------------


def _is_excluded_peer(neighbour: Neighbour) -> bool:
    """A webhook for identities that is there for pods, but not for this one."""
    return bool(neighbour.known_as) and not neighbour.verdict.clause.lower().endswith("rules")


def _neighbour_rows(number: int, each: Neighbour) -> Iterator[tuple[str, ...]]:
    words = {"yes": "yes", "no": "no", "undecided": "maybe"}
    names = {"wif": "this webhook", "eks": "the EKS webhook", "azure": "the Azure webhook", "pfn": "the PFN webhook"}
    name = f"{each.name} / {each.part}" if each.part and each.part != each.name else each.name
    known = f" = {names[each.known_as]}" if each.known_as else ""
    yield (str(number), words[each.verdict.answer], f"{name}{known}")
    yield ("", "", "; ".join(f"{key} {value}" for key, value in each.details))
    if each.verdict.answer != "yes" and each.verdict.clause != "matchConditions":
        yield ("", "", f"{each.verdict.clause}: {each.verdict.reason}")
    for condition in each.verdict.conditions:
        yield ("", "", f"if {condition.name}: {' '.join(condition.expression.split())}")


# -- lines and tables --------------------------------------------------------------------------------------------------


def _print_section(section: _Section) -> None:
    if not section.rows:
        return
    _title(section.title)
    if sys.stdout.isatty():
        _draw(section.rows)
        return
    width = [
        max((len(cell) for cell in column if len(cell) <= _WIDEST_COLUMN), default=0)
        for column in zip(*_even(section.rows), strict=True)
    ]
    for row in _even(section.rows):
        cells = [_plain(cell).ljust(size) for cell, size in zip(row, width, strict=True)]
        click.echo(f"    {'  '.join(cells)}".rstrip())


def _even(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    longest = max(map(len, rows))
    return [(*row, *[""] * (longest - len(row))) for row in rows]


def _draw(rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console  # noqa: PLC0415  # only when something is drawn
    from rich.padding import Padding  # noqa: PLC0415  # only when something is drawn
    from rich.table import Table  # noqa: PLC0415  # only when something is drawn
    from rich.text import Text  # noqa: PLC0415  # only when something is drawn

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for number in range(max(map(len, rows))):
        table.add_column(overflow="fold", style="" if number else "cyan")
    for row in _even(rows):  # as Text: an annotation may hold what looks like rich's markup
        table.add_row(*[Text(_plain(cell), style=_COLOURS.get(cell, "")) for cell in row])
    Console().print(Padding(table, (0, 0, 0, 4)))


def _title(text: str) -> None:
    click.echo(f"  {click.style(_plain(text), bold=True) if _colours() else _plain(text)}")


def _line(indent: int, text: str, word: str = "") -> None:
    styled = click.style(word, fg=_COLOURS.get(word), bold=True) if word and _colours() else word
    bold = indent == 0 and _colours()
    click.echo(
        "  " * indent
        + (f"{styled} " if word else "")
        + (click.style(_plain(text), bold=True) if bold else _plain(text))
    )


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_CHARACTERS else text[: _VALUE_CHARACTERS - 1] + "…"


def _plain(text: str) -> str:
    """Nothing that would act on a terminal: a manifest may have been written by an attacker."""
    return "".join(character if character.isprintable() else " " for character in text)
