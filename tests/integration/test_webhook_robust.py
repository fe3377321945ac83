"""The webhook in bad hours, on the real API server and under load: no pod is lost, none gets what is not its own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.accounts import MAX_MIB, MAX_READY_SECONDS, identities
from tests.integration.cut_proxy import CutProxy
from tests.integration.documents_server import Authority
from tests.integration.pod_load import Load, Made, RoleBook, record_of, registered, rendered, role_of
from tests.integration.server_processes import until
from tests.integration.webhooks import MUTATING, WebhookProcess, listening
from tests.reviews import EKS, ROLE, pod
from wif.edges.watching import LIMITS
from wif.emulator.apiserver import ApiServer, missing_assets
from wif.serve.certificate_authority import make_pair
from wif.serve.service_accounts import DOUBTED_SECONDS, UNREACHABLE_SECONDS

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

ACCOUNTS = int(os.environ.get("WIF_TEST_SERVICE_ACCOUNTS", "3000"))
"""Of the test of many; 50,000 take some minutes to be made."""
KUBECONFIG_MIB = 30.0
"""What a process with a kubeconfig loads beside what one in a pod does."""
QUIET = ("--find-unmutated", "0", "--no-events")
WATCH_SECONDS = 1.0
"""For a watch that works to bring a change, on a machine that is busy; usually it takes a few milliseconds."""
CUT_SECONDS = LIMITS.pause_seconds + DOUBTED_SECONDS + UNREACHABLE_SECONDS
"""The longest by design while a watch is cut: until it is taken up again, and where the read in its stead is not
answered in time, which is remembered for a moment."""
TRUSTED_SECONDS = 1.5
"""After which a watch that was taken up again is trusted: until then accounts are read, whatever it has missed."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    """An API server of this module's own: one test restarts it."""
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with ApiServer() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


class Place:
    """A namespace, the port of its webhook, and how it is served and registered there."""

    def __init__(self, server: ApiServer, authority: Authority, listener: socket.socket) -> None:
        self.server = server
        self.authority = authority
        self.listener = listener
        self.namespace = f"robust-{uuid.uuid4().hex[:8]}"
        self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        server.create_namespace(self.namespace)

    def process(self, *arguments: str, kubeconfig: Path | None = None) -> WebhookProcess:
        """One more process on the port."""
        files = ("--tls-cert", str(self.authority.chain), "--tls-key", str(self.authority.key))
        where = ("--kubeconfig", str(kubeconfig or self.server.kubeconfig), "--grace", "10")
        return WebhookProcess(*where, *files, *arguments, listener=self.listener, log_level="warning")

    def objects(self, policy: str, *arguments: str) -> list[dict[str, Any]]:
        """What ``wif webhook render`` prints for it."""
        release = ("--release", self.namespace, "--watch-namespace", self.namespace)
        where = ("--url", self.url, "--ca-file", str(self.authority.ca_file))
        return rendered(*release, *where, "--failure-policy", policy, *arguments)

    @contextlib.contextmanager
    def registered(self, policy: str = "Fail", account: str = "app") -> Iterator[None]:
        """Registered, and seen to be so: it lasts a moment until the API server calls."""
        with registered(self.server, self.objects(policy)):
            until(lambda: role_of(self.dry_run(account)[1]) is not None, what="the first pod that is injected into")
            yield

    def create(self, name: str, account: str = "app", query: str = "") -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        status, body = self.server.request(
            "POST", f"/api/v1/namespaces/{self.namespace}/pods{query}", pod(name, account)
        )
        return status, json.loads(body)

    def dry_run(self, account: str = "app") -> tuple[int, dict[str, Any]]:
        """The same for a pod that is not stored."""
        status, answer = self.create(f"dry-{uuid.uuid4().hex}", account, "?dryRun=All")
        return status, answer if status == 201 else {"spec": {"containers": [{}]}, **answer}

    def events(self) -> list[dict[str, Any]]:
        status, body = self.server.request("GET", f"/api/v1/namespaces/{self.namespace}/events")
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)["items"]
        return found


@pytest.fixture
def place(cluster: ApiServer, authority: Authority) -> Iterator[Place]:
    with listening() as listener:
        yield Place(cluster, authority, listener)


@contextlib.contextmanager
def ended(process: WebhookProcess) -> Iterator[WebhookProcess]:
    """Killed at the end if nothing else has ended it."""
    try:
        yield process
    finally:
        process.end(signal.SIGKILL)


# -- replicas that stop ----------------------------------------------------------------------------------------------


