"""What a child process does that is to be killed: write one version after the other, and report each that is done.

It imports little, because it is started often: ``python -m tests.integration.stores.endless URL ENDPOINT TOKEN``.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from wif.core.credentials import AccessToken
from wif.edges.stores import ABSENT, Store
from wif.edges.stores.opening import open_store

PATH = "openid/v1/jwks"
FILLING = "x" * 200_000
"""So that a kill falls into the sending of it."""

SECONDS = 60.0
"""No longer, though nobody kills it."""


class Target(NamedTuple):
    """Settings of a target."""

    url: str
    endpoint: str
    region: str | None = None
    ca_file: str | None = None
    single_writer: bool = False
    second_way_in: str | None = None
    allow_http: bool = True


def opened(url: str, endpoint: str, token: str) -> Store:
    """The target; a token for the fake of GCS, else the environment's credentials."""

    def federated(cloud: str, *, rejected: bool = False) -> AccessToken | None:
        ends = datetime.now(UTC) + timedelta(hours=1)
        return AccessToken(token=token, expires_at=ends, lifetime_seconds=3600.0) if token else None

    return open_store(Target(url, endpoint), federated=federated)


def versioned(number: int) -> bytes:
    """A document that shows whether it is whole."""
    content = f"{number}:{FILLING}"
    return json.dumps({"content": content, "digest": hashlib.sha256(content.encode()).hexdigest()}).encode()


def number_of(body: bytes) -> int:
    """Which version a document is; fails where it is none as a whole."""
    found: dict[str, str] = json.loads(body)
    assert hashlib.sha256(found["content"].encode()).hexdigest() == found["digest"]
    return int(found["content"].partition(":")[0])


def main() -> None:
    """Write until the time is over."""
    store = opened(*sys.argv[1:4])
    found = store.read(PATH)
    number, tag = (number_of(found.body), found.tag) if found else (0, ABSENT)
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        number += 1
        tag = store.write(PATH, versioned(number), tag=tag, content_type="application/json", cache_control="no-store")
        print(number, flush=True)


if __name__ == "__main__":
    main()
