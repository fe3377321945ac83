"""Lists and watches against an API server that answers as a test says, over TLS: expired, refused, busy, broken."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.hostile import HostileServer, Peer, http_answer
from wif.config.webhook import WebhookSettings
from wif.edges.kube import KubeClient
from wif.edges.transport import Incoming
from wif.edges.watching import LIMITS, KubeObject, Watcher, watch_all
from wif.errors import UnavailableError, WifError
from wif.serve.platform_watch import PlatformWatch
from wif.serve.service_accounts import AccountCache

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

QUICK = LIMITS._replace(pause_seconds=0.02, max_pause_seconds=0.1)
CHUNKED = http_answer(headers={"Transfer-Encoding": "chunked"}, length=False).removesuffix(b"{}")


def thing(name: str, version: int = 5) -> dict[str, Any]:
    uid = f"00000000-0000-4000-8000-{version:012x}"
    return {"metadata": {"name": name, "namespace": "a", "uid": uid, "resourceVersion": str(version)}}


def page(*names: str, version: int = 5, following: str = "") -> bytes:
    metadata = {"resourceVersion": str(version)} | ({"continue": following} if following else {})
    return http_answer(json.dumps({"metadata": metadata, "items": [thing(name) for name in names]}).encode())


def event(kind: str, item: Mapping[str, Any]) -> bytes:
    line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


def status(code: int, reason: str = "Some") -> bytes:
    body = json.dumps({"kind": "Status", "code": code, "reason": reason, "message": "words"}).encode()
    return http_answer(body, status=f"{code} {reason}")


EXPIRED = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
END = b"0\r\n\r\n"

Script = Callable[[Peer, Mapping[str, str]], None]
"""Answers one request, of which it gets the query."""


class Api(HostileServer):
    """Answers the first requests as scripted, each once; then lists nothing and watches in silence."""

    def __init__(self, *answers: bytes | Script) -> None:
        super().__init__(self._answer)
        self.left = list(answers)
        self.queries: list[Mapping[str, str]] = []

    def _answer(self, peer: Peer) -> None:
        while True:
            request = peer.read_request()
            query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
            self.queries.append(query)
            following: bytes | Script = self.left.pop(0) if self.left else silent_watch
            if isinstance(following, bytes):
                peer.send(following)
            else:
                following(peer, query)


def silent_watch(peer: Peer, query: Mapping[str, str]) -> None:
    assert "watch" in query
    peer.send(CHUNKED)
    peer.wait(60)


def watch(*events: bytes, end: bytes = END) -> bytes:
    return CHUNKED + b"".join(events) + end


class Told:
    """A receiver that writes down what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def list_begins(self) -> None:
        self.words.append("begin")

    def list_ends(self) -> None:
        self.words.append("end")

    def put(self, item: KubeObject) -> None:
        self.words.append(f"+{item.metadata.name}")

    def remove(self, item: KubeObject) -> None:
        self.words.append(f"-{item.metadata.name}")


def client(api: Api, directory: Path) -> KubeClient:
    (directory / "token").write_text("token-one")
    (directory / "ca.crt").write_bytes(api.ca_file.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api.port)}
    return KubeClient.in_cluster(environ=environ, directory=directory)


@contextmanager
def watched(
    *answers: bytes | Script, directory: Path, **limits: Any
) -> Iterator[tuple[Watcher[KubeObject], Told, Api]]:
    with Api(*answers) as api:
        kube, told, stopping = client(api, directory), Told(), threading.Event()
        watcher = Watcher(
            kube,
            "/api/v1/things",
            KubeObject,
            told,
            name="the things",
            limits=QUICK._replace(**limits),
        )
        thread = threading.Thread(target=watch_all, args=([watcher], stopping), daemon=True)
        thread.start()
        try:
            yield watcher, told, api
        finally:
            stopping.set()
            thread.join(5)
            kube.close()
        assert not thread.is_alive()


