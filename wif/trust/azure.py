"""Entra ID's trust: which federated identity credential of an application accepts a token.

Sources: Microsoft's considerations for workload identity federation (one audience, exact and case-sensitive
comparison, at most 20 credentials, 600 characters); codes as answered by login.microsoftonline.com. The order in
which issuer, subject and audience are compared is not documented; this is the one that its answers fit.
"""

from __future__ import annotations

__all__ = ["MAX_CREDENTIALS", "Application", "FederatedIdentityCredential", "Tenant", "match"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from wif.trust.decision import Decision
from wif.trust.reading import Document, listed

MAX_CREDENTIALS = 20
"""Federated identity credentials of one application or managed identity."""

_MAX_CHARACTERS = 600
"""Of issuer, subject, audience and description."""

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{1,62}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}")

_NO_CREDENTIAL = "AADSTS70025"
_ISSUER = "AADSTS700211"
_AUDIENCE = "AADSTS700212"
_SUBJECT = "AADSTS700213"
_SUBJECT_CASE = "AADSTS7002138"


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedIdentityCredential:
    """One (issuer, subject, audience) that an application accepts. All three are compared exactly."""

    name: str
    issuer: str
    subject: str
    audience: str
    description: str = ""

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> FederatedIdentityCredential:
        """Read Microsoft Graph's ``federatedIdentityCredential``.

        Raises:
            ConfigurationError: trust-invalid. Also for a flexible credential (``claimsMatchingExpression``):
                Entra ID takes those only for GitHub, GitLab and Terraform Cloud.
        """
        read = Document.named_by("azure", "federated identity credential", document, "name")
        if document.get("claimsMatchingExpression") is not None:
            read.refuse(
                "has a claimsMatchingExpression, which Entra ID does not accept for a Kubernetes issuer",
                "flexible credentials exist only for GitHub, GitLab and Terraform Cloud: write one credential with an"
                " exact subject for each ServiceAccount and cluster",
            )
        known = {"id", "name", "issuer", "subject", "audiences", "description", "claimsMatchingExpression"}
        read.known(known, prefix="@odata.")
        name = read.text("name")
        if _NAME.fullmatch(name) is None:
            read.refuse("has a name that is not 3 to 120 letters, digits, '-' or '_'")
        audiences = read.texts("audiences", characters=_MAX_CHARACTERS)
        if len(audiences) != 1:
            read.refuse(f"has {len(audiences)} audiences, expected exactly one")
        return cls(
            name=name,
            issuer=read.text("issuer", at_most=_MAX_CHARACTERS),
            subject=read.text("subject", at_most=_MAX_CHARACTERS),
            audience=audiences[0],
            description=read.optional("description", at_most=_MAX_CHARACTERS),
        )

    @property
    def real_cloud_refuses(self) -> tuple[str, ...]:
        """Why Entra ID itself would not accept tokens by this credential (AADSTS70022); empty where it would."""
        issuer = self.issuer
        try:
            parts = urlsplit(issuer)
            host = parts.hostname or ""
        except ValueError:
            return (f"the issuer {issuer!r} is not a URL",)
        problems = {
            f"the issuer {issuer!r} is not https": parts.scheme != "https",
            f"the issuer {issuer!r} is a loopback address": host in {"localhost", "::1"} or host.startswith("127."),
            f"the issuer {issuer!r} has a query or fragment": "?" in issuer or "#" in issuer,
            f"the issuer {issuer!r} has white space around it, so it equals no token's": issuer != issuer.strip(),
        }
        return tuple(problem for problem, is_one in problems.items() if is_one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application registration, or a user-assigned managed identity, by its client id."""

    app_id: str
    display_name: str = ""
    credentials: tuple[FederatedIdentityCredential, ...] = ()

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Application:
        """Read ``{appId, displayName, federatedIdentityCredentials}``; other members of Graph are left alone.

        Raises:
            ConfigurationError: trust-invalid.
        """
        read = Document.named_by("azure", "application", document, "appId")
        app_id = read.text("appId")
        if _GUID.fullmatch(app_id) is None:
            read.refuse("has an appId that is not a GUID")
        credentials = tuple(
            FederatedIdentityCredential.from_mapping(item)
            for item in read.objects("federatedIdentityCredentials", at_most=MAX_CREDENTIALS)
        )
        read.unique((item.name for item in credentials), "federated identity credentials named")
        read.unique(
            (f"{item.issuer} {item.subject}" for item in credentials),
            "federated identity credentials for the issuer and subject",
        )
        return cls(app_id=app_id.lower(), display_name=read.optional("displayName"), credentials=credentials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A directory: its names, its applications and the resources that tokens may be asked for."""

    tenant_id: str
    domains: tuple[str, ...] = ()
    applications: tuple[Application, ...] = ()
    resources: tuple[str, ...] = ()
    """Identifier URIs."""

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Tenant:
        """Read ``{tenantId, domains, applications, resources}``.

        Raises:
            ConfigurationError: trust-invalid.
        """
        read = Document.named_by("azure", "tenant", document, "tenantId")
        read.known({"tenantId", "domains", "applications", "resources"})
        tenant_id = read.text("tenantId")
        if _GUID.fullmatch(tenant_id) is None or not tenant_id.strip("0-"):
            read.refuse("has a tenantId that is not a GUID")
        domains = read.texts("domains")
        for domain in domains:
            if _DOMAIN.fullmatch(domain) is None:
                read.refuse(f"has the domain {domain!r}, which is not a domain name")
        applications = tuple(Application.from_mapping(item) for item in read.objects("applications"))
        read.unique((item.app_id for item in applications), "applications with the appId")
        return cls(
            tenant_id=tenant_id.lower(),
            domains=tuple(domain.lower() for domain in domains),
            applications=applications,
            resources=read.texts("resources"),
        )

    def answers_to(self, name: str) -> bool:
        """Whether a request's ``{tenant}`` is this one, by GUID or verified domain."""
        return name.lower() == self.tenant_id or name.lower() in self.domains

    def application(self, app_id: str) -> Application | None:
        """The application of a client id."""
        return next((item for item in self.applications if item.app_id == app_id.lower()), None)


def match(application: Application, issuer: str, subject: str, audiences: Sequence[str]) -> Decision:
    """Whether a verified token of this issuer, subject and audience may be this application.

    ``cloud_code`` of a refusal is the AADSTS number. A token for several audiences is refused: how Entra ID
    compares it is documented nowhere.
    """
    app = f"application {application.app_id}"
    if not application.credentials:
        return Decision(False, "trust", f"{app} has no federated identity credential", _NO_CREDENTIAL)
    of_issuer = [item for item in application.credentials if item.issuer == issuer]
    if not of_issuer:
        known = sorted({item.issuer for item in application.credentials})
        return Decision(
            False,
            "issuer",
            f"no federated identity credential of {app} has the issuer {issuer!r}; they have {listed(known)}",
            _ISSUER,
        )
    trusted = next((item for item in of_issuer if item.subject == subject), None)  # Entra ID keeps the pair unique
    if trusted is None:
        by_case = any(item.subject.casefold() == subject.casefold() for item in of_issuer)
        return Decision(
            False,
            "subject",
            f"no federated identity credential of {app} for this issuer has the subject {subject!r}; they have"
            f" {listed([item.subject for item in of_issuer])}"
            + (", and one differs only by case: the comparison is case-sensitive" if by_case else ""),
            _SUBJECT_CASE if by_case else _SUBJECT,
        )
    if tuple(audiences) == (trusted.audience,):
        return Decision(True, "trust", f"federated identity credential {trusted.name!r} of {app} accepts the token")
    several = "; how several audiences are compared is not documented, ask for one" if len(audiences) > 1 else ""
    return Decision(
        False,
        "audience",
        f"the federated identity credential {trusted.name!r} of {app} has the audience {trusted.audience!r},"
        f" the token is for {listed(audiences)}{several}",
        _AUDIENCE,
    )
