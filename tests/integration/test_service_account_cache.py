"""The webhook's cache of ServiceAccounts, on the real API server: what it knows, and what it does in a bad hour."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cut_proxy import CutProxy
from wif.admission.accounts import ServiceAccount
from wif.config.webhook import WebhookSettings
from wif.edges.kube import KubeClient
from wif.edges.watching import LIMITS, WatchLimits
from wif.emulator.apiserver import ApiServer, missing_assets
from wif.errors import RefusedError, UnavailableError
from wif.serve.account_values import MAX_ACCOUNT_BYTES
from wif.serve.service_accounts import MAX_REMEMBERED, MAX_SEARCHES, AccountCache

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

PREFIXES = WebhookSettings().prefixes
ROLE = "eks.amazonaws.com/role-arn"
QUICK = LIMITS._replace(pause_seconds=0.05, max_pause_seconds=0.2)
OWN_AUDIENCE = "https://kubernetes.default.svc"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    """An API server of this module's own: one test restarts it."""
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with ApiServer(grace_seconds=2.0) as server:
        yield server


@pytest.fixture
def namespace(cluster: ApiServer) -> str:
    name = f"cache-{uuid.uuid4().hex[:8]}"
    cluster.create_namespace(name)
    return name


def admin(cluster: ApiServer) -> KubeClient:
    return KubeClient.from_kubeconfig(cluster.kubeconfig)


def pod_client(
    cluster: ApiServer, namespace: str, name: str, directory: Path, *, port: int | None = None
) -> KubeClient:
    """A client as a pod has it, perhaps through a proxy."""
    (directory / "token").write_text(cluster.request_token(namespace, name, OWN_AUDIENCE))
    (directory / "ca.crt").write_bytes((cluster.shared_directory / "ca.crt").read_bytes())
    (directory / "namespace").write_text(namespace)
    host, _, own_port = cluster.url.removeprefix("https://").rpartition(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port or own_port)}
    return KubeClient.in_cluster(environ=environ, directory=directory)


