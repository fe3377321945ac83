"""The identities that a sidecar keeps: one exchanger for each, found by name, client id or e-mail address."""

from __future__ import annotations

__all__ = ["AnyServed", "AwsServed", "AzureServed", "GcpServed", "Identities", "Served", "identity_problems"]

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload
from urllib.parse import urlsplit

from wif.clouds import azure
from wif.clouds.aws import WebIdentity
from wif.clouds.aws_regions import GLOBAL_ENDPOINT, sts_endpoint
from wif.clouds.gcp_names import ProviderName, token_url, validate_service_account
from wif.config.sidecar import AwsIdentity, AzureIdentity, Cloud, GcpIdentity, Identity, SidecarSettings
from wif.core.freshness import LIMITS, Limits
from wif.errors import ConfigurationError
from wif.exchange.aws import AwsExchanger
from wif.exchange.azure import AzureExchanger
from wif.exchange.clocks import SYSTEM, Clocks
from wif.exchange.exchanger import Sender
from wif.exchange.gcp import GcpExchanger
from wif.exchange.single_flight import Standing

S = TypeVar("S", AwsIdentity, GcpIdentity, AzureIdentity)
X = TypeVar("X", AwsExchanger, GcpExchanger, AzureExchanger)

ExchangeHook = Callable[[str, Mapping[str, Any]], None]
"""Gets the name of an identity and the audit record."""

_RESOURCE_MANAGERS: Mapping[str, str] = {
    "login.microsoftonline.us": "https://management.usgovcloudapi.net/.default",
    "login.chinacloudapi.cn": "https://management.chinacloudapi.cn/.default",
    "login.partner.microsoftonline.cn": "https://management.chinacloudapi.cn/.default",
}
"""Azure Resource Manager by the authority's host; elsewhere it is the public cloud's."""
_PUBLIC_RESOURCE_MANAGER = "https://management.azure.com/.default"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served(Generic[S, X]):
    """One identity: what the settings say, and what exchanges for it."""

    name: str
    settings: S
    exchanger: X
    scopes: tuple[str | None, ...] = (None,)
    """What is kept fresh, the main one first; None is the exchanger's own."""

    def standing(self, scope: str | None = None) -> Standing:
        """How a credential stands; starts nothing."""
        return self.exchanger.standing(scope or self.scopes[0])


AwsServed = Served[AwsIdentity, AwsExchanger]
GcpServed = Served[GcpIdentity, GcpExchanger]
AzureServed = Served[AzureIdentity, AzureExchanger]
AnyServed = AwsServed | GcpServed | AzureServed
AnyExchanger = AwsExchanger | GcpExchanger | AzureExchanger


