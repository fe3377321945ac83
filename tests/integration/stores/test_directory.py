"""A directory as a target: the contract of all stores, many processes, kills at any moment, and who may look in."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from tests.integration.children import run
from tests.integration.stores.contract import DISCOVERY, HEADERS, JWKS, OpenStore, StoreContract, document
from wif.edges.stores import ABSENT, MAX_DOCUMENT_BYTES, StoredDocument, WriteConflict
from wif.edges.stores.directory import LEFTOVER_SECONDS, LOCK_NAME, DirectoryStore
from wif.errors import WifError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


class TestDirectory(StoreContract):
    content_is_tag = True
    odd_paths = (DISCOVERY, "a_b/c-d.e~f/openid/v1/jwks", "x=1,y+z/@:!$&'()*;/keys.json", "ü/ä", "top")

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return lambda: DirectoryStore(tmp_path / "served")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "served")


def put(store: DirectoryStore, path: str = JWKS, body: bytes = b"{}", tag: str = ABSENT) -> str:
    return store.write(path, body, tag=tag, **HEADERS)


def refusal(store: DirectoryStore, path: str = JWKS, *, reading: bool = True) -> WifError:
    """What both reading and writing a path are refused with."""
    with pytest.raises(WifError) as caught:
        put(store, path)
    if reading:
        with pytest.raises(WifError) as again:
            store.read(path)
        assert again.value.code == caught.value.code
    return caught.value


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("file:///srv/oidc", "/srv/oidc"),
        ("file:///srv//oidc/", "/srv/oidc"),
        ("file://localhost/srv", "/srv"),
        ("file:/srv", "/srv"),
        ("file:///srv/a%20b%25%3F", "/srv/a b%?"),
        ("file:///srv/%C3%BC", "/srv/ü"),
    ],
)
def test_a_url_has_one_canonical_spelling(url: str, root: str) -> None:
    store = DirectoryStore.from_url(url)
    assert store.root == root
    again = DirectoryStore.from_url(store.name)
    assert (again.root, again.name) == (root, store.name)


@pytest.mark.parametrize(
    "url",
    [
        "srv",
        "file:srv",
        "file://host/srv",
        "file://",
        "file:///srv/../etc",
        "file:///srv/.",
        "file:///srv/%2e%2e/etc",
        "file:///srv?x",
        "file:///srv#x",
        "file:///srv/%00",
        "file:///srv/%FF",
        "s3://bucket",
        "file://[",
    ],
)
def test_what_is_no_directorys_url_is_refused(url: str) -> None:
    with pytest.raises(WifError) as caught:
        DirectoryStore.from_url(url)
    assert caught.value.code == "config-invalid"


@pytest.mark.parametrize("path", ["", "/", "/etc/x", "../x", "a/../../x", "a/./x", "a//x", "a/", "a\0b", LOCK_NAME])
def test_a_path_never_leaves_the_root(store: DirectoryStore, path: str) -> None:
    assert refusal(store, path).code == "config-invalid"
    with pytest.raises(WifError):
        store.delete(path, tag=ABSENT)


def test_a_directory_keeps_no_headers_and_has_conditions(store: DirectoryStore) -> None:
    assert (store.is_conditional, store.holds_discovery, store.keeps_headers) == (True, True, False)
    assert repr(store) == f"DirectoryStore({store.name!r})"
    store.close()


# -- modes ------------------------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
def test_any_web_server_can_serve_it_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    store = DirectoryStore(tmp_path / "new" / "served")
    old = os.umask(umask)
    try:
        tag = put(store)
        put(store, body=b"{ }", tag=tag)
    finally:
        os.umask(old)
    for folder in ("new", "new/served", "new/served/openid", "new/served/openid/v1"):
        assert mode(tmp_path / folder) == 0o755
    assert mode(tmp_path / "new" / "served" / JWKS) == 0o644
    assert store.warnings(JWKS) == ()


def test_a_directory_that_is_there_keeps_its_mode_and_is_told(
    store: DirectoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "served" / "openid").mkdir(parents=True)
    (tmp_path / "served").chmod(0o2750)
    (tmp_path / "served" / "openid").chmod(0o700)
    put(store)
    assert (mode(tmp_path / "served"), mode(tmp_path / "served" / "openid")) == (0o2750, 0o700)
    told = store.warnings(JWKS)
    assert [" has the mode 2750" in told[0], " has the mode 0700" in told[1], len(told)] == [True, True, 2]
    assert [record.getMessage() for record in caplog.records if record.name == "wif.stores"] == list(told)
    assert store.warnings("top") == told[:1]


def test_a_group_that_is_inherited_stays(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served").chmod(0o2755)
    put(store)
    assert mode(tmp_path / "served" / "openid") == 0o2755


def test_a_private_directory_is_for_nobody_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = DirectoryStore(tmp_path / "state" / "wif", public=False)
    put(store, "issuers/state.json")
    for folder in ("state", "state/wif", "state/wif/issuers"):
        assert mode(tmp_path / folder) == 0o700
    assert mode(tmp_path / "state/wif/issuers/state.json") == 0o600
    assert store.warnings("issuers/state.json") == ()
    assert not caplog.records


def test_the_lock_is_no_document(store: DirectoryStore, tmp_path: Path) -> None:
    put(store)
    lock = tmp_path / "served" / LOCK_NAME
    assert lock.name.startswith(".")
    assert (mode(lock), lock.stat().st_size) == (0o600, 0)


# -- what stands in the way -------------------------------------------------------------------------------------------


def test_the_root_may_be_a_symlink_also_to_what_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there" / "deep")
    store = DirectoryStore(tmp_path / "link")
    assert store.read(JWKS) is None
    put(store)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "deep" / JWKS).read_bytes() == b"{}"
    found = store.read(JWKS)
    assert found is not None
    store.delete(JWKS, tag=found.tag)
    assert store.read(JWKS) is None


@pytest.mark.parametrize("link", ["openid", "openid/v1", JWKS])
def test_a_symlink_below_the_root_is_refused(store: DirectoryStore, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    (outside / "v1").mkdir(parents=True)
    (outside / "jwks").write_bytes(b"theirs")
    (outside / "v1" / "jwks").write_bytes(b"theirs")
    place = tmp_path / "served" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(outside / "jwks" if link == JWKS else outside)
    error = refusal(store)
    assert error.code == "target-refused"
    with pytest.raises(WifError):
        store.delete(JWKS, tag=ABSENT)
    assert (outside / "jwks").read_bytes() == (outside / "v1" / "jwks").read_bytes() == b"theirs"
    assert sorted(path.name for path in outside.iterdir()) == ["jwks", "v1"]


def test_what_is_no_regular_file_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    place = tmp_path / "served" / JWKS
    place.parent.mkdir(parents=True)
    place.mkdir()
    assert refusal(store).code == "target-refused"
    place.rmdir()
    os.mkfifo(place)
    started = time.monotonic()
    assert refusal(store).code == "target-refused"
    assert time.monotonic() - started < 2.0


def test_a_file_where_a_directory_belongs_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "openid").write_bytes(b"")
    assert refusal(store).code == "target-refused"
    other = DirectoryStore(tmp_path / "served" / "openid")
    assert refusal(other).code == "target-refused"


def test_a_document_of_any_size_is_not_read_whole(store: DirectoryStore, tmp_path: Path) -> None:
    place = tmp_path / "served" / JWKS
    place.parent.mkdir(parents=True)
    with place.open("wb") as file:
        file.truncate(MAX_DOCUMENT_BYTES + 1)
    assert refusal(store).code == "target-refused"
    with place.open("wb") as file:
        file.truncate(MAX_DOCUMENT_BYTES)
    found = store.read(JWKS)
    assert found is not None
    assert len(found.body) == MAX_DOCUMENT_BYTES


def test_a_missing_right_is_named(tmp_path: Path) -> None:
    program = """
