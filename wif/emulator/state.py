"""The trust that the local STS evaluates: real trust documents, read from the files of one directory.

``aws.json``, ``gcp.json`` and ``azure.json`` hold what the clouds' own APIs answer (IAM JSON, ``iam.v1``, Microsoft
Graph); a file that is not there leaves that cloud without trust, so that it refuses everything::

    aws.json    {"OpenIDConnectProviders": [{"Arn", "Url", "ClientIDList", "ThumbprintList"}],
                 "Roles": [{"RoleName", "Arn", "Path", "RoleId", "MaxSessionDuration", "AssumeRolePolicyDocument"}],
                 "DisabledRegions": ["ap-east-1"]}
    gcp.json    {"workloadIdentityPools": [...], "providers": [...],
                 "serviceAccounts": [{"email", "uniqueId", "projectId", "iamPolicy": {"bindings": [...]}}],
                 "projects": [{"projectNumber", "projectId"}],
                 "serviceAccountsWithExtendedLifetime": ["email"]}
    azure.json  {"tenants": [{"tenantId", "domains": [...], "resources": ["https://..."],
                              "applications": [{"appId", "displayName", "managedIdentity", "objectId",
                                                "federatedIdentityCredentials": [...]}]}]}
"""

from __future__ import annotations

__all__ = ["AzureIdentity", "TrustStore"]

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from wif.core.discovery import KeySet, jwks_of
from wif.core.jws import parse_json
from wif.errors import ConfigurationError, WifError
from wif.trust.aws import OidcProvider, Role
from wif.trust.azure import Application, Tenant
from wif.trust.gcp import Pool, Provider, ServiceAccount

T = TypeVar("T")

