"""What holds for every pod, whatever else is in it and whoever else patches it."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wif.admission.accounts import ServiceAccount
from wif.admission.decision import Decision
from wif.admission.mutation import Readings, accounts_wanted, mutate
from wif.admission.patch import apply_patch
from wif.admission.pod import one_path
from wif.admission.review import pod_review
from wif.config.webhook import WebhookSettings

SETTINGS = WebhookSettings(
    azure_tenant_id="00000000-0000-0000-0000-00000000000a",
    aws_region="eu-west-1",
    sidecar_image="registry.example/wif:1",
    sidecar_gce_metadata=True,
)
READINGS = Readings(16)
"""One for all: what was kept for one pod must be right for the next."""
SERIAL = itertools.count()
MADE = {"gcloud-setup", "wif-sidecar"}
"""Containers that are injected."""
ROLE = "arn:aws:iam::111122223333:role/"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/p/providers/k8s"
EMAIL = "app@my-project.iam.gserviceaccount.com"
CLIENT = "00000000-0000-0000-0000-00000000000b"
USE = {"azure.workload.identity/use": "true"}
LISTS = ("containers", "initContainers")

FRAGMENTS: tuple[Mapping[str, str], ...] = (
    {"eks.amazonaws.com/role-arn": ROLE + "eks"},
    {"eks.amazonaws.com/role-arn": ROLE + "eks2", "eks.amazonaws.com/token-expiration": "7200"},
    {"cloud.google.com/workload-identity-provider": PROVIDER, "cloud.google.com/service-account-email": EMAIL},
    {
        "cloud.google.com/workload-identity-provider": PROVIDER,
        "cloud.google.com/service-account-email": EMAIL,
        "cloud.google.com/injection-mode": "gcloud",
    },
    {"azure.workload.identity/client-id": CLIENT},
    {"wif.internal/aws.role-arn": ROLE + "native", "wif.internal/aws.region": "eu-central-1"},
    {"wif.internal/aws.role-arn": ROLE + "native", "wif.internal/aws.reader.role-arn": ROLE + "reader"},
    {"wif.internal/gcp.provider": PROVIDER, "wif.internal/gcp.bq.provider": PROVIDER},
    {"wif.internal/azure.client-id": CLIENT, "wif.internal/azure.containers": "a,b"},
    {"wif.internal/mode": "sidecar"},
    {"wif.internal/mode": "sidecar", "wif.internal/azure.client-id": CLIENT},
    {
        "wif.internal/mode": "sidecar",
        "wif.internal/aws.role-arn": ROLE + "native",
        "wif.internal/gcp.provider": PROVIDER,
    },
)

OURS_ENV = (
    *("AWS_ROLE_ARN", "AWS_REGION", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_ID", "AWS_PROFILE"),
    *("IDENTITY_HEADER", "IDENTITY_ENDPOINT", "NO_PROXY", "no_proxy", "GCE_METADATA_HOST"),
)
OURS_VOLUMES = ("aws-iam-token", "gcp-iam-token", "gcloud-config", "wif", "wif-sidecar", "external-credential-config")
OURS_PATHS = (
    "/var/run/secrets/eks.amazonaws.com/serviceaccount",
    "/var/run/secrets/sts.googleapis.com/serviceaccount/",
    "/var/run/secrets//wif",
    "/var/run/secrets/azure/wi",
    "/var/run/wif-sidecar",
)

UNKNOWN: tuple[Mapping[str, Any], ...] = (
    {},
    {"futureField": None},
    {"futureField": {"deep": [1, {"er": -0.5}], "e": {}}, "x-~1/y": True},
    {"κλειδί": "„\u0000\U0001f600“", "image": ""},
)
"""Members of any object that nobody here knows."""
NAMES = ("OWN", "OTHER")
VOLUMES = ("own", "other")
PATHS = ("/own", "/other", "/var/run/secrets")


def listed(entries: Sequence[Mapping[str, Any]], key: str = "name") -> st.SearchStrategy[list[dict[str, Any]]]:
    """Some of these entries, no two of them with one value of the key."""
    return st.lists(st.sampled_from(entries), max_size=3, unique_by=lambda entry: str(entry[key])).map(copy.deepcopy)


def environments(names: Sequence[str]) -> st.SearchStrategy[list[dict[str, Any]] | None]:
    """Of these variables."""
    field = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return st.none() | listed([{"name": name, **each} for name in names for each in ({}, {"value": "1"}, field)])


def mount_lists(volumes: Sequence[str], paths: Sequence[str]) -> st.SearchStrategy[list[dict[str, Any]] | None]:
    """Of these volumes at these paths, each path once."""
    made = [{"name": name, "mountPath": path} for name in volumes for path in paths]
    return st.none() | listed([*made, *({**each, "readOnly": True} for each in made)], "mountPath")


def containers(names: Sequence[str], *, meets: bool) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Those that may have something of the names and paths of ours, or those that never do."""
    made = st.fixed_dictionaries(
        {"name": st.just("")},
        optional={
            "env": environments(NAMES + OURS_ENV if meets else NAMES),
            "volumeMounts": mount_lists(*(VOLUMES + OURS_VOLUMES, PATHS + OURS_PATHS) if meets else (VOLUMES, PATHS)),
            "restartPolicy": st.just("Always"),
        },
    )
    pairs = st.lists(st.tuples(made, st.sampled_from(UNKNOWN)), min_size=1, max_size=len(names))
    return pairs.map(lambda found: [{**more, **each, "name": n} for n, (each, more) in zip(names, found, strict=False)])


