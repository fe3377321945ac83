"""The mode ``sidecar``: what a pod is given, and which pods cannot have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import SIDECAR, PodFacts, Reading
from wif.admission.dialects.native import read
from wif.admission.dialects.native_sidecar import INTERFACES
from wif.admission.injection import POD_SECRET, Part
from wif.clouds.endpoint_variables import LEADING_ELSEWHERE
from wif.config.sidecar import SidecarSettings, load_sidecar
from wif.config.webhook import WebhookSettings, load_webhook

ROLE = "arn:aws:iam::111122223333:role/app"
READER = "arn:aws:iam::111122223333:role/reader"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
EMAIL = "app@my-project.iam.gserviceaccount.com"
GUID = "11111111-2222-3333-4444-555555555555"
OTHER = "66666666-7777-8888-9999-000000000000"
IMAGE = "registry.example/wif:1"
SETTINGS = WebhookSettings(sidecar_image=IMAGE, sidecar_gce_metadata=True)
AWS = {"aws.role-arn": ROLE, "aws.region": "eu-central-1"}
READERS = {"aws.reader.role-arn": READER}
GCP = {"gcp.provider": PROVIDER, "gcp.service-account": EMAIL}
AZURE = {"azure.client-id": GUID, "azure.tenant-id": GUID}
ALL = AWS | GCP | AZURE
SIDE = {"mode": "sidecar"}


def reading(
    account: Mapping[str, str],
    pod: Mapping[str, str] | None = None,
    settings: WebhookSettings = SETTINGS,
    **facts: Any,
) -> Reading:
    annotations = {f"wif.internal/{key}": value for key, value in account.items()}
    of_pod = sorted((f"wif.internal/{key}", value) for key, value in (pod or {}).items())
    found = read(ServiceAccount("team-a", "app", "u-1", annotations), PodFacts(tuple(of_pod), **facts), settings)
    assert not found.parts or all(finding.level != "deny" for finding in found.findings)
    return found


def parts(account: Mapping[str, str], pod: Mapping[str, str] | None = None, **more: Any) -> dict[str, Part]:
    """By identity; nobody complains."""
    found = reading({**account, **SIDE}, pod, **more)
    assert [finding for finding in found.findings if finding.level != "note"] == []
    return {part.identity: part for part in found.parts}


def rules(account: Mapping[str, str], pod: Mapping[str, str] | None = None, **more: Any) -> list[tuple[str, str]]:
    found = reading(account, pod, **more)
    return [(finding.rule, finding.level) for finding in found.findings]


def env(part: Part) -> dict[str, str]:
    return {variable.name: variable.value for group in part.env for variable in group.variables}


def rule_of(part: Part, name: str) -> str:
    (rule,) = [group.rule for group in part.env if name in [variable.name for variable in group.variables]]
    return rule


def container(part: Part) -> dict[str, Any]:
    (own,) = part.init_containers
    return dict(own.content)


def volumes(part: Part) -> dict[str, Any]:
    return {volume.name: volume.content for volume in part.volumes}


def served(part: Part) -> SidecarSettings:
    """What the sidecar reads."""
    (text,) = part.annotations.values()
    document = json.loads(text)
    assert set(document) == {"sidecar"}
    return load_sidecar(document["sidecar"])


def identity(settings: SidecarSettings, name: str) -> Any:
    """One of them, whichever cloud's it is."""
    return settings.identities[name]


# -- the sidecar -------------------------------------------------------------------------------------------------------


def test_three_clouds_by_one_sidecar() -> None:
    found = parts(ALL)
    assert list(found) == [ROLE, EMAIL, GUID]
    first = found[ROLE]
    for part in found.values():
        assert (part.dialect, part.only, part.skip) == ("native", None, frozenset())
        assert (part.volumes, part.init_containers, part.annotations) == (
            first.volumes,
            first.init_containers,
            first.annotations,
        )
        assert part.audiences == ("sts.amazonaws.com", "sts.googleapis.com", "api://AzureADTokenExchange")
    assert [(mount.volume, mount.path, mount.read_only) for mount in first.mounts] == [
        (SIDECAR, "/var/run/wif-sidecar", True)
    ]
    assert found[EMAIL].mounts == found[GUID].mounts == ()


