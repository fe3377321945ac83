"""Whether a webhook or an admission policy of a cluster is called for a request, by what its registration says.

The rules are the API server's own (``k8s.io/apiserver``, ``admission/plugin/webhook/predicates`` and
``admission/plugin/policy/matching``). CEL is not evaluated: its conditions are handed back to be shown, and the answer
is then ``undecided``. So it is where a label that decides is not known.

``matchPolicy`` decides nothing here: the core group has one version, and pods and ServiceAccounts stand in no other
group, so that ``Exact`` and ``Equivalent`` mean the same.
"""

from __future__ import annotations

__all__ = ["Answer", "Condition", "Labels", "RequestFacts", "Verdict", "binding_matches", "webhook_matches"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

Answer = Literal["yes", "no", "undecided"]

_NAME_LABEL = "kubernetes.io/metadata.name"
"""Set on every namespace by the API server: known without reading it."""


class Labels(NamedTuple):
    """Labels of an object, all of them or those that are known."""

    values: Mapping[str, str] = {}
    is_complete: bool = True
    """False: a label that is not here may be there."""

    @classmethod
    def of_unread_namespace(cls, name: str) -> Labels:
        """What is known of a namespace that was not read: its name."""
        return cls({_NAME_LABEL: name}, is_complete=False)


class RequestFacts(NamedTuple):
    """What registrations may ask about a request for a namespaced object."""

    namespace: Labels
    labels: Mapping[str, str] = {}
    """Of the object itself."""
    name: str = ""
    """Empty where the API server makes it from ``generateName``."""
    operation: str = "CREATE"
    group: str = ""
    version: str = "v1"
    resource: str = "pods"
    sub_resource: str = ""

    @property
    def text(self) -> str:
        """E.g. ``CREATE pods``."""
        return f"{self.operation} {self.resource}{'/' if self.sub_resource else ''}{self.sub_resource}"


class Condition(NamedTuple):
    """A CEL expression that has the last word."""

    name: str
    expression: str


class Verdict(NamedTuple):
    """Whether it is called."""

    answer: Answer
    clause: str
    """The part of the registration that decided, or that could not be decided; empty for an unconditional yes."""
    reason: str
    """What it says, and what the request has."""
    conditions: tuple[Condition, ...] = ()
    """What CEL would still decide; shown, never evaluated."""


class _Requirement(msgspec.Struct, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] | None = None


class _Selector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] | None = None
    match_expressions: tuple[_Requirement, ...] | None = None

    def requirements(self) -> Iterator[_Requirement]:
        for key, value in (self.match_labels or {}).items():
            yield _Requirement(key, "In", (value,))
        yield from self.match_expressions or ()


class _Rule(msgspec.Struct, frozen=True, rename="camel"):
    operations: tuple[str, ...] | None = None
    api_groups: tuple[str, ...] | None = None
    api_versions: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None
    scope: str | None = None
    resource_names: tuple[str, ...] | None = None
    """Of policies alone."""


class _Condition(msgspec.Struct, frozen=True):
    name: str
    expression: str


class _Matching(msgspec.Struct, frozen=True, rename="camel"):
    """What a policy and its binding have in common."""

    resource_rules: tuple[_Rule, ...] | None = None
    exclude_resource_rules: tuple[_Rule, ...] | None = None
    namespace_selector: _Selector | None = None
    object_selector: _Selector | None = None


class _Webhook(msgspec.Struct, frozen=True, rename="camel"):
    rules: tuple[_Rule, ...] | None = None
    namespace_selector: _Selector | None = None
    object_selector: _Selector | None = None
    match_conditions: tuple[_Condition, ...] | None = None


class _Policy(msgspec.Struct, frozen=True, rename="camel"):
    match_constraints: _Matching | None = None
    match_conditions: tuple[_Condition, ...] | None = None
    param_kind: dict[str, Any] | None = None


class _Parameters(msgspec.Struct, frozen=True, rename="camel"):
    name: str | None = None
    namespace: str | None = None
    selector: _Selector | None = None
    parameter_not_found_action: str | None = None


class _Binding(msgspec.Struct, frozen=True, rename="camel"):
    param_ref: _Parameters | None = None
    match_resources: _Matching | None = None


class _Undecided(NamedTuple):
    """A part that the request may or may not pass."""

    clause: str
    reason: str


_Found = Verdict | _Undecided | None
"""A ``no``, something to be looked at, or nothing: the part is passed."""


def webhook_matches(webhook: Mapping[str, Any], request: RequestFacts) -> Verdict:
    """Whether one entry of ``webhooks`` is called.

    Args:
        webhook: of a MutatingWebhookConfiguration or a ValidatingWebhookConfiguration, as the API server has it.
        request: what is asked for.
    """
    try:
        read = msgspec.convert(webhook, _Webhook)
    except msgspec.ValidationError as error:
        return _unread(error)
    rules = read.rules or ()
    return _judged(
        (
            None if any(_covers(rule, request) for rule in rules) else _no_rule("rules", rules, request),
            *_selected(read.namespace_selector, read.object_selector, request),
        ),
        read.match_conditions or (),
        request,
    )


def binding_matches(policy: Mapping[str, Any], binding: Mapping[str, Any], request: RequestFacts) -> Verdict:
    """Whether a policy is evaluated by way of one of its bindings; a policy without bindings never is.

    Args:
        policy: ``spec`` of a ValidatingAdmissionPolicy or a MutatingAdmissionPolicy.
        binding: ``spec`` of its binding.
        request: what is asked for.
    """
    try:
        read, bound = msgspec.convert(policy, _Policy), msgspec.convert(binding, _Binding)
    except msgspec.ValidationError as error:
        return _unread(error)
    found: list[_Found] = []
    for prefix, part in (("matchConstraints", read.match_constraints), ("matchResources", bound.match_resources)):
        found += _within(prefix, part or _Matching(), request)
    if read.param_kind and bound.param_ref:
        found.append(_parameters(read.param_kind, bound.param_ref))
    return _judged(found, read.match_conditions or (), request)