def until(true: Callable[[], object], *, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it has not come to be"
        time.sleep(0.002)


def test_a_list_in_pages_then_the_watch_from_its_version(tmp_path: Path) -> None:
    answers = (
        page("one", version=7, following="next one"),
        page("two", version=7),
        watch(
            event("ADDED", thing("three", 8)), event("MODIFIED", thing("one", 9)), event("DELETED", thing("two", 10))
        ),
        watch(event("BOOKMARK", {"metadata": {"resourceVersion": "15"}})),
    )
    with watched(*answers, directory=tmp_path) as (watcher, told, api):
        until(lambda: len(api.queries) == 5)
        assert told.words == ["begin", "+one", "+two", "end", "+three", "+one", "-two"]
        assert [query.get("continue") for query in api.queries[:2]] == [None, "next one"]
        assert [query["limit"] for query in api.queries[:2]] == ["500", "500"]
        assert [query["resourceVersion"] for query in api.queries[2:]] == ["7", "10", "15"]
        assert all(query["allowWatchBookmarks"] == "true" for query in api.queries[2:])
        assert all(300 <= int(query["timeoutSeconds"]) <= 600 for query in api.queries[2:])
        assert (watcher.lists, watcher.failures, watcher.events, watcher.problem) == (1, 0, 3, "")


@pytest.mark.parametrize("broken", [EXPIRED, b""], ids=["an event", "an answer"])
def test_a_version_that_is_too_old_is_listed_anew(tmp_path: Path, broken: bytes) -> None:
    expired = watch(broken) if broken else status(410, "Expired")
    with watched(page("one"), expired, page("two", version=9), directory=tmp_path) as (watcher, told, api):
        until(lambda: len(api.queries) == 4)
        assert told.words == ["begin", "+one", "end", "begin", "+two", "end"]
        assert api.queries[3]["resourceVersion"] == "9"
        assert (watcher.lists, watcher.failures) == (2, 1)


def test_a_list_that_breaks_off_is_begun_again(tmp_path: Path) -> None:
    answers = (page("one", following="x"), status(410, "Expired"), page("two"))
    with watched(*answers, directory=tmp_path) as (watcher, told, api):
        until(lambda: watcher.is_synced)
        assert told.words == ["begin", "+one", "begin", "+two", "end"]
        assert "continue" not in api.queries[2]


@pytest.mark.parametrize(
    "answer",
    [
        status(500, "InternalError"),
        status(429, "TooManyRequests"),
        status(403, "Forbidden"),
        status(401, "Unauthorized"),
        watch(event("ERROR", {"kind": "Status", "code": 500, "reason": "InternalError"})),
        watch(end=b""),
        watch(end=b"5\r\nab"),
    ],
    ids=["500", "429", "403", "401", "error event", "cut", "cut in a chunk"],
)
def test_after_these_the_watch_goes_on_from_where_it_was(tmp_path: Path, answer: bytes) -> None:
    def cutting(peer: Peer, _: Mapping[str, str]) -> None:
        peer.send(answer)
        peer.close_abruptly()

    with watched(page("one", version=7), cutting, directory=tmp_path) as (watcher, _, api):
        until(lambda: len(api.queries) == 3)
        assert api.queries[2]["resourceVersion"] == "7"
        until(lambda: not watcher.problem)
        assert (watcher.lists, watcher.failures) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        watch(event("ADDED", {"nothing": 1})),
        watch(event("WHAT", thing("two"))),
        watch(b"4\r\nabc\n\r\n"),
        watch(event("ADDED", thing("x" * 70_000))),
        status(400, "BadRequest"),
        status(404, "NotFound"),
    ],
    ids=["no object", "unknown type", "no JSON", "too large", "400", "404"],
)
def test_after_these_all_is_listed_anew(tmp_path: Path, answer: bytes) -> None:
    with watched(page("one"), answer, page("two"), directory=tmp_path, object_bytes=60_000) as (watcher, told, _):
        until(lambda: watcher.lists == 2)
        assert told.words[-3:] == ["begin", "+two", "end"]


def test_a_watch_may_bring_more_in_all_than_any_answer_may_hold(tmp_path: Path) -> None:
    fields = {"annotations": {"x": "y" * 60_000}}
    events = [event("ADDED", {"metadata": {**thing(f"n-{n}", 10 + n)["metadata"], **fields}}) for n in range(120)]
    with watched(page("one"), watch(*events), directory=tmp_path) as (watcher, _, api):
        until(lambda: len(api.queries) == 3)
        assert (watcher.events, watcher.failures, api.queries[2]["resourceVersion"]) == (120, 0, "129")


def test_a_stream_that_is_shut_down_is_no_stream_that_has_ended(tmp_path: Path) -> None:
    """An answer without a length ends with its connection; over plain http nothing else tells the two apart."""

    def endless(peer: Peer) -> None:
        peer.read_request()
        peer.send(http_answer(b"some", length=False))
        peer.wait(60)

    def read(answer: Incoming) -> int:
        chunks = answer.chunks()
        assert next(chunks) == b"some"
        threading.Timer(0.1, kube.abort).start()
        return sum(len(chunk) for chunk in chunks)

    with HostileServer(endless, tls=False) as server:
        kube = KubeClient.from_url(server.url, environ={"SSL_CERT_FILE": str(server.ca_file)})
        with pytest.raises(UnavailableError, match="cannot be asked"):
            kube.stream("/api", read)
        kube.close()