def test_the_container() -> None:
    made = container(parts(ALL)[ROLE])
    assert made["image"] == IMAGE
    assert made["args"] == ["sidecar", "serve", "--config-file", "/var/run/secrets/wif/sidecar/wif.yaml"]
    assert made["restartPolicy"] == "Always"
    assert made["startupProbe"]["httpGet"] == {"path": "/healthz", "port": 8788, "scheme": "HTTP"}
    assert made["ports"] == [{"name": "wif-health", "containerPort": 8788, "protocol": "TCP"}]
    assert made["volumeMounts"] == [
        {"name": "wif", "mountPath": "/var/run/secrets/wif", "readOnly": True},
        {"name": SIDECAR, "mountPath": "/var/run/wif-sidecar"},
    ]
    assert made["securityContext"] == {
        "runAsUser": 64829,
        "runAsGroup": 64829,
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert [entry["name"] for entry in made["env"]] == ["IDENTITY_HEADER", "WIF_POD_IP", "WIF_HOST_IP"]
    assert made["env"][0]["value"] == POD_SECRET
    assert made["resources"]["limits"] == {"memory": "128Mi"}
    assert "imagePullPolicy" not in made


def test_what_the_settings_say_of_it() -> None:
    settings = WebhookSettings(
        sidecar_image=IMAGE,
        sidecar_pull_policy="Never",
        sidecar_resources={"limits": {"cpu": "1"}},
        sidecar_env={"HTTPS_PROXY": "http://proxy.example:3128"},
        sidecar_uid=None,
        sidecar_address="[::1]",
        sidecar_port=9001,
        sidecar_health_port=9002,
        sidecar_imds=True,
    )
    part = parts(AZURE, settings=settings)[GUID]
    made = container(part)
    assert made["resources"] == {"limits": {"cpu": "1"}}
    assert made["imagePullPolicy"] == "Never"
    assert made["env"][0] == {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}
    assert not {"runAsUser", "runAsGroup"} & set(made["securityContext"])
    assert made["startupProbe"]["httpGet"]["port"] == 9002
    found = served(part)
    assert (found.listen, found.health_address, found.imds) == (("[::1]:9001",), ":9002", True)
    assert env(part)["IDENTITY_ENDPOINT"] == "http://[::1]:9001/azure/token"
    assert env(part)["AZURE_POD_IDENTITY_AUTHORITY_HOST"] == "http://[::1]:9001"
    assert env(part)["NO_PROXY"] == "127.0.0.1,localhost,::1"


def test_only_what_is_needed() -> None:
    """No secret's volume without AWS, no header without Azure."""
    google = parts(GCP)[EMAIL]
    assert set(volumes(google)) == {"wif"}
    assert [entry["name"] for entry in container(google)["env"]] == ["WIF_POD_IP", "WIF_HOST_IP"]
    assert [mount["name"] for mount in container(google)["volumeMounts"]] == ["wif"]
    assert not google.has_secret
    assert not parts(AWS)[ROLE].has_secret
    assert parts(AZURE)[GUID].has_secret


def test_the_volumes() -> None:
    found = volumes(parts(ALL)[ROLE])
    assert found[SIDECAR] == {"name": SIDECAR, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    *tokens, files = found["wif"]["projected"]["sources"]
    assert [each["serviceAccountToken"]["path"] for each in tokens] == ["aws/token", "gcp/token", "azure/token"]
    (item,) = files["downwardAPI"]["items"]
    assert (item["path"], item["fieldRef"]["fieldPath"]) == (
        "sidecar/wif.yaml",
        "metadata.annotations['wif.internal/file.sidecar']",
    )


@pytest.mark.parametrize("settings", [SETTINGS, load_webhook({"compat": "pfn", "sidecar_image": IMAGE})])
@pytest.mark.parametrize(("has_group", "mode"), [(True, 0o440), (False, 0o444)])
def test_who_may_read_tokens_and_the_secret(has_group: bool, mode: int, settings: WebhookSettings) -> None:
    """The sidecar, whose user is in no group of the pod but fsGroup, whatever mode files are to have elsewhere."""
    part = parts(AWS, has_fs_group=has_group, settings=settings)[ROLE]
    assert served(part).secret_mode == mode
    assert volumes(part)["wif"]["projected"]["defaultMode"] == mode


# -- its settings ------------------------------------------------------------------------------------------------------


def test_what_the_sidecar_is_told() -> None:
    found = served(parts(ALL | READERS | {"aws.reader.audience": "other", "gcp.project": "p-12345"})[ROLE])
    assert set(found.identities) == {"aws", "aws.reader", "gcp", "azure"}
    assert found.default == {"aws": "aws", "gcp": "gcp", "azure": "azure"}
    one, two = identity(found, "aws"), identity(found, "aws.reader")
    assert (one.cloud, one.role_arn, one.region, one.session_name, one.token_file) == (
        *("aws", ROLE, "eu-central-1", "team-a.app"),
        "/var/run/secrets/wif/aws/token",
    )
    assert (two.cloud, two.role_arn, two.region, two.token_file) == (
        *("aws", READER, None),
        "/var/run/secrets/wif/aws/reader/token",
    )
    google = identity(found, "gcp")
    assert (google.cloud, google.service_account, google.project) == ("gcp", EMAIL, "p-12345")
    assert (google.provider, google.token_file) == (
        f"//iam.googleapis.com/{PROVIDER}",
        "/var/run/secrets/wif/gcp/token",
    )
    azure = identity(found, "azure")
    assert (azure.cloud, azure.tenant_id, azure.client_id) == ("azure", GUID, GUID)
    assert azure.authority_host == "https://login.microsoftonline.com/"
    assert (found.gce_metadata, found.imds, found.force_host_network) == (True, False, False)
    assert found.secret_file == "/var/run/wif-sidecar/authorization"


def test_direct_access_has_a_project_only_where_it_is_said() -> None:
    direct = {"gcp.provider": PROVIDER}
    (part,) = parts(direct).values()
    assert "GOOGLE_CLOUD_PROJECT" not in env(part)
    assert identity(served(part), "gcp").project is None
    (part,) = parts(direct | {"gcp.project": "p-12345", "gcp.region": "europe-west3"}).values()
    assert env(part)["GOOGLE_CLOUD_PROJECT"] == "p-12345"
    assert env(part)["CLOUDSDK_COMPUTE_REGION"] == "europe-west3"
    assert identity(served(part), "gcp").region == "europe-west3"


def test_a_cloud_that_the_pod_does_without_is_not_served() -> None:
    found = served(parts(ALL, {"use": "gcp=none"}, settings=WebhookSettings(sidecar_image=IMAGE))[ROLE])
    assert set(found.identities) == {"aws", "azure"}


# -- variables ---------------------------------------------------------------------------------------------------------


def test_the_variables() -> None:
    found = parts(ALL)
    assert env(found[ROLE]) == {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:8787/aws/aws",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/var/run/wif-sidecar/authorization",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    assert env(found[EMAIL]) == {
        **dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"), "127.0.0.1:8787"),
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    assert env(found[GUID]) == {
        "IDENTITY_ENDPOINT": "http://127.0.0.1:8787/azure/token",
        "IDENTITY_HEADER": POD_SECRET,
        "AZURE_CLIENT_ID": GUID,
        "AZURE_TENANT_ID": GUID,
        "AZURE_TOKEN_CREDENTIALS": "prod",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def test_nothing_leads_an_sdk_past_the_sidecar() -> None:
    settings = WebhookSettings(sidecar_image=IMAGE, sidecar_gce_metadata=True, sidecar_imds=True)
    for part in parts(ALL, settings=settings).values():
        foreign = {name: each for names in LEADING_ELSEWHERE.values() for name, each in names.items()}
        assert all(value in foreign[name].harmless for name, value in env(part).items() if name in foreign)
        assert part.misleading is not None
        assert set(LEADING_ELSEWHERE[part.cloud]) <= set(part.misleading)  # type: ignore[index]  # a cloud's name
        assert "AWS_ENDPOINT_URL" not in part.misleading


def test_half_a_pair_of_app_service_never_results() -> None:
    found = parts(ALL)
    assert {rule_of(found[GUID], name) for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")} == {"take"}
    assert {rule_of(found[ROLE], name) for name in INTERFACES["aws"][1]} == {"group"}
    assert {rule_of(found[EMAIL], name) for name in INTERFACES["gcp"][1]} == {"group"}
    assert rule_of(found[ROLE], "NO_PROXY") == "merge"
    misleading = {name for part in found.values() for name in part.misleading or ()}
    assert {*INTERFACES["aws"][1], *INTERFACES["gcp"][1], *INTERFACES["imds"][1]} <= misleading


def test_each_container_its_identity() -> None:
    found = parts(AWS | READERS | {"aws.reader.containers": "b"}, {"use.b": "aws=reader"})
    assert env(found[READER])["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:8787/aws/aws.reader"
    assert env(found[ROLE])["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:8787/aws/aws"
    assert (found[READER].only, found[ROLE].skip) == (frozenset("b"), frozenset("b"))
    assert served(found[ROLE]).default == {"aws": "aws"}


def test_an_undecided_role_is_refused_by_the_sidecar_alone() -> None:
    """With a variable, so that an SDK does not go on to the node's own role."""
    found = reading(READERS | {"aws.writer.role-arn": ROLE} | SIDE)
    (part,) = found.parts
    assert part.identity == "undecided"
    assert env(part)["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://127.0.0.1:8787/aws"
    assert "AWS_REGION" not in env(part)
    assert served(part).default_name("aws") is None


def test_an_undecided_container_is_not_given_anothers_default() -> None:
    account = {"aws.role-arn": ROLE, "aws.containers": "b"}
    for name in ("reader", "writer"):
        account |= {f"aws.{name}.role-arn": READER, f"aws.{name}.containers": "a"}
    found = reading(account | SIDE)
    assert {part.identity: part.only for part in found.parts} == {ROLE: frozenset("b"), "undecided": frozenset("a")}
    assert served(found.parts[0]).default_name("aws") is None


def test_what_the_others_are_told_to_keep_off() -> None:
    """The ports, and the mount of the secret, which stays read-only."""
    part = parts(ALL)[ROLE]
    assert part.init_containers[0].ports == (8787, 8788)
    assert [(mount.volume, mount.collision) for mount in part.mounts] == [(SIDECAR, "replace")]


# -- who says the mode -------------------------------------------------------------------------------------------------


def test_a_pod_may_ask_for_it_and_not_do_without() -> None:
    assert reading(AWS, SIDE).parts[0].init_containers
    assert reading(AWS | {"mode": "files"}, SIDE).parts[0].init_containers
    assert not reading(AWS, {"mode": "files"}).parts[0].init_containers
    assert rules(AWS | SIDE, {"mode": "files"}) == [("mode-of-account", "deny")]
    assert rules(AWS | SIDE, SIDE) == []
    assert rules(SIDE) == []


@pytest.mark.parametrize(
    ("account", "pod", "more", "rule"),
    [
        (AWS, {}, {"settings": WebhookSettings()}, "setting-missing"),
        (AWS, {}, {"is_windows": True}, "sidecar-windows"),
        (AWS, {}, {"host_network": True}, "sidecar-host-network"),
        (GCP, {}, {"settings": WebhookSettings(sidecar_image=IMAGE)}, "sidecar-metadata-off"),
        (GCP | {"gcp.b.provider": PROVIDER}, {"use.c": "gcp=b"}, {}, "sidecar-one-identity"),
        (
            {"gcp.a.provider": PROVIDER, "gcp.b.direct": "true", "gcp.b.provider": PROVIDER},
            {},
            {},
            "sidecar-identity-undecided",
        ),
        (
            {f"azure.{name}.{field}": GUID for name in "ab" for field in ("client-id", "tenant-id")},
            {},
            {},
            "sidecar-identity-undecided",
        ),
        (AZURE | {"azure.b.client-id": GUID, "azure.b.tenant-id": GUID}, {}, {}, "sidecar-refused"),
    ],
)
def test_which_pods_cannot_have_it(
    account: Mapping[str, str], pod: Mapping[str, str], more: Mapping[str, Any], rule: str
) -> None:
    found = reading({**account, **SIDE}, pod, **more)
    assert found.parts == ()
    denied = [finding for finding in found.findings if finding.level == "deny"]
    assert [finding.rule for finding in denied] == [rule]
    assert denied[0].message.startswith("the pod: ")


def test_no_sidecar_for_a_pod_that_skips_all_its_containers() -> None:
    """And no token by another dialect in its place."""
    found = reading(ALL | SIDE, skips_all=True, host_network=True)
    assert found.parts == ()
    said = [(finding.rule, finding.level, finding.cloud) for finding in found.findings]
    assert said == [("cloud-skipped", "note", cloud) for cloud in ("aws", "gcp", "azure")]
    assert reading(ALL, skips_all=True).parts


def test_the_refusal_says_what_the_sidecar_would() -> None:
    (finding,) = reading(AZURE | {"azure.b.client-id": GUID, "azure.b.tenant-id": GUID} | SIDE).findings
    assert "client id" in finding.message
    assert GUID in finding.message


def test_the_network_of_the_node_can_be_forced() -> None:
    settings = WebhookSettings(sidecar_image=IMAGE, sidecar_force_host_network=True)
    assert served(parts(AWS, host_network=True, settings=settings)[ROLE]).force_host_network
    assert not served(parts(AWS, settings=settings)[ROLE]).force_host_network


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"shares_processes": True}, "sidecar-processes-shared"),
        ({"users": (1000, 64829)}, "sidecar-user-shared"),
    ],
)
def test_what_is_doubtful_is_said(more: Mapping[str, Any], rule: str) -> None:
    found = reading(AWS | SIDE, **more)
    assert [(finding.rule, finding.level) for finding in found.findings] == [(rule, "warning")]
    assert found.parts[0].init_containers
    assert rules(AWS, **more) == []


def test_where_the_cluster_chooses_the_user_it_is_the_pods() -> None:
    chosen = WebhookSettings(sidecar_image=IMAGE, sidecar_uid=None)
    assert rules(AWS | SIDE, settings=chosen, users=(1000,)) == []
    shared = rules(AWS | SIDE, settings=chosen, users=(1000,), pod_user=1000)
    assert shared == [("sidecar-user-shared", "warning")]
    assert rules(AWS | SIDE, settings=chosen, users=(0,), pod_user=0) == [("sidecar-user-root", "deny")]
    assert rules(AWS | SIDE, users=(0,), pod_user=0) == []


def test_resources_of_the_pod_are_the_sidecars_too() -> None:
    """A request of its own beside them may be more than they leave, and is refused then."""
    settings = WebhookSettings(sidecar_image=IMAGE, sidecar_resources={"limits": {"cpu": "1"}})
    assert "resources" not in container(parts(AWS, has_resources=True)[ROLE])
    assert "resources" not in container(parts(AWS, has_resources=True, settings=settings)[ROLE])


def test_several_identities_of_azure_have_one_default() -> None:
    account = AZURE | {"azure.b.client-id": OTHER, "azure.b.tenant-id": GUID}
    assert served(parts(account)[GUID]).default == {"azure": "azure"}
    found = reading({**account, **SIDE}, {"use.c": "azure=b"})
    assert [(finding.rule, finding.level) for finding in found.findings] == [("sidecar-default-shared", "warning")]
    by_client = {part.identity: part for part in found.parts}
    assert env(by_client[OTHER])["AZURE_CLIENT_ID"] == OTHER
    assert served(by_client[OTHER]).default == {"azure": "azure"}
    named = reading({**account, **SIDE}, {"use": "azure=none", "use.c": "azure=b", "use.d": "azure=default"})
    assert [finding.rule for finding in named.findings] == ["cloud-skipped", "sidecar-default-shared"]
    assert served(named.parts[0]).default == {"azure": "azure"}
    alone = reading({**account, **SIDE}, {"use": "azure=none", "use.c": "azure=b"})
    assert served(alone.parts[0]).default == {"azure": "azure.b"}
