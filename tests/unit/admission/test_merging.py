"""A plan, fitted into a pod."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pods_under_review import RECORD, after, container, document, fitted, new_pod, part, plan_of, token_volume
from wif.admission.injection import Collision, EnvGroup, InitContainer, Mount, Part, Variable, Volume
from wif.admission.merging import fit, fit_ephemeral
from wif.admission.patch import apply_patch
from wif.admission.readings import Plan
from wif.admission.record import Record

SETUP = {"name": "setup", "image": "operator/image", "resources": {}, "env": [{"name": "A", "value": "1"}]}
HASHED = part("azure", volume=token_volume("azure-{pod-hash}"))
KNOWN = Record("app", "uid-1", {"aws": "role"})


def record_of(pod: dict[str, Any]) -> Any:
    return json.loads(pod["metadata"]["annotations"][RECORD])


def ephemeral(plan: Plan, pod: dict[str, Any], *old: str, detailed: bool = False) -> Any:
    return fit_ephemeral(plan, document(pod), frozenset(old), detailed=detailed)


def test_every_container_of_both_lists_and_the_record() -> None:
    pod = new_pod(
        container("a"), container("b", env={"OWN": "1"}), initContainers=[container("i", restartPolicy="Always")]
    )
    done = after(plan_of(part(), part("gcp")), pod)
    for each in (*done["spec"]["containers"], *done["spec"]["initContainers"]):
        assert {"AWS_ID", "GCP_ID"} <= {entry["name"] for entry in each["env"]}
        assert len(each["volumeMounts"]) == 2
    assert done["spec"]["initContainers"][0]["restartPolicy"] == "Always"
    assert record_of(done) == {"serviceAccount": "app", "uid": "uid-1", "clouds": {"aws": "role", "gcp": "role"}}


def test_a_second_time_nothing_changes() -> None:
    plan = plan_of(part(annotations={"x/y": "1"}, labels={"l": "m"}), HASHED)
    done = after(plan, new_pod(container("a"), container("b", mounts={"own": "/own"}), volumes=[{"name": "own"}]))
    said = fitted(plan, done, KNOWN)
    assert said.patch is None
    assert said.findings == ()
    assert said.active == (0, 1)


def test_the_quick_way_and_the_long_way_give_one_patch() -> None:
    plan = plan_of(part(labels={"l": "m"}), part("gcp", skip=frozenset({"b"})), HASHED)
    pods = [
        new_pod(container("a", env={}, mounts={}), container("b"), initContainers=[container("c", env=[])], volumes=[]),
        new_pod(container("a", env={"OWN": "1"}), container("b"), metadata={"name": "n", "labels": {"x": "y"}}),
    ]
    for pod in pods:
        quick, long = fitted(plan, pod), fitted(plan, pod, detailed=True)
        assert quick.patch is not None
        assert sorted(json.loads(quick.patch), key=str) == sorted(json.loads(long.patch or b"[]"), key=str)
        assert quick.outcomes == ()
        assert len(long.outcomes) == 3 * sum(len(pod["spec"].get(x, ())) for x in ("containers", "initContainers"))
        assert fitted(plan, pod).patch == quick.patch


def test_outcomes_say_which_kind_a_container_is() -> None:
    pod = new_pod(initContainers=[container("i"), container("s", restartPolicy="Always")])
    assert [(each.container, each.kind) for each in fitted(plan_of(part()), pod, detailed=True).outcomes] == [
        ("main", "container"),
        ("i", "init"),
        ("s", "sidecar"),
    ]


def test_variables_from_elsewhere_are_told_in_detail_only() -> None:
    pod = new_pod(container(envFrom=[{"secretRef": {"name": "s"}}]))
    assert [each.rule for each in fitted(plan_of(part()), pod, detailed=True).findings] == ["env-from"]
    assert fitted(plan_of(part()), pod).findings == ()


def test_a_container_that_nothing_is_for_is_not_looked_at() -> None:
    pod = new_pod(container("b", env={"AWS_PROFILE": "x"}))
    plan = plan_of(part(skip=frozenset({"b"})))
    done = after(plan, pod)
    assert done["spec"]["containers"] == pod["spec"]["containers"]
    assert [volume["name"] for volume in done["spec"]["volumes"]] == ["aws-token"]
    assert fitted(plan, pod).findings == ()


def test_a_part_for_other_containers_does_not_spoil_the_one_for_this() -> None:
    plan = plan_of(part(only=frozenset({"a"})), part("gcp"))
    done = after(plan, new_pod(container("a"), container("b"), container("a2")))
    names = [{entry["name"] for entry in each["env"]} for each in done["spec"]["containers"]]
    assert names == [{"AWS_ID", "GCP_ID"}, {"GCP_ID"}, {"GCP_ID"}]


def test_the_hash_of_the_pod_is_in_its_volume_and_mounts() -> None:
    plan = plan_of(HASHED)
    named = "azure-425c89ed5bb78a7623fae60fd8a6f6"
    for pod in (new_pod(), new_pod(container(env={"AZURE_ID": "own"}))):
        done = after(plan, pod)
        assert done["spec"]["volumes"][0]["name"] == named
        assert done["spec"]["containers"][0]["volumeMounts"][0]["name"] == named
    other = after(plan, new_pod(metadata={"name": "other"}))
    assert other["spec"]["volumes"][0]["name"] not in {named, "azure-{pod-hash}"}


def test_the_hash_may_stand_in_a_path_and_in_a_variable() -> None:
    """Azure's newest layout."""
    made = part(
        "azure",
        volume=token_volume("azure-{pod-hash}"),
        path="/wi/{pod-hash}",
        env={"AZURE_FEDERATED_TOKEN_FILE": "/wi/{pod-hash}/token"},
    )
    plan = plan_of(made)
    done = after(plan, new_pod())
    (main,) = done["spec"]["containers"]
    assert main["env"][0]["value"] == "/wi/425c89ed5bb78a7623fae60fd8a6f6/token"
    again = fitted(plan, done, KNOWN, detailed=True)
    assert (again.patch, again.findings) == (None, ())
    taken = new_pod(container(mounts={"own": "/wi/425c89ed5bb78a7623fae60fd8a6f6/"}))
    assert [each.rule for each in fitted(plan, taken).findings] == ["mount-taken"]