def _judged(found: Sequence[_Found], conditions: Sequence[_Condition], request: RequestFacts) -> Verdict:
    """A ``no`` of one part is the whole answer; CEL is looked at only after all other parts."""
    shown = tuple(Condition(each.name, each.expression) for each in conditions)
    for part in found:
        if isinstance(part, Verdict):
            return part
    for part in found:
        if isinstance(part, _Undecided):
            return Verdict("undecided", part.clause, part.reason, shown)
    if shown:
        names = ", ".join(condition.name for condition in shown)
        return Verdict("undecided", "matchConditions", f"CEL decides, all must be true: {names}", shown)
    return Verdict("yes", "", f"it covers {request.text}")


def _unread(error: msgspec.ValidationError) -> Verdict:
    return Verdict("undecided", "registration", f"it is not of a shape that is known here: {error}")


# -- rules -----------------------------------------------------------------------------------------------------------


def _within(prefix: str, part: _Matching, request: RequestFacts) -> Iterator[_Found]:
    rules = part.resource_rules or ()
    if rules and not any(_covers(rule, request) for rule in rules):
        yield _no_rule(f"{prefix}.resourceRules", rules, request)
    for rule in part.exclude_resource_rules or ():
        if _covers(rule, request):
            clause = f"{prefix}.excludeResourceRules"
            yield Verdict("no", clause, f"{_rule_text(rule)} leaves out {request.text}")
    yield from _selected(part.namespace_selector, part.object_selector, request, prefix=f"{prefix}.")


def _covers(rule: _Rule, request: RequestFacts) -> bool:
    """All that a rule names must fit; ``pods/*`` includes ``pods`` itself, as the API server reads it."""
    return (
        _lists(rule.operations, request.operation)
        and _lists(rule.api_groups, request.group)
        and _lists(rule.api_versions, request.version)
        and (rule.scope or "*") in ("*", "Namespaced")
        and any(_names(resource, request) for resource in rule.resources or ())
        and (not rule.resource_names or request.name in rule.resource_names)
    )


def _lists(values: Sequence[str] | None, value: str) -> bool:
    return any(each in ("*", value) for each in values or ())


def _names(pattern: str, request: RequestFacts) -> bool:
    resource, _, sub_resource = pattern.partition("/")
    return resource in ("*", request.resource) and sub_resource in ("*", request.sub_resource)


def _no_rule(clause: str, rules: Sequence[_Rule], request: RequestFacts) -> Verdict:
    listed = "; ".join(map(_rule_text, rules)) or "none"
    return Verdict("no", clause, f"no rule covers {request.text}: {listed}")


def _rule_text(rule: _Rule) -> str:
    words = [",".join(rule.operations or ()), ",".join(rule.resources or ())]
    groups = ",".join(rule.api_groups or ())
    words += [f"of {groups}"] if groups else []
    words += [f"named {','.join(rule.resource_names)}"] if rule.resource_names else []
    words += [f"(scope {rule.scope})"] if rule.scope == "Cluster" else []
    return " ".join(words)


# -- selectors -------------------------------------------------------------------------------------------------------


def _selected(
    namespace: _Selector | None, labels: _Selector | None, request: RequestFacts, *, prefix: str = ""
) -> Iterator[_Found]:
    for clause, selector, have in (
        ("namespaceSelector", namespace, request.namespace),
        ("objectSelector", labels, Labels(request.labels)),
    ):
        for requirement in (selector or _Selector()).requirements():
            yield _required(requirement, have, clause=prefix + clause)


def _required(requirement: _Requirement, labels: Labels, *, clause: str) -> _Found:
    key, wants = requirement.key, _requirement_text(requirement)
    if key not in labels.values and not labels.is_complete:
        return _Undecided(clause, f"{wants}, but the labels of the namespace are not known")
    value = labels.values.get(key)
    passes = _OPERATORS.get(requirement.operator)
    if passes is None:
        return _Undecided(clause, f"{wants}: the operator is not known here")
    if passes(value, requirement.values or ()):
        return None
    return Verdict("no", clause, f"{wants}, but {f'it is {value}' if value is not None else 'there is no such label'}")


_OPERATORS: Mapping[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda value, values: value is not None and value in values,
    "NotIn": lambda value, values: value is None or value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}
"""Operators of ``matchExpressions``, on a label's value or None."""


def _requirement_text(requirement: _Requirement) -> str:
    values = f" ({', '.join(requirement.values)})" if requirement.values else ""
    return f"{requirement.key} {requirement.operator}{values}"


# -- parameters ------------------------------------------------------------------------------------------------------


def _parameters(kind: Mapping[str, Any], reference: _Parameters) -> _Undecided:
    """Which objects there are decides how often a policy is evaluated, and whether at all."""
    if reference.name is not None:
        which = f"named {reference.name}"
    else:
        which = f"with {' and '.join(map(_requirement_text, (reference.selector or _Selector()).requirements()))}"
        which = "of any label" if which == "with " else which
    where = reference.namespace or "the request's namespace, where it is a namespaced kind"
    missing = "refuses the request" if reference.parameter_not_found_action == "Deny" else "skips the policy"
    return _Undecided(
        "paramRef", f"evaluated once for each {kind.get('kind', 'object')} {which} in {where}; none there {missing}"
    )
