"""The section ``webhook`` of ``wif.yaml``: how ``wif webhook`` injects. Flags and variables name the same settings.

Images, endpoints, audiences' defaults and paths come from here alone, never from a pod or a ServiceAccount. Read
strictly: an unknown member is an error.
"""

from __future__ import annotations

__all__ = [
    "COMPAT",
    "SIDECAR_VARIABLES",
    "AzureTokenEndpoint",
    "ContainerCredentials",
    "WebhookSettings",
    "load_webhook",
    "webhook_schema",
]

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from wif.errors import ConfigurationError

_Text = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^(?![\s\S]*[\x00-\x1f\x7f])")]
_Prefix = Annotated[str, Meta(max_length=200, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
_Seconds = Annotated[int, Meta(ge=600, le=2**32)]
"""The API server refuses tokens under ten minutes."""
_Path = Annotated[str, Meta(min_length=2, max_length=1024, pattern=r"^/[^\x00-\x1f\x7f:]*$")]
_Port = Annotated[int, Meta(ge=1024, le=65535)]
"""The sidecar has no right to bind to a lower one."""
_Variable = Annotated[str, Meta(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

DialectName = Literal["native", "pfn", "eks", "azure"]

SIDECAR_VARIABLES = frozenset({"IDENTITY_HEADER", "WIF_HOST_IP", "WIF_POD_IP"})
"""Of the sidecar's own container."""


class ContainerCredentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """EKS Pod Identity's variables, for an agent that answers at ``full_uri``."""

    identities: tuple[tuple[_Text, _Text], ...] = ()
    """Pairs of namespace and ServiceAccount; they win over a role's annotation."""
    full_uri: _Text = "http://169.254.170.23/v1/credentials"
    audience: _Text = "pods.eks.amazonaws.com"
    mount_path: _Path = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
    volume_name: _Text = "eks-pod-identity-token"
    token_path: _Text = "eks-pod-identity-token"


class AzureTokenEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Identity bindings: tokens are asked for at a proxy in the cluster, by pods that carry an annotation."""

    annotation_suffix: _Text
    """``azure.workload.identity/use-SUFFIX: "true"`` on a pod."""
    audience: _Text
    token_proxy: _Text | None = None
    sni_name: _Text | None = None
    ca_data: _Text | None = None
    ca_config_map: _Text | None = None
    ca_trust_bundle_signer: _Text | None = None
    ca_trust_bundle_labels: Mapping[str, Any] | None = None
    """A LabelSelector."""


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what is injected, but for the ServiceAccount, the pod and the platform's ConfigMap."""

    dialects: Annotated[tuple[DialectName, ...], Meta(min_length=1)] = ("native", "pfn", "eks", "azure")
    prefix: _Prefix = "wif.internal"
    gcp_prefix: _Prefix = "cloud.google.com"
    aws_prefix: _Prefix = "eks.amazonaws.com"
    azure_prefix: _Prefix = "azure.workload.identity"
    compat: DialectName | None = None
    """Which peer's defaults these settings began with; its known behaviour where a default cannot say it."""

    max_token_expiration: _Seconds = 86400
    """The ceiling where the ServiceAccount says none: a longer wish of a pod is cut, with a warning."""
    token_mode: Annotated[int, Meta(ge=0, le=0o777)] | None = None
    """``defaultMode`` of native and GCP volumes; None: 0440 where the pod has an fsGroup, else 0444. The mode
    ``sidecar`` always does the latter: its container is no member of another group, and only it mounts the volume."""
    deny_collisions: bool = False
    """Refuse a pod that collides with the injection; else it is warned about, and what collides is not injected."""
    cluster_domain: _Text = "cluster.local"

    aws_audience: _Text = "sts.amazonaws.com"
    aws_token_expiration: _Seconds = 3600
    aws_region: _Text | None = None
    aws_regional_sts: bool = True
    """``AWS_STS_REGIONAL_ENDPOINTS=regional``, for SDKs that still default to the global endpoint."""
    aws_token_mount_path: _Path = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
    aws_account_id: Annotated[str, Meta(pattern=r"^\d{12}$")] | None = None
    """A role without ``arn:`` in ``role-arn`` is a role of this account."""
    aws_partition: _Text = "aws"
    aws_container_credentials: ContainerCredentials = ContainerCredentials()

    gcp_audience: _Text = "sts.googleapis.com"
    gcp_token_expiration: _Seconds = 3600
    gcp_mode: Literal["direct", "gcloud"] = "direct"
    gcp_provider: _Text | None = None
    """For identities that name none."""
    gcp_region: _Text | None = None
    gcloud_image: _Text = "gcr.io/google.com/cloudsdktool/google-cloud-cli:stable"
    gcloud_resources: Mapping[str, Any] | None = None

    azure_audience: _Text = "api://AzureADTokenExchange"
    azure_token_expiration: _Seconds = 3600
    azure_tenant_id: _Text | None = None
    azure_authority_host: _Text = "https://login.microsoftonline.com/"
    azure_layout: Literal["v1.5", "v1.6", "hashed"] = "v1.6"
    """Where the token stands; ``AZURE_FEDERATED_TOKEN_FILE`` says it in all of them."""
    azure_token_endpoint: AzureTokenEndpoint | None = None

    sidecar_image: _Text | None = None
    """Has ``wif`` as its entry point. None: pods that ask for the mode ``sidecar`` are refused."""
    sidecar_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """As in a pod. None: the API server's default, by the image's tag."""
    sidecar_resources: Mapping[str, Any] | None = None
    """As in a pod. None: 10m of CPU and 64Mi of memory are requested, memory is limited to 128Mi."""
    sidecar_env: Mapping[_Variable, _Text] = {}
    """Further variables of the sidecar, such as ``HTTPS_PROXY``: those of the pod's own containers do not reach it."""
    sidecar_uid: Annotated[int, Meta(ge=1, le=65533)] | None = 64829
    """Its user and group; one that applications do not have. None: the cluster chooses, as OpenShift wants it."""
    sidecar_address: Literal["127.0.0.1", "[::1]"] = "127.0.0.1"
    """Where it serves credentials."""
    sidecar_port: _Port = 8787
    sidecar_health_port: _Port = 8788
    """Of its probes and metrics, at all addresses of the pod."""
    sidecar_gce_metadata: bool = False
    """Serve Google's metadata server: it asks for no secret, every process of the pod may read it."""
    sidecar_imds: bool = False
    """Serve Azure's instance metadata: it asks for no secret, every process of the pod may read it."""
    sidecar_force_host_network: bool = False
    """Inject into pods of the node's network too, where every process of the node reaches what asks for no secret."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Of the dialects that are on, each with its slash."""
        by_name = {
            "native": self.prefix,
            "pfn": self.gcp_prefix,
            "eks": self.aws_prefix,
            "azure": self.azure_prefix,
        }
        return tuple(f"{by_name[name]}/" for name in by_name if name in self.dialects)


COMPAT: Mapping[str, Mapping[str, Any]] = {
    "pfn": {"gcp_token_expiration": 86400, "gcp_mode": "gcloud", "token_mode": 0o440, "max_token_expiration": 2**32},
    "eks": {"aws_token_expiration": 86400, "aws_regional_sts": False, "max_token_expiration": 2**32},
    "azure": {"azure_token_expiration": 3600, "max_token_expiration": 86400},
}
"""What ``--compat`` sets before anything else: the defaults of pfnet-research's, EKS' and Azure's webhook."""


def load_webhook(values: Mapping[str, Any], *, origin: str = "the section webhook") -> WebhookSettings:
    """Read settings, those of :data:`COMPAT` first where ``compat`` is among them.

    Raises:
        ConfigurationError: config-invalid, config-conflict.
    """
    compat = values.get("compat")
    preset = COMPAT.get(compat, {}) if isinstance(compat, str) else {}
    try:
        settings = msgspec.convert({**preset, **values}, WebhookSettings)
        msgspec.json.encode(settings)
    except msgspec.ValidationError as error:
        raise _invalid(f"{origin}: {error}") from error
    except (UnicodeEncodeError, TypeError, RecursionError) as error:  # YAML can say what JSON cannot
        raise _invalid(f"{origin}: it has half a surrogate pair, a name that is no text, or itself in it") from error
    given = [prefix for prefix in settings.prefixes if settings.prefixes.count(prefix) > 1]
    if given:
        reason = f"two dialects have the prefix {given[0]!r}: nobody could say whose an annotation is"
        raise ConfigurationError(f"{origin}: {reason}", code="config-conflict")
    if settings.azure_token_endpoint is not None:
        _check_endpoint(settings.azure_token_endpoint, settings.azure_audience, origin)
    if settings.sidecar_port == settings.sidecar_health_port:
        reason = f"sidecar_port and sidecar_health_port are both {settings.sidecar_port}: probes come to all addresses"
        raise ConfigurationError(f"{origin}: {reason}", code="config-conflict")
    reserved = sorted(SIDECAR_VARIABLES.intersection(settings.sidecar_env))
    if reserved:
        reason = f"sidecar_env sets {reserved[0]}, which the webhook sets itself"
        raise ConfigurationError(f"{origin}: {reason}", code="config-conflict")
    return settings


def _invalid(what: str) -> ConfigurationError:
    hint = "correct it; the reference of wif.yaml lists every setting of the webhook"
    return ConfigurationError(what, code="config-invalid", hint=hint)


def _check_endpoint(endpoint: AzureTokenEndpoint, audience: str, origin: str) -> None:
    """What the Azure webhook checks of its own flags when it starts."""
    authorities = (endpoint.ca_data, endpoint.ca_config_map, endpoint.ca_trust_bundle_signer)
    if sum(one is not None for one in authorities) > 1:
        reason = "ca_data, ca_config_map and ca_trust_bundle_signer are three ways to say the same"
    elif endpoint.ca_trust_bundle_labels is not None and endpoint.ca_trust_bundle_signer is None:
        reason = "ca_trust_bundle_labels choose among the bundles of a ca_trust_bundle_signer, which is missing"
    elif endpoint.audience.lower() == audience.lower():
        reason = f"its audience is {endpoint.audience!r}, which is azure_audience: Entra would take the proxy's tokens"
    else:
        return
    raise ConfigurationError(f"{origin}: azure_token_endpoint: {reason}", code="config-conflict")


def webhook_schema() -> Mapping[str, Any]:
    """The JSON Schema of the section."""
    return msgspec.json.schema(WebhookSettings)