def test_a_pod_that_was_named_in_between_keeps_its_volume() -> None:
    plan = plan_of(HASHED)
    done = after(plan, new_pod(metadata={"generateName": "app-"}))
    done["metadata"]["name"] = "app-x2x4z"
    done["spec"]["containers"].append(container("new"))
    again = after(plan, done, KNOWN)
    assert len(again["spec"]["volumes"]) == 1
    mounts = [each["volumeMounts"] for each in again["spec"]["containers"]]
    assert mounts[0] == mounts[1]
    assert len(mounts[1]) == 1


def test_a_mount_without_its_volume_is_no_foreign_one() -> None:
    plan = plan_of(HASHED)
    done = after(plan, new_pod())
    del done["spec"]["volumes"]
    again = fitted(plan, done, KNOWN)
    assert again.findings == ()
    assert [op["path"] for op in json.loads(again.patch or b"[]")] == ["/spec/volumes"]


def test_two_parts_for_one_path_are_reported_every_time() -> None:
    plan = plan_of(part(path="/x"), part("gcp", path="/x"))
    for _ in range(2):
        assert [each.rule for each in fitted(plan, new_pod()).findings] == ["mount-taken"]


def test_what_is_taken_is_left_out_everywhere() -> None:
    plan = plan_of(part(annotations={"x": "1"}), part("gcp", annotations={"y": "1"}))
    pod = new_pod(volumes=[{"name": "aws-token", "emptyDir": {}}])
    done = after(plan, pod)
    assert record_of(done)["clouds"] == {"gcp": "role"}
    assert "x" not in done["metadata"]["annotations"]
    assert [entry["name"] for entry in done["spec"]["containers"][0]["env"]] == ["GCP_ID"]
    only = fitted(plan_of(part()), pod)
    assert only.patch is None
    assert only.active == ()


