"""``wif issuer serve`` as a process: documents over TLS, new certificates and stops under load, sources that fail."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.documents_server import Authority, Reply, ServeProcess, Wire, write_documents
from tests.integration.server_processes import NotStarted, until
from wif.core.issuer_state import State, Tombstone, encode_state
from wif.core.public_keys import IssuerKey, read_key_set
from wif.emulator.apiserver import ApiServer
from wif.issuer.verify import verify

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("issuer_serve")]

ISSUER = "https://oidc.example.com/clusters/a"
JWKS = "/clusters/a/openid/v1/jwks"
DISCOVERY = "/clusters/a/.well-known/openid-configuration"


def rsa_key() -> IssuerKey:
    return IssuerKey.from_public_key(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key())


KEY, OTHER = rsa_key(), rsa_key()


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.documents = folder / "documents"
        self.write(KEY)

    def write(self, *keys: IssuerKey, issuer: str = ISSUER, folder: Path | None = None, **more: Any) -> None:
        write_documents(folder or self.documents, issuer, [dict(key.jwk) for key in keys], **more)

    def serve(self, *arguments: str, source: bool = True, port: int = 0) -> ServeProcess:
        place = ["--from", str(self.documents)] if source else []
        pair = ["--tls-cert", str(self.authority.chain), "--tls-key", str(self.authority.key)]
        process = ServeProcess("--port", str(port), "--health-port", "0", *pair, *place, *arguments, folder=self.folder)
        if source:
            self.until_answered(process)
        return process

    def until_answered(self, process: ServeProcess, path: str = "/readyz") -> None:
        until(lambda: health(process, path).status == 200, what=path)

    def wire(self, process: ServeProcess) -> Wire:
        return Wire(process.port, self.authority)

    def get(self, process: ServeProcess, path: str, *headers: str, **more: Any) -> Reply:
        with self.wire(process) as wire:
            return wire.get(path, *headers, **more)


def health(process: ServeProcess, path: str) -> Reply:
    answer = urllib3.request("GET", process.place["health_url"] + path, timeout=10.0, retries=False)
    return Reply(status=answer.status, headers=dict(answer.headers), body=answer.data)


def kids(reply: Reply) -> set[str]:
    return {key.key_id for key in read_key_set(reply.body, origin="served")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# -- the documents ---------------------------------------------------------------------------------------------


def test_what_is_served_is_rendered_anew(world: World) -> None:
    """A directory's own members, spaces and order do not get through: only checked keys do."""
    jwk = {"x5t": "no", "e": KEY.jwk["e"], "use": "sig", "kty": "RSA", "n": KEY.jwk["n"], "alg": "RS256"}
    jwks = {"keys": [{**jwk, "kid": KEY.key_id}], "comment": "no"}
    (world.documents / "openid/v1/jwks").write_text(json.dumps(jwks, indent=4))
    document = json.loads((world.documents / ".well-known/openid-configuration").read_text())
    document["token_endpoint"] = "https://evil.example.com"
    (world.documents / ".well-known/openid-configuration").write_text(json.dumps(document, indent=4))
    with world.serve() as process:
        key_set, discovery = world.get(process, JWKS), world.get(process, DISCOVERY)
    assert json.loads(key_set.body) == {"keys": [dict(KEY.jwk)]}
    assert b" " not in key_set.body + discovery.body
    assert list(json.loads(discovery.body)) == [
        "issuer",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    ]


def test_validators_and_head_over_the_wire(world: World) -> None:
    with world.serve() as process, world.wire(process) as wire:
        first = wire.get(JWKS)
        assert set(first.headers) == {
            "date",
            "content-type",
            "content-length",
            "cache-control",
            "etag",
            "x-content-type-options",
        }
        again = wire.get(JWKS, f"If-None-Match: {first.headers['etag']}")
        assert (again.status, again.body) == (304, b"")
        assert wire.get(JWKS, 'If-None-Match: "other"').status == 200
        head = wire.get(JWKS, method="HEAD")
        assert (head.status, head.headers["content-length"]) == (200, first.headers["content-length"])
        assert wire.get(JWKS, method="POST").status == 405
        assert wire.get("/elsewhere").status == 404
        assert wire.get(JWKS, "Range: bytes=0-3").body == first.body


