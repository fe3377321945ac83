"""The one volume of the native dialect: a token for each cloud and audience, and the files that the SDKs read.

The files are made here, written to annotations of the pod, and put into the volume by the kubelet (downward API), so
that no container has to run first::

    /var/run/secrets/wif/aws/token              aws/config                     aws/IDENTITY/token
    /var/run/secrets/wif/gcp/token              gcp/credentials.json           gcp/IDENTITY/credentials.json
    /var/run/secrets/wif/azure/token

An identity has a token of its own where it asks for another audience than the cloud's.
"""

from __future__ import annotations

__all__ = [
    "MOUNT_PATH",
    "VOLUME",
    "Files",
    "TokenFile",
    "WrittenFile",
    "files",
    "readable_mode",
    "role_session_name",
    "shared_tokens",
    "token_kind",
    "token_volume",
    "volume_mode",
]

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts
from wif.admission.dialects.native_identities import DEFAULT, Identity
from wif.admission.injection import Volume
from wif.clouds.aws_config import WebIdentityProfile, edit, web_identity_settings
from wif.clouds.gcp_config import ExternalAccountFile, FileSource, external_account
from wif.config.webhook import WebhookSettings

VOLUME = "wif"
MOUNT_PATH = "/var/run/secrets/wif"

_MODE_OF_GROUP = 0o440
_MODE_OF_ALL = 0o444
"""The kubelet writes files as root, and without an fsGroup only "others" covers a container that is not root."""


class Files(NamedTuple):
    """The volume, what feeds it, and where its files stand in a container."""

    volume: Volume
    annotations: Mapping[str, str]
    """Of the pod."""
    audiences: tuple[str, ...]
    tokens: Mapping[tuple[str, str], str]
    """Paths by cloud and name of the identity."""
    credentials: Mapping[str, str]
    """Paths of Google's credential files by name of the identity."""
    aws_config: str | None
    """The path of the profiles, where there are several AWS identities."""


class TokenFile(NamedTuple):
    """A token in the volume."""

    path: str
    audience: str
    seconds: int


class WrittenFile(NamedTuple):
    """A file in the volume whose text stands in an annotation of the pod."""

    annotation: str
    path: str
    text: str


def files(
    account: ServiceAccount,
    identities: Sequence[Identity],
    lifetimes: Mapping[tuple[str, str], int],
    facts: PodFacts,
    settings: WebhookSettings,
) -> Files:
    """Lay out the volume.

    Args:
        identities: those of the clouds that the pod does not do without, in the order of the clouds.
        lifetimes: seconds by cloud and name. Identities that share a token get the shortest of theirs.
    """
    tokens = shared_tokens(identities, lifetimes, settings)
    paths = {
        (identity.cloud, identity.name): _inside(tokens[token_kind(identity, settings)].path, facts)
        for identity in identities
    }
    roles = [identity for identity in identities if identity.cloud == "aws"]
    google = {
        identity.name: _credentials(identity, paths[identity.cloud, identity.name], settings)
        for identity in identities
        if identity.cloud == "gcp"
    }
    profiles = [_profiles(account, roles, paths, settings)] if len(roles) > 1 else []
    return Files(
        volume=Volume(token_volume(tokens.values(), [*profiles, *google.values()], volume_mode(facts, settings))),
        annotations={file.annotation: file.text for file in (*profiles, *google.values())},
        audiences=tuple(dict.fromkeys(token.audience for token in tokens.values())),
        tokens=paths,
        credentials={name: _inside(file.path, facts) for name, file in google.items()},
        aws_config=_inside(profiles[0].path, facts) if profiles else None,
    )


def role_session_name(account: ServiceAccount) -> str:
    """Of a role without one: what CloudTrail shows. The pod's own name is not known yet when a pod is admitted."""
    head = f"{account.namespace[:31]}."
    return re.sub(r"[^\w+=,.@-]", "-", head + account.name[-(64 - len(head)) :], flags=re.ASCII)


def shared_tokens(
    identities: Sequence[Identity], lifetimes: Mapping[tuple[str, str], int], settings: WebhookSettings
) -> dict[tuple[str, str], TokenFile]:
    """By cloud and audience: identities that have both in common share a token."""
    found: dict[tuple[str, str], TokenFile] = {}
    for identity in identities:
        kind = token_kind(identity, settings)
        folder = identity.cloud if kind[1] == _audience(identity.cloud, settings) else f"{kind[0]}/{identity.name}"
        seconds = lifetimes[identity.cloud, identity.name]
        before = found.get(kind, TokenFile(f"{folder}/token", kind[1], seconds))
        found[kind] = before._replace(seconds=min(before.seconds, seconds))
    return found


def token_kind(identity: Identity, settings: WebhookSettings) -> tuple[str, str]:
    """Cloud and audience of an identity's token."""
    return identity.cloud, identity.values.get("audience", _audience(identity.cloud, settings))


def _audience(cloud: str, settings: WebhookSettings) -> str:
    return str(getattr(settings, f"{cloud}_audience"))


def _credentials(identity: Identity, token: str, settings: WebhookSettings) -> WrittenFile:
    is_default = identity.name == DEFAULT
    document = external_account(
        ExternalAccountFile(
            provider=identity.values["provider"],
            source=FileSource(path=token),
            service_account=identity.values.get("service-account"),
            region=identity.values.get("region"),
        )
    )
    return WrittenFile(
        annotation=f"{settings.prefix}/file.gcp{'' if is_default else f'.{identity.name}'}",
        path=f"gcp/{'' if is_default else f'{identity.name}/'}credentials.json",
        text=msgspec.json.format(document, indent=-1),
    )


def _profiles(
    account: ServiceAccount, roles: Sequence[Identity], paths: Mapping[tuple[str, str], str], settings: WebhookSettings
) -> WrittenFile:
    text = ""
    for role in roles:
        profile = WebIdentityProfile(
            role_arn=role.values["role-arn"],
            token_file=paths[role.cloud, role.name],
            session_name=role.values.get("session-name", role_session_name(account)),
            region=role.values.get("region"),
        )
        text = edit(text, role.name, web_identity_settings(profile))
    return WrittenFile(f"{settings.prefix}/file.aws", "aws/config", text)


def token_volume(tokens: Iterable[TokenFile], texts: Sequence[WrittenFile], mode: int) -> dict[str, Any]:
    """The volume, with the defaults of the API server written out: what is stored is then what was injected."""
    sources: list[dict[str, Any]] = [
        {
            "serviceAccountToken": {
                "audience": token.audience,
                "expirationSeconds": token.seconds,
                "path": token.path,
            }
        }
        for token in tokens
    ]
    items = [
        {
            "path": file.path,
            "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{file.annotation}']"},
        }
        for file in texts
    ]
    if items:
        sources.append({"downwardAPI": {"items": items}})
    return {"name": VOLUME, "projected": {"defaultMode": mode, "sources": sources}}


def volume_mode(facts: PodFacts, settings: WebhookSettings) -> int:
    """Of the files in the volume."""
    if settings.token_mode is not None:
        return settings.token_mode
    return readable_mode(facts)


def readable_mode(facts: PodFacts) -> int:
    """Of files that any user of the pod's containers can read, and nobody else where that is possible."""
    return _MODE_OF_GROUP if facts.has_fs_group else _MODE_OF_ALL


def _inside(path: str, facts: PodFacts) -> str:
    """The path of a file in a container."""
    whole = f"{MOUNT_PATH}/{path}"
    return "C:" + whole.replace("/", "\\") if facts.is_windows else whole
