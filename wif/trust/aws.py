"""AWS' trust: an account's OIDC provider knows an issuer, a role's trust policy lets its tokens in.

Sources: IAM user guide (policy grammar, principals, condition keys, session tags) and the IAM API model with its
limits. A policy that IAM would not store is refused when it is read, and so is anything in it that is not known
here. An explicit Deny wins; what no statement allows is denied.
"""

from __future__ import annotations

__all__ = [
    "ASSUME_ROLE",
    "ASSUME_ROLE_WITH_WEB_IDENTITY",
    "SET_SOURCE_IDENTITY",
    "TAG_SESSION",
    "OidcProvider",
    "RequestContext",
    "Role",
    "SessionTags",
    "TrustPolicy",
    "evaluate",
    "evaluate_web_identity",
    "session_tags",
    "web_identity_keys",
]

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn
from urllib.parse import unquote

from wif.core.documents import parse_json
from wif.errors import ConfigurationError, RefusedError
from wif.trust.aws_conditions import FAILS, HOLDS, UNDECIDED, Condition, Outcome, compile_conditions, wildcard
from wif.trust.decision import Decision

ASSUME_ROLE = "sts:AssumeRole"
ASSUME_ROLE_WITH_WEB_IDENTITY = "sts:AssumeRoleWithWebIdentity"
TAG_SESSION = "sts:TagSession"
SET_SOURCE_IDENTITY = "sts:SetSourceIdentity"

_VERSIONS = ("2008-10-17", "2012-10-17")
_WITH_VARIABLES = "2012-10-17"
_MAX_POLICY_CHARACTERS = 4096
"""The quota's highest value, white space not counted; 2048 unless raised."""

_MAX_URL_CHARACTERS = 255
_MAX_CLIENT_IDS = 100
_MAX_THUMBPRINTS = 5
_MAX_TAGS = 50
_MAX_TAG_KEY_CHARACTERS = 128
_MAX_TAG_VALUE_CHARACTERS = 256

_LEGACY_PROVIDERS = frozenset(
    {"accounts.google.com", "www.amazon.com", "graph.facebook.com", "cognito-identity.amazonaws.com"}
)
_FEDERATED = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(oidc-provider|saml-provider)/[^\s*?]+")
_PROVIDER_ARN = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):oidc-provider/(?P<url>[^\s*?]+)")
_ROLE_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role/(?P<path>([\x21-\x7e]+/)?)(?P<name>[\w+=,.@-]{1,64})"
)
_AWS_PRINCIPAL = re.compile(
    r"\d{12}"
    r"|arn:aws[a-z-]*:iam::\d{12}:(root|(user|role)/[^\s*?]+)"
    r"|arn:aws[a-z-]*:sts::\d{12}:(assumed-role/[^\s*?/]+/[^\s*?]+|federated-user/[^\s*?]+)"
    r"|A[A-Z0-9]{15,127}"
)
_SESSION_ARN = re.compile(r"arn:(?P<partition>aws[a-z-]*):sts::(?P<account>\d{12}):assumed-role/(?P<role>[^/]+)/.+")


