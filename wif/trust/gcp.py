"""Google's trust: a pool's provider admits a token and maps it to a principal, a service account's policy lets it act.

Sources: discovery document ``iam.v1`` (WorkloadIdentityPool, WorkloadIdentityPoolProvider, Policy) with its limits;
what ``sts.googleapis.com`` was seen to answer. A pool's signature, issuer and times are checked by the caller.
An expression that fails refuses; so does a binding whose own condition is not evaluated here.
"""

from __future__ import annotations

__all__ = [
    "PERMISSIONS",
    "FederatedPrincipal",
    "MappedAttributes",
    "MappingRefused",
    "Pool",
    "Provider",
    "ServiceAccount",
    "accepts_audience",
    "condition_holds",
    "map_attributes",
    "may_impersonate",
]

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn
from urllib.parse import urlsplit

from wif.core.documents import parse_json, private_members
from wif.errors import ConfigurationError, RefusedError
from wif.trust import cel
from wif.trust.decision import Decision

_HOST = "//iam.googleapis.com/"

_POOL_NAME = re.compile(
    r"projects/(?P<project>[0-9]{1,19})/locations/global/workloadIdentityPools/(?P<pool>[a-z0-9-]{4,32})"
)
_PROVIDER_ID = re.compile(r"[a-z0-9-]{4,32}")
_CUSTOM_ATTRIBUTE = re.compile(r"attribute\.[a-z0-9_]{1,100}")
_PRINCIPAL = re.compile(
    r"principal(?P<set>Set)?://iam\.googleapis\.com/projects/(?P<project>[^/]+)/locations/global"
    r"/workloadIdentityPools/(?P<pool>[^/]+)/(?P<rest>.+)"
)

_MAX_AUDIENCES = 10
_MAX_AUDIENCE_CHARACTERS = 256
_MAX_CUSTOM_ATTRIBUTES = 50
_MAX_MAPPING_CHARACTERS = 2048
_MAX_CONDITION_CHARACTERS = 4096
_MAX_SUBJECT_BYTES = 127
_MAX_MAPPED_BYTES = 8 * 1024

GET_ACCESS_TOKEN = "iam.serviceAccounts.getAccessToken"
GET_OPEN_ID_TOKEN = "iam.serviceAccounts.getOpenIdToken"
IMPLICIT_DELEGATION = "iam.serviceAccounts.implicitDelegation"
SIGN_BLOB = "iam.serviceAccounts.signBlob"
SIGN_JWT = "iam.serviceAccounts.signJwt"

PERMISSIONS: Mapping[str, frozenset[str]] = {
    "roles/iam.workloadIdentityUser": frozenset({GET_ACCESS_TOKEN, GET_OPEN_ID_TOKEN}),
    "roles/iam.serviceAccountTokenCreator": frozenset(
        {GET_ACCESS_TOKEN, GET_OPEN_ID_TOKEN, IMPLICIT_DELEGATION, SIGN_BLOB, SIGN_JWT}
    ),
    "roles/iam.serviceAccountOpenIdTokenCreator": frozenset({GET_OPEN_ID_TOKEN}),
}
"""The roles that let somebody act as a service account, with the permissions that count here."""

_OTHER_ROLES = frozenset({"roles/iam.serviceAccountUser", "roles/iam.serviceAccountViewer", "roles/viewer"})
"""Roles known to grant none of these permissions; any other role is said to be unknown."""


# -- who -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedAttributes:
    """What a provider's mapping made of a token."""

    subject: str
    groups: tuple[str, ...] | None = None
    """None where ``google.groups`` is not mapped."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """By name, without ``attribute.``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedPrincipal:
    """A token's identity in a pool: what IAM bindings, on service accounts or on resources, may name."""

    pool: str
    """``projects/NUMBER/locations/global/workloadIdentityPools/POOL``."""
    mapped: MappedAttributes

    @property
    def uri(self) -> str:
        """The one name of this very subject, as introspection and audit logs show it."""
        return f"principal:{_HOST}{self.pool}/subject/{self.mapped.subject}"

    @property
    def members(self) -> frozenset[str]:
        """Every member of an IAM policy that includes this principal."""
        root = f"principalSet:{_HOST}{self.pool}"
        return frozenset(
            {self.uri, f"{root}/*"}
            | {f"{root}/group/{group}" for group in self.mapped.groups or ()}
            | {f"{root}/attribute.{name}/{value}" for name, value in self.mapped.attributes.items()}
        )


