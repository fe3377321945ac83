"""The native dialect: several clouds in one pod, several identities of one cloud, one identity for each container.

A ServiceAccount lists identities (:mod:`~wif.admission.dialects.native_identities`), a pod may choose among them
(:mod:`~wif.admission.dialects.native_choices`), and gets one volume with everything that the SDKs read
(:mod:`~wif.admission.dialects.native_files`), or a sidecar that they ask
(:mod:`~wif.admission.dialects.native_sidecar`).
"""

from __future__ import annotations

__all__ = ["check", "read"]

from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from wif.admission.accounts import ServiceAccount
from wif.admission.annotation_keys import NATIVE_TRIGGERS, clouds_given
from wif.admission.dialects import PodFacts, Reading
from wif.admission.dialects.native_choices import Choice, choices, lifetime, parse_pod
from wif.admission.dialects.native_files import MOUNT_PATH, VOLUME, Files, files, role_session_name
from wif.admission.dialects.native_identities import Account, Complaints, Identity, parse_account
from wif.admission.dialects.native_sidecar import parts as sidecar_parts
from wif.admission.dialects.native_sidecar import report_mode
from wif.admission.dialects.values import is_denied
from wif.admission.findings import Finding
from wif.admission.injection import EnvGroup, EnvRule, Mount, Part, Variable
from wif.clouds.gcp_config import project_of
from wif.clouds.gcp_names import ProviderName
from wif.config.webhook import WebhookSettings

_UNDECIDED = "undecided"
"""In place of an identity, in audit and ``explain``."""


def read(account: ServiceAccount, facts: PodFacts, settings: WebhookSettings) -> Reading:
    """Say what a pod is given: nothing, where anything has to be refused."""
    said = parse_account(account.annotations, settings, f"ServiceAccount {account.namespace}/{account.name}")
    complaints = Complaints(settings.prefix, "the pod")
    wishes = parse_pod(facts, said, complaints)
    chosen = choices(said, wishes, complaints)
    if wishes.is_sidecar and facts.skips_all:
        for cloud in dict.fromkeys(choice.cloud for choice in chosen):
            message = f"annotation {complaints.start}skip-containers names all containers: nobody would ask a sidecar"
            complaints.add("cloud-skipped", message, level="note", cloud=cloud)
        chosen = []
    identities = [
        identity
        for cloud in dict.fromkeys(choice.cloud for choice in chosen)
        for identity in said.identities[cloud].values()
    ]
    lifetimes = {
        (identity.cloud, identity.name): lifetime(identity, said, wishes, complaints, settings)
        for identity in identities
    }
    if wishes.is_sidecar and chosen:
        report_mode(chosen, facts, complaints, settings)
    findings = _together(said, complaints)
    if not chosen or is_denied(findings):
        return Reading((), findings, keeps_tokens=wishes.is_sidecar)
    if wishes.is_sidecar:
        made = sidecar_parts(account, chosen, identities, lifetimes, facts, settings, complaints)
        parts = tuple(replace(part, identity=_becomes(choice.identity, account)) for choice, part in made)
        return Reading(parts, _together(said, complaints), keeps_tokens=True)
    laid_out = files(account, identities, lifetimes, facts, settings)
    return Reading(tuple(_part(choice, laid_out, account, settings) for choice in chosen), findings)


def check(annotations: Mapping[str, str], settings: WebhookSettings) -> Sequence[Finding]:
    """Say what is wrong with a ServiceAccount's annotations."""
    said = parse_account(annotations, settings)
    complaints = Complaints(settings.prefix, said.about)
    if said.is_sidecar and settings.sidecar_image is None:
        complaints.no_sidecar_image()
    if said.is_sidecar:
        _report_others(annotations, said, complaints, settings)
    return _together(said, complaints)


def _report_others(
    annotations: Mapping[str, str], said: Account, complaints: Complaints, settings: WebhookSettings
) -> None:
    """A sidecar is for the identities of this dialect; the tokens of others stand in every container."""
    own = clouds_given(annotations, structs.replace(settings, dialects=("native",)))
    others = sorted(clouds_given(annotations, settings) - own)
    for cloud in others:
        complaints.add(
            "sidecar-beside-tokens",
            f"annotation {complaints.start}mode is 'sidecar', and another dialect gives the identity of {cloud}: its "
            "token goes into the containers themselves",
            f"name it in this dialect: {complaints.start}{cloud}.{NATIVE_TRIGGERS[cloud][0]}",
            level="warning",
            cloud=cloud,
        )
    if not said.identities and not others:
        complaints.add(
            "annotation-without-effect",
            f"annotation {complaints.start}mode is 'sidecar', and no annotation gives an identity",
            "name the identities in this dialect",
            level="warning",
        )


