"""The key set in Google's control planes: one writer, its Lease looked at, the result read back, failures named."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from tests.integration.google_apis import MEMBERSHIP, PROVIDER, GoogleApis
from tests.integration.stores.contract import OpenStore, StoreContract
from wif.core.credentials import AccessToken
from wif.edges.stores import ABSENT, StoredDocument, WriteConflict
from wif.edges.stores import Store as AnyStore
from wif.edges.stores.credentials import Identity
from wif.edges.stores.google import FleetStore, GcpProviderStore
from wif.edges.stores.google_api import PACE, Pace
from wif.emulator.authority import Authority
from wif.errors import WifError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

ISSUER = "https://oidc.example.com/edge"
JWKS = "openid/v1/jwks"
Store = GcpProviderStore | FleetStore

FAST = Pace(
    write_seconds=4.0,
    settle_seconds=0.0,
    backoff_seconds=0.02,
    poll_seconds=0.01,
    read_back_seconds=0.02,
    operation_seconds=2.0,
)


def key_set(*kids: str, **members: str) -> bytes:
    keys = [
        {"use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256", "n": "AQAB", "e": "AQAB", **members} for kid in kids
    ]
    return json.dumps({"keys": keys}, separators=(",", ":")).encode()


class Credentials:
    """The publisher's identity: a token, and another one each time that it is refused."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.refused: list[str] = []

    def current(self) -> Identity:
        return Identity(origin="a test", secrets={"token": self.tokens[0]})

    def renew(self, refused: Identity) -> None:
        self.refused.append(refused.secrets["token"])
        if len(self.tokens) > 1:
            self.tokens.pop(0)


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as made:
        yield made


@pytest.fixture
def apis(authority: Authority) -> Iterator[GoogleApis]:
    with GoogleApis(authority.server_context()) as made:
        yield made


@pytest.fixture
def open_store(apis: GoogleApis, authority: Authority, kind: type[Store]) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def make(**settings: Any) -> Store:
        settings = {
            "credentials": Credentials("ya29.good"),
            "endpoint": apis.url,
            "ca_file": str(authority.ca_file),
            "single_writer": True,
            "environ": {},
            "pace": FAST,
            **settings,
        }
        store = kind(resource_of(kind), **settings)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def resource_of(kind: type[Store]) -> str:
    return PROVIDER if kind is GcpProviderStore else MEMBERSHIP


def write(store: Store, body: bytes, tag: str) -> str:
    return store.write(JWKS, body, tag=tag, content_type="application/jwk-set+json", cache_control="no-store")


def refused(code: str, action: Callable[[], object]) -> WifError:
    with pytest.raises(WifError) as caught:
        action()
    assert caught.value.code == code, caught.value
    assert "ya29" not in str(caught.value)
    return caught.value


@pytest.fixture(params=[GcpProviderStore, FleetStore], ids=["provider", "fleet"])
def kind(request: pytest.FixtureRequest) -> type[Store]:
    made: type[Store] = request.param
    return made


class ControlPlane(StoreContract):
    """The contract, as far as a place without a precondition can keep it: for one writer at a time."""

    content_is_tag = True
    odd_paths = ()
    writers = 20
    clients = 4
    name: ClassVar[type[Store]]

    @pytest.fixture
    def open_store(self, apis: GoogleApis, authority: Authority) -> Iterator[OpenStore]:
        turn = threading.Lock()
        apis.polls = 0
        opened = []

        def make() -> AnyStore:
            store = self.name(
                resource_of(self.name),
                credentials=Credentials("ya29.good"),
                endpoint=apis.url,
                ca_file=str(authority.ca_file),
                environ={},
                guard=lambda _: turn.locked(),
                pace=FAST,
            )
            opened.append(store)
            return Leading(store, turn)

        yield make
        for store in opened:
            store.close()


