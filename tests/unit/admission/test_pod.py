"""Reading a pod: what decides, nothing else."""

from __future__ import annotations

import json

import pytest

from wif.admission.pod import one_path, read_pod
from wif.errors import ProtocolError


def test_what_is_read_and_what_is_passed_over() -> None:
    pod = read_pod(
        json.dumps(
            {
                "kind": "Pod",
                "metadata": {"generateName": "app-", "annotations": {"a": "b"}, "uid": "x"},
                "spec": {
                    "serviceAccountName": "app",
                    "containers": [
                        {
                            "name": "main",
                            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec"}}}],
                            "volumeMounts": [{"name": "v", "mountPath": "/v", "unknownField": [1]}],
                        }
                    ],
                    "initContainers": [{"name": "proxy", "restartPolicy": "Always"}],
                    "ephemeralContainers": None,
                    "volumes": [{"name": "v", "emptyDir": {}}],
                    "securityContext": {"fsGroup": 0, "futureField": {}},
                    "os": {"name": "linux"},
                    "hostNetwork": True,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "futureField": {"deep": [1, 2]},
                },
            }
        ).encode()
    )
    assert pod.metadata is not None
    assert pod.metadata.generate_name == "app-"
    assert pod.spec.containers is not None
    (main,) = pod.spec.containers
    assert [variable.name for variable in main.env or ()] == ["A"]
    assert [(mount.name, mount.path) for mount in main.volume_mounts or ()] == [("v", "/v")]
    assert pod.spec.ephemeral_containers is None
    assert pod.spec.security_context is not None
    assert pod.spec.security_context.fs_group == 0
    assert pod.spec.init_containers is not None
    assert pod.spec.init_containers[0].restart_policy == "Always"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"metadata"',
        b"{}",
        b'{"spec": null}',
        b'{"spec": {"containers": {}}}',
        b'{"spec": {"containers": [null]}}',
        b'{"spec": {"volumes": [{"name": 1}]}}',
        b'{"spec": {}, "metadata": {"annotations": {"a": 1}}}',
        b'{"spec": {}',
        b'{"spec": {"serviceAccountName": "\xff"}}',
        b'{"spec": {"serviceAccountName": "\\ud800"}}',
    ],
)
def test_what_is_no_pod_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a Pod") as caught:
        read_pod(raw)
    assert caught.value.code == "review-invalid"


def test_deep_nesting_is_refused() -> None:
    deep = b'{"spec": {"futureField": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    with pytest.raises(ProtocolError, match="nested too deep"):
        read_pod(deep)


@pytest.mark.parametrize(
    ("path", "one"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a//b", "/a/b"),
        ("//a/b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/c/../b", "/a/b"),
        ("/", "/"),
        ("/.hidden", "/.hidden"),
        ("", ""),
    ],
)
def test_two_spellings_of_a_path_are_one(path: str, one: str) -> None:
    assert one_path(path) == one
