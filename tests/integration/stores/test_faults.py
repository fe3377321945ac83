"""Faults of targets: broken, slow, throttled and lost answers, partial uploads, ended credentials, missing rights."""

from __future__ import annotations

import logging
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, quote_plus

import pytest
import trustme

from tests.integration.stores.azurite import ACCOUNT, KEY, Azurite
from tests.integration.stores.contract import HEADERS, JWKS, document, key_ids
from tests.integration.stores.faulty import Fault, FaultyProxy
from tests.integration.stores.gcs import TOKEN, GcsServer
from tests.integration.stores.moto_server import MotoServer
from tests.integration.stores.places import Target, google_token, open_at
from wif.core.credentials import AccessToken
from wif.edges.stores import ABSENT, MAX_DOCUMENT_BYTES, Store, WriteConflict
from wif.edges.stores.objects import ObjectStore, StoreLimits
from wif.errors import WifError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

QUICK = StoreLimits(connect_seconds=1.0, request_seconds=1.0, retries=2, retry_seconds=4.0, total_seconds=4.0)
LONGEST_SECONDS = 15.0
"""What any of these calls may take, with room for a slow machine."""


class Faulty(NamedTuple):
    """A target behind a proxy that breaks its requests, and the same target without it."""

    proxy: FaultyProxy
    store: ObjectStore
    direct: ObjectStore
    ended: Fault
    """What this cloud answers to credentials that have ended."""
    secrets: tuple[str, ...]


def _s3(server: MotoServer, endpoint: str, bucket: str) -> ObjectStore:
    return open_at(Target(f"s3://{bucket}/p", endpoint), environ=server.environ, limits=QUICK)


def _gs(endpoint: str, bucket: str) -> ObjectStore:
    return open_at(Target(f"gs://{bucket}/p", endpoint), federated=google_token, limits=QUICK)


def _az(server: Azurite, endpoint: str, container: str) -> ObjectStore:
    return open_at(Target(f"az://{ACCOUNT}/{container}/p", endpoint), environ=server.environ, limits=QUICK)


@pytest.fixture(params=["s3", "gs", "az"])
def faulty(request: pytest.FixtureRequest) -> Iterator[Faulty]:
    server = request.getfixturevalue({"s3": "moto_server", "gs": "gcs", "az": "azurite"}[request.param])
    with FaultyProxy(server.endpoint) as proxy:
        if request.param == "s3":
            bucket = server.bucket()
            stores = [_s3(server, endpoint, bucket) for endpoint in (proxy.endpoint, server.endpoint)]
            ended, secrets = Fault("answer", 400, "ExpiredToken"), tuple(server.environ.values())[1:2]
        elif request.param == "gs":
            bucket = server.bucket()
            stores = [_gs(endpoint, bucket) for endpoint in (proxy.endpoint, server.endpoint)]
            ended, secrets = Fault("answer", 401, "AuthenticationRequired"), (TOKEN,)
        else:
            bucket = server.container()
            stores = [_az(server, endpoint, bucket) for endpoint in (proxy.endpoint, server.endpoint)]
            ended, secrets = Fault("answer", 401, "InvalidAuthenticationInfo"), (KEY,)
        tag = stores[0].write("proof", b"1", tag=ABSENT, **HEADERS)  # so that the tests count their own requests alone
        stores[0].write("proof", b"2", tag=tag, **HEADERS)
        proxy.requests.clear()
        yield Faulty(proxy, stores[0], stores[1], ended, secrets)


def failed(act: Callable[[], object], code: str) -> WifError:
    """The error that an act ends with, within the time that it may take."""
    began = time.monotonic()
    with pytest.raises(WifError) as caught:
        act()
    assert time.monotonic() - began < LONGEST_SECONDS
    assert caught.value.code == code
    return caught.value


