"""Entra ID's trust: which federated identity credential of an application accepts a token.

Sources: Microsoft's considerations for workload identity federation (one audience, exact and case-sensitive
comparison, at most 20 credentials, 600 characters); codes as answered by login.microsoftonline.com. The order in
which issuer, subject and audience are compared is not documented; this is the one that its answers fit.
"""

from __future__ import annotations

__all__ = ["MAX_CREDENTIALS", "Application", "FederatedIdentityCredential", "Tenant", "match"]

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from wif.errors import ConfigurationError
from wif.trust.decision import Decision

MAX_CREDENTIALS = 20
"""Federated identity credentials of one application or managed identity."""

_MAX_CHARACTERS = 600
"""Of issuer, subject, audience and description."""

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}")
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
        where = f"federated identity credential {_shown(document.get('name'))}"
        if document.get("claimsMatchingExpression") is not None:
            _invalid(
                f"the {where} has a claimsMatchingExpression",
                "Entra ID accepts flexible credentials only for GitHub, GitLab and Terraform Cloud, never for a"
                " Kubernetes issuer: write one credential with an exact subject for each ServiceAccount and cluster",
            )
        _known(document, where, {"id", "name", "issuer", "subject", "audiences", "description"})
        name = _text(document, "name", where)
        if _NAME.fullmatch(name) is None:
            _invalid(f"the {where} has a name that is not 3 to 120 letters, digits, '-' or '_'")
        audiences = document.get("audiences")
        if not isinstance(audiences, list) or len(audiences) != 1:
            _invalid(f"the {where} does not have exactly one audience")
        return cls(
            name=name,
            issuer=_text(document, "issuer", where),
            subject=_text(document, "subject", where),
            audience=_text({"audiences[0]": audiences[0]}, "audiences[0]", where),
            description=_text(document, "description", where, required=False),
        )

    @property
    def real_cloud_refuses(self) -> tuple[str, ...]:
        """Why Entra ID itself would not accept tokens by this credential (AADSTS70022); empty where it would."""
        return _issuer_problems(self.issuer)


def _issuer_problems(issuer: str) -> tuple[str, ...]:
    try:
        parts = urlsplit(issuer)
        host = parts.hostname or ""
    except ValueError:
        return (f"the issuer {issuer!r} is not a URL",)
    problems = []
    if parts.scheme != "https":
        problems.append(f"the issuer {issuer!r} is not https")
    if host in {"localhost", "::1"} or host.startswith("127."):
        problems.append(f"the issuer {issuer!r} is a loopback address")
    if parts.query or parts.fragment:
        problems.append(f"the issuer {issuer!r} has a query or fragment")
    if issuer != issuer.strip():
        problems.append(f"the issuer {issuer!r} has white space around it, so it equals no token's")
    return tuple(problems)


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
        where = f"application {_shown(document.get('appId'))}"
        app_id = _text(document, "appId", where)
        if _GUID.fullmatch(app_id) is None:
            _invalid(f"the {where} has an appId that is not a GUID")
        listed = _objects(document, "federatedIdentityCredentials", where)
        if len(listed) > MAX_CREDENTIALS:
            _invalid(f"the {where} has {len(listed)} federated identity credentials, at most {MAX_CREDENTIALS} exist")
        credentials = tuple(FederatedIdentityCredential.from_mapping(item) for item in listed)
        _unique((item.name for item in credentials), f"the {where} has two federated identity credentials named")
        _unique(
            (f"({item.issuer}, {item.subject})" for item in credentials),
            f"the {where} has two federated identity credentials for the same issuer and subject",
        )
        return cls(
            app_id=app_id.lower(),
            display_name=_text(document, "displayName", where, required=False),
            credentials=credentials,
        )


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
        where = f"tenant {_shown(document.get('tenantId'))}"
        _known(document, where, {"tenantId", "domains", "applications", "resources"})
        tenant_id = _text(document, "tenantId", where)
        if _GUID.fullmatch(tenant_id) is None or not tenant_id.strip("0-"):
            _invalid(f"the {where} has a tenantId that is not a GUID")
        domains = _texts(document, "domains", where)
        for domain in domains:
            if _DOMAIN.fullmatch(domain) is None:
                _invalid(f"the {where} has the domain {domain!r}, which is not a domain name")
        applications = tuple(Application.from_mapping(item) for item in _objects(document, "applications", where))
        _unique((item.app_id for item in applications), f"the {where} has two applications with the appId")
        return cls(
            tenant_id=tenant_id.lower(),
            domains=tuple(domain.lower() for domain in domains),
            applications=applications,
            resources=_texts(document, "resources", where),
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
        return Decision(
            False,
            "issuer",
            f"no federated identity credential of {app} has the issuer {issuer!r};"
            f" they have {_list(item.issuer for item in application.credentials)}",
            _ISSUER,
        )
    of_subject = [item for item in of_issuer if item.subject == subject]
    if not of_subject:
        folded = subject.casefold()
        by_case = any(item.subject.casefold() == folded for item in of_issuer)
        return Decision(
            False,
            "subject",
            f"no federated identity credential of {app} for this issuer has the subject {subject!r};"
            f" they have {_list(item.subject for item in of_issuer)}"
            + (", which differs only by case: the comparison is case-sensitive" if by_case else ""),
            _SUBJECT_CASE if by_case else _SUBJECT,
        )
    for item in of_subject:  # Entra ID keeps (issuer, subject) unique, so there is one
        if tuple(audiences) == (item.audience,):
            return Decision(True, "trust", f"federated identity credential {item.name!r} of {app} accepts the token")
    several = "; how several audiences are compared is not documented, ask for one" if len(audiences) > 1 else ""
    return Decision(
        False,
        "audience",
        f"the federated identity credential of {app} for this issuer and subject has the audience"
        f" {_list(item.audience for item in of_subject)}, the token is for {_list(audiences)}{several}",
        _AUDIENCE,
    )


# -- reading -----------------------------------------------------------------------------------------------------


def _list(values: Iterable[str]) -> str:
    shown = sorted({repr(value) for value in values})
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "") if shown else "nobody"


def _known(document: Mapping[str, Any], where: str, names: set[str]) -> None:
    unknown = sorted(name for name in document if name not in names and not name.startswith("@odata."))
    if unknown:
        _invalid(f"the {where} has the unknown member {unknown[0]!r}")


def _text(document: Mapping[str, Any], name: str, where: str, *, required: bool = True) -> str:
    value = document.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        _invalid(f"the {where} has no usable {name}")
    if len(value) > _MAX_CHARACTERS:
        _invalid(f"the {where} has a {name} of {len(value)} characters, at most {_MAX_CHARACTERS} exist")
    return value


def _texts(document: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    values = document.get(name, [])
    if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
        _invalid(f"the {where} has {name} that is not a list of strings")
    return tuple(values)


def _objects(document: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    values = document.get(name, [])
    if not isinstance(values, list) or not all(isinstance(item, dict) for item in values):
        _invalid(f"the {where} has {name} that is not a list of objects")
    return values


def _unique(values: Iterable[str], message: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            _invalid(f"{message} {value}")
        seen.add(value)


def _shown(value: object) -> str:
    return repr(value[:64]) if isinstance(value, str) else "without a name"


def _invalid(what: str, hint: str | None = None) -> NoReturn:
    raise ConfigurationError(what, code="trust-invalid", hint=hint, cloud="azure")
