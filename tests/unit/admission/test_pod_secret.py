"""The text that is random for each pod, in all its containers, and kept by later calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pods_under_review import ACCOUNT, SECRET, after, container, document, fitted, new_pod, part, plan_of
from wif.admission.injection import POD_SECRET, InitContainer
from wif.admission.merging import fit_ephemeral
from wif.admission.patch import apply_patch
from wif.admission.pod_secret import kept_secret
from wif.admission.record import Record
from wif.admission.undoing import undo

OTHER = "o" * 43
SETUP = InitContainer(
    {
        "name": "sidecar",
        "image": "i",
        "env": [{"name": "HEAD", "value": POD_SECRET}, {"name": "MORE", "value": "1"}],
        "resources": {"limits": {"cpu": "0.1"}},
    }
)
MADE = part("azure", env={"HEAD": POD_SECRET}, rule="take", init_containers=(SETUP,))
PLAN = plan_of(MADE, part("aws", init_containers=(SETUP,)))
KNOWN = Record(ACCOUNT.name, ACCOUNT.uid, {"azure": "role"})


def values(pod: dict[str, Any]) -> set[str | None]:
    listed = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    return {entry.get("value") for each in listed for entry in each.get("env", ()) if entry["name"] == "HEAD"}


def test_one_secret_in_all_containers_and_one_sidecar() -> None:
    done = after(PLAN, new_pod(container("a"), container("b", env={"HEAD": "own"}), initContainers=[container("i")]))
    assert values(done) == {SECRET}
    assert [each["name"] for each in done["spec"]["initContainers"]] == ["sidecar", "i"]
    assert POD_SECRET not in str(done)


def test_a_later_call_keeps_it() -> None:
    done = after(PLAN, new_pod(container("a")))
    assert fitted(PLAN, done, KNOWN, secret=OTHER).patch is None
    done["spec"]["containers"].append(container("late", env={"HEAD": "own"}))
    said = fitted(PLAN, done, KNOWN, secret=OTHER)
    assert [each.rule for each in said.findings] == ["variable-replaced"]
    assert values(after(PLAN, done, KNOWN, secret=OTHER)) == {SECRET}


def test_what_the_cluster_writes_into_the_sidecar_changes_nothing() -> None:
    """Quantities in another form, another registry's image, a variable more; a mesh's probe, a policy's user."""
    done = after(PLAN, new_pod())
    sidecar = done["spec"]["initContainers"][0]
    sidecar["resources"] = {"limits": {"cpu": "100m"}}
    sidecar["image"] = "mirror.example/i"
    sidecar["env"].append({"name": "ADDED", "value": "1"})
    sidecar["startupProbe"] = {"httpGet": {"path": "/app-health/sidecar/startupz", "port": 15020}}
    sidecar["securityContext"] = {"runAsGroup": 1}
    assert kept_secret(PLAN, document(done)) == SECRET
    said = fitted(PLAN, done, KNOWN, secret=OTHER)
    assert (said.patch, said.findings) == (None, ())


@pytest.mark.parametrize("change", [{"command": ["wrap"]}, {"args": ["other"]}, {"env": 1}])
def test_a_sidecar_that_would_not_serve_any_more_is_put_right_and_keeps_its_secret(change: dict[str, Any]) -> None:
    """Nor is any container blamed for the variable that it has from us."""
    done = after(PLAN, new_pod())
    sidecar = done["spec"]["initContainers"][0]
    if "env" in change:
        sidecar["env"][1]["value"] = "2"
    else:
        sidecar.update(change)
    refusing = plan_of(*PLAN.parts, deny_collisions=True)
    said = fitted(refusing, done, KNOWN, secret=OTHER)
    assert said.findings == ()
    assert after(refusing, done, KNOWN, secret=OTHER) == after(PLAN, new_pod())


@pytest.mark.parametrize("change", ["record", "value", "short", "name", "number"])
def test_another_ones_secret_is_not_kept(change: str) -> None:
    done = after(PLAN, new_pod())
    sidecar = done["spec"]["initContainers"][0]
    record: Record | None = KNOWN
    match change:
        case "record":
            record = None
        case "value":
            sidecar["env"][0] = {"name": "HEAD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        case "short":
            sidecar["env"][0]["value"] = "guessable"
        case "name":
            sidecar["name"] = "another"
        case "number":
            sidecar.pop("env")
    assert values(after(PLAN, done, record, secret=OTHER)) >= {OTHER}
    again = after(PLAN, done, record, secret=OTHER)
    assert {e["value"] for e in again["spec"]["containers"][0]["env"] if e["name"] == "HEAD"} == {OTHER}


def test_an_ephemeral_container_gets_that_of_the_running_pod() -> None:
    done = after(PLAN, new_pod())
    done["spec"]["ephemeralContainers"] = [container("debug")]
    said = fit_ephemeral(PLAN, document(done), frozenset(), detailed=False)
    assert said.patch is not None
    assert SECRET.encode() in said.patch
    assert said.active == (0, 1)
    done["spec"]["initContainers"] = []
    said = fit_ephemeral(PLAN, document(done), frozenset(), detailed=False)
    assert [(each.rule, each.level, each.cloud) for each in said.findings] == [("sidecar-absent", "note", "azure")]
    assert said.active == (1,)


def test_what_goes_with_another_service_account() -> None:
    pod = new_pod(container("a", env={"OWN": "1"}))
    done = after(PLAN, pod)
    assert apply_patch(done, undo(PLAN, document(done), KNOWN, "wif.internal/injected")) == pod
    done["spec"]["initContainers"][0]["env"][1]["value"] = "2"
    left = apply_patch(done, undo(PLAN, document(done), KNOWN, "wif.internal/injected"))
    assert values(left) == {SECRET}


def test_a_plan_without_a_secret_looks_for_none() -> None:
    plan = plan_of(part(init_containers=(InitContainer({"name": "setup", "image": "i"}),)))
    assert not plan.has_secret
    assert kept_secret(plan, document(after(plan, new_pod()))) is None
