"""A writer that is killed at any moment leaves the old document or the new one, and never loses one it had reported."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stores.azurite import ACCOUNT
from tests.integration.stores.contract import HEADERS, JWKS
from tests.integration.stores.places import Target, google_token, open_at
from wif.edges.stores import ABSENT

pytestmark = pytest.mark.integration

ROUNDS = 10
FILLING = "x" * 200_000
"""So that a kill falls into the sending of it."""

PROGRAM = """
import json, sys
from tests.integration.stores.test_killed import write_for_ever
write_for_ever(json.loads(sys.argv[1]))
"""


def versioned(number: int) -> bytes:
    """A document that shows whether it is whole."""
    content = f"{number}:{FILLING}"
    return json.dumps({"content": content, "digest": hashlib.sha256(content.encode()).hexdigest()}).encode()


def number_of(body: bytes) -> int:
    found: dict[str, str] = json.loads(body)
    assert hashlib.sha256(found["content"].encode()).hexdigest() == found["digest"]
    return int(found["content"].partition(":")[0])


def write_for_ever(arguments: dict[str, Any]) -> None:
    """What the child does: one version after the other, each reported when it is done."""
    store = _open(arguments)
    found = store.read(JWKS)
    number = number_of(found.body) if found else 0
    tag = found.tag if found else ABSENT
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        number += 1
        tag = store.write(JWKS, versioned(number), tag=tag, **HEADERS)
        print(number, flush=True)


def _open(arguments: dict[str, Any]) -> Any:
    target = Target(arguments["url"], arguments["endpoint"])
    federated = google_token if arguments["url"].startswith("gs:") else None
    return open_at(target, environ=arguments["environ"], federated=federated)


@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
def test_a_killed_writer_leaves_the_old_document_or_the_new(kind: str, request: pytest.FixtureRequest) -> None:
    server: Any = request.getfixturevalue({"s3": "moto_server", "gs": "gcs", "az": "azurite"}[kind])
    place = f"{ACCOUNT}/{server.container()}" if kind == "az" else server.bucket()
    environ = dict(server.environ) if kind != "gs" else {}
    arguments = {"url": f"{kind}://{place}/p", "endpoint": server.endpoint, "environ": environ}
    store = _open(arguments)
    seen = 0
    for _ in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(random.uniform(0, 0.05))
            child.kill()
            reported = [int(line) for line in child.stdout if line.endswith(b"\n")]
        time.sleep(0.1)  # a request that is on its way may still be served
        found = store.read(JWKS)
        assert found is not None
        number = number_of(found.body)
        last = max([seen + 1, *reported])
        assert last <= number <= last + 1
        seen = number
    assert seen > ROUNDS
