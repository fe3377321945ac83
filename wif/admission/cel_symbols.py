"""Values with placeholders as CEL: how a dialect's own answer becomes an expression.

A dialect is asked about a ServiceAccount whose annotations are placeholders, once for each combination of what may
be there (*conditions*). Where a placeholder stands in its answer, the expression has the real value's variable; where
answers differ, it has the condition. So nothing of what a dialect injects is written down a second time.
"""

from __future__ import annotations

__all__ = ["Answers", "Symbols", "chosen", "chosen_text", "typed"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wif.admission.cel_text import literal

T = TypeVar("T")

Answers = Mapping[tuple[bool, ...], T]
"""An answer for each combination of the conditions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """Placeholders, and the expressions that stand for them."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """None of them is a part of another one's value; the longer ones are looked for first."""
    numbers: Mapping[int, str] = field(default_factory=dict)

    def text(self, value: str) -> str:
        """A string with placeholders, as an expression."""
        names = {**self.texts, **{str(number): f"string({cel})" for number, cel in self.numbers.items()}}
        found = min(
            ((value.index(name), -len(name), name) for name in names if name in value),
            default=None,
        )
        if found is None:
            return literal(value)
        start, name = found[0], found[2]
        before, after = value[:start], value[start + len(name) :]
        rows = [literal(before)] if before else []
        rows.append(names[name])
        rows += [self.text(after)] if after else []
        return " + ".join(rows)

    def number(self, value: int) -> str:
        """A number, or the expression that it stands for."""
        return self.numbers.get(value, str(value))


def chosen(conditions: Sequence[str], answers: Answers[str]) -> str:
    """One expression for answers that are expressions: each condition is asked only where it matters."""
    if not conditions:
        return answers[()]
    yes = chosen(conditions[1:], {rest[1:]: each for rest, each in answers.items() if rest[0]})
    no = chosen(conditions[1:], {rest[1:]: each for rest, each in answers.items() if not rest[0]})
    return yes if yes == no else f"({conditions[0]} ? {yes} : {no})"


def chosen_text(conditions: Sequence[str], answers: Answers[str], symbols: Symbols) -> str:
    """One expression for strings. Members of a JSON object are decided on one by one, to keep it short."""
    split = {bits: _members(text) for bits, text in answers.items()}
    order = list(dict.fromkeys(key for members in split.values() for key in members))
    if any("".join(split[bits].get(key, "") for key in order) != text for bits, text in answers.items()):
        return chosen(conditions, {bits: symbols.text(text) for bits, text in answers.items()})
    rows = (
        chosen(conditions, {bits: symbols.text(members.get(key, "")) for bits, members in split.items()})
        for key in order
    )
    return " + ".join(rows).replace("' + '", "")  # two literals side by side; inside one, a quote has a backslash


def _members(text: str) -> dict[str, str]:
    """A text in pieces, by what each of them begins with: one for each member of a JSON object."""
    return {piece.partition(":")[0]: piece for piece in re.split('(?=,")', text)} if text[:1] == "{" else {"": text}


def typed(path: str, conditions: Sequence[str], answers: Answers[Any], symbols: Symbols) -> str:
    """JSON values as one value of a Kubernetes type, ``Object.spec.volumes`` for example.

    Conditions are asked as far inside as they matter.
    """
    first = next(iter(answers.values()))
    if all(isinstance(each, Mapping) and each.keys() == first.keys() for each in answers.values()):
        members = (f"{key}: {_member(f'{path}.{key}', key, conditions, answers, symbols)}" for key in first)
        return f"{path}{{{', '.join(members)}}}"
    if all(isinstance(each, list) and len(each) == len(first) for each in answers.values()):
        entries = (
            typed(path, conditions, {bits: each[index] for bits, each in answers.items()}, symbols)
            for index in range(len(first))
        )
        return f"[{', '.join(entries)}]"
    if len(answers) > 1 and any(isinstance(each, Mapping | list) for each in answers.values()):
        alone = {bits: typed(path, (), {(): each}, symbols) for bits, each in answers.items()}
        return chosen(conditions, alone)
    if all(isinstance(each, str) for each in answers.values()):
        return chosen_text(conditions, answers, symbols)
    return chosen(conditions, {bits: _scalar(each, symbols) for bits, each in answers.items()})


def _member(path: str, key: str, conditions: Sequence[str], answers: Answers[Any], symbols: Symbols) -> str:
    return typed(path, conditions, {bits: each[key] for bits, each in answers.items()}, symbols)


def _scalar(value: Any, symbols: Symbols) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return symbols.number(value) if isinstance(value, int) else symbols.text(value)
