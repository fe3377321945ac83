"""The dialect of the Azure webhook: the label ``azure.workload.identity/use: "true"`` on a pod, and annotations.

Source: azure-workload-identity v1.6.0, its three generations of paths, and its custom token endpoint.
"""

from __future__ import annotations

__all__ = ["check", "read"]

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts, Reading
from wif.admission.dialects.values import (
    Field,
    Place,
    is_denied,
    lifetime,
    unknown_keys,
    values_of,
    whole_number,
)
from wif.admission.findings import Finding
from wif.admission.injection import POD_HASH, Collision, EnvGroup, Mount, Part, Variable, Volume
from wif.clouds.azure import validate_client_id, validate_tenant_id
from wif.config.webhook import AzureTokenEndpoint, WebhookSettings
from wif.errors import ConfigurationError

_USE = "use"
_CLIENT = "client-id"
_TENANT = "tenant-id"
_EXPIRATION = "service-account-token-expiration"
_SKIP = "skip-containers"
_PROXY = "inject-proxy-sidecar"

_TOKEN_NAME = "azure-identity-token"
_CA_PATH = "ca-cert/ca.crt"
_FLOOR_SECONDS = 3600
_CEILING_SECONDS = 86_400


class _Layout(NamedTuple):
    volume: str
    mount: str
    file: str
    collision: Collision = "replace"


_LAYOUTS = {
    "v1.5": _Layout(_TOKEN_NAME, "/var/run/secrets/azure/tokens", _TOKEN_NAME, "keep"),  # nobody reserved that name
    "v1.6": _Layout(
        f"azure-workload-identity-reserved-{POD_HASH}", "/var/run/secrets/azure/wi", f"token/{_TOKEN_NAME}"
    ),
    "hashed": _Layout(
        f"azure-workload-identity-reserved-{POD_HASH}", f"/var/run/secrets/azure/wi/{POD_HASH}", f"token/{_TOKEN_NAME}"
    ),
}


def _client_id(text: str) -> str | None:
    try:
        return validate_client_id(text) if text else text
    except ConfigurationError:
        return None


def _tenant_id(text: str) -> str | None:
    """An empty one is a word of its own: no tenant, in place of the operator's."""
    try:
        return validate_tenant_id(text) if text else text
    except ConfigurationError:
        return None


def _seconds(text: str) -> int | None:
    number = whole_number(text)
    return number if number is not None and _FLOOR_SECONDS <= number <= _CEILING_SECONDS else None


_SECONDS = Field(
    _EXPIRATION,
    "token-expiration-malformed",
    "deny",
    f"a whole number of seconds from {_FLOOR_SECONDS} to {_CEILING_SECONDS}",
    _seconds,
)
_FIELDS = (
    Field(
        _CLIENT,
        "client-id-malformed",
        "deny",
        "the application (client) id of the identity, a GUID",
        _client_id,
    ),
    Field(_TENANT, "tenant-id-malformed", "deny", "the directory (tenant) id, a GUID or a domain", _tenant_id),
    Field(
        _TENANT,
        "tenant-id-empty",
        "warning",
        "the directory (tenant) id",
        lambda text: text or None,
        "no AZURE_TENANT_ID is injected; remove the annotation for the cluster's tenant",
    ),
    _SECONDS,
)


def _values(
    annotations: Mapping[str, str], settings: WebhookSettings, place: Place, table: Sequence[Field] = _FIELDS
) -> tuple[dict[str, Any], list[Finding]]:
    """The values of annotations. An empty lifetime is none, as the peer has it."""
    key = f"{settings.azure_prefix}/{_EXPIRATION}"
    said = {name: text for name, text in annotations.items() if text or name != key}
    return values_of(table, said, settings.azure_prefix, place)


def check(annotations: Mapping[str, str], settings: WebhookSettings) -> Sequence[Finding]:
    """Say what is wrong with a ServiceAccount's annotations."""
    place = Place("azure", "azure", "ServiceAccount")
    return [
        *_values(annotations, settings, place)[1],
        *unknown_keys(_FIELDS, annotations, settings.azure_prefix, place),
    ]


def read(account: ServiceAccount, facts: PodFacts, settings: WebhookSettings) -> Reading:
    """Say what a pod is given. Its label is what asks for it, also where the ServiceAccount says nothing."""
    prefix = settings.azure_prefix
    place = Place("azure", "azure", f"ServiceAccount {account.namespace}/{account.name}")
    of_pod = place._replace(object="the pod")
    if facts.label(f"{prefix}/{_USE}") != "true":
        return Reading((), _label_missing(account, settings, of_pod))
    values, findings = _values(account.annotations, settings, place)
    wishes, more = _values(dict(facts.annotations), settings, of_pod, (_SECONDS,))
    findings += more
    if is_denied(findings):
        return Reading((), tuple(findings))
    key = f"{prefix}/{_EXPIRATION}"
    seconds, clamped = lifetime(
        (of_pod, key, wishes.get(_EXPIRATION)),
        (place, key, values.get(_EXPIRATION)),
        settings.azure_token_expiration,
        floor_seconds=_FLOOR_SECONDS,
        max_seconds=min(_CEILING_SECONDS, settings.max_token_expiration),
    )
    part = _part(values, seconds, facts, settings)
    return Reading((part,), (*findings, *clamped, *_proxy(facts, settings, of_pod)))


