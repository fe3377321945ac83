"""Google's CEL dialect over cel-expr-python, such that nothing but a true boolean ever allows.

The library returns errors as values, and every value, ``false`` and errors included, is truthy in Python; the
error's text even passes as a string. So only the result's type decides here, and everything else raises.
Beyond the language: the strings extension, and Google's ``extract``. What a run may cost is bounded by the length
of the expression and of the token only; both are for the caller to cap.
"""

from __future__ import annotations

__all__ = ["Bindings", "CelError", "Program", "bind", "compile_condition", "compile_mapping", "extract"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from wif.errors import ConfigurationError, RefusedError

if TYPE_CHECKING:
    from cel_expr_python import cel  # type: ignore[import-untyped]  # stubs without a py.typed marker

_CACHED_PROGRAMS = 4096
"""Compiled expressions kept; a provider has at most 53, a compiled one holds a few kilobytes."""


class CelError(RefusedError):
    """An expression failed on this token, or did not yield the type that is needed."""

    def __init__(self, message: str, *, code: str = "condition-denied") -> None:
        super().__init__(message, code=code, cloud="gcp")


class _Dialect(NamedTuple):
    """The loaded library with its two environments: a mapping sees the token only, a condition its results too."""

    mapping: cel.Env
    condition: cel.Env
    types: type[cel.Type]


def extract(value: str, template: str) -> str:
    """Google's ``value.extract('before{name}after')``: what stands between, else nothing.

    Raises:
        ValueError: the template has no placeholder.
    """
    before, opening, rest = template.partition("{")
    _, closing, after = rest.partition("}")
    if not opening or not closing:
        raise ValueError("extract() needs a template with one {placeholder}")
    start = value.find(before)
    if start < 0:
        return ""
    start += len(before)
    end = value.find(after, start) if after else len(value)
    return "" if end < 0 else value[start:end]


@cache
def _dialect() -> _Dialect:
    try:
        from cel_expr_python import cel  # noqa: PLC0415  (an optional extra, 16 MB)
        from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "attribute mappings and conditions of Google need CEL, which is not installed",
            code="extra-missing",
            hint="pip install 'wif[cel]'",
            cloud="gcp",
        ) from error
    kinds = cel.Type
    overload = cel.Overload(
        "string_extract_string",
        return_type=kinds.STRING,
        parameters=[kinds.STRING, kinds.STRING],  # the receiver of a member function comes first
        is_member=True,
        impl=extract,
    )
    token = {"assertion": kinds.Map(kinds.STRING, kinds.DYN)}
    mapped = {
        "google": kinds.Map(kinds.STRING, kinds.DYN),
        "attribute": kinds.Map(kinds.STRING, kinds.STRING),
    }

    def environment(variables: Mapping[str, cel.Type]) -> cel.Env:
        functions = [cel.FunctionDecl("extract", [overload])]
        return cel.NewEnv(variables=variables, extensions=[ext_strings.ExtStrings()], functions=functions)

    return _Dialect(environment(token), environment({**token, **mapped}), kinds)


@dataclass(frozen=True, slots=True)
class Bindings:
    """Variables converted once, for any number of programs: the conversion costs more than a run."""

    _activation: cel.Activation = field(repr=False)


def bind(assertion: Mapping[str, Any], mapped: Mapping[str, Mapping[str, Any]] | None = None) -> Bindings:
    """Prepare a token's claims for mappings; with ``mapped`` (``google`` and ``attribute``), for a condition.

    The conversion happens at the first run, so a claim that CEL cannot hold fails there.

    Raises:
        ConfigurationError: extra-missing.
    """
    dialect = _dialect()
    environment = dialect.mapping if mapped is None else dialect.condition
    return Bindings(environment.Activation(data={"assertion": assertion, **(mapped or {})}))


@dataclass(frozen=True, slots=True)
class Program:
    """One compiled expression. Safe to share between threads."""

    source: str
    _expression: cel.Expression = field(repr=False)
    _types: type[cel.Type] = field(repr=False)

    def boolean(self, bindings: Bindings) -> bool:
        """The value where it is a boolean.

        Raises:
            CelError: any other type, and every error.
        """
        return self._run(bindings, self._types.BOOL, "a boolean") is True

    def string(self, bindings: Bindings) -> str:
        """The value where it is a string; else :class:`CelError`."""
        return str(self._run(bindings, self._types.STRING, "a string"))

    def strings(self, bindings: Bindings) -> tuple[str, ...]:
        """The value where it is a list of strings; else :class:`CelError`."""
        values = self._run(bindings, self._types.LIST, "a list of strings")
        if not all(isinstance(value, str) for value in values):
            raise CelError(f"{self.source!r} yields a list of other things than strings", code="subject-invalid")
        return tuple(values)

    def _run(self, bindings: Bindings, wanted: cel.Type, name: str) -> Any:
        try:
            result = self._expression.eval(bindings._activation)
        except RuntimeError as error:  # the library's only class; an exceeded iteration budget, for one
            raise CelError(f"{self.source!r} fails: {_first_line(error)}") from None
        came = result.type()
        if came == wanted:
            return result.plain_value()
        if came == self._types.ERROR:
            raise CelError(f"{self.source!r} fails: {_first_line(result.plain_value())}")
        raise CelError(f"{self.source!r} yields {came.name()}, expected {name}", code="subject-invalid")


def compile_condition(source: str) -> Program:
    """Compile an attribute condition over ``assertion``, ``google`` and ``attribute``. Kept for later calls.

    Raises:
        ConfigurationError: trust-invalid, extra-missing.
    """
    return _compile(source, True)


def compile_mapping(source: str) -> Program:
    """Compile an attribute mapping over ``assertion``. Kept for later calls.

    Raises:
        ConfigurationError: trust-invalid, extra-missing.
    """
    return _compile(source, False)


@lru_cache(maxsize=_CACHED_PROGRAMS)
def _compile(source: str, is_condition: bool) -> Program:
    dialect = _dialect()
    kinds = dialect.types
    try:
        expression = (dialect.condition if is_condition else dialect.mapping).compile(source)
    except RuntimeError as error:
        raise ConfigurationError(
            f"the expression {source!r} does not compile: {_first_line(error)}", code="trust-invalid", cloud="gcp"
        ) from None
    kind = expression.return_type()
    if is_condition and kind not in (kinds.BOOL, kinds.DYN):  # dyn is known only when it runs
        raise ConfigurationError(
            f"the condition {source!r} yields {kind.name()}, expected a boolean", code="trust-invalid", cloud="gcp"
        )
    return Program(source, expression, kinds)


def _first_line(error: object) -> str:
    return str(error).partition("\n")[0][:200]
