"""Google's trust: a pool's provider admits a token and maps it to a principal that IAM policies can name.

Sources: discovery document ``iam.v1`` (WorkloadIdentityPool, WorkloadIdentityPoolProvider) with its limits; what
``sts.googleapis.com`` was seen to answer. Signature, issuer and times of a token are checked by the caller.
An expression that fails refuses.
"""

from __future__ import annotations

__all__ = [
    "GET_ACCESS_TOKEN",
    "GET_OPEN_ID_TOKEN",
    "IMPLICIT_DELEGATION",
    "PERMISSIONS",
    "Binding",
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from wif.core.documents import parse_json, private_members
from wif.errors import RefusedError
from wif.trust import cel
from wif.trust.decision import Decision
from wif.trust.gcp_iam import (
    GET_ACCESS_TOKEN,
    GET_OPEN_ID_TOKEN,
    IMPLICIT_DELEGATION,
    PERMISSIONS,
    Binding,
    FederatedPrincipal,
    MappedAttributes,
    ServiceAccount,
    may_impersonate,
)
from wif.trust.reading import Document, listed

_POOL_NAME = re.compile(r"projects/[0-9]{1,19}/locations/global/workloadIdentityPools/(?P<id>[a-z0-9-]{1,32})")
_PROVIDER_ID = re.compile(r"[a-z0-9-]{1,32}")
_ID_AS_GOOGLE_WANTS = re.compile(r"(?!gcp-)[a-z0-9-]{4,32}")
_CUSTOM_ATTRIBUTE = re.compile(r"attribute\.[a-z0-9_]{1,100}")

_MAX_AUDIENCES = 10
_MAX_AUDIENCE_CHARACTERS = 256
_MAX_CUSTOM_ATTRIBUTES = 50
_MAX_MAPPING_CHARACTERS = 2048
_MAX_CONDITION_CHARACTERS = 4096
_MAX_DISCOVERY_URI_CHARACTERS = 2000
_MAX_SUBJECT_BYTES = 127
_MAX_MAPPED_BYTES = 8 * 1024

_STATES = ("", "STATE_UNSPECIFIED", "ACTIVE", "DELETED")

_MAPPING_CODES = {"type": "unauthorized_client", "size": "invalid_request"}
"""What Google answers; for an expression that fails no answer is known, invalid_grant is the closest."""


class MappingRefused(RefusedError):
    """A mapping failed on this token.

    Args:
        attribute: the mapped attribute, e.g. ``google.subject``; empty for the size of all together.
        problem: ``error`` (the expression failed), ``type``, ``empty`` or ``size``.
    """

    def __init__(self, message: str, *, code: str = "subject-invalid", attribute: str = "", problem: str = "") -> None:
        super().__init__(message, code=code, cloud="gcp", cloud_code=_MAPPING_CODES.get(problem, "invalid_grant"))
        self.attribute = attribute
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A workload identity pool."""

    name: str
    """``projects/NUMBER/locations/global/workloadIdentityPools/POOL``."""
    disabled: bool = False
    """Also true for a deleted one."""

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Pool:
        """Read iam.v1's ``WorkloadIdentityPool``.

        Raises:
            ConfigurationError: trust-invalid.
        """
        read = Document.named_by("gcp", "workload identity pool", document, "name")
        known = {"name", "displayName", "description", "state", "disabled", "expireTime", "mode", "sessionDuration"}
        read.known(known)
        name = read.text("name")
        _check_pool_name(name, read)
        if read.optional("mode") not in ("", "MODE_UNSPECIFIED", "FEDERATION_ONLY"):
            read.refuse(f"has the mode {document['mode']!r}, expected FEDERATION_ONLY")
        return cls(name=name, disabled=_is_off(read))


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
    """The uploaded key set, parsed; None where the issuer is asked."""
    discovery_uri: str | None = None
    disabled: bool = False
    """Also true for a deleted one."""

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Provider:
        """Read iam.v1's ``WorkloadIdentityPoolProvider`` of the kind ``oidc``.

        Raises:
            ConfigurationError: trust-invalid. Expressions are compiled later, or by :meth:`compile`.
        """
        read = Document.named_by("gcp", "workload identity provider", document, "name")
        known = {"name", "displayName", "description", "state", "disabled", "expireTime"}
        read.known(known | {"attributeMapping", "attributeCondition", "oidc"})
        name = read.text("name")
        pool, separator, provider_id = name.rpartition("/providers/")
        if not separator or _PROVIDER_ID.fullmatch(provider_id) is None:
            read.refuse("has a name that does not end in /providers/PROVIDER")
        _check_pool_name(pool, read)
        members = read.object("oidc")
        if members is None:
            read.refuse("has no oidc configuration; other kinds are not known here")
        oidc = read.part(members)
        oidc.known({"issuerUri", "allowedAudiences", "jwksJson", "discoveryUri"})
        issuer = oidc.text("issuerUri")
        return cls(
            name=name,
            issuer=issuer,
            attribute_mapping=_mapping(read),
            attribute_condition=read.optional("attributeCondition", at_most=_MAX_CONDITION_CHARACTERS),
            allowed_audiences=oidc.texts(
                "allowedAudiences", at_most=_MAX_AUDIENCES, characters=_MAX_AUDIENCE_CHARACTERS
            ),
            jwks=_uploaded_keys(oidc),
            discovery_uri=_discovery_uri(oidc, issuer),
            disabled=_is_off(read),
        )

    @property
    def pool(self) -> str:
        """The pool's name."""
        return self.name.rpartition("/providers/")[0]

    @property
    def audience(self) -> str:
        """The provider's full resource name: what a request to the STS names as its audience."""
        return f"//iam.googleapis.com/{self.name}"

    @property
    def audiences(self) -> tuple[str, ...]:
        """The ``aud`` that a token may have. Where audiences are set, the default ones no longer count."""
        return self.allowed_audiences or (self.audience, f"https:{self.audience}")

    @property
    def real_cloud_refuses(self) -> tuple[str, ...]:
        """Why Google itself would not store this provider; empty where it would."""
        problems = [] if self.issuer.startswith("https://") else [f"the issuer {self.issuer!r} is not https"]
        for name in (self.pool.rpartition("/")[2], self.name.rpartition("/")[2]):
            if _ID_AS_GOOGLE_WANTS.fullmatch(name) is None:
                problems.append(f"the id {name!r} is not 4 to 32 of [a-z0-9-], or begins with gcp-")
        for jwk in [] if self.jwks is None else self.jwks["keys"]:
            if jwk.get("kty") != "RSA" and (jwk.get("kty"), jwk.get("crv")) != ("EC", "P-256"):
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
        return Decision(True, "audience", f"the provider {provider.name} accepts the token's audience")
    several = "; how several audiences are compared is not documented, ask for one" if len(audiences) > 1 else ""
    return Decision(
        False,
        "audience",
        f"the provider {provider.name} expects the audience {listed(provider.audiences)},"
        f" the token is for {listed(audiences)}{several}",
        "invalid_grant",
    )


def map_attributes(provider: Provider, claims: Mapping[str, Any]) -> MappedAttributes:
    """Map a verified token's claims by the provider's expressions.

    Raises:
        MappingRefused: an expression fails on these claims, yields another type, or too much.
        ConfigurationError: trust-invalid, extra-missing.
    """
    bindings = cel.bind(claims)
    groups: tuple[str, ...] | None = None
    texts: dict[str, str] = {}
    for name, expression in provider.attribute_mapping.items():
        program = cel.compile_mapping(expression)
        try:
            if name == "google.groups":
                groups = program.strings(bindings)
            else:
                texts[name] = program.string(bindings)
        except cel.CelError as error:
            raise MappingRefused(
                f"the attribute {name} of {provider.name}: {error.message}",
                attribute=name,
                problem="type" if error.code == "subject-invalid" else "error",
            ) from None
    total = sum(_size(value) for value in (*texts.values(), *(groups or ())))
    subject = texts.pop("google.subject")
    if not subject:
        raise MappingRefused(
            f"the attribute google.subject of {provider.name} is empty", attribute="google.subject", problem="empty"
        )
    if _size(subject) > _MAX_SUBJECT_BYTES:
        raise MappingRefused(
            f"the attribute google.subject of {provider.name} has {_size(subject)} bytes, at most {_MAX_SUBJECT_BYTES}",
            attribute="google.subject",
            problem="size",
        )
    if total > _MAX_MAPPED_BYTES:
        raise MappingRefused(
            f"the mapped attributes of {provider.name} have {total} bytes, at most {_MAX_MAPPED_BYTES}", problem="size"
        )
    attributes = {name.removeprefix("attribute."): value for name, value in texts.items()}
    return MappedAttributes(subject=subject, groups=groups, attributes=MappingProxyType(attributes))


def condition_holds(provider: Provider, claims: Mapping[str, Any], mapped: MappedAttributes) -> Decision:
    """Whether the provider's condition is true for a token and what was mapped from it; an error is not.

    Raises:
        ConfigurationError: trust-invalid, extra-missing.
    """
    if not provider.attribute_condition:
        return Decision(True, "trust", f"the provider {provider.name} has no condition")
    google: dict[str, Any] = {"subject": mapped.subject}
    if mapped.groups is not None:
        google["groups"] = list(mapped.groups)
    bindings = cel.bind(claims, {"google": google, "attribute": dict(mapped.attributes)})
    program = cel.compile_condition(provider.attribute_condition)
    where = f"the condition of {provider.name}"
    try:
        holds = program.boolean(bindings)
    except cel.CelError as error:
        return Decision(False, "trust", f"{where}: {error.message}", "unauthorized_client")
    if not holds:
        return Decision(False, "trust", f"{where} is false: {program.source[:256]}", "unauthorized_client")
    return Decision(True, "trust", f"{where} is true")


def _size(value: str) -> int:
    return len(value.encode("utf-8"))


# -- reading -------------------------------------------------------------------------------------------------------


def _check_pool_name(name: str, read: Document) -> None:
    if _POOL_NAME.fullmatch(name) is None:
        read.refuse(
            "has a name that is not projects/NUMBER/locations/global/workloadIdentityPools/POOL",
            "name the project by its number, not its id",
        )


def _is_off(read: Document) -> bool:
    state = read.optional("state")
    if state not in _STATES:
        read.refuse(f"has the state {state!r}, expected ACTIVE or DELETED")
    return read.flag("disabled") or state == "DELETED"


def _mapping(read: Document) -> Mapping[str, str]:
    mapping = read.part(read.object("attributeMapping") or {})
    for name in mapping.members:
        if name not in ("google.subject", "google.groups") and _CUSTOM_ATTRIBUTE.fullmatch(name) is None:
            read.refuse(f"maps {name!r}, expected google.subject, google.groups or attribute.NAME")
    expressions = {name: mapping.text(name, at_most=_MAX_MAPPING_CHARACTERS) for name in mapping.members}
    if "google.subject" not in expressions:
        read.refuse("does not map google.subject")
    custom = len(expressions.keys() - {"google.subject", "google.groups"})
    if custom > _MAX_CUSTOM_ATTRIBUTES:
        read.refuse(f"maps {custom} custom attributes, at most {_MAX_CUSTOM_ATTRIBUTES} are allowed")
    return MappingProxyType(expressions)


def _uploaded_keys(oidc: Document) -> Mapping[str, Any] | None:
    text = oidc.optional("jwksJson")
    if not text:
        return None
    try:
        document = parse_json(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        oidc.refuse(f"has a jwksJson that is not JSON: {error}")
    if not isinstance(document, dict):
        oidc.refuse("has a jwksJson that is not a JSON object")
    keys = oidc.part(document).objects("keys")
    if not keys:
        oidc.refuse("has a jwksJson without keys")
    if any(private_members(key) for key in keys):
        oidc.refuse("has a jwksJson with private members", "treat that key as lost, and upload public keys only")
    return MappingProxyType(document)


def _discovery_uri(oidc: Document, issuer: str) -> str | None:
    uri = oidc.optional("discoveryUri", at_most=_MAX_DISCOVERY_URI_CHARACTERS)
    if not uri:
        return None
    try:
        same = urlsplit(uri)[:2] == urlsplit(issuer)[:2]
    except ValueError:
        same = False
    if not same:
        oidc.refuse(f"has the discoveryUri {uri!r}, expected one at the issuer's own scheme, host and port")
    return uri