def grant(cluster: ApiServer, namespace: str | None, subject: tuple[str, str], rule: Mapping[str, Any]) -> None:
    """A Role in a namespace, or a ClusterRole, for a ServiceAccount."""
    kind = "Role" if namespace else "ClusterRole"
    where = f"/namespaces/{namespace}" if namespace else ""
    path, name = f"/apis/rbac.authorization.k8s.io/v1{where}", f"r-{uuid.uuid4().hex[:8]}"
    cluster.create(f"{path}/{kind.lower()}s", {"metadata": {"name": name}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    who = {"kind": "ServiceAccount", "namespace": subject[0], "name": subject[1]}
    cluster.create(f"{path}/{kind.lower()}bindings", {"metadata": {"name": name}, "roleRef": role, "subjects": [who]})


READING = {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "list", "watch"]}


def annotate(cluster: ApiServer, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
    status, body = cluster.request("GET", path)
    assert status == 200
    found = json.loads(body)
    found["metadata"]["annotations"] = dict(annotations)
    assert cluster.request("PUT", path, found)[0] == 200


def remove(cluster: ApiServer, namespace: str, name: str) -> None:
    assert cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")[0] == 200


def until(true: Callable[[], object], *, seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it has not come to be"
        time.sleep(0.005)


@contextmanager
def watching(cache: AccountCache) -> Iterator[AccountCache]:
    """Run it as a worker; it must stop within a second of the word."""
    stopping, ended = threading.Event(), []

    def work() -> None:
        cache.run(stopping)
        ended.append(True)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield cache
    finally:
        stopping.set()
        began = time.monotonic()
        thread.join(10)
    assert ended
    assert time.monotonic() - began < 1.0


@contextmanager
def synced(
    kube: KubeClient, *, namespaces: tuple[str, ...] = (), limits: WatchLimits = QUICK
) -> Iterator[AccountCache]:
    with watching(AccountCache(kube, prefixes=PREFIXES, namespaces=namespaces, limits=limits)) as cache:
        until(lambda: cache.synced)
        yield cache
    kube.close()


def found(cache: AccountCache, namespace: str, name: str, *, wait_seconds: float = 0.05) -> ServiceAccount | None:
    return asyncio.run(cache.find(namespace, name, wait_seconds=wait_seconds))


# -- what it knows ----------------------------------------------------------------------------------------------------


def test_what_is_there_changes_and_goes_is_seen(cluster: ApiServer, namespace: str) -> None:
    uid = cluster.create_service_account(namespace, "app", annotations={ROLE: "one", "example.com/other": "x"})
    with synced(admin(cluster)) as cache:
        before = cache.packed(namespace, "app")
        assert cache.get(namespace, "app") == ServiceAccount(namespace, "app", uid, {ROLE: "one"})
        annotate(cluster, namespace, "app", {ROLE: "two"})
        until(lambda: cache.get(namespace, "app") == ServiceAccount(namespace, "app", uid, {ROLE: "two"}))
        assert cache.packed(namespace, "app") != before
        annotate(cluster, namespace, "app", {"example.com/other": "x"})
        until(lambda: cache.get(namespace, "app") == ServiceAccount(namespace, "app", uid))
        remove(cluster, namespace, "app")
        until(lambda: cache.get(namespace, "app") is None)
        again = cluster.create_service_account(namespace, "app", annotations={ROLE: "one"})
        until(lambda: cache.get(namespace, "app") == ServiceAccount(namespace, "app", again, {ROLE: "one"}))
        assert cache.packed(namespace, "app") != before  # another account of that name
        assert (cache.lists, cache.watch_failures, cache.unready()) == (1, 0, [])


def test_before_the_first_list_it_is_not_ready(cluster: ApiServer) -> None:
    cache = AccountCache(admin(cluster), prefixes=PREFIXES)
    assert not cache.synced
    assert cache.age_seconds() == float("inf")
    assert cache.unready() == ["the ServiceAccounts are being listed"]


def test_what_is_there_is_found_without_a_switch_to_another_task(cluster: ApiServer, namespace: str) -> None:
    cluster.create_service_account(namespace, "app")
    with synced(admin(cluster)) as cache:
        search = cache.find(namespace, "app", wait_seconds=1)
        with pytest.raises(StopIteration) as ended:
            search.send(None)
        assert ended.value.value == cache.get(namespace, "app")
        assert cache.misses == 0


def test_an_account_made_just_before_its_pod_is_waited_for(cluster: ApiServer, namespace: str) -> None:
    async def many(cache: AccountCache) -> list[ServiceAccount | None]:
        finds = [asyncio.create_task(cache.find(namespace, "late", wait_seconds=10)) for _ in range(50)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(cluster.create_service_account, namespace, "late", annotations={ROLE: "one"})
        return await asyncio.gather(*finds)

    with synced(admin(cluster)) as cache:
        began = time.monotonic()
        accounts = asyncio.run(many(cache))
        assert time.monotonic() - began < 5
        assert [account.annotations for account in accounts if account] == [{ROLE: "one"}] * 50
        assert (cache.live_reads, cache.misses) == (0, 50)


def test_an_account_that_is_not_there_is_read_once_and_not_unknown_for_long(cluster: ApiServer, namespace: str) -> None:
    async def story(cache: AccountCache) -> None:
        finds = [cache.find(namespace, "none", wait_seconds=0.05) for _ in range(100)]
        assert await asyncio.gather(*finds) == [None] * 100
        assert await cache.find(namespace, "none", wait_seconds=0.05) is None
        assert cache.live_reads == 1
        await asyncio.sleep(1.1)
        assert await cache.find(namespace, "none", wait_seconds=0.05) is None
        assert cache.live_reads == 2
        await asyncio.to_thread(cluster.create_service_account, namespace, "none")
        async with asyncio.timeout(5):
            while await cache.find(namespace, "none", wait_seconds=0.05) is None:
                await asyncio.sleep(0.01)
        assert cache.live_reads == 2  # the watch has undone what was remembered

    with synced(admin(cluster)) as cache:
        asyncio.run(story(cache))


def test_what_was_read_is_forgotten_when_the_watch_tells_of_it(cluster: ApiServer, namespace: str) -> None:
    cluster.create_service_account(namespace, "app")
    cache = AccountCache(admin(cluster), prefixes=PREFIXES)
    assert found(cache, namespace, "app", wait_seconds=0)
    remove(cluster, namespace, "app")
    assert found(cache, namespace, "app", wait_seconds=0)  # as it was read a moment ago
    cluster.create_service_account(namespace, "app")
    with watching(cache):
        until(lambda: cache.get(namespace, "app"))
        remove(cluster, namespace, "app")
        until(lambda: cache.get(namespace, "app") is None)
        assert found(cache, namespace, "app", wait_seconds=0) is None


def test_a_dry_run_leaves_no_trace(cluster: ApiServer, namespace: str) -> None:
    async def story(cache: AccountCache) -> None:
        for _ in range(2):
            assert await cache.find(namespace, "none", wait_seconds=0.01, remember=False) is None

    with synced(admin(cluster)) as cache:
        asyncio.run(story(cache))
        assert cache.live_reads == 2


def test_what_is_looked_for_and_remembered_is_bounded(cluster: ApiServer, namespace: str) -> None:
    async def looked_for(cache: AccountCache) -> None:
        finds = [asyncio.create_task(cache.find(namespace, f"n-{n}", wait_seconds=60)) for n in range(MAX_SEARCHES)]
        await asyncio.sleep(0.1)
        with pytest.raises(UnavailableError, match="no more at a time"):
            await cache.find(namespace, "one-more", wait_seconds=60)
        for search in list(cache._searches.values()):
            search.cancel()
        await asyncio.gather(*finds, return_exceptions=True)
        await asyncio.sleep(0)
        assert not cache._searches
        assert not cache._waiting

    async def remembered(cache: AccountCache) -> None:
        for name in ("a", "b"):
            await asyncio.gather(
                *(cache.find(namespace, f"{name}-{n}", wait_seconds=0) for n in range(MAX_REMEMBERED // 2 + 50))
            )
        assert len(cache._remembered) == MAX_REMEMBERED

    cache = AccountCache(admin(cluster), prefixes=PREFIXES)  # nothing comes by itself
    asyncio.run(looked_for(cache))
    asyncio.run(remembered(cache))


def test_a_failed_read_that_nobody_waits_for_any_more_is_no_error(
    cluster: ApiServer, namespace: str, tmp_path: Path
) -> None:
    cluster.create_service_account(namespace, "wif")  # without any right
    complaints: list[Mapping[str, Any]] = []

    async def story(cache: AccountCache) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cache.find(namespace, "none", wait_seconds=0.1), 0.05)
        async with asyncio.timeout(5):
            while cache._searches:
                await asyncio.sleep(0.01)
        gc.collect()

    asyncio.run(story(AccountCache(pod_client(cluster, namespace, "wif", tmp_path), prefixes=PREFIXES)))
    assert complaints == []


def test_what_nobody_reads_of_an_account_is_not_sent(cluster: ApiServer, namespace: str) -> None:
    """A tenant may put a megabyte of names of secrets into one."""
    secrets = [{"name": "s" * 1000} for _ in range(800)]
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    small = QUICK._replace(page_bytes=100_000, object_bytes=100_000)
    cluster.create(path, {"metadata": {"name": "listed"}, "secrets": secrets})
    with watching(AccountCache(admin(cluster), prefixes=PREFIXES, namespaces=(namespace,), limits=small)) as cache:
        until(lambda: cache.get(namespace, "listed"))
        until(lambda: cache.synced)
        cluster.create(path, {"metadata": {"name": "watched"}, "secrets": secrets})
        until(lambda: cache.get(namespace, "watched"))
        assert cache.watch_failures == 0


@pytest.mark.parametrize("name", ["", "../secrets/x", "A", "a/b", "a?x=1", "x" * 300, "é"])
def test_a_name_that_is_none_is_neither_waited_for_nor_asked_for(cluster: ApiServer, namespace: str, name: str) -> None:
    cache = AccountCache(admin(cluster), prefixes=PREFIXES)
    assert found(cache, namespace, name, wait_seconds=60) is None
    assert found(cache, name, "app", wait_seconds=60) is None
    assert cache.live_reads == 0


def test_an_account_too_large_to_be_kept_is_read_whenever_it_is_needed(cluster: ApiServer, namespace: str) -> None:
    annotations = {ROLE: "r" * MAX_ACCOUNT_BYTES}
    cluster.create_service_account(namespace, "large", annotations=annotations)
    with synced(admin(cluster)) as cache:
        assert cache.get(namespace, "large") is None
        for number in (1, 2):
            began = time.monotonic()
            account = found(cache, namespace, "large", wait_seconds=60)
            assert account is not None
            assert account.annotations == annotations
            assert time.monotonic() - began < 5
            assert cache.live_reads == number


def test_a_page_that_is_too_large_is_asked_for_in_parts(cluster: ApiServer, namespace: str) -> None:
    for number in range(40):
        cluster.create_service_account(namespace, f"app-{number}", annotations={"example.com/x": "x" * 4000})
    small = QUICK._replace(page_bytes=30_000)
    with synced(admin(cluster), limits=small) as cache:
        assert all(cache.get(namespace, f"app-{number}") for number in range(40))
        assert (cache.lists, cache.watch_failures) == (1, 0)


def test_an_object_larger_than_any_is_said_and_keeps_it_from_being_ready(cluster: ApiServer, namespace: str) -> None:
    cluster.create_service_account(namespace, "app", annotations={"example.com/x": "x" * 40_000})
    tiny = QUICK._replace(page_bytes=10_000, object_bytes=20_000)
    with watching(AccountCache(admin(cluster), prefixes=PREFIXES, namespaces=(namespace,), limits=tiny)) as cache:
        until(lambda: cache.watch_failures > 1)
        assert "larger than the API server can hold" in cache.unready()[0]


# -- who may ask ------------------------------------------------------------------------------------------------------


def test_roles_of_its_namespaces_are_enough(cluster: ApiServer, namespace: str, tmp_path: Path) -> None:
    other = f"{namespace}-other"
    foreign = f"{namespace}-foreign"
    for name in (other, foreign):
        cluster.create_namespace(name)
        cluster.create_service_account(name, "app")
    cluster.create_service_account(namespace, "wif")
    for name in (namespace, other):
        grant(cluster, name, (namespace, "wif"), READING)
    kube = pod_client(cluster, namespace, "wif", tmp_path)
    with synced(kube, namespaces=(namespace, other)) as cache:
        assert cache.size == 2
        assert cache.get(namespace, "wif")
        assert cache.get(other, "app")
        cluster.create_service_account(other, "late")
        until(lambda: cache.get(other, "late"))
        remove(cluster, other, "late")
        until(lambda: cache.get(other, "late") is None)
        assert not cache.is_watched(foreign)
        assert found(cache, foreign, "app", wait_seconds=60) is None
        assert cache.live_reads == 0
        assert cache.watch_failures == 0


def test_a_missing_right_is_named_until_it_is_granted(
    cluster: ApiServer, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.create_service_account(namespace, "wif")
    cache = AccountCache(pod_client(cluster, namespace, "wif", tmp_path), prefixes=PREFIXES, limits=QUICK)
    with watching(cache):
        until(lambda: cache.watch_failures > 2)
        assert "403 Forbidden" in cache.unready()[0]
        records = [record for record in caplog.records if record.name == "wif.watch"]
        assert len(records) == 1  # not once for each attempt
        assert "the verb list on the resource serviceaccounts" in records[0].__dict__["wif"]["hint"]
        with pytest.raises(RefusedError, match="403"):
            found(cache, namespace, "wif")
        grant(cluster, None, (namespace, "wif"), {**READING, "verbs": ["list"]})
        until(lambda: cache.synced)
        until(lambda: "the verb watch" in caplog.records[-1].__dict__.get("wif", {}).get("hint", ""))
        assert cache.unready() == []
        grant(cluster, None, (namespace, "wif"), READING)
        until(lambda: not cache.problem)
        cluster.create_service_account(namespace, "late")
        until(lambda: cache.get(namespace, "late"))
        assert cache.lists == 1


# -- a bad hour -------------------------------------------------------------------------------------------------------


def through(cluster: ApiServer, proxy: CutProxy, namespace: str, tmp_path: Path) -> KubeClient:
    cluster.create_service_account(namespace, "wif")
    grant(cluster, None, (namespace, "wif"), READING)
    return pod_client(cluster, namespace, "wif", tmp_path, port=proxy.port)


@pytest.fixture
def proxy(cluster: ApiServer) -> Iterator[CutProxy]:
    with CutProxy(int(cluster.url.rpartition(":")[2])) as made:
        yield made


def test_a_watch_that_is_cut_goes_on_where_it_was(
    cluster: ApiServer, namespace: str, proxy: CutProxy, tmp_path: Path
) -> None:
    with synced(through(cluster, proxy, namespace, tmp_path)) as cache:
        for number in range(3):
            failures = cache.watch_failures
            cluster.create_service_account(namespace, f"before-{number}")
            until(lambda number=number: cache.get(namespace, f"before-{number}"))  # type: ignore[misc]
            proxy.cut()
            cluster.create_service_account(namespace, f"after-{number}", annotations={ROLE: str(number)})
            until(lambda number=number: cache.get(namespace, f"after-{number}"))  # type: ignore[misc]
            remove(cluster, namespace, f"before-{number}")
            until(lambda number=number: cache.get(namespace, f"before-{number}") is None)  # type: ignore[misc]
            assert cache.watch_failures == failures + 1
        assert cache.lists == 1


def test_a_watch_that_falls_silent_is_given_up(
    cluster: ApiServer, namespace: str, proxy: CutProxy, tmp_path: Path
) -> None:
    limits = QUICK._replace(silence_seconds=1.0)
    with synced(through(cluster, proxy, namespace, tmp_path), limits=limits) as cache:
        cluster.create_service_account(namespace, "before")
        until(lambda: cache.get(namespace, "before"))
        proxy.silence()
        remove(cluster, namespace, "before")
        cluster.create_service_account(namespace, "after")
        assert cache.get(namespace, "before")
        until(lambda: cache.get(namespace, "after"), seconds=5)
        assert cache.get(namespace, "before") is None


def test_a_watch_ends_without_a_word_when_its_time_is_over(cluster: ApiServer, namespace: str) -> None:
    limits = QUICK._replace(life_seconds=1.0)
    with synced(admin(cluster), limits=limits) as cache:
        time.sleep(3)
        cluster.create_service_account(namespace, "late")
        until(lambda: cache.get(namespace, "late"))
        assert (cache.lists, cache.watch_failures, cache.problem) == (1, 0, "")


def test_an_api_server_that_is_away_takes_nothing_from_the_cache(cluster: ApiServer, namespace: str) -> None:
    cluster.create_service_account(namespace, "app", annotations={ROLE: "one"})
    with synced(admin(cluster)) as cache, ThreadPoolExecutor(1) as pool:
        account = cache.get(namespace, "app")
        assert account
        reads: list[ServiceAccount | None] = []
        back = threading.Event()

        def look() -> None:
            while not back.wait(0.001):
                reads.append(cache.get(namespace, "app"))

        looking = pool.submit(look)
        cluster.halt()
        until(lambda: cache.problem)
        with pytest.raises(UnavailableError, match="cannot be asked"):
            found(cache, namespace, "unknown")
        age = cache.age_seconds()
        time.sleep(0.5)
        assert cache.age_seconds() >= age + 0.5
        assert cache.unready() == []
        cluster.restart()
        annotate(cluster, namespace, "app", {ROLE: "two"})
        until(lambda: (now := cache.get(namespace, "app")) is not None and now.annotations == {ROLE: "two"}, seconds=30)
        until(lambda: not cache.problem)
        back.set()
        looking.result()
        assert None not in reads
        assert cache.age_seconds() < 60


def test_it_stops_within_a_second_while_the_api_server_is_silent(
    cluster: ApiServer, namespace: str, proxy: CutProxy, tmp_path: Path
) -> None:
    kube = through(cluster, proxy, namespace, tmp_path)
    with watching(AccountCache(kube, prefixes=PREFIXES)) as cache:
        until(lambda: cache.synced)
        proxy.silence()


# -- many -------------------------------------------------------------------------------------------------------------

MANY = 2000


def three_clouds(number: int) -> dict[str, str]:
    return {
        ROLE: f"arn:aws:iam::111122223333:role/app-{number}",
        "cloud.google.com/service-account-email": f"app-{number}@project.iam.gserviceaccount.com",
        "azure.workload.identity/client-id": str(uuid.UUID(int=number)),
    }


@pytest.mark.one_python
def test_two_thousand_accounts_of_three_clouds_are_ready_soon_and_right(cluster: ApiServer, namespace: str) -> None:
    def make(number: int) -> None:
        cluster.create_service_account(namespace, f"app-{number}", annotations=three_clouds(number))

    with synced(admin(cluster)) as already, ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(MANY)))
        began = time.monotonic()
        with synced(admin(cluster)) as cache:
            assert time.monotonic() - began < 5
            until(lambda: already.size == cache.size)
            for each in (cache, already):
                for number in range(MANY):
                    account = each.get(namespace, f"app-{number}")
                    assert account is not None
                    assert account.annotations == three_clouds(number)
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
            assert cluster.request("DELETE", path)[0] == 200
            until(lambda: namespace not in cache._accounts, seconds=60)