def test_a_pod_without_containers_or_metadata() -> None:
    pod: dict[str, Any] = {"spec": {"containers": []}}
    done = after(plan_of(part(annotations={"x": "1"}, labels={"l": "m"})), pod)
    assert done["metadata"]["labels"] == {"l": "m"}
    assert set(done["metadata"]["annotations"]) == {"x", RECORD}
    assert set(after(plan_of(part()), pod)["metadata"]) == {"annotations"}
    assert after(plan_of(), pod) == pod


# -- init containers ---------------------------------------------------------------------------------------------------


def with_setup(**more: Any) -> Part:
    second = InitContainer({"name": "second", "image": "i"})
    return part(init_containers=(InitContainer(SETUP), second), **more)


def test_our_init_containers_come_first_and_are_not_injected_into() -> None:
    own = container("own")
    for listed in (None, [], [own]):
        pod = new_pod(**({} if listed is None else {"initContainers": listed}))
        done = after(plan_of(with_setup(skip=frozenset({"setup"}))), pod)["spec"]["initContainers"]
        assert done[:2] == [SETUP, {"name": "second", "image": "i"}]
        assert [each["name"] for each in done[2:]] == [each["name"] for each in listed or ()]
        assert all("volumeMounts" in each for each in done[2:])


@pytest.mark.parametrize("record", [None, KNOWN, Record("app", "uid-1", {"gcp": "role"})])
@pytest.mark.parametrize("collision", ["keep", "replace"])
@pytest.mark.parametrize("member", ["containers", "initContainers"])
def test_a_container_of_our_name(member: str, collision: Collision, record: Record | None) -> None:
    """Ours is put in its place only where an earlier call has put ours there, or the peer does so; else it is told."""
    setup = InitContainer(SETUP, collision)
    plan = plan_of(part(init_containers=(setup,)), part("gcp"), deny_collisions=True)
    pod = new_pod(initContainers=[container("own")])
    pod["spec"][member].append(container("setup", env={"MINE": "1"}))
    said = fitted(plan, pod, record)
    done = after(plan, pod, record)
    if member == "initContainers" and (collision == "replace" or record is KNOWN):
        assert said.findings == ()
        assert [each["name"] for each in done["spec"][member]] == ["own", "setup"]
        assert done["spec"][member][1] == SETUP
        return
    assert [(each.rule, each.level, each.cloud) for each in said.findings] == [("container-taken", "deny", "aws")]
    assert said.active == (1,)
    assert done["spec"][member][-1] == pod["spec"][member][-1]
    assert [each["name"] for each in done["spec"]["volumes"]] == ["gcp-token"]
    assert set(record_of(done)["clouds"]) == {"gcp"}
    again = fitted(plan, done, Record("app", "uid-1", record_of(done)["clouds"]))
    assert (again.patch, again.findings) == (None, said.findings)


def test_our_init_container_without_a_record_is_ours() -> None:
    plan = plan_of(with_setup())
    done = after(plan, new_pod())
    done["spec"]["initContainers"][0]["image"] = "mirror.example/i"
    del done["metadata"]["annotations"]
    assert [each.rule for each in fitted(plan, done).findings] == ["injected-already"]
    assert after(plan, done)["spec"]["initContainers"][0] == SETUP


def test_what_others_have_added_to_our_init_container_stays() -> None:
    plan = plan_of(with_setup())
    done = after(plan, new_pod())
    done["spec"]["initContainers"][0].update(
        {"imagePullPolicy": "IfNotPresent", "volumeMounts": [{"name": "kube-api-access", "mountPath": "/k"}]}
    )
    assert fitted(plan, done, KNOWN).patch is None


def test_no_init_container_of_a_part_that_is_left_out() -> None:
    pod = new_pod(volumes=[{"name": "aws-token", "emptyDir": {}}])
    assert after(plan_of(with_setup()), pod) == pod


# -- annotations and labels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotations", [None, {}, {"own": "1"}, {"x/y": "2"}, {RECORD: "forged"}])
def test_annotations_are_written_in_place_of_the_pods(annotations: dict[str, str] | None) -> None:
    plan = plan_of(part(annotations={"x/y": "1"}))
    done = after(plan, new_pod(metadata={"name": "pod", "annotations": annotations}))
    assert done["metadata"]["annotations"]["x/y"] == "1"
    assert record_of(done)["clouds"] == {"aws": "role"}
    assert done["metadata"]["annotations"].get("own") == (annotations or {}).get("own")


