"""The volumes of a plan in a pod."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.pods_under_review import document, new_pod, part, plan_of, token_volume
from wif.admission.documents import pod_hash
from wif.admission.injection import Part, Volume
from wif.admission.patch import apply_patch
from wif.admission.pod import Metadata
from wif.admission.volumes import VolumeFit, fit_volumes, hash_in_use, missing_volume

PREFIX = "azure-workload-identity-reserved-"
HASHED = part("azure", volume=token_volume(f"{PREFIX}{{pod-hash}}", "api://x"))
HASH = "425c89ed5bb78a7623fae60fd8a6f6"
"""Of ``pod``: a golden value of the Azure webhook."""


def fit(
    volumes: list[dict[str, Any]] | None, *parts: Part, deny: bool = False, is_known: bool = False
) -> tuple[list[str], VolumeFit]:
    pod = new_pod(**({} if volumes is None else {"volumes": volumes}))
    plan = plan_of(*parts, deny_collisions=deny)
    read = document(pod)
    is_met = any(volume["name"] in plan.mount_names for volume in volumes or ())
    said = fit_volumes(plan, plan.all_parts, read, HASH if is_met else None, is_known=is_known)
    done = apply_patch(pod, b"[%b]" % said.chunk)
    return [volume["name"] for volume in done["spec"].get("volumes", ())], said


def test_volumes_are_added_after_the_pods_own_or_before_them() -> None:
    first = part(volumes=(Volume(token_volume("a"), first=True), Volume(token_volume("b"), first=True)))
    assert fit(None, part("gcp"), first)[0] == ["a", "b", "gcp-token"]
    assert fit([], part("gcp"), first)[0] == ["a", "b", "gcp-token"]
    assert fit([{"name": "own"}], part("gcp"), first)[0] == ["a", "b", "own", "gcp-token"]
    assert fit([{"name": "own"}], part(volumes=()))[0] == ["own"]
    assert fit(None, part(volumes=()))[0] == []


def test_a_volume_of_two_parts_is_added_once() -> None:
    shared = token_volume("wif")
    assert fit([{"name": "own"}], part(volume=shared), part("gcp", volume=shared))[0] == ["own", "wif"]


def test_our_own_is_not_added_again() -> None:
    names, said = fit([token_volume("aws-token")], part(), part("gcp"), is_known=True)
    assert names == ["aws-token", "gcp-token"]
    assert said.active == (0, 1)
    assert said.findings == ()


def test_what_another_webhook_injected_is_accepted_and_reported() -> None:
    for there in (token_volume("aws-token"), token_volume("aws-token", seconds=86400)):
        names, said = fit([there], part(), part("gcp"))
        assert names == ["aws-token", "gcp-token"]
        assert said.active == (0, 1)
        assert [(each.rule, each.cloud) for each in said.findings] == [("injected-already", "aws")]


@pytest.mark.parametrize("there", [{"name": "aws-token", "emptyDir": {}}, token_volume("aws-token", "other")])
def test_a_foreign_volume_of_our_name(there: dict[str, Any]) -> None:
    names, said = fit([{"name": "own"}, there], part(), part("gcp"))
    assert names == ["own", "aws-token", "gcp-token"]
    assert said.active == (1,)
    assert [(each.rule, each.level, each.cloud) for each in said.findings] == [("volume-taken", "warning", "aws")]
    assert fit([there], part(), deny=True)[1].findings[0].level == "deny"


def test_a_foreign_volume_that_is_replaced() -> None:
    taker = part(volumes=(Volume(token_volume("aws-token"), collision="replace"),))
    names, said = fit([{"name": "own"}, {"name": "aws-token", "emptyDir": {}}], taker)
    assert names == ["own", "aws-token"]
    assert said.active == (0,)
    assert b'"op":"replace","path":"/spec/volumes/1"' in said.chunk
    assert said.findings == ()


def test_nothing_of_a_part_is_left_where_one_of_its_volumes_is_taken() -> None:
    both = part(volumes=(Volume(token_volume("a"), collision="replace"), Volume({"name": "b"}), Volume({"name": "c"})))
    there = [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}]
    names, said = fit(there, both)
    assert names == ["a", "b"]
    assert said.chunk == b""
    assert said.active == ()


def test_the_volume_of_a_pod_that_was_renamed_is_found_again() -> None:
    before = pod_hash(Metadata(generate_name="app-"))
    there = token_volume(PREFIX + before, "api://x")
    plan = plan_of(HASHED, part())
    assert hash_in_use(plan, document(new_pod(volumes=[there]))) == before
    for other in (
        {"name": PREFIX + before, "emptyDir": {}},
        token_volume(PREFIX + before[:-1], "api://x"),
        token_volume(PREFIX + "z" * 30, "api://x"),
        token_volume("own", "api://x"),
    ):
        assert hash_in_use(plan, document(new_pod(volumes=[other]))) == HASH
    assert hash_in_use(plan, document(new_pod())) == HASH
    assert hash_in_use(plan_of(part()), document(new_pod(volumes=[there]))) == HASH


def test_which_volume_is_missing() -> None:
    read = document(new_pod(volumes=[token_volume(PREFIX + HASH, "api://x"), {"name": "aws-token", "emptyDir": {}}]))
    assert missing_volume(HASHED, read, HASH) is None
    assert missing_volume(part(), read, HASH) == "aws-token"
    assert missing_volume(part("gcp"), read, HASH) == "gcp-token"


def test_pieces_are_kept_for_the_next_pod() -> None:
    plan = plan_of(part())
    first = fit_volumes(plan, plan.all_parts, document(new_pod()), None, is_known=False).chunk
    assert fit_volumes(plan, plan.all_parts, document(new_pod()), None, is_known=False).chunk is first
    other = fit_volumes(plan, plan.all_parts, document(new_pod(volumes=[])), None, is_known=False).chunk
    assert msgspec.json.decode(other)["path"] == "/spec/volumes/-"