def put(store: Store, *ids: str, tag: str = ABSENT) -> str:
    return store.write(JWKS, document(*ids), tag=tag, **HEADERS)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_single_failure_is_overcome(faulty: Faulty, status: int) -> None:
    faulty.proxy.once("PUT", Fault("answer", status, "SlowDown"))
    tag = put(faulty.store, "a")
    faulty.proxy.once("GET", Fault("answer", status, "SlowDown"))
    found = faulty.store.read(JWKS)
    assert found is not None
    assert (found.tag, key_ids(found)) == (tag, ["a"])


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (500, "InternalError", "check the network"),
        (503, "SlowDown", "asks to slow down"),
        (503, "ServerBusy", "asks to slow down"),
        (429, "TooManyRequests", "asks to slow down"),
    ],
)
def test_a_lasting_failure_is_repeated_within_bounds_and_told(
    faulty: Faulty, status: int, code: str, hint: str
) -> None:
    faulty.proxy.always("GET", Fault("answer", status, code))
    error = failed(lambda: faulty.store.read(JWKS), "target-unavailable")
    assert faulty.proxy.count("GET") == QUICK.retries + 1
    assert error.retryable
    assert f"{faulty.store.name}: cannot read {JWKS}: it answered {status} ({code})" in error.message
    assert hint in (error.hint or "")


def test_a_write_that_fails_leaves_the_old_document(faulty: Faulty) -> None:
    tag = put(faulty.direct, "a")
    faulty.proxy.always("PUT", Fault("answer", 500, "InternalError"))
    failed(lambda: put(faulty.store, "b", tag=tag), "target-unavailable")
    assert faulty.proxy.count("PUT") == QUICK.retries + 1
    assert key_ids(faulty.direct.read(JWKS)) == ["a"]


@pytest.mark.parametrize("seconds", [0.0, 1.5], ids=["cut", "time-out"])
@pytest.mark.parametrize("creates", [True, False], ids=["create", "update"])
def test_a_write_whose_answer_is_lost_is_done(faulty: Faulty, creates: bool, seconds: float) -> None:
    """It conflicts with itself when it is sent again, or its outcome is open: what stands there decides."""
    tag = ABSENT if creates else put(faulty.direct, "a")
    faulty.proxy.once("PUT", Fault("lose-answer", seconds=seconds))
    new = put(faulty.store, "a", "b", tag=tag)
    found = faulty.direct.read(JWKS)
    assert found is not None
    assert (found.tag, key_ids(found)) == (new, ["a", "b"])
    assert faulty.proxy.count("PUT") == (1 if seconds else 2)


def test_a_write_that_was_lost_and_then_replaced_conflicts(faulty: Faulty) -> None:
    tag = put(faulty.direct, "a")
    left = [Fault("lose-answer")]

    def hook(method: str, _path: str, _number: int) -> Fault | None:
        if method != "PUT":
            return None
        if left:
            return left.pop()
        standing = faulty.direct.read(JWKS)  # somebody else comes between the first sending and the second
        assert standing is not None
        put(faulty.direct, "c", tag=standing.tag)
        return None

    faulty.proxy.hook = hook
    with pytest.raises(WriteConflict):
        put(faulty.store, "b", tag=tag)
    assert key_ids(faulty.direct.read(JWKS)) == ["c"]


def test_a_write_that_timed_out_unseen_is_sent_again(faulty: Faulty) -> None:
    tag = put(faulty.direct, "a")
    faulty.proxy.once("PUT", Fault("answer", 500, "InternalError", seconds=1.5))
    put(faulty.store, "b", tag=tag)
    assert faulty.proxy.count("PUT") == 2
    assert key_ids(faulty.direct.read(JWKS)) == ["b"]


def test_writes_that_time_out_for_ever_end(faulty: Faulty) -> None:
    tag = put(faulty.direct, "a")
    faulty.proxy.always("PUT", Fault("answer", 500, "InternalError", seconds=1.5))
    error = failed(lambda: put(faulty.store, "b", tag=tag), "target-unavailable")
    assert "no whole answer within the time allowed" in error.message
    assert 2 <= faulty.proxy.count("PUT") <= QUICK.writes


def test_a_partial_upload_leaves_the_old_document(faulty: Faulty) -> None:
    ids = [f"key-{number}" for number in range(500)]
    tag = put(faulty.direct, *ids)
    faulty.proxy.always("PUT", Fault("cut-request"))
    failed(lambda: put(faulty.store, *ids, "b", tag=tag), "target-unavailable")
    assert key_ids(faulty.direct.read(JWKS)) == ids
    faulty.proxy.once("PUT", Fault("cut-request"))
    put(faulty.store, *ids, "b", tag=tag)
    assert key_ids(faulty.direct.read(JWKS)) == [*ids, "b"]


