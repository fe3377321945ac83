"""A role's trust policy: read, checked against IAM's grammar, and evaluated for one request.

Sources: IAM user guide (policy grammar, principals, actions, evaluation logic). A policy that IAM would not store is
refused when it is read, and so is anything in it that is not known here. An explicit Deny wins; what no statement
allows is denied.
"""

from __future__ import annotations

__all__ = ["RequestContext", "TrustPolicy", "evaluate"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from wif.core.documents import parse_json
from wif.trust.aws_conditions import FAILS, HOLDS, UNDECIDED, Condition, Keys, compile_conditions, wildcard
from wif.trust.decision import Decision
from wif.trust.reading import Document, listed, strings

_VERSIONS = ("2008-10-17", "2012-10-17")
"""The first is the default; policy variables exist in the second only."""

_MAX_POLICY_CHARACTERS = 4096
"""The quota's highest value, white space not counted; 2048 unless raised."""

_LEGACY_PROVIDERS = frozenset(
    {"accounts.google.com", "www.amazon.com", "graph.facebook.com", "cognito-identity.amazonaws.com"}
)

_PRINCIPAL_KINDS: Mapping[str, re.Pattern[str]] = {
    "AWS": re.compile(
        r"\d{12}"
        r"|arn:aws[a-z-]*:iam::\d{12}:(root|(user|role)/[^\s*?]+)"
        r"|arn:aws[a-z-]*:sts::\d{12}:(assumed-role/[^\s*?/]+/[^\s*?]+|federated-user/[^\s*?]+)"
        r"|A[A-Z0-9]{15,127}"
    ),
    "CanonicalUser": re.compile(r"[0-9a-f]{64}"),
    "Federated": re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(oidc-provider|saml-provider)/[^\s*?]+"),
    "Service": re.compile(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|amazon\.com|internal)"),
}

_ROLE = re.compile(r"(?P<account>arn:aws[a-z-]*:iam::\d{12}:)role/(?:[^\s]+/)?(?P<name>[^/]+)")
_SESSION = re.compile(r"(?P<arn>arn:aws[a-z-]*):sts::(?P<account>\d{12}):assumed-role/(?P<role>[^/]+)/.+")
_ARN_OF_PRINCIPAL = re.compile(r"(?P<arn>arn:aws[a-z-]*):(?:iam|sts)::(?P<account>\d{12}):.+")
_ACTION = re.compile(r"\*|sts:[a-z*?]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """One request to assume a role.

    Args:
        action: e.g. ``sts:AssumeRoleWithWebIdentity``.
        federated: the ARN of the OIDC provider, for a token.
        principal_arn: the caller of a signed request: a session's, user's or role's ARN.
        keys: condition keys with their values; their names are compared without case.
    """

    action: str
    federated: str | None = None
    principal_arn: str | None = None
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# -- statements ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Principals:
    """A ``Principal`` or ``NotPrincipal`` element. Services and canonical users assume no role by a token."""

    everybody: bool = False
    federated: frozenset[str] = frozenset()
    aws: frozenset[str] = frozenset()
    negated: bool = False

    def include(self, context: RequestContext) -> bool:
        included = (
            self.everybody
            or (context.federated is not None and not self.federated.isdisjoint((context.federated, "*")))
            or (context.principal_arn is not None and not self.aws.isdisjoint(_names_of(context.principal_arn)))
        )
        return included is not self.negated


def _names_of(principal_arn: str) -> frozenset[str]:
    """Everything by which a policy may name a principal: itself, its role, its account."""
    names = {principal_arn, _without_path(principal_arn)}
    parts = _ARN_OF_PRINCIPAL.fullmatch(principal_arn)
    if parts is not None:
        names |= {parts["account"], f"{parts['arn']}:iam::{parts['account']}:root"}
    session = _SESSION.fullmatch(principal_arn)
    if session is not None:  # a session's ARN has lost its role's path; names are unique in an account all the same
        names.add(f"{session['arn']}:iam::{session['account']}:role/{session['role']}")
    return frozenset(names)


def _without_path(principal_arn: str) -> str:
    role = _ROLE.fullmatch(principal_arn)
    return principal_arn if role is None else f"{role['account']}role/{role['name']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Actions:
    """An ``Action`` or ``NotAction`` element."""

    patterns: tuple[re.Pattern[str], ...]
    negated: bool = False

    def include(self, action: str) -> bool:
        return any(pattern.fullmatch(action) for pattern in self.patterns) is not self.negated


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    name: str
    """For messages: the Sid, or the position."""
    allows: bool
    principals: _Principals
    actions: _Actions
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """A role's trust policy, checked and compiled."""

    version: str
    statements: tuple[_Statement, ...] = field(repr=False)

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> TrustPolicy:
        """Read an ``AssumeRolePolicyDocument``.

        Raises:
            ConfigurationError: trust-invalid, for what IAM calls MalformedPolicyDocument and for what is not known.
        """
        read = Document(cloud="aws", name="trust policy", members=document)
        read.known({"Version", "Id", "Statement"})
        read.optional("Id")
        version = read.optional("Version") or _VERSIONS[0]
        if version not in _VERSIONS:
            read.refuse(f"has the Version {version!r}, expected {' or '.join(_VERSIONS)}")
        if isinstance(document.get("Statement"), dict):
            read = read.part({"Statement": [document["Statement"]]})
        members = read.objects("Statement")
        if not members:
            read.refuse("has no Statement")
        read.unique((item["Sid"] for item in members if isinstance(item.get("Sid"), str)), "statements with the Sid")
        statements = tuple(_statement(item, n, version == _VERSIONS[1]) for n, item in enumerate(members, 1))
        return cls(version=version, statements=statements)

    @classmethod
    def from_json(cls, text: str) -> TrustPolicy:
        """Read the policy as text: JSON, or JSON in percent encoding as IAM's API answers it.

        Raises:
            ConfigurationError: trust-invalid.
        """
        read = Document(cloud="aws", name="trust policy", members={})
        text = text.strip()
        text = unquote(text) if text.startswith("%7B") else text
        characters = sum(not letter.isspace() for letter in text)
        if characters > _MAX_POLICY_CHARACTERS:
            read.refuse(f"has {characters} characters, at most {_MAX_POLICY_CHARACTERS} are allowed")
        try:
            document = parse_json(text.encode("utf-8", "surrogatepass"))
        except ValueError as error:
            read.refuse(f"is not JSON: {error}")
        if not isinstance(document, dict):
            read.refuse("is not a JSON object")
        return cls.from_mapping(document)


def _statement(members: Mapping[str, Any], position: int, has_variables: bool) -> _Statement:
    sid = members.get("Sid")
    name = f"statement {position}" + (f" ({sid!r})" if isinstance(sid, str) and sid else "") + " of the trust policy"
    read = Document(cloud="aws", name=name, members=members)
    read.known({"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Condition"})
    read.optional("Sid")
    effect = read.text("Effect")
    if effect not in ("Allow", "Deny"):
        read.refuse(f"has the Effect {effect!r}, expected Allow or Deny")
    return _Statement(
        name=name,
        allows=effect == "Allow",
        principals=_principals(read),
        actions=_actions(read),
        conditions=compile_conditions(read.object("Condition") or {}, has_variables=has_variables, read=read),
    )


def _one_of(read: Document, plain: str, negated: str) -> tuple[object, bool]:
    if (plain in read.members) == (negated in read.members):
        read.refuse(f"needs either {plain} or {negated}")
    return (read.members[negated], True) if negated in read.members else (read.members[plain], False)


def _principals(read: Document) -> _Principals:
    value, negated = _one_of(read, "Principal", "NotPrincipal")
    if value == "*":
        return _Principals(everybody=True, negated=negated)
    if not isinstance(value, dict) or not value:
        read.refuse("has a Principal that is neither '*' nor an object")
    names: dict[str, frozenset[str]] = {}
    for kind, one_or_more in value.items():
        form = _PRINCIPAL_KINDS.get(kind)
        if form is None:
            read.refuse(f"has the principal kind {kind!r}, expected {listed(sorted(_PRINCIPAL_KINDS))}")
        names[kind] = frozenset(strings(one_or_more))
        if not names[kind]:
            read.refuse(f"has a Principal {kind} that is neither a string nor a list of strings")
        for name in names[kind]:
            if name != "*" and form.fullmatch(name) is None and not (kind == "Federated" and name in _LEGACY_PROVIDERS):
                read.refuse(f"has the {kind} principal {name!r}, which is none; a wildcard stands only alone")
    aws = names.get("AWS", frozenset())
    return _Principals(
        everybody="*" in aws,  # the guide: the same as Principal "*"
        federated=names.get("Federated", frozenset()),
        aws=aws | {_without_path(name) for name in aws},
        negated=negated,
    )


def _actions(read: Document) -> _Actions:
    value, negated = _one_of(read, "Action", "NotAction")
    names = strings(value)
    if not names:
        read.refuse("has an Action that is neither a string nor a list of strings")
    for name in names:
        if _ACTION.fullmatch(name) is None:
            read.refuse(f"has the action {name!r}; a trust policy takes those of sts only")
    return _Actions(patterns=tuple(wildcard(name, ignore_case=True) for name in names), negated=negated)


# -- evaluation ----------------------------------------------------------------------------------------------------


def evaluate(policy: TrustPolicy, context: RequestContext) -> Decision:
    """Whether a trust policy lets a request in.

    The reason of a refusal names what the nearest statement lacks: its clause is issuer where no statement trusts
    this provider, audience or subject where only that key fails, else trust.
    """
    keys = {name.lower(): values for name, values in context.keys.items()}
    allowed_by: _Statement | None = None
    for statement in policy.statements:
        if not statement.principals.include(context) or not statement.actions.include(context.action):
            continue
        outcomes = {condition.evaluate(keys) for condition in statement.conditions}
        if statement.allows:
            if outcomes <= {HOLDS}:
                allowed_by = allowed_by or statement
        elif FAILS not in outcomes:  # what is undecided does not let a Deny be escaped
            doubt = ", though it is not documented how AWS decides this" if UNDECIDED in outcomes else ""
            return Decision(False, "trust", f"{statement.name} denies {context.action}{doubt}", "AccessDenied")
    if allowed_by is not None:
        return Decision(True, "trust", f"{allowed_by.name} allows {context.action}")
    clause, reason = _why_not(policy, context, keys)
    return Decision(False, clause, reason, "AccessDenied")


def _why_not(policy: TrustPolicy, context: RequestContext, keys: Keys) -> tuple[str, str]:
    """Clause and reason of a refusal that no Deny made."""
    who = context.federated or context.principal_arn or "this caller"
    allows = [statement for statement in policy.statements if statement.allows]
    trusting = [statement for statement in allows if statement.principals.include(context)]
    if not trusting:
        named = sorted({name for item in allows for name in item.principals.federated | item.principals.aws})
        clause = "issuer" if context.federated else "trust"
        return clause, f"no statement allows the principal {who}; the policy names {listed(named)}"
    acting = [statement for statement in trusting if statement.actions.include(context.action)]
    if not acting:
        return "trust", f"no statement allows {context.action} to {who}, though {trusting[0].name} allows it others"
    missing = [(item.name, [c for c in item.conditions if c.evaluate(keys) != HOLDS]) for item in acting]
    fewest = min(len(conditions) for _, conditions in missing)
    nearest = [(name, conditions) for name, conditions in missing if len(conditions) == fewest]
    clauses = {_clause_of(condition) for _, conditions in nearest for condition in conditions}
    reasons = [f"{name}: {_explain(conditions, keys)}" for name, conditions in nearest[:3]]
    more = f"; and {len(nearest) - 3} more" if len(nearest) > 3 else ""
    return clauses.pop() if len(clauses) == 1 else "trust", "; ".join(reasons) + more


_CLAUSES: Mapping[str, str] = {"sub": "subject", "aud": "audience", "oaud": "audience", "azp": "audience"}


def _clause_of(condition: Condition) -> str:
    return _CLAUSES.get(condition.key.rpartition(":")[2].lower(), "trust")


def _explain(conditions: Sequence[Condition], keys: Keys) -> str:
    return " and ".join(condition.explain(keys) for condition in conditions)
