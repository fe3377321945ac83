"""The object stores keep the contract of a target: S3, Google Cloud Storage, Azure Blob, memory."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from tests.integration.stores.azurite import ACCOUNT, Azurite
from tests.integration.stores.contract import DISCOVERY, HEADERS, JWKS, OpenStore, StoreContract, document, key_ids
from tests.integration.stores.gcs import GcsServer
from tests.integration.stores.moto_server import MotoServer
from tests.integration.stores.places import Target, azure_place, gs_place, memory_place, open_at, s3_place
from wif.edges.stores import ABSENT, WriteConflict

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


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


@pytest.mark.parametrize("kind", ["s3", "az"])
def test_what_is_written_is_served_with_its_headers_to_anybody(kind: str, request: pytest.FixtureRequest) -> None:
    """As a relying party asks for it; moto by itself would answer with a document of Cognito's."""
    server: Any = request.getfixturevalue({"s3": "moto_server", "az": "azurite"}[kind])
    place = f"{ACCOUNT}/{server.container()}" if kind == "az" else server.bucket()
    store = open_at(Target(f"{kind}://{place}/clusters/a", server.endpoint), environ=server.environ)
    store.write(DISCOVERY, b'{"issuer": "https://a"}', tag=ABSENT, **HEADERS)
    base = server.endpoint.removesuffix(f"/{ACCOUNT}")
    with urllib.request.urlopen(f"{base}/{place}/clusters/a/{DISCOVERY}", timeout=20) as answer:
        assert answer.read() == b'{"issuer": "https://a"}'
        assert answer.headers["content-type"] == HEADERS["content_type"]
        assert answer.headers["cache-control"] == HEADERS["cache_control"]