def test_a_replica_that_is_stopped_under_load_refuses_nothing(place: Place) -> None:
    place.server.create_service_account(place.namespace, "app", annotations=EKS)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(ended(place.process(*QUIET))) for _ in range(2)]
        for each in running:
            each.until_ready()
        stack.enter_context(place.registered())
        with Load(place.server, place.namespace, ["app"]) as load:
            for _ in range(3):
                load.until_more()
                running.append(stack.enter_context(ended(place.process(*QUIET))))
                running[-1].until_ready()
                load.until_more()
                assert running.pop(0).end() == 0
                load.until_more()
        assert load.refused == []
        assert load.faults() == []
        assert sum(each.metric("wif_webhook_review_seconds_count") or 0 for each in running) > 0


def test_a_replica_that_is_killed_under_load_refuses_the_calls_in_flight_at_most(place: Place) -> None:
    place.server.create_service_account(place.namespace, "app", annotations=EKS)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(ended(place.process(*QUIET))) for _ in range(2)]
        for each in running:
            each.until_ready()
        stack.enter_context(place.registered())
        for _ in range(3):
            with Load(place.server, place.namespace, ["app"], clients=6) as load:
                load.until_more()
                assert running.pop(0).end(signal.SIGKILL) == -signal.SIGKILL
                load.until_more(200)
            assert len(load.refused) <= load.clients
            assert all("failed calling webhook" in each.message for each in load.refused), load.refused
            assert load.faults() == []
            running.append(stack.enter_context(ended(place.process(*QUIET))))
            running[-1].until_ready()