# -- provider ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcProvider:
    """An IAM OIDC identity provider."""

    arn: str
    issuer: str
    """With its scheme: the ``iss`` of the tokens."""
    client_ids: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> OidcProvider:
        """Read the answer of IAM's GetOpenIDConnectProvider together with the ``Arn`` that was asked for.

        ``Url`` is taken with or without ``https://``; IAM answers without.

        Raises:
            ConfigurationError: trust-invalid.
        """
        arn = _text(document, "Arn", "OIDC provider")
        where = f"OIDC provider {arn!r}"
        _known(document, where, {"Arn", "Url", "ClientIDList", "ThumbprintList", "CreateDate", "Tags"})
        url = _text(document, "Url", where)
        issuer = url if "://" in url else f"https://{url}"
        parts = _PROVIDER_ARN.fullmatch(arn)
        if parts is None or parts["url"] != issuer.partition("://")[2]:
            _invalid(
                f"the {where} has the Url {url!r}",
                "the ARN is arn:aws:iam::ACCOUNT:oidc-provider/ and the issuer without its scheme",
            )
        if len(issuer) > _MAX_URL_CHARACTERS or "?" in issuer or "#" in issuer:
            _invalid(f"the {where} has a Url over {_MAX_URL_CHARACTERS} characters, or with a query or fragment")
        client_ids = _texts(document, "ClientIDList", where)
        if len(client_ids) > _MAX_CLIENT_IDS or any(len(item) > 255 for item in client_ids):
            _invalid(f"the {where} has more than {_MAX_CLIENT_IDS} client ids, or one over 255 characters")
        thumbprints = _texts(document, "ThumbprintList", where)
        if len(thumbprints) > _MAX_THUMBPRINTS or not all(re.fullmatch(r"[0-9A-Fa-f]{40}", x) for x in thumbprints):
            _invalid(f"the {where} has more than {_MAX_THUMBPRINTS} thumbprints, or one that is not 40 hex digits")
        return cls(arn=arn, issuer=issuer, client_ids=client_ids, thumbprints=thumbprints)

    @property
    def account_id(self) -> str:
        """The account that trusts the issuer; only its roles can."""
        return self.arn.split(":")[4]

    @property
    def key_prefix(self) -> str:
        """What the condition keys of this provider begin with: the issuer without its scheme."""
        return self.issuer.partition("://")[2]

    @property
    def real_cloud_refuses(self) -> tuple[str, ...]:
        """Why IAM itself would not store this provider; empty where it would."""
        return () if self.issuer.startswith("https://") else (f"the issuer {self.issuer!r} is not https",)

    def accepts_audience(self, claims: Mapping[str, Any]) -> Decision:
        """Whether a token is for one of the provider's client ids: ``azp`` counts where there is one, else ``aud``.

        A token for several audiences is refused: how AWS compares it is documented nowhere.
        """
        audiences = _strings(claims.get("azp")) or _strings(claims.get("aud"))
        if len(audiences) == 1 and audiences[0] in self.client_ids:
            return Decision(True, "audience", "the provider lists the token's audience")
        several = "; how several audiences are compared is not documented, ask for one" if len(audiences) > 1 else ""
        return Decision(
            False,
            "audience",
            f"the OIDC provider {self.arn} lists the client ids {_list(self.client_ids)},"
            f" the token is for {_list(audiences)}{several}",
            "InvalidIdentityToken",
        )


# -- role and policy -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Principals:
    """A ``Principal`` or ``NotPrincipal`` element."""

    everybody: bool = False
    federated: frozenset[str] = frozenset()
    aws: frozenset[str] = frozenset()
    negated: bool = False

    def include(self, context: RequestContext) -> bool:
        listed = (
            self.everybody
            or (context.federated is not None and not self.federated.isdisjoint((context.federated, "*")))
            or (context.principal_arn is not None and not self.aws.isdisjoint(_names_of(context.principal_arn)))
        )
        return listed is not self.negated


def _names_of(principal_arn: str) -> frozenset[str]:
    """Everything by which a policy may name a principal: itself, its role, its account."""
    names = {principal_arn}
    parts = principal_arn.split(":")
    if len(parts) >= 6:
        account = parts[4]
        names |= {account, f"{parts[0]}:{parts[1]}:iam::{account}:root"}
    session = _SESSION_ARN.fullmatch(principal_arn)
    if session is not None:  # a session's ARN has lost its role's path; names are unique in an account all the same
        names.add(f"arn:{session['partition']}:iam::{session['account']}:role/{session['role']}")
    return frozenset(names)


