"""What a patch changes, as values; and a pod that can be shown."""

from __future__ import annotations

from typing import Any

from wif.admission.changes import HIDDEN, Changes, ContainerChange, Token, VolumeChange, changes, masked

TOKEN = {"serviceAccountToken": {"audience": "sts.amazonaws.com", "expirationSeconds": 900, "path": "aws/token"}}
PASSWORD = {"name": "PASSWORD", "value": "hunter2"}
ROLE = {"name": "AWS_ROLE_ARN", "value": "arn"}
MOUNT = {"name": "wif", "mountPath": "/wif", "readOnly": True}


def pod(*containers: dict[str, Any], metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": metadata or {}, "spec": {"containers": list(containers), **spec}}


def volume(*sources: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"name": "wif", "projected": {"sources": list(sources), **members}}


def test_an_untouched_pod_has_no_changes_but_all_its_containers() -> None:
    same = pod({"name": "a", "env": [PASSWORD]}, initContainers=[{"name": "i"}], volumes=[volume(TOKEN)])
    assert changes(same, same) == Changes(
        (), (ContainerChange("i", "init", False, (), ()), ContainerChange("a", "container", False, (), ())), (), (), ()
    )


def test_what_is_added_is_shown_by_name_and_value() -> None:
    before = pod({"name": "a", "env": [PASSWORD]}, metadata={"annotations": {"x": "1"}})
    after = pod(
        {"name": "a", "env": [PASSWORD, ROLE], "volumeMounts": [MOUNT]},
        metadata={"annotations": {"x": "1", "y": "2"}, "labels": {"l": "3"}},
        volumes=[volume(TOKEN, defaultMode=0o444)],
    )
    found = changes(before, after)
    token = Token("wif", "sts.amazonaws.com", 900, "aws/token")
    assert found.volumes == (VolumeChange("wif", True, (token,), (), "0444"),)
    assert found.tokens == (token,)
    assert found.containers == (
        ContainerChange("a", "container", False, (("AWS_ROLE_ARN", "arn"),), (("wif", "/wif"),)),
    )
    assert (found.annotations, found.labels, found.removed) == ((("y", "2"),), (("l", "3"),), ())


def test_what_is_replaced_is_shown_as_it_is_afterwards() -> None:
    before = pod(
        {
            "name": "a",
            "env": [{"name": "AWS_ROLE_ARN", "valueFrom": {}}],
            "volumeMounts": [{**MOUNT, "readOnly": False}],
        },
        volumes=[{"name": "wif", "emptyDir": {}}],
        metadata={"annotations": {"y": "1"}},
    )
    after = pod(
        {"name": "a", "env": [ROLE], "volumeMounts": [MOUNT]},
        volumes=[volume(TOKEN)],
        metadata={"annotations": {"y": "2"}},
    )
    found = changes(before, after)
    assert not found.volumes[0].is_new
    assert found.containers[0].variables == (("AWS_ROLE_ARN", "arn"),)
    assert found.containers[0].mounts == (("wif", "/wif"),)
    assert found.annotations == (("y", "2"),)


def test_each_kind_of_container_is_told() -> None:
    after = pod(
        {"name": "a"},
        initContainers=[{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        ephemeralContainers=[{"name": "d"}],
    )
    found = changes(pod({"name": "a"}), after).containers
    assert [(each.name, each.kind, each.is_new) for each in found] == [
        ("i", "init", True),
        ("s", "sidecar", True),
        ("a", "container", False),
        ("d", "ephemeral", True),
    ]


def test_every_file_of_a_volume_is_described() -> None:
    sources: list[dict[str, Any]] = [
        {"serviceAccountToken": {"path": "t"}},
        {
            "downwardAPI": {
                "items": [
                    {"path": "gcp.json", "fieldRef": {"fieldPath": "metadata.annotations['wif.internal/file.gcp']"}},
                    {"path": "cpu", "resourceFieldRef": {"resource": "limits.cpu"}},
                    {"path": "uid", "fieldRef": {"fieldPath": "metadata.uid"}},
                ]
            }
        },
        {"configMap": {"name": "ca", "items": []}},
        {"clusterTrustBundle": {"path": "ca.crt"}},
    ]
    config = {
        "name": "external",
        "downwardAPI": {"items": [{"path": "f.json", "fieldRef": {"fieldPath": "metadata.name"}}]},
    }
    after = pod({"name": "a"}, volumes=[volume(*sources), config, {"name": "gcloud", "emptyDir": {}}])
    memory = pod({"name": "a"}, volumes=[{"name": "m", "emptyDir": {"medium": "Memory"}}])
    assert changes(pod({"name": "a"}), memory).volumes[0].files == ("an empty folder in memory",)
    wif, external, gcloud = changes(pod({"name": "a"}), after).volumes
    assert wif.tokens == (Token("wif", "", 3600, "t"),)
    assert wif.files == (
        "gcp.json from the annotation wif.internal/file.gcp",
        "cpu from ",
        "uid from metadata.uid",
        "files of the ConfigMap ca",
        "ca.crt from a ClusterTrustBundle",
    )
    assert wif.mode == ""
    assert external.files == ("f.json from metadata.name",)
    assert gcloud.files == ("an empty folder",)


def test_what_is_taken_away_is_named() -> None:
    before = pod(
        {"name": "a", "env": [PASSWORD, ROLE], "volumeMounts": [MOUNT]},
        initContainers=[{"name": "gcloud-setup"}],
        volumes=[volume(TOKEN)],
    )
    after = pod({"name": "a", "env": [PASSWORD]}, volumes=[])
    assert changes(before, after).removed == (
        "volume wif",
        "container gcloud-setup",
        "variable AWS_ROLE_ARN of the container a",
        "mount /wif of the container a",
    )


def test_only_the_pods_own_values_are_hidden() -> None:
    own = {"name": "KEPT", "value": "secret"}
    from_secret = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "n", "key": "k"}}}
    before = pod(
        {"name": "a", "env": [PASSWORD, own, from_secret, {"name": "AWS_ROLE_ARN", "value": "before"}]},
        {"name": "b", "env": []},
    )
    after = pod({"name": "a", "env": [PASSWORD, own, from_secret, ROLE]}, {"name": "b", "env": [ROLE]}, {"name": "c"})
    shown = masked(after, before)
    assert shown["spec"]["containers"][0]["env"] == [
        {"name": "PASSWORD", "value": HIDDEN},
        {"name": "KEPT", "value": HIDDEN},
        from_secret,
        ROLE,
    ]
    assert shown["spec"]["containers"][1]["env"] == [ROLE]
    assert "before" not in str(masked(before, before))
    assert after["spec"]["containers"][0]["env"][0] == PASSWORD


def test_kubectls_copy_of_the_manifest_is_hidden() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": '{"env": "hunter2"}', "x": "y"}
    before = pod({"name": "a"}, metadata={"annotations": annotations})
    assert masked(before, before)["metadata"]["annotations"] == {
        "kubectl.kubernetes.io/last-applied-configuration": HIDDEN,
        "x": "y",
    }
    assert masked({}, {}) == {"metadata": {}, "spec": {}}


def test_a_variable_that_comes_from_elsewhere_says_so() -> None:
    field = {"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}
    secret = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    (found,) = changes(pod({"name": "a"}), pod({"name": "a", "env": [field, secret, {"name": "V"}]})).containers
    assert found.variables == (("IP", "(from status.podIP)"), ("S", ""), ("V", ""))
