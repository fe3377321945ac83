"""Hours of a sidecar's life in minutes: rotating tokens, every outage of the clouds, wrong clocks, rude clients.

Credentials live for fifteen seconds (:mod:`tests.integration.soaking_sidecar`). All the time clients read every
identity. A read may fail only while no valid credential exists; what is served is never over; after each outage all is
well again by itself; memory, descriptors and threads stay what they were once everything has happened once.

``WIF_SOAK_SECONDS`` says how long; ``nox -s soak`` takes half an hour.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.led_pod import ACCOUNT, AUDIENCES, LedPod, led_pod
from tests.integration.sidecars import IDENTITY_HEADER, aws, azure, gcp, led
from tests.integration.soaking_sidecar import LIFE_SECONDS

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_soak")]

SECONDS = float(os.environ.get("WIF_SOAK_SECONDS", "120"))
ROUNDING_SECONDS = 2.2
"""An end is told in whole seconds, counted from a whole second."""
RECOVERY_SECONDS = 6.0
"""After an outage: the longest pause of an exchanger is one second here, the keeper's own two."""
CONNECTIONS = 1000
_GROWTH_KIB = 3 * 1024
_RESOURCE = "https://management.azure.com"


class Reading(NamedTuple):
    """How one identity is read, and what was read: the credential, and its end in unix time."""

    path: str
    headers: Mapping[str, str]
    found: Callable[[dict[str, Any]], tuple[str, float]]
    is_of_this_machine: bool = False
    """Whether the end is told by this machine's clock, right or wrong."""


class Failure(NamedTuple):
    """A read that should not have failed, or a credential that should not have been served."""

    name: str
    phase: str
    what: str


class Sample(NamedTuple):
    """The process at one moment."""

    resident_kib: int
    descriptors: int
    threads: int


class Rotation:
    """A projected volume: the kubelet's way to change all files at once, by swapping a link to their directory."""

    def __init__(self, pod: LedPod, folder: Path) -> None:
        self._pod = pod
        self._folder = folder
        self._number = 0
        folder.mkdir(parents=True)
        self.swap()
        for cloud in AUDIENCES:
            (folder / cloud).symlink_to(Path("..data") / cloud)

    def swap(self) -> None:
        """New tokens for every cloud, which live for a minute."""
        self._number += 1
        made = self._folder / f"..{self._number}"
        made.mkdir()
        for cloud, audience in AUDIENCES.items():
            (made / cloud).write_text(
                self._pod.pod.cluster.mint("default", "app", audience, expires_in=60, pod="app-0")
            )
        link = self._folder / "..data.new"
        link.symlink_to(made.name)
        link.replace(self._folder / "..data")
        shutil.rmtree(self._folder / f"..{self._number - 1}", ignore_errors=True)