@st.composite
def pods(draw: st.DrawFn, *, meets: bool = True) -> dict[str, Any]:
    """Any pod, with members that are unknown to everybody here."""
    sources: tuple[dict[str, Any], ...] = ({"emptyDir": {}}, {"projected": {"sources": []}}, {"futureField": [1]})
    names = VOLUMES + OURS_VOLUMES if meets else VOLUMES
    volumes = st.none() | listed([{"name": name, **source} for name in names for source in sources])
    metadata = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["pod", "other"]),
                "generateName": st.just("app-"),
                "annotations": st.sampled_from([None, {}, {"own/a": "x"}, {"b": ""}]),
                "labels": st.sampled_from([USE, {"app": "x"}, None]),
            },
        )
    )
    spec = draw(
        st.fixed_dictionaries(
            {"containers": containers("abc", meets=meets)},
            optional={
                "initContainers": st.none() | containers("ij", meets=meets),
                "volumes": volumes,
                "securityContext": st.sampled_from([{}, {"fsGroup": 1000}]),
                "nodeSelector": st.just({"kubernetes.io/os": "windows"}),
            },
        )
    )
    unknown = [dict(draw(st.sampled_from(UNKNOWN))) for _ in range(3)]
    return {
        **unknown[0],
        "metadata": {**unknown[1], **metadata},
        "spec": {**unknown[2], **spec, "serviceAccountName": "app"},
    }


@st.composite
def accounts(draw: st.DrawFn, name: str = "app", uid: str = "u1") -> ServiceAccount:
    """With annotations of any dialects."""
    annotations: dict[str, str] = {}
    for fragment in draw(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=3)):
        annotations |= fragment
    return ServiceAccount("shop", name, uid, annotations)


def decide(pod: Mapping[str, Any], *known: ServiceAccount, detailed: bool = False) -> Decision:
    review = pod_review(json.dumps(pod).encode(), namespace="shop")
    found = {(each.namespace, each.name): each for each in known}
    assert set(accounts_wanted(review, SETTINGS)) <= set(found)
    secret = f"{next(SERIAL):043}"  # another one each time
    decision = mutate(review, found, SETTINGS, readings=READINGS, new_secret=lambda: secret, detailed=detailed)
    assume(not any(finding.rule == "sidecar-windows" for finding in decision.findings))
    assert decision.allowed, decision.message
    return decision


def one_secret(pod: Any) -> Any:
    """Without the secret, of which there is one at most."""
    text = json.dumps(pod)
    secrets = set(re.findall(r'"([0-9]{43})"', text))
    assert len(secrets) <= 1
    return json.loads(text.replace(secrets.pop(), "secret") if secrets else text)


def injected(pod: Mapping[str, Any], *known: ServiceAccount) -> dict[str, Any]:
    patch = decide(pod, *known).patch
    done: dict[str, Any] = apply_patch(pod, patch if patch is not None else b"[]")
    return done


def all_containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for member in LISTS for each in pod["spec"].get(member) or ()]


def by_name(listed: Any) -> dict[str, Any]:
    return {each["name"]: each for each in listed or ()}


