"""Many publishers at once lose nothing and bring nothing back; one that is killed leaves old or new, never half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.publishing import DISCOVERY, ISSUER, JWKS, KeyFile, MemoryPlace, key_files, kids_at, publisher, settings
from wif.core.issuer_state import State, Tombstone
from wif.edges.stores.directory import DirectoryStore
from wif.issuer.report import PublishReport
from wif.issuer.state_store import StateStore

pytestmark = pytest.mark.integration

PUBLISHERS, KEYS, SUBSET = 200, 50, 8


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[KeyFile]:
    return key_files(tmp_path_factory.mktemp("keys"), KEYS + 1)


def all_at_once(
    keys: Sequence[KeyFile], state: Path, target: str, open_place: Callable[[], Any] | None
) -> list[PublishReport]:
    """Each vouches for a few keys that overlap with its neighbours'; all begin together."""
    gate = threading.Barrier(PUBLISHERS, timeout=120)

    def one(number: int) -> PublishReport:
        mine = [keys[(number + step * 7) % KEYS] for step in range(SUBSET)]
        run = publisher(settings(mine, target, state=state), [open_place()] if open_place is not None else [])
        gate.wait()
        return run.run()

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        return [done.result(timeout=300) for done in [pool.submit(one, number) for number in range(PUBLISHERS)]]


def seed(keys: Sequence[KeyFile], state: Path, target: str, place: Any) -> KeyFile:
    """Publish one key, remove it again (it stays vouched for by some), and put an attacker's key there by hand."""
    removed = keys[0]
    publisher(settings([removed], target, state=state), [place] if place is not None else []).run()
    states = StateStore(DirectoryStore(state.parent, public=False), path=state.name, issuer=ISSUER)

    def remove(known: State) -> State:
        record = known.keys[removed.kid]
        stone = Tombstone(removed_at=datetime.now(UTC), how="removed", jwk=record.jwk, fingerprint=record.fingerprint)
        return replace(known, keys={}, removed={removed.kid: stone})

    states.update(remove)
    return removed


def check(reports: Sequence[PublishReport], body: bytes, keys: Sequence[KeyFile], removed: KeyFile) -> None:
    assert [report.targets[0].error for report in reports if report.targets[0].error] == []
    assert {report.exit_status for report in reports} == {3}  # all of them saw the attacker's key
    expected = {key.kid for key in keys[:KEYS]} - {removed.kid} | {"attacker"}
    found = kids_at(body)
    assert set(found) == expected
    assert len(found) == len(expected)


def with_attacker(body: bytes, keys: Sequence[KeyFile]) -> bytes:
    document = json.loads(body)
    document["keys"].append(dict(keys[KEYS].key.jwk, kid="attacker"))
    return json.dumps(document).encode()


def test_200_publishers_of_one_place_in_memory(keys: list[KeyFile], tmp_path: Path) -> None:
    place, state = MemoryPlace(), tmp_path / "state" / "issuer.json"
    removed = seed(keys, state, "file:///shared", place)
    place.put(JWKS, with_attacker(place.documents[JWKS].body, keys))
    reports = all_at_once(keys, state, "file:///shared", lambda: place)
    check(reports, place.documents[JWKS].body, keys, removed)


def test_200_publishers_of_one_directory(keys: list[KeyFile], tmp_path: Path) -> None:
    target, state = tmp_path / "out", tmp_path / "state" / "issuer.json"
    removed = seed(keys, state, f"file://{target}", None)
    (target / JWKS).write_bytes(with_attacker((target / JWKS).read_bytes(), keys))
    reports = all_at_once(keys, state, f"file://{target}", None)
    check(reports, (target / JWKS).read_bytes(), keys, removed)


VICTIM = """
import os, signal, sys
from wif.edges import files
from tests.publishing import publisher, settings, KeyFile
from wif.config.issuers import IssuerSettings
import msgspec

given, step = msgspec.json.decode(sys.argv[1], type=IssuerSettings), int(sys.argv[2])
seen = 0

def count(frame, event, argument):
    pass

def audit(event, arguments):
    # the kernel's own doors: every open for writing, rename and unlink of the run is a place to die
    global seen
    if event in ("os.rename", "os.remove", "os.mkdir") or (event == "open" and arguments[2] & os.O_WRONLY):
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

sys.addaudithook(audit)
publisher(given).run()
"""


def test_a_publisher_killed_at_any_write_leaves_old_or_new(keys: list[KeyFile], tmp_path: Path) -> None:
    """SIGKILL at each step that changes the file system, of a first publish and of a change."""
    import msgspec

    for story in ("first", "change"):
        step = 0
        while True:
            folder = tmp_path / f"{story}-{step}"
            folder.mkdir()
            target, state = folder / "out", folder / "state" / "issuer.json"
            old: set[str] = set()
            if story == "change":
                publisher(settings(keys[:2], f"file://{target}", state=state)).run()
                old = {key.kid for key in keys[:2]}
            given = settings(keys[2:4], f"file://{target}", state=state)
            done = subprocess.run(
                [sys.executable, "-c", VICTIM, msgspec.json.encode(given).decode(), str(step)],
                cwd=Path(__file__).parents[2],
                env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
                timeout=60,
                check=False,
            )
            assert done.returncode in (0, -signal.SIGKILL)
            new = old | {key.kid for key in keys[2:4]}
            jwks, discovery = target / JWKS, target / DISCOVERY
            if discovery.exists():
                assert json.loads(discovery.read_bytes())["issuer"] == ISSUER
                assert jwks.exists(), "a discovery document without a key set"
            if jwks.exists():
                published = set(kids_at(jwks.read_bytes()))
                assert published in (old, new)
                recorded = json.loads(state.read_bytes())["keys"]
                assert published <= set(recorded), "a key at a target that the state does not know"
            # whoever comes next goes on, locks and leftovers notwithstanding
            report = publisher(given).run()
            assert report.exit_status == 0
            assert set(kids_at(jwks.read_bytes())) == new
            if done.returncode == 0:
                break
            step += 1
            assert step < 60
        assert step > 4, "the victim was never killed: the hook sees nothing"