def test_a_relying_party_verifies_it(world: World) -> None:
    port = free_port()
    issuer = f"https://localhost:{port}"
    world.write(KEY, OTHER, issuer=issuer)
    with world.serve(port=port):
        report = verify(issuer, expected=[KEY, OTHER], ca_file=str(world.authority.ca_file), clouds=["azure"])
    failed = [check.name for check in report.failed if check.level in ("error", "tampering", "drift")]
    assert set(report.key_ids) == {KEY.key_id, OTHER.key_id}
    assert failed == ["issuer-internal-host"], "the one thing that is wrong with a server on loopback"


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_many_issuers_by_path_and_by_host(world: World) -> None:
    by_path = [world.folder / name for name in ("one", "two")]
    for folder, key in zip(by_path, (KEY, OTHER), strict=True):
        world.write(key, issuer=f"https://oidc.example.com/{folder.name}", folder=folder)
    places = [word for folder in by_path for word in ("--from", str(folder))]
    with world.serve(*places, source=False) as process:
        world.until_answered(process)
        assert kids(world.get(process, "/one/openid/v1/jwks", host="whatever")) == {KEY.key_id}
        assert kids(world.get(process, "/two/openid/v1/jwks")) == {OTHER.key_id}
        assert world.get(process, "/three/openid/v1/jwks").status == 404
    for folder, key in zip(by_path, (KEY, OTHER), strict=True):
        world.write(key, issuer=f"https://{folder.name}.example.com", folder=folder)
    with world.serve(*places, source=False) as process:
        world.until_answered(process)
        assert kids(world.get(process, "/openid/v1/jwks", host="one.example.com")) == {KEY.key_id}
        assert kids(world.get(process, "/openid/v1/jwks", host="two.example.com:443")) == {OTHER.key_id}
        assert world.get(process, "/openid/v1/jwks", host="three.example.com").status == 421


def test_keys_of_pem_files_and_key_sets_by_the_settings(world: World) -> None:
    (world.folder / "keys.json").write_text(json.dumps({"keys": [dict(OTHER.jwk)]}))
    (world.folder / "wif.yaml").write_text(
        json.dumps({"issuers": {"a": {"issuer": ISSUER, "jwks": ["keys.json"], "state": "state.json"}}})
    )
    with world.serve("--config-file", "wif.yaml", "--all", source=False) as process:
        world.until_answered(process)
        assert kids(world.get(process, JWKS)) == {OTHER.key_id}


def test_a_removed_key_is_not_served_whoever_vouches_for_it(world: World) -> None:
    """The trusted state's tombstone, also one that is set while the server runs."""
    (world.folder / "keys.json").write_text(json.dumps({"keys": [dict(KEY.jwk), dict(OTHER.jwk)]}))
    state = world.folder / "state.json"
    stone = Tombstone(removed_at=datetime.now(UTC), how="removed", jwk=OTHER.jwk, fingerprint=OTHER.fingerprint)
    words = ["--issuer", ISSUER, "--jwks", "keys.json", "--state", str(state), "--refresh", "1"]
    with world.serve(*words, source=False) as process:
        world.until_answered(process)
        assert kids(world.get(process, JWKS)) == {KEY.key_id, OTHER.key_id}
        state.write_bytes(encode_state(State(issuer=ISSUER, removed={OTHER.key_id: stone})))
        until(lambda: kids(world.get(process, JWKS)) == {KEY.key_id}, what="the tombstone")
        state.unlink()
        time.sleep(2.5)
        assert kids(world.get(process, JWKS)) == {KEY.key_id}, "a state that was read is not forgotten"


# -- sources that change and fail ---------------------------------------------------------------------------------


