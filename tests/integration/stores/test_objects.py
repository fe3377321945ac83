"""The object stores keep the contract of a target: S3, Google Cloud Storage, Azure Blob, memory."""

from __future__ import annotations

import pytest

from tests.integration.stores.azurite import ACCOUNT, Azurite
from tests.integration.stores.contract import HEADERS, JWKS, OpenStore, StoreContract, document, key_ids
from tests.integration.stores.gcs import GcsServer
from tests.integration.stores.moto_server import MotoServer
from tests.integration.stores.places import Target, azure_place, gs_place, memory_place, open_at, s3_place
from wif.edges.stores import ABSENT, WriteConflict

pytestmark = pytest.mark.integration


class TestMemory(StoreContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        return memory_place()


class TestS3(StoreContract):
    content_is_tag = True

    @pytest.fixture
    def open_store(self, moto_server: MotoServer) -> OpenStore:
        return s3_place(moto_server)


class TestGcs(StoreContract):
    @pytest.fixture
    def open_store(self, gcs: GcsServer) -> OpenStore:
        return gs_place(gcs)


class TestAzure(StoreContract):
    @pytest.fixture
    def open_store(self, azurite: Azurite) -> OpenStore:
        return azure_place(azurite)


def test_a_shared_access_signature_reads_and_writes(azurite: Azurite) -> None:
    """It deletes too, but azurite answers 500 to obstore's batch of one where a signature authorises it."""
    target = Target(f"az://{ACCOUNT}/{azurite.container()}", azurite.endpoint)
    store = open_at(target, environ={"AZURE_STORAGE_SAS_TOKEN": azurite.sas("rwc")})
    assert store.read(JWKS) is None
    tag = store.write(JWKS, document("a"), tag=ABSENT, **HEADERS)
    store.write(JWKS, document("b"), tag=tag, **HEADERS)
    with pytest.raises(WriteConflict):
        store.write(JWKS, document("c"), tag=tag, **HEADERS)
    assert key_ids(store.read(JWKS)) == ["b"]
