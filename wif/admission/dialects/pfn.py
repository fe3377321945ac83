"""The dialect of pfnet-research's webhook for GCP: ``cloud.google.com/*`` on a ServiceAccount.

Source: gcp-workload-identity-federation-webhook v0.7.0. Two modes: ``gcloud`` (an init container of the operator's
image makes the credential file) and ``direct`` (the file comes from a pod annotation through the downward API).
"""

from __future__ import annotations

__all__ = ["check", "read"]

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts, Reading
from wif.admission.dialects.values import (
    Field,
    Place,
    audience,
    is_denied,
    lifetime,
    unknown_keys,
    values_of,
    whole_number,
    without_effect,
)
from wif.admission.findings import Finding
from wif.admission.injection import EnvGroup, InitContainer, Mount, Part, Variable, Volume
from wif.clouds.gcp_config import project_of
from wif.clouds.gcp_names import (
    JWT_TOKEN_TYPE,
    ProviderName,
    iam_credentials_url,
    token_url,
    validate_service_account,
)
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError

_PROVIDER = "workload-identity-provider"
_EMAIL = "service-account-email"
_AUDIENCE = "audience"
_EXPIRATION = "token-expiration"
_RUN_AS_USER = "gcloud-run-as-user"
_MODE = "injection-mode"
_SKIP = "skip-containers"
_JSON = "external-credentials-json"

_TOKEN_VOLUME = "gcp-iam-token"
_TOKEN_MOUNT = "/var/run/secrets/sts.googleapis.com/serviceaccount"
_TOKEN_FILE = f"{_TOKEN_MOUNT}/token"
_GCLOUD_VOLUME = "gcloud-config"
_GCLOUD_MOUNT = "/var/run/secrets/gcloud/config"
_DIRECT_VOLUME = "external-credential-config"
_DIRECT_MOUNT = "/var/run/secrets/workload-identity"
_FILE = "federation.json"
_SETUP = "gcloud-setup"
_SCRIPT = f"""\
gcloud iam workload-identity-pools create-cred-config \\
  $(GCP_WORKLOAD_IDENTITY_PROVIDER) \\
  --service-account=$(GCP_SERVICE_ACCOUNT) \\
  --output-file=$(CLOUDSDK_CONFIG)/{_FILE} \\
  --credential-source-file={_TOKEN_FILE}
gcloud auth login --cred-file=$(CLOUDSDK_CONFIG)/{_FILE}
"""
"""The kubelet puts values in place of ``$(…)`` before the shell reads the line. Both are checked by pattern, so that
neither holds a letter that means something to a shell."""
_FLOOR_SECONDS = 3600
_MAX_UID = 2**31 - 1
_PART = r"[A-Za-z0-9._:{}-]+"
_HARMLESS_PROVIDER = f"projects/{_PART}/locations/{_PART}/workloadIdentityPools/{_PART}/providers/{_PART}"
_PROVIDER_FORM = "projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"


def _harmless_provider(text: str) -> str | None:
    """What the peer lets through, of letters that mean nothing in a URL, in JSON and in a shell."""
    return text if len(text) <= 512 and re.fullmatch(_HARMLESS_PROVIDER, text) else None


def _real_provider(text: str) -> str | None:
    try:
        ProviderName.parse(text)
    except ConfigurationError:
        return None
    return text


def _email(text: str) -> str | None:
    try:
        return validate_service_account(text)
    except ConfigurationError:
        return None


def _uid(text: str) -> int | None:
    number = whole_number(text)
    return number if number is not None and 0 <= number <= _MAX_UID else None


def _mode(text: str) -> str | None:
    mode = text.lower()
    return mode if mode in ("direct", "gcloud") else None


_FIELDS = (
    Field(_PROVIDER, "provider-malformed", "deny", _PROVIDER_FORM, _harmless_provider, "write it without a host"),
    Field(
        _PROVIDER,
        "provider-unknown",
        "warning",
        _PROVIDER_FORM,
        _real_provider,
        "Google has no provider of this name, so it will refuse the token: gcloud iam workload-identity-pools "
        "providers describe shows the name, which has the project's number",
    ),
    Field(_EMAIL, "email-malformed", "deny", "an e-mail such as app@my-project.iam.gserviceaccount.com", _email),
    Field(_AUDIENCE, "audience-malformed", "deny", "1 to 256 printable letters", audience),
    Field(_EXPIRATION, "token-expiration-malformed", "deny", "a whole number of seconds", whole_number),
    Field(_RUN_AS_USER, "run-as-user-malformed", "deny", f"a user id of 0 to {_MAX_UID}", _uid),
    Field(_MODE, "injection-mode-malformed", "deny", "direct or gcloud; or remove it for the default", _mode),
)
_POD_FIELDS = (Field(_EXPIRATION, "token-expiration-malformed", "deny", "a whole number of seconds", whole_number),)


