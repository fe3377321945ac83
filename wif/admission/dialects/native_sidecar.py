"""The native dialect's mode ``sidecar``: tokens stay with a container of ours, which serves credentials on loopback.

The sidecar is the first of the init containers and goes on running (``restartPolicy: Always``), so that the pod's own
init containers have credentials, too. The volume with the tokens is mounted into it alone. Applications get variables
that lead unmodified SDKs to it, and those that speak AWS' protocol the folder with the secret that it asks for::

    /var/run/secrets/wif/aws/token             the sidecar's alone
    /var/run/secrets/wif/sidecar/wif.yaml      likewise: its settings, from an annotation of the pod
    /var/run/wif-sidecar/authorization         written by the sidecar, read-only in the others
"""

from __future__ import annotations

__all__ = ["ANNOTATION", "INTERFACES", "SECRET_FOLDER", "parts", "report_mode"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import SIDECAR, PodFacts
from wif.admission.dialects.native_choices import Choice
from wif.admission.dialects.native_files import (
    MOUNT_PATH,
    VOLUME,
    WrittenFile,
    readable_mode,
    role_session_name,
    shared_tokens,
    token_kind,
    token_volume,
)
from wif.admission.dialects.native_identities import DEFAULT, Complaints, Identity
from wif.admission.injection import POD_SECRET, EnvGroup, EnvRule, InitContainer, Mount, Part, Variable, Volume
from wif.admission.redirects import REDIRECTS
from wif.clouds.endpoint_variables import (
    LEADING_ELSEWHERE,
    AwsEndpoint,
    AzureEndpoint,
    Endpoints,
    GcpEndpoint,
    endpoint_variables,
)
from wif.clouds.gcp_config import project_of
from wif.config.sidecar import load_sidecar
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError

ANNOTATION = "file.sidecar"
"""Of the pod, behind the prefix: the sidecar's settings."""
SECRET_FOLDER = "/var/run/wif-sidecar"
_SECRET_FILE = f"{SECRET_FOLDER}/authorization"
_SETTINGS_FILE = "sidecar/wif.yaml"

_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
"""It takes about 40 MiB; a limit of CPU would only slow down its start."""
_START_SECONDS = 60
"""That the sidecar may take to listen; it takes about one."""

INTERFACES: Mapping[str, tuple[EnvRule, tuple[str, ...]]] = {
    "aws": ("group", ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")),
    "gcp": ("group", ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT")),
    "app-service": ("take", ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")),
    "imds": ("group", ("AZURE_POD_IDENTITY_AUTHORITY_HOST",)),
}
"""The variables by which SDKs find each interface. A half of App Service's pair would lead to an endpoint of one and a
secret of another: both are put in place of the container's own."""
_GROUPS: tuple[tuple[EnvRule, tuple[str, ...]], ...] = (
    *INTERFACES.values(),
    ("group", ("AWS_REGION", "AWS_DEFAULT_REGION")),
    ("group", ("GOOGLE_CLOUD_PROJECT",)),
    ("group", ("AZURE_CLIENT_ID", "AZURE_TENANT_ID")),
    ("merge", ("NO_PROXY", "no_proxy")),
)


class _Sidecar(NamedTuple):
    """What every part of the pod says alike."""

    account: ServiceAccount
    settings: WebhookSettings
    volumes: tuple[Volume, ...]
    container: InitContainer
    annotation: WrittenFile
    audiences: tuple[str, ...]


# -- whether a pod can have one ----------------------------------------------------------------------------------------


def report_mode(chosen: Sequence[Choice], facts: PodFacts, complaints: Complaints, settings: WebhookSettings) -> None:
    """Say why a pod cannot have the sidecar, and what is doubtful about it."""
    if settings.sidecar_image is None:
        complaints.no_sidecar_image()
    if facts.is_windows:
        complaints.add("sidecar-windows", "mode is sidecar, and its image is for Linux", "write files on Windows")
    if facts.host_network and not settings.sidecar_force_host_network:
        complaints.add(
            "sidecar-host-network",
            "mode is sidecar, and with hostNetwork the loopback address is the whole node's",
            "write files, or have the operator set sidecar_force_host_network",
        )
    if facts.shares_processes:
        complaints.add(
            "sidecar-processes-shared",
            "shareProcessNamespace or hostPID lets other containers of the pod see the sidecar's process, and those of "
            "root or of the same user read its memory",
            "leave both out",
            level="warning",
        )
    user = facts.pod_user if settings.sidecar_uid is None else settings.sidecar_uid
    if user == 0:
        complaints.add(
            "sidecar-user-root",
            "mode is sidecar, whose container never runs as root, and the pod's runAsUser is 0",
            "set runAsUser on the containers that need root, or have the operator set sidecar_uid",
        )
    elif user in facts.users:
        complaints.add(
            "sidecar-user-shared",
            f"a container runs as user {user}, as which the sidecar runs: what is the sidecar's alone may be its own",
            "give the application another user",
            level="warning",
        )
    _report_google(chosen, complaints, settings)
    _report_defaults(chosen, complaints)


def _report_google(chosen: Sequence[Choice], complaints: Complaints, settings: WebhookSettings) -> None:
    google = [choice for choice in chosen if choice.cloud == "gcp"]
    if google and not settings.sidecar_gce_metadata:
        complaints.add(
            "sidecar-metadata-off",
            "mode is sidecar, and Google's metadata server is switched off: every process of the pod could read it",
            f"have the operator set sidecar_gce_metadata, write files, or do without: {complaints.start}use: gcp=none",
            cloud="gcp",
        )
    if len({choice.identity and choice.identity.name for choice in google}) > 1:
        complaints.add(
            "sidecar-one-identity",
            "mode is sidecar, and Google's metadata server cannot tell containers apart: all of them would be the "
            "default identity",
            f"choose one identity of gcp for the whole pod with {complaints.start}use, or write files",
            cloud="gcp",
        )


def _report_defaults(chosen: Sequence[Choice], complaints: Complaints) -> None:
    """A request for Azure or Google may name nobody, and then somebody has to be meant."""
    for cloud in ("gcp", "azure"):
        if any(choice.identity is None for choice in chosen if choice.cloud == cloud):
            complaints.add(
                "sidecar-identity-undecided",
                f"mode is sidecar, and none of the ServiceAccount's identities of {cloud} is THE one of the pod",
                f"name one of them default, or let the pod choose with {complaints.start}use",
                cloud=cloud,
            )
    azure = [choice.identity for choice in chosen if choice.cloud == "azure"]
    default = _default_of("azure", chosen)
    if default is not None and any(identity != default for identity in azure):
        complaints.add(
            "sidecar-default-shared",
            f"containers of the pod have several identities of azure: a request that names no client id gets that of "
            f"{default.values['client-id']}, whichever container it comes from",
            "let programs name their client id, or choose one identity for the whole pod",
            level="warning",
            cloud="azure",
        )


def _default_of(cloud: str, chosen: Sequence[Choice]) -> Identity | None:
    """Whom a request means that names nobody: the identity of containers that nobody names, else the first."""
    of_cloud = [choice for choice in chosen if choice.cloud == cloud]
    if any(choice.identity is None for choice in of_cloud):
        return None
    return next((choice.identity for choice in sorted(of_cloud, key=lambda choice: choice.only is not None)), None)


# -- what it is given --------------------------------------------------------------------------------------------------


def parts(  # noqa: PLR0917  # as native_files.files, and the choices
    account: ServiceAccount,
    chosen: Sequence[Choice],
    identities: Sequence[Identity],
    lifetimes: Mapping[tuple[str, str], int],
    facts: PodFacts,
    settings: WebhookSettings,
    complaints: Complaints,
) -> tuple[tuple[Choice, Part], ...]:
    """A part for each choice, but for what it becomes; none where the sidecar would refuse its settings."""
    tokens = shared_tokens(identities, lifetimes, settings)
    paths = {each[:2]: f"{MOUNT_PATH}/{tokens[token_kind(each, settings)].path}" for each in identities}
    section = {
        "identities": {_name(each): _identity(each, paths[each[:2]], account, settings) for each in identities},
        "default": {
            cloud: _name(default)
            for cloud in dict.fromkeys(choice.cloud for choice in chosen)
            if (default := _default_of(cloud, chosen)) is not None
        },
        **_served(facts, settings, {choice.cloud for choice in chosen}),
    }
    try:
        load_sidecar(section, origin="its settings")
    except ConfigurationError as error:
        complaints.add("sidecar-refused", f"mode is sidecar, which would not start: {error.message}")
        return ()
    written = WrittenFile(
        f"{settings.prefix}/{ANNOTATION}", _SETTINGS_FILE, msgspec.json.encode({"sidecar": section}).decode()
    )
    asks_for_secret = "aws" in {choice.cloud for choice in chosen}
    has_header = "azure" in {choice.cloud for choice in chosen}
    sidecar = _Sidecar(
        account=account,
        settings=settings,
        volumes=tuple(_volumes(token_volume(tokens.values(), [written], readable_mode(facts)), asks_for_secret)),
        container=InitContainer(
            _container(facts, settings, asks_for_secret=asks_for_secret, has_header=has_header),
            ports=(settings.sidecar_port, settings.sidecar_health_port),
        ),
        annotation=written,
        audiences=tuple(dict.fromkeys(token.audience for token in tokens.values())),
    )
    return tuple((choice, _part(choice, sidecar)) for choice in chosen)


def _part(choice: Choice, sidecar: _Sidecar) -> Part:
    return Part(
        dialect="native",
        cloud=choice.cloud,
        identity="",
        audiences=sidecar.audiences,
        volumes=sidecar.volumes,
        mounts=(Mount(SIDECAR, SECRET_FOLDER, collision="replace"),) if choice.cloud == "aws" else (),
        env=tuple(_env(choice, sidecar)),
        annotations={sidecar.annotation.annotation: sidecar.annotation.text},
        init_containers=(sidecar.container,),
        only=choice.only,
        skip=choice.skip,
        misleading=_MISLEADING[choice.cloud],
    )


def _name(identity: Identity) -> str:
    """In the sidecar's settings, and so in the path of AWS' credentials."""
    return identity.cloud if identity.name == DEFAULT else f"{identity.cloud}.{identity.name}"


def _volumes(tokens: Mapping[str, Any], asks_for_secret: bool) -> Iterator[Volume]:
    yield Volume(tokens)
    if asks_for_secret:
        yield Volume({"name": SIDECAR, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})


# -- its settings ------------------------------------------------------------------------------------------------------


def _identity(
    identity: Identity, token_file: str, account: ServiceAccount, settings: WebhookSettings
) -> Mapping[str, str]:
    values = identity.values
    members: dict[str, str | None]
    if identity.cloud == "aws":
        members = {
            "role_arn": values["role-arn"],
            "region": values.get("region"),
            "session_name": values.get("session-name", role_session_name(account)),
        }
    elif identity.cloud == "gcp":
        members = {
            "provider": values["provider"],
            "service_account": values.get("service-account"),
            "project": _project(identity),
            "region": values.get("region"),
        }
    else:
        members = {
            "tenant_id": values["tenant-id"],
            "client_id": values["client-id"],
            "authority_host": settings.azure_authority_host,
        }
    found = {"cloud": identity.cloud, **members, "token_file": token_file}
    return {member: value for member, value in found.items() if value is not None}


def _project(identity: Identity) -> str | None:
    project: str | None = identity.values.get("project", project_of(identity.values.get("service-account")))
    return project


def _served(facts: PodFacts, settings: WebhookSettings, clouds: set[str]) -> dict[str, Any]:
    served: dict[str, Any] = {
        "listen": [f"{settings.sidecar_address}:{settings.sidecar_port}"],
        "health_address": f":{settings.sidecar_health_port}",
    }
    if "gcp" in clouds:
        served["gce_metadata"] = settings.sidecar_gce_metadata
    if "azure" in clouds:
        served["imds"] = settings.sidecar_imds
    if "aws" in clouds:
        served |= {"secret_file": _SECRET_FILE, "secret_mode": readable_mode(facts)}
    if facts.host_network:
        served["force_host_network"] = True
    return served


# -- its container -----------------------------------------------------------------------------------------------------


def _container(
    facts: PodFacts, settings: WebhookSettings, *, asks_for_secret: bool, has_header: bool
) -> dict[str, Any]:
    """With the defaults of the API server written out: what is stored is then what was injected."""
    resources = _RESOURCES if settings.sidecar_resources is None else settings.sidecar_resources
    mounts = [{"name": VOLUME, "mountPath": MOUNT_PATH, "readOnly": True}]
    if asks_for_secret:
        mounts.append({"name": SIDECAR, "mountPath": SECRET_FOLDER})
    user = {} if settings.sidecar_uid is None else dict.fromkeys(("runAsUser", "runAsGroup"), settings.sidecar_uid)
    port = settings.sidecar_health_port
    return {
        "name": SIDECAR,
        "image": settings.sidecar_image,
        **({} if settings.sidecar_pull_policy is None else {"imagePullPolicy": settings.sidecar_pull_policy}),
        "args": ["sidecar", "serve", "--config-file", f"{MOUNT_PATH}/{_SETTINGS_FILE}"],
        "env": [
            *({"name": name, "value": value} for name, value in settings.sidecar_env.items()),
            *([{"name": "IDENTITY_HEADER", "value": POD_SECRET}] if has_header else []),
            *(_field(name, path) for name, path in (("WIF_POD_IP", "status.podIP"), ("WIF_HOST_IP", "status.hostIP"))),
        ],
        "ports": [{"name": "wif-health", "containerPort": port, "protocol": "TCP"}],
        "restartPolicy": "Always",
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": port, "scheme": "HTTP"},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "successThreshold": 1,
            "failureThreshold": _START_SECONDS,
        },
        **({} if facts.has_resources else {"resources": resources}),  # the pod's own may leave no room for a request
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            **user,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": mounts,
    }


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


# -- variables of the others -------------------------------------------------------------------------------------------


def _env(choice: Choice, sidecar: _Sidecar) -> Iterator[EnvGroup]:
    settings = sidecar.settings
    endpoints = Endpoints(
        url=f"http://{settings.sidecar_address}:{settings.sidecar_port}", **_ENDPOINTS[choice.cloud](choice, settings)
    )
    said = dict(endpoint_variables(endpoints, {}).variables)
    if choice.cloud == "gcp" and choice.identity is not None:
        region = choice.identity.values.get("region", settings.gcp_region)
        said |= {} if region is None else {"CLOUDSDK_COMPUTE_REGION": region}
    for rule, names in _GROUPS:
        found = tuple(Variable(name, said.pop(name)) for name in names if name in said)
        if found:
            yield EnvGroup(rule, found)
    if said:
        yield EnvGroup("absent", tuple(Variable(name, value) for name, value in said.items()))


def _aws(choice: Choice, settings: WebhookSettings) -> dict[str, Any]:  # noqa: ARG001
    identity = choice.identity
    if identity is None:  # who asks is told that somebody has to be named
        return {"aws": AwsEndpoint(secret_file=_SECRET_FILE)}
    region = identity.values.get("region")
    return {"aws": AwsEndpoint(secret_file=_SECRET_FILE, identity=_name(identity), region=region)}


def _gcp(choice: Choice, settings: WebhookSettings) -> dict[str, Any]:  # noqa: ARG001
    return {"gcp": GcpEndpoint(project=None if choice.identity is None else _project(choice.identity))}


def _azure(choice: Choice, settings: WebhookSettings) -> dict[str, Any]:
    values: Mapping[str, Any] = {} if choice.identity is None else choice.identity.values
    endpoint = AzureEndpoint(
        identity_header=POD_SECRET,
        imds=settings.sidecar_imds,
        client_id=values.get("client-id"),
        tenant_id=values.get("tenant-id"),
    )
    return {"azure": endpoint}


_ENDPOINTS = {"aws": _aws, "gcp": _gcp, "azure": _azure}

_OF_INTERFACE = {"aws": ("aws",), "gcp": ("gcp",), "azure": ("imds",)}


def _misleading(cloud: str) -> dict[str, frozenset[str]]:
    """What SDKs look for before the interface, and another place of the interface itself."""
    found = {name: frozenset[str]() for name, effect in REDIRECTS[cloud].items() if effect == "identity"}
    found |= {name: foreign.harmless for name, foreign in LEADING_ELSEWHERE[cloud].items()}  # type: ignore[index]
    found |= {name: frozenset[str]() for interface in _OF_INTERFACE[cloud] for name in INTERFACES[interface][1]}
    return found


_MISLEADING: Mapping[str, Mapping[str, frozenset[str]]] = {cloud: _misleading(cloud) for cloud in REDIRECTS}
