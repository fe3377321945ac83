"""The variables that lead unmodified SDKs to a local credential endpoint, and those that would lead them elsewhere.

Every SDK has an order of places where it looks; a local endpoint is one of the last. So what stands before it, e.g.
``AWS_WEB_IDENTITY_TOKEN_FILE``, must not be set: it would win, often with another identity.
"""

from __future__ import annotations

__all__ = [
    "LEADING_ELSEWHERE",
    "SECRET_VARIABLES",
    "AwsEndpoint",
    "AzureEndpoint",
    "EndpointVariables",
    "Endpoints",
    "Foreign",
    "GcpEndpoint",
    "endpoint_variables",
    "endpoints_of",
    "merged_no_proxy",
    "shown",
]

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.config.sidecar import Cloud, SidecarSettings

SECRET_VARIABLES = frozenset({"IDENTITY_HEADER"})
"""Variables whose value is a secret."""

_NO_PROXY = ("127.0.0.1", "localhost")
"""What Node's and Java's clients of the three clouds must find there once a proxy is set."""


class Foreign(NamedTuple):
    """A variable that leads a cloud's SDKs to other credentials than the endpoint's."""

    reason: str
    """What it would do: the end of a sentence that begins with its name."""
    harmless: frozenset[str] = frozenset()
    """Values, in lower case, that change nothing."""
    is_seen_in_file: bool = False
    """It names a file of many settings: only who can read that one knows whether it has credentials."""


