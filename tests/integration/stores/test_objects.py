"""The object stores keep the contract of a target: S3, Google Cloud Storage, Azure Blob, memory."""

from __future__ import annotations

import pytest

from tests.integration.stores.azurite import Azurite
from tests.integration.stores.contract import OpenStore, StoreContract
from tests.integration.stores.gcs import GcsServer
from tests.integration.stores.moto_server import MotoServer
from tests.integration.stores.places import azure_place, gs_place, memory_place, s3_place

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