def test_silence_is_noticed_and_all_is_listed_anew(tmp_path: Path) -> None:
    """A version of the future, after the store was restored from a backup, is answered with silence for ever."""
    answers = (page("one", version=7), silent_watch, page("two", version=3))
    with watched(*answers, directory=tmp_path, silence_seconds=0.3) as (watcher, _, api):
        until(lambda: watcher.lists == 2)
        assert [query.get("resourceVersion") for query in api.queries[:4]] == [None, "7", None, "3"][: len(api.queries)]


@pytest.mark.parametrize(
    "answer",
    [http_answer(b"[]"), http_answer(b"{"), http_answer(b'{"metadata":{}}'), http_answer(b'{"items":[1]}')],
    ids=["no object", "no JSON", "no version", "no items"],
)
def test_a_list_that_cannot_be_read_is_a_problem_and_no_list(tmp_path: Path, answer: bytes) -> None:
    with watched(answer, page("one"), directory=tmp_path, pause_seconds=0.3) as (watcher, told, _):
        until(lambda: watcher.problem)
        assert "the things: the API server answered" in watcher.problem
        assert not watcher.is_synced
        assert "end" not in told.words
        until(lambda: watcher.is_synced)
        until(lambda: not watcher.problem)


def test_an_empty_list_is_one(tmp_path: Path) -> None:
    empty = http_answer(b'{"metadata":{"resourceVersion":"1"},"items":null}')
    with watched(empty, directory=tmp_path) as (watcher, told, _):
        until(lambda: watcher.is_synced)
        assert told.words == ["begin", "end"]


def test_a_token_that_is_missing_for_a_moment_costs_no_list(tmp_path: Path) -> None:
    def lost(peer: Peer, _: Mapping[str, str]) -> None:
        (tmp_path / "token").unlink()
        peer.send(watch())

    with watched(page("one"), lost, directory=tmp_path) as (watcher, _, api):
        until(lambda: "cannot be read" in watcher.problem)
        (tmp_path / "token").write_text("token-two")
        until(lambda: len(api.queries) == 3)
        assert watcher.lists == 1


def test_a_server_that_cannot_be_reached_for_a_while_costs_no_list(tmp_path: Path) -> None:
    def mute(peer: Peer, _: Mapping[str, str]) -> None:
        peer.wait(0.5)  # longer than the silence that is borne

    with watched(page("one"), mute, directory=tmp_path, silence_seconds=0.2) as (watcher, _, api):
        until(lambda: len(api.queries) >= 3)
        assert "watch" in api.queries[2]
        assert (watcher.lists, watcher.failures) == (1, 1)


def test_a_watch_taken_up_again_is_trusted_only_a_moment_later(tmp_path: Path) -> None:
    """The API server answers 200 and says in the first event that it knows the version no longer."""
    with watched(page("one"), status(503), directory=tmp_path) as (watcher, _, api):
        until(lambda: watcher.problem)
        assert not watcher.is_current
        until(lambda: len(api.queries) == 3 and not watcher.problem)
        assert not watcher.is_current
        until(lambda: watcher.is_current)
    with watched(page("one"), directory=tmp_path) as (watcher, _, api):
        until(lambda: len(api.queries) == 2)
        assert watcher.is_current, "from its very list on"


def test_the_token_is_read_again_for_each_request(tmp_path: Path) -> None:
    def refuse(peer: Peer, _: Mapping[str, str]) -> None:
        (tmp_path / "token").write_text("token-two")
        peer.send(status(401, "Unauthorized"))

    with watched(refuse, page("one"), directory=tmp_path) as (watcher, _, api):
        until(lambda: watcher.is_synced)
        bearers = [request.headers["authorization"] for request in api.received[:2]]
        assert bearers == ["Bearer token-one", "Bearer token-two"]


def test_a_busy_server_is_left_alone_for_as_long_as_it_says(tmp_path: Path) -> None:
    busy = http_answer(b"{}", status="429 Too Many Requests", headers={"Retry-After": "1"})
    with watched(busy, page("one"), directory=tmp_path, max_pause_seconds=5.0) as (watcher, _, _api):
        began = time.monotonic()
        until(lambda: watcher.is_synced)
        assert time.monotonic() - began > 0.9


