# ruff: noqa: F811  # fixtures of another folder are arguments here
"""Many publishers at once lose nothing and bring nothing back; one that is killed leaves old or new, never half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.stores.azurite import ACCOUNT, Azurite
from tests.integration.stores.conftest import azurite, gcs, moto_server  # noqa: F401
from tests.integration.stores.gcs import GcsServer
from tests.integration.stores.moto_server import MotoServer
from tests.integration.test_publish import Google
from tests.publishing import DISCOVERY, ISSUER, JWKS, KeyFile, MemoryPlace, key_files, kids_at, publisher, settings
from wif.config.issuers import TargetSettings
from wif.core.issuer_state import State, Tombstone
from wif.edges.kube import KubeClient
from wif.edges.stores import Store
from wif.edges.stores.directory import DirectoryStore
from wif.edges.stores.opening import open_store
from wif.emulator.apiserver import ApiServer
from wif.errors import UnavailableError
from wif.issuer.publish import Publisher
from wif.issuer.report import PublishReport
from wif.issuer.state_store import StateStore

pytestmark = [
    pytest.mark.integration,
    pytest.mark.one_python,
    pytest.mark.xdist_group("many"),  # one after the other: each keeps both cores busy
]

PUBLISHERS, KEYS, SUBSET = 200, 50, 8
RUNS = 5
"""Of one publisher: where two cores are 200 clients and their server, some are not served in time and come back."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[KeyFile]:
    return key_files(tmp_path_factory.mktemp("keys"), KEYS + 1)


class Shared(NamedTuple):
    """One place that all publishers write, and how it is looked at past them."""

    target: str | TargetSettings
    more: Mapping[str, Any]
    """Arguments of every publisher."""
    read: Callable[[], bytes]
    overwrite: Callable[[bytes], object]


def all_at_once(keys: Sequence[KeyFile], state: Path, shared: Shared) -> list[PublishReport]:
    """Each vouches for a few keys that overlap with its neighbours'; all begin together."""
    gate = threading.Barrier(PUBLISHERS, timeout=120)

    def one(number: int) -> PublishReport:
        mine = [keys[(number + step * 7) % KEYS] for step in range(SUBSET)]
        run = Publisher(settings(mine, shared.target, state=state), **shared.more)
        gate.wait()
        for _ in range(RUNS - 1):
            try:
                report = run.run()
            except UnavailableError:  # of the state, which is under the same load
                continue
            error = report.targets[0].error
            if error is None or not error.retryable:
                return report
        return run.run()

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        return [done.result(timeout=500) for done in [pool.submit(one, number) for number in range(PUBLISHERS)]]


def seed(keys: Sequence[KeyFile], state: Path, shared: Shared) -> KeyFile:
    """Publish one key, remove it again (it stays vouched for by some), and put an attacker's key there by hand."""
    removed = keys[0]
    Publisher(settings([removed], shared.target, state=state), **shared.more).run()
    states = StateStore(DirectoryStore(state.parent, public=False), path=state.name, issuer=ISSUER)

    def remove(known: State) -> State:
        record = known.keys[removed.kid]
        stone = Tombstone(removed_at=datetime.now(UTC), how="removed", jwk=record.jwk, fingerprint=record.fingerprint)
        return replace(known, keys={}, removed={removed.kid: stone})

    states.update(remove)
    document = json.loads(shared.read())
    document["keys"].append(dict(keys[KEYS].key.jwk, kid="attacker"))
    shared.overwrite(json.dumps(document).encode())
    return removed


def check(reports: Sequence[PublishReport], body: bytes, keys: Sequence[KeyFile], removed: KeyFile) -> None:
    assert [report.targets[0].error for report in reports if report.targets[0].error] == []
    assert {report.exit_status for report in reports} == {3}  # all of them saw the attacker's key
    expected = {key.kid for key in keys[:KEYS]} - {removed.kid} | {"attacker"}
    found = kids_at(body)
    assert set(found) == expected
    assert len(found) == len(expected)


def lose_nothing(keys: Sequence[KeyFile], folder: Path, shared: Shared) -> None:
    """The whole story at one place."""
    state = folder / "state" / "issuer.json"
    removed = seed(keys, state, shared)
    check(all_at_once(keys, state, shared), shared.read(), keys, removed)


def test_200_publishers_of_one_place_in_memory(keys: list[KeyFile], tmp_path: Path) -> None:
    place = MemoryPlace()
    more = {"environ": {}, "open_target": lambda target, **_: place}
    lose_nothing(
        keys,
        tmp_path,
        Shared("file:///memory", more, lambda: place.documents[JWKS].body, lambda body: place.put(JWKS, body)),
    )


def test_200_publishers_of_one_directory(keys: list[KeyFile], tmp_path: Path) -> None:
    file = tmp_path / "out" / JWKS
    lose_nothing(keys, tmp_path, Shared(f"file://{tmp_path}/out", {"environ": {}}, file.read_bytes, file.write_bytes))


def over_store(target: TargetSettings, more: Mapping[str, Any]) -> Shared:
    """A place that is read and overwritten as somebody with the right credentials would."""

    def store() -> Store:
        return open_store(target, environ=more["environ"], federated=more.get("identity"))

    def read() -> bytes:
        found = store().read(JWKS)
        assert found is not None
        return found.body

    def overwrite(body: bytes) -> None:
        found = store().read(JWKS)
        assert found is not None
        store().write(JWKS, body, tag=found.tag, content_type="application/json", cache_control="no-cache")

    return Shared(target, more, read, overwrite)


def test_200_publishers_of_one_object_of_s3(keys: list[KeyFile], tmp_path: Path, moto_server: MotoServer) -> None:
    url = f"s3://{moto_server.bucket()}/a"
    target = TargetSettings(url=url, endpoint=moto_server.endpoint, region="us-east-1", allow_http=True)
    lose_nothing(keys, tmp_path, over_store(target, {"environ": moto_server.environ}))


def test_200_publishers_of_one_object_of_gcs(keys: list[KeyFile], tmp_path: Path, gcs: GcsServer) -> None:
    target = TargetSettings(url=f"gs://{gcs.bucket()}/a", endpoint=gcs.endpoint, allow_http=True)
    lose_nothing(keys, tmp_path, over_store(target, {"environ": {}, "identity": Google()}))


def test_200_publishers_of_one_blob_of_azure(keys: list[KeyFile], tmp_path: Path, azurite: Azurite) -> None:
    url = f"az://{ACCOUNT}/{azurite.container()}/a"
    target = TargetSettings(url=url, endpoint=azurite.endpoint, allow_http=True)
    lose_nothing(keys, tmp_path, over_store(target, {"environ": azurite.environ}))


def test_200_publishers_of_one_config_map(keys: list[KeyFile], tmp_path: Path, api_server: ApiServer) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    api_server.create(path, {"metadata": {"name": "shared-documents"}})
    client = KubeClient.from_kubeconfig(api_server.kubeconfig)
    target = TargetSettings(url="configmap:default/shared-documents")

    def store() -> Store:
        return open_store(target, kube=client)

    def read() -> bytes:
        found = store().read(JWKS)
        assert found is not None
        return found.body

    def overwrite(body: bytes) -> None:
        found = store().read(JWKS)
        assert found is not None
        store().write(JWKS, body, tag=found.tag, content_type="", cache_control="")

    try:
        lose_nothing(keys, tmp_path, Shared(target, {"environ": {}, "kube": client}, read, overwrite))
    finally:
        client.close()
        api_server.request("DELETE", f"{path}/shared-documents")


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
