"""Comparing what stands in a pod with what would be put there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pods_under_review import token_volume
from wif.admission.sameness import covers, is_same, serves_as

OURS: dict[str, Any] = token_volume("t")


def projected(*sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "t", "projected": {"sources": list(sources), **more}}


def token(audience: str = "sts.example", path: str = "token", **more: Any) -> dict[str, Any]:
    return {"serviceAccountToken": {"audience": audience, "path": path, **more}}


def test_the_api_servers_defaults_and_empty_members_do_not_count() -> None:
    assert is_same(projected(token(expirationSeconds=3600), defaultMode=420), OURS)
    assert is_same({"name": "e"}, {"name": "e", "value": ""})
    assert is_same({"name": "m", "mountPath": "/m"}, {"name": "m", "mountPath": "/m", "readOnly": False})
    ours = {"name": "setup", "image": "i", "resources": {}, "command": ["sh"]}
    assert is_same(
        {
            "name": "setup",
            "image": "i",
            "command": ["sh"],
            "imagePullPolicy": "Always",
            "terminationMessagePolicy": "File",
        },
        ours,
    )


@pytest.mark.parametrize(
    "found",
    [
        projected(token(expirationSeconds=7200)),
        projected(token(expirationSeconds=3600), defaultMode=256),
        projected(token(expirationSeconds=3600), token(audience="more", expirationSeconds=3600)),
        {"name": "t", "hostPath": {"path": "/"}},
        {**OURS, "name": "u"},
    ],
)
def test_anything_else_counts(found: dict[str, Any]) -> None:
    assert not is_same(found, OURS)


def test_a_number_is_never_empty() -> None:
    assert not is_same({"runAsUser": 0}, {})


def test_covers_lets_others_add() -> None:
    ours = {
        "name": "setup",
        "image": "i",
        "command": ["sh", "-c"],
        "env": [{"name": "A", "value": "1"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {},
        "imagePullPolicy": "Always",
    }
    found = {
        "name": "setup",
        "image": "i",
        "command": ["sh", "-c"],
        "env": [{"name": "OTHER", "value": "2"}, {"name": "A", "value": "1"}],
        "volumeMounts": [{"name": "kube-api-access", "mountPath": "/k"}],
        "securityContext": {"capabilities": {"drop": ["ALL"]}},
    }
    assert covers(found, ours)
    assert not covers({**found, "image": "other"}, ours)
    assert not covers({**found, "command": ["sh"]}, ours)
    assert not covers({**found, "env": []}, ours)
    assert not covers({**found, "env": None}, ours)
    assert not covers({**found, "imagePullPolicy": "Never"}, ours)
    assert not covers({**found, "securityContext": {"allowPrivilegeEscalation": True}}, ours)
    privileged = {"allowPrivilegeEscalation": True, "capabilities": {"drop": ["ALL"]}}
    assert not covers({**found, "securityContext": privileged}, ours)
    assert not covers({**found, "securityContext": "x"}, ours)
    assert not covers({**found, "resources": {"limits": {"cpu": "1"}}}, ours)


def test_a_volume_serves_as_ours_with_every_file_of_ours() -> None:
    assert serves_as(projected(token(expirationSeconds=7200), {"configMap": {"name": "x"}}), OURS)
    assert not serves_as(projected(token(audience="other")), OURS)
    assert not serves_as(projected(token(path="other")), OURS)
    assert not serves_as(projected(), OURS)


@pytest.mark.parametrize(
    "found",
    [
        {"name": "t", "emptyDir": {}},
        {"name": "t", "projected": None},
        {"name": "t", "projected": {"sources": None}},
        {"name": "t", "projected": {"sources": ["x"]}},
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": None}]}},
        "t",
    ],
)
def test_what_is_no_projected_volume_serves_as_nothing(found: Any) -> None:
    assert not serves_as(found, OURS)


def test_a_volume_without_files_is_served_by_nothing() -> None:
    volume = {"name": "t", "emptyDir": {}}
    assert not serves_as(volume, volume)


def test_each_item_of_a_source_is_a_file() -> None:
    def downward(*paths: str, version: str = "v1") -> dict[str, Any]:
        field = {"apiVersion": version, "fieldPath": "metadata.name"}
        return {"downwardAPI": {"items": [{"path": path, "fieldRef": field} for path in paths]}}

    assert serves_as(projected(token(), downward("a", "b")), projected(token(), downward("a")))
    assert not serves_as(projected(token(), downward("b")), projected(token(), downward("a")))
    by_name = {"configMap": {"name": "x", "items": [{"key": "k", "path": "p"}]}}
    other = {"configMap": {"name": "y", "items": [{"key": "k", "path": "p"}]}}
    assert not serves_as(projected(other), projected(by_name))