def test_half_an_answer_is_no_document(faulty: Faulty) -> None:
    put(faulty.direct, "a")
    faulty.proxy.once("GET", Fault("cut-answer"))
    assert key_ids(faulty.store.read(JWKS)) == ["a"]
    faulty.proxy.always("GET", Fault("cut-answer"))
    failed(lambda: faulty.store.read(JWKS), "target-unavailable")


def test_two_halves_of_two_documents_are_none(faulty: Faulty) -> None:
    tag = put(faulty.direct, "a", "b", "c")
    left = [Fault("cut-answer")]

    def hook(method: str, _path: str, number: int) -> Fault | None:
        if method == "GET" and left:
            return left.pop()
        if number == 1:
            put(faulty.direct, "x", "y", "z", tag=tag)
        return None

    faulty.proxy.hook = hook
    assert key_ids(faulty.store.read(JWKS)) == ["x", "y", "z"]
    assert faulty.proxy.count("GET") >= 2


def test_ended_credentials_are_told(faulty: Faulty, caplog: pytest.LogCaptureFixture) -> None:
    tag = put(faulty.direct, "a")
    for method, act in (("GET", lambda: faulty.store.read(JWKS)), ("PUT", lambda: put(faulty.store, "b", tag=tag))):
        faulty.proxy.always(method, faulty.ended)
        with caplog.at_level(logging.INFO, "wif"):
            error = failed(act, "target-refused")
        assert "used was" in error.message
        assert "have ended" in (error.hint or "")
        assert error.status == faulty.ended.status
        assert error.cloud_code == faulty.ended.code
        assert not error.retryable


def test_an_ended_credential_is_renewed_once(gcs: GcsServer) -> None:
    rejections: list[bool] = []
    token = "ya29.old"

    def federated(cloud: str, *, rejected: bool = False) -> AccessToken:
        rejections.append(rejected)
        value = TOKEN if rejected else token
        return AccessToken(token=value, expires_at=datetime.now(UTC) + timedelta(hours=1), lifetime_seconds=3600.0)

    store = open_at(Target(f"gs://{gcs.bucket()}", gcs.endpoint), federated=federated, limits=QUICK)
    assert store.read(JWKS) is None
    assert rejections == [False, True]
    put(store, "a")
    assert rejections == [False, True]


@pytest.mark.parametrize("operation", ["read", "write", "delete"])
def test_a_missing_right_is_named(faulty: Faulty, operation: str) -> None:
    tag = put(faulty.direct, "a")
    methods = {"read": ["GET"], "write": ["PUT"], "delete": ["DELETE", "POST"]}[operation]
    faulty.proxy.hook = lambda seen, _path, _number: Fault("answer", 403, "AccessDenied") if seen in methods else None
    acts: dict[str, Callable[[], object]] = {
        "read": lambda: faulty.store.read(JWKS),
        "write": lambda: put(faulty.store, "b", tag=tag),
        "delete": lambda: faulty.store.delete(JWKS, tag=tag),
    }
    error = failed(acts[operation], "target-refused")
    rights = {
        "s3": {"read": "s3:ListBucket", "write": "s3:PutObject", "delete": "s3:DeleteObject"},
        "gs": {"read": "storage.objects.get", "write": "storage.objects.create", "delete": "storage.objects.delete"},
        "az": {"read": "read in the SAS", "write": "create and write", "delete": "delete in the SAS"},
    }
    assert rights[faulty.store.name[:2]][operation] in (error.hint or "")


def test_no_secret_is_told(faulty: Faulty, caplog: pytest.LogCaptureFixture) -> None:
    """A store's answer may quote the signed request: S3's does, with the session token."""
    tag = put(faulty.direct, "a")
    quoted = "".join(f"<StringToSign>{secret}</StringToSign>" for secret in faulty.secrets)
    with caplog.at_level(logging.DEBUG):
        for status in (400, 401, 403, 404, 409, 412, 418, 500):
            for method in ("GET", "PUT") if status != 404 else ("PUT",):
                faulty.proxy.always(method, Fault("answer", status, "SignatureDoesNotMatch", text=quoted))
                with pytest.raises(WifError) as caught:
                    faulty.store.read(JWKS) if method == "GET" else put(faulty.store, "b", tag=tag)
                told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value)
                assert not [secret for secret in faulty.secrets if secret in told]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("wif")]
    assert not [secret for secret in faulty.secrets if any(secret in line for line in ours)]