LEADING_ELSEWHERE: Mapping[Cloud, Mapping[str, Foreign]] = MappingProxyType(
    {
        "aws": MappingProxyType(
            {
                "AWS_ACCESS_KEY_ID": Foreign("is looked for first by every SDK"),
                "AWS_SECRET_ACCESS_KEY": Foreign("belongs to AWS_ACCESS_KEY_ID"),
                "AWS_SESSION_TOKEN": Foreign("belongs to AWS_ACCESS_KEY_ID"),
                "AWS_CREDENTIAL_EXPIRATION": Foreign("belongs to AWS_ACCESS_KEY_ID"),
                "AWS_WEB_IDENTITY_TOKEN_FILE": Foreign("makes SDKs assume the role themselves"),
                "AWS_ROLE_ARN": Foreign("belongs to AWS_WEB_IDENTITY_TOKEN_FILE"),
                "AWS_ROLE_SESSION_NAME": Foreign("belongs to AWS_WEB_IDENTITY_TOKEN_FILE"),
                "AWS_PROFILE": Foreign("names a profile with credentials of its own"),
                "AWS_DEFAULT_PROFILE": Foreign("names a profile with credentials of its own"),
                "AWS_CONFIG_FILE": Foreign("names a file of profiles", is_seen_in_file=True),
                "AWS_SHARED_CREDENTIALS_FILE": Foreign("names a file of profiles", is_seen_in_file=True),
                "AWS_CREDENTIAL_FILE": Foreign("names a file of keys, which boto3 looks for first"),
                "BOTO_CONFIG": Foreign(
                    "names a file that may have keys, which boto3 looks for first", is_seen_in_file=True
                ),
                "AWS_BEARER_TOKEN_BEDROCK": Foreign("is a key of Bedrock, which goes before credentials there"),
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": Foreign("goes before AWS_CONTAINER_CREDENTIALS_FULL_URI"),
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": Foreign("stands for AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            }
        ),
        "gcp": MappingProxyType(
            {
                "GOOGLE_APPLICATION_CREDENTIALS": Foreign("names a credential file, which goes first"),
                "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": Foreign("names a credential file for gcloud"),
                "CLOUDSDK_AUTH_ACCESS_TOKEN": Foreign("is a token for gcloud"),
                "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": Foreign("names a token for gcloud"),
                "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": Foreign(
                    "may have gcloud ask without credentials", frozenset({"", "false"})
                ),
                "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT": Foreign("makes gcloud another service account"),
                "CLOUDSDK_ACTIVE_CONFIG_NAME": Foreign("names a configuration of gcloud, with an account of its own"),
                "CLOUDSDK_CORE_ACCOUNT": Foreign("names an account that is logged in to gcloud"),
                "GOOGLE_CREDENTIALS": Foreign("is looked for first by Terraform"),
                "GOOGLE_CLOUD_KEYFILE_JSON": Foreign("is looked for first by Terraform"),
                "GCLOUD_KEYFILE_JSON": Foreign("is looked for first by Terraform"),
                "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT": Foreign("makes Terraform another service account"),
                "GOOGLE_OAUTH_ACCESS_TOKEN": Foreign("is a token for Terraform"),
                "NO_GCE_CHECK": Foreign("keeps google-auth from the metadata server", frozenset({"", "false"})),
                "METADATA_SERVER_DETECTION": Foreign(
                    "may keep Node's library from the metadata server", frozenset({"", "assume-present"})
                ),
                "GCE_METADATA_MTLS_MODE": Foreign(
                    "may ask the metadata server for TLS", frozenset({"", "none", "default"})
                ),
            }
        ),
        "azure": MappingProxyType(
            {
                "AZURE_FEDERATED_TOKEN_FILE": Foreign("makes SDKs exchange the token themselves"),
                "AZURE_CLIENT_SECRET": Foreign("is looked for first by every SDK"),
                "AZURE_CLIENT_CERTIFICATE_PATH": Foreign("is looked for first by every SDK"),
                "AZURE_USERNAME": Foreign("is looked for first by every SDK"),
                "AZURE_PASSWORD": Foreign("is looked for first by every SDK"),
                "AZURE_TOKEN_CREDENTIALS": Foreign(
                    "may leave managed identities out", frozenset({"", "prod", "managedidentitycredential"})
                ),
                "IDENTITY_SERVER_THUMBPRINT": Foreign("makes SDKs take the endpoint for Service Fabric's"),
                "IMDS_ENDPOINT": Foreign("makes SDKs take the endpoint for Azure Arc's"),
                "MSI_ENDPOINT": Foreign("names another endpoint of managed identities"),
                "MSI_SECRET": Foreign("belongs to MSI_ENDPOINT"),
            }
        ),
    }
)
"""By cloud, every variable that must not be set beside its endpoint.

Sources: botocore's resolver of credentials ("Standardized credential providers"), google-auth's default, gcloud's
properties as variables, Terraform's provider of Google, azure-identity's DefaultAzureCredential and
ManagedIdentityCredential, and what their Go, Java and Node counterparts do likewise.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsEndpoint:
    """AWS' container credentials."""

    secret_file: str
    """Where programs read the Authorization header's value."""
    identity: str | None = None
    """Whose credentials; None is the default identity."""
    region: str | None = None
    """For the program's own calls; None leaves it alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpEndpoint:
    """Google's metadata server."""

    project: str | None = None
    """The project's id; None leaves it alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureEndpoint:
    """Managed identity, as App Service has it and as the instance metadata has it."""

    identity_header: str | None = field(default=None, repr=False)
    """The secret of App Service's endpoint; None: that one is not served."""
    imds: bool = False
    client_id: str | None = None
    """Which identity DefaultAzureCredential asks for; None leaves it alone."""
    tenant_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """What is served, and where."""

    url: str
    """``http://127.0.0.1:8787``, without a slash at the end."""
    aws: AwsEndpoint | None = None
    gcp: GcpEndpoint | None = None
    azure: AzureEndpoint | None = None

    @property
    def clouds(self) -> tuple[Cloud, ...]:
        """Those that are served."""
        served: tuple[tuple[Cloud, object], ...] = (("aws", self.aws), ("gcp", self.gcp), ("azure", self.azure))
        return tuple(cloud for cloud, endpoint in served if endpoint is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointVariables:
    """What a program's environment must be."""

    variables: Mapping[str, str] = field(repr=False)
    """To be set, whatever was there. :data:`SECRET_VARIABLES` says which are secrets."""
    absent: Mapping[str, str]
    """Those of the given environment that must go, and why; without those that only their file decides about."""

    def applied_to(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment with all of it done."""
        return {name: value for name, value in environ.items() if name not in self.absent} | dict(self.variables)


def endpoints_of(
    settings: SidecarSettings,
    *,
    url: str,
    identity_header: str | None,
    secret_file: str | None = None,
    region: str | None = None,
) -> Endpoints:
    """What a sidecar of these settings serves.

    Args:
        settings: which identities and interfaces.
        url: of its listener, ``http://127.0.0.1:8787``.
        identity_header: the secret of App Service's endpoint; None where that one is not served.
        secret_file: where the program sees the file of AWS' secret; default the settings'.
        region: the program's, where the default role has none of its own.
    """
    aws, gcp, azure = (settings.identities.get(settings.default_name(cloud) or "") for cloud in ("aws", "gcp", "azure"))
    client_id, tenant_id = getattr(azure, "client_id", None), getattr(azure, "tenant_id", None)
    app_service = identity_header if settings.serves_app_service else None
    return Endpoints(
        url=url.rstrip("/"),
        aws=AwsEndpoint(
            secret_file=secret_file or settings.secret_file,
            region=getattr(aws, "region", None) or region,
        )
        if settings.serves_aws_container
        else None,
        gcp=GcpEndpoint(project=getattr(gcp, "project", None)) if settings.gce_metadata else None,
        azure=AzureEndpoint(identity_header=app_service, imds=settings.imds, client_id=client_id, tenant_id=tenant_id)
        if app_service is not None or settings.imds
        else None,
    )


def endpoint_variables(endpoints: Endpoints, environ: Mapping[str, str]) -> EndpointVariables:
    """The variables that lead a program to these endpoints.

    Args:
        endpoints: what is served, and where.
        environ: what the program's environment has so far; it decides what must go and what is merged.

    Raises:
        ConfigurationError: config-invalid where the URL is none of plain http.
    """
    address = _address(endpoints.url)
    variables: dict[str, str] = {}
    if endpoints.aws is not None:
        variables |= _aws(endpoints.url, endpoints.aws)
    if endpoints.gcp is not None:
        variables |= _gcp(address, endpoints.gcp)
    if endpoints.azure is not None:
        variables |= _azure(endpoints.url, endpoints.azure)
    hosts = (*_NO_PROXY, "::1") if address.startswith("[") else _NO_PROXY
    no_proxy = merged_no_proxy(environ, hosts)
    variables |= {"NO_PROXY": no_proxy, "no_proxy": no_proxy}
    absent = {name: reason for name, reason in _absent(endpoints, environ).items() if name not in variables}
    return EndpointVariables(variables=MappingProxyType(variables), absent=MappingProxyType(absent))


def merged_no_proxy(environ: Mapping[str, str], hosts: tuple[str, ...] = _NO_PROXY) -> str:
    """One value for ``NO_PROXY`` and ``no_proxy``: what both had, and these hosts."""
    found: dict[str, None] = {}
    for text in (environ.get("no_proxy", ""), environ.get("NO_PROXY", "")):
        found |= dict.fromkeys(filter(None, (word.strip() for word in text.split(","))))
    return "*" if "*" in found else ",".join(found | dict.fromkeys(hosts))


def shown(variables: Mapping[str, str]) -> dict[str, str]:
    """The same variables for people: secrets are left out."""
    return {name: "(secret)" if name in SECRET_VARIABLES else value for name, value in variables.items()}


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.netloc or parts.path or parts.query:
        raise ConfigurationError(
            f"the endpoint {url[:128]!r} is not http://HOST:PORT",
            code="config-invalid",
            hint="SDKs ask local endpoints without TLS, and by an address alone",
        )
    return parts.netloc


def _aws(url: str, endpoint: AwsEndpoint) -> dict[str, str]:
    path = "/aws" if endpoint.identity is None else f"/aws/{quote(endpoint.identity, safe='')}"
    variables = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}{path}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": endpoint.secret_file,
    }
    if endpoint.region is not None:  # Java and Node read the one, boto3 the other
        variables |= {"AWS_REGION": endpoint.region, "AWS_DEFAULT_REGION": endpoint.region}
    return variables


def _gcp(address: str, endpoint: GcpEndpoint) -> dict[str, str]:
    # google-auth asks HOST but looks for it at IP; gcloud knows ROOT alone
    names = ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT")
    variables = dict.fromkeys(names, address)
    if endpoint.project is not None:
        variables["GOOGLE_CLOUD_PROJECT"] = endpoint.project
    return variables


def _azure(url: str, endpoint: AzureEndpoint) -> dict[str, str]:
    variables: dict[str, str] = {}
    if endpoint.identity_header is not None:
        variables |= {"IDENTITY_ENDPOINT": f"{url}/azure/token", "IDENTITY_HEADER": endpoint.identity_header}
    if endpoint.imds:
        variables["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = url
    for name, value in (("AZURE_CLIENT_ID", endpoint.client_id), ("AZURE_TENANT_ID", endpoint.tenant_id)):
        if value is not None:
            variables[name] = value
    # else DefaultAzureCredential takes a refusal for "not here", and goes on to whoever is logged in to az
    variables["AZURE_TOKEN_CREDENTIALS"] = "prod"
    return variables


def _absent(endpoints: Endpoints, environ: Mapping[str, str]) -> dict[str, str]:
    found = {
        name: foreign.reason
        for cloud in endpoints.clouds
        for name, foreign in LEADING_ELSEWHERE[cloud].items()
        if name in environ and not foreign.is_seen_in_file and environ[name].strip().lower() not in foreign.harmless
    }
    if endpoints.azure is not None and endpoints.azure.identity_header is None:
        # the instance metadata alone: App Service's variables would go before it
        found |= {
            name: "names another endpoint of managed identities"
            for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")
            if name in environ
        }
    return found