def test_a_new_key_is_served_and_the_etag_changes(world: World) -> None:
    with world.serve("--refresh", "1") as process:
        etag = world.get(process, JWKS).headers["etag"]
        world.write(KEY, OTHER)
        until(lambda: kids(world.get(process, JWKS)) == {KEY.key_id, OTHER.key_id}, what="the new key")
        assert world.get(process, JWKS, f"If-None-Match: {etag}").status == 200


@pytest.mark.parametrize("spoil", ["gone", "json", "private", "issuer", "jwks_uri", "empty"])
def test_a_source_that_cannot_be_believed_ends_with_the_stale_window(world: World, spoil: str) -> None:
    with world.serve("--refresh", "1", "--stale", "4", "--max-age", "3") as process:
        jwks = world.documents / "openid/v1/jwks"
        assert max_age(world.get(process, JWKS)) <= 3
        if spoil == "gone":
            shutil.rmtree(world.documents)
        elif spoil == "json":
            jwks.write_text("{")
        elif spoil == "private":
            jwks.write_text(json.dumps({"keys": [{**KEY.jwk, "d": "AQAB"}]}))
        elif spoil == "issuer":
            world.write(OTHER, issuer="https://evil.example.com")
        elif spoil == "jwks_uri":
            world.write(OTHER, jwks_uri="https://evil.example.com/jwks")
        else:
            jwks.write_text('{"keys":[]}')
        ages = []
        while (reply := world.get(process, JWKS)).status == 200:
            assert kids(reply) == {KEY.key_id}
            ages.append(max_age(reply))
            time.sleep(0.25)
        assert ages == sorted(ages, reverse=True) or spoil == "private"
        assert ages[-1] == 0
        assert (reply.status, reply.headers["cache-control"]) == (503, "no-store")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert world.get(process, DISCOVERY).status == 503
        ready = health(process, "/readyz")
        assert (ready.status, ready.body) == (503, f"no documents for {ISSUER}\n".encode())
        assert health(process, "/healthz").status == 200
        assert (process.metric("wif_serve_refresh_failures_total") or 0.0) >= 2
        world.write(KEY)
        world.until_answered(process)
        assert world.get(process, JWKS).status == 200


def max_age(reply: Reply) -> int:
    return int(reply.headers["cache-control"].removeprefix("public, max-age="))


def test_a_key_that_a_publisher_took_out_is_gone_at_the_next_reading(world: World) -> None:
    world.write(KEY, OTHER)
    with world.serve("--refresh", "1") as process:
        world.write(OTHER)
        until(lambda: kids(world.get(process, JWKS)) == {OTHER.key_id}, what="gone")


def test_what_is_wrong_at_the_start_is_said_at_the_start(world: World) -> None:
    pair = ("--tls-cert", str(world.authority.chain), "--tls-key", str(world.authority.key))
    cases: list[tuple[tuple[str, ...], str]] = [
        ((*pair, "--from", str(world.folder / "nothing")), "document-invalid"),
        ((*pair, "--from", f"https://other.example.com={world.documents}"), "issuer-mismatch"),
        (("--from", str(world.documents)), "config-missing"),
        ((*pair, "--plain-http", "--from", str(world.documents)), "config-missing"),
        (("--tls-cert", str(world.authority.ca_file), "--from", str(world.documents)), "file-unusable"),
        ((*pair, "--host", "203.0.113.1", "--from", str(world.documents)), "config-invalid"),
        ((*pair, "--from", str(world.documents), "--from", str(world.documents)), "config-conflict"),
    ]
    for arguments, code in cases:
        with pytest.raises(NotStarted) as caught:
            ServeProcess("--port", "0", *arguments, folder=world.folder)
        status, found, said = caught.value.args
        assert (status, found) == (2, code), (arguments, said)
        assert [message.partition(":")[0] for message in said] == ["error", "hint"]


# -- the certificate -----------------------------------------------------------------------------------------------


def served_leaf(world: World, process: ServeProcess) -> bytes | None:
    with world.wire(process) as wire:
        assert isinstance(wire.socket, ssl.SSLSocket)
        return wire.socket.getpeercert(binary_form=True)