def test_a_signature_in_the_address_is_not_told(azurite: Azurite) -> None:
    container, sas = azurite.container(), azurite.sas("r")
    [signature] = parse_qs(sas)["sig"]
    with FaultyProxy(azurite.endpoint) as proxy:
        target = Target(f"az://{ACCOUNT}/{container}", proxy.endpoint)
        store = open_at(target, environ={"AZURE_STORAGE_SAS_TOKEN": sas}, limits=QUICK)
        assert store.read(JWKS) is None
        assert quote_plus(signature) in proxy.requests[0][1] or quote(signature, safe="") in proxy.requests[0][1]
        refused = [failed(lambda: put(store, "a"), "target-refused")]
        for fault in (Fault("answer", 500, "x"), Fault("cut-answer"), Fault("answer", 200, "x", seconds=1.5)):
            proxy.always("GET", fault)
            with pytest.raises(WifError) as caught:
                store.read(JWKS)
            refused.append(caught.value)
    for error in refused:
        told = "".join(traceback.format_exception(error))
        assert "sig=" not in told
        assert signature[:20] not in told


def test_a_bucket_that_does_not_exist_is_no_absent_document(
    moto_server: MotoServer, gcs: GcsServer, request: pytest.FixtureRequest
) -> None:
    stores = [_s3(moto_server, moto_server.endpoint, "nowhere"), _gs(gcs.endpoint, "nowhere")]
    for store in stores:
        _is_missing(store)


def test_a_container_that_does_not_exist_is_no_absent_document(azurite: Azurite) -> None:
    _is_missing(_az(azurite, azurite.endpoint, "nowhere"))


def _is_missing(store: ObjectStore) -> None:
    acts: tuple[Callable[[], object], ...] = (
        lambda: store.read(JWKS),
        lambda: put(store, "a"),
        lambda: put(store, "a", tag='"1"'),
    )
    for act in acts:
        assert "make the bucket or container first" in (failed(act, "target-refused").hint or "")


def test_a_write_refused_though_nothing_changed_is_told(faulty: Faulty) -> None:
    """As a lease or a retention rule does it."""
    tag = put(faulty.direct, "a")
    faulty.proxy.always("PUT", Fault("answer", 412, "LeaseIdMissing"))
    error = failed(lambda: put(faulty.store, "b", tag=tag), "target-unavailable")
    assert "lease" in (error.hint or "")
    assert faulty.proxy.count("PUT") == QUICK.writes


@pytest.mark.parametrize("seconds", [0.0, 1.5], ids=["cut", "time-out"])
def test_a_delete_whose_answer_is_lost_is_done(faulty: Faulty, seconds: float) -> None:
    tag = put(faulty.direct, "a")
    left = [Fault("lose-answer", seconds=seconds)]
    faulty.proxy.hook = lambda seen, _path, _number: left.pop() if seen in ("DELETE", "POST") and left else None
    faulty.store.delete(JWKS, tag=tag)
    assert faulty.direct.read(JWKS) is None


def test_a_delete_that_fails_is_told(faulty: Faulty) -> None:
    tag = put(faulty.direct, "a")
    faulty.proxy.hook = lambda seen, _path, _number: (
        Fault("answer", 500, "InternalError") if seen in ("DELETE", "POST") else None
    )
    failed(lambda: faulty.store.delete(JWKS, tag=tag), "target-unavailable")
    assert key_ids(faulty.direct.read(JWKS)) == ["a"]


def test_nobody_listens(gcs: GcsServer) -> None:
    with FaultyProxy(gcs.endpoint) as proxy:
        endpoint = proxy.endpoint
    error = failed(lambda: _gs(endpoint, "bucket").read(JWKS), "target-unavailable")
    assert "no connection to it" in error.message


def test_a_foreign_object_is_not_read_whole(gcs: GcsServer) -> None:
    bucket = gcs.bucket()
    store = _gs(gcs.endpoint, bucket)
    put(store, "a")
    [(name, stored)] = gcs.buckets[bucket].items()
    gcs.buckets[bucket][name] = stored._replace(body=b" " * (MAX_DOCUMENT_BYTES + 1))
    failed(lambda: store.read(JWKS), "response-too-large")