# -- nobody there ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reserved() -> Iterator[socket.socket]:
    """A port of this test's own where nobody listens yet: a call is refused at once."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held


LOOKS = "wif_webhook_unmutated_looked_timestamp_seconds"
FOUND = "wif_webhook_unmutated_pods"


def test_with_nobody_there_pods_come_without_and_are_found_and_the_guard_refuses_more(
    cluster: ApiServer, authority: Authority
) -> None:
    with contextlib.ExitStack() as stack:
        place = Place(cluster, authority, stack.enter_context(reserved()))
        cluster.create_service_account(place.namespace, "plain")
        stack.enter_context(registered(cluster, place.objects("Ignore")))
        labels = {"wif.internal/inject": "true"}  # as the webhook would set it
        cluster.create_service_account(place.namespace, "app", annotations=EKS, labels=labels)
        for name, account in (("left-1", "app"), ("left-2", "app"), ("left-3", "app"), ("fine", "plain")):
            status, made = place.create(name, account)
            assert (status, role_of(made), record_of(made)) == (201, None, None)

        place.listener.listen(128)
        look = ("--find-unmutated", "1s", "--watch-namespace", place.namespace)
        with place.process(*look) as hook:
            hook.until_ready()
            until(lambda: hook.metric(FOUND) == 3.0, what="three found")
            until(lambda: role_of(place.dry_run()[1]) == ROLE, what="the webhook is called again")
            assert record_of(place.create("made-now")[1]) is not None
            before = hook.metric(LOOKS) or 0.0
            until(lambda: (hook.metric(LOOKS) or 0.0) > before + 2.0, what="more looks")
            assert hook.metric(FOUND) == 3.0
            until(lambda: len(place.events()) >= 3, what="the Events")
            told = [(each["involvedObject"]["name"], each["reason"], each.get("series")) for each in place.events()]
            assert sorted(told) == [(name, "NotInjected", None) for name in ("left-1", "left-2", "left-3")]
            assert hook.metric("wif_webhook_events_total") == 3.0, "once, however many looks"
            text = hook.health("/metrics")[1]
            assert "left-1" not in text

            enforced = place.objects("Ignore", "--enforce")
            guards = [each for each in enforced if "Policy" in each["kind"]]
            assert len(guards) == 6
            stack.enter_context(registered(cluster, guards))
            assert place.dry_run()[0] == 201
        place.listener.close()

        until(lambda: place.dry_run()[0] != 201, what="the guard is in force")
        for number in range(5):
            status, answer = place.create(f"refused-{number}")
            assert (status, answer["reason"]) == (403, "Forbidden")
            assert "the ServiceAccount app is annotated for AWS" in answer["message"]
            assert place.create(f"plain-{number}", "plain")[0] == 201


# -- certificates ----------------------------------------------------------------------------------------------------


def test_certificates_are_replaced_under_load(place: Place) -> None:
    """Two replicas that manage one certificate, which is soon due: each comes to serve its successor, without a gap."""
    server, name = place.server, f"wif-system-{place.namespace}-webhook"
    server.create_service_account(place.namespace, "app", annotations=EKS)
    old = make_pair(["127.0.0.1"], life_seconds=22)  # due when the third part of 45 s is left of it
    data = {"tls.crt": old.chain, "tls.key": old.key, "ca.crt": old.authority}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    secret = {"metadata": {"name": "tls"}, "type": "Opaque", "data": encoded}
    server.create(f"/api/v1/namespaces/{place.namespace}/secrets", secret)
    where = ("--release", place.namespace, "--watch-namespace", place.namespace, "--url", place.url)
    arguments = (
        *("--kubeconfig", str(server.kubeconfig), "--self-managed", f"{place.namespace}/tls", "--certificate-life"),
        *("45s", "--tls-name", "127.0.0.1", "--mutating-configuration", name, "--validating-configuration", name),
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(registered(server, rendered(*where, "--failure-policy", "Fail")))
        running = [
            stack.enter_context(ended(WebhookProcess(*arguments, *QUIET, listener=place.listener))) for _ in range(2)
        ]
        for each in running:
            each.until_ready()
        until(lambda: role_of(place.dry_run()[1]) == ROLE, what="the first pod that is injected into")
        with Load(server, place.namespace, ["app"]) as load:
            rotations = "wif_webhook_certificate_rotations_total"
            until(lambda: all((each.metric(rotations) or 0) >= 1 for each in running), what="rotations", seconds=40)
            load.until_more(100)
            until(lambda: old.authority not in trusted(server, name), what="the former authority is forgotten")
            load.until_more(100)
        assert load.refused == []
        assert load.faults() == []
        assert [each.metric("wif_webhook_certificate_trusted") for each in running] == [1.0, 1.0]


def trusted(server: ApiServer, name: str) -> str:
    """All the authorities that the API server trusts in both registrations, PEM."""
    found = ""
    for kind in (MUTATING, MUTATING.replace("mutating", "validating")):
        status, body = server.request("GET", f"{kind}/{name}")
        assert status == 200, body
        for each in json.loads(body)["webhooks"]:
            found += base64.b64decode(each["clientConfig"].get("caBundle", "")).decode()
    return found


# -- the API server out of reach ---------------------------------------------------------------------------------------


WATCH_FAILURES = "wif_webhook_watch_failures_total"


def late(book: RoleBook, made: list[Made]) -> list[float]:
    """Of each pod, for how long its role had been replaced before it was asked for."""
    return sorted(map(book.late_seconds, made))


def test_the_api_servers_restart_under_load_loses_nothing(place: Place) -> None:
    book = RoleBook(place.server, place.namespace, [f"app-{number}" for number in range(4)])
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(ended(place.process(*QUIET))) for _ in range(2)]
        for each in running:
            each.until_ready()
        stack.enter_context(place.registered(account="app-0"))
        with Load(place.server, place.namespace, book.accounts) as load:
            load.until_more()
            halted = time.monotonic()
            place.server.halt()
            for each in running:  # by now they ask only every few seconds
                until(lambda: (each.metric(WATCH_FAILURES) or 0) >= 5, what="tries")  # noqa: B023 - waited for here
            place.server.restart()
            back = time.monotonic()
            with book.changing(pause_seconds=0.02):
                load.until_more(200)
            for account in book.accounts:
                book.make_anew(account)
            load.until_more(200)
    refused = [each for each in load.refused if each.ended < halted or each.began > back]
    assert [each for each in refused if "error looking up service account" not in each.message] == []
    load.made = [each for each in load.made if not book.was_gone(each)]
    assert load.faults() == []
    assert late(book, load.made)[-1] < WATCH_SECONDS, late(book, load.made)[-30:]


@pytest.fixture
def proxy(cluster: ApiServer) -> Iterator[CutProxy]:
    with CutProxy(int(cluster.url.rpartition(":")[2])) as made:
        yield made


def through(proxy: CutProxy, cluster: ApiServer, folder: Path) -> Path:
    """An administrator's kubeconfig that leads through a proxy."""
    changed = folder / "kubeconfig"
    port = cluster.url.rpartition(":")[2]
    changed.write_text(cluster.kubeconfig.read_text().replace(f"127.0.0.1:{port}", f"127.0.0.1:{proxy.port}"))
    return changed