def _without_path(principal: str) -> str:
    role = _ROLE_ARN.fullmatch(principal)
    return principal if role is None else f"arn:{role['partition']}:iam::{role['account']}:role/{role['name']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Actions:
    """An ``Action`` or ``NotAction`` element."""

    patterns: tuple[re.Pattern[str], ...] = field(repr=False)
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

    statements: tuple[_Statement, ...] = field(repr=False)
    version: str = _VERSIONS[0]

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> TrustPolicy:
        """Read an ``AssumeRolePolicyDocument``.

        Raises:
            ConfigurationError: trust-invalid, for what IAM calls MalformedPolicyDocument and for what is not known.
        """
        where = "trust policy"
        _known(document, where, {"Version", "Id", "Statement"})
        version = document.get("Version", _VERSIONS[0])
        if version not in _VERSIONS:
            _invalid(f"the {where} has the Version {version!r}, expected one of {_VERSIONS}")
        if not isinstance(document.get("Id", ""), str):
            _invalid(f"the {where} has an Id that is not a string")
        listed = document.get("Statement")
        listed = [listed] if isinstance(listed, dict) else listed
        if not isinstance(listed, list) or not listed:
            _invalid(f"the {where} has no Statement")
        statements = tuple(_statement(item, n, version == _WITH_VARIABLES) for n, item in enumerate(listed, 1))
        sids = [item["Sid"] for item in listed if "Sid" in item]
        if len(set(sids)) != len(sids):
            _invalid(f"the {where} has two statements with one Sid")
        return cls(version=version, statements=statements)

    @classmethod
    def from_json(cls, text: str) -> TrustPolicy:
        """Read the policy as text: JSON, or JSON in percent encoding as IAM's API answers it.

        Raises:
            ConfigurationError: trust-invalid.
        """
        text = text.strip()
        text = unquote(text) if text.startswith(("%7B", "%7b")) else text
        if sum(not letter.isspace() for letter in text) > _MAX_POLICY_CHARACTERS:
            _invalid(f"the trust policy has more than {_MAX_POLICY_CHARACTERS} characters")
        try:
            document = parse_json(text.encode("utf-8", "surrogatepass"))
        except ValueError as error:
            _invalid(f"the trust policy is not JSON: {error}")
        if not isinstance(document, dict):
            _invalid("the trust policy is not a JSON object")
        return cls.from_mapping(document)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """An IAM role with its trust policy."""

    name: str
    arn: str
    role_id: str = ""
    max_session_seconds: int = 3600
    trust: TrustPolicy

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Role:
        """Read the ``Role`` of IAM's GetRole; the policy is an object, JSON, or percent-encoded JSON.

        Raises:
            ConfigurationError: trust-invalid.
        """
        arn = _text(document, "Arn", "role")
        where = f"role {arn!r}"
        known = {"RoleName", "Arn", "Path", "RoleId", "MaxSessionDuration", "AssumeRolePolicyDocument"}
        _known(document, where, known | {"CreateDate", "Description", "PermissionsBoundary", "Tags", "RoleLastUsed"})
        parts = _ROLE_ARN.fullmatch(arn)
        if parts is None:
            _invalid(f"the {where} has an Arn that is not arn:aws:iam::ACCOUNT:role/NAME")
        if document.get("RoleName", parts["name"]) != parts["name"]:
            _invalid(f"the {where} has the RoleName {document['RoleName']!r}, which its Arn does not end in")
        if document.get("Path", f"/{parts['path']}") != f"/{parts['path']}":
            _invalid(f"the {where} has the Path {document['Path']!r}, which its Arn does not have")
        seconds = document.get("MaxSessionDuration", 3600)
        if isinstance(seconds, bool) or not isinstance(seconds, int) or not 3600 <= seconds <= 43200:
            _invalid(f"the {where} has a MaxSessionDuration that is not 3600 to 43200 seconds")
        policy = document.get("AssumeRolePolicyDocument")
        try:
            if isinstance(policy, str):
                trust = TrustPolicy.from_json(policy)
            elif isinstance(policy, dict):
                trust = TrustPolicy.from_mapping(policy)
            else:
                _invalid("it has no AssumeRolePolicyDocument")
        except ConfigurationError as error:
            _invalid(f"the {where}: {error.message}")
        role_id = document.get("RoleId", "")
        if not isinstance(role_id, str):
            _invalid(f"the {where} has a RoleId that is not a string")
        return cls(name=parts["name"], arn=arn, role_id=role_id, max_session_seconds=seconds, trust=trust)

    @property
    def account_id(self) -> str:
        """The role's account."""
        return self.arn.split(":")[4]