class Load:
    """Clients that ask without a pause, each on a connection it keeps while it may; what failed is remembered."""

    def __init__(self, world: World, process: ServeProcess, *, clients: int = 6, per_connection: int = 50) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._ask = (world, process, per_connection)
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    def _client(self) -> None:
        world, process, per_connection = self._ask
        while not self.stop.is_set():
            try:
                wire = world.wire(process)
            except ConnectionRefusedError:
                if process.child.poll() is None and not self.leaving:
                    self.failures.append("refused")
                return
            except OSError as error:
                self.failures.append(f"connect: {error!r}")
                return
            with wire:
                for _ in range(per_connection):
                    try:
                        reply = wire.get(JWKS)
                    except (OSError, EOFError) as error:
                        self.failures.append(f"lost: {error!r}")
                        break
                    if reply.status != 200:
                        self.failures.append(f"status {reply.status}")
                    with self._lock:
                        self.answered += 1
                    if reply.headers.get("connection") == "close" or self.stop.is_set():
                        break

    leaving = False

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(20.0)
            assert not thread.is_alive()


def test_a_certificate_is_replaced_under_load_without_one_failed_request(world: World) -> None:
    with world.serve() as process:
        first = served_leaf(world, process)
        with Load(world, process) as load:
            for _ in range(2):
                leaf = world.authority.issue()
                until(lambda leaf=leaf: served_leaf(world, process) == leaf, what="the new certificate")
        assert load.failures == []
        assert load.answered > 100
        assert first != leaf
        assert process.metric("wif_serve_certificate_failures_total") == 0


def test_a_broken_pair_is_reported_once_and_the_one_in_use_stays(world: World) -> None:
    with world.serve() as process:
        leaf = served_leaf(world, process)
        foreign_chain, _ = world.authority.pair()
        world.authority.chain.write_bytes(foreign_chain)  # the key of another certificate stands beside it
        process.until_logged("the new certificate cannot be used")
        time.sleep(6.0)  # it is looked at again meanwhile
        assert sum("cannot be used" in message for message in process.messages()) == 1
        assert process.metric("wif_serve_certificate_failures_total") == 1
        assert served_leaf(world, process) == leaf
        new = world.authority.issue()
        until(lambda: served_leaf(world, process) == new, what="the repaired pair")


def test_a_mounted_secret_changes_by_a_symlink(world: World) -> None:
    """As the kubelet does it: a new folder, and one rename of the link that leads to it."""
    mount = world.folder / "mount"
    mount.mkdir()

    def version(name: str) -> bytes:
        folder = mount / f"..{name}"
        folder.mkdir()
        chain, key = world.authority.pair()
        (folder / "tls.crt").write_bytes(chain)
        (folder / "tls.key").write_bytes(key)
        link = mount / "..data.new"
        link.symlink_to(folder.name)
        link.rename(mount / "..data")
        return ssl.PEM_cert_to_DER_cert(chain.decode())

    version("one")
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    world.authority.chain, world.authority.key = mount / "tls.crt", mount / "tls.key"
    with world.serve() as process:
        new = version("two")
        until(lambda: served_leaf(world, process) == new, what="the new certificate")


# -- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("round_number", range(3))
def test_a_stop_under_load_loses_no_request(world: World, round_number: int) -> None:
    process = world.serve("--grace", "10", "--drain-delay", "1")
    try:
        with Load(world, process, per_connection=10_000) as load:
            until(lambda: load.answered > 200, what="load")
            load.leaving = True
            process.child.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert process.child.wait(15.0) == 0
            assert time.monotonic() - began < 9.0
    finally:
        process.end(signal.SIGKILL)
    assert load.failures == []