class Identities:
    """All identities of one configuration.

    Args:
        settings: what to serve.
        environ: variables to read instead of the process' own, proxies and CA bundles included.
        limits, clocks: of every exchanger.
        transport: makes the sender of a cloud, asked once for each identity; None: the exchangers' own.

    Raises:
        ConfigurationError: one, with everything that is wrong. No request is made.
    """

    def __init__(
        self,
        settings: SidecarSettings,
        *,
        environ: Mapping[str, str] | None = None,
        limits: Limits = LIMITS,
        clocks: Clocks = SYSTEM,
        transport: Callable[[Cloud], Sender] | None = None,
    ) -> None:
        self._common: dict[str, Any] = {"environ": environ, "limits": limits, "clocks": clocks}
        self.clocks = clocks
        """Those of every exchanger."""
        self._transport = transport
        self._hooks: list[ExchangeHook] = []
        self._all: Mapping[str, AnyServed] = {}
        self._made_of: Mapping[str, _Recipe] = {}
        self.replace(settings)

    settings: SidecarSettings
    """What is served now."""
    aws: Mapping[str, AwsServed]
    """By name."""
    gcp: Mapping[str, GcpServed]
    """By name."""
    azure: Mapping[str, AzureServed]
    """By name."""

    def __iter__(self) -> Iterator[AnyServed]:
        """All of them, in the order of the settings."""
        return iter(self._all.values())

    def get(self, name: str) -> AnyServed | None:
        """An identity by its name."""
        return self._all.get(name)

    @overload
    def default(self, cloud: Literal["aws"]) -> AwsServed | None: ...
    @overload
    def default(self, cloud: Literal["gcp"]) -> GcpServed | None: ...
    @overload
    def default(self, cloud: Literal["azure"]) -> AzureServed | None: ...
    def default(self, cloud: Cloud) -> AnyServed | None:
        """Whom a request means that names nobody: the default named, or the cloud's only identity."""
        name = self.settings.default_name(cloud)
        return None if name is None else self._all.get(name)

    def by_client_id(self, client_id: str) -> AzureServed | None:
        """The Azure identity with this client id, without regard to case."""
        return self._by_client_id.get(client_id.lower())

    def by_email(self, email: str) -> GcpServed | None:
        """The GCP identity that acts as this service account, without regard to case."""
        return self._by_email.get(email.lower())

    def replace(self, settings: SidecarSettings) -> None:
        """Serve other settings: what has not changed keeps its exchanger and its credential.

        Raises:
            ConfigurationError: config-invalid; then everything stays as it was.
        """
        recipes = {name: _Recipe.of(settings, name) for name in settings.identities}
        before, made = self._all, self._served(recipes)
        self.settings = settings
        self._made_of, self._all = recipes, made
        self.aws = {name: each for name, each in made.items() if isinstance(each.exchanger, AwsExchanger)}
        self.gcp = {name: each for name, each in made.items() if isinstance(each.exchanger, GcpExchanger)}
        self.azure = {name: each for name, each in made.items() if isinstance(each.exchanger, AzureExchanger)}
        self._by_client_id = {each.exchanger.client_id.lower(): each for each in self.azure.values()}
        self._by_email = {
            each.exchanger.service_account.lower(): each for each in self.gcp.values() if each.exchanger.service_account
        }
        kept = {id(each.exchanger) for each in made.values()}
        for each in before.values():
            if id(each.exchanger) not in kept:
                each.exchanger.close()

    def listen(self, hook: ExchangeHook) -> None:
        """Register what is called after each exchange, also a failed one, on the exchange's own thread."""
        self._hooks.append(hook)

    def close(self) -> None:
        """Forget all credentials and end exchanges under way."""
        for each in self:
            each.exchanger.close()

    # -- inside ----------------------------------------------------------------------------------------

    def _served(self, recipes: Mapping[str, _Recipe]) -> Mapping[str, AnyServed]:
        made: dict[str, AnyServed] = {}
        wrong: list[ConfigurationError] = []
        for name, recipe in recipes.items():
            before = self._made_of.get(name)
            if before == recipe:
                made[name] = self._all[name]
                continue
            exchanger = self._all[name].exchanger if before is not None and before.same_exchanger(recipe) else None
            try:
                made[name] = self._one(name, recipe, exchanger)
            except ConfigurationError as error:
                message = f"identities.{name}: {error.message}"
                wrong.append(ConfigurationError(message, code=error.code, hint=error.hint))
        if wrong:
            raise ConfigurationError.of_all(wrong)
        return made

    def _one(self, name: str, recipe: _Recipe, exchanger: AnyExchanger | None) -> AnyServed:
        identity = recipe.identity
        common = self._common | {
            "source": identity.token_file or recipe.token_file,
            "audience": identity.audience,
            "allow_hosts": recipe.allow_hosts,
            "propagation_seconds": float(recipe.propagation_seconds),
            "transport": None if self._transport is None else self._transport(identity.cloud),
            "on_refresh": functools.partial(self._exchanged, name),
        }
        if isinstance(identity, AwsIdentity):
            aws = exchanger if isinstance(exchanger, AwsExchanger) else _aws(identity, common)
            return Served(name=name, settings=identity, exchanger=aws)
        if isinstance(identity, GcpIdentity):
            gcp = exchanger if isinstance(exchanger, GcpExchanger) else _gcp(identity, common)
            return Served(name=name, settings=identity, exchanger=gcp)
        entra = exchanger if isinstance(exchanger, AzureExchanger) else _azure(identity, common)
        main = identity.scopes or (_resource_manager(entra.authority),)
        return Served(
            name=name, settings=identity, exchanger=entra, scopes=tuple(dict.fromkeys((*main, *recipe.file_scopes)))
        )

    def _exchanged(self, name: str, record: Mapping[str, Any]) -> None:
        for hook in self._hooks:
            hook(name, record)