import json, os, tempfile
from wif.edges.stores.directory import DirectoryStore
from wif.errors import WifError
with tempfile.TemporaryDirectory() as served:
    os.chmod(served, 0o555)
    if os.geteuid() == 0:
        os.seteuid(65532)  # root may write everywhere
    try:
        DirectoryStore(served).write("openid/v1/jwks", b"", tag="", content_type="", cache_control="")
    except WifError as error:
        print(json.dumps({"code": error.code, "text": str(error), "uid": os.geteuid()}))
    os.seteuid(os.getuid())
"""
    answer = run(environment(tmp_path), program)
    assert answer["code"] == "target-refused"
    assert str(answer["uid"]) in answer["text"]


def test_a_lock_that_nobody_lets_go_is_waited_for_in_bounds(tmp_path: Path) -> None:
    from wif.edges.files import locked

    store = DirectoryStore(tmp_path / "served", lock_seconds=0.2)
    tag = put(store)
    with locked(tmp_path / "served" / LOCK_NAME):
        with pytest.raises(WifError) as caught:
            put(store, tag=tag)
        assert store.read(JWKS) is not None, "reading waits for nobody"
    assert caught.value.code == "target-unavailable"
    assert caught.value.retryable


def test_a_lock_that_is_a_symlink_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    assert refusal(store, reading=False).code == "target-refused"
    assert not (tmp_path / "elsewhere").exists()


# -- whole or not at all ----------------------------------------------------------------------------------------------


def test_leftovers_of_killed_writers_are_swept_when_they_are_old(store: DirectoryStore, tmp_path: Path) -> None:
    tag = put(store)
    folder = tmp_path / "served" / "openid" / "v1"
    old, young = folder / ".jwks.0123456789ab", folder / ".jwks.ba9876543210"
    others = [folder / ".jwks.txt", folder / ".other.0123456789ab", folder / "jwks.0123456789ab"]
    for path in (old, young, *others):
        path.write_bytes(b"")
    past = time.time() - LEFTOVER_SECONDS - 1
    for path in (old, *others):
        os.utime(path, (past, past))
    tag = put(store, body=b"{ }", tag=tag)
    assert not old.exists()
    assert all(path.exists() for path in (young, *others))
    os.utime(young, (past, past))
    store.delete(JWKS, tag=tag)
    assert not young.exists()


def test_a_reader_never_sees_half_a_document(store: DirectoryStore) -> None:
    bodies = [document(*[letter * 20] * 2000) for letter in "ab"]
    tag = put(store, body=bodies[0])
    done = threading.Event()

    def write() -> None:
        current = tag
        for number in range(200):
            current = put(store, body=bodies[(number + 1) % 2], tag=current)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[bytes] = set()
    while not done.is_set():
        found = store.read(JWKS)
        assert isinstance(found, StoredDocument)
        seen.add(found.body)
    writer.join()
    assert seen == set(bodies)


PROCESSES = """
import json, os
from tests.integration.stores.contract import JWKS, add_key, key_ids
from wif.edges.stores.directory import DirectoryStore