def _together(said: Account, complaints: Complaints) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys((*said.findings, *complaints.findings)))


def _part(choice: Choice, laid_out: Files, account: ServiceAccount, settings: WebhookSettings) -> Part:
    """Parts share the volume, and so each of them carries all that feeds it."""
    identity, env = choice.identity, list[EnvGroup]()
    if identity is not None:
        env += _ENV[choice.cloud](identity, laid_out, account, settings)
    if choice.cloud == "aws" and laid_out.aws_config is not None:
        env.append(_group("absent", AWS_CONFIG_FILE=laid_out.aws_config))
    return Part(
        dialect="native",
        cloud=choice.cloud,
        identity=_becomes(identity, account),
        audiences=laid_out.audiences,
        volumes=(laid_out.volume,),
        mounts=(Mount(VOLUME, MOUNT_PATH),),
        env=tuple(group for group in env if group.variables),
        annotations=laid_out.annotations,
        only=choice.only,
        skip=choice.skip,
    )


def _becomes(identity: Identity | None, account: ServiceAccount) -> str:
    if identity is None:
        return _UNDECIDED
    values = identity.values
    if identity.cloud == "aws":
        return str(values["role-arn"])
    if identity.cloud == "azure":
        return str(values["client-id"])
    subject = f"system:serviceaccount:{account.namespace}:{account.name}"
    return values.get("service-account") or ProviderName.parse(values["provider"]).principal(subject)


# -- variables -----------------------------------------------------------------------------------------------------
# Those that are one identity only together are a group: a container that has one of them has an identity of its own,
# and half of another would spoil it.


def _group(rule: EnvRule, **variables: str | None) -> EnvGroup:
    return EnvGroup(rule, tuple(Variable(name, value) for name, value in variables.items() if value is not None))


def _aws(identity: Identity, laid_out: Files, account: ServiceAccount, settings: WebhookSettings) -> list[EnvGroup]:
    values = identity.values
    region = values.get("region")
    regional = "regional" if region is not None and settings.aws_regional_sts else None
    return [
        _group("absent", AWS_STS_REGIONAL_ENDPOINTS=regional),
        _group("group", AWS_REGION=region, AWS_DEFAULT_REGION=region),
        _group(
            "group", AWS_ROLE_ARN=values["role-arn"], AWS_WEB_IDENTITY_TOKEN_FILE=laid_out.tokens["aws", identity.name]
        ),
        _group("absent", AWS_ROLE_SESSION_NAME=values.get("session-name", role_session_name(account))),
    ]


def _gcp(identity: Identity, laid_out: Files, account: ServiceAccount, settings: WebhookSettings) -> list[EnvGroup]:  # noqa: ARG001
    values = identity.values
    path = laid_out.credentials[identity.name]
    project = values.get("project", project_of(values.get("service-account")))
    return [
        _group("group", GOOGLE_APPLICATION_CREDENTIALS=path, CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE=path),
        _group("group", GOOGLE_CLOUD_PROJECT=project, CLOUDSDK_CORE_PROJECT=project),
        _group("absent", CLOUDSDK_COMPUTE_REGION=values.get("region", settings.gcp_region)),
    ]


def _azure(identity: Identity, laid_out: Files, account: ServiceAccount, settings: WebhookSettings) -> list[EnvGroup]:  # noqa: ARG001
    return [
        _group(
            "group",
            AZURE_CLIENT_ID=identity.values["client-id"],
            AZURE_TENANT_ID=identity.values["tenant-id"],
            AZURE_FEDERATED_TOKEN_FILE=laid_out.tokens["azure", identity.name],
        ),
        _group("absent", AZURE_AUTHORITY_HOST=settings.azure_authority_host),
    ]


_ENV = {"aws": _aws, "gcp": _gcp, "azure": _azure}