def test_a_private_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with GcsServer(context) as server:
        target = Target(f"gs://{server.bucket()}", server.endpoint, allow_http=False)
        error = failed(lambda: open_at(target, federated=google_token, limits=QUICK).read(JWKS), "target-refused")
        assert "its certificate is not accepted (UnknownIssuer)" in error.message
        assert "ca_file" in (error.hint or "")
        for store in (
            open_at(target._replace(ca_file=str(ca_file)), federated=google_token, limits=QUICK),
            open_at(target, federated=google_token, environ={"REQUESTS_CA_BUNDLE": str(ca_file)}, limits=QUICK),
        ):
            found = store.read(JWKS)
            put(store, "a", tag=found.tag if found else ABSENT)


class TestStoresThatIgnoreConditions:
    @pytest.fixture
    def ignoring(self) -> Iterator[GcsServer]:
        with GcsServer(enforces=False) as server:
            yield server

    def test_a_first_publish_is_refused_and_leaves_nothing(self, ignoring: GcsServer) -> None:
        bucket = ignoring.bucket()
        error = failed(lambda: put(_gs(ignoring.endpoint, bucket), "a"), "precondition-missing")
        assert "--single-writer" in (error.hint or "")
        assert ignoring.buckets[bucket] == {}

    def test_an_update_is_refused_and_changes_nothing(self, ignoring: GcsServer) -> None:
        bucket = ignoring.bucket()
        put(_single(ignoring, bucket), "a")
        store = _gs(ignoring.endpoint, bucket)
        found = store.read(JWKS)
        assert found is not None
        failed(lambda: put(store, "b", tag=found.tag), "precondition-missing")
        assert not store.is_conditional
        assert key_ids(store.read(JWKS)) == ["a"]

    def test_a_single_writer_looks_before_it_writes(self, ignoring: GcsServer) -> None:
        store = _single(ignoring, ignoring.bucket())
        tag = put(store, "a")
        assert not store.is_conditional
        new = put(store, "b", tag=tag)
        found = store.read(JWKS)
        assert found is not None
        assert (found.tag, key_ids(found)) == (new, ["b"])
        with pytest.raises(WriteConflict):
            put(store, "c", tag=tag)
        assert key_ids(store.read(JWKS)) == ["b"]

    def test_creations_alone_ignored(self) -> None:
        """As stores do it that know If-Match and not If-None-Match."""
        with GcsServer(enforces=False) as ignoring, FaultyProxy(ignoring.endpoint) as proxy:

            def hook(method: str, _path: str, _number: int) -> Fault | None:
                wanted = proxy.headers.get("x-goog-if-generation-match", "0")
                standing = [stored.generation for stored in ignoring.buckets[bucket].values()]
                is_stale = method == "PUT" and wanted != "0" and int(wanted) not in standing
                return Fault("answer", 412, "PreconditionFailed") if is_stale else None

            proxy.hook = hook
            bucket = ignoring.bucket()
            failed(lambda: put(_gs(proxy.endpoint, bucket), "a"), "precondition-missing")
            ignoring.buckets[bucket].clear()
            target = Target(f"gs://{bucket}/p", proxy.endpoint, single_writer=True)
            store = open_at(target, federated=google_token, limits=QUICK)
            tag = put(store, "a")
            found = store.read(JWKS)
            assert found is not None
            assert found.tag == tag
            assert not store.is_conditional
            with pytest.raises(WriteConflict):
                put(store, "b")
            assert key_ids(store.read(JWKS)) == ["a"]

    def test_a_store_that_says_so(self, moto_server: MotoServer) -> None:
        bucket = moto_server.bucket()
        direct = _s3(moto_server, moto_server.endpoint, bucket)
        tag = put(direct, "a")
        with FaultyProxy(moto_server.endpoint) as proxy:
            proxy.hook = lambda _method, _path, _number: (
                Fault("answer", 501, "NotImplemented") if {"if-match", "if-none-match"} & set(proxy.headers) else None
            )
            failed(lambda: put(_s3(moto_server, proxy.endpoint, bucket), "b", tag=tag), "precondition-missing")
            target = Target(f"s3://{bucket}/p", proxy.endpoint, single_writer=True)
            store = open_at(target, environ=moto_server.environ, limits=QUICK)
            new = put(store, "b", tag=tag)
            with pytest.raises(WriteConflict):
                put(store, "c", tag=tag)
            put(store, "d", tag=new)
        assert key_ids(direct.read(JWKS)) == ["d"]


def _single(server: GcsServer, bucket: str) -> ObjectStore:
    return open_at(
        Target(f"gs://{bucket}/p", server.endpoint, single_writer=True), federated=google_token, limits=QUICK
    )