class Soak:
    """The sidecar's process, who reads from it, and what they saw."""

    def __init__(self, pod: LedPod, folder: Path) -> None:
        self.pod = pod
        self.tokens = Rotation(pod, folder / "tokens")
        at = {cloud: str(folder / "tokens" / cloud) for cloud in AUDIENCES}
        identities = {
            "app": aws(pod, token_file=at["aws"]),
            "spare": aws(pod, token_file=at["aws"]),
            "direct": gcp(pod, token_file=at["gcp"], service_account=None),
            "reports": gcp(pod, token_file=at["gcp"]),
            "vault": azure(pod, token_file=at["azure"]),
        }
        settings = {
            "identities": identities,
            "default": {"aws": "app", "gcp": "direct"},
            "gce_metadata": True,
            "listen": ["127.0.0.1:0"],
            "secret_file": str(folder / "authorization"),
            "files": [{"identity": "app", "kind": "aws-credentials", "path": str(folder / "credentials")}],
        }
        with (folder / "log").open("w") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.soaking_sidecar", json.dumps({"settings": settings})],
                env={**led(pod), "IDENTITY_HEADER": IDENTITY_HEADER, "PYTHONPATH": str(Path(__file__).parents[2])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.child.stdout is not None
        place = json.loads(self.child.stdout.readline())
        self.port, self._health = int(place["port"]), str(place["health_url"])
        self.readings = _readings((folder / "authorization").read_text())
        self.phase = "start"
        self.clock_offsets = [0.0]
        self.settled_offset = 0
        self.reads: Counter[str] = Counter()
        self.unavailable: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.ends: dict[str, float] = {}
        self.first_seen: dict[str, float] = {}
        self.samples: list[tuple[float, Sample]] = []
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self._read_always, args=(name,)) for name in self.readings]
        self._threads += [threading.Thread(target=each) for each in (self._rotate, self._be_rude)]

    def __enter__(self) -> Soak:
        self.await_all("the first credentials")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(30)
        self.child.send_signal(signal.SIGTERM)
        for stream in (self.child.stdin, self.child.stdout):
            if stream is not None:
                stream.close()
        try:
            self.child.wait(20)
        finally:
            self.child.kill()

    # -- clients ---------------------------------------------------------------------------------------------------

    def _read_always(self, name: str) -> None:
        """Ten reads a second, by turns on a connection that is kept and on new ones."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)) as kept:
            for number in itertools.count():
                if self.stopping.wait(0.1):
                    return
                if number % 2:
                    self._judge(name, kept)
                    continue
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)) as fresh:
                    self._judge(name, fresh)

    def read(self, name: str, connection: http.client.HTTPConnection) -> float | str:
        """When the credential that was read ends, or why there was none."""
        reading, offset_before = self.readings[name], self.settled_offset
        try:
            connection.request("GET", reading.path, headers=dict(reading.headers))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return f"{type(error).__name__}: {error}"
        if answer.status != 200:
            return f"{answer.status}: {body[:300]!r}"
        credential, told = reading.found(json.loads(body))
        if reading.is_of_this_machine:
            # a read during which the clock was set may have been answered before that or after it
            told -= min(self.clock_offsets[offset_before:])
        # a clock that was wrong when it was issued makes what is left of it look like more
        return min(told, self.first_seen.setdefault(credential, time.time()) + LIFE_SECONDS)

    def _judge(self, name: str, connection: http.client.HTTPConnection) -> None:
        began, valid_until, phase = time.time(), self.ends.get(name, 0.0), self.phase
        got = self.read(name, connection)
        self.reads[name] += 1
        if isinstance(got, float):
            self.ends[name] = max(got, valid_until)
            if got < began - ROUNDING_SECONDS:
                self.failures.append(Failure(name, phase, f"served {began - got:.1f} s after its end"))
        elif began < valid_until - ROUNDING_SECONDS:
            self.failures.append(Failure(name, phase, f"{valid_until - began:.1f} s before the end: {got}"))
        elif got.startswith(("503", "403")):
            self.unavailable[name] += 1
        else:
            self.failures.append(Failure(name, phase, got))

    def _rotate(self) -> None:
        while not self.stopping.wait(5.0):
            self.tokens.swap()

    def _be_rude(self) -> None:
        """Half a request, no request, an unread answer, a body that never comes; at times a thousand of them."""
        whole = b"GET /aws HTTP/1.1\r\nHost: localhost\r\nAuthorization: wrong\r\n\r\n"
        bodiless = b"GET /aws HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"
        for number in itertools.count():
            if self.stopping.wait(1.0):
                return
            many = CONNECTIONS if number % 20 == 5 else 10
            with ExitStack() as held:
                for each in range(many):
                    with contextlib.suppress(OSError):
                        made = held.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=5))
                        made.sendall((b"", whole[:30], whole, whole * 3, bodiless)[each % 5])
                self.stopping.wait(1.5 if many == CONNECTIONS else 0.5)

    # -- looking ---------------------------------------------------------------------------------------------------

    def await_all(self, what: str) -> None:
        """Wait until every identity is served again, and the sidecar says that it is ready."""
        ends = time.monotonic() + RECOVERY_SECONDS
        while True:
            got: dict[str, float | str] = {}
            for name in self.readings:
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)) as connection:
                    got[name] = self.read(name, connection)
            missing = {name: each for name, each in got.items() if isinstance(each, str)}
            unready = self.unready()
            if not missing and not unready:
                return
            if time.monotonic() > ends:
                self.failures.append(Failure("all", self.phase, f"no recovery after {what}: {missing} {unready}"))
                return
            time.sleep(0.1)

    def unready(self) -> str:
        """Why the sidecar says that it is not ready; nothing where it is."""
        try:
            with urllib.request.urlopen(f"{self._health}/readyz", timeout=10):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()

    def set_clock_wrong(self, seconds: float) -> None:
        """Set the sidecar's clock, and wait until it is set: only then every later read is answered by it."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.clock_offsets.append(seconds)
        self.child.stdin.write(f"{seconds}\n")
        self.child.stdin.flush()
        assert select.select([self.child.stdout], [], [], RECOVERY_SECONDS)[0], "the sidecar sets no clock any more"
        self.child.stdout.readline()
        self.settled_offset = len(self.clock_offsets) - 1

    def sample(self) -> None:
        folder = Path(f"/proc/{self.child.pid}")
        status = (folder / "status").read_text()
        numbers = {name: int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1]) for name in ("VmRSS", "Threads")}  # type: ignore[index]  # both are always there
        descriptors = len(list((folder / "fd").iterdir()))
        self.samples.append((time.monotonic(), Sample(numbers["VmRSS"], descriptors, numbers["Threads"])))