def _label_missing(account: ServiceAccount, settings: WebhookSettings, of_pod: Place) -> tuple[Finding, ...]:
    if not account.annotations.get(f"{settings.azure_prefix}/{_CLIENT}"):
        return ()
    label = f"{settings.azure_prefix}/{_USE}"
    return (of_pod.finding("use-label-missing", "note", f'label {label}: "true" is not set, so it gets nothing'),)


def _proxy(facts: PodFacts, settings: WebhookSettings, of_pod: Place) -> tuple[Finding, ...]:
    key = f"{settings.azure_prefix}/{_PROXY}"
    if facts.annotation(key) is None:
        return ()
    return (
        of_pod.finding(
            "proxy-unsupported",
            "warning",
            f"annotation {key} is set, but no proxy is injected, only the token",
            "let the program read AZURE_FEDERATED_TOKEN_FILE, as every current SDK does",
        ),
    )


def _part(values: Mapping[str, Any], seconds: int, facts: PodFacts, settings: WebhookSettings) -> Part:
    layout = _LAYOUTS[settings.azure_layout]
    endpoint = _endpoint(facts, settings)
    audience = settings.azure_audience if endpoint is None else endpoint.audience
    client = values.get(_CLIENT, "")
    tenant = values.get(_TENANT, settings.azure_tenant_id or "")
    said = {
        "AZURE_CLIENT_ID": client,
        "AZURE_TENANT_ID": tenant,
        "AZURE_FEDERATED_TOKEN_FILE": f"{layout.mount}/{layout.file}",
        "AZURE_AUTHORITY_HOST": settings.azure_authority_host,
        **({} if endpoint is None else _endpoint_variables(endpoint, layout)),
    }
    token = {"audience": audience, "expirationSeconds": seconds, "path": layout.file}
    sources: list[dict[str, Any]] = [{"serviceAccountToken": token}]
    if endpoint is not None:
        sources += _authorities(endpoint)
    names = (facts.annotation(f"{settings.azure_prefix}/{_SKIP}") or "").split(";")
    return Part(
        dialect="azure",
        cloud="azure",
        identity=client or "the client id of each container",
        audiences=(audience,),
        volumes=(Volume({"name": layout.volume, "projected": {"sources": sources}}, collision=layout.collision),),
        mounts=(Mount(layout.volume, layout.mount, collision=layout.collision),),
        env=(EnvGroup("absent", tuple(Variable(name, value) for name, value in said.items() if value)),),
        skip=frozenset(name.strip() for name in names) - {""},
    )


def _endpoint(facts: PodFacts, settings: WebhookSettings) -> AzureTokenEndpoint | None:
    """The operator's own token endpoint, where the pod asks for it."""
    endpoint = settings.azure_token_endpoint
    if endpoint is None:
        return None
    asked = facts.annotation(f"{settings.azure_prefix}/{_USE}-{endpoint.annotation_suffix}") or ""
    return endpoint if asked.lower() == "true" else None


def _endpoint_variables(endpoint: AzureTokenEndpoint, layout: _Layout) -> dict[str, str]:
    file = f"{layout.mount}/{_CA_PATH}" if _authorities(endpoint) else ""
    return {
        "AZURE_KUBERNETES_TOKEN_PROXY": endpoint.token_proxy or "",
        "AZURE_KUBERNETES_SNI_NAME": endpoint.sni_name or "",
        "AZURE_KUBERNETES_CA_FILE": file,
        "AZURE_KUBERNETES_CA_DATA": endpoint.ca_data or "",
    }


def _authorities(endpoint: AzureTokenEndpoint) -> list[dict[str, Any]]:
    """The source of the volume that holds the endpoint's CA, where it is a file."""
    if endpoint.ca_config_map is not None:
        items = [{"key": "ca.crt", "path": _CA_PATH}]
        return [{"configMap": {"name": endpoint.ca_config_map, "items": items, "optional": False}}]
    if endpoint.ca_trust_bundle_signer is not None:
        labels = {} if endpoint.ca_trust_bundle_labels is None else {"labelSelector": endpoint.ca_trust_bundle_labels}
        bundle = {"signerName": endpoint.ca_trust_bundle_signer, **labels, "path": _CA_PATH, "optional": False}
        return [{"clusterTrustBundle": bundle}]
    return []
