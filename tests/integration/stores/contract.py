"""What every kind of target has to do, as one suite: inherit it and give it a place.

::

    class TestMine(StoreContract):
        @pytest.fixture
        def open_store(self) -> OpenStore:
            return lambda: MyStore(…)       # each call another client of the same, empty place
"""

from __future__ import annotations

__all__ = ["DISCOVERY", "HEADERS", "JWKS", "OpenStore", "StoreContract", "add_key", "key_ids"]

import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from wif.edges.stores import ABSENT, MAX_DOCUMENT_BYTES, Store, StoredDocument, WriteConflict
from wif.errors import WifError

OpenStore = Callable[[], Store]

DISCOVERY = ".well-known/openid-configuration"
JWKS = "openid/v1/jwks"
HEADERS = {"content_type": "application/jwk-set+json", "cache_control": "public, max-age=300"}


def document(*key_ids: str) -> bytes:
    """A key set of this suite: also Google's control planes take it."""
    return json.dumps(
        {"keys": [{"kid": key_id, "kty": "RSA", "n": "AQAB", "e": "AQAB"} for key_id in key_ids]}
    ).encode()


def key_ids(found: StoredDocument | None) -> list[str]:
    """The kids of a document; none where there is none."""
    return [key["kid"] for key in json.loads(found.body)["keys"]] if found is not None else []


def add_key(store: Store, key_id: str, *, seconds: float = 240.0) -> int:
    """Add one key by reading, deciding and writing on the tag, until it is done; how often another was faster."""
    ends = time.monotonic() + seconds
    conflicts = 0
    while time.monotonic() < ends:
        found = store.read(JWKS)
        try:
            store.write(JWKS, document(*key_ids(found), key_id), tag=found.tag if found else ABSENT, **HEADERS)
        except WriteConflict:
            conflicts += 1
            time.sleep(random.uniform(0, min(4.0, 0.1 * 1.6**conflicts)))
        else:
            return conflicts
    raise AssertionError(f"{key_id} was not added within {seconds} s and {conflicts} conflicts")