def _readings(secret: str) -> Mapping[str, Reading]:
    def of_aws(keys: dict[str, Any]) -> tuple[str, float]:
        return keys["AccessKeyId"], datetime.fromisoformat(keys["Expiration"]).timestamp()

    def of_google(token: dict[str, Any]) -> tuple[str, float]:
        return token["access_token"], time.time() + float(token["expires_in"])

    def of_azure(token: dict[str, Any]) -> tuple[str, float]:
        return token["access_token"], float(token["expires_on"])

    accounts = "/computeMetadata/v1/instance/service-accounts"
    google, entra = {"Metadata-Flavor": "Google"}, {"X-IDENTITY-HEADER": IDENTITY_HEADER}
    return {
        "app": Reading("/aws", {"Authorization": secret}, of_aws),
        "spare": Reading("/aws/spare", {"Authorization": secret}, of_aws),
        "direct": Reading(f"{accounts}/default/token", google, of_google),
        "reports": Reading(f"{accounts}/{ACCOUNT}/token", google, of_google),
        "vault": Reading(f"/azure/token?api-version=2019-08-01&resource={_RESOURCE}", entra, of_azure, True),
    }


# -- what goes wrong -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stopped(soak: Soak) -> Iterator[None]:
    """The clouds are gone: connections are refused."""
    emulator = soak.pod.emulator
    variables = emulator.environment()
    port, proxy = emulator.port, int(variables["HTTPS_PROXY"].rpartition(":")[2])
    emulator.stop()
    with ExitStack() as reserved:
        for number in (port, proxy):  # bound and not listening: refused, and no other process gets it meanwhile
            held = reserved.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", number))
        try:
            yield
        finally:
            emulator.start(port, proxy)


@contextlib.contextmanager
def _clock(soak: Soak, seconds: float) -> Iterator[None]:
    soak.set_clock_wrong(seconds)
    try:
        yield
    finally:
        soak.set_clock_wrong(0.0)


@contextlib.contextmanager
def _without_tokens(soak: Soak) -> Iterator[None]:
    """The kubelet's files are not there: links that lead nowhere."""
    folder = soak.tokens._folder
    (folder / "..data").rename(folder / "..aside")
    try:
        yield
    finally:
        if not (folder / "..data").exists():
            (folder / "..aside").replace(folder / "..data")
        (folder / "..aside").unlink(missing_ok=True)