class MappingRefused(RefusedError):
    """A mapping failed on this token.

    Args:
        attribute: the mapped attribute, e.g. ``google.subject``; empty for the size of all together.
        problem: ``error`` (the expression failed), ``type``, ``empty`` or ``size``.
    """

    def __init__(self, message: str, *, code: str = "subject-invalid", attribute: str = "", problem: str = "") -> None:
        super().__init__(message, code=code, cloud="gcp")
        self.attribute = attribute
        self.problem = problem


# -- pool and provider ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A workload identity pool."""

    name: str
    disabled: bool = False

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Pool:
        """Read iam.v1's ``WorkloadIdentityPool``.

        Raises:
            ConfigurationError: trust-invalid.
        """
        name = _text(document, "name", "workload identity pool")
        where = f"workload identity pool {name!r}"
        _known(
            document,
            where,
            {"name", "displayName", "description", "state", "disabled", "expireTime", "mode", "sessionDuration"},
        )
        _pool_name(name, where)
        if document.get("mode", "FEDERATION_ONLY") not in ("FEDERATION_ONLY", "MODE_UNSPECIFIED"):
            _invalid(f"the {where} has the mode {document['mode']!r}, expected FEDERATION_ONLY")
        return cls(name=name, disabled=_unusable(document, where))


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An OIDC provider of a pool. Its expressions are compiled at their first use and kept."""

    name: str
    """``projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER``."""
    issuer: str
    attribute_mapping: Mapping[str, str]
    attribute_condition: str = ""
    allowed_audiences: tuple[str, ...] = ()
    jwks: Mapping[str, Any] | None = field(default=None, repr=False)
    """The uploaded key set; None where the issuer is asked."""
    discovery_uri: str | None = None
    disabled: bool = False

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Provider:
        """Read iam.v1's ``WorkloadIdentityPoolProvider`` of the kind ``oidc``.

        Raises:
            ConfigurationError: trust-invalid.
        """
        name = _text(document, "name", "workload identity provider")
        where = f"workload identity provider {name!r}"
        plain = {"name", "displayName", "description", "state", "disabled", "expireTime"}
        _known(document, where, plain | {"attributeMapping", "attributeCondition", "oidc"})
        pool, separator, provider_id = name.rpartition("/providers/")
        if not separator or _PROVIDER_ID.fullmatch(provider_id) is None:
            _invalid(f"the {where} has a name that does not end in /providers/PROVIDER")
        _pool_name(pool, where)
        oidc = document.get("oidc")
        if not isinstance(oidc, dict):
            _invalid(f"the {where} has no object 'oidc'; other kinds are not known here")
        _known(oidc, where, {"issuerUri", "allowedAudiences", "jwksJson", "discoveryUri"})
        condition = _optional(document, "attributeCondition", where)
        if len(condition) > _MAX_CONDITION_CHARACTERS:
            _invalid(f"the {where} has a condition of {len(condition)} characters, at most {_MAX_CONDITION_CHARACTERS}")
        return cls(
            name=name,
            issuer=_text(oidc, "issuerUri", where),
            attribute_mapping=_mapping(document.get("attributeMapping"), where),
            attribute_condition=condition,
            allowed_audiences=_audiences(oidc, where),
            jwks=_uploaded_keys(_optional(oidc, "jwksJson", where), where),
            discovery_uri=_optional(oidc, "discoveryUri", where) or None,
            disabled=_unusable(document, where),
        )

    @property
    def pool(self) -> str:
        """The pool's name."""
        return self.name.rpartition("/providers/")[0]

    @property
    def audience(self) -> str:
        """The provider's full resource name: what a request to the STS names as its audience."""
        return _HOST + self.name

    @property
    def audiences(self) -> tuple[str, ...]:
        """The ``aud`` that a token may have. Where audiences are set, the default ones no longer count."""
        return self.allowed_audiences or (self.audience, f"https:{self.audience}")

    @property
    def real_cloud_refuses(self) -> tuple[str, ...]:
        """Why Google itself would not store this provider; empty where it would."""
        try:
            scheme = urlsplit(self.issuer).scheme
        except ValueError:
            scheme = ""
        problems = [] if scheme == "https" else [f"the issuer {self.issuer!r} is not https"]
        for jwk in (self.jwks or {}).get("keys", []):
            if jwk.get("kty") not in ("RSA", "EC") or jwk.get("crv", "P-256") != "P-256":
                problems.append(f"the uploaded key {jwk.get('kid')!r} is neither RSA nor EC P-256")
        return tuple(problems)

    def compile(self) -> None:
        """Compile every expression now, to find mistakes before a token comes.

        Raises:
            ConfigurationError: trust-invalid, extra-missing.
        """
        for expression in self.attribute_mapping.values():
            cel.compile_mapping(expression)
        if self.attribute_condition:
            cel.compile_condition(self.attribute_condition)