def without_order(pod: Mapping[str, Any]) -> Any:
    """Lists of named things as mappings: their order says who came first, and nothing else."""

    def unordered(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: unordered(member) for key, member in value.items()}
        if isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
            return {f"{each['name']} {each.get('mountPath', '')}": unordered(each) for each in value}
        return value

    return unordered(pod)


# -- one call ----------------------------------------------------------------------------------------------------------


@given(pods(), accounts())
def test_a_second_call_changes_nothing(pod: dict[str, Any], account: ServiceAccount) -> None:
    done = injected(pod, account)
    assert decide(done, account).patch is None


@given(pods(), accounts())
def test_the_patch_has_no_operation_that_changes_nothing(pod: dict[str, Any], account: ServiceAccount) -> None:
    patch = decide(pod, account).patch
    document: Any = pod
    for op in json.loads(patch if patch is not None else b"[]"):
        assert op["op"] in {"add", "replace"}
        changed = apply_patch(document, json.dumps([op]).encode())
        assert changed != document
        document = changed


@given(pods(), accounts())
def test_what_is_not_ours_is_preserved(pod: dict[str, Any], account: ServiceAccount) -> None:
    """Everything but environment, mounts, volumes, annotations and labels is equal, and of these nothing is lost."""
    done = injected(pod, account)
    added = MADE - {each["name"] for each in all_containers(pod)}
    left = copy.deepcopy(done)
    right = copy.deepcopy(pod)
    for document in (left, right):
        document["spec"].pop("volumes", None)
        document["metadata"].pop("annotations", None)
        for member in LISTS:
            listed = [each for each in document["spec"].get(member) or () if each["name"] not in added]
            for each in listed:
                each.pop("env", None)
                each.pop("volumeMounts", None)
            if listed or member in document["spec"]:
                document["spec"][member] = listed or None
        if not document["spec"].get("initContainers"):
            document["spec"].pop("initContainers", None)
    assert json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    annotations = done["metadata"].get("annotations") or {}
    assert (pod["metadata"].get("annotations") or {}).items() <= annotations.items()
    for before in all_containers(pod):
        (now,) = [each for each in all_containers(done) if each["name"] == before["name"]][:1]
        assert set(by_name(before.get("env"))) <= set(by_name(now.get("env")))


@given(pods(), accounts())
def test_the_pod_stays_valid(pod: dict[str, Any], account: ServiceAccount) -> None:
    done = injected(pod, account)
    volumes = [volume["name"] for volume in done["spec"].get("volumes") or ()]
    assert len(volumes) == len(set(volumes))
    added = set(volumes) - {volume["name"] for volume in pod["spec"].get("volumes") or ()}
    for before, now in zip(
        all_containers(pod), [each for each in all_containers(done) if each["name"] not in MADE], strict=True
    ):
        paths = [one_path(mount["mountPath"]) for mount in now.get("volumeMounts") or ()]
        assert len(paths) == len(set(paths))
        names = [entry["name"] for entry in now.get("env") or ()]
        assert len(names) == len(set(names))
        for mount in (now.get("volumeMounts") or ())[len(before.get("volumeMounts") or ()) :]:
            assert mount["name"] in volumes
    assert added <= {*OURS_VOLUMES} | {name for name in volumes if name.startswith("azure-workload-identity-reserved-")}


@given(pods(), accounts())
def test_details_change_no_decision(pod: dict[str, Any], account: ServiceAccount) -> None:
    quick, long = decide(pod, account), decide(pod, account, detailed=True)
    done = [apply_patch(pod, each.patch if each.patch is not None else b"[]") for each in (quick, long)]
    assert one_secret(done[0]) == one_secret(done[1])
    assert quick.identities == long.identities


# -- somebody else in between ------------------------------------------------------------------------------------------


@st.composite
def others(draw: st.DrawFn) -> dict[str, Any]:
    """What another webhook adds: things of its own, and a name for the pod where it has none."""
    return {
        "container": draw(st.none() | containers(["sidecar"], meets=False).map(lambda made: made[0])),
        "first": draw(st.booleans()),
        "init": draw(st.none() | st.just({"name": "other-init", "image": "x"})),
        "env": draw(st.none() | st.just({"name": "ADDED", "value": "1"})),
        "mount": draw(st.none() | st.just({"name": "added", "mountPath": "/added"})),
        "annotation": draw(st.none() | st.just("1")),
        "defaults": draw(st.booleans()),
    }


