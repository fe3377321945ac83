"""Places in the servers that stand for the clouds, and who writes there."""

from __future__ import annotations

__all__ = ["Target", "azure_place", "google_token", "gs_place", "memory_place", "open_at", "s3_place"]

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from obstore.store import MemoryStore

from tests.integration.stores.azurite import ACCOUNT, Azurite
from tests.integration.stores.contract import OpenStore
from tests.integration.stores.gcs import TOKEN, GcsServer
from tests.integration.stores.moto_server import MotoServer
from wif.core.credentials import AccessToken
from wif.edges.stores.credentials import Federated
from wif.edges.stores.object_kinds import object_store
from wif.edges.stores.objects import LIMITS, ObjectStore, StoreLimits
from wif.edges.stores.opening import parse_target


class Target(NamedTuple):
    """Settings of a target; the same fields as those of ``wif.yaml``."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    ca_file: str | None = None
    single_writer: bool = False
    second_way_in: str | None = None
    allow_http: bool = True


def google_token(cloud: str, *, rejected: bool = False) -> AccessToken:
    """The federated identity that the fake of GCS knows."""
    assert cloud == "gcp"
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    return AccessToken(token=TOKEN, expires_at=expires_at, lifetime_seconds=3600.0)


def open_at(
    target: Target,
    *,
    environ: Mapping[str, str] | None = None,
    federated: Federated | None = None,
    limits: StoreLimits = LIMITS,
) -> ObjectStore:
    """A store of a target, with limits of the test's choice."""
    return object_store(target, parse_target(target.url), federated=federated, environ=environ or {}, limits=limits)


def s3_place(server: MotoServer, prefix: str = "clusters/a", **changes: Any) -> OpenStore:
    """A new bucket."""
    target = Target(f"s3://{server.bucket()}/{prefix}", server.endpoint)._replace(**changes)
    return lambda: open_at(target, environ=server.environ)


def gs_place(server: GcsServer, prefix: str = "clusters/a", **changes: Any) -> OpenStore:
    """A new bucket."""
    target = Target(f"gs://{server.bucket()}/{prefix}", server.endpoint)._replace(**changes)
    return lambda: open_at(target, federated=google_token)


def azure_place(server: Azurite, prefix: str = "clusters/a", **changes: Any) -> OpenStore:
    """A new container."""
    target = Target(f"az://{ACCOUNT}/{server.container()}/{prefix}", server.endpoint)._replace(**changes)
    return lambda: open_at(target, environ=server.environ)


def memory_place() -> OpenStore:
    """obstore's own store in memory, which has the full semantics of ETags."""
    native = MemoryStore()
    return lambda: ObjectStore(native, name="memory:", cloud="aws", tag="e_tag")