class _Identity(NamedTuple):
    provider: str
    email: str
    audience: str
    mode: str
    expiration_seconds: int | None
    run_as_user: int | None


def _identity(
    annotations: Mapping[str, str], settings: WebhookSettings, place: Place
) -> tuple[_Identity | None, list[Finding]]:
    prefix = settings.gcp_prefix
    provider_key, email_key = f"{prefix}/{_PROVIDER}", f"{prefix}/{_EMAIL}"
    if provider_key not in annotations and email_key not in annotations:
        return None, list(without_effect(_FIELDS, annotations, prefix, place, provider_key))
    values, findings = values_of(_FIELDS, annotations, prefix, place)
    if provider_key not in annotations and settings.gcp_provider is not None:
        values[_PROVIDER] = settings.gcp_provider.removeprefix("https:").removeprefix("//iam.googleapis.com/")
    elif provider_key not in annotations:
        findings.append(_missing(provider_key, email_key, settings, place))
    elif email_key not in annotations:
        findings.append(_missing(email_key, provider_key, settings, place))
    if is_denied(findings):
        return None, findings
    return _of_values(values, settings), findings


def _missing(key: str, other: str, settings: WebhookSettings, place: Place) -> Finding:
    return place.finding(
        "identity-partial",
        "deny",
        f"annotation {key} is missing beside {other}, expected both",
        f"add it, or use {settings.prefix}/gcp.provider for direct access without a service account",
    )


def _of_values(values: Mapping[str, Any], settings: WebhookSettings) -> _Identity:
    return _Identity(
        provider=values[_PROVIDER],
        email=values[_EMAIL],
        audience=values.get(_AUDIENCE, settings.gcp_audience),
        mode=values.get(_MODE, settings.gcp_mode),
        expiration_seconds=values.get(_EXPIRATION),
        run_as_user=values.get(_RUN_AS_USER),
    )


def check(annotations: Mapping[str, str], settings: WebhookSettings) -> Sequence[Finding]:
    """Say what is wrong with a ServiceAccount's annotations."""
    place = Place("pfn", "gcp", "ServiceAccount")
    return [
        *_identity(annotations, settings, place)[1],
        *unknown_keys(_FIELDS, annotations, settings.gcp_prefix, place),
    ]


def read(account: ServiceAccount, facts: PodFacts, settings: WebhookSettings) -> Reading:
    """Say what a pod is given."""
    of_account = Place("pfn", "gcp", f"ServiceAccount {account.namespace}/{account.name}")
    identity, findings = _identity(account.annotations, settings, of_account)
    if identity is None:
        return Reading((), tuple(findings))
    prefix = settings.gcp_prefix
    of_pod = of_account._replace(object="the pod")
    wishes, more = values_of(_POD_FIELDS, dict(facts.annotations), prefix, of_pod)
    findings += more
    if is_denied(more):
        return Reading((), tuple(findings))
    key = f"{prefix}/{_EXPIRATION}"
    seconds, clamped = lifetime(
        (of_pod, key, wishes.get(_EXPIRATION)),
        (of_account, key, identity.expiration_seconds),
        settings.gcp_token_expiration,
        floor_seconds=_FLOOR_SECONDS,
        max_seconds=settings.max_token_expiration,
    )
    part = _direct if identity.mode == "direct" else _gcloud
    return Reading((part(identity, seconds, facts, settings),), (*findings, *clamped))


def _gcloud(identity: _Identity, seconds: int, facts: PodFacts, settings: WebhookSettings) -> Part:
    variables = (
        Variable("GOOGLE_APPLICATION_CREDENTIALS", f"{_GCLOUD_MOUNT}/{_FILE}"),
        Variable("CLOUDSDK_CONFIG", _GCLOUD_MOUNT),
    )
    mounts = (
        Mount(_TOKEN_VOLUME, _TOKEN_MOUNT, collision="replace"),
        Mount(_GCLOUD_VOLUME, _GCLOUD_MOUNT, read_only=False, collision="replace"),
    )
    return Part(
        dialect="pfn",
        cloud="gcp",
        identity=identity.email,
        audiences=(identity.audience,),
        volumes=(
            _token_volume(identity, seconds, facts, settings),
            Volume({"name": _GCLOUD_VOLUME, "emptyDir": {}}, collision="replace"),
        ),
        mounts=mounts,
        env=(EnvGroup("replace", variables), *_defaults(identity, settings)),
        annotations=_written(identity, seconds, settings),
        init_containers=(InitContainer(_setup_container(identity, mounts, settings), collision="replace"),),
        skip=_skipped(facts, settings),
    )


