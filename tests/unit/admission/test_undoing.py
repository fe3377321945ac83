"""Taking away what was injected for another ServiceAccount, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pods_under_review import (
    ACCOUNT,
    RECORD,
    after,
    container,
    document,
    new_pod,
    part,
    plan_of,
    token_volume,
)
from wif.admission.injection import InitContainer, Mount, Part, Volume
from wif.admission.patch import apply_patch
from wif.admission.readings import Plan
from wif.admission.record import Record, read_record
from wif.admission.undoing import undo

HASHED = part("azure", volume=token_volume("azure-{pod-hash}"))


def undone(plan: Plan, pod: dict[str, Any]) -> dict[str, Any]:
    record = read_record(document(pod).pod, RECORD) or Record(ACCOUNT.name, ACCOUNT.uid)
    done: dict[str, Any] = apply_patch(pod, undo(plan, document(pod), record, RECORD))
    return done


def rich(**more: Any) -> dict[str, Any]:
    return new_pod(
        container("a", env={"OWN": "1"}, mounts={"own": "/own"}),
        container("b"),
        volumes=[{"name": "own", "emptyDir": {}}],
        initContainers=[container("i", env={"X": ""})],
        metadata={"name": "pod", "annotations": {"own": "1"}, "labels": {"app": "x"}},
        **more,
    )


@pytest.mark.parametrize("pod", [new_pod(), rich(), new_pod(metadata={"generateName": "a-", "labels": {"app": "x"}})])
@pytest.mark.parametrize(
    "plan",
    [
        plan_of(part()),
        plan_of(part(annotations={"x/y": "1"}, labels={"l": "m"}), part("gcp"), HASHED),
        plan_of(part(volumes=(Volume(token_volume("aws-token"), first=True),), skip=frozenset({"b"}))),
        plan_of(part(init_containers=(InitContainer({"name": "setup", "image": "i"}),))),
    ],
)
def test_a_pod_is_as_it_was(plan: Plan, pod: dict[str, Any]) -> None:
    assert undone(plan, after(plan, pod)) == pod


def test_the_api_servers_defaults_are_taken_away_with_it() -> None:
    plan = plan_of(part())
    done = after(plan, rich())
    volume = next(each for each in done["spec"]["volumes"] if each["name"] == "aws-token")
    volume["projected"]["defaultMode"] = 420
    assert undone(plan, done) == rich()


def test_only_what_is_equal_is_taken_away() -> None:
    plan = plan_of(part(annotations={"x/y": "1"}))
    done = after(plan, rich())
    done["spec"]["containers"][0]["env"][-1]["value"] = "changed"
    done["metadata"]["annotations"]["x/y"] = "changed"
    said = undone(plan, done)
    assert said["spec"]["containers"][0]["env"][-1] == {"name": "AWS_ID", "value": "changed"}
    assert said["metadata"]["annotations"] == {"own": "1", "x/y": "changed"}
    assert said["spec"]["volumes"] == rich()["spec"]["volumes"]


def test_a_volume_that_was_changed_stays_with_its_mounts() -> None:
    plan = plan_of(part())
    done = after(plan, new_pod())
    done["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = 7200
    said = undone(plan, done)
    assert said["spec"]["volumes"] == done["spec"]["volumes"]
    assert said["spec"]["containers"][0]["volumeMounts"]
    assert "env" not in said["spec"]["containers"][0]


def test_nothing_of_a_part_whose_volume_was_never_ours() -> None:
    plan = plan_of(part())
    pod = new_pod(container(env={"AWS_ID": "role"}), volumes=[{"name": "aws-token", "emptyDir": {}}])
    pod["metadata"]["annotations"] = {RECORD: "x"}
    assert undone(plan, pod)["spec"] == pod["spec"]


@pytest.mark.parametrize("member", ["containers", "initContainers", "ephemeralContainers"])
def test_a_volume_that_something_else_mounts_stays(member: str) -> None:
    plan = plan_of(part())
    done = after(plan, new_pod())
    done["spec"].setdefault(member, []).append(container("other", mounts={"aws-token": "/elsewhere"}))
    said = undone(plan, done)
    assert [volume["name"] for volume in said["spec"]["volumes"]] == ["aws-token"]
    assert "volumeMounts" not in said["spec"]["containers"][0]


def test_a_container_that_was_skipped_is_not_touched() -> None:
    plan = plan_of(part(skip=frozenset({"b"})))
    pod = new_pod(container("a"), container("b", env={"AWS_ID": "role"}))
    assert undone(plan, after(plan, pod)) == pod


def test_our_init_container_goes_only_as_a_whole() -> None:
    setup = InitContainer({"name": "setup", "image": "i", "volumeMounts": [{"name": "aws-token", "mountPath": "/t"}]})
    plan = plan_of(part(init_containers=(setup,)))
    done = after(plan, rich())
    done["spec"]["initContainers"][0]["imagePullPolicy"] = "Always"
    assert undone(plan, done) == rich()
    done["spec"]["initContainers"][0]["command"] = ["other"]
    said = undone(plan, done)
    assert [each["name"] for each in said["spec"]["initContainers"]] == ["setup", "i"]
    assert [each["name"] for each in said["spec"]["volumes"]] == ["own", "aws-token"]


def test_what_the_cluster_does_to_our_init_container_does_not_keep_it() -> None:
    """The ServiceAccount plugin mounts the API server's token into it; images come from a mirror."""
    mount = {"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
    setup = {
        "name": "setup",
        "image": "i",
        "command": ["sh"],
        "volumeMounts": [{"name": "aws-token", "mountPath": "/t"}],
    }
    plan = plan_of(part(init_containers=(InitContainer(setup),)))
    done = after(plan, rich())
    found = done["spec"]["initContainers"][0]
    found.update(image="mirror.example/i", imagePullPolicy="Always", resources={"limits": {"cpu": "1"}})
    found["volumeMounts"].append(mount)
    assert undone(plan, done) == rich()


def test_an_init_container_that_stays_keeps_what_it_needs() -> None:
    """Its mounts are those of the others, as gcloud-setup's are: without the volumes the pod would be refused."""
    setup = {"name": "setup", "image": "i", "volumeMounts": [{"name": "aws-token", "mountPath": "/var/run/aws"}]}
    setup["volumeMounts"][0]["readOnly"] = True  # type: ignore[index]  # the list above
    plan = plan_of(part(annotations={"x/file": "1"}, init_containers=(InitContainer(setup),)))
    done = after(plan, rich())
    done["spec"]["initContainers"][0]["command"] = ["other"]
    said = undone(plan, done)
    assert [each["name"] for each in said["spec"]["volumes"]] == ["own", "aws-token"]
    assert said["metadata"]["annotations"] == {"own": "1", "x/file": "1"}
    assert said["spec"]["containers"] == rich()["spec"]["containers"]


def test_an_annotation_that_the_pod_had_itself_stays() -> None:
    plan = plan_of(part(annotations={"x/y": "1", "x/z": "1"}))
    pod = new_pod(metadata={"name": "pod", "annotations": {"x/y": "1"}})
    assert undone(plan, after(plan, pod)) == pod


def test_a_part_without_volumes() -> None:
    bare = Part(dialect="eks", cloud="aws", identity="r", mounts=(Mount("own", "/m"),))
    pod = new_pod(container(mounts=[{"name": "own", "mountPath": "/m", "readOnly": True}]), volumes=[{"name": "own"}])
    pod["metadata"]["annotations"] = {RECORD: "x"}
    assert json.dumps(undone(plan_of(bare), pod)["spec"]) == json.dumps(pod["spec"])