def accepts_audience(provider: Provider, audiences: Sequence[str]) -> Decision:
    """Whether a token for these audiences is meant for this provider.

    A token for several audiences is refused: how Google compares it is documented nowhere.
    """
    if len(audiences) == 1 and audiences[0] in provider.audiences:
        return Decision(True, "audience", "the provider accepts the token's audience")
    several = "; how several audiences are compared is not documented, ask for one" if len(audiences) > 1 else ""
    return Decision(
        False,
        "audience",
        f"the provider {provider.name} expects the audience {_list(provider.audiences)},"
        f" the token is for {_list(audiences)}{several}",
        "invalid_grant",
    )


def map_attributes(provider: Provider, claims: Mapping[str, Any]) -> MappedAttributes:
    """Map a verified token's claims by the provider's expressions.

    Raises:
        MappingRefused: an expression fails on these claims, yields another type, or too much.
        ConfigurationError: trust-invalid, extra-missing.
    """
    bindings = cel.bind(claims)
    subject = ""
    groups: tuple[str, ...] | None = None
    attributes: dict[str, str] = {}
    total = 0
    for name, expression in provider.attribute_mapping.items():
        program = cel.compile_mapping(expression)
        try:
            if name == "google.groups":
                groups = program.strings(bindings)
                total += sum(_size(group) for group in groups)
                continue
            value = program.string(bindings)
        except cel.CelError as error:
            problem = "type" if error.code == "subject-invalid" else "error"
            raise MappingRefused(
                f"the attribute {name} of {provider.name}: {error.message}", attribute=name, problem=problem
            ) from None
        total += _size(value)
        if name == "google.subject":
            subject = value
            _check_subject(provider, value)
        else:
            attributes[name.removeprefix("attribute.")] = value
    if total > _MAX_MAPPED_BYTES:
        raise MappingRefused(
            f"the mapped attributes of {provider.name} have {total} bytes, at most {_MAX_MAPPED_BYTES}", problem="size"
        )
    return MappedAttributes(subject=subject, groups=groups, attributes=MappingProxyType(attributes))


def _check_subject(provider: Provider, subject: str) -> None:
    name = "google.subject"
    if not subject:
        raise MappingRefused(f"the attribute {name} of {provider.name} is empty", attribute=name, problem="empty")
    if _size(subject) > _MAX_SUBJECT_BYTES:
        raise MappingRefused(
            f"the attribute {name} of {provider.name} has {_size(subject)} bytes, at most {_MAX_SUBJECT_BYTES}",
            attribute=name,
            problem="size",
        )


def condition_holds(provider: Provider, claims: Mapping[str, Any], mapped: MappedAttributes) -> Decision:
    """Whether the provider's condition is true for a token and what was mapped from it; an error is not.

    Raises:
        ConfigurationError: trust-invalid, extra-missing.
    """
    if not provider.attribute_condition:
        return Decision(True, "trust", "the provider has no condition")
    google: dict[str, Any] = {"subject": mapped.subject}
    if mapped.groups is not None:
        google["groups"] = list(mapped.groups)
    bindings = cel.bind(claims, {"google": google, "attribute": dict(mapped.attributes)})
    program = cel.compile_condition(provider.attribute_condition)
    try:
        holds = program.boolean(bindings)
    except cel.CelError as error:
        return Decision(False, "trust", f"the condition of {provider.name}: {error.message}", "unauthorized_client")
    if holds:
        return Decision(True, "trust", "the provider's condition is true")
    return Decision(
        False,
        "trust",
        f"the condition of {provider.name} is false: {provider.attribute_condition[:256]}",
        "unauthorized_client",
    )