def _direct(identity: _Identity, seconds: int, facts: PodFacts, settings: WebhookSettings) -> Part:
    path = f"{_DIRECT_MOUNT}/{_FILE}"
    key = f"{settings.gcp_prefix}/{_JSON}"
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{key}']"}
    items = [{"path": _FILE, "fieldRef": field}]
    config = {"name": _DIRECT_VOLUME, "downwardAPI": {"items": items, "defaultMode": _file_mode(facts, settings)}}
    # The gcloud command reads no GOOGLE_APPLICATION_CREDENTIALS; the peer's v0.7.0 leaves it without credentials.
    of_gcloud = () if settings.compat == "pfn" else (Variable("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", path),)
    return Part(
        dialect="pfn",
        cloud="gcp",
        identity=identity.email,
        audiences=(identity.audience,),
        volumes=(_token_volume(identity, seconds, facts, settings), Volume(config, collision="replace")),
        mounts=(
            Mount(_TOKEN_VOLUME, _TOKEN_MOUNT, collision="replace"),
            Mount(_DIRECT_VOLUME, _DIRECT_MOUNT, collision="replace"),
        ),
        env=(
            EnvGroup("replace", (Variable("GOOGLE_APPLICATION_CREDENTIALS", path), *of_gcloud)),
            *_defaults(identity, settings),
        ),
        annotations={**_written(identity, seconds, settings), key: _external_account(identity)},
        skip=_skipped(facts, settings) | {_SETUP},
    )


def _external_account(identity: _Identity) -> str:
    """The credential file on one line, member for member as the peer writes it."""
    impersonation = f"{iam_credentials_url()}/v1/projects/-/serviceAccounts/{identity.email}:generateAccessToken"
    document = {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{identity.provider}",
        "subject_token_type": JWT_TOKEN_TYPE,
        "token_url": token_url(),
        "service_account_impersonation_url": impersonation,
        "credential_source": {"file": _TOKEN_FILE, "format": {"type": "text"}},
    }
    return msgspec.json.encode(document).decode()


def _token_volume(identity: _Identity, seconds: int, facts: PodFacts, settings: WebhookSettings) -> Volume:
    token = {"audience": identity.audience, "expirationSeconds": seconds, "path": "token"}
    projected = {"defaultMode": _file_mode(facts, settings), "sources": [{"serviceAccountToken": token}]}
    return Volume({"name": _TOKEN_VOLUME, "projected": projected}, collision="replace")


def _file_mode(facts: PodFacts, settings: WebhookSettings) -> int:
    if settings.token_mode is not None:
        return settings.token_mode
    return 0o440 if facts.has_fs_group else 0o444


def _defaults(identity: _Identity, settings: WebhookSettings) -> tuple[EnvGroup, ...]:
    """Region and project for gcloud. The peer sets both where it does not know them, too: to nothing."""
    known = (
        Variable("CLOUDSDK_COMPUTE_REGION", settings.gcp_region or ""),
        Variable("CLOUDSDK_CORE_PROJECT", _project(identity.email)),
    )
    return (EnvGroup("absent", tuple(row for row in known if row.value or settings.compat == "pfn")),)


def _project(email: str) -> str:
    found = re.search(r"@(.*)\.iam\.gserviceaccount\.com", email)
    return project_of(email) or (found[1] if found else "")


def _written(identity: _Identity, seconds: int, settings: WebhookSettings) -> dict[str, str]:
    """Annotations of the pod that say what it was given."""
    prefix = settings.gcp_prefix
    return {
        f"{prefix}/{_PROVIDER}": identity.provider,
        f"{prefix}/{_EMAIL}": identity.email,
        f"{prefix}/{_AUDIENCE}": identity.audience,
        f"{prefix}/{_EXPIRATION}": str(seconds),
    }


def _skipped(facts: PodFacts, settings: WebhookSettings) -> frozenset[str]:
    names = (facts.annotation(f"{settings.gcp_prefix}/{_SKIP}") or "").split(",")
    return frozenset(name.strip() for name in names) - {""}


def _setup_container(identity: _Identity, mounts: Sequence[Mount], settings: WebhookSettings) -> dict[str, Any]:
    project = _project(identity.email)
    variables = {
        "GCP_WORKLOAD_IDENTITY_PROVIDER": identity.provider,
        "GCP_SERVICE_ACCOUNT": identity.email,
        "CLOUDSDK_CONFIG": _GCLOUD_MOUNT,
        **({"CLOUDSDK_CORE_PROJECT": project} if project or settings.compat == "pfn" else {}),
    }
    run_as = {} if identity.run_as_user is None else {"runAsUser": identity.run_as_user}
    return {
        "name": _SETUP,
        "image": settings.gcloud_image,
        "command": ["sh", "-c", _SCRIPT],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        **({} if settings.gcloud_resources is None else {"resources": dict(settings.gcloud_resources)}),
        "volumeMounts": [
            {"name": mount.volume, "mountPath": mount.path, **({"readOnly": True} if mount.read_only else {})}
            for mount in mounts
        ],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **run_as},
    }