@pytest.mark.parametrize("labels", [None, {}, {"own": "1"}, {"l": "n"}])
def test_labels_likewise(labels: dict[str, str] | None) -> None:
    done = after(plan_of(part(labels={"l": "m"})), new_pod(metadata={"name": "pod", "labels": labels}))
    assert done["metadata"]["labels"] == {**(labels or {}), "l": "m"}


def test_the_record_says_what_the_pod_had_said_itself() -> None:
    plan = plan_of(part(annotations={"x/own": "1", "x/ours": "1"}))
    done = after(plan, new_pod(metadata={"annotations": {"x/own": "1"}}))
    assert record_of(done)["kept"] == ["x/own"]
    again = after(
        plan_of(part(annotations={"x/own": "1", "x/ours": "2"})), done, Record("app", "uid-1", {}, ("x/own",))
    )
    assert record_of(again)["kept"] == ["x/own"]


def test_several_identities_of_one_cloud_are_recorded() -> None:
    pod = after(plan_of(part(), part("aws", identity="two", env={"B": "1"}, path="/b")), new_pod())
    assert record_of(pod)["clouds"] == {"aws": "role two"}


# -- ephemeral containers ----------------------------------------------------------------------------------------------


def running(plan: Plan, *names: str) -> dict[str, Any]:
    done = after(plan, new_pod(volumes=[{"name": "own"}]))
    done["spec"]["ephemeralContainers"] = [container(name) for name in names]
    return done


def test_only_new_ephemeral_containers_and_nothing_else() -> None:
    plan = plan_of(part(), HASHED)
    said = ephemeral(plan, running(plan, "new", "old"), "old")
    paths = {op["path"] for op in json.loads(said.patch)}
    assert paths == {"/spec/ephemeralContainers/0/env", "/spec/ephemeralContainers/0/volumeMounts"}
    assert said.active == (0, 1)
    assert said.findings == ()
    details = ephemeral(plan, running(plan, "new"), detailed=True)
    assert {each.kind for each in details.outcomes} == {"ephemeral"}


def test_a_volume_that_is_not_there_is_not_added() -> None:
    pod = running(plan_of(part()), "new")
    said = ephemeral(plan_of(part(), part("gcp")), pod)
    done = apply_patch(pod, said.patch)
    assert [entry["name"] for entry in done["spec"]["ephemeralContainers"][0]["env"]] == ["AWS_ID"]
    assert [(each.rule, each.level, each.cloud) for each in said.findings] == [("volume-absent", "note", "gcp")]
    assert said.active == (0,)


def test_a_volume_of_another_webhook_is_used() -> None:
    pod = new_pod(volumes=[token_volume("aws-token", seconds=86400)], ephemeralContainers=[container("new")])
    assert ephemeral(plan_of(part()), pod).active == (0,)


def test_nothing_new_is_nothing_injected() -> None:
    plan = plan_of(part())
    said = ephemeral(plan, running(plan, "old"), "old")
    assert said.patch is None
    assert said.active == ()
    assert ephemeral(plan, new_pod()).patch is None


# -- what is shared with the real dialects -----------------------------------------------------------------------------


def test_two_volumes_two_mounts_and_groups_of_one_part() -> None:
    two = Part(
        dialect="pfn",
        cloud="gcp",
        identity="app@p",
        volumes=(
            Volume(token_volume("t"), collision="replace"),
            Volume({"name": "c", "emptyDir": {}}, collision="replace"),
        ),
        mounts=(Mount("t", "/t"), Mount("c", "/c", read_only=False)),
        env=(EnvGroup("replace", (Variable("F", "/c/f"),)), EnvGroup("absent", (Variable("R", ""),))),
    )
    plan = plan_of(two)
    done = after(plan, new_pod(container(env={"F": "own", "R": "own"})))
    assert done["spec"]["containers"][0]["env"] == [{"name": "F", "value": "/c/f"}, {"name": "R", "value": "own"}]
    assert done["spec"]["containers"][0]["volumeMounts"][1] == {"name": "c", "mountPath": "/c"}
    assert fit(plan, document(done), KNOWN, RECORD, new_secret=str, detailed=False).patch is None