root, count = os.environ["ROOT"], 200
children = []
for number in range(count):
    child = os.fork()
    if child == 0:
        try:
            add_key(DirectoryStore(root), f"key-{number}")
            os._exit(0)
        finally:
            os._exit(1)
    children.append(child)
failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
print(json.dumps({"failed": len(failed), "keys": key_ids(DirectoryStore(root).read(JWKS))}))
"""


def environment(tmp_path: Path) -> dict[str, str]:
    here = Path(__file__).parents[3]
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(here), "ROOT": str(tmp_path / "served")}


def test_two_hundred_processes_at_once_lose_no_key(tmp_path: Path) -> None:
    answer = run(environment(tmp_path), PROCESSES)
    assert answer["failed"] == 0
    assert sorted(answer["keys"]) == sorted(f"key-{number}" for number in range(200))


KILLS = """
import json, os, random, signal, shutil, time
from tests.integration.stores.contract import DISCOVERY, HEADERS, JWKS, document
from wif.edges.stores import ABSENT
from wif.edges.stores.directory import DirectoryStore

ROOT, ROUNDS = os.environ["ROOT"], 250
whole = {document(*[letter * 30] * 3000) for letter in "ab"}
store = DirectoryStore(ROOT)

def publish():
    for turn in range(1000):
        for path in (JWKS, DISCOVERY):
            found = store.read(path)
            body = sorted(whole)[turn % 2]
            store.write(path, body, tag=found.tag if found else ABSENT, **HEADERS)

random.seed(4)
counts = {"torn": 0, "discovery_alone": 0, "absent": 0, "one": 0, "both": 0, "leftovers": 0, "stuck": 0}
for round in range(ROUNDS):
    if round % 3 == 0:
        shutil.rmtree(ROOT, ignore_errors=True)  # a first publish
    child = os.fork()
    if child == 0:
        try:
            publish()
        finally:
            os._exit(1)
    time.sleep(random.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    jwks, discovery = store.read(JWKS), store.read(DISCOVERY)
    present = [found for found in (jwks, discovery) if found is not None]
    counts["torn"] += sum(found.body not in whole for found in present)
    counts["discovery_alone"] += discovery is not None and jwks is None
    counts[("absent", "one", "both")[len(present)]] += 1
    counts["leftovers"] += sum(name.count(".") == 2 for _, _, names in os.walk(ROOT) for name in names)
    began = time.monotonic()
    store.write(JWKS, sorted(whole)[0], tag=jwks.tag if jwks else ABSENT, **HEADERS)
    counts["stuck"] += time.monotonic() - began > 5.0
print(json.dumps(counts))
"""


def test_a_publisher_killed_at_any_moment_leaves_whole_documents_and_no_lock(tmp_path: Path) -> None:
    counts = run(environment(tmp_path), KILLS)
    assert (counts["torn"], counts["discovery_alone"], counts["stuck"]) == (0, 0, 0)
    assert counts["absent"], "some were killed before the first document"
    assert counts["both"], "some were killed later"
    assert counts["leftovers"], "some were killed in the middle of a write"
    print(counts)


def test_a_conflict_leaves_nothing_behind(store: DirectoryStore, tmp_path: Path) -> None:
    put(store)
    with pytest.raises(WriteConflict):
        put(store, body=b"other", tag="sha256:0")
    assert [path.name for path in (tmp_path / "served" / "openid" / "v1").iterdir()] == ["jwks"]
