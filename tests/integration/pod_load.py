"""Clients that create pods all the time, and an account of what they were given and of what they were refused."""

from __future__ import annotations

__all__ = ["Load", "Made", "Refused", "RoleBook", "record_of", "registered", "rendered", "role_of"]

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.integration.server_processes import until
from tests.reviews import pod
from wif.emulator.apiserver import ApiServer
from wif.errors import UnavailableError

ROLE_ARN = "eks.amazonaws.com/role-arn"
RECORD = "wif.internal/injected"


def rendered(*arguments: str) -> list[dict[str, Any]]:
    """The objects of ``wif webhook render``."""
    command = [sys.executable, "-m", "wif", "webhook", "render", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    objects: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return objects


@contextlib.contextmanager
def registered(server: ApiServer, objects: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Objects of the cluster for as long as the block lasts, applied over those of the same names."""
    made: list[str] = []
    try:
        for each in objects:
            path = f"/apis/{each['apiVersion']}/{each['kind'].lower()}s".replace("policys", "policies")
            made.append(f"{path}/{each['metadata']['name']}")
            status, body = server.request("GET", made[-1])
            if status == 404:
                server.create(path, each)
                continue
            version = json.loads(body)["metadata"]["resourceVersion"]
            changed = {**each, "metadata": {**each["metadata"], "resourceVersion": version}}
            status, body = server.request("PUT", made[-1], changed)
            assert status == 200, body
        yield
    finally:
        for path in made:
            server.request("DELETE", path)


class Made(NamedTuple):
    """A pod that was admitted."""

    account: str
    object: Mapping[str, Any]
    began: float
    ended: float


class Refused(NamedTuple):
    """A create that was not: ``status`` is 0 where there was no answer at all."""

    status: int
    message: str
    began: float
    ended: float


def role_of(made: Mapping[str, Any]) -> str | None:
    """The role that a pod's container was given; None where it was given none."""
    environment = made["spec"]["containers"][0].get("env", ())
    return next((each["value"] for each in environment if each["name"] == "AWS_ROLE_ARN"), None)


def record_of(made: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the webhook wrote down on a pod."""
    text = made["metadata"].get("annotations", {}).get(RECORD)
    return None if text is None else json.loads(text)


def fault_of(made: Made) -> str:
    """Why a pod is not injected into as a whole; empty where it is."""
    spec = made.object["spec"]
    volumes = {each["name"]: each for each in spec.get("volumes", ())}
    mounts = [each["name"] for each in spec["containers"][0].get("volumeMounts", ())]
    record = record_of(made.object)
    role = role_of(made.object)
    if record is None or role is None or "aws-iam-token" not in volumes or mounts.count("aws-iam-token") != 1:
        return f"{made.object['metadata']['name']}: record {record}, role {role}, volumes {list(volumes)}"
    told = (record["serviceAccount"], record["clouds"]["aws"])
    return "" if told == (made.account, role) else f"the record {record} beside the role {role} of {made.account}"


PAUSE_SECONDS = 0.005
"""Of a client between two pods, so that the machine has time for what happens to the webhook meanwhile."""


class Load:
    """Threads that each create a pod, then another. One in ``real_every`` is stored, the others are dry runs."""

    def __init__(
        self, server: ApiServer, namespace: str, accounts: Sequence[str], *, clients: int = 4, real_every: int = 4
    ) -> None:
        self.made: list[Made] = []
        self.refused: list[Refused] = []
        self.clients = clients
        self._server = server
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._accounts = accounts
        self._real_every = real_every
        self._mark = f"p-{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count()  # the next one is taken in one step
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self._failures, self._failures

    def _work(self) -> None:
        try:
            while not self._stop.wait(PAUSE_SECONDS):
                self.create_one()
        except BaseException as error:  # noqa: BLE001 - raised where the load ends
            self._failures.append(error)

    def create_one(self) -> None:
        """One pod of the next account."""
        number = next(self._numbers)
        account = self._accounts[number % len(self._accounts)]
        path = self._path if number // len(self._accounts) % self._real_every == 0 else f"{self._path}?dryRun=All"
        began = time.monotonic()
        try:
            status, body = self._server.request("POST", path, pod(f"{self._mark}-{number}", account))
        except UnavailableError as error:
            self.refused.append(Refused(0, error.message, began, time.monotonic()))
            self._stop.wait(0.05)  # nobody is there: the loop is bounded by time all the same
            return
        ended = time.monotonic()
        answer = json.loads(body)
        if status == 201:
            self.made.append(Made(account, answer, began, ended))
        else:
            self.refused.append(Refused(status, str(answer.get("message")), began, ended))

    def until_more(self, number: int = 50, *, seconds: float = 30.0) -> None:
        """Wait for so many more pods."""
        wanted = len(self.made) + number
        until(
            lambda: len(self.made) >= wanted or self._failures,
            what=f"{number} more pods; refused: {self.refused[-3:]}",
            seconds=seconds,
        )

    def faults(self) -> list[str]:
        """What is wrong with pods that were admitted."""
        return [fault for fault in map(fault_of, list(self.made)) if fault]


class _Version(NamedTuple):
    role: str
    began: float
    """When its write was sent."""
    ended: float
    """When the API server had answered."""


class RoleBook:
    """What ServiceAccounts say, and have said when; only through it are they written."""

    def __init__(self, server: ApiServer, namespace: str, accounts: Sequence[str]) -> None:
        self._server = server
        self._path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self._versions: dict[str, list[_Version]] = {}
        self._numbers = itertools.count()
        self._gone: list[tuple[str, float, float]] = []
        self.accounts = tuple(accounts)
        for account in accounts:
            self._write(account, self._create)

    def _write(self, account: str, send: Callable[[str, str], tuple[int, bytes]]) -> None:
        role = f"arn:aws:iam::111122223333:role/{account}.{next(self._numbers)}"
        began = time.monotonic()
        status, body = send(account, role)
        assert status in (200, 201), body
        self._versions.setdefault(account, []).append(_Version(role, began, time.monotonic()))

    def _create(self, account: str, role: str) -> tuple[int, bytes]:
        made = {"metadata": {"name": account, "annotations": {ROLE_ARN: role}}}
        return self._server.request("POST", self._path, made)

    def _replace(self, account: str, role: str) -> tuple[int, bytes]:
        status, body = self._server.request("GET", f"{self._path}/{account}")
        assert status == 200, body
        found = json.loads(body)
        found["metadata"]["annotations"][ROLE_ARN] = role
        return self._server.request("PUT", f"{self._path}/{account}", found)

    def change(self, account: str) -> None:
        """Give it another role."""
        self._write(account, self._replace)

    def make_anew(self, account: str) -> None:
        """Delete it, and make another one of that name with another role; meanwhile its pods are refused."""
        began = time.monotonic()
        assert self._server.request("DELETE", f"{self._path}/{account}")[0] == 200
        self._write(account, self._create)
        self._gone.append((account, began, time.monotonic()))

    def was_gone(self, made: Made) -> bool:
        """Whether an account was not there for a moment of its pod's creation: the pod rightly gets nothing then."""
        return any(
            account == made.account and made.began < ended and began < made.ended
            for account, began, ended in self._gone
        )

    def add(self, account: str) -> None:
        """One more, under a name that was not there."""
        self._write(account, self._create)

    def late_seconds(self, made: Made) -> float:
        """How long before a pod was asked for its role had been replaced; 0 where it was in force meanwhile."""
        versions = self._versions[made.account]
        role = role_of(made.object)
        position = next((n for n, each in enumerate(versions) if each.role == role), None)
        assert position is not None, f"{made.account} never had the role {role}"
        assert versions[position].began <= made.ended, "a role from the future"
        if position + 1 == len(versions):
            return 0.0
        return max(0.0, made.began - versions[position + 1].ended)

    def is_followed(self, made: Sequence[Made]) -> bool:
        """Whether the last pod of each account has the role of now."""
        given = {each.account: role_of(each.object) for each in list(made)}
        return given == {account: versions[-1].role for account, versions in self._versions.items()}

    @contextlib.contextmanager
    def changing(self, *, pause_seconds: float = 0.05) -> Iterator[None]:
        """Change one account after the other for as long as the block lasts."""
        stop, failures = threading.Event(), []

        def work() -> None:
            try:
                for account in itertools.cycle(self.accounts):
                    if stop.wait(pause_seconds):
                        return
                    self.change(account)
            except BaseException as error:  # noqa: BLE001 - raised where the block ends
                failures.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)
        assert not failures, failures