def test_an_idle_connection_is_used_once_more_while_it_stops(world: World) -> None:
    process = world.serve("--grace", "12")
    with contextlib.ExitStack() as stack:
        stack.callback(process.end, signal.SIGKILL)
        wires = [stack.enter_context(world.wire(process)) for _ in range(3)]
        for wire in wires:
            assert wire.get(JWKS).status == 200
        process.child.send_signal(signal.SIGTERM)
        until(lambda: refused(world, process), what="the listener is closed")
        assert health(process, "/readyz").body == b"the process is stopping\n"
        time.sleep(1.0)
        reply = wires[0].get(JWKS)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert wires[0].ended()
        began = time.monotonic()
        assert wires[1].ended(), "idle ones end before the grace period does"
        assert time.monotonic() - began < 7.5
        assert process.child.wait(10.0) == 0


def refused(world: World, process: ServeProcess) -> bool:
    try:
        world.wire(process).close()
    except ConnectionRefusedError:
        return True
    return False


def test_without_connections_it_ends_at_once(world: World) -> None:
    process = world.serve()
    began = time.monotonic()
    assert process.end() == 0
    assert time.monotonic() - began < 3.0
    assert world.serve().end(signal.SIGINT) == 0


# -- health, metrics, logs -----------------------------------------------------------------------------------------


def test_health_and_metrics_have_an_address_of_their_own(world: World) -> None:
    with world.serve() as process:
        for _ in range(3):
            world.get(process, JWKS)
        assert world.get(process, "/metrics").status == 404
        assert health(process, JWKS).status == 404
        text = health(process, "/metrics").body.decode()
        assert f'wif_serve_documents_total{{document="jwks",issuer="{ISSUER}",status="200"}} 3.0' in text
        assert f'wif_serve_keys{{issuer="{ISSUER}"}} 1.0' in text
        assert "process_resident_memory_bytes" in text
        assert KEY.key_id not in text
        assert process.metric("wif_serve_refused_total") == 1
        assert health(process, "/healthz").headers["cache-control"] == "no-store"


def test_requests_are_logged_where_that_is_asked_for(world: World) -> None:
    with world.serve() as process:
        world.get(process, JWKS)
        assert not any(entry.get("logger") == "wif.access" for entry in process.log)
    with world.serve("--access-log") as process:
        world.get(process, JWKS)
        until(lambda: any(entry.get("logger") == "wif.access" for entry in process.log), what="the line")
        [entry] = [entry for entry in process.log if entry.get("logger") == "wif.access"]
        assert (entry["method"], entry["path"], entry["status"], entry["client"]) == ("GET", JWKS, 200, "127.0.0.1")


def test_plain_http_behind_a_proxy(world: World) -> None:
    with (
        ServeProcess("--port", "0", "--plain-http", "--from", str(world.documents)) as process,
        Wire(process.port) as wire,
    ):
        until(lambda: wire.get(JWKS).status == 200, what="documents")


def test_the_example_of_the_help_runs(world: World) -> None:
    example = next(line for line in _help("serve").splitlines() if "/srv/issuer" in line)
    words = shlex.split(example.replace("/srv/issuer", str(world.documents)))
    assert words[:3] == ["wif", "issuer", "serve"]
    with ServeProcess(*words[3:], "--port", "0", folder=world.folder) as process:
        until(lambda: world.get(process, JWKS).status == 200, what="documents")


def _help(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "wif", "issuer", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


# -- an API server -------------------------------------------------------------------------------------------------


def test_the_documents_of_a_real_api_server(world: World, api_server: ApiServer) -> None:
    environment = {"XDG_STATE_HOME": str(world.folder)}
    pair = ["--tls-cert", str(world.authority.chain), "--tls-key", str(world.authority.key)]
    arguments = ["--port", "0", "--health-port", "0", *pair, "--kubeconfig", str(api_server.kubeconfig)]
    with ServeProcess(*arguments, environment=environment, folder=world.folder) as process:
        assert process.place["issuers"] == [api_server.issuer]
        world.until_answered(process)
        expected = api_server.documents()
        host = api_server.issuer.removeprefix("https://")
        for path, body in expected.items():
            assert world.get(process, path, host=host).body == body, "byte for byte what Kubernetes itself serves"
