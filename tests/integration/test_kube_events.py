"""Events on the real API server: seen by kubectl, joined to series, bounded, and never the caller's failure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wif.edges.events import MAX_NEW_EVENTS, MAX_NOTE_BYTES, MAX_SERIES, EventRecorder, ObjectReference
from wif.edges.kube import KubeClient
from wif.emulator.apiserver import ApiServer

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    name = f"events-{uuid.uuid4().hex[:8]}"
    api_server.create_namespace(name)
    return name


@pytest.fixture
def admin(api_server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient.from_kubeconfig(api_server.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(admin: KubeClient, namespace: str, clock: Clock) -> EventRecorder:
    about = ObjectReference(kind="ConfigMap", namespace=namespace, name="oidc", uid="u-1")
    return EventRecorder(admin, about, instance="wif-issuer-0", clock=clock)


def events(api_server: ApiServer, namespace: str) -> list[dict[str, Any]]:
    """As kubectl describe reads them: of the core group."""
    status, body = api_server.request("GET", f"/api/v1/namespaces/{namespace}/events")
    assert status == 200
    found: list[dict[str, Any]] = json.loads(body)["items"]
    return found


def test_an_event_is_about_its_object(api_server: ApiServer, namespace: str, recorder: EventRecorder) -> None:
    assert recorder.warning("KeyUnknown", "nobody vouches for the key k1", action="Publish") == ""
    (event,) = events(api_server, namespace)
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "KeyUnknown", "Publish")
    assert event["message"] == "nobody vouches for the key k1"
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "namespace": namespace,
        "name": "oidc",
        "uid": "u-1",
    }
    assert (event["reportingComponent"], event["reportingInstance"]) == ("wif", "wif-issuer-0")
    assert event["eventTime"]


def test_what_repeats_is_one_event_with_a_count(
    api_server: ApiServer, namespace: str, recorder: EventRecorder, clock: Clock
) -> None:
    for _ in range(5):
        assert recorder.normal("Published", "2 keys", action="Publish") == ""
        clock.now += 10
    (event,) = events(api_server, namespace)
    assert "series" not in event, "within a minute nothing more is sent"
    clock.now += 20
    assert recorder.normal("Published", "2 keys", action="Publish") == ""
    (event,) = events(api_server, namespace)
    assert event["series"]["count"] == 6
    assert event["series"]["lastObservedTime"] >= event["eventTime"]
    assert recorder.normal("Published", "3 keys", action="Publish") == ""
    assert len(events(api_server, namespace)) == 2
    clock.now += 400
    assert recorder.normal("Published", "2 keys", action="Publish") == ""
    assert len(events(api_server, namespace)) == 3, "after a silence it is a new one"


def test_a_removed_event_is_made_anew(
    api_server: ApiServer, namespace: str, recorder: EventRecorder, clock: Clock
) -> None:
    assert recorder.normal("Published", "2 keys", action="Publish") == ""
    (event,) = events(api_server, namespace)
    api_server.request("DELETE", f"/api/v1/namespaces/{namespace}/events/{event['metadata']['name']}")
    clock.now += 61
    assert "404 NotFound" in recorder.normal("Published", "2 keys", action="Publish")
    assert recorder.normal("Published", "2 keys", action="Publish") == ""
    assert len(events(api_server, namespace)) == 1


def test_there_are_only_so_many_in_so_long(
    api_server: ApiServer, namespace: str, recorder: EventRecorder, clock: Clock
) -> None:
    said = [recorder.warning("KeyUnknown", f"key {number}", action="Publish") for number in range(MAX_NEW_EVENTS + 3)]
    assert [text for text in said if text] == said[-3:]
    assert "left out" in said[-1]
    assert len(events(api_server, namespace)) == MAX_NEW_EVENTS
    clock.now += 601
    assert recorder.warning("KeyUnknown", "key 1000", action="Publish") == ""


def test_not_all_series_are_remembered(recorder: EventRecorder, clock: Clock) -> None:
    for number in range(MAX_SERIES + 10):
        clock.now += 30
        assert recorder.warning("KeyUnknown", f"key {number}", action="Publish") == ""
    assert len(recorder._series) == MAX_SERIES


@pytest.mark.parametrize("note", ["x" * 3000, "é" * 1000, "€" * 341, "€" * 342])
def test_a_long_note_is_cut(api_server: ApiServer, namespace: str, recorder: EventRecorder, note: str) -> None:
    assert recorder.warning("R" * 300, note, action="A" * 300) == ""
    (event,) = events(api_server, namespace)
    written = event["message"]
    assert len(written.encode()) <= MAX_NOTE_BYTES
    assert note.startswith(written.removesuffix("…"))
    assert (written == note) == (len(note.encode()) <= MAX_NOTE_BYTES)


def test_a_failure_is_told_and_not_raised(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    api_server.create_service_account(namespace, "nobody")
    (tmp_path / "token").write_text(api_server.request_token(namespace, "nobody", "https://kubernetes.default.svc"))
    (tmp_path / "ca.crt").write_bytes((api_server.directory / "ca.crt").read_bytes())
    host, _, port = api_server.url.removeprefix("https://").rpartition(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    client = KubeClient.in_cluster(environ=environ, directory=tmp_path)
    about = ObjectReference(kind="Pod", namespace=namespace, name="p")
    assert "403 Forbidden" in EventRecorder(client, about).normal("R", "n", action="A")
    assert "cannot be asked" in EventRecorder(client.at("127.0.0.1", 1), about).normal("R", "n", action="A")
    missing = ObjectReference(kind="Pod", namespace="no-such-namespace", name="p")
    assert EventRecorder(client, missing).normal("R", "n", action="A")
    assert events(api_server, namespace) == []
    client.close()
