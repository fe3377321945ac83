"""A writer that is killed at any moment leaves the old document or the new one, and never loses one it had reported."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stores import endless
from tests.integration.stores.azurite import ACCOUNT
from tests.integration.stores.gcs import TOKEN

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

ROUNDS = 8


@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
def test_a_killed_writer_leaves_the_old_document_or_the_new(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = request.getfixturevalue({"s3": "moto_server", "gs": "gcs", "az": "azurite"}[kind])
    place = f"{ACCOUNT}/{server.container()}" if kind == "az" else server.bucket()
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    arguments = (f"{kind}://{place}/p", server.endpoint, TOKEN if kind == "gs" else "")
    store = endless.opened(*arguments)
    seen = 0
    for _ in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.integration.stores.endless", *arguments],
            stdout=subprocess.PIPE,
            env=dict(os.environ),
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(random.uniform(0, 0.05))
            child.kill()
            reported = [int(line) for line in child.stdout if line.endswith(b"\n")]
        time.sleep(0.1)  # a request that is on its way may still be served
        found = store.read(endless.PATH)
        assert found is not None
        number = endless.number_of(found.body)
        last = max([seen + 1, *reported])
        assert last <= number <= last + 1
        seen = number
    assert seen > ROUNDS