def test_a_server_that_fails_on_and_on_is_asked_ever_more_rarely(tmp_path: Path) -> None:
    answers = [status(500, "InternalError")] * 200
    with watched(*answers, directory=tmp_path, pause_seconds=0.02, max_pause_seconds=60.0) as (watcher, _, api):
        time.sleep(1.5)
        assert 3 <= len(api.queries) <= 8
        assert watcher.failures == len(api.queries)


def test_a_watch_that_ends_at_once_is_not_taken_up_at_once(tmp_path: Path) -> None:
    answers = [page("one"), *[watch()] * 200]
    with watched(*answers, directory=tmp_path, pause_seconds=0.1) as (watcher, _, api):
        time.sleep(1.0)
        assert 3 <= len(api.queries) <= 13
        assert watcher.failures == 0


def test_an_error_of_the_receiver_ends_the_work_and_is_not_hidden(tmp_path: Path) -> None:
    class Broken(Told):
        def put(self, item: KubeObject) -> None:
            raise ZeroDivisionError(item.metadata.name)

    with Api(page("one")) as api:
        kube = client(api, tmp_path)
        watcher = Watcher(kube, "/api/v1/things", KubeObject, Broken(), name="the things", limits=QUICK)
        with pytest.raises(ZeroDivisionError):
            watch_all([watcher], threading.Event())
        kube.close()


def test_a_list_anew_replaces_all_without_an_empty_moment(tmp_path: Path) -> None:
    going = threading.Event()

    def slow(peer: Peer, _: Mapping[str, str]) -> None:
        peer.send(CHUNKED + EXPIRED)
        going.wait(10)
        peer.send(END)

    def half(peer: Peer, _: Mapping[str, str]) -> None:
        peer.send(page("stays", following="x", version=9))
        peer.wait(0.3)

    answers = (page("stays", "goes"), slow, half, page("comes", version=9))
    with Api(*answers) as api:
        kube = client(api, tmp_path)
        cache, stopping = AccountCache(kube, prefixes=("wif.internal/",), limits=QUICK), threading.Event()
        thread = threading.Thread(target=cache.run, args=(stopping,), daemon=True)
        thread.start()
        until(lambda: cache.synced)
        assert cache.size == 2
        going.set()
        sizes = set()
        while cache.lists < 2:
            assert cache.get("a", "stays")
            assert cache.get("a", "goes") or cache.get("a", "comes")  # until the list is whole nothing has gone
            sizes.add(cache.size)
            time.sleep(0.001)
        assert sizes <= {2, 3}
        assert (bool(cache.get("a", "goes")), bool(cache.get("a", "comes")), cache.size) == (False, True, 2)
        assert cache.synced
        stopping.set()
        thread.join(5)
        kube.close()


def test_a_platform_that_a_list_anew_no_longer_has_is_gone(tmp_path: Path) -> None:
    body = {"metadata": {"resourceVersion": "5"}, "items": [thing("platform") | {"data": {"config.yaml": "{}"}}]}
    expiring = threading.Event()

    def slow(peer: Peer, _: Mapping[str, str]) -> None:
        expiring.wait(10)
        peer.send(watch(EXPIRED))

    with Api(http_answer(json.dumps(body).encode()), slow, page()) as api:
        kube, stopping = client(api, tmp_path), threading.Event()
        platform = PlatformWatch(kube, "a", "platform", WebhookSettings(), limits=QUICK)
        thread = threading.Thread(target=platform.run, args=(stopping,), daemon=True)
        thread.start()
        until(lambda: platform.platform)
        assert platform.problem == ""
        expiring.set()
        until(lambda: platform.platform is None)
        assert platform.problem
        stopping.set()
        thread.join(5)
        kube.close()


def test_a_redirect_is_not_followed_and_no_token_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved = http_answer(status="302 Found", headers={"Location": "https://elsewhere.example/"})
    with watched(moved, page("one"), directory=tmp_path, pause_seconds=0.2) as (watcher, _, _api):
        until(lambda: watcher.problem)
        assert "redirects to elsewhere.example" in watcher.problem
        until(lambda: watcher.is_synced)
        assert "token-one" not in watcher.problem
    assert "token-one" not in caplog.text


def test_a_watch_needs_a_path_that_is_one(tmp_path: Path) -> None:
    with Api() as api:
        kube = client(api, tmp_path)
        with pytest.raises(WifError):
            kube.stream("/api/v1/things\r\nx: y", lambda answer: answer.status)
        kube.close()