class Leading:
    """A store that is written while a lock is held, as by the holder of a Lease."""

    def __init__(self, store: Store, turn: threading.Lock) -> None:
        self._store = store
        self._turn = turn
        self.name = store.name
        self.is_conditional, self.holds_discovery, self.keeps_headers = False, False, False

    def read(self, path: str) -> StoredDocument | None:
        return self._store.read(path)

    def write(self, path: str, body: bytes, *, tag: str, content_type: str, cache_control: str) -> str:
        with self._turn:
            return self._store.write(path, body, tag=tag, content_type=content_type, cache_control=cache_control)

    def delete(self, path: str, *, tag: str) -> None:
        with self._turn:
            self._store.delete(path, tag=tag)

    def close(self) -> None:
        self._store.close()


class TestProvider(ControlPlane):
    name = GcpProviderStore


class TestFleet(ControlPlane):
    name = FleetStore


# -- reading and writing -------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]) -> None:
    store = open_store()
    assert (store.is_conditional, store.holds_discovery, store.keeps_headers) == (False, False, False)
    assert store.name == f"{kind.scheme}:{resource_of(kind)}"
    assert store.read(JWKS) is None
    tag = write(store, key_set("a"), ABSENT)
    assert store.read(JWKS) == StoredDocument(body=key_set("a"), tag=tag)
    assert apis.key_set(resource_of(kind)) == key_set("a")
    assert write(store, key_set("a", "b"), tag) != tag
    assert apis.key_set(resource_of(kind)) == key_set("a", "b")