# -- service accounts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One role for some members, under an optional IAM condition."""

    role: str
    members: frozenset[str]
    condition: str = ""
    """The condition's expression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A service account with the IAM policy on it."""

    email: str
    unique_id: str = ""
    project_id: str = ""
    disabled: bool = False
    bindings: tuple[Binding, ...] = ()

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> ServiceAccount:
        """Read iam.v1's ``ServiceAccount`` with the answer of its ``getIamPolicy`` as ``iamPolicy``.

        Raises:
            ConfigurationError: trust-invalid.
        """
        email = _text(document, "email", "service account")
        where = f"service account {email!r}"
        known = {"name", "projectId", "uniqueId", "email", "displayName", "description", "disabled", "iamPolicy"}
        _known(document, where, known | {"etag", "oauth2ClientId"})
        if re.fullmatch(r"[^@\s/?#:\"]+@[^@\s/?#:\"]+", email) is None:
            _invalid(f"the {where} has an email that is not an address")
        policy = document.get("iamPolicy", {})
        if not isinstance(policy, dict):
            _invalid(f"the {where} has an iamPolicy that is not an object")
        _known(policy, where, {"bindings", "version", "etag", "auditConfigs"})
        listed = policy.get("bindings", [])
        if not isinstance(listed, list):
            _invalid(f"the {where} has bindings that are not a list")
        return cls(
            email=email,
            unique_id=_optional(document, "uniqueId", where),
            project_id=_optional(document, "projectId", where),
            disabled=_flag(document, "disabled", where),
            bindings=tuple(_binding(item, where) for item in listed),
        )

    @property
    def member(self) -> str:
        """What another service account's policy calls this one, for delegation."""
        return f"serviceAccount:{self.email}"


def may_impersonate(
    service_account: ServiceAccount, principal: FederatedPrincipal | ServiceAccount, permission: str = GET_ACCESS_TOKEN
) -> Decision:
    """Whether the policy on a service account gives a principal a permission.

    Args:
        principal: a pool's principal, or a service account in a chain of delegation.
        permission: one of those in :data:`PERMISSIONS`.
    """
    where = f"the service account {service_account.email}"
    if service_account.disabled:
        return Decision(False, "permission", f"{where} is disabled", "PERMISSION_DENIED")
    names = principal.members if isinstance(principal, FederatedPrincipal) else frozenset({principal.member})
    shown = principal.uri if isinstance(principal, FederatedPrincipal) else principal.member
    notes: list[str] = []
    for binding in service_account.bindings:
        if names.isdisjoint(binding.members):
            if not binding.members.isdisjoint(("allUsers", "allAuthenticatedUsers")):
                notes.append(f"{binding.role} is bound to everybody, which does not reach federated principals here")
        elif binding.role not in PERMISSIONS:
            if binding.role not in _OTHER_ROLES:
                notes.append(f"{binding.role} is bound to it, but what that role grants is not known here")
        elif permission not in PERMISSIONS[binding.role]:
            notes.append(f"{binding.role} is bound to it, but does not grant that")
        elif binding.condition:
            notes.append(f"{binding.role} is bound to it under a condition, which is not evaluated here")
        else:
            return Decision(True, "permission", f"{where} grants {binding.role} to {shown}")
    said = f" ({'; '.join(notes)})" if notes else ""
    return Decision(False, "permission", f"{where} does not grant {permission} to {shown}{said}", "PERMISSION_DENIED")


# -- reading -------------------------------------------------------------------------------------------------------


def _binding(document: object, where: str) -> Binding:
    if not isinstance(document, dict):
        _invalid(f"the {where} has a binding that is not an object")
    _known(document, where, {"role", "members", "condition", "bindingId"})
    members = document.get("members", [])
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        _invalid(f"the {where} has a binding whose members are not a list of strings")
    for member in members:
        _check_member(member, where)
    condition = document.get("condition")
    if condition is not None and not isinstance(condition, dict):
        _invalid(f"the {where} has a binding whose condition is not an object")
    return Binding(
        role=_text(document, "role", where),
        members=frozenset(members),
        condition="" if condition is None else _text(condition, "expression", where),
    )