class StoreContract:
    """Subclasses give the fixture ``open_store`` and change what differs."""

    path: ClassVar[str] = JWKS
    odd_paths: ClassVar[tuple[str, ...]] = (DISCOVERY, "a_b/c-d.e~f/openid/v1/jwks", "x=1,y+z/@:!$&'()*;/keys.json")
    content_is_tag: ClassVar[bool] = False
    """Whether a document that comes back brings its old tag back."""
    writers: ClassVar[int] = 200
    clients: ClassVar[int] = 8

    @pytest.fixture
    def open_store(self) -> OpenStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_store: OpenStore) -> Store:
        return open_store()

    def put(self, store: Store, *ids: str, tag: str = ABSENT) -> str:
        return store.write(self.path, document(*ids), tag=tag, **HEADERS)

    def standing(self, store: Store) -> list[str]:
        return key_ids(store.read(self.path))

    def test_what_is_absent_reads_as_none(self, store: Store) -> None:
        assert store.read(self.path) is None

    def test_a_document_comes_back_with_its_tag_and_headers(self, open_store: OpenStore) -> None:
        tag = self.put(open_store(), "a")
        store = open_store()
        found = store.read(self.path)
        assert found is not None
        assert found.body == document("a")
        assert found.tag == tag
        kept = (HEADERS["content_type"], HEADERS["cache_control"]) if store.keeps_headers else (None, None)
        assert (found.content_type, found.cache_control) == kept

    def test_headers_are_replaced_with_the_document(self, store: Store) -> None:
        if not store.keeps_headers:
            return
        tag = self.put(store, "a")
        store.write(self.path, document("b"), tag=tag, content_type="application/json", cache_control="no-store")
        found = store.read(self.path)
        assert found is not None
        assert (found.content_type, found.cache_control) == ("application/json", "no-store")

    def test_creating_what_exists_conflicts(self, open_store: OpenStore) -> None:
        self.put(open_store(), "a")
        with pytest.raises(WriteConflict):
            self.put(open_store(), "b")
        assert self.standing(open_store()) == ["a"]

    def test_an_update_on_the_tag_read_is_done(self, store: Store) -> None:
        tag = self.put(store, "a")
        new = self.put(store, "a", "b", tag=tag)
        found = store.read(self.path)
        assert found is not None
        assert (key_ids(found), found.tag) == (["a", "b"], new)
        assert new != tag

    def test_an_update_on_an_old_tag_conflicts(self, open_store: OpenStore) -> None:
        first, second = open_store(), open_store()
        old = self.put(first, "a")
        self.put(second, "b", tag=old)
        with pytest.raises(WriteConflict):
            self.put(first, "c", tag=old)
        assert self.standing(first) == ["b"]

    def test_an_update_of_what_is_gone_conflicts(self, store: Store) -> None:
        tag = self.put(store, "a")
        store.delete(self.path, tag=tag)
        with pytest.raises(WriteConflict):
            self.put(store, "b", tag=tag)
        assert store.read(self.path) is None

    def test_a_document_that_comes_back_has_a_new_tag_or_its_old_one(self, store: Store) -> None:
        """With its old one, a writer that slept through both changes writes: a tombstone must stand elsewhere."""
        first = self.put(store, "a")
        again = self.put(store, "a", tag=self.put(store, "b", tag=first))
        assert (again == first) is self.content_is_tag
        if self.content_is_tag:
            self.put(store, "c", tag=first)
        else:
            with pytest.raises(WriteConflict):
                self.put(store, "c", tag=first)
        assert self.standing(store) == (["c"] if self.content_is_tag else ["a"])

    def test_deleting_on_the_tag(self, open_store: OpenStore) -> None:
        store = open_store()
        tag = self.put(store, "a")
        store.delete(self.path, tag=tag)
        assert open_store().read(self.path) is None

    def test_deleting_what_is_gone_does_nothing(self, store: Store) -> None:
        tag = self.put(store, "a")
        store.delete(self.path, tag=tag)
        store.delete(self.path, tag=tag)
        store.delete(self.path, tag=ABSENT)

    def test_deleting_on_an_old_tag_conflicts(self, store: Store) -> None:
        old = self.put(store, "a")
        self.put(store, "b", tag=old)
        with pytest.raises(WriteConflict):
            store.delete(self.path, tag=old)
        with pytest.raises(WriteConflict):
            store.delete(self.path, tag=ABSENT)
        assert self.standing(store) == ["b"]

    def test_documents_do_not_touch_each_other(self, store: Store) -> None:
        for path in self.odd_paths:
            assert store.read(path) is None
            store.write(path, path.encode(), tag=ABSENT, **HEADERS)
        for path in self.odd_paths:
            found = store.read(path)
            assert found is not None
            assert found.body == path.encode()

    def test_a_large_document_is_whole(self, store: Store) -> None:
        ids = [f"key-{number:04}" for number in range(1000)]
        self.put(store, *ids, tag=self.put(store, "a"))
        assert self.standing(store) == ids

    def test_a_document_above_the_limit_is_not_written(self, store: Store) -> None:
        with pytest.raises(WifError) as caught:
            store.write(self.path, b" " * (MAX_DOCUMENT_BYTES + 1), tag=ABSENT, **HEADERS)
        assert caught.value.code == "document-invalid"
        assert store.read(self.path) is None

    def test_one_of_many_creators_wins(self, open_store: OpenStore) -> None:
        stores = [open_store() for _ in range(self.clients)]
        barrier = threading.Barrier(self.clients)

        def create(number: int) -> bool:
            barrier.wait(30)
            try:
                self.put(stores[number], f"creator-{number}")
            except WriteConflict:
                return False
            return True

        with ThreadPoolExecutor(self.clients) as pool:
            won = [number for number, created in enumerate(pool.map(create, range(self.clients))) if created]
        assert [f"creator-{number}" for number in won] == self.standing(stores[0])

    @pytest.mark.one_python
    @pytest.mark.xdist_group("many")
    def test_no_writer_of_many_loses_its_key(self, open_store: OpenStore) -> None:
        stores = [open_store() for _ in range(self.clients)]
        began = time.monotonic()
        with ThreadPoolExecutor(self.writers) as pool:
            conflicts = sum(
                pool.map(lambda number: add_key(stores[number % self.clients], f"key-{number}"), range(self.writers))
            )
        seconds = time.monotonic() - began
        print(f"{type(self).__name__}: {self.writers} writers, {conflicts} conflicts, {seconds:.1f} s")
        assert sorted(self.standing(stores[0])) == sorted(f"key-{number}" for number in range(self.writers))