MAX_FILE_BYTES = 16 * 1024 * 1024
_FILES = ("aws", "gcp", "azure")


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureIdentity:
    """An application of a tenant, and what Entra ID knows of it besides its trust."""

    application: Application
    object_id: str
    managed: bool
    """A user-assigned managed identity: its tokens live for 24 hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStore:
    """Everything that the three clouds trust, indexed as requests ask for it. Never changed; replaced as a whole."""

    aws_providers: Mapping[tuple[str, str], OidcProvider] = field(default_factory=dict)
    """By account id and issuer."""
    aws_roles: Mapping[str, Role] = field(default_factory=dict)
    """By ARN."""
    aws_disabled_regions: frozenset[str] = frozenset()
    gcp_pools: Mapping[str, Pool] = field(default_factory=dict)
    gcp_providers: Mapping[str, Provider] = field(default_factory=dict)
    """By full name, ``projects/NUMBER/…``."""
    gcp_keys: Mapping[str, KeySet] = field(default_factory=dict, repr=False)
    """The uploaded key sets, by the provider's name."""
    gcp_accounts: Mapping[str, ServiceAccount] = field(default_factory=dict)
    """By e-mail and by unique id."""
    gcp_projects: Mapping[str, str] = field(default_factory=dict)
    """Ids by number."""
    gcp_extended: frozenset[str] = frozenset()
    azure_tenants: Mapping[str, Tenant] = field(default_factory=dict)
    """By id and by domain."""
    azure_identities: Mapping[tuple[str, str], AzureIdentity] = field(default_factory=dict)
    """By tenant id and client id."""

    @classmethod
    def from_directory(cls, directory: Path | str) -> TrustStore:
        """Read the trust files of a directory.

        Raises:
            ConfigurationError: file-unusable, trust-invalid; also where there is none of the files.
        """
        folder = Path(directory)
        documents: dict[str, Any] = {}
        for name in _FILES:
            path = folder / f"{name}.json"
            try:
                with path.open("rb") as file:
                    body = file.read(MAX_FILE_BYTES + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code="file-unusable") from error
            if len(body) > MAX_FILE_BYTES:
                _invalid(f"{path} is larger than {MAX_FILE_BYTES} bytes")
            try:
                documents[name] = parse_json(body)
            except ValueError as error:
                _invalid(f"{path} is not JSON: {error}")
        if not documents:
            raise ConfigurationError(
                f"there is no trust file in {folder}",
                code="config-missing",
                hint="write aws.json, gcp.json or azure.json there; the docs of the local STS show their form",
            )
        return cls.from_mapping(documents)

    @classmethod
    def from_mapping(cls, documents: Mapping[str, Any]) -> TrustStore:
        """Read ``{"aws": …, "gcp": …, "azure": …}``, each the content of the file of that name.

        Raises:
            ConfigurationError: trust-invalid.
        """
        unknown = sorted(set(documents) - set(_FILES))
        if unknown:
            _invalid(f"the trust names {unknown[0]!r}, expected {', '.join(_FILES)}")
        fields: dict[str, Any] = {}
        for name, read in (("aws", _aws), ("gcp", _gcp), ("azure", _azure)):
            document = documents.get(name)
            if document is None:
                continue
            if not isinstance(document, Mapping):
                _invalid(f"the trust of {name} is not an object")
            fields |= read(document)
        return cls(**fields)

    @property
    def issuers(self) -> frozenset[str]:
        """Every issuer that some trust document names: the only ones whose documents are ever fetched."""
        return frozenset(
            [provider.issuer for provider in self.aws_providers.values()]
            + [provider.issuer for provider in self.gcp_providers.values()]
            + [
                credential.issuer
                for identity in self.azure_identities.values()
                for credential in identity.application.credentials
            ]
        )

    # -- GCP ------------------------------------------------------------------------------------------------

    def gcp_provider(self, name: str) -> Provider | None:
        """An enabled provider of an enabled pool."""
        provider = self.gcp_providers.get(name)
        if provider is None or provider.disabled or not self.gcp_pool_enabled(provider.pool):
            return None
        return provider

    def gcp_pool_enabled(self, name: str) -> bool:
        """Whether a pool is there and not disabled."""
        pool = self.gcp_pools.get(name)
        return pool is not None and not pool.disabled

    def gcp_uploaded_keys(self, provider_name: str) -> KeySet | None:
        """The key set uploaded to a provider, or None where its issuer is asked."""
        return self.gcp_keys.get(provider_name)

    def gcp_service_account(self, name: str) -> ServiceAccount | None:
        """A service account by its e-mail or unique id."""
        return self.gcp_accounts.get(name)

    def gcp_lifetime_extended(self, email: str) -> bool:
        """Whether the organisation's policy lets tokens of this account live for 12 hours."""
        return email in self.gcp_extended

    @staticmethod
    def gcp_unique_id(account: ServiceAccount) -> str:
        """The account's unique id; where the file names none, 21 digits that follow from its e-mail."""
        if account.unique_id:
            return account.unique_id
        return str(10**20 + int.from_bytes(hashlib.sha256(account.email.encode()).digest()[:8], "big"))

    def gcp_project(self, name: str) -> tuple[str, str] | None:
        """Number and id of a project, by either."""
        if name in self.gcp_projects:
            return name, self.gcp_projects[name]
        return next(((number, found) for number, found in self.gcp_projects.items() if found == name), None)

    # -- Azure ----------------------------------------------------------------------------------------------

    def azure_tenant(self, name: str) -> Tenant | None:
        """A tenant by its id or a verified domain, in any case of letters."""
        return self.azure_tenants.get(name.lower())

    def azure_identity(self, tenant_id: str, client_id: str) -> AzureIdentity | None:
        """An application of a tenant by its client id, in any case of letters."""
        return self.azure_identities.get((tenant_id, client_id.lower()))

    def azure_has_application(self, client_id: str) -> bool:
        """Whether any tenant has this application."""
        return any(key[1] == client_id.lower() for key in self.azure_identities)


# -- reading -------------------------------------------------------------------------------------------------


def _aws(document: Mapping[str, Any]) -> dict[str, Any]:
    _known(document, "aws", {"OpenIDConnectProviders", "Roles", "DisabledRegions"})
    regions = document.get("DisabledRegions", [])
    if not isinstance(regions, list) or not all(isinstance(item, str) for item in regions):
        _invalid("DisabledRegions is not a list of names")
    providers = [OidcProvider.from_mapping(item) for item in _objects(document, "OpenIDConnectProviders", "aws")]
    roles = [Role.from_mapping(item) for item in _objects(document, "Roles", "aws")]
    return {
        "aws_providers": _index(providers, lambda item: (item.account_id, item.issuer), "OIDC providers"),
        "aws_roles": _index(roles, lambda item: item.arn, "roles"),
        "aws_disabled_regions": frozenset(regions),
    }


