"""The library before token services that lie, drip, hang and redirect: always one clear error, in time, no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wif
from tests.integration.hostile import Behaviour, HostileServer, Peer, answering, drip, http_answer, raw, silent
from wif.core.freshness import Limits
from wif.edges.transport import Transport
from wif.emulator.cluster import LocalCluster
from wif.errors import ConfigurationError, ProtocolError, TransportError, WifError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

LIMITS = Limits(total_seconds=1.0, connect_seconds=0.5, read_seconds=0.8, attempts=2, backoff_seconds=0.01)
ROLE = "arn:aws:iam::111122223333:role/app"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/p/providers/k"
TENANT = "11111111-2222-3333-4444-555555555555"
ARM = "https://management.azure.com/.default"
CLUSTER = LocalCluster("https://oidc.example.com/cluster-a", algorithm="ES256")


def credentials_of(cloud: str, url: str, environ: dict[str, str]) -> Callable[[], object]:
    """A call that makes one exchange at ``url``."""
    token = CLUSTER.mint("shop", "cart", "audience")
    settings: dict[str, Any] = {
        "source": lambda: token,
        "limits": LIMITS,
        "transport": Transport(cloud, limits=LIMITS, environ=environ),
        "environ": {},
    }
    if cloud == "aws":
        return wif.aws(ROLE, endpoint_url=url, **settings).credentials
    if cloud == "gcp":
        return wif.gcp(PROVIDER, token_url=f"{url}/v1/token", **settings).credentials
    return wif.azure(TENANT, "client", authority_host=url, scope=ARM, **settings).credentials


def json_body(value: Any) -> bytes:
    return json.dumps(value).encode()


def ok(body: bytes, kind: str = "application/json") -> Behaviour:
    return answering(http_answer(body=body, headers={"Content-Type": kind}))


PAGE = b"<!DOCTYPE html><html><body>Please log in to the hotel's network</body></html>"

NOT_THE_PROTOCOL: dict[str, Behaviour] = {
    "an HTML page": ok(PAGE, "text/html"),
    "an empty body": ok(b""),
    "half a JSON document": ok(b'{"access_token": "x"'),
    "a JSON list": ok(b"[]"),
    "JSON of the wrong types": ok(json_body({"access_token": 5, "expires_in": "soon", "accessToken": []})),
    "an infinite life": ok(b'{"access_token": "x", "expires_in": 1e400, "token_type": "Bearer"}'),
    "not a number": ok(b'{"access_token": "x", "expires_in": NaN, "token_type": "Bearer"}'),
    "a life of 5,000 digits": ok(b'{"access_token": "x", "token_type": "Bearer", "expires_in": ' + b"9" * 5000 + b"}"),
    "JSON 50,000 deep": ok(b"[" * 50_000),
    "XML with entities": ok(
        b'<!DOCTYPE a [<!ENTITY b "c">]><AssumeRoleWithWebIdentityResponse>&b;</AssumeRoleWithWebIdentityResponse>',
        "text/xml",
    ),
    "half an XML document": ok(b"<AssumeRoleWithWebIdentityResponse><Assume", "text/xml"),
    "XML without keys": ok(b"<AssumeRoleWithWebIdentityResponse/>", "text/xml"),
    "binary data": ok(bytes(range(256)), "application/octet-stream"),
}

FAILURES: dict[str, tuple[Behaviour, set[str]]] = {
    "an error page": (
        answering(http_answer(status="502 Bad Gateway", body=PAGE, headers={"Content-Type": "text/html"})),
        {"cloud-unavailable", "response-malformed"},
    ),
    "a redirect": (
        answering(http_answer(status="307 Temporary Redirect", headers={"Location": "https://evil.example/v1/token"})),
        {"redirect-refused"},
    ),
    "silence": (silent, {"timeout"}),
    "headers that drip": (drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), {"timeout", "response-malformed"}),
    "interim answers without end": (
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        {"timeout", "response-malformed", "response-too-large"},
    ),
    "a body that drips": (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", b"{"), {"timeout"}),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.9\r\n"), {"response-malformed", "connection-failed"}),
    "an endless body": (
        answering(http_answer(body=b"x" * (2 << 20))),
        {"response-too-large"},
    ),
}


@pytest.fixture
def threads() -> Iterator[None]:
    before = threading.active_count()
    yield
    end = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < end, "an exchange's thread is left"
        time.sleep(0.02)


def fails(cloud: str, behaviour: Behaviour, caplog: pytest.LogCaptureFixture, **server: Any) -> WifError:
    """The error of one exchange; in time, without a secret."""
    with caplog.at_level(logging.DEBUG), HostileServer(behaviour, **server) as hostile:
        port = hostile.url.rpartition(":")[2]
        call = credentials_of(cloud, f"https://localhost:{port}", {"SSL_CERT_FILE": str(hostile.ca_file)})
        began = time.monotonic()
        with pytest.raises(WifError) as caught:
            call()
        assert time.monotonic() - began < 3
        assert len(hostile.received) <= LIMITS.attempts
    for text in (caplog.text, str(caught.value), repr(caught.value)):
        assert "eyJ" not in text, "a token is shown"
    assert len(str(caught.value).splitlines()) == 2
    return caught.value


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
@pytest.mark.parametrize("what", NOT_THE_PROTOCOL)
def test_what_is_not_the_protocol(what: str, cloud: str, caplog: pytest.LogCaptureFixture, threads: None) -> None:
    error = fails(cloud, NOT_THE_PROTOCOL[what], caplog)
    assert isinstance(error, ProtocolError), error
    assert error.code == "response-malformed"


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
@pytest.mark.parametrize("what", FAILURES)
def test_failures_on_the_way(what: str, cloud: str, caplog: pytest.LogCaptureFixture, threads: None) -> None:
    behaviour, codes = FAILURES[what]
    assert fails(cloud, behaviour, caplog).code in codes


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_a_certificate_of_another_name(cloud: str, caplog: pytest.LogCaptureFixture, threads: None) -> None:
    assert fails(cloud, ok(b"{}"), caplog, names=("sts.amazonaws.com.evil.example",)).code == "tls-failed"


def test_a_task_never_waits_longer_and_the_loop_goes_on(threads: None) -> None:
    ticks = 0

    async def main() -> float:
        nonlocal ticks

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        token = CLUSTER.mint("shop", "cart", "audience")
        exchanger = wif.azure(
            TENANT,
            "client",
            authority_host=f"https://localhost:{port}",
            scope=ARM,
            source=lambda: token,
            limits=LIMITS,
            transport=Transport("azure", limits=LIMITS, environ={"SSL_CERT_FILE": str(server.ca_file)}),
            environ={},
        )
        began = time.monotonic()
        results = await asyncio.gather(*(exchanger.acredentials() for _ in range(64)), return_exceptions=True)
        ticking.cancel()
        assert {type(result) for result in results} == {TransportError}
        return time.monotonic() - began

    with HostileServer(drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")) as server:
        port = server.url.rpartition(":")[2]
        assert asyncio.run(main()) < 3
        assert server.connections <= LIMITS.attempts
    assert ticks > 30, "the event loop stood still"


def test_the_interpreter_leaves_while_the_service_hangs(tmp_path: Path) -> None:
    program = """
        import contextlib, threading, time, wif
        exchanger = wif.azure(%r, "client", scope=%r)
        def ask():
            with contextlib.suppress(wif.WifError):
                exchanger.credentials()
        threading.Thread(target=ask, daemon=True).start()
        time.sleep(0.5)
    """
    token = tmp_path / "token"
    token.write_text(CLUSTER.mint("shop", "cart", "audience"))
    with HostileServer(silent) as server:
        environment = {
            "PATH": os.environ["PATH"],
            "SSL_CERT_FILE": str(server.ca_file),
            "AZURE_AUTHORITY_HOST": f"https://localhost:{server.url.rpartition(':')[2]}",
            "AZURE_FEDERATED_TOKEN_FILE": str(token),
        }
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program % (TENANT, ARM))],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 5


def test_prefork_children_make_exchanges_of_their_own() -> None:
    """As gunicorn does: the parent has a warm exchanger and an open connection, then forks."""
    body = json_body({"token_type": "Bearer", "expires_in": 1, "access_token": "opaque"})

    def serve(peer: Peer) -> None:
        while True:
            peer.read_request()
            peer.send(http_answer(body=body, headers={"Content-Type": "application/json"}))

    with HostileServer(serve) as server:
        port = server.url.rpartition(":")[2]
        call = credentials_of("azure", f"https://localhost:{port}", {"SSL_CERT_FILE": str(server.ca_file)})
        call()
        time.sleep(1.0)  # it has expired: each child must exchange
        for _ in range(4):  # one after the other: a fork while a server thread is inside OpenSSL can end in its locks
            child = os.fork()
            if child == 0:
                try:
                    call()
                except WifError:
                    os._exit(1)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        call()
        assert server.connections >= 5, "no child used the parent's connection"


LOOK_ALIKES = [
    "https://sts.amazonaws.com.evil.example",
    "https://x.execute-api.us-east-1.amazonaws.com",
    "https://sts.us-east-1.amazonaws.com@evil.example",
    "https://sts.googleapis.com.evil.example/v1/token",
    "https://sts.europe-west3.rep.googleapis.com.evil.example/v1/token",
    "https://login.microsoftonline.com.evil.example",
    "https://evil.example/login.microsoftonline.com",
]


@pytest.mark.parametrize("url", LOOK_ALIKES)
def test_a_foreign_file_never_leads_a_token_to_a_host_that_only_looks_right(url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(CLUSTER.mint("shop", "cart", "audience"))
    path = tmp_path / "credentials.json"
    document = {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{PROVIDER}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": url,
        "credential_source": {"file": str(token)},
    }
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError) as caught:
        wif.gcp.from_file(path, environ={}).credentials()
    assert caught.value.code in {"host-not-allowed", "config-invalid"}


@pytest.mark.parametrize("region", ["us-east-1.evil.example", "evil.example/", "us-east-1#", "../x", "US-EAST-1", "x"])
def test_a_region_never_becomes_another_host(region: str) -> None:
    with pytest.raises(ConfigurationError):
        wif.aws(ROLE, source=lambda: "", region=region, environ={})