# -- evaluation ----------------------------------------------------------------------------------------------------


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


def evaluate(policy: TrustPolicy, context: RequestContext) -> Decision:
    """Whether a trust policy lets a request in.

    The reason of a refusal names what the nearest statement lacks: its clause is issuer where no statement trusts
    this principal, audience or subject where only that key fails, else trust.
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
    return _refusal(policy, context, keys)


def _refusal(policy: TrustPolicy, context: RequestContext, keys: Mapping[str, tuple[str, ...]]) -> Decision:
    who = context.federated or context.principal_arn or "this caller"
    allows = [statement for statement in policy.statements if statement.allows]
    trusting = [statement for statement in allows if statement.principals.include(context)]
    if not trusting:
        named = sorted({name for item in allows for name in item.principals.federated | item.principals.aws})
        reason = f"no statement allows the principal {who}; the policy names {_list(named)}"
        return Decision(False, "issuer" if context.federated else "trust", reason, "AccessDenied")
    acting = [statement for statement in trusting if statement.actions.include(context.action)]
    if not acting:
        reason = f"no statement allows {context.action} to {who}, though {trusting[0].name} allows it another action"
        return Decision(False, "trust", reason, "AccessDenied")
    missing = {
        statement.name: [item for item in statement.conditions if item.evaluate(keys) != HOLDS] for statement in acting
    }
    fewest = min(len(conditions) for conditions in missing.values())
    nearest = {name: conditions for name, conditions in missing.items() if len(conditions) == fewest}
    clauses = {_clause_of(condition) for conditions in nearest.values() for condition in conditions}
    reasons = [f"{name}: {_explain(conditions, keys)}" for name, conditions in nearest.items()]
    more = f"; and {len(reasons) - 3} more statement(s)" if len(reasons) > 3 else ""
    clause = clauses.pop() if len(clauses) == 1 else "trust"
    return Decision(False, clause, "; ".join(reasons[:3]) + more, "AccessDenied")


_CLAUSES: Mapping[str, str] = {"sub": "subject", "aud": "audience", "oaud": "audience", "azp": "audience"}


def _clause_of(condition: Condition) -> str:
    return _CLAUSES.get(condition.key.rpartition(":")[2].lower(), "trust")


def _explain(conditions: Sequence[Condition], keys: Mapping[str, tuple[str, ...]]) -> str:
    def one(condition: Condition) -> str:
        outcome: Outcome = condition.evaluate(keys)
        doubt = " (not documented how AWS decides this)" if outcome == UNDECIDED else ""
        return condition.explain(keys) + doubt

    return " and ".join(one(condition) for condition in conditions)


# -- tokens --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTags:
    """Session tags and source identity that a token's claims ask for."""

    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_keys: tuple[str, ...] = ()
    source_identity: str | None = None


_TAGS_CLAIM = "https://aws.amazon.com/tags"
_SOURCE_IDENTITY_CLAIM = "https://aws.amazon.com/source_identity"