class _Recipe(NamedTuple):
    """Everything of the settings that decides one identity: equal ones need no new exchanger."""

    identity: Identity
    token_file: str | None
    allow_hosts: tuple[str, ...]
    propagation_seconds: int
    file_scopes: tuple[str, ...]

    @classmethod
    def of(cls, settings: SidecarSettings, name: str) -> _Recipe:
        """An identity's part of the settings."""
        return cls(
            identity=settings.identities[name],
            token_file=settings.token_file,
            allow_hosts=settings.allow_hosts,
            propagation_seconds=settings.propagation_seconds,
            file_scopes=tuple(
                file.scope for file in settings.files if file.identity == name and file.scope is not None
            ),
        )

    def same_exchanger(self, other: _Recipe) -> bool:
        """Whether both are served by one exchanger: only the files differ."""
        return self._replace(file_scopes=()) == other._replace(file_scopes=())


def _aws(identity: AwsIdentity, common: Mapping[str, Any]) -> AwsExchanger:
    return AwsExchanger(
        identity.role_arn,
        region=identity.region,
        session_name=identity.session_name,
        duration_seconds=identity.duration_seconds,
        **common,
    )


def _gcp(identity: GcpIdentity, common: Mapping[str, Any]) -> GcpExchanger:
    return GcpExchanger(
        identity.provider,
        identity.service_account,
        scopes=identity.scopes,
        project_id=identity.project,
        lifetime_seconds=identity.lifetime_seconds,
        region=identity.region,
        universe_domain=identity.universe_domain,
        **common,
    )


def _azure(identity: AzureIdentity, common: Mapping[str, Any]) -> AzureExchanger:
    return AzureExchanger(identity.tenant_id, identity.client_id, authority_host=identity.authority_host, **common)


def _resource_manager(authority: str) -> str:
    return _RESOURCE_MANAGERS.get((urlsplit(authority).hostname or "").lower(), _PUBLIC_RESOURCE_MANAGER)


def identity_problems(
    identity: Identity, token_file: str | None = None, *, environ: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """What the cloud's own rules say against an identity; ``check=`` of :func:`wif.config.sidecar.load_sidecar`.

    Args:
        token_file: the settings' own, for an identity that names none.
        environ: variables to read instead of the process' own.
    """
    variables = os.environ if environ is None else environ
    found = []
    for rule in _rules(identity, variables):
        try:
            rule()
        except ConfigurationError as error:
            found.append(f"{error.message}; {error.hint}")
    named = _TOKEN_FILES[identity.cloud]
    if not (identity.token_file or token_file or any(variables.get(name) for name in named)):
        found.append(f"no subject token: neither token_file nor {' nor '.join(named)} is set")
    return tuple(found)


_TOKEN_FILES: Mapping[Cloud, tuple[str, ...]] = {
    "aws": ("WIF_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    "gcp": ("WIF_TOKEN_FILE",),
    "azure": ("WIF_TOKEN_FILE", "AZURE_FEDERATED_TOKEN_FILE"),
}
"""The variables that the exchangers read."""


def _rules(identity: Identity, environ: Mapping[str, str]) -> Iterable[Callable[[], object]]:
    """Each rule by itself, so that all that are broken are told."""
    if isinstance(identity, AwsIdentity):
        region = identity.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None
        some_role = "arn:aws:iam::111122223333:role/some"
        yield lambda: WebIdentity(role_arn=identity.role_arn, endpoint=GLOBAL_ENDPOINT)
        yield lambda: WebIdentity(role_arn=some_role, session_name=identity.session_name, endpoint=GLOBAL_ENDPOINT)
        yield lambda: sts_endpoint(region)
    elif isinstance(identity, GcpIdentity):
        account = identity.service_account
        yield lambda: ProviderName.parse(identity.provider)
        yield lambda: account and validate_service_account(account)
        yield lambda: token_url(identity.region, universe_domain=identity.universe_domain)
    else:
        yield lambda: azure.validate_tenant_id(identity.tenant_id)
        yield lambda: azure.validate_client_id(identity.client_id)
        yield lambda: azure.authority_url(identity.authority_host or environ.get("AZURE_AUTHORITY_HOST"))
