"""The commands that make a place ready to be published to: who may read what, versions kept, nothing listed.

Printed for people to read and run; the publisher itself makes no bucket and changes no policy.
"""

from __future__ import annotations

__all__ = ["setup_commands"]

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from wif.edges.stores.opening import Place, parse_target

if TYPE_CHECKING:
    from wif.config.issuers import TargetSettings


def setup_commands(target: TargetSettings, paths: Sequence[str]) -> tuple[str, ...]:
    """Lines of a shell script for one target; what a line is for stands before it as a comment.

    Args:
        paths: of the documents, below the target.

    Raises:
        ConfigurationError: config-invalid, where it is no target.
    """
    place = parse_target(target.url)
    return tuple(_MAKERS[place.scheme](place, target, [f"{_prefix(place)}{path}" for path in paths]))


def _s3(place: Place, target: TargetSettings, objects: Sequence[str]) -> list[str]:
    bucket = place.parts[0]
    region = target.region or "us-east-1"
    location = "" if region == "us-east-1" else f" --create-bucket-configuration LocationConstraint={region}"
    resources = [f"arn:{_partition(region)}:s3:::{bucket}/{name}" for name in objects]
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resources}
    publisher: list[Mapping[str, object]] = [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": resources},
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"arn:{_partition(region)}:s3:::{bucket}",
            "Condition": {"StringEquals": {"s3:prefix": list(objects)}},
        },
    ]
    return [
        f"aws s3api create-bucket --bucket {bucket} --region {shlex.quote(region)}{location}",
        "# an overwritten key set can be looked at, and brought back",
        f"aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled",
        "# public by policy, never by ACL",
        f"aws s3api put-public-access-block --bucket {bucket} --public-access-block-configuration "
        "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=false,RestrictPublicBuckets=false",
        f"aws s3api put-bucket-policy --bucket {bucket} --policy {_json(_policy([everybody]))}",
        "# the publisher's own policy; without s3:ListBucket an absent object is answered like a forbidden one",
        f"aws iam create-policy --policy-name wif-publisher-{bucket} --policy-document {_json(_policy(publisher))}",
    ]


def _gs(place: Place, _: TargetSettings, objects: Sequence[str]) -> list[str]:
    bucket = place.parts[0]
    names = [f"projects/_/buckets/{bucket}/objects/{name}" for name in objects]
    condition = " || ".join(f'resource.name == "{name}"' for name in names)
    return [
        f"gcloud storage buckets create gs://{bucket} --uniform-bucket-level-access",
        "# an overwritten key set can be looked at, and brought back",
        f"gcloud storage buckets update gs://{bucket} --versioning",
        "# anybody gets an object by its name, and lists nothing",
        f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=allUsers "
        "--role=roles/storage.legacyObjectReader",
        "# the publisher: an overwrite is a create and a delete",
        'gcloud iam roles create oidcPublisher --project="$PROJECT" '
        "--permissions=storage.objects.get,storage.objects.create,storage.objects.delete",
        f'gcloud storage buckets add-iam-policy-binding gs://{bucket} --member="$PUBLISHER" '
        f'--role="projects/$PROJECT/roles/oidcPublisher" '
        f"--condition={shlex.quote('title=oidc-documents,expression=' + condition)}",
    ]


def _az(place: Place, _: TargetSettings, objects: Sequence[str]) -> list[str]:
    account, container = place.parts[0], shlex.quote(place.parts[1])
    shown = ", ".join(objects)
    return [
        f'az storage account create --name {account} --resource-group "$GROUP" --sku Standard_LRS '
        "--allow-blob-public-access true --allow-shared-key-access false --min-tls-version TLS1_2",
        "# an overwritten key set can be looked at, and brought back",
        f"az storage account blob-service-properties update --account-name {account} "
        '--resource-group "$GROUP" --enable-versioning true',
        "# anybody gets a blob by its name, and lists nothing",
        f"az storage container create --account-name {account} --name {container} "
        "--public-access blob --auth-mode login",
        f"# the publisher: read, write and add of {shown}",
        'az role assignment create --role "Storage Blob Data Contributor" --assignee "$PUBLISHER" '
        f'--scope "$(az storage account show --name {account} --query id --output tsv)'
        f'/blobServices/default/containers/{place.parts[1]}"',
    ]


def _gcp_provider(place: Place, _: TargetSettings, objects: Sequence[str]) -> list[str]:  # noqa: ARG001
    return [
        "# whoever may update a provider decides who gets in: a role of its own, for the publisher alone",
        'gcloud iam roles create oidcKeyUploader --project="$PROJECT" '
        "--permissions=iam.workloadIdentityPoolProviders.get,iam.workloadIdentityPoolProviders.update",
        'gcloud projects add-iam-policy-binding "$PROJECT" --member="$PUBLISHER" '
        '--role="projects/$PROJECT/roles/oidcKeyUploader" --condition='
        + shlex.quote(f'title=oidc-keys,expression=resource.name.startsWith("{place.parts[0]}")'),
    ]


def _gke_fleet(place: Place, _: TargetSettings, objects: Sequence[str]) -> list[str]:  # noqa: ARG001
    return [
        f"# the publisher updates {place.parts[0]}",
        'gcloud iam roles create oidcFleetKeyUploader --project="$PROJECT" '
        "--permissions=gkehub.memberships.get,gkehub.memberships.update,gkehub.operations.get",
        'gcloud projects add-iam-policy-binding "$PROJECT" --member="$PUBLISHER" '
        '--role="projects/$PROJECT/roles/oidcFleetKeyUploader" --condition=None',
    ]


def _config_map(place: Place, _: TargetSettings, objects: Sequence[str]) -> list[str]:  # noqa: ARG001
    namespace, name = place.parts
    return [
        "# made empty: a right to create cannot be limited to a name",
        f"kubectl -n {namespace} create configmap {name}",
        f"kubectl -n {namespace} create role wif-publisher-{name} --verb=get,update --resource=configmaps "
        f"--resource-name={name}",
        f"kubectl -n {namespace} create rolebinding wif-publisher-{name} --role=wif-publisher-{name} "
        '--serviceaccount="$PUBLISHER"',
    ]


def _directory(place: Place, _: TargetSettings, objects: Sequence[str]) -> list[str]:  # noqa: ARG001
    return [
        "# the publisher's user writes, everybody reads",
        f"install -d -m 0755 {shlex.quote(place.parts[0])}",
    ]


_MAKERS: Mapping[str, Callable[[Place, TargetSettings, Sequence[str]], list[str]]] = {
    "az": _az,
    "configmap": _config_map,
    "file": _directory,
    "gcp-provider": _gcp_provider,
    "gke-fleet": _gke_fleet,
    "gs": _gs,
    "s3": _s3,
}


def _prefix(place: Place) -> str:
    prefix = place.parts[-1] if place.scheme in ("s3", "gs", "az") else ""
    return f"{prefix}/" if prefix else ""


def _partition(region: str) -> str:
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def _policy(statements: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _json(value: Mapping[str, object]) -> str:
    return shlex.quote(json.dumps(value, separators=(",", ":")))