def test_watches_that_are_cut_while_accounts_change_give_nobody_a_former_role(
    place: Place, proxy: CutProxy, tmp_path: Path
) -> None:
    book = RoleBook(place.server, place.namespace, [f"app-{number}" for number in range(4)])
    kubeconfig = through(proxy, place.server, tmp_path)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(ended(place.process(*QUIET, kubeconfig=kubeconfig))).until_ready()
        stack.enter_context(place.registered(account="app-0"))
        with Load(place.server, place.namespace, book.accounts) as load:
            for _ in range(5):
                with book.changing():
                    load.until_more(20)
                before = proxy.connections
                proxy.cut()
                for account in book.accounts:
                    book.change(account)  # nothing that comes later makes up for one that is missed
                until(lambda: proxy.connections >= before + 2, what="both ask again")  # noqa: B023 - waited for here
                time.sleep(TRUSTED_SECONDS)
                load.until_more(20)
                until(lambda: book.is_followed(load.made), what="the roles of now are given")
    assert load.refused == []
    assert load.faults() == []
    assert late(book, load.made)[-1] < CUT_SECONDS, late(book, load.made)[-30:]


def test_an_account_that_a_silent_watch_does_not_tell_of_is_read(place: Place, proxy: CutProxy, tmp_path: Path) -> None:
    book = RoleBook(place.server, place.namespace, ["app"])
    with ended(place.process(*QUIET, kubeconfig=through(proxy, place.server, tmp_path))) as hook:
        hook.until_ready()
        with place.registered():
            proxy.silence()  # of the watch; a read opens a connection of its own
            for number in range(3):
                account = f"late-{number}"
                book.add(account)
                load = Load(place.server, place.namespace, [account])
                load.create_one()
                assert load.refused == []
                assert load.faults() == []
                assert book.late_seconds(load.made[0]) == 0.0
            assert hook.metric("wif_webhook_live_reads_total") == 3.0


# -- many ------------------------------------------------------------------------------------------------------------


def memory_mib(process: WebhookProcess, name: str) -> float:
    """Of a process, as the kernel counts it; 0 where it is not Linux."""
    status = Path(f"/proc/{process.child.pid}/status")
    if not status.exists():
        return 0.0
    return int(status.read_text().split(f"{name}:")[1].split()[0]) / 1024


def test_each_of_many_accounts_is_given_its_own(place: Place, record_property: Callable[[str, object], None]) -> None:
    server = place.server
    path = f"/api/v1/namespaces/{place.namespace}/serviceaccounts"

    def make(number: int) -> None:
        server.create(path, {"metadata": {"name": f"application-{number}", "annotations": dict(identities(number))}})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make, range(ACCOUNTS)))
    began = time.monotonic()
    with place.process(*QUIET) as hook:
        hook.until_ready(60)
        ready_seconds = time.monotonic() - began
        assert (hook.metric("wif_webhook_cache_accounts") or 0) >= ACCOUNTS
        with place.registered(account="application-0"):
            for number in range(0, ACCOUNTS, max(1, ACCOUNTS // 60)):
                made = labelled_pod(f"application-{number}")
                stored = server.create(f"/api/v1/namespaces/{place.namespace}/pods", made)
                wanted = identities(number)
                found = {each["name"]: each["value"] for each in stored["spec"]["containers"][0]["env"]}
                assert found["AWS_ROLE_ARN"] == wanted["eks.amazonaws.com/role-arn"]
                assert found["AZURE_CLIENT_ID"] == wanted["azure.workload.identity/client-id"]
                file = stored["metadata"]["annotations"]["cloud.google.com/external-credentials-json"]
                assert f"/{wanted['cloud.google.com/service-account-email']}:" in file
                record = record_of(stored)
                assert record is not None
                assert record["serviceAccount"] == f"application-{number}"
            assert hook.metric("wif_webhook_live_reads_total") == 0.0
        figures = {
            "ready_seconds": round(ready_seconds, 2),
            "rss_mib": round(memory_mib(hook, "VmRSS"), 1),
            "peak_mib": round(memory_mib(hook, "VmHWM"), 1),
        }
    for name, value in figures.items():
        record_property(name, value)
    assert ready_seconds < MAX_READY_SECONDS + 5.0, figures  # the rest is for the program to load on a busy machine
    assert figures["peak_mib"] < MAX_MIB + KUBECONFIG_MIB, figures


def labelled_pod(account: str) -> dict[str, Any]:
    """A pod that asks Azure's dialect too."""
    return pod(f"p-{account}", account, labels={"azure.workload.identity/use": "true"})