def session_tags(claims: Mapping[str, Any]) -> SessionTags:
    """Read the claims ``https://aws.amazon.com/tags`` (nested or flattened) and ``…/source_identity``.

    Raises:
        RefusedError: claim-rejected.
    """
    nested = claims.get(_TAGS_CLAIM, {})
    if not isinstance(nested, dict):
        _rejected(_TAGS_CLAIM)
    listed = nested.get("principal_tags", {})
    if not isinstance(listed, dict):
        _rejected(f"{_TAGS_CLAIM}/principal_tags")
    prefix = f"{_TAGS_CLAIM}/principal_tags/"
    flattened = {name.removeprefix(prefix): value for name, value in claims.items() if name.startswith(prefix)}
    tags: dict[str, str] = {}
    for key, value in {**listed, **flattened}.items():
        values = _strings(value)
        fits = len(values) == 1 and len(values[0]) <= _MAX_TAG_VALUE_CHARACTERS
        if not fits or not 0 < len(key) <= _MAX_TAG_KEY_CHARACTERS:
            _rejected(f"{_TAGS_CLAIM}/principal_tags/{key[:64]}")
        tags[key] = values[0]
    if len(tags) > _MAX_TAGS:
        _rejected(f"{_TAGS_CLAIM}/principal_tags")
    asked = nested.get("transitive_tag_keys", claims.get(f"{_TAGS_CLAIM}/transitive_tag_keys", []))
    transitive = _strings(asked)
    if (asked and not transitive) or not set(transitive) <= set(tags):
        _rejected(f"{_TAGS_CLAIM}/transitive_tag_keys")
    source = claims.get(_SOURCE_IDENTITY_CLAIM)
    if source is not None and not (isinstance(source, str) and re.fullmatch(r"[\w+=,.@-]{2,64}", source, re.ASCII)):
        _rejected(_SOURCE_IDENTITY_CLAIM)
    return SessionTags(tags=MappingProxyType(tags), transitive_keys=transitive, source_identity=source)


