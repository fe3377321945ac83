"""The ``Condition`` element of an AWS policy: its operators, set prefixes and variables, compiled and evaluated.

Sources: IAM user guide, "condition operators", "multivalued context keys", "policy variables". What the guide leaves
open (several values under an operator without set prefix, a variable without a value, a value of the wrong form) is
:data:`UNDECIDED`: such a condition lets no Allow through and lets no Deny be escaped.
"""

from __future__ import annotations

__all__ = ["FAILS", "HOLDS", "OPERATORS", "UNDECIDED", "Condition", "Keys", "compile_conditions", "wildcard"]

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from wif.trust.reading import Document, listed

Keys = Mapping[str, tuple[str, ...]]
"""The request's context: lower-case key names, each with its values."""

Outcome = Literal["holds", "fails", "undecided"]
HOLDS: Outcome = "holds"
FAILS: Outcome = "fails"
UNDECIDED: Outcome = "undecided"


class _Undecided(Exception):
    """The guide does not say what comes out."""


# -- patterns and variables ----------------------------------------------------------------------------------------


def wildcard(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """``*`` as any run and ``?`` as any one character, as a pattern for ``fullmatch`` that never backtracks far."""
    return _pattern([(letter, letter in "*?") for letter in pattern], ignore_case=ignore_case)


def _pattern(letters: Sequence[tuple[str, bool]], *, ignore_case: bool = False) -> re.Pattern[str]:
    """The same for letters that say of themselves whether they are a wildcard."""
    runs = [""]
    for letter, wild in letters:
        if wild and letter == "*":
            runs.append("")
        else:
            runs[-1] += "." if wild else re.escape(letter)
    first, *middle = runs
    # An atomic group takes the first place where a run fits and never gives it up: enough, and linear.
    source = first if not middle else first + "".join(f"(?>.*?{run})" for run in middle[:-1]) + ".*" + middle[-1]
    return re.compile(source, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


class _Variable(NamedTuple):
    key: str
    default: str | None


_VARIABLE = re.compile(r"\$\{\s*([^}',]*?)\s*(?:,\s*'([^']*)'\s*)?\}")
_KEY = re.compile(r"[^\s:{}$*?]+:[^\s{}$][^{}$\r\n]*")  # a tag's key may hold spaces


@dataclass(frozen=True, slots=True)
class _Template:
    """A value of a policy: text and variables in turn."""

    parts: tuple[str | _Variable, ...]

    @classmethod
    def parse(cls, text: str, *, has_variables: bool) -> _Template:
        """Raises ValueError for a variable that is none, saying what the text is not."""
        if not has_variables:
            return cls((text,))
        parts: list[str | _Variable] = []
        end = 0
        for found in _VARIABLE.finditer(text):
            parts.append(text[end : found.start()])
            end = found.end()
            name, default = found[1], found[2]
            if name in ("*", "?", "$") and default is None:
                parts.append(_Variable("", name))
            elif _KEY.fullmatch(name) is not None:
                parts.append(_Variable(name.lower(), default))
            else:
                raise ValueError("text with policy variables that name a key")
        parts.append(text[end:])
        if any(isinstance(part, str) and "${" in part for part in parts):
            raise ValueError("text with policy variables that end")
        return cls(tuple(part for part in parts if part != ""))

    def letters(self, keys: Keys) -> list[tuple[str, bool]]:
        """The text with its variables' values; wildcards only where the policy itself wrote them."""
        letters: list[tuple[str, bool]] = []
        for part in self.parts:
            if isinstance(part, str):
                letters.extend((letter, letter in "*?") for letter in part)
            else:
                letters.extend((letter, False) for letter in _value_of(part, keys))
        return letters

    @property
    def is_plain(self) -> bool:
        """Whether the value is the same for every request."""
        return all(isinstance(part, str) for part in self.parts)

    @property
    def text(self) -> str:
        """The plain text."""
        return "".join(part for part in self.parts if isinstance(part, str))


def _value_of(variable: _Variable, keys: Keys) -> str:
    if not variable.key:
        return variable.default or ""
    values = keys.get(variable.key, ())
    if len(values) == 1:
        return values[0]
    if not values and variable.default is not None:
        return variable.default
    raise _Undecided


# -- operators -----------------------------------------------------------------------------------------------------

Match = Callable[[str, Keys], bool]
"""Does one value of the request fit? May raise :class:`_Undecided`."""

Compile = Callable[[_Template], Match]
"""Make the match of one value of the policy.

Raises:
    ValueError: the value has not the operator's form; says what it is not.
"""


def _string(fold: bool) -> Compile:
    def compile_value(template: _Template) -> Match:
        if template.is_plain:
            wanted = template.text.casefold() if fold else template.text
            return lambda came, _keys: (came.casefold() if fold else came) == wanted

        def match(came: str, keys: Keys) -> bool:
            text = "".join(letter for letter, _ in template.letters(keys))
            return text.casefold() == came.casefold() if fold else text == came

        return match

    return compile_value


def _like(template: _Template) -> Match:
    if template.is_plain:
        pattern = wildcard(template.text)
        return lambda came, _keys: pattern.fullmatch(came) is not None
    return lambda came, keys: _pattern(template.letters(keys)).fullmatch(came) is not None


def _arn_parts(letters: Sequence[tuple[str, bool]]) -> list[re.Pattern[str]]:
    """One pattern for each of the six parts that colons divide; the sixth keeps its own colons."""
    parts: list[list[tuple[str, bool]]] = [[]]
    for letter in letters:
        if letter[0] == ":" and len(parts) < 6:
            parts.append([])
        else:
            parts[-1].append(letter)
    return [_pattern(part) for part in parts]


def _arn(template: _Template) -> Match:
    fixed = _arn_parts(template.letters({})) if template.is_plain else None
    if fixed is not None and len(fixed) != 6:
        raise ValueError("an ARN of six parts")

    def match(came: str, keys: Keys) -> bool:
        wanted = fixed or _arn_parts(template.letters(keys))
        parts = came.split(":", 5)
        return len(parts) == len(wanted) == 6 and all(
            pattern.fullmatch(part) is not None for pattern, part in zip(wanted, parts, strict=True)
        )

    return match


def _typed(parse: Callable[[str], Any], compare: Callable[[Any, Any], bool], name: str) -> Compile:
    """Operators whose values are of another type than text; ``compare`` gets what came, then what is wanted."""

    def compile_value(template: _Template) -> Match:
        text = template.text if template.is_plain else ""
        try:
            wanted = parse(text)
        except ValueError:
            raise ValueError(name) from None

        def match(came: str, _keys: Keys) -> bool:
            try:
                value = parse(came)
            except ValueError:
                raise _Undecided from None
            return compare(value, wanted)

        return match

    return compile_value


def _number(text: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(text) from None
    if not value.is_finite():
        raise ValueError(text)
    return value


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _date(text: str) -> datetime:
    """An ISO 8601 date, or seconds since 1970; without a zone it is UTC."""
    text = text.strip()
    if re.fullmatch(r"-?[0-9]{1,12}", text):
        try:
            return _EPOCH + timedelta(seconds=int(text))
        except OverflowError as error:
            raise ValueError(text) from error
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network:
    return ipaddress.ip_network(text.strip(), strict=False)


def _inside(came: _Network, wanted: _Network) -> bool:
    return came.network_address in wanted and came.broadcast_address in wanted  # never across IP versions


class _Operator(NamedTuple):
    compile: Compile
    negated: bool = False
    """True holds only where no value fits, and also where the key is missing."""
    exact_text: bool = False
    """Wildcards are plain letters: worth a word where one was probably meant."""


_COMPARISONS: Mapping[str, tuple[Callable[[Any, Any], bool], bool]] = {
    "Equals": (lambda came, wanted: came == wanted, False),
    "NotEquals": (lambda came, wanted: came == wanted, True),
    "LessThan": (lambda came, wanted: came < wanted, False),
    "LessThanEquals": (lambda came, wanted: came <= wanted, False),
    "GreaterThan": (lambda came, wanted: came > wanted, False),
    "GreaterThanEquals": (lambda came, wanted: came >= wanted, False),
}

OPERATORS: Mapping[str, _Operator] = {
    "StringEquals": _Operator(_string(False), exact_text=True),
    "StringNotEquals": _Operator(_string(False), negated=True, exact_text=True),
    "StringEqualsIgnoreCase": _Operator(_string(True), exact_text=True),
    "StringNotEqualsIgnoreCase": _Operator(_string(True), negated=True, exact_text=True),
    "StringLike": _Operator(_like),
    "StringNotLike": _Operator(_like, negated=True),
    "ArnEquals": _Operator(_arn),  # the guide: behaves as ArnLike
    "ArnNotEquals": _Operator(_arn, negated=True),
    "ArnLike": _Operator(_arn),
    "ArnNotLike": _Operator(_arn, negated=True),
    "Bool": _Operator(_typed(_boolean, _COMPARISONS["Equals"][0], "true or false")),
    "IpAddress": _Operator(_typed(_network, _inside, "an address or a CIDR block")),
    "NotIpAddress": _Operator(_typed(_network, _inside, "an address or a CIDR block"), negated=True),
    **{
        f"{kind}{name}": _Operator(_typed(parse, compare, shown), negated)
        for kind, parse, shown in (("Numeric", _number, "a number"), ("Date", _date, "a date"))
        for name, (compare, negated) in _COMPARISONS.items()
    },
}
"""Every operator of a trust policy, without ``Null``, prefixes and ``IfExists``."""

_HAS_VARIABLES = ("String", "Arn")
"""The guide: variables stand in conditions with string and ARN operators."""

_SETS = ("ForAnyValue", "ForAllValues")


def _first_of(order: Sequence[Outcome], among: Sequence[Outcome], otherwise: Outcome) -> Outcome:
    return next((outcome for outcome in order if outcome in among), otherwise)


# -- conditions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One key under one operator: AND with all others of its statement, OR over its values."""

    operator: str
    """As the policy writes it, e.g. ``ForAnyValue:StringLikeIfExists``."""
    key: str
    """As the policy writes it; compared without case."""
    values: tuple[str, ...]
    _row: _Operator | None = field(repr=False)
    """None for ``Null``."""
    _matches: tuple[Match, ...] = field(repr=False)
    _set: str = ""
    _if_exists: bool = False

    def evaluate(self, keys: Keys) -> Outcome:
        """Does the condition hold for a request?"""
        came = keys.get(self.key.lower(), ())
        row = self._row
        if row is None:
            return HOLDS if (not came) in {value.lower() == "true" for value in self.values} else FAILS
        if not came:
            missing_holds = self._if_exists or self._set == "ForAllValues" or (row.negated and not self._set)
            return HOLDS if missing_holds else FAILS
        fits = [self._fits(row, value, keys) for value in came]
        if self._set == "ForAnyValue":
            return _first_of((HOLDS, UNDECIDED), fits, FAILS)
        if len(fits) > 1 and not self._set:
            return UNDECIDED
        return _first_of((FAILS, UNDECIDED), fits, HOLDS)

    def _fits(self, row: _Operator, came: str, keys: Keys) -> Outcome:
        """One value of the request against all of the policy's; what is sure goes before what is undecided."""
        undecided = False
        for match in self._matches:
            try:
                if match(came, keys):
                    return FAILS if row.negated else HOLDS
            except _Undecided:
                undecided = True
        if undecided:
            return UNDECIDED
        return HOLDS if row.negated else FAILS

    def explain(self, keys: Keys) -> str:
        """What was expected of the key and what came."""
        came = keys.get(self.key.lower(), ())
        text = f"{self.operator} {self.key} expects {listed(self.values)}, the request has "
        text += listed(came) if came else "no such key"
        if len(came) > 1 and not self._set:
            return f"{text}; for several values write ForAnyValue: or ForAllValues:"
        if self.evaluate(keys) == UNDECIDED:
            return f"{text}; how AWS decides this is not documented"
        if self._row is not None and self._row.exact_text and any("*" in value for value in self.values):
            return f"{text}; only StringLike reads * as a wildcard"
        return text


def compile_conditions(blocks: Mapping[str, Any], *, has_variables: bool, read: Document) -> tuple[Condition, ...]:
    """Read a ``Condition`` element.

    Args:
        blocks: the element: ``{operator: {key: value or values}}``.
        has_variables: whether ``${…}`` means a variable: in policies of version 2012-10-17.
        read: the statement, for messages.

    Raises:
        ConfigurationError: trust-invalid.
    """
    conditions: list[Condition] = []
    for operator, block in blocks.items():
        if not isinstance(block, dict) or not block:
            read.refuse(f"has the condition {operator} without any key")
        for key, value in block.items():
            if _KEY.fullmatch(key) is None:
                read.refuse(f"has the condition key {key!r}, which is not of the form prefix:name")
            values = tuple(_text(item, read, key) for item in (value if isinstance(value, list) else [value]))
            if not values:
                read.refuse(f"has the condition {operator} {key} without a value")
            conditions.append(_condition(operator, key, values, has_variables, read))
    return tuple(conditions)


def _condition(operator: str, key: str, values: tuple[str, ...], has_variables: bool, read: Document) -> Condition:
    if operator == "Null":
        if any(item.lower() not in ("true", "false") for item in values):
            read.refuse(f"has the condition Null {key} with a value that is neither true nor false")
        return Condition(operator=operator, key=key, values=values, _row=None, _matches=())
    prefix, colon, rest = operator.partition(":")
    name = (rest if colon else prefix).removesuffix("IfExists")
    row = OPERATORS.get(name)
    if row is None or (colon and prefix not in _SETS):
        read.refuse(f"has the condition operator {operator!r}, which is not known here")
    matches: list[Match] = []
    for value in values:
        try:
            template = _Template.parse(value, has_variables=has_variables and name.startswith(_HAS_VARIABLES))
            matches.append(row.compile(template))
        except ValueError as error:
            read.refuse(f"has the condition {operator} {key} with the value {value!r}, which is not {error}")
    return Condition(
        operator=operator,
        key=key,
        values=values,
        _row=row,
        _matches=tuple(matches),
        _set=prefix if colon else "",
        _if_exists=operator.endswith("IfExists"),
    )


def _text(value: object, read: Document, key: str) -> str:
    """A value of a policy as text; JSON's numbers and booleans stand for their text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        read.refuse(f"has the condition key {key} with a value that is not a string")
    return value
