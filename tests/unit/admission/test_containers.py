"""Parts, fitted into one container."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pods_under_review import container, document, new_pod, part, plan_of
from wif.admission.containers import ContainerFit, ContainerPlace, collides, fit_container
from wif.admission.injection import POD_SECRET, EnvGroup, InitContainer, Mount, Part, Variable
from wif.admission.patch import apply_patch

GROUP = part(env={"AWS_ROLE_ARN": "r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, rule="group")


def fit(found: dict[str, Any], *parts: Part, deny: bool = False) -> tuple[dict[str, Any], ContainerFit]:
    plan = plan_of(*parts, deny_collisions=deny)
    said = fit_container(plan, plan.all_parts, found, ContainerPlace("", str(found["name"]), "container"), "0" * 30)
    return apply_patch(found, said.ops), said


def env(done: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in done.get("env", ())}


def test_a_bare_container_gets_two_operations() -> None:
    done, said = fit(container(), part())
    assert [op.path for op in said.ops] == ["/env", "/volumeMounts"]
    assert done["env"] == [{"name": "AWS_ID", "value": "role"}]
    assert done["volumeMounts"] == [{"name": "aws-token", "mountPath": "/var/run/aws", "readOnly": True}]
    (outcome,) = said.outcomes
    assert (outcome.result, outcome.variables, outcome.mounts) == ("injected", ("AWS_ID",), ("/var/run/aws",))


def test_what_is_there_stays_and_ours_comes_after_it() -> None:
    found = container(env={"OWN": "1"}, mounts={"own": "/own"})
    done, said = fit(found, part())
    assert [op.path for op in said.ops] == ["/env/-", "/volumeMounts/-"]
    assert done["env"][0] == found["env"][0]
    assert done["volumeMounts"][0] == found["volumeMounts"][0]


def test_a_second_time_nothing_changes() -> None:
    done, _ = fit(container(), part(), GROUP)
    again, said = fit(done, part(), GROUP)
    assert again == done
    assert said.ops == []
    assert [outcome.result for outcome in said.outcomes] == ["present", "present"]
    assert said.findings == []


@pytest.mark.parametrize(
    ("name", "only", "skip", "result"),
    [
        ("main", None, (), "injected"),
        ("main", {"main"}, (), "injected"),
        ("main", {"other"}, (), "skipped"),
        ("main", None, {"main"}, "skipped"),
        ("main", {"main"}, {"main"}, "skipped"),
    ],
)
def test_lists_of_containers(name: str, only: set[str] | None, skip: set[str], result: str) -> None:
    made = part(
        only=None if only is None else frozenset(only),
        skip=frozenset(skip),
        init_containers=(InitContainer({"name": "setup"}),),
    )
    done, said = fit(container(name), made)
    assert said.outcomes[0].result == result
    assert ("env" in done) is (result == "injected")


# -- variables ---------------------------------------------------------------------------------------------------------


def test_absent_decides_for_each_variable() -> None:
    done, said = fit(container(env={"A": "own"}), part(env={"A": "1", "B": "2"}))
    assert env(done) == {"A": "own", "B": "2"}
    assert [finding.rule for finding in said.findings] == ["variable-kept"]
    assert said.findings[0].level == "note"


def test_a_group_is_all_or_nothing() -> None:
    done, _ = fit(container(env={"AWS_ROLE_ARN": "own"}), GROUP)
    assert env(done) == {"AWS_ROLE_ARN": "own"}
    assert "volumeMounts" in done
    done, _ = fit(container(env={"OWN": "1"}), GROUP)
    assert set(env(done)) == {"OWN", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}


def test_replace_puts_a_whole_entry_in_place() -> None:
    field = {"fieldRef": {"fieldPath": "metadata.name"}}
    found = container(env=[{"name": "A", "valueFrom": field}, {"name": "B", "value": "own"}])
    done, said = fit(found, part(env={"A": "1", "C": "3"}, rule="replace"))
    assert done["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "own"}, {"name": "C", "value": "3"}]
    assert said.findings == []
    assert fit(done, part(env={"A": "1", "C": "3"}, rule="replace"))[1].ops == []


def test_of_two_with_one_name_the_last_one_counts() -> None:
    found = container(env=[{"name": "A", "value": "x"}, {"name": "A", "value": "y"}])
    done, _ = fit(found, part(env={"A": "1"}, rule="replace"))
    assert [entry["value"] for entry in done["env"]] == ["x", "1"]


def test_an_empty_value_is_left_out_as_the_api_server_does() -> None:
    done, _ = fit(container(), part(env={"A": ""}, rule="replace"))
    assert done["env"] == [{"name": "A"}]
    assert fit(done, part(env={"A": ""}, rule="replace"))[1].ops == []
    assert fit(container(env=[{"name": "A", "value": ""}]), part(env={"A": ""}, rule="replace"), part())[0]["env"][
        0
    ] == {
        "name": "A",
        "value": "",
    }


def test_the_first_part_has_a_variable_of_two() -> None:
    first = part(env={"A": "1"})
    second = part("gcp", env=[EnvGroup("replace", (Variable("A", "2"),))])
    done, said = fit(container(), first, second)
    assert env(done) == {"A": "2"}
    assert [op.path for op in said.ops] == ["/env", "/volumeMounts"]
    assert env(fit(container(), first, part("gcp", env={"A": "2"}))[0]) == {"A": "1"}


def test_a_container_with_everything_of_its_own_is_left_alone() -> None:
    groups = (frozenset({"A", "B"}), frozenset({"C"}))
    found = container(env={"B": "1", "C": "1"})
    done, said = fit(found, part(left_alone=groups))
    assert done == found
    assert said.outcomes[0].result == "left-alone"
    assert fit(container(env={"B": "1"}), part(left_alone=groups))[1].outcomes[0].result == "injected"


# -- variables that redirect -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cloud", "name", "word"),
    [
        ("aws", "AWS_ACCESS_KEY_ID", "identity"),
        ("aws", "AWS_PROFILE", "identity"),
        ("aws", "AWS_ENDPOINT_URL_STS", "endpoint"),
        ("gcp", "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", "identity"),
        ("azure", "AZURE_CLIENT_SECRET", "identity"),
        ("azure", "IDENTITY_ENDPOINT", "identity"),
    ],
)
def test_a_variable_that_redirects_is_reported(cloud: str, name: str, word: str) -> None:
    done, said = fit(container(env={name: "secret-value"}), part(cloud))
    (finding,) = said.findings
    assert (finding.rule, finding.level, finding.cloud, finding.container) == (
        "variable-redirects",
        "warning",
        cloud,
        "main",
    )
    assert name in finding.message
    assert word in finding.message
    assert "secret-value" not in finding.text
    assert "volumeMounts" in done
    other = "gcp" if cloud != "gcp" else "aws"
    assert fit(container(env={name: "x"}), part(other))[1].findings == []
    assert fit(container(env={name: "x"}), part(cloud), deny=True)[1].findings[0].level == "deny"


@pytest.mark.parametrize("entry", [{"name": "AWS_PROFILE"}, {"name": "AWS_PROFILE", "value": ""}])
def test_an_empty_variable_redirects_nothing(entry: dict[str, Any]) -> None:
    assert fit(container(env=[entry]), part())[1].findings == []


def test_a_variable_from_a_secret_redirects() -> None:
    entry = {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert fit(container(env=[entry]), part())[1].findings[0].rule == "variable-redirects"


def test_a_variable_of_ours_redirects_only_with_another_value() -> None:
    file = {"GOOGLE_APPLICATION_CREDENTIALS": "/ours"}
    assert fit(container(env=file), part("gcp", env=file))[1].findings == []
    (finding,) = fit(container(env={"GOOGLE_APPLICATION_CREDENTIALS": "/own"}), part("gcp", env=file))[1].findings
    assert finding.rule == "variable-redirects"
    elsewhere = container(env={"GOOGLE_APPLICATION_CREDENTIALS": "/own"})
    assert fit(elsewhere, part("gcp", env=file, rule="replace"))[1].findings == []


# -- mounts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/var/run/aws", "/var/run/aws/", "/var//run/aws", "/var/run/./aws"])
def test_another_volume_at_our_path_leaves_the_container_alone(path: str) -> None:
    found = container(mounts={"own": path})
    done, said = fit(found, part())
    assert done == found
    (finding,) = said.findings
    assert (finding.rule, finding.level) == ("mount-taken", "warning")
    assert "own" in finding.message
    assert said.outcomes[0].result == "mount-taken"
    assert fit(found, part(), deny=True)[1].findings[0].level == "deny"


def test_the_other_parts_are_injected_all_the_same() -> None:
    done, _ = fit(container(mounts={"own": "/var/run/aws"}), part(), part("gcp"))
    assert env(done) == {"GCP_ID": "role"}
    assert [mount["mountPath"] for mount in done["volumeMounts"]] == ["/var/run/aws", "/var/run/gcp"]


def test_above_and_below_are_other_paths() -> None:
    done, said = fit(container(mounts={"a": "/var/run", "b": "/var/run/aws/x"}), part())
    assert len(done["volumeMounts"]) == 3
    assert said.findings == []


def test_our_volume_mounted_elsewhere() -> None:
    found = container(mounts={"aws-token": "/elsewhere"})
    assert len(fit(found, part())[0]["volumeMounts"]) == 2
    replaced, said = fit(found, part(mounts=(Mount("aws-token", "/var/run/aws", collision="replace"),)))
    assert replaced["volumeMounts"] == [{"name": "aws-token", "mountPath": "/var/run/aws", "readOnly": True}]
    assert [op.op for op in said.ops] == ["replace", "add"]


def test_our_volume_at_our_path_otherwise() -> None:
    found = container(mounts=[{"name": "aws-token", "mountPath": "/var/run/aws", "readOnly": False}])
    assert fit(found, part())[0]["volumeMounts"] == found["volumeMounts"]
    replaced, _ = fit(found, part(mounts=(Mount("aws-token", "/var/run/aws", collision="replace"),)))
    assert replaced["volumeMounts"][0]["readOnly"] is True
    writable = part(mounts=(Mount("aws-token", "/var/run/aws", False, "replace"),))
    assert fit(found, writable)[0]["volumeMounts"] == found["volumeMounts"]


def test_two_mounts_of_one_volume_do_not_replace_each_other() -> None:
    made = part(mounts=tuple(Mount("aws-token", path, collision="replace") for path in ("/a", "/b")))
    done, _ = fit(container(), made)
    assert [mount["mountPath"] for mount in done["volumeMounts"]] == ["/a", "/b"]
    assert fit(done, made)[1].ops == []


def test_two_parts_for_one_path() -> None:
    done, said = fit(container(), part(path="/x"), part("gcp", path="/x/"))
    assert [mount["name"] for mount in done["volumeMounts"]] == ["aws-token"]
    assert env(done) == {"AWS_ID": "role"}
    assert said.findings[0].rule == "mount-taken"


def test_replacing_what_was_just_added_is_no_operation_of_its_own() -> None:
    first = part(mounts=(Mount("t", "/a"),), env={})
    second = part("gcp", mounts=(Mount("t", "/a", False, "replace"),), env={})
    done, said = fit(container(), first, second)
    assert done["volumeMounts"] == [{"name": "t", "mountPath": "/a"}]
    assert len(said.ops) == 1


# -- the quick look ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "is_close"),
    [
        (container(), False),
        (container(env={"OWN": "1"}, mounts={"own": "/own"}), False),
        (container(env={"AWS_ID": "1"}), True),
        (container(env={"AWS_PROFILE": "1"}), True),
        (container(env={"AZURE_CLIENT_SECRET": "1"}), False),
        (container(mounts={"own": "/var/run/aws/"}), True),
        (container(mounts={"aws-token": "/own"}), True),
        (container(mounts={"azure-0123": "/own"}), True),
    ],
)
def test_a_collision_is_never_overlooked(found: dict[str, Any], is_close: bool) -> None:
    hashed = part("gcp", volume={"name": "azure-{pod-hash}"})
    (read,) = document(new_pod(found)).pod.spec.containers or ()
    assert collides(read, plan_of(part(), hashed)) is is_close


# -- variables that are taken over, and lists that are completed -------------------------------------------------------

TAKE = part(env={"END": "http://x", "HEAD": POD_SECRET}, rule="take")
MERGE = part(env={"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}, rule="merge")


def test_a_variable_that_is_taken_is_replaced_and_reported() -> None:
    plan = plan_of(TAKE)
    found = container(env=[{"name": "HEAD", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}, {"name": "END"}])
    place = ContainerPlace("", "main", "container")
    said = fit_container(plan, plan.all_parts, found, place, "", secret="s" * 43)
    done = apply_patch(found, said.ops)
    assert done["env"] == [{"name": "HEAD", "value": "s" * 43}, {"name": "END", "value": "http://x"}]
    (finding,) = said.findings
    assert (finding.rule, finding.level, finding.container) == ("variable-replaced", "warning", "main")
    assert "its own HEAD, END" in finding.message
    again = fit_container(plan, plan.all_parts, done, place, "", secret="s" * 43)
    assert (again.ops, again.findings) == ([], [])
    other = fit_container(plan, plan.all_parts, done, place, "", secret="t" * 43)
    assert [finding.message.count("END") for finding in other.findings] == [0]
    assert fit(found, TAKE, deny=True)[1].findings[0].level == "deny"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": ""}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "a,localhost"}, "a,localhost,127.0.0.1"),
        ({"no_proxy": "b", "NO_PROXY": "a"}, "b,a,127.0.0.1,localhost"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_a_list_is_completed_under_all_its_names(own: dict[str, str], expected: str) -> None:
    done, said = fit(container(env=own), MERGE)
    assert env(done) == {"NO_PROXY": expected, "no_proxy": expected}
    assert said.findings == []
    assert fit(done, MERGE)[1].ops == []


def test_a_list_from_elsewhere_is_left_alone() -> None:
    """What is written beside it would win over it, and lose what it says."""
    found = container(env=[{"name": "NO_PROXY", "valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "no"}}}])
    done, said = fit(found, MERGE)
    assert done["env"] == found["env"]
    (finding,) = said.findings
    assert (finding.rule, finding.level) == ("no-proxy-unread", "warning")


def test_variables_from_elsewhere_may_have_the_list() -> None:
    found = container(envFrom=[{"configMapRef": {"name": "proxy"}}])
    plan = plan_of(MERGE)
    assert collides(document(new_pod(found)).pod.spec.containers[0], plan)  # type: ignore[index]  # there is one
    assert not collides(document(new_pod(found)).pod.spec.containers[0], plan_of(part()))  # type: ignore[index]  # as above
    done, said = fit(found, MERGE)
    assert "env" not in done
    assert [(each.rule, each.level) for each in said.findings] == [("no-proxy-unread", "note")]
    done, _ = fit({**found, "env": [{"name": "no_proxy", "value": "a"}]}, MERGE)
    assert env(done) == {"no_proxy": "a,127.0.0.1,localhost"}


def test_a_part_may_say_itself_what_misleads() -> None:
    made = part(env={"AWS_ID": "role"}, misleading={"AWS_X": frozenset({"off"}), "AWS_Y": frozenset()})
    found = container(env={"AWS_X": "OFF ", "AWS_ACCESS_KEY_ID": "k"})
    assert fit(found, made)[1].findings == []
    field = {"valueFrom": {"fieldRef": {"fieldPath": "x"}}}
    found = container(env=[{"name": "AWS_X", **field}, {"name": "AWS_Y", "value": "1"}])
    (finding,) = fit(found, made)[1].findings
    assert finding.rule == "variable-redirects"
    assert "AWS_X, AWS_Y" in finding.message
    assert plan_of(made).env_names == {"AWS_ID", "AWS_X", "AWS_Y"}
