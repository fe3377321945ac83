"""The sidecar's application: guard first, then one interface by the path; and who waits."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.unit.serve import asking
from wif.clouds.endpoint_answers import Answer
from wif.serve.httpd import Scope
from wif.serve.loopback_guard import LoopbackGuard
from wif.serve.sidecar import Mount, SidecarApp, limits
from wif.serve.waiting import PLACES, WaitingRoom


class Echo:
    """Answers with the path that it was asked for."""

    async def handle(self, scope: Scope) -> Answer:
        return Answer(200, scope["path"].encode(), ((b"x-from", b"echo"),))


class Broken:
    async def handle(self, scope: Scope) -> Answer:
        raise LookupError(f"quotes {scope['path']}")


@pytest.fixture
def app() -> SidecarApp:
    guard = LoopbackGuard()
    guard.allow("127.0.0.1", 8787)
    return SidecarApp(
        guard,
        {
            "aws": Mount("aws", Echo()),
            "": Mount("gce", Echo(), True),
            "computeMetadata": Mount("gce", Echo(), True),
            "broken": Mount("aws", Broken()),
        },
    )


def ask(app: SidecarApp, path: str, *headers: tuple[str, str], **more: Any) -> asking.Answer:
    return asyncio.run(asking.ask(app, path, *headers, **more))


@pytest.mark.parametrize("path", ["/aws", "/aws/", "/aws/app", "/aws/a/b", "/", "/computeMetadata/v1/instance"])
def test_the_first_segment_chooses_the_interface(app: SidecarApp, path: str) -> None:
    found = ask(app, path)
    assert (found.status, found.body.decode()) == (200, path)
    assert found.headers == {"x-from": "echo", "content-length": str(len(path))}


@pytest.mark.parametrize("path", ["/aws2", "/AWS", "/metadata/identity/oauth2/token", "/healthz", "/metrics", "*"])
def test_what_is_not_mounted_is_not_there(app: SidecarApp, path: str) -> None:
    assert ask(app, path).status == (200 if path == "*" else 404)  # no path at all is the root's business


def test_the_guard_comes_before_everything(app: SidecarApp) -> None:
    for path in ("/aws", "/nothing", "/broken", "/"):
        for method in ("GET", "POST"):
            found = ask(app, path, host="attacker.example", method=method)
            assert (found.status, found.body) == (403, b"the Host header names another server\n")
    assert app.counts == {("guard", 403): 8}


def test_a_metadata_servers_name_is_only_for_its_own_interface(app: SidecarApp) -> None:
    assert ask(app, "/computeMetadata/v1/", host="metadata.google.internal").status == 200
    assert ask(app, "/aws", host="metadata.google.internal").status == 403
    assert ask(app, "/nothing", host="metadata.google.internal").status == 403


def test_only_get_and_head(app: SidecarApp) -> None:
    found = ask(app, "/aws", method="PUT")
    assert (found.status, found.headers["allow"]) == (405, "GET, HEAD")
    found = ask(app, "/aws/app", method="HEAD")
    assert (found.status, found.body, found.headers["content-length"]) == (200, b"", "8")


def test_a_defect_ends_in_500_and_quotes_nothing(app: SidecarApp, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "wif.serve"):
        found = ask(app, "/broken/app")
    assert (found.status, found.body) == (500, b"an unexpected failure; the log says more\n")
    assert "LookupError" in caplog.text
    assert "quotes" not in caplog.text


def test_answers_are_counted_by_interface_and_status_alone(app: SidecarApp) -> None:
    for path in ("/aws/one", "/aws/two", "/", "/nothing", "/broken"):
        ask(app, path)
    assert app.counts == {("aws", 200): 2, ("gce", 200): 1, ("none", 404): 1, ("aws", 500): 1}


def test_mounts_can_change_while_it_serves(app: SidecarApp) -> None:
    app.mounts = {"aws": Mount("aws", Echo())}
    assert ask(app, "/").status == 404
    assert ask(app, "/aws").status == 200


def test_no_phase_of_a_connection_is_long_and_no_body_is_taken() -> None:
    found = limits(10)
    assert (found.connections, found.body_bytes) == (10, 0)
    assert max(found.head_seconds, found.body_seconds) <= 2.0
    assert found.answer_seconds <= 10.0


def test_who_comes_to_a_full_room_is_not_kept_waiting() -> None:
    room = WaitingRoom(2)
    seen = []
    with room:
        seen.append(room.seconds(1.5))
        with room:
            seen.append(room.seconds(1.5))
            with room:
                seen.append(room.seconds(1.5))
            with pytest.raises(LookupError), room:
                raise LookupError
            assert room.taken == 2
        seen.append(room.seconds(1.5))
    assert seen == [1.5, 1.5, 0.0, 1.5]
    assert (room.taken, PLACES) == (0, 64)