def _check_member(member: str, where: str) -> None:
    kind, colon, _ = member.partition(":")
    if member in ("allUsers", "allAuthenticatedUsers"):
        return
    if kind in ("principal", "principalSet"):
        parts = _PRINCIPAL.fullmatch(member)
        if parts is None:
            if member.startswith((f"{kind}:{_HOST}projects/", f"{kind}:{_HOST}locations/")) and (
                "/workloadIdentityPools/" not in member
            ):
                return  # another kind of principal, e.g. of a workforce pool: valid, and never one of ours
            _invalid(f"the {where} has the member {member!r}, which is not a principal of a pool")
        if not parts["project"].isdecimal():
            _invalid(
                f"the {where} has the member {member!r} with the project {parts['project']!r}",
                "principals name the project by its number, never by its id",
            )
        pattern = r"\*|group/.+|attribute\.[a-z0-9_]{1,100}/.+" if parts["set"] else r"subject/.+"
        if re.fullmatch(pattern, parts["rest"], re.DOTALL) is None:
            _invalid(
                f"the {where} has the member {member!r}, which names nobody",
                "write principal://…/subject/SUBJECT, or principalSet://… with group/GROUP, attribute.NAME/VALUE or *",
            )
    elif not colon or not kind.isalpha():
        _invalid(f"the {where} has the member {member!r}, which is not of the form kind:name")


def _pool_name(name: str, where: str) -> None:
    if _POOL_NAME.fullmatch(name) is None:
        _invalid(
            f"the {where} has a name that is not projects/NUMBER/locations/global/workloadIdentityPools/POOL",
            "name the project by its number, not its id; a pool or provider id has 4 to 32 of [a-z0-9-]",
        )


def _mapping(value: object, where: str) -> Mapping[str, str]:
    if not isinstance(value, dict) or "google.subject" not in value:
        _invalid(f"the {where} does not map google.subject")
    custom = 0
    for name, expression in value.items():
        if name not in ("google.subject", "google.groups"):
            custom += 1
            if _CUSTOM_ATTRIBUTE.fullmatch(name) is None:
                _invalid(f"the {where} maps {name!r}, expected google.subject, google.groups or attribute.NAME")
        if not isinstance(expression, str) or not 0 < len(expression) <= _MAX_MAPPING_CHARACTERS:
            _invalid(f"the {where} maps {name} by no expression of 1 to {_MAX_MAPPING_CHARACTERS} characters")
    if custom > _MAX_CUSTOM_ATTRIBUTES:
        _invalid(f"the {where} maps {custom} custom attributes, at most {_MAX_CUSTOM_ATTRIBUTES}")
    return MappingProxyType(dict(value))


def _audiences(oidc: Mapping[str, Any], where: str) -> tuple[str, ...]:
    values = oidc.get("allowedAudiences", [])
    if not isinstance(values, list) or len(values) > _MAX_AUDIENCES:
        _invalid(f"the {where} has allowedAudiences that are not a list of at most {_MAX_AUDIENCES}")
    for value in values:
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_AUDIENCE_CHARACTERS:
            _invalid(f"the {where} has an allowed audience that has not 1 to {_MAX_AUDIENCE_CHARACTERS} characters")
    return tuple(values)


def _uploaded_keys(text: str, where: str) -> Mapping[str, Any] | None:
    if not text:
        return None
    try:
        document = parse_json(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        _invalid(f"the {where} has a jwksJson that is not JSON: {error}")
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
        _invalid(f"the {where} has a jwksJson without keys")
    for key in keys:
        if private_members(key):
            _invalid(f"the {where} has a jwksJson with private members; upload public keys only")
    result: Mapping[str, Any] = document
    return result


def _unusable(document: Mapping[str, Any], where: str) -> bool:
    state = _optional(document, "state", where)
    if state not in ("", "STATE_UNSPECIFIED", "ACTIVE", "DELETED"):
        _invalid(f"the {where} has the state {state!r}, expected ACTIVE or DELETED")
    return _flag(document, "disabled", where) or state == "DELETED"


def _flag(document: Mapping[str, Any], name: str, where: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        _invalid(f"the {where} has {name} that is not true or false")
    return value


def _text(document: Mapping[str, Any], name: str, where: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        _invalid(f"the {where} has no usable {name}")
    return value


def _optional(document: Mapping[str, Any], name: str, where: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str):
        _invalid(f"the {where} has {name} that is not a string")
    return value


def _known(document: Mapping[str, Any], where: str, names: set[str]) -> None:
    unknown = sorted(set(document) - names)
    if unknown:
        _invalid(f"the {where} has the unknown member {unknown[0]!r}")


def _list(values: Iterable[str]) -> str:
    shown = [repr(value) for value in values]
    return " or ".join(shown) if shown else "nobody"


def _size(value: str) -> int:
    return len(value.encode("utf-8"))


def _invalid(what: str, hint: str | None = None) -> NoReturn:
    raise ConfigurationError(what, code="trust-invalid", hint=hint, cloud="gcp")
