"""A cluster of two API servers whose issuer is published on loopback, and somebody who exchanges its tokens always."""

from __future__ import annotations

__all__ = ["CACHE_SECONDS", "CLOUDS", "Clock", "Exchanging", "Site", "exchange", "key_id_of"]

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from wif.core.freshness import Limits
from wif.core.public_keys import read_public_keys
from wif.edges.transport import Transport
from wif.emulator.apiserver import ApiServer
from wif.emulator.authority import Authority
from wif.emulator.pod import POD_IDENTITY
from wif.emulator.publication import Document, Publication
from wif.emulator.server import Emulator
from wif.errors import UnavailableError, WifError
from wif.exchange.aws import AwsExchanger
from wif.exchange.azure import AzureExchanger
from wif.exchange.gcp import GcpExchanger

CLOUDS = ("aws", "gcp", "azure")

CACHE_SECONDS = 0.5
"""Of the local STS: how long it uses the documents that it has."""

TOKEN_SECONDS = 3.0
"""How long the client uses a token: what a pod's own would be a day."""


class Clock:
    """The time of now, and what operators have waited besides."""

    def __init__(self) -> None:
        self.waited = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.waited

    def wait(self, seconds: float) -> None:
        """Let the time pass that a rotation waits; the caches and tokens of the test really run out."""
        time.sleep(max(CACHE_SECONDS, TOKEN_SECONDS) + 0.5)
        self.waited += timedelta(seconds=seconds)


class Site:
    """A web server of one directory, which may be changed: the issuer's public address."""

    def __init__(self, authority: Authority) -> None:
        self.directory: Path | None = None
        """None answers with 404."""
        self._publication = Publication(authority.server_context(), self._find)
        self.issuer = self._publication.url

    def _find(self, path: str) -> Document | None:
        file = None if self.directory is None else self.directory / path.lstrip("/")
        if file is None or not file.is_file():
            return None
        name = "jwks" if path.endswith("jwks") else "openid-configuration"
        kind = "application/jwk-set+json" if name == "jwks" else "application/json"
        return Document(operation=name, body=file.read_bytes(), content_type=kind, cache_control="public, max-age=1")

    def stop(self) -> None:
        self._publication.stop()


class Failure(NamedTuple):
    """An exchange that was refused."""

    cloud: str
    server: str
    age_seconds: float
    error: str


class _Held(NamedTuple):
    cloud: str
    server: str
    token: str
    since: float


class Exchanging:
    """A client that asks every API server for tokens and exchanges each, new and once more when it is old.

    A context manager. An API server that restarts gives none, which is no failure: a kubelet asks the next one.
    """

    def __init__(self, servers: Sequence[ApiServer], emulator: Emulator) -> None:
        self._servers = servers
        self._variables = emulator.environment()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exchanging", daemon=True)
        self._held: deque[_Held] = deque()
        self.failures: list[Failure] = []
        self.done = dict.fromkeys(CLOUDS, 0)

    def __enter__(self) -> Exchanging:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        for cloud, server in itertools.cycle(itertools.product(CLOUDS, self._servers)):
            if self._stop.is_set():
                return
            with contextlib.suppress(UnavailableError):
                token = server.request_token(
                    POD_IDENTITY.namespace, POD_IDENTITY.service_account, POD_IDENTITY.audiences[cloud]
                )
                self._exchange(_Held(cloud, server.url, token, time.monotonic()))
            self._exchange_old()
            self._stop.wait(0.02)

    def _exchange_old(self) -> None:
        """The oldest token that is still used, and then no more."""
        now = time.monotonic()
        while self._held and now - self._held[0].since > TOKEN_SECONDS:
            self._held.popleft()
        if self._held and now - self._held[0].since > TOKEN_SECONDS * 0.8:
            self._exchange(self._held.popleft(), keep=False)

    def _exchange(self, held: _Held, *, keep: bool = True) -> None:
        error = exchange(held.cloud, held.token, self._variables)
        if error:
            self.failures.append(Failure(held.cloud, held.server, time.monotonic() - held.since, error))
            return
        self.done[held.cloud] += 1
        if keep:
            self._held.append(held)


def exchange(cloud: str, token: str, variables: dict[str, str]) -> str:
    """Exchange one token at the local STS; what went wrong, or nothing."""
    common: dict[str, Any] = {
        "source": lambda: token,
        "transport": Transport(cloud, environ=variables),
        "limits": Limits(attempts=1),
        "environ": {},
    }
    made: AwsExchanger | GcpExchanger | AzureExchanger
    if cloud == "aws":
        made = AwsExchanger(POD_IDENTITY.role_arn, region=POD_IDENTITY.region, **common)
    elif cloud == "gcp":
        made = GcpExchanger(POD_IDENTITY.provider, **common)
    else:
        scope = "https://management.azure.com/.default"
        made = AzureExchanger(POD_IDENTITY.tenant_id, POD_IDENTITY.client_id, scope=scope, **common)
    try:
        made.credentials()
    except WifError as error:
        return f"{error.code}: {error.message}"
    finally:
        made.close()
    return ""


def key_id_of(private_key: Path) -> str:
    """The id of a key that ``ApiServer.make_key`` made."""
    public = private_key.with_suffix(".pub")
    return read_public_keys(public.read_bytes(), origin=str(public))[0].key_id
