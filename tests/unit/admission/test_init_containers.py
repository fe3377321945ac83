"""What the pod's own containers do beside an init container of ours that goes on running."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pods_under_review import container, fitted, new_pod, part, plan_of, token_volume
from wif.admission.injection import InitContainer, Mount, Part, Volume

SIDECAR = InitContainer(
    {"name": "side", "volumeMounts": [{"name": "tokens", "mountPath": "/t"}, {"name": "secret", "mountPath": "/s"}]},
    ports=(8787, 8788),
)


def served(sidecar: InitContainer = SIDECAR) -> Part:
    volumes = (Volume(token_volume("tokens")), Volume({"name": "secret", "emptyDir": {}}))
    return part(volumes=volumes, mounts=(Mount("secret", "/s"),), init_containers=(sidecar,))


def rules(pod: dict[str, Any], part: Part, **more: Any) -> list[tuple[str, str, str]]:
    found = fitted(plan_of(part, **more), pod).findings
    return [(each.rule, each.level, each.container) for each in found]


@pytest.mark.parametrize("member", ["containers", "initContainers"])
@pytest.mark.parametrize("deny", [True, False])
def test_a_port_of_ours(member: str, deny: bool) -> None:
    pod = new_pod(container(ports=[{"containerPort": 8080}]), initContainers=[])
    pod["spec"][member].append(container("busy", ports=[{"containerPort": 1}, {"containerPort": 8788}]))
    level = "deny" if deny else "warning"
    assert rules(pod, served(), deny_collisions=deny) == [("sidecar-port-taken", level, "busy")]
    assert rules(pod, served(SIDECAR._replace(ports=())), deny_collisions=deny) == []


def test_another_protocol_has_ports_of_its_own() -> None:
    ports = [{"containerPort": 8787, "protocol": "UDP"}, {"containerPort": 8788, "protocol": "TCP"}]
    (finding,) = fitted(plan_of(served()), new_pod(container(ports=ports))).findings
    assert "the port 8788" in finding.message


def test_the_volume_of_tokens_is_for_ours_alone() -> None:
    pod = new_pod(container("a", mounts={"tokens": "/x", "secret": "/y"}), container("b", mounts={"own": "/o"}))
    assert rules(pod, served(), deny_collisions=True) == [("sidecar-tokens-mounted", "warning", "a")]


def test_ours_is_none_of_the_others() -> None:
    made = {**SIDECAR.content, "ports": [{"containerPort": 8788}]}
    assert rules(new_pod(initContainers=[made]), served()) == []