Trouble = Callable[[Soak], contextlib.AbstractContextManager[Any]]

_NO = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized</Message></Error></ErrorResponse>"
SHORT, LONG = 4.0, 19.0
TROUBLES: tuple[tuple[str, float, Trouble], ...] = (
    ("500", SHORT, lambda soak: soak.pod.emulator.faults.inject(status=500, body=b"oops")),
    ("clock ahead", SHORT, lambda soak: _clock(soak, 30.0)),
    ("cut before the answer", SHORT, lambda soak: soak.pod.emulator.faults.inject(cut="before-answer")),
    ("429", SHORT, lambda soak: soak.pod.emulator.faults.inject(status=429, headers={"Retry-After": "1"})),
    ("refused by one cloud", LONG, lambda soak: soak.pod.emulator.faults.inject(cloud="aws", status=403, body=_NO)),
    ("time-outs", SHORT, lambda soak: soak.pod.emulator.faults.inject(delay_seconds=5.0)),
    ("clock behind", SHORT, lambda soak: _clock(soak, -30.0)),
    ("connections refused", SHORT, _stopped),
    ("cut in the headers", SHORT, lambda soak: soak.pod.emulator.faults.inject(cut="headers")),
    ("503 for longer than anything lives", LONG, lambda soak: soak.pod.emulator.faults.inject(status=503)),
    ("cut in the body", SHORT, lambda soak: soak.pod.emulator.faults.inject(cut="body")),
    ("no tokens", SHORT, _without_tokens),
    ("nonsense", SHORT, lambda soak: soak.pod.emulator.faults.inject(status=200, body=b"<html>hello</html>")),
)
"""What, for how long, and how. All of it once takes less than two minutes."""


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[Soak]:
    with led_pod(tmp_path) as pod, Soak(pod, tmp_path / "soak") as soak:
        yield soak


def test_soak(soak: Soak) -> None:
    began = time.monotonic()
    for name, seconds, trouble in itertools.cycle(TROUBLES):
        left = SECONDS - (time.monotonic() - began)
        if left < seconds + RECOVERY_SECONDS:
            break
        with trouble(soak):
            soak.phase = name
            _pass(soak, seconds)
        soak.await_all(name)
        soak.phase = f"after {name}"
        _pass(soak, 2.0)
    soak.phase = "end"
    _pass(soak, 3.0)
    _report(soak)
    assert not soak.failures, "\n".join(map(str, soak.failures[:20]))
    assert min(soak.reads.values()) > SECONDS * 2
    assert soak.unavailable, "the long outages were not long enough: nothing ever ran out"
    _require_flat(soak, began)
    assert soak.child.poll() is None


def _pass(soak: Soak, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        soak.sample()
        soak.stopping.wait(min(0.5, max(0.0, ends - time.monotonic())))


def _require_flat(soak: Soak, began: float) -> None:
    """The second half reaches no more than the first did: by then the worst of everything has happened."""
    half = began + (time.monotonic() - began) / 2
    first = [sample for at, sample in soak.samples if at < half]
    second = [sample for at, sample in soak.samples if at >= half]
    assert max(s.resident_kib for s in second) - max(s.resident_kib for s in first) < _GROWTH_KIB
    # what is open when nothing special goes on: the least of each half
    assert min(s.descriptors for s in second) - min(s.descriptors for s in first) < 15
    assert min(s.threads for s in second) - min(s.threads for s in first) <= 1


def _report(soak: Soak) -> None:
    first, last = soak.samples[0][1], soak.samples[-1][1]
    peak = max(sample.resident_kib for _, sample in soak.samples)
    print(f"reads {sum(soak.reads.values())}, without a credential {dict(soak.unavailable)}")
    print(f"memory KiB {first.resident_kib}, at most {peak}, {last.resident_kib} at the end")
    print(f"descriptors {first.descriptors}, {last.descriptors} at the end; threads {first.threads}, {last.threads}")