def _gcp(document: Mapping[str, Any]) -> dict[str, Any]:
    names = ("workloadIdentityPools", "providers", "serviceAccounts", "projects", "serviceAccountsWithExtendedLifetime")
    _known(document, "gcp", set(names))
    pools = _index(
        [Pool.from_mapping(item) for item in _objects(document, names[0], "gcp")], lambda item: item.name, "pools"
    )
    providers = _index(
        [Provider.from_mapping(item) for item in _objects(document, names[1], "gcp")],
        lambda item: item.name,
        "providers",
    )
    keys: dict[str, KeySet] = {}
    for provider in providers.values():
        if provider.pool not in pools:
            _invalid(f"the provider {provider.name!r} is in a pool that is not in workloadIdentityPools")
        _compile(provider)
        if provider.jwks is not None:
            try:
                keys[provider.name] = jwks_of(provider.jwks)
            except WifError as error:
                _invalid(f"the provider {provider.name!r}: {error.message}")
    listed = [ServiceAccount.from_mapping(item) for item in _objects(document, names[2], "gcp")]
    accounts = _index(listed, lambda item: item.email, "service accounts")
    accounts |= _index([item for item in listed if item.unique_id], lambda item: item.unique_id, "service accounts")
    projects: dict[str, str] = {}
    for item in _objects(document, names[3], "gcp"):
        _known(item, "projects", {"projectNumber", "projectId"})
        number, project_id = item.get("projectNumber"), item.get("projectId")
        if not isinstance(number, str) or not number.isdecimal() or not isinstance(project_id, str) or not project_id:
            _invalid("a project needs a projectNumber (digits, as a string) and a projectId")
        projects[number] = project_id
    extended = document.get(names[4], [])
    if not isinstance(extended, list) or not all(item in accounts for item in extended):
        _invalid(f"{names[4]} is not a list of e-mails of serviceAccounts")
    return {
        "gcp_pools": pools,
        "gcp_providers": providers,
        "gcp_keys": keys,
        "gcp_accounts": accounts,
        "gcp_projects": projects,
        "gcp_extended": frozenset(extended),
    }


def _compile(provider: Provider) -> None:
    """Find a mistake in an expression now; without the extra, the exchange says that it is missing."""
    try:
        provider.compile()
    except ConfigurationError as error:
        if error.code != "extra-missing":
            raise


def _azure(document: Mapping[str, Any]) -> dict[str, Any]:
    _known(document, "azure", {"tenants"})
    tenants: dict[str, Tenant] = {}
    identities: dict[tuple[str, str], AzureIdentity] = {}
    for item in _objects(document, "tenants", "azure"):
        tenant = Tenant.from_mapping(item)
        for name in (tenant.tenant_id, *tenant.domains):
            if name in tenants:
                _invalid(f"two tenants are called {name!r}")
            tenants[name] = tenant
        for application, raw in zip(tenant.applications, _objects(item, "applications", "tenant"), strict=True):
            managed = raw.get("managedIdentity", False)
            object_id = raw.get("objectId") or str(uuid.uuid5(uuid.UUID(tenant.tenant_id), application.app_id))
            if not isinstance(managed, bool) or not isinstance(object_id, str):
                _invalid(f"the application {application.app_id} has a managedIdentity or objectId of another type")
            identities[tenant.tenant_id, application.app_id] = AzureIdentity(
                application=application, object_id=object_id, managed=managed
            )
    return {"azure_tenants": tenants, "azure_identities": identities}


def _objects(document: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    values = document.get(name, [])
    if not isinstance(values, list) or not all(isinstance(item, Mapping) for item in values):
        _invalid(f"{name} of {where} is not a list of objects")
    return values


def _known(document: Mapping[str, Any], where: str, names: set[str]) -> None:
    unknown = sorted(set(document) - names)
    if unknown:
        _invalid(f"the trust of {where} has the unknown member {unknown[0]!r}, expected {', '.join(sorted(names))}")


K = TypeVar("K")


def _index(items: Iterable[T], key: Callable[[T], K], name: str) -> dict[K, T]:
    result: dict[K, T] = {}
    for item in items:
        if key(item) in result:
            _invalid(f"two {name} are called {key(item)!r}")
        result[key(item)] = item
    return result


def _invalid(what: str) -> NoReturn:
    raise ConfigurationError(what, code="trust-invalid")