def patched_by(other: Mapping[str, Any], pod: Mapping[str, Any]) -> dict[str, Any]:
    done = copy.deepcopy(dict(pod))
    spec = done["spec"]
    for each in all_containers(done):
        if other["env"] is not None:
            each["env"] = [other["env"], *(each.get("env") or ())]
        if other["mount"] is not None:
            each["volumeMounts"] = [*(each.get("volumeMounts") or ()), other["mount"]]
    if other["mount"] is not None:
        spec["volumes"] = [{"name": "added", "emptyDir": {}}, *(spec.get("volumes") or ())]
    if other["container"] is not None:
        added = [copy.deepcopy(other["container"])]
        spec["containers"] = added + spec["containers"] if other["first"] else spec["containers"] + added
    if other["init"] is not None:
        spec["initContainers"] = [dict(other["init"]), *(spec.get("initContainers") or ())]
    if other["annotation"] is not None:
        done["metadata"]["annotations"] = {**(done["metadata"].get("annotations") or {}), "added": "1"}
    if other["defaults"]:
        for volume in spec.get("volumes") or ():
            for kind in ("projected", "downwardAPI"):
                if volume.get(kind) is not None:
                    volume[kind].setdefault("defaultMode", 420)
    return done


def without_setup(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Another webhook adds its things to our init container, too, where it comes second."""
    done = copy.deepcopy(dict(pod))
    listed = done["spec"].get("initContainers")
    if listed is not None:
        done["spec"]["initContainers"] = [each for each in listed if each["name"] not in MADE] or None
    return done


def no_defaults(pod: Any) -> Any:
    if isinstance(pod, dict):
        return {key: no_defaults(value) for key, value in pod.items() if (key, value) != ("defaultMode", 420)}
    return [no_defaults(each) for each in pod] if isinstance(pod, list) else pod


@given(pods(meets=False), accounts(), others())
def test_the_order_of_two_webhooks_does_not_matter(
    pod: dict[str, Any], account: ServiceAccount, other: dict[str, Any]
) -> None:
    theirs_first = injected(patched_by(other, pod), account)
    ours_first = injected(patched_by(other, injected(pod, account)), account)
    assert without_order(no_defaults(one_secret(without_setup(ours_first)))) == without_order(
        no_defaults(one_secret(without_setup(theirs_first)))
    )


@given(pods(), accounts(), others(), others())
def test_a_call_after_others_settles(
    pod: dict[str, Any], account: ServiceAccount, first: dict[str, Any], second: dict[str, Any]
) -> None:
    done = injected(patched_by(second, injected(patched_by(first, pod), account)), account)
    assert decide(done, account).patch is None


@given(pods(), accounts(), st.sampled_from(["pod", "app-x2x4z"]))
def test_a_pod_that_is_named_in_between_gets_nothing_twice(
    pod: dict[str, Any], account: ServiceAccount, name: str
) -> None:
    done = injected(pod, account)
    done["metadata"]["name"] = name
    assert decide(done, account).patch is None


# -- another ServiceAccount in between ---------------------------------------------------------------------------------


@settings(max_examples=200)
@given(pods(meets=False), accounts(), accounts("other", "u2"))
def test_another_account_leaves_what_a_fresh_injection_gives(
    pod: dict[str, Any], before: ServiceAccount, other: ServiceAccount
) -> None:
    changed = injected(pod, before)
    changed["spec"]["serviceAccountName"] = "other"
    done = injected(changed, before, other)
    fresh = copy.deepcopy(pod)
    fresh["spec"]["serviceAccountName"] = "other"
    assert without_nothing(one_secret(done)) == without_nothing(one_secret(injected(fresh, other)))
    assert decide(done, before, other).patch is None


def without_nothing(pod: Any) -> Any:
    """Without empty lists and objects: the API server makes no difference."""
    if isinstance(pod, dict):
        rows = {key: without_nothing(value) for key, value in pod.items()}
        return {key: value for key, value in rows.items() if value not in (None, [], {})}
    return [without_nothing(each) for each in pod] if isinstance(pod, list) else pod


@given(pods(), accounts(), accounts("other", "u2"))
def test_another_account_always_settles(pod: dict[str, Any], before: ServiceAccount, other: ServiceAccount) -> None:
    changed = injected(pod, before)
    changed["spec"]["serviceAccountName"] = "other"
    done = injected(changed, before, other)
    assert decide(done, before, other).patch is None
