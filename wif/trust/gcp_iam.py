"""Who a token is in a Google pool, and what the IAM policy on a service account gives to it.

Sources: discovery document ``iam.v1`` (ServiceAccount, Policy, Binding), Google's principal identifiers for
workload identity federation, and the permissions of the three roles that let somebody act as a service account.
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
    "ServiceAccount",
    "may_impersonate",
]

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wif.trust.decision import Decision
from wif.trust.reading import Document

_HOST = "//iam.googleapis.com/"

_PRINCIPAL = re.compile(
    r"principal(?P<set>Set)?://iam\.googleapis\.com/projects/(?P<project>[^/]+)/locations/global"
    r"/workloadIdentityPools/[^/]+/(?P<who>.+)",
    re.DOTALL,
)
_ONE = re.compile(r"subject/.+", re.DOTALL)
_MANY = re.compile(r"\*|group/.+|attribute\.[a-z0-9_]{1,100}/.+", re.DOTALL)
_OTHER_PRINCIPAL = re.compile(r"principal(Set)?://(?!iam\.googleapis\.com/projects/[^/]+/locations/global/workload).+")
"""Workforce pools, resource principals and the like: valid, and never one of ours."""
_MEMBER = re.compile(r"(deleted:)?[A-Za-z]+:.+", re.DOTALL)
_EVERYBODY = ("allUsers", "allAuthenticatedUsers")
_EMAIL = re.compile(r"[^@\s/?#:\"]+@[^@\s/?#:\"]+")

GET_ACCESS_TOKEN = "iam.serviceAccounts.getAccessToken"
GET_OPEN_ID_TOKEN = "iam.serviceAccounts.getOpenIdToken"
IMPLICIT_DELEGATION = "iam.serviceAccounts.implicitDelegation"
_SIGN_BLOB = "iam.serviceAccounts.signBlob"
_SIGN_JWT = "iam.serviceAccounts.signJwt"

PERMISSIONS: Mapping[str, frozenset[str]] = {
    "roles/iam.workloadIdentityUser": frozenset({GET_ACCESS_TOKEN, GET_OPEN_ID_TOKEN}),
    "roles/iam.serviceAccountTokenCreator": frozenset(
        {GET_ACCESS_TOKEN, GET_OPEN_ID_TOKEN, IMPLICIT_DELEGATION, _SIGN_BLOB, _SIGN_JWT}
    ),
    "roles/iam.serviceAccountOpenIdTokenCreator": frozenset({GET_OPEN_ID_TOKEN}),
    "roles/iam.serviceAccountUser": frozenset(),
    "roles/iam.serviceAccountViewer": frozenset(),
}
"""Roles with the permissions that count here; a role that is not listed is said to be unknown and grants nothing."""


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
        read = Document.named_by("gcp", "service account", document, "email")
        known = {"name", "projectId", "uniqueId", "email", "displayName", "description", "disabled", "iamPolicy"}
        read.known(known | {"etag", "oauth2ClientId"})
        email = read.text("email")
        if _EMAIL.fullmatch(email) is None:
            read.refuse("has an email that is not an address")
        policy = read.part(read.object("iamPolicy") or {})
        policy.known({"bindings", "version", "etag", "auditConfigs"})
        return cls(
            email=email,
            unique_id=read.optional("uniqueId"),
            project_id=read.optional("projectId"),
            disabled=read.flag("disabled"),
            bindings=tuple(_binding(read.part(item)) for item in policy.objects("bindings")),
        )

    @property
    def member(self) -> str:
        """What another service account's policy calls this one, for delegation."""
        return f"serviceAccount:{self.email}"


def _binding(read: Document) -> Binding:
    read.known({"role", "members", "condition", "bindingId"})
    members = read.texts("members")
    for member in members:
        _check_member(member, read)
    condition = read.object("condition")
    return Binding(
        role=read.text("role"),
        members=frozenset(members),
        condition="" if condition is None else read.part(condition).text("expression"),
    )


def _check_member(member: str, read: Document) -> None:
    """Refuse what can name nobody: such a binding would be a mistake that stays unseen."""
    if member in _EVERYBODY or _OTHER_PRINCIPAL.fullmatch(member):
        return
    if not member.startswith(("principal:", "principalSet:")):
        if _MEMBER.fullmatch(member) is None:
            read.refuse(f"has the member {member!r}, which is not of the form kind:name")
        return
    parts = _PRINCIPAL.fullmatch(member)
    if parts is None or (_MANY if parts["set"] else _ONE).fullmatch(parts["who"]) is None:
        read.refuse(
            f"has the member {member!r}, which names nobody of a pool",
            "write principal://…/workloadIdentityPools/POOL/subject/SUBJECT, or principalSet://… with group/GROUP,"
            " attribute.NAME/VALUE or *",
        )
    if not (parts["project"].isascii() and parts["project"].isdecimal()):
        read.refuse(
            f"has the member {member!r} with the project {parts['project']!r}",
            "principals name the project by its number, never by its id",
        )


def may_impersonate(
    service_account: ServiceAccount, principal: FederatedPrincipal | ServiceAccount, permission: str = GET_ACCESS_TOKEN
) -> Decision:
    """Whether the policy on a service account gives a principal a permission.

    A binding under an IAM condition grants nothing here, because the condition is not evaluated; the reason says so.

    Args:
        principal: a pool's principal, or a service account in a chain of delegation.
        permission: one of those in :data:`PERMISSIONS`.
    """
    where = f"the service account {service_account.email}"
    if service_account.disabled:
        return Decision(False, "permission", f"{where} is disabled", "PERMISSION_DENIED")
    if isinstance(principal, FederatedPrincipal):
        names, shown = principal.members, principal.uri
    else:
        names, shown = frozenset({principal.member}), principal.member
    notes: list[str] = []
    for binding in service_account.bindings:
        note = _why_not(binding, names, permission)
        if note is None:
            return Decision(True, "permission", f"{where} grants {binding.role} to {shown}")
        if note:
            notes.append(f"{binding.role} is bound to {note}")
    said = f" ({'; '.join(notes)})" if notes else ""
    return Decision(False, "permission", f"{where} does not grant {permission} to {shown}{said}", "PERMISSION_DENIED")


def _why_not(binding: Binding, names: frozenset[str], permission: str) -> str | None:
    """None where the binding grants; else a note for the reason, empty where it is about others."""
    if names.isdisjoint(binding.members):
        everybody = not binding.members.isdisjoint(_EVERYBODY)
        return "everybody, which is not taken to reach a federated principal" if everybody else ""
    if binding.role not in PERMISSIONS:
        return "it, but what that role grants is not known here"
    if permission not in PERMISSIONS[binding.role]:
        return "it, but does not grant that"
    return "it under a condition, which is not evaluated here" if binding.condition else None
