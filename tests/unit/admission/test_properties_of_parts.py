"""What holds for whatever a dialect could say: parts made at random, of names and paths that meet each other's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.pods_under_review import RECORD, after, container, document, fitted, new_pod, part, plan_of, token_volume
from wif.admission.injection import Collision, EnvGroup, EnvRule, InitContainer, Mount, Part, Variable, Volume
from wif.admission.pod import one_path
from wif.admission.readings import Plan
from wif.admission.record import read_record

NAMES = ("own", "aws-iam-token", "wif", "h-{pod-hash}")
PATHS = ("/own", "/var/run/secrets/wif", "/x/")
RULES: tuple[EnvRule, ...] = ("absent", "group", "replace")
COLLISIONS: tuple[Collision, ...] = ("keep", "replace")

variables = st.lists(
    st.builds(Variable, st.sampled_from(["OWN", "X", "AWS_REGION"]), st.sampled_from(["", "1"])),
    max_size=2,
    unique_by=lambda each: each.name,
).map(tuple)
some_names = st.frozensets(st.sampled_from("abi"), max_size=2)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    """Any part."""
    names = draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))
    paths = draw(st.permutations(PATHS))
    collisions = st.sampled_from(COLLISIONS)
    return Part(
        dialect="eks",
        cloud=draw(st.sampled_from(["aws", "gcp"])),
        identity="i",
        volumes=tuple(Volume(token_volume(name), draw(st.booleans()), draw(collisions)) for name in names),
        mounts=tuple(
            Mount(name, path, draw(st.booleans()), draw(collisions)) for name, path in zip(names, paths, strict=False)
        ),
        env=tuple(draw(st.lists(st.builds(EnvGroup, st.sampled_from(RULES), variables), max_size=2))),
        annotations=draw(st.sampled_from([{}, {"own/a": "x"}, {"own/a": "y", "n": "1"}])),
        labels=draw(st.sampled_from([{}, {"app": "z"}])),
        init_containers=tuple(InitContainer({"name": name, "image": "i"}) for name in sorted(draw(some_names))),
        only=draw(st.none() | some_names),
        skip=draw(some_names),
        left_alone=draw(st.sampled_from([(), (frozenset({"OWN"}),)])),
    )


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """A pod that may have what the parts bring."""

    def made(name: str) -> dict[str, Any]:
        env = draw(st.none() | variables)
        mounts = draw(st.none() | st.dictionaries(st.sampled_from(PATHS), st.sampled_from(NAMES[:3]), max_size=2))
        return container(
            name,
            env=None if env is None else [{"name": key, "value": value} for key, value in env],
            mounts=None if mounts is None else [{"name": key, "mountPath": path} for path, key in mounts.items()],
        )

    spec: dict[str, Any] = {}
    if draw(st.booleans()):
        spec["initContainers"] = [made("i")]
    volumes = draw(st.none() | st.lists(st.sampled_from(NAMES[:3]), max_size=2, unique=True))
    if volumes is not None:
        spec["volumes"] = [draw(st.sampled_from([{"name": v, "emptyDir": {}}, token_volume(v)])) for v in volumes]
    named: tuple[dict[str, Any], ...] = ({"name": "pod"}, {"generateName": "app-", "annotations": {"own/a": "x"}})
    metadata = draw(st.sampled_from(named))
    return new_pod(made("a"), made("b"), metadata=copy.deepcopy(metadata), **spec)


def again(plan: Plan, pod: dict[str, Any]) -> dict[str, Any]:
    """The pod after a call that finds the record of the one before."""
    return after(plan, pod, read_record(document(pod).pod, RECORD))


def lists(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for member in ("containers", "initContainers") for each in pod["spec"].get(member) or ()]


@given(pods(), st.lists(parts(), max_size=2))
def test_any_parts_give_a_valid_pod_and_settle(pod: dict[str, Any], said: list[Part]) -> None:
    before = copy.deepcopy(pod)
    shared = {volume.name: volume for each in said for volume in each.volumes}
    # a volume of two parts is one volume, said in one way
    plan = plan_of(*(replace(each, volumes=tuple(shared[v.name] for v in each.volumes)) for each in said))
    done = after(plan, pod)
    assert pod == before
    volumes = [volume["name"] for volume in done["spec"].get("volumes") or ()]
    assert len(volumes) == len(set(volumes))
    for each in lists(done):
        paths = [one_path(mount["mountPath"]) for mount in each.get("volumeMounts") or ()]
        assert len(paths) == len(set(paths))
        names = [entry["name"] for entry in each.get("env") or ()]
        assert len(names) == len(set(names))
    settled = again(plan, done)
    assert again(plan, settled) == settled
    if len(said) == 1:  # of two, one may replace what the other sets
        assert settled == done


def test_a_second_time_the_record_alone_is_no_operation() -> None:
    plan = plan_of(part())
    done = after(plan, new_pod())
    assert fitted(plan, done, read_record(document(done).pod, RECORD)).patch is None