def web_identity_keys(provider: OidcProvider, claims: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The condition keys that AWS makes of a generic issuer's token; nested claims make none.

    ``:aud`` is the token's ``azp`` where it has one, and ``:oaud`` its ``aud`` (documented for Google, seen elsewhere).
    """
    prefix = provider.key_prefix.lower()
    audiences, authorised = _strings(claims.get("aud")), _strings(claims.get("azp"))
    keys = {
        f"{prefix}:sub": _strings(claims.get("sub")),
        f"{prefix}:aud": authorised or audiences,
        f"{prefix}:oaud": audiences,
        f"{prefix}:azp": authorised,
        f"{prefix}:amr": _strings(claims.get("amr")),
    }
    return {name: values for name, values in keys.items() if values}


def evaluate_web_identity(
    policy: TrustPolicy,
    provider: OidcProvider,
    claims: Mapping[str, Any],
    *,
    keys: Mapping[str, tuple[str, ...]] | None = None,
) -> Decision:
    """Whether a trust policy lets a verified token in, with the tags and source identity that it asks for.

    Args:
        keys: further condition keys of the request, e.g. ``sts:RoleSessionName`` or ``aws:SourceIp``.

    Raises:
        RefusedError: claim-rejected.
    """
    wanted = session_tags(claims)
    context_keys = {**(keys or {}), **web_identity_keys(provider, claims)}
    actions = [ASSUME_ROLE_WITH_WEB_IDENTITY]
    if wanted.tags:
        actions.append(TAG_SESSION)
        context_keys["aws:tagkeys"] = tuple(wanted.tags)
        context_keys |= {f"aws:requesttag/{key.lower()}": (value,) for key, value in wanted.tags.items()}
        if wanted.transitive_keys:
            context_keys["sts:transitivetagkeys"] = wanted.transitive_keys
    if wanted.source_identity is not None:
        actions.append(SET_SOURCE_IDENTITY)
        context_keys["sts:sourceidentity"] = (wanted.source_identity,)
    decision = Decision(False, "trust", "nothing was asked")
    for action in actions:
        decision = evaluate(policy, RequestContext(action=action, federated=provider.arn, keys=context_keys))
        if not decision:
            break
    return decision


# -- reading -------------------------------------------------------------------------------------------------------


def _statement(document: object, position: int, has_variables: bool) -> _Statement:
    if not isinstance(document, dict):
        _invalid(f"statement {position} of the trust policy is not an object")
    sid = document.get("Sid", "")
    if not isinstance(sid, str):
        _invalid(f"statement {position} of the trust policy has a Sid that is not a string")
    where = f"statement {position}" + (f" ({sid!r})" if sid else "") + " of the trust policy"
    known = {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Condition"}
    _known(document, where, known)
    effect = document.get("Effect")
    if effect not in ("Allow", "Deny"):
        _invalid(f"{where} has the Effect {effect!r}, expected Allow or Deny")
    return _Statement(
        name=where,
        allows=effect == "Allow",
        principals=_principals(*_one_of(document, "Principal", "NotPrincipal", where), where),
        actions=_actions(*_one_of(document, "Action", "NotAction", where), where),
        conditions=compile_conditions(document.get("Condition", {}), has_variables=has_variables, where=where),
    )


def _one_of(document: Mapping[str, Any], plain: str, negated: str, where: str) -> tuple[object, bool]:
    if (plain in document) == (negated in document):
        _invalid(f"{where} needs either {plain} or {negated}")
    return (document[negated], True) if negated in document else (document[plain], False)


def _principals(value: object, negated: bool, where: str) -> _Principals:
    if value == "*":
        return _Principals(everybody=True, negated=negated)
    if not isinstance(value, dict) or not value:
        _invalid(f"{where} has a Principal that is neither '*' nor an object")
    names: dict[str, frozenset[str]] = {}
    for kind, listed in value.items():
        rule = _PRINCIPAL_KINDS.get(kind)
        if rule is None:
            _invalid(f"{where} has the principal kind {kind!r}, expected one of {sorted(_PRINCIPAL_KINDS)}")
        names[kind] = frozenset(_one_or_more(listed, f"{where} with the principal kind {kind}"))
        for name in names[kind]:
            if name != "*" and rule.fullmatch(name) is None and not (kind == "Federated" and name in _LEGACY_PROVIDERS):
                _invalid(f"{where} has the {kind} principal {name!r}, which is not one; '*' stands only alone")
    aws = names.get("AWS", frozenset())
    return _Principals(
        everybody="*" in aws,  # the guide: the same as Principal "*"
        federated=names.get("Federated", frozenset()),
        aws=aws | {_without_path(name) for name in aws},
        negated=negated,
    )


_PRINCIPAL_KINDS: Mapping[str, re.Pattern[str]] = {
    "AWS": _AWS_PRINCIPAL,
    "CanonicalUser": re.compile(r"[0-9a-f]{64}"),
    "Federated": _FEDERATED,
    "Service": re.compile(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|amazon\.com|internal)"),
}


def _actions(value: object, negated: bool, where: str) -> _Actions:
    names = _one_or_more(value, f"{where} with its Action")
    for name in names:
        if re.fullmatch(r"\*|sts:[A-Za-z*?]+", name, re.IGNORECASE) is None:
            _invalid(f"{where} has the action {name!r}; a trust policy takes those of sts only")
    return _Actions(patterns=tuple(wildcard(name, ignore_case=True) for name in names), negated=negated)


def _one_or_more(value: object, where: str) -> tuple[str, ...]:
    values = _strings(value)
    if not values or not all(values):
        _invalid(f"{where} has no value, or one that is not a string")
    return values


def _strings(value: object) -> tuple[str, ...]:
    """A string or a list of strings as a tuple; empty for anything else."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return ()


def _texts(document: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = document.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        _invalid(f"the {where} has {name} that is not a list of strings")
    return tuple(value)


def _text(document: Mapping[str, Any], name: str, where: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        _invalid(f"the {where} has no usable {name}")
    return value


def _known(document: Mapping[str, Any], where: str, names: set[str]) -> None:
    unknown = sorted(set(document) - names)
    if unknown:
        _invalid(f"the {where} has the unknown member {unknown[0]!r}")


def _list(values: Iterable[str]) -> str:
    shown = [repr(value) for value in values]
    return " or ".join(shown[:5]) + (f" or {len(shown) - 5} more" if len(shown) > 5 else "") if shown else "nobody"


def _rejected(claim: str) -> NoReturn:
    raise RefusedError(f"the claim {claim} has a value that AWS rejects", code="claim-rejected", cloud="aws")


def _invalid(what: str, hint: str | None = None) -> NoReturn:
    raise ConfigurationError(what, code="trust-invalid", hint=hint, cloud="aws")