def test_nothing_else_of_the_resource_changes(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    before = json.loads(json.dumps(apis.resources[resource_of(kind)]))
    write(open_store(), key_set("a"), ABSENT)
    after = apis.resources[resource_of(kind)]
    part = "oidc" if kind is GcpProviderStore else "authority"
    after[part].pop("jwksJson" if part == "oidc" else "oidcJwks")
    assert after == before
    assert [seen.query["updateMask"] for seen in apis.patches()] == [kind.mask]


def test_deleting_lets_google_fetch_the_documents_again(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    store = open_store()
    tag = write(store, key_set("a"), ABSENT)
    with pytest.raises(WriteConflict):
        store.delete(JWKS, tag="sha256:other")
    assert apis.key_set(resource_of(kind)) == key_set("a")
    store.delete(JWKS, tag=tag)
    assert store.read(JWKS) is None
    assert len(apis.patches()) == 2
    store.delete(JWKS, tag=tag)
    assert len(apis.patches()) == 2, "nothing happens where nothing is"


def test_there_is_no_place_for_a_discovery_document(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    store = open_store()
    path = ".well-known/openid-configuration"
    assert store.read(path) is None
    store.delete(path, tag=ABSENT)
    refused("config-invalid", lambda: store.write(path, b"{}", tag=ABSENT, content_type="", cache_control=""))
    assert apis.seen == []


def test_another_version_is_a_conflict_and_is_not_written_over(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    store = open_store()
    tag = write(store, key_set("a"), ABSENT)
    apis.put_by_hand(resource_of(kind), key_set("a", "theirs"))
    for stale in (tag, ABSENT):
        with pytest.raises(WriteConflict):
            write(store, key_set("a", "ours"), stale)
    assert apis.key_set(resource_of(kind)) == key_set("a", "theirs")
    assert len(apis.patches()) == 1


# -- one writer ----------------------------------------------------------------------------------------------------


def test_without_a_lease_or_the_operators_word_nothing_is_written(
    open_store: Callable[..., Store], apis: GoogleApis
) -> None:
    store = open_store(single_writer=False)
    assert store.read(JWKS) is None
    error = refused("precondition-missing", lambda: write(store, key_set("a"), ABSENT))
    assert "--single-writer" in str(error)
    apis.put_by_hand(PROVIDER, key_set("a"))
    apis.put_by_hand(MEMBERSHIP, key_set("a"))
    found = store.read(JWKS)
    assert found is not None
    refused("precondition-missing", lambda: store.delete(JWKS, tag=found.tag))
    assert apis.patches() == []


def test_the_lease_is_asked_right_before_the_write_for_longer_than_the_request(
    open_store: Callable[..., Store], apis: GoogleApis
) -> None:
    asked: list[tuple[float, list[str]]] = []

    def guard(seconds: float) -> bool:
        asked.append((seconds, [seen.method for seen in apis.seen]))
        return True

    store = open_store(single_writer=False, guard=guard)
    write(store, key_set("a"), ABSENT)
    assert asked == [(FAST.write_seconds + FAST.margin_seconds, ["GET"])]
    assert [seen.method for seen in apis.seen][1] == "PATCH"


def test_a_lost_lease_writes_nothing(open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]) -> None:
    store = open_store(guard=lambda _: False)
    refused("lease-lost", lambda: write(store, key_set("a"), ABSENT))
    assert apis.patches() == []
    assert apis.key_set(resource_of(kind)) is None


def test_a_lease_lost_between_two_attempts_ends_the_write(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    held = iter([True, False])
    apis.fail("PATCH", status=503)
    refused("lease-lost", lambda: write(open_store(guard=lambda _: next(held)), key_set("a"), ABSENT))
    assert len(apis.patches()) == 1


def test_the_request_ends_before_the_lease_could(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    answers = iter([True, False])
    apis.before_patch = lambda: time.sleep(6.0)
    store = open_store(guard=lambda _: next(answers), pace=FAST._replace(write_seconds=0.5))
    started = time.monotonic()
    refused("lease-lost", lambda: write(store, key_set("a"), ABSENT))
    assert time.monotonic() - started < 4.0


def test_a_credential_that_is_renewed_meanwhile_takes_its_time_from_the_request(
    open_store: Callable[..., Store], apis: GoogleApis
) -> None:
    class Slow(Credentials):
        def renew(self, refused: Identity) -> None:
            super().renew(refused)
            time.sleep(1.5)

    asked: list[int] = []

    def guard(seconds: float) -> bool:
        asked.append(len(apis.patches()))
        return True

    apis.fail("PATCH", status=401)
    store = open_store(credentials=Slow("ya29.good", "ya29.good"), guard=guard, pace=FAST._replace(write_seconds=1.0))
    write(store, key_set("a"), ABSENT)
    assert asked == [0, 1], "the Lease was looked at again before the second request"


def test_a_write_that_a_paused_leader_makes_late_is_found(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    store = open_store(single_writer=False, guard=lambda _: True, pace=FAST._replace(settle_seconds=0.5))
    late = [False]

    def then() -> None:
        if not late[0]:
            late[0] = True
            # the operation is done and read back well before this
            threading.Timer(0.25, apis.put_by_hand, (resource_of(kind), key_set("late"))).start()

    apis.after_done = then
    with pytest.raises(WriteConflict):
        write(store, key_set("a"), ABSENT)


def test_what_another_writer_puts_meanwhile_is_not_written_over(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    apis.after_done = lambda: apis.put_by_hand(resource_of(kind), key_set("theirs"))
    with pytest.raises(WriteConflict):
        write(open_store(), key_set("ours"), ABSENT)
    assert apis.key_set(resource_of(kind)) == key_set("theirs")
    assert len(apis.patches()) == 1
    assert [seen.method for seen in apis.seen if "/operations/" not in seen.path] == ["GET", "PATCH", "GET"]


def test_an_answer_that_is_still_the_old_one_is_waited_for(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    old = json.loads(json.dumps(apis.resources[resource_of(kind)]))
    store = open_store()

    def then() -> None:
        apis.stale[resource_of(kind)] = [old, old]

    apis.after_done = then
    write(store, key_set("a"), ABSENT)
    assert len(apis.patches()) == 1


def test_an_update_that_changed_nothing_is_made_again(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    apis.lost_updates = 1
    write(open_store(), key_set("a"), ABSENT)
    assert apis.key_set(resource_of(kind)) == key_set("a")
    assert len(apis.patches()) == 2
    if kind is FleetStore:
        ids = [seen.query["requestId"] for seen in apis.patches()]
        assert len(set(ids)) == 2, "the API would take the same id for the same request"


def test_a_rendering_of_its_own_is_no_difference(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    spaced = json.dumps(json.loads(key_set("a")), indent=1).encode()
    apis.after_done = lambda: apis.put_by_hand(resource_of(kind), spaced)
    store = open_store()
    tag = write(store, key_set("a"), ABSENT)
    found = store.read(JWKS)
    assert found is not None
    assert (found.body, found.tag) == (spaced, tag)


# -- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503, 409])
def test_a_passing_failure_is_repeated(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store], status: int
) -> None:
    apis.fail("GET", status=status)
    apis.fail("PATCH", status=status)
    apis.fail("GET", status=status, on="/operations/")
    write(open_store(), key_set("a"), ABSENT)
    assert apis.key_set(resource_of(kind)) == key_set("a")
    assert len(apis.patches()) == 2


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_lost_answer_is_told_from_a_lost_request_by_reading(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store], drop: str
) -> None:
    apis.polls = 0
    apis.fail("PATCH", drop=drop)
    write(open_store(), key_set("a"), ABSENT)
    assert apis.key_set(resource_of(kind)) == key_set("a")
    assert len(apis.patches()) == (2 if drop == "before" else 1)


def test_the_fleet_knows_a_repeat_by_its_request_id(
    apis: GoogleApis, open_store: Callable[..., Store], kind: type[Store]
) -> None:
    apis.polls = 3
    apis.fail("PATCH", drop="after")
    write(open_store(), key_set("a"), ABSENT)
    ids = [seen.query.get("requestId") for seen in apis.patches()]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert (ids[0] is not None) == (kind is FleetStore)


def test_repeats_are_bounded(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    apis.fail("PATCH", times=100, status=503)
    error = refused("target-unavailable", lambda: write(open_store(), key_set("a"), ABSENT))
    assert error.retryable
    assert error.status == 503
    assert len(apis.patches()) == 4


def test_a_long_pause_asked_for_is_left_to_the_next_round(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    apis.fail("GET", status=429, headers={"retry-after": "600"})
    error = refused("target-unavailable", lambda: open_store().read(JWKS))
    assert error.retry_after_seconds == 600
    assert len(apis.seen) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_right_is_named(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store], which: int
) -> None:
    apis.fail("GET" if which == 0 else "PATCH", status=403)
    error = refused("target-refused", lambda: write(open_store(), key_set("a"), ABSENT))
    assert kind.permissions[which] in error.message
    assert not error.retryable
    assert error.cloud_code == "PERMISSION_DENIED"


def test_what_does_not_exist_is_said(open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]) -> None:
    del apis.resources[resource_of(kind)]
    assert "does not exist" in refused("target-refused", lambda: open_store().read(JWKS)).message


def test_an_expired_token_is_renewed_once(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    credentials = Credentials("ya29.old", "ya29.good")
    write(open_store(credentials=credentials), key_set("a"), ABSENT)
    assert credentials.refused == ["ya29.old"]
    dead = Credentials("ya29.old")
    error = refused("target-refused", lambda: open_store(credentials=dead).read(JWKS))
    assert error.status == 401
    assert dead.refused == ["ya29.old"]


@pytest.mark.parametrize(
    ("status", "code"),
    [({"code": 7, "message": "no"}, "target-refused"), ({"code": 13, "message": "oops"}, "target-unavailable")],
)
def test_an_operation_that_fails_says_why(
    open_store: Callable[..., Store], apis: GoogleApis, status: dict[str, Any], code: str
) -> None:
    apis.operation_error = status
    assert status["message"] in refused(code, lambda: write(open_store(), key_set("a"), ABSENT)).message
    assert len(apis.patches()) == (1 if code == "target-refused" else 4)


def test_an_operation_without_an_end_is_given_up(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    apis.polls = 1_000_000
    store = open_store(pace=FAST._replace(operation_seconds=0.1, total_seconds=0.3))
    error = refused("target-unavailable", lambda: write(store, key_set("a"), ABSENT))
    assert "not done after" in error.message
    assert error.retryable


def test_the_lease_of_a_leader_that_has_just_renewed_suffices() -> None:
    assert PACE.write_seconds + PACE.margin_seconds < 10.0, "client-go's renew deadline"


def test_an_operation_that_may_not_be_read_is_judged_by_the_resource(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    apis.polls, apis.tells_late = 0, True
    apis.fail("GET", times=100, status=403, on="/operations/")
    write(open_store(), key_set("a"), ABSENT)
    assert apis.key_set(resource_of(kind)) == key_set("a")
    assert [seen.method for seen in apis.seen if "/operations/" in seen.path] == ["GET"]


def test_what_answers_in_the_place_of_the_api_is_not_believed(
    open_store: Callable[..., Store], apis: GoogleApis, authority: Authority
) -> None:
    refused("tls-failed", lambda: open_store(ca_file=None).read(JWKS))
    refused("config-invalid", lambda: open_store(endpoint="http://localhost:1"))
    refused("host-not-allowed", lambda: open_store(endpoint="http://example.com", allow_http=True).read(JWKS))


# -- what the resource must be ----------------------------------------------------------------------------------------


def test_a_resource_of_another_issuer_is_refused(
    open_store: Callable[..., Store], apis: GoogleApis, kind: type[Store]
) -> None:
    write(open_store(issuer=ISSUER), key_set("a"), ABSENT)
    store = open_store(issuer=ISSUER + "/")
    assert "trusts the issuer" in refused("target-refused", lambda: store.read(JWKS)).message
    refused("target-refused", lambda: write(store, key_set("b"), ABSENT))
    assert apis.key_set(resource_of(kind)) == key_set("a")


@pytest.mark.parametrize("kind", [GcpProviderStore], indirect=False)
def test_a_provider_that_takes_no_keys_is_refused(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    apis.resources[PROVIDER]["state"] = "DELETED"
    assert "deleted" in refused("target-refused", lambda: open_store().read(JWKS)).message
    apis.resources[PROVIDER] = {"name": PROVIDER, "state": "ACTIVE", "aws": {"accountId": "1"}}
    assert "OIDC" in refused("target-refused", lambda: open_store().read(JWKS)).message


@pytest.mark.parametrize("kind", [FleetStore], indirect=False)
def test_a_membership_without_an_issuer_is_refused(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    apis.resources[MEMBERSHIP] = {"name": MEMBERSHIP}
    assert "authority.issuer" in refused("target-refused", lambda: open_store().read(JWKS)).message
    apis.resources[MEMBERSHIP] = {"name": MEMBERSHIP, "authority": {"issuer": ISSUER, "oidcJwks": "%%"}}
    assert "base64" in refused("target-refused", lambda: open_store().read(JWKS)).message
    apis.resources[MEMBERSHIP]["authority"]["oidcJwks"] = "eyJhIjoiPz8_In0="  # the URL's alphabet
    found = open_store().read(JWKS)
    assert found is not None
    assert found.body == b'{"a":"???"}'


@pytest.mark.parametrize("kind", [GcpProviderStore], indirect=False)
@pytest.mark.parametrize(
    "body",
    [
        key_set("a", x5c="AAAA"),
        key_set("a", kty="AKP"),
        b'{"keys":[]}',
        b'{"keys":[],"more":1}',
        b"[]",
        b"{",
        b'{"keys":["a"]}',
    ],
)
def test_what_google_would_refuse_is_refused_with_its_reason(
    open_store: Callable[..., Store], apis: GoogleApis, body: bytes
) -> None:
    with pytest.raises(WifError) as caught:
        write(open_store(), body, ABSENT)
    assert caught.value.code in ("key-invalid", "document-invalid")
    assert apis.seen == []


def test_nothing_too_large_is_sent_or_taken(open_store: Callable[..., Store], apis: GoogleApis) -> None:
    refused("document-invalid", lambda: write(open_store(), b" " * (1024 * 1024 + 1), ABSENT))
    assert apis.seen == []


def test_nothing_secret_is_shown(open_store: Callable[..., Store]) -> None:
    assert "ya29" not in repr(open_store())
    assert AccessToken.__dataclass_fields__["token"].repr is False
